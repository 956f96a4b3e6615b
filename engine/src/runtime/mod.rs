//! Runs projections: one task each, at its own pace.
//!
//! ```text
//! open ─▶ check ─▶ follow: read, wait for the fold, apply ─┐
//!   ▲       │                 │        ▲                   │
//!   │       ▼ foreign, lost   ▼ away   └── backoff ◀───────┤
//!   │     stopped ◀───────────────── refused ◀─────────────┘
//!   └─ clear ◀─ rebuild (asked for by a person)
//! ```
//!
//! # Invariants
//! R1. Batches are applied in log order, each at least once, and the checkpoint that goes with them is the end of the
//!     last.
//! R2. A projection never stands in the way of appends or of another one.
//! R3. A store of another log, of a lost history or of another fold version is not touched until a person asks for a
//!     rebuild.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::batch::LoggedBatch;
use crate::error::{LogError, chain};
use crate::log::{Log, LogReader, Shared};
use crate::metrics as names;
use crate::projection::{Projection, ProjectionError, View};
use crate::statistician::SharedStatistics;
use crate::threads::{self, Mutex, MutexGuard, Notify, PoisonError, watch};
use crate::{Checkpoint, CheckpointError, Offset, Timestamp};

/// How much is applied at a time, in bytes of the log.
const APPLY_BYTES: usize = 4 << 20;
/// How much is read ahead for a projection that wants it, in bytes of memory once it was thinned, and for how long.
const AHEAD_BYTES: usize = 32 << 20;
const AHEAD_TIME: Duration = Duration::from_secs(3);
/// After how many bytes of memory it is thinned, and how many of those that stay are applied at a time.
const THIN_BYTES: usize = 12 << 20;
const PORTION_BYTES: usize = 6 << 20;
/// The longest wait between two attempts.
const DELAY_MAX: Duration = Duration::from_secs(30);

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
    /// It follows, but its store does not keep what it should; see the last error.
    Degraded,
    /// Its store is away; it tries again.
    Retrying,
    /// It needs a person; see the last error.
    Stopped,
    /// Forgetting everything in order to start again.
    Clearing,
}

impl ProjectionState {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Clearing => "clearing",
        }
    }
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

/// The projection holds a part of the log itself, so there is nothing to build it from; or it has effects that cannot be
/// taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} cannot be built again from the log")]
pub struct NotRebuildable {
    pub name: String,
}

/// A running projection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProjectionHandle {
    task: Arc<Task>,
}

#[derive(Debug)]
struct Task {
    name: String,
    log: Arc<Shared>,
    progress: watch::Sender<Progress>,
    errors: Mutex<Errors>,
    /// A person asked for a rebuild.
    rebuild: Notify,
    rebuildable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    state: ProjectionState,
    offset: Offset,
    /// When the log took what was applied last.
    applied: Option<Timestamp>,
    success: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Errors {
    count: u64,
    last: Option<String>,
}

impl ProjectionHandle {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.task.name
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> ProjectionStatus {
        let progress = *self.task.progress.borrow();
        let errors = self.task.errors();
        let lag_events = self.task.log.tail().since(progress.offset);
        // The oldest event not applied is not older than the newest one applied.
        let behind = progress.applied.filter(|_| lag_events > 0);
        let now = self.task.log.clock.now();
        let lag_seconds = behind.map_or(0.0, |applied| {
            (now.micros() - applied.micros()).max(0) as f64 / 1e6
        });
        ProjectionStatus {
            name: self.task.name.clone(),
            state: progress.state,
            offset: progress.offset,
            lag_events,
            lag_seconds,
            errors: errors.count,
            last_error: errors.last.clone(),
            last_success: progress.success,
        }
    }

    /// Waits until everything before `wanted` is applied; answers how far it is then.
    ///
    /// # Errors
    /// [`NotYet`] after `patience`, or at once when it is stopped.
    pub async fn wait_for(&self, wanted: Offset, patience: Duration) -> Result<Offset, NotYet> {
        let mut progress = self.task.progress.subscribe();
        let decided = |progress: &Progress| {
            progress.offset >= wanted || progress.state == ProjectionState::Stopped
        };
        // Without waiting no timer is needed, and so no runtime.
        let reached = *progress.borrow();
        let found = if decided(&reached) || patience.is_zero() {
            reached
        } else {
            // What was waited for counts as it came: a rebuild may begin before anybody looks again.
            let came = threads::timeout(patience, progress.wait_for(decided)).await;
            let came = came.and_then(Result::ok).map(|progress| *progress);
            came.unwrap_or_else(|| *self.task.progress.borrow())
        };
        let (name, at) = (self.task.name.clone(), found.offset);
        if at >= wanted {
            Ok(at)
        } else if found.state == ProjectionState::Stopped {
            let reason = self.task.errors().last.clone().unwrap_or_default();
            Err(NotYet::Stopped { name, at, reason })
        } else {
            Err(NotYet::Behind { name, at, wanted })
        }
    }

