//! Bytes into batches of events: flat JSON, CloudEvents, Arrow; one body at a time, or message after message.
//!
//! ```text
//! text ─▶ UTF-8 checked once ─▶ scanner: grammar ─▶ field by field into columns ─▶ EventBatch
//! Arrow ─▶ framing checked ───▶ columns cast to the types of the fields ─────────▶ EventBatch
//! ```
//!
//! Text is read once, in place: values go from where they stand into the columns of the batch, and nothing is allocated
//! per event. An event that cannot be understood is described with its line, byte and field; [`OnError`] says whether
//! that refuses the body, or is recorded in the batch in the event's place.
//!
//! # What is accepted
//! - `type` in three spellings (`ModelCreated`, `model_created`, `model.created`), at any place in the event.
//! - Fields of the kind in any order; `null` is the same as leaving a field out, save where a field must be stated.
//!   `input_data` and `output_data` stand for `input` and `output`.
//! - Numbers of fields of floats also as the strings `"NaN"`, `"Infinity"`, `"-Infinity"`.
//! - Fields the kind does not have: kept in `extra`, as they were written, and counted ([`Decoded::unknown_fields`]).
//! - Events that a log gave out: `log_offset` and `append_time` are passed over, because the log that takes the event
//!   sets its own; `extra` is the `extra` of then.
//! - A byte order mark at the start; blank lines; a body of nothing, which is a batch of nothing.
//!
//! # Invariants
//! A1. Text is accepted only if it is UTF-8, valid JSON and without unpaired surrogates; JSON values are kept byte for
//!     byte.
//! A2. Memory is bounded by a constant times the body and [`Limits::batch_bytes`], whatever lengths the body claims.
//! A3. Nothing panics on any bytes.
//! A4. The batch holds one event for every one that was met, in order, or there is no batch.

mod arrow;
mod cloud;
mod error;
mod event;
mod fields;
mod flat;
mod gather;
mod json;
mod kserve;
mod message;
mod options;
mod rejection;
mod scan;
mod text;
mod unknown;
mod value;

use std::collections::BTreeMap;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::{Kind, schema};

pub use error::{DecodeErrors, ERROR_CODES, ErrorCode, LocatedError};
pub use kserve::{ModelTemplate, TemplateError};
pub use message::{
    HeaderPairs, Message, MessageFormat, MessageReader, Outcome, Place, RejectedMessage,
    RetryError, headers_of,
};
pub use options::{Limits, OnError, Options};

use cloud::{CloudReader, Header};
use error::Code;
use event::{EventReader, Given, Known, SPEC_VERSION};
use flat::FlatReader;
use gather::{Gather, Sink as _};
use kserve::Half;
use text::{Body, Layout, ReadEvent};

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One flat event, or an array of them.
    Json,
    /// A flat event a line.
    Ndjson,
    /// One CloudEvent in JSON.
    CloudEvent,
    /// An array of CloudEvents.
    CloudEventBatch,
    /// An Arrow IPC stream of events of one kind.
    Arrow,
}

/// A CloudEvent in binary mode, as HTTP has it: its attributes are headers, its data is the body.
#[derive(Clone, Copy, Debug)]
pub struct BinaryEvent<'a> {
    /// Names as in an envelope, in any case, and values without what the transport did to them.
    pub attributes: &'a [(&'a str, &'a str)],
    /// Of the data.
    pub content_type: Option<&'a str>,
    pub data: &'a [u8],
}

impl BinaryEvent<'_> {
    /// Whether a request is such an event: its type is one of KServe's inference logger, or there is a `specversion` and its
    /// content type is not that of structured CloudEvents.
    #[must_use]
    pub fn is_meant(&self) -> bool {
        let value = |wanted: &str| {
            let mut attributes = self.attributes.iter();
            let found = attributes.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| *value)
        };
        let structured = || {
            let content_type = self.content_type.unwrap_or_default();
            cloud::is_structured(content_type.trim_ascii().as_bytes())
        };
        value("type").is_some_and(|ty| Half::of(ty).is_some())
            || value(SPEC_VERSION).is_some() && !structured()
    }
}

/// Events, and what is worth saying about them.
#[derive(Debug)]
pub struct Decoded {
    pub batch: EventBatch,
    /// How often each field came that its kind does not have.
    pub unknown_fields: BTreeMap<String, u64>,
    /// Why events were recorded as rejected: the first of them, as many as the limits allow.
    pub rejected: Vec<LocatedError>,
}

