//! Rows for PostgreSQL: few by statements of many rows, many by `COPY`.
//!
//! ```text
//! few ─▶ INSERT … VALUES … ON CONFLICT ─▶ table
//! many, all new ─▶ COPY ─▶ table
//! many that may be there ─▶ COPY ─▶ a table of the connection's own ─▶ INSERT … ON CONFLICT ─▶ table
//! ```
//!
//! An error ends what a transaction may do, so every step is within a savepoint. Rows that are mostly new go straight into
//! their table; if one was there, they all go the other way, and so do the next ones for a while.
//!
//! One statement merges a key but once, so rows that merge are sorted into rounds: the first row of each key, then the
//! second of those that have one, and so on.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::{Conflict, Source, Transaction, stretches};
use crate::connection::Arguments;
use crate::dialect::{self, Cause, Dialect, postgres};
use crate::error::DatabaseError;
use crate::value::{Sink, Value};

/// The most rows of a set that wait to be merged.
const PART_ROWS: usize = 8192;
/// How many times rows of a table go the longer way after some were not new.
const MERGING_LOADS: u32 = 16;

/// The tables whose rows are not all new these days, and how often that is assumed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merging(BTreeMap<&'static str, u32>);

impl Merging {
    /// Whether the next rows of a table may all be new.
    fn may_be_new(&mut self, table: &'static str) -> bool {
        match self.0.get_mut(table) {
            None | Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn found_old(&mut self, table: &'static str) {
        self.0.insert(table, MERGING_LOADS);
    }
}

/// Adds up how many bytes values have.
#[derive(Default)]
struct Size(usize);

impl Sink for Size {
    fn push(&mut self, value: &Value<'_>) {
        self.0 += value.size();
    }
}

/// Whether rows are so few that copying them does not pay.
fn are_few(source: &impl Source, copy_bytes_least: usize) -> bool {
    let mut size = Size::default();
    (0..source.rows()).all(|row| {
        source.values(row, &mut size);
        size.0 < copy_bytes_least
    })
}

/// Writes rows, in order.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
) -> Result<Vec<Range<usize>>, DatabaseError> {
    let table = source.table();
    let rows: Vec<usize> = (0..source.rows()).collect();
    let few = are_few(source, transaction.habits.copy_bytes_least);
    if !few && table.expect_new && transaction.habits.merging.may_be_new(table.name) {
        match copy_all(transaction, source, &rows).await? {
            Ok(_) => return Ok(Vec::new()),
            Err(_) => transaction.habits.merging.found_old(table.name),
        }
    }
    if !few {
        let made = transaction.sql.raw(postgres::staging(table)).await;
        made.map_err(DatabaseError::sql(transaction.place))?;
    }
    let mut short = Vec::new();
    if table.conflict == Conflict::Keep {
        merge(transaction, source, few, &rows, &mut short).await?;
    } else {
        for round in rounds(source) {
            merge(transaction, source, few, &round, &mut Vec::new()).await?;
        }
    }
    Ok(short)
}

/// Sorts rows so that none of a round has the key of another.
fn rounds(source: &impl Source) -> Vec<Vec<usize>> {
    let mut seen: HashMap<u64, usize> = HashMap::with_capacity(source.rows());
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for row in 0..source.rows() {
        let round = seen.entry(source.mark(row)).or_default();
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(row);
        *round += 1;
    }
    rounds
}

/// Writes rows, merging, and leaves out what the database does not take.
async fn merge(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
    few: bool,
    rows: &[usize],
    short: &mut Vec<Range<usize>>,
) -> Result<(), DatabaseError> {
    // Parts that are still to be written, the last one first.
    let mut waiting: Vec<Range<usize>> = if few {
        stretches(rows.len()).collect()
    } else {
        let starts = (0..rows.len()).step_by(PART_ROWS);
        starts
            .map(|start| start..rows.len().min(start + PART_ROWS))
            .collect()
    };
    waiting.reverse();
    while let Some(part) = waiting.pop() {
        let part_rows = &rows[part.clone()];
        let attempt = if few {
            insert(transaction, source, part_rows).await?
        } else {
            merge_part(transaction, source, part_rows).await?
        };
        match attempt {
            Ok(written) if written == part.len() as u64 => {}
            Ok(_) => short.push(part),
            Err(error) if part.len() == 1 => {
                let row = rows[part.start];
                transaction.refuse(source, row, error.to_string()).await?;
                short.push(part);
            }
            Err(_) => {
                let middle = part.start + part.len() / 2;
                waiting.push(middle..part.end);
                waiting.push(part.start..middle);
            }
        }
    }
    Ok(())
}

/// How many rows were written, or why the database does not take one of them.
type Attempt = Result<u64, sqlx::Error>;

/// Writes rows into their table, if all are new.
async fn copy_all(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
    rows: &[usize],
) -> Result<Attempt, DatabaseError> {
    save(transaction).await?;
    let table = source.table();
    let copied = transaction
        .sql
        .copy(
            &postgres::copy(table),
            table.columns.len(),
            rows,
            |row, values| {
                source.values(row, values);
            },
        )
        .await;
    settle(transaction, copied).await
}

/// Writes a few rows, merging each into what is there.
async fn insert(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
    rows: &[usize],
) -> Result<Attempt, DatabaseError> {
    save(transaction).await?;
    let table = source.table();
    let mut values = Arguments::with_room(Dialect::Postgres, rows.len() * table.columns.len());
    rows.iter().for_each(|row| source.values(*row, &mut values));
    let text = postgres::upsert(table, rows.len());
    let written = transaction.sql.write(text.into(), values).await;
    settle(transaction, written).await
}

/// Copies rows, and merges each into what is there.
async fn merge_part(
    transaction: &mut Transaction<'_>,
    source: &impl Source,
    rows: &[usize],
) -> Result<Attempt, DatabaseError> {
    save(transaction).await?;
    transaction.parts += 1;
    let (table, part) = (source.table(), transaction.parts);
    let copied = transaction
        .sql
        .copy(
            &postgres::copy_staged(table),
            table.columns.len() + 1,
            rows,
            |row, values| {
                source.values(row, values);
                values.push(&Value::Int(part));
            },
        )
        .await;
    let merged = match copied {
        Ok(_) => {
            let text = postgres::upsert_staged(table, part);
            transaction.sql.once(text).await
        }
        Err(error) => Err(error),
    };
    settle(transaction, merged).await
}

async fn save(transaction: &mut Transaction<'_>) -> Result<(), DatabaseError> {
    let saved = transaction.sql.raw("SAVEPOINT rows").await;
    saved.map_err(DatabaseError::sql(transaction.place))
}

/// Goes on behind an attempt, or takes it back.
async fn settle(
    transaction: &mut Transaction<'_>,
    attempt: Attempt,
) -> Result<Attempt, DatabaseError> {
    let sql = DatabaseError::sql(transaction.place);
    let end = match &attempt {
        Ok(_) => "RELEASE SAVEPOINT rows",
        Err(error) if dialect::cause(error) == Cause::Row => "ROLLBACK TO SAVEPOINT rows",
        Err(_) => return attempt.map(Ok).map_err(sql),
    };
    transaction.sql.raw(end).await.map_err(sql)?;
    Ok(attempt)
}
