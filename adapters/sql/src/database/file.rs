//! The file of SQLite.
//!
//! # Invariants
//! F1. A file is ours if its header carries our application id. It gets there with the tables, in one transaction with a
//!     rollback journal, so the bytes of the file itself always tell.
//! F2. The file is looked at and replaced only while no connection of ours is open. SQLite's locks are the process's:
//!     whoever closes the file by other means takes them from every connection.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::RwLock;

use crate::config::SqlConfig;
use crate::connection::Transaction;
use crate::dialect::sqlite;
use crate::error::{DatabaseError, Place};
use crate::schema;

/// A database file and the connections that read it.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    place: Place,
    options: sqlite::Options,
    readers: u32,
    /// Held for writing while the file is replaced.
    pool: RwLock<Option<SqlitePool>>,
}

const FILE_OF_ITS_OWN: &str = "a file of its own: move it away, or set `sql.url` to another path";

/// What lies at our path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Other,
}

impl File {
    pub(super) fn new(path: PathBuf, config: &SqlConfig) -> Self {
        Self {
            options: sqlite::Options {
                cache_bytes: config.cache_bytes,
                busy_timeout: config.busy_timeout,
            },
            readers: config.readers.max(1),
            place: Place::file(&path),
            path,
            pool: RwLock::default(),
        }
    }

