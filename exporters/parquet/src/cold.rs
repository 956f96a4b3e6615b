//! The engine's way to history that its segments no longer hold.
//!
//! Readers ask again and again, each a little further on. What a reader left off with, open files and rows decoded
//! ahead, is kept until it asks for the offset that follows; so replay is a stream, wherever several readers are. Only a
//! few such cursors are kept: the one not used for longest makes room.
//!
//! Reading takes no lock that another reader, or the compactor, waits for.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use modelog_engine::batch::LoggedBatch;
use modelog_engine::{ColdFile, ColdSnapshot, ColdTier, LogError, LogId, Offset};

use crate::disk;
use crate::files::{self, History};
use crate::layout::{FileName, MANIFEST};
use crate::manifest::{Manifest, Sha256Sum};
use crate::merge::Merge;
use crate::store::{ParquetStore, Shared};

/// How many places of readers are remembered.
const CURSORS_MAX: usize = 4;

/// Reads the finished files of a store in the order of the log.
#[derive(Debug)]
struct ColdReader {
    shared: Arc<Shared>,
    history: Arc<History>,
    /// The one used last at the end.
    cursors: Mutex<Vec<Merge>>,
}

impl ParquetStore {
    /// The finished files as the part of the log that segments no longer need to hold.
    #[must_use]
    pub fn cold(&self) -> Arc<dyn ColdTier> {
        let shared = Arc::clone(&self.shared);
        let directory = shared.config.path.clone();
        Arc::new(ColdReader {
            history: Arc::new(History::new(Arc::clone(&shared.storage), directory)),
            shared,
            cursors: Mutex::default(),
        })
    }
}

impl ColdTier for ColdReader {
    fn log(&self) -> Option<LogId> {
        self.shared.manifest().map(|manifest| manifest.log)
    }

    fn end(&self) -> Offset {
        self.shared.cold_end()
    }

    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let manifest = self.shared.manifest();
        let manifest = manifest.filter(|manifest| from < manifest.cold_end);
        let Some(manifest) = manifest else {
            return Err(LogError::BeyondTail {
                requested: from,
                tail: self.end(),
            });
        };
        let mut cursor = self.cursor(&manifest, from);
        let mut batches = Vec::new();
        let mut bytes = 0;
        while bytes < limit_bytes.max(1)
            && let Some(merged) = cursor.next()?
        {
            bytes += merged.bytes;
            batches.push(Arc::new(merged.batch));
        }
        self.keep(cursor);
        Ok(batches)
    }

    fn snapshot(&self) -> Result<ColdSnapshot, LogError> {
        let directory = self.history.directory().to_path_buf();
        // List and bytes must be of one moment, so both come from what is on disk.
        let path = directory.join(MANIFEST);
        let content = disk::read_all(self.history.storage(), &path)?;
        let manifest = content
            .as_deref()
            .map(|content| Manifest::from_json(content, &path))
            .transpose()?;
        let (end, files) = manifest.map_or((Offset::ZERO, Vec::new()), |manifest| {
            (manifest.cold_end, manifest.files)
        });
        let files = files.into_iter().map(|file| ColdFile {
            path: file.path.into(),
            bytes: file.bytes,
            sha256: file.sha256.0,
        });
        Ok(ColdSnapshot {
            directory,
            end,
            files: files.collect(),
            manifest_name: MANIFEST.into(),
            manifest: content.unwrap_or_default(),
        })
    }

    fn check(&self, copy: &Path, file: &ColdFile) -> Result<(), LogError> {
        let offset = FileName::parse(&file.path).map_or(Offset::ZERO, |name| name.first);
        let sum = (file.bytes, Sha256Sum(file.sha256));
        files::check_content(self.history.storage(), copy, sum, offset)?;
        Ok(())
    }
}

impl ColdReader {
    fn cursors(&self) -> MutexGuard<'_, Vec<Merge>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader left at an offset, or a new start there.
    fn cursor(&self, manifest: &Arc<Manifest>, from: Offset) -> Merge {
        let known = {
            let mut cursors = self.cursors();
            let place = cursors.iter().rposition(|known| known.position() == from);
            place.map(|place| cursors.remove(place))
        };
        known.unwrap_or_else(|| Merge::new(&self.history, manifest, from, manifest.cold_end))
    }

    fn keep(&self, cursor: Merge) {
        // At its end it has nothing more to give, whatever was written since.
        if cursor.position() == cursor.end() {
            return;
        }
        let mut cursors = self.cursors();
        cursors.push(cursor);
        if cursors.len() > CURSORS_MAX {
            let oldest = cursors.remove(0);
            drop(cursors);
            // Threads that decode ahead are waited for by nobody.
            drop(oldest);
        }
    }
}
