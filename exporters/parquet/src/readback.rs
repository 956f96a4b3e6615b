//! Reading back what was written, before it counts: the bytes from the file, and the values decoded from them.
//!
//! The file is read once, from its start to its end. Each row group is decoded from memory, its columns by several
//! threads, while another one sums up the bytes.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use modelog_engine::{LogId, Storage, StorageFile};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use sha2::{Digest, Sha256};

use crate::digest::{ColumnDigest, Sum};
use crate::disk;
use crate::error::ParquetError;
use crate::footer::{self, Stretch};
use crate::layout::FileKind;
use crate::manifest::Sha256Sum;
use crate::parallel;
use crate::schema::{file_schema, keys};

/// How much is read at a time where nothing is decoded.
const READ_BYTES: usize = 1 << 20;
/// How many rows are decoded at a time.
const DECODE_ROWS: usize = 8192;

/// What a file should hold.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) kind: FileKind,
    pub(crate) log: LogId,
    pub(crate) bytes: u64,
    pub(crate) sha256: Sha256Sum,
    pub(crate) rows: u64,
    /// By column, of what the log handed over.
    pub(crate) sums: Vec<Sum>,
}

/// Reads a file and compares it with what it should hold.
///
/// # Errors
/// [`ParquetError::ReadBack`] with the first difference, or that it could not be read.
pub(crate) fn check(
    storage: &dyn Storage,
    path: &Path,
    expected: &Expected,
) -> Result<(), ParquetError> {
    let file = storage
        .open(path, false)
        .map_err(ParquetError::io("opening", path))?;
    let check = Check {
        file: &*file,
        path,
        expected,
    };
    check.run().map_err(|error| match error {
        // It was written a moment ago: that it cannot be decoded is a difference.
        ParquetError::Damaged { path, reason } => ParquetError::ReadBack { path, reason },
        ParquetError::Parquet { path, source } => ParquetError::ReadBack {
            path,
            reason: source.to_string(),
        },
        error => error,
    })
}

struct Check<'a> {
    file: &'a dyn StorageFile,
    path: &'a Path,
    expected: &'a Expected,
}

