//! The framing of an Arrow IPC stream: messages, and the arrays in their bodies.
//!
//! Everything a message claims is checked against the bytes that are there before anything is allocated or sliced, so
//! bytes of any kind give an error and neither a panic nor much memory. That is why the reader of `arrow-ipc` is not
//! used: it panics on types it does not know and on buffers beyond the body, and decompresses as much as LZ4 can make
//! of a body. Its definitions of the messages, and the checks of `arrow-data` on the arrays, are.

use std::collections::HashMap;
use std::io::Read;

use arrow_array::{Array, ArrayRef, NullArray, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_ipc::{CompressionType, MessageHeader, MetadataVersion};
use arrow_schema::DataType;
use std::sync::Arc;

use super::types::{ColumnType, Shape, columns, metadata};
use crate::error::{Code, Fault, Faulty};

/// What files begin and end with; between lies a stream.
const FILE_MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
/// LZ4 cannot make more than this out of a byte.
const LZ4_RATIO_MAX: usize = 255;
/// Nor Zstandard: a block of 128 KiB takes four bytes or more.
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// A stream, being read.
pub(super) struct Stream<'b> {
    bytes: &'b [u8],
    /// Where the next message starts.
    at: usize,
    is_file: bool,
    pub(super) columns: Vec<ColumnType>,
    /// What the schema says the events are.
    pub(super) kind: Option<String>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// How many more bytes decompression and growing dictionaries may take.
    budget: usize,
}

/// A record batch's arrays, in the order of the columns.
#[derive(Debug)]
pub(super) struct Arrays {
    pub(super) rows: usize,
    pub(super) arrays: Vec<ArrayRef>,
}

/// A message and its body.
struct Message<'b> {
    message: arrow_ipc::Message<'b>,
    body: &'b [u8],
}

impl<'b> Stream<'b> {
    /// Reads the schema.
    pub(super) fn open(bytes: &'b [u8], budget: usize) -> Faulty<Self> {
        let is_file = bytes.starts_with(FILE_MAGIC);
        // Zeros fill the start of a file up to where its writer aligns messages.
        let padded = |magic: &[u8]| {
            bytes[magic.len()..]
                .iter()
                .take_while(|byte| **byte == 0)
                .count()
        };
        let mut stream = Self {
            bytes,
            at: if is_file {
                FILE_MAGIC.len() + padded(FILE_MAGIC)
            } else {
                0
            },
            is_file,
            columns: Vec::new(),
            kind: None,
            dictionaries: HashMap::new(),
            budget,
        };
        let schema = match stream.message()? {
            Some(Message { message, .. }) => message.header_as_schema(),
            None => None,
        };
        let schema = schema.ok_or_else(|| stream.broken("it does not start with a schema"))?;
        stream.columns = columns(schema)?;
        stream.kind = metadata(schema, "modelog.kind").map(str::to_owned);
        Ok(stream)
    }

    /// Where the next message starts.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The arrays of the next record batch; nothing at the end of the stream.
    pub(super) fn next(&mut self) -> Faulty<Option<Arrays>> {
        let start = self.at;
        self.next_arrays().map_err(|mut fault| {
            // What is left begins with the message that could not be read.
            self.at = start;
            fault.at = start;
            fault
        })
    }

    fn next_arrays(&mut self) -> Faulty<Option<Arrays>> {
        loop {
            let Some(message) = self.message()? else {
                return self.end().map(|()| None);
            };
            match message.message.header_type() {
                MessageHeader::RecordBatch => return self.record_batch(&message).map(Some),
                MessageHeader::DictionaryBatch => self.dictionary_batch(&message)?,
                _ => {
                    return Err(self.broken("a message is neither a record batch nor a dictionary"));
                }
            }
        }
    }

