//! A schema of PostgreSQL.

use std::sync::OnceLock;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgPool};

use super::{
    Found, STATEMENTS_KEPT, Writer, check_tables, connected, create, first_int, first_text,
};
use crate::bulk::Habits;
use crate::config::SqlConfig;
use crate::connection::{Session, Statement, Transaction};
use crate::error::{DatabaseError, Place};
use crate::schema::{self, MARK, POSTGRES};

/// The oldest version with all we use, as the server numbers it: 12.
const LEAST_VERSION: i64 = 120_000;

/// A schema on a server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) place: Place,
    options: PgConnectOptions,
    /// Letters, digits and underscores.
    schema: String,
    readers: u32,
    copy_bytes_least: usize,
    busy: std::time::Duration,
    pool: OnceLock<PgPool>,
}

impl Server {
    pub(super) fn new(options: PgConnectOptions, schema: String, config: &SqlConfig) -> Self {
        let server = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_default();
        Self {
            place: Place::server(format!("schema {schema} of {database} on {server}")),
            options: options
                .disable_statement_logging()
                .statement_cache_capacity(STATEMENTS_KEPT),
            schema,
            readers: config.readers.max(1),
            copy_bytes_least: config.copy_bytes_least,
            busy: config.busy_timeout,
            pool: OnceLock::new(),
        }
    }

    /// What every connection is told first.
    fn settings(&self) -> String {
        format!(
            "SET search_path TO \"{}\"; SET client_min_messages TO warning; SET lock_timeout TO {}",
            self.schema,
            self.busy.as_millis().clamp(1, i32::MAX as u128)
        )
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static>, sqlx::Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.readers()
            .begin_with(begin)
            .await
            .map(Transaction::Postgres)
    }

    fn readers(&self) -> &PgPool {
        self.pool.get_or_init(|| {
            let settings = self.settings();
            PgPoolOptions::new()
                .max_connections(self.readers)
                .acquire_timeout(self.busy)
                .after_connect(move |connection, _| {
                    let settings = AssertSqlSafe(settings.clone());
                    Box::pin(async move { connection.execute(settings).await.map(drop) })
                })
                .connect_lazy_with(self.options.clone())
        })
    }

