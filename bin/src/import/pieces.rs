//! A stretch of history in pieces, each to be appended as one call.
//!
//! Where a piece ends depends on its events alone, as in `chunk`, so that a repeated import cuts in the same places:
//! neither on how the files were decoded nor on what the log has already.

use modelog_engine::LogId;
use modelog_engine::batch::{EventBatch, EventBatchBuilder};
use modelog_engine::event::{FieldError, Kind};

use super::history::Stretch;
use super::merge::{Merge, MergeError, Run};
use super::present::{Mark, Present};
use super::refusal::Refusal;
use super::rows::{Copier, append_time, offset};

/// How many events a piece has at most, and about how many bytes their values take.
const PIECE_ROWS: u32 = 16 << 10;
const PIECE_BYTES: usize = 1 << 20;

/// Events in log order.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which piece it is, from 0.
    pub(super) index: u64,
    pub(super) batch: EventBatch,
    /// Where each event of the batch stands in the log it comes from.
    pub(super) offsets: Vec<u64>,
    /// How many more there were that the log has already.
    pub(super) present: u64,
    /// How many records of the source log were left out.
    pub(super) left_out: u64,
    /// How many rows were in another file too.
    pub(super) repeated: u64,
}

/// Why there is no next piece.
#[derive(Debug, thiserror::Error)]
pub(super) enum PieceError {
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("{path}: event {offset} cannot be taken")]
    Value {
        path: String,
        offset: u64,
        source: FieldError,
    },
}

/// Cuts a stretch.
pub(super) struct Pieces {
    merge: Merge,
    copier: Copier,
    /// Whether records that only an engine writes are kept.
    records: bool,
    /// What is left of the run that is being cut.
    run: Option<Run>,
    index: u64,
    repeated: u64,
}

/// A piece in the making.
#[derive(Default)]
struct Gathered {
    runs: Vec<Run>,
    marks: Vec<Mark>,
    builder: EventBatchBuilder,
    left_out: u64,
}

impl Pieces {
    pub(super) fn new(log: LogId, stretch: &Stretch, records: bool) -> Self {
        Self {
            merge: Merge::new(stretch),
            copier: Copier::new(log),
            records,
            run: None,
            index: 0,
            repeated: 0,
        }
    }

    /// The next piece, without the events that are present already; none at the end.
    pub(super) fn next(
        &mut self,
        present: Option<&mut Present<'_>>,
    ) -> Result<Option<Piece>, Refusal> {
        let Some(gathered) = self.gather()? else {
            return Ok(None);
        };
        let there = present.map_or(Ok(0), |present| present.count(&gathered.marks))?;
        let builder = match there {
            0 => gathered.builder,
            all if all == gathered.marks.len() => EventBatchBuilder::new(),
            some => self.without(&gathered.runs, some)?,
        };
        let repeated = self.merge.repeated() - self.repeated;
        self.repeated += repeated;
        self.index += 1;
        Ok(Some(Piece {
            index: self.index - 1,
            batch: builder.finish(),
            offsets: gathered.marks[there..]
                .iter()
                .map(|mark| mark.offset)
                .collect(),
            present: there as u64,
            left_out: gathered.left_out,
            repeated,
        }))
    }

    /// The rows of a piece; none at the end.
    fn gather(&mut self) -> Result<Option<Gathered>, PieceError> {
        let mut piece = Gathered::default();
        while piece.builder.rows() < PIECE_ROWS && piece.builder.bytes() < PIECE_BYTES {
            let run = match self.run.take() {
                Some(run) => run,
                None => match self.merge.next()? {
                    Some(run) => run,
                    None => break,
                },
            };
            self.take(run, &mut piece)?;
        }
        let some = !piece.marks.is_empty() || piece.left_out > 0;
        Ok(some.then_some(piece))
    }

    /// Takes as many rows of a run as fit, and leaves the rest for the next piece.
    fn take(&mut self, run: Run, piece: &mut Gathered) -> Result<(), PieceError> {
        if run.kind.is_internal() && !self.records {
            piece.left_out += run.range.len() as u64;
            return Ok(());
        }
        let mut row = run.range.start;
        while row < run.range.end
            && piece.builder.rows() < PIECE_ROWS
            && piece.builder.bytes() < PIECE_BYTES
        {
            self.copy(&run, row, &mut piece.builder)?;
            piece.marks.push(mark(run.kind, &run, row));
            row += 1;
        }
        if row < run.range.end {
            self.run = Some(Run {
                range: row..run.range.end,
                ..run.clone()
            });
        }
        piece.runs.push(Run {
            range: run.range.start..row,
            ..run
        });
        Ok(())
    }

    /// The rows of a piece but for the first ones.
    fn without(&mut self, runs: &[Run], first: usize) -> Result<EventBatchBuilder, PieceError> {
        let mut builder = EventBatchBuilder::new();
        let rows = runs
            .iter()
            .flat_map(|run| run.range.clone().map(move |row| (run, row)));
        for (run, row) in rows.skip(first) {
            self.copy(run, row, &mut builder)?;
        }
        Ok(builder)
    }

    fn copy(
        &mut self,
        run: &Run,
        row: usize,
        builder: &mut EventBatchBuilder,
    ) -> Result<(), PieceError> {
        self.copier
            .copy(run.kind, &run.rows, row, builder)
            .map_err(|source| PieceError::Value {
                path: run.path.display().to_string(),
                offset: offset(&run.rows, row),
                source,
            })
    }
}

fn mark(kind: Kind, run: &Run, row: usize) -> Mark {
    Mark {
        offset: offset(&run.rows, row),
        kind,
        append_time: append_time(&run.rows, row),
    }
}