/// Work on a row group.
enum Job<'a> {
    Bytes(&'a mut Sha256),
    Column(usize, &'a mut ColumnDigest),
}

impl Check<'_> {
    fn run(&self) -> Result<(), ParquetError> {
        let len = self
            .file
            .len()
            .map_err(ParquetError::io("reading", self.path))?;
        self.same("bytes", len, self.expected.bytes)?;
        let metadata = footer::read(self.file, self.path)?;
        self.check_footer(&metadata)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options)
            .map_err(ParquetError::parquet("reading", self.path))?;
        let mut digests: Vec<_> = metadata
            .schema()
            .fields()
            .iter()
            .map(|_| ColumnDigest::new())
            .collect();
        let mut sum = Sha256::new();
        let mut at = 0;
        for (number, group) in metadata.metadata().row_groups().iter().enumerate() {
            let ranges = group.columns().iter().map(|column| column.byte_range());
            let start = ranges.clone().map(|(start, _)| start).min().unwrap_or(at);
            let end = ranges.map(|(start, len)| start + len).max().unwrap_or(at);
            self.sum_up(&mut sum, at, start)?;
            let stretch = self.read(start, end)?;
            self.row_group(&metadata, number, &stretch, &mut sum, &mut digests)?;
            at = end;
        }
        self.sum_up(&mut sum, at, len)?;
        let found = Sha256Sum::finish(sum);
        if found != self.expected.sha256 {
            return Err(self.differs(format!(
                "its SHA-256 is {found}, that of what was written {}",
                self.expected.sha256
            )));
        }
        self.check_values(&metadata, digests)
    }

    fn check_footer(&self, metadata: &ParquetMetaData) -> Result<(), ParquetError> {
        let rows = metadata.file_metadata().num_rows() as u64;
        self.same("rows", rows, self.expected.rows)?;
        let log = self.expected.log.to_string();
        for (key, expected) in [(keys::KIND, self.expected.kind.name()), (keys::LOG, &log)] {
            if footer::value(metadata, key) != Some(expected) {
                return Err(self.differs(format!("its footer does not say {key}={expected}")));
            }
        }
        Ok(())
    }

    fn check_values(
        &self,
        metadata: &ArrowReaderMetadata,
        digests: Vec<ColumnDigest>,
    ) -> Result<(), ParquetError> {
        let schema = file_schema(self.expected.kind);
        let same_types = schema.fields().len() == metadata.schema().fields().len()
            && schema
                .fields()
                .iter()
                .zip(metadata.schema().fields())
                .all(|(ours, found)| {
                    (ours.name(), ours.data_type()) == (found.name(), found.data_type())
                });
        if !same_types {
            return Err(self.differs("its columns are not those that were written".into()));
        }
        for ((digest, expected), field) in digests
            .into_iter()
            .zip(&self.expected.sums)
            .zip(schema.fields())
        {
            if digest.finish() != *expected {
                return Err(self.differs(format!(
                    "the values of `{}` are not those of the log",
                    field.name()
                )));
            }
        }
        Ok(())
    }

    /// Decodes the columns of a row group, the largest first, and sums up its bytes.
    fn row_group(
        &self,
        metadata: &ArrowReaderMetadata,
        number: usize,
        stretch: &Stretch,
        sum: &mut Sha256,
        digests: &mut [ColumnDigest],
    ) -> Result<(), ParquetError> {
        let group = metadata.metadata().row_group(number);
        let mut columns: Vec<_> = digests.iter_mut().enumerate().collect();
        columns.sort_by_key(|(column, _)| -group.column(*column).uncompressed_size());
        let jobs: Vec<_> = [Job::Bytes(sum)]
            .into_iter()
            .chain(
                columns
                    .into_iter()
                    .map(|(column, digest)| Job::Column(column, digest)),
            )
            .collect();
        parallel::for_each(parallel::workers(), jobs, |job| {
            match job {
                Job::Bytes(sum) => sum.update(&stretch.bytes),
                Job::Column(column, digest) => {
                    self.column(metadata, (number, column), stretch, digest)?;
                }
            }
            Ok::<_, ParquetError>(())
        })?;
        Ok(())
    }

    fn column(
        &self,
        metadata: &ArrowReaderMetadata,
        (group, column): (usize, usize),
        stretch: &Stretch,
        digest: &mut ColumnDigest,
    ) -> Result<(), ParquetError> {
        let projection = ProjectionMask::leaves(metadata.parquet_schema(), [column]);
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(stretch.clone(), metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(projection)
                .with_batch_size(DECODE_ROWS)
                .build()
                .map_err(ParquetError::parquet("reading", self.path))?;
        for batch in reader {
            let batch = batch.map_err(|error| ParquetError::Damaged {
                path: self.path.to_path_buf(),
                reason: error.to_string(),
            })?;
            digest.array(batch.column(0));
        }
        Ok(())
    }

    /// Sums up a range that holds no values: Bloom filters, indexes, the footer.
    fn sum_up(&self, sum: &mut Sha256, mut from: u64, to: u64) -> Result<(), ParquetError> {
        while from < to {
            let until = to.min(from + READ_BYTES as u64);
            sum.update(&self.read(from, until)?.bytes);
            from = until;
        }
        Ok(())
    }

    fn read(&self, from: u64, to: u64) -> Result<Stretch, ParquetError> {
        let length = to
            .checked_sub(from)
            .and_then(|length| length.try_into().ok());
        let length = length
            .filter(|_| to <= self.expected.bytes)
            .ok_or_else(|| self.differs(format!("its footer speaks of bytes {from} to {to}")))?;
        let mut bytes = vec![0; length];
        disk::read_exact(self.file, self.path, &mut bytes, from)?;
        Ok(Stretch {
            start: from,
            bytes: Bytes::from(bytes),
        })
    }

    fn same(&self, what: &str, found: u64, expected: u64) -> Result<(), ParquetError> {
        if found == expected {
            return Ok(());
        }
        Err(self.differs(format!("it has {found} {what}, {expected} were written")))
    }

    fn differs(&self, reason: String) -> ParquetError {
        ParquetError::ReadBack {
            path: self.path.to_path_buf(),
            reason,
        }
    }
}
