//! PostgreSQL: rows go in by `COPY`, in its binary form; what a row the database refuses takes with it is kept within
//! savepoints.
//!
//! The form of the data: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use modelog_engine::Timestamp;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, Postgres};
use sqlx::{Arguments as _, Type};

use super::{Cause, Dialect, columns, insert_into, marks, numbers};
use crate::bulk::{Conflict, Merge, Table};
use crate::value::{Sink, Value, utc};

/// What binary data of `COPY` starts with: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What an error means, by its code (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn cause(code: &str) -> Cause {
    match code {
        // A plan that became invalid when the tables were made anew.
        "0A000" => Cause::Away,
        "XX001" | "XX002" => Cause::Damaged,
        // Missing rights may be given.
        "42501" => Cause::Away,
        _ => match code.get(..2).unwrap_or_default() {
            // The connection, who may log in, which database; transactions in the way of others; out of room; locks;
            // somebody stopped it; the system; a replica.
            "08" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" => Cause::Away,
            // Values, constraints, limits, and what triggers raise.
            "22" | "23" | "44" | "54" | "P0" | "09" | "38" | "39" => Cause::Row,
            _ => Cause::Other,
        },
    }
}

impl Sink for PgArguments {
    fn push(&mut self, value: &Value<'_>) {
        let added = match value {
            Value::Null => self.add(None::<i64>),
            Value::Bool(value) => self.add(*value),
            Value::Int(value) => self.add(*value),
            Value::Float(value) => self.add(*value),
            Value::Time(time) => self.add(utc(*time)),
            Value::Text(text) => self.add(&**text),
            Value::Blob(bytes) => self.add(&**bytes),
        };
        added.expect("encoding a plain value for PostgreSQL does not fail");
    }
}

/// A text or a null for a column, whose type decides: the bytes of `text` and `json` are the same.
struct Untyped<'a>(Option<&'a str>);

impl Type<Postgres> for Untyped<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Untyped<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        match self.0 {
            Some(text) => Encode::<Postgres>::encode_by_ref(&text, buffer),
            None => Ok(IsNull::Yes),
        }
    }
}

/// Adds a value for a column.
pub(crate) fn push_column(arguments: &mut PgArguments, value: &Value<'_>) {
    let untyped = match value {
        Value::Null => Untyped(None),
        Value::Text(text) => Untyped(Some(text)),
        _ => return arguments.push(value),
    };
    arguments
        .add(untyped)
        .expect("encoding a text for PostgreSQL does not fail");
}

/// Rows as `COPY` takes them.
#[derive(Debug)]
pub(crate) struct CopyRows {
    bytes: Vec<u8>,
    columns: i16,
    /// How many values are missing in the row that was begun.
    missing: i16,
}

impl CopyRows {
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            bytes: HEADER.to_vec(),
            columns: i16::try_from(columns).expect("a table has a few dozen columns"),
            missing: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The first `bytes` of what there is, to be sent.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(bytes);
        std::mem::replace(&mut self.bytes, rest)
    }

    /// The rest, to be sent last.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&TRAILER);
        self.bytes
    }

    fn field(&mut self, bytes: &[u8]) {
        let len = i32::try_from(bytes.len()).expect("a value is below a gigabyte");
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }
}

impl Sink for CopyRows {
    fn push(&mut self, value: &Value<'_>) {
        if self.missing == 0 {
            self.missing = self.columns;
            self.bytes.extend_from_slice(&self.columns.to_be_bytes());
        }
        self.missing -= 1;
        match value {
            Value::Null => self.bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
            Value::Bool(value) => self.field(&[u8::from(*value)]),
            Value::Int(value) => self.field(&value.to_be_bytes()),
            Value::Float(value) => self.field(&value.to_be_bytes()),
            Value::Time(time) => self.field(&since_2000(*time).to_be_bytes()),
            Value::Text(text) => self.field(text.as_bytes()),
            Value::Blob(bytes) => self.field(bytes),
        }
    }
}

fn since_2000(time: Timestamp) -> i64 {
    time.micros() - EPOCH_MICROS
}

/// Rows on their way into a table itself.
pub(crate) fn copy(table: &Table) -> String {
    format!(
        "COPY {} ({}) FROM STDIN (FORMAT binary)",
        table.name,
        columns(table)
    )
}

