//! What is wrong with bytes, where, and under which code.
//!
//! Every way to be wrong has one [`Code`]; [`ERROR_CODES`] says what each means and what to do, for the catalogue of
//! whoever shows them.

use std::fmt;

use modelog_engine::event::{FieldError, FieldProblem};

/// One of the codes errors have, explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The code; it never changes.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// How an event, or a whole body, can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BadJson,
    InvalidUtf8,
    UnpairedSurrogate,
    NotAnObject,
    TrailingBytes,
    MissingField,
    RepeatedField,
    ConflictingField,
    UnknownField,
    IncompleteEvent,
    WrongType,
    NumberOutOfRange,
    EmptyValue,
    TooLong,
    ControlCharacter,
    NotAWord,
    BadReference,
    BadTime,
    UnknownKind,
    InternalKind,
    OtherKind,
    TooDeep,
    EventTooLarge,
    BatchTooLarge,
    TooManyRejected,
    BadCloudEvent,
    BadBase64,
    NeedsSchema,
    BadArrow,
    UnsupportedArrowType,
}

/// Every code that an error can have.
pub const ERROR_CODES: &[ErrorCode] = &[
    code(
        "bad_json",
        "the text is not JSON",
        "write JSON as RFC 8259 says; numbers that are not finite are the strings \"NaN\", \"Infinity\", \"-Infinity\"",
    ),
    code(
        "invalid_utf8",
        "the text is not UTF-8",
        "encode it as UTF-8",
    ),
    code(
        "unpaired_surrogate",
        "an escape such as \\ud83d lacks its other half",
        "escape both halves of the character, or write it as UTF-8",
    ),
    code(
        "not_an_object",
        "an event is not a JSON object",
        "send one object, an array of objects, or an object a line",
    ),
    code(
        "trailing_bytes",
        "something follows where the event should end",
        "send several events as an array, or one a line as application/x-ndjson",
    ),
    code(
        "missing_field",
        "a required field is missing",
        "add the field",
    ),
    code("repeated_field", "a field is given twice", "give it once"),
    code(
        "conflicting_field",
        "a field differs from what the URL or the envelope says",
        "leave it out of the event, or make both the same",
    ),
    code(
        "unknown_field",
        "the kind has no such field, and strict reading was asked for",
        "correct the name, or read without strict to keep the field in `extra`",
    ),
    code(
        "incomplete_event",
        "a field needs another one beside it",
        "add the field that the message names",
    ),
    code(
        "wrong_type",
        "a value is not of the field's type",
        "send the type that the message names",
    ),
    code(
        "number_out_of_range",
        "a number does not fit into 64 bits",
        "send a smaller number, or text",
    ),
    code(
        "empty_value",
        "a name is empty",
        "give a name, or leave the field out",
    ),
    code(
        "too_long",
        "a value is longer than its field allows",
        "shorten it, or store it elsewhere and log its URI",
    ),
    code(
        "control_character",
        "a name holds a control character, or a text U+0000",
        "remove the character; inside JSON fields it may stay, escaped",
    ),
    code(
        "not_a_word",
        "a value is none of the words its field takes",
        "use a word that the message lists",
    ),
    code(
        "bad_reference",
        "a value is no reference to an entity",
        "write it like model/resnet50 or version/resnet50@v1",
    ),
    code(
        "bad_time",
        "a time cannot be understood, or lies outside the years 1678 to 2261",
        "send RFC 3339 text, or an integer of microseconds since 1970",
    ),
    code(
        "unknown_kind",
        "no kind of event has this name",
        "correct `type`",
    ),
    code(
        "internal_kind",
        "events of this kind are written by the engine only",
        "use EventLogged for facts of your own",
    ),
    code(
        "other_kind",
        "the event is of another kind than the URL says",
        "leave out `type`, or send it to /v1/events",
    ),
    code(
        "too_deep",
        "JSON is nested too deeply",
        "flatten it, or send it as text",
    ),
    code(
        "event_too_large",
        "an event takes more bytes than allowed",
        "store large parts elsewhere and log their URIs",
    ),
    code(
        "batch_too_large",
        "the events of one call, or of one message of a stream, take more bytes than allowed",
        "send them in several calls or messages",
    ),
    code(
        "too_many_rejected",
        "a message of a stream holds more bad events than are recorded one by one; what is left of it is kept as one",
        "correct its producer, then retry what was kept",
    ),
    code(
        "bad_cloud_event",
        "the envelope is not that of a CloudEvent 1.0",
        "send specversion 1.0, id, source and type",
    ),
    code(
        "bad_base64",
        "data_base64 is not base64",
        "encode it as RFC 4648 says, with padding",
    ),
    code(
        "needs_schema",
        "a message has the framing of a schema registry, and its content is not JSON",
        "produce it as JSON, or with the JSON serializer of the registry; Avro and Protobuf are not read",
    ),
    code(
        "bad_arrow",
        "the bytes are not an Arrow IPC stream",
        "send what pyarrow.ipc.new_stream writes, to its end",
    ),
    code(
        "unsupported_arrow_type",
        "a column cannot become its field without loss",
        "cast the column to the type that the message names",
    ),
];

