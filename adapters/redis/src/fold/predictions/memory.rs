//! What is known of predictions while a connection lasts.

use std::collections::{HashMap, HashSet};

use modelog_engine::Offset;
use modelog_engine::live::{Hashes, LeftIds};
use modelog_engine::names::EntityId;

use super::Place;
use super::sieve::Gone;
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::fold::Batches;

/// The field of the checkpoint that says that some ids are those of predictions of several models.
pub(crate) const SHARED: &str = "shared_ids";
/// The field of the checkpoint that says up to which offset keys of predictions may have been claimed.
pub(crate) const CLAIMS: &str = "claims";

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
    pub(super) passed: LeftIds,
    /// Up to where keys may have been claimed by a program that ended before it wrote them.
    pub(super) claims: Offset,
    /// Hashes of the predictions in Redis, and of some that have left, once they were asked for.
    pub(super) known: Option<Hashes>,
    /// There are too many of them.
    pub(crate) too_many: bool,
    /// Predictions that have gone before they were written.
    pub(crate) gone: Gone,
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
        let mut asked = command("HMGET", &keys.checkpoint());
        asked.arg(&[SHARED, CLAIMS]);
        let found = list(server.one(asked).await?);
        let says = |at: usize| found.get(at).and_then(int);
        memory.shared = says(0) == Some(1);
        memory.claims = Offset(says(1).unwrap_or(0) as u64);
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
