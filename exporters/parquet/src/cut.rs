//! A directory of Parquet files as it was: the rows below an offset, for restoring a log up to there.
//!
//! ```text
//! whole below the offset │ straddling it        │ above it
//! linked, or copied      │ rows below it, anew  │ left out
//! ```
//!
//! The source is only read, and may be written to meanwhile: its manifest is read once, and files are final. Every file
//! is compared with its SHA-256 where it ends up; files written anew are read back as the compactor's are.
//!
//! Calls of which only a part lies below the offset are forgotten, as in the segments of a restored log: their origins
//! are left out, and their source sends them again. Names stay, for numbers are never given twice.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::ScalarBuffer;
use modelog_engine::{LogError, Offset, Storage, SystemClock, Timestamp, bring};

use crate::disk;
use crate::encoding::ROW_GROUP_ROWS;
use crate::error::ParquetError;
use crate::files::{self, Columns, History, KindRows, Piece, Place};
use crate::layout::FileKind;
use crate::manifest::{FileEntry, Manifest};
use crate::merge::origins;
use crate::open_file::{OpenFile, Written};
use crate::rows::Rows;
use crate::schema::file_schema;
use crate::store::{ParquetConfig, ParquetStore};

/// Values waiting to be encoded; beyond, they become a row group.
const PENDING_BYTES: usize = 64 << 20;

/// Makes `target` what `source` was when the log ended at `until`, and answers the new end of what it holds without a
/// hole: `until`, or less if the source ends before. The target must be empty, or left by an earlier attempt. A source
/// without files, or an offset below which there are none, leaves no trace.
///
/// # Errors
/// If a file is not what was verified when it was written, or the disk fails. The manifest of the target is written
/// last: before, it holds nothing.
pub fn cut(
    source: &Path,
    target: &Path,
    until: Offset,
    storage: &Arc<dyn Storage>,
) -> Result<Offset, ParquetError> {
    let Some(manifest) = Manifest::load(&**storage, source)? else {
        return Ok(Offset::ZERO);
    };
    let end = manifest.cold_end.min(until);
    let config = ParquetConfig {
        path: target.to_path_buf(),
        ..ParquetConfig::default()
    };
    let cutter = Cutter {
        history: Arc::new(History::new(Arc::clone(storage), source.to_path_buf())),
        manifest: Arc::new(manifest),
        // Times are taken for nothing but how long encoding took.
        target: ParquetStore::open(config, Arc::clone(storage), Arc::new(SystemClock::new()))?,
        until,
    };
    let mut kept = Manifest {
        cold_end: end,
        epoch: cutter.manifest.epoch,
        ..Manifest::new(cutter.manifest.log)
    };
    for kind in FileKind::all() {
        kept.add(cutter.kind(kind)?);
    }
    if kept.files.is_empty() {
        return Ok(Offset::ZERO);
    }
    kept.store(&**storage, target)?;
    Ok(end)
}

struct Cutter {
    history: Arc<History>,
    manifest: Arc<Manifest>,
    target: ParquetStore,
    until: Offset,
}

impl Cutter {
    fn storage(&self) -> &dyn Storage {
        self.history.storage()
    }

    /// What is kept of a kind.
    fn kind(&self, kind: FileKind) -> Result<Vec<FileEntry>, ParquetError> {
        let below = self.manifest.files_of(kind).iter();
        let below: Vec<_> = below.filter(|entry| entry.first < self.until).collect();
        let mut kept = Vec::with_capacity(below.len());
        for (place, entry) in below.iter().enumerate() {
            // Of origins the last file below may speak of rows above, whatever its name says.
            let speaks = kind == FileKind::Origin && place + 1 == below.len();
            if entry.end <= self.until && !(speaks && self.is_partial(entry)?) {
                self.bring(entry)?;
                kept.push((*entry).clone());
            } else {
                kept.extend(self.rewrite(entry)?);
            }
        }
        Ok(kept)
    }

    /// Brings a whole file.
    fn bring(&self, entry: &FileEntry) -> Result<(), ParquetError> {
        let directory = self.directory(entry)?;
        let path = entry.locate(self.target.path());
        let sum = (entry.bytes, entry.sha256);
        let exists = self
            .storage()
            .exists(&path)
            .map_err(ParquetError::io("looking for", &path))?;
        if exists {
            if files::check_content(self.storage(), &path, sum, entry.first).is_ok() {
                return Ok(());
            }
            self.remove(&path)?;
        }
        let from = entry.locate(self.history.directory());
        bring(self.storage(), &from, &path).map_err(|error| match error {
            LogError::Io { path, source, .. }
                if path == from && source.kind() == io::ErrorKind::NotFound =>
            {
                ParquetError::Missing { path }
            }
            LogError::Io {
                action,
                path,
                source,
            } => ParquetError::io(action, path)(source),
            source => ParquetError::Log {
                end: entry.end,
                source,
            },
        })?;
        if let Err(error) = files::check_content(self.storage(), &path, sum, entry.first) {
            // Where the source is no better, that is the file to tell of.
            files::check_content(self.storage(), &from, sum, entry.first)?;
            return Err(error.into());
        }
        disk::sync_dir(self.storage(), &directory)
    }

    fn remove(&self, path: &Path) -> Result<(), ParquetError> {
        self.storage()
            .remove(path)
            .map_err(ParquetError::io("removing", path))
    }

    /// The directory of a file in the target, created if need be.
    fn directory(&self, entry: &FileEntry) -> Result<std::path::PathBuf, ParquetError> {
        let below = Path::new(&entry.path).parent().unwrap_or(Path::new(""));
        disk::create_dirs(self.storage(), self.target.path(), below)
    }

