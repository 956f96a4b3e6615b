//! The live view: what is new, in memory, ready to be asked.
//!
//! ```text
//! log ─▶ LiveProjection ─▶ State ◀─ LiveReads ◀─ questions
//!        a fold            entities      their tags, parameters, aliases, artifacts
//!                          series        the newest points of each
//!                          predictions   the newest of each version, with feedback
//! ```
//!
//! It answers the read contract like any store, for whoever embeds the engine and has no other, and at the speed of
//! memory for whoever has one. It keeps a part of history: what does not fit leaves, oldest first, and where an answer
//! would need what has left, the answer is [`ReadError::NotKept`](crate::read::ReadError::NotKept), never a shorter list
//! or a smaller count. It begins empty whenever the program does, and follows the log from its start.
//!
//! # Invariants
//! V1. The state is that of a fold of the log up to the checkpoint, less what has left. What leaves, and when, depends on
//!     the events alone, so histories that are cut in other ways come to the same state.
//! V2. What has left is known by a bound: of a version's predictions the highest (time, offset), of a series' points the
//!     highest (step, time, offset), and a mark on what left whole. Whatever lies above the bound is there.
//! V3. Memory is bounded by the settings and by the names in the log, which the engine holds anyway.
//!
//! # What a bound cannot tell
//! A second event about a prediction that has left is told from a new prediction by a hash of its id, for a number of ids
//! that have left ([`LeftIds`]); beyond them it counts as new. Feedback that comes before its prediction waits for it
//! among a number of others (`predictions::WAITING_MAX`); a prediction whose feedback waits no more has left as it comes,
//! again for a number of ids.

mod answers;
mod entities;
mod left;
mod packed;
mod predictions;
mod series;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::LoggedBatch;
use crate::names::Names;
use crate::projection::{Projection, ProjectionError, View};
use crate::statistician::SharedStatistics;
use crate::threads::{PoisonError, RwLock};
use crate::{Checkpoint, Offset};

use entities::Entities;
pub use left::{ByItself, Hashes, LeftIds};
use predictions::Predictions;
use series::AllSeries;

/// The version of the rules by which events are folded. Nothing of an older version lives on: the view begins empty.
const FOLD_VERSION: u32 = 1;
/// The name of the projection.
const NAME: &str = "memory";

/// How much the live view keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// Predictions of each version.
    pub predictions_window: usize,
    /// Points of each series.
    pub metrics_window: usize,
    /// Memory for everything together: half of it for predictions, a quarter for series, a quarter for entities.
    pub bytes_max: usize,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            predictions_window: 10_000,
            metrics_window: 10_000,
            bytes_max: 64 << 20,
        }
    }
}

/// The live view of a log; clones share it.
#[derive(Clone, Debug)]
pub struct LiveView {
    state: Arc<RwLock<State>>,
}

impl LiveView {
    /// An empty view.
    #[must_use]
    pub fn new(config: LiveConfig) -> Self {
        Self {
            state: Arc::new(RwLock::new(State::new(config))),
        }
    }

    /// What fills it. Only one may run at a time.
    #[must_use]
    pub fn projection(&self) -> LiveProjection {
        LiveProjection { view: self.clone() }
    }

    /// What answers from it.
    #[must_use]
    pub fn reads(&self) -> LiveReads {
        LiveReads { view: self.clone() }
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|state| state.entities.bytes() + state.series.bytes() + state.predictions.bytes())
    }

    fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The projection called `memory`.
#[derive(Debug)]
pub struct LiveProjection {
    view: LiveView,
}

/// The live view as a store that answers questions.
#[derive(Clone, Debug)]
pub struct LiveReads {
    view: LiveView,
}

/// Everything the view knows.
#[derive(Debug)]
struct State {
    config: LiveConfig,
    checkpoint: Option<Checkpoint>,
    /// The log's names and its statistics, once a batch came with them.
    log: Option<(Arc<Names>, Arc<SharedStatistics>)>,
    entities: Entities,
    series: AllSeries,
    predictions: Predictions,
}

impl State {
    fn new(config: LiveConfig) -> Self {
        Self {
            config,
            checkpoint: None,
            log: None,
            entities: Entities::new(config.bytes_max / 4),
            series: AllSeries::new(config.metrics_window, config.bytes_max / 4),
            predictions: Predictions::new(config.predictions_window, config.bytes_max / 2),
        }
    }

    /// The end of what was applied.
    fn offset(&self) -> Offset {
        self.checkpoint.map_or(Offset::ZERO, |at| at.offset)
    }

    fn apply(&mut self, batch: &LoggedBatch, names: &Names) {
        let done = self.offset();
        self.entities.apply(batch, done, names);
        self.series.apply(batch, done, names);
        self.predictions.apply(batch, done, names);
    }
}

#[async_trait]
impl Projection for LiveProjection {
    fn name(&self) -> &str {
        NAME
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(self.view.with(|state| state.checkpoint))
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        // A lock for each, so that questions come between them.
        for batch in batches {
            self.view.change(|state| {
                if state.log.is_none() {
                    state.log = Some((Arc::clone(view.names), Arc::clone(view.statistics)));
                }
                if batch.end() > state.offset() {
                    state.apply(batch, view.names);
                    state.checkpoint = Some(Checkpoint {
                        epoch: batch.epoch,
                        offset: batch.end(),
                        ..to
                    });
                }
            });
        }
        self.view.change(|state| state.checkpoint = Some(to));
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.view.change(|state| *state = State::new(state.config));
        Ok(())
    }
}
