//! What can be wrong with a Parquet file, and where.

use std::io;
use std::path::{Path, PathBuf};

use modelog_engine::{LogError, Offset};

use super::bytes::FileBytes;
use crate::error::ParquetError;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{action} {} failed", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not what was written, or not there any more.
    #[error("{} is corrupt at byte {position} (events from {offset} on): {reason}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        offset: Offset,
        reason: String,
    },
    /// Sound, perhaps, but nothing we can take.
    #[error("{} cannot be taken: {reason}", path.display())]
    Foreign { path: PathBuf, reason: String },
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn foreign(path: &Path, reason: impl Into<String>) -> Self {
        Self::Foreign {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    /// A failure of the decoder: of the disk below it, or of what it read.
    pub(crate) fn decoding(
        place: Place<'_>,
        bytes: &FileBytes,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        match bytes.take_fault() {
            Some(fault) => Self::io("reading", place.path)(fault),
            None => place.corrupt(error.to_string()),
        }
    }
}

impl From<FileError> for LogError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            FileError::Corrupt {
                path,
                position,
                offset,
                reason,
            } => Self::Corrupt {
                path,
                position,
                offset,
                reason,
            },
            FileError::Foreign { path, reason } => Self::Foreign { path, reason },
        }
    }
}

impl From<FileError> for ParquetError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            FileError::Corrupt {
                path,
                position,
                offset,
                reason,
            } => Self::Damaged {
                path,
                reason: format!("{reason} (at byte {position}, events from {offset} on)"),
            },
            FileError::Foreign { path, reason } => Self::Damaged { path, reason },
        }
    }
}

impl From<ParquetError> for LogError {
    /// What a reader of the log has to know of the files below it.
    fn from(error: ParquetError) -> Self {
        let reason = modelog_engine::chain(&error);
        let corrupt = |path| Self::Corrupt {
            path,
            position: 0,
            offset: Offset::ZERO,
            reason,
        };
        match error {
            ParquetError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            ParquetError::TooNew {
                path,
                needed,
                supported,
            } => Self::TooNew {
                path,
                needed,
                supported,
            },
            ParquetError::Locked { path, holder } => Self::Locked { path, holder },
            ParquetError::Manifest { path, .. }
            | ParquetError::Missing { path }
            | ParquetError::Damaged { path, .. }
            | ParquetError::ForeignLog { path, .. }
            | ParquetError::Behind { path, .. }
            | ParquetError::ReadBack { path, .. }
            | ParquetError::Parquet { path, .. } => corrupt(path),
            ParquetError::Log { source, .. } => source,
            ParquetError::Rows { .. }
            | ParquetError::NotRunning { .. }
            | ParquetError::Setting { .. } => corrupt(PathBuf::new()),
        }
    }
}

/// Where in a file we are, for whoever has to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

impl<'a> Place<'a> {
    /// The beginning of a file that holds events from an offset on.
    pub(crate) fn start(path: &'a Path, offset: Offset) -> Self {
        Self {
            path,
            position: 0,
            offset,
        }
    }

    pub(crate) fn corrupt(self, reason: impl Into<String>) -> FileError {
        FileError::Corrupt {
            path: self.path.to_path_buf(),
            position: self.position,
            offset: self.offset,
            reason: reason.into(),
        }
    }
}
