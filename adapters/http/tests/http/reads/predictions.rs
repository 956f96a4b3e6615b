//! Predictions, statistics and the comparison of two versions.

use serde_json::{Value, json};

use super::support::{ARROW, Site};

/// Two versions of a model whose names need escaping; the second is better.
fn world() -> String {
    let mut lines = vec![
        r#"{"type":"ModelVersionAliased","model":"a@b%","alias":"prod","version":"v@2"}"#
            .to_owned(),
    ];
    for at in 0..200 {
        for (version, right) in [("v1", at % 2 == 0), ("v@2", at % 20 != 0)] {
            let (minute, second) = (at / 60, at % 60);
            let id = format!("{version}-{at}");
            let class = if right { "cat" } else { "dog" };
            lines.push(format!(
                r#"{{"type":"PredictionLogged","model":"a@b%","version":"{version}","prediction_id":"{id}","input":{{"at": {at}}},"output":[{at} ],"predicted_class":"{class}","confidence":0.{},"inference_time_ms":{},"time":"2026-11-22T17:{minute:02}:{second:02}Z"}}"#,
                at % 10,
                at + 1,
            ));
            lines.push(format!(
                r#"{{"type":"FeedbackLogged","prediction_id":"{id}","model":"a@b%","version":"{version}","true_class":"cat","label":{{"l":1 }},"score":"NaN","score_name":"s","feedback_source":"people"}}"#
            ));
        }
    }
    lines.join("\n")
}

async fn site() -> Site {
    let site = Site::start().await;
    site.log(&world()).await;
    site
}

const V1: &str = "/v1/models/a%40b%25/versions/v1";

