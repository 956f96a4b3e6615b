//! Bodies of text: one object, an array, or an object a line.
//!
//! UTF-8 is checked once for the whole body. Only in a body that is not UTF-8 is it checked event by event, so that
//! the sound ones can be told from the others. After an event that cannot be understood, reading goes on with the next
//! line or element, as long as its start can be found; where it cannot, what is left counts as one.

use std::ops::Range;

use modelog_engine::batch::EventBatchBuilder;

use crate::error::{Code, Fault, Faulty};
use crate::event::{check_size, trailing};
use crate::gather::{Among, Bad, Sink};
use crate::options::Limits;
use crate::scan::{Scanner, rough_end};

/// Reads the event at a place in a text: flat, or in an envelope.
pub(crate) trait ReadEvent {
    /// Answers where the event ends. After a fault the batch is as before.
    fn read(&mut self, builder: &mut EventBatchBuilder, here: Here<'_>) -> Faulty<usize>;
}

/// Where an event stands in a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    /// Whether nothing but blanks may follow.
    pub(crate) alone: bool,
    /// Which of several events of the body it is, counted from 0.
    pub(crate) number: Option<u64>,
}

/// How events lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Lines,
    ObjectOrArray,
    /// As before; or several lines, if the first is an object by itself.
    Any,
    Object,
    Array,
    /// From an element of an array to its end.
    RestOfArray,
}

/// A body of text, being read.
pub(crate) struct Body<'b, 'o, R, S> {
    bytes: &'b [u8],
    /// The same, if all of it is UTF-8.
    text: Option<&'b str>,
    limits: &'o Limits,
    reader: &'b mut R,
    sink: &'b mut S,
    among: Among,
    lines: Lines,
}

impl<'b, 'o, R: ReadEvent, S: Sink> Body<'b, 'o, R, S> {
    pub(crate) fn new(
        bytes: &'b [u8],
        limits: &'o Limits,
        reader: &'b mut R,
        sink: &'b mut S,
    ) -> Self {
        Self {
            bytes,
            text: simdutf8::basic::from_utf8(bytes).ok(),
            limits,
            reader,
            sink,
            among: Among::Alone,
            lines: Lines::default(),
        }
    }

    /// Reads all of it.
    pub(crate) fn read(&mut self, layout: Layout) {
        match layout {
            Layout::Lines => self.lines(),
            Layout::RestOfArray => {
                self.among = Among::Elements;
                self.elements(0);
            }
            _ => self.document(layout),
        }
    }

    /// Reads an object a line; blank lines are passed over.
    fn lines(&mut self) {
        self.among = Among::Lines;
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
                if layout == Layout::Any && event.is_err() && self.is_of_lines(start) {
                    return self.lines();
                }
                self.settle(event, start..self.bytes.len());
            }
        }
    }

    /// Whether the first line is an object by itself, and not the last line.
    #[cold]
    fn is_of_lines(&self, start: usize) -> bool {
        let rest = &self.bytes[start..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return false;
        };
        let (line, more) = rest.split_at(end);
        let Ok(line) = checked(line) else {
            return false;
        };
        let mut scan = Scanner::new(line, 0, self.limits);
        let is_object = scan.peek() == Some(b'{') && scan.value(0).is_ok();
        is_object && scan.blanks().is_none() && !more.trim_ascii().is_empty()
    }

    /// Reads an event that is all there is in a stretch of the body.
    #[inline]
    fn event(&mut self, range: Range<usize>) -> Faulty<usize> {
        let text = match self.text {
            Some(text) => &text[range.clone()],
            None => self.checked(range.clone())?,
        };
        let here = self.here(text, 0, true);
        check_size(text.trim_ascii_end().len(), self.limits.event_bytes, 0)
            .and_then(|()| self.reader.read(self.sink.builder(), here))
            .map_err(|fault| fault.moved_by(range.start))
    }

    #[inline]
    fn here<'a>(&self, text: &'a str, start: usize, alone: bool) -> Here<'a> {
        Here {
            text,
            start,
            alone,
            number: (self.among != Among::Alone).then(|| self.sink.events()),
        }
    }

    /// Reads an array of events, from its bracket.
    fn array(&mut self, start: usize) {
        self.among = Among::Elements;
        let at = blanks(self.bytes, start + 1);
        if self.bytes.get(at) == Some(&b']') {
            return self.end(at + 1);
        }
        self.elements(at);
    }

    /// Reads elements, from one of them to the end of their array.
    fn elements(&mut self, mut at: usize) {
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
            let here = self.here(text, at, false);
            return self.reader.read(self.sink.builder(), here);
        }
        let end = rough_end(self.bytes, at).unwrap_or(self.bytes.len());
        let text = self.checked(at..end)?;
        let here = self.here(text, 0, false);
        let read = self.reader.read(self.sink.builder(), here);
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
            Ok(_) => self.sink.accepted(),
            Err(fault) => self.reject(*fault, raw),
        }
    }

    #[cold]
    fn reject(&mut self, fault: Fault, range: Range<usize>) -> bool {
        let line = self.lines.of(self.bytes, fault.at);
        let error = fault.located(self.sink.events(), Some(line));
        let bad = Bad {
            body: self.bytes,
            range,
            among: self.among,
        };
        self.sink.rejected(error, bad)
    }

    /// A stretch of a body that is not all UTF-8.
    #[cold]
    fn checked(&self, range: Range<usize>) -> Faulty<&'b str> {
        checked(&self.bytes[range.clone()]).map_err(|fault| fault.moved_by(range.start))
    }
}

/// Bytes as text.
pub(crate) fn checked(bytes: &[u8]) -> Faulty<&str> {
    simdutf8::compat::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let message = format!("byte 0x{:02X} is not UTF-8", bytes[at]);
        Fault::new(Code::InvalidUtf8, at, message)
    })
}

/// The line of a byte, counted from 1.
#[cold]
pub(crate) fn line_of(bytes: &[u8], at: usize) -> u64 {
    Lines::default().of(bytes, at)
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
