//! Errors: located, gathered, and recorded in the place of the event.

use modelog_engine::event::{Event, EventRejected, Fact};
use modelog_formats::{ERROR_CODES, Format, Limits, LocatedError, OnError, Options, decode};

use crate::{error, events, recording, refused};

const GOOD: &str = r#"{"type":"ModelCreated","model":"m"}"#;

#[test]
fn events_that_are_no_events_are_named() {
    for (body, expected) in [
        ("1", (0, None, "not_an_object")),
        ("null", (0, None, "not_an_object")),
        (" \"text\"", (1, None, "not_an_object")),
        ("[1]", (1, None, "not_an_object")),
        ("[[]]", (1, None, "not_an_object")),
        ("nope", (0, None, "bad_json")),
        ("{}", (0, Some("type"), "missing_field")),
        (r#"{"model":"m"}"#, (0, Some("type"), "missing_field")),
        (r#"{"type":null}"#, (8, Some("type"), "wrong_type")),
        (
            r#"{"type":["ModelCreated"]}"#,
            (8, Some("type"), "wrong_type"),
        ),
        (r#"{"type":""}"#, (8, Some("type"), "unknown_kind")),
        (
            r#"{"type":"ModelCreate"}"#,
            (8, Some("type"), "unknown_kind"),
        ),
        (
            r#"{"type":"Model Created"}"#,
            (8, Some("type"), "unknown_kind"),
        ),
        (
            r#"{"type":"ModelCreated","type":"ModelCreated","model":"m"}"#,
            (24, Some("type"), "repeated_field"),
        ),
        (
            r#"{"type":"ModelCreated","type":"EventLogged","model":"m"}"#,
            (24, Some("type"), "repeated_field"),
        ),
        (
            r#"{"type":"EntityNamed","name":"x"}"#,
            (8, Some("type"), "internal_kind"),
        ),
        (
            r#"{"type":"event_rejected","reason":"x"}"#,
            (8, Some("type"), "internal_kind"),
        ),
        (
            r#"{"type":"SourceGapRecorded"}"#,
            (8, Some("type"), "internal_kind"),
        ),
        (
            r#"{"type":"ModelCreated"}"#,
            (0, Some("model"), "missing_field"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m","model":"m"}"#,
            (43, Some("model"), "repeated_field"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m","more":1,"m\u006fre":2}"#,
            (45, Some("more"), "repeated_field"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m","extra":{},"extra":{}}"#,
            (47, Some("extra"), "repeated_field"),
        ),
        (
            r#"{"type":"MetricLogged","name":"n","value":1}"#,
            (0, Some("run"), "incomplete_event"),
        ),
        (
            r#"{"type":"MetricLogged","name":"n","value":1,"model":"m"}"#,
            (0, Some("model"), "incomplete_event"),
        ),
        (
            r#"{"type":"FeedbackLogged","prediction_id":"p","version":"v"}"#,
            (0, Some("version"), "incomplete_event"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m"} x"#,
            (36, None, "trailing_bytes"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m"}{}"#,
            (35, None, "trailing_bytes"),
        ),
        (
            r#"[{"type":"ModelCreated","model":"m"}] x"#,
            (38, None, "trailing_bytes"),
        ),
        (
            r#"{"type":"ModelCreated","model":"m""#,
            (34, None, "bad_json"),
        ),
        (
            r#"{"type":"ModelCreated" "model":"m"}"#,
            (23, None, "bad_json"),
        ),
        (
            r#"{"type":"ModelCreated","model" "m"}"#,
            (31, None, "bad_json"),
        ),
        (r#"{"type":"ModelCreated",}"#, (23, None, "bad_json")),
        (r#"{type:"ModelCreated"}"#, (1, None, "bad_json")),
        ("{", (1, None, "bad_json")),
        ("[", (1, None, "bad_json")),
        (
            r#"[{"type":"ModelCreated","model":"m"}"#,
            (36, None, "bad_json"),
        ),
        (
            r#"[{"type":"ModelCreated","model":"m"},]"#,
            (37, None, "bad_json"),
        ),
        (
            r#"[{"type":"ModelCreated","model":"m"}}"#,
            (36, None, "bad_json"),
        ),
    ] {
        let (byte, field, code) = error(body);
        assert_eq!((byte, field.as_deref(), code), expected, "{body}");
    }
}

#[test]
fn strict_reading_refuses_what_the_kind_does_not_have() {
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let body = r#"{"type":"MetricLogged","run":"r","name":"n","value":1,"valeu":2}"#;
    let errors = decode(body.as_bytes(), Format::Json, &strict).expect_err("unknown");
    assert_eq!(
        errors.errors,
        [LocatedError {
            event: 0,
            line: Some(1),
            byte: Some(55),
            field: Some("valeu".into()),
            code: "unknown_field",
            message: "MetricLogged has no field \"valeu\"".into(),
        }]
    );
    assert!(decode(body.as_bytes(), Format::Json, &Options::default()).is_ok());
}

#[test]
fn errors_say_where_and_what() {
    let body = format!("{GOOD}\n\n{{\"type\":\"ModelCreated\",\"model\":\"\"}}\n{GOOD}");
    let errors = refused(&body, Format::Ndjson);
    assert_eq!(
        errors.to_string(),
        "line 3, byte 68: `model` must not be empty"
    );
    let body = format!("[{GOOD},\n{{}},\n\n7]");
    let errors = refused(&body, Format::Json);
    assert_eq!(
        errors.to_string(),
        "line 2, byte 38: `type` is missing (and 1 more)"
    );
    let second = &errors.errors[1];
    assert_eq!(
        (second.event, second.line, second.byte, second.code),
        (2, Some(4), Some(43), "not_an_object")
    );
}

#[test]
fn reading_goes_on_after_an_error() {
    let lines = [
        "{}",
        GOOD,
        "{\"",
        "",
        "]",
        GOOD,
        "{\"type\":\"ModelCreated\",\"model\":1}",
    ];
    let errors = refused(lines.join("\n"), Format::Ndjson);
    let found: Vec<_> = errors
        .errors
        .iter()
        .map(|error| (error.event, error.line.unwrap_or(0), error.code))
        .collect();
    assert_eq!(
        found,
        [
            (0, 1, "missing_field"),
            (2, 3, "bad_json"),
            (3, 5, "bad_json"),
            (5, 7, "wrong_type")
        ]
    );
    // Within an array: after sound JSON, after broken JSON whose end can be told, and not after what has none.
    let elements = [
        "{}",
        GOOD,
        "{\"a\":nope}",
        "nope",
        "[1}",
        GOOD,
        "{\"a\":\"",
        GOOD,
    ];
    let errors = refused(format!("[{}]", elements.join(",")), Format::Json);
    let found: Vec<_> = errors
        .errors
        .iter()
        .map(|error| (error.event, error.code))
        .collect();
    assert_eq!(
        found,
        [
            (0, "missing_field"),
            (2, "bad_json"),
            (3, "bad_json"),
            (4, "bad_json"),
            (6, "bad_json")
        ]
    );
}

#[test]
fn as_many_errors_are_described_as_the_limits_allow() {
    let body = "{}\n".repeat(1000);
    let errors = refused(&body, Format::Ndjson);
    assert_eq!((errors.errors.len(), errors.total), (100, 1000));
    let few = Options {
        limits: Limits {
            errors: 3,
            ..Limits::default()
        },
        ..Options::default()
    };
    let errors = decode(body.as_bytes(), Format::Ndjson, &few).expect_err("wrong");
    assert_eq!((errors.errors.len(), errors.total), (3, 1000));
    assert_eq!(errors.errors[2].line, Some(3));
}

#[test]
fn bad_events_are_recorded_in_their_place() {
    let bad = [
        r#"{"type":"ModelCreated","model":"a\u0000b"}"#,
        "nope",
        r#"{"type":"Nope\u0000"}"#,
    ];
    let body = [
        GOOD,
        bad[0],
        GOOD,
        "",
        bad[1],
        &format!("{} \t", bad[2]),
        GOOD,
    ]
    .join("\n");
    let decoded = decode(body.as_bytes(), Format::Ndjson, &recording()).expect("recorded");
    assert_eq!(decoded.batch.rows(), 6);
    assert_eq!(decoded.batch.rejected(), 3);
    let codes: Vec<_> = decoded.rejected.iter().map(|error| error.code).collect();
    assert_eq!(codes, ["control_character", "bad_json", "unknown_kind"]);
    let events = events(decoded);
    let rejected: Vec<_> = events
        .iter()
        .enumerate()
        .filter_map(|(at, event)| rejection(event).map(|it| (at, it)))
        .collect();
    let expected = |reason: &str, message: &str, position: &str, raw: &str| EventRejected {
        reason: reason.into(),
        message: Some(message.into()),
        position: Some(position.into()),
        raw: Some(raw.into()),
        raw_bytes: Some(raw.len() as i64),
        ..EventRejected::default()
    };
    assert_eq!(
        rejected,
        [
            (
                1,
                &expected(
                    "control_character",
                    "`model` contains the control character U+0000 at byte 1",
                    "line 2, byte 67",
                    bad[0]
                )
            ),
            (
                3,
                &expected(
                    "bad_json",
                    "a value is expected, not 'n'",
                    "line 5, byte 116",
                    bad[1]
                )
            ),
            (
                4,
                &expected(
                    "unknown_kind",
                    "no kind of event is called \"Nope\\0\"",
                    "line 6, byte 129",
                    bad[2]
                )
            ),
        ]
    );
}

fn rejection(event: &Event) -> Option<&EventRejected> {
    match &event.fact {
        Fact::EventRejected(rejected) => Some(rejected),
        _ => None,
    }
}

/// Kinds and raw bytes of rejections in the order of a body.
fn recorded(body: &[u8], format: Format, options: &Options) -> Vec<Option<Vec<u8>>> {
    let decoded = decode(body, format, options).expect("recorded");
    events(decoded)
        .iter()
        .map(|event| rejection(event).map(|rejected| rejected.raw.clone().expect("bytes")))
        .collect()
}

#[test]
fn elements_are_recorded_alone_and_what_has_no_end_as_one() {
    let raw = |text: &str| Some(text.as_bytes().to_vec());
    let body = format!("[{GOOD}, {{\"a\":nope}} ,{{}},7,{GOOD}]");
    assert_eq!(
        recorded(body.as_bytes(), Format::Json, &recording()),
        [None, raw("{\"a\":nope}"), raw("{}"), raw("7"), None]
    );
    let body = format!("[{GOOD},{{\"a\":\",{GOOD}");
    assert_eq!(
        recorded(body.as_bytes(), Format::Json, &recording()),
        [None, raw(&body[body.find("{\"a").expect("in it")..])]
    );
    let body = format!("[{GOOD}}}, {GOOD}]");
    assert_eq!(
        recorded(body.as_bytes(), Format::Json, &recording()),
        [None, raw(&format!("}}, {GOOD}]"))]
    );
    let body = format!("{GOOD} more \n");
    assert_eq!(
        recorded(body.as_bytes(), Format::Json, &recording()),
        [raw(body.trim_end())]
    );
    assert_eq!(recorded(b"[", Format::Json, &recording()), [raw("")]);
}

#[test]
fn what_is_not_utf8_is_recorded_as_it_came() {
    let bad = b"{\"type\":\"ModelCreated\",\"model\":\"\xff\"}";
    let lines = [GOOD.as_bytes(), bad, GOOD.as_bytes()].join(&b'\n');
    let expected = [None, Some(bad.to_vec()), None];
    assert_eq!(recorded(&lines, Format::Ndjson, &recording()), expected);
    let elements = [GOOD.as_bytes(), bad, GOOD.as_bytes()].join(&b',');
    let array = [b"[", &elements[..], b"]"].concat();
    assert_eq!(recorded(&array, Format::Json, &recording()), expected);
    assert_eq!(
        recorded(b"\xff\xfe[\0", Format::Json, &recording()),
        [Some(b"\xff\xfe[\0".to_vec())]
    );
}

#[test]
fn long_rejected_bytes_are_cut_and_hashed() {
    let options = Options {
        on_error: OnError::Record,
        limits: Limits {
            raw_bytes: 4,
            ..Limits::default()
        },
        ..Options::default()
    };
    let decoded = decode(b"[123,12345]", Format::Json, &options).expect("recorded");
    let events = events(decoded);
    let rejected: Vec<_> = events.iter().filter_map(rejection).collect();
    assert_eq!(
        (
            rejected[0].raw.as_deref(),
            rejected[0].raw_sha256.as_deref()
        ),
        (Some(&b"123"[..]), None)
    );
    assert_eq!(
        (rejected[1].raw.as_deref(), rejected[1].raw_bytes),
        (Some(&b"1234"[..]), Some(5))
    );
    // sha256sum of "12345".
    assert_eq!(
        rejected[1].raw_sha256.as_deref(),
        Some("5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5")
    );
}

#[test]
fn codes_are_explained() {
    for code in ERROR_CODES {
        assert!(
            code.code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{}",
            code.code
        );
        assert!(
            !code.meaning.is_empty() && !code.remedy.is_empty(),
            "{}",
            code.code
        );
    }
}
