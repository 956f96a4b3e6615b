//! Looking at a log's files without opening the log: what is there, and what is damaged.
//!
//! Nothing is written and no lock is taken, so this works beside a running engine, and on a log that refuses to open.
//! Beside an engine, what it writes meanwhile may show up as an unproven or torn end of the last segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Body, decode_body};
use super::manifest::{Contents, Manifest};
use super::scan::{LastSegment, follows, scan_last, segment_files};
use super::segment::{self, FrameScan, SEGMENT_HEADER_BYTES, SegmentEnd, read_header};
pub use super::segment_reader::SegmentReader;
use crate::error::LogError;
use crate::origin::Origin;
use crate::storage::{LocalStorage, Storage};
use crate::{LogId, Offset, Timestamp};

/// What `verify` found.
#[derive(Clone, Debug)]
pub struct Verification {
    pub log: LogId,
    pub segments: u64,
    pub frames: u64,
    pub events: u64,
    pub bytes: u64,
    /// The offset after the last sound event.
    pub end: Offset,
    /// Everything before this offset was handed over to the cold tier, where segments may be gone.
    pub cold_end: Offset,
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: PathBuf,
    pub position: u64,
    /// The first event that cannot be read, where that is known.
    pub offset: Option<Offset>,
    pub severity: Severity,
    pub what: String,
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Acknowledged events may be lost.
    Corrupt,
    /// An unfinished write at the end, which opening will set aside.
    Torn,
    /// Harmless: a copy or a leftover.
    Notice,
}

/// A segment, as `log inspect` lists it.
#[derive(Clone, Debug)]
pub struct SegmentSummary {
    pub path: PathBuf,
    pub number: u64,
    pub first_offset: Offset,
    pub end_offset: Option<Offset>,
    pub bytes: u64,
    pub sealed: bool,
}

/// A frame, as `log inspect SEGMENT` lists it.
#[derive(Clone, Debug)]
pub struct FrameSummary {
    pub position: u64,
    pub bytes: u64,
    pub what: FrameContent,
    pub first_offset: Offset,
    pub append_time: Timestamp,
    pub durable_end: u64,
}

/// What a frame is for.
#[derive(Clone, Debug)]
pub enum FrameContent {
    /// Events, with their count by kind, their origins and how many names came with them.
    Events {
        kinds: Vec<(crate::event::Kind, usize)>,
        origins: Vec<Origin>,
        names: usize,
    },
    /// Where all sources stood.
    State { sources: usize },
    /// The log was closed in order here.
    Closing,
    /// Not a sound frame; nothing behind it is listed.
    Damaged,
}

/// Lists the segments of a data directory.
///
/// # Errors
/// [`LogError`] if the manifest cannot be read.
pub fn segments(data: &Path) -> Result<Vec<SegmentSummary>, LogError> {
    let directory = data.join("log");
    let manifest = Manifest::open(&LocalStorage, &directory, false)?;
    let last = manifest.contents.segments.last().map(|entry| entry.number);
    let summary = |entry: &super::manifest::SegmentEntry| {
        let path = segment::path(&directory, entry.first_offset, entry.number);
        let bytes = match entry.end {
            Some(end) => end.position,
            None => LocalStorage
                .open(&path, false)
                .and_then(|file| file.len())
                .unwrap_or(0),
        };
        SegmentSummary {
            number: entry.number,
            first_offset: entry.first_offset,
            end_offset: entry.end.map(|end| end.offset),
            bytes,
            sealed: entry.end.is_some() && Some(entry.number) != last,
            path,
        }
    };
    Ok(manifest.contents.segments.iter().map(summary).collect())
}

/// Up to where a data directory's log has handed its events over to the cold tier.
///
/// # Errors
/// [`LogError`] if the manifest cannot be read.
pub fn cold_end(data: &Path) -> Result<Offset, LogError> {
    let manifest = Manifest::open(&LocalStorage, &data.join("log"), false)?;
    Ok(manifest.contents.cold_end)
}

