//! What the demo prints: short lines while it works, then tables made of the server's answers. Nothing is wider than 80
//! columns.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};

use super::figures::{duration, or_dash, percent, sparkline};
use super::readback::{Comparison, Difference, Interval, RunInShort, Runs, Shift, Side, Totals};
use super::record::{Service, Trained};
use crate::output::thousands;

/// Prints a line.
///
/// # Errors
/// If stdout cannot be written: it may have been closed.
pub(super) fn say(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A heading, with air before it.
pub(super) fn heading(text: &str) -> io::Result<()> {
    say(format_args!("\n{text}"))
}

/// How a training went.
pub(super) fn trained(trained: &Trained) -> io::Result<()> {
    let candidate = trained.candidate;
    say(format_args!(
        "  {}  {:<27}{} epochs in {:<9}run {}",
        candidate.version,
        candidate.title,
        candidate.settings.epochs,
        duration(trained.took.as_secs_f64() * 1e3),
        ending(&trained.run),
    ))?;
    match &trained.made_by {
        None => Ok(()),
        Some(run) => say(format_args!(
            "      the same weights as in run {}: the version stays as it is",
            ending(run)
        )),
    }
}

/// Enough of a run's name to tell it from others: names given by the server begin with the time.
fn ending(run: &str) -> String {
    let start = run.char_indices().rev().nth(5).map_or(0, |(at, _)| at);
    format!("…{}", &run[start..])
}

/// How the test images were served.
pub(super) fn served(service: &Service, images: usize) -> io::Result<()> {
    say(format_args!(
        "  {} images to each version: {} predictions and {} labels,\n  durable after {} calls and {}",
        thousands(images as u64),
        thousands(service.predictions as u64),
        thousands(service.labels as u64),
        service.calls,
        duration(service.took.as_secs_f64() * 1e3),
    ))
}

/// The runs with their final metrics.
pub(super) fn runs(runs: &Runs) -> io::Result<()> {
    heading("Runs, newest first (GET /v1/runs, /v1/runs/{run}/metrics)")?;
    let mut table = table(&[
        "\nrun",
        "\nstatus",
        "\nepochs",
        "loss\ntrain",
        "\nvalid.",
        "accuracy\ntrain",
        "\nvalid.",
        "loss by epoch\nvalid.",
    ]);
    for RunInShort {
        run,
        epochs,
        train,
        validation,
        curve,
    } in &runs.newest
    {
        let version = run.version.as_deref().unwrap_or_default();
        let loss = |loss| or_dash(loss, |loss| format!("{loss:.3}"));
        table.add_row([
            format!("{version} {}", ending(&run.run)),
            run.status.clone().unwrap_or_default(),
            epochs.to_string(),
            loss(train.loss),
            loss(validation.loss),
            or_dash(train.accuracy, percent),
            or_dash(validation.accuracy, percent),
            sparkline(curve, 13),
        ]);
    }
    align_right(&mut table, 2..=6);
    show(&table)?;
    if runs.more {
        say("  and older ones")?;
    }
    Ok(())
}

/// The two versions side by side, and what follows.
pub(super) fn comparison(comparison: &Comparison) -> io::Result<()> {
    heading("Which version is better? (GET /v1/compare)")?;
    show(&versions(comparison))?;
    let level = comparison.method.level * 100.0;
    say(match comparison.winner() {
        Some(version) => format!(
            "  Winner: {version}. At {level:.0} %, the interval of the difference leaves out 0."
        ),
        None => format!("  No winner: at {level:.0} %, the interval of the difference holds 0."),
    })?;
    let method = &comparison.method;
    say(format_args!(
        "  Shares by the {}, their difference by the",
        method.share_interval
    ))?;
    say(format_args!("  {}.", method.share_difference))
}

fn versions(comparison: &Comparison) -> Table {
    let (older, newer, difference) = (&comparison.b, &comparison.a, &comparison.difference);
    let mut table = table(&["", &older.version, &newer.version, "difference"]);
    let mut row = |name: &str, older: String, newer: String, difference: String| {
        table.add_row([name.to_owned(), older, newer, difference]);
    };
    let mut both = |name: &str, what: fn(&Side) -> String, difference: String| {
        row(name, what(older), what(newer), difference);
    };
    both(
        "predictions",
        |side| thousands(side.predictions),
        String::new(),
    );
    both(
        "inference time, p50",
        |side| or_dash(side.latency_ms_p50, duration),
        shift(difference.latency_ms_p50),
    );
    both(
        "                p95",
        |side| or_dash(side.latency_ms_p95, duration),
        shift(difference.latency_ms_p95),
    );
    both(
        "                p99",
        |side| or_dash(side.latency_ms_p99, duration),
        shift(difference.latency_ms_p99),
    );
    both(
        "mean confidence",
        |side| or_dash(side.confidence_mean, percent),
        points(difference.confidence_mean),
    );
    both(
        "labelled",
        |side| {
            let coverage = or_dash(side.label_coverage, percent);
            format!("{} ({coverage})", thousands(side.labelled))
        },
        String::new(),
    );
    both(
        "accuracy",
        |side| or_dash(side.accuracy, percent),
        points(difference.accuracy),
    );
    both(
        "            between",
        |side| {
            let interval = side.accuracy_interval;
            interval.map_or_else(String::new, |Interval { lower, upper }| {
                format!("{:.1} and {:.1} %", lower * 100.0, upper * 100.0)
            })
        },
        difference
            .accuracy
            .and_then(|difference| difference.interval)
            .map_or_else(String::new, |Interval { lower, upper }| {
                format!("{:+.1} and {:+.1} pp", lower * 100.0, upper * 100.0)
            }),
    );
    align_right(&mut table, 1..=3);
    table
}

/// Counts over everything.
pub(super) fn totals(totals: &Totals) -> io::Result<()> {
    heading("In the log (GET /v1/stats)")?;
    say(format_args!(
        "  {} events: {} metric points, {} predictions, {} labels",
        thousands(totals.events),
        thousands(totals.metric_points),
        thousands(totals.predictions),
        thousands(totals.feedback),
    ))
}

fn table(header: &[&str]) -> Table {
    const RULE: LineStyle = LineStyle::new('─', '─', '─', '─');
    const STYLE: TableStyle = TableStyle::new()
        .top_border(RULE)
        .header_lines(BLANK)
        .header_separator(RULE)
        .content_lines(BLANK)
        .bottom_border(RULE);
    const BLANK: ContentLineStyle = ContentLineStyle::new(' ', ' ', ' ');
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

fn show(table: &Table) -> io::Result<()> {
    table.lines().try_for_each(|line| say(line.trim_end()))
}

fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for at in columns {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A difference of shares, in percentage points.
fn points(difference: Option<Difference>) -> String {
    or_dash(difference.map(|difference| difference.value), |value| {
        format!("{:+.1} pp", value * 100.0)
    })
}

/// A difference of latencies.
fn shift(shift: Option<Shift>) -> String {
    or_dash(shift.map(|shift| shift.value), signed_duration)
}

fn signed_duration(milliseconds: f64) -> String {
    let sign = if milliseconds < 0.0 { '-' } else { '+' };
    format!("{sign}{}", duration(milliseconds.abs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(table: &Table) -> Vec<String> {
        table.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn sides_that_know_nothing_are_dashes() {
        let side = |version: &str| json!({"version": version, "predictions": 1234, "labelled": 0});
        let comparison: Comparison = serde_json::from_value(json!({
            "a": side("new"), "b": side("old"), "difference": {}, "winner": null,
            "method": {"level": 0.95, "share_interval": "one", "share_difference": "two"},
        }))
        .unwrap();
        assert_eq!(comparison.winner(), None);
        let lines = lines(&versions(&comparison)).join("\n");
        let words: Vec<_> = lines.split_whitespace().collect();
        assert!(
            words
                .windows(3)
                .any(|words| words == ["old", "new", "difference"]),
            "{lines}"
        );
        assert!(
            words
                .windows(3)
                .any(|words| words == ["predictions", "1,234", "1,234"])
        );
        assert!(
            words
                .windows(4)
                .any(|words| words == ["accuracy", "–", "–", "–"])
        );
    }

    #[test]
    fn differences_have_a_sign_and_a_unit() {
        let difference = |value| {
            Some(Difference {
                value,
                interval: None,
            })
        };
        assert_eq!(points(difference(0.0233)), "+2.3 pp");
        assert_eq!(points(difference(-0.0233)), "-2.3 pp");
        assert_eq!(shift(Some(Shift { value: -0.0014 })), "-1.4 µs");
        assert_eq!(shift(None), "–");
    }

    #[test]
    fn runs_are_known_by_the_end_of_their_names() {
        assert_eq!(ending("01a213e3-867a-74da-a09f-18fc0f502850"), "…502850");
        assert_eq!(ending("é"), "…é");
        assert_eq!(ending(""), "…");
    }
}
