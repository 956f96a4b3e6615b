//! Rows into a table of a SQL database, by a bare client: the fastest way each database has, in one transaction.
//!
//! The rows are those of a table that is there. They are read first and kept in memory; what is measured is writing them
//! into another table with the same columns and indexes.

use anyhow::{Context as _, Result};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _,
    TypeInfo as _, ValueRef as _,
};

/// How many rows a statement writes.
const STATEMENT_ROWS: usize = 500;
/// The name of the table that is written to; it is dropped again.
const RAW: &str = "raw_rows";

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
        let options: PgConnectOptions = url.parse()?;
        let mut connection = options
            .disable_statement_logging()
            .connect()
            .await
            .context("connecting")?;
        let mut data = Vec::new();
        {
            use futures_util::TryStreamExt as _;
            let out = format!("COPY {table} TO STDOUT (FORMAT binary)");
            let mut rows = connection.copy_out_raw(&out).await?;
            while let Some(part) = rows.try_next().await? {
                data.extend_from_slice(&part);
            }
        }
        Ok(Self {
            connection,
            table: table.into(),
            data,
        })
    }

    /// Makes a new table with the same columns and indexes.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn prepare(&mut self) -> Result<()> {
        let table = format!("CREATE TABLE {RAW} (LIKE {} INCLUDING ALL)", self.table);
        for text in [format!("DROP TABLE IF EXISTS {RAW}"), table] {
            self.connection.execute(AssertSqlSafe(text)).await?;
        }
        Ok(())
    }

    /// Copies them into it.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn write(&mut self) -> Result<()> {
        let mut copying = self
            .connection
            .copy_in_raw(&format!("COPY {RAW} FROM STDIN (FORMAT binary)"))
            .await?;
        for part in self.data.chunks(256 << 10) {
            copying.send(part).await?;
        }
        copying.finish().await?;
        Ok(())
    }

    /// Drops it.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn forget(mut self) -> Result<()> {
        self.connection
            .execute(AssertSqlSafe(format!("DROP TABLE {RAW}")))
            .await?;
        Ok(self.connection.close().await?)
    }
}

/// Executes a statement on PostgreSQL.
///
/// # Errors
/// If the server fails.
pub async fn postgres_execute(url: &str, text: &str) -> Result<()> {
    let options: PgConnectOptions = url.parse()?;
    let mut connection = options
        .disable_statement_logging()
        .connect()
        .await
        .context("connecting")?;
    connection.execute(AssertSqlSafe(text.to_owned())).await?;
    Ok(connection.close().await?)
}

