//! The projection that turns the log into Parquet files.
//!
//! What it has applied is in memory for a while; its checkpoint is `cold_end`, everything before which is in finished
//! files. After a restart the log is read again from there. The work is done by a thread of its own
//! ([`worker`](crate::worker)): closing files needs no new events.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, ColdHandle, Offset};
use tokio::sync::{mpsc as async_mpsc, oneshot};

use crate::error::ParquetError;
use crate::store::{ParquetStore, Shared};
use crate::worker::{Command, Worker};

/// Files hold what the log does: there are no rules to change.
pub(crate) const FOLD_VERSION: u32 = 1;

/// Its name among the projections.
pub const PROJECTION: &str = "parquet";

/// The projection that turns the log into Parquet files; made by [`ParquetStore::projection`]. When it is dropped, what
/// it has not finished is given up: the log has it.
#[derive(Debug)]
pub struct Compactor {
    commands: mpsc::Sender<Command>,
    failures: async_mpsc::UnboundedReceiver<ProjectionError>,
    /// Until its thread is started.
    worker: Option<Worker>,
    thread: Option<JoinHandle<()>>,
}

impl ParquetStore {
    /// The projection that fills the directory from a log. A directory has one: another one is refused for as long as
    /// it lives.
    #[must_use]
    pub fn projection(&self, handle: ColdHandle) -> Compactor {
        let (commands, received) = mpsc::channel();
        let (failed, failures) = async_mpsc::unbounded_channel();
        *self.shared.commands() = Some(commands.clone());
        let shared: Arc<Shared> = Arc::clone(&self.shared);
        Compactor {
            commands,
            failures,
            worker: Some(Worker::new(shared, handle, received, failed)),
            thread: None,
        }
    }

    /// Waits until everything the log holds now was taken in, then closes all files. Answers `cold_end`: everything
    /// before it is in finished files, and the log knows.
    ///
    /// It waits for the projection to read the log, so the projection must be running.
    ///
    /// # Errors
    /// [`ParquetError::NotRunning`] with the reason, if it is not or fails meanwhile.
    pub async fn flush(&self) -> Result<Offset, ParquetError> {
        let ended = || ParquetError::NotRunning {
            reason: "no compactor was started, or it has ended".into(),
        };
        let (reply, answer) = oneshot::channel();
        let sent = match &*self.shared.commands() {
            Some(commands) => commands.send(Command::Flush(reply)).is_ok(),
            None => false,
        };
        if !sent {
            return Err(ended());
        }
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Compactor {
    fn start(&mut self) -> Result<(), ProjectionError> {
        let Some(worker) = self.worker.take() else {
            return Ok(());
        };
        let thread = std::thread::Builder::new()
            .name("parquet".into())
            .spawn(move || worker.run())
            .map_err(|error| ProjectionError::Stopped {
                reason: format!("no thread could be started to compact: {error}"),
            })?;
        self.thread = Some(thread);
        Ok(())
    }
}

/// Asks the thread something, and waits for the answer.
async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<T, ProjectionError>>) -> Command,
) -> Result<T, ProjectionError> {
    let gone = || ProjectionError::Stopped {
        reason: "the thread that compacts has ended".into(),
    };
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

#[async_trait]
impl Projection for Compactor {
    fn name(&self) -> &str {
        PROJECTION
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    fn rebuildable(&self) -> bool {
        false
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.start()?;
        let checkpoint = ask(&self.commands, Command::Open).await?;
        // Failures of before are over with that.
        while self.failures.try_recv().is_ok() {}
        Ok(Some(checkpoint))
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        _: View<'_>,
        _: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let batches = batches.to_vec();
        ask(&self.commands, |reply| Command::Take(batches, reply)).await
    }

    async fn idle(&mut self) -> ProjectionError {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Err(ProjectionError::Stopped {
            reason: "Parquet files hold a part of the log and are not built again".into(),
        })
    }
}

impl Drop for Compactor {
    /// Waits for the thread: when the compactor is gone, nothing is written any more.
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
