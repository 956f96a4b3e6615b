//! Restoring: a data directory made of another one's files, up to an offset, with an epoch of its own.
//!
//! The source is a backup's generation, a data directory, also one that is in use, or a cold tier that is all that is
//! left of a log. What is final is linked or copied; what lies beyond the end is cut off:
//!
//! ```text
//! cold tier, cut by its own crate │ whole segments │ frames of the last one │ rows of the last frame │ end
//! └ below `cold_end`              └ as they are    └ a copy of its beginning └ in the new segment     └ epoch n+1
//! ```
//!
//! # Invariants
//! T1. The source is only read.
//! T2. Until the last step the directory holds `RESTORING`, and opening it is refused; a restore that was interrupted is
//!     begun again, from nothing.
//! T3. Offsets below the end hold what they held in the source. Calls of which only a part lies below the end are
//!     forgotten: their source sends them again.
//! T4. The epoch is one no log of this identity has had: its number comes from the time, so that two restores of one
//!     backup differ, and a store that followed the one does not fit the other.
//!
//! # Names
//! All names of a frame that is cut are kept, those its lost rows brought among them: numbers are never given twice.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{
    Straddling, bring, copy_prefix, is_dir, list, remove_if_there, remove_tree, sync_names,
    temporary_name, walk, write_whole,
};
use super::frame::{Body, FrameKind, HEADER_BYTES, Header, Place, Prefix, body_sum, decode_body};
use super::item::closing;
use super::manifest::{Contents, Epoch, Manifest, SegmentEntry, first_sequence};
use super::roll::{Active, NewSegment};
use super::rows::EncodedRows;
use super::scan::scan_last;
use super::segment::{self, SegmentEnd, read_header};
use super::sources::Sources;
use crate::clock::Clock;
use crate::cold::ColdTier;
use crate::error::LogError;
use crate::storage::{LockGuard, Storage, StorageFile};
use crate::{LogId, Offset, Timestamp};

/// The file that says that a directory is not whole.
pub(super) const MARK: &str = "RESTORING";

/// The epoch numbers of restores count seconds from here, 2020-01-01T00:00:00Z.
const EPOCHS_FROM_SECONDS: i64 = 1_577_836_800;

/// How much of the cold tier is read at a time.
const READ_BYTES: usize = 8 << 20;

/// A restore under way.
#[derive(Debug)]
pub struct Restore {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    data: PathBuf,
    _lock: LockGuard,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub log: LogId,
    /// The restored log ends here.
    pub end: Offset,
    /// The epoch that begins there.
    pub epoch: u32,
}

impl Restore {
    /// Begins a restore into a directory that does not exist, is empty, or was left by an interrupted restore.
    ///
    /// # Errors
    /// [`LogError::NotEmpty`], [`LogError::Locked`], or that it cannot be written.
    pub fn begin(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        data: &Path,
    ) -> Result<Self, LogError> {
        storage
            .create_dir_all(data)
            .map_err(LogError::io("creating", data))?;
        let interrupted = storage
            .exists(&data.join(MARK))
            .map_err(LogError::io("looking for", data.join(MARK)))?;
        let lock_path = data.join("LOCK");
        // Before the mark there is nothing but these.
        let first = [lock_path.clone(), data.join(temporary_name(MARK))];
        let others = list(&*storage, data)?
            .into_iter()
            .filter(|path| !first.contains(path));
        if !interrupted && others.count() > 0 {
            return Err(LogError::NotEmpty {
                path: data.to_path_buf(),
            });
        }
        let lock = storage
            .lock(&lock_path)
            .map_err(LogError::io("locking", &lock_path))?
            .map_err(|holder| LogError::Locked {
                path: data.to_path_buf(),
                holder,
            })?;
        write_whole(&*storage, data, MARK, b"modelog restore\n")?;
        for path in list(&*storage, data)? {
            if path == lock_path || path == data.join(MARK) {
                continue;
            }
            if is_dir(&*storage, &path)? {
                remove_tree(&*storage, &path)?;
            } else {
                remove_if_there(&*storage, &path)?;
            }
        }
        Ok(Self {
            storage,
            clock,
            data: data.to_path_buf(),
            _lock: lock,
        })
    }

    /// Makes the log: from the log of `source`, if it has one, and from a cold tier that is in its place already, cut at
    /// `until`. Without `until`, up to the source's end.
    ///
    /// # Errors
    /// [`LogError::BeyondTail`] if the source ends before, [`LogError::Missing`] if neither segments nor the cold tier
    /// have an event, [`LogError::Corrupt`] on damage.
    pub fn log(
        &self,
        source: &Path,
        cold: Option<&dyn ColdTier>,
        until: Option<Offset>,
    ) -> Result<Restored, LogError> {
        let work = Work::new(self, source, cold, until)?;
        work.run()
    }

