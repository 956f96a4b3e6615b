//! The log's single writer: turns many appends into few `fdatasync`s.
//!
//! It takes everything queued (up to `group_bytes_max`), makes sure there is zero-filled space for it, writes one
//! frame per item, syncs once, publishes batches and tail, then answers the callers. The sync's own duration is the
//! window in which the next group gathers; there is no timer.
//!
//! # Invariants
//! W1. A frame starts where the previous one ended, in offset, file position and checksum chain.
//! W2. The tail moves after the sync, never before.
//! W3. A group lies within one segment; a segment is in the manifest before its first frame of events is written.
//!
//! # Failure
//! No space for a group: nothing of it was written, so it and everything queued behind it is undone in the state and
//! answered *disk full*. A failed write or sync poisons the log: the group's outcome is unknown, since after a failed
//! sync the kernel may call pages clean that never reached the disk; what was queued behind it is not applied.
//!
//! # Why one writer
//! Queue order is log order, so ordering needs no further argument.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ahead::{Ahead, STEP_BYTES};
use super::frame::{
    EncodedRows, FrameKind, HEADER_BYTES, Header, Place, Prefix, SCHEMA_VERSION, body_sum,
};
use super::manifest::{Manifest, SegmentEntry};
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentEnd, SegmentHeader};
use super::state::Changes;
use super::{Segment, Shared, Stopped, lock, snapshot};
use crate::batch::{EventBatch, EventBatchBuilder, LoggedBatch, Table};
use crate::error::{AppendError, LogError, chain};
use crate::origin::Origin;
use crate::storage::{Storage, StorageFile};
use crate::{LogId, Offset, Timestamp};

/// Small calls are joined up to this size.
const JOIN_BYTES_MAX: usize = 256 << 10;
/// Blocks that `pad_groups` keeps groups apart by.
const BLOCK_BYTES: u64 = 4096;

/// What waits to be written: one frame.
#[derive(Debug)]
pub(super) struct Item {
    first: Offset,
    count: u32,
    bytes: usize,
    content: Content,
    changes: Changes,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
pub(super) enum Content {
    Built(EventBatchBuilder),
    Encoded {
        tables: Vec<Table>,
        rows: EncodedRows,
        origins: Vec<Origin>,
    },
}

/// A caller who waits for its answer, and the part of the backlog it takes.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Result<(), AppendError>>,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Item {
    pub(super) fn new(
        first: Offset,
        count: u32,
        bytes: usize,
        content: Content,
        changes: Changes,
        waiter: Waiter,
    ) -> Self {
        Self {
            first,
            count,
            bytes,
            content,
            changes,
            waiters: vec![waiter],
        }
    }

    /// Whether a small call may join.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        matches!(self.content, Content::Built(_)) && self.bytes + bytes <= JOIN_BYTES_MAX
    }

    /// Lets a small call join.
    pub(super) fn join(
        &mut self,
        builder: &EventBatchBuilder,
        bytes: usize,
        changes: Changes,
        waiter: Waiter,
    ) {
        let Content::Built(joined) = &mut self.content else {
            unreachable!("small calls join small calls")
        };
        joined.extend(builder);
        self.count += builder.rows();
        self.bytes += bytes;
        self.changes.extend(changes);
        self.waiters.push(waiter);
    }

    /// About how many bytes it takes in the file.
    fn file_bytes(&self) -> usize {
        match &self.content {
            Content::Encoded { rows, .. } => rows.bytes.len(),
            Content::Built(_) => self.bytes,
        }
    }

    fn encode(mut self) -> (Self, Frame) {
        let content =
            std::mem::replace(&mut self.content, Content::Built(EventBatchBuilder::new()));
        let (tables, rows, origins) = match content {
            Content::Encoded {
                tables,
                rows,
                origins,
            } => (tables, rows, origins),
            Content::Built(builder) => {
                let parts = EventBatch::from_builder(builder).into_parts();
                let rows = EncodedRows::new(&parts.tables);
                (parts.tables, rows, parts.origins)
            }
        };
        let prefix = Prefix::of_rows(&origins, &self.changes.names);
        (
            self,
            Frame {
                prefix,
                rows,
                tables,
                origins,
            },
        )
    }

    fn answer(self, outcome: &Result<(), AppendError>) {
        for waiter in self.waiters {
            // A caller that no longer waits has lost interest, not its events.
            let _ = waiter.answer.send(outcome.clone());
        }
    }
}

