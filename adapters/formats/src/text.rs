//! Bodies of text: one object, an array, or an object a line.
//!
//! UTF-8 is checked once for the whole body. Only in a body that is not UTF-8 is it checked event by event, so that
//! the sound ones can be told from the others. After an event that cannot be understood, reading goes on with the next
//! line or element, as long as its start can be found; where it cannot, what is left counts as one.

use std::collections::BTreeMap;
use std::ops::Range;

use modelog_engine::batch::EventBatchBuilder;

use crate::error::{Code, Fault, Faulty, LocatedError};
use crate::event::{check_size, trailing};
use crate::gather::Gather;
use crate::options::Limits;
use crate::scan::{Scanner, rough_end};

/// Reads the event at a place in a text: flat, or in an envelope.
pub(crate) trait ReadEvent {
    /// Answers where the event ends. After a fault the batch is as before.
    ///
    /// With `alone`, nothing but blanks may follow.
    fn read(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        start: usize,
        alone: bool,
    ) -> Faulty<usize>;

    /// How often each field came that its kind does not have.
    fn unknown_fields(self) -> BTreeMap<String, u64>;
}

/// How events lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Lines,
    ObjectOrArray,
    Object,
    Array,
}

/// A body of text, being read.
pub(crate) struct Body<'b, 'o, R> {
    bytes: &'b [u8],
    /// The same, if all of it is UTF-8.
    text: Option<&'b str>,
    limits: &'o Limits,
    reader: &'b mut R,
    gather: &'b mut Gather<'o>,
    lines: Lines,
}

impl<'b, 'o, R: ReadEvent> Body<'b, 'o, R> {
    pub(crate) fn new(
        bytes: &'b [u8],
        limits: &'o Limits,
        reader: &'b mut R,
        gather: &'b mut Gather<'o>,
    ) -> Self {
        Self {
            bytes,
            text: simdutf8::basic::from_utf8(bytes).ok(),
            limits,
            reader,
            gather,
            lines: Lines::default(),
        }
    }

    /// Reads all of it.
    pub(crate) fn read(&mut self, layout: Layout) {
        match layout {
            Layout::Lines => self.lines(),
            _ => self.document(layout),
        }
    }

    /// Reads an object a line; blank lines are passed over.
    fn lines(&mut self) {
        let mut at = after_mark(self.bytes);
        while at < self.bytes.len() {
            let end = memchr::memchr(b'\n', &self.bytes[at..])
                .map_or(self.bytes.len(), |found| at + found);
            let start = blanks(self.bytes, at);
            if start < end {
                let event = self.event(start..end);
                if !self.settle(event, start..end) {
                    return;
                }
            }
            at = end + 1;
        }
    }

    /// Reads one document.
    fn document(&mut self, layout: Layout) {
        let start = blanks(self.bytes, after_mark(self.bytes));
        match self.bytes.get(start) {
            None => {}
            Some(b'[') if layout != Layout::Object => self.array(start),
            Some(b'{') if layout == Layout::Array => {
                let fault = Fault::new(
                    Code::BadCloudEvent,
                    start,
                    "a batch of CloudEvents is a JSON array",
                );
                self.settle(Err(fault), start..self.bytes.len());
            }
            Some(_) => {
                let event = self.event(start..self.bytes.len());
                self.settle(event, start..self.bytes.len());
            }
        }
    }

    /// Reads an event that is all there is in a stretch of the body.
    #[inline]
    fn event(&mut self, range: Range<usize>) -> Faulty<usize> {
        let text = match self.text {
            Some(text) => &text[range.clone()],
            None => self.checked(range.clone())?,
        };
        check_size(text.trim_ascii_end().len(), self.limits.event_bytes, 0)
            .and_then(|()| self.reader.read(&mut self.gather.builder, text, 0, true))
            .map_err(|fault| fault.moved_by(range.start))
    }

