//! Doors for fuzzing: the decoders of the log's files, and what must hold whatever bytes they are given.
//!
//! Each decoder answers what it made of the bytes, or nothing where it refuses them, so that a caller can count what it
//! allocates; `check` then looks at what was accepted, and panics where a promise is broken. How bytes are made up, and
//! how their checksums are mended so that decoders look behind them, is the business of `fuzz/`.
//!
//! # What is checked
//! Z1. Nothing is accepted that would not be written: encoded again it is the same bytes, or, where one content has
//!     several spellings (compression, flatbuffers), it decodes to the same content.
//! Z2. What was accepted can be used like anything in the log: read in order, cut, turned into JSON and Arrow, folded.
//! Z3. A scan answers places that exist, in order; reading in small pieces gives what reading at once gives.
//! Z4. Bytes in memory cannot fail to be read: an I/O error means that a length was not checked.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Segment;
use super::frame::{Body, HEADER_BYTES, Header, Outline, Place, Prefix, decode_body};
use super::manifest::{Contents, Epoch, Manifest, SegmentEntry};
use super::mentions::mentions;
use super::reader::read_segment;
use super::retention::{self, AGES};
use super::rows::{EncodedRows, decode_rows};
use super::scan::{check_sealed, scan_last};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, read_header};
use super::snapshot::{self, ADMISSION, About};
use super::state::State;
use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::statistician::STATISTICS;
use crate::stats::Statistics;
use crate::storage::{LockGuard, Storage, StorageFile};
use crate::{LogId, Offset};

/// Where frames given to [`frame`] lie: their header's checksum is seeded with the CRC of as many zeros.
const PLACE: Place = Place {
    log: LogId(uuid::Uuid::nil()),
    segment: 0,
    position: 0,
};
/// The window of identities that snapshots are read into.
const DEDUPE_WINDOW: usize = 1000;

/// A frame that was accepted.
#[derive(Debug)]
pub struct Frame<'a> {
    header: Header,
    bytes: &'a [u8],
    body: Body,
}

/// Reads a frame that was written at position 0 of segment 0 of the log whose uuid is all zeros.
#[must_use]
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (header, _) = Header::decode(bytes.first_chunk()?, PLACE)?;
    let bytes = bytes.get(..header.frame_bytes() as usize)?;
    let body = &bytes[HEADER_BYTES..];
    if !header.matches(body) {
        return None;
    }
    Some(Frame {
        header,
        bytes,
        body: decode_body(&header, 1, body).ok()?,
    })
}

impl Frame<'_> {
    /// Checks Z1 and Z2.
    ///
    /// # Panics
    /// Where one of them is broken.
    pub fn check(&self) {
        let (header, body) = self.bytes.split_at(HEADER_BYTES);
        assert_eq!(self.header.encode(PLACE).0, header, "Z1: the header");
        match &self.body {
            Body::Closing => check_prefix(&Prefix::of_rows(&[], &[]), body),
            Body::State(sources) => check_prefix(&Prefix::of_state(sources), body),
            Body::Rows(batch) => {
                let prefix = Prefix::of_rows(&batch.origins, &batch.names);
                if batch.rows == 0 {
                    check_prefix(&prefix, body);
                } else {
                    assert!(body.starts_with(prefix.bytes()), "Z1: the prefix");
                    let rows = EncodedRows::new(&batch.tables);
                    let again = decode_rows(rows.codec, &rows.bytes, batch.rows);
                    let again = again.expect("Z1: what was accepted is read again");
                    let same = EncodedRows::new(&again);
                    assert_eq!((same.codec, same.bytes), (rows.codec, rows.bytes), "Z1");
                    self.check_outline(batch, body);
                }
                check_batch(batch);
            }
        }
    }

    /// What is told without unpacking is what is found when that is done.
    fn check_outline(&self, batch: &LoggedBatch, body: &[u8]) {
        let len = Outline::bytes(body).expect("Z2: a body says how long its prefix is");
        let start = &body[..len.min(body.len())];
        let outline = Outline::read(&self.header, batch.epoch, start);
        let outline = outline.expect("Z2: the prefix was read before");
        assert_eq!(
            (&outline.batch.origins, &outline.batch.names),
            (&batch.origins, &batch.names),
            "Z2: the prefix"
        );
        if let Some(head) = outline.table {
            let [table] = batch.tables.as_slice() else {
                panic!("Z2: one table has all rows");
            };
            assert_eq!((head.kind, head.rows), (table.kind(), batch.rows), "Z2");
            let columns = table.columns().iter().enumerate();
            for (number, column) in columns {
                assert_eq!(head.has(number), column.is_some(), "Z2: column {number}");
            }
        }
    }
}

