//! CloudEvents 1.0: attributes around, or beside, the fields of an event.
//!
//! ```text
//! structured: an object of attributes, `data` among them ─┐
//!                                                         ├─▶ Envelope, Data ─▶ event
//! binary: attributes in headers, data as the body ────────┘
//! ```
//!
//! `type` is the kind, `source`, `id` and `time` are fields common to all events, `data` holds the others. What else the
//! envelope says (`subject`, `dataschema`, extensions such as `traceparent`) is kept in `extra` as `ce_subject` and so
//! on, the names it has as Kafka headers. Extensions are legal wherever CloudEvents are, so `strict` is about `data`.
//!
//! Events of KServe's inference logger are CloudEvents too; their types name no kind, and their data no fields
//! ([`crate::kserve`]).

mod binary;
mod envelope;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::{FieldError, FieldProblem, Kind, json_type, schema};

use crate::error::{Code, Fault, Faulty};
use crate::event::{EventReader, Given, Known, Spot, check_size, not_an_object, trailing};
use crate::kserve::{Half, ModelTemplate};
use crate::options::Options;
use crate::scan::Scanner;
use crate::text::{Here, ReadEvent, checked};

pub(crate) use binary::{Header, is_structured};
pub(crate) use envelope::{Attribute, Envelope, Extension, Value};

/// Which CloudEvents are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Types {
    #[default]
    All,
    /// Those of KServe's inference logger.
    Inferences,
}

/// Reads CloudEvents.
#[derive(Debug)]
pub(crate) struct CloudReader<'o> {
    pub(crate) events: EventReader<'o>,
    pub(crate) types: Types,
    pub(crate) template: &'o ModelTemplate,
    /// A name that is being looked at.
    pub(crate) name: String,
    decoded: Vec<u8>,
    headers: binary::Spelled,
    /// What the fields of an inference consist of.
    pub(crate) made: String,
}

/// What an envelope is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    Nothing,
    /// JSON in a longer text, from a place on.
    Json {
        text: &'a str,
        value: Value<'a>,
    },
    /// Bytes by themselves. `at` is the place to name in faults, where it is not theirs.
    Bytes {
        bytes: &'a [u8],
        at: Option<usize>,
    },
}

impl ReadEvent for CloudReader<'_> {
    fn read(&mut self, builder: &mut EventBatchBuilder, here: Here<'_>) -> Faulty<usize> {
        self.events.unknown.truncate(0);
        let (envelope, end) = self.envelope(here.text, here.start)?;
        let limits = &self.events.options.limits;
        let mut scan = Scanner::new(here.text, end, limits);
        if here.alone && scan.blanks().is_some() {
            return Err(trailing(scan.at()));
        }
        check_size(end - here.start, limits.event_bytes, here.start)?;
        self.structured(builder, here.text, &envelope)?;
        Ok(end)
    }
}

impl<'o> CloudReader<'o> {
    pub(crate) fn new(options: &'o Options, template: &'o ModelTemplate) -> Self {
        Self {
            events: EventReader::new(options),
            types: Types::All,
            template,
            name: String::new(),
            decoded: Vec::new(),
            headers: binary::Spelled::default(),
            made: String::new(),
        }
    }

