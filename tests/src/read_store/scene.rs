//! A log and a store that follows it, driven step by step.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::{EventBatch, LoggedBatch};
use modelog_engine::event::Event;
use modelog_engine::projection::Projection;
use modelog_engine::read::{Page, PageRequest, ReadError, ReadStore};
use modelog_engine::{
    AppendOptions, Checkpoint, Clock, Config, Engine, Foundations, Offset, SystemClock, Timestamp,
};

/// Where the time of a scene starts: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A time of a scene, by seconds after its start.
#[must_use]
pub fn second(seconds: i64) -> Timestamp {
    Timestamp::from_micros(START.micros() + seconds * 1_000_000)
}

/// A store under test: empty, and ready to be fed.
pub struct Subject {
    pub projection: Box<dyn Projection>,
    pub reads: Arc<dyn ReadStore>,
    /// What must live as long as the store, such as its directory.
    pub guard: Box<dyn Any + Send>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("projection", &self.projection.name())
            .finish_non_exhaustive()
    }
}

/// Something a scene does, on its way.
pub type Course<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn owned<E: Into<Event>>(events: impl IntoIterator<Item = E>) -> Vec<Event> {
    events.into_iter().map(Into::into).collect()
}

/// Makes stores of one sort.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// A new store, empty.
    async fn subject(&self) -> Subject;
}

/// Time that stands still until it is told to go on.
#[derive(Debug)]
struct StillClock {
    now: AtomicI64,
    /// Only the time of day stands still: waits in the log go on.
    machine: SystemClock,
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

/// A log, and what follows it.
pub struct Scene {
    engine: Engine,
    clock: Arc<StillClock>,
    reads: Arc<dyn ReadStore>,
    /// Locked only to be shared between threads: a projection need not be.
    subject: Mutex<Subject>,
    applied: Offset,
    _directory: tempfile::TempDir,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("engine", &self.engine)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl Scene {
    /// An empty log and an empty store.
    pub async fn new(factory: &dyn Factory) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the log");
        let clock = Arc::new(StillClock {
            now: AtomicI64::new(START.micros()),
            machine: SystemClock::new(),
        });
        let foundations = Foundations {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..Foundations::default()
        };
        let mut config = Config::new(directory.path());
        config.log.reserve_bytes = 0;
        config.log.segment_bytes = 256 << 10;
        let engine = Engine::open_on(config, foundations).expect("a new log opens");
        let mut subject = factory.subject().await;
        let checkpoint = subject.projection.open().await.expect("a new store opens");
        assert_eq!(checkpoint, None, "the store is not empty");
        Self {
            engine,
            clock,
            reads: Arc::clone(&subject.reads),
            subject: Mutex::new(subject),
            applied: Offset::ZERO,
            _directory: directory,
        }
    }

    /// The store's answers.
    #[must_use]
    pub fn reads(&self) -> &dyn ReadStore {
        &*self.reads
    }

    /// The store's answers, to be shared with tasks.
    #[must_use]
    pub fn shared_reads(&self) -> Arc<dyn ReadStore> {
        Arc::clone(&self.reads)
    }

    /// The log.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The store's other end.
    pub fn projection(&mut self) -> &mut dyn Projection {
        let subject = self.subject.get_mut();
        &mut *subject.unwrap_or_else(PoisonError::into_inner).projection
    }

    /// Sets the time of day, by seconds after the start.
    pub fn set_time(&self, seconds: i64) {
        self.clock
            .now
            .store(second(seconds).micros(), Ordering::Relaxed);
    }

    /// Appends events as one call, and applies them.
    pub fn log<E: Into<Event>>(&mut self, events: impl IntoIterator<Item = E>) -> Course<'_> {
        let events = owned(events);
        Box::pin(async move {
            self.append(events).await;
            self.apply().await;
        })
    }

