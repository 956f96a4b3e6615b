//! Events of one kind as an Arrow stream: the arrays of the log, filtered, in record batches of a useful size.

use std::collections::VecDeque;

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use modelog_engine::batch::{Filter, LoggedBatch};
use modelog_engine::event::{Kind, schema};
use modelog_engine::{LogError, Offset};

use super::feed::{Feed, Next, STEP_BYTES, Step};
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
pub(super) struct ArrowEvents {
    feed: Feed,
    filter: Filter,
    kind: Kind,
    from: Offset,
    schema: SchemaRef,
    /// Taken, but too few yet.
    collected: Vec<RecordBatch>,
    collected_rows: usize,
    collected_bytes: usize,
    /// To be written, one in each step.
    ready: VecDeque<RecordBatch>,
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowEvents {
    pub(super) fn new(
        feed: Feed,
        filter: Filter,
        kind: Kind,
        from: Offset,
    ) -> Result<Self, ArrowEventsError> {
        let schema = schema::arrow_schema(kind);
        Ok(Self {
            feed,
            filter,
            kind,
            from,
            writer: StreamWriter::try_new(Vec::new(), &schema)?,
            schema,
            collected: Vec::new(),
            collected_rows: 0,
            collected_bytes: 0,
            ready: VecDeque::new(),
        })
    }

    /// The next bytes of the stream; with the last of them it is at its end. Blocks while it reads.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn step(&mut self) -> Result<(Vec<u8>, Step), ArrowEventsError> {
        if self.ready.is_empty() {
            let ended = match self.feed.next()? {
                Next::Batch(batch) => {
                    self.take(&batch)?;
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
        self.collected_rows += rows.num_rows();
        self.collected_bytes += bytes(&rows);
        self.collected.push(rows);
        if self.collected_rows >= BATCH_ROWS || self.collected_bytes >= BATCH_BYTES {
            self.make_ready()?;
        }
        Ok(())
    }

    /// Joins what was collected and cuts it into pieces.
    fn make_ready(&mut self) -> Result<(), ArrowEventsError> {
        let collected = std::mem::take(&mut self.collected);
        let (rows, bytes) = (self.collected_rows, self.collected_bytes);
        (self.collected_rows, self.collected_bytes) = (0, 0);
        if rows == 0 {
            return Ok(());
        }
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

/// About how many bytes the values of a record batch take.
fn bytes(rows: &RecordBatch) -> usize {
    rows.columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_default())
        .sum()
}
