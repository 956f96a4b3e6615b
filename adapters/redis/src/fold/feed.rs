//! The feeds: streams for whoever must miss nothing within their length, channels for whoever needs no history.
//!
//! An entry's id is `<offset>-1`, and it names the entry before it, so a reader sees where something was lost: to the length of
//! the stream, or since only the newest of a batch are written that fit it. An id that is not above the last one was written
//! before. Channels are told only what the streams have not had, and only if somebody listens.

use std::collections::HashMap;

use modelog_engine::batch::Row;
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind};
use redis::{RedisResult, Value};

use super::Batches;
use crate::connection::{Commands, Connection, command, int, list, refused, text};
use crate::error::RedisError;

/// The last entry of each stream, by its key.
pub(crate) type Tops = HashMap<String, u64>;

/// An entry on its way.
struct Entry<'a> {
    offset: u64,
    row: Row<'a>,
}

/// Writes the feeds.
pub(crate) async fn write(
    batches: Batches<'_>,
    tops: &mut Tops,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let feeds = gather(batches);
    if feeds.is_empty() {
        return Ok(());
    }
    read_tops(feeds.keys(), batches, tops, server).await?;
    let listened = listened(&feeds, batches, server).await?;
    let mut commands = Commands::default();
    let mut published = Commands::default();
    let length = batches.config.stream_length;
    for (feed, entries) in feeds {
        let key = batches.keys.stream(&feed);
        let mut top = tops.get(&key).copied();
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
                let channel = batches.keys.channel(&feed);
                let mut publish = command("PUBLISH", &channel);
                publish.arg(&json);
                published.push(publish);
            }
            if at >= passed {
                let mut add = command("XADD", &key);
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
            tops.insert(key, top);
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

fn gather<'a>(batches: Batches<'a>) -> HashMap<String, Vec<Entry<'a>>> {
    let streams = batches.config.streams;
    let mut feeds: HashMap<String, Vec<Entry<'a>>> = HashMap::new();
    if !(streams.predictions || streams.metrics || streams.events) {
        return feeds;
    }
    for batch in batches.pending() {
        for row in batch.in_order() {
            let offset = row.offset();
            if offset < batches.done {
                continue;
            }
            let mut feed = |name| {
                let entries = feeds.entry(name).or_default();
                entries.push(Entry {
                    offset: offset.0,
                    row,
                });
            };
            if streams.events {
                feed("events".to_owned());
            }
            match row.kind() {
                Kind::PredictionLogged if streams.predictions => {
                    const MODEL: usize = column(Kind::PredictionLogged, "model");
                    const VERSION: usize = column(Kind::PredictionLogged, "version");
                    if let Some(version) = batches.names.named_version(row, MODEL, VERSION) {
                        feed(format!("predictions:{version}"));
                    }
                }
                Kind::MetricLogged if streams.metrics => {
                    const RUN: usize = column(Kind::MetricLogged, "run");
                    if let Some(run) = batches.names.named(row, EntityKind::Run, RUN) {
                        feed(format!("metrics:{run}"));
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
    feeds: impl Iterator<Item = &String>,
    batches: Batches<'_>,
    tops: &mut Tops,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let keys = feeds.map(|feed| batches.keys.stream(feed));
    let unknown: Vec<String> = keys.filter(|key| !tops.contains_key(key)).collect();
    let mut commands = Commands::default();
    for key in &unknown {
        let mut last = command("XREVRANGE", key);
        last.arg("+").arg("-").arg("COUNT").arg(1);
        commands.push(last);
    }
    let replies = server.run(commands).await?;
    for (key, reply) in unknown.into_iter().zip(replies) {
        let Some(entry) = list(reply).into_iter().next() else {
            continue;
        };
        let id = list(entry);
        let id = id.first().and_then(text).and_then(|id| id.split_once('-'));
        if let Some(top) = id.and_then(|(offset, _)| offset.parse().ok()) {
            tops.insert(key, top);
        }
    }
    Ok(())
}

/// The feeds that somebody listens to.
async fn listened(
    feeds: &HashMap<String, Vec<Entry<'_>>>,
    batches: Batches<'_>,
    server: &mut Connection,
) -> Result<Vec<String>, RedisError> {
    let names: Vec<&String> = feeds.keys().collect();
    let mut asked = redis::cmd("PUBSUB");
    asked.arg("NUMSUB");
    for name in &names {
        asked.arg(batches.keys.channel(name));
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
    let counted = names.into_iter().zip(counts.chunks(2));
    let heard = counted.filter(|(_, count)| patterns || count.get(1).and_then(int) > Some(0));
    Ok(heard.map(|(name, _)| name.clone()).collect())
}