/// The whole of a body without rows: its prefix, and zeros.
fn check_prefix(prefix: &Prefix, body: &[u8]) {
    let (found, padding) = body.split_at(prefix.bytes().len().min(body.len()));
    assert_eq!(found, prefix.bytes(), "Z1: the prefix");
    assert!(padding.iter().all(|byte| *byte == 0), "Z1: the padding");
}

/// Uses a batch in all the ways its readers do.
fn check_batch(batch: &LoggedBatch) {
    let rows = batch.in_order();
    let offsets = rows.iter().map(|row| row.offset());
    let expected = (batch.first_offset.0..batch.end().0).map(Offset);
    assert!(offsets.eq(expected), "Z2: offsets are dense");
    for row in &rows {
        let _ = row.to_event();
        row.write_json_line(&mut Vec::new());
    }
    for table in &batch.tables {
        let arrow = table.to_record_batch(batch.first_offset, batch.append_time);
        assert_eq!(arrow.num_rows(), table.rows(), "Z2");
    }
    let middle = batch.first_offset.advance(u64::from(batch.rows) / 2);
    let parts = [
        batch.between(batch.first_offset, middle),
        batch.between(middle, batch.end()),
    ];
    let cut: usize = parts.iter().map(|part| part.in_order().len()).sum();
    assert_eq!(cut, rows.len(), "Z2: a cut loses nothing");
    let mut state = State::new(DEDUPE_WINDOW);
    state.next = batch.first_offset;
    let known = batch.names.iter().all(|named| state.names.insert(named))
        && mentions(&batch.tables)
            .iter()
            .all(|mention| state.knows(mention));
    // Names that a frame neither brings nor finds are the business of the whole log, not of one frame.
    if known {
        assert!(state.fold(batch), "Z2: the same names are known again");
        let mut statistics = Statistics::default();
        statistics.apply(batch, &state.names);
        let again = Statistics::decode(&statistics.encode());
        assert_eq!(
            again.expect("Z1: what was folded is read again").encode(),
            statistics.encode(),
            "Z1"
        );
    }
}

/// Reads a segment file as opening, readers and `verify` do; nothing where it is refused.
#[must_use]
pub fn segment(bytes: &[u8]) -> Option<Scanned<'_>> {
    let path = Path::new("segment");
    let file = Content(bytes.into());
    let header = expect_no_io(read_header(&file, path))?;
    let contents = Contents {
        log: header.log,
        epochs: vec![Epoch {
            number: 1,
            start: Offset::ZERO,
        }],
        segments: vec![SegmentEntry {
            number: header.number,
            first_offset: header.first_offset,
            end: None,
        }],
        cold_end: Offset::ZERO,
    };
    let found = expect_no_io(scan_last(&file, path, &contents))?;
    let at = |offset, position| Segment {
        number: header.number,
        first_offset: header.first_offset,
        epoch: header.epoch,
        path: path.to_path_buf(),
        end: Mutex::new((offset, position)),
    };
    Some(Scanned {
        bytes,
        header,
        found,
        segment: at(found.sound.offset, found.sound.position),
        file,
    })
}

/// A segment whose last frames were looked at.
#[derive(Debug)]
pub struct Scanned<'a> {
    bytes: &'a [u8],
    header: SegmentHeader,
    found: super::scan::LastSegment,
    segment: Segment,
    file: Content,
}

