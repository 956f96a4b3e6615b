//! Values that break naive systems, and values of the wrong type.

use modelog_engine::event::{Fact, Json};
use modelog_formats::{Format, Limits, Options, decode};

use crate::{error, facts, prediction, read, refused};

fn metric(value: &str) -> String {
    format!(r#"{{"type":"MetricLogged","run":"r","name":"loss","value":{value}}}"#)
}

fn metric_value(value: &str) -> f64 {
    match &facts(&metric(value))[..] {
        [Fact::MetricLogged(metric)] => metric.value,
        other => panic!("{other:?}"),
    }
}

/// Where the value of [`metric`] starts.
const VALUE_AT: u64 = 55;

#[test]
fn numbers_that_are_not_finite_are_strings() {
    assert!(metric_value("\"NaN\"").is_nan());
    assert_eq!(metric_value("\"Infinity\""), f64::INFINITY);
    assert_eq!(metric_value("\"-Infinity\""), f64::NEG_INFINITY);
    for other in ["\"nan\"", "\"inf\"", "\"+Infinity\"", "\"1\"", "\"\""] {
        assert_eq!(
            error(metric(other)),
            (VALUE_AT, Some("value".into()), "wrong_type"),
            "{other}"
        );
    }
    for bare in ["NaN", "Infinity", "-Infinity", "nan", "inf"] {
        let (byte, field, code) = error(metric(bare));
        let at = VALUE_AT + u64::from(bare.starts_with('-'));
        assert_eq!(
            (byte, field.as_deref(), code),
            (at, Some("value"), "bad_json"),
            "{bare}"
        );
    }
}

#[test]
fn numbers_keep_what_a_float64_can_hold() {
    assert_eq!(metric_value("-0").to_bits(), (-0.0_f64).to_bits());
    assert_eq!(metric_value("9007199254740993"), 9_007_199_254_740_992.0);
    assert_eq!(metric_value("1e308"), 1e308);
    assert_eq!(metric_value("4.9e-324"), 4.9e-324);
    assert_eq!(metric_value("1e-999"), 0.0);
    for large in ["1e309", "-1e999"] {
        assert_eq!(
            error(metric(large)),
            (VALUE_AT, Some("value".into()), "number_out_of_range")
        );
    }
}

#[test]
fn integers_are_64_bits_and_whole() {
    let step = |step: &str| {
        format!(r#"{{"type":"MetricLogged","run":"r","name":"n","value":1,"step":{step}}}"#)
    };
    for (text, expected) in [
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("0", 0),
        ("3.0", 3),
        ("1e3", 1000),
        ("9007199254740993", 9_007_199_254_740_993),
    ] {
        match &facts(&step(text))[..] {
            [Fact::MetricLogged(metric)] => assert_eq!(metric.step, Some(expected), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    for (text, code) in [
        ("9223372036854775808", "number_out_of_range"),
        ("-9223372036854775809", "number_out_of_range"),
        ("100000000000000000000", "number_out_of_range"),
        ("1.5", "wrong_type"),
        ("1e16", "wrong_type"),
        ("\"3\"", "wrong_type"),
        ("\"NaN\"", "wrong_type"),
        ("true", "wrong_type"),
    ] {
        assert_eq!(error(step(text)), (61, Some("step".into()), code), "{text}");
    }
}

#[test]
fn json_is_kept_byte_for_byte() {
    for text in [
        r#"{"a": 9007199254740993, "a" : 1.10 ,"b":[ ]}"#,
        r#""\u0000""#,
        r#"{"\u0000":"\ud83d\ude00 é"}"#,
        "123456789012345678901234567890.0e-5",
        "\"NaN\"",
        "[[[[]]]]",
        "true",
    ] {
        let body =
            format!(r#"{{"type":"PredictionLogged","model":"m","version":"v","input": {text} }}"#);
        assert_eq!(
            prediction(&body).input,
            Some(Json::parse(text).expect("JSON"))
        );
    }
}

#[test]
fn the_null_character_is_refused_outside_of_json() {
    let body = |field: &str| format!(r#"{{"type":"ModelCreated",{field}}}"#);
    assert_eq!(
        error(body(r#""model":"a\u0000""#)),
        (31, Some("model".into()), "control_character")
    );
    assert_eq!(
        error(body(r#""model":"m","description":"a\u0000""#)),
        (49, Some("description".into()), "control_character")
    );
    // Unescaped it is no JSON at all.
    assert_eq!(
        error(body("\"model\":\"a\u{0}\"")),
        (33, Some("model".into()), "bad_json")
    );
    assert_eq!(
        facts(&body(r#""model":"m","description":"tab\t\u0001""#)).len(),
        1
    );
}

#[test]
fn broken_text_is_refused_where_it_breaks() {
    let body = b"{\"type\":\"ModelCreated\",\"model\":\"a\xff\"}";
    assert_eq!(error(body), (33, None, "invalid_utf8"));
    let errors = refused(
        b"{\"type\":\"ModelCreated\",\"model\":\"a\"}\n\n{\"type\":\"\xc3\"}\n{}",
        Format::Ndjson,
    );
    let places: Vec<_> = errors
        .errors
        .iter()
        .map(|error| (error.event, error.line, error.byte, error.code))
        .collect();
    assert_eq!(
        places,
        [
            (1, Some(3), Some(46), "invalid_utf8"),
            (2, Some(4), Some(50), "missing_field")
        ]
    );
    let body = r#"{"type":"ModelCreated","model":"a\ud83d"}"#;
    assert_eq!(
        error(body),
        (33, Some("model".into()), "unpaired_surrogate")
    );
    let body = r#"{"type":"ModelCreated","model":"m","tags":{"a":["\udc00"]}}"#;
    assert_eq!(error(body), (49, Some("tags".into()), "unpaired_surrogate"));
    let body = r#"{"type":"ModelCreated","model":"m","more":"\ud83d\u0041"}"#;
    assert_eq!(error(body), (43, Some("more".into()), "unpaired_surrogate"));
}

#[test]
fn names_are_short_and_printable() {
    let model = |name: &str| format!(r#"{{"type":"ModelCreated","model":"{name}"}}"#);
    for (name, code) in [
        ("", "empty_value"),
        ("a\\tb", "control_character"),
        ("\u{7f}", "control_character"),
        ("\u{85}", "control_character"),
        (&"x".repeat(501), "too_long"),
    ] {
        assert_eq!(
            error(model(name)),
            (31, Some("model".into()), code),
            "{name}"
        );
    }
    assert_eq!(facts(&model(&"é".repeat(250))).len(), 1);
    let metric =
        |name: &str| format!(r#"{{"type":"MetricLogged","run":"r","value":1,"name":"{name}"}}"#);
    assert_eq!(facts(&metric(&"x".repeat(250))).len(), 1);
    assert_eq!(error(metric(&"x".repeat(251))).2, "too_long");
    let id = |id: &str| format!(r#"{{"type":"ModelCreated","model":"m","id":"{id}"}}"#);
    assert_eq!(facts(&id(&"x".repeat(128))).len(), 1);
    assert_eq!(error(id(&"x".repeat(129))).2, "too_long");
}

#[test]
fn names_that_look_alike_stay_different() {
    let names = ["Model", "model", "é", "e", "e\u{301}", "model "];
    let lines: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"type":"ModelCreated","model":"{name}"}}"#))
        .collect();
    let found: Vec<_> = read(&lines.join("\n"), Format::Ndjson)
        .into_iter()
        .map(|event| match event.fact {
            Fact::ModelCreated(model) => model.model,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, names);
}

#[test]
fn times_are_plausible() {
    let at = |time: &str| format!(r#"{{"type":"ModelCreated","model":"m","time":{time}}}"#);
    for (time, code) in [
        ("\"yesterday\"", "bad_time"),
        ("\"2026-11-22\"", "bad_time"),
        ("\"1677-12-31T23:59:59Z\"", "bad_time"),
        ("\"2262-01-01T00:00:00Z\"", "bad_time"),
        ("1795366800", "bad_time"),
        ("1795366800000", "bad_time"),
        ("9223372036854775807", "bad_time"),
        ("9223372036854775808", "wrong_type"),
        ("1795366800000000.5", "wrong_type"),
        ("1e15", "wrong_type"),
        ("true", "wrong_type"),
        ("{}", "wrong_type"),
    ] {
        assert_eq!(error(at(time)), (42, Some("time".into()), code), "{time}");
    }
}

#[test]
fn types_are_what_the_fields_say() {
    let at = |kind: &str, field: &str, value: &str| {
        let body = format!(r#"{{"type":"{kind}","{field}":{value}}}"#);
        let (byte, found, code) = error(&body);
        assert_eq!(
            (byte as usize, found.as_deref()),
            (body.find(value).expect("in it"), Some(field)),
            "{body}"
        );
        code
    };
    for value in ["1", "true", "{}", "[\"m\"]"] {
        assert_eq!(at("ModelCreated", "model", value), "wrong_type");
        assert_eq!(at("ModelCreated", "description", value), "wrong_type");
    }
    for value in ["[]", "\"{}\"", "-1", "false"] {
        assert_eq!(at("ModelCreated", "tags", value), "wrong_type");
        assert_eq!(at("ModelCreated", "extra", value), "wrong_type");
    }
    for value in ["\"true\"", "0", "[]"] {
        assert_eq!(at("FeedbackLogged", "correct", value), "wrong_type");
    }
    assert_eq!(at("MetricLogged", "value", "[0]"), "wrong_type");
    assert_eq!(at("RunFinished", "status", "\"done\""), "not_a_word");
    assert_eq!(at("RunFinished", "status", "\"Finished\""), "not_a_word");
    assert_eq!(at("PredictionLogged", "part", "\"\""), "not_a_word");
    assert_eq!(at("TagsSet", "entity", "\"resnet50\""), "bad_reference");
    assert_eq!(at("ModelCreated", "model", "nope"), "bad_json");
}

#[test]
fn limits_are_those_that_are_set() {
    let options = |limits| Options {
        limits,
        ..Options::default()
    };
    let code = |body: &str, format, limits| {
        let errors = decode(body.as_bytes(), format, &options(limits)).expect_err("too much");
        (errors.errors[0].code, errors.errors[0].field.clone())
    };
    let small = Limits {
        value_bytes: 10,
        event_bytes: 100,
        depth: 3,
        ..Limits::default()
    };
    let body = |more: &str| format!(r#"{{"type":"EventLogged","name":"n",{more}}}"#);
    for format in [Format::Json, Format::Ndjson] {
        for (more, field, expected) in [
            (r#""data":"12345678901""#, Some("data"), "too_long"),
            (r#""data":[1234,12345]"#, Some("data"), "too_long"),
            (r#""more":"12345678901""#, Some("more"), "too_long"),
            (r#""data":[[[1]]]"#, Some("data"), "too_deep"),
            (r#""more":[[[1]]]"#, Some("more"), "too_deep"),
            (
                &format!(r#""data":1{}"#, " ".repeat(100)),
                None,
                "event_too_large",
            ),
        ] {
            let (found, at) = code(&body(more), format, small);
            assert_eq!((found, at.as_deref()), (expected, field), "{more}");
        }
        for more in [r#""data":"12345678""#, r#""more":[[1]]"#] {
            assert!(
                decode(body(more).as_bytes(), format, &options(small)).is_ok(),
                "{more}"
            );
        }
    }
    let array = format!(
        "[{},{}]",
        body("\"data\":1"),
        body(&format!(r#""data":1{}"#, " ".repeat(100)))
    );
    let errors = decode(array.as_bytes(), Format::Json, &options(small)).expect_err("too much");
    assert_eq!(
        (errors.errors[0].event, errors.errors[0].code),
        (1, "event_too_large")
    );
}

#[test]
fn limits_are_large_enough_for_what_is_allowed() {
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let body = |value: &str| format!(r#"{{"type":"EventLogged","name":"n","data":{value}}}"#);
    assert_eq!(facts(&body(&json(1 << 20))).len(), 1);
    assert_eq!(
        error(body(&json((1 << 20) + 1))),
        (40, Some("data".into()), "too_long")
    );
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(facts(&body(&nested(127))).len(), 1);
    assert_eq!(
        error(body(&nested(128))),
        (40 + 127, Some("data".into()), "too_deep")
    );
    let many: Vec<_> = (0..5)
        .map(|at| format!(r#""x{at}":{}"#, json(1 << 20)))
        .collect();
    let large = format!(r#"{{"type":"EventLogged","name":"n",{}}}"#, many.join(","));
    assert_eq!(error(large), (0, None, "event_too_large"));
}

#[test]
fn a_batch_takes_no_more_than_it_may() {
    let line = r#"{"type":"EventLogged","name":"12345678901234567890"}"#;
    let body = [line; 10].join("\n");
    let options = |batch_bytes| Options {
        limits: Limits {
            batch_bytes,
            ..Limits::default()
        },
        ..crate::recording()
    };
    assert!(decode(body.as_bytes(), Format::Ndjson, &options(200)).is_ok());
    let errors = decode(body.as_bytes(), Format::Ndjson, &options(199)).expect_err("too much");
    assert_eq!(
        (errors.total, errors.errors[0].event, errors.errors[0].code),
        (1, 9, "batch_too_large")
    );
}
