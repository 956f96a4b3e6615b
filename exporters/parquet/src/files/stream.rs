//! Rows of a file, decoded ahead of whoever reads them.
//!
//! A stream has one decoder, or two that share the columns. They start on the reader's own thread, so that a look at a
//! few rows costs no threads; once a second piece is asked for and more will follow, each goes on a thread of its own,
//! two pieces ahead at most. A stream that is dropped ends its threads with their next piece.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use modelog_engine::Offset;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use std::sync::Arc;

use super::bytes::FileBytes;
use super::error::{FileError, Place};
use super::file::Group;
use super::guard::caught;

/// How many pieces wait for the reader, beside the one being decoded.
const AHEAD: usize = 1;
/// Streams with fewer pieces to go are decoded by the reader.
const AHEAD_PIECES_MIN: usize = 3;

/// The rows of a file, or of some of its row groups.
#[derive(Debug)]
pub(crate) struct RowStream {
    path: PathBuf,
    bytes: FileBytes,
    parts: Vec<Part>,
    groups: Vec<Group>,
    /// Rows given or skipped so far.
    passed: usize,
    rows: usize,
    piece_rows: usize,
    pieces: usize,
}

/// One decoder, with the columns it has.
pub(crate) struct Part(Decoder);

enum Decoder {
    Here(Box<ParquetRecordBatchReader>),
    Ahead(Receiver<Result<RecordBatch, ArrowError>>),
    Spent,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Part")
    }
}

impl Part {
    pub(super) fn new(reader: ParquetRecordBatchReader) -> Self {
        Self(Decoder::Here(Box::new(reader)))
    }

    pub(super) fn next(&mut self) -> Option<Result<RecordBatch, ArrowError>> {
        match &mut self.0 {
            Decoder::Here(reader) => decode(reader),
            Decoder::Ahead(pieces) => pieces.recv().ok(),
            Decoder::Spent => None,
        }
    }

    /// Goes on on a thread; without one, if there is none to be had.
    fn go_ahead(&mut self) {
        let Decoder::Here(reader) = std::mem::replace(&mut self.0, Decoder::Spent) else {
            return;
        };
        let (sender, receiver) = sync_channel(AHEAD);
        // The reader is handed over once the thread is there, and kept where there is no thread.
        let (hand, taken) = sync_channel::<Box<ParquetRecordBatchReader>>(1);
        let spawned = thread::Builder::new()
            .name("parquet-decode".into())
            .spawn(move || {
                let Ok(mut reader) = taken.recv() else { return };
                while let Some(piece) = decode(&mut reader) {
                    let failed = piece.is_err();
                    if sender.send(piece).is_err() || failed {
                        return;
                    }
                }
            });
        self.0 = match spawned {
            Err(_) => Decoder::Here(reader),
            Ok(_) => match hand.send(reader) {
                Ok(()) => Decoder::Ahead(receiver),
                Err(back) => Decoder::Here(back.0),
            },
        };
    }
}

fn decode(reader: &mut ParquetRecordBatchReader) -> Option<Result<RecordBatch, ArrowError>> {
    caught(|| reader.next()).unwrap_or_else(|panic| Some(Err(ArrowError::ParquetError(panic))))
}

impl RowStream {
    pub(super) fn new(
        (path, bytes): (PathBuf, FileBytes),
        parts: Vec<Part>,
        groups: Vec<Group>,
        skipped: usize,
        piece_rows: usize,
    ) -> Self {
        Self {
            path,
            bytes,
            parts,
            rows: groups.iter().map(|group| group.rows).sum(),
            groups,
            passed: skipped,
            piece_rows,
            pieces: 0,
        }
    }

    /// Where the next row lies, as far as the footer tells.
    fn place(&self) -> Place<'_> {
        let mut before = 0;
        let group = self.groups.iter().find(|group| {
            before += group.rows;
            before > self.passed
        });
        let offset = group.and_then(|group| group.offsets);
        Place {
            path: &self.path,
            position: group.map_or(0, |group| group.position),
            offset: Offset(offset.map_or(0, |(least, _)| least)),
        }
    }

    /// The next rows; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, FileError> {
        if self.passed == self.rows {
            return Ok(None);
        }
        let left = self.rows - self.passed;
        if self.pieces == 1 && left / self.piece_rows >= AHEAD_PIECES_MIN {
            self.parts.iter_mut().for_each(Part::go_ahead);
        }
        self.pieces += 1;
        let mut pieces = Vec::with_capacity(self.parts.len());
        for at in 0..self.parts.len() {
            match self.parts[at].next() {
                Some(Ok(piece)) => pieces.push(piece),
                Some(Err(error)) => {
                    return Err(FileError::decoding(self.place(), &self.bytes, &error));
                }
                None => {
                    let reason = format!("{left} rows of those the footer counts are missing");
                    return Err(self.place().corrupt(reason));
                }
            }
        }
        let rows = pieces.first().map_or(0, RecordBatch::num_rows);
        if rows == 0 || pieces.iter().any(|piece| piece.num_rows() != rows) {
            return Err(self.place().corrupt("its columns differ in length"));
        }
        self.passed += rows;
        Ok(Some(beside(pieces)))
    }
}

/// Columns of the same rows, as one.
fn beside(mut pieces: Vec<RecordBatch>) -> RecordBatch {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let fields: Vec<_> = pieces
        .iter()
        .flat_map(|piece| piece.schema_ref().fields().iter().cloned())
        .collect();
    let columns = pieces
        .iter()
        .flat_map(|piece| piece.columns().iter().cloned())
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("the pieces have as many rows each")
}
