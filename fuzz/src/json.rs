//! serde_json as the oracle of text: whether it is JSON, and what it says.

use modelog_engine::Timestamp;
use modelog_engine::event::Kind;
use modelog_engine::event::json::check_surrogates;
use modelog_engine::event::schema::{self, FieldType};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Whether text is JSON without unpaired surrogates.
pub(super) fn is_sound(text: &str) -> bool {
    let value: Result<&RawValue, _> = serde_json::from_str(text);
    value.is_ok_and(|value| check_surrogates(value.get()).is_ok())
}

/// Whether text is nothing but blanks of JSON.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim_matches([' ', '\t', '\r', '\n']).is_empty()
}

/// The events of a body: the elements of an array, or the body itself.
pub(super) fn elements(text: &str) -> Vec<&str> {
    if is_blank(text) {
        return Vec::new();
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(elements) => elements.into_iter().map(RawValue::get).collect(),
        Err(_) => vec![text],
    }
}

/// Checks that each event that was written says what its text says.
pub(super) fn check_values<'a>(texts: impl Iterator<Item = &'a str>, written: &[String]) {
    let texts: Vec<_> = texts.collect();
    assert_eq!(
        texts.len(),
        written.len(),
        "P3: one event for each that was met"
    );
    for (text, written) in texts.into_iter().zip(written) {
        // A number beyond all floats is JSON that serde_json has no value for.
        let Ok(Value::Object(given)) = serde_json::from_str(text) else {
            continue;
        };
        check_event(&given, &object(written), text);
    }
}

/// The same for events in envelopes, as far as their data lies there as JSON.
pub(super) fn check_envelopes(text: &str, many: bool, written: &[String]) {
    let texts = if many || is_blank(text) {
        elements(text)
    } else {
        vec![text]
    };
    assert_eq!(
        texts.len(),
        written.len(),
        "P3: one event for each that was met"
    );
    for (text, written) in texts.into_iter().zip(written) {
        let Ok(Value::Object(envelope)) = serde_json::from_str(text) else {
            continue;
        };
        let written = object(written);
        for name in ["id", "source"] {
            assert_eq!(
                written.get(name),
                envelope.get(name),
                "P3: {name} of {text}"
            );
        }
        if let Some(Value::Object(data)) = envelope.get("data") {
            let mut given = data.clone();
            for name in ["id", "source", "time"] {
                if let Some(value) = envelope.get(name) {
                    given.insert(name.to_owned(), value.clone());
                }
            }
            check_event(&given, &written, text);
        }
    }
}

fn object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        other => panic!("P3: {text} is written as {other:?}"),
    }
}

/// Checks every field of an event that was written against what was given.
fn check_event(given: &Map<String, Value>, written: &Map<String, Value>, text: &str) {
    let kind = written["type"].as_str().and_then(|name| name.parse().ok());
    let kind: Kind = kind.unwrap_or_else(|| panic!("P3: a kind is written for {text}"));
    for (name, value) in written {
        let Some(column) =
            schema::find_column(kind, name).filter(|column| *column != schema::EXTRA)
        else {
            continue;
        };
        let aliased = format!("{name}_data");
        let said = given.get(name).or_else(|| given.get(&aliased));
        let same = match (schema::field(kind, column).ty, said) {
            (FieldType::Time, None) => true,
            (FieldType::Time, Some(Value::String(said))) => Timestamp::parse(said)
                .is_ok_and(|time| value.as_str() == Some(time.to_string().as_str())),
            (FieldType::Time | FieldType::Bytes | FieldType::Ord, _) => true,
            (FieldType::Float, Some(said)) => match value.as_f64() {
                Some(value) => said.as_f64() == Some(value),
                None => said == value,
            },
            (FieldType::Int, Some(said)) => value.as_i64().is_some_and(|value| {
                said.as_i64() == Some(value) || said.as_f64() == Some(value as f64)
            }),
            (_, said) => said == Some(value) || said.is_none() && value.is_null(),
        };
        assert!(same, "P3: {name} is {value} for {said:?} in {text}");
    }
    for (name, value) in given {
        let Some(column) = schema::find_column(kind, name) else {
            continue;
        };
        let field = schema::field(kind, column).name;
        let kept = value.is_null() || written.contains_key(field);
        assert!(kept, "P3: {name} of {text} is lost");
    }
}
