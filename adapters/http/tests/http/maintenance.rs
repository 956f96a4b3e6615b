//! Compacting and backing up: who may, what is asked for, what is answered.

use modelog_http::hash_token;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{TestServer, answer, refused, token_file};

/// A server with a control socket, and a client that uses it.
async fn with_socket() -> (TestServer, Client) {
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("control.sock");
    let path = socket.clone();
    let server = TestServer::start_in(data, |config| config.control_socket = Some(path)).await;
    let client = Client::builder().unix_socket(socket).build().unwrap();
    (server, client)
}

fn back_up(client: &Client, body: &Value) -> RequestBuilder {
    client.post("http://modelog/v1/backups").json(body)
}

#[tokio::test]
async fn whoever_may_do_everything_may_compact() {
    let directory = tempfile::tempdir().unwrap();
    let lines = format!(
        "read {}\ningest {}\nadmin {}\n",
        hash_token("r"),
        hash_token("i"),
        hash_token("a")
    );
    let file = token_file(directory.path(), &lines);
    let server = TestServer::start_with(|config| config.token_file = Some(file)).await;
    let compact = || server.client.post(server.url("/v1/compact"));
    refused(compact(), 401, "unauthorized").await;
    refused(compact().bearer_auth("r"), 403, "forbidden").await;
    refused(compact().bearer_auth("i"), 403, "forbidden").await;
    let (status, compacted) = answer(compact().bearer_auth("a")).await;
    assert_eq!(
        (status, &compacted["files"], &compacted["cold_end"]),
        (200, &2.into(), &3.into())
    );
    let foreign = compact()
        .bearer_auth("a")
        .header("origin", "http://evil.example");
    refused(foreign, 403, "cross_site").await;
    let unknown = server.client.post(server.url("/v1/compact?fast=true"));
    refused(unknown.bearer_auth("a"), 400, "unknown_parameter").await;
}

#[tokio::test]
async fn a_backup_is_asked_for_where_it_is_written() {
    let (server, control) = with_socket().await;
    let asked = json!({"path": "/backups", "keep": 3});
    // Without tokens everyone may do everything, save this.
    let network = server.client.post(server.url("/v1/backups")).json(&asked);
    refused(network, 403, "control_only").await;
    let (status, made) = answer(back_up(&control, &asked)).await;
    assert_eq!(
        (status, &made["path"], &made["new_files"]),
        (201, &"/backups/new".into(), &3.into())
    );
    for (body, said) in [
        (json!({}), "path"),
        (json!({"path": "backups"}), "not absolute"),
        (json!({"path": "/backups", "keep": 0}), "at least 1"),
        (json!({"path": "/backups", "keep": -1}), "-1"),
        (json!({"path": "/backups", "kepp": 1}), "kepp"),
        (json!({"path": 5}), "5"),
        (json!("/backups"), "invalid type"),
    ] {
        let problem = refused(back_up(&control, &body), 422, "bad_destination").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{body}: {detail}");
    }
    let untyped = control.post("http://modelog/v1/backups").body("{}");
    refused(untyped, 415, "unsupported_media_type").await;
    let to = |path: &str| back_up(&control, &json!({"path": path}));
    refused(to("/busy"), 409, "busy").await;
    let problem = refused(to("/etc"), 422, "bad_destination").await;
    assert_eq!(problem["detail"], "/etc holds files");
}

#[tokio::test]
async fn a_task_that_fails_is_named_as_degraded() {
    let (server, control) = with_socket().await;
    // The store may not have started yet, which is told as well.
    let degraded = async || {
        let (_, readiness) = answer(server.get("/readyz")).await;
        let mut named = readiness["degraded"].as_array().unwrap().clone();
        named.retain(|named| named.get("task").is_some());
        Value::Array(named)
    };
    assert_eq!(degraded().await, json!([]));
    let broken = back_up(&control, &json!({"path": "/broken"}));
    let problem = refused(broken, 500, "backup_failed").await;
    assert_eq!(problem["detail"], "the disk is broken");
    assert_eq!(
        degraded().await,
        json!([{"task": "backup", "state": "retrying"}])
    );
    let compact = server.client.post(server.url("/v1/compact"));
    let problem = refused(compact, 503, "compaction_failed").await;
    assert_eq!(problem["detail"], "the disk is full");
    server.assert_alive().await;
}