/// A frame ready to be written, but for what depends on its place.
struct Frame {
    prefix: Prefix,
    rows: EncodedRows,
    tables: Vec<Table>,
    origins: Vec<Origin>,
}

impl Frame {
    fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.prefix.bytes().len() + self.rows.bytes.len()) as u64
    }
}

/// A frame that says: closed in order, everything before it is durable.
fn closing(end: Offset, append_time: Timestamp, position: u64, chain: u32) -> (Header, Prefix) {
    let prefix = Prefix::of_rows(&[], &[]);
    let (body_len, body_crc) = body_sum(&prefix, None);
    let header = Header {
        body_len,
        body_crc,
        first_offset: end,
        count: 0,
        codec: 0,
        flags: FrameKind::Closing.flags(),
        schema: SCHEMA_VERSION,
        append_time,
        durable_end: position,
        prev_header_crc: chain,
    };
    (header, prefix)
}

/// A segment about to be started.
pub(super) struct NewSegment<'a> {
    pub(super) log: LogId,
    pub(super) directory: &'a Path,
    pub(super) storage: &'a dyn Storage,
    /// The file that has been called `spare.tmp` until now.
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) number: u64,
    pub(super) epoch: u32,
    pub(super) predecessor: SegmentEnd,
    pub(super) append_time: Timestamp,
}

impl NewSegment<'_> {
    fn path(&self) -> PathBuf {
        segment::path(self.directory, self.predecessor.offset, self.number)
    }

    /// Writes header and state frame, and syncs them. The file is not part of the log yet.
    pub(super) fn begin(&self, sources: &[super::state::SourceState]) -> Result<Active, LogError> {
        let header = SegmentHeader {
            log: self.log,
            number: self.number,
            first_offset: self.predecessor.offset,
            epoch: self.epoch,
            predecessor: self.predecessor,
        };
        let prefix = Prefix::of_state(sources);
        let (body_len, body_crc) = body_sum(&prefix, None);
        let frame = Header {
            body_len,
            body_crc,
            first_offset: self.predecessor.offset,
            count: 0,
            codec: 0,
            flags: FrameKind::State.flags(),
            schema: SCHEMA_VERSION,
            append_time: self.append_time,
            durable_end: 0,
            prev_header_crc: 0,
        };
        let position = SEGMENT_HEADER_BYTES as u64;
        let (frame_header, crc) = frame.encode(Place {
            log: self.log,
            segment: self.number,
            position,
        });
        let bytes = header.encode();
        let slices = [&bytes[..], &frame_header, prefix.bytes()].map(IoSlice::new);
        let spare = self.directory.join("spare.tmp");
        self.file
            .write_at(&slices, 0)
            .map_err(LogError::io("writing", &spare))?;
        self.file
            .sync_data()
            .map_err(LogError::io("syncing", &spare))?;
        let position = position + frame.frame_bytes();
        let segment = Segment {
            number: self.number,
            first_offset: self.predecessor.offset,
            epoch: self.epoch,
            path: self.path(),
            end: std::sync::Mutex::new((self.predecessor.offset, position)),
        };
        Ok(Active {
            segment: Arc::new(segment),
            file: Arc::clone(&self.file),
            position,
            zeroed: position,
            last_header_crc: crc,
        })
    }

    /// Makes the file a part of the log: its name first, then the manifest.
    pub(super) fn publish(
        &self,
        manifest: &mut Manifest,
        old_end: Option<SegmentEnd>,
    ) -> Result<(), LogError> {
        let Self {
            storage, directory, ..
        } = self;
        let (spare, path) = (directory.join("spare.tmp"), self.path());
        storage
            .rename(&spare, &path)
            .map_err(LogError::io("renaming", &spare))?;
        storage
            .sync_dir(directory)
            .map_err(LogError::io("syncing", directory))?;
        if let Some(old) = manifest.contents.segments.last_mut() {
            old.end = old_end;
        }
        let entry = SegmentEntry {
            number: self.number,
            first_offset: self.predecessor.offset,
            end: None,
        };
        manifest.contents.segments.push(entry);
        manifest.write()
    }
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn StorageFile>,
    /// Where the next frame goes; everything before is synced.
    pub(super) position: u64,
    /// The file is zero-filled and synced up to here.
    pub(super) zeroed: u64,
    pub(super) last_header_crc: u32,
}

