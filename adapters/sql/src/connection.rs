//! Connections to a database, whichever it is: statements go in as text and values, rows come out as columns by number.
//! Nothing outside of this module and `dialect` knows the driver.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use modelog_engine::Timestamp;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, MySql, MySqlConnection,
    PgConnection, Postgres, Row as _, Sqlite, SqliteConnection,
};

use crate::dialect::Dialect;
use crate::dialect::postgres::{self, CopyRows};
use crate::value::{Sink, Value};

/// How long an answer of a server is waited for. Locks are given up long before; what answers nothing for so long is
/// not there any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many bytes of copied rows are sent at a time, at least: the server is at work on them while the next ones are put
/// together. More than a packet of any network has.
const COPY_BYTES: usize = 96 << 10;

/// A statement with its arguments. Its text is made of constants and numbers alone, with `?` where an argument goes.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) text: String,
    arguments: Vec<Value<'static>>,
}

impl Statement {
    pub(crate) fn new(parts: &[&str]) -> Self {
        Self {
            text: parts.join(" "),
            arguments: Vec::new(),
        }
    }

    /// The next argument.
    pub(crate) fn with(mut self, value: impl Into<Value<'static>>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// The next argument, a number.
    pub(crate) fn int(self, value: impl Into<i64>) -> Self {
        self.with(Value::Int(value.into()))
    }

    /// The next argument, a text.
    pub(crate) fn text(self, value: impl Into<String>) -> Self {
        self.with(value.into())
    }

    /// The next argument, a time in microseconds.
    pub(crate) fn time(self, micros: i64) -> Self {
        self.with(Timestamp::from_micros(micros))
    }

    fn text_for(&self, dialect: Dialect) -> AssertSqlSafe<String> {
        AssertSqlSafe(dialect.numbered(&self.text))
    }

    fn arguments<A: Sink + Default>(&self) -> A {
        let mut arguments = A::default();
        self.arguments
            .iter()
            .for_each(|value| arguments.push(value));
        arguments
    }
}

/// The arguments of a statement that writes many rows.
#[derive(Debug)]
pub(crate) struct Arguments {
    values: Values,
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
    MySql(MySqlArguments),
}

impl Arguments {
    pub(crate) fn with_room(dialect: Dialect, values: usize) -> Self {
        let mut empty = match dialect {
            Dialect::Sqlite => Values::Sqlite(SqliteArguments::default()),
            Dialect::Postgres => Values::Postgres(PgArguments::default()),
            Dialect::MySql => Values::MySql(MySqlArguments::default()),
        };
        match &mut empty {
            Values::Sqlite(arguments) => arguments.reserve(values, 0),
            Values::Postgres(arguments) => arguments.reserve(values, 0),
            Values::MySql(arguments) => arguments.reserve(values, 0),
        }
        Self {
            values: empty,
            bytes: 0,
        }
    }

    /// About how many bytes they have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Sink for Arguments {
    fn push(&mut self, value: &Value<'_>) {
        self.bytes += value.size();
        match &mut self.values {
            Values::Sqlite(arguments) => arguments.push(value),
            Values::Postgres(arguments) => postgres::push_column(arguments, value),
            Values::MySql(arguments) => arguments.push(value),
        }
    }
}

/// Waits for a server's answer, but not for ever.
async fn patiently<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Waits for an answer. SQLite is in this process, and always answers.
async fn answered<T>(
    dialect: Dialect,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match dialect {
        Dialect::Sqlite => answer.await,
        Dialect::Postgres | Dialect::MySql => patiently(answer).await,
    }
}

/// A connection that writes.
#[derive(Debug)]
pub(crate) enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Session {
    /// Begins a transaction that writes.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(connection) => {
                Transaction::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?)
            }
            Self::Postgres(connection) => {
                Transaction::Postgres(patiently(connection.begin()).await?)
            }
            Self::MySql(connection) => Transaction::MySql(patiently(connection.begin()).await?),
        })
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            // Its server notices, and one that hangs must not be waited for.
            Self::Postgres(_) | Self::MySql(_) => Ok(()),
        }
    }
}

