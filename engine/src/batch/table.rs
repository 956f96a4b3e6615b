//! The rows of one kind as Arrow arrays.
//!
//! Only columns in which some row has a value exist; everything else is null in every row. That keeps frames small and
//! spares readers arrays of nothing: accessors such as [`Table::text`] answer null for what is not there.

use std::sync::Arc;

use super::identity::{Identity, RowBytes, row_identity};
use crate::event::schema::{self, FieldType, Presence};
use crate::event::{FieldError, FieldProblem, Kind, check_text, check_together, json};
use crate::{Offset, Timestamp};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow_schema::DataType;

/// Rows of one kind, in order.
#[derive(Clone, Debug)]
pub struct Table {
    kind: Kind,
    rows: usize,
    /// By column number; `ord` is absent where the rows are all there is in the batch.
    columns: Vec<Option<ArrayRef>>,
}

/// Why arrays are no table of a kind.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// A value that its field cannot take.
    #[error("row {row}: {error}")]
    Row { row: usize, error: FieldError },
    /// A column that is not of its field's type.
    #[error("column `{column}` has the type {found}, {expected} is needed")]
    ColumnType {
        column: &'static str,
        found: DataType,
        expected: DataType,
    },
    /// Columns of different lengths.
    #[error("column `{column}` has {found} rows, the batch has {expected}")]
    Length {
        column: &'static str,
        found: usize,
        expected: usize,
    },
}

impl Table {
    pub(super) fn from_columns(
        kind: Kind,
        rows: usize,
        ords: Option<Vec<u32>>,
        mut columns: Vec<Option<ArrayRef>>,
    ) -> Self {
        columns[schema::ORD] = ords.map(|ords| Arc::new(UInt32Array::from(ords)) as ArrayRef);
        for column in columns.iter_mut().skip(1) {
            if column
                .as_ref()
                .is_some_and(|array| array.null_count() == rows)
            {
                *column = None;
            }
        }
        Self {
            kind,
            rows,
            columns,
        }
    }

    /// A table from a producer's arrays, given by column number ([`schema::find_column`]); every value is checked.
    ///
    /// # Errors
    /// The first row, column or length that does not fit the kind.
    pub fn from_arrays(
        kind: Kind,
        rows: usize,
        arrays: impl IntoIterator<Item = (usize, ArrayRef)>,
    ) -> Result<Self, TableError> {
        Self::from_unchecked(kind, rows, arrays, true)
    }

    /// The same, of arrays whose JSON, surrogates included, the caller has checked. The log takes it as sound: text
    /// that is not would reach every reader.
    ///
    /// # Errors
    /// The first row, column or length that does not fit the kind.
    pub fn from_checked_arrays(
        kind: Kind,
        rows: usize,
        arrays: impl IntoIterator<Item = (usize, ArrayRef)>,
    ) -> Result<Self, TableError> {
        Self::from_unchecked(kind, rows, arrays, false)
    }

    fn from_unchecked(
        kind: Kind,
        rows: usize,
        arrays: impl IntoIterator<Item = (usize, ArrayRef)>,
        check_json: bool,
    ) -> Result<Self, TableError> {
        let mut columns = vec![None; schema::column_count(kind)];
        for (number, array) in arrays {
            let field = schema::field(kind, number);
            let expected = field.ty.data_type();
            if *array.data_type() != expected {
                let found = array.data_type().clone();
                return Err(TableError::ColumnType {
                    column: field.name,
                    found,
                    expected,
                });
            }
            if array.len() != rows {
                return Err(TableError::Length {
                    column: field.name,
                    found: array.len(),
                    expected: rows,
                });
            }
            columns[number] = Some(array);
        }
        let table = Self::from_columns(kind, rows, None, columns);
        table.check(check_json)?;
        Ok(table)
    }

