//! Looking at segments before anything is done about them: which are there, how they follow each other, and how far the
//! last one is sound.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Segment;
use super::manifest::Contents;
use super::segment::{
    self, FrameScan, SEGMENT_HEADER_BYTES, SegmentEnd, SegmentHeader, read_header,
};
use crate::error::LogError;
use crate::storage::{Storage, StorageFile, read_exact};
use crate::threads::Mutex;
use crate::{Offset, Timestamp};

/// What the scan of the last segment found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSegment {
    /// Where it starts.
    pub(crate) first: Offset,
    /// Up to here every frame is known to be synced.
    pub(crate) proven: SegmentEnd,
    /// Up to here frames are sound.
    pub(crate) sound: SegmentEnd,
    /// Append time of the last sound frame.
    pub(crate) append_time: Timestamp,
    /// Bytes that are neither frames nor zeros, up to here; none if `sound.position`.
    pub(crate) torn_end: u64,
    /// The last frame closes the log.
    pub(crate) closed: bool,
    pub(crate) epoch: u32,
}

/// Files in the log's directory that are named like segments.
pub(crate) fn segment_files(
    storage: &dyn Storage,
    directory: &Path,
) -> Result<Vec<PathBuf>, LogError> {
    let mut files = storage
        .list(directory)
        .map_err(LogError::io("listing", directory))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    Ok(files)
}

/// Whether a segment may follow what ended there: directly, or where the cold tier holds what lies between.
pub(super) fn follows(previous: SegmentEnd, header: &SegmentHeader, cold_end: Offset) -> bool {
    let after_gap = SegmentEnd {
        offset: header.first_offset,
        ..SegmentEnd::default()
    };
    previous == header.predecessor
        || (header.predecessor == after_gap
            && (previous.offset..=cold_end).contains(&header.first_offset))
}

/// Checks headers, lengths and links of all segments but the last. Those that are gone, with all they held in the cold
/// tier, are taken out of the contents.
pub(super) fn check_sealed(
    storage: &dyn Storage,
    directory: &Path,
    contents: &mut Contents,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let mut sealed = Vec::new();
    let mut gone = Vec::new();
    let mut previous: Option<SegmentEnd> = None;
    let last = contents.segments.last().map(|entry| entry.number);
    for entry in &contents.segments {
        let path = segment::path(directory, entry.first_offset, entry.number);
        let corrupt = |position: u64, reason: &str| LogError::Corrupt {
            path: path.clone(),
            position,
            offset: entry.first_offset,
            reason: reason.into(),
        };
        if !storage
            .exists(&path)
            .map_err(LogError::io("looking for", &path))?
        {
            let Some(end) = entry.end.filter(|end| end.offset <= contents.cold_end) else {
                return Err(corrupt(0, "the file is missing"));
            };
            previous = Some(end);
            gone.push(entry.number);
            continue;
        }
        let file = storage
            .open(&path, false)
            .map_err(LogError::io("opening", &path))?;
        let header = read_header(&*file, &path)?;
        if header.log != contents.log {
            return Err(LogError::Foreign {
                path,
                reason: format!("it belongs to log {}", header.log),
            });
        }
        if header.number != entry.number || header.first_offset != entry.first_offset {
            return Err(corrupt(0, "its header is that of another segment"));
        }
        if previous.is_some_and(|previous| !follows(previous, &header, contents.cold_end)) {
            return Err(corrupt(0, "it does not follow the segment before it"));
        }
        let Some(end) = entry.end else { continue };
        if Some(entry.number) == last {
            continue;
        }
        let len = file.len().map_err(LogError::io("measuring", &path))?;
        if len < end.position {
            return Err(corrupt(len, "the file is shorter than when it was sealed"));
        }
        previous = Some(end);
        sealed.push(Arc::new(Segment {
            number: entry.number,
            first_offset: entry.first_offset,
            epoch: header.epoch,
            path,
            end: Mutex::new((end.offset, end.position)),
        }));
    }
    // Files that were removed together may come back one by one after a crash: an entry whose file is gone stays for as
    // long as one before it has its file, so that there is no hole.
    let first = contents
        .segments
        .iter()
        .map(|entry| entry.number)
        .find(|number| !gone.contains(number) || Some(*number) == last);
    contents
        .segments
        .retain(|entry| first.is_none_or(|first| first <= entry.number));
    Ok(sealed)
}

