//! Follows the log with the statistics fold, on a thread of its own, and keeps its snapshots.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Offset;
use crate::error::{LogError, chain};
use crate::event::EntityKind;
use crate::log::{About, Log, LogReader, Shared, Sort};
use crate::stats::{Observation, Observer, Statistics};
use crate::threads::{self, JoinHandle, Mutex, PoisonError, RwLock, watch};

/// Snapshots of the fold.
pub(crate) const STATISTICS: Sort = Sort {
    magic: b"MODELOGT",
    version: 1,
    name: "statistics",
};
/// How much is folded at a time, in bytes of the log.
const FOLD_BYTES: usize = 4 << 20;
/// Fewer events than this are few: more are let gather.
const FEW_EVENTS: u64 = 1_000;
/// For how long. Waking this thread for each group that a few callers make would take from them more than folding it does.
const GATHER: Duration = Duration::from_millis(1);
/// How many events lie between snapshots.
const SNAPSHOT_EVENTS: u64 = 5_000_000;

/// The statistics as they are now, for everyone to look at.
#[derive(Debug)]
pub struct SharedStatistics {
    statistics: RwLock<Statistics>,
    /// Each is told of events from an offset on.
    observers: RwLock<Vec<(Offset, Arc<dyn Observer>)>>,
    /// How far the fold is, or why it will not go on.
    reached: watch::Sender<(Offset, Option<String>)>,
}

impl SharedStatistics {
    fn new(statistics: Statistics) -> Self {
        let reached = watch::Sender::new((statistics.offset(), None));
        Self {
            statistics: RwLock::new(statistics),
            observers: RwLock::default(),
            reached,
        }
    }

    /// A look at the statistics; the fold waits meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&Statistics) -> T) -> T {
        look(
            &self
                .statistics
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Tells an observer what is counted of the events from the tail on.
    pub(crate) fn observe(&self, tail: impl FnOnce() -> Offset, observer: Arc<dyn Observer>) {
        let mut observers = self
            .observers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // The fold waits for this lock, so it has folded nothing behind this tail yet.
        observers.push((tail(), observer));
    }

    /// Waits until the fold has got to an offset.
    ///
    /// # Errors
    /// Why it never will.
    pub(crate) async fn reached(&self, offset: Offset) -> Result<(), String> {
        let mut reached = self.reached.subscribe();
        let found = reached
            .wait_for(|(at, ended)| *at >= offset || ended.is_some())
            .await;
        match found.as_deref() {
            Ok((at, _)) if *at >= offset => Ok(()),
            Ok((_, Some(reason))) => Err(reason.clone()),
            _ => Err("the statistics fold ended".to_owned()),
        }
    }

    fn apply(
        &self,
        batches: &[Arc<crate::batch::LoggedBatch>],
        names: &crate::names::Names,
    ) -> Offset {
        let observers = self
            .observers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut observe = |observation: &Observation| {
            for (from, observer) in observers.iter() {
                if observation.offset >= *from {
                    observer.observe(observation);
                }
            }
        };
        let mut statistics = self
            .statistics
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            statistics.apply_observed(batch, names, &mut observe);
        }
        statistics.offset()
    }
}

/// The thread that folds. It ends when the log is closed and everything in it is folded.
#[derive(Debug)]
pub(crate) struct Statistician {
    shared: Arc<SharedStatistics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Statistician {
    pub(crate) fn start(log: &Log) -> Result<Self, LogError> {
        let source = Arc::clone(log.shared());
        let found = STATISTICS.read(&*source.storage, &source.snapshots, |about, content| {
            if source.fits(about) {
                let found = Statistics::decode(content).ok();
                // It grows with the versions it speaks of.
                let versions = source.names.count(EntityKind::Version);
                found.filter(|found| {
                    found.offset() == about.offset && found.highest_version() <= versions
                })
            } else {
                None
            }
        })?;
        let shared = Arc::new(SharedStatistics::new(found.unwrap_or_default()));
        let fold = Fold {
            snapshot_at: shared.with(Statistics::offset),
            log: source,
            statistics: Arc::clone(&shared),
        };
        let directory = log.shared().snapshots.clone();
        let thread = threads::spawn("modelog-statistics", move || fold.run())
            .map_err(LogError::io("starting a thread for", directory))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<SharedStatistics> {
        &self.shared
    }

    /// Waits for the thread; the log must be closed.
    pub(crate) fn join(&self) {
        // Held meanwhile: whoever else waits for it waits as long.
        let mut running = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = running.take() {
            // A panic there has been printed; the snapshot it did not write is a cache.
            let _ = thread.join();
        }
    }
}

impl Drop for Statistician {
    fn drop(&mut self) {
        self.join();
    }
}

struct Fold {
    log: Arc<Shared>,
    statistics: Arc<SharedStatistics>,
    snapshot_at: Offset,
}

impl Fold {
    fn run(mut self) {
        let mut reader = LogReader::new(Arc::clone(&self.log), self.snapshot_at);
        let ended = loop {
            match threads::block_on(reader.next(FOLD_BYTES)) {
                Ok(batches) => {
                    let few = batches
                        .iter()
                        .map(|batch| u64::from(batch.rows))
                        .sum::<u64>()
                        < FEW_EVENTS;
                    let at = self.statistics.apply(&batches, &self.log.names);
                    self.statistics
                        .reached
                        .send_modify(|reached| reached.0 = at);
                    if at.since(self.snapshot_at) >= SNAPSHOT_EVENTS {
                        self.snapshot();
                    }
                    if few {
                        threads::pause(GATHER);
                    }
                }
                Err(error) => break error,
            }
        };
        if !matches!(ended, LogError::Closed) {
            tracing::error!(reason = %chain(&ended), "statistics cannot follow the log");
        } else if self.statistics.with(Statistics::offset) > self.snapshot_at {
            self.snapshot();
        }
        self.statistics
            .reached
            .send_modify(|reached| reached.1 = Some(chain(&ended)));
    }

    fn snapshot(&mut self) {
        let (offset, content) = self
            .statistics
            .with(|statistics| (statistics.offset(), statistics.encode()));
        self.snapshot_at = offset;
        let about = About {
            log: self.log.id,
            epoch: self.log.epoch_of(offset),
            offset,
        };
        let directory: &Path = &self.log.snapshots;
        let bytes = STATISTICS.seal(about, &content);
        if let Err(error) = STATISTICS.write(&*self.log.storage, directory, offset, &bytes) {
            tracing::warn!(error = %chain(&error), "no snapshot of the statistics was written");
        }
    }
}
