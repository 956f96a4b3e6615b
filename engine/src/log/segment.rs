//! Segments: files of frames, and the scan that tells how far one can be believed.

use std::path::{Path, PathBuf};

use super::bytes::{Malformed, Reader, put_u32, put_u64};
use super::frame::{HEADER_BYTES, Header, Outline, Place};
use crate::error::LogError;
use crate::storage::{StorageFile, read_exact};
use crate::{LogId, Offset};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
/// The format these files have, and the oldest reader that understands them.
pub(crate) const FORMAT_VERSION: u32 = 2;
pub(crate) const READER_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"MODELOGS";

/// Where a segment ends, as its successor and the manifest record it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
    /// Checksum of the last frame's header; 0 if there is no frame.
    pub(crate) last_header_crc: u32,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    pub(crate) number: u64,
    pub(crate) first_offset: Offset,
    pub(crate) epoch: u32,
    /// All zero for the first segment.
    pub(crate) predecessor: SegmentEnd,
}

/// Why a segment's header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    TooNew(u32),
}

impl From<Malformed> for BadHeader {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, READER_VERSION);
        out.extend_from_slice(self.log.0.as_bytes());
        put_u64(&mut out, self.number);
        put_u64(&mut out, self.first_offset.0);
        put_u32(&mut out, self.epoch);
        put_u64(&mut out, self.predecessor.offset.0);
        put_u64(&mut out, self.predecessor.position);
        put_u32(&mut out, self.predecessor.last_header_crc);
        out.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(BadHeader::Damaged)?;
        let mut reader = Reader(content);
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) || reader.take(8)? != MAGIC {
            return Err(BadHeader::Damaged);
        }
        let _format = reader.u32()?;
        let needed = reader.u32()?;
        if needed > READER_VERSION {
            return Err(BadHeader::TooNew(needed));
        }
        let uuid = reader
            .take(16)?
            .try_into()
            .map_err(|_| BadHeader::Damaged)?;
        Ok(Self {
            log: LogId(uuid::Uuid::from_bytes(uuid)),
            number: reader.u64()?,
            first_offset: Offset(reader.u64()?),
            epoch: reader.u32()?,
            predecessor: SegmentEnd {
                offset: Offset(reader.u64()?),
                position: reader.u64()?,
                last_header_crc: reader.u32()?,
            },
        })
    }
}

/// The name of the segment whose first event has this offset. Segments without events share their offset with the next
/// one, so the number tells them apart.
pub(crate) fn file_name(first_offset: Offset, number: u64) -> String {
    format!("{:020}-{number:06}.seg", first_offset.0)
}

/// Frames of a segment, one after the other, read in large pieces.
#[derive(Debug)]
pub(crate) struct FrameScan<'a> {
    file: &'a dyn StorageFile,
    path: &'a Path,
    log: LogId,
    segment: u64,
    /// Where the next frame starts.
    pub(crate) position: u64,
    /// Nothing is read from here on.
    end: u64,
    buffer: Vec<u8>,
    /// File position of the buffer's first byte.
    buffer_at: u64,
    /// How much is read at once.
    ahead: usize,
}

/// A frame whose checksums are right.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) position: u64,
    pub(crate) header: Header,
    pub(crate) header_crc: u32,
    pub(crate) body: &'a [u8],
}

/// How much is read at once of frames that are wanted whole.
const READ_BYTES: usize = 1 << 20;
/// How much of a frame that is perhaps skipped.
const SKIP_BYTES: usize = 16 << 10;

impl<'a> FrameScan<'a> {
    pub(crate) fn new(
        file: &'a dyn StorageFile,
        path: &'a Path,
        (log, segment): (LogId, u64),
        position: u64,
        end: u64,
    ) -> Self {
        Self {
            file,
            path,
            log,
            segment,
            position,
            end,
            buffer: Vec::new(),
            buffer_at: position,
            ahead: READ_BYTES,
        }
    }

