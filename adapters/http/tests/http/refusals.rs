//! When the log cannot take events: what is answered, and that nothing is lost or taken twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::disk::wishful;
use crate::harness::{TestServer, answer, refused};

const EVENT: &str = r#"{"type":"EventLogged","id":"e-1","name":"a"}"#;

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_space() {
    let (foundations, wishes) = wishful();
    let data = tempfile::tempdir().unwrap();
    let server = TestServer::start_on(data, foundations, |_| {}).await;
    server.assert_alive().await;
    let plenty = wishes.free.swap(0, Ordering::SeqCst);
    // The log looks at the disk when it needs a new segment, so fill the one it has.
    let event = format!(
        r#"{{"type":"EventLogged","name":"a","data":"{}"}}"#,
        "x".repeat(300_000)
    );
    let mut reply = answer(server.post("/v1/events", event.clone())).await;
    while reply.0 == 200 {
        reply = answer(server.post("/v1/events", event.clone())).await;
    }
    assert_eq!((reply.0, &reply.1["code"]), (503, &json!("disk_full")));
    refused(server.post("/v1/events", EVENT), 503, "disk_full").await;
    refused(server.get("/readyz"), 503, "disk_full").await;
    assert_eq!(answer(server.get("/healthz")).await.0, 200);
    assert_eq!(answer(server.get("/v1/models")).await.0, 200, "reads go on");
    let tail = server.tail();
    wishes.free.store(plenty, Ordering::SeqCst);
    let mut reply = answer(server.post("/v1/events", EVENT)).await;
    while reply.0 == 503 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply = answer(server.post("/v1/events", EVENT)).await;
    }
    assert_eq!((reply.0, &reply.1["first_offset"]), (200, &json!(tail)));
    assert_eq!(answer(server.get("/readyz")).await.0, 200);
}

#[tokio::test]
async fn a_failed_sync_is_unknown_once_then_poisoned_and_repeating_is_safe() {
    let (foundations, wishes) = wishful();
    let data = tempfile::tempdir().unwrap();
    let server = TestServer::start_on(data, foundations, |_| {}).await;
    server.assert_alive().await;
    wishes.fail_syncs.store(true, Ordering::SeqCst);
    refused(server.post("/v1/events", EVENT), 503, "outcome_unknown").await;
    wishes.fail_syncs.store(false, Ordering::SeqCst);
    refused(server.post("/v1/events", EVENT), 503, "poisoned").await;
    refused(
        server.post("/v1/models", r#"{"model":"m"}"#),
        503,
        "poisoned",
    )
    .await;
    let problem = refused(server.get("/readyz"), 503, "poisoned").await;
    assert!(
        !problem.to_string().contains("os error"),
        "no reasons for strangers"
    );
    assert_eq!(answer(server.get("/v1/models")).await.0, 200, "reads go on");
    assert_eq!(server.tail(), 1);
    // After a restart the same request is taken once, whatever became of the first.
    let server = TestServer::start_in(crashed(server).await, |_| {}).await;
    assert_eq!(answer(server.post("/v1/events", EVENT)).await.0, 200);
    let named = server.events(0);
    let taken = named.iter().filter(|event| event["id"] == "e-1").count();
    assert_eq!(taken, 1, "{named:?}");
}

/// Ends a server whose log cannot be closed in order.
async fn crashed(server: TestServer) -> tempfile::TempDir {
    let (task, engine, data) = server.begin_stop();
    task.await.unwrap().unwrap();
    // It says that it was poisoned, which is known.
    let _ = engine.close().await;
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_backlog_holds_is_refused_and_the_rest_is_taken() {
    let (foundations, wishes) = wishful();
    let data = tempfile::tempdir().unwrap();
    let server = Arc::new(TestServer::start_on(data, foundations, |_| {}).await);
    server.assert_alive().await;
    wishes.hold();
    let calls: Vec<_> = (0..16)
        .map(|call| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let name = format!("call-{call}");
                let data = "x".repeat(200_000);
                let event = json!({"type": "EventLogged", "name": name, "data": data});
                (
                    name,
                    answer(server.post("/v1/events", event.to_string())).await,
                )
            })
        })
        .collect();
    // Those that find room wait for the disk; the first refusal shows that there is none left.
    let refusals = || calls.iter().filter(|call| call.is_finished()).count();
    while refusals() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let readiness = answer(server.get("/readyz")).await;
    assert_eq!(readiness.0, 200, "a backlog passes: {readiness:?}");
    wishes.release();
    let mut taken = Vec::new();
    let mut refused = 0;
    for call in calls {
        let (name, (status, reply)) = call.await.unwrap();
        match status {
            200 => taken.push(Value::from(name)),
            _ => {
                assert_eq!(
                    (status, &reply["code"]),
                    (429, &json!("backlog")),
                    "{reply}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && !taken.is_empty(),
        "{refused} refused, {taken:?} taken"
    );
    let mut logged: Vec<_> = server
        .events(1)
        .iter()
        .map(|event| event["name"].clone())
        .collect();
    logged.sort_by_key(Value::to_string);
    taken.sort_by_key(Value::to_string);
    assert_eq!(logged, taken);
}
