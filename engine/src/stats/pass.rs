//! One batch on its way through the fold: predictions and feedback, in the order of the log.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

use super::Statistics;
use super::join::{Answer, Feedback};
use super::observe::{Fact, Observation};
use super::version::PredictionFacts;
use crate::batch::{Floats, LoggedBatch, Table, Text, Times};
use crate::event::schema::{self, column};
use crate::event::{EntityKind, Kind};
use crate::names::{EntityId, Names};
use crate::{Offset, Timestamp};

/// How many versions may take turns before they are looked up each time.
const RECENT_VERSIONS: usize = 16;

/// Versions by name, remembering the last few: they usually take turns.
struct Versions<'a> {
    names: &'a Names,
    recent: [Option<(&'a str, Option<&'a str>, Known)>; RECENT_VERSIONS],
}

/// A model by the hash of its name, and the number of a version of it.
#[derive(Clone, Copy)]
struct Known {
    model: u64,
    version: EntityId,
}

impl<'a> Versions<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            names,
            recent: [None; RECENT_VERSIONS],
        }
    }

    fn get(&mut self, model: &'a str, version: Option<&'a str>) -> Known {
        for (known_model, known_version, known) in self.recent.iter().flatten() {
            if *known_model == model && *known_version == version {
                return *known;
            }
        }
        let id = version.and_then(|version| {
            let model = self.names.id(EntityKind::Model, model)?;
            self.names.version_id(model, version)
        });
        let known = Known {
            model: xxh3_64(model.as_bytes()).max(1),
            version: id.unwrap_or(0),
        };
        self.recent.rotate_right(1);
        self.recent[0] = Some((model, version, known));
        known
    }
}

/// One batch on its way through the fold.
pub(super) struct Pass<'a, 's> {
    statistics: &'s mut Statistics,
    batch: &'a LoggedBatch,
    versions: Versions<'a>,
    observe: &'s mut dyn FnMut(&Observation),
    text: String,
}

/// The columns of predictions that are counted, found once for all rows.
struct Predictions<'a> {
    table: &'a Table,
    model: Text<'a>,
    version: Text<'a>,
    prediction_id: Text<'a>,
    event_id: Text<'a>,
    class: Text<'a>,
    value: Floats<'a>,
    part: Text<'a>,
    error: Text<'a>,
    latency: Floats<'a>,
    confidence: Floats<'a>,
    time: Times<'a>,
}

impl<'a> Predictions<'a> {
    fn of(table: &'a Table) -> Self {
        const fn number(name: &str) -> usize {
            column(Kind::PredictionLogged, name)
        }
        Self {
            table,
            model: table.text(const { number("model") }),
            version: table.text(const { number("version") }),
            prediction_id: table.text(const { number("prediction_id") }),
            event_id: table.text(schema::ID),
            class: table.text(const { number("predicted_class") }),
            value: table.floats(const { number("predicted_value") }),
            part: table.text(const { number("part") }),
            error: table.text(const { number("error") }),
            latency: table.floats(const { number("inference_time_ms") }),
            confidence: table.floats(const { number("confidence") }),
            time: table.times(schema::TIME),
        }
    }
}

/// How many predictions are prepared together.
const AHEAD: usize = 32;

impl<'a, 's> Pass<'a, 's> {
    pub(super) fn new(
        statistics: &'s mut Statistics,
        batch: &'a LoggedBatch,
        names: &'a Names,
        observe: &'s mut dyn FnMut(&Observation),
    ) -> Self {
        Self {
            statistics,
            batch,
            versions: Versions::new(names),
            observe,
            text: String::new(),
        }
    }

    /// Counts predictions and feedback from a place in the batch on, in the order of the log.
    pub(super) fn run(mut self, skip: u32) {
        let predictions = self.batch.table(Kind::PredictionLogged);
        let predictions = predictions.map(Predictions::of);
        let feedback = self.batch.table(Kind::FeedbackLogged);
        match (predictions, feedback) {
            (Some(predictions), None) => self.predictions(&predictions, skip),
            (None, Some(table)) => {
                (0..table.rows())
                    .filter(|row| table.ord(*row) >= skip)
                    .for_each(|row| self.feedback(table, row));
            }
            (Some(predictions), Some(feedback)) => {
                let (table, mut prediction, mut answer) = (predictions.table, 0, 0);
                while prediction < table.rows() || answer < feedback.rows() {
                    let first = prediction < table.rows()
                        && (answer == feedback.rows()
                            || table.ord(prediction) < feedback.ord(answer));
                    if first {
                        if table.ord(prediction) >= skip {
                            let id = self.id(&predictions, prediction);
                            self.prediction(&predictions, prediction, id);
                        }
                        prediction += 1;
                    } else {
                        if feedback.ord(answer) >= skip {
                            self.feedback(feedback, answer);
                        }
                        answer += 1;
                    }
                }
            }
            (None, None) => {}
        }
    }

    fn predictions(&mut self, predictions: &Predictions<'a>, skip: u32) {
        let table = predictions.table;
        let mut ids = [0; AHEAD];
        for start in (0..table.rows()).step_by(AHEAD) {
            let rows = start..table.rows().min(start + AHEAD);
            for (id, row) in ids.iter_mut().zip(rows.clone()) {
                *id = self.id(predictions, row);
            }
            self.statistics.window.approach(&ids[..rows.len()]);
            for (id, row) in ids.into_iter().zip(rows) {
                if table.ord(row) >= skip {
                    self.prediction(predictions, row, id);
                }
            }
        }
    }

