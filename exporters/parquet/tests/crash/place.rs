//! A log with its Parquet files on a simulated disk.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelog_engine::sim::SimStorage;
use modelog_engine::{Clock, Config, Engine, Foundations, Offset};
use modelog_parquet::{ParquetConfig, ParquetError, ParquetStore};
use tokio::runtime::Runtime;

use crate::support::{HandClock, config, data, foundations};

pub(crate) fn parquet() -> PathBuf {
    data().join("parquet")
}

fn log_config(directory: &Path) -> Config {
    let mut config = Config {
        path: directory.to_path_buf(),
        ..config()
    };
    config.log.keep_segments = Duration::ZERO;
    config
}

/// Small files, small row groups; nothing is closed by time unless the clock is moved.
fn parquet_config(path: PathBuf) -> ParquetConfig {
    ParquetConfig {
        path,
        target_file_bytes: 64 << 10,
        max_delay: Duration::from_secs(36 * 3600),
        pending_bytes: 24 << 10,
        check_every: Duration::from_millis(20),
    }
}

/// An open log with its files, and perhaps what fills them.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    pub(crate) store: ParquetStore,
    pub(crate) clock: Arc<HandClock>,
    runtime: Option<Runtime>,
}

impl Place {
    /// Opens both; nothing is compacted yet.
    pub(crate) fn open(disk: &SimStorage) -> Result<Self, Box<dyn Error>> {
        Self::open_at(disk, HandClock::new())
    }

    pub(crate) fn open_at(
        disk: &SimStorage,
        clock: Arc<HandClock>,
    ) -> Result<Self, Box<dyn Error>> {
        Self::new(disk, clock, log_config(&data()))
    }

    /// Opens both, keeping segments for a while.
    pub(crate) fn open_keeping(disk: &SimStorage, keep: Duration) -> Result<Self, Box<dyn Error>> {
        let mut config = log_config(&data());
        config.log.keep_segments = keep;
        Self::new(disk, HandClock::new(), config)
    }

    /// Opens those in another directory.
    pub(crate) fn open_in(disk: &SimStorage, directory: &Path) -> Result<Self, Box<dyn Error>> {
        Self::new(disk, HandClock::new(), log_config(directory))
    }

    /// The Parquet files alone.
    pub(crate) fn store_at(
        disk: &SimStorage,
        directory: &Path,
    ) -> Result<ParquetStore, ParquetError> {
        ParquetStore::open(
            parquet_config(directory.into()),
            disk.storage(),
            HandClock::new(),
        )
    }

    fn new(
        disk: &SimStorage,
        clock: Arc<HandClock>,
        config: Config,
    ) -> Result<Self, Box<dyn Error>> {
        let door: Arc<dyn Clock> = Arc::<HandClock>::clone(&clock);
        let files = parquet_config(config.path.join("parquet"));
        let store = ParquetStore::open(files, disk.storage(), Arc::clone(&door))?;
        let foundations = Foundations {
            cold: Some(store.cold()),
            clock: door,
            ..foundations(disk)
        };
        let engine = Engine::open_on(config, foundations)?;
        Ok(Self {
            engine,
            store,
            clock,
            runtime: None,
        })
    }

    /// Starts what fills the files.
    pub(crate) fn compacting(mut self) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let compactor = self.store.projection(self.engine.cold());
            self.engine.project(Box::new(compactor));
        });
        self.runtime = Some(runtime);
        self
    }

    /// Closes all files; everything before the answer is in them.
    pub(crate) fn flush(&self) -> Result<Offset, ParquetError> {
        let runtime = self.runtime.as_ref().expect("it is compacting");
        runtime.block_on(self.store.flush())
    }

    /// Closes the log in order, and ends everything.
    pub(crate) fn close(self) {
        match &self.runtime {
            Some(runtime) => runtime.block_on(self.engine.close()).unwrap(),
            None => self.engine.close_blocking().unwrap(),
        }
        self.end();
    }

    /// Ends everything as it stands.
    pub(crate) fn end(self) {
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
