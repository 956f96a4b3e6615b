//! SQLite: one file, one writer.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments as _, ConnectOptions as _};

use super::{Cause, insert_into, marks, numbers};
use crate::bulk::{Conflict, Merge, Table};
use crate::value::{Sink, Value};

/// How much of a file must be read to tell whose it is.
pub(crate) const HEADER_BYTES: usize = 100;
/// Says in the header that the file is ours: "Mlog".
const APPLICATION_ID: u32 = 0x4d6c_6f67;
/// Makes a file ours.
pub(crate) const MARK: &str = "PRAGMA application_id = 0x4d6c6f67";
/// The write-ahead log is moved into the file when it has this many pages of 4 KiB: pages that many commits change,
/// such as those of an index over random ids, are then moved once.
const WAL_PAGES: u32 = 16384;
/// What is left of the write-ahead log's file after that.
const WAL_BYTES_KEPT: u64 = 64 << 20;
/// Statements that stay prepared: a handful for each table, and for each set of fields that predictions come with.
const STATEMENTS_KEPT: usize = 128;
/// How much of the tables each reader keeps in memory.
const READER_CACHE_BYTES: usize = 4 << 20;

/// Whether a file's first bytes are those of a database of ours.
///
/// The format of the header: <https://www.sqlite.org/fileformat.html#the_database_header>.
pub(crate) fn is_ours(header: &[u8]) -> bool {
    header.starts_with(b"SQLite format 3\0")
        && header.get(68..72) == Some(&APPLICATION_ID.to_be_bytes())
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cache_bytes: usize,
    pub(crate) busy_timeout: Duration,
}

impl Options {
    fn common(&self, path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(self.busy_timeout)
            .thread_name(|_| "modelog-sqlite".into())
            .statement_cache_capacity(STATEMENTS_KEPT)
            .disable_statement_logging()
    }

    /// For the transaction that makes the tables.
    pub(crate) fn creator(&self, path: &Path) -> SqliteConnectOptions {
        self.common(path)
            .journal_mode(SqliteJournalMode::Delete)
            .synchronous(SqliteSynchronous::Full)
    }

    pub(crate) fn writer(&self, path: &Path) -> SqliteConnectOptions {
        self.common(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", kibibytes(self.cache_bytes))
            .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
            .pragma("journal_size_limit", WAL_BYTES_KEPT.to_string())
            .pragma("temp_store", "MEMORY")
    }

    pub(crate) fn reader(&self, path: &Path) -> SqliteConnectOptions {
        self.common(path)
            .read_only(true)
            .row_buffer_size(1024)
            .pragma("cache_size", kibibytes(READER_CACHE_BYTES))
            .pragma("temp_store", "MEMORY")
    }
}

/// A cache size as SQLite wants it said in bytes.
fn kibibytes(bytes: usize) -> String {
    format!("-{}", (bytes >> 10).max(1))
}

/// What an error means, by the primary result code (<https://www.sqlite.org/rescode.html>).
pub(crate) fn cause(code: &str) -> Cause {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA, NOLFS, AUTH.
        Ok(3 | 5..=10 | 13..=15 | 17 | 22 | 23) => Cause::Away,
        // TOOBIG, CONSTRAINT, MISMATCH.
        Ok(18..=20) => Cause::Row,
        // CORRUPT, FORMAT, NOTADB.
        Ok(11 | 24 | 26) => Cause::Damaged,
        _ => Cause::Other,
    }
}

impl Sink for SqliteArguments {
    fn push(&mut self, value: &Value<'_>) {
        let added = match value {
            Value::Null => self.add(None::<i64>),
            Value::Bool(value) => self.add(i64::from(*value)),
            Value::Int(value) => self.add(*value),
            Value::Float(value) => self.add(*value),
            Value::Time(time) => self.add(time.micros()),
            Value::Text(text) => self.add(Arc::<str>::from(&**text)),
            Value::Blob(bytes) => self.add(&**bytes),
        };
        added.expect("encoding a plain value for SQLite does not fail");
    }
}

/// The statement that writes `rows` rows into a table, merging where a row is there already.
///
/// Rows of one statement merge with each other too, in order.
pub(crate) fn upsert(table: &Table, rows: usize) -> String {
    let mut text = insert("INSERT", table, rows);
    let _ = match table.conflict {
        Conflict::Keep => write!(text, " ON CONFLICT ({}) DO NOTHING", table.key),
        Conflict::Merge => {
            let sets = table
                .columns
                .iter()
                .filter_map(|(name, merge)| merged(table, name, *merge))
                .collect::<Vec<_>>();
            write!(
                text,
                " ON CONFLICT ({}) DO UPDATE SET {}",
                table.key,
                sets.join(",")
            )
        }
    };
    text
}

/// The statement that writes those of `rows` rows that are not there already.
///
/// It leaves out rows for any other reason too, so a row it did not write must be tried with [`upsert`]. In return it
/// cannot fail half-way, and SQLite keeps no journal to undo it: with random keys, that is a copy of a page for each
/// row.
pub(crate) fn insert_new(table: &Table, rows: usize) -> String {
    insert("INSERT OR IGNORE", table, rows)
}

fn insert(verb: &str, table: &Table, rows: usize) -> String {
    format!("{} VALUES {}", insert_into(verb, table), marks(table, rows))
}

/// How a column is set where the row is there already; `name` alone is what is there, `excluded.name` what comes.
fn merged(table: &Table, name: &str, merge: Merge) -> Option<String> {
    Some(match merge {
        Merge::First => return None,
        Merge::Last => format!("{name}=excluded.{name}"),
        Merge::LastGiven => format!("{name}=coalesce(excluded.{name},{name})"),
        Merge::LastComplete => format!(
            "{name}=CASE WHEN excluded.complete>=coalesce(complete,0) THEN excluded.{name} ELSE {name} END"
        ),
        Merge::FirstGiven => format!("{name}=coalesce({name},excluded.{name})"),
        Merge::Greatest => {
            format!("{name}=max(coalesce({name},excluded.{name}),excluded.{name})")
        }
        Merge::LastNumber => format!(
            "{name}=CASE WHEN excluded.{name} IS NOT NULL OR excluded.non_finite ->> '{name}' IS NOT NULL \
             THEN excluded.{name} ELSE {name} END"
        ),
        Merge::NonFinite => {
            // What is named as not finite goes once a finite value comes, and what comes goes before it.
            let kept = numbers(table).fold(format!("coalesce({name},'{{}}')"), |kept, number| {
                format!(
                    "json_remove({kept},CASE WHEN excluded.{number} IS NULL THEN '$.none' ELSE '$.{number}' END)"
                )
            });
            format!(
                "{name}=CASE WHEN {name} IS NULL AND excluded.{name} IS NULL THEN NULL \
                 ELSE nullif(json_patch({kept},coalesce(excluded.{name},'{{}}')),'{{}}') END"
            )
        }
    })
}