    /// Reads an array of events, from its bracket.
    fn array(&mut self, start: usize) {
        let mut at = blanks(self.bytes, start + 1);
        if self.bytes.get(at) == Some(&b']') {
            return self.end(at + 1);
        }
        loop {
            let element = self.element(at);
            let end = match &element {
                Ok(end) => Some(*end),
                Err(_) => self.element_end(at),
            };
            if !self.settle(element, at..end.unwrap_or(self.bytes.len())) {
                return;
            }
            let Some(end) = end else { return };
            at = blanks(self.bytes, end);
            match self.bytes.get(at) {
                Some(b',') => at = blanks(self.bytes, at + 1),
                Some(b']') => return self.end(at + 1),
                found => {
                    let found = match found {
                        None => "but the text ends".to_owned(),
                        Some(byte) => format!("not {:?}", char::from(*byte)),
                    };
                    let message = format!("`,` or `]` is expected, {found}");
                    let fault = Fault::new(Code::BadJson, at, message);
                    self.settle(Err(fault), at..self.bytes.len());
                    return;
                }
            }
        }
    }

    #[inline]
    fn element(&mut self, at: usize) -> Faulty<usize> {
        if let Some(text) = self.text {
            return self.reader.read(&mut self.gather.builder, text, at, false);
        }
        let end = rough_end(self.bytes, at).unwrap_or(self.bytes.len());
        let text = self.checked(at..end)?;
        let read = self.reader.read(&mut self.gather.builder, text, 0, false);
        read.map(|end| at + end).map_err(|fault| fault.moved_by(at))
    }

    /// Where an element ends that is no event.
    #[cold]
    fn element_end(&self, at: usize) -> Option<usize> {
        let sound = self.text.and_then(|text| {
            let mut scan = Scanner::new(text, at, self.limits);
            scan.value(0).ok().map(|_| scan.at())
        });
        sound.or_else(|| rough_end(self.bytes, at))
    }

    /// Nothing but blanks may follow.
    fn end(&mut self, at: usize) {
        let rest = blanks(self.bytes, at);
        if rest < self.bytes.len() {
            self.settle(Err(trailing(rest)), rest..self.bytes.len());
        }
    }

    /// Takes note of what came of an event; answers whether to go on.
    #[inline]
    fn settle(&mut self, event: Faulty<usize>, raw: Range<usize>) -> bool {
        match event {
            Ok(_) => self.gather.accepted(),
            Err(fault) => self.reject(*fault, raw),
        }
    }

    #[cold]
    fn reject(&mut self, fault: Fault, raw: Range<usize>) -> bool {
        let error = LocatedError {
            event: self.gather.events(),
            line: Some(self.lines.of(self.bytes, fault.at)),
            byte: Some(fault.at as u64),
            field: fault.field,
            code: fault.code.as_str(),
            message: fault.message,
        };
        self.gather
            .rejected(error, self.bytes[raw].trim_ascii_end())
    }

    /// A stretch of a body that is not all UTF-8.
    #[cold]
    fn checked(&self, range: Range<usize>) -> Faulty<&'b str> {
        simdutf8::compat::from_utf8(&self.bytes[range.clone()]).map_err(|error| {
            let at = range.start + error.valid_up_to();
            let message = format!("byte 0x{:02X} is not UTF-8", self.bytes[at]);
            Fault::new(Code::InvalidUtf8, at, message)
        })
    }
}

/// Counts lines up to places that come one after the other.
#[derive(Debug, Default)]
struct Lines {
    at: usize,
    breaks: u64,
}

impl Lines {
    /// The line of a byte, counted from 1.
    fn of(&mut self, bytes: &[u8], at: usize) -> u64 {
        if at < self.at {
            *self = Self::default();
        }
        let at = at.min(bytes.len());
        self.breaks += memchr::memchr_iter(b'\n', &bytes[self.at..at]).count() as u64;
        self.at = at;
        self.breaks + 1
    }
}

/// Where the text starts: after a byte order mark, if there is one.
fn after_mark(bytes: &[u8]) -> usize {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if bytes.starts_with(MARK) {
        MARK.len()
    } else {
        0
    }
}

/// Where the next byte that is not blank is; the end if there is none.
#[inline]
fn blanks(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}
