//! The engine: a log, the names and statistics folded from it, and the projections it feeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{EventBatch, LoggedBatch};
use crate::error::{AppendError, LogError};
use crate::event::Event;
use crate::names::Names;
use crate::projection::Projection;
use crate::stats::Statistics;
use crate::{LogId, Offset, Timestamp};

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
    /// Events that were there before.
    pub duplicates: u32,
    /// Offset of the first accepted event.
    pub first: Option<Offset>,
    /// Everything this call wanted in the log lies before this offset.
    pub end: Offset,
}

/// Whether events can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Accepting,
    /// Why not.
    Refusing(AppendError),
}

/// Where a projection stands.
#[derive(Clone, Debug)]
pub struct ProjectionStatus {
    pub name: String,
    pub state: ProjectionState,
    /// The end of what it has applied.
    pub offset: Offset,
    pub lag_events: u64,
    /// Age of the oldest event it has not applied.
    pub lag_seconds: f64,
    pub errors: u64,
    pub last_error: Option<String>,
    pub last_success: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectionState {
    /// Opening its store, or checking where it stands.
    Starting,
    Running,
    /// Its store is away; it tries again.
    Retrying,
    /// It needs a person; see the last error.
    Stopped,
    /// Forgetting everything in order to start again.
    Clearing,
}

/// The answer to waiting for a projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    #[error("the projection {name} is at offset {at}, {wanted} was asked for")]
    Behind {
        name: String,
        at: Offset,
        wanted: Offset,
    },
    #[error("the projection {name} is stopped at offset {at}: {reason}")]
    Stopped {
        name: String,
        at: Offset,
        reason: String,
    },
}

/// A running projection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProjectionHandle {}

impl ProjectionHandle {
    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> ProjectionStatus {
        todo!()
    }

    /// Waits until everything before `wanted` is applied; answers what is.
    ///
    /// # Errors
    /// [`NotYet`] after `patience`, or at once when it is stopped.
    pub async fn wait_for(&self, wanted: Offset, patience: Duration) -> Result<Offset, NotYet> {
        let _ = (wanted, patience);
        todo!()
    }

    /// Clears the store and applies the log from its start.
    pub fn rebuild(&self) {
        todo!()
    }
}

/// An open log with everything that follows it. Cheap to clone; the last clone closes it.
#[derive(Clone, Debug)]
pub struct Engine {}

impl Engine {
    /// Opens a data directory, recovering what a crash left. Blocks while it reads.
    ///
    /// # Errors
    /// [`LogError`]; nothing was changed if it says corrupt, locked, foreign or too new.
    pub fn open(config: impl Into<Config>) -> Result<Self, LogError> {
        let _ = config.into();
        todo!()
    }

    /// Appends a batch; durable when it returns.
    ///
    /// # Errors
    /// [`AppendError`]; unless it is `OutcomeUnknown`, nothing of the batch is in the log.
    pub async fn append(
        &self,
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let _ = (batch, options);
        todo!()
    }

    /// The same for threads that do not run a future.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_blocking(
        &self,
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        pollster::block_on(self.append(batch, options))
    }

    /// The offset after the last durable event.
    #[must_use]
    pub fn tail(&self) -> Offset {
        todo!()
    }

    /// The identity of the log.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        todo!()
    }

    /// Whether events can be taken.
    #[must_use]
    pub fn health(&self) -> Health {
        todo!()
    }

    /// Reads from an offset on.
    #[must_use]
    pub fn reader(&self, from: Offset) -> LogReader {
        let _ = from;
        todo!()
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        todo!()
    }

    /// A look at the statistics.
    pub fn with_statistics<T>(&self, look: impl FnOnce(&Statistics) -> T) -> T {
        let _ = look;
        todo!()
    }

    /// Starts a projection as a task of the tokio runtime this is called in.
    pub fn project(&self, projection: Box<dyn Projection>) -> ProjectionHandle {
        let _ = projection;
        todo!()
    }

    /// The running projections, by name.
    #[must_use]
    pub fn projections(&self) -> Vec<ProjectionHandle> {
        todo!()
    }

    /// The running projection of that name.
    #[must_use]
    pub fn projection(&self, name: &str) -> Option<ProjectionHandle> {
        let _ = name;
        todo!()
    }

    /// Takes no more appends, ends what is under way, lets projections finish what is in the log, writes snapshots and
    /// the closing frame.
    ///
    /// # Errors
    /// The first thing that could not be written; the log is sound all the same.
    pub async fn close(&self) -> Result<(), LogError> {
        todo!()
    }
}

/// Reads a log in order, up to its durable end, and waits there.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// The next batches, in order, of about `limit_bytes`; waits until there is one. The first may begin below the offset
    /// asked for: its rows before [`position`](Self::position) are to be skipped.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the log closes and all was read, [`LogError::Corrupt`] on damage.
    pub async fn next(&mut self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let _ = limit_bytes;
        todo!()
    }

    /// What is there without waiting; empty at the tail.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn read(&mut self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let _ = limit_bytes;
        todo!()
    }

    /// The offset of the next event.
    #[must_use]
    pub fn position(&self) -> Offset {
        todo!()
    }
}

/// Conveniences for each kind come with the embedding interface; one stands for all here.
impl Engine {
    /// Appends events; durable when it returns.
    ///
    /// # Errors
    /// See [`LogEventsError`].
    pub async fn append_events(&self, events: &[Event]) -> Result<Appended, LogEventsError> {
        Ok(self
            .append(EventBatch::from_events(events)?, AppendOptions::default())
            .await?)
    }
}

/// Why events as values were not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogEventsError {
    #[error(transparent)]
    Field(#[from] crate::event::FieldError),
    #[error(transparent)]
    Append(#[from] AppendError),
}
