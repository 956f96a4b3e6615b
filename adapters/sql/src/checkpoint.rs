//! The checkpoint in the store.

use modelog_engine::{Checkpoint, LogId, Offset};
use sqlx::{Row as _, SqliteConnection};

/// The number of our own log among those a store may follow one day.
const LOG_NO: i64 = 0;

/// Where the store stands; nothing if it is empty.
pub(crate) async fn read(
    connection: &mut SqliteConnection,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT log_id, epoch, log_offset, fold_version FROM checkpoint WHERE log_no = ?",
    )
    .bind(LOG_NO)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let log: String = row.try_get(0)?;
        let log = serde_json::from_value::<LogId>(log.into())
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Checkpoint {
            log,
            epoch: row.try_get(1)?,
            offset: Offset(row.try_get::<i64, _>(2)? as u64),
            fold_version: row.try_get(3)?,
        })
    })
    .transpose()
}

/// Moves the checkpoint.
pub(crate) async fn write(
    to: Checkpoint,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO checkpoint (log_no, log_id, epoch, log_offset, fold_version) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (log_no) DO UPDATE SET log_id = excluded.log_id, epoch = excluded.epoch, \
         log_offset = excluded.log_offset, fold_version = excluded.fold_version",
    )
    .bind(LOG_NO)
    .bind(to.log.to_string())
    .bind(to.epoch)
    .bind(to.offset.0 as i64)
    .bind(to.fold_version)
    .execute(connection)
    .await?;
    Ok(())
}