    /// The next message; nothing at the mark that ends the stream.
    fn message(&mut self) -> Faulty<Option<Message<'b>>> {
        let ends = "it ends before its end-of-stream mark; close the writer";
        let mut length = self.take(4).ok_or_else(|| self.broken(ends))?;
        if length == CONTINUATION {
            length = self.take(4).ok_or_else(|| self.broken(ends))?;
        }
        let length = i32::from_le_bytes(length.try_into().expect("four bytes were taken"));
        if length == 0 {
            return Ok(None);
        }
        let head = usize::try_from(length)
            .ok()
            .and_then(|length| self.take(length));
        let head = head.ok_or_else(|| self.broken("a message is longer than the stream"))?;
        let message = arrow_ipc::root_as_message(head)
            .map_err(|error| self.broken(&format!("a message is damaged: {error}")))?;
        if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(self.broken("it is of a version before 4, or after 5"));
        }
        let body = usize::try_from(message.bodyLength()).ok();
        let body = body.and_then(|length| self.take(length));
        let body = body.ok_or_else(|| self.broken("a message's body is longer than the stream"))?;
        Ok(Some(Message { message, body }))
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    /// Nothing may follow a stream, save the footer of a file.
    fn end(&self) -> Faulty<()> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() || self.is_file && rest.ends_with(FILE_MAGIC) {
            Ok(())
        } else {
            Err(Fault::new(
                Code::TrailingBytes,
                self.at,
                "something follows after the end of the stream",
            ))
        }
    }

    fn record_batch(&mut self, message: &Message<'b>) -> Faulty<Arrays> {
        let batch = message.message.header_as_record_batch();
        let batch = batch.ok_or_else(|| self.broken("a record batch is damaged"))?;
        let columns = std::mem::take(&mut self.columns);
        let arrays = self.arrays(
            batch,
            message.body,
            columns.iter().map(|column| &column.shape),
        );
        self.columns = columns;
        arrays
    }

    fn dictionary_batch(&mut self, message: &Message<'b>) -> Faulty<()> {
        let batch = message.message.header_as_dictionary_batch();
        let batch = batch.ok_or_else(|| self.broken("a dictionary is damaged"))?;
        let columns = self.columns.iter();
        let shape = columns
            .map(|column| &column.shape)
            .find_map(|shape| shape.dictionary_values(batch.id()));
        let (Some(shape), Some(data)) = (shape, batch.data()) else {
            return Err(self.broken("a dictionary belongs to no column"));
        };
        let mut values = self
            .arrays(data, message.body, std::iter::once(&shape))?
            .arrays
            .remove(0);
        if batch.isDelta()
            && let Some(known) = self.dictionaries.get(&batch.id())
        {
            let joined = arrow_select::concat::concat(&[known, &values]);
            values = joined.map_err(|error| self.broken(&error.to_string()))?;
            self.spend(values.get_buffer_memory_size())?;
        }
        self.dictionaries.insert(batch.id(), values);
        Ok(())
    }

    fn arrays<'s>(
        &mut self,
        batch: arrow_ipc::RecordBatch<'b>,
        body: &'b [u8],
        shapes: impl Iterator<Item = &'s Shape>,
    ) -> Faulty<Arrays> {
        let rows = usize::try_from(batch.length()).unwrap_or(usize::MAX);
        // Every event has a value of at least a byte: a name, or the key of one in a dictionary.
        if rows > body.len() {
            return Err(self.broken("a batch claims more rows than it has bytes"));
        }
        let codec = batch.compression().map(|compression| compression.codec());
        let mut reader = BodyReader {
            nodes: batch.nodes().into_iter().flatten().collect(),
            buffers: batch.buffers().into_iter().flatten().collect(),
            variadic: batch.variadicBufferCounts().into_iter().flatten().collect(),
            next: [0; 3],
            body,
            codec,
            stream: self,
        };
        let arrays: Vec<_> = shapes
            .map(|shape| reader.array(shape))
            .collect::<Result<_, _>>()?;
        if arrays.iter().any(|array| array.len() != rows) {
            return Err(self.broken("a column has more or fewer rows than its batch"));
        }
        Ok(Arrays { rows, arrays })
    }

    fn spend(&mut self, bytes: usize) -> Faulty<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            Fault::new(
                Code::BatchTooLarge,
                self.at,
                "decompressed, the stream takes more than one call may bring",
            )
        })?;
        Ok(())
    }

    #[cold]
    fn broken(&self, why: &str) -> Box<Fault> {
        Fault::new(
            Code::BadArrow,
            self.at,
            format!("the Arrow stream cannot be read: {why}"),
        )
    }
}

/// The arrays of one body, taken in the order of the schema.
struct BodyReader<'s, 'b> {
    nodes: Vec<&'b arrow_ipc::FieldNode>,
    buffers: Vec<&'b arrow_ipc::Buffer>,
    variadic: Vec<i64>,
    /// How many of each have been taken.
    next: [usize; 3],
    body: &'b [u8],
    codec: Option<CompressionType>,
    stream: &'s mut Stream<'b>,
}

impl BodyReader<'_, '_> {
    fn array(&mut self, shape: &Shape) -> Faulty<ArrayRef> {
        let (len, has_nulls) = self.node()?;
        if shape.data_type == DataType::Null {
            return Ok(Arc::new(NullArray::new(len)));
        }
        let nulls = self.buffer()?;
        // The builder would panic.
        if has_nulls && nulls.len() < len.div_ceil(8) {
            return Err(self
                .stream
                .broken("a column says less about nulls than it has rows"));
        }
        let mut builder = ArrayData::builder(shape.array_type())
            .len(len)
            .null_bit_buffer(has_nulls.then_some(nulls));
        if let Some(dictionary) = &shape.dictionary {
            builder = builder.add_buffer(whole(self.buffer()?, width(&dictionary.keys)));
            let values = match self.stream.dictionaries.get(&dictionary.id) {
                Some(values) => Arc::clone(values),
                // It may be left out where every key is null.
                None => arrow_array::new_empty_array(&shape.data_type),
            };
            builder = builder.add_child_data(values.to_data());
        } else {
            for at in 0..self.own_buffers(&shape.data_type)? {
                let buffer = self.buffer()?;
                let width = if at == 0 { width(&shape.data_type) } else { 1 };
                builder = builder.add_buffer(whole(buffer, width));
            }
            for child in &shape.children {
                builder = builder.add_child_data(self.array(child)?.to_data());
            }
        }
        // Bodies are only as aligned as the bytes they came in; this copies what is not.
        let built = builder.align_buffers(true).build();
        let data = built.map_err(|error| self.stream.broken(&error.to_string()))?;
        Ok(make_array(data))
    }

