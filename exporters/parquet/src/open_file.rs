//! A file being written: rows of one kind from one day, until it is closed.
//!
//! ```text
//! rows of the log ─▶ checksums ─▶ pending ─▶ row group: columns encoded by several threads ─▶ sink ─▶ .tmp
//! ```
//!
//! The file is created with its first row group. Encoded pages of a row group are in memory until all its columns are
//! there; the values of a column are let go as soon as it is encoded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, new_null_array};
use arrow_schema::{FieldRef, SchemaRef};
use chrono::NaiveDate;
use modelog_engine::{LogId, Offset, Timestamp};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::Result as ParquetResult;
use parquet::file::writer::SerializedFileWriter;

use crate::digest::ColumnDigest;
use crate::disk;
use crate::encoding::{self, ROW_GROUP_ROWS};
use crate::error::ParquetError;
use crate::layout::{self, FileKind, FileName};
use crate::manifest::FileEntry;
use crate::parallel;
use crate::pending::{Pending, Piece};
use crate::readback::{self, Expected};
use crate::rows::Rows;
use crate::schema::file_schema;
use crate::sink::Sink;
use crate::store::Shared;

/// A file is closed at so many row groups. The format has room for eight times as many.
const ROW_GROUPS_MAX: usize = 4096;

/// A file that takes rows.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) kind: FileKind,
    pub(crate) date: NaiveDate,
    /// Offset of the first event of its first batch: it is needed again until the file is closed.
    pub(crate) from: Offset,
    /// When the log took its first row.
    pub(crate) begun: Timestamp,
    /// When the first row was taken in, by the monotonic clock.
    pub(crate) opened: Duration,
    log: LogId,
    first: Offset,
    end: Offset,
    last: Timestamp,
    rows: u64,
    schema: SchemaRef,
    pending: Pending,
    /// Of what the log handed over, by column.
    handed: Vec<ColumnDigest>,
    writer: Option<Writer>,
    /// Time spent on it.
    busy: Duration,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: SerializedFileWriter<Sink>,
    columns: Columns,
}

/// Makes the writers of a row group's columns.
struct Columns(ArrowRowGroupWriterFactory);

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Columns")
    }
}

/// A file that is written, synced and compared, under its temporary name.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) temporary: PathBuf,
    pub(crate) name: FileName,
    pub(crate) entry: FileEntry,
    pub(crate) busy: Duration,
}

impl OpenFile {
    /// A file for the first rows of a kind and a day; `from` is the offset of the batch they are from.
    pub(crate) fn new(
        shared: &Shared,
        log: LogId,
        rows: &Rows,
        from: Offset,
        append_time: Timestamp,
    ) -> Self {
        let schema = file_schema(rows.kind);
        Self {
            kind: rows.kind,
            date: layout::date_of(append_time),
            from,
            begun: append_time,
            opened: shared.clock.monotonic(),
            log,
            first: rows.first,
            end: rows.first,
            last: append_time,
            rows: 0,
            pending: Pending::new(Arc::clone(&schema)),
            handed: schema
                .fields()
                .iter()
                .map(|_| ColumnDigest::new())
                .collect(),
            schema,
            writer: None,
            busy: Duration::ZERO,
        }
    }

    /// Takes in rows of one batch.
    pub(crate) fn push(&mut self, rows: &Rows, append_time: Timestamp) {
        for (digest, column) in self.handed.iter_mut().zip(&rows.columns) {
            match column {
                Some(array) => digest.array(array),
                None => digest.nulls(rows.rows),
            }
        }
        self.pending.push(rows);
        self.end = rows.end;
        self.last = append_time;
        self.rows += rows.rows as u64;
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn pending_rows(&self) -> usize {
        self.pending.rows()
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// How long the file is so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        let writer = self.writer.as_ref();
        writer.map_or(0, |writer| writer.file.bytes_written() as u64)
    }

    /// Whether the file has grown to a size, or to as many row groups as anybody should have to read of.
    pub(crate) fn is_full(&self, target_bytes: u64) -> bool {
        self.writer.as_ref().is_some_and(|writer| {
            writer.file.bytes_written() as u64 >= target_bytes
                || writer.file.flushed_row_groups().len() >= ROW_GROUPS_MAX
        })
    }

    /// Encodes the first rows that wait, as a row group.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn write_row_group(&mut self, shared: &Shared) -> Result<(), ParquetError> {
        let started = shared.clock.monotonic();
        let pieces = self.pending.take(ROW_GROUP_ROWS);
        if self.writer.is_none() {
            self.writer = Some(Writer::create(shared, self)?);
        }
        let outcome = match &mut self.writer {
            Some(writer) => writer.row_group(&self.schema, pieces),
            None => Ok(()),
        };
        self.busy += shared.clock.monotonic().saturating_sub(started);
        outcome
    }

    /// Encodes what waits, ends and syncs the file, reads it back and compares.
    ///
    /// # Errors
    /// If the disk fails, or what was read back is not what the log handed over. What was written is removed then, if that
    /// can be done: on a full disk it would be in the way of everything else.
    pub(crate) fn finish(mut self, shared: &Shared) -> Result<Written, ParquetError> {
        let path = self.unfinished(shared);
        let finished = self.end(shared);
        if finished.is_err() {
            self.abandon(shared);
            let _ = shared.storage.remove(&path);
        }
        finished
    }

