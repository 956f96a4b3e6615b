//! What was measured, as a table and as JSON.

use std::fmt;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::measure::Figure;

/// All that was measured in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// A look, not a measurement.
    pub quick: bool,
    pub rows: Vec<Row>,
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    /// The directory whose disk was measured.
    pub directory: String,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    pub figure: Figure,
    pub limit: Option<Comparison>,
    /// What is asked for, if anything is.
    pub mark: Option<Mark>,
    /// Whether the mark is reached.
    pub met: Option<bool>,
    /// What is hoped for beyond the mark.
    pub goal: Option<Mark>,
    /// Whether the goal is reached.
    pub goal_met: Option<bool>,
}

/// The limit beside a figure, in the same unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub what: String,
    pub figure: Figure,
    /// The figure's median by the limit's.
    pub ratio: f64,
}

/// What a row has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// This share of the limit.
    RatioAtLeast(f64),
    /// No more than this share of the limit.
    RatioAtMost(f64),
    /// No more than this above the limit, in the row's unit.
    AboveLimitAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    /// Whether all marks are reached.
    #[must_use]
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header([
                "",
                "measured",
                "",
                "limit",
                "ratio",
                "asked for",
                "",
                "goal",
                "",
            ]);
        for row in &self.rows {
            table.add_row(row.cells());
        }
        for column in [1, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let Machine {
            cores,
            processor,
            directory,
        } = &self.machine;
        let quick = if self.quick {
            "\nQuick: a look, not a measurement."
        } else {
            ""
        };
        format!(
            "{table}\n{cores} cores, {processor}; data under {directory}. Medians of the repetitions.{quick}"
        )
    }
}

impl Row {
    /// A figure without a limit or mark.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, figure: Figure) -> Self {
        Self {
            what: what.into(),
            unit,
            figure,
            limit: None,
            mark: None,
            met: None,
            goal: None,
            goal_met: None,
        }
    }

    pub(crate) fn beside(mut self, what: impl Into<String>, figure: Figure) -> Self {
        self.limit = Some(Comparison {
            what: what.into(),
            figure,
            ratio: self.figure.median / figure.median,
        });
        self
    }

    /// What is asked for. Comes after the limit.
    pub(crate) fn mark(mut self, mark: Mark) -> Self {
        self.met = Some(self.reaches(mark));
        self.mark = Some(mark);
        self
    }

    /// What is hoped for. Comes after the limit.
    pub(crate) fn goal(mut self, goal: Mark) -> Self {
        self.goal_met = Some(self.reaches(goal));
        self.goal = Some(goal);
        self
    }

    /// A mark that needs a limit is not reached without one.
    fn reaches(&self, mark: Mark) -> bool {
        let median = self.figure.median;
        let limit = self.limit.as_ref();
        match mark {
            Mark::RatioAtLeast(least) => limit.is_some_and(|limit| limit.ratio >= least),
            Mark::RatioAtMost(most) => limit.is_some_and(|limit| limit.ratio <= most),
            Mark::AboveLimitAtMost(most) => {
                limit.is_some_and(|limit| median <= limit.figure.median + most)
            }
            Mark::AtLeast(least) => median >= least,
            Mark::AtMost(most) => median <= most,
        }
    }

    fn cells(&self) -> [String; 9] {
        let limit = self.limit.as_ref();
        let asked = |mark: Option<Mark>| mark.map_or_else(String::new, |mark| mark.to_string());
        let reached = |met: Option<bool>| match met {
            Some(true) => "✓",
            Some(false) => "missed",
            None => "",
        };
        [
            self.what.clone(),
            grouped(self.figure.median),
            self.unit.to_owned(),
            limit.map_or_else(String::new, |limit| {
                format!("{} {}", grouped(limit.figure.median), limit.what)
            }),
            limit.map_or_else(String::new, |limit| format!("{:.2}", limit.ratio)),
            asked(self.mark),
            reached(self.met).to_owned(),
            asked(self.goal),
            reached(self.goal_met).to_owned(),
        ]
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(least) => write!(f, "≥ {least} × limit"),
            Self::RatioAtMost(most) => write!(f, "≤ {most} × limit"),
            Self::AboveLimitAtMost(most) => write!(f, "≤ limit + {}", grouped(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", grouped(*least)),
            Self::AtMost(most) => write!(f, "≤ {}", grouped(*most)),
        }
    }
}

