//! What leaves: the oldest predictions of a version, and the oldest feedback that waits.

use std::collections::BTreeSet;

use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;

use super::Memory;
use super::given::trim_waiting;
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::fold::Batches;
use crate::keys::{decoded, of_member};

/// Lets the oldest predictions of versions go that have more than their window. Everything else of the batch is written.
pub(crate) async fn trim(
    versions: &BTreeSet<EntityId>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<(), RedisError> {
    trim_waiting(batches, memory, server).await?;
    let window = batches.config.predictions_window as i64;
    let mut commands = Commands::default();
    for version in versions {
        commands.push(command("ZCARD", &batches.keys.predictions(*version)));
    }
    let counts = server.run(commands).await?;
    let mut over = Vec::new();
    let mut commands = Commands::default();
    for (version, count) in versions.iter().zip(counts) {
        let excess = int(&count).unwrap_or(0) - window;
        // Not for every prediction: it takes questions of its own.
        if excess > window / 10 {
            let mut oldest = command("ZRANGE", &batches.keys.predictions(*version));
            oldest.arg(0).arg(excess - 1).arg("WITHSCORES");
            commands.push(oldest);
            over.push(*version);
        }
    }
    let mut bounds = Commands::default();
    let mut removing = Commands::default();
    for (version, reply) in over.into_iter().zip(server.run(commands).await?) {
        let index = batches.keys.predictions(version);
        let model = batches.names.name(EntityKind::Version, version);
        let model = model.map_or(0, |(model, _)| model);
        let mut gone = command("ZREM", &index);
        let members = list(reply);
        let mut highest = None;
        for pair in members.chunks(2) {
            let read = || {
                let (offset, rest) = of_member(text(&pair[0])?)?;
                // A score is a number, and comes as one.
                let time = text(&pair[1])?.parse::<f64>().ok()? as i64;
                Some(((time, offset), rest.strip_prefix(':')?))
            };
            let (place, rest) = read().ok_or_else(|| RedisError::Content {
                key: index.clone(),
                what: "a member that is no prediction".into(),
            })?;
            highest = highest.max(Some(place));
            let (id, of_model) = rest.split_once(':').unwrap_or((rest, ""));
            memory
                .passed
                .add(model, &decoded(id).unwrap_or_default(), version);
            gone.arg(text(&pair[0]));
            removing.push(command("UNLINK", &batches.keys.prediction(rest)));
            if !of_model.is_empty() {
                let mut models = command("SREM", &batches.keys.prediction(&format!("{id}:models")));
                models.arg(of_model);
                removing.push(models);
            }
        }
        removing.push(gone);
        if let Some(place) = highest {
            memory.raise(version, place, batches, &mut bounds);
        }
    }
    server.run(bounds).await?;
    server.run(removing).await?;
    Ok(())
}
