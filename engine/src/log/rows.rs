//! The rows of a frame: packed (`packing`), or as Arrow's messages where those hold what packing does not, with LZ4 if that
//! saves. `FORMAT.md` states the bytes; this is the only place that knows which codec is which.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, Field, Schema};

use super::bytes::{Malformed, Reader, pad_to_8, put_u32, put_u64};
use crate::batch::Table;
use crate::event::schema::FieldType;
use crate::event::{Kind, schema};
pub(super) use crate::packing::TableHead;
use crate::packing::{self, RATIO_MAX};

const CODEC_PLAIN: u8 = 0;
const CODEC_LZ4: u8 = 1;
const CODEC_PACKED: u8 = 2;
/// Below this, compressing does not pay.
const COMPRESS_FROM: usize = 256;

/// Rows as they stand in a frame: encoded, perhaps compressed, and padded.
#[derive(Debug)]
pub(crate) struct EncodedRows {
    pub(crate) bytes: Vec<u8>,
    pub(crate) codec: u8,
}

impl EncodedRows {
    /// Encodes tables.
    pub(crate) fn new(tables: &[Table]) -> Self {
        let (mut bytes, codec) = match packing::pack(tables) {
            Some(packed) => (packed, CODEC_PACKED),
            None => Self::arrow(tables),
        };
        pad_to_8(&mut bytes);
        Self { bytes, codec }
    }

    /// As Arrow's messages, which hold whatever there may be.
    fn arrow(tables: &[Table]) -> (Vec<u8>, u8) {
        let mut plain = Vec::new();
        for table in tables {
            encode_table(table, &mut plain);
        }
        compress(plain)
    }

    /// Appends zeros, a multiple of 8, which readers skip.
    pub(crate) fn pad(&mut self, zeros: usize) {
        self.bytes.resize(self.bytes.len() + zeros, 0);
    }
}

fn compress(plain: Vec<u8>) -> (Vec<u8>, u8) {
    if plain.len() < COMPRESS_FROM {
        return (plain, CODEC_PLAIN);
    }
    let mut bytes = vec![0; 8 + lz4_flex::block::get_maximum_output_size(plain.len())];
    match lz4_flex::block::compress_into(&plain, &mut bytes[8..]) {
        Ok(len) if len + 8 < plain.len() => {
            bytes.truncate(8 + len);
            bytes[..4].copy_from_slice(&(plain.len() as u32).to_le_bytes());
            bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
            (bytes, CODEC_LZ4)
        }
        _ => (plain, CODEC_PLAIN),
    }
}

fn decompress(codec: u8, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    match codec {
        CODEC_PLAIN => Ok(bytes.to_vec()),
        CODEC_LZ4 => {
            let mut reader = Reader(bytes);
            let (plain_len, len) = (reader.u32()? as usize, reader.u32()? as usize);
            let packed = reader.take(len)?;
            if plain_len > RATIO_MAX * packed.len() || !reader.is_zeros() {
                return Err(Malformed);
            }
            lz4_flex::block::decompress(packed, plain_len).map_err(|_| Malformed)
        }
        _ => Err(Malformed),
    }
}

/// How much memory rows take once they are read, if they say: packed ones take more than their length, up to [`RATIO_MAX`]
/// times.
pub(super) fn stated_len(codec: u8, rows: &[u8]) -> Option<usize> {
    match codec {
        CODEC_LZ4 | CODEC_PACKED => Some(Reader(rows).u32().ok()? as usize),
        _ => None,
    }
}

/// The head of the first table, where rows tell it without being unpacked: packed ones do.
pub(super) fn first_table(codec: u8, rows: &[u8]) -> Option<TableHead> {
    (codec == CODEC_PACKED).then(|| packing::first_table(rows).ok())?
}

