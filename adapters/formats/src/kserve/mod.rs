//! KServe's inference logger: a CloudEvent with the request of an inference as it was sent, and one with its response.
//!
//! Each becomes half of a prediction, at once; what joins them is the model and the prediction's id.
//!
//! | field | from |
//! |---|---|
//! | `model` | the template, `{namespace}/{inferenceservicename}` |
//! | `version` | the response's `model_version`, else the attribute `endpoint`, else `unversioned` |
//! | `prediction_id` | the attribute `id`, which both halves carry |
//! | `id` | the same and `/request` or `/response`; if that is longer than an id may be, the SHA-256 of `id` stands for it |
//! | `time` | the attribute `time`, else `recordedtime` |
//! | `input`, `output` | the body of the request, of the response |
//! | `part` | `request` or `response` |
//! | `extra` | all other attributes as `ce_…`, the content type of the body included; `body_encoding` |
//!
//! The type of the event decides what it is, whatever the content type says. A body that is JSON is kept byte for byte, up to
//! blanks around it. One that is not, such as a form, or is just null, becomes a JSON string, and `body_encoding` is `text`; one that is no
//! UTF-8 either becomes `{"base64":"…"}`, and `body_encoding` is `base64`. So the body can be had again in every case.

mod template;

use std::ops::Range;

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::schema::{self, ID_BYTES_MAX, column};
use modelog_engine::event::{FieldError, FieldProblem, Kind, json_type};

use crate::cloud::{Attribute, CloudReader, Data, Envelope, Extension, Value};
use crate::error::{Code, Fault, Faulty, shown};
use crate::event::{Given, Known, Spot};
use crate::json::{push_bytes, push_string};
use crate::options::Limits;
use crate::rejection::sha256;
use crate::scan::Scanner;
use crate::value::unescaped;

pub use template::{ModelTemplate, TemplateError};

const KIND: Kind = Kind::PredictionLogged;
const MODEL: usize = column(KIND, "model");
const VERSION: usize = column(KIND, "version");
const PREDICTION_ID: usize = column(KIND, "prediction_id");
const INPUT: usize = column(KIND, "input");
const OUTPUT: usize = column(KIND, "output");
const PART: usize = column(KIND, "part");

/// Half of an inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Request,
    Response,
}

impl Half {
    /// The half that a type of CloudEvents names.
    pub(crate) fn of(ty: &str) -> Option<Self> {
        match ty.strip_prefix("org.kubeflow.serving.inference.")? {
            "request" => Some(Self::Request),
            "response" => Some(Self::Response),
            _ => None,
        }
    }

    fn part(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    fn part_json(self) -> &'static str {
        match self {
            Self::Request => "\"request\"",
            Self::Response => "\"response\"",
        }
    }

    fn column(self) -> usize {
        match self {
            Self::Request => INPUT,
            Self::Response => OUTPUT,
        }
    }
}

/// The fault of a type that the inference logger does not send.
#[cold]
pub(crate) fn other_type(ty: Value<'_>) -> Box<Fault> {
    let message = format!(
        "`type` is {}, not org.kubeflow.serving.inference.request or .response, which alone are read here",
        shown(ty.json)
    );
    Fault::new(Code::UnknownKind, ty.at, message).in_field(Attribute::Type.name())
}

/// JSON that stands somewhere, or was made.
#[derive(Clone, Debug)]
enum Text<'a> {
    There(&'a str),
    Made(Range<usize>),
}

impl Text<'_> {
    fn get<'t>(&'t self, made: &'t str) -> &'t str {
        match self {
            Self::There(text) => text,
            Self::Made(range) => &made[range.clone()],
        }
    }
}

/// The body of a request or response.
#[derive(Clone, Debug)]
struct Body<'a> {
    json: Text<'a>,
    /// How it became JSON, if it was not.
    encoding: Option<&'static str>,
    at: usize,
}

