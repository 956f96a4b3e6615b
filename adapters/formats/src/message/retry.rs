//! Messages that were rejected, read again.
//!
//! What is rejected is in the log with all that is needed to read it once more, after a limit was raised or a producer's
//! mistake has become a known format. An event that has an `id` keeps it. One that has none gets the place it came from,
//! so that the log recognises it when it is retried twice.

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::FieldError;
use modelog_engine::event::schema::{ID, ID_BYTES_MAX, SOURCE};

use super::place::{Part, Position};
use super::shape::Shape;
use crate::error::{Faulty, LocatedError};
use crate::event::{EventReader, Given, Known};
use crate::json::push_string;
use crate::rejection::sha256;
use crate::scan::Scanner;
use crate::text::{Here, Layout};

/// A message, or a part of one, as an `EventRejected` keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RejectedMessage<'a> {
    pub position: &'a str,
    pub raw: &'a [u8],
    /// How many bytes there were, of which `raw` are the first.
    pub raw_bytes: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// JSON.
    pub headers: Option<&'a str>,
}

/// Why nothing came of reading a message again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    #[error("its position {0:?} is not that of a message in a stream")]
    NotAMessage(String),
    #[error("only {kept} of its {bytes} bytes were kept; read it from its stream again")]
    CutShort { kept: usize, bytes: i64 },
    #[error("its headers were too long to be kept whole; read it from its stream again")]
    HeadersLeftOut,
    #[error("the source given to it cannot be one")]
    BadSource(#[source] FieldError),
    #[error("it still cannot be understood: {0}")]
    Rejected(LocatedError),
}

/// What is known of a message that is read again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry<'a> {
    pub(super) position: Position<'a>,
    pub(super) source: &'a str,
}

impl<'a> Retry<'a> {
    pub(super) fn new(rejected: &RejectedMessage<'a>, source: &'a str) -> Result<Self, RetryError> {
        let position = Position::parse(rejected.position)
            .ok_or_else(|| RetryError::NotAMessage(rejected.position.to_owned()))?;
        let kept = rejected.raw.len();
        if let Some(bytes) = rejected.raw_bytes
            && i64::try_from(kept) != Ok(bytes)
        {
            return Err(RetryError::CutShort { kept, bytes });
        }
        super::check_source(source).map_err(RetryError::BadSource)?;
        Ok(Self { position, source })
    }

    pub(super) fn is_whole(&self) -> bool {
        self.position.part == Part::Whole
    }

    /// The number of the first event in it.
    pub(super) fn first(&self) -> u64 {
        match self.position.part {
            Part::Whole => 0,
            Part::Event(number) | Part::Lines(number) | Part::Elements(number) => number,
        }
    }

    /// What the bytes are, if the message they are of was of a shape.
    pub(super) fn shape(&self, message: Shape) -> Shape {
        match (message, self.position.part) {
            (Shape::Text(objects, _), Part::Event(_)) => Shape::Text(objects, Layout::Object),
            (Shape::Text(objects, _), Part::Lines(_)) => Shape::Text(objects, Layout::Lines),
            (Shape::Text(objects, _), Part::Elements(_)) => {
                Shape::Text(objects, Layout::RestOfArray)
            }
            (shape, _) => shape,
        }
    }

    /// The id of what has none: its place, or the SHA-256 of that if it is too long.
    pub(super) fn id(&self, part: Part) -> String {
        let place = self.position.place;
        let text = Position { place, part }.to_string();
        match text.len() {
            0..=ID_BYTES_MAX => text,
            _ => sha256(text.as_bytes()),
        }
    }

    /// The id of an event that has none, by its number in what is read.
    pub(super) fn event_id(&self, number: Option<u64>) -> String {
        self.id(number.map_or(self.position.part, Part::Event))
    }

    /// Reads a flat event, which is given an identity if it has none.
    pub(super) fn flat(
        &self,
        events: &mut EventReader<'_>,
        builder: &mut EventBatchBuilder,
        here: Here<'_>,
        known: Known<'_>,
    ) -> Faulty<usize> {
        let mut scratch = String::new();
        let scan = Scanner::new(here.text, here.start, &events.options.limits);
        // What is wrong with the event is found when it is read.
        let mut has = |name| matches!(scan.member(name, 1, &mut scratch), Ok(Some(_)));
        let (has_id, has_source) = (has("id"), has("source"));
        let (mut id, mut source) = (String::new(), String::new());
        push_string(&self.event_id(here.number), &mut id);
        push_string(self.source, &mut source);
        let given = |column, json| Given {
            column,
            json,
            at: None,
        };
        let fields = [given(ID, &id), given(SOURCE, &source)];
        let fields = match (has_id, has_source) {
            (true, _) => &fields[..0],
            (false, true) => &fields[..1],
            (false, false) => &fields[..],
        };
        events.flat(builder, here, Known { fields, ..known })
    }
}
