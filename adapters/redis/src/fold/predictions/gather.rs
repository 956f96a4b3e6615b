//! What the events of a batch say of predictions, merged by prediction.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::schema::{self, FieldType, column};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::live::LeftIds;
use modelog_engine::names::{EntityId, Versions};
use modelog_engine::{Offset, Timestamp};

use super::given::{Feedback, Given};
use super::sieve::Sieve;
use super::{Memory, Place, PredictionKey};
use crate::fold::Batches;
use crate::hash::float;

/// What the events of a batch say of a prediction.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    /// The place of the first of them.
    pub(super) place: Place,
    pub(super) append_time: Timestamp,
    pub(super) version: EntityId,
    /// The version a whole prediction or a response named last.
    pub(super) complete_version: Option<EntityId>,
    /// With those of the schema.
    pub(super) fields: Vec<(&'static str, Cow<'a, str>)>,
    /// JSON fields that are too large.
    pub(super) omitted: BTreeSet<&'static str>,
}

impl<'a> Merged<'a> {
    pub(super) fn version(&self) -> EntityId {
        self.complete_version.unwrap_or(self.version)
    }

    /// Whether there is a value of a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| *known == name)
    }

    /// Writes over what an earlier event said, if `is_first` is not.
    fn set(&mut self, name: &'static str, value: Cow<'a, str>, is_first: bool) {
        let mut known = self.fields.iter_mut();
        match known.find(|(known, _)| !is_first && *known == name) {
            Some((_, known)) => *known = value,
            None => self.fields.push((name, value)),
        }
    }
}

/// What the batches say.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// In the order of the first events about them.
    pub(super) predictions: Vec<(PredictionKey<'a>, Merged<'a>)>,
    /// By prediction id: of a model, or of any.
    pub(super) feedback: Feedback,
}

/// Puts together what stays; what goes is noted.
pub(super) fn gather<'a>(
    batches: &Batches<'a>,
    sieve: Option<&Sieve>,
    memory: &mut Memory,
) -> Gathered<'a> {
    let mut gathered = Gathered::default();
    let mut places = HashMap::new();
    let mut gone = std::mem::take(&mut memory.gone);
    for batch in batches.pending() {
        if let Some(table) = batch.table(Kind::PredictionLogged) {
            let fields = fields(table);
            each_row(batch, table, batches, |row| {
                if sieve.is_some_and(|sieve| sieve.goes(&row, memory)) {
                    gone.add(&row);
                } else {
                    gather_prediction(
                        batch,
                        table,
                        &fields,
                        row,
                        batches,
                        &mut places,
                        &mut gathered.predictions,
                    );
                }
            });
        }
        if let Some(table) = batch.table(Kind::FeedbackLogged) {
            gather_feedback(batch, table, batches, &mut gathered.feedback);
        }
    }
    memory.gone = gone;
    gathered
}

/// An event about a prediction.
pub(super) struct Row<'a> {
    number: usize,
    pub(super) offset: Offset,
    model: EntityId,
    pub(super) version: EntityId,
    id: Cow<'a, str>,
    pub(super) place: Place,
    /// Only the request was logged.
    is_request: bool,
    /// Only the response was logged.
    pub(super) is_response: bool,
}

impl Row<'_> {
    /// What its prediction is known by.
    pub(super) fn hash(&self) -> u64 {
        LeftIds::hash(self.model, &self.id)
    }
}

/// Shows the predictions of a batch that were not applied.
pub(super) fn each_row<'a>(
    batch: &'a LoggedBatch,
    table: &'a Table,
    batches: &Batches<'a>,
    mut see: impl FnMut(Row<'a>),
) {
    const MODEL: usize = column(Kind::PredictionLogged, "model");
    const VERSION: usize = column(Kind::PredictionLogged, "version");
    const ID: usize = column(Kind::PredictionLogged, "prediction_id");
    const PART: usize = column(Kind::PredictionLogged, "part");
    let (models, names) = (table.text(MODEL), table.text(VERSION));
    let (ids, event_ids) = (table.text(ID), table.text(schema::ID));
    let (parts, times) = (table.text(PART), table.times(schema::TIME));
    let mut versions = Versions::new(batches.names);
    for number in 0..table.rows() {
        let offset = batch.first_offset.advance(table.ord(number).into());
        if offset < batches.done {
            continue;
        }
        let Some(model) = models.get(number) else {
            continue;
        };
        let (Some(model), Some(version)) = versions.get(model, names.get(number)) else {
            continue;
        };
        let id = ids.get(number).or_else(|| event_ids.get(number));
        let time = times.get(number).unwrap_or(batch.append_time);
        let part = parts.get(number);
        see(Row {
            number,
            offset,
            model,
            version,
            id: id.map_or_else(|| offset.to_string().into(), Cow::Borrowed),
            place: (time.micros(), offset.0),
            is_request: part == Some("request"),
            is_response: part == Some("response"),
        });
    }
}

/// The fields of a kind that are written as they are, by column.
fn fields(table: &Table) -> Vec<(usize, &'static str, FieldType)> {
    schema::values(table.kind())
        .filter(|(column, _)| table.columns()[*column].is_some())
        .map(|(column, field)| (column, field.name, field.ty))
        .collect()
}

fn gather_prediction<'a>(
    batch: &'a LoggedBatch,
    table: &'a Table,
    fields: &[(usize, &'static str, FieldType)],
    row: Row<'a>,
    batches: &Batches<'_>,
    places: &mut HashMap<PredictionKey<'a>, usize>,
    all: &mut Vec<(PredictionKey<'a>, Merged<'a>)>,
) {
    let (number, version) = (row.number, row.version);
    let key = (row.model, row.id);
    let place = *places.entry(key.clone()).or_insert(all.len());
    let is_first = place == all.len();
    if is_first {
        let new = Merged {
            place: row.place,
            append_time: batch.append_time,
            version,
            complete_version: None,
            fields: Vec::with_capacity(fields.len()),
            omitted: BTreeSet::new(),
        };
        all.push((key, new));
    }
    let (_, merged) = &mut all[place];
    if !row.is_request {
        merged.complete_version = Some(version);
    } else if merged.complete_version.is_none() {
        merged.version = version;
    }
    merged.append_time = batch.append_time;
    for (column, name, ty) in fields {
        let value: Option<Cow<'_, str>> = match ty {
            FieldType::Int => {
                let value = table.ints(*column).get(number);
                value.map(|value| value.to_string().into())
            }
            // The sign of a zero is not kept: databases do not either.
            FieldType::Float => {
                let value = table.floats(*column).get(number);
                value.map(|value| float(value + 0.0).into())
            }
            _ => table.text(*column).get(number).map(Cow::Borrowed),
        };
        let Some(value) = value else { continue };
        let json = matches!(ty, FieldType::Json | FieldType::JsonObject);
        if json && value.len() > batches.config.payload_bytes_max {
            merged.fields.retain(|(known, _)| known != name);
            merged.omitted.insert(name);
        } else {
            merged.omitted.remove(name);
            merged.set(name, value, is_first);
        }
    }
}

fn gather_feedback(batch: &LoggedBatch, table: &Table, batches: &Batches<'_>, all: &mut Feedback) {
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