    /// Rows read back from a cold tier, as [`to_record_batch`](Self::to_record_batch) made them, for a batch that starts at
    /// `first_offset`. Columns are found by name; those that are not there, as in files of an older schema, are null in
    /// every row. Values were checked when they were first written.
    ///
    /// # Errors
    /// A column that is not of its field's type.
    ///
    /// # Panics
    /// If a row's offset does not lie in a batch that starts there.
    pub fn from_cold(
        kind: Kind,
        rows: &RecordBatch,
        first_offset: Offset,
        append_time: Timestamp,
    ) -> Result<Self, TableError> {
        let typed = |column, expected: DataType| match rows.column_by_name(column) {
            Some(array) if *array.data_type() != expected => Err(TableError::ColumnType {
                column,
                found: array.data_type().clone(),
                expected,
            }),
            found => Ok(found.map(Arc::clone)),
        };
        let missing = || TableError::ColumnType {
            column: "log_offset",
            found: DataType::Null,
            expected: DataType::Int64,
        };
        let offsets = typed("log_offset", DataType::Int64)?.ok_or_else(missing)?;
        let ords: Vec<u32> = offsets
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .map(|offset| (*offset as u64).checked_sub(first_offset.0))
            .map(|ord| ord.and_then(|ord| ord.try_into().ok()))
            .map(|ord| ord.expect("the row lies in the batch"))
            .collect();
        let counted = ords.iter().zip(0..).all(|(ord, place)| *ord == place);
        let mut columns = Vec::with_capacity(schema::column_count(kind));
        for (number, field) in schema::fields(kind).enumerate() {
            let column = match number {
                schema::ORD => None,
                _ => typed(field.name, field.ty.data_type())?,
            };
            // A time that was not given is that of the append.
            let given = |array: &ArrayRef| {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                times.iter().any(|time| time != Some(append_time.micros()))
            };
            columns.push(column.filter(|array| number != schema::TIME || given(array)));
        }
        let ords = (!counted).then_some(ords);
        Ok(Self::from_columns(kind, rows.num_rows(), ords, columns))
    }

    /// A table read back from a log; its values were checked when they were written.
    pub(crate) fn trusted(kind: Kind, rows: usize, columns: Vec<Option<ArrayRef>>) -> Self {
        Self {
            kind,
            rows,
            columns,
        }
    }

    fn check(&self, check_json: bool) -> Result<(), TableError> {
        let at_row = |row: usize, column: usize| {
            move |problem| TableError::Row {
                row,
                error: FieldError::new(schema::field(self.kind, column).name, problem),
            }
        };
        for (column, field) in schema::fields(self.kind).enumerate() {
            let Some(array) = &self.columns[column] else {
                if field.presence != Presence::Optional && self.rows > 0 {
                    return Err(at_row(0, column)(FieldProblem::Missing));
                }
                continue;
            };
            if field.presence == Presence::Required
                && array.null_count() > 0
                && let Some(row) = (0..self.rows).find(|row| array.is_null(*row))
            {
                return Err(at_row(row, column)(FieldProblem::Missing));
            }
            match field.ty {
                FieldType::Int
                | FieldType::Float
                | FieldType::Bool
                | FieldType::Bytes
                | FieldType::Ord => {}
                FieldType::Time => {
                    for (row, value) in array
                        .as_primitive::<TimestampMicrosecondType>()
                        .iter()
                        .enumerate()
                    {
                        if value.is_some_and(|value| {
                            !(Timestamp::MIN..=Timestamp::MAX)
                                .contains(&Timestamp::from_micros(value))
                        }) {
                            return Err(at_row(row, column)(
                                crate::offset::TimeError::OutOfRange.into(),
                            ));
                        }
                    }
                }
                _ => {
                    let json =
                        check_json && matches!(field.ty, FieldType::Json | FieldType::JsonObject);
                    for (row, value) in array.as_string::<i32>().iter().enumerate() {
                        let Some(value) = value else { continue };
                        if json {
                            json::check(value).map_err(at_row(row, column))?;
                        }
                        check_text(field, value).map_err(at_row(row, column))?;
                    }
                }
            }
        }
        for row in 0..self.rows {
            check_together(self.kind, |column| self.has(column, row))
                .map_err(|error| TableError::Row { row, error })?;
        }
        Ok(())
    }

    /// The kind of the events.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many events there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The arrays, by column number; `None` where every row is null, or, for `ord`, counts from 0.
    #[must_use]
    pub fn columns(&self) -> &[Option<ArrayRef>] {
        &self.columns
    }

