//! Repeated requests: the first answer again, also after a restart; nothing twice in the log.

use serde_json::json;

use crate::harness::{TestServer, answer, refused};

const EVENT: &str =
    r#"[{"type":"EventLogged","name":"a"},{"type":"EventLogged","name":"b","x":1}]"#;

#[tokio::test]
async fn a_key_gets_the_first_answer_again_also_after_a_restart() {
    let server = TestServer::start().await;
    let request = |server: &TestServer, key: &str, body: &str| {
        server
            .post("/v1/events", body)
            .header("idempotency-key", key)
    };
    let first = answer(request(&server, "key ü", EVENT)).await;
    assert_eq!((first.0, &first.1["accepted"]), (200, &json!(2)));
    assert_eq!(first.1["unknown_fields"], json!({"x": 1}));
    server.assert_alive().await;
    assert_eq!(answer(request(&server, "key ü", EVENT)).await, first);
    refused(request(&server, "key ü", "[]"), 422, "key_reused").await;
    let elsewhere = server.post("/v1/events?on_error=skip", EVENT);
    let elsewhere = elsewhere.header("idempotency-key", "key ü");
    refused(elsewhere, 422, "key_reused").await;

    let server = TestServer::start_in(server.stop().await, |_| {}).await;
    assert_eq!(answer(request(&server, "key ü", EVENT)).await, first);
    refused(request(&server, "key ü", "[]"), 422, "key_reused").await;
    assert_eq!(server.tail(), 3);
    let second = answer(request(&server, "another", EVENT)).await;
    assert_eq!(second.1["first_offset"], 3);
}

#[tokio::test]
async fn compressing_a_body_otherwise_makes_no_other_request() {
    let server = TestServer::start().await;
    let plain = server
        .post("/v1/events", EVENT)
        .header("idempotency-key", "k");
    let first = answer(plain).await;
    let zipped = server
        .client
        .post(server.url("/v1/events"))
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .header("idempotency-key", "k")
        .body(crate::harness::gzip(EVENT.as_bytes()));
    assert_eq!(answer(zipped).await, first);
    assert_eq!(server.tail(), 2);
}

#[tokio::test]
async fn repeats_at_the_same_time_are_one() {
    let server = TestServer::start().await;
    let calls = (0..16).map(|_| {
        answer(
            server
                .post("/v1/events", EVENT)
                .header("idempotency-key", "one"),
        )
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers[0].0, 200);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.tail(), 2);
}

#[tokio::test]
async fn a_generated_run_keeps_its_name() {
    let server = TestServer::start().await;
    let request = |server: &TestServer| {
        server
            .post("/v1/runs", r#"{"experiment":"e"}"#)
            .header("idempotency-key", "start")
    };
    let first = answer(request(&server)).await;
    assert_eq!(first.0, 201);
    let run = first.1["run"].as_str().unwrap();
    assert_eq!(run.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    assert_eq!(answer(request(&server)).await, first);
    let server = TestServer::start_in(server.stop().await, |_| {}).await;
    assert_eq!(answer(request(&server)).await, first);
    assert_eq!(server.tail(), 1);
    // Without a key every call starts a run of its own.
    let other = answer(server.post("/v1/runs", "{}")).await;
    assert_eq!((other.0, &other.1["id"]), (201, &json!(2)));
    assert_ne!(other.1["run"], first.1["run"]);
}

#[tokio::test]
async fn producers_go_on_where_they_were_and_old_ones_are_fenced() {
    let server = TestServer::start().await;
    let request = |server: &TestServer, producer: &str| {
        server
            .post("/v1/events", EVENT)
            .header("modelog-producer", producer)
    };
    let first = answer(request(&server, "trainer;1;1")).await;
    let second = answer(request(&server, "trainer;1;2")).await;
    assert_eq!(
        (&first.1["end_offset"], &second.1["end_offset"]),
        (&json!(2), &json!(4))
    );
    assert_eq!(answer(request(&server, "trainer;1;1")).await, first);
    let problem = refused(request(&server, "trainer;1;5"), 409, "sequence_gap").await;
    assert!(
        problem["detail"].as_str().unwrap().contains('3'),
        "{problem}"
    );
    let server = TestServer::start_in(server.stop().await, |_| {}).await;
    assert_eq!(answer(request(&server, "trainer;1;2")).await, second);
    assert_eq!(answer(request(&server, "trainer;2;1")).await.0, 200);
    refused(request(&server, "trainer;1;3"), 409, "stale_producer").await;
    assert_eq!(server.tail(), 6);
}

#[tokio::test]
async fn malformed_keys_and_producers_are_refused() {
    let server = TestServer::start().await;
    let long = "k".repeat(129);
    for (name, value) in [
        ("idempotency-key", ""),
        ("idempotency-key", &long),
        ("modelog-producer", "trainer"),
        ("modelog-producer", "trainer;x;1"),
    ] {
        let request = server.post("/v1/events", EVENT).header(name, value);
        refused(request, 400, "bad_request").await;
    }
    let both = server
        .post("/v1/events", EVENT)
        .header("idempotency-key", "k")
        .header("modelog-producer", "p;1;1");
    refused(both, 400, "bad_request").await;
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn a_closed_log_refuses_and_says_so() {
    let server = TestServer::start().await;
    server.engine.close().await.unwrap();
    refused(server.post("/v1/events", EVENT), 503, "closing").await;
    refused(server.get("/readyz"), 503, "closing").await;
    let (status, _) = answer(server.get("/healthz")).await;
    assert_eq!(status, 200);
}