    /// Begins to look at one commit.
    pub(super) async fn begin(&self) -> Result<Transaction<'static>, sqlx::Error> {
        self.readers().await.begin().await.map(Transaction::Sqlite)
    }

    async fn readers(&self) -> SqlitePool {
        if let Some(pool) = &*self.pool.read().await {
            return pool.clone();
        }
        let mut pool = self.pool.write().await;
        pool.get_or_insert_with(|| {
            SqlitePoolOptions::new()
                .max_connections(self.readers)
                .connect_lazy_with(self.options.reader(&self.path))
        })
        .clone()
    }

    pub(super) async fn close(&self) {
        if let Some(pool) = self.pool.write().await.take() {
            pool.close().await;
        }
    }

    /// The connection that writes; creates the file and the tables if there is nothing. The one before must be closed.
    pub(super) async fn writer(&self) -> Result<SqliteConnection, DatabaseError> {
        let mut pool = self.pool.write().await;
        if let Some(pool) = pool.take() {
            pool.close().await;
        }
        match self.look()? {
            Found::Nothing => self.create().await?,
            Found::Ours => {}
            Found::Other => {
                return Err(DatabaseError::Foreign {
                    place: self.place.clone(),
                    needed: FILE_OF_ITS_OWN,
                });
            }
        }
        let mut connection = self.connect(self.options.writer(&self.path)).await?;
        if !self.has_tables(&mut connection).await? {
            // A crash while the tables were made: the journal has taken everything back.
            self.disconnect(connection).await?;
            self.remove()?;
            self.create().await?;
            connection = self.connect(self.options.writer(&self.path)).await?;
        }
        self.check_version(&mut connection).await?;
        Ok(connection)
    }

    /// Replaces our file by one with empty tables. The writer must be closed.
    pub(super) async fn recreate(&self) -> Result<(), DatabaseError> {
        let mut pool = self.pool.write().await;
        if let Some(pool) = pool.take() {
            pool.close().await;
        }
        match self.look()? {
            Found::Nothing => {}
            Found::Ours => {
                self.refuse_guests().await?;
                self.remove()?;
            }
            Found::Other => {
                return Err(DatabaseError::Foreign {
                    place: self.place.clone(),
                    needed: FILE_OF_ITS_OWN,
                });
            }
        }
        self.create().await
    }

    /// Whether our tables are there.
    pub(super) fn is_ours(&self) -> Result<bool, DatabaseError> {
        Ok(self.look()? == Found::Ours)
    }

    /// Takes another file, in the place of this one. That one is whole in itself first, since its companions would not be
    /// found under this name.
    pub(super) async fn replace_by(&self, aside: &Self) -> Result<(), DatabaseError> {
        let mut pool = self.pool.write().await;
        if let Some(pool) = pool.take() {
            pool.close().await;
        }
        // Its journal is of the sort that leaves nothing beside the file.
        let connection = self.connect(aside.options.creator(&aside.path)).await?;
        aside.disconnect(connection).await?;
        if aside.companion("-wal").exists() {
            return Err(DatabaseError::Busy {
                place: aside.place.clone(),
            });
        }
        match self.look()? {
            Found::Nothing => {}
            Found::Ours => {
                self.refuse_guests().await?;
                self.remove()?;
            }
            Found::Other => {
                return Err(DatabaseError::Foreign {
                    place: self.place.clone(),
                    needed: FILE_OF_ITS_OWN,
                });
            }
        }
        self.remove_companions()?;
        fs::rename(&aside.path, &self.path).map_err(DatabaseError::io("renaming", &aside.path))
    }

    /// Reads the header of the file, and nothing else: whatever opens it as a database may change it.
    fn look(&self) -> Result<Found, DatabaseError> {
        let io = DatabaseError::io("reading", &self.path);
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(io(error)),
        };
        let mut header = Vec::with_capacity(sqlite::HEADER_BYTES);
        file.take(sqlite::HEADER_BYTES as u64)
            .read_to_end(&mut header)
            .map_err(io)?;
        Ok(if header.is_empty() {
            Found::Nothing
        } else if sqlite::is_ours(&header) {
            Found::Ours
        } else {
            Found::Other
        })
    }

    async fn create(&self) -> Result<(), DatabaseError> {
        // What belongs to a file that is gone must not be taken for the new one's.
        self.remove_companions()?;
        if let Some(directory) = self.path.parent().filter(|path| *path != Path::new("")) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(DatabaseError::io("creating", directory))?;
        }
        // SQLite gives its other files the permissions of this one.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(DatabaseError::io("creating", &self.path))?;
        let sql = DatabaseError::sql(&self.place);
        let mut connection = self.connect(self.options.creator(&self.path)).await?;
        let mut transaction = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(&sql)?;
        sqlx::raw_sql(sqlite::MARK)
            .execute(&mut *transaction)
            .await
            .map_err(&sql)?;
        sqlx::raw_sql(schema::SQLITE)
            .execute(&mut *transaction)
            .await
            .map_err(&sql)?;
        sqlx::query("INSERT INTO schema_version (version) VALUES (?)")
            .bind(schema::VERSION)
            .execute(&mut *transaction)
            .await
            .map_err(&sql)?;
        transaction.commit().await.map_err(&sql)?;
        self.disconnect(connection).await
    }

    async fn connect(
        &self,
        options: SqliteConnectOptions,
    ) -> Result<SqliteConnection, DatabaseError> {
        options
            .connect()
            .await
            .map_err(DatabaseError::sql(&self.place))
    }

    async fn disconnect(&self, connection: SqliteConnection) -> Result<(), DatabaseError> {
        connection
            .close()
            .await
            .map_err(DatabaseError::sql(&self.place))
    }

    async fn has_tables(&self, connection: &mut SqliteConnection) -> Result<bool, DatabaseError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema)")
            .fetch_one(connection)
            .await
            .map_err(DatabaseError::sql(&self.place))
    }

    async fn check_version(&self, connection: &mut SqliteConnection) -> Result<(), DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let incomplete = || DatabaseError::Incomplete {
            place: self.place.clone(),
        };
        let names = self.names(connection).await?;
        if !names.iter().any(|name| name == "schema_version") {
            return Err(incomplete());
        }
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM schema_version")
            .fetch_one(connection)
            .await
            .map_err(sql)?;
        schema::check_version(found, &self.place)?;
        if schema::tables(schema::SQLITE).all(|table| names.iter().any(|name| name == table)) {
            Ok(())
        } else {
            Err(incomplete())
        }
    }

    /// The tables and views there are.
    async fn names(&self, connection: &mut SqliteConnection) -> Result<Vec<String>, DatabaseError> {
        sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )
        .fetch_all(connection)
        .await
        .map_err(DatabaseError::sql(&self.place))
    }

    /// Fails if the file can be read and holds somebody else's tables too.
    async fn refuse_guests(&self) -> Result<(), DatabaseError> {
        let Ok(mut connection) = self.connect(self.options.reader(&self.path)).await else {
            return Ok(());
        };
        let names = self.names(&mut connection).await.unwrap_or_default();
        self.disconnect(connection).await?;
        let tables: Vec<_> = names
            .into_iter()
            .filter(|name| !schema::tables(schema::SQLITE).any(|table| table == name))
            .collect();
        if tables.is_empty() {
            Ok(())
        } else {
            Err(DatabaseError::Guests {
                place: self.place.clone(),
                tables,
            })
        }
    }

    /// Removes the file. It goes before its companions: without it they mean nothing and are removed with the next
    /// creation, but without them it may lack what was committed.
    pub(super) fn remove(&self) -> Result<(), DatabaseError> {
        remove(&self.path)?;
        self.remove_companions()
    }

    fn remove_companions(&self) -> Result<(), DatabaseError> {
        ["-wal", "-shm", "-journal"]
            .into_iter()
            .try_for_each(|suffix| remove(&self.companion(suffix)))
    }

    fn companion(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }
}

fn remove(path: &Path) -> Result<(), DatabaseError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(DatabaseError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}