    /// The next frame, or `None` where there is no sound one; `position` then tells where that is.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, LogError> {
        let Some((header, header_crc)) = self.header()? else {
            return Ok(None);
        };
        let position = self.position;
        let frame_bytes = header.frame_bytes();
        if position + frame_bytes > self.end {
            return Ok(None);
        }
        self.ahead = READ_BYTES;
        self.load(position, frame_bytes as usize)?;
        let at = (position - self.buffer_at) as usize;
        let body = &self.buffer[at + HEADER_BYTES..at + frame_bytes as usize];
        if !header.matches(body) {
            return Ok(None);
        }
        self.position = position + frame_bytes;
        Ok(Some(Frame {
            position,
            header,
            header_crc,
            body,
        }))
    }

    /// The header at the position, if it is sound.
    pub(crate) fn header(&mut self) -> Result<Option<(Header, u32)>, LogError> {
        if self.position + HEADER_BYTES as u64 > self.end {
            return Ok(None);
        }
        self.load(self.position, HEADER_BYTES)?;
        let at = (self.position - self.buffer_at) as usize;
        let bytes = self.buffer[at..]
            .first_chunk()
            .expect("a header was loaded");
        let place = Place {
            log: self.log,
            segment: self.segment,
            position: self.position,
        };
        Ok(Header::decode(bytes, place))
    }

    /// What the frame at the position says ahead of its rows, its header having been looked at. The checksum of the body
    /// is not.
    pub(crate) fn outline(
        &mut self,
        header: &Header,
        epoch: u32,
    ) -> Result<Result<Outline, Malformed>, LogError> {
        if self.position + header.frame_bytes() > self.end {
            return Ok(Err(Malformed));
        }
        let mut len = size_of::<u32>();
        loop {
            let there = len.min(header.body_len as usize);
            self.load(self.position, HEADER_BYTES + there)?;
            let at = (self.position - self.buffer_at) as usize + HEADER_BYTES;
            let start = &self.buffer[at..at + there];
            match Outline::bytes(start) {
                Ok(wanted) if wanted > len => len = wanted,
                Ok(_) => return Ok(Outline::read(header, epoch, start)),
                Err(malformed) => return Ok(Err(malformed)),
            }
        }
    }

    /// Skips a frame whose header was looked at. The next one may be skipped too, so little is read until one is not.
    pub(crate) fn skip(&mut self, header: &Header) {
        self.position += header.frame_bytes();
        self.ahead = SKIP_BYTES;
    }

    /// Looks for sound frames at every place behind damage: the highest `durable_end` that one of them states.
    pub(crate) fn highest_proof(mut self) -> Result<u64, LogError> {
        let mut highest = 0;
        self.position = self.position.next_multiple_of(8);
        while self.position + (HEADER_BYTES as u64) <= self.end {
            match self.header()? {
                Some((header, _)) => {
                    let at = self.position;
                    if self.next()?.is_some() {
                        highest = highest.max(header.durable_end);
                    } else {
                        self.position = at + 8;
                    }
                }
                None => self.position += 8,
            }
        }
        Ok(highest)
    }

    /// Sees to it that `len` bytes at a position are in the buffer.
    fn load(&mut self, position: u64, len: usize) -> Result<(), LogError> {
        let loaded = self.buffer_at + self.buffer.len() as u64;
        if position >= self.buffer_at && position + len as u64 <= loaded {
            return Ok(());
        }
        let wanted = len
            .max(self.ahead)
            .min((self.end - position) as usize)
            .max(len);
        self.buffer.resize(wanted, 0);
        self.buffer_at = position;
        read_exact(self.file, &mut self.buffer, position)
            .map_err(LogError::io("reading", self.path))
    }
}

/// Reads and checks a segment's header.
pub(crate) fn read_header(file: &dyn StorageFile, path: &Path) -> Result<SegmentHeader, LogError> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let len = file.len().map_err(LogError::io("measuring", path))?;
    if len >= SEGMENT_HEADER_BYTES as u64 {
        read_exact(file, &mut bytes, 0).map_err(LogError::io("reading", path))?;
    }
    SegmentHeader::decode(&bytes).map_err(|bad| match bad {
        BadHeader::TooNew(needed) => LogError::TooNew {
            path: path.to_path_buf(),
            needed,
            supported: READER_VERSION,
        },
        BadHeader::Damaged => LogError::Corrupt {
            path: path.to_path_buf(),
            position: 0,
            offset: Offset::ZERO,
            reason: "its header is damaged".into(),
        },
    })
}

/// The path of a segment.
pub(crate) fn path(directory: &Path, first_offset: Offset, number: u64) -> PathBuf {
    directory.join(file_name(first_offset, number))
}
