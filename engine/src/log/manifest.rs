//! The manifest: which segments the log consists of, and which stretches of history it has had.
//!
//! Two slots in one file, written in turn and synced: a crash in the middle of one leaves the other. The slot with the
//! higher sequence number counts. It changes only when segments or epochs do, never per append.
//!
//! # Invariants
//! F1. A slot is overwritten only while the other one is on the disk, for certain. A failed write counts for nothing: the
//!     next one goes to the same slot.
//! F2. What an earlier process wrote is not certain, however often it is synced: its sync may have failed, and the kernel
//!     calls the pages clean since. So an opening writes what it read into a new file, before anything relies on it.
//! F3. A slot that was being written when the machine fell may hold what its place on the disk held before, a slot of another
//!     manifest even. It must not count for more than what is ours: a log's manifest has sequence numbers above those of every
//!     manifest before it, by the time it was made and by what it was made from; those of its backups are below its own.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::{Malformed, Reader, put_u32, put_u64};
use super::segment::{FORMAT_VERSION, READER_VERSION, SegmentEnd};
use crate::error::LogError;
use crate::storage::{Storage, StorageFile, read_exact};
use crate::{LogId, Offset, Timestamp};

const MAGIC: &[u8; 8] = b"MODELOGM";
const SLOT_BYTES: u64 = 256 << 10;
const SLOT_HEADER_BYTES: usize = 24;
/// More sequence numbers than a manifest uses.
const SEQUENCES_APART: u64 = 1 << 32;

/// A stretch of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) number: u32,
    pub(crate) start: Offset,
}

/// A segment that belongs to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) first_offset: Offset,
    /// None for the last one, which is being written.
    pub(crate) end: Option<SegmentEnd>,
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) log: LogId,
    /// By number; at least one, starting at offset 0.
    pub(crate) epochs: Vec<Epoch>,
    /// By number. Everything before the first lies below `cold_end`.
    pub(crate) segments: Vec<SegmentEntry>,
    /// Events before this offset are in the cold tier, verified.
    pub(crate) cold_end: Offset,
}

impl Contents {
    pub(crate) fn epoch(&self) -> u32 {
        self.epochs.last().map_or(0, |epoch| epoch.number)
    }

    /// The epoch an offset belongs to.
    pub(crate) fn epoch_of(&self, offset: Offset) -> u32 {
        self.epochs
            .iter()
            .rev()
            .find(|epoch| epoch.start <= offset)
            .map_or(0, |epoch| epoch.number)
    }

