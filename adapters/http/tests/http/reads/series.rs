//! Metrics: in short, point by point, in part, and thinned out.

use serde_json::{Value, json};

use super::support::{ARROW, Site};

const WORLD: &str = r#"
{"type":"RunStarted","run":"r/1"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":0.5,"step":1,"epoch":0.5,"split":"train","time":"2026-11-22T17:00:01Z"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":"NaN","step":2,"split":"train","time":"2026-11-22T17:00:02Z"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":"-Infinity","step":3,"split":"train","time":"2026-11-22T17:00:03Z"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":0.25,"step":4,"split":"train","time":"2026-11-22T17:00:04Z"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":0.75,"step":4,"split":"val","time":"2026-11-22T17:00:04Z"}
{"type":"MetricLogged","run":"r/1","name":"loss","value":9,"step":-7,"time":"2026-11-22T17:00:05Z"}
{"type":"MetricLogged","model":"m","version":"v","name":"size/MB","value":12}
"#;

async fn world() -> Site {
    let site = Site::start().await;
    site.log(WORLD.trim()).await;
    site
}

const LOSS: &str = "/v1/runs/r%2F1/metrics/loss";

fn steps(series: &Value) -> Vec<i64> {
    let points = series["points"].as_array().unwrap();
    points
        .iter()
        .map(|point| point["step"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_series_is_one_split_by_step() {
    let site = world().await;
    let series = site.json(&format!("{LOSS}?split=train")).await;
    assert_eq!(series["name"], "loss");
    assert_eq!(series["split"], "train");
    assert_eq!(series["total_points"], 4);
    assert_eq!(
        series["points"][0],
        json!({"step": 1, "value": 0.5, "epoch": 0.5, "time": "2026-11-22T17:00:01Z", "log_offset": 1})
    );
    let values: Vec<_> = series["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| &point["value"])
        .collect();
    assert_eq!(
        values,
        [
            &json!(0.5),
            &json!("NaN"),
            &json!("-Infinity"),
            &json!(0.25)
        ]
    );
    assert_eq!(steps(&site.json(&format!("{LOSS}?split=val")).await), [4]);
    // Without a split it is the points that were logged without one.
    assert_eq!(steps(&site.json(LOSS).await), [-7]);
    assert_eq!(steps(&site.json(&format!("{LOSS}?split=")).await), [-7]);
    for path in [
        &format!("{LOSS}?split=test"),
        "/v1/runs/r%2F1/metrics/accuracy",
    ] {
        let series = site.json(path).await;
        assert_eq!(
            (&series["total_points"], steps(&series)),
            (&json!(0), vec![]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn bounds_are_inclusive() {
    let site = world().await;
    for (query, expected) in [
        ("from_step=2", &[2, 3, 4][..]),
        ("to_step=2", &[1, 2]),
        ("from_step=2&to_step=3", &[2, 3]),
        ("from_step=3&to_step=2", &[]),
        (
            "from_step=-9223372036854775808&to_step=9223372036854775807",
            &[1, 2, 3, 4],
        ),
    ] {
        let series = site.json(&format!("{LOSS}?split=train&{query}")).await;
        assert_eq!(steps(&series), expected, "{query}");
        assert_eq!(series["total_points"], expected.len());
    }
}

#[tokio::test]
async fn many_points_are_thinned_out_without_losing_the_extremes() {
    let site = Site::start().await;
    let lines: Vec<_> = (0..5000)
        .map(|step| {
            let value = match step {
                1234 => -100.0,
                4321 => 100.0,
                _ => f64::from(step % 10),
            };
            format!(
                r#"{{"type":"MetricLogged","run":"r","name":"x","value":{value},"step":{step}}}"#
            )
        })
        .collect();
    site.log(&lines.join("\n")).await;
    let series = site.json("/v1/runs/r/metrics/x?max_points=100").await;
    let steps = steps(&series);
    assert!(steps.len() <= 100, "{}", steps.len());
    assert!(steps.is_sorted());
    for step in [0, 1234, 4321, 4999] {
        assert!(steps.contains(&step), "{step}");
    }
    assert_eq!(series["total_points"], 5000);
    let all = site.ask("/v1/runs/r/metrics/x", Some(ARROW)).await;
    assert_eq!(all.rows().len(), 5000);
}

#[tokio::test]
async fn series_are_listed_with_their_last_lowest_and_highest() {
    let site = world().await;
    let items = site.items("/v1/runs/r%2F1/metrics").await;
    let splits: Vec<_> = items.iter().map(|item| &item["split"]).collect();
    assert_eq!(splits, [&Value::Null, &json!("train"), &json!("val")]);
    let train = &items[1];
    assert_eq!(train["points"], 4);
    assert_eq!(train["last"]["value"], 0.25);
    assert_eq!((&train["min"], &train["max"]), (&json!(0.25), &json!(0.5)));
    let rows = site.ask("/v1/runs/r%2F1/metrics", Some(ARROW)).await.rows();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1]["last_value"], 0.25);
    assert_eq!(rows[1]["last_time"], "2026-11-22T17:00:04Z");
    assert_eq!(rows[1]["max"], 0.5);
}

#[tokio::test]
async fn versions_have_metrics_of_their_own() {
    let site = world().await;
    let items = site.items("/v1/models/m/versions/v/metrics").await;
    assert_eq!(items[0]["name"], "size/MB");
    let series = site.json("/v1/models/m/versions/v/metrics/size%2FMB").await;
    assert_eq!(series["points"][0]["value"], 12.0);
    let by_id = site
        .json("/v1/models/1/versions/1/metrics/size%2FMB?by=id")
        .await;
    assert_eq!(by_id, series);
    for (path, name) in [
        ("/v1/models/m/versions/w/metrics", "\"w\""),
        ("/v1/models/m/versions/w/metrics/x", "\"w\""),
        ("/v1/runs/r/metrics", "\"r\""),
        ("/v1/runs/r/metrics/loss", "\"r\""),
        ("/v1/runs/9/metrics/loss?by=id", "id 9"),
    ] {
        let problem = site.problem(path).await;
        assert_eq!(problem["code"], "not_found", "{path}");
        assert!(
            problem["detail"].as_str().unwrap().contains(name),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_series_is_the_same_in_arrow() {
    let site = world().await;
    let path = format!("{LOSS}?split=train");
    let reply = site.ask(&path, Some(ARROW)).await;
    let series = site.json(&path).await;
    assert_eq!(Value::Array(reply.rows()), series["points"]);
    let schema = reply.arrow()[0].schema();
    assert_eq!(schema.metadata()["modelog.name"], "loss");
    assert_eq!(schema.metadata()["modelog.split"], "train");
    assert_eq!(schema.metadata()["modelog.total_points"], "4");
    let types: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(
        types,
        [
            "Int64",
            "Float64",
            "Float64",
            "Timestamp(µs, \"UTC\")",
            "Int64"
        ]
    );
}
