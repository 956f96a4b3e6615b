//! CloudEvents in messages and in binary mode: the same events as in envelopes.

use modelog_engine::Timestamp;
use modelog_engine::event::{Event, EventRejected, Fact, Json, MetricLogged};
use modelog_formats::{
    BinaryEvent, DecodeErrors, Decoded, Format, MessageFormat, MessageReader, ModelTemplate,
    Options, Outcome, decode_binary,
};

use crate::message::{message, read, read_with, rejected, rejected_as};
use crate::{RECEIVED, events, recording};

type Header<'a> = (&'a str, Option<&'a [u8]>);

const DATA: &str = r#"{"run":"r","name":"loss","value":0.5}"#;

const HEADERS: [Header<'_>; 5] = [
    ("ce_specversion", Some(b"1.0")),
    ("CE_Type", Some(b"metric.logged")),
    ("ce_source", Some(b"/training")),
    ("ce_id", Some(b"1")),
    ("content-type", Some(b"application/json")),
];

fn with<'a>(more: &[Header<'a>]) -> Vec<Header<'a>> {
    let mut headers = HEADERS.to_vec();
    headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    headers.extend_from_slice(more);
    headers
}

fn expected() -> Event {
    let metric = MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value: 0.5,
        ..MetricLogged::default()
    };
    let mut event = Event::from(metric).with_id("1").at(RECEIVED);
    event.source = Some("/training".into());
    event
}

fn envelope(more: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","type":"MetricLogged","source":"/training","id":"1"{more},"data":{DATA}}}"#
    )
}

#[test]
fn attributes_are_headers_in_any_case() {
    assert_eq!(read(DATA, &HEADERS), [expected()]);
    // The content type is that of the data, which are looked at anyway.
    for content_type in [
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-ndjson",
    ] {
        let headers = with(&[("content-type", Some(content_type.as_bytes()))]);
        assert_eq!(read(DATA, &headers), [expected()], "{content_type}");
    }
    let framed = format!("\0\0\0\0\x07{DATA}");
    assert_eq!(read(framed, &HEADERS), [expected()]);
}

#[test]
fn other_attributes_are_kept_as_in_envelopes() {
    let headers = with(&[
        ("ce_time", Some(b"2026-11-22T17:00:00Z")),
        ("ce_subject", Some(b"caf\xc3\xa9 \"1\"\n")),
        ("ce_TraceParent", Some(b"00-a")),
        ("ce_dataschema", None),
        ("other", Some(b"not an attribute")),
    ]);
    let event = &read(DATA, &headers)[0];
    assert_eq!(event.time, Timestamp::parse("2026-11-22T17:00:00Z").ok());
    let extra = r#"{"ce_subject":"café \"1\"\n","ce_traceparent":"00-a"}"#;
    assert_eq!(event.extra, Some(Json::parse(extra).expect("JSON")));
    // In whichever order they come.
    let mut turned = headers.clone();
    turned.reverse();
    assert_eq!(read(DATA, &turned)[0], *event);
    let more = r#","time":"2026-11-22T17:00:00Z","subject":"café \"1\"\n","traceparent":"00-a","dataschema":null"#;
    assert_eq!(read(envelope(more), &[])[0], *event);
}

#[test]
fn data_may_be_absent() {
    let headers = with(&[("CE_Type", Some(b"EventLogged"))]);
    let fact = rejected("", &headers);
    assert_eq!(fact.reason, "missing_field");
    assert_eq!(fact.position.as_deref(), Some("ml-events/3/123"));
    // Without a value it is a tombstone, whatever the headers say.
    let options = Options::default();
    let (outcome, _) = read_with(&message(None, &HEADERS), MessageFormat::Auto, &options);
    assert_eq!(outcome, Outcome::Tombstone);
}