const fn code(code: &'static str, meaning: &'static str, remedy: &'static str) -> ErrorCode {
    ErrorCode {
        code,
        meaning,
        remedy,
    }
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        ERROR_CODES[self as usize].code
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedError {
    /// Which event of the body, counted from 0.
    pub event: u64,
    /// The line, counted from 1; none in Arrow streams.
    pub line: Option<u64>,
    /// Bytes before the place, in the body as decoded from its content encoding. In Arrow streams those before the
    /// message that cannot be read, and none for a value.
    pub byte: Option<u64>,
    /// The field concerned.
    pub field: Option<String>,
    /// One of [`ERROR_CODES`].
    pub code: &'static str,
    /// The problem in words, without the place.
    pub message: String,
}

impl fmt::Display for LocatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.byte) {
            (Some(line), Some(byte)) => write!(f, "line {line}, byte {byte}: ")?,
            (None, Some(byte)) => write!(f, "byte {byte}: ")?,
            _ => write!(f, "event {}: ", self.event)?,
        }
        f.write_str(&self.message)
    }
}

/// Nothing was decoded, because of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeErrors {
    /// The first of them, in order; as many as the limits allow.
    pub errors: Vec<LocatedError>,
    /// How many there are.
    pub total: u64,
}

impl fmt::Display for DecodeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.errors.first() {
            first.fmt(f)?;
        }
        match self.total {
            0 | 1 => Ok(()),
            total => write!(f, " (and {} more)", total - 1),
        }
    }
}

/// What stopped the reading of an event.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Bytes before the place, in the text that is being read; [`OUTSIDE`] if it is not in there.
    pub(crate) at: usize,
    pub(crate) field: Option<String>,
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// The place of what stands beside the text: in headers.
pub(crate) const OUTSIDE: usize = usize::MAX;

/// Boxed, so that results on the path without faults stay small.
pub(crate) type Faulty<T> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(crate) fn new(code: Code, at: usize, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            at,
            field: None,
            code,
            message: message.into(),
        })
    }

    /// A value that its field does not take; `at` is where the value starts.
    #[cold]
    pub(crate) fn of_field(error: FieldError, at: usize) -> Box<Self> {
        let code = code_of(&error.problem);
        let message = error.to_string();
        Box::new(Self {
            at,
            field: Some(error.field),
            code,
            message,
        })
    }

    /// The same fault, with the field in which it was met.
    #[cold]
    pub(crate) fn in_field(mut self: Box<Self>, field: &str) -> Box<Self> {
        if self.field.is_none() {
            self.field = Some(shown(field));
        }
        self
    }

    /// The same fault, shown at another place.
    #[cold]
    pub(crate) fn placed(mut self: Box<Self>, at: usize) -> Box<Self> {
        self.at = at;
        self
    }

    /// The same fault, in a text that starts this much later.
    #[cold]
    pub(crate) fn moved_by(mut self: Box<Self>, bytes: usize) -> Box<Self> {
        if self.at != OUTSIDE {
            self.at += bytes;
        }
        self
    }

    /// The fault as an error of the event of that number.
    #[cold]
    pub(crate) fn located(self, event: u64, line: Option<u64>) -> LocatedError {
        let byte = (self.at != OUTSIDE).then_some(self.at as u64);
        LocatedError {
            event,
            line: line.filter(|_| byte.is_some()),
            byte,
            field: self.field,
            code: self.code.as_str(),
            message: self.message,
        }
    }
}

fn code_of(problem: &FieldProblem) -> Code {
    match problem {
        FieldProblem::Missing => Code::MissingField,
        FieldProblem::Repeated => Code::RepeatedField,
        FieldProblem::Empty => Code::EmptyValue,
        FieldProblem::TooLong { .. } => Code::TooLong,
        FieldProblem::ControlCharacter { .. } => Code::ControlCharacter,
        FieldProblem::UnpairedSurrogate { .. } => Code::UnpairedSurrogate,
        FieldProblem::InvalidUtf8 { .. } => Code::InvalidUtf8,
        FieldProblem::NotJson { .. } => Code::BadJson,
        FieldProblem::WrongType { .. } => Code::WrongType,
        FieldProblem::TooLarge(_) => Code::NumberOutOfRange,
        FieldProblem::NotAWord(_) => Code::NotAWord,
        FieldProblem::NotAReference => Code::BadReference,
        FieldProblem::Needs(_) => Code::IncompleteEvent,
        FieldProblem::Time(_) => Code::BadTime,
    }
}

/// Text of a producer as a message may show it: its beginning.
pub(crate) fn shown(text: &str) -> String {
    shown_up_to(100, text)
}

/// The same, up to so many characters.
pub(crate) fn shown_up_to(characters: usize, text: &str) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table_once() {
        let last = Code::UnsupportedArrowType as usize;
        assert_eq!(ERROR_CODES.len(), last + 1);
        for (code, name) in [
            (Code::BadJson, "bad_json"),
            (Code::TrailingBytes, "trailing_bytes"),
            (Code::UnknownField, "unknown_field"),
            (Code::ControlCharacter, "control_character"),
            (Code::UnknownKind, "unknown_kind"),
            (Code::TooDeep, "too_deep"),
            (Code::UnsupportedArrowType, "unsupported_arrow_type"),
        ] {
            assert_eq!(code.as_str(), name);
        }
        let mut codes: Vec<_> = ERROR_CODES.iter().map(|code| code.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ERROR_CODES.len());
    }
}
