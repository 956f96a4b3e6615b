//! The API's description: every route is in it, and it says what the routes do.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::{Reply, Site};

/// The read routes of the contract.
const ROUTES: &[&str] = &[
    "/v1/models",
    "/v1/models/{model}",
    "/v1/models/{model}/versions",
    "/v1/models/{model}/versions/{version}",
    "/v1/models/{model}/versions/{version}/metrics",
    "/v1/models/{model}/versions/{version}/metrics/{name}",
    "/v1/models/{model}/versions/{version}/predictions",
    "/v1/models/{model}/versions/{version}/stats",
    "/v1/models/{model}/predictions/{prediction_id}",
    "/v1/datasets",
    "/v1/datasets/{dataset}",
    "/v1/experiments",
    "/v1/experiments/{experiment}",
    "/v1/runs",
    "/v1/runs/{run}",
    "/v1/runs/{run}/metrics",
    "/v1/runs/{run}/metrics/{name}",
    "/v1/stats",
    "/v1/compare",
    "/v1/events",
    "/v1/tail",
    "/v1/projections",
];

/// Something of every sort, all called `x`.
const WORLD: &str = r#"{"type":"ModelVersionCreated","model":"x","version":"x"}
{"type":"ModelVersionAliased","model":"x","alias":"x","version":"x"}
{"type":"DatasetRegistered","dataset":"x"}
{"type":"ExperimentCreated","experiment":"x"}
{"type":"RunStarted","run":"x","dataset":"x"}
{"type":"ArtifactLogged","uri":"x","run":"x"}
{"type":"MetricLogged","run":"x","name":"x","value":1}
{"type":"MetricLogged","model":"x","version":"x","name":"x","value":1}
{"type":"PredictionLogged","model":"x","version":"x","prediction_id":"x","output":1}
{"type":"FeedbackLogged","model":"x","version":"x","prediction_id":"x","correct":true}"#;

async fn described() -> (Site, Value) {
    let site = Site::start().await;
    site.log(WORLD).await;
    let api = site.json("/openapi.json").await;
    (site, api)
}

/// A path with `x` for everything it names.
fn filled(template: &str) -> String {
    let part = |part: &str| {
        if part.starts_with('{') {
            "x".to_owned()
        } else {
            part.to_owned()
        }
    };
    let path = template.split('/').map(part).collect::<Vec<_>>().join("/");
    match template {
        "/v1/compare" => format!("{path}?a=x@x&b=x@@x"),
        _ => path,
    }
}

fn parameters<'a>(operation: &'a Value, place: &str) -> BTreeSet<&'a str> {
    operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|parameter| parameter["in"] == place)
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect()
}

fn resolve<'a>(api: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => api
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference}")),
        None => schema,
    }
}

#[tokio::test]
async fn every_route_of_the_contract_is_described_and_there() {
    let (site, api) = described().await;
    for route in ROUTES {
        let operation = &api["paths"][route]["get"];
        assert!(operation.is_object(), "{route} is not described");
        let named: BTreeSet<_> = route
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(parameters(operation, "path"), named, "{route}");
        if *route == "/v1/tail" {
            continue;
        }
        let reply = site.get(&filled(route)).await;
        assert_eq!(reply.status, StatusCode::OK, "{route}: {}", reply.text());
        let answer = &operation["responses"]["200"];
        assert!(
            answer["content"][reply.header("content-type")].is_object(),
            "{route}"
        );
        let told = answer["headers"]["Modelog-Offset"].is_object();
        assert_eq!(
            told,
            reply.headers.contains_key("modelog-offset"),
            "{route}"
        );
    }
    for route in [
        "/v1/projections/{name}/rebuild",
        "/v1/compact",
        "/v1/backups",
    ] {
        assert!(api["paths"][route]["post"].is_object(), "{route}");
    }
}

#[tokio::test]
async fn described_parameters_are_taken_and_no_others() {
    let (site, api) = described().await;
    for route in ROUTES {
        let path = filled(route);
        let path = path.split('?').next().unwrap();
        for name in parameters(&api["paths"][route]["get"], "query") {
            let url = format!("{}{path}?{name}=%00", site.base);
            let response = site.client.get(url).send().await.unwrap();
            // A tail that was accepted has no end.
            if !response.status().is_success() {
                let problem = Reply::of(response).await.problem();
                assert_ne!(problem["code"], "unknown_parameter", "{route}?{name}");
            }
        }
        let problem = site.problem(&format!("{path}?zzzzzzzz=1")).await;
        assert_eq!(problem["code"], "unknown_parameter", "{route}");
    }
}

