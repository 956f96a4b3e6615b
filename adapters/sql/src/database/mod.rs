//! The database: whose it is, who may read it, and the connections to it.
//!
//! # Invariants
//! D1. Nothing is written to a place that is not ours. SQLite: the file's header says whose it is. PostgreSQL, MySQL:
//!     the comment on the table `schema_version` does.
//! D2. There is one writing connection, the projection's; readers cannot write. On a server others might, so every
//!     transaction holds the row of `schema_version` and compares the checkpoint with the one it left.
//! D3. Tables are made, and made anew, under a lock, by one program at a time.
//! D4. Tables that are built again are built aside: in a file, schema or database named like the main one, with `.rebuild`
//!     or `_rebuild` behind. They take the main place when they have come as far as what is there; wherever that is
//!     interrupted, the next opening goes on. Nobody reads from the place aside.
//!
//! # Durability
//! A failure of power may take back the last commits of SQLite (`synchronous = NORMAL`), whole and in order, with the
//! checkpoint that is part of them: the store is older then, and follows the log again from there. Syncing every commit
//! would buy nothing but time. On a server its own settings count (`synchronous_commit`, `innodb_flush_log_at_trx_commit`,
//! how replicas follow); one that comes back older is noticed within a second, and followed from there.

pub(crate) mod file;
pub(crate) mod mysql;
pub(crate) mod postgres;

use std::time::Duration;

use modelog_engine::Checkpoint;

use crate::bulk::Habits;
use crate::checkpoint;
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
    main: Kind,
    /// Where tables are built again while those in the main place are read.
    aside: Kind,
    place: Place,
}

/// A place for tables.
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
    /// Where the tables stand that these are to replace, if they are built aside.
    pub(crate) replaces: Option<Checkpoint>,
}

impl Writer {
    fn new(session: Session, habits: Habits) -> Self {
        Self {
            session,
            habits,
            replaces: None,
        }
    }
}

impl Database {
    pub(crate) fn new(location: Location, config: &SqlConfig) -> Self {
        match location {
            Location::Sqlite(path) => {
                let mut aside = path.clone().into_os_string();
                aside.push(".rebuild");
                Self {
                    place: Place::file(&path),
                    main: Kind::File(file::File::new(path, config)),
                    aside: Kind::File(file::File::new(aside.into(), config)),
                }
            }
            Location::Postgres { options, schema } => {
                let aside = format!("{schema}_rebuild");
                let main = postgres::Server::new(*options.clone(), schema, config);
                Self {
                    place: main.place.clone(),
                    main: Kind::Postgres(main),
                    aside: Kind::Postgres(postgres::Server::new(*options, aside, config)),
                }
            }
            Location::MySql(options) => {
                let name = options.get_database().unwrap_or_default();
                let aside = options.clone().database(&format!("{name}_rebuild"));
                let main = mysql::Server::new(*options, config);
                Self {
                    place: main.place.clone(),
                    main: Kind::MySql(main),
                    aside: Kind::MySql(mysql::Server::new(aside, config)),
                }
            }
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether what was committed may be gone by itself: on a server.
    pub(crate) fn may_lose(&self) -> bool {
        !matches!(self.main, Kind::File(_))
    }

    /// Begins to look at one commit. While the tables are replaced this waits for the new ones.
    pub(crate) async fn look(&self) -> Result<Transaction<'static>, sqlx::Error> {
        match self.main.begin().await {
            // The connections were closed after we had been given them.
            Err(sqlx::Error::PoolClosed) => self.main.begin().await,
            begun => begun,
        }
    }

    /// The connection that writes; makes the tables if there is nothing. The one before must be closed.
    pub(crate) async fn writer(&self) -> Result<Writer, DatabaseError> {
        if !self.aside.is_there(&self.main).await? {
            return self.main.writer().await;
        }
        let mut main = self.main.writer().await?;
        let replaced = self.checkpoint(&mut main).await?;
        self.end(main).await?;
        let mut aside = self.aside.writer().await?;
        let built = self.checkpoint(&mut aside).await?;
        match (replaced, built) {
            (Some(replaced), built) if built.is_none_or(|built| built.offset < replaced.offset) => {
                aside.replaces = Some(replaced);
                Ok(aside)
            }
            _ => {
                self.end(aside).await?;
                self.swap().await?;
                self.main.writer().await
            }
        }
    }

    async fn checkpoint(&self, writer: &mut Writer) -> Result<Option<Checkpoint>, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut transaction = writer.session.begin().await.map_err(&sql)?;
        let found = checkpoint::read(&mut transaction).await.map_err(&sql)?;
        transaction.rollback().await.map_err(&sql)?;
        Ok(found)
    }

