//! Read models fed by the log: the contract. `runtime` runs them.
//!
//! # Rules for every implementation
//! P1. `apply` makes the effects of its batches and the new checkpoint durable together, or in that order with effects
//!     that may be repeated.
//! P2. State depends on the events alone, not on how they were cut into batches, nor on when they were applied.
//! P3. A batch that reaches below the checkpoint has been applied up to there: those rows are skipped.
//! P4. What `thin` takes out of what is applied together changes nothing in the end.
//! P5. An outage is [`ProjectionError::Unavailable`] and will be tried again; what cannot get better by waiting is
//!     [`ProjectionError::Stopped`].

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::LoggedBatch;
use crate::names::Names;
use crate::statistician::SharedStatistics;
use crate::{Checkpoint, Offset};

/// What a projection may look up while it applies batches.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Every name the batches mention has its number here.
    pub names: &'a Arc<Names>,
    /// The engine's fold; it has reached at least the end of the batches. It goes on while nobody looks, so what is
    /// published together must come from one look.
    pub statistics: &'a Arc<SharedStatistics>,
}

/// Why a projection did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The store is away or busy. The runtime waits and tries again; nothing is lost.
    #[error("the store cannot be reached or is busy")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Only a person can help: says what is wrong and what to do.
    #[error("{reason}")]
    Stopped { reason: String },
}

/// A store that follows the log.
#[async_trait]
pub trait Projection: Send {
    /// The name by which people call it: `sql`, `redis`, …
    fn name(&self) -> &str;

    /// The version of the rules by which it folds events; a store written by another one must be rebuilt.
    fn fold_version(&self) -> u32;

    /// Whether it can be built again from the start of the log; not so if it is itself where a part of the log lies, or if
    /// its effects cannot be taken back.
    fn rebuildable(&self) -> bool {
        true
    }

    /// Opens the store, creating what is missing, and reads where it stands; `None` if it is empty.
    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError>;

    /// Where to go on once the checkpoint was found good: at it, or before it where a store may have lost what it had
    /// acknowledged.
    fn start(&mut self, checkpoint: &Checkpoint) -> Offset {
        checkpoint.offset
    }

    /// Whether it gains by having much applied at once while it is behind, since it keeps the newest alone: then batches
    /// are read ahead, and `thin` is asked in between.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Takes out of batches that will be applied together those of which nothing would stay. May be asked again, with more.
    async fn thin(
        &mut self,
        _batches: &mut Vec<Arc<LoggedBatch>>,
        _view: View<'_>,
    ) -> Result<(), ProjectionError> {
        Ok(())
    }

    /// Applies batches, which follow each other but for those that `thin` took out, and then stands at `to`.
    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError>;

    /// What is wrong with a store that takes everything all the same, such as one that throws away what it was given.
    fn degraded(&self) -> Option<String> {
        None
    }

    /// What the store does by itself while there is nothing to apply, such as finishing what is due. It ends only if that
    /// fails: then the projection is opened again. It is dropped whenever there is something to apply, and begun anew.
    async fn idle(&mut self) -> ProjectionError {
        std::future::pending().await
    }

    /// Forgets everything, so that it can be built again from the start of the log. What was found good may be shown to
    /// readers until what is built has come as far.
    async fn clear(&mut self) -> Result<(), ProjectionError>;
}
