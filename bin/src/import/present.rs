//! Which events of a log's own history the log still has, when that history is imported into it.
//!
//! Two histories of one log agree up to some offset and nowhere behind it: a restore cuts, and what follows is another
//! history. So it is enough to find the first event that the log does not have, and an event is known by its offset, its
//! kind and when it was appended. An append time alone would hardly be the same twice.

use std::sync::Arc;

use modelog_engine::event::Kind;
use modelog_engine::{Engine, LogError, LogId, Offset, Timestamp};
use reqwest::Method;
use tokio::runtime::Handle;

use super::refusal::Refusal;
use crate::client::{self, Client};

/// An event as its log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) append_time: Timestamp,
}

/// The log that is imported into.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) log: LogId,
    /// Where it ended when the import began.
    pub(super) tail: Offset,
    pub(super) at: TargetPlace,
}

/// How it is asked.
#[derive(Clone)]
pub(super) enum TargetPlace {
    Engine(Engine),
    Server(Arc<Client>, Handle),
}

/// Looks for the first event that is not there.
pub(super) struct Present<'a> {
    target: &'a Target,
    /// Everything from here on is missing.
    parted: bool,
}

impl<'a> Present<'a> {
    /// For the history of a log.
    pub(super) fn new(target: &'a Target, log: LogId) -> Self {
        Self {
            target,
            parted: target.log != log,
        }
    }

    /// How many of these events, which follow each other and those asked about before, the log has. Blocks.
    pub(super) fn count(&mut self, marks: &[Mark]) -> Result<usize, Refusal> {
        let (Some(last), false) = (marks.last(), self.parted) else {
            return Ok(0);
        };
        if self.target.has(last)? {
            return Ok(marks.len());
        }
        self.parted = true;
        let (mut there, mut missing) = (0, marks.len() - 1);
        while there < missing {
            let look = there + (missing - there) / 2;
            if self.target.has(&marks[look])? {
                there = look + 1;
            } else {
                missing = look;
            }
        }
        Ok(there)
    }
}

impl Target {
    fn has(&self, mark: &Mark) -> Result<bool, Refusal> {
        if mark.offset >= self.tail.0 {
            return Ok(false);
        }
        let found = match &self.at {
            TargetPlace::Engine(engine) => read(engine, Offset(mark.offset))?,
            TargetPlace::Server(client, runtime) => {
                runtime.block_on(ask(client, Offset(mark.offset)))?
            }
        };
        Ok(found == Some(*mark))
    }
}

/// The event at an offset of an engine's log.
fn read(engine: &Engine, offset: Offset) -> Result<Option<Mark>, LogError> {
    for batch in engine.reader(offset).read(1)? {
        for table in &batch.tables {
            let row = batch.rows_of(table).find(|row| row.offset() == offset);
            if let Some(row) = row {
                return Ok(Some(Mark {
                    offset: offset.0,
                    kind: row.kind(),
                    append_time: row.append_time(),
                }));
            }
        }
    }
    Ok(None)
}

/// The event at an offset of a server's log.
async fn ask(client: &Client, offset: Offset) -> Result<Option<Mark>, Refusal> {
    #[derive(serde::Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        append_time: String,
    }
    let path = format!(
        "/v1/events{}",
        client::query(&[
            ("from", Some(offset.to_string())),
            ("until", Some(offset.advance(1).to_string())),
        ])
    );
    let request = || {
        client
            .request(Method::GET, &path)
            .header("accept", "application/x-ndjson")
    };
    let event: Event = client.parse(client.send_repeatedly(request).await?).await?;
    Ok(event.kind.parse().ok().and_then(|kind| {
        Some(Mark {
            offset: offset.0,
            kind,
            append_time: Timestamp::parse(&event.append_time).ok()?,
        })
    }))
}
