//! Writes many rows at a time, and finds the ones the database does not take.
//!
//! A set of rows that fails because of one is halved until that row is alone; it is left out and recorded. How rows go in
//! is the affair of `statements` (SQLite, MySQL) and `copied` (PostgreSQL).

mod copied;
mod statements;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use modelog_engine::{Checkpoint, Offset};

use crate::checkpoint;
use crate::connection::{self, Row, Statement};
use crate::dialect::Dialect;
use crate::error::{DatabaseError, Place};
use crate::value::{Sink, Value};

/// The most rows of a statement: beyond, a row costs no less.
const STATEMENT_ROWS: usize = 128;
/// The most rows that may be refused in a transaction; more means that something else is wrong than rows.
pub(crate) const REFUSED_MAX: u32 = 100;

/// A table to write to, with the columns that are given.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The columns or expressions that identify a row.
    pub(crate) key: &'static str,
    pub(crate) conflict: Conflict,
    /// Rows are mostly new.
    pub(crate) expect_new: bool,
    pub(crate) columns: Vec<(&'static str, Merge)>,
}

/// What happens to a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// What is there stays.
    Keep,
    /// Column by column.
    Merge,
}

/// What a column holds after rows were merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// What is there; for keys.
    First,
    /// What comes.
    Last,
    /// What is there, if that is not null.
    FirstGiven,
    /// What comes, if that is not null.
    LastGiven,
    /// What comes, unless only what is there is `complete`, which is another column.
    LastComplete,
    /// The greater; what comes must not be null.
    Greatest,
    /// As `LastGiven`, for a number that may be named in the `non_finite` column of its row.
    LastNumber,
    /// The names of numbers that are null because they are not finite.
    NonFinite,
}

/// Rows on their way into a table.
pub(crate) trait Source: Sync {
    fn table(&self) -> &Table;
    fn rows(&self) -> usize;
    /// The event a row stems from.
    fn offset(&self, row: usize) -> Offset;
    /// Rows of one key have one mark; those of different ones mostly differ. Asked where rows merge.
    fn mark(&self, row: usize) -> u64;
    /// The row's values, one for each column of the table.
    fn values(&self, row: usize, values: &mut dyn Sink);
}

/// Rows as values.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    table: Table,
    rows: Vec<(Offset, Vec<Value<'a>>)>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(
        name: &'static str,
        key: &'static str,
        conflict: Conflict,
        columns: impl IntoIterator<Item = (&'static str, Merge)>,
    ) -> Self {
        let columns = columns.into_iter().collect();
        Self {
            table: Table {
                name,
                key,
                conflict,
                expect_new: conflict == Conflict::Keep,
                columns,
            },
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, offset: Offset, values: Vec<Value<'a>>) {
        debug_assert_eq!(values.len(), self.table.columns.len());
        self.rows.push((offset, values));
    }
}

impl Source for Records<'_> {
    fn table(&self) -> &Table {
        &self.table
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn offset(&self, row: usize) -> Offset {
        self.rows[row].0
    }

    fn mark(&self, row: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        let columns = self.table.columns.iter().zip(&self.rows[row].1);
        let of_key = |name: &str| self.table.key.split(',').any(|key| key == name);
        for (_, value) in columns.filter(|((name, _), _)| of_key(name)) {
            match value {
                Value::Int(value) => value.hash(&mut hasher),
                Value::Text(text) => text.hash(&mut hasher),
                _ => {}
            }
        }
        hasher.finish()
    }

    fn values(&self, row: usize, values: &mut dyn Sink) {
        self.rows[row].1.iter().for_each(|value| values.push(value));
    }
}

/// Cuts `rows` into stretches whose lengths are powers of two.
pub(crate) fn stretches(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = rows - at;
        let len = STATEMENT_ROWS.min(1 << left.checked_ilog2()?);
        at += len;
        Some(at - len..at)
    })
}

