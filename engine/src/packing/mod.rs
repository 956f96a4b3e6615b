//! Rows in few bytes: each column of a table in the form that its values suggest. `FORMAT.md` states the bytes; this is
//! the only place that writes and reads them.
//!
//! ```text
//! table ─▶ column ─▶ where it is null, as bits
//!                 └▶ the values that are there ─▶ text ─▶ few distinct ones · all of one length · others ─▶ block
//!                                              ├▶ float ─▶ decimal fractions · single precision · as they are
//!                                              └▶ integer ─▶ distance from the least, or from the one before; as bits
//! ```
//!
//! What producers send is text made by machines: ids of hexadecimal digits, the same words in every row, decimal
//! numbers. Taking that as what it is costs less time than a general compressor, and gives fewer bytes; LZ4 gets what
//! is left, where a sample shows that it gains.
//!
//! # Invariants
//! K1. Unpacking gives back every value, to the bit: of floats NaNs and signs of zero too. What lies beneath nulls, which
//!     Arrow lets be anything, becomes zeros.
//! K2. What tables take in memory is stated ahead of them, at most [`RATIO_MAX`] times the packed bytes, and nothing is
//!     allocated beyond a fixed multiple of it: [`Room`] is asked first. Rows that would pack better than that are not
//!     packed at all.
//! K3. Any bytes are unpacked or refused, without a panic.

mod bits;
mod block;
mod floats;
mod ints;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};

use crate::batch::Table;
use crate::event::Kind;
use crate::event::schema::{self, FieldType};
use crate::log::{Malformed, Reader, put_u32, put_u64};

/// How many bytes of memory one packed byte stands for at most.
pub(crate) const RATIO_MAX: usize = 255;

/// The packed form of some tables: the bytes they take in memory (u32), then each table. Nothing if they would take more
/// than [`RATIO_MAX`] times as much memory as bytes, or are too large to be counted.
pub(crate) fn pack(tables: &[Table]) -> Option<Vec<u8>> {
    let memory: usize = tables.iter().map(memory_of).sum();
    let mut out = Vec::with_capacity(memory / 2 + 64);
    put_u32(&mut out, u32::try_from(memory).ok()?);
    for table in tables {
        pack_table(table, &mut out);
    }
    (memory <= RATIO_MAX * out.len()).then_some(out)
}

/// Reads what [`pack`] wrote; zeros may follow.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<Table>, Malformed> {
    let mut reader = Reader(bytes);
    let memory = reader.u32()? as usize;
    if memory > RATIO_MAX * bytes.len() {
        return Err(Malformed);
    }
    let mut room = Room(memory);
    let mut tables = Vec::new();
    // A table has a kind, a count of rows and columns; less can only be padding.
    while reader.0.len() >= 13 {
        let mut table = reader;
        let head = TableHead::read(&mut table)?;
        if head.rows == 0 {
            break;
        }
        reader = table;
        tables.push(unpack_table(head, &mut reader, &mut room)?);
    }
    // What is stated is what there is, and behind it only padding.
    if room.0 == 0 && reader.0.iter().all(|byte| *byte == 0) {
        Ok(tables)
    } else {
        Err(Malformed)
    }
}

/// What a table says before its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableHead {
    pub(crate) kind: Kind,
    /// How many there are; 0 of what can only be padding.
    pub(crate) rows: u32,
    /// A bit for each column that is there.
    columns: u64,
}

impl TableHead {
    /// What [`first_table`] needs of the packed bytes.
    pub(crate) const BYTES: usize = 4 + 1 + 4 + 8;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            kind: Kind::from_number(reader.u8()?).ok_or(Malformed)?,
            rows: reader.u32()?,
            columns: reader.u64()?,
        })
    }

    /// Whether a column is there.
    pub(crate) fn has(&self, column: usize) -> bool {
        self.columns & (1 << column) != 0
    }
}

/// The head of the first table, without unpacking it.
pub(crate) fn first_table(bytes: &[u8]) -> Result<TableHead, Malformed> {
    let mut reader = Reader(bytes);
    reader.u32()?;
    TableHead::read(&mut reader)
}

/// Memory that may still be taken.
#[derive(Debug)]
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.0 = self.0.checked_sub(bytes).ok_or(Malformed)?;
        Ok(())
    }

    /// Takes room for so many values.
    fn values(&mut self, count: usize, each: usize) -> Result<(), Malformed> {
        self.take(count.checked_mul(each).ok_or(Malformed)?)
    }
}

fn present(table: &Table) -> impl Iterator<Item = (usize, &ArrayRef)> {
    let columns = table.columns().iter().enumerate();
    columns.filter_map(|(number, array)| Some((number, array.as_ref()?)))
}

/// What the arrays take once they are unpacked.
fn memory_of(table: &Table) -> usize {
    let rows = table.rows();
    let bits = rows.div_ceil(8);
    let column = |(number, array): (usize, &ArrayRef)| {
        let nulls = if array.null_count() > 0 { bits } else { 0 };
        let values = match schema::field(table.kind(), number).ty {
            FieldType::Ord => 4 * rows,
            FieldType::Int | FieldType::Time | FieldType::Float => 8 * rows,
            FieldType::Bool => bits,
            FieldType::Bytes => text::memory_of(text::Values::of_bytes(array.as_binary())),
            _ => text::memory_of(text::Values::of_text(array.as_string())),
        };
        nulls + values
    };
    present(table).map(column).sum()
}

fn pack_table(table: &Table, out: &mut Vec<u8>) {
    out.push(table.kind().number());
    put_u32(out, table.rows() as u32);
    let mask = present(table).fold(0_u64, |mask, (number, _)| mask | 1 << number);
    put_u64(out, mask);
    for (number, array) in present(table) {
        pack_column(schema::field(table.kind(), number).ty, array, out);
    }
}