    /// Whether a row has a value in a column.
    #[must_use]
    pub fn has(&self, column: usize, row: usize) -> bool {
        self.columns[column]
            .as_ref()
            .is_some_and(|array| array.is_valid(row))
    }

    /// A row's place in its batch.
    #[must_use]
    pub fn ord(&self, row: usize) -> u32 {
        match &self.columns[schema::ORD] {
            Some(ords) => ords.as_primitive::<UInt32Type>().value(row),
            None => row as u32,
        }
    }

    /// A column of text, names or JSON.
    #[must_use]
    pub fn text(&self, column: usize) -> Text<'_> {
        Text(self.columns[column].as_ref().map(|array| array.as_string()))
    }

    /// A column of integers.
    #[must_use]
    pub fn ints(&self, column: usize) -> Ints<'_> {
        Ints(
            self.columns[column]
                .as_ref()
                .map(|array| array.as_primitive::<Int64Type>()),
        )
    }

    /// A column of numbers.
    #[must_use]
    pub fn floats(&self, column: usize) -> Floats<'_> {
        Floats(
            self.columns[column]
                .as_ref()
                .map(|array| array.as_primitive::<Float64Type>()),
        )
    }

    /// A column of booleans.
    #[must_use]
    pub fn booleans(&self, column: usize) -> Booleans<'_> {
        Booleans(
            self.columns[column]
                .as_ref()
                .map(|array| array.as_boolean()),
        )
    }

    /// A column of raw bytes.
    #[must_use]
    pub fn bytes(&self, column: usize) -> Bytes<'_> {
        Bytes(self.columns[column].as_ref().map(|array| array.as_binary()))
    }

    /// A column of times.
    #[must_use]
    pub fn times(&self, column: usize) -> Times<'_> {
        Times(
            self.columns[column]
                .as_ref()
                .map(|array| array.as_primitive::<TimestampMicrosecondType>()),
        )
    }

    /// Some of the rows, with new places.
    pub(crate) fn take(&self, rows: &[u32], ords: Vec<u32>) -> Self {
        let indices = UInt32Array::from(rows.to_vec());
        let taken = |array: &ArrayRef| {
            arrow_select::take::take(array, &indices, None).expect("the rows lie within the table")
        };
        let columns = self
            .columns
            .iter()
            .map(|column| column.as_ref().map(taken))
            .collect();
        Self::from_columns(self.kind, rows.len(), Some(ords), columns)
    }

    /// The rows of two tables of one kind, by place.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let rows = self.rows + other.rows;
        let column = |number: usize| {
            let nulls =
                |rows| new_null_array(&schema::field(self.kind, number).ty.data_type(), rows);
            let (first, second) = match (&self.columns[number], &other.columns[number]) {
                (None, None) => return None,
                (Some(first), Some(second)) => (Arc::clone(first), Arc::clone(second)),
                (Some(first), None) => (Arc::clone(first), nulls(other.rows)),
                (None, Some(second)) => (nulls(self.rows), Arc::clone(second)),
            };
            let joined = arrow_select::concat::concat(&[&first, &second]);
            Some(joined.expect("a field has one type"))
        };
        let columns = (0..self.columns.len()).map(column).collect();
        let joined = Self {
            kind: self.kind,
            rows,
            columns,
        };
        let place = |row: u32| match (row as usize).checked_sub(self.rows) {
            None => self.ord(row as usize),
            Some(row) => other.ord(row),
        };
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|row| place(*row));
        let ords = order.iter().map(|row| place(*row)).collect();
        joined.take(&order, ords)
    }

    /// An event as a producer would write it.
    pub(crate) fn event_json(&self, row: usize) -> Vec<u8> {
        let mut out = format!("{{\"type\":\"{}\"", self.kind).into_bytes();
        super::row::write_fields(self, row, None, &mut out);
        out.push(b'}');
        out
    }

    /// A hash of a row's value; nothing where it is null.
    pub(crate) fn value_hash(
        &self,
        column: usize,
        row: usize,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Option<u64> {
        let mut scratch = [0; 8];
        TableRow {
            table: self,
            row,
            received: None,
        }
        .bytes(column, &mut scratch)
        .map(hash)
    }

    /// Identities of the rows that have an `id`. A time equal to `received` counts as not given.
    pub(crate) fn identities(&self, received: Option<Timestamp>) -> Vec<Identity> {
        let ids = self.text(schema::ID);
        (0..self.rows)
            .filter(|row| ids.get(*row).is_some())
            .map(|row| {
                let identity = row_identity(
                    self.kind,
                    &TableRow {
                        table: self,
                        row,
                        received,
                    },
                );
                Identity {
                    ord: self.ord(row),
                    ..identity
                }
            })
            .collect()
    }

    /// The rows with every column of [`schema::arrow_schema`]: the form for Parquet, Arrow clients and analysts.
    ///
    /// # Panics
    /// Never: the columns have the types of the schema.
    #[must_use]
    pub fn to_record_batch(&self, first_offset: Offset, append_time: Timestamp) -> RecordBatch {
        let schema = schema::arrow_schema(self.kind);
        let offsets: Int64Array = (0..self.rows)
            .map(|row| (first_offset.0 + u64::from(self.ord(row))) as i64)
            .collect();
        let append_times = TimestampMicrosecondArray::from_value(append_time.micros(), self.rows)
            .with_timezone("UTC");
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(offsets), Arc::new(append_times)];
        for (number, field) in schema::fields(self.kind)
            .enumerate()
            .filter(|(number, _)| *number != schema::ORD)
        {
            arrays.push(match &self.columns[number] {
                _ if number == schema::TIME => Arc::new(self.filled_times(append_time)),
                Some(array) => Arc::clone(array),
                None => new_null_array(&field.ty.data_type(), self.rows),
            });
        }
        RecordBatch::try_new(schema, arrays).expect("the columns have the types of the schema")
    }

    fn filled_times(&self, append_time: Timestamp) -> TimestampMicrosecondArray {
        let times = self.times(schema::TIME);
        let filled: TimestampMicrosecondArray = (0..self.rows)
            .map(|row| Some(times.get(row).unwrap_or(append_time).micros()))
            .collect();
        filled.with_timezone("UTC")
    }
}

