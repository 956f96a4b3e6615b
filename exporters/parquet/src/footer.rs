//! The end of a Parquet file: what it says about itself.

use std::path::Path;

use bytes::Bytes;
use modelog_engine::StorageFile;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::disk;
use crate::error::ParquetError;

/// Length of the metadata, and a magic word.
const TAIL_BYTES: u64 = 8;
const MAGIC: &[u8] = b"PAR1";

/// Reads a file's metadata, without its indexes.
///
/// # Errors
/// [`ParquetError::Damaged`] if the file does not end as Parquet files do.
pub(crate) fn read(file: &dyn StorageFile, path: &Path) -> Result<ParquetMetaData, ParquetError> {
    let damaged = |reason: &str| ParquetError::Damaged {
        path: path.to_path_buf(),
        reason: reason.into(),
    };
    let len = file.len().map_err(ParquetError::io("reading", path))?;
    let no_footer = || damaged("it does not end as a Parquet file does");
    let tail_at = len.checked_sub(TAIL_BYTES).ok_or_else(no_footer)?;
    let mut tail = [0; TAIL_BYTES as usize];
    disk::read_exact(file, path, &mut tail, tail_at)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != MAGIC {
        return Err(no_footer());
    }
    let metadata_len = u32::from_le_bytes([a, b, c, d]);
    let metadata_at = tail_at
        .checked_sub(metadata_len.into())
        .ok_or_else(no_footer)?;
    let mut metadata = vec![0; metadata_len as usize];
    disk::read_exact(file, path, &mut metadata, metadata_at)?;
    ParquetMetaDataReader::decode_metadata(&metadata).map_err(|error| ParquetError::Damaged {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// A value from a file's footer.
pub(crate) fn value<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let values = metadata.file_metadata().key_value_metadata()?;
    let found = values.iter().find(|entry| entry.key == key)?;
    found.value.as_deref()
}

/// A stretch of a file, in memory; the rest cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// Where it starts in the file.
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

impl Stretch {
    fn slice(&self, start: u64, length: Option<usize>) -> ParquetResult<Bytes> {
        let from = start
            .checked_sub(self.start)
            .and_then(|from| usize::try_from(from).ok());
        let range = from.and_then(|from| {
            let to = match length {
                Some(length) => from.checked_add(length)?,
                None => self.bytes.len(),
            };
            (from <= to && to <= self.bytes.len()).then_some(from..to)
        });
        let range = range.ok_or_else(|| {
            parquet::errors::ParquetError::EOF(format!(
                "byte {start} lies outside of the row group it belongs to"
            ))
        })?;
        Ok(self.bytes.slice(range))
    }
}

impl Length for Stretch {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Stretch {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(bytes::Buf::reader(self.slice(start, None)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.slice(start, Some(length))
    }
}
