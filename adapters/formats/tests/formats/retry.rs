//! Messages that were rejected, read again: with the same meaning, and recognisable when it is done twice.

use modelog_engine::event::{Event, EventRejected, Fact, MetricLogged};
use modelog_formats::{
    Limits, Message, MessageFormat, MessageReader, ModelTemplate, Options, Outcome, Place,
    RejectedMessage, RetryError,
};

use crate::message::{message, read_with};
use crate::{RECEIVED, events};

const SOURCE: &str = "kafka:c1";

/// Options by which events are too large.
fn small(event_bytes: usize) -> Options {
    Options {
        limits: Limits {
            event_bytes,
            ..Limits::default()
        },
        ..Options::default()
    }
}

/// What is recorded of a message that is read with options.
fn recorded(message: &Message<'_>, options: &Options) -> Vec<EventRejected> {
    let (_, decoded) = read_with(message, MessageFormat::Auto, options);
    let rejected = events(decoded)
        .into_iter()
        .filter_map(|event| match event.fact {
            Fact::EventRejected(fact) => Some(fact),
            _ => None,
        });
    rejected.collect()
}

fn stored(fact: &EventRejected) -> RejectedMessage<'_> {
    RejectedMessage {
        position: fact.position.as_deref().expect("a position"),
        raw: fact.raw.as_deref().expect("bytes"),
        raw_bytes: fact.raw_bytes,
        key: fact.key.as_deref(),
        headers: fact.headers.as_ref().map(|headers| headers.as_str()),
    }
}

/// Reads again what was recorded, with no limits.
fn again(facts: &[EventRejected]) -> (Vec<Result<Outcome, RetryError>>, Vec<Event>) {
    let options = Options::default();
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    let outcomes = facts
        .iter()
        .map(|fact| reader.read_rejected(&stored(fact), SOURCE))
        .collect();
    (outcomes, events(reader.finish()))
}

const METRIC: &str = r#"{"type":"MetricLogged","run":"r","name":"loss","value":0.5}"#;

fn metric(id: &str, source: Option<&str>) -> Event {
    let fact = MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value: 0.5,
        ..MetricLogged::default()
    };
    let mut event = Event::from(fact).with_id(id).at(RECEIVED);
    event.source = source.map(str::to_owned);
    event
}

fn with(member: &str) -> String {
    METRIC.replacen('{', &format!("{{{member},"), 1)
}

