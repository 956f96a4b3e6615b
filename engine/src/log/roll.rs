//! Starting a segment, at a roll or by a recovery: header and state frame first, then its name, then the manifest.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Segment;
use super::frame::{FrameKind, Header, Place, Prefix, SCHEMA_VERSION, body_sum};
use super::manifest::{Manifest, SegmentEntry};
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentEnd, SegmentHeader};
use crate::error::LogError;
use crate::storage::{Storage, StorageFile};
use crate::{LogId, Timestamp};

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
    /// Whether what follows the state frame starts in a block of its own.
    pub(super) fill_block: bool,
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
        let mut prefix = Prefix::of_state(sources);
        let position = SEGMENT_HEADER_BYTES as u64;
        if self.fill_block {
            prefix.fill_block(position);
        }
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
            end: crate::threads::Mutex::new((self.predecessor.offset, position)),
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
        if let (Some(old), Some(end)) = (manifest.contents.segments.last_mut(), old_end) {
            old.end = Some(end);
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
