//! Forgets predictions and feedback that the log took long ago.
//!
//! Offsets and append times grow together, so what is too old is a prefix of each table, found from its front.

use modelog_engine::Timestamp;
use sqlx::{AssertSqlSafe, Row as _};

use crate::bulk::Transaction;
use crate::error::DatabaseError;

/// How many rows are looked at and deleted at a time.
const STEP_ROWS: i64 = 1000;
/// How many times, in one transaction. That is more than a transaction brings, so what is left over when the setting
/// changes goes little by little, and nothing builds up.
const STEPS_MAX: u32 = 100;

/// Deletes what was appended before a time.
pub(crate) async fn apply(
    before: Timestamp,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    for table in ["predictions", "feedback"] {
        for _ in 0..STEPS_MAX {
            let more = step(table, before, transaction)
                .await
                .map_err(DatabaseError::sql(transaction.path))?;
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// Deletes the oldest rows; tells whether there may be more.
pub(crate) async fn step(
    table: &'static str,
    before: Timestamp,
    transaction: &mut Transaction<'_>,
) -> Result<bool, sqlx::Error> {
    let oldest = format!(
        "SELECT count(*), max(log_offset) FROM (SELECT log_offset, append_time FROM {table} ORDER BY log_offset LIMIT ?) \
         WHERE append_time < ?"
    );
    let found = sqlx::query(AssertSqlSafe(oldest))
        .bind(STEP_ROWS)
        .bind(before.micros())
        .fetch_one(&mut *transaction.sql)
        .await?;
    let (count, last): (i64, Option<i64>) = (found.try_get(0)?, found.try_get(1)?);
    let Some(last) = last else {
        return Ok(false);
    };
    sqlx::query(AssertSqlSafe(format!(
        "DELETE FROM {table} WHERE log_offset <= ?"
    )))
    .bind(last)
    .execute(&mut *transaction.sql)
    .await?;
    Ok(count == STEP_ROWS)
}
