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
use std::path::PathBuf;
use std::sync::Arc;

use super::ahead::{Ahead, STEP_BYTES};
use super::append_clock::AppendClock;
use super::frame::{BLOCK_BYTES, FrameKind, HEADER_BYTES, Header, Place, SCHEMA_VERSION, body_sum};
use super::item::{Frame, Item, closing};
use super::roll::{Active, NewSegment};
use super::segment::SegmentEnd;
use super::sources::Sources;
use super::{Shared, Stopped, lock, snapshot};
use crate::Offset;
use crate::batch::LoggedBatch;
use crate::error::{AppendError, LogError, chain};
use crate::threads::{self, JoinHandle, mpsc};

/// The writer's own state; it lives on its thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Active,
    ahead: Ahead,
    clock: AppendClock,
    /// Producers and positions as of what is written: admission is ahead of it.
    sources: Sources,
    /// Something was written since the last snapshot was taken.
    changed: bool,
    pending_snapshot: Option<PendingSnapshot>,
}

/// A snapshot that waits for all it speaks of to be durable. Its offset does not say when that is: calls without events
/// move none.
#[derive(Debug)]
struct PendingSnapshot {
    offset: Offset,
    bytes: Vec<u8>,
    /// How many calls that were admitted are to be written yet.
    waits_for: usize,
}