impl Machine {
    pub(crate) fn this(directory: &Path) -> Self {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name.trim());
        let directory = std::path::absolute(directory);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.to_owned(),
            directory: directory.map_or_else(|_| String::new(), |path| path.display().to_string()),
        }
    }
}

/// A number people can read: digits in threes, decimals where it is small.
fn grouped(value: f64) -> String {
    if value < 100.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Figure {
        Figure::of(vec![value])
    }

    #[test]
    fn marks_are_reached_or_missed() {
        let row = |mark| {
            Row::new("r", "x/s", figure(50.0))
                .beside("limit", figure(100.0))
                .mark(mark)
        };
        for (mark, met) in [
            (Mark::RatioAtLeast(0.5), true),
            (Mark::RatioAtLeast(0.51), false),
            (Mark::RatioAtMost(0.5), true),
            (Mark::RatioAtMost(0.49), false),
            (Mark::AboveLimitAtMost(-50.0), true),
            (Mark::AboveLimitAtMost(-51.0), false),
            (Mark::AtLeast(50.0), true),
            (Mark::AtLeast(51.0), false),
            (Mark::AtMost(50.0), true),
            (Mark::AtMost(49.0), false),
        ] {
            assert_eq!(row(mark).met, Some(met), "{mark:?}");
            let hoped = Row::new("r", "x/s", figure(50.0))
                .beside("limit", figure(100.0))
                .goal(mark);
            assert_eq!((hoped.goal_met, hoped.met), (Some(met), None), "{mark:?}");
        }
        for mark in [
            Mark::RatioAtLeast(0.1),
            Mark::RatioAtMost(0.1),
            Mark::AboveLimitAtMost(100.0),
        ] {
            let alone = Row::new("r", "x/s", figure(50.0)).mark(mark);
            assert_eq!(alone.met, Some(false), "no limit was measured");
        }
    }

    #[test]
    fn the_report_in_both_forms() {
        let mut report = Report {
            machine: Machine::this(Path::new("/")),
            quick: true,
            rows: Vec::new(),
        };
        assert!(report.machine.cores > 0);
        report.rows.push(
            Row::new("NDJSON", "events/s", figure(1_234_567.0))
                .beside("parsing", figure(2_000_000.0))
                .mark(Mark::RatioAtLeast(0.4)),
        );
        assert!(report.met());
        report
            .rows
            .push(Row::new("GET", "ms", figure(3.25)).mark(Mark::AtMost(3.0)));
        assert!(!report.met());
        report.rows.push(
            Row::new("POST", "ms", figure(1.5))
                .beside("sync", figure(1.0))
                .mark(Mark::AboveLimitAtMost(0.5))
                .goal(Mark::AboveLimitAtMost(0.25)),
        );
        let table = report.table();
        for part in [
            "1,234,567",
            "2,000,000 parsing",
            "0.62",
            "≥ 0.4 × limit",
            "3.25",
            "missed",
            "≤ limit + 0.5 ",
            "≤ limit + 0.25 ",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let times = |sign: &str| table.matches(sign).count();
        assert_eq!((times("✓"), times("missed")), (2, 2), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][0]["limit"]["figure"]["median"], 2_000_000.0);
        assert_eq!(json["rows"][1]["mark"]["at_most"], 3.0);
        assert_eq!(json["rows"][1]["met"], false);
        assert_eq!(json["rows"][2]["goal"]["above_limit_at_most"], 0.25);
        assert_eq!(json["rows"][2]["goal_met"], false);
    }

    #[test]
    fn numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (12.5, "12.5"),
            (99.0, "99"),
            (100.4, "100"),
            (1_000.0, "1,000"),
            (123_456.0, "123,456"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(grouped(value), text);
        }
    }
}
