//! MySQL and MariaDB: rows go in by statements of many rows. A statement that fails is taken back as a whole, and the
//! transaction goes on, as in SQLite.

use sqlx::Arguments as _;
use sqlx::mysql::MySqlArguments;

use super::{Cause, insert_into, marks, numbers};
use crate::bulk::{Conflict, Merge, Table};
use crate::value::{Sink, Value, utc};

/// What an error means, by its number
/// (<https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>), else by the class of its state.
pub(crate) fn cause(number: u16, state: Option<&str>) -> Cause {
    match number {
        // A file could not be written, the disk is full, the engine has no room, out of memory, too many connections.
        3 | 1021 | 1026 | 1028 | 1030 | 1037 | 1038 | 1040 | 1041 | 1114 | 1135 | 1203 | 1226 => {
            Cause::Away
        }
        // Who may log in, which database, what is granted: may be changed.
        1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1698 => Cause::Away,
        // Shut down, killed, read-only, locks, deadlocks, the network, a commit that failed, a statement that took long.
        1053
        | 1077
        | 1079
        | 1150..=1152
        | 1154..=1161
        | 1180
        | 1184
        | 1189
        | 1190
        | 1205
        | 1206
        | 1213
        | 1290
        | 1317
        | 1792
        | 1836
        | 1927
        | 1969
        | 3024
        | 3100
        | 3101
        | 3572 => Cause::Away,
        // A packet too large, a row too large, too long, out of range, a check that failed, a trigger that refused.
        1118 | 1153 | 1264 | 1265 | 1292 | 1366 | 1406 | 1644 | 1690 | 3819 | 4025 => Cause::Row,
        // Crashed or corrupt tables and indexes.
        126 | 127 | 145 | 1034 | 1035 | 1194 | 1195 | 1712 => Cause::Damaged,
        _ => match state.and_then(|state| state.get(..2)) {
            Some("08") => Cause::Away,
            Some("22" | "23" | "45") => Cause::Row,
            _ => Cause::Other,
        },
    }
}

impl Sink for MySqlArguments {
    fn push(&mut self, value: &Value<'_>) {
        let added = match value {
            Value::Null => self.add(None::<i64>),
            Value::Bool(value) => self.add(*value),
            Value::Int(value) => self.add(*value),
            Value::Float(value) => self.add(*value),
            Value::Time(time) => self.add(utc(*time).naive_utc()),
            Value::Text(text) => self.add(&**text),
            Value::Blob(bytes) => self.add(&**bytes),
        };
        added.expect("encoding a plain value for MySQL does not fail");
    }
}

/// The statement that writes `rows` rows, all of which must be new.
pub(crate) fn insert_new(table: &Table, rows: usize) -> String {
    format!(
        "{} VALUES {}",
        insert_into("INSERT", table),
        marks(table, rows)
    )
}

/// The statement that writes `rows` rows into a table, merging where a row is there already. Rows of one statement merge
/// with each other too, in order.
pub(crate) fn upsert(table: &Table, rows: usize) -> String {
    let mut sets: Vec<(Merge, String)> = match table.conflict {
        Conflict::Keep => Vec::new(),
        Conflict::Merge => table
            .columns
            .iter()
            .filter_map(|(name, merge)| Some((*merge, merged(table, name, *merge)?)))
            .collect(),
    };
    // What is set is seen by what is set behind it, and `complete` must be seen as it was.
    sets.sort_by_key(|(merge, _)| *merge != Merge::LastComplete);
    let mut sets: Vec<String> = sets.into_iter().map(|(_, set)| set).collect();
    if sets.is_empty() {
        // Changes nothing. `INSERT IGNORE` would take values that do not fit, cut short.
        sets.extend(
            table
                .columns
                .first()
                .map(|(name, _)| format!("{name}={name}")),
        );
    }
    format!(
        "{} ON DUPLICATE KEY UPDATE {}",
        insert_new(table, rows),
        sets.join(",")
    )
}

/// How a column is set where the row is there already; `name` alone is what is there, `VALUES(name)` what comes.
fn merged(table: &Table, name: &str, merge: Merge) -> Option<String> {
    Some(match merge {
        Merge::First => return None,
        Merge::Last => format!("{name}=VALUES({name})"),
        Merge::LastGiven => format!("{name}=coalesce(VALUES({name}),{name})"),
        Merge::LastComplete => format!(
            "{name}=CASE WHEN VALUES(complete)>=coalesce(complete,0) THEN VALUES({name}) ELSE {name} END"
        ),
        Merge::FirstGiven => format!("{name}=coalesce({name},VALUES({name}))"),
        Merge::Greatest => {
            format!("{name}=greatest(coalesce({name},VALUES({name})),VALUES({name}))")
        }
        Merge::LastNumber => format!(
            "{name}=CASE WHEN VALUES({name}) IS NOT NULL OR json_extract(VALUES(non_finite),'$.{name}') IS NOT NULL \
             THEN VALUES({name}) ELSE {name} END"
        ),
        Merge::NonFinite => {
            // What is named as not finite goes once a finite value comes, and what comes goes before it.
            let kept = numbers(table).fold(format!("coalesce({name},'{{}}')"), |kept, number| {
                format!(
                    "json_remove({kept},CASE WHEN VALUES({number}) IS NULL THEN '$.none' ELSE '$.{number}' END)"
                )
            });
            let all = format!("json_merge_patch({kept},coalesce(VALUES({name}),'{{}}'))");
            format!(
                "{name}=CASE WHEN ({name} IS NULL AND VALUES({name}) IS NULL) OR json_length({all})=0 THEN NULL \
                 ELSE {all} END"
            )
        }
    })
}