/// Scans the last segment: how far its frames are sound, how far they are proven to be synced.
///
/// It may be written to meanwhile, when a log in use is looked at: a frame that was read half written, before frames behind
/// it that prove it, is read again.
pub(crate) fn scan_last(
    file: &dyn StorageFile,
    path: &Path,
    contents: &Contents,
) -> Result<LastSegment, LogError> {
    let segment_header = read_header(file, path)?;
    let len = file.len().map_err(LogError::io("measuring", path))?;
    let start = SEGMENT_HEADER_BYTES as u64;
    let (log, number) = (contents.log, segment_header.number);
    let mut sound = SegmentEnd {
        offset: segment_header.first_offset,
        position: start,
        last_header_crc: 0,
    };
    let mut ends = vec![sound];
    let (mut highest, mut append_time, mut closed) = (start, Timestamp::MIN, false);
    let (damage, torn_end) = loop {
        let from = sound.position;
        let mut scan = FrameScan::new(file, path, (log, number), from, len);
        while let Some(frame) = scan.next()? {
            let header = frame.header;
            if header.prev_header_crc != sound.last_header_crc
                || header.first_offset != sound.offset
            {
                break;
            }
            highest = highest.max(header.durable_end);
            append_time = header.append_time;
            closed = header.is_closing();
            sound = SegmentEnd {
                offset: header.end(),
                position: frame.position + header.frame_bytes(),
                last_header_crc: frame.header_crc,
            };
            // The state frame is synced before the segment becomes part of the log.
            if header.is_state() {
                highest = highest.max(sound.position);
            }
            ends.push(sound);
            // Only ends that may turn out to be the proven one are kept.
            if ends.len() > 1024 {
                let proven = ends.partition_point(|end| end.position <= highest);
                ends.drain(..proven.saturating_sub(1));
            }
        }
        let damage = sound.position;
        let torn_end = last_nonzero(file, path, damage, len)?;
        let proof = match torn_end > damage {
            true => FrameScan::new(file, path, (log, number), damage, len).highest_proof()?,
            false => 0,
        };
        if proof <= damage {
            break (damage, torn_end);
        }
        if damage == from {
            return Err(LogError::Corrupt {
                path: path.to_path_buf(),
                position: damage,
                offset: sound.offset,
                reason: "a frame that was synced is damaged".into(),
            });
        }
    };
    if ends.len() == 1 || highest > sound.position {
        return Err(LogError::Corrupt {
            path: path.to_path_buf(),
            position: damage,
            offset: sound.offset,
            reason: "frames that were synced are missing".into(),
        });
    }
    // What else is known of it: what the cold tier took over had been synced, and so had all of it when it was closed.
    let missing = |reason: String| LogError::Corrupt {
        path: path.to_path_buf(),
        position: sound.position,
        offset: sound.offset,
        reason,
    };
    if sound.offset < contents.cold_end {
        let reason = "events that were synced are missing; the cold tier holds those before";
        return Err(missing(format!("{reason} {}", contents.cold_end)));
    }
    let closing = contents
        .segments
        .last()
        .filter(|entry| entry.number == number)
        .and_then(|entry| entry.end);
    if closing.is_some_and(|end| end != sound) {
        return Err(missing(
            "it is not what it was when the log was closed".into(),
        ));
    }
    let proven = ends[ends.partition_point(|end| end.position <= highest) - 1];
    let epoch = segment_header.epoch;
    Ok(LastSegment {
        first: segment_header.first_offset,
        proven,
        sound,
        append_time,
        torn_end: torn_end.max(sound.position),
        closed,
        epoch,
    })
}

/// The end of the last byte that is not zero, from a position on.
pub(super) fn last_nonzero(
    file: &dyn StorageFile,
    path: &Path,
    from: u64,
    len: u64,
) -> Result<u64, LogError> {
    let mut end = from;
    let mut at = from;
    let mut buffer = vec![0; 1 << 20];
    while at < len {
        let piece = (len - at).min(buffer.len() as u64) as usize;
        read_exact(file, &mut buffer[..piece], at).map_err(LogError::io("reading", path))?;
        if let Some(last) = buffer[..piece].iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += piece as u64;
    }
    Ok(end)
}