    /// Passes over an envelope, and answers what it says and where it ends; its other attributes go to the unknown
    /// fields.
    fn envelope<'a>(&mut self, text: &'a str, start: usize) -> Faulty<(Envelope<'a>, usize)> {
        let mut scan = Scanner::new(text, start, &self.events.options.limits);
        if !scan.take(b'{') {
            return Err(not_an_object(scan, 0));
        }
        let mut envelope = Envelope::new(start);
        let mut more = scan.blanks() != Some(b'}');
        while more {
            let key = scan.string("an attribute's name in quotes")?;
            scan.expect(b':', "`:`")?;
            scan.blanks();
            let at = scan.at();
            let json = scan.value(1)?;
            envelope.note(key, Value { json, at }, &mut self.events, &mut self.name)?;
            more = match scan.blanks() {
                Some(b',') => true,
                Some(b'}') => false,
                _ => return Err(scan.unexpected("`,` or `}`")),
            };
            if more {
                scan.take(b',');
                scan.blanks();
            }
        }
        scan.take(b'}');
        Ok((envelope, scan.at()))
    }

    /// The event in an envelope that holds its data.
    fn structured(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        envelope: &Envelope<'_>,
    ) -> Faulty<()> {
        match (
            envelope.get(Attribute::Data),
            envelope.get(Attribute::DataBase64),
        ) {
            (None, None) => self.content(builder, envelope, Data::Nothing),
            (Some(value), None) => self.content(builder, envelope, Data::Json { text, value }),
            (None, Some(value)) => {
                let mut decoded = std::mem::take(&mut self.decoded);
                let read = decode_base64(value, &mut decoded).and_then(|bytes| {
                    let at = Some(value.at);
                    self.content(builder, envelope, Data::Bytes { bytes, at })
                });
                self.decoded = decoded;
                read
            }
            (Some(data), Some(_)) => {
                let message = "`data` and `data_base64` exclude each other";
                Err(Fault::new(Code::BadCloudEvent, data.at, message))
            }
        }
    }

    /// The event that an envelope and its data are.
    fn content(
        &mut self,
        builder: &mut EventBatchBuilder,
        envelope: &Envelope<'_>,
        data: Data<'_>,
    ) -> Faulty<()> {
        envelope.check_version()?;
        let ty = envelope.require(Attribute::Type)?;
        if let Some(half) = Half::of(ty.inside()) {
            return self.inference(builder, envelope, half, data);
        }
        if self.types == Types::Inferences {
            return Err(crate::kserve::other_type(ty));
        }
        let mut scan = Scanner::new(ty.json, 0, &self.events.options.limits);
        let kind = self.events.read_kind(&mut scan, 1);
        let kind = kind.map_err(|fault| fault.placed(ty.at))?;
        let id = envelope.require(Attribute::Id)?.given(schema::ID);
        let source = envelope.require(Attribute::Source)?.given(schema::SOURCE);
        match envelope.get(Attribute::Time) {
            None => self.fields(builder, envelope, data, kind, &[id, source]),
            Some(time) => {
                let time = time.given(schema::TIME);
                self.fields(builder, envelope, data, kind, &[id, source, time])
            }
        }
    }

    /// The event whose data are its fields.
    fn fields(
        &mut self,
        builder: &mut EventBatchBuilder,
        envelope: &Envelope<'_>,
        data: Data<'_>,
        kind: Kind,
        fields: &[Given<'_>],
    ) -> Faulty<()> {
        let known = Known {
            kind: Some(kind),
            fields,
            ..Known::default()
        };
        let spot = |text, start, alone| Spot {
            text,
            start,
            alone,
            depth: 2,
        };
        let read = match data {
            Data::Json { text, value } => {
                self.events
                    .event(builder, spot(text, value.at, false), known)
            }
            // No data is an event without fields of its own.
            Data::Nothing => {
                let read = self.events.event(builder, spot("{}", 0, false), known);
                read.map_err(|fault| fault.placed(envelope.start))
            }
            Data::Bytes { bytes, at } => {
                let text = checked(bytes).map_err(|fault| match at {
                    None => fault,
                    Some(_) => fault.in_field(Attribute::DataBase64.name()),
                });
                let read = text.and_then(|text| {
                    let start = text.len() - text.trim_ascii_start().len();
                    self.events.event(builder, spot(text, start, true), known)
                });
                read.map_err(|fault| match at {
                    None => fault,
                    Some(at) => fault.placed(at),
                })
            }
        };
        read.map(drop)
    }
}

/// The bytes in `data_base64`.
fn decode_base64<'d>(data: Value<'_>, decoded: &'d mut Vec<u8>) -> Faulty<&'d [u8]> {
    const FIELD: &str = Attribute::DataBase64.name();
    let encoded: Cow<'_, str> = serde_json::from_str(data.json).map_err(|_| {
        let problem = FieldProblem::WrongType {
            expected: "a string",
            found: json_type(data.json),
        };
        Fault::of_field(FieldError::new(FIELD, problem), data.at)
    })?;
    decoded.clear();
    STANDARD
        .decode_vec(encoded.as_bytes(), decoded)
        .map_err(|error| {
            let message = format!("`{FIELD}` is not base64: {error}");
            Fault::new(Code::BadBase64, data.at, message).in_field(FIELD)
        })?;
    Ok(decoded)
}
