//! Rows of a log's history as events of another log.
//!
//! Every field is kept byte for byte, and every value is checked as a producer's would be: a file may have been written
//! by anybody. Two fields are filled in where the source left them out, because what they stood for there would change:
//!
//! - `prediction_id` of a prediction without one and without an `id`: it was the offset in the source, and feedback
//!   names it so.
//! - `id`: without one, nothing tells the same row of the same log from another event when it comes again by another
//!   way. It is made of the source's UUID and the offset there, and so is the same whatever file the row comes from.
//!   With the field above it changes no identity that another rule derives from `id`.

use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use modelog_engine::batch::{EventBatchBuilder, RowWriter};
use modelog_engine::event::schema::{self, FieldType, Presence};
use modelog_engine::event::{FieldError, Kind, json};
use modelog_engine::{LogId, Timestamp};

const PREDICTION_ID: usize = schema::column(Kind::PredictionLogged, "prediction_id");
/// Columns of [`schema::arrow_schema`] before those of the fields.
const OF_THE_LOG: usize = 2;

/// Copies rows of a log's history into batches.
#[derive(Debug)]
pub(super) struct Copier {
    log: LogId,
    text: String,
}

impl Copier {
    /// For rows of this log.
    pub(super) fn new(log: LogId) -> Self {
        Self {
            log,
            text: String::new(),
        }
    }

    /// Adds a row, which has the columns of its kind's [`schema::arrow_schema`].
    ///
    /// # Errors
    /// The first field whose value is refused; the batch is as before.
    pub(super) fn copy(
        &mut self,
        kind: Kind,
        rows: &RecordBatch,
        row: usize,
        batch: &mut EventBatchBuilder,
    ) -> Result<(), FieldError> {
        let offset = offset(rows, row);
        let mut event = batch.row(kind);
        for (at, array) in rows.columns().iter().enumerate().skip(OF_THE_LOG) {
            // All columns but that of the place in a batch, which no file has.
            let column = at - OF_THE_LOG + 1;
            set(&mut event, column, &**array, row)?;
        }
        if !event.is_stated(schema::ID) {
            if kind == Kind::PredictionLogged && !event.is_stated(PREDICTION_ID) {
                self.write(format_args!("{offset}"));
                event.text(PREDICTION_ID, &self.text)?;
            }
            let log = self.log;
            self.write(format_args!("modelog:{log}:{offset}"));
            event.text(schema::ID, &self.text)?;
        }
        event.finish()
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.clear();
        self.text.write_fmt(text).expect("a string takes all text");
    }
}

/// The offset of a row in its log.
pub(super) fn offset(rows: &RecordBatch, row: usize) -> u64 {
    rows.column(0).as_primitive::<Int64Type>().value(row) as u64
}

/// When its log took a row.
pub(super) fn append_time(rows: &RecordBatch, row: usize) -> Timestamp {
    let times = rows.column(1).as_primitive::<TimestampMicrosecondType>();
    Timestamp::from_micros(times.value(row))
}

/// Gives a field its value; a null is left out, unless it must be said.
fn set(
    event: &mut RowWriter<'_>,
    column: usize,
    array: &dyn Array,
    row: usize,
) -> Result<(), FieldError> {
    let field = schema::field(event.kind(), column);
    if array.is_null(row) {
        return match field.presence {
            Presence::Stated => event.null(column),
            Presence::Optional | Presence::Required => Ok(()),
        };
    }
    match field.ty {
        FieldType::Text | FieldType::Name(_) | FieldType::Word(_) | FieldType::Entity => {
            event.text(column, array.as_string::<i32>().value(row))
        }
        FieldType::Json | FieldType::JsonObject => {
            let text = array.as_string::<i32>().value(row);
            json::check(text).map_err(|problem| event.error(column, problem))?;
            event.checked_json(column, text)
        }
        FieldType::Int => event.int(column, array.as_primitive::<Int64Type>().value(row)),
        FieldType::Float => event.float(column, array.as_primitive::<Float64Type>().value(row)),
        FieldType::Bool => event.boolean(column, array.as_boolean().value(row)),
        FieldType::Bytes => event.bytes(column, array.as_binary::<i32>().value(row)),
        FieldType::Time => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            event.time(Timestamp::from_micros(micros))
        }
        FieldType::Ord => Ok(()),
    }
}
