//! CloudEvents 1.0 in JSON: an envelope of attributes around the fields of an event.
//!
//! `type` is the kind, `source`, `id` and `time` are fields common to all events, `data` holds the others. What else the
//! envelope says (`subject`, `dataschema`, extensions such as `traceparent`) is kept in `extra` as `ce_subject` and so
//! on, the names it has as Kafka headers. Extensions are legal wherever CloudEvents are, so `strict` is about `data`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::{FieldError, FieldProblem, Kind, json_type, schema};

use crate::error::{Code, Fault, Faulty, shown};
use crate::event::{EventReader, Given, Known, Spot, check_size, not_an_object, trailing};
use crate::options::Options;
use crate::scan::{Scanner, Str};
use crate::text::ReadEvent;

/// Reads CloudEvents.
#[derive(Debug)]
pub(crate) struct CloudReader<'o> {
    pub(crate) events: EventReader<'o>,
    name: String,
    decoded: Vec<u8>,
}

/// Attributes that say something about the event itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    SpecVersion,
    Type,
    Id,
    Source,
    Time,
    Data,
    DataBase64,
    /// Says how to read `data`, which is looked at anyway.
    DataContentType,
    Other,
}

/// How many attributes are known.
const KNOWN: usize = Attribute::Other as usize;

impl Attribute {
    fn of(name: &str) -> Self {
        match name {
            "specversion" => Self::SpecVersion,
            "type" => Self::Type,
            "id" => Self::Id,
            "source" => Self::Source,
            "time" => Self::Time,
            "data" => Self::Data,
            "data_base64" => Self::DataBase64,
            "datacontenttype" => Self::DataContentType,
            _ => Self::Other,
        }
    }
}

/// A value in the envelope, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    json: &'a str,
    at: usize,
}

/// The envelope of one event.
#[derive(Debug)]
struct Envelope<'a> {
    start: usize,
    end: usize,
    values: [Option<Value<'a>>; KNOWN],
}

impl<'a> Envelope<'a> {
    fn get(&self, attribute: Attribute) -> Option<Value<'a>> {
        self.values[attribute as usize]
    }

    fn require(&self, attribute: Attribute, name: &'static str) -> Faulty<Value<'a>> {
        self.get(attribute).ok_or_else(|| {
            Fault::of_field(FieldError::new(name, FieldProblem::Missing), self.start)
        })
    }
}

impl ReadEvent for CloudReader<'_> {
    fn read(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        start: usize,
        alone: bool,
    ) -> Faulty<usize> {
        self.events.unknown.truncate(0);
        let envelope = self.envelope(text, start)?;
        let mut scan = Scanner::new(text, envelope.end, &self.events.options.limits);
        if alone && scan.blanks().is_some() {
            return Err(trailing(scan.at()));
        }
        let limits = &self.events.options.limits;
        check_size(envelope.end - start, limits.event_bytes, start)?;
        self.content(builder, text, &envelope)?;
        Ok(envelope.end)
    }

    fn unknown_fields(self) -> BTreeMap<String, u64> {
        self.events.unknown_fields
    }
}

