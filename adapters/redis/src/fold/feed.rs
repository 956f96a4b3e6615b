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
use modelog_engine::names::{EntityId, Versions};
use redis::{Cmd, RedisResult, Value};

use super::Batches;
use crate::connection::{
    Commands, Connection, command, command_of, int, list, made, refused, text,
};
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

/// An event on its way into its feeds, by their places in a list.
struct Entry<'a> {
    row: Row<'a>,
    feeds: [Option<usize>; FEEDS_MAX],
}

/// In how many feeds an event is: that of all events, and one of its own kind.
const FEEDS_MAX: usize = 2;

/// A feed that is written.
struct Writing {
    feed: Feed,
    /// How many events there are for it that it did not have.
    fresh: usize,
    key: String,
    /// The last entry.
    top: Option<u64>,
    /// Where somebody listens.
    channel: Option<String>,
}

/// Writes the feeds. `passed` is up to where they were passed over.
pub(crate) async fn write(
    batches: Batches<'_>,
    passed: Tops,
    tops: &mut Tops,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let (entries, feeds) = gather(batches);
    if feeds.is_empty() && passed.is_empty() {
        return Ok(());
    }
    read_tops(feeds.iter().chain(passed.keys()), batches, tops, server).await?;
    for (feed, offset) in passed {
        let top = tops.entry(feed).or_insert(offset);
        *top = offset.max(*top);
    }
    let listened = listened(feeds.clone(), batches, server).await?;
    let mut feeds: Vec<Writing> = feeds
        .into_iter()
        .map(|feed| Writing {
            feed,
            fresh: 0,
            key: batches.keys.stream(feed),
            top: tops.get(&feed).copied(),
            channel: listened.contains(&feed).then(|| batches.keys.channel(feed)),
        })
        .collect();
    for entry in &entries {
        for feed in entry.feeds.into_iter().flatten() {
            feeds[feed].count(entry.row.offset().0);
        }
    }
    let mut published = Commands::default();
    let length = batches.config.stream_length;
    let mut json = Vec::new();
    let commands = entries.iter().flat_map(|entry| {
        json.clear();
        entry.feeds.map(|feed| {
            let feed = &mut feeds[feed?];
            feed.add(entry.row, length, &mut json, &mut published)
        })
    });
    let written = |command: &Cmd, reply: RedisResult<Value>| match reply {
        Err(error) if !is_not_above(&error) => Err(refused(command, error)),
        _ => Ok(()),
    };
    let mut outcome = server.each(made(commands.flatten()), written).await;
    if outcome.is_ok() {
        outcome = server.run(published).await.map(drop);
    }
    if outcome.is_ok() {
        let written = feeds
            .iter()
            .filter_map(|feed| feed.top.map(|top| (feed.feed, top)));
        tops.extend(written);
    } else {
        // What is there is asked for again.
        tops.clear();
    }
    outcome
}

impl Writing {
    fn is_fresh(&self, offset: u64) -> bool {
        self.top.is_none_or(|top| offset > top)
    }

    /// Counts an event.
    fn count(&mut self, offset: u64) {
        if self.is_fresh(offset) {
            self.fresh += 1;
        }
    }

    /// The entry of an event, unless the feed has it or no room for it. `json` is the event, or empty until it is needed.
    fn add(
        &mut self,
        row: Row<'_>,
        length: usize,
        json: &mut Vec<u8>,
        published: &mut Commands,
    ) -> Option<Cmd> {
        let offset = row.offset().0;
        if !self.is_fresh(offset) {
            return None;
        }
        let before = self.top.replace(offset);
        let fits = self.fresh <= length;
        self.fresh -= 1;
        if json.is_empty() && (fits || self.channel.is_some()) {
            row.write_json(json);
        }
        if let Some(channel) = &self.channel {
            let mut publish = command_of("PUBLISH", channel, 1, json.len());
            publish.arg(&*json);
            published.push(publish);
        }
        fits.then(|| {
            let mut add = command_of("XADD", &self.key, 10, json.len() + 128);
            add.arg("MAXLEN").arg("~").arg(length);
            add.arg(format!("{offset}-1"));
            add.arg("prev")
                .arg(before.map_or_else(String::new, |top| format!("{top}-1")));
            add.arg("kind").arg(row.kind().name());
            add.arg("event").arg(&*json);
            add
        })
    }
}

/// Whether an entry was there already.
fn is_not_above(error: &redis::RedisError) -> bool {
    error
        .to_string()
        .contains("equal or smaller than the target stream top item")
}

/// The events that were not applied, with their feeds.
fn gather(batches: Batches<'_>) -> (Vec<Entry<'_>>, Vec<Feed>) {
    let streams = batches.config.streams;
    let (mut entries, mut feeds) = (Vec::new(), Vec::new());
    if !(streams.predictions || streams.metrics || streams.events) {
        return (entries, feeds);
    }
    let mut places: HashMap<Feed, usize> = HashMap::new();
    let mut place = |feed| {
        *places.entry(feed).or_insert_with(|| {
            feeds.push(feed);
            feeds.len() - 1
        })
    };
    let mut versions = Versions::new(batches.names);
    for batch in batches.pending() {
        for row in batch.in_order() {
            if row.offset() < batches.done {
                continue;
            }
            let own = match row.kind() {
                Kind::PredictionLogged if streams.predictions => {
                    const MODEL: usize = column(Kind::PredictionLogged, "model");
                    const VERSION: usize = column(Kind::PredictionLogged, "version");
                    let version = row
                        .text(MODEL)
                        .and_then(|model| versions.get(model, row.text(VERSION)).1);
                    version.map(Feed::Predictions)
                }
                Kind::MetricLogged if streams.metrics => {
                    const RUN: usize = column(Kind::MetricLogged, "run");
                    let run = batches.names.named(row, EntityKind::Run, RUN);
                    run.map(Feed::Metrics)
                }
                _ => None,
            };
            let all = streams.events.then_some(Feed::Events);
            if all.or(own).is_some() {
                entries.push(Entry {
                    row,
                    feeds: [all, own].map(|feed| feed.map(&mut place)),
                });
            }
        }
    }
    (entries, feeds)
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
    let mut replies = server.run([asked, patterns]).await?.into_iter();
    let counts = list(replies.next().unwrap_or(Value::Nil));
    // Whoever listens to a pattern may mean any of them.
    let patterns = replies.next().as_ref().and_then(int).unwrap_or(0) > 0;
    let counted = feeds.into_iter().zip(counts.chunks(2));
    let heard = counted.filter(|(_, count)| patterns || count.get(1).and_then(int) > Some(0));
    Ok(heard.map(|(feed, _)| feed).collect())
}
