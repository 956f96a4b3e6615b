//! Fills the tables from the log.
//!
//! Everything a call to `apply` does happens in one transaction, which starts by comparing the checkpoint in the store
//! with the one this program left there, and ends by moving it.
//!
//! # Invariants
//! S1. The tables are those of a fold of the log up to the checkpoint beside them, within what is kept.
//! S2. Rows below the checkpoint are skipped, so a batch may reach below it.
//! S3. Statistics were taken in one look, at or behind the checkpoint, for all versions.
//! S4. What is kept is decided by the times in the log, not by a clock: a store that is rebuilt keeps the same.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Offset, Timestamp};

use crate::bulk::Transaction;
use crate::database::{self, Database, Writer};
use crate::error::DatabaseError;
use crate::fold::{self, Batches, statistics::Published};
use crate::{checkpoint, retention};

/// The version of the rules in `fold`: stores filled by others must be rebuilt.
const FOLD_VERSION: u32 = 1;
/// How often a server is looked at while nothing comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The projection called `sql`.
#[derive(Debug)]
pub struct SqlProjection {
    database: Arc<Database>,
    keep: Option<Duration>,
    writer: Option<Writer>,
    /// Where this program left the store.
    at: Option<Checkpoint>,
    /// Whether what the store holds is of this log, and may be shown while it is built again.
    good: bool,
    published: Published,
}

impl SqlProjection {
    pub(crate) fn new(database: Arc<Database>, keep: Option<Duration>) -> Self {
        Self {
            database,
            keep,
            writer: None,
            at: None,
            good: false,
            published: Published::default(),
        }
    }

    /// Closes the connection, before the file is looked at again.
    async fn close(&mut self) {
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.session.close().await
        {
            // It is gone all the same, and what it had committed is there.
            tracing::debug!(%error, "the connection to the database did not close well");
        }
    }

    async fn apply_all(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), DatabaseError> {
        let database = Arc::clone(&self.database);
        let place = database.place();
        let sql = DatabaseError::sql(place);
        let Some(Writer {
            session,
            habits,
            replaces,
        }) = self.writer.as_mut()
        else {
            return Err(DatabaseError::Closed {
                place: place.clone(),
            });
        };
        let mut transaction = database::begin(session, place).await?;
        if checkpoint::read(&mut transaction).await.map_err(&sql)? != self.at {
            return Err(DatabaseError::Moved {
                place: place.clone(),
            });
        }
        let mut transaction = Transaction::new(transaction, place, habits);
        let batches = Batches {
            all: batches,
            done: self.at.map_or(Offset::ZERO, |checkpoint| checkpoint.offset),
            names: view.names,
        };
        fold::apply(&batches, &mut transaction).await?;
        let published = fold::statistics::publish(&view, self.published, &mut transaction).await?;
        if let (Some(keep), Some(newest)) = (self.keep, batches.newest()) {
            retention::apply(cutoff(newest, keep), &mut transaction).await?;
        }
        transaction.commit(to).await?;
        // What was empty when it was opened is of this log now.
        (self.at, self.published, self.good) = (Some(to), published, true);
        // A log that was cut short never comes as far as what is replaced.
        let whole = published.is_of(to.offset);
        if replaces.is_some_and(|replaced| whole || to.offset >= replaced.offset) {
            self.swap().await?;
        }
        Ok(())
    }

    /// Fails if readers do not find the checkpoint where this program left it.
    async fn look(&self) -> Result<(), DatabaseError> {
        let place = self.database.place();
        let sql = DatabaseError::sql(place);
        let built_aside = |writer: &Writer| writer.replaces.is_some();
        if self.writer.as_ref().is_none_or(built_aside) {
            return Ok(());
        }
        let mut transaction = self.database.look().await.map_err(&sql)?;
        let found = checkpoint::read(&mut transaction).await.map_err(&sql)?;
        transaction.rollback().await.map_err(&sql)?;
        if found == self.at {
            Ok(())
        } else {
            Err(self.moved())
        }
    }

    fn moved(&self) -> DatabaseError {
        DatabaseError::Moved {
            place: self.database.place().clone(),
        }
    }

    /// Lets readers have what was built aside, and goes on there.
    async fn swap(&mut self) -> Result<(), DatabaseError> {
        self.close().await;
        self.database.swap().await?;
        self.writer = Some(self.database.writer().await?);
        tracing::info!(store = %self.database.place(), "the tables that were built again are in place");
        Ok(())
    }
}

/// What was appended before this is kept no longer.
fn cutoff(newest: Timestamp, keep: Duration) -> Timestamp {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(newest.micros().saturating_sub(keep))
}

#[async_trait]
impl Projection for SqlProjection {
    fn name(&self) -> &str {
        "sql"
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.close().await;
        // What cannot even be opened is not to be shown while it is built again.
        self.good = false;
        let place = self.database.place();
        let mut writer = self.database.writer().await?;
        let mut transaction = database::begin(&mut writer.session, place).await?;
        let sql = DatabaseError::sql(place);
        let at = checkpoint::read(&mut transaction).await.map_err(&sql)?;
        transaction.rollback().await.map_err(&sql)?;
        self.writer = Some(writer);
        (self.at, self.published, self.good) = (at, Published::default(), false);
        Ok(at)
    }

    fn start(&mut self, checkpoint: &Checkpoint) -> Offset {
        self.good = true;
        checkpoint.offset
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let Err(error) = self.apply_all(batches, view, to).await else {
            return Ok(());
        };
        // What was begun must not be held until somebody opens the store again.
        self.close().await;
        let error = ProjectionError::from(error);
        // Something is wrong with the tables, and they are not to be shown while they are built again.
        self.good &= matches!(error, ProjectionError::Unavailable(_));
        Err(error)
    }

    /// Looks whether the server is there, and still has what was committed: after a crash, or where a replica took over, it
    /// may be older. Nothing else would tell while nothing comes.
    async fn idle(&mut self) -> ProjectionError {
        loop {
            if !self.database.may_lose() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match self.look().await.map_err(ProjectionError::from) {
                Ok(()) => {}
                Err(error @ ProjectionError::Unavailable(_)) => return error,
                // Not even the tables are there: what to do about it is for the opening to say.
                Err(ProjectionError::Stopped { .. }) => {
                    return self.moved().into();
                }
            }
        }
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.close().await;
        self.database.recreate(self.good).await?;
        self.good = false;
        Ok(())
    }
}
