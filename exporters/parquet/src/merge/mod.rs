//! The log's order again: the rows of all kinds, with names and origins, as batches without a hole.
//!
//! ```text
//! kind=MetricLogged ────▶ Track ─┐
//! kind=PredictionLogged ▶ Track ─┼─▶ Merge ─▶ LoggedBatch, LoggedBatch, …
//! kind=EntityNamed ─────▶ Side ──┤
//! kind=Origin ──────────▶ Side ──┘
//! ```
//!
//! The log gave each of its batches one append time, so a batch here is a stretch of rows of one append time: for every
//! kind a slice of what was decoded, nothing is copied. Batches of the log that share an append time become one; where
//! that would be too much, it is cut, at the start of a batch of the log if one is known.
//!
//! # Invariants
//! M1. Batches follow each other without a hole, and no offset comes twice: anything else is damage, and told.
//! M2. Names and origins come with the batch that holds the first event of the batch they came with; `first_ord` counts
//!     from the start of that one, so that the answer it stands for is the same.
//! M3. Memory holds at most a few pieces of each kind, and one file of each kind is open.

mod side;
mod track;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{FieldRef, Schema};
use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::Kind;
use modelog_engine::names::NamedEntity;
use modelog_engine::origin::Origin;
use modelog_engine::{Offset, Timestamp};

use crate::files::{Columns, FileError, History, KindRows, Place};
use crate::layout::FileKind;
use crate::manifest::Manifest;
use side::Side;
use track::{Head, Track};

pub(crate) use side::{names, origins};

/// About how many bytes a batch may have, if it need not have more.
pub(crate) const BATCH_BYTES_MAX: usize = 16 << 20;

/// The history between two offsets, batch after batch.
#[derive(Debug)]
pub(crate) struct Merge {
    directory: PathBuf,
    tracks: Vec<Track>,
    names: Side<NamedEntity>,
    origins: Side<Origin>,
    position: Offset,
    end: Offset,
    batch_bytes: usize,
}

/// A batch, and about how many bytes its rows take.
pub(crate) struct Merged {
    pub(crate) batch: LoggedBatch,
    pub(crate) bytes: usize,
}

/// The rows of one kind that a batch takes.
struct Share {
    kind: Kind,
    rows: RecordBatch,
    offsets: Vec<arrow_buffer::ScalarBuffer<i64>>,
    path: PathBuf,
}

impl Merge {
    /// Starts at an offset; `end` must not lie beyond the end of what the manifest holds without a hole.
    pub(crate) fn new(
        history: &Arc<History>,
        manifest: &Arc<Manifest>,
        from: Offset,
        end: Offset,
    ) -> Self {
        let rows = |kind| KindRows::new(history, manifest, kind, Columns::All, (from, end));
        let tracks = FileKind::all()
            .filter(|kind| kind.is_events())
            .filter(|kind| !manifest.files_of(*kind).is_empty())
            .map(|kind| Track::new(rows(kind)))
            .collect();
        Self {
            directory: history.directory().to_path_buf(),
            tracks,
            names: Side::new(rows(FileKind::Events(Kind::EntityNamed)), names),
            origins: Side::new(rows(FileKind::Origin), origins),
            position: from,
            end,
            batch_bytes: BATCH_BYTES_MAX,
        }
    }

    /// Cuts batches at another size: for tests.
    #[cfg(test)]
    pub(crate) fn with_batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// The offset of the next event.
    pub(crate) fn position(&self) -> Offset {
        self.position
    }