    /// The rows of a file, as far as they are kept.
    fn rows(&self, entry: &FileEntry) -> KindRows {
        let alone = Manifest {
            files: vec![entry.clone()],
            ..Manifest::new(self.manifest.log)
        };
        let range = (Offset::ZERO, self.until);
        KindRows::new(
            &self.history,
            &Arc::new(alone),
            entry.kind,
            Columns::All,
            range,
        )
    }

    /// Whether a file of origins has some whose rows do not all lie below.
    fn is_partial(&self, entry: &FileEntry) -> Result<bool, ParquetError> {
        let mut rows = self.rows(entry);
        while let Some(piece) = rows.next()? {
            if self.whole(&piece, &rows.path(entry))?.contains(&false) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which rows of a piece of origins lie below whole.
    fn whole(&self, piece: &Piece, path: &Path) -> Result<Vec<bool>, ParquetError> {
        let found = origins(&piece.rows)
            .map_err(|reason| Place::start(path, Offset(piece.offset(0))).corrupt(reason))?;
        let ends = found
            .iter()
            .zip(piece.offsets.iter())
            .map(|(origin, start)| {
                let extent = u64::from(origin.first_ord) + u64::from(origin.rows);
                Offset(*start as u64).advance(extent)
            });
        Ok(ends.map(|end| end <= self.until).collect())
    }

    /// Writes what is kept of a file; nothing, if no row is.
    fn rewrite(&self, entry: &FileEntry) -> Result<Option<FileEntry>, ParquetError> {
        let mut source = self.rows(entry);
        let mut open: Option<OpenFile> = None;
        let shared = &self.target.shared;
        while let Some(mut piece) = source.next()? {
            if entry.kind == FileKind::Origin {
                let whole = self.whole(&piece, &source.path(entry))?;
                piece = filtered(piece, &whole);
            }
            let (Some(first), Some(last)) = (piece.times.first(), piece.times.last()) else {
                continue;
            };
            let [begun, last] = [*first, *last].map(Timestamp::from_micros);
            let rows = rows_of(entry.kind, &piece);
            let file = open.get_or_insert_with(|| {
                OpenFile::new(shared, self.manifest.log, &rows, rows.first, begun)
            });
            file.push(&rows, last);
            if file.pending_rows() >= ROW_GROUP_ROWS || file.pending_bytes() >= PENDING_BYTES {
                file.write_row_group(shared)?;
            }
        }
        let Some(file) = open else { return Ok(None) };
        let Written {
            temporary,
            name,
            entry,
            ..
        } = file.finish(shared)?;
        let path = self.target.path().join(name.path());
        self.storage()
            .rename(&temporary, &path)
            .map_err(ParquetError::io("renaming", &temporary))?;
        disk::sync_dir(self.storage(), &self.target.path().join(name.directory()))?;
        Ok(Some(entry))
    }
}

/// The rows that are marked.
fn filtered(piece: Piece, kept: &[bool]) -> Piece {
    if !kept.contains(&false) {
        return piece;
    }
    let mask = BooleanArray::from(kept.to_vec());
    let rows = arrow_select::filter::filter_record_batch(&piece.rows, &mask)
        .expect("the mask has as many rows");
    let marked = |values: &ScalarBuffer<i64>| {
        let values = values.iter().zip(kept).filter(|(_, kept)| **kept);
        values.map(|(value, _)| *value).collect()
    };
    Piece {
        offsets: marked(&piece.offsets),
        times: marked(&piece.times),
        rows,
        ..piece
    }
}

/// Rows as the writer takes them.
fn rows_of(kind: FileKind, piece: &Piece) -> Rows {
    let rows = piece.len();
    let column = |name: &String| -> Option<ArrayRef> {
        let column = piece.rows.column_by_name(name).map(Arc::clone);
        column.filter(|column| column.null_count() < rows)
    };
    let schema = file_schema(kind);
    let columns = schema.fields().iter().map(|field| column(field.name()));
    Rows {
        kind,
        rows,
        columns: columns.collect(),
        first: Offset(piece.offset(0)),
        end: Offset(piece.offset(rows - 1)).advance(1),
    }
}

/// The first offset whose append time is later than a moment: where a log ended that had seen nothing later. The end of
/// what the files hold without a hole, if they hold nothing later.
///
/// # Errors
/// If a file is not what was verified when it was written, or the disk fails.
pub fn offset_at(
    directory: &Path,
    time: Timestamp,
    storage: &Arc<dyn Storage>,
) -> Result<Offset, ParquetError> {
    let Some(manifest) = Manifest::load(&**storage, directory)? else {
        return Ok(Offset::ZERO);
    };
    let history = Arc::new(History::new(Arc::clone(storage), directory.to_path_buf()));
    let manifest = Arc::new(manifest);
    let mut first = manifest.cold_end;
    for kind in FileKind::all().filter(|kind| kind.is_events()) {
        let files = manifest.files_of(kind);
        // Times do not go back, so those of a kind's files do not overlap but at their ends.
        let file = files.partition_point(|file| file.max_append_time <= time);
        let Some(file) = files.get(file).filter(|file| file.first < first) else {
            continue;
        };
        if file.min_append_time > time {
            first = file.first;
            continue;
        }
        let range = (file.first, first);
        let mut rows = KindRows::new(&history, &manifest, kind, Columns::Places, range);
        while let Some(piece) = rows.next()? {
            let later = piece
                .times
                .partition_point(|of_row| *of_row <= time.micros());
            if later < piece.len() {
                first = Offset(piece.offset(later));
                break;
            }
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests;
