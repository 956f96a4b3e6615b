//! The log: an append-only sequence of events on disk that loses nothing it acknowledged.
//!
//! ```text
//! callers ─▶ call (private: arrays, encoding, checksum) ─▶ admission (one lock: dedupe, names, order) ─▶ queue
//!                                                                                                    │
//! readers ◀─ tail, recent batches ◀─ writer thread: one write and one fdatasync per group ◀──────────┘
//! ```
//!
//! # Invariants
//! L1. Offsets are dense: a frame starts where the one before ended, and queue order is log order.
//! L2. The tail never passes the last synced frame, so no reader sees what a crash can take back.
//! L3. A batch, its origins and the names it brought share one frame: after a crash all are there or none is.
//! L4. What was acknowledged is never overwritten: recovery writes into new segments only.
//! L5. A call is answered *not applied* only if none of its bytes went to a file; otherwise, on failure, *unknown*.
//!
//! # Failure
//! A failed write or sync poisons the log: appends are refused until it is opened again, reads go on. A disk without
//! space is noticed before anything is written, and undone: see `writer`.
//!
//! # Why not a crate
//! See `docs/decisions.md`: none of those there are tells a torn tail from damage, binds readers to what is durable,
//! and hands its history over to Parquet.

mod admission;
mod ahead;
mod append;
mod append_clock;
pub mod backup;
mod bytes;
mod call;
mod catalog;
pub(crate) mod copy;
mod counts;
mod dedupe;
mod fold;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inspect;
mod item;
mod manifest;
mod mentions;
mod open;
mod reader;
mod recovery;
pub mod restore;
mod retention;
mod roll;
mod rows;
mod scan;
mod segment;
mod segment_reader;
mod snapshot;
mod sources;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::batch::LoggedBatch;
use crate::clock::Clock;
use crate::config::LogConfig;
use crate::error::{CheckpointError, LogError};
use crate::names::Names;
use crate::storage::{LockGuard, Storage};
use crate::threads::{
    Condvar, JoinHandle, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Semaphore, mpsc,
    watch,
};
use crate::{Checkpoint, ColdTier, LogId, Offset};

pub use append::{Enqueued, Prepared};
pub(crate) use bytes::{Malformed, Reader, put_u32, put_u64};
use item::Item;
use manifest::{Contents, Manifest};
pub(crate) use mentions::TextRows;
pub(crate) use open::Parts;
pub use reader::LogReader;
use retention::Ages;
pub use retention::ColdHandle;
pub(crate) use snapshot::{About, Sort};
use state::State;

/// An open log. Dropping it without [`close`](Self::close) leaves what a crash would leave.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<Result<(), LogError>>>>,
    /// Kept for as long as the directory is ours: until the log is closed.
    lock: Mutex<Option<LockGuard>>,
}

/// What callers, the writer and readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) directory: PathBuf,
    pub(crate) snapshots: PathBuf,
    pub(crate) config: LogConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cold: Option<Arc<dyn ColdTier>>,
    pub(crate) names: Arc<Names>,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Bytes that may wait to be written, in units of [`BUDGET_UNIT`].
    budget: Arc<Semaphore>,
    tail: watch::Sender<Tail>,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// What the manifest said at opening; epochs do not change while a log is open.
    contents: Contents,
    /// Taken before `segments` by whoever changes both.
    manifest: Mutex<Manifest>,
    ages: Mutex<Ages>,
    /// Held while no segment may be retired.
    pinned: Mutex<()>,
    recent: Mutex<Recent>,
}

/// Granularity of the backlog's accounting, in bytes.
const BUDGET_UNIT: usize = 1024;

/// What is admitted and not yet written.
#[derive(Debug)]
struct Queue {
    state: State,
    items: VecDeque<Item>,
    /// How many items were ever queued, those aside that were taken back.
    queued: u64,
    /// Who asked for the segment to be sealed.
    seals: Vec<mpsc::Sender<Result<Offset, LogError>>>,
    /// Why appends are refused, for good.
    stopped: Option<Stopped>,
    /// The writer waits for items, and nobody has woken it yet.
    writer_waits: bool,
    /// Since when there has been no space; looked at again now and then.
    full_since: Option<std::time::Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stopped {
    Closing,
    Poisoned(String),
}

/// How far the log is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) offset: Offset,
    /// How many of the items that were ever queued are durable: of those without events the offset does not tell.
    written: u64,
    /// How often admitted calls were taken back for want of space: who waits for one of them must not wait on.
    undone: u64,
    pub(crate) poisoned: Option<String>,
    /// Nothing will follow.
    pub(crate) closed: bool,
}

/// A segment as readers see it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) first_offset: Offset,
    pub(crate) epoch: u32,
    pub(crate) path: PathBuf,
    /// Offset and position up to which it is durable.
    end: Mutex<(Offset, u64)>,
}