/// A table: kind, mask of the columns that are there, rows, lengths; then an Arrow IPC record batch message without
/// its schema.
pub(super) fn encode_table(table: &Table, out: &mut Vec<u8>) {
    let present = || {
        table
            .columns()
            .iter()
            .enumerate()
            .filter_map(|(number, array)| Some((number, array.as_ref()?)))
    };
    let mask = present().fold(0_u64, |mask, (number, _)| mask | 1 << number);
    let columns: Vec<ArrayRef> = present().map(|(_, array)| Arc::clone(array)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(table.rows()));
    let message =
        RecordBatch::try_new_with_options(columns_schema(table.kind(), mask), columns, &options)
            .and_then(|batch| {
                let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
                let mut context = IpcWriteContext::default();
                IpcDataGenerator::default().encode(
                    &batch,
                    &mut DictionaryTracker::new(false),
                    &options,
                    &mut context,
                )
            })
            .map(|(_, message)| message)
            .expect("the columns have their fields' types, and no dictionaries");
    out.push(table.kind().number());
    out.extend_from_slice(&[0; 3]);
    put_u32(out, table.rows() as u32);
    put_u64(out, mask);
    put_u32(out, message.ipc_message.len() as u32);
    put_u32(out, message.arrow_data.len() as u32);
    out.extend_from_slice(&message.ipc_message);
    pad_to_8(out);
    out.extend_from_slice(&message.arrow_data);
    pad_to_8(out);
}

/// Whether every row has what its kind requires, and places have no nulls among them.
fn has_required(table: &Table) -> bool {
    let required = schema::needed(table.kind()).required;
    let mut columns = table.columns().iter().enumerate();
    columns.all(|(number, array)| match array {
        Some(array) if number == schema::ORD => array.null_count() == 0,
        Some(array) => required & (1 << number) == 0 || array.null_count() == 0,
        None => required & (1 << number) == 0,
    })
}

/// Which columns a table of a kind may have: none that do not exist, and those in which every row has a value.
fn fits_kind(kind: Kind, mask: u64) -> bool {
    let required = schema::needed(kind).required;
    mask >> schema::column_count(kind) == 0 && mask & required == required
}

