//! `dead-letters list`.

use std::collections::VecDeque;

use anyhow::Result;
use modelog_engine::Timestamp;
use serde::Serialize;

use super::ListArgs;
use super::read::{Records, Stretch};
use super::record::Record;
use crate::config::Settings;
use crate::output::{self, Rows, Shape, counted, thousands};
use crate::place::Place;

/// The longest message in a table, in letters.
const MESSAGE_MAX: usize = 120;

/// A record, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    offset: u64,
    /// When the log took the record.
    time: Timestamp,
    reason: String,
    position: Option<String>,
    source: Option<String>,
    bytes: u64,
    message: Option<String>,
}

impl From<Record> for Shown {
    fn from(record: Record) -> Self {
        Self {
            offset: record.offset.0,
            time: record.append_time,
            bytes: record.size(),
            reason: record.reason,
            position: record.position,
            source: record.source,
            message: record.message,
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    items: VecDeque<Shown>,
    /// How many there are, shown or not.
    total: u64,
}

/// Shows the newest.
///
/// # Errors
/// If the log or the server cannot be read.
pub(super) async fn run(settings: &Settings, args: &ListArgs) -> Result<()> {
    let place = Place::find(&args.reach, settings)?;
    let mut records = Records::open(settings, place, Stretch::ALL).await?;
    let listed = gather(&mut records, args).await;
    records.close().await?;
    let listed = listed?;
    let older = listed.total - listed.items.len() as u64;
    match args.format {
        Shape::Table => table(&listed)?,
        Shape::Json => output::json(&listed)?,
        Shape::Ndjson => output::ndjson(&listed.items)?,
    }
    if older > 0 {
        eprintln!(
            "and {} before these: --limit shows more",
            counted(older, "record")
        );
    }
    Ok(())
}

async fn gather(records: &mut Records, args: &ListArgs) -> Result<Listed> {
    let mut listed = Listed {
        items: VecDeque::new(),
        total: 0,
    };
    while let Some(record) = records.next().await? {
        if !args.wanted.takes(&record) {
            continue;
        }
        listed.total += 1;
        if listed.items.len() == args.limit {
            listed.items.pop_front();
        }
        if args.limit > 0 {
            listed.items.push_back(record.into());
        }
    }
    Ok(listed)
}

fn table(listed: &Listed) -> Result<()> {
    let mut rows = Rows::new(&["offset", "time", "reason", "position", "bytes", "message"]);
    for shown in &listed.items {
        let message = shown.message.as_deref().unwrap_or_default();
        rows.plain([
            shown.offset.to_string(),
            shown.time.to_string(),
            shown.reason.clone(),
            shown.position.clone().unwrap_or_default(),
            thousands(shown.bytes),
            short(message),
        ]);
    }
    Ok(rows.print()?)
}

/// A message on one line that does not fill the screen.
fn short(message: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut letters = message.chars().map(plain);
    let mut text: String = letters.by_ref().take(MESSAGE_MAX).collect();
    if letters.next().is_some() {
        text.push('…');
    }
    text
}