    /// The hash of a prediction's id; one without an id is known by its offset.
    fn id(&mut self, predictions: &Predictions<'a>, row: usize) -> u64 {
        let id = predictions.prediction_id.get(row);
        if let Some(id) = id.or_else(|| predictions.event_id.get(row)) {
            return xxh3_64(id.as_bytes());
        }
        let offset = self.offset(predictions.table, row);
        self.text.clear();
        write!(self.text, "{offset}").expect("a string takes all text");
        xxh3_64(self.text.as_bytes())
    }

    fn offset(&self, table: &Table, row: usize) -> Offset {
        self.batch.first_offset.advance(table.ord(row).into())
    }

    fn prediction(&mut self, predictions: &Predictions<'a>, row: usize, id: u64) {
        let Some(model) = predictions.model.get(row) else {
            return;
        };
        let known = self.versions.get(model, predictions.version.get(row));
        let offset = self.offset(predictions.table, row);
        let time = predictions.time.get(row).unwrap_or(self.batch.append_time);
        let totals = &mut self.statistics.totals;
        let entry = self.statistics.window.entry(id, known.model);
        if !entry.seen && entry.answer.is_some() {
            totals.feedback_unmatched -= 1;
        }
        entry.seen = true;
        let complete = predictions.part.get(row) != Some("request");
        // A request does not know which version answered it.
        if complete || !entry.counted {
            entry.version = known.version;
        }
        entry.class = predictions
            .class
            .get(row)
            .map(|class| xxh3_64(class.as_bytes()))
            .or(entry.class);
        entry.value = predictions.value.get(row).or(entry.value);
        let counts = complete && !entry.counted;
        entry.counted |= complete;
        if entry.answer.is_some() {
            self.relabel(id, known.model, (offset, time));
        }
        if counts && known.version != 0 {
            let facts = PredictionFacts {
                time,
                is_error: predictions.error.get(row).is_some(),
                latency_ms: predictions.latency.get(row),
                confidence: predictions.confidence.get(row),
            };
            self.count(facts, known.version, offset);
        }
    }

    fn count(&mut self, facts: PredictionFacts, version: EntityId, offset: Offset) {
        self.statistics.totals.predictions += 1;
        self.statistics.totals.prediction_errors += u64::from(facts.is_error);
        self.statistics
            .counted(version, offset)
            .add_prediction(&facts);
        self.tell(version, (offset, facts.time), Fact::Prediction(facts));
    }

    fn tell(&mut self, version: EntityId, (offset, time): (Offset, Timestamp), fact: Fact) {
        (self.observe)(&Observation {
            version,
            offset,
            time,
            append_time: self.batch.append_time,
            fact,
        });
    }

    fn feedback(&mut self, table: &'a Table, row: usize) {
        const ID: usize = column(Kind::FeedbackLogged, "prediction_id");
        const MODEL: usize = column(Kind::FeedbackLogged, "model");
        const VERSION: usize = column(Kind::FeedbackLogged, "version");
        const CORRECT: usize = column(Kind::FeedbackLogged, "correct");
        const CLASS: usize = column(Kind::FeedbackLogged, "true_class");
        const VALUE: usize = column(Kind::FeedbackLogged, "true_value");
        let Some(id) = table.text(ID).get(row) else {
            return;
        };
        let known = match table.text(MODEL).get(row) {
            Some(model) => self.versions.get(model, table.text(VERSION).get(row)),
            None => Known {
                model: 0,
                version: 0,
            },
        };
        let offset = self.offset(table, row);
        let feedback = Feedback {
            time: self.time(table, row),
            offset,
            correct: table.booleans(CORRECT).get(row),
            class: table
                .text(CLASS)
                .get(row)
                .map(|class| xxh3_64(class.as_bytes())),
            value: table.floats(VALUE).get(row),
        };
        let id = xxh3_64(id.as_bytes());
        let totals = &mut self.statistics.totals;
        let entry = self.statistics.window.entry(id, known.model);
        if !entry.seen {
            // Counted once, however often feedback is given on it.
            totals.feedback_unmatched += u64::from(entry.answer.is_none());
            if known.version != 0 {
                entry.version = known.version;
            }
        }
        match &mut entry.answer {
            Some(answer) => {
                let old = answer.feedback;
                if (old.time, old.offset) > (feedback.time, feedback.offset) {
                    return;
                }
                answer.feedback = feedback;
            }
            None => {
                entry.answer = Some(Box::new(Answer {
                    feedback,
                    label: None,
                }));
            }
        }
        self.relabel(id, known.model, (offset, feedback.time));
    }

    /// Counts what is known of a prediction's label now, in place of what was known before. `at` is the event that changes
    /// it, and when that happened.
    fn relabel(&mut self, id: u64, model: u64, at: (Offset, Timestamp)) {
        let entry = self.statistics.window.entry(id, model);
        let label = entry.compare();
        let Some(answer) = entry.answer.as_mut().filter(|answer| answer.label != label) else {
            return;
        };
        let before = std::mem::replace(&mut answer.label, label);
        if let Some((version, label)) = before {
            self.statistics.counted(version, at.0).remove_label(&label);
        }
        if let Some((version, label)) = label {
            self.statistics.counted(version, at.0).add_label(&label);
            let replaced = before.map(|(_, replaced)| replaced);
            self.tell(version, at, Fact::Label { label, replaced });
        }
    }

    fn time(&self, table: &Table, row: usize) -> Timestamp {
        table
            .times(schema::TIME)
            .get(row)
            .unwrap_or(self.batch.append_time)
    }
}
