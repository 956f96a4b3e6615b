//! What differs from database to database: the text of statements, how values go in, the meaning of errors.
//!
//! One module per dialect. What is here is small enough to be said side by side.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::bulk::{Merge, Table};

/// The databases there are. MariaDB speaks MySQL's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

/// What an error of the database means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Busy, full, or out of reach: waiting may help.
    Away,
    /// A row that the database does not take.
    Row,
    /// The tables are not what was written.
    Damaged,
    /// Anything else: the tables are not ours any more.
    Other,
}

/// What an error means, whichever database it is of.
pub(crate) fn cause(error: &sqlx::Error) -> Cause {
    let sqlx::Error::Database(error) = error else {
        return match error {
            // What cannot be read from a row, or bound to a statement, is not out of reach.
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. } => Cause::Other,
            // The connection or its thread ended, the server could not be reached, or does not speak as it should.
            _ => Cause::Away,
        };
    };
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return mysql::cause(error.number(), error.code());
    }
    let code = error.code().unwrap_or_default();
    if error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return postgres::cause(&code);
    }
    sqlite::cause(&code)
}

/// Whether an error says that a server does not grant what was asked for, or takes no name so long.
pub(crate) fn is_forbidden(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        // Access to a database, a long name, a table's command, a right.
        Some(error) => matches!(error.number(), 1044 | 1059 | 1142 | 1227),
        None => error.code().is_some_and(|code| code == "42501"),
    }
}

impl Dialect {
    /// A statement with its arguments marked as this database wants them.
    pub(crate) fn numbered(self, text: &str) -> String {
        if self != Self::Postgres {
            return text.to_owned();
        }
        let mut numbered = String::with_capacity(text.len() + 16);
        for (number, part) in text.split('?').enumerate() {
            if number > 0 {
                numbered.push('$');
                numbered.push_str(&number.to_string());
            }
            numbered.push_str(part);
        }
        numbered
    }

    /// A condition: the value before it is in the set of numbers that is the next argument, a JSON array.
    pub(crate) fn among(self) -> &'static str {
        match self {
            Self::Sqlite => "IN (SELECT value FROM json_each(?))",
            Self::Postgres => "IN (SELECT json_array_elements_text(?::json)::bigint)",
            Self::MySql => {
                "IN (SELECT j.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) j)"
            }
        }
    }

    /// A set of `rows` rows of `columns` arguments each, for a condition on several columns.
    pub(crate) fn rows(self, rows: usize, columns: usize) -> String {
        let row = format!("({})", vec!["?"; columns].join(","));
        let rows = vec![row.as_str(); rows].join(",");
        match self {
            Self::Sqlite | Self::Postgres => format!("(VALUES {rows})"),
            Self::MySql => format!("({rows})"),
        }
    }

    /// A condition: a place in a list, of two columns, lies behind that of the next arguments, which `order` says.
    ///
    /// MySQL looks into an index for the first column only, and only if it is told so; it takes the first argument twice.
    pub(crate) fn behind(self, first: &str, second: &str, order: char) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("AND ({first}, {second}) {order} (?, ?)"),
            Self::MySql => {
                format!("AND {first} {order}= ? AND ({first}, {second}) {order} (?, ?)")
            }
        }
    }
}

/// The beginning of a statement that writes rows into a table: up to where the rows come.
fn insert_into(verb: &str, table: &Table) -> String {
    format!("{verb} INTO {} ({})", table.name, columns(table))
}

/// The columns of a table, separated by commas.
fn columns(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
    names.join(",")
}

/// As many rows of marks for arguments as a statement has.
fn marks(table: &Table, rows: usize) -> String {
    let row = format!("({})", vec!["?"; table.columns.len()].join(","));
    vec![row.as_str(); rows].join(",")
}

/// The columns of a table that hold numbers which may be named as not finite.
fn numbers(table: &Table) -> impl Iterator<Item = &'static str> + '_ {
    table
        .columns
        .iter()
        .filter(|(_, merge)| *merge == Merge::LastNumber)
        .map(|(name, _)| *name)
}
