//! Rows in statements of many rows, for SQLite and MySQL.
//!
//! Statements' numbers of rows are powers of two, so that a table has a handful of statements, each prepared once. Both
//! databases undo what a failed statement did, and the transaction goes on: no savepoint is needed.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join;

use super::{Conflict, Source, Table, Transaction, stretches};
use crate::connection::Arguments;
use crate::dialect::{self, Cause, Dialect, mysql, sqlite};
use crate::error::DatabaseError;

/// Puts the values of some rows together.
fn gather(dialect: Dialect, source: &impl Source, rows: Range<usize>) -> Arguments {
    let mut values = Arguments::with_room(dialect, rows.len() * source.table().columns.len());
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

/// Why rows were not written.
enum Refusal {
    /// The database does not take one of them.
    Row(String),
    Other(sqlx::Error),
}

/// Writes rows, in order.
///
/// Rows are taken to be new as long as they are. A stretch of which some are not is written again in the way that
/// merges. To its other rows that does nothing: merging a row into what became of it changes no column.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
) -> Result<Vec<Range<usize>>, DatabaseError> {
    let dialect = transaction.dialect();
    let (new, merging) = match dialect {
        Dialect::MySql => (
            mysql::insert_new as fn(&Table, usize) -> String,
            mysql::upsert as fn(&Table, usize) -> String,
        ),
        _ => (
            sqlite::insert_new as fn(&Table, usize) -> String,
            sqlite::upsert as fn(&Table, usize) -> String,
        ),
    };
    let (mut new, mut merging) = (Statement::new(new), Statement::new(merging));
    let mut short = Vec::new();
    let mut expect_new = source.table().expect_new;
    let mut stretches = stretches(source.rows()).peekable();
    let mut ahead = None;
    while let Some(stretch) = stretches.next() {
        if expect_new {
            let values = ahead
                .take()
                .unwrap_or_else(|| gather(dialect, source, stretch.clone()));
            let text = new.text(source.table(), stretch.len());
            // While the database is at work on these, the next ones are put together.
            let next = stretches.peek().cloned();
            let (written, next) = join(write_new(transaction, text, values), async {
                next.map(|rows| gather(dialect, source, rows))
            })
            .await;
            ahead = next;
            if written? == stretch.len() as u64 {
                continue;
            }
            expect_new = source.table().conflict == Conflict::Keep;
        }
        merge(transaction, source, stretch, &mut merging, &mut short).await?;
    }
    Ok(short)
}

/// Writes those of some rows that are new; answers how many these are. None may be, because of one row.
async fn write_new(
    transaction: &mut Transaction<'_>,
    text: Arc<str>,
    values: Arguments,
) -> Result<u64, DatabaseError> {
    match write(transaction, text, values).await {
        Ok(written) => Ok(written),
        Err(Refusal::Row(_)) => {
            check_open(transaction).await?;
            Ok(0)
        }
        Err(Refusal::Other(error)) => Err(DatabaseError::sql(transaction.place)(error)),
    }
}

/// Makes sure after an error that the transaction is still there. In SQLite a trigger may have ended it, and what is
/// written outside would stay, a checkpoint among it.
async fn check_open(transaction: &mut Transaction<'_>) -> Result<(), DatabaseError> {
    if transaction.dialect() != Dialect::Sqlite {
        return Ok(());
    }
    // There is no transaction within a transaction.
    match transaction.sql.raw("BEGIN").await {
        Err(_) => Ok(()),
        Ok(()) => Err(DatabaseError::Ended {
            place: transaction.place.clone(),
        }),
    }
}

/// Writes a stretch, merging, and leaves out what the database does not take.
async fn merge(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
    stretch: Range<usize>,
    statement: &mut Statement,
    short: &mut Vec<Range<usize>>,
) -> Result<(), DatabaseError> {
    let dialect = transaction.dialect();
    // MySQL counts a row that was there as it counts a new one.
    let told = dialect != Dialect::MySql;
    // Halves that are still to be written, the last one first.
    let mut waiting = vec![stretch];
    while let Some(rows) = waiting.pop() {
        let text = statement.text(source.table(), rows.len());
        let values = gather(dialect, source, rows.clone());
        match write(transaction, text, values).await {
            Ok(changed) if told && changed == rows.len() as u64 => {}
            Ok(_) => short.push(rows),
            Err(Refusal::Other(error)) => {
                return Err(DatabaseError::sql(transaction.place)(error));
            }
            Err(Refusal::Row(reason)) if rows.len() == 1 => {
                check_open(transaction).await?;
                transaction.refuse(source, rows.start, reason).await?;
                short.push(rows);
            }
            Err(Refusal::Row(_)) => {
                check_open(transaction).await?;
                let middle = rows.start + rows.len() / 2;
                waiting.push(middle..rows.end);
                waiting.push(rows.start..middle);
            }
        }
    }
    Ok(())
}

async fn write(
    transaction: &mut Transaction<'_>,
    text: Arc<str>,
    values: Arguments,
) -> Result<u64, Refusal> {
    let (bytes, max) = (text.len() + values.bytes(), transaction.habits.packet_bytes);
    if bytes > max {
        // The server would close the connection.
        return Err(Refusal::Row(format!(
            "about {bytes} bytes are more than a statement may have (max_allowed_packet is {max})"
        )));
    }
    transaction.sql.write(text, values).await.map_err(|error| {
        if dialect::cause(&error) == Cause::Row {
            Refusal::Row(error.to_string())
        } else {
            Refusal::Other(error)
        }
    })
}
