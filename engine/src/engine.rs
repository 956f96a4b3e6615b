//! The engine: a log, the names and statistics folded from it, and the projections it feeds.
//!
//! It runs on the caller's tokio runtime or on none: appending and reading need threads of the log only; projections
//! are tasks of the runtime they are started in. It installs no logger, metrics recorder or signal handler.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::EventBatch;
use crate::clock::{Clock, SystemClock};
use crate::cold::ColdTier;
use crate::config::{AppendOptions, Appended, Config};
use crate::error::{AppendError, LogError};
use crate::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, Event, EventLogged, ExperimentCreated,
    FeedbackLogged, FieldError, HyperparametersLogged, MetricLogged, ModelCreated,
    ModelVersionAliased, ModelVersionCreated, PredictionLogged, RunFinished, RunStarted, TagsSet,
};
use crate::log::backup::BackupReport;
use crate::log::{ColdHandle, Enqueued, Log, LogReader, Parts, Prepared};
use crate::names::Names;
use crate::origin::Position;
use crate::projection::{Projection, View};
use crate::runtime::{self, ProjectionHandle, ProjectionState};
use crate::statistician::Statistician;
use crate::stats::{Observer, Statistics};
use crate::storage::{LocalStorage, Storage};
use crate::threads::{self, Mutex, MutexGuard, PoisonError};
use crate::{Checkpoint, CheckpointError, LogId, Offset};

/// How long [`Engine::close`] lets projections go on with what is in the log.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Whether events can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Accepting,
    /// Why not.
    Refusing(AppendError),
}

/// What an engine is built on: the doors to disk and time, and the cold part of its log.
#[derive(Clone, Debug)]
pub struct Foundations {
    pub storage: Arc<dyn Storage>,
    pub clock: Arc<dyn Clock>,
    pub cold: Option<Arc<dyn ColdTier>>,
    /// The identity of a log that is created.
    pub new_log: LogId,
}

impl Default for Foundations {
    fn default() -> Self {
        Self {
            storage: Arc::new(LocalStorage),
            clock: Arc::new(SystemClock::new()),
            cold: None,
            new_log: LogId(uuid::Uuid::now_v7()),
        }
    }
}

/// An open log with everything that follows it. Cheap to clone; it closes with [`close`](Self::close), or when the last
/// clone is dropped.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped first: the statistician's thread ends when the log is closed.
    log: Log,
    statistician: Statistician,
    clock: Arc<dyn Clock>,
    projections: Mutex<Vec<ProjectionHandle>>,
}