/// A transaction; it is rolled back unless it is committed.
#[derive(Debug)]
pub(crate) enum Transaction<'c> {
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    Postgres(sqlx::Transaction<'c, Postgres>),
    MySql(sqlx::Transaction<'c, MySql>),
}

/// The same steps for the connection of every database.
macro_rules! on_each {
    ($self:expr, $dialect:ident, $connection:ident, $database:ident, $arguments:ident => $steps:expr) => {
        match $self {
            Transaction::Sqlite($connection) => {
                type $database = Sqlite;
                type $arguments = SqliteArguments;
                let $dialect = Dialect::Sqlite;
                $steps
            }
            Transaction::Postgres($connection) => {
                type $database = Postgres;
                type $arguments = PgArguments;
                let $dialect = Dialect::Postgres;
                $steps
            }
            Transaction::MySql($connection) => {
                type $database = MySql;
                type $arguments = MySqlArguments;
                let $dialect = Dialect::MySql;
                $steps
            }
        }
    };
}

impl Transaction<'_> {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// Executes a statement; answers how many rows it says it changed.
    pub(crate) async fn run(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        on_each!(self, dialect, connection, DB, Arguments => {
            let text = statement.text_for(dialect);
            let query = sqlx::query_with::<DB, _>(text, statement.arguments::<Arguments>());
            let done = answered(dialect, query.execute(&mut **connection)).await?;
            Ok(done.rows_affected())
        })
    }

    /// Executes a statement that writes many rows; answers how many rows it says it changed.
    pub(crate) async fn write(
        &mut self,
        text: Arc<str>,
        arguments: Arguments,
    ) -> Result<u64, sqlx::Error> {
        let text = AssertSqlSafe(text);
        Ok(match (self, arguments.values) {
            (Self::Sqlite(connection), Values::Sqlite(arguments)) => {
                let query = sqlx::query_with(text, arguments);
                query.execute(&mut **connection).await?.rows_affected()
            }
            (Self::Postgres(connection), Values::Postgres(arguments)) => {
                let query = sqlx::query_with(text, arguments);
                patiently(query.execute(&mut **connection))
                    .await?
                    .rows_affected()
            }
            (Self::MySql(connection), Values::MySql(arguments)) => {
                let query = sqlx::query_with(text, arguments);
                patiently(query.execute(&mut **connection))
                    .await?
                    .rows_affected()
            }
            _ => {
                return Err(sqlx::Error::Protocol(
                    "arguments of another database".into(),
                ));
            }
        })
    }

    /// Executes a statement without arguments that is not kept prepared; answers how many rows it says it changed.
    pub(crate) async fn once(&mut self, text: String) -> Result<u64, sqlx::Error> {
        let text = AssertSqlSafe(text);
        on_each!(self, dialect, connection, DB, _Arguments => {
            let query = sqlx::query::<DB>(text).persistent(false);
            let done = answered(dialect, query.execute(&mut **connection)).await?;
            Ok(done.rows_affected())
        })
    }

    /// Copies rows into a table of PostgreSQL; answers how many. `values` gives those of a row.
    pub(crate) async fn copy(
        &mut self,
        text: &str,
        columns: usize,
        rows: &[usize],
        mut values: impl FnMut(usize, &mut CopyRows),
    ) -> Result<u64, sqlx::Error> {
        let Self::Postgres(connection) = self else {
            return Err(sqlx::Error::Protocol("only PostgreSQL copies".into()));
        };
        let copying = connection.copy_in_raw(text);
        let mut copying = patiently(copying).await?;
        let mut data = CopyRows::new(columns);
        for row in rows {
            values(*row, &mut data);
            if data.len() >= 2 * COPY_BYTES {
                let sent = copying.send(data.take(COPY_BYTES));
                patiently(sent).await?;
            }
        }
        // All of it may not be, but what comes last is more than a little: see `bulk::copied`.
        patiently(copying.send(data.finish())).await?;
        patiently(copying.finish()).await
    }

    /// Executes statements without arguments, of which nothing is kept prepared.
    pub(crate) async fn raw(&mut self, text: impl Into<String>) -> Result<(), sqlx::Error> {
        let text = sqlx::raw_sql(AssertSqlSafe(text.into()));
        match self {
            Self::Sqlite(connection) => connection.execute(text).await.map(drop),
            Self::Postgres(connection) => {
                let done = patiently(connection.execute(text)).await;
                done.map(drop)
            }
            Self::MySql(connection) => {
                let done = patiently(connection.execute(text)).await;
                done.map(drop)
            }
        }
    }

    /// Shows every row to `see`, one at a time.
    pub(crate) async fn each<E: From<sqlx::Error>>(
        &mut self,
        statement: Statement,
        mut see: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        on_each!(self, dialect, connection, DB, Arguments => {
            let text = statement.text_for(dialect);
            let query = sqlx::query_with::<DB, _>(text, statement.arguments::<Arguments>());
            let mut rows = query.fetch(&mut **connection);
            while let Some(row) = answered(dialect, rows.try_next()).await? {
                see(&Row::from(&row))?;
            }
            Ok(())
        })
    }

    /// What `read` makes of every row.
    pub(crate) async fn all<T, E: From<sqlx::Error>>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut found = Vec::new();
        self.each(statement, |row| {
            found.push(read(row)?);
            Ok::<_, E>(())
        })
        .await?;
        Ok(found)
    }

    /// What `read` makes of the only row, if there is one.
    pub(crate) async fn one<T, E: From<sqlx::Error>>(
        &mut self,
        statement: Statement,
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        Ok(self.all(statement, read).await?.pop())
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => patiently(transaction.commit()).await,
            Self::MySql(transaction) => patiently(transaction.commit()).await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => patiently(transaction.rollback()).await,
            Self::MySql(transaction) => patiently(transaction.rollback()).await,
        }
    }
}

