//! Where rows belong: every offset once over all kinds together.
//!
//! Of each kind only `log_offset` and `append_time` are decoded. The kinds are merged by offset, a stretch of
//! consecutive rows at a time; a hole, a repetition or a time that goes back is noted, and the merge goes on.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::{Offset, Timestamp};

use super::{Findings, event_kinds};
use crate::files::{Columns, FileError, History, KindRows, Piece, Place};
use crate::layout::{FileKind, FileName, date_of};
use crate::manifest::{FileEntry, Manifest};
use crate::merge::{names, origins};

/// Progress is told each time so many rows were looked at.
const TOLD_EVERY: u64 = 1 << 18;

/// What files hold that cannot be read, and so is not looked for.
#[derive(Default)]
pub(super) struct Hidden {
    ranges: Vec<Range<u64>>,
    /// Whether names are among it.
    names: bool,
}

impl Hidden {
    pub(super) fn add(&mut self, entry: &FileEntry) {
        self.ranges.push(entry.first.0..entry.end.0);
        self.names |= entry.kind == FileKind::Events(Kind::EntityNamed);
    }
}

/// Checks the places of all rows.
pub(super) fn check(
    history: &Arc<History>,
    manifest: &Arc<Manifest>,
    hidden: Hidden,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FileError> {
    let end = Offset(u64::MAX);
    let rows = |kind, columns| KindRows::new(history, manifest, kind, columns, (Offset::ZERO, end));
    let mut coverage = Coverage {
        lines: event_kinds()
            .filter(|kind| !manifest.files_of(*kind).is_empty())
            .map(|kind| Line::new(rows(kind, Columns::Places)))
            .collect(),
        hidden,
        next: 0,
        time: i64::MIN,
        directory: history.directory().to_path_buf(),
    };
    coverage.run(manifest.cold_end.0, findings, progress)?;
    let hidden = &mut coverage.hidden;
    check_names(
        rows(FileKind::Events(Kind::EntityNamed), Columns::All),
        hidden,
        findings,
    )?;
    check_origins(rows(FileKind::Origin, Columns::All), hidden, findings)
}

/// The rows of a kind, as far as they can be read.
struct Line {
    rows: KindRows,
    piece: Option<Piece>,
    taken: usize,
}

impl Line {
    fn new(rows: KindRows) -> Self {
        Self {
            rows,
            piece: None,
            taken: 0,
        }
    }

    /// The next row's offset; reads on if need be, past what cannot be read.
    fn head(
        &mut self,
        hidden: &mut Hidden,
        findings: &mut Findings,
    ) -> Result<Option<u64>, FileError> {
        if self.piece.is_none() {
            self.piece = readable(&mut self.rows, hidden, findings)?;
            self.taken = 0;
            if let Some(piece) = &self.piece {
                check_day(&self.rows.path(&piece.entry), piece, findings);
            }
        }
        Ok(self.piece.as_ref().map(|piece| piece.offset(self.taken)))
    }

    /// Takes consecutive rows before an offset: how many, and when the first and the last were appended.
    fn take(&mut self, before: u64) -> Option<(u64, i64, i64)> {
        let piece = self.piece.as_ref()?;
        let rows = &piece.offsets[self.taken..];
        let first = *rows.first()? as u64;
        let mut consecutive = 1;
        while consecutive < rows.len()
            && rows[consecutive] as u64 == first + consecutive as u64
            && (rows[consecutive] as u64) < before
        {
            consecutive += 1;
        }
        let last = self.taken + consecutive - 1;
        let times = (piece.times[self.taken], piece.times[last]);
        self.taken += consecutive;
        if self.taken == piece.len() {
            self.piece = None;
        }
        Some((consecutive as u64, times.0, times.1))
    }

    fn path(&self) -> PathBuf {
        let piece = self.piece.as_ref();
        piece.map_or_else(PathBuf::new, |piece| self.rows.path(&piece.entry))
    }
}

/// The next rows of a kind. A file that cannot be read on is noted, and what it holds is not looked for.
fn readable(
    rows: &mut KindRows,
    hidden: &mut Hidden,
    findings: &mut Findings,
) -> Result<Option<Piece>, FileError> {
    loop {
        match rows.next() {
            Ok(piece) => return Ok(piece),
            Err(error) => {
                findings.note(error);
                match rows.skip_file() {
                    Some(entry) => hidden.add(&entry),
                    None => return Ok(None),
                }
            }
        }
    }
}

fn check_day(path: &std::path::Path, piece: &Piece, findings: &mut Findings) {
    let FileEntry {
        path: name,
        min_append_time,
        max_append_time,
        ..
    } = &*piece.entry;
    let date = FileName::parse(std::path::Path::new(name)).map(|name| name.date);
    let (Some(first), Some(last)) = (piece.times.first(), piece.times.last()) else {
        return;
    };
    for time in [*first, *last].map(Timestamp::from_micros) {
        let expected = *min_append_time..=*max_append_time;
        if !expected.contains(&time) || date.is_some_and(|date| date != date_of(time)) {
            let what = format!("events appended at {time} do not belong into this file");
            findings.corrupt(path, Some(Offset(piece.offset(0))), what);
            return;
        }
    }
}

/// Every kind's rows, merged by offset.
struct Coverage {
    lines: Vec<Line>,
    hidden: Hidden,
    /// The offset that should come next.
    next: u64,
    /// When the last event came.
    time: i64,
    directory: PathBuf,
}

impl Coverage {
    fn run(
        &mut self,
        cold_end: u64,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), FileError> {
        let mut told = 0;
        loop {
            if self.next - told >= TOLD_EVERY {
                told = self.next;
                progress(told);
            }
            let mut least: Option<(u64, usize)> = None;
            let mut before = u64::MAX;
            for at in 0..self.lines.len() {
                let Some(head) = self.lines[at].head(&mut self.hidden, findings)? else {
                    continue;
                };
                match least {
                    Some((known, _)) if known <= head => before = before.min(head),
                    _ => {
                        before = least.map_or(before, |(known, _)| before.min(known));
                        least = Some((head, at));
                    }
                }
            }
            let Some((head, at)) = least else { break };
            self.step(head, at, before, cold_end, findings);
        }
        self.hole(self.next, cold_end, findings);
        Ok(())
    }

    fn step(&mut self, head: u64, at: usize, before: u64, cold_end: u64, findings: &mut Findings) {
        let path = self.lines[at].path();
        if head < self.next {
            let what = format!("event {head} is there twice");
            findings.corrupt(&path, Some(Offset(head)), what);
        }
        self.hole(self.next, head.min(cold_end), findings);
        let Some((rows, first, last)) = self.lines[at].take(before) else {
            return;
        };
        if first < self.time {
            let what = format!(
                "event {head} was appended at {}, before events of lower offsets",
                Timestamp::from_micros(first)
            );
            findings.corrupt(&path, Some(Offset(head)), what);
        }
        self.next = self.next.max(head + rows);
        self.time = self.time.max(last);
    }

    /// Notes offsets that no file has, unless one that cannot be read may.
    fn hole(&self, from: u64, to: u64, findings: &mut Findings) {
        let mut at = from;
        while at < to {
            let within = self.hidden.ranges.iter().find(|range| range.contains(&at));
            if let Some(range) = within {
                at = range.end;
                continue;
            }
            let later = self.hidden.ranges.iter().map(|range| range.start);
            let until = later
                .filter(|start| *start > at)
                .min()
                .unwrap_or(to)
                .min(to);
            let what = format!("events {at} to {until} are in no file");
            findings.corrupt(&self.directory, Some(Offset(at)), what);
            at = until;
        }
    }
}

/// Names: sound rows, and numbers without a gap.
fn check_names(
    mut rows: KindRows,
    hidden: &mut Hidden,
    findings: &mut Findings,
) -> Result<(), FileError> {
    let mut counts = [0; EntityKind::ALL.len()];
    while let Some(piece) = readable(&mut rows, hidden, findings)? {
        let path = rows.path(&piece.entry);
        check_day(&path, &piece, findings);
        match names(&piece.rows) {
            Err(reason) => {
                findings.note(Place::start(&path, Offset(piece.offset(0))).corrupt(reason));
            }
            Ok(names) => {
                for (row, named) in names.iter().enumerate() {
                    let count = &mut counts[named.kind as usize];
                    // After a restore that cut a batch its names come again; behind a file that cannot be read numbers
                    // may be missing.
                    if named.id > *count + 1 && !hidden.names {
                        let what = format!(
                            "the {} {:?} has the number {}, {} comes next",
                            named.kind,
                            named.name,
                            named.id,
                            *count + 1
                        );
                        findings.corrupt(&path, Some(Offset(piece.offset(row))), what);
                    }
                    *count = named.id.max(*count);
                }
            }
        }
    }
    Ok(())
}

fn check_origins(
    mut rows: KindRows,
    hidden: &mut Hidden,
    findings: &mut Findings,
) -> Result<(), FileError> {
    while let Some(piece) = readable(&mut rows, hidden, findings)? {
        let path = rows.path(&piece.entry);
        check_day(&path, &piece, findings);
        if let Err(reason) = origins(&piece.rows) {
            findings.note(Place::start(&path, Offset(piece.offset(0))).corrupt(reason));
        }
    }
    Ok(())
}