#[test]
fn events_without_an_id_get_their_place() {
    for (value, expected) in [
        (METRIC.to_owned(), metric("ml-events/3/123", Some(SOURCE))),
        (
            with(r#""id":null,"source":null"#),
            metric("ml-events/3/123", Some(SOURCE)),
        ),
        (
            with(r#""source":"/s""#),
            metric("ml-events/3/123", Some("/s")),
        ),
        (with(r#""i\u0064":"own""#), metric("own", None)),
        (
            with(r#""id":"own","source":"/s""#),
            metric("own", Some("/s")),
        ),
        (
            format!("\0\0\0\0\x01{METRIC}"),
            metric("ml-events/3/123", Some(SOURCE)),
        ),
    ] {
        let facts = recorded(&message(Some(value.as_bytes()), &[]), &small(10));
        let (outcomes, events) = again(&facts);
        assert_eq!(outcomes, [Ok(Outcome::Events(1))], "{value}");
        assert_eq!(events, [expected], "{value}");
    }
}

#[test]
fn events_of_several_get_their_number_too() {
    let long = with(r#""more":"0123456789""#);
    for value in [
        format!("[{METRIC},{long},{METRIC},{long}]"),
        format!("{METRIC}\n{long}\n{METRIC}\n{long}\n"),
    ] {
        let facts = recorded(&message(Some(value.as_bytes()), &[]), &small(METRIC.len()));
        let (outcomes, events) = again(&facts);
        assert_eq!(outcomes, [Ok(Outcome::Events(1)), Ok(Outcome::Events(1))]);
        let ids: Vec<_> = events.iter().map(|event| event.id.as_deref()).collect();
        assert_eq!(
            ids,
            [Some("ml-events/3/123#1"), Some("ml-events/3/123#3")],
            "{value}"
        );
    }
}

#[test]
fn a_message_that_was_too_large_is_read_whole() {
    let value = format!("[{METRIC}, {METRIC}]");
    let options = Options {
        limits: Limits {
            batch_bytes: 100,
            ..Limits::default()
        },
        ..Options::default()
    };
    let facts = recorded(&message(Some(value.as_bytes()), &[]), &options);
    assert_eq!(facts[0].reason, "batch_too_large");
    let (outcomes, events) = again(&facts);
    assert_eq!(outcomes, [Ok(Outcome::Events(2))]);
    assert_eq!(
        events,
        [
            metric("ml-events/3/123#0", Some(SOURCE)),
            metric("ml-events/3/123#1", Some(SOURCE))
        ]
    );
}

#[test]
fn what_was_left_of_a_message_is_read_from_there() {
    let bad = "17";
    for separator in [",", "\n"] {
        let mut parts = vec![bad; 100];
        parts.extend([METRIC, bad, METRIC]);
        let is_array = separator == ",";
        let (value, first) = if is_array {
            (format!("[{}]", parts.join(separator)), 0)
        } else {
            (format!("{METRIC}\n{}", parts.join(separator)), 1)
        };
        let facts = recorded(&message(Some(value.as_bytes()), &[]), &Options::default());
        assert_eq!(
            (facts.len(), &*facts[99].reason),
            (100, "too_many_rejected")
        );
        let (outcomes, read) = again(&facts);
        for outcome in &outcomes[..99] {
            assert!(
                matches!(outcome, Err(RetryError::Rejected(error)) if error.code == "not_an_object"),
                "{outcome:?}"
            );
        }
        assert_eq!(
            outcomes[99],
            Ok(Outcome::Rejected {
                events: 2,
                rejected: 2,
                reason: "not_an_object"
            })
        );
        let id = |number: usize| format!("ml-events/3/123#{}", number + first);
        assert_eq!(read[1], metric(&id(100), Some(SOURCE)));
        assert_eq!(read[3], metric(&id(102), Some(SOURCE)));
        for (row, number) in [(0, 99), (2, 101)] {
            // Recorded again, so that another retry finds it, and the log recognises it.
            assert_eq!(read[row].id, Some(id(number)));
            assert_eq!(read[row].source.as_deref(), Some(SOURCE));
            let Fact::EventRejected(fact) = &read[row].fact else {
                panic!("{:?}", read[row]);
            };
            let position = fact.position.as_deref().expect("a position");
            assert!(
                position.starts_with(&format!("{}, byte ", id(number))),
                "{position}"
            );
        }
    }
}

#[test]
fn headers_say_again_what_a_message_is() {
    let headers: &[(&str, Option<&[u8]>)] = &[
        ("ce_specversion", Some(b"1.0")),
        ("ce_type", Some(b"org.kubeflow.serving.inference.request")),
        ("ce_source", Some(b"s")),
        ("ce_id", Some(b"1")),
        ("ce_namespace", Some(b"n")),
        ("ce_inferenceservicename", Some(b"i")),
    ];
    let body = b"\xff\0";
    let facts = recorded(&message(Some(body), headers), &small(1));
    assert_eq!(facts[0].reason, "event_too_large");
    let (outcomes, events) = again(&facts);
    assert_eq!(outcomes, [Ok(Outcome::Events(1))]);
    let options = Options::default();
    let (_, decoded) = read_with(&message(Some(body), headers), MessageFormat::Auto, &options);
    // It has an id of its own.
    assert_eq!(events, crate::events(decoded));
}

#[test]
fn an_element_is_read_as_an_element() {
    // Read by itself, it would be an array of one event.
    let value = format!("[[{METRIC}]]");
    let facts = recorded(&message(Some(value.as_bytes()), &[]), &Options::default());
    assert_eq!(facts[0].reason, "not_an_object");
    let (outcomes, events) = again(&facts);
    assert!(
        matches!(&outcomes[0], Err(RetryError::Rejected(_))),
        "{outcomes:?}"
    );
    assert_eq!(events, []);
}

#[test]
fn arrow_rows_get_their_number() {
    use crate::arrow::{batch, written};
    use arrow_array::{ArrayRef, StringArray};
    use arrow_ipc::writer::IpcWriteOptions;
    use std::sync::Arc;

    let column = |texts: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let columns = [
        ("model", column(vec![Some("a"), Some("b"), Some("c")])),
        ("id", column(vec![None, Some("own"), None])),
        ("source", column(vec![None, None, Some("/s")])),
    ];
    let stream = written(&[batch(&columns)], IpcWriteOptions::default());
    let headers: &[(&str, Option<&[u8]>)] =
        &[("content-type", Some(b"application/vnd.apache.arrow.stream"))];
    // The kind is not known at first.
    let facts = recorded(&message(Some(&stream), headers), &Options::default());
    assert_eq!(facts[0].reason, "missing_field");
    let options = Options {
        kind: Some(modelog_engine::event::Kind::ModelCreated),
        ..Options::default()
    };
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    assert_eq!(
        reader.read_rejected(&stored(&facts[0]), SOURCE),
        Ok(Outcome::Events(3))
    );
    let read = events(reader.finish());
    let names: Vec<_> = read
        .iter()
        .map(|event| (event.id.as_deref(), event.source.as_deref()))
        .collect();
    assert_eq!(
        names,
        [
            (Some("ml-events/3/123#0"), Some(SOURCE)),
            (Some("own"), None),
            (Some("ml-events/3/123#2"), Some("/s"))
        ]
    );
}

#[test]
fn what_cannot_be_retried_says_why() {
    let options = Options::default();
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    let sound = RejectedMessage {
        position: "t/1/2, byte 3",
        raw: METRIC.as_bytes(),
        raw_bytes: Some(METRIC.len() as i64),
        key: None,
        headers: None,
    };
    assert!(matches!(
        reader.read_rejected(&RejectedMessage { position: "line 3, byte 4", ..sound }, SOURCE),
        Err(RetryError::NotAMessage(position)) if position == "line 3, byte 4"
    ));
    assert_eq!(
        reader.read_rejected(
            &RejectedMessage {
                raw_bytes: Some(1 << 30),
                ..sound
            },
            SOURCE
        ),
        Err(RetryError::CutShort {
            kept: METRIC.len(),
            bytes: 1 << 30
        })
    );
    assert_eq!(
        reader.read_rejected(
            &RejectedMessage {
                headers: Some(r#"[["a","b"],{"left_out":1}]"#),
                ..sound
            },
            SOURCE
        ),
        Err(RetryError::HeadersLeftOut)
    );
    for source in ["", "a\nb", &"x".repeat(501)] {
        assert!(matches!(
            reader.read_rejected(&sound, source),
            Err(RetryError::BadSource(_))
        ));
    }
    let wrong = RejectedMessage {
        raw: b"{}",
        raw_bytes: None,
        ..sound
    };
    assert!(matches!(
        reader.read_rejected(&wrong, SOURCE),
        Err(RetryError::Rejected(error)) if error.code == "missing_field"
    ));
    assert_eq!(reader.rows(), 0);
    assert_eq!(reader.read_rejected(&sound, SOURCE), Ok(Outcome::Events(1)));
    assert_eq!(reader.rows(), 1);
}

#[test]
fn long_places_are_hashed() {
    let topic = "t".repeat(249);
    let place = Place {
        topic: &topic,
        partition: 0,
        position: i64::MAX,
    };
    let long = Message {
        place,
        ..message(Some(METRIC.as_bytes()), &[])
    };
    let facts = recorded(&long, &small(10));
    let (outcomes, events) = again(&facts);
    assert_eq!(outcomes, [Ok(Outcome::Events(1))]);
    let id = events[0].id.as_deref().expect("an id");
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
}
