//! The database file: whose it is, who may read it, and the connections to it.
//!
//! # Invariants
//! D1. A file is ours if its header carries our application id. It gets there with the tables, in one transaction with a
//!     rollback journal, so the bytes of the file itself always tell. Nothing is written to a file that is not ours.
//! D2. There is one writing connection, the projection's; readers cannot write.
//! D3. The file is looked at and replaced only while no connection of ours is open. SQLite's locks are the process's:
//!     whoever closes the file by other means takes them from every connection.
//!
//! # Durability
//! The write-ahead log is synced when its pages are moved into the file (`synchronous = NORMAL`), not at every commit. A
//! power failure may thus take back the last commits, whole and in order, with the checkpoint that is part of them: the
//! store is older then, and follows the log again from there. Syncing every commit would buy nothing but time.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::RwLock;

use crate::config::SqlConfig;
use crate::dialect::sqlite;
use crate::error::DatabaseError;
use crate::schema;

/// A database file and the connections that read it.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    options: sqlite::Options,
    readers: u32,
    /// Held for writing while the file is replaced.
    pool: RwLock<Option<SqlitePool>>,
}

/// What lies at our path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Other,
}

impl Database {
    pub(crate) fn new(path: PathBuf, config: &SqlConfig) -> Self {
        Self {
            options: sqlite::Options {
                cache_bytes: config.cache_bytes,
                busy_timeout: config.busy_timeout,
            },
            readers: config.readers.max(1),
            path,
            pool: RwLock::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Connections that read. They see the last commit; a transaction sees one commit throughout.
    pub(crate) async fn readers(&self) -> SqlitePool {
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

    pub(crate) async fn close(&self) {
        if let Some(pool) = self.pool.write().await.take() {
            pool.close().await;
        }
    }

    /// The connection that writes; creates the file and the tables if there is nothing. The one before must be closed.
    pub(crate) async fn writer(&self) -> Result<SqliteConnection, DatabaseError> {
        let mut pool = self.pool.write().await;
        if let Some(pool) = pool.take() {
            pool.close().await;
        }
        match self.look()? {
            Found::Nothing => self.create().await?,
            Found::Ours => {}
            Found::Other => {
                return Err(DatabaseError::Foreign {
                    path: self.path.clone(),
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
    pub(crate) async fn recreate(&self) -> Result<(), DatabaseError> {
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
                    path: self.path.clone(),
                });
            }
        }
        self.create().await
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
        let sql = DatabaseError::sql(&self.path);
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
            .map_err(DatabaseError::sql(&self.path))
    }

    async fn disconnect(&self, connection: SqliteConnection) -> Result<(), DatabaseError> {
        connection
            .close()
            .await
            .map_err(DatabaseError::sql(&self.path))
    }

    async fn has_tables(&self, connection: &mut SqliteConnection) -> Result<bool, DatabaseError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema)")
            .fetch_one(connection)
            .await
            .map_err(DatabaseError::sql(&self.path))
    }

    async fn check_version(&self, connection: &mut SqliteConnection) -> Result<(), DatabaseError> {
        let sql = DatabaseError::sql(&self.path);
        let incomplete = || DatabaseError::Incomplete {
            path: self.path.clone(),
        };
        let names = self.names(connection).await?;
        if !names.iter().any(|name| name == "schema_version") {
            return Err(incomplete());
        }
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM schema_version")
            .fetch_one(connection)
            .await
            .map_err(sql)?;
        let known = schema::VERSION;
        match found {
            Some(found) if found > known => Err(DatabaseError::TooNew {
                path: self.path.clone(),
                found,
                known,
            }),
            Some(found)
                if found == known
                    && schema::tables().all(|table| names.iter().any(|name| name == table)) =>
            {
                Ok(())
            }
            _ => Err(incomplete()),
        }
    }

    /// The tables and views there are.
    async fn names(&self, connection: &mut SqliteConnection) -> Result<Vec<String>, DatabaseError> {
        sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )
        .fetch_all(connection)
        .await
        .map_err(DatabaseError::sql(&self.path))
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
            .filter(|name| !schema::tables().any(|table| table == name))
            .collect();
        if tables.is_empty() {
            Ok(())
        } else {
            Err(DatabaseError::Guests {
                path: self.path.clone(),
                tables,
            })
        }
    }

    /// Removes the file. It goes before its companions: without it they mean nothing and are removed with the next
    /// creation, but without them it may lack what was committed.
    fn remove(&self) -> Result<(), DatabaseError> {
        remove(&self.path)?;
        self.remove_companions()
    }

    fn remove_companions(&self) -> Result<(), DatabaseError> {
        ["-wal", "-shm", "-journal"]
            .into_iter()
            .try_for_each(|suffix| {
                let mut path = self.path.clone().into_os_string();
                path.push(suffix);
                remove(Path::new(&path))
            })
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
