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
//! T3. What will be taken back has been counted: labels of the window in their versions, feedback that waits for its
//!     prediction in `feedback_unmatched`.

pub mod compare;
mod join;
mod observe;
mod pass;
mod sketch;
#[cfg(test)]
mod tests;
mod version;

pub use observe::{Fact, Observation, Observer};
pub use sketch::RELATIVE_ERROR;
pub use version::{DecodeError, LabelFacts, PredictionFacts, VersionStatistics};

use crate::Offset;
use crate::batch::LoggedBatch;
use crate::event::{EntityKind, Kind};
use crate::log::{Malformed, Reader, put_u64};
use crate::names::{EntityId, Names};
use crate::read::StatsTotals;
use join::Window;
use pass::Pass;

/// How many predictions the live join remembers.
pub const JOIN_WINDOW: usize = 100_000;
/// No count grows beyond this, nor does an offset.
const COUNT_MAX: u64 = i64::MAX as u64;

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
        Pass::new(self, batch, names, observe).run(skip);
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
        let versions = self.versions.len() as u64;
        for number in self.counts().into_iter().chain([versions]) {
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
        let statistics = Self {
            totals,
            versions,
            window: Window::read(reader, JOIN_WINDOW)?,
        };
        if statistics.is_consistent() {
            Ok(statistics)
        } else {
            Err(Malformed)
        }
    }

    /// The highest number of a version that it speaks of: it grows with them.
    pub(crate) fn highest_version(&self) -> EntityId {
        (self.versions.len() as EntityId).max(self.window.highest_version())
    }

    /// The totals, in the order of a snapshot.
    fn counts(&self) -> [u64; 12] {
        let totals = &self.totals;
        [
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
        ]
    }

    /// T3, so that a snapshot whose checksum is right and whose content is not cannot stop the fold later.
    fn is_consistent(&self) -> bool {
        let counted = |version: EntityId| self.version(version);
        self.counts().iter().all(|count| *count <= COUNT_MAX)
            && self
                .versions
                .iter()
                .flatten()
                .all(|counted| counted.statistics.is_countable())
            && self
                .window
                .is_consistent(self.totals.feedback_unmatched, counted)
    }
}