    /// Says that the directory is whole.
    ///
    /// # Errors
    /// That this cannot be made durable.
    pub fn finish(self) -> Result<(), LogError> {
        sync_names(&*self.storage, &self.data)?;
        remove_if_there(&*self.storage, &self.data.join(MARK))?;
        self.storage
            .sync_dir(&self.data)
            .map_err(LogError::io("syncing", &self.data))
    }
}

/// A segment of the source.
struct OldSegment {
    entry: SegmentEntry,
    path: PathBuf,
    epoch: u32,
    /// Sound up to here.
    end: SegmentEnd,
}

struct Work<'a> {
    restore: &'a Restore,
    cold: Option<&'a dyn ColdTier>,
    cold_end: Offset,
    contents: Contents,
    /// That of the source's manifest.
    sequence: u64,
    segments: Vec<OldSegment>,
    until: Offset,
    directory: PathBuf,
}

/// Where the restored segments end.
struct Reached {
    entries: Vec<SegmentEntry>,
    end: SegmentEnd,
    append_time: Timestamp,
    straddling: Option<(Straddling, u32)>,
    sources: Sources,
}

impl<'a> Work<'a> {
    fn new(
        restore: &'a Restore,
        source: &Path,
        cold: Option<&'a dyn ColdTier>,
        until: Option<Offset>,
    ) -> Result<Self, LogError> {
        let storage = &*restore.storage;
        let directory = source.join("log");
        let manifest = directory.join("MANIFEST");
        let there = storage
            .exists(&manifest)
            .map_err(LogError::io("looking for", &manifest))?;
        let held = cold.and_then(ColdTier::log);
        let mut sequence = 0;
        let contents = match (there, held) {
            (true, held) => {
                let manifest = Manifest::open(storage, &directory, false)?;
                sequence = manifest.sequence;
                let contents = manifest.contents;
                if let Some(found) = held.filter(|found| *found != contents.log) {
                    return Err(LogError::ForeignCold {
                        found,
                        expected: contents.log,
                    });
                }
                contents
            }
            (false, Some(log)) => Contents {
                log,
                epochs: vec![Epoch {
                    number: 1,
                    start: Offset::ZERO,
                }],
                segments: Vec::new(),
                cold_end: Offset::ZERO,
            },
            (false, None) => {
                return Err(LogError::Foreign {
                    path: source.to_path_buf(),
                    reason: "it holds neither log/MANIFEST nor Parquet files of a log".into(),
                });
            }
        };
        let cold_end = cold.map_or(Offset::ZERO, ColdTier::end);
        let segments = source_segments(storage, &directory, &contents)?;
        let last = segments.last().map(|segment| segment.end.offset);
        let tail = last.unwrap_or_default().max(cold_end);
        let until = until.unwrap_or(tail);
        if until > tail {
            return Err(LogError::BeyondTail {
                requested: until,
                tail,
            });
        }
        Ok(Self {
            restore,
            cold,
            cold_end,
            contents,
            sequence,
            segments,
            until,
            directory: restore.data.join("log"),
        })
    }

    fn run(mut self) -> Result<Restored, LogError> {
        let storage = Arc::clone(&self.restore.storage);
        storage
            .create_dir_all(&self.directory)
            .map_err(LogError::io("creating", &self.directory))?;
        let reached = self.segments()?;
        let epoch = new_epoch(self.contents.epoch(), self.restore.clock.now());
        let number = self
            .contents
            .segments
            .last()
            .map_or(0, |entry| entry.number + 1);
        self.contents
            .epochs
            .retain(|epoch| epoch.start <= self.until);
        self.contents.epochs.push(Epoch {
            number: epoch,
            start: self.until,
        });
        self.contents.segments = reached.entries.clone();
        self.contents.cold_end = self.cold_end;
        let entry = self.new_segment(number, epoch, reached)?;
        self.contents.segments.push(entry);
        storage
            .sync_dir(&self.directory)
            .map_err(LogError::io("syncing", &self.directory))?;
        let restored = Restored {
            log: self.contents.log,
            end: self.until,
            epoch,
        };
        let sequence = first_sequence(self.restore.clock.now(), self.sequence);
        Manifest::create(&*storage, &self.directory, self.contents, sequence)?;
        Ok(restored)
    }

