//! Models, versions, datasets, experiments and runs, by name and by id, in pages and in both forms.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::{ARROW, Site};

const WORLD: &str = r#"
{"type":"ModelCreated","model":"resnet50","architecture":"ResNet-50","framework":"PyTorch","task_type":"classification","description":"the first","tags":{"team": "vision"},"time":"2026-11-22T17:00:00Z"}
{"type":"ModelVersionCreated","model":"resnet50","version":"v1","checkpoint_path":"models/v1.pth","config":{"layers": 50, "layers":51, "seed":123456789012345678901234567890},"signature":[1 ,2],"digest":"sha256:1","run":"r1","description":"d","tags":{},"time":"2026-11-22T17:00:01.5Z"}
{"type":"ModelVersionCreated","model":"resnet50","version":"v2"}
{"type":"ModelVersionAliased","model":"resnet50","alias":"production","version":"v1"}
{"type":"ModelVersionAliased","model":"resnet50","alias":"next","version":"v2"}
{"type":"ModelCreated","model":"team/resnet 50%"}
{"type":"ModelVersionCreated","model":"team/resnet 50%","version":"ü+1"}
{"type":"ModelCreated","model":"team%2Fresnet 50%25"}
{"type":"DatasetRegistered","dataset":"digits","version":"2","uri":"s3://digits","split_info":{"train":0.5},"row_count":1797,"digest":"sha256:2","schema":["image"],"tags":{"a":1},"time":"2026-11-22T17:00:00Z"}
{"type":"DatasetRegistered","dataset":"mnist"}
{"type":"ExperimentCreated","experiment":"baseline","description":"first tries","tags":{"x":null},"time":"2026-11-22T17:00:00Z"}
{"type":"ExperimentCreated","experiment":"later"}
{"type":"RunStarted","run":"r1","name":"one","parent":"r0","experiment":"baseline","model":"resnet50","version":"v1","dataset":"digits","started_by":"ann","code":"abc123","tags":{"n":1},"time":"2026-11-22T17:00:00Z"}
{"type":"HyperparametersLogged","run":"r1","params":{"lr": 1e-3}}
{"type":"DatasetUsed","run":"r1","dataset":"digits","version":"2","role":"train"}
{"type":"ArtifactLogged","uri":"s3://a/model.pth","run":"r1","name":"model","media_type":"application/x-pth","size_bytes":12,"digest":"sha256:3","metadata":{"k":[]}}
{"type":"RunFinished","run":"r1","status":"failed","error":"out of memory","time":"2026-11-22T18:00:00Z"}
{"type":"RunStarted","run":"r2","experiment":"later","model":"resnet50","time":"2026-11-22T19:00:00Z"}
{"type":"RunStarted","run":"r3","experiment":"baseline","time":"2026-11-22T18:30:00Z"}
{"type":"RunFinished","run":"r3","status":"finished","time":"2026-11-22T18:31:00Z"}
"#;

async fn world() -> Site {
    let site = Site::start().await;
    site.log(WORLD.trim()).await;
    site
}