/// What the writer is asked for.
enum Work {
    Group(Vec<Item>),
    /// The end of the segment, by these.
    Seal(Vec<mpsc::Sender<Result<Offset, LogError>>>),
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
        active: Active,
        ahead: Ahead,
        clock: AppendClock,
        sources: Sources,
        changed: bool,
    ) -> Self {
        Self {
            shared,
            active,
            ahead,
            clock,
            sources,
            changed,
            pending_snapshot: None,
        }
    }

    /// Starts the thread.
    pub(super) fn start(self) -> io::Result<JoinHandle<Result<(), LogError>>> {
        threads::spawn("modelog-writer", move || self.run())
    }

    fn run(mut self) -> Result<(), LogError> {
        while let Some(work) = self.take() {
            let items = match work {
                Work::Group(items) => items,
                Work::Seal(callers) => {
                    self.seal(callers)?;
                    continue;
                }
            };
            let (mut group, frames): (Vec<_>, Vec<_>) = items.into_iter().map(Item::encode).unzip();
            match self.write(&group, frames) {
                Ok(batches) => {
                    self.publish(batches);
                    if let Some(pending) = &mut self.pending_snapshot {
                        pending.waits_for = pending.waits_for.saturating_sub(group.len());
                    }
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
    fn take(&self) -> Option<Work> {
        let shared = &self.shared;
        let mut queue = shared.queue();
        loop {
            if !queue.seals.is_empty() {
                return Some(Work::Seal(std::mem::take(&mut queue.seals)));
            }
            if !queue.items.is_empty() {
                break;
            }
            if queue.stopped.is_some() {
                return None;
            }
            queue.writer_waits = true;
            queue = shared
                .work
                .wait(queue)
                .unwrap_or_else(threads::PoisonError::into_inner);
            queue.writer_waits = false;
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
        Some(Work::Group(items))
    }

    /// Ends the segment for those who asked. Want of space is their problem; any other failure is the log's.
    fn seal(
        &mut self,
        callers: Vec<mpsc::Sender<Result<Offset, LogError>>>,
    ) -> Result<(), LogError> {
        let (end, first) = (
            self.active.segment.end().0,
            self.active.segment.first_offset,
        );
        let rolled = if end > first { self.roll(0) } else { Ok(()) };
        let reason = rolled.as_ref().err().map(|error| chain(error));
        for caller in callers {
            let answer = match &reason {
                None => Ok(self.active.segment.first_offset),
                Some(reason) => Err(LogError::NotSealed {
                    reason: reason.clone(),
                }),
            };
            // Nobody may be waiting any more.
            let _ = caller.send(answer);
        }
        match rolled.map_err(Unwritten::from) {
            Ok(()) | Err(Unwritten::NoSpace) => Ok(()),
            Err(Unwritten::Poisoned(error)) => {
                self.poison(Vec::new(), &error);
                Err(error)
            }
        }
    }

    /// Writes and syncs a group. Answers its batches, durable now.
    fn write(
        &mut self,
        group: &[Item],
        mut frames: Vec<Frame>,
    ) -> Result<Vec<LoggedBatch>, Unwritten> {
        let bytes: u64 = frames.iter().map(Frame::bytes).sum();
        self.make_room(bytes, group.len())?;
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
        self.changed = true;
        for (item, frame) in group.iter().zip(&frames) {
            self.sources.note_lasting(&frame.origins, item.first);
        }
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
            .and_then(|()| self.ahead.check_synced())
            .map_err(LogError::io("syncing", &segment.path))
    }

    fn place(&self, position: u64) -> Place {
        Place {
            log: self.shared.id,
            segment: self.active.segment.number,
            position,
        }
    }

    /// Sees to it that a group of so many bytes, of so many calls, fits the segment, rolling if it must, and that its space
    /// is there.
    fn make_room(&mut self, bytes: u64, calls: usize) -> Result<(), Unwritten> {
        let config = &self.shared.config;
        let end = self.active.position + bytes + HEADER_BYTES as u64;
        if end > config.segment_bytes
            && self.active.segment.end().0 > self.active.segment.first_offset
        {
            self.roll(calls)?;
        }
        // A closing frame and padding always find room behind the group.
        let needed = self.active.position + bytes + 2 * BLOCK_BYTES;
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

    /// Starts the next segment, for so many calls that are in hand: the order of steps is that of `FORMAT.md`.
    fn roll(&mut self, in_hand: usize) -> Result<(), LogError> {
        // Zeros under way belong to the file that is left now.
        let _ = self.ahead.zeros(true);
        self.ahead.ask_spare(self.spare_path());
        let mut spare = self.ahead.take_spare().expect("a spare was asked for");
        if spare.is_err() {
            // It may have failed long ago, when there was no space: what counts is whether there is some now.
            self.ahead.ask_spare(self.spare_path());
            spare = self.ahead.take_spare().expect("a spare was asked for");
        }
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
            append_time: self.clock.last(),
            fill_block: self.shared.config.pad_groups,
        };
        let mut next = start.begin(&self.sources.lasting())?;
        let (old_file, old_path) = (Arc::clone(&old.file), old.segment.path.clone());
        start.publish(&mut lock(&self.shared.manifest), Some(end))?;
        self.shared
            .segments
            .write()
            .unwrap_or_else(threads::PoisonError::into_inner)
            .push(Arc::clone(&next.segment));
        // The spare came with a first stretch of zeros.
        next.zeroed = next.zeroed.max(STEP_BYTES);
        self.active = next;
        // What lies behind the end is zeros; should this fail, they stay.
        if let Err(error) = old_file.set_len(position) {
            tracing::warn!(path = %old_path.display(), %error, "a sealed segment keeps its unused space");
        }
        self.snapshot(in_hand);
        Ok(())
    }

    /// Notes what admission knows, so that the next opening reads less; it is written once the log has got there.
    fn snapshot(&mut self, in_hand: usize) {
        let queue = self.shared.queue();
        self.pending_snapshot = Some(PendingSnapshot {
            offset: queue.state.next,
            bytes: snapshot::encode(&queue.state, self.shared.id, self.active.segment.epoch),
            waits_for: in_hand + queue.items.len(),
        });
        drop(queue);
        self.changed = false;
    }

    fn write_pending_snapshot(&mut self) {
        let ready = self.pending_snapshot.take_if(|it| it.waits_for == 0);
        if let Some(PendingSnapshot { offset, bytes, .. }) = ready {
            self.ahead
                .write_snapshot(self.shared.snapshots.clone(), offset, bytes);
        }
    }

    /// Ends the log in order: snapshot, closing frame, no space left over.
    fn finish(mut self) -> Result<(), LogError> {
        let poisoned = matches!(self.shared.queue().stopped, Some(Stopped::Poisoned(_)));
        if poisoned { Ok(()) } else { self.close() }
    }

    fn close(&mut self) -> Result<(), LogError> {
        if self.changed {
            self.snapshot(0);
        }
        self.write_pending_snapshot();
        let _ = self.ahead.zeros(true);
        let header = closing(
            self.shared.tail(),
            self.clock.last(),
            self.active.position,
            self.active.last_header_crc,
            self.shared.config.pad_groups,
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
            last_header_crc,
            ..
        } = &self.active;
        file.set_len(*position)
            .map_err(LogError::io("cutting", &segment.path))?;
        file.sync_data()
            .map_err(LogError::io("syncing", &segment.path))?;
        let mut manifest = lock(&self.shared.manifest);
        if let Some(last) = manifest.contents.segments.last_mut() {
            last.end = Some(SegmentEnd {
                offset: segment.end().0,
                position: *position,
                last_header_crc: *last_header_crc,
            });
        }
        manifest.write()
    }

    fn publish(&self, batches: Vec<LoggedBatch>) {
        let shared = &self.shared;
        let events: u64 = batches.iter().map(|batch| u64::from(batch.rows)).sum();
        let (items, end) = (batches.len() as u64, self.active.segment.end().0);
        {
            let mut recent = lock(&shared.recent);
            for batch in batches.into_iter().filter(|batch| batch.rows > 0) {
                recent.push(Arc::new(batch));
            }
        }
        shared.tail.send_modify(|tail| {
            tail.offset = end;
            tail.written += items;
        });
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
            queue.queued -= undone.len() as u64;
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
            queue.seals.clear();
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
