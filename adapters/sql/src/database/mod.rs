//! The database: whose it is, who may read it, and the connections to it.
//!
//! # Invariants
//! D1. Nothing is written to a place that is not ours. SQLite: the file's header says whose it is. PostgreSQL, MySQL:
//!     the comment on the table `schema_version` does.
//! D2. There is one writing connection, the projection's; readers cannot write. On a server others might, so every
//!     transaction holds the row of `schema_version` and compares the checkpoint with the one it left.
//! D3. Tables are made, and made anew, under a lock, by one program at a time.
//!
//! # Durability
//! A failure of power may take back the last commits of SQLite (`synchronous = NORMAL`) and PostgreSQL
//! (`synchronous_commit = off`), whole and in order, with the checkpoint that is part of them: the store is older then, and
//! follows the log again from there. Syncing every commit would buy nothing but time. MySQL has no such setting for one
//! connection; what its server is set to counts.

pub(crate) mod file;
pub(crate) mod mysql;
pub(crate) mod postgres;

use std::time::Duration;

use crate::bulk::Habits;
use crate::config::{Location, SqlConfig};
use crate::connection::{Row, Session, Statement, Transaction};
use crate::error::{DatabaseError, Place};
use crate::schema;

/// How long a server may take until a connection is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements that stay prepared on each connection: a handful for each table, and for each set of fields that predictions
/// come with.
const STATEMENTS_KEPT: usize = 128;

/// A database and the connections that read it.
#[derive(Debug)]
pub(crate) struct Database {
    kind: Kind,
    place: Place,
}

#[derive(Debug)]
enum Kind {
    File(file::File),
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

/// The connection that writes, and what it is like.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) session: Session,
    pub(crate) habits: Habits,
}

impl Database {
    pub(crate) fn new(location: Location, config: &SqlConfig) -> Self {
        match location {
            Location::Sqlite(path) => Self {
                place: Place::file(&path),
                kind: Kind::File(file::File::new(path, config)),
            },
            Location::Postgres { options, schema } => {
                let server = postgres::Server::new(*options, schema, config);
                Self {
                    place: server.place.clone(),
                    kind: Kind::Postgres(server),
                }
            }
            Location::MySql(options) => {
                let server = mysql::Server::new(*options, config);
                Self {
                    place: server.place.clone(),
                    kind: Kind::MySql(server),
                }
            }
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Begins to look at one commit. While the tables are replaced this waits for the new ones.
    pub(crate) async fn look(&self) -> Result<Transaction<'static>, sqlx::Error> {
        let begin = || async {
            match &self.kind {
                Kind::File(file) => file.begin().await,
                Kind::Postgres(server) => server.begin().await,
                Kind::MySql(server) => server.begin().await,
            }
        };
        match begin().await {
            // The connections were closed after we had been given them.
            Err(sqlx::Error::PoolClosed) => begin().await,
            begun => begun,
        }
    }

    /// The connection that writes; makes the tables if there is nothing. The one before must be closed.
    pub(crate) async fn writer(&self) -> Result<Writer, DatabaseError> {
        match &self.kind {
            Kind::File(file) => Ok(Writer {
                session: Session::Sqlite(file.writer().await?),
                habits: Habits::default(),
            }),
            Kind::Postgres(server) => server.writer().await,
            Kind::MySql(server) => server.writer().await,
        }
    }

    /// Replaces our tables by empty ones. The writer must be closed.
    pub(crate) async fn recreate(&self) -> Result<(), DatabaseError> {
        match &self.kind {
            Kind::File(file) => file.recreate().await,
            Kind::Postgres(server) => server.recreate().await,
            Kind::MySql(server) => server.recreate().await,
        }
    }

    /// Waits for questions under way and closes their connections.
    pub(crate) async fn close(&self) {
        match &self.kind {
            Kind::File(file) => file.close().await,
            Kind::Postgres(server) => server.close().await,
            Kind::MySql(server) => server.close().await,
        }
    }
}

/// Begins a transaction that changes tables: holds off others, and makes sure the tables are still those of our version.
pub(crate) async fn begin<'c>(
    session: &'c mut Session,
    place: &Place,
) -> Result<Transaction<'c>, DatabaseError> {
    let sql = DatabaseError::sql(place);
    let lock = !matches!(session, Session::Sqlite(_));
    let mut transaction = session.begin().await.map_err(&sql)?;
    if lock {
        let held = Statement::new(&["SELECT version FROM schema_version FOR UPDATE"]);
        let version = transaction.one(held, first_int).await.map_err(&sql)?;
        schema::check_version(version, place)?;
    }
    Ok(transaction)
}

/// The first column of a row, a number.
fn first_int(row: &Row<'_>) -> Result<i64, sqlx::Error> {
    row.int(0)
}

/// The first column of a row, a text.
fn first_text(row: &Row<'_>) -> Result<String, sqlx::Error> {
    Ok(row.str(0)?.unwrap_or_default().to_owned())
}

/// What lies in our place on a server.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Tables of ours that were not made to the end.
    Unfinished,
    Ours,
    Other,
}

/// Fails unless the tables are all there, and of our version.
async fn check_tables(
    transaction: &mut Transaction<'_>,
    names: &[String],
    text: &str,
    place: &Place,
) -> Result<(), DatabaseError> {
    let version = Statement::new(&["SELECT max(version) FROM schema_version"]);
    let version = transaction
        .one(version, |row| row.optional_int(0))
        .await
        .map_err(DatabaseError::sql(place))?;
    schema::check_version(version.flatten(), place)?;
    if schema::tables(text).all(|table| names.iter().any(|name| name == table)) {
        Ok(())
    } else {
        Err(DatabaseError::Incomplete {
            place: place.clone(),
        })
    }
}

/// Waits for a connection, but not for ever.
async fn connected<C>(
    connecting: impl Future<Output = Result<C, sqlx::Error>>,
) -> Result<C, sqlx::Error> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
