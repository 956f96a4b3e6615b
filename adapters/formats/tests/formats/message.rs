//! Messages of a stream: what each is, and what is kept of one that is rejected.

use modelog_engine::event::{Event, EventRejected, Fact};
use modelog_formats::{
    Decoded, Format, Limits, Message, MessageFormat, MessageReader, ModelTemplate, Options,
    Outcome, Place, decode,
};
use proptest::prelude::*;

use crate::events;

type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

pub(crate) fn message<'a>(value: Option<&'a [u8]>, headers: Headers<'a>) -> Message<'a> {
    Message {
        place: Place {
            topic: "ml-events",
            partition: 3,
            position: 123,
        },
        value,
        key: None,
        headers,
    }
}

/// Reads one message with options.
pub(crate) fn read_with(
    message: &Message<'_>,
    format: MessageFormat,
    options: &Options,
) -> (Outcome, Decoded) {
    let mut reader = MessageReader::new(format, options, ModelTemplate::standard());
    let outcome = reader.read(message);
    (outcome, reader.finish())
}

/// The events of a message that is all right.
pub(crate) fn read(value: impl AsRef<[u8]>, headers: Headers<'_>) -> Vec<Event> {
    let value = value.as_ref();
    let options = Options::default();
    let (outcome, decoded) = read_with(
        &message(Some(value), headers),
        MessageFormat::Auto,
        &options,
    );
    let count = decoded.batch.rows();
    assert_eq!(outcome, Outcome::Events(count), "{:?}", decoded.rejected);
    events(decoded)
}

/// What is recorded of a message of which nothing can be understood.
pub(crate) fn rejected(value: impl AsRef<[u8]>, headers: Headers<'_>) -> EventRejected {
    rejected_as(value, headers, MessageFormat::Auto)
}