/// Lists the frames of a segment file.
///
/// # Errors
/// [`LogError`] if the file or its header cannot be read.
pub fn frames(path: &Path) -> Result<Vec<FrameSummary>, LogError> {
    let file = LocalStorage
        .open(path, false)
        .map_err(LogError::io("opening", path))?;
    let header = read_header(&*file, path)?;
    let len = file.len().map_err(LogError::io("measuring", path))?;
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut scan = FrameScan::new(&*file, path, (header.log, header.number), start, len);
    let mut frames = Vec::new();
    while let Some(frame) = scan.next()? {
        let what = match decode_body(&frame.header, header.epoch, frame.body) {
            Ok(Body::Rows(batch)) => FrameContent::Events {
                kinds: batch
                    .tables
                    .iter()
                    .map(|table| (table.kind(), table.rows()))
                    .collect(),
                names: batch.names.len(),
                origins: batch.origins,
            },
            Ok(Body::State(sources)) => FrameContent::State {
                sources: sources.len(),
            },
            Ok(Body::Closing) => FrameContent::Closing,
            Err(_) => FrameContent::Damaged,
        };
        frames.push(FrameSummary {
            position: frame.position,
            bytes: frame.header.frame_bytes(),
            what,
            first_offset: frame.header.first_offset,
            append_time: frame.header.append_time,
            durable_end: frame.header.durable_end,
        });
    }
    if super::scan::last_nonzero(&*file, path, scan.position, len)? > scan.position {
        let offset = frames
            .last()
            .map_or(header.first_offset, |frame: &FrameSummary| {
                frame.first_offset
            });
        frames.push(FrameSummary {
            position: scan.position,
            bytes: len - scan.position,
            what: FrameContent::Damaged,
            first_offset: offset,
            append_time: Timestamp::default(),
            durable_end: 0,
        });
    }
    Ok(frames)
}