/// Why events as values were not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogEventsError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Engine {
    /// Opens a data directory, recovering what a crash left. Blocks while it reads.
    ///
    /// # Errors
    /// [`LogError`]; nothing was changed if it says corrupt, locked, foreign or too new.
    pub fn open(config: impl Into<Config>) -> Result<Self, LogError> {
        Self::open_on(config, Foundations::default())
    }

    /// Opens a data directory on a disk and a clock of the caller's choice.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(config: impl Into<Config>, foundations: Foundations) -> Result<Self, LogError> {
        let Config { path, log } = config.into();
        log.check()?;
        let Foundations {
            storage,
            clock,
            cold,
            new_log,
        } = foundations;
        let parts = Parts {
            storage,
            clock: Arc::clone(&clock),
            cold,
            new_log,
        };
        let log = Log::open(&path, log, parts)?;
        let statistician = Statistician::start(&log)?;
        Ok(Self {
            inner: Arc::new(Inner {
                statistician,
                log,
                clock,
                projections: Mutex::default(),
            }),
        })
    }

    /// Appends a batch; durable when it returns. If the future is dropped, the batch may be appended all the same.
    ///
    /// # Errors
    /// [`AppendError`]; unless it is `OutcomeUnknown`, nothing of the batch is in the log.
    pub async fn append(
        &self,
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        self.inner.log.append(batch, options).await
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
        threads::block_on(self.append(batch, options))
    }

    /// The first of the three steps of [`append`](Self::append), for sources that keep an order and use several threads:
    /// everything about a batch that can be done before it has its place.
    ///
    /// # Errors
    /// [`AppendError`] if the batch cannot be appended whatever the log holds.
    pub fn prepare(
        &self,
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Prepared, AppendError> {
        self.inner.log.prepare(batch, options)
    }

    /// The second step: gives a batch its place, behind all that have theirs. The third is
    /// [`Enqueued::durable`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing of the batch is in the log.
    pub async fn enqueue(&self, prepared: Prepared) -> Result<Enqueued, AppendError> {
        self.inner.log.enqueue(prepared).await
    }

    /// How far each partition of a Kafka cluster was read, in no particular order; what is enqueued counts.
    #[must_use]
    pub fn positions(&self, cluster: &str) -> Vec<Position> {
        self.inner.log.positions(cluster)
    }

    /// Appends events; durable when it returns.
    ///
    /// # Errors
    /// The first field that was refused, or [`AppendError`].
    pub async fn append_events(&self, events: &[Event]) -> Result<Appended, LogEventsError> {
        Ok(self
            .append(EventBatch::from_events(events)?, AppendOptions::default())
            .await?)
    }

    /// The same for threads that do not run a future.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub fn append_events_blocking(&self, events: &[Event]) -> Result<Appended, LogEventsError> {
        Ok(self.append_blocking(EventBatch::from_events(events)?, AppendOptions::default())?)
    }

    /// The offset after the last durable event.
    #[must_use]
    pub fn tail(&self) -> Offset {
        self.inner.log.shared().tail()
    }

    /// The identity of the log.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.inner.log.shared().id
    }

    /// The stretch of history events are appended to.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.inner.log.epoch()
    }

    /// For the cold tier: hands history over to it. The handle does not keep the log open.
    #[must_use]
    pub fn cold(&self) -> ColdHandle {
        ColdHandle::new(Arc::clone(self.inner.log.shared()))
    }

    /// Everything before this offset is known to be in the cold tier.
    #[must_use]
    pub fn cold_end(&self) -> Offset {
        self.inner.log.shared().cold_end()
    }

    /// Ends the segment being written, if it has events: files that hold everything before the offset answered do not
    /// change any more. Blocks for a few syncs.
    ///
    /// # Errors
    /// [`LogError::NotSealed`] if there was no space for another segment; [`LogError::Closed`].
    pub fn seal(&self) -> Result<Offset, LogError> {
        self.inner.log.seal()
    }

    /// Takes a backup into a directory that holds none, or older ones of this log, and keeps the newest `keep` of them.
    /// Blocks; appends go on meanwhile. `progress` is told how many files are done, of how many.
    ///
    /// # Errors
    /// [`LogError`], among them [`LogError::Closed`] if the log is closed meanwhile; what was taken so far is no backup and
    /// is removed by the next one.
    pub fn backup(
        &self,
        dest: &Path,
        keep: Option<usize>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, LogError> {
        self.inner.log.backup(dest, keep, progress)
    }

    /// Whether what stood at this checkpoint may go on from there; its fold version is not looked at.
    ///
    /// # Errors
    /// If it belongs to another log, or to history that no longer exists.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.inner.log.shared().check(checkpoint)
    }

    /// The latest point of this log's history that whoever stands at a checkpoint of it has seen: the checkpoint itself,
    /// unless a restore or a recovery that cut the log has parted them.
    #[must_use]
    pub fn last_common(&self, checkpoint: &Checkpoint) -> Checkpoint {
        self.inner.log.shared().last_common(checkpoint)
    }

    /// Whether events can be taken.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.log.health()
    }

    /// Reads from an offset on.
    #[must_use]
    pub fn reader(&self, from: Offset) -> LogReader {
        self.inner.log.reader(from)
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.inner.log.shared().names
    }

    /// A look at the statistics; keep it short, the fold waits meanwhile.
    pub fn with_statistics<T>(&self, look: impl FnOnce(&Statistics) -> T) -> T {
        self.inner.statistician.shared().with(look)
    }

    /// What projections may look up: for whoever applies batches to one by hand.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            names: self.names(),
            statistics: self.inner.statistician.shared(),
        }
    }

    /// Tells an observer of every prediction and label the statistics count from now on; never of what is in the log
    /// already.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.inner
            .statistician
            .shared()
            .observe(|| self.tail(), observer);
    }

    /// The clock the engine goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Starts a projection as a task of the tokio runtime this is called in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn project(&self, projection: Box<dyn Projection>) -> ProjectionHandle {
        let handle = runtime::start(
            &self.inner.log,
            self.inner.statistician.shared(),
            projection,
        );
        self.lock_projections().push(handle.clone());
        handle
    }

    /// The running projections, in the order they were started.
    #[must_use]
    pub fn projections(&self) -> Vec<ProjectionHandle> {
        self.lock_projections().clone()
    }

    /// The running projection of that name.
    #[must_use]
    pub fn projection(&self, name: &str) -> Option<ProjectionHandle> {
        self.lock_projections()
            .iter()
            .find(|handle| handle.name() == name)
            .cloned()
    }

    /// Sets the gauges that change without an append; to be called before metrics are read.
    pub fn refresh_gauges(&self) {
        self.inner.log.shared().refresh_gauges();
        for projection in self.projections() {
            projection.refresh_gauges();
        }
    }

    /// Takes no more appends, ends what is under way, lets projections go on with what is in the log for a while, writes
    /// snapshots and the closing frame.
    ///
    /// # Errors
    /// The first thing that could not be written; the log is sound all the same.
    pub async fn close(&self) -> Result<(), LogError> {
        // Closing waits for threads: another thread does that, for the runtime's sake.
        let (done, closed) = threads::oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let close = move || {
            let outcome = inner.log.close();
            inner.statistician.join();
            // Nobody may be waiting any more.
            let _ = done.send(outcome);
        };
        let directory = &self.inner.log.shared().directory;
        threads::spawn("modelog-closer", close)
            .map_err(LogError::io("starting a thread for", directory))?;
        let outcome = closed.await.unwrap_or(Err(LogError::Closed));
        let projections = self.projections();
        // Without any there may be no runtime either, and no timer.
        if !projections.is_empty() {
            let tail = self.tail();
            let all = async {
                for projection in projections {
                    // One that is behind goes on from its checkpoint at the next start; one whose store is away is behind.
                    if projection.status().state != ProjectionState::Retrying {
                        let _ = projection.wait_for(tail, CATCH_UP).await;
                    }
                }
            };
            threads::timeout(CATCH_UP, all).await;
        }
        outcome
    }

    /// The same for threads that do not run a future. Do not call it where projections run on this very thread.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_blocking(&self) -> Result<(), LogError> {
        let outcome = self.inner.log.close();
        self.inner.statistician.join();
        outcome
    }

    fn lock_projections(&self) -> MutexGuard<'_, Vec<ProjectionHandle>> {
        self.inner
            .projections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call for each kind of fact. Each waits for a sync; many facts at once belong into
