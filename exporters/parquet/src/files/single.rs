//! One file of one kind, written to wherever its caller likes: for exports.
//!
//! Columns, encodings and footer are those of the files that a log's history is kept in, so whatever reads those reads
//! this, an import included. A row group ends where it does there: at so many rows, or so many bytes of values.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, RecordBatch};
use modelog_engine::LogId;
use modelog_engine::event::{Kind, schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
pub use parquet::errors::ParquetError as EncodeError;
use parquet::file::metadata::KeyValue;
use sha2::{Digest, Sha256};

use super::file::ParquetFile;
use crate::encoding;
use crate::layout::FileKind;
use crate::manifest::Sha256Sum;

/// How many bytes of values a row group has at most, about.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// The key in the footer of such a file whose value is a [`ContentSum`].
const CONTENT_SUM: &str = "modelog.content_sha256";

/// What all rows of a file come to. Parquet's pages have no checksum, and no manifest lists this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentSum {
    /// So many bytes, from the start of the file, hold the rows.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: Sha256Sum,
}

impl ParquetFile {
    /// What its rows come to, if the footer says it, as it does in files of [`FileWriter`].
    #[must_use]
    pub fn content_sum(&self) -> Option<ContentSum> {
        let (bytes, sum) = self.footer(CONTENT_SUM)?.split_once(':')?;
        Some(ContentSum {
            bytes: bytes.parse().ok()?,
            sha256: serde_json::from_value(sum.into()).ok()?,
        })
    }
}

/// A file in the making.
pub struct FileWriter<W: Write + Send> {
    writer: ArrowWriter<Summed<W>>,
    /// Values of the row group that is being encoded, in bytes.
    values: usize,
    fault: Arc<Mutex<Option<io::Error>>>,
}

/// Sums up what it passes on, and keeps what the disk said: the encoder makes text of it.
struct Summed<W> {
    out: W,
    sum: Sha256,
    bytes: u64,
    fault: Arc<Mutex<Option<io::Error>>>,
}

impl<W: Write> Summed<W> {
    fn noting<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            told
        })
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        let written = self.noting(written)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.noting(flushed)
    }
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
        let fault = Arc::default();
        let out = Summed {
            out,
            sum: Sha256::new(),
            bytes: 0,
            fault: Arc::clone(&fault),
        };
        let schema = schema::arrow_schema(kind);
        let writer = ArrowWriter::try_new_with_options(out, schema, options);
        Ok(Self {
            writer: writer.map_err(|error| told(&fault, error))?,
            values: 0,
            fault,
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
        let written = self.writer.write(rows);
        written.map_err(|error| told(&self.fault, error))?;
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
        let flushed = self.writer.flush();
        flushed.map_err(|error| told(&self.fault, error))
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// If `out` takes no bytes.
    pub fn finish(mut self) -> Result<W, EncodeError> {
        self.flush()?;
        let fault = Arc::clone(&self.fault);
        // So that all there is of the rows was summed up.
        let synced = self.writer.sync().map_err(EncodeError::from);
        synced.map_err(|error| told(&fault, error))?;
        let Summed { sum, bytes, .. } = self.writer.inner();
        let sum = format!("{bytes}:{}", Sha256Sum::finish(sum.clone()));
        self.writer
            .append_key_value_metadata(KeyValue::new(CONTENT_SUM.to_owned(), sum));
        let ended = self.writer.into_inner();
        Ok(ended.map_err(|error| told(&fault, error))?.out)
    }

    /// What it is written to.
    pub fn inner(&self) -> &W {
        &self.writer.inner().out
    }
}

/// The failure of the disk behind a failure of the encoder, if that was why.
fn told(fault: &Mutex<Option<io::Error>>, error: EncodeError) -> EncodeError {
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    fault.map_or(error, EncodeError::from)
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
        let bytes = std::fs::read(&path).unwrap();
        let sum = file.content_sum().unwrap();
        assert_eq!(sum.sha256, Sha256Sum::of(&bytes[..sum.bytes as usize]));
        assert!(bytes.len() as u64 > sum.bytes && sum.bytes > 100);
        assert_eq!(file.offsets(), Some((Offset(0), Offset(11))));
        let mut rows = file.events(Kind::MetricLogged).unwrap();
        let mut read = Vec::new();
        while let Some(batch) = rows.next_rows().unwrap() {
            read.push(batch);
        }
        let read = arrow_select::concat::concat_batches(&pieces[0].schema(), &read).unwrap();
        let written = arrow_select::concat::concat_batches(&pieces[0].schema(), &pieces).unwrap();
        assert_eq!(read, written);
        let wrong = file.events(Kind::RunFinished).unwrap_err().to_string();
        assert!(wrong.contains("RunFinished has no column"), "{wrong}");
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        /// Takes so many bytes.
        struct Room(usize);
        impl Write for Room {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Ok(taken)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = LogId(uuid::Uuid::from_u128(7));
        let whole = {
            let mut writer = FileWriter::new(Vec::new(), Kind::MetricLogged, log).unwrap();
            writer.write(&metrics(100, 0)).unwrap();
            writer.finish().unwrap().len()
        };
        for room in [0, 3, 200, whole - 1] {
            let write = || {
                let mut writer = FileWriter::new(Room(room), Kind::MetricLogged, log)?;
                writer.write(&metrics(100, 0))?;
                writer.finish()
            };
            let Err(EncodeError::External(error)) = write().map(drop) else {
                panic!("{room} bytes are enough");
            };
            let error = error.downcast_ref::<io::Error>().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
        }
        let mut writer = FileWriter::new(Room(whole), Kind::MetricLogged, log).unwrap();
        writer.write(&metrics(100, 0)).unwrap();
        writer.finish().unwrap();
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
