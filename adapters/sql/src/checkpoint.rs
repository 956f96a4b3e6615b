//! The checkpoint in the store.

use modelog_engine::{Checkpoint, LogId, Offset};

use crate::connection::{self, Statement};

const READ: &str =
    "SELECT log_id, epoch, log_offset, fold_version FROM checkpoint WHERE log_no = 0";
const MOVE: &str = "UPDATE checkpoint SET log_id = ?, epoch = ?, log_offset = ?, fold_version = ? WHERE log_no = 0";
/// The number of our own log, among those a store may follow one day, is 0.
const SET: &str = "INSERT INTO checkpoint (log_id, epoch, log_offset, fold_version, log_no) VALUES (?, ?, ?, ?, 0)";

/// Where the store stands; nothing if it is empty.
pub(crate) async fn read(
    transaction: &mut connection::Transaction<'_>,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let decode = |error| sqlx::Error::Decode(error);
    transaction
        .one(Statement::new(&[READ]), |row| {
            let log = row.str(0)?.unwrap_or_default();
            let number = |column| -> Result<u32, sqlx::Error> {
                let number = row.int(column)?;
                number
                    .try_into()
                    .map_err(|_| decode(format!("the number {number}").into()))
            };
            Ok::<_, sqlx::Error>(Checkpoint {
                log: serde_json::from_value::<LogId>(log.into())
                    .map_err(|error| decode(Box::new(error)))?,
                epoch: number(1)?,
                offset: Offset(row.int(2)? as u64),
                fold_version: number(3)?,
            })
        })
        .await
}

/// Moves the checkpoint.
pub(crate) async fn write(
    to: Checkpoint,
    transaction: &mut connection::Transaction<'_>,
) -> Result<(), sqlx::Error> {
    let statement = |text| {
        Statement::new(&[text])
            .text(to.log.to_string())
            .int(to.epoch)
            .int(to.offset.0 as i64)
            .int(to.fold_version)
    };
    if transaction.run(statement(MOVE)).await? == 0 {
        transaction.run(statement(SET)).await?;
    }
    Ok(())
}
