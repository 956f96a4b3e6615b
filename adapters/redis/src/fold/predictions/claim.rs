//! The keys of predictions: whose each is, and what is there.

use std::collections::{BTreeMap, HashMap};

use modelog_engine::Timestamp;
use modelog_engine::names::EntityId;
use redis::Value;

use super::gather::Merged;
use super::given::Given;
use super::{Memory, Place, PredictionKey, SHARED};
use crate::connection::{Commands, Connection, command, int, list, made, text};
use crate::error::RedisError;
use crate::fold::Batches;
use crate::keys::encoded;

/// What is in Redis of a prediction.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) place: Place,
    pub(super) version: EntityId,
    pub(super) complete: bool,
    pub(super) omitted: String,
    pub(super) feedback: Option<Given>,
}

/// A prediction that has its key.
#[derive(Debug)]
pub(super) struct Claim {
    /// What follows `prediction:` in the key.
    pub(super) rest: String,
    /// None if it is new.
    pub(super) there: Option<Box<There>>,
    /// Later feedback than is there.
    pub(super) feedback: Option<Given>,
}

/// Finds the key of each prediction, and what is there.
///
/// The plain key belongs to whoever had it first; another model with the same id has a key of its own, which is told in a
/// set beside, and keeps it when the plain one becomes free. A key that was claimed and not written, since the program ended
/// there, is claimed by the same event again.
pub(super) async fn claim<'a>(
    predictions: &HashMap<PredictionKey<'a>, Merged<'a>>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<BTreeMap<PredictionKey<'a>, Claim>, RedisError> {
    let mut order: Vec<(&PredictionKey<'a>, &Merged<'a>)> = predictions.iter().collect();
    order.sort_unstable_by_key(|(_, merged)| merged.place.1);
    let mut strangers = Vec::new();
    if memory.shared {
        let commands = order.iter().map(|((model, id), _)| {
            let own = format!("{}:{model}", encoded(id));
            command("EXISTS", &batches.keys.prediction(&own))
        });
        let own = replies_are_one(server.run(made(commands)).await?);
        let mut own = own.into_iter();
        order.retain(|entry| {
            let has_own = own.next() == Some(true);
            if has_own {
                strangers.push(*entry);
            }
            !has_own
        });
    }
    let mut claimed = BTreeMap::new();
    let commands = order.iter().map(|((_, id), merged)| {
        let mut first = command("HSETNX", &batches.keys.prediction(&encoded(id)));
        first.arg("log_offset").arg(merged.place.1);
        first
    });
    let new: Vec<bool> = replies_are_one(server.run(made(commands)).await?);
    let mut others = Vec::new();
    for ((key, merged), new) in order.into_iter().zip(new) {
        if new {
            claimed.insert(key.clone(), Claim::new(encoded(&key.1)));
        } else {
            others.push((key, merged));
        }
    }
    let found = there(
        others.iter().map(|(key, _)| encoded(&key.1)),
        batches,
        server,
    )
    .await?;
    for ((key, merged), found) in others.into_iter().zip(found) {
        let rest = encoded(&key.1);
        match found {
            // Claimed by this very event, and never written.
            Found::Claimed(offset) if offset == merged.place.1 => {
                claimed.insert(key.clone(), Claim::new(rest));
            }
            Found::Of(model, there) if model == key.0 => {
                let there = Some(there).filter(|there| there.place.1 != merged.place.1);
                claimed.insert(
                    key.clone(),
                    Claim {
                        there,
                        ..Claim::new(rest)
                    },
                );
            }
            _ => strangers.push((key, merged)),
        }
    }
    if !memory.shared && !strangers.is_empty() {
        let mut shared = command("HSET", &batches.keys.checkpoint());
        shared.arg(SHARED).arg(1);
        server.one(shared).await?;
        memory.shared = true;
    }
    let mut commands = Commands::default();
    for ((model, id), merged) in &strangers {
        let mut first = command(
            "HSETNX",
            &batches.keys.prediction(&format!("{}:{model}", encoded(id))),
        );
        first.arg("log_offset").arg(merged.place.1);
        commands.push(first);
        let mut models = command(
            "SADD",
            &batches.keys.prediction(&format!("{}:models", encoded(id))),
        );
        models.arg(model);
        commands.push(models);
    }
    let replies = server.run(commands).await?;
    let rests = strangers
        .iter()
        .map(|((model, id), _)| format!("{}:{model}", encoded(id)));
    let found = there(rests, batches, server).await?;
    for (((key, merged), new), found) in strangers.into_iter().zip(replies.chunks(2)).zip(found) {
        let rest = format!("{}:{}", encoded(&key.1), key.0);
        let there = match found {
            Found::Of(_, there) if int(&new[0]) != Some(1) => {
                Some(there).filter(|there| there.place.1 != merged.place.1)
            }
            _ => None,
        };
        claimed.insert(
            key.clone(),
            Claim {
                there,
                ..Claim::new(rest)
            },
        );
    }
    Ok(claimed)
}

pub(super) fn replies_are_one(replies: Vec<Value>) -> Vec<bool> {
    replies.iter().map(|reply| int(reply) == Some(1)).collect()
}

impl Claim {
    pub(super) fn new(rest: String) -> Self {
        Self {
            rest,
            there: None,
            feedback: None,
        }
    }
}

/// What is at the key of a prediction.
pub(super) enum Found {
    Nothing,
    /// An event at this offset claimed it, and did not write it.
    Claimed(u64),
    Of(EntityId, Box<There>),
}

pub(super) async fn there(
    rests: impl Iterator<Item = String>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<Vec<Found>, RedisError> {
    let rests: Vec<String> = rests.collect();
    let commands = rests.iter().map(|rest| {
        let mut command = command("HMGET", &batches.keys.prediction(rest));
        command.arg(&[
            "log_offset",
            "model_id",
            "time",
            "version_id",
            "complete",
            "omitted",
            "feedback",
        ]);
        command
    });
    let replies = server.run(made(commands)).await?;
    let mut found = Vec::with_capacity(replies.len());
    for (rest, reply) in rests.into_iter().zip(replies) {
        let fields = list(reply);
        let get = |at: usize| fields.get(at).and_then(text);
        let broken = |what: &str| RedisError::Content {
            key: batches.keys.prediction(&rest),
            what: what.into(),
        };
        let Some(offset) = get(0) else {
            found.push(Found::Nothing);
            continue;
        };
        let offset = offset.parse().map_err(|_| broken("log_offset"))?;
        let Some(model) = get(1) else {
            found.push(Found::Claimed(offset));
            continue;
        };
        let time = get(2).and_then(|time| Timestamp::parse(time).ok());
        let feedback = get(6).map(serde_json::from_str).transpose();
        let there = There {
            place: (time.ok_or_else(|| broken("time"))?.micros(), offset),
            version: get(3)
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| broken("version_id"))?,
            complete: get(4) == Some("1"),
            omitted: get(5).unwrap_or_default().to_owned(),
            feedback: feedback.map_err(|_| broken("feedback"))?,
        };
        let model = model.parse().map_err(|_| broken("model_id"))?;
        found.push(Found::Of(model, Box::new(there)));
    }
    Ok(found)
}
