//! A log with its Parquet files behind the door, and what is done to both.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use modelog_engine::restore::{Restore, Restored};
use modelog_engine::{
    Clock, Config, Engine, Foundations, LogId, NotYet, Offset, ProjectionHandle, Storage, Timestamp,
};
use modelog_parquet::cut::cut;
use modelog_parquet::manifest::Manifest;
use modelog_parquet::{ParquetConfig, ParquetError, ParquetStore};
use tokio::runtime::Runtime;

use super::act::Setup;
use super::door::Door;

/// For how long segments are kept.
pub(super) const KEEP: Duration = Duration::from_secs(6 * 3600);

/// What takes longer hangs.
pub(super) const HANG: Duration = Duration::from_secs(120);

/// A clock that stands where it is put.
#[derive(Debug)]
pub(super) struct HandClock {
    now: AtomicI64,
    monotonic_secs: AtomicU64,
}

impl HandClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            now: AtomicI64::new(1_795_366_800_000_000),
            monotonic_secs: AtomicU64::new(0),
        })
    }

    /// Time passes.
    pub(super) fn pass(&self, time: Duration) {
        self.monotonic_secs
            .fetch_add(time.as_secs(), Ordering::SeqCst);
        // A microsecond beside, so that no two moments of a case are one however the clock is set.
        self.jump(time.as_micros() as i64 + 3);
    }

    /// The time of day is set, as far as a log goes.
    pub(super) fn jump(&self, micros: i64) {
        let (least, most) = (Timestamp::MIN.micros(), Timestamp::MAX.micros());
        let now = self.now.load(Ordering::SeqCst);
        self.now
            .store((now + micros).clamp(least, most), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic_secs.load(Ordering::SeqCst))
    }
}

pub(super) fn log_id() -> LogId {
    LogId(uuid::Uuid::from_u128(7))
}

fn log_config(directory: &Path, setup: Setup) -> Config {
    let mut config = Config::new(directory);
    config.log.segment_bytes = 64 << 10;
    config.log.group_bytes_max = 24 << 10;
    config.log.backlog_bytes_max = 64 << 10;
    config.log.dedupe_window = setup.window;
    config.log.pad_groups = setup.padded;
    config.log.reserve_bytes = 0;
    config.log.keep_segments = KEEP;
    config
}

/// Small files, small row groups. Nothing is looked at by the clock on the wall: what the compactor does follows from
/// what it is asked.
fn parquet_config(path: PathBuf) -> ParquetConfig {
    ParquetConfig {
        path,
        target_file_bytes: 48 << 10,
        max_delay: Duration::from_secs(36 * 3600),
        pending_bytes: 16 << 10,
        check_every: Duration::from_secs(24 * 3600),
    }
}

/// An open log, with what fills its files.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) engine: Engine,
    store: ParquetStore,
    compactor: ProjectionHandle,
    runtime: Runtime,
}

impl Place {
    pub(super) fn open(
        door: &Door,
        clock: &Arc<HandClock>,
        directory: &Path,
        setup: Setup,
    ) -> Result<Self, Box<dyn Error>> {
        let storage: Arc<dyn Storage> = Arc::new(door.clone());
        let time: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
        let files = parquet_config(directory.join("parquet"));
        let store = ParquetStore::open(files, Arc::clone(&storage), Arc::clone(&time))?;
        let foundations = Foundations {
            storage,
            clock: time,
            cold: Some(store.cold()),
            new_log: log_id(),
        };
        let engine = Engine::open_on(log_config(directory, setup), foundations)?;
        // Of this thread: the projection goes on while somebody waits for it, and at no other time.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let compactor = {
            let _guard = runtime.enter();
            engine.project(Box::new(store.projection(engine.cold())))
        };
        Ok(Self {
            engine,
            store,
            compactor,
            runtime,
        })
    }

    /// Everything before this is in files, as these say.
    pub(super) fn in_files(&self) -> Offset {
        self.store.status().cold_end
    }

    /// Lets the files take in what is there; those that are full are closed.
    pub(super) fn take_in(&self) -> Result<Offset, NotYet> {
        let tail = self.engine.tail();
        let errors = self.compactor.status().errors;
        let mut left = HANG;
        loop {
            let step = Duration::from_millis(50);
            let reached = self
                .runtime
                .block_on(self.compactor.wait_for(tail, step.min(left)));
            left = left.saturating_sub(step);
            // What fails is tried again for as long as it takes, which is too long here.
            if reached.is_ok() || left.is_zero() || self.compactor.status().errors > errors {
                return reached;
            }
        }
    }

    /// Closes all files; everything before the answer is in them.
    pub(super) fn compact(&self) -> Result<Offset, ParquetError> {
        let stopped = || ParquetError::NotRunning {
            reason: format!("{:?}", self.compactor.status()),
        };
        self.runtime.block_on(async {
            let first = tokio::select! {
                flushed = self.store.flush() => flushed,
                _ = self.compactor.wait_for(Offset(u64::MAX), HANG) => Err(stopped()),
            };
            // A second time, so that the thread has done what it does after it has answered.
            if first.is_ok() {
                let _ = tokio::time::timeout(HANG, self.store.flush()).await;
            }
            first
        })
    }

    /// Ends everything as it stands.
    pub(super) fn end(self) {
        let Self {
            engine,
            store,
            runtime,
            ..
        } = self;
        drop((engine, store));
        drop(runtime);
    }
}

/// Restores as the program does.
pub(super) fn restore(
    door: &Door,
    clock: &Arc<HandClock>,
    (source, target): (&Path, &Path),
    until: Option<Offset>,
) -> Result<Restored, Box<dyn Error>> {
    let storage: Arc<dyn Storage> = Arc::new(door.clone());
    let time: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
    let restore = Restore::begin(Arc::clone(&storage), Arc::clone(&time), target)?;
    let (from, to) = (source.join("parquet"), target.join("parquet"));
    let cold = match Manifest::load(&*storage, &from)? {
        None => None,
        Some(_) => {
            cut(&from, &to, until.unwrap_or(Offset(u64::MAX)), &storage)?;
            let files = ParquetStore::open(parquet_config(to.clone()), Arc::clone(&storage), time)?;
            Some(files.cold())
        }
    };
    let done = restore.log(source, cold.as_deref(), until)?;
    if let Some(mut history) = Manifest::load(&*storage, &to)? {
        history.epoch = done.epoch;
        history.store(&*storage, &to)?;
    }
    restore.finish()?;
    Ok(done)
}
