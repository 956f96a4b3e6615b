//! Cutting Arrow: a stream or file of record batches into streams of their own, of a useful size.
//!
//! Batches are read one at a time, sliced, and written as streams that need nothing from each other: dictionaries
//! included. The reader of the `arrow` crates checks most of what it reads; where bytes make it panic all the same,
//! that is bad input like any other.

use std::any::Any;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use modelog_formats::Format;
use sha2::{Digest, Sha256};

use super::chunk::{CHUNK_BYTES, Chunk, Cut, CutError, Places};
use super::input::{BlockReader, Blocks};

/// The most rows of a piece.
const CHUNK_ROWS: usize = 32 << 10;
/// How a file of batches, unlike a stream, begins.
pub(super) const FILE_MAGIC: &[u8] = b"ARROW1";

/// Where batches come from.
enum Batches {
    Stream(Box<StreamReader<BlockReader>>),
    File {
        reader: Box<FileReader<BufReader<File>>>,
        digest: Option<[u8; 32]>,
    },
}

/// Arrow in pieces.
pub(super) struct ArrowRows {
    name: String,
    batches: Batches,
    schema: SchemaRef,
    /// What is left of the batch that is being cut, and how many of its rows make a piece.
    left: Option<(RecordBatch, usize)>,
    index: u64,
    rows: u64,
}

impl ArrowRows {
    /// Reads the schema of a stream.
    pub(super) fn stream(name: String, blocks: Blocks) -> Result<Self, CutError> {
        let reader = guarded(|| StreamReader::try_new(BlockReader::new(blocks), None));
        let reader = reader.map_err(|message| CutError::Arrow {
            name: name.clone(),
            message,
        })?;
        Ok(Self {
            schema: reader.schema(),
            batches: Batches::Stream(Box::new(reader)),
            name,
            left: None,
            index: 0,
            rows: 0,
        })
    }

    /// Reads the schema of a file, and hashes all of it if asked to.
    pub(super) fn file(name: String, path: &Path, hashed: bool) -> Result<Self, CutError> {
        let io = |source| CutError::Io {
            name: name.clone(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let digest = if hashed {
            let digest = hash(&mut file).map_err(io)?;
            file.seek(SeekFrom::Start(0)).map_err(io)?;
            Some(digest)
        } else {
            None
        };
        let reader = guarded(|| FileReader::try_new(BufReader::new(file), None));
        let reader = reader.map_err(|message| CutError::Arrow {
            name: name.clone(),
            message,
        })?;
        Ok(Self {
            schema: reader.schema(),
            batches: Batches::File {
                reader: Box::new(reader),
                digest,
            },
            name,
            left: None,
            index: 0,
            rows: 0,
        })
    }

    fn wrong(&self, message: String) -> CutError {
        CutError::Arrow {
            name: self.name.clone(),
            message: format!("from row {} on: {message}", self.rows),
        }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, CutError> {
        let batches = &mut self.batches;
        let read = guarded(|| match batches {
            Batches::Stream(reader) => reader.next().transpose(),
            Batches::File { reader, .. } => reader.next().transpose(),
        });
        read.map_err(|message| self.wrong(message))
    }

    fn piece(&mut self, rows: &RecordBatch) -> Result<Chunk, CutError> {
        let schema = &self.schema;
        let written = guarded(|| {
            let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
            writer.write(rows)?;
            writer.into_inner()
        });
        let bytes = written.map_err(|message| self.wrong(message))?;
        let first = self.rows;
        self.rows += rows.num_rows() as u64;
        self.index += 1;
        Ok(Chunk {
            index: self.index - 1,
            bytes,
            format: Format::Arrow,
            events: rows.num_rows() as u64,
            places: Places::Rows { first },
        })
    }
}

impl Cut for ArrowRows {
    fn next(&mut self) -> Result<Option<Chunk>, CutError> {
        let (batch, fitting) = loop {
            if let Some(left) = self.left.take() {
                break left;
            }
            match self.batch()? {
                None => return Ok(None),
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    let fitting = fitting(&batch);
                    break (batch, fitting);
                }
            }
        };
        let rows = batch.num_rows();
        let take = rows.min(fitting);
        if take < rows {
            self.left = Some((batch.slice(take, rows - take), fitting));
        }
        self.piece(&batch.slice(0, take)).map(Some)
    }

    fn digest(&mut self) -> Result<Option<[u8; 32]>, CutError> {
        match &mut self.batches {
            Batches::File { digest, .. } => Ok(*digest),
            Batches::Stream(reader) => {
                let finished = reader.get_mut().finish();
                finished.map_err(|source| CutError::Io {
                    name: self.name.clone(),
                    source,
                })
            }
        }
    }
}

fn hash(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 256 << 10];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&block[..read]),
        }
    }
}

/// How many rows of a batch make a piece. Asked of the whole batch: slices share its memory.
fn fitting(batch: &RecordBatch) -> usize {
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| column.get_array_memory_size())
        .sum();
    let rows = batch.num_rows().saturating_mul(CHUNK_BYTES) / bytes.max(1);
    rows.clamp(1, CHUNK_ROWS)
}

/// What the reader answers, panics included.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, String> {
    // Whoever sees a panic here gives up the reader it may have broken.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the Arrow data is malformed: {}", text(&*panic))),
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it cannot be read")
}
