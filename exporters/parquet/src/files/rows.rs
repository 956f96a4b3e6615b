//! The rows of one kind, file after file, in pieces whose places were checked.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::ScalarBuffer;
use modelog_engine::{Offset, Timestamp};

use super::error::{FileError, Place};
use super::file::{APPEND_TIME, Columns, LOG_OFFSET};
use super::history::History;
use super::stream::RowStream;
use crate::layout::FileKind;
use crate::manifest::{FileEntry, Manifest};

/// Rows of one file, with their places. Offsets ascend, and append times do not go back.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) entry: Arc<FileEntry>,
    pub(crate) rows: RecordBatch,
    pub(crate) offsets: ScalarBuffer<i64>,
    pub(crate) times: ScalarBuffer<i64>,
}

impl Piece {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn offset(&self, row: usize) -> u64 {
        self.offsets[row] as u64
    }

    /// How many rows lie before an offset.
    pub(crate) fn rows_before(&self, end: u64) -> usize {
        self.offsets
            .partition_point(|offset| (*offset as u64) < end)
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.slice(0, rows);
        self.offsets = self.offsets.slice(0, rows);
        self.times = self.times.slice(0, rows);
    }
}

/// The rows of one kind between two offsets.
#[derive(Debug)]
pub(crate) struct KindRows {
    history: Arc<History>,
    manifest: Arc<Manifest>,
    kind: FileKind,
    /// Where its files are in the manifest: the merge asks for every batch.
    files: Range<usize>,
    columns: Columns,
    from: Offset,
    end: Offset,
    /// Place, among the files of the kind, of the next one to open.
    next_file: usize,
    open: Option<(Arc<FileEntry>, RowStream)>,
    /// The last file that could not be opened, or not left in order.
    failed: Option<Arc<FileEntry>>,
    /// Where the last row was, and when it came.
    last: Option<(u64, i64)>,
}

impl KindRows {
    pub(crate) fn new(
        history: &Arc<History>,
        manifest: &Arc<Manifest>,
        kind: FileKind,
        columns: Columns,
        (from, end): (Offset, Offset),
    ) -> Self {
        let files = manifest.files_of(kind);
        let start = manifest.files.partition_point(|file| file.kind < kind);
        Self {
            history: Arc::clone(history),
            manifest: Arc::clone(manifest),
            kind,
            files: start..start + files.len(),
            columns,
            from,
            end,
            next_file: files.partition_point(|file| file.end <= from),
            open: None,
            failed: None,
            last: None,
        }
    }

    pub(crate) fn kind(&self) -> FileKind {
        self.kind
    }

    fn file(&self, number: usize) -> Option<&FileEntry> {
        self.manifest.files[self.files.clone()].get(number)
    }

    /// The file that is opened next, unless one is open.
    pub(crate) fn unopened(&self) -> Option<&FileEntry> {
        let file = self.file(self.next_file)?;
        (self.open.is_none() && file.first < self.end).then_some(file)
    }

    /// The same, if all its rows are wanted, so that its first is known.
    pub(crate) fn untouched(&self) -> Option<&FileEntry> {
        self.unopened().filter(|file| file.first >= self.from)
    }

    /// Whether there is surely nothing left.
    pub(crate) fn is_spent(&self) -> bool {
        self.open.is_none() && self.unopened().is_none()
    }

    /// Gives up the file that is being read, or the next one; answers which, if there was one.
    pub(crate) fn skip_file(&mut self) -> Option<Arc<FileEntry>> {
        let opened = self.open.take().map(|(entry, _)| entry);
        opened.or_else(|| self.failed.take())
    }

