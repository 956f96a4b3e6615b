//! What an import did, for people and programs.

use std::collections::BTreeMap;
use std::io;

use modelog_redis::Report;
use serde::Serialize;

use super::refusal::Places;
use super::send::Sent;
use crate::output::{self, Rows, Tone, counted, thousands};

/// How many unknown fields are named.
const FIELDS_MAX: usize = 20;

/// What was done, input by input.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    files: Vec<Line>,
}

/// What became of one input.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line {
    file: String,
    /// Events that are in the log now.
    accepted: u64,
    /// Events that were in the log before.
    duplicates: u64,
    /// Events that are in the log only as a record of having been rejected.
    rejected: u64,
    /// Records of another log that a server does not take: they are not in the log.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) left_out: u64,
    /// How often each field came that its kind does not have.
    unknown_fields: BTreeMap<String, u64>,
    /// What of a database became no event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_events: Vec<NotEvents>,
    /// Events of a database that nothing says the time of: theirs is that of the import.
    #[serde(skip_serializing_if = "is_zero")]
    without_time: u64,
    /// Predictions of a database that lack payloads already there.
    #[serde(skip_serializing_if = "is_zero")]
    without_payload: u64,
    #[serde(skip)]
    pub(super) rejected_at: Places,
}

/// Keys, or parts of them, of one sort.
#[derive(Debug, Serialize)]
struct NotEvents {
    keys: String,
    reason: String,
    count: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Line {
    /// A piece that need not even be sent.
    pub(super) fn add_known(&mut self, events: u64) {
        self.duplicates += events;
    }

    /// What there is to say about a database.
    pub(super) fn report(&mut self, report: &Report) {
        let left_out = report.left_out.iter();
        self.not_events = left_out
            .map(|((keys, reason), count)| NotEvents {
                keys: keys.clone(),
                reason: reason.clone(),
                count: *count,
            })
            .collect();
        self.without_time = report.without_time;
        self.without_payload = report.without_payload;
    }

    pub(super) fn add(&mut self, sent: Sent) {
        self.accepted += sent.accepted;
        self.duplicates += sent.duplicates;
        self.rejected += sent.rejected;
        for (field, times) in sent.unknown_fields {
            *self.unknown_fields.entry(field).or_default() += times;
        }
    }
}

impl Line {
    /// What a person may want to know about a database.
    fn remark(&self) {
        if !self.not_events.is_empty() {
            eprintln!("left out of {}:", self.file);
        }
        for NotEvents {
            keys,
            reason,
            count,
        } in &self.not_events
        {
            eprintln!(
                "  {} ({}): {}",
                keys.escape_debug(),
                thousands(*count),
                reason.escape_debug()
            );
        }
        if self.without_time > 0 {
            eprintln!(
                "nothing says when {} happened: the log has the time of the import",
                counted(self.without_time, "event")
            );
        }
        if self.without_payload > 0 {
            eprintln!(
                "{} without the payloads that were too large for that database",
                counted(self.without_payload, "prediction")
            );
        }
    }
}

impl Summary {
    pub(super) fn begin(&mut self, file: String) -> &mut Line {
        self.files.push(Line {
            file,
            ..Line::default()
        });
        self.files.last_mut().expect("a line was added")
    }

    /// Prints it.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(super) fn print(&self, json: bool) -> io::Result<()> {
        let sum = |count: fn(&Line) -> u64| self.files.iter().map(count).sum::<u64>();
        let (accepted, duplicates, rejected) = (
            sum(|line| line.accepted),
            sum(|line| line.duplicates),
            sum(|line| line.rejected),
        );
        if json {
            return output::json(&serde_json::json!({
                "accepted": accepted,
                "duplicates": duplicates,
                "rejected": rejected,
                "files": self.files,
            }));
        }
        let mut rows = Rows::new(&["file", "accepted", "duplicates", "rejected"]);
        let mut push = |file: &str, accepted: u64, duplicates: u64, rejected: u64| {
            let tone = if rejected > 0 {
                Tone::Warning
            } else {
                Tone::Plain
            };
            rows.push([
                (file.to_owned(), Tone::Plain),
                (thousands(accepted), Tone::Plain),
                (thousands(duplicates), Tone::Plain),
                (thousands(rejected), tone),
            ]);
        };
        for line in &self.files {
            push(&line.file, line.accepted, line.duplicates, line.rejected);
        }
        if self.files.len() > 1 {
            push("all", accepted, duplicates, rejected);
        }
        rows.print()?;
        self.remark(rejected);
        Ok(())
    }

    /// What a person may want to know besides.
    fn remark(&self, rejected: u64) {
        let mut fields: BTreeMap<&str, u64> = BTreeMap::new();
        for (field, times) in self.files.iter().flat_map(|line| &line.unknown_fields) {
            *fields.entry(field).or_default() += times;
        }
        if !fields.is_empty() {
            let named: Vec<_> = fields
                .iter()
                .take(FIELDS_MAX)
                .map(|(field, times)| format!("{field} ({})", thousands(*times)))
                .collect();
            let more = if fields.len() > FIELDS_MAX {
                ", …"
            } else {
                ""
            };
            eprintln!(
                "not among the fields of their kinds, and kept in `extra`: {}{more}",
                named.join(", ")
            );
        }
        let left_out: u64 = self.files.iter().map(|line| line.left_out).sum();
        if left_out > 0 {
            eprintln!(
                "{} left out: a server takes no EventRejected and SourceGapRecorded of another log; an import into its \
                 data directory, while it does not run, keeps them",
                counted(left_out, "record")
            );
        }
        for line in &self.files {
            line.remark();
        }
        if rejected > 0 {
            eprintln!(
                "{} recorded as rejected: `modelog dead-letters list` shows them",
                counted(rejected, "event")
            );
        }
    }
}
