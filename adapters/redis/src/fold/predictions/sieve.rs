//! Conflation: of what is applied together, what would be pushed out at once is not even put together.
//!
//! ```text
//! batches ─▶ of each version the lowest place that stays ─▶ rows below it go, if nothing else is known of their predictions
//!                                                           batches of which every row goes are taken out, while more is read
//! ```
//!
//! # Invariants
//! A row goes only if no event about its prediction stays: none of those that are applied with it, none in Redis, none that
//! has left. Its version's bound then rises to its place, and what is at or below a bound is not claimed to be there.
//!
//! A batch is taken out only if the streams have no room for anything of it either, and nobody listens to their channels.
//!
//! What is known is known by hashes, so a row may stay that could have gone; it is looked at as every other row then.

use std::collections::HashMap;

use modelog_engine::Offset;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::live::{Hashes, LeftIds};
use modelog_engine::names::EntityId;

use super::gather::{Row, each_row};
use super::{Memory, Place};
use crate::config::Streams;
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::fold::Batches;
use crate::fold::feed::{Feed, Tops, listened};
use crate::keys::{decoded, of_member};

/// The most predictions in Redis whose ids are known here: 36 MB of hashes. With more there is no conflation beyond a batch.
const KNOWN_MAX: usize = 2_000_000;
/// How many versions are asked for their predictions at a time.
const VERSIONS: usize = 10;

/// What goes.
#[derive(Debug)]
pub(super) struct Sieve {
    /// Of each version that has more than its window, the lowest place that stays.
    lowest: HashMap<EntityId, Place>,
    /// Hashes of the predictions that stay.
    staying: Hashes,
}

impl Sieve {
    /// What goes of these batches; none if no version has more of them than its window.
    pub(super) fn of(batches: &Batches<'_>, memory: &Memory) -> Option<Self> {
        memory.known.as_ref()?;
        let window = batches.config.predictions_window;
        let mut highest: HashMap<EntityId, Vec<Place>> = HashMap::new();
        each(batches, |row| {
            // The other half of a request is not one more.
            if row.is_response {
                return;
            }
            let places = highest.entry(row.version).or_default();
            places.push(row.place);
            if places.len() >= 2 * window.max(1 << 10) {
                keep_highest(places, window);
            }
        });
        let lowest = highest.into_iter().filter_map(|(version, mut places)| {
            let is_more = places.len() > window;
            is_more.then(|| (version, keep_highest(&mut places, window)))
        });
        let mut sieve = Self {
            lowest: lowest.collect(),
            staying: Hashes::default(),
        };
        if sieve.lowest.is_empty() {
            return None;
        }
        let mut staying = Hashes::default();
        each(batches, |row| {
            if !sieve.is_below(row.version, row.place, memory) {
                staying.insert(row.hash());
            }
        });
        sieve.staying = staying;
        Some(sieve)
    }

    fn is_below(&self, version: EntityId, place: Place, memory: &Memory) -> bool {
        let lowest = self.lowest.get(&version);
        let left = memory.left.get(&version);
        lowest.is_some_and(|lowest| place < *lowest) || left.is_some_and(|left| place <= *left)
    }

    /// Whether a row goes.
    pub(super) fn goes(&self, row: &Row<'_>, memory: &Memory) -> bool {
        // What the program claimed before it ended is known to Redis alone.
        if row.offset < memory.claims || !self.is_below(row.version, row.place, memory) {
            return false;
        }
        let hash = row.hash();
        let is_known = |known: &Hashes| known.contains(&hash);
        !self.staying.contains(&hash)
            && !memory.known.as_ref().is_none_or(is_known)
            && !memory.passed.contains_hash(hash)
    }
}

/// Leaves the highest of places; answers the lowest of them.
fn keep_highest(places: &mut Vec<Place>, count: usize) -> Place {
    let at = places.len() - count;
    let (_, lowest, _) = places.select_nth_unstable(at);
    let lowest = *lowest;
    places.drain(..at);
    lowest
}

/// Shows every prediction event that was not applied.
fn each<'a>(batches: &Batches<'a>, mut see: impl FnMut(&Row<'a>)) {
    for batch in batches.pending() {
        if let Some(table) = batch.table(Kind::PredictionLogged) {
            each_row(batch, table, batches, |row| see(&row));
        }
    }
}

/// Predictions that have gone, until the next writing says so.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Of each version the highest place.
    pub(super) bounds: HashMap<EntityId, Place>,
    /// The newest of them: their hashes and versions.
    newest: Vec<(u64, EntityId)>,
    /// The last entries of the streams in which they would have been.
    pub(crate) tops: Tops,
}

impl Gone {
    pub(super) fn add(&mut self, row: &Row<'_>) {
        let bound = self.bounds.entry(row.version).or_insert(row.place);
        *bound = row.place.max(*bound);
        if self.newest.len() >= 2 * LeftIds::MAX {
            self.newest.drain(..LeftIds::MAX);
        }
        self.newest.push((row.hash(), row.version));
    }

    /// Notes which have left.
    pub(super) fn pass(&mut self, passed: &mut LeftIds) {
        let more = self.newest.len().saturating_sub(LeftIds::MAX);
        for (hash, version) in self.newest.drain(..).skip(more) {
            passed.add_hash(hash, version);
        }
    }
}

