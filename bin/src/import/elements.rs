//! Cutting JSON: an array of events, or events one after another, however they are laid out.
//!
//! Only strings and brackets are looked at, enough to tell where an event ends; what is between is for the format to
//! judge. Every piece is an array again, of the events as they were written.

use modelog_formats::Format;

use super::chunk::{CHUNK_BYTES, Chunk, Cut, CutError, EVENT_BYTES_MAX, EventPlace, Places};
use super::input::{Block, Blocks};

/// What the scanner is about to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first byte that is not blank decides what this is.
    Start,
    /// An event, or the end: of the array where it is still empty, of the input outside of one.
    FirstOrEnd,
    /// An event.
    Element,
    /// A comma, or the end of the array.
    CommaOrEnd,
    /// Nothing but blanks.
    Nothing,
    /// The rest of an event.
    Inside(Nesting),
}

/// Where in an event the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nesting {
    /// Within so many brackets.
    Brackets(u32),
    /// In a string, within so many brackets.
    String { brackets: u32, escaped: bool },
    /// In a number, or a word.
    Bare,
}

/// JSON in pieces.
#[derive(Debug)]
pub(super) struct Elements {
    name: String,
    format: Format,
    blocks: Blocks,
    block: Vec<u8>,
    /// How far the block is read.
    at: usize,
    state: State,
    array: bool,
    /// Where the scanner stands in the input.
    byte: u64,
    line: u64,
    /// Where the event that is being read starts.
    start: EventPlace,
    /// The piece so far: an open array.
    piece: Vec<u8>,
    places: Vec<EventPlace>,
    index: u64,
}

impl Elements {
    /// `format` is that of an array of events.
    pub(super) fn new(name: String, blocks: Blocks, format: Format) -> Self {
        Self {
            name,
            format,
            blocks,
            block: Vec::new(),
            at: 0,
            state: State::Start,
            array: false,
            byte: 0,
            line: 1,
            start: EventPlace {
                at: 0,
                byte: 0,
                line: 1,
            },
            piece: vec![b'['],
            places: Vec::new(),
            index: 0,
        }
    }

    fn wrong(&self, message: impl Into<String>) -> CutError {
        CutError::Text {
            name: self.name.clone(),
            line: self.line,
            byte: self.byte,
            message: message.into(),
        }
    }

    fn take(&mut self) -> Chunk {
        self.piece.push(b']');
        self.index += 1;
        Chunk {
            index: self.index - 1,
            bytes: std::mem::replace(&mut self.piece, vec![b'[']),
            format: self.format,
            events: self.places.len() as u64,
            places: Places::Events(std::mem::take(&mut self.places)),
        }
    }

    /// Reads one byte.
    fn step(&mut self, byte: u8) -> Result<(), CutError> {
        match self.state {
            State::Inside(nesting) => self.inside(nesting, byte),
            _ if byte.is_ascii_whitespace() => Ok(()),
            State::Start => {
                self.array = byte == b'[';
                self.state = State::FirstOrEnd;
                if self.array { Ok(()) } else { self.begin(byte) }
            }
            State::FirstOrEnd if self.array && byte == b']' => {
                self.state = State::Nothing;
                Ok(())
            }
            State::FirstOrEnd | State::Element => self.begin(byte),
            State::CommaOrEnd => {
                self.state = match byte {
                    b',' => State::Element,
                    b']' => State::Nothing,
                    _ => return Err(self.wrong("a comma or the end of the array is missing here")),
                };
                Ok(())
            }
            State::Nothing => Err(self.wrong("something follows the end of the array")),
        }
    }

    fn begin(&mut self, byte: u8) -> Result<(), CutError> {
        if matches!(byte, b',' | b']' | b'}' | b':') {
            return Err(self.wrong(format!("an event is missing before {:?}", char::from(byte))));
        }
        if !self.places.is_empty() {
            self.piece.push(b',');
        }
        self.start = EventPlace {
            at: self.piece.len() as u64,
            byte: self.byte,
            line: self.line,
        };
        self.piece.push(byte);
        self.state = State::Inside(match byte {
            b'{' | b'[' => Nesting::Brackets(1),
            b'"' => Nesting::String {
                brackets: 0,
                escaped: false,
            },
            _ => Nesting::Bare,
        });
        Ok(())
    }

