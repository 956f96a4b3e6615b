//! Forgets predictions and feedback that the log took long ago.
//!
//! Offsets and append times grow together, so what is too old is a prefix of each table, found from its front.

use modelog_engine::Timestamp;

use crate::bulk::Transaction;
use crate::connection::Statement;
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
            if !step(table, before, transaction).await? {
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
) -> Result<bool, DatabaseError> {
    let oldest = format!(
        "SELECT count(*), max(log_offset) FROM (SELECT log_offset, append_time FROM {table} ORDER BY log_offset LIMIT ?) \
         AS oldest WHERE append_time < ?"
    );
    let oldest = Statement::new(&[&oldest]).int(STEP_ROWS).with(before);
    let found = transaction
        .one(oldest, |row| Ok((row.int(0)?, row.optional_int(1)?)))
        .await?;
    let Some((count, Some(last))) = found else {
        return Ok(false);
    };
    let delete = format!("DELETE FROM {table} WHERE log_offset <= ?");
    transaction
        .run(Statement::new(&[&delete]).int(last))
        .await?;
    Ok(count == STEP_ROWS)
}