    /// The next rows; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, FileError> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some((entry, stream)) = &mut self.open else {
                return Ok(None);
            };
            let entry = Arc::clone(entry);
            let Some(rows) = stream.next()? else {
                self.close(&entry)?;
                continue;
            };
            let piece = self.checked(&entry, rows)?;
            if piece.len() > 0 {
                return Ok(Some(piece));
            }
        }
    }

    fn open_next(&mut self) -> Result<bool, FileError> {
        let Some(entry) = self.unopened().cloned().map(Arc::new) else {
            return Ok(false);
        };
        self.next_file += 1;
        self.failed = Some(Arc::clone(&entry));
        let file = self.history.open(self.manifest.log, &entry)?;
        if let Some(after) = self.file(self.next_file)
            && after.first < self.end
        {
            self.history.compare_ahead(after);
        }
        let stream = file.stream(self.from, self.end, self.columns)?;
        self.open = Some((entry, stream));
        self.failed = None;
        Ok(true)
    }

    /// Leaves a file that was read to its end.
    fn close(&mut self, entry: &Arc<FileEntry>) -> Result<(), FileError> {
        self.open = None;
        self.failed = Some(Arc::clone(entry));
        let reached = self.last.map_or(0, |(offset, _)| offset + 1);
        // Rows from `end` on were not looked at.
        if reached < entry.end.0.min(self.end.0) && entry.end <= self.end {
            let path = self.path(entry);
            let reason = format!("its rows end at {reached}, its name says {}", entry.end);
            return Err(Place::start(&path, entry.first).corrupt(reason));
        }
        self.failed = None;
        Ok(())
    }

    pub(crate) fn path(&self, entry: &FileEntry) -> PathBuf {
        entry.locate(self.history.directory())
    }

    /// Checks where rows belong, and cuts off those that were not asked for.
    fn checked(&mut self, entry: &Arc<FileEntry>, rows: RecordBatch) -> Result<Piece, FileError> {
        let path = self.path(entry);
        let mut piece = piece(&path, entry, rows)?;
        let skipped = piece.rows_before(self.from.0);
        self.check_order(&path, &piece)?;
        let kept = piece.rows_before(self.end.0);
        if skipped > 0 {
            piece = Piece {
                entry: Arc::clone(entry),
                rows: piece.rows.slice(skipped, piece.len() - skipped),
                offsets: piece.offsets.slice(skipped, piece.len() - skipped),
                times: piece.times.slice(skipped, piece.len() - skipped),
            };
        }
        if kept < skipped + piece.len() {
            piece.truncate(kept - skipped);
            // What follows lies behind the end.
            self.open = None;
            self.next_file = usize::MAX;
        }
        Ok(piece)
    }

    fn check_order(&mut self, path: &Path, piece: &Piece) -> Result<(), FileError> {
        let entry = &piece.entry;
        let distinct = self.kind.is_events();
        let range = entry.first.0..entry.end.0;
        let mut last = self.last;
        for (offset, time) in piece.offsets.iter().zip(piece.times.iter()) {
            let (offset, time) = (*offset as u64, *time);
            let place = || Place::start(path, Offset(offset));
            if !range.contains(&offset) {
                let reason = format!("event {offset} lies outside the range of the file's name");
                return Err(place().corrupt(reason));
            }
            if let Some((before, when)) = last {
                if offset < before || (distinct && offset == before) {
                    let reason = format!("event {offset} follows event {before}");
                    return Err(place().corrupt(reason));
                }
                if time < when {
                    let reason = format!(
                        "event {offset} was appended at {}, before the one it follows",
                        Timestamp::from_micros(time)
                    );
                    return Err(place().corrupt(reason));
                }
            }
            last = Some((offset, time));
        }
        self.last = last;
        Ok(())
    }
}

/// Rows with their places taken out.
fn piece(path: &Path, entry: &Arc<FileEntry>, rows: RecordBatch) -> Result<Piece, FileError> {
    let corrupt = |reason: &str| Place::start(path, entry.first).corrupt(reason);
    let column = |name: &str| {
        rows.column_by_name(name)
            .filter(|column| column.null_count() == 0)
            .map(Arc::clone)
    };
    let offsets = column(LOG_OFFSET)
        .and_then(|column: ArrayRef| Some(column.as_primitive_opt::<Int64Type>()?.values().clone()))
        .ok_or_else(|| corrupt("`log_offset` is missing, or not a 64-bit integer in every row"))?;
    let times = column(APPEND_TIME)
        .and_then(|column: ArrayRef| {
            Some(
                column
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .values()
                    .clone(),
            )
        })
        .ok_or_else(|| corrupt("`append_time` is missing, or not a time in every row"))?;
    Ok(Piece {
        entry: Arc::clone(entry),
        rows,
        offsets,
        times,
    })
}
