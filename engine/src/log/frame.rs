//! Frames: the checksummed bytes of one batch. `FORMAT.md` states them; this is the only place that writes and reads
//! them.
//!
//! ```text
//! header (56 bytes) · body = prefix length u32, prefix (origins, names | state) · padding · rows · padding
//! ```
//!
//! The prefix is known only at admission; the rows are packed (`packing`) and checksummed before, by the thread of
//! the caller. So the codec covers the rows alone, and the body's checksum is combined from those of the two parts.
//!
//! # Invariants
//! F1. A header is accepted only at the position, in the segment and in the log it was written for.
//! F2. Every byte of a frame, padding included, is covered by a checksum.
//! F3. Nothing is allocated before its length has been checked against the bytes that are there.
//! F4. What is read is what is written here: numbers that no frame has, texts that end late, rows that are not those the
//!     header counts are refused, so that readers need not think of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, Field, Schema};

use super::bytes::{Malformed, Reader, pad_to_8, put_str, put_u16, put_u32, put_u64, put_u128};
use super::state::SourceState;
use crate::batch::{LoggedBatch, Table};
use crate::event::schema::FieldType;
use crate::event::{EntityKind, Kind, schema};
use crate::names::NamedEntity;
use crate::origin::{Origin, Source};
use crate::packing::{self, RATIO_MAX};
use crate::{LogId, Offset, Timestamp};

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 56;
/// The largest body a frame may have.
pub(crate) const BODY_BYTES_MAX: usize = 256 << 20;
/// What a disk may spoil when it overwrites a part of it: `pad_groups` keeps what is synced apart by this.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The version of the columns in `event::schema`.
pub(crate) const SCHEMA_VERSION: u16 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"MLFR");
/// The frame ends a log that was closed in order; it has no rows.
const FLAG_CLOSING: u8 = 1;
/// The prefix holds the state of all sources, not origins; the frame has no rows.
const FLAG_STATE: u8 = 2;
const CODEC_PLAIN: u8 = 0;
const CODEC_LZ4: u8 = 1;
const CODEC_PACKED: u8 = 2;
/// What an origin, where a source stands, and a name take at least.
const ORIGIN_BYTES_MIN: usize = 17;
pub(super) const SOURCE_STATE_BYTES_MIN: usize = 21;
pub(super) const NAME_BYTES_MIN: usize = 11;
/// Below this, compressing does not pay.
const COMPRESS_FROM: usize = 256;

/// Where a frame lies: what its header's checksum is seeded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) log: LogId,
    pub(crate) segment: u64,
    pub(crate) position: u64,
}

impl Place {
    fn seed(&self) -> u32 {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.log.0.as_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..].copy_from_slice(&self.position.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) first_offset: Offset,
    pub(crate) count: u32,
    pub(crate) codec: u8,
    pub(crate) flags: u8,
    pub(crate) schema: u16,
    pub(crate) append_time: Timestamp,
    pub(crate) durable_end: u64,
    pub(crate) prev_header_crc: u32,
}

impl Header {
    /// Offset after the frame's events.
    pub(crate) fn end(&self) -> Offset {
        self.first_offset.advance(self.count.into())
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES + self.body_len as usize) as u64
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.flags & FLAG_CLOSING != 0
    }

    pub(crate) fn is_state(&self) -> bool {
        self.flags & FLAG_STATE != 0
    }

    /// The bytes, and their checksum, which the next frame repeats.
    pub(crate) fn encode(&self, place: Place) -> ([u8; HEADER_BYTES], u32) {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        put_u32(&mut out, MAGIC);
        put_u32(&mut out, 0);
        put_u32(&mut out, self.body_len);
        put_u32(&mut out, self.body_crc);
        put_u64(&mut out, self.first_offset.0);
        put_u32(&mut out, self.count);
        out.push(self.codec);
        out.push(self.flags);
        put_u16(&mut out, self.schema);
        put_u64(&mut out, self.append_time.micros() as u64);
        put_u64(&mut out, self.durable_end);
        put_u32(&mut out, self.prev_header_crc);
        put_u32(&mut out, 0);
        let crc = crc32c::crc32c_append(place.seed(), &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        let bytes = out
            .try_into()
            .expect("the fields add up to the header's size");
        (bytes, crc)
    }

    /// Reads a header that was written for this place; tells its checksum too.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], place: Place) -> Option<(Self, u32)> {
        let mut reader = Reader(bytes);
        if reader.u32().ok()? != MAGIC {
            return None;
        }
        let crc = reader.u32().ok()?;
        if crc32c::crc32c_append(place.seed(), &bytes[8..]) != crc {
            return None;
        }
        let header = Self {
            body_len: reader.u32().ok()?,
            body_crc: reader.u32().ok()?,
            first_offset: Offset(reader.u64().ok()?),
            count: reader.u32().ok()?,
            codec: reader.u8().ok()?,
            flags: reader.u8().ok()?,
            schema: reader.u16().ok()?,
            append_time: Timestamp::from_micros(reader.u64().ok()? as i64),
            durable_end: reader.u64().ok()?,
            prev_header_crc: reader.u32().ok()?,
        };
        let sound = reader.u32().ok()? == 0 && header.is_sound();
        sound.then_some((header, crc))
    }

    /// Whether a writer has such headers: with offsets that exist, and with events only where there are rows.
    fn is_sound(&self) -> bool {
        let end = self.first_offset.0.checked_add(self.count.into());
        let of_events = self.flags == FrameKind::Rows.flags();
        let alone = [FrameKind::State.flags(), FrameKind::Closing.flags()].contains(&self.flags);
        self.body_len as usize <= BODY_BYTES_MAX
            && self.body_len.is_multiple_of(8)
            && end.is_some_and(|end| end <= i64::MAX as u64)
            && (of_events || alone && self.count == 0)
    }

    /// Whether bytes that were read are the body this header speaks of.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.body_len as usize && crc32c::crc32c(body) == self.body_crc
    }
}

