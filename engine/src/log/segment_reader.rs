//! Reading segments without opening the log: for whoever compares, restores or looks.

use std::path::Path;
use std::sync::Arc;

use super::Segment;
use super::manifest::Manifest;
use super::reader::read_segment;
use super::scan::scan_last;
use super::segment::{self, FrameScan, SEGMENT_HEADER_BYTES, read_header};
use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::storage::Storage;
use crate::threads::Mutex;
use crate::{LogId, Offset, Timestamp};

/// Reads the events that are in a data directory's segments, in order, without opening the log.
///
/// Beside a running engine it shows what was there when it was opened, the unproven end of the last segment included.
#[derive(Debug)]
pub struct SegmentReader {
    storage: Arc<dyn Storage>,
    log: LogId,
    cold_end: Offset,
    segments: Vec<Segment>,
    /// The segment read last, and where to go on in it.
    at: usize,
    place: u64,
    next: Offset,
}

impl SegmentReader {
    /// Looks at the segments of a data directory.
    ///
    /// # Errors
    /// [`LogError`] if the manifest cannot be read, or the last segment is damaged.
    pub fn open(storage: Arc<dyn Storage>, data: &Path) -> Result<Self, LogError> {
        let directory = data.join("log");
        let contents = Manifest::open(&*storage, &directory, false)?.contents;
        let mut segments = Vec::new();
        for entry in &contents.segments {
            let path = segment::path(&directory, entry.first_offset, entry.number);
            let file = match storage.open(&path, false) {
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && entry.end.is_some_and(|end| end.offset <= contents.cold_end) =>
                {
                    continue;
                }
                outcome => outcome.map_err(LogError::io("opening", &path))?,
            };
            let header = read_header(&*file, &path)?;
            let end = match entry.end {
                Some(end) => end,
                None => scan_last(&*file, &path, &contents)?.sound,
            };
            segments.push(Segment {
                number: entry.number,
                first_offset: entry.first_offset,
                epoch: header.epoch,
                path,
                end: Mutex::new((end.offset, end.position)),
            });
        }
        let next = segments
            .first()
            .map_or(contents.cold_end, |segment| segment.first_offset);
        Ok(Self {
            storage,
            log: contents.log,
            cold_end: contents.cold_end,
            segments,
            at: 0,
            place: SEGMENT_HEADER_BYTES as u64,
            next,
        })
    }

    /// The identity of the log.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log
    }

    /// Everything before this offset was handed over to the cold tier.
    #[must_use]
    pub fn cold_end(&self) -> Offset {
        self.cold_end
    }

    /// The first offset that a segment holds; the end of all if there is none.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.segments
            .first()
            .map_or(self.cold_end, |segment| segment.first_offset)
    }

    /// The offset after the last event.
    #[must_use]
    pub fn end(&self) -> Offset {
        let last = self.segments.last().map(|segment| segment.end().0);
        last.unwrap_or_default().max(self.cold_end)
    }

    /// The offset of the next event; those that no segment holds are passed over.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.next
    }

    /// Goes to an offset.
    pub fn seek(&mut self, offset: Offset) {
        self.at = self
            .segments
            .partition_point(|segment| segment.end().0 <= offset);
        self.place = SEGMENT_HEADER_BYTES as u64;
        self.next = match self.segments.get(self.at) {
            Some(segment) => offset.max(segment.first_offset),
            None => offset,
        };
    }

    /// The first offset that was taken after a time; the end if none was. `None` if that was before the first segment: the
    /// cold tier knows.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] on damage, or that a file cannot be read.
    pub fn offset_at(&self, time: Timestamp) -> Result<Option<Offset>, LogError> {
        let first = self.first();
        for segment in &self.segments {
            let file = self
                .storage
                .open(&segment.path, false)
                .map_err(LogError::io("opening", &segment.path))?;
            let (start, end) = (SEGMENT_HEADER_BYTES as u64, segment.end().1);
            let place = (self.log, segment.number);
            let mut scan = FrameScan::new(&*file, &segment.path, place, start, end);
            while scan.position < end {
                let at = scan.position;
                let (header, _) = scan.header()?.ok_or_else(|| LogError::Corrupt {
                    path: segment.path.clone(),
                    position: at,
                    offset: segment.first_offset,
                    reason: "a frame's header is damaged".into(),
                })?;
                if header.count > 0 && header.append_time > time {
                    let found = header.first_offset;
                    let before = found == first && found > Offset::ZERO;
                    return Ok((!before).then_some(found));
                }
                scan.skip(&header);
            }
        }
        Ok((!self.segments.is_empty() || self.cold_end == Offset::ZERO).then(|| self.end()))
    }

    /// The next batches, of about `limit_bytes`; the first may begin below the offset sought. Empty at the end.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] on damage, or that a file cannot be read.
    pub fn next(&mut self, limit_bytes: usize) -> Result<Vec<LoggedBatch>, LogError> {
        while let Some(segment) = self.segments.get(self.at) {
            let (end, file_end) = segment.end();
            if self.next < end && self.place < file_end {
                let file = self
                    .storage
                    .open(&segment.path, false)
                    .map_err(LogError::io("opening", &segment.path))?;
                let read = read_segment(
                    segment,
                    self.log,
                    &*file,
                    self.place,
                    self.next,
                    limit_bytes,
                )?;
                self.place = read.position;
                if let Some(last) = read.batches.last() {
                    self.next = last.end();
                    return Ok(read.batches);
                }
            }
            self.at += 1;
            self.place = SEGMENT_HEADER_BYTES as u64;
            if let Some(segment) = self.segments.get(self.at) {
                self.next = self.next.max(segment.first_offset);
            }
        }
        Ok(Vec::new())
    }
}