    /// Where an epoch ended; none if it has not, or is not one of this log.
    pub(crate) fn epoch_end(&self, number: u32) -> Option<Offset> {
        self.epochs
            .iter()
            .find(|epoch| epoch.number > number)
            .map(|epoch| epoch.start)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, READER_VERSION);
        out.extend_from_slice(self.log.0.as_bytes());
        put_u64(&mut out, self.cold_end.0);
        put_u32(&mut out, self.epochs.len() as u32);
        for epoch in &self.epochs {
            put_u32(&mut out, epoch.number);
            put_u64(&mut out, epoch.start.0);
        }
        put_u32(&mut out, self.segments.len() as u32);
        for segment in &self.segments {
            let end = segment.end.unwrap_or_default();
            put_u64(&mut out, segment.number);
            put_u64(&mut out, segment.first_offset.0);
            put_u32(&mut out, segment.end.is_some().into());
            put_u64(&mut out, end.offset.0);
            put_u64(&mut out, end.position);
            put_u32(&mut out, end.last_header_crc);
        }
        out
    }

    /// Whether epochs and segments follow each other, as everything that reads them relies on.
    fn is_consistent(&self) -> bool {
        let first = self.epochs.first().map(|epoch| epoch.start);
        let epochs = self
            .epochs
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number && pair[0].start <= pair[1].start);
        let sealed = |segment: &SegmentEntry| {
            segment
                .end
                .is_some_and(|end| segment.first_offset <= end.offset)
        };
        let segments = self.segments.windows(2).all(|pair| {
            let end = pair[0].end.map_or(Offset::ZERO, |end| end.offset);
            sealed(&pair[0]) && pair[0].number < pair[1].number && end <= pair[1].first_offset
        });
        let last = self.segments.last();
        let last = last.is_none_or(|last| last.end.is_none() || sealed(last));
        first == Some(Offset::ZERO) && epochs && segments && last
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let format = reader.u32()?;
        reader.take(4)?;
        let uuid = reader.take(16)?.try_into().map_err(|_| Malformed)?;
        let cold_end = Offset(reader.u64()?);
        let count = reader.count(12)?;
        let epochs = (0..count)
            .map(|_| {
                Ok(Epoch {
                    number: reader.u32()?,
                    start: Offset(reader.u64()?),
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let count = reader.count(40)?;
        let segments = (0..count)
            .map(|_| {
                let (number, first_offset, ended) =
                    (reader.u64()?, Offset(reader.u64()?), reader.u32()? == 1);
                let end = SegmentEnd {
                    offset: Offset(reader.u64()?),
                    position: reader.u64()?,
                    last_header_crc: reader.u32()?,
                };
                Ok(SegmentEntry {
                    number,
                    first_offset,
                    end: ended.then_some(end),
                })
            })
            .collect::<Result<_, Malformed>>()?;
        let contents = Self {
            log: LogId(uuid::Uuid::from_bytes(uuid)),
            epochs,
            segments,
            cold_end,
        };
        // A later format may say more, those up to this one say it in one way only, behind their versions.
        let as_written = format > FORMAT_VERSION || contents.encode()[8..] == bytes[8..];
        if as_written && contents.is_consistent() {
            Ok(contents)
        } else {
            Err(Malformed)
        }
    }
}

/// A slot as found.
pub(super) enum Slot {
    Sound { sequence: u64, contents: Contents },
    TooNew(u32),
    Damaged,
}

/// The manifest file, open.
#[derive(Debug)]
pub(crate) struct Manifest {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    pub(crate) sequence: u64,
    /// This process has written the file, and seen it synced.
    own: bool,
    pub(crate) contents: Contents,
}

impl Manifest {
    /// Creates a manifest, in both slots; it is there whole or not at all. `sequence` is what its numbers begin with.
    pub(crate) fn create(
        storage: &dyn Storage,
        directory: &Path,
        contents: Contents,
        sequence: u64,
    ) -> Result<Self, LogError> {
        let manifest = Self {
            file: write_anew(storage, directory, sequence, &encoded(&contents)?)?,
            path: directory.join("MANIFEST"),
            sequence: sequence + 1,
            own: true,
            contents,
        };
        manifest.give_name(storage, directory)?;
        Ok(manifest)
    }

    /// Writes both slots into a new file that takes the place of the old one (F2). On a disk without space for it the old
    /// one is synced instead, so that the log can be read.
    pub(crate) fn renew(
        &mut self,
        storage: &dyn Storage,
        directory: &Path,
    ) -> Result<(), LogError> {
        if self.own {
            return Ok(());
        }
        // Segments that are gone must not come back once the manifest no longer speaks of them.
        storage
            .sync_dir(directory)
            .map_err(LogError::io("syncing", directory))?;
        let content = encoded(&self.contents)?;
        let file = match write_anew(storage, directory, self.sequence, &content) {
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                tracing::warn!(path = %self.path.display(), "no space to write the manifest anew");
                return self
                    .file
                    .sync_data()
                    .map_err(LogError::io("syncing", &self.path));
            }
            outcome => outcome?,
        };
        // From here on there is no way back: what has the name now must be what is written on.
        self.give_name(storage, directory)?;
        self.file = file;
        self.sequence += 1;
        self.own = true;
        Ok(())
    }

    /// Lets the new file take the manifest's name.
    fn give_name(&self, storage: &dyn Storage, directory: &Path) -> Result<(), LogError> {
        let temporary = temporary_path(directory);
        storage
            .rename(&temporary, &self.path)
            .map_err(LogError::io("renaming", &temporary))?;
        storage
            .sync_dir(directory)
            .map_err(LogError::io("syncing", directory))
    }

    /// Opens an existing manifest; before anything is written it must be [renewed](Self::renew).
    pub(crate) fn open(
        storage: &dyn Storage,
        directory: &Path,
        write: bool,
    ) -> Result<Self, LogError> {
        let path = directory.join("MANIFEST");
        let file = storage
            .open(&path, write)
            .map_err(LogError::io("opening", &path))?;
        let mut best: Option<(u64, Contents)> = None;
        for slot in 0..2 {
            match read_slot(&*file, &path, slot)? {
                Slot::Sound { sequence, contents } => {
                    if best.as_ref().is_none_or(|(known, _)| *known < sequence) {
                        best = Some((sequence, contents));
                    }
                }
                Slot::TooNew(needed) => {
                    return Err(LogError::TooNew {
                        path,
                        needed,
                        supported: READER_VERSION,
                    });
                }
                Slot::Damaged => {}
            }
        }
        let (sequence, contents) = best.ok_or_else(|| LogError::Corrupt {
            path: path.clone(),
            position: 0,
            offset: Offset::ZERO,
            reason: "both of its slots are damaged".into(),
        })?;
        Ok(Self {
            file,
            path,
            sequence,
            own: false,
            contents,
        })
    }

    /// Makes the contents durable. On failure the caller must not go on writing.
    pub(crate) fn write(&mut self) -> Result<(), LogError> {
        let content = encoded(&self.contents)?;
        let sequence = self.sequence + 1;
        let slot = slot(sequence, &content);
        self.file
            .write_at(&[IoSlice::new(&slot)], place(sequence))
            .map_err(LogError::io("writing", &self.path))?;
        self.file
            .sync_data()
            .map_err(LogError::io("syncing", &self.path))?;
        self.sequence = sequence;
        Ok(())
    }

    /// Slots that were written and cannot be read: damage that the other slot makes harmless.
    pub(crate) fn damaged_slots(&self) -> Result<Vec<u64>, LogError> {
        let mut damaged = Vec::new();
        for slot in 0..2_u64.min(self.sequence) {
            let slot = (self.sequence - slot) % 2;
            if matches!(read_slot(&*self.file, &self.path, slot)?, Slot::Damaged) {
                damaged.push(slot * SLOT_BYTES);
            }
        }
        Ok(damaged)
    }
}

/// The contents as bytes, if they fit a slot.
fn encoded(contents: &Contents) -> Result<Vec<u8>, LogError> {
    let content = contents.encode();
    if (SLOT_HEADER_BYTES + content.len()) as u64 > SLOT_BYTES {
        return Err(LogError::Setting {
            setting: "log.segment_bytes",
            reason: format!(
                "is too small: {} segments do not fit the manifest",
                contents.segments.len()
            ),
        });
    }
    Ok(content)
}

/// A new file with both slots, the second one of the next sequence number; durable but for its name.
fn write_anew(
    storage: &dyn Storage,
    directory: &Path,
    first: u64,
    content: &[u8],
) -> Result<Arc<dyn StorageFile>, LogError> {
    let path = temporary_path(directory);
    let written = temporary(storage, directory).and_then(|file| {
        for sequence in [first, first + 1] {
            let slot = slot(sequence, content);
            file.write_at(&[IoSlice::new(&slot)], place(sequence))
                .map_err(LogError::io("writing", &path))?;
        }
        file.sync_data().map_err(LogError::io("syncing", &path))?;
        Ok(file)
    });
    written.inspect_err(|_| {
        // What is left of it may hold space that is needed; if it stays, the next opening removes it.
        let _ = storage.remove(&path);
    })
}

fn temporary_path(directory: &Path) -> PathBuf {
    directory.join("MANIFEST.tmp")
}

/// A new file to be given the manifest's name; one that an earlier attempt left is removed.
fn temporary(storage: &dyn Storage, directory: &Path) -> Result<Arc<dyn StorageFile>, LogError> {
    let path = temporary_path(directory);
    if storage
        .exists(&path)
        .map_err(LogError::io("looking for", &path))?
    {
        storage
            .remove(&path)
            .map_err(LogError::io("removing", &path))?;
    }
    storage
        .create(&path)
        .map_err(LogError::io("creating", &path))
}

/// The bytes of a slot.
fn slot(sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_HEADER_BYTES + content.len());
    slot.extend_from_slice(MAGIC);
    put_u64(&mut slot, sequence);
    put_u32(&mut slot, content.len() as u32);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot), content);
    put_u32(&mut slot, crc);
    slot.extend_from_slice(content);
    slot
}