/// What goes of batches that are applied now; none if there is no more than a window of them.
pub(super) async fn sieve(
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<Option<Sieve>, RedisError> {
    let tables = batches
        .pending()
        .filter_map(|batch| batch.table(Kind::PredictionLogged));
    if tables.map(|table| table.rows()).sum::<usize>() <= batches.config.predictions_window {
        return Ok(None);
    }
    know(batches, memory, server).await?;
    Ok(Sieve::of(batches, memory))
}

/// Tells of each batch whether anything of it would stay; what is in those of which nothing does has gone then.
pub(crate) async fn thin(
    batches: Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<Vec<bool>, RedisError> {
    let all_stay = vec![true; batches.all.len()];
    know(&batches, memory, server).await?;
    let Some(sieve) = Sieve::of(&batches, memory) else {
        return Ok(all_stay);
    };
    let room = Room::of(&batches);
    let feeds = room.feeds();
    if !feeds.is_empty() && !listened(feeds, batches, server).await?.is_empty() {
        return Ok(all_stay);
    }
    let mut gone = std::mem::take(&mut memory.gone);
    let mut stays = |batch: &LoggedBatch, fits: bool| {
        let [table] = batch.tables.as_slice() else {
            return true;
        };
        if fits || table.kind() != Kind::PredictionLogged || !batch.names.is_empty() {
            return true;
        }
        let mut any_stays = false;
        each_row(batch, table, &batches, |row| {
            any_stays = any_stays || !sieve.goes(&row, memory);
        });
        if !any_stays {
            each_row(batch, table, &batches, |row| {
                gone.add(&row);
                for feed in feeds_of(&row, batches.config.streams) {
                    gone.tops.insert(feed, row.offset.0);
                }
            });
        }
        any_stays
    };
    let with_room = batches.all.iter().zip(room.fits);
    let stay = with_room.map(|(batch, fits)| stays(batch, fits)).collect();
    memory.gone = gone;
    Ok(stay)
}

/// The streams that a prediction is in.
fn feeds_of(row: &Row<'_>, streams: Streams) -> impl Iterator<Item = Feed> + use<> {
    let predictions = streams
        .predictions
        .then_some(Feed::Predictions(row.version));
    predictions
        .into_iter()
        .chain(streams.events.then_some(Feed::Events))
}

/// What streams have room for.
struct Room {
    /// Of each batch, whether anything of it is among the newest of a stream.
    fits: Vec<bool>,
    /// How many entries there are for each stream.
    later: HashMap<Feed, usize>,
}

impl Room {
    fn of(batches: &Batches<'_>) -> Self {
        let streams = batches.config.streams;
        if !(streams.predictions || streams.events) {
            return Self {
                fits: vec![false; batches.all.len()],
                later: HashMap::new(),
            };
        }
        let length = batches.config.stream_length;
        let mut later: HashMap<Feed, usize> = HashMap::new();
        let mut fits = Vec::with_capacity(batches.all.len());
        for batch in batches.all.iter().rev() {
            let mut counts: HashMap<Feed, usize> = HashMap::new();
            if let Some(table) = batch.table(Kind::PredictionLogged) {
                each_row(batch, table, batches, |row| {
                    for feed in feeds_of(&row, streams) {
                        *counts.entry(feed).or_default() += 1;
                    }
                });
            }
            let has_room = |feed: &Feed| later.get(feed).is_none_or(|later| *later < length);
            fits.push(counts.keys().any(has_room));
            for (feed, count) in counts {
                *later.entry(feed).or_default() += count;
            }
        }
        fits.reverse();
        Self { fits, later }
    }

    fn feeds(&self) -> Vec<Feed> {
        self.later.keys().copied().collect()
    }
}

/// Learns which predictions are in Redis, once while a connection lasts.
async fn know(
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<(), RedisError> {
    if memory.known.is_some() || memory.too_many {
        return Ok(());
    }
    let versions: Vec<EntityId> = (1..=batches.names.count(EntityKind::Version)).collect();
    let mut commands = Commands::default();
    for version in &versions {
        commands.push(command("ZCARD", &batches.keys.predictions(*version)));
    }
    let counts = server.run(commands).await?;
    let counts: Vec<usize> = counts
        .iter()
        .map(|count| int(count).unwrap_or(0) as usize)
        .collect();
    if counts.iter().sum::<usize>() > KNOWN_MAX {
        memory.too_many = true;
        return Ok(());
    }
    let mut known = Hashes::default();
    let some = versions
        .into_iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0);
    let some: Vec<EntityId> = some.map(|(version, _)| version).collect();
    for versions in some.chunks(VERSIONS) {
        let mut commands = Commands::default();
        for version in versions {
            let mut all = command("ZRANGE", &batches.keys.predictions(*version));
            all.arg(0).arg(-1);
            commands.push(all);
        }
        for (version, members) in versions.iter().zip(server.run(commands).await?) {
            let model = batches.names.name(EntityKind::Version, *version);
            let model = model.map_or(0, |(model, _)| model);
            for member in list(members) {
                let rest = text(&member).and_then(of_member).map(|(_, rest)| rest);
                let id = rest.and_then(|rest| decoded(rest.split(':').nth(1)?));
                known.extend(id.map(|id| LeftIds::hash(model, &id)));
            }
        }
    }
    memory.known = Some(known);
    Ok(())
}

impl Memory {
    /// Notes that a prediction is in Redis.
    pub(super) fn knows(&mut self, model: EntityId, id: &str) {
        let Some(known) = &mut self.known else {
            return;
        };
        known.insert(LeftIds::hash(model, id));
        // Those that have left since are among them: what is there is asked for again.
        if known.len() > KNOWN_MAX {
            self.known = None;
        }
    }
}

/// Says up to where keys may be claimed from now on.
pub(super) async fn claim_up_to(
    batches: &Batches<'_>,
    memory: &Memory,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let end = batches.all.last().map_or(Offset::ZERO, |batch| batch.end());
    if end > memory.claims {
        let mut claims = command("HSET", &batches.keys.checkpoint());
        claims.arg(super::CLAIMS).arg(end.0);
        server.one(claims).await?;
    }
    Ok(())
}
