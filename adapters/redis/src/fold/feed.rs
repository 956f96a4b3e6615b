//! The feeds: streams for whoever must miss nothing within their length, channels for whoever needs no history.
//!
//! An entry's id is `<offset>-1`, and it names the entry before it, so a reader sees where something was lost: to the length of
//! the stream, or since only the newest of a batch are written that fit it. An id that is not above the last one was written
//! before. Channels are told only what the streams have not had, and only if somebody listens.
//!
//! What is read ahead may lose batches that the streams have no room for (`predictions::thin`); then the next entries name the
//! last of those as the one before them, all the same.

use std::collections::HashMap;
use std::fmt;

use modelog_engine::batch::Row;
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::EntityId;
use redis::{RedisResult, Value};

use super::Batches;
use crate::connection::{Commands, Connection, command, command_of, int, list, refused, text};
use crate::error::RedisError;

/// The last entry of each stream.
pub(crate) type Tops = HashMap<Feed, u64>;

/// A stream and its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Feed {
    Events,
    /// Of a version.
    Predictions(EntityId),
    /// Of a run.
    Metrics(EntityId),
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events => f.write_str("events"),
            Self::Predictions(version) => write!(f, "predictions:{version}"),
            Self::Metrics(run) => write!(f, "metrics:{run}"),
        }
    }
}

/// An entry on its way.
struct Entry<'a> {
    offset: u64,
    row: Row<'a>,
}

/// Writes the feeds. `passed` is up to where they were passed over.
pub(crate) async fn write(
    batches: Batches<'_>,
    passed: Tops,
    tops: &mut Tops,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let feeds = gather(batches);
    if feeds.is_empty() && passed.is_empty() {
        return Ok(());
    }
    read_tops(feeds.keys().chain(passed.keys()), batches, tops, server).await?;
    for (feed, offset) in passed {
        let top = tops.entry(feed).or_insert(offset);
        *top = offset.max(*top);
    }
    let listened = listened(feeds.keys().copied().collect(), batches, server).await?;
    let mut commands = Commands::default();
    let mut published = Commands::default();
    let length = batches.config.stream_length;
    for (feed, entries) in feeds {
        let key = batches.keys.stream(feed);
        let mut top = tops.get(&feed).copied();
        let fresh: Vec<Entry<'_>> = entries
            .into_iter()
            .filter(|entry| top.is_none_or(|top| entry.offset > top))
            .collect();
        let passed = fresh.len().saturating_sub(length);
        for (at, entry) in fresh.into_iter().enumerate() {
            let mut json = Vec::new();
            if at >= passed || listened.contains(&feed) {
                entry.row.write_json(&mut json);
            }
            if listened.contains(&feed) {
                let channel = batches.keys.channel(feed);
                let mut publish = command_of("PUBLISH", &channel, 1, json.len());
                publish.arg(&json);
                published.push(publish);
            }
            if at >= passed {
                let mut add = command_of("XADD", &key, 10, json.len() + 128);
                add.arg("MAXLEN").arg("~").arg(length);
                add.arg(format!("{}-1", entry.offset));
                add.arg("prev")
                    .arg(top.map_or_else(String::new, |top| format!("{top}-1")));
                add.arg("kind").arg(entry.row.kind().name());
                add.arg("event").arg(json);
                commands.push(add);
            }
            top = Some(entry.offset);
        }
        if let Some(top) = top {
            tops.insert(feed, top);
        }
    }
    let written = |command: &redis::Cmd, reply: RedisResult<Value>| match reply {
        Err(error) if !is_not_above(&error) => Err(refused(command, error)),
        _ => Ok(()),
    };
    let outcome = async {
        server.each(commands, written).await?;
        server.run(published).await.map(drop)
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        // What is there is asked for again.
        tops.clear();
    }
    outcome
}

/// Whether an entry was there already.
fn is_not_above(error: &redis::RedisError) -> bool {
    error
        .to_string()
        .contains("equal or smaller than the target stream top item")
}

fn gather<'a>(batches: Batches<'a>) -> HashMap<Feed, Vec<Entry<'a>>> {
    let streams = batches.config.streams;
    let mut feeds: HashMap<Feed, Vec<Entry<'a>>> = HashMap::new();
    if !(streams.predictions || streams.metrics || streams.events) {
        return feeds;
    }
    for batch in batches.pending() {
        for row in batch.in_order() {
            let offset = row.offset();
            if offset < batches.done {
                continue;
            }
            let mut push = |feed| {
                let entries = feeds.entry(feed).or_default();
                entries.push(Entry {
                    offset: offset.0,
                    row,
                });
            };
            if streams.events {
                push(Feed::Events);
            }
            match row.kind() {
                Kind::PredictionLogged if streams.predictions => {
                    const MODEL: usize = column(Kind::PredictionLogged, "model");
                    const VERSION: usize = column(Kind::PredictionLogged, "version");
                    if let Some(version) = batches.names.named_version(row, MODEL, VERSION) {
                        push(Feed::Predictions(version));
                    }
                }
                Kind::MetricLogged if streams.metrics => {
                    const RUN: usize = column(Kind::MetricLogged, "run");
                    if let Some(run) = batches.names.named(row, EntityKind::Run, RUN) {
                        push(Feed::Metrics(run));
                    }
                }
                _ => {}
            }
        }
    }
    feeds
}

/// The last entries of streams that were not written since the connection was made.
async fn read_tops(
    feeds: impl Iterator<Item = &Feed>,
    batches: Batches<'_>,
    tops: &mut Tops,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let unknown: Vec<Feed> = feeds
        .filter(|feed| !tops.contains_key(feed))
        .copied()
        .collect();
    let mut commands = Commands::default();
    for feed in &unknown {
        let mut last = command("XREVRANGE", &batches.keys.stream(*feed));
        last.arg("+").arg("-").arg("COUNT").arg(1);
        commands.push(last);
    }
    let replies = server.run(commands).await?;
    for (feed, reply) in unknown.into_iter().zip(replies) {
        let Some(entry) = list(reply).into_iter().next() else {
            continue;
        };
        let id = list(entry);
        let id = id.first().and_then(text).and_then(|id| id.split_once('-'));
        if let Some(top) = id.and_then(|(offset, _)| offset.parse().ok()) {
            tops.insert(feed, top);
        }
    }
    Ok(())
}

/// The feeds that somebody listens to.
pub(crate) async fn listened(
    feeds: Vec<Feed>,
    batches: Batches<'_>,
    server: &mut Connection,
) -> Result<Vec<Feed>, RedisError> {
    let mut asked = redis::cmd("PUBSUB");
    asked.arg("NUMSUB");
    for feed in &feeds {
        asked.arg(batches.keys.channel(*feed));
    }
    let mut patterns = redis::cmd("PUBSUB");
    patterns.arg("NUMPAT");
    let mut commands = Commands::default();
    commands.push(asked);
    commands.push(patterns);
    let mut replies = server.run(commands).await?.into_iter();
    let counts = list(replies.next().unwrap_or(Value::Nil));
    // Whoever listens to a pattern may mean any of them.
    let patterns = replies.next().as_ref().and_then(int).unwrap_or(0) > 0;
    let counted = feeds.into_iter().zip(counts.chunks(2));
    let heard = counted.filter(|(_, count)| patterns || count.get(1).and_then(int) > Some(0));
    Ok(heard.map(|(feed, _)| feed).collect())
}
