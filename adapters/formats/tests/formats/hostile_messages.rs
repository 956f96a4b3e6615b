//! Messages of any bytes, with headers of any kind: they become rows, and nothing else happens.

use modelog_engine::event::{EventRejected, Fact};
use modelog_formats::{
    Message, MessageFormat, MessageReader, ModelTemplate, Options, Outcome, RejectedMessage,
};
use proptest::prelude::*;

use crate::events;
use crate::message::message;

type OwnedHeaders = Vec<(String, Option<Vec<u8>>)>;

const FORMATS: [MessageFormat; 4] = [
    MessageFormat::Auto,
    MessageFormat::Json,
    MessageFormat::CloudEvents,
    MessageFormat::KServe,
];

fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), Some(value.into()))
}

/// One message of every shape.
fn messages() -> Vec<(OwnedHeaders, Vec<u8>)> {
    let metric = r#"{"type":"MetricLogged","run":"r","name":"loss","value":0.5,"time":"2026-11-22T17:00:00Z","x":"\u00e9"}"#;
    let envelope = r#"{"id":"1","type":"model.created","source":"/s","data_base64":"eyJtb2RlbCI6Im0ifQ==","specversion":"1.0"}"#;
    let attributes = |ty: &str| {
        vec![
            header("ce_specversion", "1.0"),
            header("ce_type", ty),
            header("ce_source", "/s"),
            header("ce_id", "1"),
            header("ce_time", "2026-11-22T17:00:00Z"),
            header("ce_namespace", "n"),
            header("ce_inferenceservicename", "i"),
            header("content-type", "application/json"),
        ]
    };
    let content_type = |ty: &str| vec![header("content-type", ty)];
    let response = attributes("org.kubeflow.serving.inference.response");
    let lines = format!("{metric}\n{envelope}\n{metric}\n");
    let array = format!("[{metric},{envelope},{metric}]");
    vec![
        (Vec::new(), metric.into()),
        (Vec::new(), format!("\0\0\0\0\x07{metric}").into()),
        (Vec::new(), lines.clone().into()),
        (Vec::new(), array.into()),
        (content_type("application/x-ndjson"), lines.into()),
        (
            content_type("application/cloudevents+json"),
            envelope.into(),
        ),
        (
            content_type("application/cloudevents-batch+json"),
            format!("[{envelope},{envelope}]").into(),
        ),
        (
            attributes("ModelCreated"),
            br#"{"model":"m","tags":{"a":"b"}}"#.to_vec(),
        ),
        (
            response,
            br#"{"model_version":"3","outputs":[{"data":[1,2]}]}"#.to_vec(),
        ),
    ]
}

fn read(message: &Message<'_>, format: MessageFormat) -> bool {
    let options = Options::default();
    let mut reader = MessageReader::new(format, &options, ModelTemplate::standard());
    let outcome = reader.read(message);
    let (events, rejected) = match outcome {
        Outcome::Events(events) => (events, 0),
        Outcome::Rejected {
            events, rejected, ..
        } => (events, rejected),
        other => panic!("{other:?}"),
    };
    let counted: u64 = reader.reasons().values().sum();
    assert_eq!(counted, u64::from(rejected));
    let decoded = reader.finish();
    assert_eq!(
        (decoded.batch.rows(), decoded.batch.rejected()),
        (events + rejected, rejected)
    );
    for event in crate::events(decoded) {
        if let Fact::EventRejected(fact) = event.fact {
            check_rejected(&fact, message, format);
        }
    }
    rejected == 0
}

/// What is kept is a part of the message, and can be read again.
fn check_rejected(fact: &EventRejected, message: &Message<'_>, format: MessageFormat) {
    let value = message.value.expect("a value");
    let raw = fact.raw.as_deref().expect("bytes");
    assert!(raw.is_empty() || value.windows(raw.len()).any(|part| part == raw));
    let options = Options::default();
    let mut reader = MessageReader::new(format, &options, ModelTemplate::standard());
    let stored = RejectedMessage {
        position: fact.position.as_deref().expect("a position"),
        raw,
        raw_bytes: fact.raw_bytes,
        key: fact.key.as_deref(),
        headers: fact.headers.as_ref().map(|headers| headers.as_str()),
    };
    let outcome = reader.read_rejected(&stored, "kafka:c");
    let rows = reader.rows();
    match outcome {
        Ok(_) => {}
        Err(error) => assert_eq!(rows, 0, "{error}"),
    }
    for event in events(reader.finish()) {
        assert!(event.id.is_some(), "{event:?}");
    }
}

/// Reads a message in every format; answers whether it was taken whole when anything is taken.
fn check(headers: &OwnedHeaders, value: &[u8]) -> bool {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let message = message(Some(value), &headers);
    let taken = FORMATS.map(|format| read(&message, format));
    taken[0]
}

#[test]
fn every_shape_is_taken() {
    for (headers, value) in messages() {
        assert!(check(&headers, &value), "{headers:?}");
    }
}

#[test]
fn values_cut_anywhere_are_rows() {
    for (headers, value) in messages() {
        for end in 0..value.len() {
            check(&headers, &value[..end]);
        }
    }
}

#[test]
fn every_flipped_byte_makes_rows() {
    for (headers, value) in messages() {
        for at in 0..value.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = value.clone();
                flipped[at] ^= flip;
                check(&headers, &flipped);
            }
        }
        for number in 0..headers.len() {
            for flip in [0x20, 0x80] {
                let mut flipped = headers.clone();
                for byte in flipped[number].1.iter_mut().flatten() {
                    *byte ^= flip;
                }
                check(&flipped, &value);
            }
            let mut without = headers.clone();
            without[number].1 = None;
            check(&without, &value);
            without.remove(number);
            check(&without, &value);
        }
    }
}

proptest! {
    #[test]
    fn random_messages_are_rows(
        names in proptest::collection::vec(prop_oneof![
            any::<String>(),
            "(ce_|CE_)(specversion|type|id|source|time|data|namespace|endpoint|x)",
            Just("content-type".to_owned()),
        ], 0..6),
        values in proptest::collection::vec(proptest::option::of(prop_oneof![
            any::<Vec<u8>>(),
            "1\\.0|ModelCreated|org\\.kubeflow\\.serving\\.inference\\.request".prop_map(String::into_bytes),
            "application/(json|x-ndjson|cloudevents\\+json|cloudevents-batch\\+json|vnd\\.apache\\.arrow\\.stream)".prop_map(String::into_bytes),
        ]), 6),
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            r#"(\PC|[\[\]{}:,"\\\n 0-9]|"type":"ModelCreated"|"model":"m"|"specversion":"1.0"|\{|\}){0,20}"#.prop_map(String::into_bytes),
        ],
    ) {
        let headers = names.into_iter().zip(values).collect();
        check(&headers, &value);
    }

    #[test]
    fn shapes_and_headers_may_be_mixed(which in 0..9_usize, other in 0..9_usize, cut in any::<prop::sample::Index>()) {
        let (headers, _) = messages().swap_remove(which);
        let (mut more, value) = messages().swap_remove(other);
        check(&headers, &value);
        more.truncate(cut.index(more.len() + 1));
        check(&[headers, more].concat(), &value);
    }
}
