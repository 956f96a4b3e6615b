//! What can go wrong with Parquet files, and what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use modelog_engine::projection::ProjectionError;
use modelog_engine::{ErrorKind, LogError, LogId, Offset};

/// Why the Parquet files of a log could not be written, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    #[error("{action} {} failed", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The manifest is not what was written.
    #[error(
        "{} is damaged: {reason}; bring it back from a backup; the Parquet files themselves are listed in it and untouched",
        path.display()
    )]
    Manifest { path: PathBuf, reason: String },
    /// Written by a newer Modelog.
    #[error(
        "{} is of format {needed}, this program reads up to {supported}: use a newer modelog",
        path.display()
    )]
    TooNew {
        path: PathBuf,
        needed: u32,
        supported: u32,
    },
    /// A file of the manifest that is not there.
    #[error("{} is in the manifest, yet missing: bring it back from a backup", path.display())]
    Missing { path: PathBuf },
    /// A file that is not what was verified when it was written.
    #[error("{} is damaged: {reason}; bring it back from a backup", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// The directory belongs to another log.
    #[error(
        "{} holds the history of log {found}, this is log {expected}: set `parquet.path` to another directory, or move that one away",
        path.display()
    )]
    ForeignLog {
        path: PathBuf,
        found: LogId,
        expected: LogId,
    },
    /// Another compactor is at work in the directory.
    #[error("{} is being written by {holder}", path.display())]
    Locked { path: PathBuf, holder: String },
    /// The log has recorded more history as being here than is here.
    #[error(
        "{} holds the history up to offset {found}, the log has recorded {recorded}: bring files and manifest back from a backup",
        path.display()
    )]
    Behind {
        path: PathBuf,
        found: Offset,
        recorded: Offset,
    },
    /// What was read back from a file is not what was written to it. The file was not published.
    #[error("{} was read back and differs from what was written: {reason}", path.display())]
    ReadBack { path: PathBuf, reason: String },
    /// A file could not be decoded, or rows not encoded.
    #[error("{}", path.display())]
    Parquet {
        path: PathBuf,
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// Rows that cannot be taken in.
    #[error("the log holds what has no place in Parquet files: {reason}")]
    Rows { reason: String },
    /// The log did not take the new end of the cold tier.
    #[error("the log did not take offset {end} as the end of what is in Parquet")]
    Log {
        end: Offset,
        #[source]
        source: LogError,
    },
    /// Nothing follows the log at the moment.
    #[error("nothing is compacting: {reason}")]
    NotRunning { reason: String },
    /// A setting that cannot be.
    #[error("`{setting}` {reason}")]
    Setting {
        setting: &'static str,
        reason: &'static str,
    },
}

impl ParquetError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Locked { .. } | Self::NotRunning { .. } => {
                ErrorKind::Unavailable
            }
            Self::Log { source, .. } => source.kind(),
            Self::Manifest { .. }
            | Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::Behind { .. }
            | Self::ReadBack { .. }
            | Self::Parquet { .. } => ErrorKind::Corrupt,
            Self::TooNew { .. }
            | Self::ForeignLog { .. }
            | Self::Rows { .. }
            | Self::Setting { .. } => ErrorKind::Invalid,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Tells a failing disk from what the library refuses.
    pub(crate) fn parquet(
        action: &'static str,
        path: &Path,
    ) -> impl Fn(parquet::errors::ParquetError) -> Self + Copy {
        move |source| {
            let path = path.to_path_buf();
            match source {
                parquet::errors::ParquetError::External(inner) => {
                    match inner.downcast::<io::Error>() {
                        Ok(source) => Self::Io {
                            action,
                            path,
                            source: *source,
                        },
                        Err(inner) => Self::Parquet {
                            path,
                            source: parquet::errors::ParquetError::External(inner),
                        },
                    }
                }
                source => Self::Parquet { path, source },
            }
        }
    }
}

impl From<ParquetError> for ProjectionError {
    /// What waiting may mend is tried again; the rest needs a person. A file that was read back wrong is written again:
    /// it was not published.
    fn from(error: ParquetError) -> Self {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Closed => Self::Unavailable(Box::new(error)),
            _ if matches!(error, ParquetError::ReadBack { .. }) => {
                Self::Unavailable(Box::new(error))
            }
            _ => Self::Stopped {
                reason: modelog_engine::chain(&error),
            },
        }
    }
}
