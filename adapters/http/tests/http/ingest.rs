//! `POST /v1/events`: every format, every bad input; nothing of a refused call is in the log.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::harness::{TestServer, answer, gzip, refused, send, zstd};

const METRIC: &str = r#"{"type":"MetricLogged","run":"r","name":"loss","value":0.5}"#;

fn prediction(id: u32) -> String {
    json!({
        "type": "PredictionLogged", "id": format!("p-{id}"), "model": "m", "version": "v",
        "input": {"pixels": [0, 1, 2]}, "output": {"class": 7}, "confidence": 0.9,
    })
    .to_string()
}

fn arrow_stream(kind: Option<&str>) -> Vec<u8> {
    let columns: [(&str, ArrayRef); 4] = [
        ("run", Arc::new(StringArray::from(vec!["r", "r"]))),
        ("name", Arc::new(StringArray::from(vec!["loss", "loss"]))),
        ("value", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
        (
            "split",
            Arc::new(StringArray::from(vec![Some("val"), None])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut schema = (*batch.schema()).clone();
    if let Some(kind) = kind {
        schema
            .metadata
            .insert("modelog.kind".to_owned(), kind.to_owned());
    }
    let batch = batch.with_schema(Arc::new(schema)).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

#[tokio::test]
async fn every_format_is_taken_and_durable() {
    let server = TestServer::start().await;
    let cloud = |id: u32| {
        json!({
            "specversion": "1.0", "type": "MetricLogged", "source": "/tests", "id": id.to_string(),
            "data": {"run": "r", "name": "loss", "value": 0.25},
        })
    };
    let events = "/v1/events";
    let bodies: Vec<(&str, &str, Vec<u8>, u64)> = vec![
        (events, "application/json", METRIC.into(), 1),
        (
            events,
            "Application/JSON; charset=UTF-8",
            format!("[{METRIC},{METRIC}]").into(),
            2,
        ),
        (
            events,
            "application/x-ndjson",
            format!("{METRIC}\n\n{METRIC}").into(),
            2,
        ),
        (
            events,
            "application/cloudevents+json",
            cloud(1).to_string().into(),
            1,
        ),
        (
            events,
            "application/cloudevents-batch+json",
            json!([cloud(2), cloud(3)]).to_string().into(),
            2,
        ),
        (
            events,
            "application/vnd.apache.arrow.stream",
            arrow_stream(Some("MetricLogged")),
            2,
        ),
        (
            "/v1/events?kind=metric_logged",
            "application/vnd.apache.arrow.stream",
            arrow_stream(None),
            2,
        ),
    ];
    let mut tail = 0;
    for (path, media_type, body, count) in bodies {
        let request = server.client.post(server.url(path));
        let request = request.header("content-type", media_type).body(body);
        let (status, reply) = answer(request).await;
        let expected = json!({
            "accepted": count, "rejected": 0, "duplicates": 0,
            "first_offset": tail, "end_offset": tail + count, "unknown_fields": {},
        });
        assert_eq!((status, reply), (200, expected), "{media_type}");
        tail += count;
        assert_eq!(server.tail(), tail);
    }
    let events = server.events(0);
    assert_eq!(events.len() as u64, tail);
    assert!(events.iter().all(|event| event["name"] == "loss"));
    assert_eq!(events[tail as usize - 1]["value"], "NaN");
    // The same after a restart.
    let server = TestServer::start_in(server.stop().await, |_| {}).await;
    assert_eq!(server.events(0), events);
}

#[tokio::test]
async fn nothing_is_a_batch_too() {
    let server = TestServer::start().await;
    for (media_type, body) in [
        ("application/json", "[]"),
        ("application/json", ""),
        ("application/x-ndjson", ""),
        ("application/x-ndjson", "\n \n"),
        ("application/cloudevents-batch+json", "[]"),
    ] {
        let request = server.client.post(server.url("/v1/events"));
        let request = request.header("content-type", media_type).body(body);
        let (status, reply) = answer(request).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(
            reply,
            json!({
                "accepted": 0, "rejected": 0, "duplicates": 0,
                "first_offset": null, "end_offset": null, "unknown_fields": {},
            })
        );
    }
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let server = TestServer::start().await;
    let lines: String = (0..5000).map(|id| prediction(id) + "\n").collect();
    let members = [
        gzip(&lines.as_bytes()[..1000]),
        gzip(&lines.as_bytes()[1000..]),
    ]
    .concat();
    let frames = [
        zstd(&lines.as_bytes()[..1000]),
        skippable_frame(b"a note"),
        zstd(&lines.as_bytes()[1000..]),
    ]
    .concat();
    let mut accepted = 5000;
    for (encoding, body) in [
        ("gzip", gzip(lines.as_bytes())),
        ("X-GZip", members),
        ("zstd", zstd(lines.as_bytes())),
        ("zstd", frames),
        ("identity", lines.clone().into_bytes()),
    ] {
        let request = server.client.post(server.url("/v1/events"));
        let request = request
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", encoding)
            .body(body);
        let (status, reply) = answer(request).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reply["accepted"], accepted, "{encoding}: {reply}");
        assert_eq!(reply["duplicates"], 5000 - accepted, "{encoding}: {reply}");
        accepted = 0;
    }
    assert_eq!(server.tail(), 5000);
}

fn skippable_frame(content: &[u8]) -> Vec<u8> {
    let mut frame = 0x184D_2A50_u32.to_le_bytes().to_vec();
    frame.extend((content.len() as u32).to_le_bytes());
    frame.extend(content);
    frame
}

#[tokio::test]
async fn bad_events_are_located_and_nothing_is_appended() {
    let server = TestServer::start().await;
    for (media_type, body, code) in [
        (
            "application/json",
            r#"{"type":"MetricLogged","run":"r","name":"loss""#,
            "bad_json",
        ),
        ("application/json", r#"{"type":"Nonsense"}"#, "unknown_kind"),
        (
            "application/json",
            r#"{"type":"EntityNamed","entity_kind":"model","entity_id":1,"name":"m"}"#,
            "internal_kind",
        ),
        (
            "application/json",
            r#"{"type":"MetricLogged","run":"r","name":"loss","value":"high"}"#,
            "wrong_type",
        ),
        (
            "application/json",
            r#"{"type":"MetricLogged","run":"r","name":"loss"}"#,
            "missing_field",
        ),
        (
            "application/json",
            r#"{"type":"MetricLogged","name":"loss","value":1}"#,
            "incomplete_event",
        ),
        (
            "application/json",
            r#"{"type":"ModelCreated","model":""}"#,
            "empty_value",
        ),
        (
            "application/json",
            r#"{"type":"ModelCreated","model":"a\u0000b"}"#,
            "control_character",
        ),
        (
            "application/json",
            r#"{"type":"ModelCreated","model":"m","description":"\ud800"}"#,
            "unpaired_surrogate",
        ),
        (
            "application/json",
            r#"{"type":"ModelCreated","model":"m","model":"n"}"#,
            "repeated_field",
        ),
        (
            "application/json",
            r#"{"type":"RunStarted","run":"r","time":1795366800}"#,
            "bad_time",
        ),
        ("application/x-ndjson", "[]", "not_an_object"),
        (
            "application/cloudevents+json",
            r#"{"specversion":"9","type":"MetricLogged","source":"s","id":"1"}"#,
            "bad_cloud_event",
        ),
        (
            "application/vnd.apache.arrow.stream",
            "not arrow",
            "bad_arrow",
        ),
    ] {
        let request = server.client.post(server.url("/v1/events"));
        let request = request.header("content-type", media_type).body(body);
        let problem = refused(request, 400, "invalid_events").await;
        assert_eq!(problem["errors"][0]["code"], code, "{problem}");
        assert_eq!(problem["errors"][0]["event"], 0, "{problem}");
        assert!(!problem["errors"][0]["message"].as_str().unwrap().is_empty());
    }
    let name = format!(r#"{{"type":"ModelCreated","model":"{}"}}"#, "n".repeat(501));
    let problem = refused(server.post("/v1/events", name), 400, "invalid_events").await;
    assert_eq!(problem["errors"][0]["code"], "too_long");
    assert_eq!(problem["errors"][0]["field"], "model");
    let deep = format!(
        r#"{{"type":"EventLogged","name":"n","data":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let problem = refused(server.post("/v1/events", deep), 400, "invalid_events").await;
    assert_eq!(problem["errors"][0]["code"], "too_deep");
    let invalid = server.client.post(server.url("/v1/events"));
    let invalid = invalid
        .header("content-type", "application/json")
        .body(b"{\"type\":\"ModelCreated\",\"model\":\"\xff\"}".to_vec());
    let problem = refused(invalid, 400, "invalid_events").await;
    assert_eq!(problem["errors"][0]["code"], "invalid_utf8");
    assert_eq!(problem["errors"][0]["byte"], 32);
    assert_eq!(server.tail(), 0);
    server.assert_alive().await;
}

#[tokio::test]
async fn the_page_on_errors_shows_a_real_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```json\n").nth(1).unwrap();
    let example: Value = serde_json::from_str(example.split("```").next().unwrap()).unwrap();
    let server = TestServer::start().await;
    let bad = METRIC.replace("0.5", r#""high""#);
    let request = server.client.post(server.url("/v1/events"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(format!("{METRIC}\n{METRIC}\n{bad}\n"));
    assert_eq!(refused(request, 400, "invalid_events").await, example);
}

#[tokio::test]
async fn up_to_a_hundred_errors_are_listed_by_line() {
    let server = TestServer::start().await;
    let mut lines = vec![METRIC.to_owned(); 300];
    for at in (0..300).step_by(2) {
        lines[at] = METRIC.replace("0.5", "true");
    }
    let request = server.client.post(server.url("/v1/events"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(lines.join("\n"));
    let problem = refused(request, 400, "invalid_events").await;
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 100);
    assert_eq!(problem["errors_total"], 150);
    assert_eq!(errors[1]["event"], 2);
    assert_eq!(errors[1]["line"], 3);
    assert_eq!(errors[1]["field"], "value");
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn bad_events_can_be_recorded_instead() {
    let server = TestServer::start().await;
    let bad = r#"{"type":"MetricLogged","run":"r","name":"loss","value":[]}"#;
    let body = format!("{METRIC}\n{bad}\n{METRIC}");
    let request = server.client.post(server.url("/v1/events?on_error=skip"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(body);
    let (status, reply) = answer(request).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(
        (&reply["accepted"], &reply["rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&reply["first_offset"], &reply["end_offset"]),
        (&json!(0), &json!(3))
    );
    let events = server.events(0);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["MetricLogged", "EventRejected", "MetricLogged"]);
    assert_eq!(events[1]["reason"], "wrong_type");
    // A conflicting id is recorded too; without skip it refuses the call.
    let first = r#"{"type":"EventLogged","id":"e","name":"a"}"#;
    let other = r#"{"type":"EventLogged","id":"e","name":"b"}"#;
    assert_eq!(answer(server.post("/v1/events", first)).await.0, 200);
    let problem = refused(server.post("/v1/events", other), 409, "id_conflict").await;
    assert_eq!(problem["errors"][0]["event"], 0);
    let (status, reply) = answer(server.post("/v1/events?on_error=skip", other)).await;
    assert_eq!((status, &reply["rejected"]), (200, &json!(1)), "{reply}");
    assert_eq!(server.events(0).last().unwrap()["reason"], "id_conflict");
}

#[tokio::test]
async fn unknown_fields_are_kept_and_counted_or_refused() {
    let server = TestServer::start().await;
    let body = METRIC.replace("0.5", r#"0.5,"gpu":"a100""#);
    let (status, reply) = answer(server.post("/v1/events", format!("[{body},{body}]"))).await;
    assert_eq!(
        (status, &reply["unknown_fields"]),
        (200, &json!({"gpu": 2}))
    );
    assert_eq!(server.events(0)[0]["extra"], json!({"gpu": "a100"}));
    let problem = refused(
        server.post("/v1/events?strict=true", body),
        400,
        "invalid_events",
    )
    .await;
    assert_eq!(problem["errors"][0]["code"], "unknown_field");
    assert_eq!(problem["errors"][0]["field"], "gpu");
    assert_eq!(server.tail(), 2);
}

#[tokio::test]
async fn duplicates_are_told() {
    let server = TestServer::start().await;
    let body = format!("[{},{},{}]", prediction(1), prediction(2), prediction(1));
    let (_, reply) = answer(server.post("/v1/events", body.clone())).await;
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"]),
        (&json!(2), &json!(1))
    );
    let (status, reply) = answer(server.post("/v1/events", body)).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(
        (&reply["first_offset"], &reply["end_offset"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(server.tail(), 2);
}

#[tokio::test]
async fn only_the_listed_types_are_taken() {
    let server = TestServer::start().await;
    for media_type in [
        None,
        Some("text/plain"),
        Some("text/plain;charset=UTF-8"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/json; charset=utf-16"),
        Some("application/jsonx"),
        Some(""),
    ] {
        for path in ["/v1/events", "/v1/models", "/v1/runs/r/metrics"] {
            let mut request = server.client.post(server.url(path)).body(METRIC);
            if let Some(media_type) = media_type {
                request = request.header("content-type", media_type);
            }
            let problem = refused(request, 415, "unsupported_media_type").await;
            assert!(
                problem["detail"]
                    .as_str()
                    .unwrap()
                    .contains("application/json")
            );
        }
    }
    let encoded = server
        .post("/v1/events", METRIC)
        .header("content-encoding", "br");
    let response = send(encoded).await;
    assert_eq!(response.headers()["accept-encoding"], "gzip, zstd");
    let encoded = server
        .post("/v1/events", METRIC)
        .header("content-encoding", "gzip, gzip");
    refused(encoded, 415, "unsupported_encoding").await;
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn parameters_are_checked() {
    let server = TestServer::start().await;
    let problem = refused(
        server.post("/v1/events?on_eror=skip", METRIC),
        400,
        "unknown_parameter",
    )
    .await;
    assert!(problem["detail"].as_str().unwrap().contains("`on_error`"));
    for (query, parameter) in [
        ("on_error=ignore", "on_error"),
        ("strict=1", "strict"),
        ("strict=true&strict=true", "strict"),
        ("kind=MetricLogged", "kind"),
        ("kind=Nonsense", "kind"),
        ("on_error=%ff", "on_error"),
    ] {
        let request = server.post(&format!("/v1/events?{query}"), METRIC);
        let problem = refused(request, 400, "bad_parameter").await;
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{problem}");
    }
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn bodies_that_lie_about_their_compression_are_refused() {
    let server = TestServer::start_with(|config| {
        config.body_bytes = 1 << 20;
        config.decoded_bytes = 4 << 20;
        config.bodies_bytes = 8 << 20;
    })
    .await;
    let post = |encoding: &'static str, body: Vec<u8>| {
        server
            .client
            .post(server.url("/v1/events"))
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", encoding)
            .body(body)
    };
    let whole = zstd(METRIC.as_bytes());
    let gzipped = gzip(METRIC.as_bytes());
    for (encoding, body) in [
        ("gzip", METRIC.into()),
        ("zstd", METRIC.into()),
        ("gzip", gzipped[..gzipped.len() - 3].to_vec()),
        ("zstd", whole[..whole.len() - 3].to_vec()),
        ("gzip", [gzipped.clone(), b"rest".to_vec()].concat()),
        ("zstd", [whole.clone(), b"rest".to_vec()].concat()),
        // Parts without content, as many as fit.
        ("gzip", gzip(b"").repeat(20_000)),
        ("zstd", skippable_frame(b"").repeat(100_000)),
    ] {
        refused(post(encoding, body), 400, "bad_encoding").await;
    }
    // Bombs: a few KiB that become more than allowed, and a window of 64 MiB.
    let blank = vec![b'\n'; 64 << 20];
    refused(post("gzip", gzip(&blank)), 413, "too_large").await;
    refused(post("zstd", zstd(&blank)), 413, "too_large").await;
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(26).unwrap();
    std::io::copy(&mut &blank[..], &mut wide).unwrap();
    refused(post("zstd", wide.finish().unwrap()), 400, "bad_encoding").await;
    // Larger than allowed as sent, whatever is in it.
    let frame = skippable_frame(&vec![0; 2 << 20]);
    refused(post("zstd", frame), 413, "too_large").await;
    assert_eq!(server.tail(), 0);
    server.assert_alive().await;
}

#[tokio::test]
async fn oversized_bodies_are_refused_with_or_without_their_length() {
    let server = TestServer::start_with(|config| {
        config.body_bytes = 100_000;
        config.decoded_bytes = 100_000;
        config.bodies_bytes = 200_000;
    })
    .await;
    let large = format!("{METRIC}\n").repeat(200_000);
    let request = server.client.post(server.url("/v1/events"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(large.clone());
    refused(request, 413, "too_large").await;
    let chunks = large
        .into_bytes()
        .chunks(10_000)
        .map(<[u8]>::to_vec)
        .collect::<Vec<_>>();
    let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    let request = server.client.post(server.url("/v1/events"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(chunks));
    refused(request, 413, "too_large").await;
    assert_eq!(server.tail(), 0);
    server.assert_alive().await;
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let server = TestServer::start_with(|config| {
        config.body_bytes = 1 << 20;
        config.decoded_bytes = 1 << 20;
        config.bodies_bytes = 2 << 20;
    })
    .await;
    let large = format!("[{METRIC}{}]", " ".repeat(500_000));
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 1048576\r\n\r\n";
    let begun = [head.as_bytes(), &[b' '; 1_000_000]].concat();
    // Bodies that are begun and not finished hold what they have sent; more of them until there is no room.
    let mut held = Vec::new();
    let mut refusal = answer(server.post("/v1/events", large.clone())).await;
    while refusal.0 == 200 {
        let mut socket = server.connect().await;
        socket.write_all(&begun).await.unwrap();
        held.push(socket);
        // The server reads at its own pace.
        tokio::time::sleep(Duration::from_millis(50)).await;
        refusal = answer(server.post("/v1/events", large.clone())).await;
    }
    assert_eq!((refusal.0, &refusal.1["code"]), (429, &json!("backlog")));
    drop(held);
    let mut taken = answer(server.post("/v1/events", large.clone())).await;
    while taken.0 == 429 {
        taken = answer(server.post("/v1/events", large.clone())).await;
    }
    assert_eq!(taken.0, 200, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_lose_nothing() {
    let server = Arc::new(TestServer::start().await);
    let clients: Vec<_> = (0..8_u32)
        .map(|client| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for call in 0..20 {
                    let lines: String = (0..100)
                        .map(|event| prediction(client * 10_000 + call * 100 + event) + "\n")
                        .collect();
                    let request = server.client.post(server.url("/v1/events"));
                    let request = request
                        .header("content-type", "application/x-ndjson")
                        .body(lines);
                    let (status, reply) = answer(request).await;
                    assert_eq!((status, &reply["accepted"]), (200, &json!(100)));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let events = server.events(0);
    let mut ids: Vec<_> = events
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 8 * 20 * 100);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8 * 20 * 100);
}
