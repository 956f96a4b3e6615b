//! The attributes of a CloudEvent, wherever they stand: beside `data`, or in headers.

use modelog_engine::event::{FieldError, FieldProblem};

use crate::error::{Code, Fault, Faulty, shown};
use crate::event::{EventReader, Given, SPEC_VERSION};
use crate::scan::Str;

/// Attributes that say something about the event itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    SpecVersion,
    Type,
    Id,
    Source,
    Time,
    Data,
    DataBase64,
    /// Says how to read `data`, which is looked at anyway.
    DataContentType,
}

impl Attribute {
    /// All of them, at the index of their number.
    const ALL: [Self; 8] = [
        Self::SpecVersion,
        Self::Type,
        Self::Id,
        Self::Source,
        Self::Time,
        Self::Data,
        Self::DataBase64,
        Self::DataContentType,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SpecVersion => SPEC_VERSION,
            Self::Type => "type",
            Self::Id => "id",
            Self::Source => "source",
            Self::Time => "time",
            Self::Data => "data",
            Self::DataBase64 => "data_base64",
            Self::DataContentType => "datacontenttype",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|attribute| attribute.name() == name)
    }
}

/// Extensions by which KServe's inference logger says what an event is about. They are kept in `extra` as others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    Namespace,
    InferenceServiceName,
    Component,
    Endpoint,
    RecordedTime,
}

impl Extension {
    /// All of them, at the index of their number.
    const ALL: [Self; 5] = [
        Self::Namespace,
        Self::InferenceServiceName,
        Self::Component,
        Self::Endpoint,
        Self::RecordedTime,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::InferenceServiceName => "inferenceservicename",
            Self::Component => "component",
            Self::Endpoint => "endpoint",
            Self::RecordedTime => "recordedtime",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.name() == name)
    }
}

/// The value of an attribute, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) json: &'a str,
    pub(crate) at: usize,
}

impl<'a> Value<'a> {
    /// What lies between the quotes; the whole value if it is no string.
    pub(crate) fn inside(self) -> &'a str {
        let inside = self.json.strip_prefix('"');
        inside
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(self.json)
    }

    /// The value for a field of the event.
    pub(crate) fn given(self, column: usize) -> Given<'a> {
        Given {
            column,
            json: self.json,
            at: Some(self.at),
        }
    }
}

/// The envelope of one event.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    /// Where it starts.
    pub(crate) start: usize,
    attributes: [Option<Value<'a>>; Attribute::ALL.len()],
    extensions: [Option<Value<'a>>; Extension::ALL.len()],
}

impl<'a> Envelope<'a> {
    pub(crate) fn new(start: usize) -> Self {
        Self {
            start,
            attributes: [None; _],
            extensions: [None; _],
        }
    }

    pub(crate) fn get(&self, attribute: Attribute) -> Option<Value<'a>> {
        self.attributes[attribute as usize]
    }

    pub(crate) fn extension(&self, extension: Extension) -> Option<Value<'a>> {
        self.extensions[extension as usize]
    }

    pub(crate) fn require(&self, attribute: Attribute) -> Faulty<Value<'a>> {
        self.get(attribute)
            .ok_or_else(|| self.missing(attribute.name()))
    }

    /// The fault of an attribute that is not there.
    #[cold]
    pub(crate) fn missing(&self, name: &'static str) -> Box<Fault> {
        Fault::of_field(FieldError::new(name, FieldProblem::Missing), self.start)
    }

    pub(crate) fn check_version(&self) -> Faulty<()> {
        let version = self.require(Attribute::SpecVersion)?;
        if version.json == "\"1.0\"" {
            return Ok(());
        }
        let message = format!(
            "`specversion` is {}, \"1.0\" is needed",
            shown(version.json)
        );
        Err(Fault::new(Code::BadCloudEvent, version.at, message).in_field(SPEC_VERSION))
    }

    /// Notes an attribute. What says nothing about the event itself goes to its unknown fields, as `ce_` and its name,
    /// which `scratch` is for.
    pub(crate) fn note(
        &mut self,
        key: Str<'_>,
        value: Value<'a>,
        events: &mut EventReader<'_>,
        scratch: &mut String,
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
        let Some(attribute) = Attribute::of(key.raw) else {
            if let Some(extension) = Extension::of(key.raw) {
                self.extensions[extension as usize] = Some(value);
            }
            scratch.clear();
            scratch.push_str("ce_");
            scratch.push_str(key.raw);
            return events.keep(scratch, value.json, key.at, value.at);
        };
        let place = &mut self.attributes[attribute as usize];
        if place.is_some() {
            let error = FieldError::new(key.raw, FieldProblem::Repeated);
            return Err(Fault::of_field(error, key.at));
        }
        *place = Some(value);
        Ok(())
    }
}
