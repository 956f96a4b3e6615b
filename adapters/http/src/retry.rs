//! How a caller says that a request may be a repeat: a key of its own, or its number in an order of its own.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use modelog_engine::origin::Source;
use xxhash_rust::xxh3::Xxh3Default;

use crate::codes::Code;
use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PRODUCER: HeaderName = HeaderName::from_static("modelog-producer");
/// The longest key, and the longest name of a producer, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What makes a request recognisable when it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    by: By,
    /// What the request is, its body aside.
    about: [String; 3],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// `Idempotency-Key: any string`.
    Key(Arc<str>),
    /// `Modelog-Producer: id;epoch;sequence`.
    Producer {
        id: Arc<str>,
        epoch: u32,
        sequence: u64,
    },
}

impl Retry {
    /// What the head of a request says; `said` is what its headers say of the body.
    pub(crate) fn of(head: &Parts, said: &str) -> Result<Option<Self>, Problem> {
        let Some(by) = By::of(&head.headers)? else {
            return Ok(None);
        };
        let target = head.uri.path_and_query().map(ToString::to_string);
        Ok(Some(Self {
            by,
            about: [
                head.method.to_string(),
                target.unwrap_or_default(),
                said.to_owned(),
            ],
        }))
    }

    /// The source of a batch, as the log remembers it.
    pub(crate) fn source(self, body: &[u8]) -> Source {
        match self.by {
            By::Key(key) => {
                let [method, target, said] = self.about.each_ref().map(String::as_bytes);
                let body = fingerprint(&[method, target, said, body]);
                Source::Call { key, body }
            }
            By::Producer {
                id,
                epoch,
                sequence,
            } => Source::Producer {
                id,
                epoch,
                sequence,
            },
        }
    }
}

impl By {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let key = single(headers, &IDEMPOTENCY_KEY)?;
        let producer = single(headers, &PRODUCER)?;
        match (key, producer) {
            (None, None) => Ok(None),
            (Some(key), None) => {
                let key = name(key)
                    .ok_or_else(|| bad("Idempotency-Key must be 1 to 128 bytes of UTF-8"))?;
                Ok(Some(Self::Key(key)))
            }
            (None, Some(value)) => producer_of(value).map(Some).ok_or_else(|| {
                bad("Modelog-Producer must be id;epoch;sequence, such as trainer-7;1;42")
            }),
            (Some(_), Some(_)) => Err(bad(
                "Idempotency-Key and Modelog-Producer exclude each other",
            )),
        }
    }
}

/// A hash of parts, in which every part has its length: no two requests look the same by where they are cut.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = Xxh3Default::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(bad(&format!("the header {name} is given twice"))),
        (value, None) => Ok(value),
    }
}

fn name(value: &HeaderValue) -> Option<Arc<str>> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    (1..=NAME_BYTES_MAX)
        .contains(&text.len())
        .then(|| text.into())
}

fn producer_of(value: &HeaderValue) -> Option<By> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let mut parts = text.rsplitn(3, ';').map(str::trim);
    let sequence = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    let id = parts.next()?;
    (1..=NAME_BYTES_MAX)
        .contains(&id.len())
        .then(|| By::Producer {
            id: id.into(),
            epoch,
            sequence,
        })
}

fn bad(detail: &str) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(pairs: &[(&'static str, &str)]) -> Result<Option<By>, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        By::of(&headers)
    }

    #[test]
    fn keys_and_producers_are_read() {
        assert_eq!(by(&[]).unwrap(), None);
        assert_eq!(
            by(&[("idempotency-key", "schlüssel")]).unwrap(),
            Some(By::Key("schlüssel".into()))
        );
        assert_eq!(
            by(&[("modelog-producer", "a;b; 3 ;7")]).unwrap(),
            Some(By::Producer {
                id: "a;b".into(),
                epoch: 3,
                sequence: 7
            })
        );
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = "x".repeat(129);
        for pairs in [
            &[("idempotency-key", "")][..],
            &[("idempotency-key", &long)],
            &[("idempotency-key", "a"), ("idempotency-key", "a")],
            &[("idempotency-key", "a"), ("modelog-producer", "p;1;1")],
            &[("modelog-producer", "p;1")],
            &[("modelog-producer", ";1;1")],
            &[("modelog-producer", "p;-1;1")],
            &[("modelog-producer", "p;1;1.5")],
        ] {
            assert!(by(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn fingerprints_know_where_parts_end() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        // Written to logs: it must never change.
        let known = 13_806_263_778_233_543_156;
        assert_eq!(fingerprint(&[b"POST", b"/v1/events"]), known);
    }
}