#[tokio::test]
async fn predictions_are_newest_first_with_their_feedback() {
    let site = site().await;
    let items = site.items(&format!("{V1}/predictions?limit=3")).await;
    let ids: Vec<_> = items.iter().map(|item| &item["prediction_id"]).collect();
    assert_eq!(ids, [&json!("v1-199"), &json!("v1-198"), &json!("v1-197")]);
    let first = &items[0];
    assert_eq!(first["predicted_class"], "dog");
    assert_eq!(first["input"], json!({"at": 199}));
    assert_eq!(first["inference_time_ms"], 200.0);
    let feedback = &first["feedback"];
    assert_eq!(feedback["true_class"], "cat");
    assert_eq!(feedback["correct"], false);
    assert_eq!(feedback["score"], "NaN");
    let one = site.get("/v1/models/a%40b%25/predictions/v1-199").await;
    assert_eq!(one.json(), *first);
    assert!(one.text().contains(r#""output":[199 ],"#), "{}", one.text());
    let by_id = site.json("/v1/models/1/predictions/v1-199?by=id").await;
    assert_eq!(by_id, *first);
    for path in [
        "/v1/models/a%40b%25/predictions/nope",
        "/v1/models/nope/predictions/v1-1",
    ] {
        assert_eq!(site.problem(path).await["code"], "not_found", "{path}");
    }
    assert_eq!(
        site.problem(&format!("{V1}x/predictions")).await["code"],
        "not_found"
    );
}

#[tokio::test]
async fn predictions_are_the_same_in_arrow_page_by_page() {
    let site = site().await;
    let items = site.items(&format!("{V1}/predictions?limit=10000")).await;
    assert_eq!(items.len(), 200);
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{V1}/predictions?limit=64{cursor}");
        let reply = site.ask(&path, Some(ARROW)).await;
        rows.extend(reply.rows());
        match reply.header("modelog-next-cursor") {
            "" => break,
            next => cursor = format!("&cursor={next}"),
        }
    }
    assert_eq!(rows.len(), items.len());
    for (row, item) in rows.iter().zip(&items) {
        for (field, value) in item.as_object().unwrap() {
            match field.as_str() {
                "input" | "output" => {
                    let cell: Value = serde_json::from_str(row[field].as_str().unwrap()).unwrap();
                    assert_eq!(cell, *value);
                }
                "feedback" => {
                    for field in [
                        "true_class",
                        "true_value",
                        "correct",
                        "score",
                        "score_name",
                        "feedback_source",
                    ] {
                        assert_eq!(row[field], value[field], "{field}");
                    }
                    assert_eq!(row["label"], r#"{"l":1 }"#);
                    assert_eq!(row["feedback_time"], value["time"]);
                    assert_eq!(row["feedback_log_offset"], value["log_offset"]);
                }
                _ => assert_eq!(row[field], *value, "{field}"),
            }
        }
    }
}

#[tokio::test]
async fn totals_count_everything() {
    let site = site().await;
    let stats = site.json("/v1/stats").await;
    assert_eq!(stats["events"], 801);
    assert_eq!(stats["as_of_offset"], 801);
    assert_eq!(stats["predictions"], 400);
    assert_eq!(stats["feedback"], 400);
    assert_eq!(stats["feedback_unmatched"], 0);
    assert_eq!(
        (&stats["models"], &stats["versions"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_version_is_measured_over_all_time_or_some() {
    let site = site().await;
    let stats = site.json(&format!("{V1}/stats")).await;
    assert_eq!(stats["predictions"], 200);
    assert_eq!(stats["labelled"], 200);
    assert_eq!(stats["accuracy"], 0.5);
    assert_eq!(stats["label_coverage"], 1.0);
    let median = stats["latency_ms_p50"].as_f64().unwrap();
    assert!((median / 100.0 - 1.0).abs() < 0.02, "{median}");
    // The first minute, the bounds being [since, until); also as microseconds.
    for window in [
        "since=2026-11-22T17:00:00Z&until=2026-11-22T17:01:00Z",
        "since=2026-11-22T18:00:00%2B01:00&until=1795366860000000",
    ] {
        let stats = site.json(&format!("{V1}/stats?{window}")).await;
        assert_eq!(stats["predictions"], 60, "{window}");
        assert_eq!(stats["first_time"], "2026-11-22T17:00:00Z");
        assert_eq!(stats["last_time"], "2026-11-22T17:00:59Z");
    }
    let alias = site.json("/v1/models/a%40b%25/versions/@prod/stats").await;
    assert_eq!(alias["version"], "v@2");
    assert_eq!(alias["accuracy"], 0.95);
    let problem = site.problem(&format!("{V1}/stats?since=1795366860")).await;
    assert_eq!(problem["code"], "bad_parameter");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("looks like seconds")
    );
    assert_eq!(
        site.problem(&format!("{V1}9/stats")).await["code"],
        "not_found"
    );
}

#[tokio::test]
async fn two_versions_are_compared() {
    let site = site().await;
    // `%` and `@` within names are escaped, then the URL escapes the whole once more.
    let plain = site
        .json("/v1/compare?a=a%2540b%2525@v1&b=a%2540b%2525@v@2")
        .await;
    assert_eq!(plain["a"]["version"], "v1");
    assert_eq!(plain["b"]["version"], "v@2");
    assert_eq!(plain["winner"], "b");
    let accuracy = &plain["difference"]["accuracy"];
    assert!(
        (accuracy["value"].as_f64().unwrap() + 0.45).abs() < 1e-9,
        "{accuracy}"
    );
    assert!(accuracy["interval"]["upper"].as_f64().unwrap() < 0.0);
    assert!(plain["method"]["share_difference"].is_string());
    // As clients escape that escape everything, and by alias.
    let escaped = site
        .json("/v1/compare?a=a%2540b%2525%40v1&b=a%2540b%2525%40%40prod")
        .await;
    assert_eq!(escaped, plain);
    let window = "since=2026-11-22T17:00:00Z&until=2026-11-22T17:01:00Z";
    let minute = site
        .json(&format!(
            "/v1/compare?a=a%2540b%2525@v1&b=a%2540b%2525@@prod&{window}"
        ))
        .await;
    assert_eq!(minute["a"]["predictions"], 60);
}

#[tokio::test]
async fn a_comparison_that_cannot_be_is_refused() {
    let site = site().await;
    for (query, code, text) in [
        ("", "bad_parameter", "`a` is missing"),
        ("?a=m@1", "bad_parameter", "`b` is missing"),
        ("?a=m&b=m@1", "bad_parameter", "model@version"),
        ("?a=50%25@1&b=m@1", "bad_parameter", "%25"),
        ("?a=m@1&b=m@1&c=m@1", "unknown_parameter", "\"c\""),
        // Not escaped, `@` ends the model's name.
        ("?a=a@b%2525@v1&b=m@1", "not_found", "\"b%@v1\""),
        (
            "?a=a%2540b%2525@v1&b=a%2540b%2525@v3",
            "not_found",
            "\"v3\"",
        ),
    ] {
        let problem = site.problem(&format!("/v1/compare{query}")).await;
        assert_eq!(problem["code"], code, "{query}");
        assert!(
            problem["detail"].as_str().unwrap().contains(text),
            "{query}: {problem}"
        );
    }
}
