//! Reading in log order: from the newest batches in memory, from segments, and below them from the cold tier.
//!
//! A reader shows what is durable and nothing else. It holds a segment's file for the length of one call, so a reader
//! that stays away keeps no disk space; when it comes back it finds its place by offset.

use std::path::Path;
use std::sync::Arc;

use super::frame::{Body, Header, decode_body, unpacked_len};
use super::segment::{FrameScan, SEGMENT_HEADER_BYTES};
use super::{Segment, Shared, Tail, lock};
use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::storage::StorageFile;
use crate::threads::watch;
use crate::{LogId, Offset};

/// Reads a log in order, up to its durable end, and waits there. A clone goes on from the same place.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
    position: Offset,
    /// Where reading left off, to spare a search.
    place: Option<(Arc<Segment>, u64)>,
    tail: watch::Receiver<Tail>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>, position: Offset) -> Self {
        let tail = shared.tail.subscribe();
        Self {
            shared,
            position,
            place: None,
            tail,
        }
    }

    /// The offset of the next event.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// The next batches, in order, of about `limit_bytes`; waits until there is one. The first may begin below the
    /// offset asked for: its rows before that are to be skipped. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`LogError::Closed`] when the log is closed and all was read, [`LogError::BeyondTail`] if the offset was never
    /// written, [`LogError::Corrupt`] on damage.
    pub async fn next(&mut self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        loop {
            let batches = self.read(limit_bytes)?;
            if !batches.is_empty() {
                return Ok(batches);
            }
            let position = self.position;
            let closed = {
                let grown = self
                    .tail
                    .wait_for(|tail| tail.offset > position || tail.closed)
                    .await;
                grown.map_err(|_| LogError::Closed)?.offset <= position
            };
            if closed {
                return Err(LogError::Closed);
            }
        }
    }

    /// What is there without waiting; empty at the tail.
    ///
    /// # Errors
    /// As [`next`](Self::next), save `Closed`.
    pub fn read(&mut self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let tail = self.shared.tail();
        if self.position > tail {
            return Err(LogError::BeyondTail {
                requested: self.position,
                tail,
            });
        }
        if self.position == tail {
            return Ok(Vec::new());
        }
        let recent = lock(&self.shared.recent).from(self.position, limit_bytes);
        let mut batches = match recent {
            Some(batches) => {
                self.place = None;
                batches
            }
            None => self.read_files(limit_bytes)?,
        };
        // What was synced can be read a moment before the tail says so. Whoever went beyond the tail could not come back.
        let tail = self.shared.tail();
        let shown = batches.partition_point(|batch| batch.end() <= tail);
        if shown < batches.len() {
            batches.truncate(shown);
            self.place = None;
        }
        if let Some(last) = batches.last() {
            self.position = last.end();
        }
        Ok(batches)
    }

    fn read_files(&mut self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        loop {
            let Some(segment) = self.segment() else {
                return self.read_cold(limit_bytes);
            };
            let start = match &self.place {
                Some((known, position)) if known.number == segment.number => *position,
                _ => SEGMENT_HEADER_BYTES as u64,
            };
            let file = match self.shared.storage.open(&segment.path, false) {
                // Removed since: the cold tier has it.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && self.segment().is_none() =>
                {
                    continue;
                }
                outcome => outcome.map_err(LogError::io("opening", &segment.path))?,
            };
            let read = read_segment(
                &segment,
                self.shared.id,
                &*file,
                start,
                self.position,
                limit_bytes,
            )?;
            self.place = Some((Arc::clone(&segment), read.position));
            if read.batches.is_empty() {
                return Err(LogError::Missing {
                    first: self.position,
                    end: segment.end().0,
                });
            }
            return Ok(read.batches.into_iter().map(Arc::new).collect());
        }
    }

    /// The segment that holds the next event.
    fn segment(&self) -> Option<Arc<Segment>> {
        let segments = self.shared.segments();
        let after = segments.partition_point(|segment| segment.first_offset <= self.position);
        segments[..after]
            .iter()
            .rev()
            .find(|segment| segment.end().0 > self.position)
            .map(Arc::clone)
    }

    fn read_cold(&self, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        match &self.shared.cold {
            Some(cold) if cold.end() > self.position => {
                let mut batches = cold.read(self.position, limit_bytes)?;
                for batch in &mut batches {
                    let last = Offset(batch.end().0.saturating_sub(1));
                    Arc::make_mut(batch).epoch = self.shared.epoch_of(last);
                }
                Ok(batches)
            }
            _ => {
                let end = self
                    .shared
                    .segments()
                    .first()
                    .map_or(self.shared.tail(), |segment| segment.first_offset);
                Err(LogError::Missing {
                    first: self.position,
                    end,
                })
            }
        }
    }
}

/// What a piece of a segment holds.
pub(super) struct Read {
    pub(super) batches: Vec<LoggedBatch>,
    /// Where to go on.
    pub(super) position: u64,
}

/// Reads batches with events that end behind `from`, starting at a frame's position; other frames are skipped unread.
pub(super) fn read_segment(
    segment: &Segment,
    log: LogId,
    file: &dyn StorageFile,
    position: u64,
    from: Offset,
    limit_bytes: usize,
) -> Result<Read, LogError> {
    let wanted = |header: &Header| header.count > 0 && header.end() > from;
    let (end_offset, end) = segment.end();
    let mut scan = FrameScan::new(file, &segment.path, (log, segment.number), position, end);
    let mut batches = Vec::new();
    let mut bytes = 0;
    let mut reached = segment.first_offset;
    while scan.position < end && bytes < limit_bytes {
        let at = scan.position;
        let damaged = {
            let path = &segment.path;
            move |reason: &str| corrupt(path, at, reached, reason)
        };
        match scan.header()? {
            Some((header, _)) if !wanted(&header) => {
                reached = header.end();
                scan.skip(&header);
                // Nothing but empty frames may follow the last event.
                if header.end() == end_offset && from >= end_offset {
                    scan.position = end;
                }
                continue;
            }
            Some(_) => {}
            None => return Err(damaged("a frame's header is damaged")),
        }
        let frame = scan
            .next()?
            .ok_or_else(|| damaged("a frame's body is damaged"))?;
        bytes += unpacked_len(&frame.header, frame.body);
        reached = frame.header.end();
        match decode_body(&frame.header, segment.epoch, frame.body) {
            Ok(Body::Rows(batch)) => batches.push(batch),
            Ok(Body::State(_) | Body::Closing) => {}
            Err(_) => {
                return Err(damaged(
                    "a frame's body cannot be read, though its checksum is right",
                ));
            }
        }
    }
    Ok(Read {
        batches,
        position: scan.position,
    })
}

fn corrupt(path: &Path, position: u64, offset: Offset, reason: &str) -> LogError {
    LogError::Corrupt {
        path: path.to_path_buf(),
        position,
        offset,
        reason: reason.into(),
    }
}
