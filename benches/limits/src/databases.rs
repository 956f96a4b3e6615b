//! Rows into a table of a SQL database, by a bare client: the fastest way each database has, in one transaction.
//!
//! The rows are those of a table that is there. They are read first and kept in memory; what is measured is writing them
//! into another table with the same columns and indexes.

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, Connection as _, Database, Encode, Executor,
    IntoArguments, MySql, Row as _, Sqlite, Type, TypeInfo as _, ValueRef as _,
};

/// How many rows a statement writes.
const STATEMENT_ROWS: usize = 500;
/// The name of the table that is written to; it is dropped again.
const RAW: &str = "raw_rows";

/// A client that has rows, and does nothing but write them.
#[expect(async_fn_in_trait, reason = "nobody sends these to other threads")]
pub trait BareClient {
    /// Makes a new table for the rows.
    ///
    /// # Errors
    /// If the database fails.
    async fn prepare(&mut self) -> Result<()>;

    /// Writes them into it.
    ///
    /// # Errors
    /// If the database fails.
    async fn write(&mut self) -> Result<()>;

    /// Drops it.
    ///
    /// # Errors
    /// If the database fails.
    async fn forget(self) -> Result<()>;
}

/// The rows of a table of PostgreSQL, as `COPY` writes them.
#[derive(Debug)]
pub struct PostgresRows {
    connection: PgConnection,
    table: String,
    data: Vec<u8>,
}

impl PostgresRows {
    /// Reads all rows of a table.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn read(url: &str, table: &str) -> Result<Self> {
        let mut connection = connect(url.parse::<PgConnectOptions>()?).await?;
        let mut data = Vec::new();
        let out = format!("COPY {table} TO STDOUT (FORMAT binary)");
        let mut rows = connection.copy_out_raw(&out).await?;
        while let Some(part) = rows.try_next().await? {
            data.extend_from_slice(&part);
        }
        drop(rows);
        Ok(Self {
            connection,
            table: table.into(),
            data,
        })
    }
}

impl BareClient for PostgresRows {
    async fn prepare(&mut self) -> Result<()> {
        let table = format!("CREATE TABLE {RAW} (LIKE {} INCLUDING ALL)", self.table);
        for text in [format!("DROP TABLE IF EXISTS {RAW}"), table] {
            self.connection.execute(AssertSqlSafe(text)).await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let copy = format!("COPY {RAW} FROM STDIN (FORMAT binary)");
        let mut copying = self.connection.copy_in_raw(&copy).await?;
        for part in self.data.chunks(256 << 10) {
            copying.send(part).await?;
        }
        copying.finish().await?;
        Ok(())
    }

    async fn forget(mut self) -> Result<()> {
        let drop = AssertSqlSafe(format!("DROP TABLE {RAW}"));
        self.connection.execute(drop).await?;
        Ok(self.connection.close().await?)
    }
}

/// Executes a statement on PostgreSQL.
///
/// # Errors
/// If the server fails.
pub async fn postgres_execute(url: &str, text: &str) -> Result<()> {
    let mut connection = connect(url.parse::<PgConnectOptions>()?).await?;
    connection.execute(AssertSqlSafe(text.to_owned())).await?;
    Ok(connection.close().await?)
}

/// Executes a statement on MySQL.
///
/// # Errors
/// If the server fails.
pub async fn mysql_execute(url: &str, text: &str) -> Result<()> {
    let mut connection = connect(url.parse::<MySqlConnectOptions>()?).await?;
    connection.execute(AssertSqlSafe(text.to_owned())).await?;
    Ok(connection.close().await?)
}

async fn connect<O>(options: O) -> Result<O::Connection>
where
    O: sqlx::ConnectOptions,
    O::Connection: Sized,
{
    let connecting = options.disable_statement_logging();
    connecting.connect().await.context("connecting")
}

/// A value as it was read.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The rows of a table, to be written by statements of many rows.
pub struct TableRows<DB: Database> {
    connection: DB::Connection,
    /// What makes the new table.
    make: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl<DB: Database> std::fmt::Debug for TableRows<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (make, rows) = (&self.make, self.rows.len());
        f.debug_struct("TableRows")
            .field("make", make)
            .field("rows", &rows)
            .finish_non_exhaustive()
    }
}