impl Scanned<'_> {
    /// Checks Z1 to Z4.
    ///
    /// # Panics
    /// Where one of them is broken.
    pub fn check(&self) {
        let again = SegmentHeader::decode(&self.header.encode());
        assert_eq!(again, Ok(self.header), "Z1: the header");
        let (start, len) = (SEGMENT_HEADER_BYTES as u64, self.bytes.len() as u64);
        let (proven, sound) = (self.found.proven, self.found.sound);
        assert!(
            start <= proven.position && proven.position <= sound.position,
            "Z3"
        );
        assert!(
            sound.position <= self.found.torn_end && self.found.torn_end <= len,
            "Z3"
        );
        assert!(proven.offset <= sound.offset, "Z3");
        assert!(self.header.first_offset <= proven.offset, "Z3");
        let whole = self.read(usize::MAX);
        let pieces = self.read(1);
        assert_eq!(whole.is_some(), pieces.is_some(), "Z3: the same is refused");
        let (Some(whole), Some(pieces)) = (whole, pieces) else {
            return;
        };
        let mut next = self.header.first_offset;
        for batch in &whole {
            assert_eq!(batch.first_offset, next, "Z3: offsets are dense");
            next = batch.end();
            check_batch(batch);
        }
        assert_eq!(next, sound.offset, "Z3: all is read");
        let places = |batches: &[LoggedBatch]| -> Vec<_> {
            batches
                .iter()
                .map(|batch| (batch.first_offset, batch.rows))
                .collect()
        };
        assert_eq!(places(&whole), places(&pieces), "Z3: the same is read");
    }

    fn read(&self, limit_bytes: usize) -> Option<Vec<LoggedBatch>> {
        let mut batches: Vec<LoggedBatch> = Vec::new();
        let mut position = SEGMENT_HEADER_BYTES as u64;
        let end = self.found.sound.position;
        while position < end {
            let from = batches
                .last()
                .map_or(self.header.first_offset, LoggedBatch::end);
            let read = expect_no_io(read_segment(
                &self.segment,
                self.header.log,
                &self.file,
                position,
                from,
                limit_bytes,
            ))?;
            assert!(read.position > position, "Z3: reading goes on");
            position = read.position;
            batches.extend(read.batches);
        }
        Some(batches)
    }
}

/// Reads a MANIFEST; nothing where it is refused.
#[must_use]
pub fn manifest(bytes: &[u8]) -> Option<ManifestFile> {
    let storage = OneFile(bytes.into());
    let manifest = expect_no_io(Manifest::open(&storage, Path::new("log"), false))?;
    Some(ManifestFile { storage, manifest })
}

/// A manifest that was accepted.
#[derive(Debug)]
pub struct ManifestFile {
    storage: OneFile,
    manifest: Manifest,
}

impl ManifestFile {
    /// Checks Z1, and that opening a log with it ends in one way or the other.
    ///
    /// # Panics
    /// Where one of them is broken.
    pub fn check(&self) {
        let contents = &self.manifest.contents;
        let again = Contents::decode(&contents.encode());
        assert_eq!(again.as_ref(), Ok(contents), "Z1");
        let _ = self.manifest.damaged_slots().expect("Z4");
        for epoch in &contents.epochs {
            let end = contents.epoch_end(epoch.number);
            assert!(
                end.is_none_or(|end| end >= epoch.start),
                "epochs follow each other"
            );
        }
        let _ = (contents.epoch(), contents.epoch_of(contents.cold_end));
        let mut checked = contents.clone();
        // None of its segments has a file.
        let sealed = expect_no_io(check_sealed(&self.storage, Path::new("log"), &mut checked));
        assert!(
            sealed.is_none_or(|sealed| sealed.is_empty()),
            "no file is made up"
        );
    }
}

/// A snapshot that was accepted.
#[derive(Debug)]
pub enum Snapshot {
    Admission(Box<Admission>),
    Statistics(Box<Statistics>),
    Ages(Ages),
}

/// What admission knows.
#[derive(Debug)]
pub struct Admission {
    about: About,
    state: State,
}

/// How long segments have been in the cold tier: the bytes, and of how many they tell.
#[derive(Debug)]
pub struct Ages {
    content: Vec<u8>,
    count: usize,
}