/// Reads every byte of a data directory's log and checks it.
///
/// # Errors
/// [`LogError`] only if the manifest cannot be read at all, or the disk fails; damage is a finding.
pub fn verify(data: &Path) -> Result<Verification, LogError> {
    let mut attempt = 1;
    loop {
        match verify_on(&LocalStorage, data) {
            // A segment of a log in use was sealed, and cut to its length, while it was read.
            Err(LogError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::UnexpectedEof && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// How often a log that changes meanwhile is read.
const ATTEMPTS: u32 = 5;

pub(crate) fn verify_on(storage: &dyn Storage, data: &Path) -> Result<Verification, LogError> {
    let directory = data.join("log");
    let manifest = Manifest::open(storage, &directory, false)?;
    let contents = &manifest.contents;
    let mut verifier = Verifier {
        storage,
        contents,
        found: Verification {
            log: contents.log,
            segments: 0,
            frames: 0,
            events: 0,
            bytes: 0,
            end: contents
                .segments
                .first()
                .map_or(Offset::ZERO, |entry| entry.first_offset),
            cold_end: contents.cold_end,
            findings: Vec::new(),
        },
    };
    for position in manifest.damaged_slots()? {
        let what = "one of the two slots is damaged; the other is sound and counts".to_owned();
        verifier.add(
            &directory.join("MANIFEST"),
            position,
            None,
            Severity::Notice,
            what,
        );
    }
    let mut predecessor = None;
    let mut known = Vec::new();
    for entry in &contents.segments {
        let path = segment::path(&directory, entry.first_offset, entry.number);
        verifier.segment(&path, entry.first_offset, entry.end, predecessor)?;
        predecessor = entry.end;
        known.push(path);
    }
    for path in segment_files(storage, &directory)?
        .into_iter()
        .filter(|path| !known.contains(path))
    {
        let what = "an unfinished segment, which opening will set aside".to_owned();
        verifier.add(&path, 0, None, Severity::Notice, what);
    }
    Ok(verifier.found)
}

struct Verifier<'a> {
    storage: &'a dyn Storage,
    contents: &'a Contents,
    found: Verification,
}

impl Verifier<'_> {
    fn add(
        &mut self,
        path: &Path,
        position: u64,
        offset: Option<Offset>,
        severity: Severity,
        what: String,
    ) {
        self.found.findings.push(Finding {
            path: path.to_path_buf(),
            position,
            offset,
            severity,
            what,
        });
    }

    fn segment(
        &mut self,
        path: &Path,
        first_offset: Offset,
        end: Option<SegmentEnd>,
        predecessor: Option<SegmentEnd>,
    ) -> Result<(), LogError> {
        self.found.segments += 1;
        let file = match self.storage.open(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.found.segments -= 1;
                if let Some(end) = end.filter(|end| end.offset <= self.contents.cold_end) {
                    // The cold tier has it all.
                    self.found.end = end.offset;
                    return Ok(());
                }
                self.add(
                    path,
                    0,
                    Some(first_offset),
                    Severity::Corrupt,
                    "the file is missing".into(),
                );
                return Ok(());
            }
            Err(error) => return Err(LogError::io("opening", path)(error)),
        };
        let header = match read_header(&*file, path) {
            Ok(header) => header,
            Err(LogError::Corrupt { reason, .. }) => {
                self.add(path, 0, Some(first_offset), Severity::Corrupt, reason);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if header.log != self.contents.log || header.first_offset != first_offset {
            self.add(
                path,
                0,
                Some(first_offset),
                Severity::Corrupt,
                "the header is that of another segment".into(),
            );
            return Ok(());
        }
        let cold_end = self.contents.cold_end;
        if predecessor.is_some_and(|predecessor| !follows(predecessor, &header, cold_end)) {
            let what = "it does not follow the segment before it".to_owned();
            self.add(path, 0, Some(first_offset), Severity::Corrupt, what);
        }
        match end {
            Some(end) => self.sealed(path, &file, header.number, first_offset, end),
            None => self.last(path, &file, header.number, first_offset),
        }
    }

    fn sealed(
        &mut self,
        path: &Path,
        file: &Arc<dyn crate::storage::StorageFile>,
        number: u64,
        first_offset: Offset,
        end: SegmentEnd,
    ) -> Result<(), LogError> {
        let len = file.len().map_err(LogError::io("measuring", path))?;
        if len < end.position {
            let what = format!(
                "the file has {len} bytes, it was sealed with {}",
                end.position
            );
            self.add(path, len, Some(first_offset), Severity::Corrupt, what);
        }
        let reached = self.frames(path, file, number, first_offset, len.min(end.position))?;
        if reached.offset != end.offset || reached.last_header_crc != end.last_header_crc {
            let what = format!("frames are damaged or missing up to event {}", end.offset);
            self.add(
                path,
                reached.position,
                Some(reached.offset),
                Severity::Corrupt,
                what,
            );
        }
        self.found.end = end.offset;
        Ok(())
    }

    fn last(
        &mut self,
        path: &Path,
        file: &Arc<dyn crate::storage::StorageFile>,
        number: u64,
        first_offset: Offset,
    ) -> Result<(), LogError> {
        match scan_last(&**file, path, self.contents) {
            Ok(LastSegment {
                sound,
                torn_end,
                closed,
                ..
            }) => {
                self.frames(path, file, number, first_offset, sound.position)?;
                self.found.end = sound.offset;
                if torn_end > sound.position {
                    let what =
                        format!("{} bytes of an unfinished write", torn_end - sound.position);
                    self.add(
                        path,
                        sound.position,
                        Some(sound.offset),
                        Severity::Torn,
                        what,
                    );
                } else if !closed {
                    let what = "the log was not closed in order, or is in use".to_owned();
                    self.add(path, sound.position, None, Severity::Notice, what);
                }
                Ok(())
            }
            Err(LogError::Corrupt {
                position,
                offset,
                reason,
                ..
            }) => {
                self.frames(path, file, number, first_offset, position)?;
                self.add(path, position, Some(offset), Severity::Corrupt, reason);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Checks frames up to a position; answers how far they were sound and linked.
    fn frames(
        &mut self,
        path: &Path,
        file: &Arc<dyn crate::storage::StorageFile>,
        number: u64,
        first_offset: Offset,
        end: u64,
    ) -> Result<SegmentEnd, LogError> {
        let start = SEGMENT_HEADER_BYTES as u64;
        let log = self.contents.log;
        let mut reached = SegmentEnd {
            offset: first_offset,
            position: start,
            last_header_crc: 0,
        };
        let mut scan = FrameScan::new(&**file, path, (log, number), start, end);
        while let Some(frame) = scan.next()? {
            let header = frame.header;
            if header.prev_header_crc != reached.last_header_crc
                || header.first_offset != reached.offset
            {
                break;
            }
            let readable = decode_body(&header, 0, frame.body).is_ok();
            reached = SegmentEnd {
                offset: header.end(),
                position: frame.position + header.frame_bytes(),
                last_header_crc: frame.header_crc,
            };
            self.found.frames += 1;
            self.found.events += u64::from(header.count);
            if !readable {
                let position = reached.position - header.frame_bytes();
                let what = "a frame cannot be read, though its checksums are right".to_owned();
                self.add(
                    path,
                    position,
                    Some(header.first_offset),
                    Severity::Corrupt,
                    what,
                );
            }
        }
        self.found.bytes += reached.position;
        Ok(reached)
    }
}