    fn inside(&mut self, nesting: Nesting, byte: u8) -> Result<(), CutError> {
        let next = match nesting {
            Nesting::Bare => {
                let ends = byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'{' | b'[');
                if ends {
                    self.end();
                    return self.step(byte);
                }
                Some(Nesting::Bare)
            }
            Nesting::String { brackets, escaped } => match byte {
                b'"' if !escaped && brackets == 0 => None,
                b'"' if !escaped => Some(Nesting::Brackets(brackets)),
                _ => Some(Nesting::String {
                    brackets,
                    escaped: !escaped && byte == b'\\',
                }),
            },
            Nesting::Brackets(brackets) => match byte {
                b'"' => Some(Nesting::String {
                    brackets,
                    escaped: false,
                }),
                b'{' | b'[' => Some(Nesting::Brackets(brackets.saturating_add(1))),
                b'}' | b']' if brackets == 1 => None,
                b'}' | b']' => Some(Nesting::Brackets(brackets - 1)),
                _ => Some(nesting),
            },
        };
        self.piece.push(byte);
        match next {
            Some(nesting) => self.state = State::Inside(nesting),
            None => self.end(),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.places.push(self.start);
        self.state = if self.array {
            State::CommaOrEnd
        } else {
            State::Element
        };
    }

    /// Scans the block; answers as soon as a piece is full.
    fn scan(&mut self) -> Result<Option<Chunk>, CutError> {
        while self.at < self.block.len() {
            self.skip_text();
            self.check_length()?;
            let Some(byte) = self.block.get(self.at).copied() else {
                break;
            };
            self.step(byte)?;
            self.at += 1;
            self.byte += 1;
            self.line += u64::from(byte == b'\n');
            let between = !matches!(self.state, State::Inside(_));
            if between && self.piece.len() >= CHUNK_BYTES {
                return Ok(Some(self.take()));
            }
        }
        Ok(None)
    }

    /// Where an event ends that does not end is anybody's guess.
    fn check_length(&self) -> Result<(), CutError> {
        let inside = matches!(self.state, State::Inside(_));
        if !inside || self.piece.len() - self.start.at as usize <= EVENT_BYTES_MAX {
            return Ok(());
        }
        let EventPlace { byte, line, .. } = self.start;
        Err(CutError::Text {
            name: self.name.clone(),
            line,
            byte,
            message: format!(
                "the event that starts here does not end within {EVENT_BYTES_MAX} bytes"
            ),
        })
    }

    /// Passes over what cannot end a string, which is most of most events.
    fn skip_text(&mut self) {
        let State::Inside(Nesting::String { escaped: false, .. }) = self.state else {
            return;
        };
        let rest = &self.block[self.at..];
        let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let text = &rest[..end];
        self.piece.extend_from_slice(text);
        self.line += memchr::memchr_iter(b'\n', text).count() as u64;
        self.byte += end as u64;
        self.at += end;
    }

    fn finish(&mut self) -> Result<Option<Chunk>, CutError> {
        match self.state {
            State::Inside(Nesting::Bare) if !self.array => self.end(),
            State::Inside(_) => {
                let EventPlace { line, .. } = self.start;
                return Err(self.wrong(format!(
                    "the input ends within the event that starts at line {line}"
                )));
            }
            State::FirstOrEnd | State::Element | State::CommaOrEnd if self.array => {
                return Err(self.wrong("the input ends before the array does"));
            }
            _ => {}
        }
        self.state = State::Nothing;
        Ok((!self.places.is_empty()).then(|| self.take()))
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Cut for Elements {
    fn next(&mut self) -> Result<Option<Chunk>, CutError> {
        loop {
            if let Some(chunk) = self.scan()? {
                return Ok(Some(chunk));
            }
            let block = self.blocks.next().map_err(|source| CutError::Io {
                name: self.name.clone(),
                source,
            })?;
            match block {
                Block::Bytes(bytes) => {
                    let first = self.state == State::Start && self.byte == 0;
                    self.at = 0;
                    self.block = bytes;
                    if first && self.block.starts_with(BYTE_ORDER_MARK) {
                        self.at = BYTE_ORDER_MARK.len();
                        self.byte = self.at as u64;
                    }
                }
                Block::End(_) => return self.finish(),
                Block::Pause => {
                    let between = !matches!(self.state, State::Inside(_));
                    if between && !self.places.is_empty() {
                        return Ok(Some(self.take()));
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
