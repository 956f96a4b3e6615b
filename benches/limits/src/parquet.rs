//! The parquet crate by itself: its writer and its reader, each on one thread.

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// How many rows are read at a time.
const READ_ROWS: usize = 8192;

/// Writes batches of one schema into a file and ends it; nothing is synced, and nothing read back. The file is removed
/// again. Answers how many bytes it had.
///
/// # Errors
/// If there are no batches, or the disk fails.
pub fn write_parquet(
    directory: &Path,
    batches: &[RecordBatch],
    properties: WriterProperties,
) -> Result<u64> {
    let path = directory.join("limit.parquet");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let schema = batches.first().context("nothing to write")?.schema();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    let file = writer.into_inner()?;
    let bytes = file.metadata()?.len();
    std::fs::remove_file(&path)?;
    Ok(bytes)
}

/// Reads all columns of files, and drops them. Answers how many rows there were.
///
/// # Errors
/// If a file cannot be read.
pub fn read_parquet(files: &[PathBuf]) -> Result<usize> {
    let mut rows = 0;
    for path in files {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?
            .with_batch_size(READ_ROWS)
            .build()?;
        for batch in reader {
            rows += black_box(batch?).num_rows();
        }
    }
    Ok(rows)
}