impl TableRows<MySql> {
    /// Reads all rows of a table, in the order of a column.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn read(url: &str, table: &str, order: &str) -> Result<Self> {
        let mut connection = connect(url.parse::<MySqlConnectOptions>()?).await?;
        let select = format!("SELECT * FROM {table} ORDER BY {order}");
        let rows = sqlx::query(AssertSqlSafe(select))
            .try_map(|row: MySqlRow| (0..row.len()).map(|at| mysql_cell(&row, at)).collect())
            .fetch_all(&mut connection)
            .await?;
        Ok(Self {
            connection,
            make: vec![
                format!("DROP TABLE IF EXISTS {RAW}"),
                format!("CREATE TABLE {RAW} LIKE {table}"),
            ],
            rows,
        })
    }
}

fn mysql_cell(row: &MySqlRow, column: usize) -> Result<Cell, sqlx::Error> {
    if row.try_get_raw(column)?.is_null() {
        return Ok(Cell::Null);
    }
    Ok(match row.column(column).type_info().name() {
        "DOUBLE" => Cell::Real(row.try_get(column)?),
        "DATETIME" => {
            let time: chrono::NaiveDateTime = row.try_get(column)?;
            Cell::Text(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
        }
        name if name.ends_with("INT") || name == "BOOLEAN" => Cell::Int(row.try_get(column)?),
        _ => Cell::Text(row.try_get_unchecked(column)?),
    })
}

impl TableRows<Sqlite> {
    /// Reads all rows of a table of a file, in the order of a column.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn open(path: &std::path::Path, table: &str, order: &str) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", "-65536")
            .pragma("wal_autocheckpoint", "16384");
        let mut connection = connect(options).await?;
        let made: Vec<String> = sqlx::query_scalar(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL",
        )
        .bind(table)
        .fetch_all(&mut connection)
        .await?;
        let make = made
            .iter()
            .map(|text| {
                text.replace(&format!("TABLE {table} "), &format!("TABLE {RAW} "))
                    .replace(&format!("INDEX {table}"), &format!("INDEX {RAW}"))
                    .replace(&format!("ON {table} "), &format!("ON {RAW} "))
            })
            .collect();
        let select = format!("SELECT * FROM {table} ORDER BY {order}");
        let rows = sqlx::query(AssertSqlSafe(select))
            .try_map(|row: SqliteRow| (0..row.len()).map(|at| sqlite_cell(&row, at)).collect())
            .fetch_all(&mut connection)
            .await?;
        Ok(Self {
            connection,
            make,
            rows,
        })
    }
}

fn sqlite_cell(row: &SqliteRow, column: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let name = value.type_info().name().to_owned();
    Ok(match name.as_str() {
        "INTEGER" => Cell::Int(row.try_get(column)?),
        "REAL" => Cell::Real(row.try_get(column)?),
        "BLOB" => Cell::Bytes(row.try_get(column)?),
        _ => Cell::Text(row.try_get(column)?),
    })
}

impl<DB> BareClient for TableRows<DB>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'q> Option<i64>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> f64: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> &'q [u8]: Encode<'q, DB> + Type<DB>,
{
    async fn prepare(&mut self) -> Result<()> {
        for text in &self.make {
            self.connection.execute(AssertSqlSafe(text.clone())).await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        for part in self.rows.chunks(STATEMENT_ROWS) {
            let mut arguments = DB::Arguments::default();
            for cell in part.iter().flatten() {
                match cell {
                    Cell::Null => arguments.add(None::<i64>),
                    Cell::Int(value) => arguments.add(*value),
                    Cell::Real(value) => arguments.add(*value),
                    Cell::Text(text) => arguments.add(text.as_str()),
                    Cell::Bytes(bytes) => arguments.add(bytes.as_slice()),
                }
                .map_err(sqlx::Error::Encode)?;
            }
            let query = sqlx::query_with(AssertSqlSafe(insert(part)), arguments);
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn forget(mut self) -> Result<()> {
        let drop = AssertSqlSafe(format!("DROP TABLE {RAW}"));
        self.connection.execute(drop).await?;
        Ok(self.connection.close().await?)
    }
}

/// A statement that writes rows.
fn insert(rows: &[Vec<Cell>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let row = format!("({})", vec!["?"; columns].join(","));
    format!(
        "INSERT INTO {RAW} VALUES {}",
        vec![row.as_str(); rows.len()].join(",")
    )
}
