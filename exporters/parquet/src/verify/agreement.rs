//! Whether files say what the segments say that still exist: events, names and origins, one by one.
//!
//! Both sides are cut into batches differently, so each is taken apart into rows by kind, and the rows both have are
//! compared as columns.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::Kind;
use modelog_engine::inspect::SegmentReader;
use modelog_engine::names::NamedEntity;
use modelog_engine::origin::Origin;
use modelog_engine::{LogError, Offset};

use super::Findings;
use crate::files::{FileError, History};
use crate::manifest::Manifest;
use crate::merge::Merge;

/// How much of the segments is read at a time.
const READ_BYTES: usize = 4 << 20;

/// One side of the comparison: what it has said and the other has not yet.
#[derive(Default)]
struct Side {
    rows: Vec<VecDeque<RecordBatch>>,
    /// With the start of the batch they came with, as this side cuts batches.
    names: VecDeque<(Offset, NamedEntity)>,
    origins: VecDeque<(Offset, Origin)>,
    reached: Offset,
}

impl Side {
    fn new(from: Offset) -> Self {
        Self {
            rows: vec![VecDeque::new(); Kind::ALL.len()],
            reached: from,
            ..Self::default()
        }
    }

    fn add(&mut self, batch: LoggedBatch) {
        for table in &batch.tables {
            let rows = table.to_record_batch(batch.first_offset, batch.append_time);
            self.rows[usize::from(table.kind().number())].push_back(rows);
        }
        self.reached = batch.end();
        let first = batch.first_offset;
        self.names
            .extend(batch.names.into_iter().map(|named| (first, named)));
        self.origins
            .extend(batch.origins.into_iter().map(|origin| (first, origin)));
    }
}

/// The offset of the first event of an origin, and the rest of it: what does not depend on how batches are cut.
fn uncut((first, origin): &(Offset, Origin)) -> (Offset, Origin) {
    let at = first.advance(origin.first_ord.into());
    let origin = Origin {
        first_ord: 0,
        ..origin.clone()
    };
    (at, origin)
}

/// Compares everything both have; answers how many events that was.
pub(super) fn check(
    history: &Arc<History>,
    manifest: &Arc<Manifest>,
    mut segments: SegmentReader,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> u64 {
    let directory = history.directory();
    if segments.log_id() != manifest.log {
        let what = format!(
            "the files are those of log {}, the segments those of {}",
            manifest.log,
            segments.log_id()
        );
        findings.corrupt(directory, None, what);
        return 0;
    }
    if segments.cold_end() > manifest.cold_end {
        let what = format!(
            "the log has handed over everything before {}, the files go to {}",
            segments.cold_end(),
            manifest.cold_end
        );
        findings.corrupt(directory, Some(manifest.cold_end), what);
    }
    let from = segments.first();
    segments.seek(from);
    let mut merge = Merge::new(history, manifest, from, manifest.cold_end);
    let mut theirs = Side::new(from);
    let mut ours = Side::new(from);
    let mut comparison = Comparison {
        directory: directory.to_path_buf(),
        findings,
        compared: 0,
    };
    while ours.reached < manifest.cold_end {
        match merge.next() {
            Ok(Some(merged)) => ours.add(merged.batch),
            Ok(None) => break,
            Err(error @ FileError::Io { .. }) => {
                comparison.findings.note(error);
                return comparison.compared;
            }
            // Noted by those who looked at the files alone.
            Err(_) => return comparison.compared,
        }
        while theirs.reached < ours.reached {
            match segments.next(READ_BYTES) {
                Ok(batches) if batches.is_empty() => return comparison.compared,
                Ok(batches) => batches.into_iter().for_each(|batch| theirs.add(batch)),
                Err(error) => return comparison.segments(error),
            }
        }
        if !comparison.compare(&mut ours, &mut theirs) {
            return comparison.compared;
        }
        progress(comparison.compared);
    }
    comparison.compared
}

struct Comparison<'a> {
    directory: std::path::PathBuf,
    findings: &'a mut Findings,
    compared: u64,
}