/// Reads a snapshot of any sort; nothing where it is refused.
#[must_use]
pub fn snapshot(bytes: &[u8]) -> Option<Snapshot> {
    if let Ok((about, content)) = ADMISSION.unseal(bytes) {
        let state = snapshot::decode(&about, content, DEDUPE_WINDOW).ok()?;
        return Some(Snapshot::Admission(Box::new(Admission { about, state })));
    }
    if let Ok((about, content)) = STATISTICS.unseal(bytes) {
        let statistics = Statistics::decode(content).ok()?;
        // Who reads it holds it against the names there are.
        let versions = statistics.highest_version() as usize;
        let fits = statistics.offset() == about.offset && versions <= DEDUPE_WINDOW;
        return fits.then(|| Snapshot::Statistics(Box::new(statistics)));
    }
    let (_, content) = AGES.unseal(bytes).ok()?;
    let count = retention::Ages::decode(content).ok()?.len();
    Some(Snapshot::Ages(Ages {
        content: content.to_vec(),
        count,
    }))
}

impl Snapshot {
    /// Checks Z1, and that what was read can be gone on with: `next` makes the batch that follows an offset.
    ///
    /// # Panics
    /// Where one of them is broken.
    pub fn check(self, next: impl Fn(Offset) -> LoggedBatch) {
        match self {
            Self::Admission(admission) => {
                let Admission { about, mut state } = *admission;
                let bytes = snapshot::encode(&state, about.log, about.epoch);
                let (again, content) = ADMISSION.unseal(&bytes).expect("Z1: it is sealed");
                assert_eq!(again, about, "Z1");
                let again = snapshot::decode(&about, content, DEDUPE_WINDOW);
                let again = again.expect("Z1: what was accepted is read again");
                assert_eq!(
                    snapshot::encode(&again, about.log, about.epoch),
                    bytes,
                    "Z1"
                );
                state.fold(&next(about.offset));
            }
            Self::Statistics(mut statistics) => {
                let bytes = statistics.encode();
                let again =
                    Statistics::decode(&bytes).expect("Z1: what was accepted is read again");
                assert_eq!(again.encode(), bytes, "Z1");
                let batch = next(statistics.offset());
                let state = State::new(DEDUPE_WINDOW);
                batch
                    .names
                    .iter()
                    .for_each(|named| assert!(state.names.insert(named)));
                statistics.apply(&batch, &state.names);
                assert_eq!(statistics.offset(), batch.end(), "Z2");
                for (_, version) in statistics.versions_changed_since(Offset::ZERO) {
                    let _ = version.view("model", "version", batch.end());
                }
            }
            Self::Ages(Ages { content, count }) => {
                assert_eq!(content.len(), 4 + 16 * count, "Z1")
            }
        }
    }
}

/// A batch as a log holds it, with numbers for the names it mentions.
#[must_use]
pub fn named(mut batch: LoggedBatch) -> LoggedBatch {
    let state = State::new(DEDUPE_WINDOW);
    batch.names = mentions(&batch.tables)
        .iter()
        .filter_map(|mention| state.name(mention))
        .collect();
    batch
}

/// What was read, or nothing where it was refused for what it says.
fn expect_no_io<T>(outcome: Result<T, LogError>) -> Option<T> {
    match outcome {
        Err(LogError::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
            panic!("Z4: {source}")
        }
        outcome => outcome.ok(),
    }
}

/// A file in memory that is only read.
#[derive(Debug)]
struct Content(Arc<[u8]>);

impl StorageFile for Content {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let at = (position as usize).min(self.0.len());
        let count = buffer.len().min(self.0.len() - at);
        buffer[..count].copy_from_slice(&self.0[at..at + count]);
        Ok(count)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A disk that has a MANIFEST and nothing else.
#[derive(Debug)]
struct OneFile(Arc<[u8]>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for OneFile {
    fn create(&self, _: &Path) -> io::Result<Arc<dyn StorageFile>> {
        read_only()
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        if self.exists(path)? {
            Ok(Arc::new(Content(Arc::clone(&self.0))))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn is_dir(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["log/MANIFEST".into()])
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(path == Path::new("log/MANIFEST"))
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }

    fn lock(&self, _: &Path) -> io::Result<Result<LockGuard, String>> {
        read_only()
    }

    fn network_file_system(&self, _: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}
