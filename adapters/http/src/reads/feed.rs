//! The log, event by event, for readers over a network.
//!
//! ```text
//! LogReader ─▶ held: a few batches ─▶ cursor: the rows of one, in log order ─▶ filter ─▶ lines
//! ```
//!
//! Nothing is pushed: a step is taken when the client has room, and reads from the log where the last one ended. So
//! nothing is ever dropped for a slow client. What was decoded and not written yet lies on a shelf between two steps
//! ([`Shelf`]), and is decoded again if it is gone: clients that stand still cost next to nothing, however many they are.
//!
//! # Invariants
//! F1. Every event in `[start, until)` that the filter takes is written exactly once, in log order.
//! F2. `position` is the offset after the last event looked at: a reader that starts there misses and repeats nothing.
//! F3. A step reads once, writes about [`STEP_BYTES`] and looks at no more than [`STEP_ROWS`] rows. What is held is one
//!     read: [`READ_BYTES`] of the log and one frame.
//! F4. Between two steps, all readers together hold no more than the shelves have room for ([`SHELF_BYTES`] each); during
//!     steps, one read more for each processor.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow_data::ArrayData;
use modelog_engine::batch::{Filter, LoggedBatch, Row};
use modelog_engine::{LogError, LogReader, Offset};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arrow_events::Arrays;
use super::shelf::{Place, Shelf};

/// How much of the log is read at a time, in bytes.
pub(super) const READ_BYTES: usize = 512 << 10;
/// How much a step writes before it ends, in bytes.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// How many rows a step looks at before it ends, in case the filter takes few.
const STEP_ROWS: usize = 50_000;

/// Room on a shelf, in bytes.
const SHELF_BYTES: usize = 32 << 20;

/// What all readers of the log share.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    turns: Arc<Semaphore>,
    lines: Shelf<Held>,
    pub(super) arrays: Shelf<Arrays>,
}

impl Reading {
    /// With so many steps at a time.
    pub(crate) fn new(turns: usize) -> Self {
        Self::with_shelves(turns, SHELF_BYTES)
    }

    fn with_shelves(turns: usize, bytes: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            lines: Shelf::new(bytes),
            arrays: Shelf::new(bytes),
        }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        let turns = Arc::clone(&self.turns);
        turns
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }
}

/// Batches of a stretch of the log.
#[derive(Debug)]
pub(super) struct Feed {
    reader: LogReader,
    /// The reader as it was before it read what is held.
    behind: LogReader,
    /// Batches that end here or before are not wanted.
    from: Offset,
    /// The offset after the last event wanted; none follows the log for ever.
    until: Option<Offset>,
    held: VecDeque<Arc<LoggedBatch>>,
    /// What the last read took, in bytes.
    bytes: usize,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Batch(Arc<LoggedBatch>),
    /// Everything there is was given.
    Tail,
    /// Everything wanted was given.
    End,
}

impl Feed {
    pub(super) fn new(reader: LogReader, until: Option<Offset>) -> Self {
        Self {
            behind: reader.clone(),
            from: reader.position(),
            reader,
            until,
            held: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The offset after the last event wanted.
    pub(super) fn until(&self) -> Option<Offset> {
        self.until
    }

    /// What the last read took, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The reader as it was before it read what is held.
    pub(super) fn behind(&self) -> &LogReader {
        &self.behind
    }

    /// Goes back to where a reader was, to give what ends behind `from`.
    pub(super) fn again(&mut self, reader: LogReader, from: Offset) {
        self.held.clear();
        self.reader = reader;
        self.from = from;
    }

    /// Hands over what is held.
    pub(super) fn give(&mut self) -> VecDeque<Arc<LoggedBatch>> {
        std::mem::take(&mut self.held)
    }

    /// Takes back what was handed over, nothing having been read meanwhile.
    pub(super) fn take_back(&mut self, held: VecDeque<Arc<LoggedBatch>>) {
        self.held = held;
    }

    /// The next batch, read if none is held; does not wait for events. Its first or last rows may lie outside the
    /// stretch.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub(super) fn next(&mut self) -> Result<Next, LogError> {
        loop {
            while let Some(batch) = self.held.pop_front() {
                if batch.end() > self.from {
                    return Ok(Next::Batch(batch));
                }
            }
            if self
                .until
                .is_some_and(|until| self.reader.position() >= until)
            {
                return Ok(Next::End);
            }
            self.behind = self.reader.clone();
            let read = self.reader.read(READ_BYTES)?;
            if read.is_empty() {
                return Ok(Next::Tail);
            }
            self.hold(read);
        }
    }

    fn hold(&mut self, read: Vec<Arc<LoggedBatch>>) {
        self.bytes = memory(&read);
        self.held = read.into();
    }

    /// Waits until the log has grown beyond what was read. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub(super) async fn wait(&mut self) -> Result<(), LogError> {
        if self.held.is_empty() {
            self.behind = self.reader.clone();
            let read = self.reader.next(READ_BYTES).await?;
            self.hold(read);
        }
        Ok(())
    }
}

