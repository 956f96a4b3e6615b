//! What servers on developers' machines were attacked with, tried on this one: MLflow's CVEs are the list. Each test here
//! and many in `safety` and `ingest` have a patch in `tests/reverts/` that takes the remedy away.

use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::json;

use crate::harness::{TestServer, answer, refused, send};

/// CVE-2023-6568: a media type that was not understood came back in a page, and the browser ran it.
#[tokio::test]
async fn what_was_sent_comes_back_as_data_and_never_as_a_page() {
    let server = TestServer::start().await;
    let script = "<script>alert(1)</script>";
    let events = server.url("/v1/events");
    let typed = |content_type: &str| {
        let request = server.client.post(&events);
        request.header("content-type", content_type).body("{}")
    };
    for content_type in [format!("text/html{script}"), script.to_owned()] {
        refused(typed(&content_type), 415, "unsupported_media_type").await;
    }
    let model = json!({"model": script, "description": script}).to_string();
    assert_eq!(answer(server.post("/v1/models", model)).await.0, 201);
    let path = "/v1/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for (request, data) in [
        (typed(script), "application/problem+json"),
        (server.get("/%3Cscript%3E"), "application/problem+json"),
        (server.get(path), "application/json"),
        (server.get("/v1/events"), "application/x-ndjson"),
    ] {
        let response = send(request).await;
        let headers = response.headers();
        let found = headers["content-type"].to_str().unwrap().to_owned();
        assert!(found.starts_with(data), "{found} instead of {data}");
        let sniffing = headers.get("x-content-type-options");
        assert_eq!(
            sniffing.map(|value| value.as_bytes()),
            Some(&b"nosniff"[..]),
            "a browser may guess what {data} is"
        );
    }
}

/// CVE-2026-2393: the server fetched what an event named. Ours are text, whatever they look like.
#[tokio::test]
async fn nothing_that_an_event_names_is_ever_fetched() {
    let trap = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = trap.local_addr().unwrap();
    let server = TestServer::start().await;
    let uri = format!("http://{address}/latest/meta-data");
    for (path, body) in [
        ("/v1/models", json!({"model": "m", "description": uri})),
        (
            "/v1/models/m/versions",
            json!({"version": "v", "checkpoint_path": uri, "digest": "sha256:0"}),
        ),
        ("/v1/datasets", json!({"dataset": "d", "uri": uri})),
        ("/v1/runs", json!({"run": "r", "code": uri})),
        ("/v1/runs/r/artifacts", json!({"uri": uri})),
        ("/v1/models/m/versions/v/artifacts", json!({"uri": uri})),
    ] {
        let (status, reply) = answer(server.post(path, body.to_string())).await;
        assert!(status < 300, "{path}: {reply}");
    }
    let event = json!({"type": "ArtifactLogged", "run": "r", "uri": uri});
    assert_eq!(
        answer(server.post("/v1/events", event.to_string())).await.0,
        200
    );
    for path in [
        "/v1/models/m",
        "/v1/models/m/versions/v",
        "/v1/datasets",
        "/v1/runs/r",
        "/v1/stats",
    ] {
        assert_eq!(send(server.get(path)).await.status(), 200, "{path}");
    }
    let (_, version) = answer(server.get("/v1/models/m/versions/v")).await;
    assert_eq!(version["checkpoint_path"], uri, "it is kept as text");
    match trap.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("the server fetched what an event names: {other:?}"),
    }
}