impl Comparison<'_> {
    /// Segments that cannot be read are for those who verify segments, and one may be gone since the list was made; here
    /// it only ends the comparison.
    fn segments(self, error: LogError) -> u64 {
        let what = format!(
            "could not be compared with the segments further: {}",
            modelog_engine::chain(&error)
        );
        self.findings.notice(&self.directory, what);
        self.compared
    }

    /// Compares what both sides have; after a difference there is no point in going on.
    fn compare(&mut self, ours: &mut Side, theirs: &mut Side) -> bool {
        for kind in Kind::ALL {
            let number = usize::from(kind.number());
            let (mine, other) = (&mut ours.rows[number], &mut theirs.rows[number]);
            while let (Some(a), Some(b)) = (mine.front(), other.front()) {
                let rows = a.num_rows().min(b.num_rows());
                if let Some((offset, column)) = difference(a, b, rows) {
                    let what = format!(
                        "the {kind} at {offset} differs in `{column}` from the one in the log's segment"
                    );
                    self.findings.corrupt(&self.directory, Some(offset), what);
                    return false;
                }
                self.compared += rows as u64;
                drop_rows(mine, rows);
                drop_rows(other, rows);
            }
        }
        let reached = ours.reached.min(theirs.reached);
        if let Some(row) = leftover(ours, theirs, reached) {
            let what = "the event is not of the same kind as in the log's segment".to_owned();
            self.findings.corrupt(&self.directory, Some(row), what);
            return false;
        }
        self.compare_names(ours, theirs) && self.compare_origins(ours, theirs)
    }

    fn compare_names(&mut self, ours: &mut Side, theirs: &mut Side) -> bool {
        while let (Some((first, a)), Some((_, b))) = (ours.names.front(), theirs.names.front()) {
            if a != b {
                let what = format!(
                    "the {} {:?} is named where the log's segment names the {} {:?}",
                    a.kind, a.name, b.kind, b.name
                );
                self.findings.corrupt(&self.directory, Some(*first), what);
                return false;
            }
            ours.names.pop_front();
            theirs.names.pop_front();
        }
        let alone = alone(&ours.names, &theirs.names, ours.reached);
        self.none_alone(alone, "names")
    }

    fn compare_origins(&mut self, ours: &mut Side, theirs: &mut Side) -> bool {
        while let (Some(a), Some(b)) = (ours.origins.front(), theirs.origins.front()) {
            let a = uncut(a);
            if a != uncut(b) {
                let what = "an origin differs from that in the log's segment".to_owned();
                self.findings.corrupt(&self.directory, Some(a.0), what);
                return false;
            }
            ours.origins.pop_front();
            theirs.origins.pop_front();
        }
        let alone = alone(&ours.origins, &theirs.origins, ours.reached);
        self.none_alone(alone, "origins")
    }

    fn none_alone(&mut self, alone: Option<Offset>, what: &str) -> bool {
        if let Some(offset) = alone {
            let what = format!("files and segments do not have the same {what}");
            self.findings.corrupt(&self.directory, Some(offset), what);
        }
        alone.is_none()
    }
}

/// What one side alone has, after what both have was taken. Segments were read at least as far as the files.
fn alone<T>(
    ours: &VecDeque<(Offset, T)>,
    theirs: &VecDeque<(Offset, T)>,
    reached: Offset,
) -> Option<Offset> {
    let (ours, theirs) = (ours.front(), theirs.front());
    let (first, _) = ours.or_else(|| theirs.filter(|(first, _)| *first < reached))?;
    Some(*first)
}

/// The first row that one side has before an offset both have reached, and the other has not.
fn leftover(ours: &Side, theirs: &Side, reached: Offset) -> Option<Offset> {
    let waiting = ours.rows.iter().chain(&theirs.rows);
    waiting
        .filter_map(|queue| queue.front())
        .map(|rows| offset(rows, 0))
        .filter(|offset| *offset < reached)
        .min()
}

fn offset(rows: &RecordBatch, row: usize) -> Offset {
    Offset(rows.column(0).as_primitive::<Int64Type>().value(row) as u64)
}

/// Where the first rows of two batches of one kind differ first.
fn difference<'b>(a: &'b RecordBatch, b: &RecordBatch, rows: usize) -> Option<(Offset, &'b str)> {
    let mut first: Option<(usize, usize)> = None;
    for (number, (a, b)) in a.columns().iter().zip(b.columns()).enumerate() {
        if a.slice(0, rows) == b.slice(0, rows) {
            continue;
        }
        let row = (0..rows).find(|row| a.slice(*row, 1) != b.slice(*row, 1));
        let row = row.unwrap_or(0);
        if first.is_none_or(|(known, _)| row < known) {
            first = Some((row, number));
        }
    }
    let (row, number) = first?;
    let schema = a.schema_ref();
    Some((offset(a, row), schema.field(number).name()))
}

fn drop_rows(queue: &mut VecDeque<RecordBatch>, rows: usize) {
    let Some(front) = queue.pop_front() else {
        return;
    };
    if rows < front.num_rows() {
        queue.push_front(front.slice(rows, front.num_rows() - rows));
    }
}
