//! What is wrong with a field's value, and the checks that find it.

use super::schema::{Field, FieldType};
use super::{EntityRef, Kind};
use crate::offset::TimeError;

/// A value that a field cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    #[error("is missing")]
    Missing,
    #[error("is given twice")]
    Repeated,
    #[error("must not be empty")]
    Empty,
    #[error("is {bytes} bytes long, at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("contains the control character U+{character:04X} at byte {at}")]
    ControlCharacter { character: u32, at: usize },
    #[error("contains an unpaired surrogate at byte {at}")]
    UnpairedSurrogate { at: usize },
    #[error("contains invalid UTF-8 at byte {at}")]
    InvalidUtf8 { at: usize },
    #[error("is not valid JSON at byte {at}: {message}")]
    NotJson { at: usize, message: String },
    #[error("must be {expected}, not {found}")]
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
    #[error("is the number {0}, which does not fit into 64 bits")]
    TooLarge(String),
    #[error("must be one of {}", .0.join(", "))]
    NotAWord(&'static [&'static str]),
    #[error(
        "must be a reference such as model/resnet50, version/resnet50@v1, dataset/…, experiment/… or run/…"
    )]
    NotAReference,
    #[error("needs {0} beside it")]
    Needs(&'static str),
    #[error("{0}")]
    Time(#[from] TimeError),
}

/// A field's name and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct FieldError {
    pub field: String,
    pub problem: FieldProblem,
}

impl FieldError {
    /// Names the field.
    pub fn new(field: impl Into<String>, problem: FieldProblem) -> Self {
        Self {
            field: field.into(),
            problem,
        }
    }
}

/// The largest value of one field, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Checks text for a field; JSON text must have been checked already.
#[inline]
pub(crate) fn check_text(field: &Field, text: &str) -> Result<(), FieldProblem> {
    let max = match field.ty {
        FieldType::Name(max) => max,
        _ => VALUE_BYTES_MAX,
    };
    if text.len() > max {
        return Err(FieldProblem::TooLong {
            bytes: text.len(),
            max,
        });
    }
    match field.ty {
        FieldType::Name(_) => check_name(text),
        FieldType::Text => match memchr::memchr(0, text.as_bytes()) {
            Some(at) => Err(FieldProblem::ControlCharacter { character: 0, at }),
            None => Ok(()),
        },
        FieldType::Word(words) if !words.contains(&text) => Err(FieldProblem::NotAWord(words)),
        FieldType::Entity => text.parse::<EntityRef>().map(drop),
        FieldType::JsonObject if !text.trim_start().starts_with('{') => {
            Err(FieldProblem::WrongType {
                expected: "an object",
                found: json_type(text),
            })
        }
        _ => Ok(()),
    }
}

#[inline]
fn check_name(text: &str) -> Result<(), FieldProblem> {
    if text.is_empty() {
        return Err(FieldProblem::Empty);
    }
    // Control characters are C0, DEL and C1; the last are two bytes, the first of them 0xC2. No early end: so the
    // bytes are looked at many at a time.
    let suspicious = text.bytes().fold(false, |found, byte| {
        found | (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2)
    });
    if suspicious
        && let Some((at, found)) = text
            .char_indices()
            .find(|(_, character)| character.is_control())
    {
        return Err(FieldProblem::ControlCharacter {
            character: found.into(),
            at,
        });
    }
    Ok(())
}

/// What a JSON text is, in words.
#[must_use]
pub fn json_type(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Rules between the fields of one event; `has` tells which columns have a value.
pub(crate) fn check_together(kind: Kind, has: impl Fn(usize) -> bool) -> Result<(), FieldError> {
    use super::schema::column;
    const METRIC: [usize; 3] = [
        column(Kind::MetricLogged, "run"),
        column(Kind::MetricLogged, "model"),
        column(Kind::MetricLogged, "version"),
    ];
    const ARTIFACT: [usize; 3] = [
        column(Kind::ArtifactLogged, "run"),
        column(Kind::ArtifactLogged, "model"),
        column(Kind::ArtifactLogged, "version"),
    ];
    const FEEDBACK: [usize; 2] = [
        column(Kind::FeedbackLogged, "model"),
        column(Kind::FeedbackLogged, "version"),
    ];
    const RUN: [usize; 2] = [
        column(Kind::RunStarted, "model"),
        column(Kind::RunStarted, "version"),
    ];
    let pair = |[model, version]: [usize; 2]| {
        if has(version) && !has(model) {
            return Err(FieldError::new("version", FieldProblem::Needs("`model`")));
        }
        Ok(())
    };
    let owner = |[run, model, version]: [usize; 3]| {
        pair([model, version])?;
        if has(run) || has(version) {
            Ok(())
        } else if has(model) {
            Err(FieldError::new(
                "model",
                FieldProblem::Needs("`version`, or `run`,"),
            ))
        } else {
            Err(FieldError::new(
                "run",
                FieldProblem::Needs("a value, or `model` and `version`,"),
            ))
        }
    };
    match kind {
        Kind::MetricLogged => owner(METRIC),
        Kind::ArtifactLogged => owner(ARTIFACT),
        Kind::FeedbackLogged => pair(FEEDBACK),
        Kind::RunStarted => pair(RUN),
        _ => Ok(()),
    }
}