    /// How many buffers an array has beside that of its nulls.
    fn own_buffers(&mut self, data_type: &DataType) -> Faulty<usize> {
        Ok(match data_type {
            DataType::Struct(_) | DataType::FixedSizeList(_, _) => 0,
            DataType::Utf8 | DataType::LargeUtf8 => 2,
            DataType::Utf8View => {
                let count = self.variadic.get(self.next[2]).copied();
                self.next[2] += 1;
                let count = count.and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| *count <= self.buffers.len());
                1 + count.ok_or_else(|| {
                    self.stream
                        .broken("the buffers of a column are not counted")
                })?
            }
            _ => 1,
        })
    }

    /// How long the next array is, and whether it has nulls.
    fn node(&mut self) -> Faulty<(usize, bool)> {
        let node = self.nodes.get(self.next[0]);
        self.next[0] += 1;
        let node = node.ok_or_else(|| {
            self.stream
                .broken("a batch has fewer columns than the schema")
        })?;
        let (len, nulls) = (
            usize::try_from(node.length()),
            usize::try_from(node.null_count()),
        );
        match (len, nulls) {
            // Every element takes at least a bit, and compression is paid for from the budget.
            (Ok(len), Ok(nulls))
                if len / 8 <= self.stream.bytes.len() + self.stream.budget && nulls <= len =>
            {
                Ok((len, nulls > 0))
            }
            _ => Err(self
                .stream
                .broken("a column claims a length it cannot have")),
        }
    }

    fn buffer(&mut self) -> Faulty<Buffer> {
        let buffer = self.buffers.get(self.next[1]);
        self.next[1] += 1;
        let bytes = buffer.and_then(|buffer| {
            let offset = usize::try_from(buffer.offset()).ok()?;
            let length = usize::try_from(buffer.length()).ok()?;
            self.body.get(offset..)?.get(..length)
        });
        let bytes = bytes.ok_or_else(|| self.stream.broken("a buffer lies outside its body"))?;
        match self.codec {
            None => Ok(Buffer::from(bytes)),
            Some(_) if bytes.is_empty() => Ok(Buffer::from(bytes)),
            Some(codec) => self.decompressed(codec, bytes),
        }
    }

    fn decompressed(&mut self, codec: CompressionType, bytes: &[u8]) -> Faulty<Buffer> {
        let damaged = |stream: &Stream<'_>| stream.broken("a compressed buffer is damaged");
        let Some((length, bytes)) = bytes.split_first_chunk::<8>() else {
            return Err(damaged(self.stream));
        };
        let length = i64::from_le_bytes(*length);
        // Buffers that compression would not have made smaller are left as they are.
        if length == -1 {
            return Ok(Buffer::from(bytes));
        }
        let ratio_max = match codec {
            CompressionType::LZ4_FRAME => LZ4_RATIO_MAX,
            CompressionType::ZSTD => ZSTD_RATIO_MAX,
            _ => return Err(self.stream.broken("it is compressed in an unknown way")),
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| length / ratio_max <= bytes.len())
            .ok_or_else(|| damaged(self.stream))?;
        self.stream.spend(length)?;
        let mut out = Vec::with_capacity(length);
        let read = match codec {
            CompressionType::LZ4_FRAME => {
                // One byte more shows whether there is more than was said.
                let limit = length as u64 + 1;
                let mut decoder = lz4_flex::frame::FrameDecoder::new(bytes).take(limit);
                decoder.read_to_end(&mut out)
            }
            _ => zstd::bulk::Decompressor::new()
                .and_then(|mut decoder| decoder.decompress_to_buffer(bytes, &mut out)),
        };
        match read {
            Ok(read) if read == length => Ok(Buffer::from_vec(out)),
            _ => Err(damaged(self.stream)),
        }
    }
}

/// A buffer without what is left over of its last element, of which the checks of `arrow-data` take no account.
fn whole(buffer: Buffer, width: usize) -> Buffer {
    let length = buffer.len() - buffer.len() % width;
    buffer.slice_with_length(0, length)
}

/// How many bytes an element of an array's first buffer takes.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Utf8 | DataType::List(_) | DataType::Map(_, _) => size_of::<i32>(),
        DataType::LargeUtf8 | DataType::LargeList(_) => size_of::<i64>(),
        DataType::Utf8View => size_of::<u128>(),
        other => other.primitive_width().unwrap_or(1),
    }
}
