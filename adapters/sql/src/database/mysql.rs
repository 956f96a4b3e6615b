//! A database of MySQL or MariaDB.
//!
//! Making tables commits, each by itself. So `schema_version` comes first, without a row, and gets its row when all tables
//! are there: one without a row is of tables that were not made to the end, and they are made again.

use std::sync::OnceLock;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, MySqlPool};

use super::{
    Found, STATEMENTS_KEPT, Writer, check_tables, connected, create, first_int, first_text,
};
use crate::bulk::Habits;
use crate::config::SqlConfig;
use crate::connection::{Session, Statement, Transaction};
use crate::error::{DatabaseError, Place};
use crate::schema::{self, MARK, MYSQL};

/// What a statement may have besides its text and arguments, as far as a packet's size goes.
const PACKET_OVERHEAD: i64 = 4096;

/// A database on a server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) place: Place,
    options: MySqlConnectOptions,
    readers: u32,
    busy: Duration,
    pool: OnceLock<MySqlPool>,
}

impl Server {
    pub(super) fn new(options: MySqlConnectOptions, config: &SqlConfig) -> Self {
        let server = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_default();
        Self {
            place: Place::server(format!("database {database} on {server}")),
            options: options
                .disable_statement_logging()
                .statement_cache_capacity(STATEMENTS_KEPT),
            readers: config.readers.max(1),
            busy: config.busy_timeout,
            pool: OnceLock::new(),
        }
    }

    /// What every connection is told first, whatever the server's defaults are. A value that does not fit is an error,
    /// never cut short.
    fn settings(&self) -> String {
        let busy = self.busy.as_secs().clamp(1, 100_000);
        format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1, \
             SESSION completion_type = 'NO_CHAIN', SESSION sql_safe_updates = 0, SESSION sql_auto_is_null = 0, \
             SESSION sql_select_limit = 18446744073709551615, SESSION innodb_lock_wait_timeout = {busy}, SESSION lock_wait_timeout = {busy}; \
             SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        )
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static>, sqlx::Error> {
        let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        self.readers()
            .begin_with(begin)
            .await
            .map(Transaction::MySql)
    }

    fn readers(&self) -> &MySqlPool {
        self.pool.get_or_init(|| {
            let settings = self.settings();
            MySqlPoolOptions::new()
                .max_connections(self.readers)
                .acquire_timeout(self.busy)
                .after_connect(move |connection, _| {
                    let settings = AssertSqlSafe(settings.clone());
                    Box::pin(
                        async move { connection.execute(sqlx::raw_sql(settings)).await.map(drop) },
                    )
                })
                .connect_lazy_with(self.options.clone())
        })
    }