#[tokio::test]
async fn an_entity_comes_with_all_its_fields() {
    let site = world().await;
    assert_eq!(
        site.json("/v1/models/resnet50").await,
        json!({
            "id": 1, "model": "resnet50", "architecture": "ResNet-50", "framework": "PyTorch",
            "task_type": "classification", "description": "the first", "tags": {"team": "vision"},
            "created_at": "2026-11-22T17:00:00Z",
            "aliases": [{"alias": "next", "version": "v2"}, {"alias": "production", "version": "v1"}],
        })
    );
    let version = site.json("/v1/models/resnet50/versions/v1").await;
    assert_eq!(version["checkpoint_path"], "models/v1.pth");
    assert_eq!(version["model_id"], 1);
    assert_eq!(version["run"], "r1");
    assert_eq!(version["aliases"], json!(["production"]));
    assert_eq!(version["created_at"], "2026-11-22T17:00:01.500Z");
    let dataset = site.json("/v1/datasets/digits").await;
    assert_eq!(dataset["row_count"], 1797);
    assert_eq!(dataset["split_info"], json!({"train": 0.5}));
    let experiment = site.json("/v1/experiments/baseline").await;
    assert_eq!(experiment["description"], "first tries");
    let run = site.json("/v1/runs/r1").await;
    for (field, value) in [
        ("name", json!("one")),
        ("parent", json!("r0")),
        ("experiment", json!("baseline")),
        ("model", json!("resnet50")),
        ("version", json!("v1")),
        ("dataset", json!("digits")),
        ("started_by", json!("ann")),
        ("code", json!("abc123")),
        ("params", json!({"lr": 1e-3})),
        ("status", json!("failed")),
        ("error", json!("out of memory")),
        ("started_at", json!("2026-11-22T17:00:00Z")),
        ("finished_at", json!("2026-11-22T18:00:00Z")),
    ] {
        assert_eq!(run[field], value, "{field}");
    }
    let artifact = &run["artifacts"][0];
    assert_eq!(artifact["uri"], "s3://a/model.pth");
    assert_eq!(artifact["size_bytes"], 12);
    assert!(
        run["datasets"]
            .as_array()
            .unwrap()
            .iter()
            .any(|used| used["role"] == "train" && used["version"] == "2")
    );
}

#[tokio::test]
async fn json_fields_come_back_byte_for_byte() {
    let site = world().await;
    let version = site.get("/v1/models/resnet50/versions/v1").await;
    let config = r#""config":{"layers": 50, "layers":51, "seed":123456789012345678901234567890},"signature":[1 ,2],"#;
    assert!(version.text().contains(config), "{}", version.text());
    let arrow = site.ask("/v1/models/resnet50/versions", Some(ARROW)).await;
    assert_eq!(
        arrow.rows()[0]["config"],
        r#"{"layers": 50, "layers":51, "seed":123456789012345678901234567890}"#
    );
}

#[tokio::test]
async fn names_in_paths_are_decoded_once() {
    let site = world().await;
    for (path, name) in [
        ("team%2Fresnet%2050%25", "team/resnet 50%"),
        ("team%2fresnet%2050%25", "team/resnet 50%"),
        ("team%252Fresnet%2050%2525", "team%2Fresnet 50%25"),
    ] {
        let model = site.json(&format!("/v1/models/{path}")).await;
        assert_eq!(model["model"], name);
    }
    // In a path `+` is a plus.
    let version = site
        .json("/v1/models/team%2Fresnet%2050%25/versions/%C3%BC+1")
        .await;
    assert_eq!(version["version"], "ü+1");
    let problem = site.problem("/v1/models/%ff").await;
    assert_eq!(problem["code"], "bad_path");
    // Only what is encoded belongs to the name.
    let problem = site.problem("/v1/models/team/resnet%2050%25").await;
    assert_eq!(problem["code"], "no_such_route");
}

#[tokio::test]
async fn entities_are_found_by_id() {
    let site = world().await;
    for (path, field, name) in [
        ("/v1/models/1?by=id", "model", "resnet50"),
        ("/v1/models/2?by=id", "model", "team/resnet 50%"),
        ("/v1/models/1/versions/2?by=id", "version", "v2"),
        ("/v1/models/2/versions/3?by=id", "version", "ü+1"),
        ("/v1/models/1/versions/@production?by=id", "version", "v1"),
        ("/v1/datasets/2?by=id", "dataset", "mnist"),
        ("/v1/experiments/2?by=id", "experiment", "later"),
        ("/v1/models/resnet50?by=name", "model", "resnet50"),
    ] {
        assert_eq!(site.json(path).await[field], name, "{path}");
    }
    let run = site.json("/v1/runs/r2").await["id"].clone();
    assert_eq!(
        site.json(&format!("/v1/runs/{run}?by=id")).await["run"],
        "r2"
    );
    // The version is there, but of another model.
    for path in [
        "/v1/models/1/versions/3?by=id",
        "/v1/models/9?by=id",
        "/v1/models/0?by=id",
    ] {
        assert_eq!(site.problem(path).await["code"], "not_found", "{path}");
    }
    for path in [
        "/v1/models/resnet50?by=id",
        "/v1/models/-1?by=id",
        "/v1/models/4294967296?by=id",
    ] {
        assert_eq!(site.problem(path).await["code"], "bad_path", "{path}");
    }
    assert_eq!(
        site.problem("/v1/models/1?by=number").await["code"],
        "bad_parameter"
    );
}