    fn end(&mut self, shared: &Shared) -> Result<Written, ParquetError> {
        while self.pending.rows() > 0 {
            self.write_row_group(shared)?;
        }
        let started = shared.clock.monotonic();
        let writer = self
            .writer
            .take()
            .expect("a file is opened with its first rows");
        let path = writer.path.clone();
        let io = ParquetError::parquet("writing", &path);
        let sink = writer.file.into_inner().map_err(io)?;
        let (bytes, sha256) = sink.finish().map_err(ParquetError::io("writing", &path))?;
        let expected = Expected {
            kind: self.kind,
            log: self.log,
            bytes,
            sha256,
            rows: self.rows,
            sums: std::mem::take(&mut self.handed)
                .into_iter()
                .map(ColumnDigest::finish)
                .collect(),
        };
        readback::check(&*shared.storage, &path, &expected)?;
        let name = FileName {
            kind: self.kind,
            date: self.date,
            first: self.first,
            end: self.end,
        };
        let entry = FileEntry {
            path: name.text(),
            kind: self.kind,
            first: self.first,
            end: self.end,
            rows: self.rows,
            bytes,
            sha256,
            min_append_time: self.begun,
            max_append_time: self.last,
        };
        Ok(Written {
            temporary: path,
            name,
            entry,
            busy: self.busy + shared.clock.monotonic().saturating_sub(started),
        })
    }

    /// Where it is while it is written.
    fn unfinished(&self, shared: &Shared) -> PathBuf {
        let name = layout::unfinished(self.kind, self.date, self.first);
        shared.config.path.join(name)
    }

    /// Gives the file up; what was written of it is removed, if that can be done.
    pub(crate) fn abandon(mut self, shared: &Shared) {
        if let Some(mut writer) = self.writer.take() {
            writer.file.inner_mut().give_up();
            let path = writer.path.clone();
            drop(writer);
            // If it stays, the next opening removes it.
            let _ = shared.storage.remove(&path);
        }
    }
}

impl Writer {
    fn create(shared: &Shared, open: &OpenFile) -> Result<Self, ParquetError> {
        let root = &shared.config.path;
        let storage = &*shared.storage;
        disk::create_dirs(storage, root, &layout::directory(open.kind, open.date))?;
        let path = open.unfinished(shared);
        let io = |action| ParquetError::io(action, &path);
        // An earlier attempt could not remove it.
        if storage.exists(&path).map_err(io("looking for"))? {
            storage.remove(&path).map_err(io("removing"))?;
        }
        let sink = Sink::new(storage.create(&path).map_err(io("creating"))?);
        let begin = || -> ParquetResult<_> {
            let schema = ArrowSchemaConverter::new().convert(&open.schema)?;
            let properties = Arc::new(encoding::properties(open.kind, open.log));
            SerializedFileWriter::new(sink, schema.root_schema_ptr(), properties)
        };
        let file = begin().map_err(ParquetError::parquet("writing", &path))?;
        let columns = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&open.schema));
        Ok(Self {
            path,
            file,
            columns: Columns(columns),
        })
    }

    fn row_group(&mut self, schema: &SchemaRef, pieces: Vec<Piece>) -> Result<(), ParquetError> {
        self.encode(schema, pieces)
            .map_err(ParquetError::parquet("writing", &self.path))
    }

    fn encode(&mut self, schema: &SchemaRef, pieces: Vec<Piece>) -> ParquetResult<()> {
        let number = self.file.flushed_row_groups().len();
        let writers = self.columns.0.create_column_writers(number)?;
        let mut jobs: Vec<_> = by_column(schema, pieces)
            .into_iter()
            .zip(writers)
            .enumerate()
            .collect();
        // The largest first: a large one begun last would be waited for by everybody.
        jobs.sort_by_key(|(_, (values, _))| std::cmp::Reverse(values.bytes()));
        let mut chunks =
            parallel::for_each(parallel::workers(), jobs, |(column, (values, writer))| {
                Ok::<_, parquet::errors::ParquetError>((column, values.encode(writer)?))
            })?;
        chunks.sort_by_key(|(column, _)| *column);
        let mut group = self.file.next_row_group()?;
        for (_, chunk) in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// The values of one column of a row group.
struct Values {
    field: FieldRef,
    /// With their lengths; `None` where every row is null.
    pieces: Vec<(usize, Option<ArrayRef>)>,
}

fn by_column(schema: &SchemaRef, pieces: Vec<Piece>) -> Vec<Values> {
    let mut columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| Values {
            field: Arc::clone(field),
            pieces: Vec::with_capacity(pieces.len()),
        })
        .collect();
    for piece in pieces {
        for (column, array) in columns.iter_mut().zip(piece.columns) {
            column.pieces.push((piece.rows, array));
        }
    }
    columns
}

impl Values {
    fn bytes(&self) -> usize {
        let arrays = self.pieces.iter().filter_map(|(_, array)| array.as_ref());
        arrays.map(|array| array.get_buffer_memory_size()).sum()
    }

    fn encode(self, mut writer: ArrowColumnWriter) -> ParquetResult<ArrowColumnChunk> {
        for (rows, array) in self.pieces {
            let array = array.unwrap_or_else(|| new_null_array(self.field.data_type(), rows));
            for leaf in compute_leaves(&self.field, &array)? {
                writer.write(&leaf)?;
            }
        }
        writer.close()
    }
}
