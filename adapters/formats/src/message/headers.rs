//! Headers of a message as JSON that loses nothing: `[["name","value"],["name",null],["name",{"base64":"…"}]]`.
//!
//! Pairs, because a name may come twice and the order may matter. A value is text, or nothing, or bytes that are no text.
//! If all together are too long for one value of the log, those that do not fit are left out, and the array ends with
//! `{"left_out":n}`, how many they are.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modelog_engine::event::VALUE_BYTES_MAX;
use serde::Deserialize;

use crate::json::{push_bytes, push_string};

/// A header: its name, and its value if it has one.
pub(crate) type Header<'a> = (&'a str, Option<&'a [u8]>);

/// The most bytes that the end of the array may take.
const END_BYTES_MAX: usize = 40;

/// Headers as JSON; nothing if there are none.
#[cold]
pub(crate) fn to_json<'h>(headers: impl Iterator<Item = Header<'h>>) -> Option<String> {
    let mut json = String::from("[");
    let mut left_out = 0_u64;
    for (name, value) in headers {
        let before = json.len();
        if before > 1 {
            json.push(',');
        }
        // What is too long by itself is not written out to find that.
        let bytes = name.len() + value.map_or(0, <[u8]>::len);
        if bytes <= VALUE_BYTES_MAX {
            push_pair(name, value, &mut json);
        }
        if bytes > VALUE_BYTES_MAX || json.len() > VALUE_BYTES_MAX - END_BYTES_MAX {
            json.truncate(before);
            left_out += 1;
        }
    }
    if left_out > 0 {
        let comma = if json.len() > 1 { "," } else { "" };
        write!(json, "{comma}{{\"left_out\":{left_out}}}").expect("a string takes all text");
    }
    json.push(']');
    (json.len() > 2).then_some(json)
}

fn push_pair(name: &str, value: Option<&[u8]>, json: &mut String) {
    json.push('[');
    push_string(name, json);
    json.push(',');
    match value.map(|value| (value, simdutf8::basic::from_utf8(value))) {
        None => json.push_str("null"),
        Some((_, Ok(text))) => push_string(text, json),
        Some((bytes, Err(_))) => push_bytes(bytes, json),
    }
    json.push(']');
}

/// Headers read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderPairs {
    /// Names and values, in order.
    pub pairs: Vec<(String, Option<Vec<u8>>)>,
    /// How many more there were.
    pub left_out: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Pair(String, Option<Value>),
    Rest { left_out: u64 },
}

/// The headers of a message, as `EventRejected` has them; none if the text is not of that form.
#[must_use]
pub fn headers_of(json: &str) -> Option<HeaderPairs> {
    let elements: Vec<Element> = serde_json::from_str(json).ok()?;
    let mut headers = HeaderPairs::default();
    for element in elements {
        match element {
            Element::Pair(name, value) => {
                let value = match value {
                    None => None,
                    Some(Value::Text(text)) => Some(text.into_bytes()),
                    Some(Value::Bytes { base64 }) => Some(STANDARD.decode(base64).ok()?),
                };
                headers.pairs.push((name, value));
            }
            Element::Rest { left_out } => headers.left_out += left_out,
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelog_engine::event::Json;
    use proptest::prelude::*;

    fn borrowed(headers: &[(String, Option<Vec<u8>>)]) -> impl Iterator<Item = Header<'_>> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    #[test]
    fn headers_are_pairs() {
        let headers = [
            ("a", Some(&b"1\n"[..])),
            ("a", None),
            ("é", Some(&b"\xff"[..])),
            ("", Some(&b""[..])),
        ];
        assert_eq!(
            to_json(headers.into_iter()).as_deref(),
            Some(r#"[["a","1\n"],["a",null],["é",{"base64":"/w=="}],["",""]]"#)
        );
        assert_eq!(to_json([].into_iter()), None);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let long = vec![b'x'; VALUE_BYTES_MAX - 100];
        let longest = vec![b'x'; VALUE_BYTES_MAX + 1];
        let controls = vec![0; VALUE_BYTES_MAX / 2];
        let headers = [
            ("a", Some(&longest[..])),
            ("b", Some(&long[..])),
            ("c", Some(&controls[..])),
            ("d", Some(&long[..])),
            ("e", None),
        ];
        let json = to_json(headers.into_iter()).expect("headers");
        assert!(json.len() <= VALUE_BYTES_MAX, "{}", json.len());
        assert!(json.starts_with(r#"[["b","xxx"#), "{}", &json[..20]);
        assert!(
            json.ends_with(r#"],["e",null],{"left_out":3}]"#),
            "{}",
            &json[json.len() - 60..]
        );
        assert!(Json::parse(json.clone()).is_ok());
        let kept = headers_of(&json).expect("headers");
        let names: Vec<_> = kept.pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, kept.left_out), (vec!["b", "e"], 3));
        let alone = [("a", Some(&longest[..]))];
        let json = to_json(alone.into_iter()).expect("headers");
        assert_eq!(json, r#"[{"left_out":1}]"#);
        for wrong in [
            "{}",
            "[1]",
            r#"[["a"]]"#,
            r#"[["a",1]]"#,
            r#"[["a",{"base64":"?"}]]"#,
            "[",
        ] {
            assert_eq!(headers_of(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were(headers in proptest::collection::vec((any::<String>(), proptest::option::of(prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)])), 0..5)) {
            let json = to_json(borrowed(&headers)).unwrap_or("[]".into());
            prop_assert!(Json::parse(json.clone()).is_ok());
            prop_assert_eq!(headers_of(&json), Some(HeaderPairs { pairs: headers, left_out: 0 }));
        }
    }
}