    /// The offset it stops at.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The next batch; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Merged>, FileError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let time = self.leading_time()?;
        let Stretch { end, bytes } = self.stretch(time)?;
        let tracks = self.tracks.iter_mut();
        let shares: Vec<_> = tracks.filter_map(|track| track.take(end, time)).collect();
        self.check_whole(&shares, end)?;
        let first = self.position;
        let append_time = Timestamp::from_micros(time);
        let tables = shares
            .into_iter()
            .map(|share| {
                Table::from_cold(share.kind, &share.rows, first, append_time)
                    .map_err(|error| Place::start(&share.path, first).corrupt(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let batch = LoggedBatch {
            first_offset: first,
            rows: end.since(first) as u32,
            append_time,
            epoch: 0,
            names: self
                .names
                .take(first, end)?
                .map(|(_, named)| named)
                .collect(),
            origins: self
                .origins
                .take(first, end)?
                .map(|(offset, origin)| Origin {
                    first_ord: origin.first_ord + offset.since(first) as u32,
                    ..origin
                })
                .collect(),
            tables,
        };
        self.position = end;
        Ok(Some(Merged { batch, bytes }))
    }

    /// The append time of the next event.
    fn leading_time(&mut self) -> Result<i64, FileError> {
        let position = self.position.0;
        let mut nearest = self.end.0;
        for track in &mut self.tracks {
            let Some(Head { offset, time }) = track.head()? else {
                continue;
            };
            if offset < position {
                return Err(track.corrupt(offset, format!("event {offset} is there twice")));
            }
            if offset == position {
                return Ok(time);
            }
            nearest = nearest.min(offset);
        }
        Err(self.gap(position, nearest))
    }

    fn gap(&self, from: u64, to: u64) -> FileError {
        let place = Place::start(&self.directory, Offset(from));
        place.corrupt(format!("events {from} to {to} are in no file"))
    }

    /// How far the next batch goes.
    fn stretch(&mut self, time: i64) -> Result<Stretch, FileError> {
        let first = self.position;
        let (mut rows, mut bytes, mut known) = (0, 0, self.end.0);
        for track in &mut self.tracks {
            let run = track.run(time, self.batch_bytes)?;
            rows += run.rows;
            bytes += run.bytes;
            known = known.min(run.known.unwrap_or(known));
        }
        let whole = first.0 + rows as u64;
        let row_bytes = bytes / rows.max(1) + 1;
        let most = first.0 + (self.batch_bytes / row_bytes).max(1) as u64;
        if whole <= known && whole <= most.max(first.0 + 1) {
            return Ok(Stretch {
                end: Offset(whole),
                bytes,
            });
        }
        let limit = Offset(whole.min(known).min(most));
        self.names.fill(limit.advance(1))?;
        self.origins.fill(limit.advance(1))?;
        let starts = [
            self.names.last_start(first, limit),
            self.origins.last_start(first, limit),
        ];
        let end = starts.into_iter().flatten().max().unwrap_or(limit);
        Ok(Stretch {
            end,
            bytes: row_bytes * end.since(first) as usize,
        })
    }

    /// Invariant M1, of the rows a batch takes.
    fn check_whole(&mut self, shares: &[Share], end: Offset) -> Result<(), FileError> {
        let first = self.position.0;
        let wanted = (end.0 - first) as usize;
        let found: usize = shares.iter().map(|share| share.rows.num_rows()).sum();
        if let [share] = shares
            && found == wanted
            && share.offsets[0][0] as u64 >= first
        {
            // Offsets ascend, and end before the batch does.
            return Ok(());
        }
        let mut seen = vec![false; wanted];
        for share in shares {
            for offset in share.offsets.iter().flat_map(|offsets| offsets.iter()) {
                let offset = *offset as u64;
                let place_in_batch = offset.checked_sub(first).map(|row| row as usize);
                if place_in_batch.is_none_or(|row| std::mem::replace(&mut seen[row], true)) {
                    let place = Place::start(&share.path, Offset(offset));
                    return Err(place.corrupt(format!("event {offset} is there twice")));
                }
            }
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(hole) => {
                let hole_end = seen[hole..].iter().position(|seen| *seen);
                let from = first + hole as u64;
                let to = hole_end.map_or(end.0, |rows| from + rows as u64);
                // A row that is there came at another time than its neighbours.
                for track in &mut self.tracks {
                    if track.head()?.is_some_and(|head| head.offset == from) {
                        let reason = "it was appended after events of higher offsets";
                        return Err(track.corrupt(from, reason.into()));
                    }
                }
                Err(self.gap(from, to))
            }
        }
    }
}

/// How far a batch goes, and about how many bytes it takes.
struct Stretch {
    end: Offset,
    bytes: usize,
}

/// Rows of the same kind one after the other; columns that only some of them have are null in the others.
pub(crate) fn join(mut pieces: Vec<RecordBatch>) -> RecordBatch {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in pieces.iter().flat_map(|piece| piece.schema_ref().fields()) {
        if !fields.iter().any(|known| known.name() == field.name()) {
            // What one piece has in every row another may not have at all.
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
        }
    }
    let columns = fields
        .iter()
        .map(|field| {
            let parts: Vec<ArrayRef> = pieces
                .iter()
                .map(|piece| match piece.column_by_name(field.name()) {
                    Some(column) => Arc::clone(column),
                    None => new_null_array(field.data_type(), piece.num_rows()),
                })
                .collect();
            let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            arrow_select::concat::concat(&parts).expect("a column of a kind has one type")
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("the columns have as many rows each")
}

#[cfg(test)]
mod tests;
