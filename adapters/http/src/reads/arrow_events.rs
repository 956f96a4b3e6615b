//! Events of one kind as an Arrow stream: the arrays of the log, filtered, in record batches of a useful size.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use modelog_engine::batch::{Filter, LoggedBatch};
use modelog_engine::event::{Kind, schema};
use modelog_engine::{LogError, LogReader, Offset};

use super::feed::{Feed, Next, Reading, STEP_BYTES, Step, elsewhere, uncounted};
use super::shelf::Place;
use crate::problem::Problem;

/// Rows of a record batch at most, and rows collected from small frames before one is made.
const BATCH_ROWS: usize = 8192;
/// About how large a record batch becomes, in bytes.
const BATCH_BYTES: usize = 8 * STEP_BYTES;

/// Why a stream of events ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrowEventsError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("events could not be written as Arrow")]
    Arrow(#[from] ArrowError),
}

impl From<ArrowEventsError> for Problem {
    fn from(error: ArrowEventsError) -> Self {
        match error {
            ArrowEventsError::Log(error) => Self::from(&error),
            ArrowEventsError::Arrow(error) => Self::internal(error),
        }
    }
}

/// Events of a kind that a filter takes, as the bytes of an Arrow stream.
///
/// Between two steps, what is ready lies on a shelf with what the feed holds; if it is gone it is read again. What was
/// collected stays, so that every step gets on. When a client is waited for there is none of it: something is ready, or
/// was written.
pub(super) struct ArrowEvents {
    feed: Feed,
    filter: Filter,
    kind: Kind,
    /// The offset after the last row written.
    from: Offset,
    /// The offset after the last batch taken.
    taken: Offset,
    /// Reads everything from `from` on.
    behind: LogReader,
    schema: SchemaRef,
    /// Taken, but too few yet.
    collected: Vec<RecordBatch>,
    collected_rows: usize,
    collected_bytes: usize,
    /// To be written, one in each step.
    ready: VecDeque<RecordBatch>,
    writer: StreamWriter<Vec<u8>>,
    reading: Reading,
    /// Where the rest lies between two steps, and whether rows that are ready are among it.
    away: Option<(Place<Arrays>, bool)>,
}

/// What is left of a read, and of what was joined.
#[derive(Debug)]
pub(super) struct Arrays {
    held: VecDeque<Arc<LoggedBatch>>,
    ready: VecDeque<RecordBatch>,
}

impl ArrowEvents {
    pub(super) fn new(
        reading: &Reading,
        feed: Feed,
        filter: Filter,
        kind: Kind,
        from: Offset,
    ) -> Result<Self, ArrowEventsError> {
        let schema = schema::arrow_schema(kind);
        Ok(Self {
            behind: feed.behind().clone(),
            feed,
            filter,
            kind,
            from,
            taken: from,
            writer: StreamWriter::try_new(Vec::new(), &schema)?,
            schema,
            collected: Vec::new(),
            collected_rows: 0,
            collected_bytes: 0,
            ready: VecDeque::new(),
            reading: reading.clone(),
            away: None,
        })
    }