/// How many bytes batches take: each allocation once, however many columns are cut from it.
fn memory(batches: &[Arc<LoggedBatch>]) -> usize {
    let mut counted = HashSet::new();
    batches
        .iter()
        .flat_map(|batch| &batch.tables)
        .flat_map(|table| table.columns().iter().flatten())
        .map(|column| uncounted(&column.to_data(), &mut counted))
        .sum()
}

/// How many bytes of an array are not among those counted before.
pub(super) fn uncounted(array: &ArrayData, counted: &mut HashSet<*const u8>) -> usize {
    let nulls = array.nulls().map(|nulls| nulls.buffer());
    let own: usize = array
        .buffers()
        .iter()
        .chain(nulls)
        .filter(|buffer| counted.insert(buffer.data_ptr().as_ptr().cast_const()))
        .map(|buffer| buffer.capacity())
        .sum();
    let children = array.child_data().iter();
    own + children
        .map(|child| uncounted(child, counted))
        .sum::<usize>()
}

/// The rows of a batch in log order, to be left and taken up again.
#[derive(Debug)]
struct Cursor {
    batch: Arc<LoggedBatch>,
    /// For each table, the first row not looked at; past the end where no row is wanted.
    heads: Vec<usize>,
}

impl Cursor {
    fn new(batch: Arc<LoggedBatch>, from: Offset, filter: &Filter) -> Self {
        let skip = from.since(batch.first_offset);
        let heads = batch
            .tables
            .iter()
            .map(|table| match filter.on(table) {
                None => table.rows(),
                // Tables are in log order.
                Some(_) => (0..table.rows())
                    .take_while(|row| u64::from(table.ord(*row)) < skip)
                    .count(),
            })
            .collect();
        Self { batch, heads }
    }

    /// The table and row that come next.
    fn next(&mut self) -> Option<(usize, usize)> {
        let tables = self.batch.tables.iter().zip(&self.heads).enumerate();
        let (at, head) = tables
            .filter(|(_, (table, head))| **head < table.rows())
            .min_by_key(|(_, (table, head))| table.ord(**head))
            .map(|(at, (_, head))| (at, *head))?;
        self.heads[at] += 1;
        Some((at, head))
    }
}

/// Where a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more at once.
    More,
    /// The log has no more at present.
    Tail,
    /// Everything wanted was written.
    End,
}

/// The events a filter takes, written one after another.
#[derive(Debug)]
pub(super) struct Events {
    feed: Feed,
    filter: Filter,
    cursor: Option<Cursor>,
    position: Offset,
    epoch: u32,
    reading: Reading,
    /// Where what is held lies between two steps.
    away: Option<Place<Held>>,
}

/// What is left of a read.
#[derive(Debug)]
struct Held {
    cursor: Option<Cursor>,
    batches: VecDeque<Arc<LoggedBatch>>,
}