#[tokio::test]
async fn answers_have_the_described_fields() {
    let (site, api) = described().await;
    for route in ROUTES {
        let content = &api["paths"][route]["get"]["responses"]["200"]["content"];
        let schema = &content["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let answer = site.json(&filled(route)).await;
        fits(&api, schema, &answer, route);
    }
}

/// Objects have exactly the fields of their schema, all the way down.
fn fits(api: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolve(api, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        // An optional object: one of the choices is null.
        let choice = choices
            .iter()
            .find(|choice| choice["type"] != "null")
            .unwrap();
        if !value.is_null() {
            fits(api, choice, value, place);
        }
        return;
    }
    let parts: Vec<_> = match schema["allOf"].as_array() {
        Some(parts) => parts.iter().map(|part| resolve(api, part)).collect(),
        None => vec![schema],
    };
    match value {
        Value::Array(items) => {
            for item in items {
                fits(api, &schema["items"], item, place);
            }
        }
        Value::Object(fields) => {
            let described: serde_json::Map<_, _> = parts
                .iter()
                .filter_map(|part| part["properties"].as_object().cloned())
                .flatten()
                .collect();
            // A JSON field: whatever the producer wrote.
            if described.is_empty() {
                return;
            }
            assert!(
                fields.keys().eq(described.keys()),
                "{place}: {:?} are not {:?}",
                fields.keys(),
                described.keys()
            );
            for (name, value) in fields {
                fits(api, &described[name], value, &format!("{place} {name}"));
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_description_is_whole() {
    let (_site, api) = described().await;
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    let mut references = Vec::new();
    collect(&api, "$ref", &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = Vec::new();
    collect(&api["paths"], "operationId", &mut ids);
    let distinct: BTreeSet<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    for (route, path) in api["paths"].as_object().unwrap() {
        for (method, operation) in path.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let described = answer["description"].as_str();
                assert!(described.is_some(), "{method} {route}: {status}");
            }
        }
    }
    for route in ROUTES {
        let operation = &api["paths"][route]["get"];
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{route}"
        );
        for status in ["400", "401", "403", "503"] {
            let content = &operation["responses"][status]["content"];
            assert!(
                content["application/problem+json"].is_object(),
                "{route} {status}"
            );
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{route}: {parameter}");
            assert!(parameter["schema"].is_object(), "{route}: {parameter}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_needed_are_described_as_such() {
    let (site, api) = described().await;
    let mut optional = Vec::new();
    for (route, path) in api["paths"].as_object().unwrap() {
        for (method, operation) in path.as_object().unwrap() {
            if operation["requestBody"].is_null() {
                continue;
            }
            let verb = method.to_uppercase().parse().unwrap();
            let url = format!("{}{}", site.base, filled(route));
            let reply = site.client.request(verb, url).send().await.unwrap();
            let taken = reply.status().is_success();
            let needed = operation["requestBody"]["required"] == true;
            assert_eq!(taken, !needed, "{method} {route} without a body");
            if !needed {
                optional.push(route.as_str());
            }
        }
    }
    assert_eq!(optional, ["/v1/runs/{run}/finish"]);
    let required = &api["components"]["schemas"]["NewFinish"]["required"];
    assert_eq!(
        required,
        &json!(["status"]),
        "a body that is there needs it"
    );
}

#[tokio::test]
async fn any_number_of_points_may_be_asked_for() {
    let (site, api) = described().await;
    let path = "/v1/runs/x/metrics/x";
    for number in ["1", "4294967295", "4294967296", "18446744073709551615"] {
        let series = site.json(&format!("{path}?max_points={number}")).await;
        assert_eq!(series["points"].as_array().unwrap().len(), 1, "{number}");
    }
    let parameters = &api["paths"]["/v1/runs/{run}/metrics/{name}"]["get"]["parameters"];
    let points = parameters.as_array().unwrap().iter();
    let points = points.filter(|parameter| parameter["name"] == "max_points");
    let formats: Vec<_> = points.map(|points| &points["schema"]["format"]).collect();
    assert_eq!(formats, ["int64"]);
}

#[tokio::test]
async fn writes_say_how_paths_may_name() {
    let (_site, api) = described().await;
    let operations = api["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|path| path.as_object().unwrap().values());
    let by: Vec<_> = operations
        .flat_map(|operation| operation["parameters"].as_array().into_iter().flatten())
        .filter(|parameter| parameter["name"] == "by")
        .collect();
    assert!(by.len() > 24);
    for parameter in by {
        assert_eq!(parameter["schema"]["enum"], json!(["name", "id"]));
        assert_eq!(parameter["required"], false);
    }
}

/// Every value of a key, wherever it is.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).filter(|value| value.is_string()));
            fields.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}
