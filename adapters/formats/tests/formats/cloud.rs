//! CloudEvents: the envelope's attributes, its extensions, and `data` in both forms.

use modelog_engine::Timestamp;
use modelog_engine::event::{Event, Fact, Json, MetricLogged};
use modelog_formats::{Format, Limits, Options, decode};

use crate::{RECEIVED, events, read, recording, refused};

fn metric() -> MetricLogged {
    MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value: 0.5,
        ..MetricLogged::default()
    }
}

fn expected() -> Event {
    let mut event = Event::from(metric()).with_id("1").at(RECEIVED);
    event.source = Some("/training".into());
    event
}

const DATA: &str = r#"{"run":"r","name":"loss","value":0.5}"#;

fn envelope(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","type":"MetricLogged","source":"/training","id":"1"{more}}}"#)
}

fn with_data(more: &str) -> String {
    envelope(&format!(r#","data":{DATA}{more}"#))
}

#[test]
fn envelopes_are_read_in_any_order() {
    let rest = r#""id":"1","source":"/training","specversion":"1.0""#;
    for body in [
        with_data(""),
        with_data(r#","datacontenttype":"application/json; charset=utf-8""#),
        with_data(r#","time":null,"subject":null,"data_base64":null"#),
        format!(r#" {{ "data" : {DATA} , "type":"metric.logged",{rest}}} "#),
        envelope(r#","data_base64":"eyJydW4iOiJyIiwibmFtZSI6Imxvc3MiLCJ2YWx1ZSI6MC41fQ==""#),
        // Other writers escape the slash, and may begin with blanks.
        format!(
            r#"{{"data_base64":"IHsicnVuIjoiciIsIm5hbWUiOiJsb3NzIiwidmFsdWUiOjAuNSwiZXBvY2giOm51bGx9ICA\u003d","type":"MetricLogged",{rest}}}"#
        ),
    ] {
        assert_eq!(read(&body, Format::CloudEvent), [expected()], "{body}");
        assert_eq!(
            read(&format!("[{body},{body}]"), Format::CloudEventBatch),
            [expected(), expected()]
        );
    }
}

#[test]
fn time_and_extensions_are_kept() {
    let body = with_data(
        r#","time":"2026-11-22T17:00:00.5Z","subject":"s","dataschema":"http://x/y","traceparent":"00-\u0061","sequence":7"#,
    );
    let decoded = decode(body.as_bytes(), Format::CloudEvent, &Options::default()).expect("sound");
    let counted: Vec<_> = decoded.unknown_fields.keys().map(String::as_str).collect();
    assert_eq!(
        counted,
        [
            "ce_dataschema",
            "ce_sequence",
            "ce_subject",
            "ce_traceparent"
        ]
    );
    let event = &events(decoded)[0];
    assert_eq!(event.time, Timestamp::parse("2026-11-22T17:00:00.5Z").ok());
    let extra = r#"{"ce_subject":"s","ce_dataschema":"http://x/y","ce_traceparent":"00-\u0061","ce_sequence":7}"#;
    assert_eq!(event.extra, Some(Json::parse(extra).expect("JSON")));
    // Unknown fields of the data follow; only they are refused by strict reading.
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    assert!(decode(body.as_bytes(), Format::CloudEvent, &strict).is_ok());
    let body = envelope(
        r#","a1":1,"data":{"run":"r","name":"loss","value":0.5,"more":2,"extra":{"x":0}}"#,
    );
    let event = &read(&body, Format::CloudEvent)[0];
    assert_eq!(
        event.extra,
        Some(Json::parse(r#"{"x":0,"ce_a1":1,"more":2}"#).expect("JSON"))
    );
    let errors = decode(body.as_bytes(), Format::CloudEvent, &strict).expect_err("unknown");
    assert_eq!(
        (errors.errors[0].field.as_deref(), errors.errors[0].code),
        (Some("more"), "unknown_field")
    );
}

#[test]
fn data_may_repeat_the_envelope_but_not_contradict_it() {
    let body = envelope(
        r#","data":{"type":"metric_logged","id":"\u0031","source":null,"run":"r","name":"loss","value":0.5}"#,
    );
    assert_eq!(read(&body, Format::CloudEvent), [expected()]);
    for (data, field, code) in [
        (r#"{"id":"2"}"#, "id", "conflicting_field"),
        (r#"{"source":"/other"}"#, "source", "conflicting_field"),
        (r#"{"type":"ModelCreated"}"#, "type", "other_kind"),
    ] {
        let errors = refused(envelope(&format!(r#","data":{data}"#)), Format::CloudEvent);
        assert_eq!(
            (errors.errors[0].field.as_deref(), errors.errors[0].code),
            (Some(field), code),
            "{data}"
        );
    }
}

#[test]
fn envelopes_that_are_none_are_refused_where_they_fail() {
    let found = |body: &str| {
        let errors = refused(body, Format::CloudEvent);
        let error = &errors.errors[0];
        (
            error.byte.expect("a place"),
            error.field.clone(),
            error.code,
        )
    };
    let field = |name: &str| Some(name.to_owned());
    let cut = |name: &str| {
        let body = with_data("");
        let start = body.find(&format!("\"{name}\"")).expect("in it");
        let end = start + body[start..].find(',').expect("not the last") + 1;
        format!("{}{}", &body[..start], &body[end..])
    };
    for name in ["specversion", "type", "source", "id"] {
        assert_eq!(found(&cut(name)), (0, field(name), "missing_field"));
    }
    let at = |body: &str, what: &str| body.find(what).expect("in it") as u64;
    for (from, to, code, name) in [
        ("\"1.0\"", "\"0.3\"", "bad_cloud_event", "specversion"),
        ("\"1.0\"", "1.0", "bad_cloud_event", "specversion"),
        (
            "\"MetricLogged\"",
            "\"com.example.thing\"",
            "unknown_kind",
            "type",
        ),
        (
            "\"MetricLogged\"",
            "\"EntityNamed\"",
            "internal_kind",
            "type",
        ),
        ("\"MetricLogged\"", "7", "wrong_type", "type"),
        ("\"1\"", "\"\"", "empty_value", "id"),
        ("\"1\"", "17", "wrong_type", "id"),
        ("\"/training\"", "{}", "wrong_type", "source"),
    ] {
        let body = with_data("").replacen(from, to, 1);
        assert_eq!(found(&body), (at(&body, to), field(name), code), "{to}");
    }
    let body = with_data(r#","time":"noon""#);
    assert_eq!(
        found(&body),
        (at(&body, "\"noon\""), field("time"), "bad_time")
    );
    let body = with_data(r#","id":"1""#);
    assert_eq!(
        found(&body),
        (
            body.rfind("id\"").expect("in it") as u64,
            field("id"),
            "repeated_field"
        )
    );
    let body = with_data(r#","a":1,"a":1"#);
    assert_eq!(
        found(&body),
        (
            body.rfind("a\":1").expect("in it") as u64,
            field("ce_a"),
            "repeated_field"
        )
    );
    for name in ["", "a b", "\\u0061", "é"] {
        let body = with_data(&format!(r#","{name}":1"#));
        assert_eq!(found(&body).2, "bad_cloud_event", "{name}");
    }
    let body = with_data(r#","data_base64":"e30=""#);
    assert_eq!(found(&body), (at(&body, DATA), None, "bad_cloud_event"));
    assert_eq!(found(&(with_data("") + "x")).2, "trailing_bytes");
    assert_eq!(found("[]").2, "not_an_object");
    assert_eq!(found("{").2, "bad_json");
}

#[test]
fn data_is_an_object_in_either_form() {
    let code = |more: &str| {
        let errors = refused(envelope(more), Format::CloudEvent);
        errors.errors[0].code
    };
    for (more, expected) in [
        ("", "missing_field"),
        (r#","data":null"#, "missing_field"),
        (r#","data":"{}""#, "not_an_object"),
        (r#","data":[]"#, "not_an_object"),
        (r#","data":{"value":x}"#, "bad_json"),
        (r#","data":{"value":"x"}"#, "wrong_type"),
        (r#","data_base64":7"#, "wrong_type"),
        (r#","data_base64":"e30""#, "bad_base64"),
        (r#","data_base64":"!!!!""#, "bad_base64"),
        (r#","data_base64":"/w==""#, "invalid_utf8"),
        (r#","data_base64":"e30K""#, "missing_field"),
        (r#","data_base64":"e317fQ==""#, "trailing_bytes"),
        (r#","data_base64":"MQ==""#, "not_an_object"),
    ] {
        assert_eq!(code(more), expected, "{more}");
    }
}

#[test]
fn batches_are_arrays_and_recover_as_arrays_do() {
    let errors = refused(with_data(""), Format::CloudEventBatch);
    assert_eq!(errors.errors[0].code, "bad_cloud_event");
    let body = format!("[{},7,{{\"id\":1}},{}]", with_data(""), with_data(""));
    let errors = refused(&body, Format::CloudEventBatch);
    let codes: Vec<_> = errors
        .errors
        .iter()
        .map(|error| (error.event, error.code))
        .collect();
    assert_eq!(codes, [(1, "not_an_object"), (2, "missing_field")]);
    let recorded =
        decode(body.as_bytes(), Format::CloudEventBatch, &recording()).expect("recorded");
    assert_eq!((recorded.batch.rows(), recorded.batch.rejected()), (4, 2));
    let kinds: Vec<_> = events(recorded)
        .iter()
        .map(|event| matches!(event.fact, Fact::MetricLogged(_)))
        .collect();
    assert_eq!(kinds, [true, false, false, true]);
}

#[test]
fn limits_hold_for_envelopes() {
    let small = Options {
        limits: Limits {
            event_bytes: 150,
            value_bytes: 20,
            depth: 3,
            ..Limits::default()
        },
        ..Options::default()
    };
    let code = |body: String| {
        decode(body.as_bytes(), Format::CloudEvent, &small)
            .expect_err("too much")
            .errors[0]
            .code
    };
    assert!(decode(with_data("").as_bytes(), Format::CloudEvent, &small).is_ok());
    assert_eq!(code(with_data(&" ".repeat(100))), "event_too_large");
    assert_eq!(
        code(with_data(&format!(r#","a":"{}""#, "x".repeat(19)))),
        "too_long"
    );
    assert_eq!(code(envelope(r#","data":{"more":[[]]}"#)), "too_deep");
}
