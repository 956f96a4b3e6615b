//! What is known of predictions while a connection lasts.

use std::collections::{HashMap, HashSet, VecDeque};

use modelog_engine::names::EntityId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Place;
use crate::connection::{Commands, Connection, command, list, text};
use crate::error::RedisError;
use crate::fold::Batches;

/// How many ids of predictions that are no longer kept are known by their hashes, while the program runs.
const PASSED_IDS_MAX: usize = 1 << 17;
/// What is known while a connection lasts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Of each version, the highest place of predictions that are no longer kept.
    pub(crate) left: HashMap<EntityId, Place>,
    /// Prediction ids, as in keys, for which feedback waits.
    pub(crate) waiting: HashSet<String>,
    /// Predictions that were passed over or removed.
    pub(super) passed: Passed,
}

/// Hashes of models and ids, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Passed {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Passed {
    pub(super) fn add(&mut self, model: EntityId, id: &str) {
        let hash = xxh3_64_with_seed(id.as_bytes(), model.into());
        if self.all.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > PASSED_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    pub(super) fn has(&self, model: EntityId, id: &str) -> bool {
        self.all
            .contains(&xxh3_64_with_seed(id.as_bytes(), model.into()))
    }
}

impl Memory {
    /// Reads what Redis knows of it.
    pub(crate) async fn read(
        keys: &crate::keys::Keys,
        server: &mut Connection,
    ) -> Result<Self, RedisError> {
        let mut memory = Self::default();
        let left = server.one(command("HGETALL", &keys.left())).await?;
        let mut parts = list(left).into_iter();
        while let (Some(version), Some(place)) = (parts.next(), parts.next()) {
            let version = text(&version).and_then(|text| text.parse().ok());
            let place = text(&place).and_then(parse_place);
            let (version, place) = version.zip(place).ok_or_else(|| RedisError::Content {
                key: keys.left(),
                what: "a bound that is none".into(),
            })?;
            memory.left.insert(version, place);
        }
        let mut waiting = command("ZRANGE", &keys.key("idx:feedback"));
        waiting.arg(0).arg(-1);
        for id in list(server.one(waiting).await?) {
            memory.waiting.extend(text(&id).map(str::to_owned));
        }
        Ok(memory)
    }

    pub(super) fn raise(
        &mut self,
        version: EntityId,
        place: Place,
        batches: &Batches<'_>,
        writes: &mut Commands,
    ) {
        let bound = self.left.entry(version).or_insert((i64::MIN, 0));
        if *bound < place {
            *bound = place;
            let mut command = command("HSET", &batches.keys.left());
            command.arg(version).arg(write_place(place));
            writes.push(command);
        }
    }
}

/// A place as it is written in `left`.
fn write_place((time, offset): Place) -> String {
    format!("{time} {offset}")
}

pub(crate) fn parse_place(text: &str) -> Option<Place> {
    let (time, offset) = text.split_once(' ')?;
    Some((time.parse().ok()?, offset.parse().ok()?))
}
