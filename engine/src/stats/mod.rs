//! The one fold behind every count, rate and quantile.
//!
//! It follows the log event by event and knows nothing but the log: repeated from the start, continued from a snapshot,
//! or fed with other cuts, it comes to the same state, to the bit. Stores publish what it says, with the offset it was
//! said at; nobody counts a second time.
//!
//! # What counts
//! - A prediction counts when its output or error arrives, once per (model, prediction id): at once if it is whole, with
//!   its `response` if it comes in halves. Repeats within the window of the newest [`JOIN_WINDOW`] predictions are
//!   recognised.
//! - Feedback counts for the version of its prediction; where that is not in the window, for the version the feedback
//!   names. The last by (time, offset) counts, what it replaces is taken back.
//! - Metric points are counted as logged; stores absorb exact repeats.
//!
//! # Invariants
//! T1. The state is a function of the events below [`Statistics::offset`].
//! T2. Memory is bounded by the window and the number of versions.

pub mod compare;
mod join;
mod observe;
mod sketch;
#[cfg(test)]
mod tests;
mod version;

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

pub use observe::{Fact, Observation, Observer};
pub use sketch::RELATIVE_ERROR;
pub use version::{DecodeError, LabelFacts, PredictionFacts, VersionStatistics};

use crate::batch::{LoggedBatch, Table};
use crate::event::schema::{self, column};
use crate::event::{EntityKind, Kind};
use crate::log::{Malformed, Reader, put_u64};
use crate::names::{EntityId, Names};
use crate::read::StatsTotals;
use crate::{Offset, Timestamp};
use join::{Answer, Feedback, Window};

/// How many predictions the live join remembers.
pub const JOIN_WINDOW: usize = 100_000;

/// Statistics of a log, up to an offset.
#[derive(Debug)]
pub struct Statistics {
    totals: StatsTotals,
    /// At the index `id - 1`.
    versions: Vec<Option<Box<Counted>>>,
    window: Window,
}

/// A version's statistics, and when they last changed.
#[derive(Debug, Default)]
struct Counted {
    statistics: VersionStatistics,
    changed: Offset,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            totals: StatsTotals::default(),
            versions: Vec::new(),
            window: Window::new(JOIN_WINDOW),
        }
    }
}

impl Statistics {
    /// The end of what was counted.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.totals.as_of_offset
    }

    /// Counts over everything.
    #[must_use]
    pub fn totals(&self) -> &StatsTotals {
        &self.totals
    }

    /// The statistics of a version; none if nothing was counted for it.
    #[must_use]
    pub fn version(&self, id: EntityId) -> Option<&VersionStatistics> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        self.versions
            .get(at)?
            .as_ref()
            .map(|counted| &counted.statistics)
    }

    /// Versions whose statistics an event at or behind an offset changed.
    pub fn versions_changed_since(
        &self,
        offset: Offset,
    ) -> impl Iterator<Item = (EntityId, &VersionStatistics)> {
        (1..).zip(&self.versions).filter_map(move |(id, counted)| {
            let counted = counted
                .as_ref()
                .filter(|counted| counted.changed >= offset)?;
            Some((id, &counted.statistics))
        })
    }

    /// Counts a batch, save what was counted before. `names` must know the names of the batch.
    pub fn apply(&mut self, batch: &LoggedBatch, names: &Names) {
        self.apply_observed(batch, names, &mut |_| {});
    }

    /// The same, telling what predictions and labels are counted, in the order of the log.
    pub fn apply_observed(
        &mut self,
        batch: &LoggedBatch,
        names: &Names,
        observe: &mut dyn FnMut(&Observation),
    ) {
        let skip = self.offset().since(batch.first_offset);
        if batch.end() <= self.offset() {
            return;
        }
        if skip == 0 {
            self.count_names(batch);
        }
        let skip = skip as u32;
        for table in &batch.tables {
            let rows = (0..table.rows())
                .filter(|row| table.ord(*row) >= skip)
                .count() as u64;
            match table.kind() {
                Kind::MetricLogged => self.totals.metric_points += rows,
                Kind::FeedbackLogged => self.totals.feedback += rows,
                Kind::EventRejected => self.totals.rejected += rows,
                _ => {}
            }
        }
        self.join(batch, skip, names, observe);
        self.totals.as_of_offset = batch.end();
        self.totals.events = batch.end().0;
    }

    fn count_names(&mut self, batch: &LoggedBatch) {
        for named in &batch.names {
            let total = match named.kind {
                EntityKind::Model => &mut self.totals.models,
                EntityKind::Version => &mut self.totals.versions,
                EntityKind::Dataset => &mut self.totals.datasets,
                EntityKind::Experiment => &mut self.totals.experiments,
                EntityKind::Run => &mut self.totals.runs,
            };
            *total += 1;
        }
    }

    /// Counts predictions and feedback, in the order of the log.
    fn join(
        &mut self,
        batch: &LoggedBatch,
        skip: u32,
        names: &Names,
        observe: &mut dyn FnMut(&Observation),
    ) {
        let predictions = batch.table(Kind::PredictionLogged);
        let feedback = batch.table(Kind::FeedbackLogged);
        let mut pass = Pass {
            statistics: self,
            batch,
            versions: Versions::new(names),
            observe,
            text: String::new(),
        };
        match (predictions, feedback) {
            (Some(table), None) => {
                (0..table.rows())
                    .filter(|row| table.ord(*row) >= skip)
                    .for_each(|row| pass.prediction(table, row));
            }
            (None, Some(table)) => {
                (0..table.rows())
                    .filter(|row| table.ord(*row) >= skip)
                    .for_each(|row| pass.feedback(table, row));
            }
            (Some(predictions), Some(feedback)) => {
                let (mut prediction, mut answer) = (0, 0);
                while prediction < predictions.rows() || answer < feedback.rows() {
                    let first = prediction < predictions.rows()
                        && (answer == feedback.rows()
                            || predictions.ord(prediction) < feedback.ord(answer));
                    if first {
                        if predictions.ord(prediction) >= skip {
                            pass.prediction(predictions, prediction);
                        }
                        prediction += 1;
                    } else {
                        if feedback.ord(answer) >= skip {
                            pass.feedback(feedback, answer);
                        }
                        answer += 1;
                    }
                }
            }
            (None, None) => {}
        }
    }

    fn counted(&mut self, version: EntityId, at: Offset) -> &mut VersionStatistics {
        let index = version as usize - 1;
        if index >= self.versions.len() {
            self.versions.resize_with(index + 1, || None);
        }
        let counted = self.versions[index].get_or_insert_default();
        counted.changed = at;
        &mut counted.statistics
    }

    /// The bytes of a snapshot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let totals = &self.totals;
        for number in [
            totals.as_of_offset.0,
            totals.models,
            totals.versions,
            totals.datasets,
            totals.experiments,
            totals.runs,
            totals.metric_points,
            totals.predictions,
            totals.prediction_errors,
            totals.feedback,
            totals.feedback_unmatched,
            totals.rejected,
            self.versions.len() as u64,
        ] {
            put_u64(&mut out, number);
        }
        for counted in &self.versions {
            out.push(counted.is_some().into());
            if let Some(counted) = counted {
                put_u64(&mut out, counted.changed.0);
                counted.statistics.write(&mut out);
            }
        }
        self.window.write(&mut out);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If these are other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        match Self::read(&mut reader) {
            Ok(statistics) if reader.0.is_empty() => Ok(statistics),
            _ => Err(DecodeError),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let offset = reader.u64()?;
        let totals = StatsTotals {
            events: offset,
            as_of_offset: Offset(offset),
            models: reader.u64()?,
            versions: reader.u64()?,
            datasets: reader.u64()?,
            experiments: reader.u64()?,
            runs: reader.u64()?,
            metric_points: reader.u64()?,
            predictions: reader.u64()?,
            prediction_errors: reader.u64()?,
            feedback: reader.u64()?,
            feedback_unmatched: reader.u64()?,
            rejected: reader.u64()?,
        };
        let count = reader.u64()?;
        if count > reader.0.len() as u64 {
            return Err(Malformed);
        }
        let mut versions = Vec::new();
        for _ in 0..count {
            versions.push(match reader.u8()? {
                0 => None,
                _ => Some(Box::new(Counted {
                    changed: Offset(reader.u64()?),
                    statistics: VersionStatistics::read(reader)?,
                })),
            });
        }
        Ok(Self {
            totals,
            versions,
            window: Window::read(reader, JOIN_WINDOW)?,
        })
    }
}

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
struct Pass<'a, 's> {
    statistics: &'s mut Statistics,
    batch: &'a LoggedBatch,
    versions: Versions<'a>,
    observe: &'s mut dyn FnMut(&Observation),
    text: String,
}

