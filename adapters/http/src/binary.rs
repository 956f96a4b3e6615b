//! CloudEvents in binary mode: the headers of a request as attributes of an event.
//!
//! By the HTTP binding of CloudEvents 1.0 a value may stand in double quotes, and is percent-encoded, once.
//!
//! The body may be of any media type, that of a form too, as with the requests that KServe's inference logger passes on. A
//! page of another site cannot send such: browsers ask before they send headers like these, and are refused.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use modelog_formats::{BinaryEvent, DecodeErrors, Decoded, Options, decode_binary};
use percent_encoding::percent_decode;

use crate::codes::Code;
use crate::problem::Problem;

pub(crate) const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// What the names of headers start with that are attributes.
const PREFIX: &str = "ce-";

/// The attributes of an event whose data is the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    attributes: Vec<(String, String)>,
    content_type: Option<String>,
}

impl Binary {
    /// The event that the headers begin; nothing if they begin none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut attributes = Vec::new();
        for (name, value) in headers {
            if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
                let value = decoded(value.as_bytes()).ok_or_else(|| not_text(name))?;
                attributes.push((attribute.to_owned(), value));
            }
        }
        if attributes.is_empty() {
            return Ok(None);
        }
        let mut given = headers.get_all(CONTENT_TYPE).iter();
        let (content_type, None) = (given.next(), given.next()) else {
            let detail = "there must be one Content-Type at most";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        };
        let content_type = content_type
            .map(|value| String::from_utf8(value.as_bytes().to_vec()))
            .transpose()
            .map_err(|_| not_text(&CONTENT_TYPE))?;
        let binary = Self {
            attributes,
            content_type,
        };
        let borrowed = binary.borrowed();
        Ok(binary.event(&borrowed, &[]).is_meant().then_some(binary))
    }

    /// Everything but the body, to recognise the request by. A repeat may bring its headers in another order.
    pub(crate) fn fingerprint(&self) -> String {
        let mut attributes = self.borrowed();
        attributes.sort_unstable();
        format!("{:?} {attributes:?}", self.content_type)
    }

    pub(crate) fn decode(&self, data: &[u8], options: &Options) -> Result<Decoded, DecodeErrors> {
        decode_binary(&self.event(&self.borrowed(), data), options)
    }

    fn borrowed(&self) -> Vec<(&str, &str)> {
        let attributes = self.attributes.iter();
        attributes
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    fn event<'a>(
        &'a self,
        attributes: &'a [(&'a str, &'a str)],
        data: &'a [u8],
    ) -> BinaryEvent<'a> {
        BinaryEvent {
            attributes,
            content_type: self.content_type.as_deref(),
            data,
        }
    }
}

/// The value of an attribute, as it was before it became a header.
fn decoded(value: &[u8]) -> Option<String> {
    let plain = unquoted(value.trim_ascii());
    let decoded = percent_decode(&plain).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// The text in quotes, without its backslashes; other text as it is.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(quoted) = quoted else {
        return value.to_vec();
    };
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => *bytes.next().unwrap_or(byte),
            byte => *byte,
        });
    }
    plain
}

fn not_text(name: &HeaderName) -> Problem {
    let detail = format!("the header {name} is not UTF-8, once percent-decoded");
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once() {
        for (value, expected) in [
            ("a b", "a b"),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("100%2525", "100%25"),
            ("100%", "100%"),
            ("%zz", "%zz"),
            ("\"a \\\"b\\\" %41\\\\\"", "a \"b\" A\\"),
            ("\"", "\""),
            ("\"\"", ""),
            ("\"a\\\"", "a\\"),
        ] {
            assert_eq!(decoded(value.as_bytes()).as_deref(), Some(expected));
        }
        assert_eq!(decoded(b"%ff"), None);
        assert_eq!(decoded(b"\xff"), None);
        assert_eq!(decoded("é".as_bytes()).as_deref(), Some("é"));
    }
}
