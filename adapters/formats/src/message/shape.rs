//! What a message is, judging by its headers and its format.

use super::{Message, MessageFormat};
use crate::cloud::{Attribute, Types, is_structured};
use crate::kserve::Half;
use crate::text::Layout;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text(Objects, Layout),
    /// A CloudEvent whose attributes are headers.
    Binary(Types, Framing),
    Arrow,
}

/// What the objects in a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objects {
    Flat,
    Envelopes(Types),
    /// Envelopes if they have a `specversion`, else flat.
    Either,
}

/// Whether the value may have the framing of a schema registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Open,
    /// The bytes are what they are.
    Keep,
}

/// What the names of headers start with that hold attributes.
const ATTRIBUTE: &[u8] = b"ce_";

/// The attribute that a header holds, by its name.
pub(super) fn attribute(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(ATTRIBUTE.len())?;
    prefix
        .as_bytes()
        .eq_ignore_ascii_case(ATTRIBUTE)
        .then_some(name)
}

impl Shape {
    /// Headers are looked at where there are any.
    #[inline]
    pub(super) fn of(message: &Message<'_>, format: MessageFormat) -> Self {
        match format {
            MessageFormat::Json => Self::Text(Objects::Flat, Layout::Any),
            MessageFormat::Auto if message.headers.is_empty() => {
                Self::Text(Objects::Either, Layout::Any)
            }
            _ => Self::by_headers(message, format),
        }
    }

    #[inline(never)]
    fn by_headers(message: &Message<'_>, format: MessageFormat) -> Self {
        let types = match format {
            MessageFormat::KServe => Types::Inferences,
            _ => Types::All,
        };
        let media_type = content_type(message).map(media_type).unwrap_or_default();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
        if has_inference_type(message) {
            return Self::Binary(types, Framing::Keep);
        }
        if is_structured(media_type) {
            let layout = match is("application/cloudevents-batch+json") {
                true => Layout::Array,
                false => Layout::Object,
            };
            return Self::Text(Objects::Envelopes(types), layout);
        }
        if value_of(message, Attribute::SpecVersion).is_some() {
            return Self::Binary(types, Framing::Open);
        }
        if format != MessageFormat::Auto {
            return Self::Text(Objects::Envelopes(types), Layout::Any);
        }
        if is("application/vnd.apache.arrow.stream") {
            Self::Arrow
        } else if is("application/x-ndjson") {
            Self::Text(Objects::Either, Layout::Lines)
        } else {
            Self::Text(Objects::Either, Layout::Any)
        }
    }
}

/// The content type a message claims.
pub(super) fn content_type<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let mut headers = message.headers.iter();
    headers
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .and_then(|(_, value)| *value)
}

/// A media type without its parameters.
fn media_type(value: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    value[..end].trim_ascii()
}

fn value_of<'a>(message: &Message<'a>, wanted: Attribute) -> Option<&'a [u8]> {
    let is_wanted =
        |name: &str| attribute(name).is_some_and(|name| name.eq_ignore_ascii_case(wanted.name()));
    let mut headers = message.headers.iter();
    headers
        .find(|(name, _)| is_wanted(name))
        .and_then(|(_, value)| *value)
}

/// Whether the type in the headers is one of KServe's, which decides whatever else they say.
fn has_inference_type(message: &Message<'_>) -> bool {
    let ty = value_of(message, Attribute::Type).and_then(|ty| std::str::from_utf8(ty).ok());
    ty.is_some_and(|ty| Half::of(ty).is_some())
}