impl Events {
    /// `from` is where the feed's reader stands, in `epoch`.
    pub(super) fn new(
        reading: &Reading,
        feed: Feed,
        filter: Filter,
        from: Offset,
        epoch: u32,
    ) -> Self {
        Self {
            feed,
            filter,
            cursor: None,
            position: from,
            epoch,
            reading: reading.clone(),
            away: None,
        }
    }

    /// Puts what is held where it can be let go of.
    fn put_away(&mut self) {
        let held = Held {
            cursor: self.cursor.take(),
            batches: self.feed.give(),
        };
        if held.cursor.is_some() || !held.batches.is_empty() {
            self.away = Some(self.reading.lines.put(held, self.feed.bytes()));
        }
    }

    /// Takes it back, or goes back to read it again.
    fn take_up(&mut self) {
        let Some(place) = self.away.take() else {
            return;
        };
        match place.take() {
            Some(held) => {
                self.cursor = held.cursor;
                self.feed.take_back(held.batches);
            }
            None => self.feed.again(self.feed.behind().clone(), self.position),
        }
    }

    /// The offset after the last event looked at, and its epoch.
    pub(super) fn position(&self) -> (Offset, u32) {
        (self.position, self.epoch)
    }

    /// Waits until there is more than was looked at. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub(super) async fn wait(&mut self) -> Result<(), LogError> {
        match self.away {
            Some(_) => Ok(()),
            None => self.feed.wait().await,
        }
    }

    /// Takes a step on a thread that may block.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(super) async fn step_elsewhere(
        mut self,
        write: impl Fn(Row<'_>, u32, &mut Vec<u8>) + Send + 'static,
    ) -> Result<(Self, Vec<u8>, Step), LogError> {
        let turn = self.reading.turn().await;
        elsewhere(move || {
            let mut out = Vec::new();
            self.take_up();
            let step = self.step(&mut out, &write)?;
            self.put_away();
            drop(turn);
            // A client that does not take it keeps it for long.
            out.shrink_to_fit();
            Ok((self, out, step))
        })
        .await?
    }

    /// Writes the next events. Blocks while it reads.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    fn step(
        &mut self,
        out: &mut Vec<u8>,
        write: &dyn Fn(Row<'_>, u32, &mut Vec<u8>),
    ) -> Result<Step, LogError> {
        let mut looked = 0;
        loop {
            let Some(cursor) = &mut self.cursor else {
                match self.feed.next()? {
                    Next::Batch(batch) => {
                        self.epoch = batch.epoch;
                        self.cursor = Some(Cursor::new(batch, self.position, &self.filter));
                        continue;
                    }
                    Next::Tail => return Ok(Step::Tail),
                    Next::End => return Ok(Step::End),
                }
            };
            let batch = Arc::clone(&cursor.batch);
            let until = self.feed.until.unwrap_or(Offset(u64::MAX));
            let filters: Vec<_> = batch
                .tables
                .iter()
                .map(|table| self.filter.on(table))
                .collect();
            let ended = loop {
                if out.len() >= STEP_BYTES || looked >= STEP_ROWS {
                    break false;
                }
                let Some((table, row)) = cursor.next() else {
                    break true;
                };
                let row = batch.row(&batch.tables[table], row);
                if row.offset() >= until {
                    break true;
                }
                self.position = row.offset().advance(1);
                looked += 1;
                if filters[table].is_some_and(|filter| filter.takes(row)) {
                    write(row, batch.epoch, out);
                }
            };
            if !ended {
                return Ok(Step::More);
            }
            self.position = batch.end().min(until);
            self.cursor = None;
            // One read a step: a filter that takes nothing must not keep a thread for the whole log.
            if self.feed.held.is_empty() {
                return Ok(Step::More);
            }
        }
    }
}

/// Runs what blocks on a thread that may; a panic there goes on here.
///
/// # Errors
/// [`LogError::Closed`] if the runtime ends meanwhile.
pub(super) async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(LogError::Closed),
        },
    }
}

#[cfg(test)]
mod tests;
