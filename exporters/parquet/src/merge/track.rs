//! The rows of one kind of events, as the merge takes them.

use std::collections::VecDeque;
use std::path::PathBuf;

use modelog_engine::Offset;
use modelog_engine::event::Kind;

use super::{Share, join};
use crate::files::{FileError, KindRows, Piece, Place};
use crate::layout::FileKind;

/// Where the next row is, and when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) offset: u64,
    pub(super) time: i64,
}

/// What is known of the rows of an append time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) rows: usize,
    /// About how many bytes they take.
    pub(super) bytes: usize,
    /// Rows from this offset on are not known, because there are very many.
    pub(super) known: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Track {
    rows: KindRows,
    kind: Kind,
    queue: VecDeque<Waiting>,
}

/// A piece, and how much of it is taken.
#[derive(Debug)]
struct Waiting {
    piece: Piece,
    taken: usize,
    row_bytes: usize,
}

impl Waiting {
    /// How many of the rows not taken have an append time; they come first.
    fn run(&self, time: i64) -> usize {
        let times = &self.piece.times[self.taken..];
        // Runs are short as a rule: look near before looking far.
        let mut bound = 1;
        while bound < times.len() && times[bound] <= time {
            bound *= 2;
        }
        let near = &times[..bound.min(times.len())];
        near.partition_point(|of_row| *of_row <= time)
    }

    fn left(&self) -> usize {
        self.piece.len() - self.taken
    }
}

impl Track {
    pub(super) fn new(rows: KindRows) -> Self {
        let FileKind::Events(kind) = rows.kind() else {
            unreachable!("origins are no track")
        };
        Self {
            rows,
            kind,
            queue: VecDeque::new(),
        }
    }

    /// The next row; files are opened only when it must be.
    pub(super) fn head(&mut self) -> Result<Option<Head>, FileError> {
        if self.queue.is_empty() {
            if let Some(file) = self.rows.untouched() {
                return Ok(Some(Head {
                    offset: file.first.0,
                    time: file.min_append_time.micros(),
                }));
            }
            self.load()?;
        }
        Ok(self.queue.front().map(|front| Head {
            offset: front.piece.offset(front.taken),
            time: front.piece.times[front.taken],
        }))
    }

    fn load(&mut self) -> Result<bool, FileError> {
        let Some(piece) = self.rows.next()? else {
            return Ok(false);
        };
        let row_bytes = piece.rows.get_array_memory_size() / piece.len() + 1;
        self.queue.push_back(Waiting {
            piece,
            taken: 0,
            row_bytes,
        });
        Ok(true)
    }

    /// Finds the next rows that have an append time, as many as `bytes_max` wants.
    pub(super) fn run(&mut self, time: i64, bytes_max: usize) -> Result<Run, FileError> {
        let mut run = Run::default();
        match self.head()? {
            Some(head) if head.time == time => {}
            Some(head) if head.time < time => {
                let reason = "it was appended before events of lower offsets";
                return Err(self.corrupt(head.offset, reason.into()));
            }
            _ => return Ok(run),
        }
        for at in 0.. {
            if at == self.queue.len() && !self.load()? {
                break;
            }
            let waiting = &self.queue[at];
            let rows = waiting.run(time);
            run.rows += rows;
            run.bytes += rows * waiting.row_bytes;
            if rows < waiting.left() {
                break;
            }
            if run.bytes >= bytes_max && !self.rows.is_spent() {
                run.known = Some(waiting.piece.offset(waiting.piece.len() - 1) + 1);
                break;
            }
        }
        Ok(run)
    }

    /// Takes the rows before an offset that have the append time found last; none if there are none.
    pub(super) fn take(&mut self, end: Offset, time: i64) -> Option<Share> {
        let mut pieces = Vec::new();
        let mut offsets = Vec::new();
        let mut path = PathBuf::new();
        while let Some(front) = self.queue.front_mut() {
            let below = front.piece.rows_before(end.0) - front.taken;
            let rows = below.min(front.run(time));
            if rows == 0 {
                break;
            }
            if path.as_os_str().is_empty() {
                path = self.rows.path(&front.piece.entry);
            }
            pieces.push(front.piece.rows.slice(front.taken, rows));
            offsets.push(front.piece.offsets.slice(front.taken, rows));
            front.taken += rows;
            if front.left() > 0 {
                break;
            }
            self.queue.pop_front();
        }
        (!pieces.is_empty()).then(|| Share {
            kind: self.kind,
            rows: join(pieces),
            offsets,
            path,
        })
    }

    /// Damage at an event of this kind.
    pub(super) fn corrupt(&self, offset: u64, reason: String) -> FileError {
        let path = match (self.queue.front(), self.rows.unopened()) {
            (Some(front), _) => self.rows.path(&front.piece.entry),
            (None, Some(file)) => self.rows.path(file),
            (None, None) => PathBuf::new(),
        };
        Place::start(&path, Offset(offset)).corrupt(reason)
    }
}
