//! What can go wrong with a log, and what a caller can do about it.

use std::io;
use std::path::PathBuf;

use crate::event::Kind;
use crate::{LogId, Offset};

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is wrong; sending it again will not help.
    Invalid,
    /// Try again later.
    Unavailable,
    /// It contradicts what is there.
    Conflict,
    /// Stored bytes are not what was written; a person has to look.
    Corrupt,
    /// The log is closing or closed.
    Closed,
}

/// Why a log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{action} {} failed", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use by {holder}; stop it, or reach it through its API", path.display())]
    Locked { path: PathBuf, holder: String },
    /// Written by a newer Modelog.
    #[error(
        "{} needs a reader of log format {needed}, this program reads up to {supported}: use a newer modelog",
        path.display()
    )]
    TooNew {
        path: PathBuf,
        needed: u32,
        supported: u32,
    },
    /// A file is not what its name says.
    #[error("{} is not a file of this log: {reason}", path.display())]
    Foreign { path: PathBuf, reason: String },
    /// Durable bytes were damaged or are missing.
    #[error(
        "{} is corrupt at byte {position} (events from {offset} on): {reason}; bring the file back from a copy; `modelog verify` lists all damage, `modelog log inspect FILE` shows a segment's frames",
        path.display()
    )]
    Corrupt {
        path: PathBuf,
        position: u64,
        offset: Offset,
        reason: String,
    },
    /// A file system on which a synced file is not known to be durable.
    #[error("{} is on a network file system ({name}), which cannot keep a log: choose a local disk", path.display())]
    NetworkFileSystem { path: PathBuf, name: &'static str },
    /// The offset was never written.
    #[error("offset {requested} lies beyond the end of the log, {tail}")]
    BeyondTail { requested: Offset, tail: Offset },
    /// Events that are in neither segments nor the cold tier.
    #[error("events {first} to {end} are in no segment and no other store")]
    Missing { first: Offset, end: Offset },
    /// The cold tier is that of another log.
    #[error(
        "the cold tier holds the history of log {found}, this is log {expected}: give each log a directory of its own"
    )]
    ForeignCold { found: LogId, expected: LogId },
    /// There is history in the cold tier and no log beside it.
    #[error(
        "the cold tier holds the history of log {log}, and the log itself is gone: `modelog restore` makes a log of it in a new directory"
    )]
    LogGone { log: LogId },
    /// The cold tier lost what it had taken over.
    #[error(
        "the cold tier ends at offset {end}, though everything before {recorded} was handed over to it: bring its files back from a backup"
    )]
    ColdLost { end: Offset, recorded: Offset },
    /// A backup is not opened: its files may be shared.
    #[error("{} is a backup: `modelog restore` makes a data directory of it", path.display())]
    Backup { path: PathBuf },
    /// A restore was interrupted.
    #[error("{} is being restored, or the restore was interrupted: run `modelog restore` again", path.display())]
    Restoring { path: PathBuf },
    /// The place for a restored log holds something already.
    #[error("{} is not empty: restore into a directory that does not exist", path.display())]
    NotEmpty { path: PathBuf },
    /// The segment being written could not be ended; the log goes on.
    #[error("the segment could not be ended: {reason}")]
    NotSealed { reason: String },
    #[error("the log is closed")]
    Closed,
    /// A setting that cannot be.
    #[error("`{setting}` {reason}")]
    Setting {
        setting: &'static str,
        reason: String,
    },
}

impl LogError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Locked { .. } | Self::NotSealed { .. } => {
                ErrorKind::Unavailable
            }
            Self::Corrupt { .. }
            | Self::Missing { .. }
            | Self::Foreign { .. }
            | Self::ForeignCold { .. }
            | Self::LogGone { .. }
            | Self::ColdLost { .. } => ErrorKind::Corrupt,
            Self::Closed => ErrorKind::Closed,
            Self::TooNew { .. }
            | Self::NetworkFileSystem { .. }
            | Self::BeyondTail { .. }
            | Self::Backup { .. }
            | Self::Restoring { .. }
            | Self::NotEmpty { .. }
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
}

/// Why events were not appended, or why nobody knows whether they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// An event of that id is in the log with other content.
    #[error(
        "event {ord} of this call: a {event} with the same id but other content is in the log at offset {existing}"
    )]
    IdConflict {
        ord: u32,
        event: Kind,
        existing: Offset,
    },
    /// Two events of the call have the same id and other content.
    #[error("events {first} and {ord} of this call have the same id but other content")]
    RepeatedId { first: u32, ord: u32 },
    /// The entity exists, with other attributes.
    #[error("event {ord} of this call: {entity} exists and differs in {}", .fields.join(", "))]
    EntityConflict {
        ord: u32,
        entity: String,
        fields: Vec<&'static str>,
    },
    /// The key was used for another call.
    #[error("the idempotency key was used for a call with another body")]
    KeyReused,
    /// A newer instance of the producer is at work, or the sequence was left behind long ago.
    #[error(
        "producer {producer} is at epoch {epoch}, sequence {sequence}; this call is older and not remembered"
    )]
    StaleProducer {
        producer: String,
        epoch: u32,
        sequence: u64,
    },
    /// Calls of the producer are missing in between.
    #[error("producer {producer} must go on with sequence {expected}, not {found}")]
    SequenceGap {
        producer: String,
        expected: u64,
        found: u64,
    },
    /// Positions of a partition that do not follow those in the log: they were read before, or some are missing.
    #[error("{topic}/{partition} must go on with position {expected}, not {found}")]
    OutOfPlace {
        topic: String,
        partition: i32,
        expected: i64,
        found: i64,
    },
    /// The log writes events of this kind itself: they say which numbers names were given.
    #[error("events of the kind {kind} are written by the log alone")]
    Reserved { kind: Kind },
    /// Larger than a frame may be.
    #[error("the call takes {bytes} bytes in the log, at most {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    /// Too much is waiting to be written.
    #[error("{backlog_bytes} bytes are waiting to be written already")]
    Backlog { backlog_bytes: usize },
    /// No space on the disk. Not applied.
    #[error("the disk is full; nothing of this call was appended")]
    DiskFull,
    /// An earlier write failed. Not applied.
    #[error("the log stopped taking events after a failed write and must be reopened: {reason}")]
    Poisoned { reason: String },
    /// The write of this very call failed: it may or may not be in the log after reopening.
    #[error("the outcome is unknown, because writing failed: {reason}")]
    OutcomeUnknown { reason: String },
    /// Not applied.
    #[error("the log is closing")]
    Closed,
}

impl AppendError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::IdConflict { .. }
            | Self::RepeatedId { .. }
            | Self::EntityConflict { .. }
            | Self::OutOfPlace { .. } => ErrorKind::Conflict,
            Self::KeyReused
            | Self::StaleProducer { .. }
            | Self::SequenceGap { .. }
            | Self::Reserved { .. }
            | Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::Backlog { .. }
            | Self::DiskFull
            | Self::Poisoned { .. }
            | Self::OutcomeUnknown { .. } => ErrorKind::Unavailable,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the call is certain not to be in the log.
    #[must_use]
    pub fn is_not_applied(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown { .. })
    }
}

/// A checkpoint that does not fit the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the store follows log {found}, this is log {expected}")]
    ForeignLog { found: LogId, expected: LogId },
    #[error(
        "the store stands at offset {offset} of epoch {epoch}, which ended at {end}: that history no longer exists"
    )]
    LostHistory {
        epoch: u32,
        offset: Offset,
        end: Offset,
    },
    #[error("the store was written by fold version {found}, this program has {expected}")]
    FoldVersion { found: u32, expected: u32 },
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
