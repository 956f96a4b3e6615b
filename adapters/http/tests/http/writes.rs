//! The unified API: what each call writes, and what it answers.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::{TestServer, answer, refused};

/// Sends a request that adds one event, and hands out the answer and that event.
async fn one(server: &TestServer, request: RequestBuilder) -> (u16, Value, Value) {
    let before = server.tail();
    let (status, reply) = answer(request).await;
    let mut events = server.events(before);
    assert_eq!(events.len(), 1, "{status} {reply}");
    assert_eq!(reply["end_offset"], before + 1, "{reply}");
    (status, reply, events.remove(0))
}

fn has(event: &Value, fields: Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(event[name], *value, "{event}");
    }
}

#[tokio::test]
async fn entities_are_created_with_ids() {
    let server = TestServer::start().await;
    for (path, body, reply_has, event_has) in [
        (
            "/v1/models",
            json!({"model": "resnet50", "framework": "PyTorch"}),
            json!({"id": 1, "model": "resnet50"}),
            json!({"type": "ModelCreated", "framework": "PyTorch"}),
        ),
        (
            "/v1/models/resnet50/versions",
            json!({"version": "v1", "config": {"layers": 50}}),
            json!({"id": 1, "model": "resnet50", "version": "v1"}),
            json!({"type": "ModelVersionCreated", "model": "resnet50", "config": {"layers": 50}}),
        ),
        (
            "/v1/models/1/versions?by=id",
            json!({"version": "v2"}),
            json!({"id": 2, "model": "resnet50", "version": "v2"}),
            json!({"type": "ModelVersionCreated", "model": "resnet50"}),
        ),
        (
            "/v1/datasets",
            json!({"dataset": "digits", "row_count": 1797}),
            json!({"id": 1, "dataset": "digits"}),
            json!({"type": "DatasetRegistered", "row_count": 1797}),
        ),
        (
            "/v1/experiments",
            json!({"experiment": "baseline"}),
            json!({"id": 1, "experiment": "baseline"}),
            json!({"type": "ExperimentCreated"}),
        ),
        (
            "/v1/runs",
            json!({"run": "r-1", "experiment": "baseline", "time": "2026-11-22T17:00:00Z"}),
            json!({"id": 1, "run": "r-1"}),
            json!({"type": "RunStarted", "run": "r-1", "time": "2026-11-22T17:00:00Z"}),
        ),
    ] {
        let (status, reply, event) = one(&server, server.post(path, body.to_string())).await;
        assert_eq!(status, 201, "{reply}");
        has(&reply, reply_has);
        has(&event, event_has);
    }
    // A run without a name is given one.
    let (status, reply, event) = one(&server, server.post("/v1/runs", r#"{"run":null}"#)).await;
    assert_eq!((status, &reply["id"]), (201, &json!(2)));
    assert_eq!(reply["run"], event["run"]);
    let (status, reply, event) = one(&server, server.post("/v1/runs", "")).await;
    assert_eq!((status, &reply["id"]), (201, &json!(3)));
    assert_eq!(reply["run"], event["run"]);
}

#[tokio::test]
async fn creating_again_is_fine_if_it_is_the_same() {
    let server = TestServer::start().await;
    let body = json!({"model": "m", "framework": "jax", "tags": {"a": 1}}).to_string();
    let (status, first) = answer(server.post("/v1/models", body.clone())).await;
    assert_eq!(status, 201);
    let (status, again) = answer(server.post("/v1/models", body)).await;
    assert_eq!(status, 200);
    assert_eq!((&again["id"], &again["model"]), (&first["id"], &json!("m")));
    assert_eq!(server.tail(), 1);
    let other = json!({"model": "m", "framework": "torch"}).to_string();
    let problem = refused(
        server.post("/v1/models", other.clone()),
        409,
        "entity_conflict",
    )
    .await;
    assert!(
        problem["detail"].as_str().unwrap().contains("framework"),
        "{problem}"
    );
    let merge = server.post("/v1/models?on_conflict=merge", other);
    let (status, reply, _) = one(&server, merge).await;
    assert_eq!((status, &reply["id"]), (201, &json!(1)));
    // A placeholder is not a creation: filling it in is no conflict.
    answer(server.post("/v1/predictions", r#"{"model":"p","version":"v"}"#)).await;
    let (status, reply) =
        answer(server.post("/v1/models", r#"{"model":"p","framework":"x"}"#)).await;
    assert_eq!((status, &reply["id"]), (201, &json!(2)));
    refused(
        server.post("/v1/models?on_conflict=ignore", "{}"),
        400,
        "bad_parameter",
    )
    .await;
}

#[tokio::test]
async fn arrays_are_answered_item_by_item() {
    let server = TestServer::start().await;
    let body = json!([{"version": "v1"}, {"version": "v2", "model": "m"}]).to_string();
    let (status, reply) = answer(server.post("/v1/models/m/versions", body)).await;
    assert_eq!(status, 201, "{reply}");
    assert_eq!(
        reply["items"],
        json!([{"id": 1, "model": "m", "version": "v1"}, {"id": 2, "model": "m", "version": "v2"}])
    );
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"]),
        (&json!(2), &json!(0))
    );
    let body = json!([{"version": "v1"}, {"version": "v3"}]).to_string();
    let (status, reply) = answer(server.post("/v1/models/m/versions", body)).await;
    assert_eq!(status, 201);
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(reply["items"][1]["id"], 3);
    let (status, reply) = answer(server.post("/v1/models", "[]")).await;
    assert_eq!((status, &reply["items"]), (200, &json!([])));
    // One of them is bad: none is created.
    let body = json!([{"model": "a"}, {"model": ""}]).to_string();
    let problem = refused(server.post("/v1/models", body), 400, "invalid_events").await;
    assert_eq!(problem["errors"][0]["event"], 1);
    // Runs in an array have names.
    let problem = refused(
        server.post("/v1/runs", r#"[{"run":"a"},{}]"#),
        400,
        "invalid_events",
    )
    .await;
    assert_eq!(problem["errors"][0]["field"], "run");
    assert_eq!(server.tail(), 3);
}

#[tokio::test]
async fn a_byte_order_mark_and_blanks_change_nothing() {
    let server = TestServer::start().await;
    let marked = |body: &str| format!("\u{feff}\r\n {body}\n");
    let (status, reply) = answer(server.post("/v1/models", marked(r#"{"model":"m"}"#))).await;
    assert_eq!((status, &reply["id"]), (201, &json!(1)));
    let (status, reply) = answer(server.post("/v1/models", marked(r#"[{"model":"n"}]"#))).await;
    assert_eq!((status, &reply["items"][0]["id"]), (201, &json!(2)));
    let (status, reply) = answer(server.post("/v1/runs", marked("{}"))).await;
    assert_eq!((status, &reply["id"]), (201, &json!(1)));
    let prediction = marked(r#"{"model":"m","version":"v","prediction_id":"p"}"#);
    let (status, reply) = answer(server.post("/v1/predictions", prediction)).await;
    assert_eq!((status, &reply["prediction_id"]), (201, &json!("p")));
}

#[tokio::test]
async fn a_call_creates_a_bounded_number_of_entities() {
    let server = TestServer::start().await;
    let models = |count: u32| -> String {
        let models: Vec<_> = (0..count)
            .map(|number| json!({"model": number.to_string()}))
            .collect();
        Value::from(models).to_string()
    };
    refused(server.post("/v1/models", models(10_001)), 413, "too_large").await;
    // As many empty objects as fit: refused for what they lack.
    let empty = format!("[{}{{}}]", "{},".repeat(2_000_000));
    refused(server.post("/v1/models", empty), 400, "invalid_events").await;
    assert_eq!(server.tail(), 0);
    let (status, reply) = answer(server.post("/v1/models", models(10_000))).await;
    assert_eq!((status, &reply["accepted"]), (201, &json!(10_000)));
    assert_eq!(
        reply["items"][9_999],
        json!({"id": 10_000, "model": "9999"})
    );
}

#[tokio::test]
async fn facts_are_logged_under_their_paths() {
    let server = TestServer::start().await;
    answer(server.post("/v1/runs", r#"{"run":"r/1"}"#)).await;
    for (path, body, event_has) in [
        (
            "/v1/runs/r%2F1/params",
            json!({"params": {"lr": 0.1, "layers": [1, 2]}}),
            json!({"type": "HyperparametersLogged", "run": "r/1", "params": {"lr": 0.1, "layers": [1, 2]}}),
        ),
        (
            "/v1/runs/1/metrics?by=id",
            json!({"name": "loss", "value": "NaN", "step": 3, "split": "val"}),
            json!({"type": "MetricLogged", "run": "r/1", "value": "NaN", "step": 3}),
        ),
        (
            "/v1/models/m/versions/v/metrics",
            json!({"name": "accuracy", "value": 0.9}),
            json!({"type": "MetricLogged", "model": "m", "version": "v", "value": 0.9}),
        ),
        (
            "/v1/runs/r%2F1/artifacts",
            json!({"uri": "file:///etc/passwd", "size_bytes": 7}),
            json!({"type": "ArtifactLogged", "run": "r/1", "uri": "file:///etc/passwd"}),
        ),
        (
            "/v1/models/1/versions/1/artifacts?by=id",
            json!({"uri": "s3://b/k"}),
            json!({"type": "ArtifactLogged", "model": "m", "version": "v"}),
        ),
        (
            "/v1/predictions",
            json!({"model": "m", "version": "v", "output": {"class": 7}, "input_data": [1]}),
            json!({"type": "PredictionLogged", "output": {"class": 7}, "input": [1]}),
        ),
        (
            "/v1/feedback",
            json!({"prediction_id": "6", "true_class": "7"}),
            json!({"type": "FeedbackLogged", "prediction_id": "6"}),
        ),
        (
            "/v1/runs/r%2F1/finish",
            json!({"status": "failed", "error": "out of memory"}),
            json!({"type": "RunFinished", "run": "r/1", "status": "failed"}),
        ),
    ] {
        let (status, reply, event) = one(&server, server.post(path, body.to_string())).await;
        assert_eq!(status, 201, "{reply}");
        assert_eq!(
            (&reply["accepted"], &reply["duplicates"]),
            (&json!(1), &json!(0))
        );
        has(&event, event_has);
    }
    let bare = server.client.post(server.url("/v1/runs/r%2F1/finish"));
    let (status, _, event) = one(&server, bare).await;
    assert_eq!((status, &event["status"]), (201, &json!("finished")));
    let points = json!([{"name": "loss", "value": 1}, {"name": "loss", "value": 0.5, "step": 1}]);
    let (status, reply) = answer(server.post("/v1/runs/other/metrics", points.to_string())).await;
    assert_eq!((status, &reply["accepted"]), (201, &json!(2)));
}

#[tokio::test]
async fn predictions_say_what_they_are_known_by() {
    let server = TestServer::start().await;
    let id = |reply: &Value| reply["prediction_id"].clone();
    let log = |body: Value| server.post("/v1/predictions", body.to_string());
    let (_, reply) = answer(log(json!({"model": "m", "version": "v"}))).await;
    assert_eq!(id(&reply), "0");
    let (_, reply) = answer(log(json!({"model": "m", "version": "v", "id": "e"}))).await;
    assert_eq!(id(&reply), "e");
    let named = json!({"model": "m", "version": "v", "id": "f", "prediction_id": "p"});
    let (status, reply) = answer(log(named.clone())).await;
    assert_eq!((status, id(&reply)), (201, json!("p")));
    let (status, reply) = answer(log(named)).await;
    assert_eq!((status, id(&reply)), (200, json!("p")));
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"]),
        (&json!(0), &json!(1))
    );
    let (_, reply) = answer(log(json!([{"model": "m", "version": "v"}]))).await;
    assert_eq!(id(&reply), Value::Null);
}

#[tokio::test]
async fn what_path_and_body_say_must_agree() {
    let server = TestServer::start().await;
    let body = json!({"name": "loss", "value": 1, "run": "r"}).to_string();
    assert_eq!(
        answer(server.post("/v1/runs/r/metrics", body.clone()))
            .await
            .0,
        201
    );
    let problem = refused(
        server.post("/v1/runs/other/metrics", body),
        400,
        "invalid_events",
    )
    .await;
    assert_eq!(
        problem["errors"][0]["code"], "conflicting_field",
        "{problem}"
    );
    let body = json!({"name": "loss", "value": 1, "colour": "red"}).to_string();
    let (_, reply) = answer(server.post("/v1/runs/r/metrics", body.clone())).await;
    assert_eq!(reply["unknown_fields"], json!({"colour": 1}));
    let strict = server.post("/v1/runs/r/metrics?strict=true", body);
    refused(strict, 400, "invalid_events").await;
    assert_eq!(server.tail(), 2);
}

#[tokio::test]
async fn aliases_and_tags_change() {
    let server = TestServer::start().await;
    answer(server.post("/v1/models/m/versions", r#"{"version":"v/1"}"#)).await;
    let set = server.put("/v1/models/m/aliases/prod", r#"{"version":"v/1"}"#);
    let (status, _, event) = one(&server, set).await;
    assert_eq!(status, 200);
    has(
        &event,
        json!({"type": "ModelVersionAliased", "model": "m", "alias": "prod", "version": "v/1"}),
    );
    let (status, _, event) = one(&server, server.delete("/v1/models/m/aliases/prod")).await;
    assert_eq!(status, 200);
    has(
        &event,
        json!({"type": "ModelVersionAliased", "alias": "prod", "version": null}),
    );
    refused(
        server.delete("/v1/models/nobody/aliases/prod"),
        404,
        "not_found",
    )
    .await;
    refused(
        server.put("/v1/models/m/aliases/prod", "{}"),
        400,
        "invalid_events",
    )
    .await;

    answer(server.post(
        "/v1/runs",
        r#"{"run":"r@1","experiment":"e","dataset":"d"}"#,
    ))
    .await;
    for (path, entity) in [
        ("/v1/models/m", "model/m"),
        ("/v1/models/m/versions/v%2F1", "version/m@v%2F1"),
        ("/v1/models/1/versions/1?by=id", "version/m@v%2F1"),
        ("/v1/datasets/d", "dataset/d"),
        ("/v1/experiments/e", "experiment/e"),
        ("/v1/runs/r@1", "run/r%401"),
        ("/v1/runs/1?by=id", "run/r%401"),
    ] {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let tags = server.patch(
            &format!("{path}/tags?{query}"),
            r#"{"tags":{"stage":"prod","old":null}}"#,
        );
        let (status, _, event) = one(&server, tags).await;
        assert_eq!(status, 200);
        has(
            &event,
            json!({"type": "TagsSet", "entity": entity, "tags": {"stage": "prod", "old": null}}),
        );
        let (status, _, event) = one(&server, server.delete(&format!("{path}?{query}"))).await;
        assert_eq!(status, 200);
        has(&event, json!({"type": "EntityDeleted", "entity": entity}));
        let restore = server
            .client
            .post(server.url(&format!("{path}/restore?{query}")));
        let (status, _, event) = one(&server, restore).await;
        assert_eq!(status, 200);
        has(&event, json!({"type": "EntityRestored", "entity": entity}));
    }
}

#[tokio::test]
async fn only_what_is_there_can_be_changed() {
    let server = TestServer::start().await;
    answer(server.post("/v1/models/m/versions", r#"{"version":"v"}"#)).await;
    answer(server.post("/v1/models/n/versions", r#"{"version":"w"}"#)).await;
    let tail = server.tail();
    let tags = r#"{"tags":{}}"#;
    for path in [
        "/v1/models/x",
        "/v1/models/M",
        "/v1/models/m/versions/w",
        "/v1/models/m%20",
        "/v1/runs/x",
        "/v1/datasets/x",
        "/v1/experiments/x",
    ] {
        refused(server.delete(path), 404, "not_found").await;
        refused(
            server.patch(&format!("{path}/tags"), tags),
            404,
            "not_found",
        )
        .await;
        let restore = server.client.post(server.url(&format!("{path}/restore")));
        refused(restore, 404, "not_found").await;
    }
    for path in [
        "/v1/models/7?by=id",
        "/v1/models/0?by=id",
        "/v1/models/1/versions/2?by=id",
    ] {
        refused(server.delete(path), 404, "not_found").await;
    }
    for path in [
        "/v1/models/m?by=id",
        "/v1/models/-1?by=id",
        "/v1/models/99999999999?by=id",
        "/v1/models/m/versions/@prod",
    ] {
        refused(server.delete(path), 400, "bad_path").await;
    }
    let unknown = server.post("/v1/runs/5/metrics?by=id", r#"{"name":"loss","value":1}"#);
    refused(unknown, 404, "not_found").await;
    refused(
        server.delete("/v1/models/m?force=true"),
        400,
        "unknown_parameter",
    )
    .await;
    refused(
        server.patch("/v1/models/m/tags", r#"{"stage":"prod"}"#),
        400,
        "invalid_events",
    )
    .await;
    refused(
        server.patch("/v1/models/m/tags", r#"{"tags":["a"]}"#),
        400,
        "invalid_events",
    )
    .await;
    assert_eq!(server.tail(), tail);
}