/// Rows as they stand in a frame: encoded, perhaps compressed, padded and checksummed.
#[derive(Debug)]
pub(crate) struct EncodedRows {
    pub(crate) bytes: Vec<u8>,
    pub(crate) crc: u32,
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
        let crc = crc32c::crc32c(&bytes);
        Self { bytes, crc, codec }
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
        let end = self.bytes.len();
        self.bytes.resize(end + zeros, 0);
        self.crc = crc32c::crc32c_append(self.crc, &self.bytes[end..]);
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

/// What is between header and rows.
#[derive(Debug, Default)]
pub(crate) struct Prefix(Vec<u8>);

impl Prefix {
    /// Origins of the rows, and names given with them.
    pub(crate) fn of_rows(origins: &[Origin], names: &[NamedEntity]) -> Self {
        let mut out = vec![0; 4];
        put_u32(&mut out, origins.len() as u32);
        for origin in origins {
            put_u32(&mut out, origin.first_ord);
            put_u32(&mut out, origin.rows);
            put_u32(&mut out, origin.rejected);
            put_u32(&mut out, origin.duplicates);
            put_source(&mut out, &origin.source);
        }
        put_u32(&mut out, names.len() as u32);
        for name in names {
            put_name(&mut out, name);
        }
        Self::sealed(out)
    }

    /// Where every source stands.
    pub(crate) fn of_state(sources: &[SourceState]) -> Self {
        let mut out = vec![0; 4];
        put_u32(&mut out, sources.len() as u32);
        for state in sources {
            put_state(&mut out, state);
        }
        Self::sealed(out)
    }

