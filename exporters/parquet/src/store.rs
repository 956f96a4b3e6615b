//! The Parquet files of one log, as they stand: what is finished, and what is known about the rest.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use modelog_engine::{Clock, Offset, Storage};

use crate::error::ParquetError;
use crate::manifest::Manifest;
use crate::worker::Command;

/// Settings of the Parquet files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetConfig {
    /// The directory; created when a compactor starts.
    pub path: PathBuf,
    /// A file is closed when it has grown to this.
    pub target_file_bytes: u64,
    /// A file is closed when its first event has been in the log for so long.
    pub max_delay: Duration,
    /// Values waiting to be encoded, of all kinds together; beyond, the largest kind becomes a row group.
    pub pending_bytes: usize,
    /// How often to look whether a file is due when nothing else happens.
    pub check_every: Duration,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            path: "parquet".into(),
            target_file_bytes: 256 << 20,
            max_delay: Duration::from_secs(3600),
            pending_bytes: 64 << 20,
            check_every: Duration::from_secs(1),
        }
    }
}

impl ParquetConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ParquetError::Setting`] with the first setting that cannot be.
    pub fn check(&self) -> Result<(), ParquetError> {
        let wrong = |setting, reason| Err(ParquetError::Setting { setting, reason });
        if self.path.as_os_str().is_empty() {
            return wrong("parquet.path", "must not be empty");
        }
        if self.target_file_bytes == 0 {
            return wrong("parquet.target_file_bytes", "must not be 0");
        }
        if self.max_delay.is_zero() {
            return wrong("parquet.max_delay", "must not be 0");
        }
        if self.check_every.is_zero() {
            return wrong("parquet.check_every", "must not be 0");
        }
        Ok(())
    }
}

/// The Parquet files of a log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ParquetStore {
    pub(crate) shared: Arc<Shared>,
}

/// What the compactor changes and others read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ParquetConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The one on disk; none as long as there is none.
    manifest: RwLock<Option<Arc<Manifest>>>,
    progress: Mutex<Progress>,
    /// The door to the compactor, if one was started.
    commands: Mutex<Option<mpsc::Sender<Command>>>,
}

/// What is not on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) open_rows: u64,
    pub(crate) open_bytes: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) foreign: Vec<PathBuf>,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetStatus {
    /// Everything before this offset is in finished files.
    pub cold_end: Offset,
    pub files: u64,
    /// Of finished files.
    pub bytes: u64,
    /// In finished files; names and origins are rows too.
    pub rows: u64,
    /// Taken in and not yet in finished files.
    pub open_rows: u64,
    /// About how many bytes these take, in memory and in unfinished files.
    pub open_bytes: u64,
    /// Why compacting failed last; none once it goes on.
    pub last_error: Option<String>,
    /// Files in the directory that are not ours; they are left alone.
    pub foreign: Vec<PathBuf>,
}

impl ParquetStore {
    /// Reads the manifest and checks that its files are there with their sizes. Changes nothing.
    ///
    /// # Errors
    /// If a setting cannot be, the manifest cannot be read or is damaged, or a file is missing or of another size.
    pub fn open(
        config: ParquetConfig,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ParquetError> {
        config.check()?;
        let manifest = load(&*storage, &config.path)?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                storage,
                clock,
                manifest: RwLock::new(manifest.map(Arc::new)),
                progress: Mutex::default(),
                commands: Mutex::default(),
            }),
        })
    }

    /// The directory of the files.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.config.path
    }

    /// The finished files as they stand now; none if nothing was ever written.
    #[must_use]
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.shared.manifest()
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> ParquetStatus {
        let progress = self.shared.progress().clone();
        let manifest = self.shared.manifest();
        let files = manifest.iter().flat_map(|manifest| &manifest.files);
        ParquetStatus {
            cold_end: self.shared.cold_end(),
            files: files.clone().count() as u64,
            bytes: files.clone().map(|file| file.bytes).sum(),
            rows: files.map(|file| file.rows).sum(),
            open_rows: progress.open_rows,
            open_bytes: progress.open_bytes,
            last_error: progress.last_error,
            foreign: progress.foreign,
        }
    }
}

impl Shared {
    pub(crate) fn manifest(&self) -> Option<Arc<Manifest>> {
        let manifest = self.manifest.read();
        manifest.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be called once the manifest is durable.
    pub(crate) fn set_manifest(&self, manifest: Arc<Manifest>) {
        let current = self.manifest.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Some(manifest);
    }

    pub(crate) fn cold_end(&self) -> Offset {
        self.manifest()
            .map_or(Offset::ZERO, |manifest| manifest.cold_end)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commands(&self) -> MutexGuard<'_, Option<mpsc::Sender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a directory's manifest and checks that its files are there with their sizes.
pub(crate) fn load(
    storage: &dyn Storage,
    directory: &Path,
) -> Result<Option<Manifest>, ParquetError> {
    let Some(manifest) = Manifest::load(storage, directory)? else {
        return Ok(None);
    };
    for file in &manifest.files {
        let path = file.locate(directory);
        let len = match storage.open(&path, false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ParquetError::Missing { path });
            }
            opened => opened
                .and_then(|file| file.len())
                .map_err(ParquetError::io("opening", &path))?,
        };
        if len != file.bytes {
            return Err(ParquetError::Damaged {
                path,
                reason: format!("it has {len} bytes, {} were written", file.bytes),
            });
        }
    }
    Ok(Some(manifest))
}