fn columns_schema(kind: Kind, mask: u64) -> Arc<Schema> {
    let fields: Vec<Field> = schema::fields(kind)
        .enumerate()
        .filter(|(number, _)| mask & (1 << number) != 0)
        .map(|(_, field)| Field::new(field.name, field.ty.data_type(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn decode_rows(codec: u8, bytes: &[u8], count: u32) -> Result<Vec<Table>, Malformed> {
    let tables = if codec == CODEC_PACKED {
        packing::unpack(bytes)?
    } else {
        decode_tables(codec, bytes, count)?
    };
    if fill_batch(&tables, count) {
        Ok(tables)
    } else {
        Err(Malformed)
    }
}

fn decode_tables(codec: u8, bytes: &[u8], count: u32) -> Result<Vec<Table>, Malformed> {
    let plain = Buffer::from_vec(decompress(codec, bytes)?);
    let mut tables: Vec<Table> = Vec::new();
    let mut at = 0;
    // Zeros are padding behind the last table: tables have rows.
    while !Reader(&plain[at..]).is_zeros() {
        let mut reader = Reader(&plain[at..]);
        let (kind, zeros) = (reader.u8()?, reader.take(3)?);
        let (rows, mask) = (reader.u32()?, reader.u64()?);
        let (meta_len, data_len) = (reader.u32()? as usize, reader.u32()? as usize);
        let meta = reader.take(meta_len)?;
        let padding = reader.take(meta_len.next_multiple_of(8) - meta_len)?;
        let data_at = plain.len() - reader.0.len();
        reader.take(data_len)?;
        let kind = Kind::from_number(kind).ok_or(Malformed)?;
        let zeros = Reader(zeros).is_zeros() && Reader(padding).is_zeros();
        if !zeros || !(1..=count).contains(&rows) || !fits_kind(kind, mask) {
            return Err(Malformed);
        }
        let data = plain.slice_with_length(data_at, data_len);
        let table = decode_table(kind, rows as usize, mask, meta, &data);
        tables.push(table.map_err(|_| Malformed)?);
        at = (data_at + data_len).next_multiple_of(8).min(plain.len());
    }
    Ok(tables)
}

/// Whether the rows of tables are those of a batch of so many: a kind has one table, required columns have values, and
/// each place is taken once, in order within a table.
fn fill_batch(tables: &[Table], count: u32) -> bool {
    let rows: usize = tables.iter().map(Table::rows).sum();
    let kinds = (1..).zip(tables).all(|(next, table)| {
        tables[next..]
            .iter()
            .all(|later| later.kind() != table.kind())
            && has_required(table)
    });
    if rows != count as usize || !kinds {
        return false;
    }
    if let [table] = tables
        && table.columns()[schema::ORD].is_none()
    {
        return true;
    }
    let mut taken = vec![false; rows];
    tables.iter().all(|table| {
        let mut last = None;
        (0..table.rows()).all(|row| {
            let ord = table.ord(row);
            let ascends = last.replace(ord) < Some(ord);
            let free = taken
                .get_mut(ord as usize)
                .map(|taken| !std::mem::replace(taken, true));
            ascends && free == Some(true)
        })
    })
}

/// Whether a message describes columns of so many rows within its data, as [`encode_table`] writes them. What reads it
/// relies on that, and panics.
fn is_readable(
    batch: &arrow_ipc::RecordBatch<'_>,
    rows: usize,
    (kind, mask): (Kind, u64),
    data_len: usize,
) -> bool {
    let (Some(nodes), Some(buffers)) = (batch.nodes(), batch.buffers()) else {
        return false;
    };
    let plain = batch.compression().is_none();
    let variadic = batch
        .variadicBufferCounts()
        .is_some_and(|counts| !counts.is_empty());
    if batch.length() != rows as i64 || !plain || variadic {
        return false;
    }
    let (mut nodes, mut buffers) = (nodes.iter(), buffers.iter());
    // How long the next buffer is, if it lies within the data.
    let mut next_len = || {
        let buffer = buffers.next()?;
        let (at, len) = (
            usize::try_from(buffer.offset()).ok()?,
            usize::try_from(buffer.length()).ok()?,
        );
        (at.checked_add(len)? <= data_len).then_some(len)
    };
    let present = schema::fields(kind)
        .enumerate()
        .filter(|(number, _)| mask & (1 << number) != 0);
    let columns = present.map(|(_, field)| field).all(|field| {
        let Some(node) = nodes.next() else {
            return false;
        };
        let nulls = node.null_count();
        let required = field.presence == schema::Presence::Required || field.ty == FieldType::Ord;
        let said = (0..=rows as i64).contains(&nulls) && !(required && nulls > 0);
        let Some(valid) = next_len() else {
            return false;
        };
        let width = match field.ty {
            FieldType::Int | FieldType::Float | FieldType::Time => 8,
            FieldType::Bool => 1,
            _ => 4,
        };
        // Values, or where texts end, are whole numbers.
        let whole = next_len().is_some_and(|len| len % width == 0);
        let text = width != 4 || field.ty == FieldType::Ord || next_len().is_some();
        let enough = nulls == 0 || valid >= rows.div_ceil(8);
        node.length() == rows as i64 && said && whole && text && enough
    });
    columns && nodes.next().is_none() && buffers.next().is_none()
}

fn decode_table(
    kind: Kind,
    rows: usize,
    mask: u64,
    meta: &[u8],
    data: &Buffer,
) -> Result<Table, ArrowError> {
    let ipc = |error: &dyn std::fmt::Display| ArrowError::IpcError(error.to_string());
    let message = root_as_message(meta).map_err(|error| ipc(&error))?;
    let batch = message
        .header_as_record_batch()
        .ok_or_else(|| ipc(&"not a record batch"))?;
    if !is_readable(&batch, rows, (kind, mask), data.len()) {
        return Err(ipc(&"it is not what is written here"));
    }
    let read = read_record_batch(
        data,
        batch,
        columns_schema(kind, mask),
        &HashMap::new(),
        None,
        &message.version(),
    )?;
    let mut arrays = read.columns().iter();
    let columns = (0..schema::column_count(kind))
        .map(|number| {
            if mask & (1 << number) == 0 {
                None
            } else {
                arrays.next().map(Arc::clone)
            }
        })
        .collect();
    Ok(Table::trusted(kind, rows, columns))
}
