//! Columns of producers as columns of events: of the field's type, or of one whose values can be looked at one by one.
//!
//! Most columns have the type of their field, or one that holds no more, and are taken as they are or widened whole.
//! Where single values may not fit (a float for an integer, text for a time), [`Source::to_array`] gives up, and the
//! batch is read row by row, which locates what is wrong.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array, downcast_dictionary_array,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use modelog_engine::Timestamp;
use modelog_engine::batch::RowWriter;
use modelog_engine::event::schema::FieldType;
use modelog_engine::event::{FieldError, FieldProblem};

use super::types::is_text;

/// A column on its way to a field.
#[derive(Debug)]
pub(super) enum Source {
    /// Null in every row.
    Nothing,
    Text(StringArray),
    /// JSON as the producer wrote it.
    Json(StringArray),
    /// JSON of values that were none.
    Encoded(StringArray),
    Int(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Bool(BooleanArray),
    /// Times, in microseconds.
    Time(Int64Array),
}

/// Why a column cannot become a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its type says something else; this is what would be needed.
    Type(&'static str),
    /// It takes more bytes than there is room for.
    Size,
}

impl Source {
    /// Prepares a column for a field. Where values are shared or encoded, their text takes `room` at most.
    pub(super) fn new(ty: FieldType, array: &ArrayRef, room: &mut usize) -> Result<Self, Unfit> {
        if *array.data_type() == DataType::Null {
            return Ok(Self::Nothing);
        }
        let plain = plain(array, room)?;
        let found = plain.data_type();
        match ty {
            FieldType::Text | FieldType::Name(_) | FieldType::Word(_) | FieldType::Entity => {
                text(&plain, room)?
                    .map(Self::Text)
                    .ok_or(Unfit::Type("text"))
            }
            FieldType::Json | FieldType::JsonObject => match text(&plain, room)? {
                Some(texts) => Ok(Self::Json(texts)),
                None => encoded(&plain, room).map(Self::Encoded),
            },
            FieldType::Int | FieldType::Float => number(&plain).ok_or(Unfit::Type("numbers")),
            FieldType::Bool => match plain.as_boolean_opt() {
                Some(values) => Ok(Self::Bool(values.clone())),
                None => Err(Unfit::Type("booleans")),
            },
            FieldType::Time => match found {
                DataType::Timestamp(unit, _) => Ok(Self::Time(times(&plain, *unit))),
                _ if is_text(found) => text(&plain, room)?
                    .map(Self::Text)
                    .ok_or(Unfit::Type("times")),
                _ => match number(&plain) {
                    Some(numbers @ Self::Int(_)) => Ok(numbers),
                    _ => Err(Unfit::Type("timestamps, text or integers of microseconds")),
                },
            },
            // No producer has such fields.
            FieldType::Bytes | FieldType::Ord => Err(Unfit::Type("nothing")),
        }
    }

    /// The column as an array of its field's type; nothing if some value does not fit.
    pub(super) fn to_array(&self, ty: FieldType) -> Option<Option<ArrayRef>> {
        let array: ArrayRef = match (self, ty) {
            (Self::Nothing, _) => return Some(None),
            (Self::Text(texts), FieldType::Time) => {
                let parse = |text| Timestamp::parse(text).map(Timestamp::micros);
                let micros: Result<Int64Array, _> = texts
                    .iter()
                    .map(|text| text.map(parse).transpose())
                    .collect();
                utc(micros.ok()?)
            }
            (Self::Text(texts) | Self::Json(texts) | Self::Encoded(texts), _) => {
                Arc::new(texts.clone())
            }
            (Self::Time(micros), _) => utc(micros.clone()),
            (Self::Int(values), FieldType::Time) => {
                let plausible = |value| Timestamp::from_producer_micros(value).is_ok();
                values
                    .iter()
                    .flatten()
                    .all(plausible)
                    .then(|| utc(values.clone()))?
            }
            (Self::Int(values), FieldType::Float) => {
                Arc::new(values.unary::<_, Float64Type>(|value| value as f64))
            }
            (Self::Unsigned(values), FieldType::Float) => {
                Arc::new(values.unary::<_, Float64Type>(|value| value as f64))
            }
            (Self::Unsigned(values), _) => {
                Arc::new(values.try_unary::<_, Int64Type, _>(i64::try_from).ok()?)
            }
            (Self::Float(values), FieldType::Int) => {
                let whole = |value: f64| whole(value).ok_or(());
                Arc::new(values.try_unary::<_, Int64Type, _>(whole).ok()?)
            }
            (Self::Int(values), _) => Arc::new(values.clone()),
            (Self::Float(values), _) => Arc::new(values.clone()),
            (Self::Bool(values), _) => Arc::new(values.clone()),
        };
        Some(Some(array))
    }

