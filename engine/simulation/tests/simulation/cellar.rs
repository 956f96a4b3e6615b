//! A cold tier in memory: it outlives crashes, as files that were synced do.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use modelog_simulated_engine::batch::LoggedBatch;
use modelog_simulated_engine::threads::point;
use modelog_simulated_engine::{ColdFile, ColdSnapshot, ColdTier, Engine, LogError, LogId, Offset};

/// History in memory.
#[derive(Debug, Default)]
pub(crate) struct Cellar {
    held: Mutex<(Option<LogId>, Vec<Arc<LoggedBatch>>)>,
}

impl Cellar {
    /// Takes over what the engine has beyond what is held, up to `batches` reads. Answers whether the engine knows.
    ///
    /// # Errors
    /// As the log's reader and `advance`.
    pub(crate) fn fill(&self, engine: &Engine, reads: u64) -> Result<(), LogError> {
        let mut reader = engine.reader(self.end());
        for _ in 0..reads {
            let batches = reader.read(16 << 10)?;
            let mut held = self.held.lock().unwrap();
            held.0 = Some(engine.log_id());
            held.1.extend(batches);
        }
        engine.cold().advance(self.end())
    }
}

impl ColdTier for Cellar {
    fn log(&self) -> Option<LogId> {
        self.held.lock().unwrap().0
    }

    fn end(&self) -> Offset {
        point();
        let held = self.held.lock().unwrap();
        held.1.last().map_or(Offset::ZERO, |batch| batch.end())
    }

    fn read(&self, from: Offset, _limit: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        point();
        let held = self.held.lock().unwrap();
        let start = held.1.partition_point(|batch| batch.end() <= from);
        Ok(held.1[start..].iter().take(3).map(Arc::clone).collect())
    }

    fn snapshot(&self) -> Result<ColdSnapshot, LogError> {
        Ok(ColdSnapshot {
            directory: PathBuf::new(),
            end: self.end(),
            files: Vec::new(),
            manifest_name: "held".into(),
            manifest: Vec::new(),
        })
    }

    fn check(&self, _copy: &Path, _file: &ColdFile) -> Result<(), LogError> {
        Ok(())
    }
}
