//! Feedback: what it says, how it finds its prediction, and how it waits for one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use modelog_engine::names::EntityId;
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Found, there};
use super::{Memory, Place, PredictionKey};
use crate::connection::{Commands, Connection, command, list, text};
use crate::error::RedisError;
use crate::fold::{Batches, Writes};
use crate::keys::encoded;

/// How much feedback waits for its prediction.
const WAITING_MAX: usize = 10_000;

/// Feedback as it was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) correct: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) true_class: Option<String>,
    /// A number as text, since it may be none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) true_value: Option<String>,
    /// JSON as text, so that it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) score: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) score_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) feedback_source: Option<String>,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) log_offset: u64,
}

impl Given {
    pub(super) fn place(&self) -> Place {
        (self.time, self.log_offset)
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("feedback has a JSON form")
    }
}

/// Feedback by what it is about: prediction id, and model or any.
pub(super) type Feedback = BTreeMap<String, HashMap<Option<EntityId>, Given>>;

/// Looks for the predictions that feedback is about, and adds those in Redis to the claimed ones.
pub(super) async fn find(
    feedback: &Feedback,
    claims: &mut Vec<Claim<'_>>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<(), RedisError> {
    if feedback.is_empty() {
        return Ok(());
    }
    let mut commands = Commands::default();
    for id in feedback.keys() {
        commands.push(command(
            "SMEMBERS",
            &batches.keys.prediction(&format!("{}:models", encoded(id))),
        ));
    }
    let models = server.run(commands).await?;
    let mut rests = Vec::new();
    for (id, models) in feedback.keys().zip(models) {
        rests.push((id, encoded(id)));
        for model in list(models) {
            let model = text(&model).unwrap_or_default();
            rests.push((id, format!("{}:{model}", encoded(id))));
        }
    }
    let asked = rests.iter().map(|(_, rest)| rest.clone());
    let found = there(asked.collect(), batches, server).await?;
    let mut known: HashSet<PredictionKey<'_>> =
        claims.iter().map(|claim| claim.key.clone()).collect();
    for ((id, rest), found) in rests.into_iter().zip(found) {
        if let Found::Of(model, there) = found {
            let key: PredictionKey<'_> = (model, id.clone().into());
            if known.insert(key.clone()) {
                claims.push(Claim::of_feedback(key, rest, there));
            }
        }
    }
    for claim in claims {
        let Some(given) = feedback.get(&*claim.key.1) else {
            continue;
        };
        let of_model = given.get(&Some(claim.key.0));
        let of_any = given.get(&None).into_iter().chain(of_model);
        for given in of_any {
            claim.give(given);
        }
    }
    Ok(())
}

impl Claim<'_> {
    /// Takes feedback, unless a later one is there.
    fn give(&mut self, given: &Given) {
        let there = self
            .there
            .as_ref()
            .and_then(|there| there.feedback.as_ref());
        let known = self.feedback.as_ref().or(there);
        if known.is_none_or(|known| known.place() < given.place()) {
            self.feedback = Some(given.clone());
        }
    }
}

/// The name of those in the hash of feedback that waits who may be of any model.
const ANY: &str = "_";

/// Gives what waited to the predictions that are new, and lets feedback wait that no prediction was found for.
pub(super) async fn waiting(
    feedback: Feedback,
    claims: &mut [Claim<'_>],
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    if feedback.is_empty() && memory.waiting.is_empty() {
        return Ok(());
    }
    let key = |id: &str| batches.keys.key(format_args!("feedback:{}", encoded(id)));
    let new = claims.iter().filter(|claim| claim.there.is_none());
    let new = new.map(|claim| &*claim.key.1);
    let asked: BTreeSet<String> = new
        .chain(feedback.keys().map(String::as_str))
        .filter(|id| memory.waiting.contains(*id))
        .map(str::to_owned)
        .collect();
    let mut commands = Commands::default();
    for id in &asked {
        commands.push(command("HGETALL", &key(id)));
    }
    let replies = server.run(commands).await?;
    let mut waited: HashMap<String, HashMap<String, Given>> = HashMap::new();
    for (id, reply) in asked.into_iter().zip(replies) {
        let mut parts = list(reply).into_iter();
        while let (Some(model), Some(given)) = (parts.next(), parts.next()) {
            let given = text(&given).and_then(|json| serde_json::from_str(json).ok());
            let (Some(model), Some(given)) = (text(&model), given) else {
                return Err(RedisError::Content {
                    key: key(&id),
                    what: "what is no feedback".into(),
                });
            };
            waited
                .entry(id.clone())
                .or_default()
                .insert(model.to_owned(), given);
        }
    }
    for claim in claims.iter_mut().filter(|claim| claim.there.is_none()) {
        let of_id = waited.get(&*claim.key.1);
        let of_model = of_id.and_then(|of_id| of_id.get(&claim.key.0.to_string()));
        let of_any = of_id.and_then(|of_id| of_id.get(ANY));
        of_model
            .into_iter()
            .chain(of_any)
            .for_each(|given| claim.give(given));
    }
    let known: HashSet<&PredictionKey<'_>> = claims.iter().map(|claim| &claim.key).collect();
    for (id, given) in feedback {
        for (model, given) in given {
            // One of a model has found what it is about; one of any may concern others that are still to come.
            if model.is_some_and(|model| known.contains(&(model, id.as_str().into()))) {
                continue;
            }
            let field = model.map_or_else(|| ANY.to_owned(), |model| model.to_string());
            let known = waited.get(&id).and_then(|of_id| of_id.get(&field));
            if known.is_some_and(|known| known.place() >= given.place()) {
                continue;
            }
            let mut waits = command("ZADD", &batches.keys.key("idx:feedback"));
            waits.arg(given.log_offset).arg(&id);
            writes.first.push(waits);
            let mut hash = command("HSET", &key(&id));
            hash.arg(field).arg(given.json());
            writes.first.push(hash);
            memory.waiting.insert(id.clone());
        }
    }
    Ok(())
}

/// Lets the oldest feedback go that waits, once there is too much of it.
pub(super) async fn trim_waiting(
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<(), RedisError> {
    if memory.waiting.len() <= WAITING_MAX + WAITING_MAX / 10 {
        return Ok(());
    }
    let index = batches.keys.key("idx:feedback");
    let mut oldest = command("ZRANGE", &index);
    oldest.arg(0).arg(memory.waiting.len() - WAITING_MAX - 1);
    let oldest = list(server.one(oldest).await?);
    let mut commands = Commands::default();
    for id in oldest.iter().filter_map(text) {
        commands.push(command(
            "UNLINK",
            &batches.keys.key(format_args!("feedback:{}", encoded(id))),
        ));
        let mut remove = command("ZREM", &index);
        remove.arg(id);
        commands.push(remove);
        memory.waiting.remove(id);
    }
    server.run(commands).await?;
    Ok(())
}
