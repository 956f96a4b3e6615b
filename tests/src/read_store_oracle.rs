//! A plain fold of the log, held in memory, that answers the read contract: slow, short, and written apart from every
//! store, so that a store and this agree only if both understood the events.
//!
//! It keeps everything, scans for every answer and pages by keys it remembers. It is a [`Projection`] and a
//! [`ReadStore`](modelog_engine::read::ReadStore) itself: the contract suite runs against it like against any store.

mod answers;
mod fold;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Offset};

use crate::read_store::{Factory, Subject};
use fold::State;

/// The oracle; clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    state: Arc<Mutex<State>>,
    /// What was given out as `c0`, `c1`, …: the list, and the last item of a page of it.
    cursors: Arc<Mutex<Vec<(String, SortKey)>>>,
}

/// Where an item stands in its list.
type SortKey = (i128, String, i128);

impl Oracle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursors(&self) -> MutexGuard<'_, Vec<(String, SortKey)>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_cursor(&self, list: String, after: SortKey) -> String {
        let mut cursors = self.cursors();
        cursors.push((list, after));
        format!("c{}", cursors.len() - 1)
    }

    fn cursor(&self, list: &str, cursor: &str) -> Option<SortKey> {
        let number: usize = cursor.strip_prefix('c')?.parse().ok()?;
        let cursors = self.cursors();
        let (given_for, after) = cursors.get(number)?;
        (given_for == list).then(|| after.clone())
    }
}

#[async_trait]
impl Projection for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn fold_version(&self) -> u32 {
        1
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(self.state().checkpoint)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let mut state = self.state();
        let done = state.checkpoint.map_or(Offset::ZERO, |found| found.offset);
        for batch in batches {
            for named in &batch.names {
                state.name(named);
            }
            for row in batch.in_order() {
                if row.offset() >= done {
                    state.event(row);
                }
            }
        }
        view.statistics.with(|statistics| state.publish(statistics));
        state.checkpoint = Some(to);
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        *self.state() = State::default();
        Ok(())
    }
}

/// Makes oracles.
#[derive(Clone, Copy, Debug)]
pub struct OracleFactory;

#[async_trait]
impl Factory for OracleFactory {
    async fn subject(&self) -> Subject {
        let oracle = Oracle::default();
        Subject {
            projection: Box::new(oracle.clone()),
            reads: Arc::new(oracle),
            guard: Box::new(()),
        }
    }
}
