//! Folding segments into what admission knows.
//!
//! Of most frames an opening needs only what stands ahead of the rows: origins and names. Rows matter where they create
//! something, or have identities that the window still holds at the end. The rest is passed over, at the speed at which
//! a disk is read rather than at that at which rows are unpacked:
//!
//! ```text
//! segment ─▶ frame ─▶ prefix ──────────────────────────────▶ names, sources, time
//!                  └▶ head of the rows ─▶ needed? ─▶ rows ─▶ catalog, window
//! ```
//!
//! How far back the window reaches nobody knows before the rows were read, since not every row has an identity. So the
//! fold begins with the newest rows, as many as the window has room for; where they do not fill it, `Opening` reads
//! again, from further back.
//!
//! # Invariants
//! Y1. A state is the one that all rows give: rows that are passed over have no identity, or one that the window would
//!     have let go again.
//! Y2. Nothing is believed before its checksum was looked at, be it by who found out how far the segment is sound.

use super::Segment;
use super::bytes::Malformed;
use super::catalog::created_by;
use super::dedupe::Window;
use super::frame::{Body, Header, Outline, decode_body};
use super::segment::{Frame, FrameScan, SEGMENT_HEADER_BYTES};
use super::state::State;
use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::event::schema;
use crate::storage::StorageFile;
use crate::{LogId, Offset};

/// What a fold is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Everything,
    /// What the window holds, and nothing else.
    Identities,
}

/// A fold under way.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) state: State,
    aim: Aim,
    /// Identities of batches that end before are not looked at.
    remember_from: Offset,
    /// Where the fold began, and what the window held there, if the fold may leave some identities out.
    before: Option<(Offset, Window)>,
    /// Identities were left out, perhaps.
    left_out: bool,
    /// Frames were taken in that the state it went on from may not have known.
    pub(super) has_news: bool,
}

impl Fold {
    /// Goes on from a state, in a log that ends at `tail`.
    pub(super) fn new(mut state: State, tail: Offset) -> Self {
        let newest = Offset(tail.0.saturating_sub(state.window.capacity() as u64));
        let before = (state.next < newest).then(|| {
            let empty = Window::new(state.window.capacity());
            (state.next, std::mem::replace(&mut state.window, empty))
        });
        Self {
            state,
            aim: Aim::Everything,
            remember_from: newest,
            before,
            left_out: false,
            has_news: false,
        }
    }

    /// Looks for identities alone, from `from` on, behind what a window holds.
    fn of_identities(from: Offset, window: Window) -> Self {
        let mut state = State::new(window.capacity());
        state.next = from;
        state.window = window;
        Self {
            state,
            aim: Aim::Identities,
            remember_from: from,
            before: None,
            left_out: false,
            has_news: false,
        }
    }

    /// The state at the end of the log. Where the newest rows did not fill the window, `read` folds all that there is
    /// from the state's offset on, once or several times.
    pub(super) fn finish(
        self,
        mut read: impl FnMut(&mut Self) -> Result<(), LogError>,
    ) -> Result<State, LogError> {
        let mut state = self.state;
        let Some((start, mut before)) = self.before.filter(|_| !state.window.is_full()) else {
            return Ok(state);
        };
        if !self.left_out {
            before.extend(&state.window);
            state.window = before;
            return Ok(state);
        }
        let mut rows = before.capacity() as u64;
        loop {
            rows = rows.saturating_mul(4);
            let from = start.max(Offset(state.next.0.saturating_sub(rows)));
            let whole = from == start;
            let empty = Window::new(before.capacity());
            let window = if whole {
                std::mem::replace(&mut before, empty)
            } else {
                empty
            };
            let mut fold = Self::of_identities(from, window);
            read(&mut fold)?;
            if whole || fold.state.window.is_full() {
                state.window = fold.state.window;
                return Ok(state);
            }
        }
    }

    /// Takes in a batch. Answers `false` if its names contradict those known, which damage alone can cause.
    pub(super) fn batch(&mut self, batch: &LoggedBatch) -> bool {
        if self.aim == Aim::Everything && !self.state.fold_rest(batch) {
            return false;
        }
        if batch.end() > self.remember_from {
            self.state.remember(batch);
        } else {
            let mut tables = batch.tables.iter();
            self.left_out |= tables.any(|table| table.columns()[schema::ID].is_some());
        }
        self.state.next = batch.end();
        self.has_news = true;
        true
    }

    /// Takes in what a segment holds beyond the state, calls without events and the sources it began with included. Of a
    /// segment that was `scanned` the checksums were looked at.
    pub(super) fn segment(
        &mut self,
        log: LogId,
        segment: &Segment,
        file: &dyn StorageFile,
        scanned: bool,
    ) -> Result<(), LogError> {
        let (start, end) = (SEGMENT_HEADER_BYTES as u64, segment.end().1);
        let mut scan = FrameScan::new(file, &segment.path, (log, segment.number), start, end);
        while scan.position < end {
            let (position, offset) = (scan.position, self.state.next);
            let damaged = |reason: &str| LogError::Corrupt {
                path: segment.path.clone(),
                position,
                offset,
                reason: reason.into(),
            };
            let unreadable =
                |_| damaged("a frame's body cannot be read, though its checksum is right");
            let Some((header, _)) = scan.header()? else {
                return Err(damaged("a frame's header is damaged"));
            };
            if !self.wants(&header) {
                scan.skip(&header);
                continue;
            }
            let ahead = if scanned && header.count > 0 {
                let outline = scan.outline(&header, segment.epoch)?.map_err(unreadable)?;
                self.without_rows(&header, outline)
            } else {
                None
            };
            let body = if let Some(batch) = ahead {
                scan.skip(&header);
                Body::Rows(batch)
            } else {
                let frame = scan
                    .next()?
                    .ok_or_else(|| damaged("a frame's body is damaged"))?;
                self.read(&frame, segment.epoch).map_err(unreadable)?
            };
            match body {
                Body::Rows(batch) if !self.batch(&batch) => {
                    return Err(damaged("its names contradict those given before"));
                }
                Body::State(sources) => self.state.fold_sources(segment.first_offset, sources),
                Body::Rows(_) | Body::Closing => {}
            }
        }
        Ok(())
    }

    /// Whether a frame moves the fold: with events that it does not have, or without any, which sources may have sent.
    fn wants(&self, header: &Header) -> bool {
        let next = self.state.next;
        match header.count {
            0 => self.aim == Aim::Everything && header.end() >= next && !header.is_closing(),
            _ => header.end() > next,
        }
    }

    /// The body of a frame, without its rows where these are not needed.
    fn read(&mut self, frame: &Frame<'_>, epoch: u32) -> Result<Body, Malformed> {
        if frame.header.count > 0 {
            let outline = Outline::read(&frame.header, epoch, frame.body)?;
            if let Some(batch) = self.without_rows(&frame.header, outline) {
                return Ok(Body::Rows(batch));
            }
        }
        decode_body(&frame.header, epoch, frame.body)
    }

    /// The batch of a frame whose rows are not needed: it has no tables.
    fn without_rows(&mut self, header: &Header, outline: Outline) -> Option<LoggedBatch> {
        let table = outline.table?;
        let creates = created_by(table.kind).is_some() && self.aim == Aim::Everything;
        let has_identities = table.has(schema::ID);
        if creates || has_identities && header.end() > self.remember_from {
            return None;
        }
        self.left_out |= has_identities;
        Some(outline.batch)
    }
}