/// Makes the table that rows wait in which are merged into another; it is the connection's own, and empty at first in
/// every transaction.
pub(crate) fn staging(table: &Table) -> String {
    format!(
        "CREATE TEMP TABLE IF NOT EXISTS stage_{0} (LIKE {0} INCLUDING DEFAULTS, part bigint) ON COMMIT DELETE ROWS",
        table.name
    )
}

/// Rows on their way into that table, with the number of their part as the last column.
pub(crate) fn copy_staged(table: &Table) -> String {
    format!(
        "COPY stage_{} ({},part) FROM STDIN (FORMAT binary)",
        table.name,
        columns(table)
    )
}

/// The statement that writes `rows` rows into a table, merging where a row is there already. No two of them may have one
/// key, unless what is there stays.
pub(crate) fn upsert(table: &Table, rows: usize) -> String {
    let marks = Dialect::Postgres.numbered(&marks(table, rows));
    format!(
        "{} VALUES {marks} {}",
        insert_into("INSERT", table),
        on_conflict(table)
    )
}

/// Takes a part of the rows that wait to the table, as [`upsert`] does.
pub(crate) fn upsert_staged(table: &Table, part: i64) -> String {
    format!(
        "{} SELECT {} FROM stage_{} WHERE part = {part} {}",
        insert_into("INSERT", table),
        columns(table),
        table.name,
        on_conflict(table)
    )
}

fn on_conflict(table: &Table) -> String {
    let key = key(table);
    match table.conflict {
        Conflict::Keep => format!("ON CONFLICT ({key}) DO NOTHING"),
        Conflict::Merge => {
            let sets: Vec<_> = table
                .columns
                .iter()
                .filter_map(|(name, merge)| merged(table, name, *merge))
                .collect();
            format!("ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(","))
        }
    }
}

/// What identifies a row. Texts of any length are in an index by their digests: an entry of one holds 2,700 bytes.
fn key(table: &Table) -> &'static str {
    match table.name {
        "tags" => "entity_kind,entity_id,key_digest",
        "run_params" => "run_id,key_digest",
        "artifacts" => "run_id,version_id,key_digest",
        "run_datasets" => "run_id,dataset_id,key_digest",
        _ => table.key,
    }
}

/// How a column is set where the row is there already.
fn merged(table: &Table, name: &str, merge: Merge) -> Option<String> {
    let there = format!("{}.{name}", table.name);
    Some(match merge {
        Merge::First => return None,
        Merge::Last => format!("{name}=excluded.{name}"),
        Merge::LastGiven => format!("{name}=coalesce(excluded.{name},{there})"),
        Merge::LastComplete => format!(
            "{name}=CASE WHEN excluded.complete>=coalesce({}.complete,false) THEN excluded.{name} ELSE {there} END",
            table.name
        ),
        Merge::FirstGiven => format!("{name}=coalesce({there},excluded.{name})"),
        Merge::Greatest => format!("{name}=greatest({there},excluded.{name})"),
        Merge::LastNumber => format!(
            "{name}=CASE WHEN excluded.{name} IS NOT NULL OR excluded.non_finite ->> '{name}' IS NOT NULL \
             THEN excluded.{name} ELSE {there} END"
        ),
        Merge::NonFinite => {
            // What is named as not finite goes once a finite value comes, and what comes goes before it.
            let kept = numbers(table).fold(
                format!("coalesce({there}::jsonb,'{{}}')"),
                |kept, number| {
                    format!(
                        "{kept}-CASE WHEN excluded.{number} IS NULL THEN '' ELSE '{number}' END"
                    )
                },
            );
            format!(
                "{name}=CASE WHEN {there} IS NULL AND excluded.{name} IS NULL THEN NULL \
                 ELSE nullif(({kept})||coalesce(excluded.{name}::jsonb,'{{}}'),'{{}}')::json END"
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_in_the_form_of_copy() {
        let mut rows = CopyRows::new(2);
        rows.push(&Value::Null);
        rows.push(&Value::Text("é".into()));
        rows.push(&Value::Bool(true));
        rows.push(&Value::Time(Timestamp::from_micros(EPOCH_MICROS + 5)));
        let len = rows.len();
        let bytes = rows.take(len);
        let expected = b"\0\x02\xff\xff\xff\xff\0\0\0\x02\xc3\xa9\0\x02\0\0\0\x01\x01\0\0\0\x08\0\0\0\0\0\0\0\x05";
        assert_eq!(bytes.strip_prefix(HEADER), Some(&expected[..]));
        rows.push(&Value::Int(-1));
        assert_eq!(
            rows.finish(),
            b"\0\x02\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
        );
    }
}
