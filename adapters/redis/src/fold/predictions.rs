//! Predictions and the feedback on them.
//!
//! ```text
//! rows ─▶ merged by (model, id) ─▶ those that would go at once are passed over, and the bound of their version rises
//!      ─▶ claim: HSETNX says which are new ─▶ what is there of the others ─▶ hashes, members
//!      ─▶ versions with too many: the oldest are bounded, then removed
//! ```
//!
//! A prediction has the place (time, offset) of the first event about it. Whatever comes later is written over what is
//! there, field by field, in the order of the log.
//!
//! Of a version, Redis keeps the newest by place. Everything at or below the version's bound is no longer kept: it may be
//! there in part, or not at all. Passing over and removing first raise the bound.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use modelog_engine::Timestamp;
use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::schema::{self, FieldType, column};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::{EntityId, Versions};
use redis::Value;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Batches, Writes};
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::hash::float;
use crate::keys::{decoded, encoded, member, of_member};

/// How many ids of predictions that are no longer kept are known by their hashes, while the program runs.
const PASSED_IDS_MAX: usize = 1 << 17;
/// How much feedback waits for its prediction.
const WAITING_MAX: usize = 10_000;

/// A place in the list of a version: microseconds, offset.
pub(crate) type Place = (i64, u64);

/// What is known while a connection lasts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Of each version, the highest place of predictions that are no longer kept.
    pub(crate) left: HashMap<EntityId, Place>,
    /// Prediction ids, as in keys, for which feedback waits.
    pub(crate) waiting: HashSet<String>,
    /// Predictions that were passed over or removed.
    passed: Passed,
}

