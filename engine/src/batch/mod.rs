//! Events moved together, as columns.
//!
//! ```text
//! formats ─▶ EventBatchBuilder ─▶ EventBatch ─▶ log ─▶ LoggedBatch ─▶ projections, readers
//!            growing vectors      no offset yet        Arrow arrays, first offset, append time
//! ```
//!
//! Within a batch the events of one kind lie together in a [`Table`]; `ord`, an event's place in the batch, keeps the
//! total order: `offset = first_offset + ord`.

mod builder;
mod column;
mod filter;
mod identity;
mod row;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use builder::{EventBatchBuilder, RowWriter};
pub use filter::{Filter, KindFilter, Kinds};
pub use identity::Identity;
pub use row::{Row, non_finite};
pub use table::{Booleans, Bytes, Floats, Ints, Table, TableError, Text, Times};

use crate::event::{Event, FieldError, Kind};
use crate::names::NamedEntity;
use crate::origin::Origin;
use crate::{Offset, Timestamp};

/// Events on their way into a log, with their origins.
#[derive(Debug)]
pub struct EventBatch {
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// From builders; small ones are joined with others before they become arrays.
    Built(EventBatchBuilder),
    /// From a producer's arrays.
    Arrays {
        tables: Vec<Table>,
        origins: Vec<Origin>,
        rows: u32,
    },
}

/// A batch taken apart for the log.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) tables: Vec<Table>,
    /// By `ord`.
    pub(crate) identities: Vec<Identity>,
    pub(crate) origins: Vec<Origin>,
}

impl EventBatch {
    pub(crate) fn from_builder(builder: EventBatchBuilder) -> Self {
        Self {
            content: Content::Built(builder),
        }
    }

    /// One kind's events, as arrays.
    #[must_use]
    pub fn from_table(table: Table) -> Self {
        let rows = table.rows() as u32;
        Self {
            content: Content::Arrays {
                tables: vec![table],
                origins: Vec::new(),
                rows,
            },
        }
    }

    /// Events as values.
    ///
    /// # Errors
    /// The first field whose value is refused.
    pub fn from_events<'a>(
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Self, FieldError> {
        let mut builder = EventBatchBuilder::new();
        for event in events {
            builder.push(event)?;
        }
        Ok(builder.finish())
    }

    /// How many events there are.
    #[must_use]
    pub fn rows(&self) -> u32 {
        match &self.content {
            Content::Built(builder) => builder.rows(),
            Content::Arrays { rows, .. } => *rows,
        }
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// About how many bytes the values take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Built(builder) => builder.bytes(),
            Content::Arrays { tables, .. } => tables
                .iter()
                .flat_map(|table| table.columns().iter().flatten())
                .map(arrow_array::Array::get_buffer_memory_size)
                .sum(),
        }
    }

    /// Says where the events came from, and with which positions.
    pub fn add_origin(&mut self, origin: Origin) {
        match &mut self.content {
            Content::Built(builder) => builder.add_origin(origin),
            Content::Arrays { origins, .. } => origins.push(origin),
        }
    }

    /// Where the events came from.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        match &self.content {
            Content::Built(builder) => builder.origins(),
            Content::Arrays { origins, .. } => origins,
        }
    }

    pub(crate) fn origins_mut(&mut self) -> &mut Vec<Origin> {
        match &mut self.content {
            Content::Built(builder) => builder.origins_mut(),
            Content::Arrays { origins, .. } => origins,
        }
    }

    /// How many of the events are records of rejected ones.
    #[must_use]
    pub fn rejected(&self) -> u32 {
        self.rows_of(Kind::EventRejected) as u32
    }

    /// Whether there are events of a kind.
    pub(crate) fn holds(&self, kind: Kind) -> bool {
        self.rows_of(kind) > 0
    }

    fn rows_of(&self, kind: Kind) -> usize {
        match &self.content {
            Content::Built(builder) => builder.rows_of(kind),
            Content::Arrays { tables, .. } => tables
                .iter()
                .filter(|table| table.kind() == kind)
                .map(Table::rows)
                .sum(),
        }
    }

    /// The batch as a log would hold it at a place, its events without numbers for their names: for tests and tools
    /// that have no log.
    #[must_use]
    pub fn into_logged(self, first_offset: Offset, append_time: Timestamp) -> LoggedBatch {
        let rows = self.rows();
        let parts = self.into_parts();
        LoggedBatch {
            first_offset,
            rows,
            append_time,
            epoch: 0,
            names: Vec::new(),
            origins: parts.origins,
            tables: parts.tables,
        }
    }

    pub(crate) fn into_parts(self) -> Parts {
        match self.content {
            Content::Built(builder) => {
                let (tables, identities, origins) = builder.into_parts();
                Parts {
                    tables,
                    identities,
                    origins,
                }
            }
            Content::Arrays {
                tables, origins, ..
            } => {
                let mut identities: Vec<_> = tables
                    .iter()
                    .flat_map(|table| table.identities(None))
                    .collect();
                identities.sort_by_key(|identity| identity.ord);
                Parts {
                    tables,
                    identities,
                    origins,
                }
            }
        }
    }
}

