//! Settings of an engine, and of a call to append.

use std::path::PathBuf;
use std::time::Duration;

use crate::Offset;
use crate::error::LogError;

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; created if it is not there.
    pub path: PathBuf,
    pub log: LogConfig,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A segment is rolled before it grows beyond this.
    pub segment_bytes: u64,
    /// How much is written before a sync.
    pub group_bytes_max: usize,
    /// How much may wait to be written; beyond, appends wait or are refused.
    pub backlog_bytes_max: usize,
    /// How many identities of events are remembered.
    pub dedupe_window: usize,
    /// Pad groups to blocks, for disks whose overwritten blocks may lose what they held.
    pub pad_groups: bool,
    /// Free space below which appends are refused.
    pub reserve_bytes: u64,
    /// How long a segment is kept once the cold tier holds all of it: time of this log being open, so that no clock can
    /// hurry it.
    pub keep_segments: Duration,
}

impl Config {
    /// The defaults, in a directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            log: LogConfig::default(),
        }
    }
}

impl<P: Into<PathBuf>> From<P> for Config {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            group_bytes_max: 2 << 20,
            backlog_bytes_max: 64 << 20,
            dedupe_window: 1_000_000,
            pad_groups: false,
            reserve_bytes: 64 << 20,
            keep_segments: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The way events came in; a label of the ingest metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channel {
    #[default]
    Embedded,
    Http,
    Kafka,
    Import,
}

/// How a call wants to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppendOptions {
    pub channel: Channel,
    /// What to do when too much is waiting.
    pub backlog: OnBacklog,
    /// What to do when an id is in the log with other content.
    pub id_conflict: OnConflict,
    /// What to do when a `…Created` event names an entity that was created before.
    pub create: OnCreate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBacklog {
    #[default]
    Wait,
    Refuse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse the whole call.
    #[default]
    Refuse,
    /// Leave the event out and record it as `EventRejected` with the reason `id_conflict`.
    Record,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCreate {
    /// Later facts are merged into earlier ones, field by field.
    #[default]
    Merge,
    /// An identical repeat is a duplicate, a differing one refuses the call.
    Refuse,
}

/// What became of a call, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Events now in the log.
    pub accepted: u32,
    /// Events that are in the log only as a record of having been rejected.
    pub rejected: u32,
    /// Events that were there before.
    pub duplicates: u32,
    /// Offset of the first event this call put into the log.
    pub first: Option<Offset>,
    /// Everything this call wanted in the log lies before this offset.
    pub end: Offset,
}

impl LogConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`LogError::Setting`] with the first setting that cannot be.
    pub fn check(&self) -> Result<(), LogError> {
        let wrong = |setting, reason: &str| {
            Err(LogError::Setting {
                setting,
                reason: reason.into(),
            })
        };
        if self.segment_bytes < 16 << 10 {
            return wrong("log.segment_bytes", "must be at least 16 KiB");
        }
        if self.group_bytes_max == 0 {
            return wrong("log.group_bytes_max", "must not be 0");
        }
        if self.backlog_bytes_max < 64 << 10 {
            return wrong("log.backlog_bytes_max", "must be at least 64 KiB");
        }
        Ok(())
    }
}