/// [`append_events`](Engine::append_events).
impl Engine {
    /// Appends one fact; durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log(&self, event: impl Into<Event>) -> Result<Appended, LogEventsError> {
        self.append_events(&[event.into()]).await
    }

    /// The same for threads that do not run a future.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub fn log_blocking(&self, event: impl Into<Event>) -> Result<Appended, LogEventsError> {
        self.append_events_blocking(&[event.into()])
    }

    /// A model was announced. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_model_created(&self, fact: ModelCreated) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A version of a model exists. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_model_version_created(
        &self,
        fact: ModelVersionCreated,
    ) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// An alias points to a version, or to none. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_model_version_aliased(
        &self,
        fact: ModelVersionAliased,
    ) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A dataset was announced. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_dataset_registered(
        &self,
        fact: DatasetRegistered,
    ) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A run read a dataset. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_dataset_used(&self, fact: DatasetUsed) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// An experiment was announced. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_experiment_created(
        &self,
        fact: ExperimentCreated,
    ) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A run began, or was reopened. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_run_started(&self, fact: RunStarted) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// Hyperparameters of a run. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_hyperparameters(
        &self,
        fact: HyperparametersLogged,
    ) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// One point of a metric. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_metric(&self, fact: MetricLogged) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A file was produced. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_artifact(&self, fact: ArtifactLogged) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A run ended. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_run_finished(&self, fact: RunFinished) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// A model version answered. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_prediction(&self, fact: PredictionLogged) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// What an answer should have been. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_feedback(&self, fact: FeedbackLogged) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// Tags of an entity were set. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_tags_set(&self, fact: TagsSet) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }

    /// Whatever else belongs on the record. Durable when it returns.
    ///
    /// # Errors
    /// As [`append_events`](Self::append_events).
    pub async fn log_event(&self, fact: EventLogged) -> Result<Appended, LogEventsError> {
        self.log(fact).await
    }
}