    pub(super) async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }

    async fn connect(&self) -> Result<MySqlConnection, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut connection = connected(self.options.connect()).await.map_err(&sql)?;
        connection
            .execute(sqlx::raw_sql(AssertSqlSafe(self.settings())))
            .await
            .map_err(&sql)?;
        Ok(connection)
    }

    pub(super) async fn writer(&self) -> Result<Writer, DatabaseError> {
        let mut session = Session::MySql(self.connect().await?);
        let packet_bytes = self.make(&mut session, false).await?;
        let habits = Habits {
            packet_bytes,
            ..Habits::default()
        };
        Ok(Writer::new(session, habits))
    }

    pub(super) async fn recreate(&self) -> Result<(), DatabaseError> {
        let mut session = Session::MySql(self.connect().await?);
        self.make(&mut session, true).await.map(drop)
    }

    /// Whether our tables are there, made to the end; asked through the main database, since this one may not be there.
    pub(super) async fn is_ours(&self, main: &Self) -> Result<bool, DatabaseError> {
        let comment = "SELECT table_comment FROM information_schema.tables \
             WHERE table_schema = ? AND table_name = 'schema_version'";
        let mut session = Session::MySql(main.connect().await?);
        let sql = DatabaseError::sql(&self.place);
        let mut transaction = session.begin().await.map_err(&sql)?;
        let comment = Statement::new(&[comment]).text(self.database());
        let comment = transaction.one(comment, first_text).await.map_err(&sql)?;
        let mut found = comment.is_some_and(|comment| comment == MARK);
        if found {
            let rows = format!("SELECT count(*) FROM {}.schema_version", self.quoted());
            let rows = transaction.one(Statement::new(&[&rows]), first_int);
            found = rows.await.map_err(&sql)? != Some(0);
        }
        transaction.rollback().await.map_err(&sql)?;
        Ok(found)
    }

    /// Creates this database, through the main one, or clears it of what an exchange left in it.
    pub(super) async fn create_database(&self, main: &Self) -> Result<(), DatabaseError> {
        let create = format!("CREATE DATABASE IF NOT EXISTS {}", self.quoted());
        main.execute(&create).await?;
        self.drop_tables("old_").await
    }

    /// Drops our tables in this database, and the database if there is nothing else in it.
    pub(super) async fn remove(&self, main: &Self) -> Result<(), DatabaseError> {
        self.drop_tables("").await?;
        self.drop_tables("old_").await?;
        let mut session = Session::MySql(self.connect().await?);
        let sql = DatabaseError::sql(&self.place);
        let mut transaction = session.begin().await.map_err(&sql)?;
        let names = self.names(&mut transaction).await?;
        transaction.rollback().await.map_err(&sql)?;
        drop(session);
        if !names.is_empty() {
            return Ok(());
        }
        main.execute(&format!("DROP DATABASE {}", self.quoted()))
            .await
    }

    /// Takes the tables of another database, in the place of those that are here. All of them change places at once.
    pub(super) async fn replace_by(&self, aside: &Self) -> Result<(), DatabaseError> {
        let (main, other) = (self.quoted(), aside.quoted());
        let moves: Vec<_> = schema::named(MYSQL, "CREATE TABLE ")
            .flat_map(|table| {
                [
                    format!("{main}.{table} TO {other}.old_{table}"),
                    format!("{other}.{table} TO {main}.{table}"),
                ]
            })
            .collect();
        // What an exchange that was interrupted left there is in the way.
        aside.drop_tables("old_").await?;
        self.execute(&format!("RENAME TABLE {}", moves.join(", ")))
            .await?;
        aside.remove(self).await
    }

    /// Drops tables of ours in this database, named with a prefix, and the views, if `schema_version` among them says that
    /// they are ours. It goes last.
    async fn drop_tables(&self, prefix: &str) -> Result<(), DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut session = Session::MySql(self.connect().await?);
        let mut transaction = session.begin().await.map_err(&sql)?;
        if self.comment(&mut transaction, prefix).await?.as_deref() != Some(MARK) {
            return Ok(());
        }
        let views: Vec<_> = schema::named(MYSQL, "CREATE VIEW ").collect();
        let tables: Vec<_> = schema::named(MYSQL, "CREATE TABLE ")
            .filter(|table| *table != "schema_version")
            .map(|table| format!("{prefix}{table}"))
            .collect();
        for drop in [
            format!("DROP VIEW IF EXISTS {}", views.join(", ")),
            format!("DROP TABLE IF EXISTS {}", tables.join(", ")),
            format!("DROP TABLE {prefix}schema_version"),
        ] {
            transaction.raw(drop).await.map_err(&sql)?;
        }
        transaction.commit().await.map_err(&sql)
    }

    /// What is said about the table `schema_version` of this database, with a prefix, if it is there.
    async fn comment(
        &self,
        transaction: &mut Transaction<'_>,
        prefix: &str,
    ) -> Result<Option<String>, DatabaseError> {
        let comment = "SELECT table_comment FROM information_schema.tables \
             WHERE table_schema = database() AND table_name = ?";
        let comment = Statement::new(&[comment]).text(format!("{prefix}schema_version"));
        let comment = transaction.one(comment, first_text).await;
        comment.map_err(DatabaseError::sql(&self.place))
    }

    /// The name of this database, for the text of a statement.
    fn quoted(&self) -> String {
        format!("`{}`", self.database().replace('`', "``"))
    }

    fn database(&self) -> &str {
        self.options.get_database().unwrap_or_default()
    }

    async fn execute(&self, statement: &str) -> Result<(), DatabaseError> {
        let mut connection = self.connect().await?;
        let text = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        let done = connection.execute(text).await;
        done.map(drop).map_err(DatabaseError::sql(&self.place))
    }

    /// Sees to it that the tables are there, or makes them `anew`; answers how many bytes a statement may have.
    ///
    /// The lock goes with the connection, if not before.
    async fn make(&self, session: &mut Session, anew: bool) -> Result<usize, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut transaction = session.begin().await.map_err(&sql)?;
        let (collation, packet_bytes) = self.inspect(&mut transaction).await?;
        let lock = Statement::new(&["SELECT GET_LOCK(?, ?)"])
            .text(self.lock_name())
            .int(i64::try_from(self.busy.as_secs()).unwrap_or(1));
        let locked = transaction.one(lock, |row| row.optional_int(0));
        if locked.await.map_err(&sql)?.flatten() != Some(1) {
            return Err(DatabaseError::Busy {
                place: self.place.clone(),
            });
        }
        let names = self.names(&mut transaction).await?;
        let tables = MYSQL.replace("{collation}", &collation);
        match self.look(&mut transaction, &names).await? {
            Found::Other => {
                return Err(DatabaseError::Foreign {
                    place: self.place.clone(),
                    needed: "a database of its own: create one, and name it in `sql.url`",
                });
            }
            Found::Nothing => create(&mut transaction, &tables, &self.place).await?,
            Found::Ours if !anew => {
                check_tables(&mut transaction, &names, MYSQL, &self.place).await?;
            }
            Found::Ours | Found::Unfinished => {
                // From here on they are not whole, whatever happens.
                for statement in ["DELETE FROM schema_version", "COMMIT"] {
                    transaction.raw(statement).await.map_err(&sql)?;
                }
                self.drop_tables("").await?;
                create(&mut transaction, &tables, &self.place).await?;
            }
        }
        let unlock = Statement::new(&["SELECT RELEASE_LOCK(?)"]).text(self.lock_name());
        transaction.one(unlock, |_| Ok(())).await.map_err(&sql)?;
        transaction.commit().await.map_err(&sql)?;
        Ok(packet_bytes)
    }

    /// The name of the lock under which tables are made: at most 64 bytes.
    fn lock_name(&self) -> String {
        let name = xxhash_rust::xxh3::xxh3_128(self.database().as_bytes());
        format!("Modelog {name:032x}")
    }

    /// Which collation compares by bytes, and how many bytes a statement may have; fails on a server that will not do.
    async fn inspect(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> Result<(String, usize), DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let collation = "SELECT collation_name FROM information_schema.collations \
             WHERE collation_name IN ('utf8mb4_0900_bin', 'utf8mb4_nopad_bin')";
        let collation = transaction.one(Statement::new(&[collation]), first_text);
        let Some(collation) = collation.await.map_err(&sql)? else {
            let version = transaction.one(Statement::new(&["SELECT version()"]), first_text);
            return Err(DatabaseError::Unfit {
                place: self.place.clone(),
                found: version.await.map_err(&sql)?.unwrap_or_default(),
                needed: "MySQL 8.0.17 or MariaDB 10.6, or newer",
            });
        };
        let packet = "SELECT CAST(@@max_allowed_packet AS SIGNED)";
        let packet = transaction.one(Statement::new(&[packet]), first_int);
        let packet = packet.await.map_err(&sql)?.unwrap_or_default() - PACKET_OVERHEAD;
        Ok((collation, usize::try_from(packet).unwrap_or(0)))
    }

    /// The tables and views in our database.
    async fn names(&self, transaction: &mut Transaction<'_>) -> Result<Vec<String>, DatabaseError> {
        let names =
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database()";
        let names = transaction.all(Statement::new(&[names]), first_text).await;
        names.map_err(DatabaseError::sql(&self.place))
    }

    async fn look(
        &self,
        transaction: &mut Transaction<'_>,
        names: &[String],
    ) -> Result<Found, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        if names.is_empty() {
            return Ok(Found::Nothing);
        }
        if self.comment(transaction, "").await?.as_deref() != Some(MARK) {
            return Ok(Found::Other);
        }
        let rows = Statement::new(&["SELECT count(*) FROM schema_version"]);
        let rows = transaction.one(rows, first_int).await.map_err(&sql)?;
        Ok(if rows == Some(0) {
            Found::Unfinished
        } else {
            Found::Ours
        })
    }
}
