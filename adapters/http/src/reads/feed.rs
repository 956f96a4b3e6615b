//! The log, event by event, for readers over a network.
//!
//! ```text
//! LogReader ─▶ held: a few batches ─▶ cursor: the rows of one, in log order ─▶ filter ─▶ lines
//! ```
//!
//! Nothing is pushed: a step is taken when the client has room, and reads from the log where the last one ended. So a
//! slow client costs the memory of one read and nothing else, and nothing is ever dropped for it.
//!
//! # Invariants
//! F1. Every event in `[start, until)` that the filter takes is written exactly once, in log order.
//! F2. `position` is the offset after the last event looked at: a reader that starts there misses and repeats nothing.
//! F3. A step reads once, writes about [`STEP_BYTES`] and looks at no more than [`STEP_ROWS`] rows. What is held is one
//!     read: [`READ_BYTES`] of the log and one frame.

use std::collections::VecDeque;
use std::sync::Arc;

use modelog_engine::batch::{Filter, LoggedBatch, Row};
use modelog_engine::{LogError, LogReader, Offset};

/// How much of the log is read at a time, in bytes.
pub(super) const READ_BYTES: usize = 512 << 10;
/// How much a step writes before it ends, in bytes.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// How many rows a step looks at before it ends, in case the filter takes few.
const STEP_ROWS: usize = 50_000;

/// Batches of a stretch of the log.
#[derive(Debug)]
pub(super) struct Feed {
    reader: LogReader,
    /// The offset after the last event wanted; none follows the log for ever.
    until: Option<Offset>,
    held: VecDeque<Arc<LoggedBatch>>,
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
            reader,
            until,
            held: VecDeque::new(),
        }
    }

    /// The offset after the last event wanted.
    pub(super) fn until(&self) -> Option<Offset> {
        self.until
    }

    /// The next batch, read if none is held; does not wait for events. Its first or last rows may lie outside the
    /// stretch.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub(super) fn next(&mut self) -> Result<Next, LogError> {
        if let Some(batch) = self.held.pop_front() {
            return Ok(Next::Batch(batch));
        }
        if self
            .until
            .is_some_and(|until| self.reader.position() >= until)
        {
            return Ok(Next::End);
        }
        self.held.extend(self.reader.read(READ_BYTES)?);
        Ok(self.held.pop_front().map_or(Next::Tail, Next::Batch))
    }

    /// Waits until the log has grown beyond what was read. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub(super) async fn wait(&mut self) -> Result<(), LogError> {
        if self.held.is_empty() {
            self.held.extend(self.reader.next(READ_BYTES).await?);
        }
        Ok(())
    }
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
}

impl Events {
    /// `from` is where the feed's reader stands, in `epoch`.
    pub(super) fn new(feed: Feed, filter: Filter, from: Offset, epoch: u32) -> Self {
        Self {
            feed,
            filter,
            cursor: None,
            position: from,
            epoch,
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
        match self.cursor {
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
        elsewhere(move || {
            let mut out = Vec::new();
            let step = self.step(&mut out, &write)?;
            Ok((self, out, step))
        })
        .await?
    }

    /// Writes the next events. Blocks while it reads.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub(super) fn step(
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
