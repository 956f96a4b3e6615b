//! What events mean for the tables.
//!
//! Events that change entities are folded in memory, in log order, to what becomes of each entity, tag and parameter;
//! facts (points, predictions, feedback) go to their tables in bulk. Both depend on the events alone: a fold over two
//! batches is the fold over the first, then over the second.

mod entities;
mod facts;
mod metrics;
mod objects;
mod runs;
pub(crate) mod statistics;

use std::sync::Arc;

use modelog_engine::batch::{LoggedBatch, Row, Table};
use modelog_engine::event::Kind;
use modelog_engine::names::Names;
use modelog_engine::{Offset, Timestamp};

use crate::bulk::Transaction;
use crate::error::DatabaseError;

/// Batches to apply, save what was applied before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batches<'a> {
    pub(crate) all: &'a [Arc<LoggedBatch>],
    /// Events below this were applied before.
    pub(crate) done: Offset,
    pub(crate) names: &'a Names,
}

impl<'a> Batches<'a> {
    /// When the log took the last of them.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.all.last().map(|batch| batch.append_time)
    }

    /// Batches with events that were not applied.
    fn pending(&self) -> impl Iterator<Item = &'a LoggedBatch> {
        let done = self.done;
        self.all
            .iter()
            .map(Arc::as_ref)
            .filter(move |batch| batch.end() > done)
    }

    /// Tables of one kind, with the batches they are in and the first row that was not applied.
    fn tables(&self, kind: Kind) -> impl Iterator<Item = (&'a LoggedBatch, &'a Table, usize)> {
        let done = self.done;
        self.pending().filter_map(move |batch| {
            let table = batch.table(kind)?;
            let skip = done.since(batch.first_offset);
            let first = (0..table.rows())
                .position(|row| u64::from(table.ord(row)) >= skip)
                .unwrap_or(table.rows());
            Some((batch, table, first))
        })
    }

    /// Events of some kinds, in log order.
    fn rows(&self, kinds: &[Kind]) -> Vec<Row<'a>> {
        let mut all = Vec::new();
        for batch in self.pending() {
            let start = all.len();
            for table in batch
                .tables
                .iter()
                .filter(|table| kinds.contains(&table.kind()))
            {
                all.extend(batch.rows_of(table).filter(|row| row.offset() >= self.done));
            }
            all[start..].sort_by_key(|row| row.offset());
        }
        all
    }
}

/// Brings the tables up to date with the batches.
pub(crate) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    entities::apply(batches, transaction).await?;
    runs::apply(batches, transaction).await?;
    objects::apply(batches, transaction).await?;
    metrics::apply(batches, transaction).await?;
    facts::apply(batches, transaction).await
}
