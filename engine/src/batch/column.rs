//! Growing columns: plain vectors that become Arrow arrays without copying.
//!
//! A column exists from the first value it is given, and is padded with nulls only when the next value comes or the
//! batch is finished: fields that nobody uses cost nothing.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};

use crate::Timestamp;
use crate::event::schema::FieldType;

/// A column being filled.
#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Bytes {
        data: Vec<u8>,
        ends: Vec<i32>,
        binary: bool,
    },
    Int {
        values: Vec<i64>,
        time: bool,
    },
    Float(Vec<f64>),
    Bool(BooleanBufferBuilder),
}

impl Column {
    /// A column of `rows` nulls, with room for a few more.
    pub(super) fn new(ty: FieldType, rows: usize) -> Self {
        let room = (rows + 1).next_power_of_two();
        let values = match ty {
            FieldType::Int | FieldType::Ord => Values::Int {
                values: Vec::with_capacity(room),
                time: false,
            },
            FieldType::Time => Values::Int {
                values: Vec::with_capacity(room),
                time: true,
            },
            FieldType::Float => Values::Float(Vec::with_capacity(room)),
            FieldType::Bool => Values::Bool(BooleanBufferBuilder::new(room)),
            _ => {
                let mut ends = Vec::with_capacity(room + 1);
                ends.push(0);
                Values::Bytes {
                    data: Vec::new(),
                    ends,
                    binary: ty == FieldType::Bytes,
                }
            }
        };
        let mut column = Self {
            values,
            valid: NullBufferBuilder::new(room),
        };
        column.pad(rows);
        column
    }

    /// An empty column of the same type, of `rows` nulls.
    pub(super) fn like(other: &Self, rows: usize) -> Self {
        let ty = match &other.values {
            Values::Bytes { binary: true, .. } => FieldType::Bytes,
            Values::Bytes { binary: false, .. } => FieldType::Text,
            Values::Int { time: true, .. } => FieldType::Time,
            Values::Int { time: false, .. } => FieldType::Int,
            Values::Float(_) => FieldType::Float,
            Values::Bool(_) => FieldType::Bool,
        };
        Self::new(ty, rows)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Appends nulls until there are `rows` rows.
    #[inline]
    pub(super) fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len());
        if missing > 0 {
            self.append_nulls(missing, rows);
        }
    }

    fn append_nulls(&mut self, missing: usize, rows: usize) {
        self.valid.append_n_nulls(missing);
        match &mut self.values {
            Values::Bytes { data, ends, .. } => {
                ends.resize(ends.len() + missing, data.len() as i32)
            }
            Values::Int { values, .. } => values.resize(rows, 0),
            Values::Float(values) => values.resize(rows, 0.0),
            Values::Bool(values) => values.append_n(missing, false),
        }
    }

    #[inline]
    pub(super) fn push_bytes(&mut self, value: &[u8]) {
        let Values::Bytes { data, ends, .. } = &mut self.values else {
            unreachable!("the column holds bytes")
        };
        data.extend_from_slice(value);
        ends.push(data.len() as i32);
        self.valid.append_non_null();
    }

    #[inline]
    pub(super) fn push_int(&mut self, value: i64) {
        let Values::Int { values, .. } = &mut self.values else {
            unreachable!("the column holds integers")
        };
        values.push(value);
        self.valid.append_non_null();
    }

    #[inline]
    pub(super) fn push_float(&mut self, value: f64) {
        let Values::Float(values) = &mut self.values else {
            unreachable!("the column holds numbers")
        };
        values.push(value);
        self.valid.append_non_null();
    }

    pub(super) fn push_bool(&mut self, value: bool) {
        let Values::Bool(values) = &mut self.values else {
            unreachable!("the column holds booleans")
        };
        values.append(value);
        self.valid.append_non_null();
    }

    /// Forgets every row from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.len() <= rows {
            return;
        }
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Bytes { data, ends, .. } => {
                ends.truncate(rows + 1);
                data.truncate(ends[rows] as usize);
            }
            Values::Int { values, .. } => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Bool(values) => values.truncate(rows),
        }
    }

    /// Appends the rows of another column of the same field.
    pub(super) fn extend(&mut self, other: &Self) {
        match (&mut self.values, &other.values) {
            (
                Values::Bytes { data, ends, .. },
                Values::Bytes {
                    data: more,
                    ends: more_ends,
                    ..
                },
            ) => {
                let base = data.len() as i32;
                data.extend_from_slice(more);
                ends.extend(more_ends[1..].iter().map(|end| base + end));
            }
            (Values::Int { values, .. }, Values::Int { values: more, .. }) => {
                values.extend_from_slice(more)
            }
            (Values::Float(values), Values::Float(more)) => values.extend_from_slice(more),
            (Values::Bool(values), Values::Bool(more)) => {
                for row in 0..more.len() {
                    values.append(more.get_bit(row));
                }
            }
            _ => unreachable!("a field has one type"),
        }
        for row in 0..other.valid.len() {
            self.valid.append(other.valid.is_valid(row));
        }
    }

    /// A row's text; nothing where it is null.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        if row >= self.len() || !self.valid.is_valid(row) {
            return None;
        }
        match &self.values {
            // Only whole texts are written to such columns.
            Values::Bytes {
                data,
                ends,
                binary: false,
            } => std::str::from_utf8(&data[ends[row] as usize..ends[row + 1] as usize]).ok(),
            _ => None,
        }
    }

    /// A row's time; nothing where it is null.
    pub(super) fn time(&self, row: usize) -> Option<Timestamp> {
        match &self.values {
            Values::Int { values, time: true } if row < self.len() && self.valid.is_valid(row) => {
                Some(Timestamp::from_micros(values[row]))
            }
            _ => None,
        }
    }

    /// The bytes that identify a row's value, or nothing where it is null.
    pub(super) fn value_bytes<'a>(
        &'a self,
        row: usize,
        scratch: &'a mut [u8; 8],
    ) -> Option<&'a [u8]> {
        if row >= self.len() || !self.valid.is_valid(row) {
            return None;
        }
        Some(match &self.values {
            Values::Bytes { data, ends, .. } => &data[ends[row] as usize..ends[row + 1] as usize],
            Values::Int { values, .. } => {
                *scratch = values[row].to_le_bytes();
                scratch
            }
            Values::Float(values) => {
                *scratch = values[row].to_bits().to_le_bytes();
                scratch
            }
            Values::Bool(values) => {
                scratch[0] = values.get_bit(row).into();
                &scratch[..1]
            }
        })
    }

    pub(super) fn into_array(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        let nulls = self.valid.finish();
        match self.values {
            Values::Bytes { data, ends, binary } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                if binary {
                    Arc::new(BinaryArray::new(offsets, Buffer::from_vec(data), nulls))
                } else {
                    Arc::new(StringArray::new(offsets, Buffer::from_vec(data), nulls))
                }
            }
            Values::Int {
                values,
                time: false,
            } => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Int { values, time: true } => {
                let array = TimestampMicrosecondArray::new(ScalarBuffer::from(values), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
            Values::Float(values) => Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
        }
    }
}
