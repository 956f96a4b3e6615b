//! CloudEvents in binary mode: attributes in headers, data as the body.

use serde_json::{Value, json};

use crate::harness::{TestServer, answer, gzip, refused};

const DATA: &str = r#"{"run":"r","name":"loss","value":0.5}"#;
const ATTRIBUTES: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "metric.logged"),
    ("ce-source", "/training"),
    ("ce-id", "1"),
];

const INFERENCE: [(&str, &str); 9] = [
    ("ce-specversion", "1.0"),
    ("ce-source", "http://localhost:9081/"),
    ("ce-id", "9f3c6f2e"),
    ("ce-time", "2026-11-22T17:00:00.123456789Z"),
    ("ce-inferenceservicename", "iris"),
    ("ce-namespace", "team-a"),
    ("ce-component", "predictor"),
    ("ce-endpoint", ""),
    ("ce-metadata", r#"{"X-Tenant":["7"]}"#),
];

fn post(
    server: &TestServer,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> reqwest::RequestBuilder {
    let request = server.client.post(server.url(path)).body(body);
    let with = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    headers.iter().fold(request, with)
}

fn but<'a>(headers: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers = headers.to_vec();
    headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    headers.extend_from_slice(more);
    headers
}

#[tokio::test]
async fn attributes_are_headers() {
    let server = TestServer::start().await;
    let headers = but(
        &ATTRIBUTES,
        &[
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-note", r#""a \"b\"""#),
            ("content-type", "application/json"),
        ],
    );
    let (status, reply) = answer(post(&server, "/v1/events", &headers, DATA)).await;
    assert_eq!((status, &reply["accepted"]), (200, &json!(1)), "{reply}");
    assert_eq!(
        reply["unknown_fields"],
        json!({"ce_subject": 1, "ce_note": 1})
    );
    let event = &server.events(0)[0];
    for (field, value) in [
        ("type", json!("MetricLogged")),
        ("source", json!("/training")),
        ("id", json!("1")),
        ("value", json!(0.5)),
        (
            "extra",
            json!({"ce_subject": "Euro €", "ce_note": "a \"b\""}),
        ),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    // The same in an envelope is the same event; so is the same in binary mode without a content type, compressed.
    let envelope = json!({
        "specversion": "1.0", "type": "MetricLogged", "source": "/training", "id": "1",
        "subject": "Euro €", "note": "a \"b\"", "data": serde_json::from_str::<Value>(DATA).unwrap(),
    });
    let structured = [("content-type", "application/cloudevents+json")];
    let both = [&ATTRIBUTES[..], &structured].concat();
    let zipped = [&headers[..6], &[("content-encoding", "gzip")]].concat();
    for request in [
        post(&server, "/v1/events", &structured, envelope.to_string()),
        post(&server, "/v1/events", &both, envelope.to_string()),
        post(&server, "/v1/events", &zipped, gzip(DATA.as_bytes())),
    ] {
        let (status, reply) = answer(request).await;
        assert_eq!((status, &reply["duplicates"]), (200, &json!(1)), "{reply}");
    }
    assert_eq!(server.tail(), 1);
}

#[tokio::test]
async fn inferences_are_taken_as_they_are_sent() {
    let server = TestServer::start().await;
    for (ty, content_type, body) in [
        ("request", "application/x-www-form-urlencoded", "a=1&b=2"),
        (
            "response",
            "application/json",
            r#"{"model_name":"iris","model_version":"3","outputs":[]}"#,
        ),
    ] {
        let ty = format!("org.kubeflow.serving.inference.{ty}");
        let headers = but(
            &INFERENCE,
            &[("ce-type", &ty), ("content-type", content_type)],
        );
        for path in ["/v1/events", "/v1/events?strict=true"] {
            let (status, reply) = answer(post(&server, path, &headers, body)).await;
            assert_eq!(status, 200, "{reply}");
        }
    }
    // Each half once.
    assert_eq!(server.tail(), 2);
    let halves = server.events(0);
    for half in &halves {
        assert_eq!(half["model"], "team-a/iris");
        assert_eq!(half["prediction_id"], "9f3c6f2e");
        assert_eq!(half["time"], "2026-11-22T17:00:00.123456Z");
        assert_eq!(half["extra"]["ce_metadata"], r#"{"X-Tenant":["7"]}"#);
    }
    let [request, response] = &halves[..] else {
        panic!("{halves:?}");
    };
    assert_eq!(request["part"], "request");
    assert_eq!(request["input"], "a=1&b=2");
    assert_eq!(request["extra"]["body_encoding"], "text");
    assert_eq!(request["version"], "unversioned");
    assert_eq!(response["part"], "response");
    assert_eq!(response["output"]["model_version"], "3");
    assert_eq!(response["version"], "3");
}

#[tokio::test]
async fn bad_ones_are_refused_or_recorded_with_their_headers() {
    let server = TestServer::start().await;
    for (headers, body, field, code) in [
        (ATTRIBUTES[..3].to_vec(), DATA, "id", "missing_field"),
        (
            but(&ATTRIBUTES, &[("ce-specversion", "0.3")]),
            DATA,
            "specversion",
            "bad_cloud_event",
        ),
        (
            but(&ATTRIBUTES, &[("ce-type", "nonsense")]),
            DATA,
            "type",
            "unknown_kind",
        ),
        (
            [&ATTRIBUTES[..], &[("ce-id", "2")]].concat(),
            DATA,
            "id",
            "repeated_field",
        ),
        (
            ATTRIBUTES.to_vec(),
            r#"{"run":"r","value":1}"#,
            "name",
            "missing_field",
        ),
    ] {
        let request = post(&server, "/v1/events", &headers, body);
        let problem = refused(request, 400, "invalid_events").await;
        assert_eq!(problem["errors"][0]["code"], code, "{problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let headers = but(&ATTRIBUTES, &[("ce-source", "%ff")]);
    let request = post(&server, "/v1/events", &headers, DATA);
    let problem = refused(request, 400, "bad_request").await;
    assert!(problem["detail"].as_str().unwrap().contains("ce-source"));
    assert_eq!(server.tail(), 0);
    let request = post(&server, "/v1/events?on_error=skip", &ATTRIBUTES, "{");
    let (status, reply) = answer(request).await;
    assert_eq!((status, &reply["rejected"]), (200, &json!(1)), "{reply}");
    let event = &server.events(0)[0];
    assert_eq!(event["reason"], "bad_json");
    assert_eq!(event["raw"], "ew==");
    let mut kept = event["headers"].as_array().unwrap().clone();
    kept.sort_by_key(ToString::to_string);
    assert_eq!(
        kept,
        [
            json!(["ce-id", "1"]),
            json!(["ce-source", "/training"]),
            json!(["ce-specversion", "1.0"]),
            json!(["ce-type", "metric.logged"]),
        ]
    );
}

#[tokio::test]
async fn attributes_are_a_part_of_the_request() {
    let server = TestServer::start().await;
    let request = |headers: &[(&str, &str)]| {
        let headers = but(headers, &[("idempotency-key", "k")]);
        post(&server, "/v1/events", &headers, DATA)
    };
    let first = answer(request(&ATTRIBUTES)).await;
    assert_eq!(first.0, 200, "{first:?}");
    assert_eq!(answer(request(&ATTRIBUTES)).await, first);
    let mut turned = ATTRIBUTES.to_vec();
    turned.reverse();
    assert_eq!(answer(request(&turned)).await, first);
    let other = but(&ATTRIBUTES, &[("ce-id", "2")]);
    refused(request(&other), 422, "key_reused").await;
    assert_eq!(server.tail(), 1);
}

#[tokio::test]
async fn only_the_route_of_events_takes_them() {
    let server = TestServer::start().await;
    for path in ["/v1/models", "/v1/runs/r/metrics"] {
        let headers = [&ATTRIBUTES[..], &[("content-type", "application/json")]].concat();
        let request = post(&server, path, &headers, DATA);
        let problem = refused(request, 415, "unsupported_media_type").await;
        assert!(problem["detail"].as_str().unwrap().contains("/v1/events"));
    }
    // Without a version there is no event, and a form is a form.
    let headers = [&ATTRIBUTES[1..], &[("content-type", "text/plain")]].concat();
    let request = post(&server, "/v1/events", &headers, DATA);
    refused(request, 415, "unsupported_media_type").await;
    let headers = [&ATTRIBUTES[..], &[("content-type", "application/json")]].concat();
    let request = post(&server, "/v1/events?kind=MetricLogged", &headers, DATA);
    refused(request, 400, "bad_parameter").await;
    // Pages of other sites cannot hide behind headers.
    let headers = [&ATTRIBUTES[..], &[("origin", "http://example.com")]].concat();
    let request = post(&server, "/v1/events", &headers, DATA);
    refused(request, 403, "cross_site").await;
    assert_eq!(server.tail(), 0);
}
