//! The fields of a prediction, packed: a few hundred bytes instead of two dozen pointers.
//!
//! ```text
//! field    column u8, length u32, bytes     of those that were given, by column
//! ```
//!
//! Numbers are little-endian. Packed fields never leave the process.

use crate::batch::Table;
use crate::event::schema::{self, FieldType, column};
use crate::event::{Json, Kind};
use crate::read::{Feedback, Prediction};
use crate::{Offset, Timestamp};

/// What every field takes beside its bytes.
const HEAD_BYTES: usize = 5;

/// The fields an event gave, or several merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

/// The columns of a table of predictions that have fields to be packed.
pub(super) fn columns(table: &Table) -> Vec<(usize, FieldType)> {
    schema::values(Kind::PredictionLogged)
        .filter(|(column, _)| table.columns()[*column].is_some())
        .map(|(column, field)| (column, field.ty))
        .collect()
}

impl Packed {
    /// The fields of a row; `columns` are those of its table.
    pub(super) fn of(table: &Table, row: usize, columns: &[(usize, FieldType)]) -> Self {
        let mut bytes = Vec::new();
        for (column, ty) in columns {
            match ty {
                FieldType::Int => {
                    if let Some(value) = table.ints(*column).get(row) {
                        push(&mut bytes, *column, &value.to_le_bytes());
                    }
                }
                FieldType::Float => {
                    if let Some(value) = table.floats(*column).get(row) {
                        // The sign of a zero is not kept: databases do not either.
                        push(&mut bytes, *column, &(value + 0.0).to_le_bytes());
                    }
                }
                _ => {
                    if let Some(text) = table.text(*column).get(row) {
                        push(&mut bytes, *column, text.as_bytes());
                    }
                }
            }
        }
        Self(bytes.into())
    }

    /// Takes over every field that a later event gave.
    pub(super) fn merge(&mut self, later: &Self) {
        let mut merged = Vec::with_capacity(self.0.len() + later.0.len());
        let mut given = later.fields().peekable();
        for (column, value) in self.fields() {
            while let Some((column, value)) = given.next_if(|(given, _)| *given < column) {
                push(&mut merged, column, value);
            }
            match given.next_if(|(given, _)| *given == column) {
                Some((column, value)) => push(&mut merged, column, value),
                None => push(&mut merged, column, value),
            }
        }
        for (column, value) in given {
            push(&mut merged, column, value);
        }
        self.0 = merged.into();
    }

    /// How many bytes they take.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn fields(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(HEAD_BYTES)?;
            let len = u32::from_le_bytes(head[1..].try_into().ok()?) as usize;
            let (value, tail) = tail.split_at_checked(len)?;
            rest = tail;
            Some((usize::from(head[0]), value))
        })
    }

    fn get(&self, column: usize) -> Option<&[u8]> {
        self.fields()
            .find_map(|(found, value)| (found == column).then_some(value))
    }

    fn text(&self, column: usize) -> Option<&str> {
        // It was text when it was packed.
        self.get(column)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    fn float(&self, column: usize) -> Option<f64> {
        let bytes = self.get(column)?.try_into().ok()?;
        Some(f64::from_le_bytes(bytes))
    }

    fn int(&self, column: usize) -> Option<i64> {
        let bytes = self.get(column)?.try_into().ok()?;
        Some(i64::from_le_bytes(bytes))
    }
}

fn push(bytes: &mut Vec<u8>, column: usize, value: &[u8]) {
    // Columns fit a mask of 64 bits, and a value the limit of an event.
    bytes.push(column as u8);
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

const fn of(name: &str) -> usize {
    column(Kind::PredictionLogged, name)
}

/// What counts of a prediction.
impl Packed {
    pub(super) fn predicted_class(&self) -> Option<&str> {
        self.text(const { of("predicted_class") })
    }

    pub(super) fn predicted_value(&self) -> Option<f64> {
        self.float(const { of("predicted_value") })
    }

    pub(super) fn confidence(&self) -> Option<f64> {
        self.float(const { of("confidence") })
    }

    pub(super) fn inference_time_ms(&self) -> Option<f64> {
        self.float(const { of("inference_time_ms") })
    }

    pub(super) fn is_error(&self) -> bool {
        self.get(const { of("error") }).is_some()
    }
}

/// A prediction as it is known, but for its packed fields.
pub(super) struct Known<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) version: &'a str,
    pub(super) time: Timestamp,
    pub(super) offset: Offset,
    pub(super) feedback: Option<Feedback>,
}

impl Packed {
    pub(super) fn view(&self, known: Known<'_>) -> Prediction {
        let text = |column| self.text(column).map(str::to_owned);
        let json = |column| self.text(column).map(Json::trusted);
        Prediction {
            prediction_id: known.id.to_owned(),
            model: known.model.to_owned(),
            version: known.version.to_owned(),
            time: known.time,
            log_offset: known.offset,
            input: json(const { of("input") }),
            output: json(const { of("output") }),
            predicted_class: self.predicted_class().map(str::to_owned),
            predicted_value: self.predicted_value(),
            confidence: self.confidence(),
            inference_time_ms: self.inference_time_ms(),
            timings: json(const { of("timings") }),
            request_id: text(const { of("request_id") }),
            trace_id: text(const { of("trace_id") }),
            session_id: text(const { of("session_id") }),
            user_id: text(const { of("user_id") }),
            environment: text(const { of("environment") }),
            sample_rate: self.float(const { of("sample_rate") }),
            input_tokens: self.int(const { of("input_tokens") }),
            output_tokens: self.int(const { of("output_tokens") }),
            time_to_first_token_ms: self.float(const { of("time_to_first_token_ms") }),
            error: text(const { of("error") }),
            tags: json(const { of("tags") }),
            feedback: known.feedback,
        }
    }
}
