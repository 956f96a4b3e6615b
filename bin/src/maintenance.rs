//! What the running server does to its data directory: compacting when it is asked to, backing up when it is asked to
//! and when the configuration says so.
//!
//! ```text
//! POST /v1/compact ──▶ Keeper ─▶ compact: the compactor's files are closed
//! POST /v1/backups ──▶   │ ────▶ backup, on a thread of its own ◀── schedule ◀── [backup]
//! ```
//!
//! # Invariants
//! K1. One backup is made at a time. Who asks meanwhile is told; the schedule waits.
//! K2. Nothing here holds up an append: a backup reads files that do not change any more.
//! K3. After `ended` has returned, nothing here touches the data directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use async_trait::async_trait;
use modelog_engine::metrics::{BACKUP_ERRORS, BACKUP_LAST_SUCCESS};
use modelog_engine::{Timestamp, chain};
use modelog_http::{BackedUp, Compacted, Maintenance, MaintenanceError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::backup::{self, BackupError, BackupTask};
use crate::compact;
use crate::config::{BackupConfig, Settings};
use crate::place::Opened;
use crate::schedule::Schedule;

/// The name of backups among the tasks that fail.
const BACKUP: &str = "backup";

/// Does what has to be done to the data directory of a running server.
#[derive(Debug)]
pub(crate) struct Keeper {
    opened: Opened,
    data: PathBuf,
    config: BackupConfig,
    /// The turn to make a backup.
    turn: Arc<Semaphore>,
    failing: AtomicBool,
    /// No backup is begun any more.
    ending: AtomicBool,
    schedule: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(crate) fn new(settings: &Settings, opened: &Opened) -> Self {
        Self {
            opened: opened.clone(),
            data: settings.data.clone(),
            config: settings.backup.clone(),
            turn: Arc::new(Semaphore::new(1)),
            failing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            schedule: Mutex::default(),
        }
    }

    /// Starts the backups of the configuration, if there are to be any.
    pub(crate) fn start(self: &Arc<Self>) {
        metrics::counter!(BACKUP_ERRORS).increment(0);
        let Some(path) = self.config.path.clone() else {
            return;
        };
        let keeper = Arc::clone(self);
        let schedule = Schedule::new(self.config.every, &**self.opened.engine.clock());
        *self.lock_schedule() = Some(tokio::spawn(async move {
            keeper.follow(schedule, &path).await;
        }));
    }

    /// Begins no backup any more. One under way goes on until the engine is closed, which breaks it off.
    pub(crate) async fn stop(&self) {
        let schedule = self.lock_schedule().take();
        if let Some(schedule) = schedule {
            schedule.abort();
            // It ended because it was told to.
            let _ = schedule.await;
        }
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Waits, once the engine is closed, until no backup is under way.
    pub(crate) async fn ended(&self) {
        let _last = self.turn.acquire().await;
        self.turn.close();
    }

    /// Makes the backups of the configuration, until `stop`.
    async fn follow(&self, mut schedule: Schedule, path: &Path) {
        let clock = &**self.opened.engine.clock();
        loop {
            let newest = newest(path).await;
            if let Some(newest) = newest {
                metrics::gauge!(BACKUP_LAST_SUCCESS).set(newest.micros() as f64 / 1e6);
            }
            let wait = schedule.wait(newest, clock);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
                return;
            };
            let made = self.make(turn, path, Some(self.config.keep)).await;
            self.failing.store(made.is_err(), Ordering::Relaxed);
            match made {
                Ok(made) => {
                    schedule.made(clock);
                    tracing::info!(path = made.path, offset = %made.offset, "a backup was made");
                }
                Err(error) => {
                    let retry = schedule.failed(clock);
                    tracing::error!(reason = %error, ?retry, "the backup was not made");
                }
            }
        }
    }

    /// Makes a backup. It is made to its end, though whoever waits for it goes away.
    async fn make(
        &self,
        turn: OwnedSemaphorePermit,
        to: &Path,
        keep: Option<u32>,
    ) -> Result<BackedUp, MaintenanceError> {
        let task = BackupTask {
            opened: self.opened.clone(),
            data: self.data.clone(),
            to: to.to_owned(),
            keep,
        };
        let making = tokio::spawn(async move {
            let made = task.run(|_, _| ()).await;
            drop(turn);
            made
        });
        let made = making.await.unwrap_or(Err(BackupError::BrokenOff));
        let made = made.map_err(|error| match &error {
            BackupError::Destination { .. } => MaintenanceError::Destination(chain(&error)),
            BackupError::Failed(_) | BackupError::BrokenOff => {
                MaintenanceError::Backup(chain(&error))
            }
        });
        match &made {
            Ok(_) => {
                let now = self.opened.engine.clock().now();
                metrics::gauge!(BACKUP_LAST_SUCCESS).set(now.micros() as f64 / 1e6);
            }
            Err(_) => metrics::counter!(BACKUP_ERRORS).increment(1),
        }
        made
    }

    fn lock_schedule(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the newest backup was made. A disk that does not answer holds up no thread of the runtime.
async fn newest(directory: &Path) -> Option<Timestamp> {
    let directory = directory.to_owned();
    let looked = tokio::task::spawn_blocking(move || backup::newest(&directory));
    looked.await.ok().flatten()
}

#[async_trait]
impl Maintenance for Keeper {
    async fn compact(&self) -> Result<Compacted, MaintenanceError> {
        let Opened { engine, parquet } = &self.opened;
        compact::compact(engine, parquet, |_| ())
            .await
            .map_err(|error| MaintenanceError::Compaction(chain(&error)))
    }

    async fn back_up(&self, to: PathBuf, keep: Option<u32>) -> Result<BackedUp, MaintenanceError> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(MaintenanceError::Backup("the server is ending".into()));
        }
        let turn = Arc::clone(&self.turn)
            .try_acquire_owned()
            .map_err(|_| MaintenanceError::Busy)?;
        self.make(turn, &to, keep).await
    }

    fn failing(&self) -> Vec<&'static str> {
        let failing = self.failing.load(Ordering::Relaxed);
        if failing { vec![BACKUP] } else { Vec::new() }
    }
}
