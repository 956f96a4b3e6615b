//! KServe's inference logger: halves of predictions, whatever their bodies are.

use modelog_engine::Timestamp;
use modelog_engine::event::{Event, Fact, PredictionLogged};
use modelog_formats::{
    BinaryEvent, Format, MessageFormat, MessageReader, ModelTemplate, Options, Outcome,
    decode_binary,
};

use crate::events;
use crate::message::{message, read, read_with, rejected, rejected_as};

type Header<'a> = (&'a str, Option<&'a [u8]>);

const ID: &str = "9f3c6f2e-35c4-4a40-9c2f-3f5d1b1a2b3c";
const REQUEST: &[u8] = b"org.kubeflow.serving.inference.request";
const RESPONSE: &[u8] = b"org.kubeflow.serving.inference.response";

/// What the logger of KServe 0.15 sends beside a body.
fn headers(ty: &'static [u8]) -> Vec<Header<'static>> {
    vec![
        ("ce_specversion", Some(b"1.0")),
        ("ce_id", Some(ID.as_bytes())),
        ("ce_type", Some(ty)),
        ("ce_source", Some(b"http://localhost:9081/")),
        ("ce_time", Some(b"2026-11-22T17:00:00.123456789Z")),
        ("ce_inferenceservicename", Some(b"iris")),
        ("ce_namespace", Some(b"team-a")),
        ("ce_component", Some(b"predictor")),
        ("ce_endpoint", Some(b"")),
        ("ce_recordedtime", Some(b"2026-11-22T17:00:00.5Z")),
        ("ce_metadata", Some(br#"{"X-Tenant":["7"]}"#)),
        ("content-type", Some(b"application/json")),
    ]
}

fn but(ty: &'static [u8], more: &[Header<'static>]) -> Vec<Header<'static>> {
    let mut headers = headers(ty);
    headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    headers.extend_from_slice(more);
    headers
}

fn half(events: &[Event]) -> (&Event, &PredictionLogged) {
    match events {
        [event] => match &event.fact {
            Fact::PredictionLogged(fact) => (event, fact),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn extra(event: &Event) -> serde_json::Value {
    let extra = event.extra.as_ref().expect("attributes are kept");
    serde_json::from_str(extra.as_str()).expect("JSON")
}

#[test]
fn requests_and_responses_are_halves_of_one_prediction() {
    let body =
        r#" {"id":"x","inputs":[{"name":"i","shape":[1],"datatype":"FP32","data":[1.50]}]} "#;
    let request = read(body, &headers(REQUEST));
    let (event, fact) = half(&request);
    assert_eq!(event.id, Some(format!("{ID}/request")));
    assert_eq!(event.source.as_deref(), Some("http://localhost:9081/"));
    assert_eq!(
        event.time,
        Timestamp::parse("2026-11-22T17:00:00.123456Z").ok()
    );
    assert_eq!(
        (fact.model.as_str(), fact.version.as_str()),
        ("team-a/iris", "unversioned")
    );
    assert_eq!(fact.prediction_id.as_deref(), Some(ID));
    assert_eq!(fact.part.as_deref(), Some("request"));
    assert_eq!(
        fact.input.as_ref().map(|json| json.as_str()),
        Some(body.trim())
    );
    assert_eq!(fact.output, None);
    assert_eq!(
        extra(event),
        serde_json::json!({
            "ce_inferenceservicename": "iris", "ce_namespace": "team-a", "ce_component": "predictor",
            "ce_endpoint": "", "ce_recordedtime": "2026-11-22T17:00:00.5Z",
            "ce_metadata": r#"{"X-Tenant":["7"]}"#, "ce_datacontenttype": "application/json",
        })
    );
    let body = r#"{"model_name":"iris","model_version":"3","id":"x","outputs":[]}"#;
    let response = read(body, &headers(RESPONSE));
    let (event, fact) = half(&response);
    assert_eq!(event.id, Some(format!("{ID}/response")));
    assert_eq!(
        (fact.model.as_str(), fact.version.as_str()),
        ("team-a/iris", "3")
    );
    assert_eq!(fact.prediction_id.as_deref(), Some(ID));
    assert_eq!(fact.part.as_deref(), Some("response"));
    assert_eq!(fact.output.as_ref().map(|json| json.as_str()), Some(body));
    assert_eq!(fact.input, None);
}

#[test]
fn versions_are_those_that_are_known() {
    let version = |ty, body: &str, endpoint: &'static [u8]| {
        let headers = but(ty, &[("ce_endpoint", Some(endpoint))]);
        half(&read(body, &headers)).1.version.clone()
    };
    for (body, endpoint, expected) in [
        (r#"{"model_version":"3"}"#, &b"default"[..], "3"),
        (
            r#"{"a":{"model_version":"4"},"model_version":"\u0033"}"#,
            b"",
            "3",
        ),
        (r#"{"model_version":3}"#, b"default", "3"),
        (r#"{"model_version":null}"#, b"default", "default"),
        (r#"{"model_version":""}"#, b"canary", "canary"),
        (r#"{"model_version":[1]}"#, b"", "unversioned"),
        (r#"{"predictions":[1]}"#, b"default", "default"),
        (r#"["model_version"]"#, b"", "unversioned"),
        ("no JSON", b"default", "default"),
    ] {
        assert_eq!(version(RESPONSE, body, endpoint), expected, "{body}");
    }
    // What a request says of a version is what its caller wants.
    assert_eq!(
        version(REQUEST, r#"{"model_version":"3"}"#, b""),
        "unversioned"
    );
    let response = but(RESPONSE, &[("ce_endpoint", None)]);
    assert_eq!(half(&read("{}", &response)).1.version, "unversioned");
}

#[test]
fn the_type_decides_whatever_the_content_type_says() {
    for content_type in [
        &b"application/x-www-form-urlencoded"[..],
        b"application/cloudevents+json",
        b"application/x-ndjson",
        b"application/vnd.apache.arrow.stream",
    ] {
        let headers = but(REQUEST, &[("content-type", Some(content_type))]);
        let events = read("{\"a\":1}\n", &headers);
        let (event, fact) = half(&events);
        assert_eq!(
            fact.input.as_ref().map(|json| json.as_str()),
            Some("{\"a\":1}")
        );
        let content_type = std::str::from_utf8(content_type).expect("text");
        assert_eq!(extra(event)["ce_datacontenttype"], content_type);
        assert_eq!(extra(event).get("body_encoding"), None);
    }
}

#[test]
fn bodies_that_are_not_json_can_be_had_again() {
    let form = [(
        "content-type",
        Some(&b"application/x-www-form-urlencoded"[..]),
    )];
    for (body, input, encoding) in [
        (&b"a=1&b=%22\n"[..], r#""a=1&b=%22\n""#, "text"),
        (b"{\"a\":1}{", r#""{\"a\":1}{""#, "text"),
        (
            b"\0\0\0\0\x07{}",
            "\"\\u0000\\u0000\\u0000\\u0000\\u0007{}\"",
            "text",
        ),
        (b" null", "\" null\"", "text"),
        (b"\xff\0", r#"{"base64":"/wA="}"#, "base64"),
    ] {
        let events = read(body, &but(REQUEST, &form));
        let (event, fact) = half(&events);
        assert_eq!(fact.input.as_ref().map(|json| json.as_str()), Some(input));
        assert_eq!(extra(event)["body_encoding"], encoding);
    }
    // JSON that looks the same has no encoding.
    for body in [r#""a=1&b=%22\n""#, r#"{"base64":"/wA="}"#] {
        let events = read(body, &but(REQUEST, &form));
        let (event, fact) = half(&events);
        assert_eq!(fact.input.as_ref().map(|json| json.as_str()), Some(body));
        assert_eq!(extra(event).get("body_encoding"), None);
    }
    let events = read("", &headers(REQUEST));
    assert_eq!(half(&events).1.input, None);
}

#[test]
fn times_are_those_of_the_event_or_of_its_recording() {
    let headers = but(REQUEST, &[("ce_time", None)]);
    let events = read("{}", &headers);
    let recorded = Timestamp::parse("2026-11-22T17:00:00.5Z").ok();
    assert_eq!(half(&events).0.time, recorded);
    let headers = but(REQUEST, &[("ce_time", None), ("ce_recordedtime", None)]);
    let events = read("{}", &headers);
    assert_eq!(half(&events).0.time, Some(crate::RECEIVED));
}

#[test]
fn what_is_missing_is_named() {
    for (name, field) in [
        ("ce_specversion", "specversion"),
        ("ce_id", "id"),
        ("ce_source", "source"),
        ("ce_namespace", "namespace"),
        ("ce_inferenceservicename", "inferenceservicename"),
    ] {
        let options = Options::default();
        let headers = but(REQUEST, &[(name, None)]);
        let message = message(Some(b"{}"), &headers);
        let (_, decoded) = read_with(&message, MessageFormat::Auto, &options);
        let error = &decoded.rejected[0];
        assert_eq!(
            (error.code, error.field.as_deref()),
            ("missing_field", Some(field))
        );
    }
    let headers = but(REQUEST, &[("ce_namespace", Some(b"x\n"))]);
    assert_eq!(rejected("{}", &headers).reason, "control_character");
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(rejected(long, &self::headers(REQUEST)).reason, "too_long");
}

#[test]
fn long_ids_are_hashed_and_differ_by_half() {
    let long: &'static str = Box::leak("i".repeat(300).into_boxed_str());
    let ids: Vec<_> = [REQUEST, RESPONSE]
        .into_iter()
        .map(|ty| {
            let headers = but(ty, &[("ce_id", Some(long.as_bytes()))]);
            let events = read("{}", &headers);
            let (event, fact) = half(&events);
            assert_eq!(fact.prediction_id.as_deref(), Some(long));
            event.id.clone().expect("an id")
        })
        .collect();
    // sha256sum of 300 times "i".
    let hash = "909f0912dbf59611a3a24876efcc2d409ae8b2ba9feb44eb24437974c824a3c6";
    assert_eq!(ids, [format!("{hash}/request"), format!("{hash}/response")]);
    let headers = but(REQUEST, &[("ce_id", Some(&long.as_bytes()[..120]))]);
    let events = read("{}", &headers);
    assert_eq!(
        half(&events).0.id.as_deref(),
        Some(&*format!("{}/request", &long[..120]))
    );
}

#[test]
fn models_are_named_by_the_template() {
    for (template, name) in [
        ("{namespace}/{inferenceservicename}", "team-a/iris"),
        (
            "kserve:{component} {inferenceservicename}{endpoint}",
            "kserve:predictor iris",
        ),
        ("\"é\"", "\"é\""),
    ] {
        let template: ModelTemplate = template.parse().expect("a template");
        let options = Options::default();
        let mut reader = MessageReader::new(MessageFormat::KServe, &options, &template);
        let headers = headers(REQUEST);
        assert_eq!(
            reader.read(&message(Some(b"{}"), &headers)),
            Outcome::Events(1)
        );
        assert_eq!(half(&events(reader.finish())).1.model, name);
    }
}

fn envelope(ty: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{ID}","type":"org.kubeflow.serving.inference.{ty}","source":"http://localhost:9081/","time":"2026-11-22T17:00:00.123456789Z","component":"predictor","endpoint":"","inferenceservicename":"iris","metadata":"{{\"X-Tenant\":[\"7\"]}}","namespace":"team-a","recordedtime":"2026-11-22T17:00:00.5Z",{data}}}"#
    )
}

#[test]
fn structured_events_are_the_same() {
    let body = r#"{"model_version":"3","predictions":[1]}"#;
    for (kind, ty) in [("request", REQUEST), ("response", RESPONSE)] {
        let value = envelope(
            kind,
            &format!(r#""datacontenttype":"application/json","data":{body}"#),
        );
        let expected = read(body, &headers(ty));
        assert_eq!(read(&value, &[]), expected);
        assert_eq!(crate::read(&value, Format::CloudEvent), expected);
    }
    let form = but(
        REQUEST,
        &[("content-type", Some(b"application/x-www-form-urlencoded"))],
    );
    let said = r#""datacontenttype":"application/x-www-form-urlencoded""#;
    for data in [r#""data":"a=1""#, r#""data_base64":"YT0x""#] {
        let value = envelope("request", &format!("{said},{data}"));
        assert_eq!(read(&value, &[]), read("a=1", &form), "{data}");
    }
    let value = envelope("request", &format!(r#"{said},"data_base64":"/wA=""#));
    assert_eq!(read(&value, &[]), read(b"\xff\0", &form));
}

#[test]
fn http_bodies_are_the_same() {
    let headers = headers(REQUEST);
    let attributes: Vec<_> = headers
        .iter()
        .filter_map(|(name, value)| {
            let value = std::str::from_utf8(value.expect("a value")).expect("text");
            Some((name.strip_prefix("ce_")?, value))
        })
        .collect();
    let event = BinaryEvent {
        attributes: &attributes,
        content_type: Some("application/json"),
        data: b"{\"a\":1}",
    };
    let decoded = decode_binary(&event, &Options::default()).expect("sound");
    assert_eq!(events(decoded), read("{\"a\":1}", &headers));
}

#[test]
fn a_stream_of_kserve_takes_nothing_else() {
    let headers = but(REQUEST, &[("ce_type", Some(b"MetricLogged"))]);
    let body = r#"{"run":"r","name":"n","value":1}"#;
    assert_eq!(read(body, &headers).len(), 1);
    let fact = rejected_as(body, &headers, MessageFormat::KServe);
    assert_eq!(fact.reason, "unknown_kind");
    let fact = rejected_as(
        r#"{"type":"ModelCreated","model":"m"}"#,
        &[],
        MessageFormat::KServe,
    );
    assert_eq!(fact.reason, "missing_field");
    let value = envelope("response", r#""data":{}"#);
    let options = Options::default();
    let message = message(Some(value.as_bytes()), &[]);
    let (outcome, _) = read_with(&message, MessageFormat::KServe, &options);
    assert_eq!(outcome, Outcome::Events(1));
}