    /// Brings the segments that hold something between the cold tier's end and the restored one's.
    fn segments(&self) -> Result<Reached, LogError> {
        let mut reached = Reached {
            entries: Vec::new(),
            end: SegmentEnd {
                offset: self.cold_end,
                ..SegmentEnd::default()
            },
            append_time: Timestamp::MIN,
            straddling: None,
            sources: Sources::default(),
        };
        let wanted: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| {
                segment.end.offset > self.cold_end && segment.entry.first_offset < self.until
            })
            .collect();
        match wanted.first() {
            Some(first) if first.entry.first_offset > self.cold_end => {
                return Err(LogError::Missing {
                    first: self.cold_end,
                    end: first.entry.first_offset,
                });
            }
            None if self.until > self.cold_end => {
                return Err(LogError::Missing {
                    first: self.cold_end,
                    end: self.until,
                });
            }
            Some(_) => {}
            None => self.cold_sources(&mut reached)?,
        }
        for segment in wanted {
            self.segment(segment, &mut reached)?;
        }
        // What the cold tier has of a frame that is cut is there already.
        if reached.end.offset < self.cold_end {
            reached.end = SegmentEnd {
                offset: self.cold_end,
                ..SegmentEnd::default()
            };
            if self.until <= self.cold_end
                && let Some((straddling, _)) = reached.straddling.take()
            {
                reached.append_time = straddling.header.append_time;
            }
        }
        Ok(reached)
    }

    /// Where sources stood, if only the cold tier can tell.
    fn cold_sources(&self, reached: &mut Reached) -> Result<(), LogError> {
        let Some(cold) = self.cold else { return Ok(()) };
        let mut next = Offset::ZERO;
        while next < self.cold_end {
            for batch in cold.read(next, READ_BYTES)? {
                reached
                    .sources
                    .note_lasting(&batch.origins, batch.first_offset);
                reached.append_time = batch.append_time;
                next = batch.end();
            }
        }
        Ok(())
    }

    fn segment(&self, from: &OldSegment, reached: &mut Reached) -> Result<(), LogError> {
        let storage = &*self.restore.storage;
        let file = storage
            .open(&from.path, false)
            .map_err(LogError::io("opening", &from.path))?;
        let (log, epoch) = (self.contents.log, from.epoch);
        let sources = &mut reached.sources;
        let see = |header: &Header, body: &[u8]| {
            match decode_body(header, epoch, body) {
                Ok(body) => sources.follow(body),
                Err(_) => {
                    return Err(LogError::Corrupt {
                        path: from.path.clone(),
                        position: 0,
                        offset: header.first_offset,
                        reason: "a frame cannot be read, though its checksums are right".into(),
                    });
                }
            }
            Ok(())
        };
        let walked = walk(
            &*file,
            &from.path,
            (log, &from.entry),
            from.end.position,
            self.until,
            see,
        )?;
        if let Some(last) = walked.last {
            reached.append_time = last.append_time;
        }
        reached.straddling = walked.straddling.map(|straddling| (straddling, epoch));
        if walked.end.offset == from.entry.first_offset && walked.end.position < from.end.position {
            // Nothing of it is wanted but, perhaps, a part of its first frame. One without events stays: the next one
            // follows it.
            return Ok(());
        }
        let name = segment::file_name(from.entry.first_offset, from.entry.number);
        let to = self.directory.join(name);
        let whole = from.entry.end == Some(walked.end) && self.is_sealed(from);
        if whole {
            bring(storage, &from.path, &to)?;
        } else {
            copy_prefix(storage, (&*file, &from.path), &to, walked.end.position)?;
        }
        reached.end = walked.end;
        reached.entries.push(SegmentEntry {
            end: Some(walked.end),
            ..from.entry
        });
        Ok(())
    }

    /// Whether nothing is ever written to a segment again: the last one of a closed log is gone on with.
    fn is_sealed(&self, segment: &OldSegment) -> bool {
        let last = self.contents.segments.last().map(|entry| entry.number);
        Some(segment.entry.number) != last
    }

    /// The segment in which the restored log goes on, with the rows of a frame that was cut.
    fn new_segment(
        &self,
        number: u64,
        epoch: u32,
        reached: Reached,
    ) -> Result<SegmentEntry, LogError> {
        let storage = &*self.restore.storage;
        let spare = self.directory.join("spare.tmp");
        let file = storage
            .create(&spare)
            .map_err(LogError::io("creating", &spare))?;
        let start = NewSegment {
            log: self.contents.log,
            directory: &self.directory,
            storage,
            file,
            number,
            epoch,
            predecessor: reached.end,
            append_time: reached.append_time,
            fill_block: false,
        };
        let first_offset = reached.end.offset;
        let mut active = start.begin(&reached.sources.lasting())?;
        let mut end = first_offset;
        let mut append_time = reached.append_time;
        if let Some((straddling, epoch)) = reached.straddling {
            append_time = straddling.header.append_time;
            end = self.cut_frame(&straddling, epoch, first_offset, &mut active)?;
        }
        if end != self.until {
            return Err(LogError::Missing {
                first: end,
                end: self.until,
            });
        }
        let (header, prefix) = closing(
            end,
            append_time,
            active.position,
            active.last_header_crc,
            false,
        );
        self.write(header, &[prefix.bytes()], &mut active)?;
        active
            .file
            .sync_data()
            .map_err(LogError::io("syncing", &spare))?;
        let path = segment::path(&self.directory, first_offset, number);
        storage
            .rename(&spare, &path)
            .map_err(LogError::io("renaming", &spare))?;
        Ok(SegmentEntry {
            number,
            first_offset,
            end: Some(SegmentEnd {
                offset: end,
                position: active.position,
                last_header_crc: active.last_header_crc,
            }),
        })
    }

    /// Writes the rows of a frame that lie between `from` and the end.
    fn cut_frame(
        &self,
        straddling: &Straddling,
        epoch: u32,
        from: Offset,
        active: &mut Active,
    ) -> Result<Offset, LogError> {
        let header = straddling.header;
        let unreadable = || LogError::Corrupt {
            path: active.segment.path.clone(),
            position: active.position,
            offset: header.first_offset,
            reason: "a frame cannot be read, though its checksums are right".into(),
        };
        let Ok(Body::Rows(batch)) = decode_body(&header, epoch, &straddling.body) else {
            return Err(unreadable());
        };
        let cut = batch.between(from, self.until);
        let prefix = Prefix::of_rows(&cut.origins, &cut.names);
        let rows = EncodedRows::new(&cut.tables);
        let (body_len, body_crc) = body_sum(&prefix, Some(&rows));
        let header = Header {
            body_len,
            body_crc,
            first_offset: from,
            count: cut.rows,
            codec: rows.codec,
            flags: FrameKind::Rows.flags(),
            durable_end: active.position,
            prev_header_crc: active.last_header_crc,
            ..header
        };
        self.write(header, &[prefix.bytes(), &rows.bytes], active)?;
        Ok(cut.end())
    }

    fn write(&self, header: Header, body: &[&[u8]], active: &mut Active) -> Result<(), LogError> {
        let place = Place {
            log: self.contents.log,
            segment: active.segment.number,
            position: active.position,
        };
        let header = Header {
            prev_header_crc: active.last_header_crc,
            ..header
        };
        let (bytes, crc): ([u8; HEADER_BYTES], u32) = header.encode(place);
        let slices: Vec<_> = std::iter::once(&bytes[..])
            .chain(body.iter().copied())
            .map(IoSlice::new)
            .collect();
        active
            .file
            .write_at(&slices, active.position)
            .map_err(LogError::io("writing", &active.segment.path))?;
        active.position += header.frame_bytes();
        active.last_header_crc = crc;
        Ok(())
    }
}