pub(crate) fn rejected_as(
    value: impl AsRef<[u8]>,
    headers: Headers<'_>,
    format: MessageFormat,
) -> EventRejected {
    let options = Options::default();
    let (outcome, decoded) = read_with(&message(Some(value.as_ref()), headers), format, &options);
    let error = decoded.rejected[0].clone();
    assert!(
        matches!(outcome, Outcome::Rejected { events: 0, rejected: 1, reason } if reason == error.code),
        "{outcome:?}"
    );
    match &mut events(decoded)[..] {
        [event] => match std::mem::replace(&mut event.fact, Fact::from(EventRejected::default())) {
            Fact::EventRejected(fact) => fact,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

const METRIC: &str = r#"{"type":"MetricLogged","run":"r","name":"loss","value":0.5}"#;

fn metrics(count: usize) -> Vec<Event> {
    let body = vec![METRIC; count].join("\n");
    crate::read(&body, Format::Ndjson)
}

#[test]
fn json_is_an_object_an_array_or_lines() {
    for (value, count) in [
        (METRIC.to_owned(), 1),
        (format!(" {METRIC}\r\n"), 1),
        (format!("\u{feff}{METRIC}\n\n"), 1),
        (METRIC.replace(',', ",\n"), 1),
        (format!("[{METRIC}, {METRIC}]"), 2),
        (format!("{METRIC}\n{METRIC}\n\n{METRIC}\n"), 3),
        ("[]".to_owned(), 0),
    ] {
        for format in [MessageFormat::Auto, MessageFormat::Json] {
            let options = Options::default();
            let message = message(Some(value.as_bytes()), &[]);
            let (outcome, decoded) = read_with(&message, format, &options);
            assert_eq!(outcome, Outcome::Events(count as u32), "{value}");
            assert_eq!(events(decoded), metrics(count), "{value}");
        }
    }
}

#[test]
fn a_message_that_holds_nothing_is_rejected() {
    for value in ["", "\n", " \r\n\t"] {
        let fact = rejected(value, &[]);
        assert_eq!(fact.reason, "bad_json", "{value:?}");
        assert_eq!(fact.raw.as_deref(), Some(value.as_bytes()));
    }
}

#[test]
fn a_message_without_value_is_a_tombstone() {
    let options = Options::default();
    let headers: Headers<'_> = &[("ce_specversion", Some(b"1.0"))];
    for headers in [&[][..], headers] {
        let (outcome, decoded) = read_with(&message(None, headers), MessageFormat::Auto, &options);
        assert_eq!((outcome, decoded.batch.rows()), (Outcome::Tombstone, 0));
    }
}

#[test]
fn several_lines_begin_with_a_whole_object() {
    // Objects over several lines, one after the other, are no lines.
    let value = format!("{}\n{METRIC}", METRIC.replace(',', ",\n"));
    let fact = rejected(&value, &[]);
    assert_eq!(fact.reason, "trailing_bytes");
    assert_eq!(fact.raw.as_deref(), Some(value.as_bytes()));
    // Nor is what follows on the same line.
    assert_eq!(
        rejected(format!("{METRIC} {METRIC}"), &[]).reason,
        "trailing_bytes"
    );
    // Lines that are said to be some may begin with anything.
    let headers: Headers<'_> = &[("Content-Type", Some(b"Application/X-NDJSON; charset=utf-8"))];
    let options = Options::default();
    let value = format!("nonsense\n{METRIC}");
    let (outcome, decoded) = read_with(
        &message(Some(value.as_bytes()), headers),
        MessageFormat::Auto,
        &options,
    );
    assert_eq!(
        outcome,
        Outcome::Rejected {
            events: 1,
            rejected: 1,
            reason: "bad_json"
        }
    );
    assert_eq!(decoded.batch.rejected(), 1);
}

#[test]
fn what_is_rejected_is_kept_with_its_place() {
    let value = b"{\"type\":\"MetricLogged\",\"run\":\"r\",\"value\":1}";
    let bad = Message {
        key: Some(b"\x00key"),
        ..message(
            Some(value),
            &[("a", Some(b"1")), ("a", None), ("b", Some(b"\xff"))],
        )
    };
    let options = Options::default();
    let (outcome, decoded) = read_with(&bad, MessageFormat::Auto, &options);
    assert_eq!(
        outcome,
        Outcome::Rejected {
            events: 0,
            rejected: 1,
            reason: "missing_field"
        }
    );
    assert_eq!(decoded.rejected[0].field.as_deref(), Some("name"));
    match &events(decoded)[0].fact {
        Fact::EventRejected(fact) => {
            assert_eq!(fact.reason, "missing_field");
            assert_eq!(fact.position.as_deref(), Some("ml-events/3/123, byte 0"));
            assert_eq!(fact.raw.as_deref(), Some(&value[..]));
            assert_eq!(fact.raw_bytes, Some(value.len() as i64));
            assert_eq!(fact.raw_sha256, None);
            assert_eq!(fact.key.as_deref(), Some(&b"\x00key"[..]));
            assert_eq!(
                fact.headers.as_ref().map(|headers| headers.as_str()),
                Some(r#"[["a","1"],["a",null],["b",{"base64":"/w=="}]]"#)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_events_of_several_are_kept_by_themselves() {
    for value in [
        format!("[{METRIC},17, {METRIC},{{\"type\":\"x\"}}]"),
        format!("{METRIC}\n17 \n{METRIC}\n{{\"type\":\"x\"}}\n"),
    ] {
        let options = Options::default();
        let mut reader =
            MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
        let outcome = reader.read(&message(Some(value.as_bytes()), &[]));
        assert_eq!(
            outcome,
            Outcome::Rejected {
                events: 2,
                rejected: 2,
                reason: "not_an_object"
            }
        );
        let reasons: Vec<_> = reader.reasons().iter().collect();
        assert_eq!(reasons, [(&"not_an_object", &1), (&"unknown_kind", &1)]);
        let found = |number: usize| {
            let text = ["17", "{\"type\":\"x\"}"][number];
            (value.rfind(text).expect("it is there"), text)
        };
        let decoded = reader.finish();
        let places: Vec<_> = decoded.rejected.iter().map(|it| it.event).collect();
        assert_eq!(places, [1, 3]);
        let read = events(decoded);
        for (row, number) in [(1, 0), (3, 1)] {
            let Fact::EventRejected(fact) = &read[row].fact else {
                panic!("{:?}", read[row]);
            };
            let (at, text) = found(number);
            assert_eq!(fact.raw.as_deref(), Some(text.as_bytes()));
            let at = at + [0, 8][number];
            assert_eq!(
                fact.position,
                Some(format!("ml-events/3/123#{row}, byte {at}"))
            );
        }
    }
}

#[test]
fn after_a_hundred_bad_events_the_rest_is_kept_together() {
    let elements: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    for (separator, open, close, end) in [(",", "[", " ]", "..]"), ("\n", "{}\n", "\n", "..")] {
        let value = format!("{open}{}{close}", elements.join(separator));
        let options = Options::default();
        let (outcome, decoded) = read_with(
            &message(Some(value.as_bytes()), &[]),
            MessageFormat::Auto,
            &options,
        );
        let Outcome::Rejected {
            events: 0,
            rejected: 100,
            ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        let read = events(decoded);
        let Fact::EventRejected(fact) = &read[99].fact else {
            panic!("{:?}", read[99]);
        };
        let first = if open == "[" { 99 } else { 98 };
        let rest = format!("{}{close}", elements[first..].join(separator));
        assert_eq!(fact.reason, "too_many_rejected");
        assert_eq!(fact.raw.as_deref(), Some(rest.trim_end().as_bytes()));
        let at = value.find(&rest).expect("the rest is a part");
        assert_eq!(
            fact.position,
            Some(format!("ml-events/3/123#99{end}, byte {at}"))
        );
        // A hundredth that is the last stands for itself.
        let value = format!("[{}]", elements[..100].join(","));
        let (_, decoded) = read_with(
            &message(Some(value.as_bytes()), &[]),
            MessageFormat::Auto,
            &options,
        );
        let read = events(decoded);
        let Fact::EventRejected(fact) = &read[99].fact else {
            panic!("{:?}", read[99]);
        };
        assert_eq!((read.len(), fact.reason.as_str()), (100, "not_an_object"));
    }
}

#[test]
fn oversized_messages_are_kept_in_part() {
    let options = Options {
        limits: Limits {
            event_bytes: 50,
            raw_bytes: 10,
            ..Limits::default()
        },
        ..Options::default()
    };
    let value = METRIC.as_bytes();
    let long = Message {
        key: Some(&vec![b'k'; (1 << 20) + 1]),
        ..message(Some(value), &[])
    };
    let (outcome, decoded) = read_with(&long, MessageFormat::Auto, &options);
    assert!(matches!(
        outcome,
        Outcome::Rejected {
            reason: "event_too_large",
            ..
        }
    ));
    let read = events(decoded);
    let Fact::EventRejected(fact) = &read[0].fact else {
        panic!("{:?}", read[0]);
    };
    assert_eq!(fact.raw.as_deref(), Some(&value[..10]));
    assert_eq!(fact.raw_bytes, Some(value.len() as i64));
    assert_eq!(fact.raw_sha256.as_ref().map(String::len), Some(64));
    assert_eq!(fact.key.as_ref().map(Vec::len), Some(1 << 20));
    let said = fact.message.as_deref().unwrap_or_default();
    assert!(said.contains("1048577"), "{said}");
}

#[test]
fn a_full_batch_is_said_to_be_full() {
    let options = Options {
        limits: Limits {
            batch_bytes: 100,
            ..Limits::default()
        },
        ..Options::default()
    };
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    let one = message(Some(METRIC.as_bytes()), &[]);
    let mut read = 0;
    while reader.read(&one) == Outcome::Events(1) {
        read += 1;
    }
    assert!(read > 1, "{read}");
    assert_eq!(reader.read(&one), Outcome::Full);
    assert_eq!((reader.rows(), reader.finish().batch.rows()), (read, read));
    // An empty batch takes any message, if only as a record.
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    let long = format!("[{METRIC},{METRIC}]");
    let outcome = reader.read(&message(Some(long.as_bytes()), &[]));
    assert!(
        matches!(
            outcome,
            Outcome::Rejected {
                events: 0,
                rejected: 1,
                reason: "batch_too_large"
            }
        ),
        "{outcome:?}"
    );
}

#[test]
fn frames_of_registries_are_passed_over_if_there_is_json_inside() {
    let framed = |content: &[u8]| [&b"\0\0\0\x01\x02"[..], content].concat();
    for (content, count) in [(METRIC.to_owned(), 1), (format!(" [{METRIC},{METRIC}]"), 2)] {
        for format in [MessageFormat::Auto, MessageFormat::Json] {
            let options = Options::default();
            let value = framed(content.as_bytes());
            let (outcome, decoded) = read_with(&message(Some(&value), &[]), format, &options);
            assert_eq!(outcome, Outcome::Events(count as u32));
            assert_eq!(events(decoded), metrics(count));
        }
    }
    // Places are those in the whole message, and so are the bytes.
    let value = framed(b"{\"type\":\"x\"}");
    let fact = rejected(&value, &[]);
    assert_eq!(fact.reason, "unknown_kind");
    assert_eq!(fact.position.as_deref(), Some("ml-events/3/123, byte 13"));
    assert_eq!(fact.raw, Some(value));
    // Avro: a record of two texts. Protobuf: the index of a message, then a text.
    for content in [&b"\x0e{\"a\":1}\x02b"[..], b"\0\x0a\x03abc", b"{\xff}", b""] {
        let value = framed(content);
        for format in [
            MessageFormat::Auto,
            MessageFormat::Json,
            MessageFormat::CloudEvents,
            MessageFormat::KServe,
        ] {
            let fact = rejected_as(&value, &[], format);
            assert_eq!(fact.reason, "needs_schema", "{content:?}");
            let said = fact.message.as_deref().unwrap_or_default();
            assert!(said.contains("schema 258"), "{said}");
            assert_eq!(fact.raw.as_deref(), Some(&value[..]));
        }
    }
    // Too short for a frame.
    assert_eq!(rejected(b"\0\0\0\0", &[]).reason, "bad_json");
}

#[test]
fn arrow_streams_are_taken_whole_or_not_at_all() {
    use crate::arrow::{batch, written};
    use arrow_array::{ArrayRef, StringArray};
    use arrow_ipc::writer::IpcWriteOptions;
    use std::sync::Arc;

    let column =
        |texts: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let stream = |names: &[Option<&str>], kind| {
        let columns = [
            ("type", column(&vec![kind; names.len()])),
            ("model", column(names)),
            ("more", column(&vec![Some("x"); names.len()])),
        ];
        written(&[batch(&columns)], IpcWriteOptions::default())
    };
    let headers: Headers<'_> = &[("content-type", Some(b"Application/vnd.apache.arrow.STREAM"))];
    let options = Options {
        kind: Some(modelog_engine::event::Kind::ModelCreated),
        ..Options::default()
    };
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    let flat = br#"{"type":"ModelCreated","model":"0"}"#;
    assert_eq!(reader.read(&message(Some(flat), &[])), Outcome::Events(1));
    let sound = stream(&[Some("a"), Some("b")], Some("ModelCreated"));
    assert_eq!(
        reader.read(&message(Some(&sound), headers)),
        Outcome::Events(2)
    );
    let bad = stream(&[Some("c"), None, Some("d")], Some("ModelCreated"));
    let outcome = reader.read(&message(Some(&bad), headers));
    assert_eq!(
        outcome,
        Outcome::Rejected {
            events: 0,
            rejected: 1,
            reason: "missing_field"
        }
    );
    let cut = &sound[..sound.len() - 20];
    assert!(matches!(
        reader.read(&message(Some(cut), headers)),
        Outcome::Rejected {
            reason: "bad_arrow",
            ..
        }
    ));
    assert_eq!(
        reader.read(&message(Some(b""), headers)),
        Outcome::Events(0)
    );
    let decoded = reader.finish();
    assert_eq!(decoded.unknown_fields["more"], 2);
    let read = events(decoded);
    let models: Vec<_> = read
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::ModelCreated(fact) => Some(fact.model.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(models, ["0", "a", "b"]);
    let Fact::EventRejected(fact) = &read[3].fact else {
        panic!("{:?}", read[3]);
    };
    assert_eq!(fact.raw.as_deref(), Some(&bad[..]));
    assert_eq!(fact.position.as_deref(), Some("ml-events/3/123"));
    let said = fact.message.as_deref().unwrap_or_default();
    assert!(said.starts_with("row 1: "), "{said}");
}

proptest! {
    #[test]
    fn lines_are_the_same_as_messages(lines in proptest::collection::vec(prop_oneof![
        (0..9_u8, any::<f64>()).prop_map(|(run, value)| serde_json::json!({"type": "MetricLogged", "run": format!("r{run}"), "name": "n", "value": value}).to_string()),
        (any::<String>(), "[a-zé]{1,9}").prop_map(|(text, id)| serde_json::json!({"more": text, "model": "m", "type": "model.created", "id": id}).to_string()),
        Just(r#"{"type":"FeedbackLogged","prediction_id":"p","label":{"a":[1, 2]}}"#.to_owned()),
    ], 0..20)) {
        let options = Options::default();
        let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
        for line in &lines {
            let outcome = reader.read(&message(Some(line.as_bytes()), &[]));
            prop_assert_eq!(outcome, Outcome::Events(1));
        }
        let body = decode(lines.join("\n").as_bytes(), Format::Ndjson, &options).expect("sound");
        let messages = reader.finish();
        prop_assert_eq!(&body.unknown_fields, &messages.unknown_fields);
        prop_assert_eq!(body.batch.bytes(), messages.batch.bytes());
        prop_assert_eq!(crate::json(body), crate::json(messages));
    }
}
