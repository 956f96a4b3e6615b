//! The keys of predictions: whose each is, and what is there.

use modelog_engine::Timestamp;
use modelog_engine::names::EntityId;
use redis::{Cmd, Value};

use super::gather::Merged;
use super::given::Given;
use super::{Memory, Place, PredictionKey, SHARED};
use crate::connection::{Connection, command, int, list, made, text};
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
pub(super) struct Claim<'a> {
    pub(super) key: PredictionKey<'a>,
    /// What events say of it; none if there is feedback on it alone.
    pub(super) new: Option<Merged<'a>>,
    /// What follows `prediction:` in the key.
    pub(super) rest: String,
    /// None if it is new.
    pub(super) there: Option<Box<There>>,
    /// Later feedback than is there.
    pub(super) feedback: Option<Given>,
}

impl<'a> Claim<'a> {
    fn new(key: PredictionKey<'a>, new: Merged<'a>) -> Self {
        Self {
            rest: encoded(&key.1),
            key,
            new: Some(new),
            there: None,
            feedback: None,
        }
    }

    /// One that is in Redis, and on which there is feedback.
    pub(super) fn of_feedback(key: PredictionKey<'a>, rest: String, there: Box<There>) -> Self {
        Self {
            key,
            new: None,
            rest,
            there: Some(there),
            feedback: None,
        }
    }

    /// The key that a prediction has beside another model's with the same id.
    fn own_rest(&self) -> String {
        format!("{}:{}", encoded(&self.key.1), self.key.0)
    }

    /// The offset of the event that claims it.
    fn offset(&self) -> u64 {
        self.new.as_ref().map_or(0, |new| new.place.1)
    }

    /// What claims a key for it.
    fn claims(&self, rest: &str, batches: &Batches<'_>) -> Cmd {
        let mut first = command("HSETNX", &batches.keys.prediction(rest));
        first.arg("log_offset").arg(self.offset());
        first
    }

    /// Takes what is there, unless it is of this very event.
    fn finds(&mut self, there: Box<There>) {
        self.there = Some(there).filter(|there| there.place.1 != self.offset());
    }
}

/// Finds the key of each prediction, and what is there.
///
/// The plain key belongs to whoever had it first; another model with the same id has a key of its own, which is told in a
/// set beside, and keeps it when the plain one becomes free. A key that was claimed and not written, since the program ended
/// there, is claimed by the same event again.
pub(super) async fn claim<'a>(
    predictions: Vec<(PredictionKey<'a>, Merged<'a>)>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
) -> Result<Vec<Claim<'a>>, RedisError> {
    let claims = predictions.into_iter();
    let mut claims: Vec<Claim<'a>> = claims.map(|(key, new)| Claim::new(key, new)).collect();
    let mut plain: Vec<usize> = (0..claims.len()).collect();
    let mut strangers = Vec::new();
    if memory.shared {
        let commands = claims.iter().map(|claim| {
            let own = batches.keys.prediction(&claim.own_rest());
            command("EXISTS", &own)
        });
        let own = replies_are_one(server.run(made(commands)).await?);
        (strangers, plain) = plain.into_iter().partition(|at| own[*at]);
    }
    let commands = plain.iter().map(|at| {
        let claim = &claims[*at];
        claim.claims(&claim.rest, batches)
    });
    let new = replies_are_one(server.run(made(commands)).await?);
    let others = plain.into_iter().zip(new).filter(|(_, new)| !new);
    let others: Vec<usize> = others.map(|(at, _)| at).collect();
    let rests = others.iter().map(|at| claims[*at].rest.clone());
    let found = there(rests.collect(), batches, server).await?;
    for (at, found) in others.into_iter().zip(found) {
        let claim = &mut claims[at];
        match found {
            // Claimed by this very event, and never written.
            Found::Claimed(offset) if offset == claim.offset() => {}
            Found::Of(model, there) if model == claim.key.0 => claim.finds(there),
            _ => strangers.push(at),
        }
    }
    if strangers.is_empty() {
        return Ok(claims);
    }
    if !memory.shared {
        let mut shared = command("HSET", &batches.keys.checkpoint());
        shared.arg(SHARED).arg(1);
        server.one(shared).await?;
        memory.shared = true;
    }
    let commands = strangers.iter().flat_map(|at| {
        let claim = &claims[*at];
        let models = format!("{}:models", claim.rest);
        let mut told = command("SADD", &batches.keys.prediction(&models));
        told.arg(claim.key.0);
        [claim.claims(&claim.own_rest(), batches), told]
    });
    let replies = server.run(made(commands)).await?;
    let rests = strangers.iter().map(|at| claims[*at].own_rest());
    let found = there(rests.collect(), batches, server).await?;
    for ((at, new), found) in strangers.into_iter().zip(replies.chunks(2)).zip(found) {
        let claim = &mut claims[at];
        claim.rest = claim.own_rest();
        if let Found::Of(_, there) = found
            && int(&new[0]) != Some(1)
        {
            claim.finds(there);
        }
    }
    Ok(claims)
}

pub(super) fn replies_are_one(replies: Vec<Value>) -> Vec<bool> {
    replies.iter().map(|reply| int(reply) == Some(1)).collect()
}

/// What is at the key of a prediction.
pub(super) enum Found {
    Nothing,
    /// An event at this offset claimed it, and did not write it.
    Claimed(u64),
    Of(EntityId, Box<There>),
}

pub(super) async fn there(
    rests: Vec<String>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<Vec<Found>, RedisError> {
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