struct TableRow<'a> {
    table: &'a Table,
    row: usize,
    received: Option<Timestamp>,
}

impl RowBytes for TableRow<'_> {
    fn bytes<'s>(&'s self, column: usize, scratch: &'s mut [u8; 8]) -> Option<&'s [u8]> {
        let Self {
            table,
            row,
            received,
        } = *self;
        if !table.has(column, row) {
            return None;
        }
        match schema::field(table.kind, column).ty {
            FieldType::Int => *scratch = table.ints(column).get(row)?.to_le_bytes(),
            FieldType::Float => *scratch = table.floats(column).get(row)?.to_bits().to_le_bytes(),
            FieldType::Time => {
                let time = table.times(column).get(row)?;
                if column == schema::TIME && received == Some(time) {
                    return None;
                }
                *scratch = time.micros().to_le_bytes();
            }
            FieldType::Bool => {
                scratch[0] = table.booleans(column).get(row)?.into();
                return Some(&scratch[..1]);
            }
            FieldType::Bytes => return table.bytes(column).get(row),
            FieldType::Ord => return None,
            _ => return table.text(column).get(row).map(str::as_bytes),
        }
        Some(scratch)
    }
}

/// A column of text; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(Option<&'a StringArray>);

impl<'a> Text<'a> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<&'a str> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
    }
}

/// A column of integers; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Ints<'a>(Option<&'a Int64Array>);

impl Ints<'_> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<i64> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
    }
}

/// A column of numbers; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Floats<'a>(Option<&'a Float64Array>);

impl Floats<'_> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<f64> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
    }
}

/// A column of booleans; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Booleans<'a>(Option<&'a BooleanArray>);

impl Booleans<'_> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<bool> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
    }
}

/// A column of raw bytes; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(Option<&'a BinaryArray>);

impl<'a> Bytes<'a> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<&'a [u8]> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
    }
}

/// A column of times; null in every row where the table does not have it.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a>(Option<&'a TimestampMicrosecondArray>);

impl Times<'_> {
    /// A row's value.
    #[must_use]
    #[inline]
    pub fn get(self, row: usize) -> Option<Timestamp> {
        self.0
            .filter(|array| array.is_valid(row))
            .map(|array| Timestamp::from_micros(array.value(row)))
    }
}