/// The segments of a source that are there, with how far each is sound. Those that the cold tier had taken over may be gone;
/// whether it still has what is wanted of them is another question, for what was brought here of it is cut.
fn source_segments(
    storage: &dyn Storage,
    directory: &Path,
    contents: &Contents,
) -> Result<Vec<OldSegment>, LogError> {
    let mut segments = Vec::new();
    for entry in &contents.segments {
        let path = segment::path(directory, entry.first_offset, entry.number);
        let file: Arc<dyn StorageFile> = match storage.open(&path, false) {
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
            None => scan_last(&*file, &path, contents)?.sound,
        };
        segments.push(OldSegment {
            entry: *entry,
            path,
            epoch: header.epoch,
            end,
        });
    }
    Ok(segments)
}

/// An epoch behind `last` that no other restore has: by the second, and by the microsecond within it.
fn new_epoch(last: u32, now: Timestamp) -> u32 {
    let seconds = now.micros() / 1_000_000 - EPOCHS_FROM_SECONDS;
    let by_time = u32::try_from(seconds).unwrap_or_default();
    let within = u32::try_from(now.micros().rem_euclid(1_000_000)).unwrap_or_default();
    by_time.max(last.saturating_add(1)).saturating_add(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_restores_in_one_second_have_two_epochs() {
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let first = new_epoch(1, at("2026-11-22T17:00:00.000001Z"));
        assert!(first > 200_000_000);
        assert_ne!(first, new_epoch(1, at("2026-11-22T17:00:00.000002Z")));
        assert!(new_epoch(first, at("2026-11-22T17:00:00Z")) > first);
        assert!(new_epoch(7, at("1990-01-01T00:00:00Z")) > 7);
    }
}