/// Hashes of models and ids, the newest of them.
#[derive(Debug, Default)]
struct Passed {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Passed {
    fn add(&mut self, model: EntityId, id: &str) {
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

    fn has(&self, model: EntityId, id: &str) -> bool {
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

    fn raise(
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
    fn place(&self) -> Place {
        (self.time, self.log_offset)
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("feedback has a JSON form")
    }
}

/// A prediction by its model and id.
type PredictionKey = (EntityId, String);

/// What the events of a batch say of a prediction.
#[derive(Debug)]
struct Merged {
    /// The place of the first of them.
    place: Place,
    append_time: Timestamp,
    version: EntityId,
    /// The version a whole prediction or a response named last.
    complete_version: Option<EntityId>,
    fields: BTreeMap<&'static str, String>,
    /// JSON fields that are too large.
    omitted: BTreeSet<&'static str>,
}

/// What is in Redis of a prediction.
#[derive(Clone, Debug)]
struct There {
    place: Place,
    version: EntityId,
    complete: bool,
    omitted: String,
    feedback: Option<Given>,
}

/// Brings predictions up to date; answers which versions have new ones.
pub(crate) async fn apply(
    batches: Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<BTreeSet<EntityId>, RedisError> {
    let Gathered {
        mut predictions,
        feedback,
    } = gather(&batches);
    if predictions.is_empty() && feedback.is_empty() {
        return Ok(BTreeSet::new());
    }
    pass_over(&mut predictions, &batches, memory, server, writes).await?;
    let mut claimed = claim(&mut predictions, &batches, server).await?;
    let feedback = find(feedback, &mut claimed, &batches, server).await?;
    waiting(feedback, &mut claimed, &batches, memory, server, writes).await?;
    let mut versions = BTreeSet::new();
    for (key, claim) in &claimed {
        if let Some(new) = predictions.get(key) {
            versions.insert(write(key, new, claim, &batches, memory, writes));
        } else if let Some(given) = &claim.feedback {
            let mut hash = command("HSET", &batches.keys.prediction(&claim.rest));
            hash.arg("feedback").arg(given.json());
            writes.first.push(hash);
        }
    }
    Ok(versions)
}

/// What the batches say.
#[derive(Default)]
struct Gathered {
    predictions: HashMap<PredictionKey, Merged>,
    /// By prediction id: of a model, or of any.
    feedback: BTreeMap<String, HashMap<Option<EntityId>, Given>>,
}

fn gather(batches: &Batches<'_>) -> Gathered {
    let mut gathered = Gathered::default();
    for batch in batches.pending() {
        if let Some(table) = batch.table(Kind::PredictionLogged) {
            gather_predictions(batch, table, batches, &mut gathered.predictions);
        }
        if let Some(table) = batch.table(Kind::FeedbackLogged) {
            gather_feedback(batch, table, batches, &mut gathered.feedback);
        }
    }
    gathered
}

/// The fields of a kind that are written as they are, by column.
fn fields(table: &Table) -> Vec<(usize, &'static str, FieldType)> {
    let identifying = ["model", "version", "prediction_id", "part"];
    schema::fields(table.kind())
        .enumerate()
        .skip(schema::COMMON.len())
        .filter(|(column, field)| {
            !identifying.contains(&field.name) && table.columns()[*column].is_some()
        })
        .map(|(column, field)| (column, field.name, field.ty))
        .collect()
}

fn gather_predictions(
    batch: &LoggedBatch,
    table: &Table,
    batches: &Batches<'_>,
    all: &mut HashMap<PredictionKey, Merged>,
) {
    const MODEL: usize = column(Kind::PredictionLogged, "model");
    const VERSION: usize = column(Kind::PredictionLogged, "version");
    const ID: usize = column(Kind::PredictionLogged, "prediction_id");
    const PART: usize = column(Kind::PredictionLogged, "part");
    let fields = fields(table);
    let mut versions = Versions::new(batches.names);
    for row in 0..table.rows() {
        let offset = batch.first_offset.advance(table.ord(row).into());
        if offset < batches.done {
            continue;
        }
        let Some(model) = table.text(MODEL).get(row) else {
            continue;
        };
        let (Some(model), Some(version)) = versions.get(model, table.text(VERSION).get(row)) else {
            continue;
        };
        let id = table.text(ID).get(row);
        let id = match id.or_else(|| table.text(schema::ID).get(row)) {
            Some(id) => id.to_owned(),
            None => offset.to_string(),
        };
        let time = table.times(schema::TIME).get(row);
        let complete = table.text(PART).get(row) != Some("request");
        let merged = all.entry((model, id)).or_insert_with(|| Merged {
            place: (time.unwrap_or(batch.append_time).micros(), offset.0),
            append_time: batch.append_time,
            version,
            complete_version: None,
            fields: BTreeMap::new(),
            omitted: BTreeSet::new(),
        });
        if complete {
            merged.complete_version = Some(version);
        } else if merged.complete_version.is_none() {
            merged.version = version;
        }
        merged.append_time = batch.append_time;
        for (column, name, ty) in &fields {
            let value = match ty {
                FieldType::Int => table.ints(*column).get(row).map(|value| value.to_string()),
                // The sign of a zero is not kept: databases do not either.
                FieldType::Float => table
                    .floats(*column)
                    .get(row)
                    .map(|value| float(value + 0.0)),
                _ => table.text(*column).get(row).map(str::to_owned),
            };
            let Some(value) = value else { continue };
            let json = matches!(ty, FieldType::Json | FieldType::JsonObject);
            if json && value.len() > batches.config.payload_bytes_max {
                merged.fields.remove(name);
                merged.omitted.insert(name);
            } else {
                merged.omitted.remove(name);
                merged.fields.insert(name, value);
            }
        }
    }
}

fn gather_feedback(
    batch: &LoggedBatch,
    table: &Table,
    batches: &Batches<'_>,
    all: &mut BTreeMap<String, HashMap<Option<EntityId>, Given>>,
) {
    const fn of(name: &str) -> usize {
        column(Kind::FeedbackLogged, name)
    }
    for row in 0..table.rows() {
        let offset = batch.first_offset.advance(table.ord(row).into());
        let Some(id) = table.text(const { of("prediction_id") }).get(row) else {
            continue;
        };
        if offset < batches.done {
            continue;
        }
        let model = table.text(const { of("model") }).get(row);
        let model = match model.map(|model| batches.names.id(EntityKind::Model, model)) {
            Some(None) => continue,
            Some(Some(model)) => Some(model),
            None => None,
        };
        let text = |column| table.text(column).get(row).map(str::to_owned);
        let number = |column| {
            table
                .floats(column)
                .get(row)
                .map(|value| float(value + 0.0))
        };
        let time = table.times(schema::TIME).get(row);
        let given = Given {
            correct: table.booleans(const { of("correct") }).get(row),
            true_class: text(const { of("true_class") }),
            true_value: number(const { of("true_value") }),
            label: text(const { of("label") }),
            score: number(const { of("score") }),
            score_name: text(const { of("score_name") }),
            feedback_source: text(const { of("feedback_source") }),
            time: time.unwrap_or(batch.append_time).micros(),
            log_offset: offset.0,
        };
        match all.entry(id.to_owned()).or_default().entry(model) {
            Entry::Vacant(free) => drop(free.insert(given)),
            Entry::Occupied(mut known) if known.get().place() < given.place() => {
                known.insert(given);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// Drops predictions that would be removed at once: of a version, those that are not among the newest of this batch. One
/// that is in Redis already stays, for what comes to be merged into it.
async fn pass_over(
    predictions: &mut HashMap<PredictionKey, Merged>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let window = batches.config.predictions_window;
    let mut versions: HashMap<EntityId, Vec<Place>> = HashMap::new();
    for merged in predictions.values() {
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
    let goes = |merged: &Merged| {
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
    let mut candidates: Vec<PredictionKey> = predictions
        .iter()
        .filter(|((model, id), merged)| goes(merged) || memory.passed.has(*model, id))
        .map(|(key, _)| key.clone())
        .collect();
    candidates.sort_unstable();
    let mut commands = Commands::default();
    for (model, id) in &candidates {
        let id = encoded(id);
        commands.push(command("EXISTS", &batches.keys.prediction(&id)));
        commands.push(command(
            "EXISTS",
            &batches.keys.prediction(&format!("{id}:{model}")),
        ));
    }
    let replies = server.run(commands).await?;
    for (key, replies) in candidates.into_iter().zip(replies.chunks(2)) {
        if replies.iter().any(|reply| int(reply) == Some(1)) {
            continue;
        }
        let Some(merged) = predictions.remove(&key) else {
            continue;
        };
        memory.passed.add(key.0, &key.1);
        memory.raise(merged.version(), merged.place, batches, &mut writes.bounds);
    }
    Ok(())
}

impl Merged {
    fn version(&self) -> EntityId {
        self.complete_version.unwrap_or(self.version)
    }
}

/// A prediction that has its key.
#[derive(Debug)]
struct Claim {
    /// What follows `prediction:` in the key.
    rest: String,
    /// None if it is new.
    there: Option<Box<There>>,
    /// Later feedback than is there.
    feedback: Option<Given>,
}

/// Finds the key of each prediction, and what is there.
///
/// The plain key belongs to whoever had it first; another model with the same id has a key of its own, which is told in a
/// set beside. A key that was claimed and not written, since the program ended there, is claimed by the same event again.
async fn claim(
    predictions: &mut HashMap<PredictionKey, Merged>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<BTreeMap<PredictionKey, Claim>, RedisError> {
    let mut order: Vec<(&PredictionKey, &Merged)> = predictions.iter().collect();
    order.sort_unstable_by_key(|(_, merged)| merged.place.1);
    let mut claimed = BTreeMap::new();
    let mut owners: HashMap<&str, EntityId> = HashMap::new();
    let mut commands = Commands::default();
    for ((model, id), merged) in &order {
        let key = batches.keys.prediction(&encoded(id));
        let mut first = command("HSETNX", &key);
        first.arg("log_offset").arg(merged.place.1);
        commands.push(first);
        owners.entry(id).or_insert(*model);
    }
    let new: Vec<bool> = replies_are_one(server.run(commands).await?);
    let mut others = Vec::new();
    for ((key, merged), new) in order.iter().zip(new) {
        if new {
            claimed.insert((*key).clone(), Claim::new(encoded(&key.1)));
        } else {
            others.push((*key, *merged));
        }
    }
    let found = there(
        others.iter().map(|(key, _)| encoded(&key.1)),
        batches,
        server,
    )
    .await?;
    let mut strangers = Vec::new();
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

fn replies_are_one(replies: Vec<Value>) -> Vec<bool> {
    replies.iter().map(|reply| int(reply) == Some(1)).collect()
}

impl Claim {
    fn new(rest: String) -> Self {
        Self {
            rest,
            there: None,
            feedback: None,
        }
    }
}

/// What is at the key of a prediction.
enum Found {
    Nothing,
    /// An event at this offset claimed it, and did not write it.
    Claimed(u64),
    Of(EntityId, Box<There>),
}

async fn there(
    rests: impl Iterator<Item = String>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<Vec<Found>, RedisError> {
    let rests: Vec<String> = rests.collect();
    let mut commands = Commands::default();
    for rest in &rests {
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
        commands.push(command);
    }
    let replies = server.run(commands).await?;
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

/// Feedback by what it is about: prediction id, and model or any.
type Feedback = BTreeMap<String, HashMap<Option<EntityId>, Given>>;

/// Looks for the predictions that feedback is about, and adds those in Redis to the claimed ones.
async fn find(
    feedback: Feedback,
    claimed: &mut BTreeMap<PredictionKey, Claim>,
    batches: &Batches<'_>,
    server: &mut Connection,
) -> Result<Feedback, RedisError> {
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
    let found = there(rests.iter().map(|(_, rest)| rest.clone()), batches, server).await?;
    for ((id, rest), found) in rests.into_iter().zip(found) {
        if let Found::Of(model, there) = found {
            claimed.entry((model, id.clone())).or_insert_with(|| Claim {
                there: Some(there),
                ..Claim::new(rest)
            });
        }
    }
    for ((model, id), claim) in claimed.iter_mut() {
        let Some(given) = feedback.get(id) else {
            continue;
        };
        let of_any = given.get(&None).into_iter().chain(given.get(&Some(*model)));
        for given in of_any {
            claim.give(given);
        }
    }
    Ok(feedback)
}

impl Claim {
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
async fn waiting(
    feedback: Feedback,
    claimed: &mut BTreeMap<PredictionKey, Claim>,
    batches: &Batches<'_>,
    memory: &mut Memory,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let key = |id: &str| batches.keys.key(format_args!("feedback:{}", encoded(id)));
    let new = claimed.iter().filter(|(_, claim)| claim.there.is_none());
    let asked = new.map(|((_, id), _)| id).chain(feedback.keys());
    let asked: BTreeSet<String> = asked
        .filter(|id| memory.waiting.contains(*id))
        .cloned()
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
    for ((model, id), claim) in claimed
        .iter_mut()
        .filter(|(_, claim)| claim.there.is_none())
    {
        let of_id = waited.get(id);
        let of_model = of_id.and_then(|of_id| of_id.get(&model.to_string()));
        let of_any = of_id.and_then(|of_id| of_id.get(ANY));
        of_model
            .into_iter()
            .chain(of_any)
            .for_each(|given| claim.give(given));
    }
    for (id, given) in feedback {
        for (model, given) in given {
            // One of a model has found what it is about; one of any may concern others that are still to come.
            if model.is_some_and(|model| claimed.contains_key(&(model, id.clone()))) {
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
async fn trim_waiting(
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

/// Writes a prediction; answers which version it is of.
fn write(
    (model, id): &PredictionKey,
    new: &Merged,
    claim: &Claim,
    batches: &Batches<'_>,
    memory: &Memory,
    writes: &mut Writes,
) -> EntityId {
    let key = batches.keys.prediction(&claim.rest);
    let there = claim.there.as_ref();
    let place = there.map_or(new.place, |there| there.place);
    let version = match (new.complete_version, there) {
        (Some(version), _) => version,
        (None, Some(there)) if there.complete => there.version,
        (None, _) => new.version,
    };
    let complete = new.complete_version.is_some() || there.is_some_and(|there| there.complete);
    let mut hash = command("HSET", &key);
    if there.is_none() {
        hash.arg("prediction_id").arg(id);
        hash.arg("model_id").arg(model);
        hash.arg("model")
            .arg(name(batches, EntityKind::Model, *model));
        hash.arg("time")
            .arg(Timestamp::from_micros(place.0).to_string());
        hash.arg("log_offset").arg(place.1);
    }
    hash.arg("version_id").arg(version);
    hash.arg("version")
        .arg(name(batches, EntityKind::Version, version));
    hash.arg("complete").arg(u8::from(complete));
    for (name, value) in &new.fields {
        hash.arg(name).arg(value);
    }
    let known = there.map_or("", |there| &there.omitted).split(',');
    let mut omitted: BTreeSet<&str> = known
        .filter(|name| !name.is_empty() && !new.fields.contains_key(name))
        .collect();
    omitted.extend(&new.omitted);
    let omitted = omitted.into_iter().collect::<Vec<_>>().join(",");
    if omitted != there.map_or("", |there| &there.omitted) {
        hash.arg("omitted").arg(omitted);
    }
    if let Some(given) = &claim.feedback {
        hash.arg("feedback").arg(given.json());
    }
    writes.first.push(hash);
    if !new.omitted.is_empty() && there.is_some() {
        let mut gone = command("HDEL", &key);
        new.omitted.iter().for_each(|name| {
            gone.arg(name);
        });
        writes.first.push(gone);
    }
    if let Some(ttl) = batches.config.predictions_ttl {
        let mut expires = command("EXPIREAT", &key);
        expires.arg(new.append_time.micros() / 1_000_000 + ttl.as_secs() as i64);
        writes.first.push(expires);
    }
    let member = member(place.1, &format!(":{}", claim.rest));
    if let Some(there) = there.filter(|there| there.version != version) {
        let mut remove = command("ZREM", &batches.keys.predictions(there.version));
        remove.arg(&member);
        writes.first.push(remove);
    }
    // What lies below the bound is not kept, even if it is still there.
    if memory.left.get(&version).is_none_or(|left| place > *left) {
        let mut index = command("ZADD", &batches.keys.predictions(version));
        index.arg(place.0).arg(member);
        writes.first.push(index);
    }
    version
}

fn name(batches: &Batches<'_>, kind: EntityKind, id: EntityId) -> String {
    let name = batches.names.name(kind, id);
    name.map(|(_, name)| name.to_string()).unwrap_or_default()
}

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
            memory.raise(version, place, batches, &mut bounds);
            let (id, of_model) = rest.split_once(':').unwrap_or((rest, ""));
            memory.passed.add(model, &decoded(id).unwrap_or_default());
            gone.arg(text(&pair[0]));
            removing.push(command("UNLINK", &batches.keys.prediction(rest)));
            if !of_model.is_empty() {
                let mut models = command("SREM", &batches.keys.prediction(&format!("{id}:models")));
                models.arg(of_model);
                removing.push(models);
            }
        }
        removing.push(gone);
    }
    server.run(bounds).await?;
    server.run(removing).await?;
    Ok(())
}