impl<'a> Pass<'a, '_> {
    fn prediction(&mut self, table: &'a Table, row: usize) {
        const MODEL: usize = column(Kind::PredictionLogged, "model");
        const VERSION: usize = column(Kind::PredictionLogged, "version");
        const ID: usize = column(Kind::PredictionLogged, "prediction_id");
        const CLASS: usize = column(Kind::PredictionLogged, "predicted_class");
        const VALUE: usize = column(Kind::PredictionLogged, "predicted_value");
        const PART: usize = column(Kind::PredictionLogged, "part");
        let Some(model) = table.text(MODEL).get(row) else {
            return;
        };
        let known = self.versions.get(model, table.text(VERSION).get(row));
        let offset = self.batch.first_offset.advance(table.ord(row).into());
        let id = match table
            .text(ID)
            .get(row)
            .or_else(|| table.text(schema::ID).get(row))
        {
            Some(id) => xxh3_64(id.as_bytes()),
            None => {
                self.text.clear();
                write!(self.text, "{offset}").expect("a string takes all text");
                xxh3_64(self.text.as_bytes())
            }
        };
        let totals = &mut self.statistics.totals;
        let entry = self.statistics.window.entry(id, known.model);
        if !entry.seen && entry.answer.is_some() {
            totals.feedback_unmatched -= 1;
        }
        entry.seen = true;
        entry.version = known.version;
        entry.class = table
            .text(CLASS)
            .get(row)
            .map(|class| xxh3_64(class.as_bytes()))
            .or(entry.class);
        entry.value = table.floats(VALUE).get(row).or(entry.value);
        let complete = table.text(PART).get(row) != Some("request");
        let counts = complete && !entry.counted;
        entry.counted |= complete;
        if entry.answer.is_some() {
            self.relabel(id, known.model, (offset, self.time(table, row)));
        }
        if counts && known.version != 0 {
            self.count(table, row, known.version, offset);
        }
    }

    fn count(&mut self, table: &Table, row: usize, version: EntityId, offset: Offset) {
        const ERROR: usize = column(Kind::PredictionLogged, "error");
        const LATENCY: usize = column(Kind::PredictionLogged, "inference_time_ms");
        const CONFIDENCE: usize = column(Kind::PredictionLogged, "confidence");
        let facts = PredictionFacts {
            time: self.time(table, row),
            is_error: table.has(ERROR, row),
            latency_ms: table.floats(LATENCY).get(row),
            confidence: table.floats(CONFIDENCE).get(row),
        };
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
        let offset = self.batch.first_offset.advance(table.ord(row).into());
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
