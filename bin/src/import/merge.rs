//! The rows of a stretch in log order, taken from the files of its kinds.
//!
//! A file is opened when its first row is due and closed after its last one. Rows come in runs, each of one file, as long
//! as no other file has a row in between.
//!
//! # Invariants
//! M1. Offsets ascend over all runs: no row comes twice, whatever files overlap.
//! M2. Two rows that claim one offset are the same event, or the stretch is refused: then its files are of histories
//!     that a restore parted.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use modelog_engine::LocalStorage;
use modelog_engine::event::Kind;
use modelog_parquet::files::{EventRows, FileError, ParquetFile};

use super::history::{HistoryFile, Stretch};
use super::rows::offset;

/// Why the rows of a stretch cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{} and {} hold different events at offset {offset}: a restore parted the histories they are of; import one of \
         them alone",
        one.display(),
        other.display()
    )]
    Parted {
        one: PathBuf,
        other: PathBuf,
        offset: u64,
    },
    #[error("{} is corrupt: event {offset} follows event {before}", path.display())]
    Order {
        path: PathBuf,
        offset: u64,
        before: u64,
    },
}

/// Rows of one file that follow each other in the log.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) kind: Kind,
    pub(super) path: Arc<PathBuf>,
    pub(super) rows: Arc<RecordBatch>,
    pub(super) range: Range<usize>,
}

impl Run {
    /// The offset of its last row.
    fn last(&self) -> u64 {
        offset(&self.rows, self.range.end - 1)
    }

    /// Its last row.
    fn last_row(&self) -> RecordBatch {
        self.rows.slice(self.range.end - 1, 1)
    }
}

/// Merges the files of a stretch.
pub(super) struct Merge {
    /// Those not opened yet, the next one last.
    waiting: Vec<HistoryFile>,
    open: Vec<Open>,
    /// What was given last.
    last: Option<Run>,
    /// How many rows were left out because they came before.
    repeated: u64,
}

/// A file that is being read.
struct Open {
    kind: Kind,
    path: Arc<PathBuf>,
    stream: EventRows,
    rows: Arc<RecordBatch>,
    /// The next of these rows.
    at: usize,
}

impl Open {
    /// Opens a file that has rows.
    fn new(file: &HistoryFile) -> Result<Option<Self>, FileError> {
        let mut stream = ParquetFile::open(&LocalStorage, &file.path)?.events(file.kind)?;
        let Some(rows) = stream.next_rows()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            kind: file.kind,
            path: Arc::new(file.path.clone()),
            stream,
            rows: Arc::new(rows),
            at: 0,
        }))
    }

    /// The offset of the next row.
    fn offset(&self) -> u64 {
        offset(&self.rows, self.at)
    }

    /// The rows from the next one on whose offsets are below `limit`; the next one is one of them.
    fn run(&self, limit: u64) -> Result<Run, MergeError> {
        let mut before = self.offset();
        let mut end = self.at + 1;
        while end < self.rows.num_rows() {
            let offset = offset(&self.rows, end);
            if offset <= before {
                return Err(self.order(offset, before));
            }
            if offset >= limit {
                break;
            }
            before = offset;
            end += 1;
        }
        Ok(Run {
            kind: self.kind,
            path: Arc::clone(&self.path),
            rows: Arc::clone(&self.rows),
            range: self.at..end,
        })
    }

    fn order(&self, offset: u64, before: u64) -> MergeError {
        MergeError::Order {
            path: self.path.to_path_buf(),
            offset,
            before,
        }
    }

    /// Goes on to a row; answers whether there is one.
    fn advance_to(&mut self, row: usize) -> Result<bool, FileError> {
        self.at = row;
        if self.at < self.rows.num_rows() {
            return Ok(true);
        }
        let Some(rows) = self.stream.next_rows()? else {
            return Ok(false);
        };
        (self.rows, self.at) = (Arc::new(rows), 0);
        Ok(true)
    }
}

impl Merge {
    pub(super) fn new(stretch: &Stretch) -> Self {
        Self {
            waiting: stretch.files.iter().rev().cloned().collect(),
            open: Vec::new(),
            last: None,
            repeated: 0,
        }
    }

    /// How many rows were left out so far because another file had them.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// If a file is not what its footer said, or files contradict each other.
    pub(super) fn next(&mut self) -> Result<Option<Run>, MergeError> {
        loop {
            self.open_what_is_due()?;
            let heads = self.open.iter().enumerate();
            let Some((least, _)) = heads.min_by_key(|(_, open)| open.offset()) else {
                return Ok(None);
            };
            if self.is_repeated(&self.open[least])? {
                self.repeated += 1;
                self.advance(least, self.open[least].at + 1)?;
                continue;
            }
            let others = self.open.iter().enumerate();
            let others = others
                .filter(|(at, _)| *at != least)
                .map(|(_, open)| open.offset());
            let waiting = self.waiting.last().map(|file| file.first);
            let limit = others.chain(waiting).min().unwrap_or(u64::MAX);
            let run = self.open[least].run(limit)?;
            self.advance(least, run.range.end)?;
            self.last = Some(run.clone());
            return Ok(Some(run));
        }
    }

    fn open_what_is_due(&mut self) -> Result<(), FileError> {
        while let Some(file) = self.waiting.last() {
            let head = self.open.iter().map(Open::offset).min();
            if head.is_some_and(|head| head < file.first) {
                break;
            }
            self.open.extend(Open::new(file)?);
            self.waiting.pop();
        }
        Ok(())
    }

    /// Whether the next row of a file was given before, from another one.
    fn is_repeated(&self, open: &Open) -> Result<bool, MergeError> {
        let Some(last) = self
            .last
            .as_ref()
            .filter(|last| open.offset() <= last.last())
        else {
            return Ok(false);
        };
        let (offset, before) = (open.offset(), last.last());
        if offset < before || open.path == last.path {
            return Err(open.order(offset, before));
        }
        if open.kind == last.kind && open.rows.slice(open.at, 1) == last.last_row() {
            return Ok(true);
        }
        Err(MergeError::Parted {
            one: last.path.to_path_buf(),
            other: open.path.to_path_buf(),
            offset,
        })
    }

    fn advance(&mut self, at: usize, row: usize) -> Result<(), FileError> {
        if !self.open[at].advance_to(row)? {
            self.open.swap_remove(at);
        }
        Ok(())
    }
}
