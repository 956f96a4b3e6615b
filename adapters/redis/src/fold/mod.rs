//! What a batch changes in Redis.
//!
//! ```text
//! gather: what the events are about ─▶ read: what is there ─▶ fold ─▶ write
//!                                                              what is no longer kept    before all
//!                                                              members, indices, names   first
//!                                                              hashes that say how far   then
//! ```
//!
//! Entities and series are made from what was there and say up to which event they are made, so a batch that comes again
//! passes them by. What hangs on them in other keys is written whatever they say: it follows from what they hold.

pub(crate) mod entities;
pub(crate) mod feed;
pub(crate) mod predictions;
pub(crate) mod series;
pub(crate) mod statistics;

use std::sync::Arc;

use modelog_engine::Offset;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::names::Names;

use crate::config::RedisConfig;
use crate::connection::Commands;
use crate::keys::Keys;

/// Batches to apply, save what was applied before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batches<'a> {
    pub(crate) all: &'a [Arc<LoggedBatch>],
    /// Events below this were applied before.
    pub(crate) done: Offset,
    pub(crate) names: &'a Names,
    pub(crate) keys: &'a Keys,
    pub(crate) config: &'a RedisConfig,
}

impl<'a> Batches<'a> {
    /// Batches with events that were not applied.
    pub(crate) fn pending(self) -> impl Iterator<Item = &'a LoggedBatch> {
        let done = self.done;
        let all = self.all.iter().map(Arc::as_ref);
        all.filter(move |batch| batch.end() > done)
    }
}

/// What is to be written, in the order in which it must be.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// What is no longer kept, before it goes.
    pub(crate) bounds: Commands,
    /// Members, indices and whatever else follows from the hashes.
    pub(crate) first: Commands,
    /// Hashes that say up to which event they are made.
    pub(crate) then: Commands,
}