    /// Appends events as calls of their own, applying each before the next.
    pub fn log_each<E: Into<Event>>(&mut self, events: impl IntoIterator<Item = E>) -> Course<'_> {
        let events = owned(events);
        Box::pin(async move {
            for event in events {
                self.log([event]).await;
            }
        })
    }

    /// Appends events as one call.
    pub fn append<E: Into<Event>>(&self, events: impl IntoIterator<Item = E>) -> Course<'_> {
        let events = owned(events);
        Box::pin(async move {
            let batch = EventBatch::from_events(&events).expect("the events are legal");
            let appended = self.engine.append(batch, AppendOptions::default()).await;
            appended.expect("the log takes events");
        })
    }

    /// Applies everything that is in the log.
    pub async fn apply(&mut self) {
        let batches = self.read(self.applied).await;
        if !batches.is_empty() {
            self.apply_batches(&batches).await;
        }
    }

    /// Everything in the log from an offset on; the statistics have seen it.
    pub async fn read(&self, from: Offset) -> Vec<Arc<LoggedBatch>> {
        let mut reader = self.engine.reader(from);
        let mut batches = Vec::new();
        loop {
            let more = reader.read(1 << 20).expect("the log can be read");
            if more.is_empty() {
                break;
            }
            batches.extend(more);
        }
        let end = reader.position();
        while self
            .engine
            .with_statistics(|statistics| statistics.offset())
            < end
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        batches
    }

    /// Applies batches, which the statistics have seen.
    pub async fn apply_batches(&mut self, batches: &[Arc<LoggedBatch>]) {
        let fold_version = self.projection().fold_version();
        let to = self.checkpoint(batches, fold_version);
        let engine = self.engine.clone();
        self.projection()
            .apply(batches, engine.view(), to)
            .await
            .expect("the store takes batches");
        self.applied = to.offset;
    }

    /// The checkpoint after batches, of a projection of this fold version.
    #[must_use]
    pub fn checkpoint(&self, batches: &[Arc<LoggedBatch>], fold_version: u32) -> Checkpoint {
        let last = batches.last().expect("there are batches");
        Checkpoint {
            log: self.engine.log_id(),
            epoch: last.epoch,
            offset: last.end(),
            fold_version,
        }
    }

    /// Opens the store again, and finds good what it says, as the runtime does at a start.
    pub async fn reopen(&mut self) -> Option<Checkpoint> {
        let projection = self.projection();
        let checkpoint = projection.open().await.expect("the store opens again");
        if let Some(checkpoint) = &checkpoint {
            projection.start(checkpoint);
        }
        checkpoint
    }

    /// Empties the store and fills it again from the log.
    pub async fn rebuild(&mut self) {
        self.projection()
            .clear()
            .await
            .expect("the store can be cleared");
        let checkpoint = self.projection().open().await;
        assert_eq!(checkpoint.expect("a cleared store opens"), None);
        self.applied = Offset::ZERO;
        self.apply().await;
    }
}

/// The first page of at most `limit` items.
#[must_use]
pub fn first(limit: u32) -> PageRequest {
    PageRequest {
        limit,
        cursor: None,
    }
}

/// Reads a list to its end, in pages of `limit`, each of which must be full save the last.
pub async fn pages<T, F>(limit: u32, mut page: impl FnMut(PageRequest) -> F) -> Vec<T>
where
    F: Future<Output = Result<Page<T>, ReadError>>,
{
    let mut items = Vec::new();
    let mut request = first(limit);
    loop {
        let Page {
            items: found,
            next_cursor,
        } = page(request).await.expect("the list can be read");
        assert!(found.len() <= limit as usize, "R4: a limit is obeyed");
        let full = found.len() == limit as usize;
        items.extend(found);
        match next_cursor {
            None => return items,
            Some(cursor) => {
                assert!(full, "only the last page is short");
                request = PageRequest {
                    limit,
                    cursor: Some(cursor),
                };
            }
        }
    }
}
