//! Messages of a stream, such as the records of a Kafka topic, into one batch.
//!
//! ```text
//! message: headers ─▶ Shape ─┬─ text: frame taken off ─▶ objects, flat or in envelopes ─┐
//!                            ├─ CloudEvent in binary mode ──────────────────────────────┼─▶ Recorder ─▶ EventBatch
//!                            └─ Arrow stream ───────────────────────────────────────────┘
//! ```
//!
//! A reader takes message after message, and what it learns from one, such as the order of fields, makes the next one
//! faster. On the good path nothing is allocated per message.
//!
//! # What a message is
//! With [`MessageFormat::Auto`] each is looked at by itself, and the first rule that fits decides:
//!
//! 1. `ce_type` names an event of KServe's inference logger: a CloudEvent in binary mode, whatever the content type says.
//! 2. `content-type` starts with `application/cloudevents`: a structured CloudEvent, or an array of them if it goes on
//!    with `-batch+json`.
//! 3. There is a `ce_specversion`: a CloudEvent in binary mode; the content type is that of its data.
//! 4. `content-type` is `application/vnd.apache.arrow.stream`: an Arrow stream, whose schema names the kind. It is taken
//!    whole or rejected whole.
//! 5. `content-type` is `application/x-ndjson`: an object a line.
//! 6. Anything else is JSON: an object, an array of objects, or several lines if the first is an object by itself. An object
//!    that has a `specversion` is a CloudEvent, any other a flat event; no flat event has such a field.
//!
//! The other formats say what all messages of a stream are. [`MessageFormat::Json`] looks at no headers, the other two
//! tell structured from binary mode by them. Names of headers and media types are the same in any case; parameters of
//! media types are passed over.
//!
//! JSON may have the framing of a schema registry in front, a zero byte and four more: no JSON text begins so.
//!
//! # Invariants
//! M1. Reading never fails: what cannot be understood is in the batch as `EventRejected`, with its bytes, key and headers, in
//!     its place among the events. A message without a value is a tombstone, and leaves no row.
//! M2. A message leaves at most a hundred records of bad events, and takes memory in proportion to its size.
//! M3. The batch of lines read as messages is the batch of the same lines read as a body.

mod frame;
mod headers;
mod objects;
mod place;
mod recorder;
mod retry;
mod shape;
mod value;

use std::collections::BTreeMap;

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::schema::SOURCE;
use modelog_engine::event::{FieldError, Kind};

use crate::Decoded;
use crate::kserve::ModelTemplate;
use crate::options::Options;

pub use headers::{HeaderPairs, headers_of};
pub use place::Place;
pub use retry::{RejectedMessage, RetryError};

pub(crate) use headers::to_json as headers_json;

use recorder::{Recorder, Rows};
use retry::Retry;
use shape::Shape;
use value::ValueReader;

/// What the messages of a stream are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageFormat {
    /// Each may be anything that is read; its headers and its content tell.
    #[default]
    Auto,
    /// Flat events, whatever the headers say.
    Json,
    /// CloudEvents, structured or in binary mode; those of KServe's inference logger too.
    CloudEvents,
    /// CloudEvents of KServe's inference logger only.
    KServe,
}

/// One message of a stream, such as a Kafka record.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Only looked at when something is rejected.
    pub place: Place<'a>,
    /// None: a tombstone.
    pub value: Option<&'a [u8]>,
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// So many events; none if nothing is in the message.
    Events(u32),
    /// Some of it cannot be understood, and is in the batch as so many `EventRejected`.
    Rejected {
        events: u32,
        rejected: u32,
        /// The code of the first, one of [`ERROR_CODES`](crate::ERROR_CODES).
        reason: &'static str,
    },
    /// It has no value.
    Tombstone,
    /// It was not read: with it, the batch would be larger than [`Limits::batch_bytes`](crate::Limits::batch_bytes) allows. A new reader takes it.
    Full,
}

/// Reads messages into a batch.
#[derive(Debug)]
pub struct MessageReader<'o> {
    format: MessageFormat,
    values: ValueReader<'o>,
    rows: Rows,
    source: Option<&'o str>,
}

