//! The cold part of the log: history that segments no longer hold. `exporters/parquet` implements it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::{LogId, Offset};

/// Verified history below an offset.
pub trait ColdTier: Send + Sync + fmt::Debug {
    /// Whose history it holds; none if it holds nothing yet.
    fn log(&self) -> Option<LogId>;

    /// Everything before this offset is held, verified and durable.
    fn end(&self) -> Offset;

    /// Batches from an offset below [`end`](Self::end) on, of about `limit_bytes`: at least one, each starting where the
    /// one before ended, the first at `from` or before it. Their names and origins are those of the log; which epoch
    /// they belong to is for the reader to say.
    ///
    /// # Errors
    /// [`LogError`] if a file is missing or is not what was verified.
    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError>;

    /// The files there are now, for a copy: all final, so that the list stays good.
    ///
    /// # Errors
    /// [`LogError`] if what lists them cannot be read.
    fn snapshot(&self) -> Result<ColdSnapshot, LogError>;

    /// Checks that a copy of one of its files is what was verified.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if it is not, or that it cannot be read.
    fn check(&self, copy: &Path, file: &ColdFile) -> Result<(), LogError>;
}

/// What a cold tier consists of at a moment.
#[derive(Clone, Debug)]
pub struct ColdSnapshot {
    pub directory: PathBuf,
    /// Everything before this offset is in the files.
    pub end: Offset,
    pub files: Vec<ColdFile>,
    /// The file that lists the others, in the directory, and its bytes.
    pub manifest_name: String,
    pub manifest: Vec<u8>,
}

/// A final file of a cold tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdFile {
    /// Relative to the directory.
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: [u8; 32],
}
