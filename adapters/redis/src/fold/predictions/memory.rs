//! What is known of predictions while a connection lasts.

use std::collections::{HashMap, HashSet, VecDeque};

use modelog_engine::names::EntityId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Place;
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::fold::Batches;

/// The field of the checkpoint that says that some ids are those of predictions of several models.
pub(crate) const SHARED: &str = "shared_ids";
/// How many ids of predictions that are no longer kept are known by their hashes, while the program runs.
const PASSED_IDS_MAX: usize = 1 << 17;
/// What is known while a connection lasts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Of each version, the highest place of predictions that are no longer kept.
    pub(crate) left: HashMap<EntityId, Place>,
    /// Prediction ids, as in keys, for which feedback waits.
    pub(crate) waiting: HashSet<String>,
    /// Some ids are those of predictions of several models.
    pub(super) shared: bool,
    /// Predictions that were passed over or removed.
    pub(super) passed: Passed,
}

/// Predictions that are gone, the newest of them: hashes of models and ids, and the version each was of.
#[derive(Debug, Default)]
pub(super) struct Passed {
    order: VecDeque<u64>,
    versions: HashMap<u64, EntityId>,
}

impl Passed {
    fn hash(model: EntityId, id: &str) -> u64 {
        xxh3_64_with_seed(id.as_bytes(), model.into())
    }

    pub(super) fn add(&mut self, model: EntityId, id: &str, version: EntityId) {
        let hash = Self::hash(model, id);
        if self.versions.insert(hash, version).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > PASSED_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// The version that a prediction was of which is gone.
    pub(super) fn version(&self, model: EntityId, id: &str) -> Option<EntityId> {
        if self.versions.is_empty() {
            return None;
        }
        self.versions.get(&Self::hash(model, id)).copied()
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
        let mut shared = command("HGET", &keys.checkpoint());
        shared.arg(SHARED);
        memory.shared = int(&server.one(shared).await?) == Some(1);
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