#[tokio::test]
async fn versions_are_found_by_alias() {
    let site = world().await;
    for path in ["@next", "%40next"] {
        let path = format!("/v1/models/resnet50/versions/{path}");
        assert_eq!(site.json(&path).await["version"], "v2");
    }
    site.log(r#"{"type":"ModelVersionAliased","model":"resnet50","alias":"next","version":null}"#)
        .await;
    let problem = site.problem("/v1/models/resnet50/versions/@next").await;
    assert_eq!(problem["code"], "not_found");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("alias \"next\""),
        "{problem}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let site = world().await;
    for (path, name) in [
        ("/v1/models/Resnet50", "Resnet50"),
        ("/v1/models/Resnet50/versions", "Resnet50"),
        ("/v1/models/resnet50/versions/v9", "v9"),
        ("/v1/models/resnet51/versions/v1", "resnet51"),
        ("/v1/datasets/nope", "nope"),
        ("/v1/experiments/nope", "nope"),
        ("/v1/runs/nope", "nope"),
    ] {
        let reply = site.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        let problem = reply.problem();
        assert_eq!(problem["code"], "not_found");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(name), "{path}: {detail}");
        // What was looked at is told all the same.
        assert_eq!(reply.offset(), site.engine.tail().0);
    }
    site.log(r#"{"type":"EntityDeleted","entity":"model/resnet50"}"#)
        .await;
    assert_eq!(
        site.problem("/v1/models/resnet50").await["code"],
        "not_found"
    );
    site.log(r#"{"type":"EntityRestored","entity":"model/resnet50"}"#)
        .await;
    assert_eq!(site.json("/v1/models/resnet50").await["id"], 1);
}

fn names(items: &[Value], field: &str) -> Vec<String> {
    items
        .iter()
        .map(|item| item[field].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn runs_are_filtered_and_ordered() {
    let site = world().await;
    for (query, runs) in [
        ("?experiment=baseline", &["r3", "r1"][..]),
        ("?model=resnet50", &["r2", "r1"]),
        ("?experiment=baseline&model=resnet50", &["r1"]),
        ("?status=running", &["r2"]),
        ("?status=finished", &["r3"]),
        ("?status=failed&experiment=later", &[]),
        ("?status=killed", &[]),
        ("?experiment=baseline&order_by=oldest", &["r1", "r3"]),
        ("?model=resnet50&order_by=name", &["r1", "r2"]),
        ("?experiment=base+line", &[]),
    ] {
        let items = site.items(&format!("/v1/runs{query}")).await;
        assert_eq!(names(&items, "run"), runs, "{query}");
    }
    // The parent was named only: it has not started.
    let all = site.items("/v1/runs").await;
    assert!(names(&all, "run").contains(&"r0".to_owned()));
    let problem = site.problem("/v1/runs?status=done").await;
    assert_eq!(problem["code"], "bad_parameter");
    assert_eq!(problem["errors"][0]["parameter"], "status");
    assert_eq!(
        problem["errors"][0]["message"],
        "`status` must be running or finished or failed or killed, not \"done\""
    );
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let site = Site::start().await;
    let lines: Vec<_> = (0..25)
        .map(|at| format!(r#"{{"type":"ModelCreated","model":"m{at}"}}"#))
        .collect();
    site.log(&lines.join("\n")).await;
    for (form, limit) in [
        (None, 1),
        (None, 7),
        (Some(ARROW), 7),
        (Some(ARROW), 10_000),
    ] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let reply = site
                .ask(&format!("/v1/models?limit={limit}{cursor}"), form)
                .await;
            assert_eq!(reply.status, StatusCode::OK);
            let (items, next) = match form {
                None => {
                    let list = reply.json();
                    let next = list["next_cursor"].as_str().map(str::to_owned);
                    (list["items"].as_array().unwrap().clone(), next)
                }
                Some(_) => {
                    let next = reply.header("modelog-next-cursor");
                    (
                        reply.rows(),
                        Some(next.to_owned()).filter(|next| !next.is_empty()),
                    )
                }
            };
            assert!(items.len() <= limit);
            found.extend(names(&items, "model"));
            let Some(next) = next else { break };
            cursor = format!("&cursor={next}");
        }
        let expected: Vec<_> = (0..25).map(|at| format!("m{at}")).collect();
        assert_eq!(found, expected, "{form:?} {limit}");
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_are_refused_with_their_place() {
    let site = world().await;
    for (path, code, message) in [
        (
            "/v1/models?limti=5",
            "unknown_parameter",
            "did you mean `limit`",
        ),
        (
            "/v1/models?by=id",
            "unknown_parameter",
            "no parameter \"by\"",
        ),
        (
            "/v1/runs?experimnet=x",
            "unknown_parameter",
            "did you mean `experiment`",
        ),
        (
            "/v1/stats?at_lest=3",
            "unknown_parameter",
            "did you mean `at_least`",
        ),
        ("/v1/models?limit=0", "bad_parameter", "1 to 10000"),
        ("/v1/models?limit=10001", "bad_parameter", "1 to 10000"),
        ("/v1/models?limit=ten", "bad_parameter", "1 to 10000"),
        ("/v1/models?limit=5&limit=6", "bad_parameter", "given twice"),
        (
            "/v1/models?at_least=-1",
            "bad_parameter",
            "`at_least` must be an offset",
        ),
    ] {
        let reply = site.get(path).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}");
        let problem = reply.problem();
        assert_eq!(problem["code"], code, "{path}");
        let place = &problem["errors"][0];
        assert!(
            place["message"].as_str().unwrap().contains(message),
            "{path}: {place}"
        );
        let name = path.split(['?', '=']).nth(1).unwrap();
        assert_eq!(place["parameter"], name, "{path}");
    }
    let problem = site.problem("/v1/models?cursor=nonsense").await;
    assert_eq!(problem["code"], "bad_cursor");
}

#[tokio::test]
async fn lists_are_the_same_in_arrow() {
    let site = world().await;
    for path in [
        "/v1/models",
        "/v1/models/resnet50/versions",
        "/v1/datasets",
        "/v1/experiments",
        "/v1/runs",
    ] {
        let reply = site.ask(path, Some(ARROW)).await;
        assert_eq!(reply.header("vary"), "accept");
        let (rows, items) = (reply.rows(), site.items(path).await);
        assert_eq!(rows.len(), items.len(), "{path}");
        for (row, item) in rows.iter().zip(&items) {
            let (row, item) = (row.as_object().unwrap(), item.as_object().unwrap());
            assert!(row.keys().eq(item.keys()), "{path}: {row:?}");
            for (field, value) in item {
                assert_eq!(plain(&row[field], value), *value, "{path}: {field}");
            }
        }
    }
    let problem = site.ask("/v1/models", Some("text/html")).await.problem();
    assert_eq!(problem["code"], "not_acceptable");
}

/// What JSON nests, Arrow has as text.
fn plain(cell: &Value, like: &Value) -> Value {
    match cell.as_str() {
        Some(text) if like.is_object() || like.is_array() => serde_json::from_str(text).unwrap(),
        _ => cell.clone(),
    }
}