/// Reads events.
///
/// # Errors
/// What cannot be understood, located; with [`OnError::Record`] only what concerns the whole body.
pub fn decode(bytes: &[u8], format: Format, options: &Options) -> Result<Decoded, DecodeErrors> {
    let layout = match format {
        Format::Json => Layout::ObjectOrArray,
        Format::Ndjson => Layout::Lines,
        Format::CloudEvent => Layout::Object,
        Format::CloudEventBatch => Layout::Array,
        Format::Arrow => return arrow::decode(bytes, options),
    };
    match format {
        Format::CloudEvent | Format::CloudEventBatch => {
            let mut reader = CloudReader::new(options, ModelTemplate::standard());
            let gather = read(bytes, options, &mut reader, layout);
            gather.finish(reader.events.unknown_fields)
        }
        _ => {
            let mut reader = FlatReader {
                events: EventReader::new(options),
                known: Known::default(),
            };
            let gather = read(bytes, options, &mut reader, layout);
            gather.finish(reader.events.unknown_fields)
        }
    }
}

/// Reads a CloudEvent in binary mode. Of events of KServe's inference logger, as of those in envelopes, the model is
/// named by [`ModelTemplate::standard`].
///
/// # Errors
/// What cannot be understood, located; with [`OnError::Record`] it is recorded, with the attributes as headers.
pub fn decode_binary(event: &BinaryEvent<'_>, options: &Options) -> Result<Decoded, DecodeErrors> {
    let mut reader = CloudReader::new(options, ModelTemplate::standard());
    let mut gather = Gather::new(options);
    let attributes = event.attributes.iter();
    let headers = attributes.clone().map(|(name, value)| Header {
        name,
        value: value.as_bytes(),
    });
    let content_type = event.content_type.map(str::as_bytes);
    match reader.binary(&mut gather.builder, headers, content_type, event.data) {
        Ok(()) => {
            gather.accepted();
        }
        Err(fault) => {
            let line = text::line_of(event.data, fault.at);
            let named: Vec<_> = attributes
                .map(|(name, value)| (format!("ce-{name}"), value.as_bytes()))
                .collect();
            let headers = named.iter().map(|(name, value)| (&**name, Some(*value)));
            let content_type = content_type.map(|value| ("content-type", Some(value)));
            let headers = message::headers_json(headers.chain(content_type));
            let error = fault.located(0, Some(line));
            gather.reject(error, event.data, headers.as_deref());
        }
    }
    gather.finish(reader.events.unknown_fields)
}

/// Reads events of a kind that is known, of which some fields are known too, as with an API whose paths name them:
/// one object or an array of them. What is given need not be repeated in the body, nor may it be contradicted there.
/// An empty body is an event of nothing but what is given.
///
/// # Errors
/// What cannot be understood, located; with [`OnError::Record`] only what concerns the whole body.
pub fn decode_as(
    bytes: &[u8],
    kind: Kind,
    given: &[(&str, &str)],
    options: &Options,
) -> Result<Decoded, DecodeErrors> {
    if kind.is_internal() {
        let message = format!("{kind} events are written by the engine only");
        return Err(refused("type", Code::InternalKind, message));
    }
    let texts: Vec<String> = given
        .iter()
        .map(|(_, text)| serde_json::Value::from(*text).to_string())
        .collect();
    let mut fields = Vec::with_capacity(given.len());
    for ((name, _), json) in given.iter().zip(&texts) {
        let Some(column) = schema::find_column(kind, name) else {
            let message = format!("{kind} has no field {name:?}");
            return Err(refused(name, Code::UnknownField, message));
        };
        fields.push(Given {
            column,
            json,
            at: None,
        });
    }
    let mut reader = FlatReader {
        events: EventReader::new(options),
        known: Known {
            kind: Some(kind),
            fields: &fields,
            ..Known::default()
        },
    };
    let bytes = if bytes.trim_ascii().is_empty() {
        b"{}"
    } else {
        bytes
    };
    let gather = read(bytes, options, &mut reader, Layout::ObjectOrArray);
    gather.finish(reader.events.unknown_fields)
}

fn read<'o, R: ReadEvent>(
    bytes: &[u8],
    options: &'o Options,
    reader: &mut R,
    layout: Layout,
) -> Gather<'o> {
    let mut gather = Gather::new(options);
    if bytes.len() > Limits::BATCH_BYTES_MAX {
        gather.refuse(gather::batch_too_large(0, Limits::BATCH_BYTES_MAX));
    } else {
        Body::new(bytes, &options.limits, reader, &mut gather).read(layout);
    }
    gather
}

/// The error of a call that makes no sense, whatever the body.
fn refused(field: &str, code: Code, message: String) -> DecodeErrors {
    DecodeErrors {
        errors: vec![LocatedError {
            event: 0,
            line: None,
            byte: None,
            field: Some(error::shown(field)),
            code: code.as_str(),
            message,
        }],
        total: 1,
    }
}