/// What a connection is found to be like, from one transaction to the next.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// The most bytes a statement may have with its arguments.
    pub(crate) packet_bytes: usize,
    /// About how many bytes rows have at least that are copied.
    pub(crate) copy_bytes_least: usize,
    pub(crate) merging: copied::Merging,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            packet_bytes: usize::MAX,
            copy_bytes_least: usize::MAX,
            merging: copied::Merging::default(),
        }
    }
}

/// The transaction in which batches are applied.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    pub(crate) sql: connection::Transaction<'c>,
    pub(crate) place: &'c Place,
    habits: &'c mut Habits,
    refused: u32,
    /// How many sets of rows have waited to be merged.
    parts: i64,
}

impl<'c> Transaction<'c> {
    pub(crate) fn new(
        sql: connection::Transaction<'c>,
        place: &'c Place,
        habits: &'c mut Habits,
    ) -> Self {
        Self {
            sql,
            place,
            habits,
            refused: 0,
            parts: 0,
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.sql.dialect()
    }

    /// Writes rows, in order. Answers the stretches of which not every row is known to have changed the table: some were
    /// there already, or refused. Tables that merge are told of nothing.
    pub(crate) async fn load(
        &mut self,
        source: &impl Source,
    ) -> Result<Vec<Range<usize>>, DatabaseError> {
        if source.rows() == 0 {
            return Ok(Vec::new());
        }
        match self.dialect() {
            Dialect::Sqlite | Dialect::MySql => statements::load(self, source).await,
            Dialect::Postgres => copied::load(self, source).await,
        }
    }

    /// Executes a statement; answers how many rows it changed.
    pub(crate) async fn run(&mut self, statement: Statement) -> Result<u64, DatabaseError> {
        let done = self.sql.run(statement).await;
        done.map_err(DatabaseError::sql(self.place))
    }

    /// What `read` makes of every row of an answer.
    pub(crate) async fn all<T>(
        &mut self,
        statement: Statement,
        read: impl FnMut(&Row<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, DatabaseError> {
        let found = self.sql.all(statement, read).await;
        found.map_err(DatabaseError::sql(self.place))
    }

    /// What `read` makes of the only row of an answer, if there is one.
    pub(crate) async fn one<T>(
        &mut self,
        statement: Statement,
        read: impl FnMut(&Row<'_>) -> Result<T, sqlx::Error>,
    ) -> Result<Option<T>, DatabaseError> {
        Ok(self.all(statement, read).await?.pop())
    }

    /// Commits, with the checkpoint moved.
    pub(crate) async fn commit(mut self, to: Checkpoint) -> Result<(), DatabaseError> {
        let sql = DatabaseError::sql(self.place);
        checkpoint::write(to, &mut self.sql).await.map_err(&sql)?;
        self.sql.commit().await.map_err(&sql)
    }

    /// Records a row that the database does not take.
    async fn refuse(
        &mut self,
        source: &impl Source,
        row: usize,
        reason: String,
    ) -> Result<(), DatabaseError> {
        let (table, offset) = (source.table().name, source.offset(row));
        self.refused += 1;
        if self.refused > REFUSED_MAX {
            return Err(DatabaseError::TooManyRefused {
                place: self.place.clone(),
                table,
                max: REFUSED_MAX,
                reason,
            });
        }
        tracing::warn!(table, %offset, reason, "the database refused a row");
        const RECORD: &str =
            "INSERT INTO rejected_rows (table_name, reason, log_offset) VALUES (?, ?, ?)";
        let statement = Statement::new(&[RECORD])
            .text(table)
            .text(reason)
            .int(offset.0 as i64);
        self.run(statement).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_every_row_once_in_few_sizes() {
        for rows in [0, 1, 7, 127, 128, 129, 1000] {
            let mut at = 0;
            for stretch in stretches(rows) {
                assert_eq!(stretch.start, at);
                assert!(stretch.len().is_power_of_two() && stretch.len() <= STATEMENT_ROWS);
                at = stretch.end;
            }
            assert_eq!(at, rows);
        }
    }
}