#[test]
fn binary_events_that_are_wrong_say_so() {
    let cases: [(&[Header<'_>], &str, &str, &str); 10] = [
        (&[("ce_id", None)], DATA, "id", "missing_field"),
        (&[("ce_source", None)], DATA, "source", "missing_field"),
        (&[("CE_Type", None)], DATA, "type", "missing_field"),
        (
            &[("CE_Type", Some(b"nonsense"))],
            DATA,
            "type",
            "unknown_kind",
        ),
        (
            &[("ce_specversion", Some(b"0.3"))],
            DATA,
            "specversion",
            "bad_cloud_event",
        ),
        (&[("ce_id", Some(b""))], DATA, "id", "empty_value"),
        (&[("ce_ID", Some(b"2"))], DATA, "id", "repeated_field"),
        (
            &[("ce_source", Some(b"\xff"))],
            DATA,
            "source",
            "invalid_utf8",
        ),
        (&[("ce_data", Some(b"{}"))], DATA, "data", "bad_cloud_event"),
        (&[("ce_", Some(b"x"))], DATA, "", "bad_cloud_event"),
    ];
    for (headers, data, field, code) in cases {
        let options = Options::default();
        let headers = with(headers);
        let message = message(Some(data.as_bytes()), &headers);
        let (_, decoded) = read_with(&message, MessageFormat::Auto, &options);
        let error = &decoded.rejected[0];
        assert_eq!(
            (error.field.as_deref(), error.code, error.byte),
            (Some(field), code, None),
            "{headers:?}"
        );
    }
    for (data, code, byte) in [
        (r#"{"run":"r","name":"","value":1}"#, "empty_value", 18),
        (
            r#"{"run":"r","name":"n","value":1} {}"#,
            "trailing_bytes",
            33,
        ),
        ("nonsense", "bad_json", 0),
        ("[]", "not_an_object", 0),
    ] {
        let fact = rejected(data, &HEADERS);
        assert_eq!(fact.reason, code, "{data}");
        let position = format!("ml-events/3/123, byte {byte}");
        assert_eq!(fact.position, Some(position), "{data}");
        assert_eq!(fact.raw.as_deref(), Some(data.as_bytes()));
    }
    // Data cannot reach into the envelope.
    let fact = rejected(format!("{DATA},\"subject\":\"x\""), &HEADERS);
    assert_eq!(fact.reason, "trailing_bytes");
}

#[test]
fn structured_events_are_told_by_content_type_or_by_themselves() {
    let batch = format!("[{},{}]", envelope(""), envelope(""));
    let cloud = |kind: &'static str| [("Content-Type", Some(kind.as_bytes()))];
    let one = cloud("Application/CloudEvents+JSON; charset=utf-8");
    let many = cloud("application/cloudevents-batch+json");
    assert_eq!(read(envelope(""), &one), [expected()]);
    assert_eq!(read(&batch, &many), [expected(), expected()]);
    // Structured mode says it with more right than attributes in headers.
    let mut both = with(&[]);
    both[4] = one[0];
    assert_eq!(read(envelope(""), &both), [expected()]);
    // Without a word.
    assert_eq!(read(envelope(""), &[]), [expected()]);
    assert_eq!(read(envelope(""), &cloud("application/json")), [expected()]);
    assert_eq!(read(&batch, &[]), [expected(), expected()]);
    let lines = format!("{}\n{}\n", envelope(""), envelope(""));
    assert_eq!(read(&lines, &[]), [expected(), expected()]);
    for (value, headers) in [
        (DATA, one),
        (&*envelope(""), many),
        (DATA, many),
        ("[]", one),
    ] {
        let fact = rejected(value, &headers);
        assert!(
            ["missing_field", "bad_cloud_event", "not_an_object"].contains(&&*fact.reason),
            "{value}: {}",
            fact.reason
        );
    }
}

#[test]
fn only_a_specversion_makes_an_envelope() {
    // Of a kind that has `name` and `data` itself, so that nothing else tells the two apart.
    let flat = r#"{"type":"EventLogged","id":"1","source":"s","name":"n","data":{"name":"in"}}"#;
    let names = |value: &str| -> Vec<String> {
        let name = |event: Event| match event.fact {
            Fact::EventLogged(fact) => fact.name,
            other => panic!("{other:?}"),
        };
        read(value, &[]).into_iter().map(name).collect()
    };
    assert_eq!(names(flat), ["n"]);
    let start = |more: &str| flat.replacen('{', &format!("{{{more},"), 1);
    let end = |more: &str| flat.replace("in\"}}", &format!("in\"}},{more}}}"));
    for enveloped in [
        start(r#""specversion":"1.0""#),
        end(r#""specversion":"1.0""#),
        end(r#""specversio\u006e":"1.0","x":2"#),
    ] {
        // Names with escapes are no names of attributes.
        if enveloped.contains('\\') {
            assert_eq!(rejected(&enveloped, &[]).reason, "bad_cloud_event");
        } else {
            assert_eq!(names(&enveloped), ["in"], "{enveloped}");
        }
    }
    assert_eq!(names(&start(r#""specversion":null"#)), ["n"]);
    assert_eq!(
        names(&format!(
            "[{flat},{},{flat}]",
            start(r#""specversion":"1.0""#)
        )),
        ["n", "in", "n"]
    );
    // In a stream of flat events it is a field like others.
    let options = Options::default();
    let value = start(r#""specversion":"1.0""#);
    let (_, decoded) = read_with(
        &message(Some(value.as_bytes()), &[]),
        MessageFormat::Json,
        &options,
    );
    assert!(decoded.unknown_fields.contains_key("specversion"));
    // Where strict reading would refuse it, too, it is an envelope.
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let (outcome, _) = read_with(
        &message(Some(value.as_bytes()), &[]),
        MessageFormat::Auto,
        &strict,
    );
    assert_eq!(outcome, Outcome::Events(1));
}

#[test]
fn envelopes_and_flat_events_take_turns() {
    let flat = r#"{"type":"MetricLogged","source":"/training","id":"1","run":"r","name":"loss","value":0.5}"#;
    let enveloped = envelope("");
    let options = Options::default();
    let mut reader = MessageReader::new(MessageFormat::Auto, &options, ModelTemplate::standard());
    for number in 0..20 {
        let value = if number % 3 == 0 { flat } else { &enveloped };
        let outcome = reader.read(&message(Some(value.as_bytes()), &[]));
        assert_eq!(outcome, Outcome::Events(1));
    }
    assert_eq!(events(reader.finish()), vec![expected(); 20]);
}

#[test]
fn a_stream_of_cloud_events_takes_nothing_else() {
    let options = Options::default();
    for (value, headers) in [(envelope(""), &[][..]), (DATA.to_owned(), &HEADERS)] {
        let (outcome, _) = read_with(
            &message(Some(value.as_bytes()), headers),
            MessageFormat::CloudEvents,
            &options,
        );
        assert_eq!(outcome, Outcome::Events(1), "{value}");
    }
    let flat = r#"{"type":"MetricLogged","run":"r","name":"loss","value":0.5}"#;
    let fact = rejected_as(flat, &[], MessageFormat::CloudEvents);
    assert_eq!(fact.reason, "missing_field");
    // Headers of a stream of flat events say nothing.
    let fact = rejected_as(DATA, &HEADERS, MessageFormat::Json);
    assert_eq!(fact.reason, "missing_field");
}

fn binary(
    attributes: &[(&str, &str)],
    data: &str,
    options: &Options,
) -> Result<Decoded, DecodeErrors> {
    let event = BinaryEvent {
        attributes,
        content_type: Some("application/json"),
        data: data.as_bytes(),
    };
    decode_binary(&event, options)
}

const ATTRIBUTES: [(&str, &str); 4] = [
    ("specversion", "1.0"),
    ("type", "MetricLogged"),
    ("Source", "/training"),
    ("id", "1"),
];

#[test]
fn bodies_with_attributes_are_the_same() {
    let decoded = binary(&ATTRIBUTES, DATA, &Options::default()).expect("sound");
    assert_eq!(events(decoded), [expected()]);
    let errors = binary(&ATTRIBUTES[..3], DATA, &Options::default()).expect_err("no id");
    assert_eq!(
        (errors.total, errors.errors[0].code, errors.errors[0].byte),
        (1, "missing_field", None)
    );
    let errors = binary(&ATTRIBUTES, "\n{1", &Options::default()).expect_err("no JSON");
    let error = &errors.errors[0];
    assert_eq!(
        (error.line, error.byte, error.code),
        (Some(2), Some(2), "bad_json")
    );
    let decoded = binary(&ATTRIBUTES, "{1", &recording()).expect("recorded");
    assert_eq!((decoded.batch.rows(), decoded.batch.rejected()), (1, 1));
    match &events(decoded)[0].fact {
        Fact::EventRejected(EventRejected { raw, headers, .. }) => {
            assert_eq!(raw.as_deref(), Some(&b"{1"[..]));
            let expected = r#"[["ce-specversion","1.0"],["ce-type","MetricLogged"],["ce-Source","/training"],["ce-id","1"],["content-type","application/json"]]"#;
            assert_eq!(headers.as_ref().map(Json::as_str), Some(expected));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_of_cloud_events_are_those_of_messages() {
    let body = envelope("");
    assert_eq!(crate::read(&body, Format::CloudEvent), read(&body, &[]));
}
