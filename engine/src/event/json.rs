//! JSON text that is known to be valid, kept byte for byte.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::FieldProblem;

/// A valid JSON text, as its producer wrote it: integers beyond 2⁵³, duplicate keys and spacing included.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// Checks a JSON text.
    ///
    /// # Errors
    /// [`FieldProblem::NotJson`] or [`FieldProblem::UnpairedSurrogate`].
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, FieldProblem> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// Text read back from a column of JSON, which only holds checked text.
    pub(crate) fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// The JSON of a value.
    ///
    /// # Errors
    /// What serde says when the value has no JSON form, such as a map whose keys are not strings.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// An object of these members: keys, and the texts of their values, which are valid JSON. None if there are no members.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut text = String::new();
        for (key, value) in members {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(&serde_json::to_string(key).expect("a string has a JSON form"));
            text.push(':');
            text.push_str(value);
        }
        if text.is_empty() {
            return None;
        }
        text.push('}');
        Some(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Json {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Checks that a text is valid JSON, in which every surrogate has its partner.
///
/// # Errors
/// [`FieldProblem::NotJson`] or [`FieldProblem::UnpairedSurrogate`].
pub fn check(text: &str) -> Result<(), FieldProblem> {
    let parsed: Result<&RawValue, _> = serde_json::from_str(text);
    match parsed {
        Ok(_) => check_surrogates(text),
        Err(error) => Err(FieldProblem::NotJson {
            at: error.column().saturating_sub(1),
            message: error.to_string(),
        }),
    }
}

/// Finds `\ud800`–`\udfff` escapes without their other half, which serde_json does not look for in raw text.
///
/// # Errors
/// [`FieldProblem::UnpairedSurrogate`] with the byte position of the escape.
pub fn check_surrogates(text: &str) -> Result<(), FieldProblem> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        let escape = at + found;
        at = escape + 2;
        match surrogate(bytes, escape) {
            None => {}
            Some(0xd800..=0xdbff)
                if matches!(surrogate(bytes, escape + 6), Some(0xdc00..=0xdfff)) =>
            {
                at = escape + 12
            }
            Some(_) => return Err(FieldProblem::UnpairedSurrogate { at: escape }),
        }
    }
    Ok(())
}

/// The surrogate escaped at a position, if there is one.
fn surrogate(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..=0xdfff).contains(&unit).then_some(unit)
}

/// The members of an object, in order, with the texts of their values as they were written; a key may come twice. None if
/// the text is not an object.
#[must_use]
pub fn members(object: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let Members(members) = serde_json::from_str(object).ok()?;
    let members = members.into_iter();
    Some(
        members
            .map(|(Key(key), value)| (key, value.get()))
            .collect(),
    )
}

struct Members<'a>(Vec<(Key<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_and_text() {
        let json = r#"{"b": 1.0, "a\n":{"x" : 9007199254740993},"b":null}"#;
        let found = members(json).unwrap();
        let expected = [
            ("b", "1.0"),
            ("a\n", r#"{"x" : 9007199254740993}"#),
            ("b", "null"),
        ];
        let found: Vec<_> = found.iter().map(|(key, value)| (&**key, *value)).collect();
        assert_eq!(found, expected);
        let again = Json::object(found).unwrap();
        assert_eq!(
            again.as_str(),
            r#"{"b":1.0,"a\n":{"x" : 9007199254740993},"b":null}"#
        );
        assert_eq!(Json::object([]), None);
        assert!(members("[]").is_none());
    }

    #[test]
    fn text_is_kept_and_surrogates_need_partners() {
        let odd = r#" {"a": 9007199254740993, "a" : "\u0000", "b":"\ud83d\ude00"} "#;
        assert_eq!(Json::parse(odd).unwrap().as_str(), odd);
        assert!(
            Json::parse(r#""\\ud800""#).is_ok(),
            "an escaped backslash starts no escape"
        );
        for bad in [
            r#""\ud800""#,
            r#""\ude00""#,
            r#""\ud800\ud800""#,
            r#""\ud800\n""#,
        ] {
            assert_eq!(
                Json::parse(bad),
                Err(FieldProblem::UnpairedSurrogate { at: 1 }),
                "{bad}"
            );
        }
        assert!(matches!(
            Json::parse("{"),
            Err(FieldProblem::NotJson { .. })
        ));
        assert!(matches!(
            Json::parse("1 2"),
            Err(FieldProblem::NotJson { .. })
        ));
    }
}