/// A column: whether there are nulls (u8), where values are (a bit a row, if so), and the values that are there.
fn pack_column(ty: FieldType, array: &ArrayRef, out: &mut Vec<u8>) {
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    out.push(nulls.is_some().into());
    if let Some(nulls) = nulls {
        bits::put(out, nulls.iter().map(u64::from), 1);
    }
    match ty {
        FieldType::Ord => {
            let ords = array.as_primitive::<UInt32Type>().values();
            let ords: Vec<i64> = ords.iter().map(|ord| i64::from(*ord)).collect();
            ints::put(out, &dense(&ords, nulls));
        }
        FieldType::Int => {
            let values = array.as_primitive::<Int64Type>().values();
            ints::put(out, &dense(values, nulls));
        }
        FieldType::Time => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values();
            ints::put(out, &dense(values, nulls));
        }
        FieldType::Float => {
            let values = array.as_primitive::<Float64Type>().values();
            floats::put(out, &dense(values, nulls));
        }
        FieldType::Bool => {
            let values = array.as_boolean().values();
            let there = |row: &usize| nulls.is_none_or(|nulls| nulls.is_valid(*row));
            let rows = (0..array.len()).filter(there);
            bits::put(out, rows.map(|row| values.value(row).into()), 1);
        }
        FieldType::Bytes => text::put(out, text::Values::of_bytes(array.as_binary())),
        _ => text::put(out, text::Values::of_text(array.as_string())),
    }
}

/// The values that are there.
fn dense<'a, T: Copy>(values: &'a [T], nulls: Option<&NullBuffer>) -> std::borrow::Cow<'a, [T]> {
    match nulls {
        None => values.into(),
        Some(nulls) => nulls.valid_indices().map(|row| values[row]).collect(),
    }
}

/// Every row's value, zero where there is none.
fn spread<T: Copy + Default>(dense: Vec<T>, nulls: Option<&NullBuffer>) -> Vec<T> {
    let Some(nulls) = nulls else { return dense };
    let mut values = vec![T::default(); nulls.len()];
    for (row, value) in nulls.valid_indices().zip(dense) {
        values[row] = value;
    }
    values
}

fn unpack_table(
    head: TableHead,
    reader: &mut Reader<'_>,
    room: &mut Room,
) -> Result<Table, Malformed> {
    let (kind, rows) = (head.kind, head.rows as usize);
    // Every kind has a field that must be there, so no table is without columns.
    if head.columns == 0 || head.columns >> schema::column_count(kind) != 0 {
        return Err(Malformed);
    }
    let mut columns = Vec::with_capacity(schema::column_count(kind));
    for number in 0..schema::column_count(kind) {
        columns.push(if head.has(number) {
            let ty = schema::field(kind, number).ty;
            Some(unpack_column(ty, rows, reader, room)?)
        } else {
            None
        });
    }
    Ok(Table::trusted(kind, rows, columns))
}

fn unpack_column(
    ty: FieldType,
    rows: usize,
    reader: &mut Reader<'_>,
    room: &mut Room,
) -> Result<ArrayRef, Malformed> {
    let nulls = match reader.u8()? {
        0 => None,
        1 => {
            room.take(rows.div_ceil(8))?;
            Some(NullBuffer::new(bitmap(rows, reader)?))
        }
        _ => return Err(Malformed),
    };
    let there = rows - nulls.as_ref().map_or(0, NullBuffer::null_count);
    let at = nulls.as_ref();
    Ok(match ty {
        FieldType::Ord => {
            room.values(rows, 4)?;
            let ords = ints::get(reader, there)?.into_iter().map(u32::try_from);
            let ords: Vec<u32> = ords.collect::<Result<_, _>>().map_err(|_| Malformed)?;
            Arc::new(UInt32Array::new(spread(ords, at).into(), nulls))
        }
        FieldType::Int => {
            room.values(rows, 8)?;
            let values = spread(ints::get(reader, there)?, at);
            Arc::new(Int64Array::new(values.into(), nulls))
        }
        FieldType::Time => {
            room.values(rows, 8)?;
            let values = ScalarBuffer::from(spread(ints::get(reader, there)?, at));
            Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
        }
        FieldType::Float => {
            room.values(rows, 8)?;
            let values = spread(floats::get(reader, there)?, at);
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        FieldType::Bool => {
            room.take(rows.div_ceil(8))?;
            let values = match at {
                None => bitmap(rows, reader)?,
                Some(_) => {
                    let dense = bitmap(there, reader)?;
                    spread(dense.iter().collect(), at).into()
                }
            };
            Arc::new(BooleanArray::new(values, nulls))
        }
        FieldType::Bytes => {
            let (offsets, data) = text::get(reader, rows, at, room)?;
            Arc::new(BinaryArray::new(offsets, data, nulls))
        }
        _ => {
            let (offsets, data) = text::get(reader, rows, at, room)?;
            // What is read from a disk is looked at: text that is none would be unsound.
            Arc::new(StringArray::try_new(offsets, data, nulls).map_err(|_| Malformed)?)
        }
    })
}

/// A bit for each row.
fn bitmap(rows: usize, reader: &mut Reader<'_>) -> Result<BooleanBuffer, Malformed> {
    let bytes = reader.take(rows.div_ceil(8))?;
    Ok(BooleanBuffer::new(Buffer::from(bytes), 0, rows))
}

/// A number that is small as a rule: 7 bits a byte, least first; the highest bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get_number(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(Malformed);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// The same for a number that may be negative: the sign is the lowest bit.
fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

fn get_signed(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    let number = get_number(reader)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}
