//! What can go wrong with a SQL store, and whether waiting helps.

use std::path::{Path, PathBuf};

use modelog_engine::ErrorKind;
use modelog_engine::projection::ProjectionError;

use crate::dialect::{self, Cause};

/// Why a store cannot be made from its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    #[error("`sql.url` names no kind of database: write `sqlite:PATH`")]
    NoScheme,
    #[error(
        "`sql.url` starts with `{scheme}:`, which is no database Modelog knows: write `sqlite:PATH`"
    )]
    UnknownScheme { scheme: String },
    #[error("`{scheme}:` databases are not in this version: write `sqlite:PATH`")]
    NotInThisVersion { scheme: String },
    #[error("`sql.url` must name a file, such as `sqlite:sqlite/modelog.db`")]
    NotAFile,
    #[error("`sql.url` takes no settings after `?`, `{settings}` was found: leave it out")]
    UrlSettings { settings: String },
}

impl SqlError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Why a store that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("{action} {} failed", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database {}", path.display())]
    Sql {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    /// Something else is in our place.
    #[error(
        "{} was not made by Modelog, which needs a file of its own: move it away, or set `sql.url` to another path",
        path.display()
    )]
    Foreign { path: PathBuf },
    /// Other people's tables beside ours, about to be lost.
    #[error(
        "{} holds tables that are not Modelog's and would be lost ({}): move them to another file first",
        path.display(), tables.join(", ")
    )]
    Guests { path: PathBuf, tables: Vec<String> },
    #[error(
        "{} has tables of version {found}, this program knows {known}: use a newer modelog, or run \
         `modelog rebuild sql` to build them again from the log",
        path.display()
    )]
    TooNew {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("{} lacks tables of Modelog: run `modelog rebuild sql` to build it again from the log", path.display())]
    Incomplete { path: PathBuf },
    #[error(
        "{} refused more than {max} rows of {table} at once ({reason}): mend the table, or run `modelog rebuild sql` \
         to build everything again from the log",
        path.display()
    )]
    TooManyRefused {
        path: PathBuf,
        table: &'static str,
        max: u32,
        reason: String,
    },
    #[error("a trigger in {} ended the transaction of Modelog: take it away", path.display())]
    Ended { path: PathBuf },
    #[error("{} is not open", path.display())]
    Closed { path: PathBuf },
    /// Somebody else wrote.
    #[error("the checkpoint in {} is not where this program left it", path.display())]
    Moved { path: PathBuf },
}

impl DatabaseError {
    pub(crate) fn sql(path: &Path) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Sql {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.into(),
            source,
        }
    }
}

impl From<DatabaseError> for ProjectionError {
    fn from(error: DatabaseError) -> Self {
        let stopped = |reason| Self::Stopped { reason };
        match &error {
            DatabaseError::Io { .. }
            | DatabaseError::Moved { .. }
            | DatabaseError::Closed { .. } => Self::Unavailable(Box::new(error)),
            DatabaseError::Sql { path, source } => match dialect::cause(source) {
                Cause::Away => Self::Unavailable(Box::new(error)),
                Cause::Damaged => stopped(format!(
                    "{} is damaged ({source}): run `modelog rebuild sql` to build it again from the log",
                    path.display()
                )),
                Cause::Row | Cause::Other => stopped(format!(
                    "{} does not do what Modelog asks ({source}): if its tables were changed, run \
                     `modelog rebuild sql` to build it again from the log",
                    path.display()
                )),
            },
            _ => stopped(error.to_string()),
        }
    }
}