/// A row of an answer; columns are numbered from 0.
pub(crate) enum Row<'a> {
    Sqlite(&'a SqliteRow),
    Postgres(&'a PgRow),
    MySql(&'a MySqlRow),
}

impl<'a> From<&'a SqliteRow> for Row<'a> {
    fn from(row: &'a SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl<'a> From<&'a PgRow> for Row<'a> {
    fn from(row: &'a PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl<'a> From<&'a MySqlRow> for Row<'a> {
    fn from(row: &'a MySqlRow) -> Self {
        Self::MySql(row)
    }
}

macro_rules! get {
    ($row:expr, $column:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($column),
            Row::Postgres(row) => row.try_get($column),
            Row::MySql(row) => row.try_get($column),
        }
    };
}

impl<'a> Row<'a> {
    pub(crate) fn int(&self, column: usize) -> Result<i64, sqlx::Error> {
        get!(self, column)
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        get!(self, column)
    }

    pub(crate) fn real(&self, column: usize) -> Result<Option<f64>, sqlx::Error> {
        get!(self, column)
    }

    pub(crate) fn boolean(&self, column: usize) -> Result<Option<bool>, sqlx::Error> {
        match self {
            Self::Postgres(row) => row.try_get(column),
            _ => Ok(self.optional_int(column)?.map(|value| value != 0)),
        }
    }

    /// A time in microseconds.
    pub(crate) fn optional_time(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(_) => self.optional_int(column)?,
            Self::Postgres(row) => row
                .try_get::<Option<chrono::DateTime<chrono::Utc>>, _>(column)?
                .map(|time| time.timestamp_micros()),
            Self::MySql(row) => row
                .try_get::<Option<chrono::NaiveDateTime>, _>(column)?
                .map(|time| time.and_utc().timestamp_micros()),
        })
    }

    pub(crate) fn time(&self, column: usize) -> Result<i64, sqlx::Error> {
        self.optional_time(column)?
            .ok_or_else(|| sqlx::Error::Decode("a time that is null".into()))
    }

    /// A text, or JSON as text.
    pub(crate) fn str(&self, column: usize) -> Result<Option<&'a str>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            // The driver has other types for JSON than for text; the bytes are the same.
            Self::Postgres(row) => row.try_get_unchecked(column),
            Self::MySql(row) => row.try_get_unchecked(column),
        }
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&'a [u8], sqlx::Error> {
        get!(self, column)
    }
}