    pub(super) async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }

    async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut connection = connected(self.options.connect()).await.map_err(&sql)?;
        connection
            .execute(AssertSqlSafe(self.settings()))
            .await
            .map_err(&sql)?;
        Ok(connection)
    }

    pub(super) async fn writer(&self) -> Result<Writer, DatabaseError> {
        let mut session = Session::Postgres(self.connect().await?);
        let mut transaction = self.lock(&mut session).await?;
        let names = self.names(&mut transaction).await?;
        match self.look(&mut transaction, &names).await? {
            Found::Ours => check_tables(&mut transaction, &names, POSTGRES, &self.place).await?,
            Found::Other => return Err(self.foreign()),
            Found::Nothing | Found::Unfinished => self.create(&mut transaction).await?,
        }
        self.commit(transaction).await?;
        let habits = Habits {
            copy_bytes_least: self.copy_bytes_least,
            ..Habits::default()
        };
        Ok(Writer::new(session, habits))
    }

    pub(super) async fn recreate(&self) -> Result<(), DatabaseError> {
        let mut session = Session::Postgres(self.connect().await?);
        let mut transaction = self.lock(&mut session).await?;
        let names = self.names(&mut transaction).await?;
        match self.look(&mut transaction, &names).await? {
            Found::Other => return Err(self.foreign()),
            Found::Nothing | Found::Unfinished => {}
            Found::Ours => self.drop_all(&mut transaction).await?,
        }
        self.create(&mut transaction).await?;
        self.commit(transaction).await
    }

    /// Whether our tables are there.
    pub(super) async fn is_ours(&self) -> Result<bool, DatabaseError> {
        let mut session = Session::Postgres(self.connect().await?);
        let mut transaction = self.lock(&mut session).await?;
        let names = self.names(&mut transaction).await?;
        let found = self.look(&mut transaction, &names).await?;
        self.commit(transaction).await?;
        Ok(found == Found::Ours)
    }

    /// Drops the schema, and fails if there is more in it than what is ours.
    pub(super) async fn remove(&self) -> Result<(), DatabaseError> {
        let mut session = Session::Postgres(self.connect().await?);
        let mut transaction = self.lock(&mut session).await?;
        self.drop_all(&mut transaction).await?;
        self.drop_schema(&mut transaction).await?;
        self.commit(transaction).await
    }

    /// Takes the tables of another schema, in the place of those that are here, and drops that schema.
    pub(super) async fn replace_by(&self, aside: &Self) -> Result<(), DatabaseError> {
        let mut session = Session::Postgres(self.connect().await?);
        let mut transaction = self.lock(&mut session).await?;
        self.drop_all(&mut transaction).await?;
        for (kind, names) in ours() {
            for name in names {
                let take = format!(
                    "ALTER {kind} \"{}\".{name} SET SCHEMA \"{}\"",
                    aside.schema, self.schema
                );
                let taken = transaction.raw(take).await;
                taken.map_err(DatabaseError::sql(&self.place))?;
            }
        }
        aside.drop_schema(&mut transaction).await?;
        self.commit(transaction).await
    }

    async fn drop_schema(&self, transaction: &mut Transaction<'_>) -> Result<(), DatabaseError> {
        let dropped = transaction
            .raw(format!("DROP SCHEMA \"{}\"", self.schema))
            .await;
        dropped.map_err(DatabaseError::sql(&self.place))
    }

    fn foreign(&self) -> DatabaseError {
        DatabaseError::Foreign {
            place: self.place.clone(),
            needed: "a schema of its own: set another one in `sql.url`, as in `postgres://…/DATABASE?schema=models`",
        }
    }

    /// Begins a transaction that nobody else has who makes tables, on a server that will do.
    async fn lock<'c>(&self, session: &'c mut Session) -> Result<Transaction<'c>, DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let mut transaction = session.begin().await.map_err(&sql)?;
        let version = "SELECT current_setting('server_version_num')::bigint";
        let version = transaction.one(Statement::new(&[version]), first_int);
        let version = version.await.map_err(&sql)?.unwrap_or_default();
        let encoding = "SELECT current_setting('server_encoding')";
        let encoding = transaction.one(Statement::new(&[encoding]), first_text);
        let encoding = encoding.await.map_err(&sql)?.unwrap_or_default();
        if version < LEAST_VERSION || encoding != "UTF8" {
            return Err(DatabaseError::Unfit {
                place: self.place.clone(),
                found: format!("PostgreSQL {} with {encoding}", version / 10_000),
                needed: "PostgreSQL 12 or newer, and a database in UTF8",
            });
        }
        let lock = "SELECT pg_advisory_xact_lock(hashtext(?))::text";
        let lock = Statement::new(&[lock]).text(format!("Modelog in {}", self.schema));
        transaction.one(lock, |_| Ok(())).await.map_err(&sql)?;
        Ok(transaction)
    }

    async fn commit(&self, transaction: Transaction<'_>) -> Result<(), DatabaseError> {
        let done = transaction.commit().await;
        done.map_err(DatabaseError::sql(&self.place))
    }

    /// The tables and views in our schema.
    async fn names(&self, transaction: &mut Transaction<'_>) -> Result<Vec<String>, DatabaseError> {
        let names = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = ? AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let names = Statement::new(&[names]).text(self.schema.clone());
        let names = transaction.all(names, first_text).await;
        names.map_err(DatabaseError::sql(&self.place))
    }

    async fn look(
        &self,
        transaction: &mut Transaction<'_>,
        names: &[String],
    ) -> Result<Found, DatabaseError> {
        if names.is_empty() {
            return Ok(Found::Nothing);
        }
        let comment = "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relname = 'schema_version'";
        let comment = Statement::new(&[comment]).text(self.schema.clone());
        let comment = transaction.one(comment, first_text);
        let comment = comment.await.map_err(DatabaseError::sql(&self.place))?;
        Ok(if comment.is_some_and(|comment| comment == MARK) {
            Found::Ours
        } else {
            Found::Other
        })
    }

    async fn create(&self, transaction: &mut Transaction<'_>) -> Result<(), DatabaseError> {
        let sql = DatabaseError::sql(&self.place);
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = ?";
        let schemas = Statement::new(&[schemas]).text(self.schema.clone());
        let schemas = transaction.one(schemas, first_int).await.map_err(&sql)?;
        if schemas == Some(0) {
            // `IF NOT EXISTS` would ask for the right to create one even where there is one.
            let create = format!("CREATE SCHEMA \"{}\"", self.schema);
            transaction.raw(create).await.map_err(&sql)?;
        }
        create(transaction, POSTGRES, &self.place).await
    }

    /// Drops what is ours, and fails if something of others needs it.
    async fn drop_all(&self, transaction: &mut Transaction<'_>) -> Result<(), DatabaseError> {
        for (kind, names) in ours() {
            let names: Vec<_> = names
                .into_iter()
                .map(|name| format!("\"{}\".{name}", self.schema))
                .collect();
            let drop = format!("DROP {kind} IF EXISTS {}", names.join(", "));
            let dropped = transaction.raw(drop).await;
            dropped.map_err(|error| match dependents(&error) {
                Some(dependents) => DatabaseError::Dependents {
                    place: self.place.clone(),
                    dependents,
                },
                None => DatabaseError::sql(&self.place)(error),
            })?;
        }
        Ok(())
    }
}

/// What an error says to need what was to be dropped.
fn dependents(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    let is_needed = error.code() == "2BP01";
    is_needed.then(|| error.detail().unwrap_or_default().replace('\n', "; "))
}

/// What is ours in a schema, in the order in which it can be dropped.
fn ours() -> [(&'static str, Vec<&'static str>); 3] {
    let named = |beginning| schema::named(POSTGRES, beginning).collect();
    [
        ("VIEW", named("CREATE VIEW ")),
        ("TABLE", named("CREATE TABLE ")),
        ("FUNCTION", named("CREATE FUNCTION ")),
    ]
}