/// Executes a statement on MySQL.
///
/// # Errors
/// If the server fails.
pub async fn mysql_execute(url: &str, text: &str) -> Result<()> {
    let options: MySqlConnectOptions = url.parse()?;
    let mut connection = options
        .disable_statement_logging()
        .connect()
        .await
        .context("connecting")?;
    connection.execute(AssertSqlSafe(text.to_owned())).await?;
    Ok(connection.close().await?)
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

/// The rows of a table of MySQL.
#[derive(Debug)]
pub struct MySqlRows {
    connection: MySqlConnection,
    table: String,
    rows: Vec<Vec<Cell>>,
}

impl MySqlRows {
    /// Reads all rows of a table, in the order of a column.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn read(url: &str, table: &str, order: &str) -> Result<Self> {
        let options: MySqlConnectOptions = url.parse()?;
        let mut connection = options
            .disable_statement_logging()
            .connect()
            .await
            .context("connecting")?;
        let select = format!("SELECT * FROM {table} ORDER BY {order}");
        let rows = sqlx::query(AssertSqlSafe(select))
            .try_map(|row: MySqlRow| {
                (0..row.len())
                    .map(|column| mysql_cell(&row, column))
                    .collect()
            })
            .fetch_all(&mut connection)
            .await?;
        Ok(Self {
            connection,
            table: table.into(),
            rows,
        })
    }

    /// Makes a new table with the same columns and indexes.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn prepare(&mut self) -> Result<()> {
        for text in [
            format!("DROP TABLE IF EXISTS {RAW}"),
            format!("CREATE TABLE {RAW} LIKE {}", self.table),
        ] {
            self.connection.execute(AssertSqlSafe(text)).await?;
        }
        Ok(())
    }

    /// Writes them into it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(&mut self) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        for part in self.rows.chunks(STATEMENT_ROWS) {
            let mut query = sqlx::query(AssertSqlSafe(insert(part)));
            for cell in part.iter().flatten() {
                query = match cell {
                    Cell::Null => query.bind(None::<i64>),
                    Cell::Int(value) => query.bind(value),
                    Cell::Real(value) => query.bind(value),
                    Cell::Text(text) => query.bind(text),
                    Cell::Bytes(bytes) => query.bind(bytes),
                };
            }
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Drops it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget(mut self) -> Result<()> {
        self.connection
            .execute(AssertSqlSafe(format!("DROP TABLE {RAW}")))
            .await?;
        Ok(self.connection.close().await?)
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

/// The rows of a table of SQLite.
#[derive(Debug)]
pub struct SqliteRows {
    connection: SqliteConnection,
    table: String,
    /// What made the table and its indexes, with the name of the other one.
    made: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl SqliteRows {
    /// Reads all rows of a table of a file, in the order of a column.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn read(path: &std::path::Path, table: &str, order: &str) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", "-65536")
            .pragma("wal_autocheckpoint", "16384");
        let mut connection = options
            .disable_statement_logging()
            .connect()
            .await
            .context("opening")?;
        let made: Vec<String> = sqlx::query_scalar(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL",
        )
        .bind(table)
        .fetch_all(&mut connection)
        .await?;
        let made = made
            .iter()
            .map(|text| {
                text.replace(&format!("TABLE {table} "), &format!("TABLE {RAW} "))
                    .replace(&format!("INDEX {table}"), &format!("INDEX {RAW}"))
                    .replace(&format!("ON {table} "), &format!("ON {RAW} "))
            })
            .collect();
        let select = format!("SELECT * FROM {table} ORDER BY {order}");
        let rows = sqlx::query(AssertSqlSafe(select))
            .try_map(|row: SqliteRow| {
                (0..row.len())
                    .map(|column| sqlite_cell(&row, column))
                    .collect()
            })
            .fetch_all(&mut connection)
            .await?;
        Ok(Self {
            connection,
            table: table.into(),
            made,
            rows,
        })
    }

    /// Makes a new table with the same columns and indexes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn prepare(&mut self) -> Result<()> {
        debug_assert!(
            self.made
                .iter()
                .all(|text| !text.contains(&format!(" {} ", self.table)))
        );
        for text in &self.made {
            self.connection.execute(AssertSqlSafe(text.clone())).await?;
        }
        Ok(())
    }

    /// Writes them into it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(&mut self) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        for part in self.rows.chunks(STATEMENT_ROWS) {
            let mut query = sqlx::query(AssertSqlSafe(insert(part)));
            for cell in part.iter().flatten() {
                query = match cell {
                    Cell::Null => query.bind(None::<i64>),
                    Cell::Int(value) => query.bind(value),
                    Cell::Real(value) => query.bind(value),
                    Cell::Text(text) => query.bind(text),
                    Cell::Bytes(bytes) => query.bind(bytes),
                };
            }
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Drops it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget(mut self) -> Result<()> {
        self.connection
            .execute(AssertSqlSafe(format!("DROP TABLE {RAW}")))
            .await?;
        Ok(self.connection.close().await?)
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

/// A statement that writes rows.
fn insert(rows: &[Vec<Cell>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let row = format!("({})", vec!["?"; columns].join(","));
    format!(
        "INSERT INTO {RAW} VALUES {}",
        vec![row.as_str(); rows.len()].join(",")
    )
}
