//! Values on their way into a database.

use std::borrow::Cow;

use modelog_engine::{Offset, Timestamp};

/// A value on its way into a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Finite.
    Float(f64),
    Time(Timestamp),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

impl Value<'_> {
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Float(value) => Value::Float(value),
            Self::Time(time) => Value::Time(time),
            Self::Text(text) => Value::Text(text.into_owned().into()),
            Self::Blob(bytes) => Value::Blob(bytes.into_owned().into()),
        }
    }

    /// About how many bytes it takes on the way.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 8,
            Self::Blob(bytes) => bytes.len() + 8,
            _ => 16,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<Offset> for Value<'_> {
    fn from(offset: Offset) -> Self {
        count(offset.0)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A count or offset: SQL knows signed integers only, and no log will ever be that long.
pub(crate) fn count(value: u64) -> Value<'static> {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A number, where it is finite. Zero has no sign: SQLite does not keep it.
pub(crate) fn finite(value: f64) -> Value<'static> {
    if value.is_finite() {
        Value::Float(value + 0.0)
    } else {
        Value::Null
    }
}

/// What takes values, one after another, in the form a database wants.
pub(crate) trait Sink {
    fn push(&mut self, value: &Value<'_>);
}

/// A time as databases with a type for times take it. Times outside of what a log holds stand for "no bound", and become
/// the moment before or behind it.
pub(crate) fn utc(time: Timestamp) -> chrono::DateTime<chrono::Utc> {
    let micros = time
        .micros()
        .clamp(Timestamp::MIN.micros() - 1, Timestamp::MAX.micros() + 1);
    chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
