//! Entities: each is one hash, made anew from what was there and what the events say.

use std::collections::BTreeMap;

use modelog_engine::Offset;
use modelog_engine::entity::{Change, Entity, EntityKey, changes};
use modelog_engine::event::EntityKind;
use modelog_engine::names::{EntityId, Names};

use super::{Batches, Writes};
use crate::connection::{Commands, Connection, command};
use crate::error::RedisError;
use crate::hash::{self, Fields, Hash, Named};
use crate::keys::Keys;

/// Brings entities up to date.
pub(crate) async fn apply(
    batches: Batches<'_>,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let mut touched: BTreeMap<EntityKey, Vec<Change>> = BTreeMap::new();
    for batch in batches.pending() {
        for named in &batch.names {
            touched.entry((named.kind, named.id)).or_default();
        }
        for change in changes(batch, batches.done, batches.names) {
            touched.entry(change.key).or_default().push(change);
        }
    }
    if touched.is_empty() {
        return Ok(());
    }
    let mut known = read(touched.keys().copied(), batches.keys, server).await?;
    for (key, changes) in touched {
        let Some(named) = named(batches.names, key) else {
            continue;
        };
        let (mut entity, mut offset) = known.remove(&key).unwrap_or_default();
        let before = entity.run_body().and_then(|run| run.experiment.clone());
        entity.parent = named.parent.as_ref().map_or(0, |(id, _)| *id);
        for Change {
            offset: at,
            time,
            what,
            ..
        } in changes
        {
            if offset.is_none_or(|offset| at > offset) {
                entity.apply(time, what);
                offset = Some(at);
            }
        }
        write(&named, &entity, offset, batches.keys, writes);
        experiment(&named, &entity, before, &batches, writes);
    }
    counters(batches, writes);
    Ok(())
}

/// The names of an entity; every number that the log gave has one.
pub(crate) fn named(names: &Names, (kind, id): EntityKey) -> Option<Named> {
    let (parent, name) = names.name(kind, id)?;
    let parent = match kind {
        EntityKind::Version => Some((parent, names.name(EntityKind::Model, parent)?.1.to_string())),
        _ => None,
    };
    Some(Named {
        kind,
        id,
        name: name.to_string(),
        parent,
    })
}

/// Entities as they are in Redis.
async fn read(
    wanted: impl Iterator<Item = EntityKey>,
    keys: &Keys,
    server: &mut Connection,
) -> Result<BTreeMap<EntityKey, (Entity, Option<Offset>)>, RedisError> {
    let wanted: Vec<EntityKey> = wanted.collect();
    let mut commands = Commands::default();
    for (kind, id) in &wanted {
        commands.push(command("HGETALL", &keys.entity(*kind, *id)));
    }
    let replies = server.run(commands).await?;
    let mut known = BTreeMap::new();
    for ((kind, id), reply) in wanted.into_iter().zip(replies) {
        if let Some(hash) = Hash::read(keys.entity(kind, id), reply)? {
            let (_, entity, offset) = hash::read_entity(kind, &hash)?;
            known.insert((kind, id), (entity, offset));
        }
    }
    Ok(known)
}

fn write(named: &Named, entity: &Entity, offset: Option<Offset>, keys: &Keys, writes: &mut Writes) {
    let key = keys.entity(named.kind, named.id);
    let parent = named.parent.as_ref().map_or(0, |(id, _)| *id);
    let index = keys.index(named.kind, parent);
    let mut shown = command(if entity.deleted { "ZREM" } else { "ZADD" }, &index);
    if !entity.deleted {
        shown.arg(named.id);
    }
    shown.arg(named.id);
    writes.first.push(shown);
    let mut name = command("HSET", &keys.names(named.kind, parent));
    name.arg(&named.name).arg(named.id);
    writes.first.push(name);
    if let Some(run) = entity.run_body()
        && run.params.iter().next().is_some()
    {
        let mut params = command("HSET", &keys.key(format_args!("hyperparam:{}", named.id)));
        for (name, value) in run.params.iter() {
            params.arg(name).arg(value);
        }
        writes.first.push(params);
    }
    let Fields { set, gone } = hash::entity(named, entity, offset);
    if !gone.is_empty() {
        let mut command = command("HDEL", &key);
        command.arg(gone);
        writes.then.push(command);
    }
    let mut command = command("HSET", &key);
    for (name, value) in set {
        command.arg(name).arg(value);
    }
    writes.then.push(command);
}

/// The set of an experiment's runs.
fn experiment(
    named: &Named,
    entity: &Entity,
    before: Option<String>,
    batches: &Batches<'_>,
    writes: &mut Writes,
) {
    let after = entity.run_body().and_then(|run| run.experiment.as_deref());
    let set = |name: &str| {
        let id = batches.names.id(EntityKind::Experiment, name)?;
        Some(batches.keys.key(format_args!("exprun:{id}:runs")))
    };
    if let Some(before) = before.as_deref().filter(|before| Some(*before) != after)
        && let Some(key) = set(before)
    {
        let mut command = command("SREM", &key);
        command.arg(named.id);
        writes.first.push(command);
    }
    if let Some(key) = after.and_then(set) {
        let mut command = command("SADD", &key);
        command.arg(named.id);
        writes.first.push(command);
    }
}

/// The highest number given, of each kind of which there are new names.
fn counters(batches: Batches<'_>, writes: &mut Writes) {
    let mut highest: BTreeMap<EntityKind, EntityId> = BTreeMap::new();
    for named in batches.pending().flat_map(|batch| &batch.names) {
        let known = highest.entry(named.kind).or_default();
        *known = named.id.max(*known);
    }
    for kind in highest.into_keys() {
        let mut command = command(
            "SET",
            &batches.keys.key(format_args!("counter:{}", kind.name())),
        );
        command.arg(batches.names.count(kind));
        writes.first.push(command);
    }
}
