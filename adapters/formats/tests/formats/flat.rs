//! Flat JSON: objects, arrays and lines of events that are all right.

use modelog_engine::Timestamp;
use modelog_engine::event::{
    Event, EventLogged, Fact, FeedbackLogged, Json, Kind, MetricLogged, ModelCreated,
    ModelVersionAliased, ModelVersionCreated, PredictionLogged, RunStarted,
};
use modelog_formats::{Format, Options, decode, decode_as};

use crate::{RECEIVED, error, events, facts, json, prediction, read};

/// The examples of the design, one a line.
const EXAMPLES: &str = r#"
{"type":"ModelCreated","model":"resnet50","architecture":"ResNet-50","framework":"PyTorch","task_type":"classification"}
{"type":"ModelVersionCreated","model":"resnet50","version":"v1.0.0","checkpoint_path":"models/resnet50_v1.pth","config":{"layers":50}}
{"type":"RunStarted","run":"0197a1","experiment":"baseline","model":"resnet50","version":"v1.0.0","dataset":"imagenet"}
{"type":"MetricLogged","run":"0197a1","name":"loss","value":0.173,"step":1200,"epoch":3,"split":"train","time":"2026-11-22T17:00:00Z"}
{"type":"PredictionLogged","model":"resnet50","version":"v1.0.0","prediction_id":"p-1","input":{"image":"a.jpg"},"output":{"class":281},"predicted_class":"tabby cat","confidence":0.93,"inference_time_ms":12.5}
{"type":"FeedbackLogged","prediction_id":"p-1","model":"resnet50","version":"v1.0.0","true_class":"tabby cat"}
"#;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn parsed(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn examples() -> Vec<Event> {
    let facts: [Fact; 6] = [
        ModelCreated {
            model: "resnet50".into(),
            architecture: some("ResNet-50"),
            framework: some("PyTorch"),
            task_type: some("classification"),
            ..ModelCreated::default()
        }
        .into(),
        ModelVersionCreated {
            model: "resnet50".into(),
            version: "v1.0.0".into(),
            checkpoint_path: some("models/resnet50_v1.pth"),
            config: Some(parsed(r#"{"layers":50}"#)),
            ..ModelVersionCreated::default()
        }
        .into(),
        RunStarted {
            run: "0197a1".into(),
            experiment: some("baseline"),
            model: some("resnet50"),
            version: some("v1.0.0"),
            dataset: some("imagenet"),
            ..RunStarted::default()
        }
        .into(),
        MetricLogged {
            run: some("0197a1"),
            name: "loss".into(),
            value: 0.173,
            step: Some(1200),
            epoch: Some(3.0),
            split: some("train"),
            ..MetricLogged::default()
        }
        .into(),
        PredictionLogged {
            model: "resnet50".into(),
            version: "v1.0.0".into(),
            prediction_id: some("p-1"),
            input: Some(parsed(r#"{"image":"a.jpg"}"#)),
            output: Some(parsed(r#"{"class":281}"#)),
            predicted_class: some("tabby cat"),
            confidence: Some(0.93),
            inference_time_ms: Some(12.5),
            ..PredictionLogged::default()
        }
        .into(),
        FeedbackLogged {
            prediction_id: "p-1".into(),
            model: some("resnet50"),
            version: some("v1.0.0"),
            true_class: some("tabby cat"),
            ..FeedbackLogged::default()
        }
        .into(),
    ];
    facts.map(|fact| Event::from(fact).at(RECEIVED)).to_vec()
}

#[test]
fn examples_are_read_in_every_layout() {
    assert_eq!(read(EXAMPLES, Format::Ndjson), examples());
    let lines: Vec<_> = EXAMPLES.trim().lines().collect();
    assert_eq!(
        read(&format!("[{}]", lines.join(",")), Format::Json),
        examples()
    );
    assert_eq!(
        read(
            &format!(" [\n{}\n]\n", lines.join(" ,\r\n\t")),
            Format::Json
        ),
        examples()
    );
    for (line, event) in lines.iter().zip(examples()) {
        assert_eq!(read(line, Format::Json), std::slice::from_ref(&event));
        assert_eq!(read(&format!("\n {line} \r\n\n"), Format::Json), [event]);
    }
    let windows = EXAMPLES.trim().replace('\n', "\r\n \t\r\n");
    assert_eq!(read(&windows, Format::Ndjson), examples());
}

#[test]
fn nothing_is_a_batch_of_nothing() {
    for (body, format) in [
        ("", Format::Json),
        (" \r\n", Format::Json),
        ("[]", Format::Json),
        (" [ ] ", Format::Json),
        ("", Format::Ndjson),
        ("\n\n \n", Format::Ndjson),
        ("\u{feff}", Format::Ndjson),
        ("", Format::CloudEvent),
        ("", Format::CloudEventBatch),
        ("[]", Format::CloudEventBatch),
        ("", Format::Arrow),
    ] {
        let decoded =
            decode(body.as_bytes(), format, &Options::default()).expect("nothing is wrong");
        assert!(decoded.batch.is_empty(), "{body:?}");
    }
}

#[test]
fn a_byte_order_mark_may_start_the_body() {
    let body = "\u{feff}{\"type\":\"ModelCreated\",\"model\":\"m\"}";
    assert_eq!(facts(body).len(), 1);
    assert_eq!(read(&format!("{body}\n"), Format::Ndjson).len(), 1);
    assert_eq!(error(format!(" {body}")), (1, None, "bad_json"));
}

#[test]
fn kinds_are_spelled_in_three_ways_and_type_may_come_anywhere() {
    let body = r#"
{"type":"MetricLogged","name":"loss","run":"r","value":1}
{"name":"loss","type":"metric_logged","run":"r","value":2}
{"name":"loss","run":"r","value":3,"type":"metric.logged"}
{"model":"m","\u0074ype":"Model\u0043reated"}
{"name":"loss","run":"r","value":4,"type":"MetricLogged"}
{"name":"a thing","data":[1],"type":"event.logged"}
{"value":"not a number here","name":"x","type":"EventLogged"}
{"type":"MetricLogged","name":"loss","run":"r","value":5}
"#;
    let kinds: Vec<_> = read(body, Format::Ndjson)
        .into_iter()
        .map(|event| match event.fact {
            Fact::MetricLogged(metric) => metric.value.to_string(),
            Fact::ModelCreated(model) => model.model,
            Fact::EventLogged(event) => event.name,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["1", "2", "3", "m", "4", "a thing", "x", "5"]);
}

#[test]
fn a_supposed_kind_leaves_no_trace() {
    // Up to `type`, the second event could be a prediction: an unknown field, JSON and a number are read as one.
    let body = r#"
{"type":"PredictionLogged","model":"m","version":"v","input":{"a":1},"more":1}
{"more":2,"input":{"a":2},"confidence":0.5,"name":"n","type":"EventLogged"}
"#;
    let decoded = decode(body.as_bytes(), Format::Ndjson, &Options::default()).expect("sound");
    let counts: Vec<_> = decoded
        .unknown_fields
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counts, [("confidence", 1), ("input", 1), ("more", 2)]);
    let read = events(decoded);
    assert_eq!(read[0].extra, Some(parsed(r#"{"more":1}"#)));
    assert_eq!(
        read[1].extra,
        Some(parsed(r#"{"more":2,"input":{"a":2},"confidence":0.5}"#))
    );
    assert_eq!(
        read[1].fact,
        Fact::EventLogged(EventLogged {
            name: "n".into(),
            data: None
        })
    );
}

#[test]
fn fields_come_and_go_in_any_order() {
    let body = r#"
{"type":"PredictionLogged","model":"a","version":"1","confidence":0.1}
{"type":"PredictionLogged","version":"2","model":"b","error":"e"}
{"confidence":0.3,"version":"3","type":"PredictionLogged","part":"request","model":"c"}
{"type":"PredictionLogged","model":"d","version":"4","error":null,"confidence":0.4}
{ "type" : "PredictionLogged" , "model" : "e" , "version" : "5" }
"#;
    let read: Vec<_> = read(body, Format::Ndjson)
        .into_iter()
        .map(|event| match event.fact {
            Fact::PredictionLogged(it) => (it.model, it.version, it.confidence, it.error, it.part),
            other => panic!("{other:?}"),
        })
        .collect();
    let row = |model: &str, version: &str, confidence, error: Option<&str>, part: Option<&str>| {
        (
            model.to_owned(),
            version.to_owned(),
            confidence,
            error.map(str::to_owned),
            part.map(str::to_owned),
        )
    };
    assert_eq!(
        read,
        [
            row("a", "1", Some(0.1), None, None),
            row("b", "2", None, Some("e"), None),
            row("c", "3", Some(0.3), None, Some("request")),
            row("d", "4", Some(0.4), None, None),
            row("e", "5", None, None, None),
        ]
    );
}

#[test]
fn input_data_and_output_data_are_input_and_output() {
    let read = prediction(
        r#"{"type":"PredictionLogged","model":"m","version":"v","input_data":[1],"output_data":2}"#,
    );
    assert_eq!(
        (read.input, read.output),
        (Some(parsed("[1]")), Some(parsed("2")))
    );
    let body = r#"{"type":"PredictionLogged","model":"m","version":"v","input":1,"input_data":1}"#;
    assert_eq!(error(body), (76, Some("input".into()), "repeated_field"));
    let other = facts(r#"{"type":"EventLogged","name":"n","input_data":1}"#);
    assert_eq!(
        other,
        [Fact::EventLogged(EventLogged {
            name: "n".into(),
            data: None
        })]
    );
}

#[test]
fn null_is_absent_save_where_a_field_is_stated() {
    let read = prediction(
        r#"{"type":"PredictionLogged","model":"m","version":"v","input":null,"confidence":null,"tags":null,"extra":null,"id":null,"time":null}"#,
    );
    assert_eq!(
        read,
        PredictionLogged {
            model: "m".into(),
            version: "v".into(),
            ..PredictionLogged::default()
        }
    );
    let alias = |version: &str| {
        format!(r#"{{"type":"ModelVersionAliased","model":"m","alias":"prod"{version}}}"#)
    };
    let removed = ModelVersionAliased {
        model: "m".into(),
        alias: "prod".into(),
        version: None,
    };
    assert_eq!(facts(&alias(r#","version":null"#)), [removed.into()]);
    assert_eq!(
        error(alias("")),
        (0, Some("version".into()), "missing_field")
    );
    assert_eq!(
        error(r#"{"type":"ModelCreated","model":null}"#),
        (0, Some("model".into()), "missing_field")
    );
}

#[test]
fn times_are_text_or_microseconds() {
    let at = |time: &str| {
        read(
            &format!(r#"{{"type":"ModelCreated","model":"m","time":{time}}}"#),
            Format::Json,
        )[0]
        .time
    };
    let micros = |micros| Some(Timestamp::from_micros(micros));
    assert_eq!(
        at("\"2026-11-22T17:00:00Z\""),
        micros(1_795_366_800_000_000)
    );
    assert_eq!(
        at("\"2026-11-22T18:00:00.1234567+01:00\""),
        micros(1_795_366_800_123_456)
    );
    assert_eq!(
        at("\"2026-11-22T17:00:00\\u005a\""),
        micros(1_795_366_800_000_000)
    );
    assert_eq!(at("1795366800000000"), micros(1_795_366_800_000_000));
    assert_eq!(at("-1795366800000000"), micros(-1_795_366_800_000_000));
    assert_eq!(at("null"), Some(RECEIVED));
}

#[test]
fn events_given_out_by_a_log_can_be_taken_by_another() {
    let body = r#"{"type":"EventLogged","log_offset":7,"append_time":"2026-11-22T17:00:00Z","id":"1","source":"/s","time":"2026-11-22T16:00:00Z","extra":{ "more" : 1.0 },"name":"n"}"#;
    let options = Options {
        strict: true,
        ..Options::default()
    };
    let decoded = decode(body.as_bytes(), Format::Json, &options).expect("sound");
    assert!(decoded.unknown_fields.is_empty());
    let again = events(decoded);
    assert_eq!(again[0].extra, Some(parsed(r#"{ "more" : 1.0 }"#)));
    assert_eq!(
        (again[0].id.as_deref(), again[0].source.as_deref()),
        (Some("1"), Some("/s"))
    );
    // And what the engine writes is read as it was.
    let mut text = Vec::new();
    let batch = decode(EXAMPLES.as_bytes(), Format::Ndjson, &Options::default())
        .expect("sound")
        .batch;
    let logged = batch.into_logged(modelog_engine::Offset(5), RECEIVED);
    for row in logged.in_order() {
        row.write_json(&mut text);
        text.push(b'\n');
    }
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    assert_eq!(read(&text, Format::Ndjson), examples());
}

#[test]
fn unknown_fields_are_kept_as_written_and_counted() {
    let body = r#"
{"type":"EventLogged","a":1,"name":"1","b\u0065e": {"x" : [1.0, "\u00e9"]}, "big":12345678901234567890.10}
{"type":"EventLogged","a":null,"name":"2","extra":{ "c":1, "c":2 }}
{"type":"EventLogged","extra":{},"a":true,"name":"3"}
{"type":"EventLogged","name":"4","extra":{}}
"#;
    let decoded = decode(body.as_bytes(), Format::Ndjson, &Options::default()).expect("sound");
    let counts: Vec<_> = decoded
        .unknown_fields
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counts, [("a", 3), ("bee", 1), ("big", 1)]);
    let extras: Vec<_> = events(decoded)
        .into_iter()
        .map(|event| event.extra.map(|extra| extra.as_str().to_owned()))
        .collect();
    assert_eq!(
        extras,
        [
            some(r#"{"a":1,"b\u0065e":{"x" : [1.0, "\u00e9"]},"big":12345678901234567890.10}"#),
            some(r#"{"c":1, "c":2,"a":null}"#),
            some(r#"{"a":true}"#),
            some("{}"),
        ]
    );
}

#[test]
fn the_path_gives_what_the_body_need_not_say() {
    let options = Options::default();
    let given = [("model", "m \"1\""), ("version", "v")];
    let decode_as =
        |body: &str| decode_as(body.as_bytes(), Kind::PredictionLogged, &given, &options);
    for body in [
        "",
        " ",
        "{}",
        "[{}]",
        r#"{"model":"m \"1\""}"#,
        r#"{"model":"m \u00221\u0022","version":null}"#,
        r#"{"type":"prediction.logged"}"#,
    ] {
        let read = events(decode_as(body).unwrap_or_else(|errors| panic!("{body}: {errors}")));
        let expected = PredictionLogged {
            model: "m \"1\"".into(),
            version: "v".into(),
            ..PredictionLogged::default()
        };
        assert_eq!(read, [Event::from(expected).at(RECEIVED)], "{body}");
    }
    assert_eq!(
        json(decode_as(r#"[{"confidence":0.5,"x":1},{"id":"2"}]"#).expect("sound")).len(),
        2
    );
    assert!(decode_as("[]").expect("sound").batch.is_empty());
    for (body, field, code) in [
        (r#"{"model":"other"}"#, "model", "conflicting_field"),
        (r#"{"version":1}"#, "version", "conflicting_field"),
        (r#"{"type":"ModelCreated"}"#, "type", "other_kind"),
        (r#"{"type":"nope"}"#, "type", "unknown_kind"),
        (
            r#"{"type":"PredictionLogged","type":"PredictionLogged"}"#,
            "type",
            "repeated_field",
        ),
    ] {
        let errors = decode_as(body).expect_err("wrong");
        assert_eq!(
            (errors.errors[0].field.as_deref(), errors.errors[0].code),
            (Some(field), code),
            "{body}"
        );
    }
}

#[test]
fn a_path_that_makes_no_sense_is_refused() {
    let options = Options::default();
    let code = |kind, given: &[(&str, &str)]| {
        decode_as(b"{}", kind, given, &options)
            .expect_err("wrong")
            .errors[0]
            .clone()
    };
    let unknown = code(Kind::ModelCreated, &[("modle", "m")]);
    assert_eq!(
        (unknown.code, unknown.field.as_deref()),
        ("unknown_field", Some("modle"))
    );
    assert_eq!(code(Kind::EntityNamed, &[]).code, "internal_kind");
    let empty = code(Kind::ModelCreated, &[("model", "")]);
    assert_eq!(
        (empty.code, empty.field.as_deref(), empty.byte),
        ("empty_value", Some("model"), Some(0))
    );
}