    async fn end(&self, writer: Writer) -> Result<(), DatabaseError> {
        let ended = writer.session.close().await;
        ended.map_err(DatabaseError::sql(&self.place))
    }

    /// Replaces our tables by empty ones. With `aside` that is prepared in another place, and what there is stays to be read
    /// until [`Database::swap`]; where there may be no other place, it is done at once. The writer must be closed.
    pub(crate) async fn recreate(&self, aside: bool) -> Result<(), DatabaseError> {
        if aside {
            match self.aside.prepare(&self.main).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_forbidden() => tracing::warn!(
                    reason = modelog_engine::chain(&error),
                    "no tables can be made aside, so those that are read are emptied"
                ),
                Err(error) => return Err(error),
            }
        } else if self.aside.is_there(&self.main).await? {
            self.aside.remove(&self.main).await?;
        }
        self.main.recreate().await
    }

    /// Puts the tables that were built aside in the place of those that are read. No writer may be open.
    pub(crate) async fn swap(&self) -> Result<(), DatabaseError> {
        match (&self.main, &self.aside) {
            (Kind::File(main), Kind::File(aside)) => main.replace_by(aside).await,
            (Kind::Postgres(main), Kind::Postgres(aside)) => main.replace_by(aside).await,
            (Kind::MySql(main), Kind::MySql(aside)) => main.replace_by(aside).await,
            _ => Ok(()),
        }
    }

    /// Waits for questions under way and closes their connections.
    pub(crate) async fn close(&self) {
        match &self.main {
            Kind::File(file) => file.close().await,
            Kind::Postgres(server) => server.close().await,
            Kind::MySql(server) => server.close().await,
        }
    }
}

impl Kind {
    async fn begin(&self) -> Result<Transaction<'static>, sqlx::Error> {
        match self {
            Self::File(file) => file.begin().await,
            Self::Postgres(server) => server.begin().await,
            Self::MySql(server) => server.begin().await,
        }
    }

    async fn writer(&self) -> Result<Writer, DatabaseError> {
        match self {
            Self::File(file) => {
                let session = Session::Sqlite(file.writer().await?);
                Ok(Writer::new(session, Habits::default()))
            }
            Self::Postgres(server) => server.writer().await,
            Self::MySql(server) => server.writer().await,
        }
    }

    async fn recreate(&self) -> Result<(), DatabaseError> {
        match self {
            Self::File(file) => file.recreate().await,
            Self::Postgres(server) => server.recreate().await,
            Self::MySql(server) => server.recreate().await,
        }
    }

    /// Whether there are tables of ours in this place, beside those of the main one.
    async fn is_there(&self, main: &Self) -> Result<bool, DatabaseError> {
        match (self, main) {
            (Self::File(file), _) => file.is_ours(),
            (Self::Postgres(server), _) => server.is_ours().await,
            (Self::MySql(server), Self::MySql(main)) => server.is_ours(main).await,
            _ => Ok(false),
        }
    }

    /// Makes empty tables in this place, beside the main one.
    async fn prepare(&self, main: &Self) -> Result<(), DatabaseError> {
        if let (Self::MySql(server), Self::MySql(main)) = (self, main) {
            server.create_database(main).await?;
        }
        self.recreate().await
    }

    /// Removes the tables in this place, beside the main one.
    async fn remove(&self, main: &Self) -> Result<(), DatabaseError> {
        match (self, main) {
            (Self::File(file), _) => file.remove(),
            (Self::Postgres(server), _) => server.remove().await,
            (Self::MySql(server), Self::MySql(main)) => server.remove(main).await,
            _ => Ok(()),
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

/// Makes the tables on a server; their version is the last that is written.
async fn create(
    transaction: &mut Transaction<'_>,
    tables: &str,
    place: &Place,
) -> Result<(), DatabaseError> {
    let sql = DatabaseError::sql(place);
    transaction.raw(tables).await.map_err(&sql)?;
    let version = Statement::new(&["INSERT INTO schema_version (version) VALUES (?)"]);
    let version = transaction.run(version.int(schema::VERSION)).await;
    version.map(drop).map_err(&sql)
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
