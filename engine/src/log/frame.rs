//! Frames: the checksummed bytes of one batch. `FORMAT.md` states them; this is the only place that writes and reads
//! them.
//!
//! ```text
//! header (56 bytes) · body = prefix length u32, prefix (origins, names | state) · padding · rows · padding
//! ```
//!
//! The prefix is known only at admission; the rows are packed (`packing`) before, by the thread of the caller. So the
//! codec covers the rows alone.
//!
//! # Invariants
//! F1. A header is accepted only at the position, in the segment and in the log it was written for.
//! F2. Every byte of a frame, padding included, is covered by a checksum.
//! F3. Nothing is allocated before its length has been checked against the bytes that are there.
//! F4. What is read is what is written here: numbers that no frame has, texts that end late, rows that are not those the
//!     header counts are refused, so that readers need not think of them.

use super::bytes::{Malformed, Reader, pad_to_8, put_str, put_u16, put_u32, put_u64, put_u128};
use super::rows::{self, EncodedRows, TableHead, decode_rows};
use super::state::SourceState;
use crate::batch::LoggedBatch;
use crate::event::EntityKind;
use crate::names::NamedEntity;
use crate::origin::{Origin, Source};
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
/// What an origin, where a source stands, and a name take at least.
const ORIGIN_BYTES_MIN: usize = 17;
pub(super) const SOURCE_STATE_BYTES_MIN: usize = 21;
pub(super) const NAME_BYTES_MIN: usize = 11;
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

/// The body's length and checksum, from its parts. (Combining a checksum of the rows that the caller's thread made takes
/// longer than reading a megabyte of them.)
pub(crate) fn body_sum(prefix: &Prefix, rows: Option<&EncodedRows>) -> (u32, u32) {
    let rows = rows.map_or(&[][..], |rows| &rows.bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(prefix.bytes()), rows);
    ((prefix.bytes().len() + rows.len()) as u32, crc)
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

/// How much memory a body takes once it is read: its rows may say more than their length.
pub(crate) fn unpacked_len(header: &Header, body: &[u8]) -> usize {
    let stated = || {
        let prefix_len = Reader(body).u32().ok()? as usize;
        let rows = body.get((4 + prefix_len).next_multiple_of(8)..)?;
        rows::stated_len(header.codec, rows)
    };
    stated().map_or(body.len(), |len| body.len().max(len))
}

/// Reads a body whose checksum was right.
pub(crate) fn decode_body(header: &Header, epoch: u32, body: &[u8]) -> Result<Body, Malformed> {
    let mut reader = Reader(body);
    match decode_prefix(header, epoch, &mut reader)? {
        Body::Rows(mut batch) if header.count > 0 => {
            batch.tables = decode_rows(header.codec, reader.0, header.count)?;
            Ok(Body::Rows(batch))
        }
        body if reader.is_zeros() => Ok(body),
        _ => Err(Malformed),
    }
}

/// Reads what stands ahead of the rows.
fn decode_prefix(header: &Header, epoch: u32, reader: &mut Reader<'_>) -> Result<Body, Malformed> {
    let prefix_len = reader.u32()? as usize;
    let mut prefix = Reader(reader.take(prefix_len)?);
    let padding = (4 + prefix_len).next_multiple_of(8) - (4 + prefix_len);
    if !Reader(reader.take(padding)?).is_zeros() {
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
    Ok(Body::Rows(LoggedBatch {
        first_offset: header.first_offset,
        rows: header.count,
        append_time: header.append_time,
        epoch,
        names,
        origins,
        tables: Vec::new(),
    }))
}

/// What the first bytes of a body tell of its rows.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The batch without its tables.
    pub(crate) batch: LoggedBatch,
    /// The table that holds all rows, if they say so themselves.
    pub(crate) table: Option<TableHead>,
}

impl Outline {
    /// What must be there of a body for its outline to be told, as its first four bytes or more have it.
    pub(crate) fn bytes(start: &[u8]) -> Result<usize, Malformed> {
        let prefix_len = Reader(start).u32()? as usize;
        Ok((4 + prefix_len).next_multiple_of(8) + TableHead::BYTES)
    }

    /// Reads the outline of a frame with events, from the whole body or its first [`bytes`](Self::bytes).
    pub(crate) fn read(header: &Header, epoch: u32, start: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(start);
        let Body::Rows(batch) = decode_prefix(header, epoch, &mut reader)? else {
            return Err(Malformed);
        };
        let table =
            rows::first_table(header.codec, reader.0).filter(|table| table.rows == header.count);
        Ok(Self { batch, table })
    }
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
