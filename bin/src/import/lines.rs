//! Cutting NDJSON: between lines.
//!
//! A piece ends with the last line that ends within [`CHUNK_BYTES`], or with the first one if that is longer.

use modelog_formats::Format;

use super::chunk::{CHUNK_BYTES, Chunk, Cut, CutError, EVENT_BYTES_MAX, Places};
use super::input::{Block, Blocks};

/// NDJSON in pieces.
#[derive(Debug)]
pub(super) struct Lines {
    name: String,
    blocks: Blocks,
    buffer: Vec<u8>,
    ended: bool,
    index: u64,
    /// Where the buffer starts in the input.
    byte: u64,
    line: u64,
}

impl Lines {
    pub(super) fn new(name: String, blocks: Blocks) -> Self {
        Self {
            name,
            blocks,
            buffer: Vec::new(),
            ended: false,
            index: 0,
            byte: 0,
            line: 1,
        }
    }

    /// Where the next piece ends; none if more must be read to tell.
    fn cut(&self) -> Option<usize> {
        if self.buffer.len() < CHUNK_BYTES {
            return (self.ended && !self.buffer.is_empty()).then_some(self.buffer.len());
        }
        let end = |at| at + 1;
        memchr::memrchr(b'\n', &self.buffer[..CHUNK_BYTES])
            .map(end)
            .or_else(|| {
                memchr::memchr(b'\n', &self.buffer[CHUNK_BYTES..]).map(|at| end(at + CHUNK_BYTES))
            })
            .or(self.ended.then_some(self.buffer.len()))
    }

    fn take(&mut self, end: usize) -> Chunk {
        let rest = self.buffer.split_off(end);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let (line, byte) = (self.line, self.byte);
        let mut events = 0;
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += u64::from(text.ends_with(b"\n"));
            events += u64::from(!text.trim_ascii().is_empty());
        }
        self.byte += bytes.len() as u64;
        self.index += 1;
        Chunk {
            index: self.index - 1,
            bytes,
            format: Format::Ndjson,
            events,
            places: Places::Stretch { line, byte },
        }
    }
}

impl Cut for Lines {
    fn next(&mut self) -> Result<Option<Chunk>, CutError> {
        loop {
            if let Some(end) = self.cut() {
                return Ok(Some(self.take(end)));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(CutError::Text {
                    name: self.name.clone(),
                    line: self.line,
                    byte: self.byte,
                    message: format!("the line is longer than {EVENT_BYTES_MAX} bytes"),
                });
            }
            let block = self.blocks.next().map_err(|source| CutError::Io {
                name: self.name.clone(),
                source,
            })?;
            match block {
                Block::Bytes(bytes) => self.buffer.extend_from_slice(&bytes),
                Block::End(_) => self.ended = true,
                Block::Pause => {
                    if let Some(at) = memchr::memrchr(b'\n', &self.buffer) {
                        return Ok(Some(self.take(at + 1)));
                    }
                }
            }
        }
    }

    fn digest(&mut self) -> Result<Option<[u8; 32]>, CutError> {
        match self.blocks.next() {
            Ok(Block::End(digest)) => Ok(digest),
            Ok(_) => Ok(None),
            Err(source) => Err(CutError::Io {
                name: self.name.clone(),
                source,
            }),
        }
    }
}