    /// Clears the store and applies the log from its start.
    ///
    /// # Errors
    /// If it cannot be built from the log.
    pub fn rebuild(&self) -> Result<(), NotRebuildable> {
        if !self.task.rebuildable {
            return Err(NotRebuildable {
                name: self.task.name.clone(),
            });
        }
        self.task.rebuild.notify_one();
        Ok(())
    }

    pub(crate) fn refresh_gauges(&self) {
        let status = self.status();
        let label = || self.task.name.clone();
        metrics::gauge!(names::PROJECTION_OFFSET, "projection" => label())
            .set(status.offset.0 as f64);
        metrics::gauge!(names::PROJECTION_LAG_EVENTS, "projection" => label())
            .set(status.lag_events as f64);
        metrics::gauge!(names::PROJECTION_LAG_SECONDS, "projection" => label())
            .set(status.lag_seconds);
        let stopped = status.state == ProjectionState::Stopped;
        metrics::gauge!(names::PROJECTION_STOPPED, "projection" => label())
            .set(f64::from(u8::from(stopped)));
        if let Some(success) = status.last_success {
            metrics::gauge!(names::PROJECTION_LAST_SUCCESS, "projection" => label())
                .set(success.micros() as f64 / 1e6);
        }
    }
}

impl Task {
    fn errors(&self) -> MutexGuard<'_, Errors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, state: ProjectionState) {
        self.progress.send_modify(|progress| progress.state = state);
    }

    /// Notes what is wrong with a store that takes everything all the same.
    fn note_state(&self, reason: String) {
        let mut errors = self.errors();
        if errors.last.as_ref() != Some(&reason) {
            tracing::warn!(projection = %self.name, %reason, "the store does not keep what it should");
            errors.last = Some(reason);
        }
    }

    fn note_error(&self, error: &ProjectionError) -> String {
        let text = chain(error);
        let mut errors = self.errors();
        errors.count += 1;
        errors.last = Some(text.clone());
        metrics::counter!(names::PROJECTION_ERRORS, "projection" => self.name.clone()).increment(1);
        text
    }
}

/// Starts a projection as a task of the current runtime.
pub(crate) fn start(
    log: &Log,
    statistics: &Arc<SharedStatistics>,
    projection: Box<dyn Projection>,
) -> ProjectionHandle {
    let start = Progress {
        state: ProjectionState::Starting,
        offset: Offset::ZERO,
        applied: None,
        success: None,
    };
    let task = Arc::new(Task {
        name: projection.name().to_owned(),
        log: Arc::clone(log.shared()),
        progress: watch::Sender::new(start),
        errors: Mutex::default(),
        rebuild: Notify::new(),
        rebuildable: projection.rebuildable(),
    });
    metrics::counter!(names::PROJECTION_ERRORS, "projection" => task.name.clone()).increment(0);
    let runner = Runner {
        task: Arc::clone(&task),
        projection,
        statistics: Arc::clone(statistics),
        delays: delays(log.shared().clock.now()),
    };
    threads::spawn_task(runner.run());
    ProjectionHandle { task }
}

struct Runner {
    task: Arc<Task>,
    projection: Box<dyn Projection>,
    statistics: Arc<SharedStatistics>,
    /// Delays between failures; start over with every success.
    delays: backon::ExponentialBackoff,
}

/// Why a projection no longer follows.
enum Left {
    /// The log is closed.
    Closed,
    /// It waits for a person.
    Stopped(ProjectionError),
    /// Its store should be read again from where it stands.
    Reopen,
    /// A person asked for it.
    Rebuild,
}

impl Runner {
    async fn run(mut self) {
        let task = Arc::clone(&self.task);
        let mut rebuild = false;
        loop {
            let left = if rebuild { self.clear().await } else { None };
            let left = match left {
                Some(left) => left,
                None => self.follow().await,
            };
            rebuild = false;
            match left {
                Left::Closed => return,
                Left::Reopen => {}
                Left::Rebuild => rebuild = true,
                Left::Stopped(error) => {
                    let reason = task.note_error(&error);
                    task.set_state(ProjectionState::Stopped);
                    tracing::error!(projection = %task.name, %reason, "the projection stopped");
                    tokio::select! {
                        biased;
                        () = task.rebuild.notified() => rebuild = true,
                        () = closed(&task.log) => return,
                    }
                }
            }
        }
    }