impl CloudReader<'_> {
    /// The half of an inference that an envelope and its data are.
    pub(crate) fn inference(
        &mut self,
        builder: &mut EventBatchBuilder,
        envelope: &Envelope<'_>,
        half: Half,
        data: Data<'_>,
    ) -> Faulty<()> {
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        let read = self.half(builder, envelope, half, data, &mut made);
        self.made = made;
        read
    }

    fn half(
        &mut self,
        builder: &mut EventBatchBuilder,
        envelope: &Envelope<'_>,
        half: Half,
        data: Data<'_>,
        made: &mut String,
    ) -> Faulty<()> {
        let id = envelope.require(Attribute::Id)?;
        let source = envelope.require(Attribute::Source)?;
        let time = envelope
            .get(Attribute::Time)
            .or(envelope.extension(Extension::RecordedTime));
        self.template.write(envelope, made)?;
        let model = 0..made.len();
        push_id(id, half, &self.events.options.limits, made)?;
        let event_id = model.end..made.len();
        let body = body(envelope, data, &self.events.options.limits, made);
        let version = self.version(envelope, half, body.as_ref(), made);
        self.keep_type(envelope, body.as_ref())?;
        let (made, start) = (made.as_str(), envelope.start);
        let field = |column, json, at| Given {
            column,
            json,
            at: Some(at),
        };
        // A null is the same as no field.
        let fields = [
            field(schema::ID, &made[event_id], id.at),
            source.given(schema::SOURCE),
            time.map_or(field(schema::TIME, "null", start), |time| {
                time.given(schema::TIME)
            }),
            field(MODEL, &made[model], start),
            field(VERSION, version.get(made), start),
            id.given(PREDICTION_ID),
            body.as_ref()
                .map_or(field(half.column(), "null", start), |body| {
                    field(half.column(), body.json.get(made), body.at)
                }),
            field(PART, half.part_json(), start),
        ];
        let known = Known {
            kind: Some(KIND),
            fields: &fields,
            ..Known::default()
        };
        let spot = Spot {
            text: "{}",
            start: 0,
            alone: true,
            depth: 1,
        };
        let read = self.events.event(builder, spot, known);
        read.map(drop)
    }

    /// What tells how to read a body, for `extra`.
    fn keep_type(&mut self, envelope: &Envelope<'_>, body: Option<&Body<'_>>) -> Faulty<()> {
        if let Some(ty) = envelope.get(Attribute::DataContentType) {
            self.events
                .keep("ce_datacontenttype", ty.json, ty.at, ty.at)?;
        }
        match body.and_then(|body| body.encoding) {
            Some(encoding) => {
                let at = envelope.start;
                self.events.keep("body_encoding", encoding, at, at)
            }
            None => Ok(()),
        }
    }

    /// The version that answered, in JSON.
    fn version<'a>(
        &mut self,
        envelope: &Envelope<'a>,
        half: Half,
        body: Option<&Body<'a>>,
        made: &mut String,
    ) -> Text<'a> {
        if half == Half::Response
            && let Some(Body {
                json: Text::There(json),
                ..
            }) = body
        {
            let scan = Scanner::new(json, 0, &self.events.options.limits);
            let found = scan.member("model_version", 1, &mut self.name);
            // The body was read before, so there is nothing wrong with it.
            match found.ok().flatten() {
                Some("\"\"") | None => {}
                Some(text) if text.starts_with('"') => return Text::There(text),
                Some(number) if json_type(number) == "a number" => {
                    let start = made.len();
                    push_string(number, made);
                    return Text::Made(start..made.len());
                }
                Some(_) => {}
            }
        }
        let endpoint = envelope.extension(Extension::Endpoint);
        match endpoint.filter(|value| value.json.starts_with('"') && value.json != "\"\"") {
            Some(endpoint) => Text::There(endpoint.json),
            None => Text::There("\"unversioned\""),
        }
    }
}

/// Appends the id of one half, as JSON.
fn push_id(id: Value<'_>, half: Half, limits: &Limits, made: &mut String) -> Faulty<()> {
    let mut scan = Scanner::new(id.json, 0, limits);
    if scan.peek() != Some(b'"') {
        let problem = FieldProblem::WrongType {
            expected: "a string",
            found: json_type(id.json),
        };
        return Err(Fault::of_field(FieldError::new("id", problem), id.at));
    }
    let mut scratch = String::new();
    let text = unescaped(scan.string("a string")?, &mut scratch);
    // An empty one stays empty, and is refused.
    if text.is_empty() {
        made.push_str("\"\"");
        return Ok(());
    }
    let start = made.len();
    push_string(text, made);
    if text.len() + 1 + half.part().len() > ID_BYTES_MAX {
        made.truncate(start + 1);
        made.push_str(&sha256(text.as_bytes()));
        made.push('"');
    }
    made.pop();
    made.push('/');
    made.push_str(half.part());
    made.push('"');
    Ok(())
}

/// The body as JSON; nothing if there is none.
fn body<'a>(
    envelope: &Envelope<'_>,
    data: Data<'a>,
    limits: &Limits,
    made: &mut String,
) -> Option<Body<'a>> {
    match data {
        Data::Nothing | Data::Bytes { bytes: [], .. } => None,
        Data::Json { value, .. } => {
            // By the standard, data that is not JSON stands in the envelope as a string.
            let text = value.json.starts_with('"') && !is_json_type(envelope);
            Some(Body {
                json: Text::There(value.json),
                encoding: text.then_some("\"text\""),
                at: value.at,
            })
        }
        Data::Bytes { bytes, at } => {
            let at = at.unwrap_or(0);
            let start = made.len();
            let text = simdutf8::basic::from_utf8(bytes);
            let encoding = match text {
                Ok(text) => {
                    if let Some(json) = whole_json(text, limits) {
                        return Some(Body {
                            json: Text::There(json),
                            encoding: None,
                            at,
                        });
                    }
                    push_string(text, made);
                    "\"text\""
                }
                Err(_) => {
                    push_bytes(bytes, made);
                    "\"base64\""
                }
            };
            Some(Body {
                json: Text::Made(start..made.len()),
                encoding: Some(encoding),
                at,
            })
        }
    }
}

/// Whether the data in an envelope is said to be JSON, which it is if nothing is said.
fn is_json_type(envelope: &Envelope<'_>) -> bool {
    let Some(ty) = envelope.get(Attribute::DataContentType) else {
        return true;
    };
    let essence = ty.inside().split(';').next().unwrap_or_default().trim();
    let subtype = essence.rsplit(['/', '+']).next().unwrap_or_default();
    subtype.eq_ignore_ascii_case("json")
}

/// The one JSON value that a text is, without the blanks around it; not a null, which the log would take for nothing.
fn whole_json<'a>(text: &'a str, limits: &Limits) -> Option<&'a str> {
    let mut scan = Scanner::new(text, 0, limits);
    scan.blanks();
    // It lies as deep as the field it becomes.
    let value = scan.value(1).ok()?;
    (scan.blanks().is_none() && value != "null").then_some(value)
}