/// A batch in the log: durable, with its place and time.
#[derive(Clone, Debug)]
pub struct LoggedBatch {
    /// Offset of the first event; the next batch starts at [`end`](Self::end).
    pub first_offset: Offset,
    /// How many events there are.
    pub rows: u32,
    /// When the log took it; never less than that of the batch before.
    pub append_time: Timestamp,
    /// The stretch of history it belongs to.
    pub epoch: u32,
    /// Names that were given numbers with this batch.
    pub names: Vec<NamedEntity>,
    pub origins: Vec<Origin>,
    /// The events, by kind.
    pub tables: Vec<Table>,
}

impl LoggedBatch {
    /// The offset after the last event.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first_offset.advance(self.rows.into())
    }

    /// The events of one kind.
    #[must_use]
    pub fn table(&self, kind: Kind) -> Option<&Table> {
        self.tables.iter().find(|table| table.kind() == kind)
    }

    /// All events in log order.
    #[must_use]
    pub fn in_order(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<_> = self
            .tables
            .iter()
            .flat_map(|table| {
                (0..table.rows()).map(move |row| Row {
                    batch: self,
                    table,
                    row,
                })
            })
            .collect();
        if self.tables.len() > 1 {
            rows.sort_by_key(|row| row.table.ord(row.row));
        }
        rows
    }

    /// The events of one table, in log order.
    pub fn rows_of<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = Row<'a>> {
        (0..table.rows()).map(move |row| Row {
            batch: self,
            table,
            row,
        })
    }

    /// One event, given its table and place there: for those who do not take all rows in one go.
    #[must_use]
    pub fn row<'a>(&'a self, table: &'a Table, row: usize) -> Row<'a> {
        Row {
            batch: self,
            table,
            row,
        }
    }

    /// The rows from an offset up to another. Origins that do not lie among them whole are left out, names are all kept.
    pub(crate) fn between(&self, from: Offset, until: Offset) -> Self {
        let first = from.max(self.first_offset);
        let skipped = first.since(self.first_offset) as u32;
        let end = until.since(self.first_offset) as u32;
        let tables = self.tables.iter().filter_map(|table| {
            let (mut rows, mut ords) = (Vec::new(), Vec::new());
            for row in 0..table.rows() {
                let ord = table.ord(row);
                if (skipped..end).contains(&ord) {
                    rows.push(row as u32);
                    ords.push(ord - skipped);
                }
            }
            (!rows.is_empty()).then(|| table.take(&rows, ords))
        });
        let origins = self
            .origins
            .iter()
            .filter(|origin| origin.first_ord >= skipped && origin.first_ord + origin.rows <= end)
            .map(|origin| Origin {
                first_ord: origin.first_ord - skipped,
                ..origin.clone()
            });
        Self {
            first_offset: first,
            rows: end - skipped,
            origins: origins.collect(),
            tables: tables.collect(),
            names: self.names.clone(),
            append_time: self.append_time,
            epoch: self.epoch,
        }
    }

    /// About how many bytes it holds in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables
            .iter()
            .flat_map(|table| table.columns().iter().flatten())
            .map(arrow_array::Array::get_buffer_memory_size)
            .sum()
    }
}