    async fn clear(&mut self) -> Option<Left> {
        self.task.set_state(ProjectionState::Clearing);
        self.task
            .progress
            .send_modify(|progress| progress.offset = Offset::ZERO);
        tracing::info!(projection = %self.task.name, "clearing the store, to build it again from the log");
        loop {
            match self.projection.clear().await {
                Ok(()) => return None,
                Err(error @ ProjectionError::Stopped { .. }) => return Some(Left::Stopped(error)),
                Err(error) => {
                    if let Some(left) = self.wait(&error).await {
                        return Some(left);
                    }
                }
            }
        }
    }

    /// Opens the store and follows the log from where it stands.
    async fn follow(&mut self) -> Left {
        let task = Arc::clone(&self.task);
        task.set_state(ProjectionState::Starting);
        let from = loop {
            match self.projection.open().await {
                Ok(checkpoint) => match self.check(checkpoint) {
                    Ok(from) => break from,
                    Err(error) => return Left::Stopped(stop(&task.name, &error)),
                },
                Err(error @ ProjectionError::Stopped { .. }) => return Left::Stopped(error),
                Err(error) => {
                    if let Some(left) = self.wait(&error).await {
                        return left;
                    }
                }
            }
        };
        task.progress.send_modify(|progress| {
            progress.offset = from;
            progress.state = ProjectionState::Running;
        });
        let mut reader = LogReader::new(Arc::clone(&task.log), from);
        loop {
            let read = tokio::select! {
                biased;
                // First, since there is always something to read while the projection is behind.
                () = task.rebuild.notified() => return Left::Rebuild,
                read = reader.next(APPLY_BYTES) => read,
                error = self.projection.idle() => return self.give_up(error).await,
            };
            let left = match read {
                Ok(batches) => self.apply(batches, &mut reader).await,
                Err(LogError::Closed) => Some(Left::Closed),
                Err(error) => Some(Left::Stopped(ProjectionError::Stopped {
                    reason: chain(&error),
                })),
            };
            if let Some(left) = left {
                return left;
            }
        }
    }

    /// Waits after a failure; answers if there is a reason not to try again.
    async fn wait(&mut self, error: &ProjectionError) -> Option<Left> {
        let reason = self.task.note_error(error);
        self.task.set_state(ProjectionState::Retrying);
        let delay = self.delays.next().unwrap_or(DELAY_MAX);
        tracing::warn!(projection = %self.task.name, %reason, ?delay, "the store is away; trying again");
        tokio::select! {
            biased;
            () = self.task.rebuild.notified() => Some(Left::Rebuild),
            () = closed(&self.task.log) => Some(Left::Closed),
            () = threads::sleep(delay) => None,
        }
    }

    fn check(&mut self, checkpoint: Option<Checkpoint>) -> Result<Offset, CheckpointError> {
        let Some(checkpoint) = checkpoint else {
            return Ok(Offset::ZERO);
        };
        self.task.log.check(&checkpoint)?;
        let expected = self.projection.fold_version();
        if checkpoint.fold_version != expected {
            return Err(CheckpointError::FoldVersion {
                found: checkpoint.fold_version,
                expected,
            });
        }
        Ok(self.projection.start(&checkpoint).min(checkpoint.offset))
    }

    /// Applies batches, and what is read ahead. Answers why it did not.
    async fn apply(
        &mut self,
        mut batches: Vec<Arc<LoggedBatch>>,
        reader: &mut LogReader,
    ) -> Option<Left> {
        let mut end = Arc::clone(batches.last()?);
        if !self.projection.reads_ahead() {
            return self.apply_portion(&batches, &end).await;
        }
        match self.read_ahead(&mut batches, reader).await {
            Ok(None) => {}
            Ok(Some(read)) => end = read,
            Err(error) => return Some(self.give_up(error).await),
        }
        let mut rest = batches.as_slice();
        loop {
            let portion;
            (portion, rest) = rest.split_at(portion_of(rest));
            let last = portion.last().filter(|_| !rest.is_empty());
            let left = self.apply_portion(portion, last.unwrap_or(&end)).await;
            if left.is_some() || rest.is_empty() {
                return left;
            }
        }
    }