impl Segment {
    pub(crate) fn end(&self) -> (Offset, u64) {
        *lock(&self.end)
    }

    fn set_end(&self, offset: Offset, position: u64) {
        *lock(&self.end) = (offset, position);
    }
}

/// The newest batches, as arrays: whoever follows the log closely reads no file.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<Arc<LoggedBatch>>,
    bytes: usize,
}

/// How much [`Recent`] holds, in bytes of arrays.
const RECENT_BYTES_MAX: usize = 16 << 20;

impl Recent {
    fn push(&mut self, batch: Arc<LoggedBatch>) {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
    }

    /// Batches from an offset on, if it is recent enough.
    fn from(&self, offset: Offset, limit_bytes: usize) -> Option<Vec<Arc<LoggedBatch>>> {
        if self.batches.front()?.first_offset > offset {
            return None;
        }
        let start = self.batches.partition_point(|batch| batch.end() <= offset);
        let mut bytes = 0;
        let taken = self.batches.range(start..).take_while(|batch| {
            let fits = bytes < limit_bytes;
            bytes += batch.bytes();
            fits
        });
        Some(taken.map(Arc::clone).collect())
    }
}

/// Locks, whatever happened to a thread that held it: what these locks guard is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> Offset {
        self.tail.borrow().offset
    }

    /// Whether a store with this checkpoint may go on from there.
    pub(crate) fn check(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if checkpoint.log != self.id {
            return Err(CheckpointError::ForeignLog {
                found: checkpoint.log,
                expected: self.id,
            });
        }
        let Checkpoint { epoch, offset, .. } = *checkpoint;
        let end = self
            .contents
            .epoch_end(epoch)
            .unwrap_or_else(|| self.tail());
        let known = self
            .contents
            .epochs
            .iter()
            .any(|known| known.number == epoch);
        if !known || offset > end {
            return Err(CheckpointError::LostHistory { epoch, offset, end });
        }
        Ok(())
    }

    /// The latest point of today's history that whoever stands at a checkpoint of this log has seen.
    pub(crate) fn last_common(&self, checkpoint: &Checkpoint) -> Checkpoint {
        // Numbers of epochs ascend: an epoch that is none of ours parted from us where a later one of ours begins, at the
        // latest.
        let parted = self.contents.epoch_end(checkpoint.epoch);
        let offset = checkpoint.offset.min(parted.unwrap_or_else(|| self.tail()));
        Checkpoint {
            epoch: self.contents.epoch_of(offset),
            offset,
            ..*checkpoint
        }
    }

    /// Whether a snapshot is of this log, and of history that still is.
    pub(crate) fn fits(&self, about: &About) -> bool {
        open::fits(about, &self.contents, self.tail())
    }

    /// The epoch an end of history belongs to.
    pub(crate) fn epoch_of(&self, end: Offset) -> u32 {
        self.contents.epoch_of(end)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Tail> {
        self.tail.subscribe()
    }

    /// Bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.end().1).sum()
    }
}

impl Log {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The stretch of history events are appended to now.
    pub(crate) fn epoch(&self) -> u32 {
        self.shared.contents.epoch()
    }

    /// Reads from an offset on.
    pub(crate) fn reader(&self, from: Offset) -> LogReader {
        LogReader::new(Arc::clone(&self.shared), from)
    }

    /// Ends the segment being written, if it has events: everything before the offset answered lies in sealed segments.
    pub(crate) fn seal(&self) -> Result<Offset, LogError> {
        let (sender, answer) = mpsc::channel();
        {
            let mut queue = self.shared.queue();
            if queue.stopped.is_some() {
                return Err(LogError::Closed);
            }
            queue.seals.push(sender);
            self.shared.work.notify_all();
        }
        answer.recv().unwrap_or(Err(LogError::Closed))
    }

    /// Refuses appends from now on, writes what was admitted, a snapshot and the closing frame. Whoever closes it at the
    /// same time waits until that is done.
    pub(crate) fn close(&self) -> Result<(), LogError> {
        {
            let mut queue = self.shared.queue();
            queue.stopped.get_or_insert(Stopped::Closing);
            self.shared.work.notify_all();
        }
        let mut running = lock(&self.writer);
        let Some(writer) = running.take() else {
            return Ok(());
        };
        let outcome = writer.join().unwrap_or(Err(LogError::Closed));
        self.shared.write_ages(self.shared.clock.monotonic());
        {
            // Whoever changes the manifest has finished, and nobody will begin.
            let _manifest = lock(&self.shared.manifest);
            self.shared.tail.send_modify(|tail| tail.closed = true);
        }
        lock(&self.lock).take();
        outcome
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The writer holds files that the lock protects: it must end first. What it cannot write, recovery finds out.
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log was not closed in order");
        }
    }
}
