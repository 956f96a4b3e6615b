//! Predictions on their way into their hashes and indices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use redis::Cmd;

use super::claim::Claim;
use super::gather::Merged;
use super::{Memory, Writing};
use crate::connection::{Connection, command, command_of, made};
use crate::error::RedisError;
use crate::fold::Batches;
use crate::keys::member;

/// How many members go into an index with one command: few fat commands are faster than many thin ones.
const MEMBERS_MAX: usize = 1000;

/// How many fields a prediction has beside those of its events, and about how many bytes.
const FIELDS_BESIDE: usize = 10;
const BYTES_BESIDE: usize = 256;

impl Writing<'_> {
    /// Writes the hashes, then the indices; answers which versions have new predictions.
    pub(crate) async fn write(
        self,
        batches: Batches<'_>,
        memory: &mut Memory,
        server: &mut Connection,
    ) -> Result<BTreeSet<EntityId>, RedisError> {
        let mut indices: Indices = BTreeMap::new();
        let mut claims = self.0.into_iter();
        let mut ready = VecDeque::new();
        let commands = std::iter::from_fn(|| {
            while ready.is_empty() {
                let claim = claims.next()?;
                memory.knows(claim.key.0, &claim.key.1);
                if let Some(new) = &claim.new {
                    write(new, &claim, &batches, memory, &mut ready, &mut indices);
                } else if let Some(given) = &claim.feedback {
                    let mut hash = command("HSET", &batches.keys.prediction(&claim.rest));
                    hash.arg("feedback").arg(given.json());
                    ready.push_back(hash);
                }
            }
            ready.pop_front()
        });
        server.run(made(commands)).await?;
        let commands = indices.iter().flat_map(|(version, members)| {
            let key = batches.keys.predictions(*version);
            members.chunks(MEMBERS_MAX).map(move |members| {
                let mut index = command("ZADD", &key);
                for (time, member) in members {
                    index.arg(time).arg(member);
                }
                index
            })
        });
        server.run(made(commands)).await?;
        Ok(indices.into_keys().collect())
    }
}

/// Members on their way into the indices of versions.
type Indices = BTreeMap<EntityId, Vec<(i64, String)>>;

/// Writes a prediction.
fn write(
    new: &Merged<'_>,
    claim: &Claim<'_>,
    batches: &Batches<'_>,
    memory: &Memory,
    ready: &mut VecDeque<Cmd>,
    indices: &mut Indices,
) {
    let (model, id) = &claim.key;
    let key = batches.keys.prediction(&claim.rest);
    let there = claim.there.as_ref();
    let place = there.map_or(new.place, |there| there.place);
    let version = match (new.complete_version, there) {
        (Some(version), _) => version,
        (None, Some(there)) if there.complete => there.version,
        (None, _) => new.version,
    };
    let complete = new.complete_version.is_some() || there.is_some_and(|there| there.complete);
    let fields = 2 * (new.fields.len() + FIELDS_BESIDE);
    let bytes = new
        .fields
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let bytes = bytes.sum::<usize>() + BYTES_BESIDE;
    let mut hash = command_of("HSET", &key, fields, bytes);
    if there.is_none() {
        hash.arg("prediction_id").arg(&**id);
        hash.arg("model_id").arg(model);
        hash.arg("model")
            .arg(&*name(batches, EntityKind::Model, *model));
        hash.arg("time")
            .arg(Timestamp::from_micros(place.0).to_string());
        hash.arg("log_offset").arg(place.1);
    }
    hash.arg("version_id").arg(version);
    hash.arg("version")
        .arg(&*name(batches, EntityKind::Version, version));
    hash.arg("complete").arg(u8::from(complete));
    for (name, value) in &new.fields {
        hash.arg(name).arg(&**value);
    }
    let known = there.map_or("", |there| &there.omitted).split(',');
    let mut omitted: BTreeSet<&str> = known
        .filter(|name| !name.is_empty() && !new.has(name))
        .collect();
    omitted.extend(&new.omitted);
    let omitted = omitted.into_iter().collect::<Vec<_>>().join(",");
    if omitted != there.map_or("", |there| &there.omitted) {
        hash.arg("omitted").arg(omitted);
    }
    if let Some(given) = &claim.feedback {
        hash.arg("feedback").arg(given.json());
    }
    ready.push_back(hash);
    if !new.omitted.is_empty() && there.is_some() {
        let mut gone = command("HDEL", &key);
        new.omitted.iter().for_each(|name| {
            gone.arg(name);
        });
        ready.push_back(gone);
    }
    if let Some(ttl) = batches.config.predictions_ttl {
        let mut expires = command("EXPIREAT", &key);
        expires.arg(new.append_time.micros() / 1_000_000 + ttl.as_secs() as i64);
        ready.push_back(expires);
    }
    let member = member(place.1, &format!(":{}", claim.rest));
    if let Some(there) = there.filter(|there| there.version != version) {
        let mut remove = command("ZREM", &batches.keys.predictions(there.version));
        remove.arg(&member);
        ready.push_back(remove);
    }
    // What lies below the bound is not kept, even if it is still there.
    if memory.left.get(&version).is_none_or(|left| place > *left) {
        indices.entry(version).or_default().push((place.0, member));
    }
}

fn name(batches: &Batches<'_>, kind: EntityKind, id: EntityId) -> Arc<str> {
    let name = batches.names.name(kind, id);
    name.map_or_else(|| "".into(), |(_, name)| name)
}