/// The time frames are stamped with: never goes back, and follows a clock that jumps forward only once it has stayed
/// there.
#[derive(Debug)]
pub(super) struct AppendClock {
    last: Timestamp,
    last_monotonic: Option<Duration>,
    /// Since when the clock has been ahead.
    ahead_since: Option<Duration>,
}

impl AppendClock {
    /// A forward step up to this is followed at once.
    const STEP: Duration = Duration::from_secs(60);
    /// A longer one after the clock has been there for this long.
    const PATIENCE: Duration = Duration::from_secs(600);

    pub(super) fn new(last: Timestamp) -> Self {
        Self {
            last,
            last_monotonic: None,
            ahead_since: None,
        }
    }

    pub(super) fn stamp(&mut self, now: Timestamp, monotonic: Duration) -> Timestamp {
        let elapsed = self
            .last_monotonic
            .map(|last| monotonic.saturating_sub(last));
        let expected = elapsed.map(|elapsed| self.last.micros() + elapsed.as_micros() as i64);
        let limit = expected.map(|expected| expected + Self::STEP.as_micros() as i64);
        let stamp = match limit {
            Some(limit) if now.micros() > limit => {
                let since = *self.ahead_since.get_or_insert(monotonic);
                if monotonic.saturating_sub(since) >= Self::PATIENCE {
                    self.ahead_since = None;
                    now.micros()
                } else {
                    expected.unwrap_or(limit)
                }
            }
            _ => {
                self.ahead_since = None;
                now.micros()
            }
        };
        self.last = self.last.max(Timestamp::from_micros(stamp));
        self.last_monotonic = Some(monotonic);
        self.last
    }
}

/// The writer's own state; it lives on its thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    manifest: Manifest,
    active: Active,
    ahead: Ahead,
    clock: AppendClock,
    /// Offset of the last snapshot.
    snapshot_at: Offset,
    /// A snapshot that waits for the log to be durable up to its offset.
    pending_snapshot: Option<(Offset, Vec<u8>)>,
}

/// Why a group was not written.
enum Unwritten {
    /// There was no space; no byte of it went to a file.
    NoSpace,
    /// The log cannot go on.
    Poisoned(LogError),
}

impl From<LogError> for Unwritten {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Io { action, source, .. }
                if source.kind() == io::ErrorKind::StorageFull && *action == PREPARING =>
            {
                Self::NoSpace
            }
            _ => Self::Poisoned(error),
        }
    }
}