/// What the sequence numbers of a log's manifest begin with: above all that were made before `now`, and above those of the
/// manifest it comes from.
pub(super) fn first_sequence(now: Timestamp, from: u64) -> u64 {
    let time = u64::try_from(now.micros()).unwrap_or_default();
    time.max(from.saturating_add(SEQUENCES_APART))
}

/// What the sequence numbers of a backup's manifest begin with: both are below what is in force.
pub(super) fn backup_sequence(of: u64) -> u64 {
    of.saturating_sub(2)
}

/// Where a slot lies in the file.
fn place(sequence: u64) -> u64 {
    (sequence % 2) * SLOT_BYTES
}

fn read_slot(file: &dyn StorageFile, path: &Path, slot: u64) -> Result<Slot, LogError> {
    let len = file.len().map_err(LogError::io("measuring", path))?;
    let start = slot * SLOT_BYTES;
    let available = len.saturating_sub(start).min(SLOT_BYTES) as usize;
    let mut bytes = vec![0; available];
    read_exact(file, &mut bytes, start).map_err(LogError::io("reading", path))?;
    Ok(decode_slot(&bytes).unwrap_or(Slot::Damaged))
}

pub(super) fn decode_slot(bytes: &[u8]) -> Result<Slot, Malformed> {
    let mut reader = Reader(bytes);
    let magic = reader.take(8)?;
    let sequence = reader.u64()?;
    let len = reader.u32()? as usize;
    let crc = reader.u32()?;
    let content = reader.take(len)?;
    if magic != MAGIC || crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), content) != crc {
        return Err(Malformed);
    }
    let mut versions = Reader(content);
    let (_format, needed) = (versions.u32()?, versions.u32()?);
    if needed > READER_VERSION {
        return Ok(Slot::TooNew(needed));
    }
    Ok(Slot::Sound {
        sequence,
        contents: Contents::decode(content)?,
    })
}
