//! Predictions and the feedback on them.
//!
//! ```text
//! rows ─▶ those that the rest pushes out go (sieve) ─▶ merged by (model, id) ─▶ those that would go at once are passed over, and the bound of their version rises
//!      ─▶ claim: HSETNX says which are new ─▶ what is there of the others ─▶ hashes, members
//!      ─▶ versions with too many: the oldest are bounded, then removed
//! ```
//!
//! A prediction has the place (time, offset) of the first event about it. Whatever comes later is written over what is
//! there, field by field, in the order of the log.
//!
//! Of a version, Redis keeps the newest by place. Everything at or below the version's bound is no longer kept: it may be
//! there in part, or not at all. Passing over and removing first raise the bound.

mod claim;
mod gather;
mod given;
mod memory;
mod sieve;
mod trim;
mod write;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use modelog_engine::names::EntityId;

pub(crate) use given::Given;
pub(crate) use memory::{CLAIMS, Memory, SHARED, parse_place};
pub(crate) use sieve::thin;
pub(crate) use trim::trim;

use super::{Batches, Writes};
use crate::connection::{Commands, Connection, command, int, list};
use crate::error::RedisError;
use crate::keys::encoded;
use claim::Claim;
use gather::{Gathered, Merged, gather};

/// A place in the list of a version: microseconds, offset.
pub(crate) type Place = (i64, u64);

/// A prediction by its model and id.
type PredictionKey<'a> = (EntityId, Cow<'a, str>);

/// Predictions that have their keys, on their way into Redis.
#[derive(Debug, Default)]
pub(crate) struct Writing<'a>(Vec<Claim<'a>>);

/// Finds what is to be written of predictions; whatever else must be written with them goes to `writes`.
pub(crate) async fn prepare<'a>(
    batches: Batches<'a>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<Writing<'a>, RedisError> {
    let sieve = sieve::sieve(&batches, memory, server).await?;
    let Gathered {
        mut predictions,
        feedback,
    } = gather(&batches, sieve.as_ref(), memory);
    pass_over(&mut predictions, &batches, memory, server, writes).await?;
    if predictions.is_empty() && feedback.is_empty() {
        return Ok(Writing::default());
    }
    sieve::claim_up_to(&batches, memory, server).await?;
    let mut claims = claim::claim(predictions, &batches, memory, server).await?;
    given::find(&feedback, &mut claims, &batches, server).await?;
    given::waiting(feedback, &mut claims, &batches, memory, server, writes).await?;
    Ok(Writing(claims))
}

/// Drops predictions that would be removed at once: of a version, those that are not among the newest of this batch. One
/// that is in Redis already stays, for what comes to be merged into it.
async fn pass_over(
    predictions: &mut Vec<(PredictionKey<'_>, Merged<'_>)>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let window = batches.config.predictions_window;
    let mut versions: HashMap<EntityId, Vec<Place>> = HashMap::new();
    for (_, merged) in &*predictions {
        versions
            .entry(merged.version())
            .or_default()
            .push(merged.place);
    }
    // Of each version the lowest place that stays.
    let mut lowest: HashMap<EntityId, Place> = HashMap::new();
    for (version, mut places) in versions {
        if places.len() > window {
            let at = places.len() - window;
            let (_, place, _) = places.select_nth_unstable(at);
            lowest.insert(version, *place);
        }
    }
    let goes = |merged: &Merged<'_>| {
        let version = merged.version();
        let below = lowest
            .get(&version)
            .is_some_and(|lowest| merged.place < *lowest);
        below
            || memory
                .left
                .get(&version)
                .is_some_and(|left| merged.place <= *left)
    };
    let is_candidate = |((model, id), merged): &(PredictionKey<'_>, Merged<'_>)| {
        goes(merged) || memory.passed.version(*model, id).is_some()
    };
    let candidates = predictions.iter().enumerate();
    let candidates = candidates.filter(|(_, prediction)| is_candidate(prediction));
    let candidates: Vec<usize> = candidates.map(|(at, _)| at).collect();
    let mut commands = Commands::default();
    for at in &candidates {
        let (model, id) = &predictions[*at].0;
        let id = encoded(id);
        let mut plain = command("HMGET", &batches.keys.prediction(&id));
        plain.arg(&["model_id", "log_offset"]);
        commands.push(plain);
        let own = batches.keys.prediction(&format!("{id}:{model}"));
        commands.push(command("EXISTS", &own));
    }
    let replies = server.run(commands).await?;
    memory.gone.pass(&mut memory.passed);
    let mut bounds = std::mem::take(&mut memory.gone.bounds);
    let mut passed_over = HashSet::new();
    for (at, replies) in candidates.into_iter().zip(replies.chunks(2)) {
        let ((model, id), merged) = &predictions[at];
        let plain = list(replies[0].clone());
        let says = |at: usize| plain.get(at).and_then(int);
        let is_there = match says(0) {
            Some(there) => there == i64::from(*model),
            // Claimed by the event that comes again now, and not written.
            None => says(1) == Some(merged.place.1 as i64),
        };
        if is_there || int(&replies[1]) == Some(1) {
            continue;
        }
        passed_over.insert(at);
        let version = merged.version();
        // One that was gone before has a place below the bound of the version it was of, not where this event stands.
        let place = match memory.passed.version(*model, id) {
            None => Some(merged.place),
            Some(old) => memory.left.get(&old).copied().filter(|_| old != version),
        };
        if let Some(place) = place {
            let bound = bounds.entry(version).or_insert(place);
            *bound = place.max(*bound);
        }
        memory.passed.add(*model, id, version);
    }
    let mut at = 0..;
    predictions.retain(|_| at.next().is_some_and(|at| !passed_over.contains(&at)));
    for (version, place) in bounds {
        memory.raise(version, place, batches, &mut writes.bounds);
    }
    Ok(())
}
