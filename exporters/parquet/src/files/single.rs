//! One file of one kind, written to wherever its caller likes: for exports.
//!
//! Columns, encodings and footer are those of the files that a log's history is kept in, so whatever reads those reads
//! this, an import included. A row group ends where it does there: at so many rows, or so many bytes of values.

use std::io::Write;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use modelog_engine::LogId;
use modelog_engine::event::{Kind, schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
pub use parquet::errors::ParquetError as EncodeError;

use crate::encoding;
use crate::layout::FileKind;

/// How many bytes of values a row group has at most, about.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A file in the making.
pub struct FileWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    /// Values of the row group that is being encoded, in bytes.
    values: usize,
}

impl<W: Write + Send> std::fmt::Debug for FileWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter")
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file of events of a kind, which are of this log.
    ///
    /// # Errors
    /// If `out` takes no bytes.
    pub fn new(out: W, kind: Kind, log: LogId) -> Result<Self, EncodeError> {
        let properties = encoding::properties(FileKind::Events(kind), log);
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            // What it says beyond Parquet's own types makes older readers stumble.
            .with_skip_arrow_metadata(true);
        let schema = schema::arrow_schema(kind);
        Ok(Self {
            writer: ArrowWriter::try_new_with_options(out, Arc::clone(&schema), options)?,
            values: 0,
        })
    }

    /// Writes rows, which have the columns of the kind's [`schema::arrow_schema`].
    ///
    /// # Errors
    /// If they have not, or `out` takes no bytes.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError> {
        let bytes: usize = rows.columns().iter().map(|column| bytes(&**column)).sum();
        if self.values > 0 && self.values + bytes > ROW_GROUP_BYTES {
            self.flush()?;
        }
        self.writer.write(rows)?;
        // Full row groups are written without being asked.
        self.values = match self.writer.in_progress_rows() {
            0 => 0,
            _ => self.values + bytes,
        };
        Ok(())
    }

    /// How many bytes wait in memory for the end of the row group, about.
    pub fn pending_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the row group early.
    ///
    /// # Errors
    /// If `out` takes no bytes.
    pub fn flush(&mut self) -> Result<(), EncodeError> {
        self.values = 0;
        self.writer.flush()
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// If `out` takes no bytes.
    pub fn finish(self) -> Result<W, EncodeError> {
        self.writer.into_inner()
    }

    /// What it is written to.
    pub fn inner(&self) -> &W {
        self.writer.inner()
    }
}

/// About how many bytes the values of a column take; slices share memory that is not theirs.
fn bytes(column: &dyn Array) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use modelog_engine::batch::EventBatch;
    use modelog_engine::event::{Event, MetricLogged};
    use modelog_engine::{LocalStorage, Offset, Timestamp};

    use super::*;
    use crate::files::ParquetFile;
    use crate::schema::keys;

    fn metrics(count: usize, first: u64) -> RecordBatch {
        let metric = |step: usize| {
            Event::from(MetricLogged {
                run: Some("r".into()),
                name: "loss".into(),
                value: if step == 0 { f64::NAN } else { step as f64 },
                step: Some(step as i64),
                ..MetricLogged::default()
            })
        };
        let events: Vec<_> = (0..count).map(metric).collect();
        let batch = EventBatch::from_events(&events).unwrap();
        let batch = batch.into_logged(Offset(first), Timestamp::from_micros(1_700_000_000_000_000));
        batch.tables[0].to_record_batch(batch.first_offset, batch.append_time)
    }

    #[test]
    fn what_is_written_is_read_as_events() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.parquet");
        let log = LogId(uuid::Uuid::from_u128(7));
        let file = File::create(&path).unwrap();
        let mut writer = FileWriter::new(file, Kind::MetricLogged, log).unwrap();
        let pieces = [metrics(3, 0), metrics(2, 10)];
        writer.write(&pieces[0]).unwrap();
        assert!(writer.pending_bytes() > 0);
        writer.flush().unwrap();
        writer.write(&pieces[1]).unwrap();
        writer.finish().unwrap();

        let file = ParquetFile::open(&LocalStorage, &path).unwrap();
        assert_eq!((file.rows(), file.log()), (5, Some(log)));
        assert_eq!(file.footer(keys::KIND), Some("MetricLogged"));
        assert_eq!(file.offsets(), Some((Offset(0), Offset(11))));
        let mut rows = file.events(Kind::MetricLogged).unwrap();
        let mut read = Vec::new();
        while let Some(batch) = rows.next().unwrap() {
            read.push(batch);
        }
        let read = arrow_select::concat::concat_batches(&pieces[0].schema(), &read).unwrap();
        let written = arrow_select::concat::concat_batches(&pieces[0].schema(), &pieces).unwrap();
        assert_eq!(read, written);
        let wrong = file.events(Kind::RunFinished).unwrap_err().to_string();
        assert!(wrong.contains("RunFinished has no column"), "{wrong}");
    }

    #[test]
    fn rows_of_another_kind_are_refused() {
        let log = LogId(uuid::Uuid::from_u128(7));
        let mut writer = FileWriter::new(Vec::new(), Kind::FeedbackLogged, log).unwrap();
        assert!(writer.write(&metrics(1, 0)).is_err());
        let empty = FileWriter::new(Vec::new(), Kind::FeedbackLogged, log).unwrap();
        let bytes = empty.finish().unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    }
}