impl<'o> CloudReader<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self {
            events: EventReader::new(options),
            name: String::new(),
            decoded: Vec::new(),
        }
    }

    /// Passes over the envelope and notes what it says; its other attributes go to the unknown fields.
    fn envelope<'a>(&mut self, text: &'a str, start: usize) -> Faulty<Envelope<'a>> {
        let mut scan = Scanner::new(text, start, &self.events.options.limits);
        if !scan.take(b'{') {
            return Err(not_an_object(scan, 0));
        }
        let mut envelope = Envelope {
            start,
            end: start,
            values: [None; KNOWN],
        };
        let mut more = scan.blanks() != Some(b'}');
        while more {
            let key = scan.string("an attribute's name in quotes")?;
            scan.expect(b':', "`:`")?;
            scan.blanks();
            let at = scan.at();
            let json = scan.value(1)?;
            self.attribute(&mut envelope, key, Value { json, at })?;
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
        envelope.end = scan.at();
        Ok(envelope)
    }

    fn attribute<'a>(
        &mut self,
        envelope: &mut Envelope<'a>,
        key: Str<'_>,
        value: Value<'a>,
    ) -> Faulty<()> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if key.raw.is_empty() || !key.raw.bytes().all(named) {
            let message = "an attribute's name consists of letters and digits";
            return Err(Fault::new(Code::BadCloudEvent, key.at, message).in_field(key.raw));
        }
        // By the standard a null is the same as no attribute.
        if value.json == "null" {
            return Ok(());
        }
        let attribute = Attribute::of(key.raw);
        if attribute == Attribute::Other {
            self.name.clear();
            self.name.push_str("ce_");
            self.name.push_str(key.raw);
            return self.events.keep(&self.name, value.json, key.at, value.at);
        }
        let place = &mut envelope.values[attribute as usize];
        if place.is_some() {
            let error = FieldError::new(key.raw, FieldProblem::Repeated);
            return Err(Fault::of_field(error, key.at));
        }
        *place = Some(value);
        Ok(())
    }

    /// The event that an envelope holds.
    fn content(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        envelope: &Envelope<'_>,
    ) -> Faulty<()> {
        let limits = &self.events.options.limits;
        let version = envelope.require(Attribute::SpecVersion, "specversion")?;
        if version.json != "\"1.0\"" {
            let message = format!(
                "`specversion` is {}, \"1.0\" is needed",
                shown(version.json)
            );
            return Err(
                Fault::new(Code::BadCloudEvent, version.at, message).in_field("specversion")
            );
        }
        let kind = envelope.require(Attribute::Type, "type")?;
        let kind = self
            .events
            .read_kind(&mut Scanner::new(text, kind.at, limits), 1)?;
        let id = envelope.require(Attribute::Id, "id")?;
        let source = envelope.require(Attribute::Source, "source")?;
        let given = |column, value: Value<'_>| Given {
            column,
            json: &text[value.at..value.at + value.json.len()],
            at: Some(value.at),
        };
        let (id, source) = (given(schema::ID, id), given(schema::SOURCE, source));
        match envelope.get(Attribute::Time) {
            None => self.data(builder, text, envelope, kind, &[id, source]),
            Some(time) => {
                let time = given(schema::TIME, time);
                self.data(builder, text, envelope, kind, &[id, source, time])
            }
        }
    }

    fn data(
        &mut self,
        builder: &mut EventBatchBuilder,
        text: &str,
        envelope: &Envelope<'_>,
        kind: Kind,
        fields: &[Given<'_>],
    ) -> Faulty<()> {
        let known = Known {
            kind: Some(kind),
            fields,
        };
        let spot = |text, start| Spot {
            text,
            start,
            alone: false,
            depth: 2,
        };
        match (
            envelope.get(Attribute::Data),
            envelope.get(Attribute::DataBase64),
        ) {
            (Some(data), None) => self.events.event(builder, spot(text, data.at), known),
            // No data is an event without fields of its own.
            (None, None) => self
                .events
                .event(builder, spot("{}", 0), known)
                .map_err(|fault| fault.placed(envelope.start)),
            (None, Some(data)) => {
                let mut decoded = std::mem::take(&mut self.decoded);
                let event = decode_base64(data, &mut decoded).and_then(|text| {
                    let alone = Spot {
                        alone: true,
                        ..spot(text, blanks(text))
                    };
                    let event = self.events.event(builder, alone, known);
                    event.map_err(|fault| fault.placed(data.at))
                });
                self.decoded = decoded;
                event
            }
            (Some(data), Some(_)) => {
                let message = "`data` and `data_base64` exclude each other";
                Err(Fault::new(Code::BadCloudEvent, data.at, message))
            }
        }
        .map(drop)
    }
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len()
}

/// The text in `data_base64`.
fn decode_base64<'d>(data: Value<'_>, decoded: &'d mut Vec<u8>) -> Faulty<&'d str> {
    let fault = |code, message: String| Fault::new(code, data.at, message).in_field("data_base64");
    let encoded: Cow<'_, str> = serde_json::from_str(data.json).map_err(|_| {
        let problem = FieldProblem::WrongType {
            expected: "a string",
            found: json_type(data.json),
        };
        Fault::of_field(FieldError::new("data_base64", problem), data.at)
    })?;
    decoded.clear();
    STANDARD
        .decode_vec(encoded.as_bytes(), decoded)
        .map_err(|error| {
            fault(
                Code::BadBase64,
                format!("`data_base64` is not base64: {error}"),
            )
        })?;
    simdutf8::compat::from_utf8(decoded).map_err(|error| {
        fault(
            Code::InvalidUtf8,
            format!("`data_base64` holds no UTF-8: {error}"),
        )
    })
}