    /// Applies batches up to the end of the last that was read, however long the store is away. Answers why it did not.
    async fn apply_portion(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        last: &LoggedBatch,
    ) -> Option<Left> {
        let task = Arc::clone(&self.task);
        let to = Checkpoint {
            log: task.log.id,
            epoch: last.epoch,
            offset: last.end(),
            fold_version: self.projection.fold_version(),
        };
        if let Err(reason) = self.statistics.reached(to.offset).await {
            return Some(Left::Stopped(ProjectionError::Stopped { reason }));
        }
        let view = View {
            names: &task.log.names,
            statistics: &self.statistics,
        };
        match self.projection.apply(batches, view, to).await {
            Ok(()) => {
                let now = task.log.clock.now();
                self.delays = delays(now);
                let state = match self.projection.degraded() {
                    None => ProjectionState::Running,
                    Some(reason) => {
                        task.note_state(reason);
                        ProjectionState::Degraded
                    }
                };
                task.progress.send_modify(|progress| {
                    *progress = Progress {
                        state,
                        offset: to.offset,
                        applied: Some(last.append_time),
                        success: Some(now),
                    };
                });
                None
            }
            // Whether the batch was applied is not known: the store is asked, once it is back.
            Err(error) => Some(self.give_up(error).await),
        }
    }

    /// Reads on while there is more, and lets the projection thin it; answers the last batch that was read.
    async fn read_ahead(
        &mut self,
        batches: &mut Vec<Arc<LoggedBatch>>,
        reader: &mut LogReader,
    ) -> Result<Option<Arc<LoggedBatch>>, ProjectionError> {
        let task = Arc::clone(&self.task);
        let view = View {
            names: &task.log.names,
            statistics: &self.statistics,
        };
        let until = task.log.clock.monotonic() + AHEAD_TIME;
        let mut last = None;
        let (mut held, mut fresh) = (bytes(batches), 0);
        while held < AHEAD_BYTES && task.log.clock.monotonic() < until {
            // If it fails, it does so again when it is read to be applied.
            let Ok(more) = reader.read(APPLY_BYTES) else {
                break;
            };
            let Some(read) = more.last() else {
                break;
            };
            last = Some(Arc::clone(read));
            let read = bytes(&more);
            batches.extend(more);
            (held, fresh) = (held + read, fresh + read);
            if fresh >= THIN_BYTES {
                self.projection.thin(batches, view).await?;
                (held, fresh) = (bytes(batches), 0);
            }
        }
        // Whoever applies a portion does not know what the next ones bring.
        if fresh > 0 && held > PORTION_BYTES {
            self.projection.thin(batches, view).await?;
        }
        Ok(last)
    }

    /// What follows a failure after which the store must be opened again.
    async fn give_up(&mut self, error: ProjectionError) -> Left {
        match error {
            ProjectionError::Stopped { .. } => Left::Stopped(error),
            ProjectionError::Unavailable(_) => self.wait(&error).await.unwrap_or(Left::Reopen),
        }
    }
}

/// About how many bytes batches hold in memory.
fn bytes(batches: &[Arc<LoggedBatch>]) -> usize {
    batches.iter().map(|batch| batch.bytes()).sum()
}

/// How many of the batches that were read ahead are applied together: applying takes memory of its own.
fn portion_of(batches: &[Arc<LoggedBatch>]) -> usize {
    let mut held = 0;
    let fits = |batch: &&Arc<LoggedBatch>| {
        held += batch.bytes();
        held <= PORTION_BYTES
    };
    let fitting = batches.iter().take_while(fits).count();
    fitting.max(1).min(batches.len())
}

/// What to tell a person whose store does not fit the log.
fn stop(name: &str, error: &CheckpointError) -> ProjectionError {
    let remedy = match error {
        CheckpointError::ForeignLog { .. } => {
            format!(
                "choose another store, or run `modelog rebuild {name}` to replace what it holds"
            )
        }
        _ => format!("run `modelog rebuild {name}`"),
    };
    ProjectionError::Stopped {
        reason: format!("{error}; {remedy}"),
    }
}

async fn closed(log: &Shared) {
    // An error means that the log is gone, which is closed too.
    let _ = log.subscribe().wait_for(|tail| tail.closed).await;
}

/// How long to wait from failure to failure; what is added by chance follows from the time, like all else here.
fn delays(now: Timestamp) -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(DELAY_MAX)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(now.micros().unsigned_abs())
        .build()
}