    /// Writes one row's value; JSON must have been checked.
    pub(super) fn write(
        &self,
        to: &mut RowWriter<'_>,
        column: usize,
        ty: FieldType,
        row: usize,
    ) -> Result<(), FieldError> {
        match self {
            Self::Text(texts) if texts.is_valid(row) && ty == FieldType::Time => {
                let time = Timestamp::parse(texts.value(row));
                to.time(time.map_err(|problem| to.error(column, FieldProblem::Time(problem)))?)
            }
            Self::Text(texts) if texts.is_valid(row) => to.text(column, texts.value(row)),
            Self::Json(texts) | Self::Encoded(texts) if texts.is_valid(row) => {
                to.checked_json(column, texts.value(row))
            }
            Self::Int(values) if values.is_valid(row) => to.int(column, values.value(row)),
            Self::Unsigned(values) if values.is_valid(row) => {
                let value = values.value(row);
                match i64::try_from(value) {
                    Ok(value) => to.int(column, value),
                    Err(_) if ty == FieldType::Float => to.float(column, value as f64),
                    Err(_) => Err(to.error(column, FieldProblem::TooLarge(value.to_string()))),
                }
            }
            Self::Float(values) if values.is_valid(row) => to.float(column, values.value(row)),
            Self::Bool(values) if values.is_valid(row) => to.boolean(column, values.value(row)),
            Self::Time(micros) if micros.is_valid(row) => {
                to.time(Timestamp::from_micros(micros.value(row)))
            }
            _ => to.null(column),
        }
    }

    /// The texts, if the column is one of text.
    pub(super) fn texts(&self) -> Option<&StringArray> {
        match self {
            Self::Text(texts) | Self::Json(texts) | Self::Encoded(texts) => Some(texts),
            _ => None,
        }
    }
}

/// The integer that a float64 says exactly.
fn whole(value: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (value.fract() == 0.0 && value.abs() <= EXACT_MAX).then_some(value as i64)
}

fn utc(micros: Int64Array) -> ArrayRef {
    let times: TimestampMicrosecondArray = micros.reinterpret_cast();
    Arc::new(times.with_timezone("UTC"))
}

/// An array without a dictionary, each value in its place.
fn plain(array: &ArrayRef, room: &mut usize) -> Result<ArrayRef, Unfit> {
    if !matches!(array.data_type(), DataType::Dictionary(_, _)) {
        return Ok(Arc::clone(array));
    }
    downcast_dictionary_array!(
        array => {
            let values = array.values();
            let keys = (0..array.len()).filter_map(|row| array.key(row));
            let bytes = keys.map(|key| text_length(values, key)).sum();
            take_room(room, bytes)?;
            let taken = arrow_select::take::take(values, array.keys(), None);
            Ok(taken.expect("keys were checked against the values, and the size against 32-bit offsets"))
        },
        _ => unreachable!("the type is that of a dictionary")
    )
}

fn take_room(room: &mut usize, bytes: usize) -> Result<(), Unfit> {
    *room = room.checked_sub(bytes).ok_or(Unfit::Size)?;
    Ok(())
}

/// How many bytes a value of text takes; none for other types.
fn text_length(array: &ArrayRef, row: usize) -> usize {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row) as usize,
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row) as usize,
        DataType::Utf8View => array.as_string_view().value(row).len(),
        _ => 0,
    }
}