impl<'o> MessageReader<'o> {
    /// A reader with an empty batch. Of the options, `on_error` is not looked at: what is wrong is recorded.
    #[must_use]
    pub fn new(format: MessageFormat, options: &'o Options, template: &'o ModelTemplate) -> Self {
        Self {
            format,
            values: ValueReader::new(options, template),
            rows: Rows::default(),
            source: None,
        }
    }

    /// Has the records of what is rejected say where they are from: the `source` of events, such as
    /// [`kafka_source`](modelog_engine::origin::kafka_source) names it.
    ///
    /// # Errors
    /// If no event can have it.
    pub fn with_source(self, source: &'o str) -> Result<Self, FieldError> {
        check_source(source)?;
        let source = Some(source);
        Ok(Self { source, ..self })
    }

    /// Reads one message. Whatever is in it becomes rows: events, or `EventRejected`.
    #[inline]
    pub fn read(&mut self, message: &Message<'_>) -> Outcome {
        let Some(value) = message.value else {
            return Outcome::Tombstone;
        };
        if !self.has_room(value.len()) {
            return Outcome::Full;
        }
        let shape = Shape::of(message, self.format);
        let limits = self.values.limits();
        let mut recorder = Recorder::new(&mut self.rows, limits, message, None, self.source);
        self.values.read(shape, value, &mut recorder);
        recorder.outcome()
    }

    /// Reads a message again that was rejected. Its events are the same, save that those without an `id` get their place
    /// as one, `topic/partition/position` and the number of the event in its message, and `source` if they have none.
    ///
    /// Where several events were rejected together, those that are good now become events, the others are recorded again.
    ///
    /// # Errors
    /// If it cannot be read, or is one event that still cannot be understood; the batch is as before.
    pub fn read_rejected(
        &mut self,
        rejected: &RejectedMessage<'_>,
        source: &str,
    ) -> Result<Outcome, RetryError> {
        let retry = Retry::new(rejected, source)?;
        if !self.has_room(rejected.raw.len()) {
            return Ok(Outcome::Full);
        }
        let headers = rejected
            .headers
            .map_or_else(|| Some(HeaderPairs::default()), headers_of);
        let whole = headers.filter(|headers| headers.left_out == 0);
        let headers = whole.ok_or(RetryError::HeadersLeftOut)?.pairs;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let message = Message {
            place: retry.position.place,
            value: Some(rejected.raw),
            key: rejected.key,
            headers: &headers,
        };
        let shape = retry.shape(Shape::of(&message, self.format));
        let limits = self.values.limits();
        let mut recorder =
            Recorder::new(&mut self.rows, limits, &message, Some(&retry), Some(source));
        self.values.read(shape, rejected.raw, &mut recorder);
        match recorder.refused.take() {
            Some(error) => Err(RetryError::Rejected(error)),
            None => Ok(recorder.outcome()),
        }
    }

    /// How many events the batch holds so far, records of rejected ones included.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows.builder.rows()
    }

    /// About how many bytes their values take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.builder.bytes()
    }

    /// How often each code was the reason to reject something.
    #[must_use]
    pub fn reasons(&self) -> &BTreeMap<&'static str, u64> {
        &self.rows.reasons
    }

    /// Ends the batch. The events of errors are their numbers in it; lines and bytes are those of their messages.
    #[must_use]
    pub fn finish(self) -> Decoded {
        Decoded {
            batch: self.rows.builder.finish(),
            unknown_fields: self.values.unknown_fields(),
            rejected: self.rows.errors,
        }
    }

    /// An empty batch takes every message.
    #[inline]
    fn has_room(&self, bytes: usize) -> bool {
        let max = self.values.batch_bytes_max();
        self.rows.builder.is_empty() || self.rows.builder.bytes().saturating_add(bytes) <= max
    }
}

/// Whether events can have it as their source.
fn check_source(source: &str) -> Result<(), FieldError> {
    let mut builder = EventBatchBuilder::new();
    builder.row(Kind::EventRejected).text(SOURCE, source)
}