    fn sealed(mut out: Vec<u8>) -> Self {
        let len = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&len.to_le_bytes());
        pad_to_8(&mut out);
        Self(out)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds zeros, which readers skip, so that a frame of nothing else, at this position, ends where a block does.
    pub(crate) fn fill_block(&mut self, position: u64) {
        let end = position + (HEADER_BYTES + self.0.len()) as u64;
        let zeros = end.next_multiple_of(BLOCK_BYTES) - end;
        self.0.resize(self.0.len() + zeros as usize, 0);
    }
}

/// The body's length and checksum, from its parts.
pub(crate) fn body_sum(prefix: &Prefix, rows: Option<&EncodedRows>) -> (u32, u32) {
    let crc = crc32c::crc32c(prefix.bytes());
    match rows {
        None => (prefix.bytes().len() as u32, crc),
        Some(rows) => {
            let len = prefix.bytes().len() + rows.bytes.len();
            (
                len as u32,
                crc32c::crc32c_combine(crc, rows.crc, rows.bytes.len()),
            )
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Rows,
    State,
    Closing,
}

impl FrameKind {
    pub(crate) fn flags(self) -> u8 {
        match self {
            Self::Rows => 0,
            Self::State => FLAG_STATE,
            Self::Closing => FLAG_CLOSING,
        }
    }
}

/// A body, read back.
#[derive(Debug)]
pub(crate) enum Body {
    Rows(LoggedBatch),
    State(Vec<SourceState>),
    Closing,
}

/// How much memory a body takes once it is read: a packed one takes more than its length, up to [`RATIO_MAX`] times.
pub(crate) fn unpacked_len(header: &Header, body: &[u8]) -> usize {
    let packed = || {
        let prefix_len = Reader(body).u32().ok()? as usize;
        let rows = body.get((4 + prefix_len).next_multiple_of(8)..)?;
        Reader(rows).u32().ok()
    };
    match header.codec {
        CODEC_LZ4 | CODEC_PACKED => packed().map_or(body.len(), |len| body.len().max(len as usize)),
        _ => body.len(),
    }
}

/// Reads a body whose checksum was right.
pub(crate) fn decode_body(header: &Header, epoch: u32, body: &[u8]) -> Result<Body, Malformed> {
    let mut reader = Reader(body);
    let prefix_len = reader.u32()? as usize;
    let mut prefix = Reader(reader.take(prefix_len)?);
    let padding = (4 + prefix_len).next_multiple_of(8) - (4 + prefix_len);
    let padded = Reader(reader.take(padding)?).is_zeros();
    if !padded || header.count == 0 && !reader.is_zeros() {
        return Err(Malformed);
    }
    if header.is_state() {
        let count = prefix.count(SOURCE_STATE_BYTES_MIN)?;
        let states = (0..count)
            .map(|_| get_state(&mut prefix))
            .collect::<Result<_, _>>()?;
        return prefix.ended(Body::State(states));
    }
    let count = prefix.count(ORIGIN_BYTES_MIN)?;
    let origins: Vec<_> = (0..count)
        .map(|_| get_origin(&mut prefix))
        .collect::<Result<_, _>>()?;
    let count = prefix.count(NAME_BYTES_MIN)?;
    let names: Vec<_> = (0..count)
        .map(|_| get_name(&mut prefix))
        .collect::<Result<_, _>>()?;
    prefix.ended(())?;
    if header.is_closing() {
        let nothing = origins.is_empty() && names.is_empty();
        return if nothing {
            Ok(Body::Closing)
        } else {
            Err(Malformed)
        };
    }
    let tables = if header.count == 0 {
        Vec::new()
    } else {
        decode_rows(header.codec, reader.0, header.count)?
    };
    Ok(Body::Rows(LoggedBatch {
        first_offset: header.first_offset,
        rows: header.count,
        append_time: header.append_time,
        epoch,
        names,
        origins,
        tables,
    }))
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

const SOURCE_CALL: u8 = 0;
const SOURCE_PRODUCER: u8 = 1;
const SOURCE_KAFKA: u8 = 2;

fn put_source(out: &mut Vec<u8>, source: &Source) {
    match source {
        Source::Call { key, body } => {
            out.push(SOURCE_CALL);
            put_str(out, key);
            put_u64(out, *body);
        }
        Source::Producer {
            id,
            epoch,
            sequence,
        } => {
            out.push(SOURCE_PRODUCER);
            put_str(out, id);
            put_u32(out, *epoch);
            put_u64(out, *sequence);
        }
        Source::Kafka {
            cluster,
            topic,
            topic_id,
            partition,
            first,
            next,
            leader_epoch,
        } => {
            out.push(SOURCE_KAFKA);
            put_str(out, cluster);
            put_str(out, topic);
            out.push(topic_id.is_some().into());
            put_u128(out, topic_id.unwrap_or_default());
            put_u32(out, *partition as u32);
            put_u64(out, *first as u64);
            put_u64(out, *next as u64);
            put_u32(out, *leader_epoch as u32);
        }
    }
}

fn get_source(reader: &mut Reader<'_>) -> Result<Source, Malformed> {
    Ok(match reader.u8()? {
        SOURCE_CALL => Source::Call {
            key: reader.str()?,
            body: reader.u64()?,
        },
        SOURCE_PRODUCER => Source::Producer {
            id: reader.str()?,
            epoch: reader.u32()?,
            sequence: reader.u64()?,
        },
        SOURCE_KAFKA => {
            let (cluster, topic) = (reader.str()?, reader.str()?);
            let topic_id = match (reader.u8()?, reader.u128()?) {
                (0, 0) => None,
                (1, id) => Some(id),
                _ => return Err(Malformed),
            };
            Source::Kafka {
                cluster,
                topic,
                topic_id,
                partition: reader.u32()? as i32,
                first: reader.u64()? as i64,
                next: reader.u64()? as i64,
                leader_epoch: reader.u32()? as i32,
            }
        }
        _ => return Err(Malformed),
    })
}

fn get_origin(reader: &mut Reader<'_>) -> Result<Origin, Malformed> {
    let (first_ord, rows, rejected, duplicates) =
        (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    first_ord.checked_add(rows).ok_or(Malformed)?;
    Ok(Origin {
        source: get_source(reader)?,
        first_ord,
        rows,
        rejected,
        duplicates,
    })
}

pub(crate) fn put_state(out: &mut Vec<u8>, state: &SourceState) {
    put_u64(out, state.first.0);
    put_u32(out, state.accepted);
    put_u32(out, state.rejected);
    put_u32(out, state.duplicates);
    put_source(out, &state.source);
}

pub(crate) fn get_state(reader: &mut Reader<'_>) -> Result<SourceState, Malformed> {
    let first = Offset(reader.u64()?);
    let (accepted, rejected, duplicates) = (reader.u32()?, reader.u32()?, reader.u32()?);
    // The answer to a repeated call is made of them.
    let end = accepted
        .checked_add(rejected)
        .and_then(|rows| first.0.checked_add(rows.into()));
    end.filter(|end| *end <= i64::MAX as u64).ok_or(Malformed)?;
    Ok(SourceState {
        source: get_source(reader)?,
        first,
        accepted,
        rejected,
        duplicates,
    })
}

pub(crate) fn put_name(out: &mut Vec<u8>, name: &NamedEntity) {
    out.push(name.kind as u8);
    put_u32(out, name.id);
    put_u32(out, name.parent);
    put_str(out, &name.name);
}

pub(crate) fn get_name(reader: &mut Reader<'_>) -> Result<NamedEntity, Malformed> {
    let kind = EntityKind::from_number(reader.u8()?).ok_or(Malformed)?;
    Ok(NamedEntity {
        kind,
        id: reader.u32()?,
        parent: reader.u32()?,
        name: reader.str()?,
    })
}