/// What was going on when space was missing, as errors name it.
const PREPARING: &str = "preparing space in";

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        manifest: Manifest,
        active: Active,
        ahead: Ahead,
        clock: AppendClock,
        snapshot_at: Offset,
    ) -> Self {
        Self {
            shared,
            manifest,
            active,
            ahead,
            clock,
            snapshot_at,
            pending_snapshot: None,
        }
    }

    /// Starts the thread.
    pub(super) fn start(self) -> io::Result<JoinHandle<Result<(), LogError>>> {
        std::thread::Builder::new()
            .name("modelog-writer".into())
            .spawn(move || self.run())
    }

    fn run(mut self) -> Result<(), LogError> {
        while let Some(items) = self.take() {
            let (mut group, frames): (Vec<_>, Vec<_>) = items.into_iter().map(Item::encode).unzip();
            match self.write(&group, frames) {
                Ok(batches) => {
                    self.publish(batches);
                    group.drain(..).for_each(|item| item.answer(&Ok(())));
                    self.look_ahead();
                }
                Err(Unwritten::NoSpace) => {
                    // It may speak of what is taken back now.
                    self.pending_snapshot = None;
                    self.undo(group);
                }
                Err(Unwritten::Poisoned(error)) => {
                    self.poison(group, &error);
                    return Err(error);
                }
            }
        }
        self.finish()
    }

    /// Waits for work; `None` once the log is closing and nothing is left.
    fn take(&self) -> Option<Vec<Item>> {
        let shared = &self.shared;
        let mut queue = shared.queue();
        while queue.items.is_empty() {
            if queue.stopped.is_some() {
                return None;
            }
            queue = shared
                .work
                .wait(queue)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(item) = queue.items.front() {
            bytes += item.file_bytes();
            if !items.is_empty() && bytes > shared.config.group_bytes_max {
                break;
            }
            items.extend(queue.items.pop_front());
        }
        Some(items)
    }

    /// Writes and syncs a group. Answers its batches, durable now.
    fn write(
        &mut self,
        group: &[Item],
        mut frames: Vec<Frame>,
    ) -> Result<Vec<LoggedBatch>, Unwritten> {
        let bytes: u64 = frames.iter().map(Frame::bytes).sum();
        self.make_room(bytes)?;
        if self.shared.config.pad_groups
            && let Some(last) = frames.last_mut()
        {
            let end = self.active.position + bytes;
            last.rows
                .pad((end.next_multiple_of(BLOCK_BYTES) - end) as usize);
        }
        let started = self.shared.clock.monotonic();
        let append_time = self.clock.stamp(self.shared.clock.now(), started);
        let durable_end = self.active.position;
        let mut headers = Vec::with_capacity(frames.len());
        let mut position = durable_end;
        let mut chain = self.active.last_header_crc;
        for (item, frame) in group.iter().zip(&frames) {
            let (body_len, body_crc) = body_sum(&frame.prefix, Some(&frame.rows));
            let header = Header {
                body_len,
                body_crc,
                first_offset: item.first,
                count: item.count,
                codec: frame.rows.codec,
                flags: FrameKind::Rows.flags(),
                schema: SCHEMA_VERSION,
                append_time,
                durable_end,
                prev_header_crc: chain,
            };
            let (encoded, crc) = header.encode(self.place(position));
            headers.push(encoded);
            chain = crc;
            position += header.frame_bytes();
        }
        let slices: Vec<IoSlice<'_>> = headers
            .iter()
            .zip(&frames)
            .flat_map(|(header, frame)| [&header[..], frame.prefix.bytes(), &frame.rows.bytes])
            .map(IoSlice::new)
            .collect();
        self.write_synced(&slices, durable_end)?;
        self.active.position = position;
        self.active.last_header_crc = chain;
        let end = group.last().map_or(self.active.segment.end().0, |item| {
            item.first.advance(item.count.into())
        });
        self.active.segment.set_end(end, position);
        self.shared
            .observe_sync(self.shared.clock.monotonic().saturating_sub(started));
        let epoch = self.active.segment.epoch;
        let batches = group.iter().zip(frames).map(|(item, frame)| LoggedBatch {
            first_offset: item.first,
            rows: item.count,
            append_time,
            epoch,
            names: item.changes.names.clone(),
            origins: frame.origins,
            tables: frame.tables,
        });
        Ok(batches.collect())
    }

    fn write_synced(&self, slices: &[IoSlice<'_>], position: u64) -> Result<(), LogError> {
        let Active { file, segment, .. } = &self.active;
        file.write_at(slices, position)
            .map_err(LogError::io("writing", &segment.path))?;
        file.sync_data()
            .map_err(LogError::io("syncing", &segment.path))
    }

    fn place(&self, position: u64) -> Place {
        Place {
            log: self.shared.id,
            segment: self.active.segment.number,
            position,
        }
    }

    /// Sees to it that a group of so many bytes fits the segment, rolling if it must, and that its space is there.
    fn make_room(&mut self, bytes: u64) -> Result<(), Unwritten> {
        let config = &self.shared.config;
        let end = self.active.position + bytes + HEADER_BYTES as u64;
        if end > config.segment_bytes
            && self.active.segment.end().0 > self.active.segment.first_offset
        {
            self.roll()?;
        }
        // A closing frame and padding always find room behind the group.
        let needed = self.active.position + bytes + BLOCK_BYTES;
        while self.active.zeroed < needed {
            self.ask_zeros(needed);
            let outcome = self.ahead.zeros(true).expect("zeros were asked for");
            self.active.zeroed =
                outcome.map_err(LogError::io(PREPARING, &self.active.segment.path))?;
        }
        Ok(())
    }

    fn ask_zeros(&mut self, needed: u64) {
        let from = self.active.zeroed;
        let to = needed.max(from + STEP_BYTES);
        self.ahead.ask_zeros(&self.active.file, from, to);
    }

    /// While nobody waits: more zeros, the next segment's file, a snapshot.
    fn look_ahead(&mut self) {
        if let Some(outcome) = self.ahead.zeros(false)
            && let Ok(zeroed) = outcome
        {
            self.active.zeroed = zeroed;
        }
        let segment_bytes = self.shared.config.segment_bytes;
        let left = self.active.zeroed.saturating_sub(self.active.position);
        if left < STEP_BYTES / 2 && self.active.zeroed < segment_bytes {
            self.ask_zeros(self.active.zeroed);
        }
        if self.active.position > segment_bytes / 2 {
            self.ahead.ask_spare(self.spare_path());
        }
        self.write_pending_snapshot();
    }

    fn spare_path(&self) -> PathBuf {
        self.shared.directory.join("spare.tmp")
    }

    /// Starts the next segment: the order of steps is that of `FORMAT.md`.
    fn roll(&mut self) -> Result<(), LogError> {
        // Zeros under way belong to the file that is left now.
        let _ = self.ahead.zeros(true);
        self.ahead.ask_spare(self.spare_path());
        let spare = self.ahead.take_spare().expect("a spare was asked for");
        let spare = spare.map_err(LogError::io(PREPARING, self.spare_path()))?;
        let old = &self.active;
        let (offset, position) = old.segment.end();
        let end = SegmentEnd {
            offset,
            position,
            last_header_crc: old.last_header_crc,
        };
        let start = NewSegment {
            log: self.shared.id,
            directory: &self.shared.directory,
            storage: &*self.shared.storage,
            file: spare,
            number: old.segment.number + 1,
            epoch: old.segment.epoch,
            predecessor: end,
            append_time: self.clock.last,
        };
        let sources = self.shared.queue().state.sources.lasting();
        let mut next = start.begin(&sources)?;
        let (old_file, old_path) = (Arc::clone(&old.file), old.segment.path.clone());
        start.publish(&mut self.manifest, Some(end))?;
        self.shared
            .segments
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(Arc::clone(&next.segment));
        // The spare came with a first stretch of zeros.
        next.zeroed = next.zeroed.max(STEP_BYTES);
        self.active = next;
        // What lies behind the end is zeros; should this fail, they stay.
        if let Err(error) = old_file.set_len(position) {
            tracing::warn!(path = %old_path.display(), %error, "a sealed segment keeps its unused space");
        }
        self.snapshot();
        Ok(())
    }

    /// Notes what admission knows, so that the next opening reads less; it is written once the log has got there.
    fn snapshot(&mut self) {
        let queue = self.shared.queue();
        let bytes = snapshot::encode(&queue.state, self.shared.id, self.active.segment.epoch);
        self.pending_snapshot = Some((queue.state.next, bytes));
    }

    fn write_pending_snapshot(&mut self) {
        let tail = self.shared.tail();
        if let Some((offset, bytes)) = self.pending_snapshot.take_if(|(offset, _)| *offset <= tail)
        {
            self.ahead
                .write_snapshot(self.shared.snapshots.clone(), offset, bytes);
            self.snapshot_at = offset;
        }
    }

    /// Ends the log in order: snapshot, closing frame, no space left over.
    fn finish(mut self) -> Result<(), LogError> {
        let poisoned = matches!(self.shared.queue().stopped, Some(Stopped::Poisoned(_)));
        if poisoned { Ok(()) } else { self.close() }
    }

    fn close(&mut self) -> Result<(), LogError> {
        if self.shared.tail() > self.snapshot_at {
            self.snapshot();
            self.write_pending_snapshot();
        }
        let _ = self.ahead.zeros(true);
        let header = closing(
            self.shared.tail(),
            self.clock.last,
            self.active.position,
            self.active.last_header_crc,
        );
        let (bytes, crc) = header.0.encode(self.place(self.active.position));
        let slices = [IoSlice::new(&bytes), IoSlice::new(header.1.bytes())];
        self.write_synced(&slices, self.active.position)?;
        self.active.position += header.0.frame_bytes();
        self.active.last_header_crc = crc;
        let Active {
            file,
            segment,
            position,
            ..
        } = &self.active;
        file.set_len(*position)
            .map_err(LogError::io("cutting", &segment.path))?;
        file.sync_data()
            .map_err(LogError::io("syncing", &segment.path))
    }

    fn publish(&self, batches: Vec<LoggedBatch>) {
        let shared = &self.shared;
        let events: u64 = batches.iter().map(|batch| u64::from(batch.rows)).sum();
        let end = self.active.segment.end().0;
        {
            let mut recent = lock(&shared.recent);
            for batch in batches.into_iter().filter(|batch| batch.rows > 0) {
                recent.push(Arc::new(batch));
            }
        }
        shared.tail.send_modify(|tail| tail.offset = end);
        shared.count_group(events, end);
    }

    /// Takes back what could not be written for want of space, and everything admitted after it.
    fn undo(&self, group: Vec<Item>) {
        let shared = &self.shared;
        let mut undone: VecDeque<Item> = group.into();
        {
            let mut queue = shared.queue();
            undone.append(&mut queue.items);
            for item in undone.iter_mut().rev() {
                queue
                    .state
                    .undo(item.first, std::mem::take(&mut item.changes));
            }
            queue.full_since = Some(shared.clock.monotonic());
        }
        shared.tail.send_modify(|tail| tail.undone += 1);
        tracing::warn!(path = %shared.directory.display(), "the disk is full: events are refused until there is space");
        for item in undone {
            item.answer(&Err(AppendError::DiskFull));
        }
    }

    fn poison(&self, group: Vec<Item>, error: &LogError) {
        let shared = &self.shared;
        let reason = chain(error);
        tracing::error!(%reason, "the log is poisoned: events are refused until it is opened again");
        let behind = {
            let mut queue = shared.queue();
            queue.stopped = Some(Stopped::Poisoned(reason.clone()));
            std::mem::take(&mut queue.items)
        };
        shared
            .tail
            .send_modify(|tail| tail.poisoned = Some(reason.clone()));
        for item in group {
            item.answer(&Err(AppendError::OutcomeUnknown {
                reason: reason.clone(),
            }));
        }
        for item in behind {
            item.answer(&Err(AppendError::Poisoned {
                reason: reason.clone(),
            }));
        }
        shared.count_poisoned();
    }
}