    /// Takes a step on a thread that may block.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(super) async fn step_elsewhere(
        mut self,
    ) -> Result<(Self, Vec<u8>, Step), ArrowEventsError> {
        let turn = self.reading.turn().await;
        elsewhere(move || {
            self.take_up();
            let (mut out, step) = self.step()?;
            self.put_away();
            drop(turn);
            out.shrink_to_fit();
            Ok((self, out, step))
        })
        .await?
    }

    /// Puts what is held where it can be let go of.
    fn put_away(&mut self) {
        let held = self.feed.give();
        let ready = std::mem::take(&mut self.ready);
        if held.is_empty() && ready.is_empty() {
            return;
        }
        let mut bytes = memory(&ready);
        if !held.is_empty() {
            bytes += self.feed.bytes();
        }
        let rows_are_ready = !ready.is_empty();
        let place = self.reading.arrays.put(Arrays { held, ready }, bytes);
        self.away = Some((place, rows_are_ready));
    }

    /// Takes it back, or goes back to read it again.
    fn take_up(&mut self) {
        let Some((place, rows_were_ready)) = self.away.take() else {
            return;
        };
        match place.take() {
            Some(arrays) => {
                self.feed.take_back(arrays.held);
                self.ready = arrays.ready;
            }
            None if rows_were_ready => self.feed.again(self.behind.clone(), self.from),
            None => self.feed.again(self.feed.behind().clone(), self.taken),
        }
    }

    /// The next bytes of the stream; with the last of them it is at its end. Blocks while it reads.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn step(&mut self) -> Result<(Vec<u8>, Step), ArrowEventsError> {
        if self.ready.is_empty() {
            let ended = match self.feed.next()? {
                Next::Batch(batch) => {
                    if self.collected.is_empty() {
                        self.behind = self.feed.behind().clone();
                    }
                    self.take(&batch)?;
                    self.taken = batch.end();
                    false
                }
                // What is asked for ends at the tail at the latest.
                Next::Tail | Next::End => {
                    self.make_ready()?;
                    true
                }
            };
            if ended && self.ready.is_empty() {
                self.writer.finish()?;
                return Ok((std::mem::take(self.writer.get_mut()), Step::End));
            }
        }
        if let Some(batch) = self.ready.pop_front() {
            self.writer.write(&batch)?;
            self.from = end(&batch).unwrap_or(self.from);
        }
        Ok((std::mem::take(self.writer.get_mut()), Step::More))
    }

    /// Takes the wanted rows of a batch.
    fn take(&mut self, batch: &LoggedBatch) -> Result<(), ArrowEventsError> {
        let Some(table) = batch.table(self.kind) else {
            return Ok(());
        };
        let Some(filter) = self.filter.on(table) else {
            return Ok(());
        };
        let range = self.from..self.feed.until().unwrap_or(Offset(u64::MAX));
        let wanted: BooleanArray = batch
            .rows_of(table)
            .map(|row| Some(range.contains(&row.offset()) && filter.takes(row)))
            .collect();
        if wanted.true_count() == 0 {
            return Ok(());
        }
        let mut rows = table.to_record_batch(batch.first_offset, batch.append_time);
        if wanted.true_count() < wanted.len() {
            rows = arrow_select::filter::filter_record_batch(&rows, &wanted)?;
        }
        // What is collected keeps all that it was cut from: other kinds of the frame, too.
        self.collected_bytes += memory([&rows]);
        self.collected_rows += rows.num_rows();
        self.collected.push(rows);
        if self.collected_rows >= BATCH_ROWS || self.collected_bytes >= BATCH_BYTES {
            self.make_ready()?;
        }
        Ok(())
    }

    /// Joins what was collected and cuts it into pieces.
    fn make_ready(&mut self) -> Result<(), ArrowEventsError> {
        let collected = std::mem::take(&mut self.collected);
        let rows = std::mem::take(&mut self.collected_rows);
        self.collected_bytes = 0;
        if rows == 0 {
            return Ok(());
        }
        let bytes: usize = collected.iter().map(bytes).sum();
        let joined = arrow_select::concat::concat_batches(&self.schema, &collected)?;
        let pieces = bytes.div_ceil(BATCH_BYTES).clamp(1, rows);
        let length = rows.div_ceil(pieces).min(BATCH_ROWS);
        self.ready.extend(
            (0..rows)
                .step_by(length)
                .map(|start| joined.slice(start, length.min(rows - start))),
        );
        Ok(())
    }
}

/// The offset after the last row.
fn end(rows: &RecordBatch) -> Option<Offset> {
    let offsets = rows.column(0).as_primitive_opt::<Int64Type>()?;
    let last = offsets.values().last()?;
    Some(Offset(u64::try_from(*last).ok()?).advance(1))
}

/// How many bytes are kept by keeping record batches.
fn memory<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> usize {
    let mut counted = HashSet::new();
    batches
        .into_iter()
        .flat_map(RecordBatch::columns)
        .map(|column| uncounted(&column.to_data(), &mut counted))
        .sum()
}

/// About how many bytes the values of a record batch take.
fn bytes(rows: &RecordBatch) -> usize {
    rows.columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_default())
        .sum()
}
