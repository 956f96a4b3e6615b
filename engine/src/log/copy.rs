//! Bringing final files to another place: a hard link where that is possible, else a copy that is durable and checked.
//!
//! Only files that never change again may be linked: both names are the same bytes from then on.

use std::io::{self, IoSlice};
use std::path::Path;

use super::frame::Header;
use super::manifest::SegmentEntry;
use super::segment::{FrameScan, SEGMENT_HEADER_BYTES, SegmentEnd};
use crate::error::LogError;
use crate::storage::{Storage, StorageFile, read_exact};
use crate::{LogId, Offset};

/// How much is copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// How a file came to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    Linked,
    Copied,
}

/// Links a final file, or copies and syncs it. The name is durable once its directory is synced.
///
/// # Errors
/// That the file cannot be read, or the copy not be written.
pub fn bring(storage: &dyn Storage, from: &Path, to: &Path) -> Result<Brought, LogError> {
    // Whatever the reason is why there is no link, a copy will do or tell.
    if storage.link(from, to).is_ok() {
        return Ok(Brought::Linked);
    }
    let source = storage
        .open(from, false)
        .map_err(LogError::io("opening", from))?;
    let len = source.len().map_err(LogError::io("measuring", from))?;
    copy_prefix(storage, (&*source, from), to, len)?;
    Ok(Brought::Copied)
}

/// Copies the first bytes of a file, and syncs them.
pub(super) fn copy_prefix(
    storage: &dyn Storage,
    (source, from): (&dyn StorageFile, &Path),
    to: &Path,
    len: u64,
) -> Result<(), LogError> {
    let target = storage.create(to).map_err(LogError::io("creating", to))?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < len {
        let piece = &mut buffer[..(len - at).min(PIECE_BYTES as u64) as usize];
        read_exact(source, piece, at).map_err(LogError::io("reading", from))?;
        target
            .write_at(&[IoSlice::new(piece)], at)
            .map_err(LogError::io("writing", to))?;
        at += piece.len() as u64;
    }
    target.sync_data().map_err(LogError::io("syncing", to))
}

/// The name under which [`write_whole`] begins.
pub(super) fn temporary_name(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Writes a small file whole: under another name first.
pub(super) fn write_whole(
    storage: &dyn Storage,
    directory: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), LogError> {
    let (path, temporary) = (directory.join(name), directory.join(temporary_name(name)));
    remove_if_there(storage, &temporary)?;
    let file = storage
        .create(&temporary)
        .map_err(LogError::io("creating", &temporary))?;
    file.write_at(&[IoSlice::new(bytes)], 0)
        .map_err(LogError::io("writing", &temporary))?;
    file.sync_data()
        .map_err(LogError::io("syncing", &temporary))?;
    storage
        .rename(&temporary, &path)
        .map_err(LogError::io("renaming", &temporary))?;
    storage
        .sync_dir(directory)
        .map_err(LogError::io("syncing", directory))
}

/// Reads a small file whole.
pub(super) fn read_whole(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>, LogError> {
    let file = storage
        .open(path, false)
        .map_err(LogError::io("opening", path))?;
    let len = file.len().map_err(LogError::io("measuring", path))?;
    let mut bytes = vec![0; len as usize];
    read_exact(&*file, &mut bytes, 0).map_err(LogError::io("reading", path))?;
    Ok(bytes)
}

/// Makes the names in a directory durable, and its own and those of the directories above it: nothing in it would outlive
/// a crash otherwise.
pub(super) fn sync_names(storage: &dyn Storage, directory: &Path) -> Result<(), LogError> {
    for at in directory.ancestors() {
        let at = match at.as_os_str().is_empty() {
            true => Path::new("."),
            false => at,
        };
        match storage.sync_dir(at) {
            // Above are directories of others, which may not be ours to open.
            Err(error)
                if at != directory
                    && matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                            | io::ErrorKind::InvalidInput
                            | io::ErrorKind::Unsupported
                    ) =>
            {
                break;
            }
            outcome => outcome.map_err(LogError::io("syncing", at))?,
        }
    }
    Ok(())
}

pub(super) fn remove_if_there(storage: &dyn Storage, path: &Path) -> Result<(), LogError> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it; content if there is none.
pub(super) fn remove_tree(storage: &dyn Storage, directory: &Path) -> Result<(), LogError> {
    if !is_dir(storage, directory)? {
        return Ok(());
    }
    for path in list(storage, directory)? {
        if is_dir(storage, &path)? {
            remove_tree(storage, &path)?;
        } else {
            remove_if_there(storage, &path)?;
        }
    }
    storage
        .remove_dir(directory)
        .map_err(LogError::io("removing", directory))
}

pub(super) fn is_dir(storage: &dyn Storage, path: &Path) -> Result<bool, LogError> {
    storage
        .is_dir(path)
        .map_err(LogError::io("looking at", path))
}

/// What is in a directory, sorted.
pub(super) fn list(
    storage: &dyn Storage,
    directory: &Path,
) -> Result<Vec<std::path::PathBuf>, LogError> {
    let mut paths = storage
        .list(directory)
        .map_err(LogError::io("listing", directory))?;
    paths.sort();
    Ok(paths)
}

/// A frame as it lies in a segment.
pub(super) struct Straddling {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
}

/// What was found in a segment up to an offset.
pub(super) struct Walked {
    /// The end of the last frame that ends at the offset or before it.
    pub(super) end: SegmentEnd,
    pub(super) last: Option<Header>,
    /// The frame that goes beyond the offset.
    pub(super) straddling: Option<Straddling>,
}

/// Checks every frame of a segment that ends at `until` or before it, and tells of the next one. Frames are shown to `see`.
pub(super) fn walk(
    file: &dyn StorageFile,
    path: &Path,
    (log, entry): (LogId, &SegmentEntry),
    end: u64,
    until: Offset,
    mut see: impl FnMut(&Header, &[u8]) -> Result<(), LogError>,
) -> Result<Walked, LogError> {
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut walked = Walked {
        end: SegmentEnd {
            offset: entry.first_offset,
            position: start,
            last_header_crc: 0,
        },
        last: None,
        straddling: None,
    };
    let mut scan = FrameScan::new(file, path, (log, entry.number), start, end);
    loop {
        let at = scan.position;
        let Some(frame) = scan.next()? else { break };
        let header = frame.header;
        if header.prev_header_crc != walked.end.last_header_crc
            || header.first_offset != walked.end.offset
        {
            return Err(damaged(path, at, walked.end.offset));
        }
        if header.end() > until {
            walked.straddling = (header.first_offset < until).then(|| Straddling {
                header,
                body: frame.body.to_vec(),
            });
            return Ok(walked);
        }
        see(&header, frame.body)?;
        walked.end = SegmentEnd {
            offset: header.end(),
            position: frame.position + header.frame_bytes(),
            last_header_crc: frame.header_crc,
        };
        walked.last = Some(header);
    }
    if walked.end.position < end {
        return Err(damaged(path, walked.end.position, walked.end.offset));
    }
    Ok(walked)
}

fn damaged(path: &Path, position: u64, offset: Offset) -> LogError {
    LogError::Corrupt {
        path: path.to_path_buf(),
        position,
        offset,
        reason: "a frame is damaged".into(),
    }
}
