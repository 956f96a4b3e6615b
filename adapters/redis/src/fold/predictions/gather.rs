//! What the events of a batch say of predictions, merged by prediction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use modelog_engine::Timestamp;
use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::schema::{self, FieldType, column};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::{EntityId, Versions};

use super::given::{Feedback, Given};
use super::{Place, PredictionKey};
use crate::fold::Batches;
use crate::hash::float;

/// What the events of a batch say of a prediction.
#[derive(Debug)]
pub(super) struct Merged {
    /// The place of the first of them.
    pub(super) place: Place,
    pub(super) append_time: Timestamp,
    pub(super) version: EntityId,
    /// The version a whole prediction or a response named last.
    pub(super) complete_version: Option<EntityId>,
    pub(super) fields: BTreeMap<&'static str, String>,
    /// JSON fields that are too large.
    pub(super) omitted: BTreeSet<&'static str>,
}

impl Merged {
    pub(super) fn version(&self) -> EntityId {
        self.complete_version.unwrap_or(self.version)
    }
}

/// What the batches say.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) predictions: HashMap<PredictionKey, Merged>,
    /// By prediction id: of a model, or of any.
    pub(super) feedback: Feedback,
}

pub(super) fn gather(batches: &Batches<'_>) -> Gathered {
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
pub(super) fn fields(table: &Table) -> Vec<(usize, &'static str, FieldType)> {
    schema::values(table.kind())
        .filter(|(column, _)| table.columns()[*column].is_some())
        .map(|(column, field)| (column, field.name, field.ty))
        .collect()
}

pub(super) fn gather_predictions(
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

pub(super) fn gather_feedback(
    batch: &LoggedBatch,
    table: &Table,
    batches: &Batches<'_>,
    all: &mut Feedback,
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
