//! What can go wrong with a SQL store, and whether waiting helps.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use modelog_engine::ErrorKind;
use modelog_engine::projection::ProjectionError;

use crate::dialect::{self, Cause};

/// Why a store cannot be made from its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    #[error(
        "`sql.url` names no kind of database: write `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or \
         `mysql://USER@HOST/DATABASE`"
    )]
    NoScheme,
    #[error(
        "`sql.url` starts with `{scheme}:`, which is no database Modelog knows: write `sqlite:`, `postgres:` or `mysql:`"
    )]
    UnknownScheme { scheme: String },
    #[error("`sql.url` must name a file, such as `sqlite:sqlite/modelog.db`")]
    NotAFile,
    #[error("`sql.url` takes no settings after `?`, `{settings}` was found: leave it out")]
    UrlSettings { settings: String },
    #[error("`sql.url` takes no setting `{name}`: it knows {known}")]
    UnknownSetting { name: String, known: &'static str },
    #[error("`sql.url` must name a database, such as `{scheme}://USER@HOST/modelog`")]
    NoDatabase { scheme: &'static str },
    #[error("`sql.url` is no URL of a database: {reason}")]
    Malformed { reason: String },
}

impl SqlError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Which database, in words: a file's path, or a database and its server. Never a password.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    words: Arc<str>,
    is_file: bool,
}

impl Place {
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            words: path.display().to_string().into(),
            is_file: true,
        }
    }

    pub(crate) fn server(words: String) -> Self {
        Self {
            words: words.into(),
            is_file: false,
        }
    }

    /// As the subject of a sentence.
    fn subject(&self) -> String {
        let what = if self.is_file { "database " } else { "" };
        format!("the {what}{self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Why a store that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("{action} {place} failed")]
    Io {
        action: &'static str,
        place: Place,
        #[source]
        source: std::io::Error,
    },
    #[error("{}", place.subject())]
    Sql {
        place: Place,
        #[source]
        source: sqlx::Error,
    },
    /// Something else is in our place.
    #[error("{place} was not made by Modelog, which needs {needed}")]
    Foreign { place: Place, needed: &'static str },
    /// Other people's tables beside ours, about to be lost.
    #[error(
        "{place} holds tables that are not Modelog's and would be lost ({}): move them to another file first",
        tables.join(", ")
    )]
    Guests { place: Place, tables: Vec<String> },
    /// Other people's views on ours, which are to be dropped.
    #[error(
        "{place} holds what needs the tables of Modelog ({dependents}): drop it, and make it again once `modelog rebuild \
         sql` is done"
    )]
    Dependents { place: Place, dependents: String },
    #[error(
        "{place} has tables of version {found}, this program knows {known}: use a newer modelog, or run \
         `modelog rebuild sql` to build them again from the log"
    )]
    TooNew {
        place: Place,
        found: i64,
        known: i64,
    },
    #[error(
        "{place} lacks tables of Modelog: run `modelog rebuild sql` to build it again from the log"
    )]
    Incomplete { place: Place },
    #[error("{place} is {found}, Modelog needs {needed}")]
    Unfit {
        place: Place,
        found: String,
        needed: &'static str,
    },
    /// Another program makes tables, or has the file open.
    #[error("{place} is in use by another program")]
    Busy { place: Place },
    #[error(
        "{place} refused more than {max} rows of {table} at once ({reason}): mend the table, or run `modelog rebuild sql` \
         to build everything again from the log"
    )]
    TooManyRefused {
        place: Place,
        table: &'static str,
        max: u32,
        reason: String,
    },
    #[error("a trigger in {place} ended the transaction of Modelog: take it away")]
    Ended { place: Place },
    #[error("{place} is not open")]
    Closed { place: Place },
    /// Somebody else wrote.
    #[error("the checkpoint in {place} is not where this program left it")]
    Moved { place: Place },
}

impl DatabaseError {
    pub(crate) fn sql(place: &Place) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Sql {
            place: place.clone(),
            source,
        }
    }

    /// Whether a server does not grant what was asked for.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Sql { source, .. } if dialect::is_forbidden(source))
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            place: Place::file(path),
            source,
        }
    }
}

impl From<DatabaseError> for ProjectionError {
    fn from(error: DatabaseError) -> Self {
        let stopped = |reason| Self::Stopped { reason };
        match &error {
            DatabaseError::Io { .. }
            | DatabaseError::Busy { .. }
            | DatabaseError::Moved { .. }
            | DatabaseError::Closed { .. } => Self::Unavailable(Box::new(error)),
            DatabaseError::Sql { place, source } => match dialect::cause(source) {
                Cause::Away => Self::Unavailable(Box::new(error)),
                Cause::Damaged => stopped(format!(
                    "{place} is damaged ({source}): run `modelog rebuild sql` to build it again from the log"
                )),
                Cause::Row | Cause::Other => stopped(format!(
                    "{place} does not do what Modelog asks ({source}): if its tables were changed, run \
                     `modelog rebuild sql` to build it again from the log"
                )),
            },
            _ => stopped(error.to_string()),
        }
    }
}
