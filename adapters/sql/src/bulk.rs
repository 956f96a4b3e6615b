//! Writes many rows at a time, and finds the ones the database does not take.
//!
//! Rows go in statements of up to [`STATEMENT_ROWS`]. Their numbers of rows are powers of two, so that a table has a
//! handful of statements, each prepared once. A statement that fails because of a row is halved until the row is alone;
//! that one is left out and recorded. SQLite undoes what a failed statement did, so no savepoint is needed around it; a
//! dialect that gives up the transaction instead would set one here.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join;
use modelog_engine::Offset;
use sqlx::{AssertSqlSafe, Sqlite};

use crate::dialect::{self, Cause, Rows};
use crate::error::DatabaseError;

/// The most rows of a statement: beyond, a row costs no less.
const STATEMENT_ROWS: usize = 128;
/// The most rows that may be refused in a transaction; more means that something else is wrong than rows.
pub(crate) const REFUSED_MAX: u32 = 100;

/// A value on its way into a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    /// Finite.
    Float(f64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<Offset> for Value<'_> {
    fn from(offset: Offset) -> Self {
        count(offset.0)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A count or offset: SQL knows signed integers only, and no log will ever be that long.
pub(crate) fn count(value: u64) -> Value<'static> {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A number, where it is finite.
pub(crate) fn finite(value: f64) -> Value<'static> {
    if value.is_finite() {
        Value::Float(value)
    } else {
        Value::Null
    }
}

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
    /// The row's values, one for each column of the table.
    fn values(&self, row: usize, values: &mut Rows);
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

    fn values(&self, row: usize, values: &mut Rows) {
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

/// Puts the values of some rows together.
fn gather(source: &impl Source, rows: Range<usize>) -> Rows {
    let mut values = Rows::with_room(rows.len() * source.table().columns.len());
    rows.for_each(|row| source.values(row, &mut values));
    values
}

/// A statement for the number of rows it was last needed for.
struct Statement {
    write: fn(&Table, usize) -> String,
    rows: usize,
    text: Arc<str>,
}

impl Statement {
    fn new(write: fn(&Table, usize) -> String) -> Self {
        Self {
            write,
            rows: 0,
            text: "".into(),
        }
    }

    fn text(&mut self, table: &Table, rows: usize) -> Arc<str> {
        if rows != self.rows {
            (self.rows, self.text) = (rows, (self.write)(table, rows).into());
        }
        Arc::clone(&self.text)
    }
}

/// The transaction in which batches are applied.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    pub(crate) sql: sqlx::Transaction<'c, Sqlite>,
    pub(crate) path: &'c Path,
    refused: u32,
}

impl<'c> Transaction<'c> {
    pub(crate) fn new(sql: sqlx::Transaction<'c, Sqlite>, path: &'c Path) -> Self {
        Self {
            sql,
            path,
            refused: 0,
        }
    }

    /// Writes rows, in order. Answers the stretches of which not every row changed the table: some were there already,
    /// or refused.
    ///
    /// Rows are taken to be new as long as they are. A stretch of which some are not is written again in the way that
    /// merges. To its other rows that does nothing: merging a row into what became of it changes no column.
    pub(crate) async fn load(
        &mut self,
        source: &impl Source,
    ) -> Result<Vec<Range<usize>>, DatabaseError> {
        let mut short = Vec::new();
        let mut new = Statement::new(dialect::insert_new);
        let mut merging = Statement::new(dialect::upsert);
        let mut expect_new = source.table().expect_new;
        let mut stretches = stretches(source.rows()).peekable();
        let mut ahead = None;
        while let Some(stretch) = stretches.next() {
            if expect_new {
                let values = ahead
                    .take()
                    .unwrap_or_else(|| gather(source, stretch.clone()));
                let text = new.text(source.table(), stretch.len());
                // While the database is at work on these, the next ones are put together.
                let next = stretches.peek().cloned();
                let (written, next) = join(self.write_new(text, values), async {
                    next.map(|rows| gather(source, rows))
                })
                .await;
                ahead = next;
                if written? == stretch.len() as u64 {
                    continue;
                }
                expect_new = source.table().conflict == Conflict::Keep;
            }
            self.merge(source, stretch, &mut merging, &mut short)
                .await?;
        }
        Ok(short)
    }

    /// Writes those of some rows that are new; answers how many these are. None may be, because of one row.
    async fn write_new(&mut self, text: Arc<str>, values: Rows) -> Result<u64, DatabaseError> {
        match self.write(text, values).await {
            Err(error) if dialect::cause(&error) == Cause::Row => {
                self.check_open().await?;
                Ok(0)
            }
            written => written.map_err(DatabaseError::sql(self.path)),
        }
    }

    /// Makes sure after an error that the transaction is still there. A trigger may have ended it, and what is written
    /// outside would stay, a checkpoint among it.
    async fn check_open(&mut self) -> Result<(), DatabaseError> {
        // There is no transaction within a transaction.
        match sqlx::query("BEGIN").execute(&mut *self.sql).await {
            Err(_) => Ok(()),
            Ok(_) => Err(DatabaseError::Ended {
                path: self.path.into(),
            }),
        }
    }

    /// Writes a stretch, merging, and leaves out what the database does not take.
    async fn merge(
        &mut self,
        source: &impl Source,
        stretch: Range<usize>,
        statement: &mut Statement,
        short: &mut Vec<Range<usize>>,
    ) -> Result<(), DatabaseError> {
        // Halves that are still to be written, the last one first.
        let mut waiting = vec![stretch];
        while let Some(rows) = waiting.pop() {
            let text = statement.text(source.table(), rows.len());
            match self.write(text, gather(source, rows.clone())).await {
                Ok(changed) if changed == rows.len() as u64 => {}
                Ok(_) => short.push(rows),
                Err(error) if dialect::cause(&error) != Cause::Row => {
                    return Err(DatabaseError::sql(self.path)(error));
                }
                Err(error) if rows.len() == 1 => {
                    self.check_open().await?;
                    self.refuse(source, rows.start, &error).await?;
                    short.push(rows);
                }
                Err(_) => {
                    self.check_open().await?;
                    let middle = rows.start + rows.len() / 2;
                    waiting.push(middle..rows.end);
                    waiting.push(rows.start..middle);
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, text: Arc<str>, values: Rows) -> Result<u64, sqlx::Error> {
        let done = sqlx::query_with(AssertSqlSafe(text), values.into_arguments())
            .execute(&mut *self.sql)
            .await?;
        Ok(done.rows_affected())
    }

    async fn refuse(
        &mut self,
        source: &impl Source,
        row: usize,
        error: &sqlx::Error,
    ) -> Result<(), DatabaseError> {
        let (table, offset) = (source.table().name, source.offset(row));
        self.refused += 1;
        if self.refused > REFUSED_MAX {
            return Err(DatabaseError::TooManyRefused {
                path: self.path.into(),
                table,
                max: REFUSED_MAX,
                reason: error.to_string(),
            });
        }
        tracing::warn!(table, %offset, reason = %error, "the database refused a row");
        sqlx::query("INSERT INTO rejected_rows (table_name, reason, log_offset) VALUES (?, ?, ?)")
            .bind(table)
            .bind(error.to_string())
            .bind(offset.0 as i64)
            .execute(&mut *self.sql)
            .await
            .map_err(DatabaseError::sql(self.path))?;
        Ok(())
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