/// Text with 32-bit offsets; nothing for other types.
fn text(array: &ArrayRef, room: &mut usize) -> Result<Option<StringArray>, Unfit> {
    Ok(Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().clone(),
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>();
            let offsets: Result<Vec<i32>, _> = texts
                .value_offsets()
                .iter()
                .map(|offset| i32::try_from(*offset))
                .collect();
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets.map_err(|_| Unfit::Size)?));
            StringArray::new(offsets, texts.values().clone(), texts.nulls().cloned())
        }
        DataType::Utf8View => {
            let texts = array.as_string_view();
            let bytes = texts.iter().flatten().map(str::len).sum();
            take_room(room, bytes)?;
            texts.iter().collect()
        }
        _ => return Ok(None),
    }))
}

/// The JSON of every value.
fn encoded(array: &ArrayRef, room: &mut usize) -> Result<StringArray, Unfit> {
    json_texts(array.len(), room, |row, out| {
        let valid = !super::json::is_null(array, row);
        if valid {
            super::json::write(array, row, out);
        }
        valid
    })
}

/// Texts written one after the other; `write` answers whether a row has one.
pub(super) fn json_texts(
    rows: usize,
    room: &mut usize,
    mut write: impl FnMut(usize, &mut Vec<u8>) -> bool,
) -> Result<StringArray, Unfit> {
    let mut out = Vec::new();
    let mut ends = vec![0_i32];
    let mut valid = Vec::with_capacity(rows);
    for row in 0..rows {
        valid.push(write(row, &mut out));
        if out.len() > *room {
            return Err(Unfit::Size);
        }
        ends.push(i32::try_from(out.len()).map_err(|_| Unfit::Size)?);
    }
    take_room(room, out.len())?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    Ok(StringArray::new(offsets, out.into(), Some(valid.into())))
}

fn number(array: &ArrayRef) -> Option<Source> {
    macro_rules! widened {
        ($from:ty, $to:ty) => {
            array.as_primitive::<$from>().unary::<_, $to>(Into::into)
        };
    }
    Some(match array.data_type() {
        DataType::Int8 => Source::Int(widened!(Int8Type, Int64Type)),
        DataType::Int16 => Source::Int(widened!(Int16Type, Int64Type)),
        DataType::Int32 => Source::Int(widened!(Int32Type, Int64Type)),
        DataType::Int64 => Source::Int(array.as_primitive::<Int64Type>().clone()),
        DataType::UInt8 => Source::Int(widened!(UInt8Type, Int64Type)),
        DataType::UInt16 => Source::Int(widened!(UInt16Type, Int64Type)),
        DataType::UInt32 => Source::Int(widened!(UInt32Type, Int64Type)),
        DataType::UInt64 => Source::Unsigned(array.as_primitive::<UInt64Type>().clone()),
        DataType::Float16 => Source::Float(widened!(Float16Type, Float64Type)),
        DataType::Float32 => Source::Float(widened!(Float32Type, Float64Type)),
        DataType::Float64 => Source::Float(array.as_primitive::<Float64Type>().clone()),
        _ => return None,
    })
}

/// Times as microseconds; what they do not hold is out of their range, and found to be by the check of times.
fn times(array: &ArrayRef, unit: TimeUnit) -> Int64Array {
    (0..array.len())
        .map(|row| array.is_valid(row).then(|| micros(array, unit, row)))
        .collect()
}

/// A time in microseconds; digits beyond are cut off, as in text.
pub(super) fn micros(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => {
            let value = array.as_primitive::<TimestampSecondType>().value(row);
            value.saturating_mul(1_000_000)
        }
        TimeUnit::Millisecond => {
            let value = array.as_primitive::<TimestampMillisecondType>().value(row);
            value.saturating_mul(1_000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => {
            let value = array.as_primitive::<TimestampNanosecondType>().value(row);
            value.div_euclid(1_000)
        }
    }
}
