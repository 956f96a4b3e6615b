//! Stretches of the log: as lines, as Arrow, of any length in bounded memory.

use modelog_engine::event::{Kind, schema};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::{ARROW, Reply, Site};

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    assert!(reply.body.is_empty() || reply.body.ends_with(b"\n"));
    reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn offsets(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|event| event["log_offset"].as_u64().unwrap())
        .collect()
}

/// Metrics and predictions in turn, in calls of three.
async fn world(site: &Site, calls: usize) {
    for call in 0..calls {
        let (minute, second) = (call / 60, call % 60);
        site.log(&format!(
            r#"{{"type":"MetricLogged","run":"r","name":"loss","value":"NaN","step":{call},"time":"2026-11-22T17:{minute:02}:{second:02}Z"}}
{{"type":"PredictionLogged","model":"m","version":"v","prediction_id":"p{call}","input":{{"k": [{call}]}},"confidence":0.5,"time":"2026-11-22T17:{minute:02}:{second:02}Z"}}
{{"type":"MetricLogged","run":"s","name":"loss","value":1,"time":"2026-11-22T17:{minute:02}:{second:02}Z"}}"#
        ))
        .await;
    }
}

#[tokio::test]
async fn every_event_is_there_in_log_order() {
    let site = Site::start().await;
    world(&site, 40).await;
    let reply = site.get("/v1/events").await;
    let events = lines(&reply);
    assert_eq!(offsets(&events), Vec::from_iter(0..120));
    assert_eq!(reply.offset(), 120);
    let append_time = events[1]["append_time"].clone();
    assert_eq!(
        events[1],
        json!({
            "type": "PredictionLogged", "log_offset": 1, "append_time": append_time,
            "time": "2026-11-22T17:00:00Z", "model": "m", "version": "v", "prediction_id": "p0",
            "input": {"k": [0]}, "confidence": 0.5,
        })
    );
    assert_eq!(events[0]["value"], "NaN");
    assert!(reply.text().contains(r#""input":{"k": [0]}"#));
}

#[tokio::test]
async fn bounds_are_offsets_and_times() {
    let site = Site::start().await;
    world(&site, 100).await;
    for (query, expected) in [
        ("from=297", Vec::from_iter(297..300)),
        ("from=100&until=104", Vec::from_iter(100..104)),
        ("from=300", vec![]),
        ("from=5&until=5", vec![]),
        ("from=6&until=5", vec![]),
        ("until=2", vec![0, 1]),
        ("from=298&until=18446744073709551615", vec![298, 299]),
        ("since=2026-11-22T17:01:39Z", Vec::from_iter(297..300)),
        ("to=2026-11-22T17:00:01Z", vec![0, 1, 2]),
        (
            "since=2026-11-22T17:00:01Z&to=2026-11-22T17:00:02Z",
            vec![3, 4, 5],
        ),
        (
            "since=2026-11-22T17:00:01Z&to=2026-11-22T17:00:02Z&from=4&until=5",
            vec![4],
        ),
        ("since=2026-11-23T17:00:00Z", vec![]),
        ("run=s&until=7", vec![2, 5]),
    ] {
        let reply = site.get(&format!("/v1/events?{query}")).await;
        assert_eq!(offsets(&lines(&reply)), expected, "{query}");
    }
    let reply = site.get("/v1/events?from=100&until=104").await;
    assert_eq!(reply.offset(), 104);
    for (query, code) in [
        ("from=301", "bad_parameter"),
        ("until=x", "bad_parameter"),
        ("since=17:00", "bad_parameter"),
        ("limit=5", "unknown_parameter"),
    ] {
        assert_eq!(
            site.problem(&format!("/v1/events?{query}")).await["code"],
            code,
            "{query}"
        );
    }
}

/// When each call of [`world`] was taken, as the events say it, and where it ended.
fn calls(events: &[Value]) -> Vec<(String, u64)> {
    let mut calls: Vec<(String, u64)> = Vec::new();
    for event in events {
        let time = event["append_time"].as_str().unwrap().to_owned();
        let end = event["log_offset"].as_u64().unwrap() + 1;
        match calls.last_mut() {
            Some(last) if last.0 == time => last.1 = end,
            _ => calls.push((time, end)),
        }
    }
    calls
}

#[tokio::test]
async fn a_stretch_can_end_at_a_moment_of_the_log() {
    let site = Site::start().await;
    world(&site, 400).await;
    let events = lines(&site.get("/v1/events").await);
    let calls = calls(&events);
    assert!(calls.len() > 100, "calls have times of their own");
    for (time, end) in calls.iter().step_by(37).chain(calls.last()) {
        let reply = site.get(&format!("/v1/events?until={time}")).await;
        assert_eq!(offsets(&lines(&reply)), Vec::from_iter(0..*end), "{time}");
        assert_eq!(reply.offset(), *end);
        // The same with everything else there is to say.
        let path = format!("/v1/events?until={time}&from=5&kind=PredictionLogged");
        let arrow = site.ask(&path, Some(ARROW)).await;
        let expected = (5..*end).filter(|offset| offset % 3 == 1).count();
        assert_eq!(arrow.rows().len(), expected, "{path}");
    }
    // What a microsecond before the first call was there, and what is in the future.
    for (moment, end) in [("2026-01-01T00:00:00Z", 0), ("2200-01-01T00:00:00Z", 1200)] {
        let reply = site.get(&format!("/v1/events?until={moment}")).await;
        assert_eq!(reply.offset(), end, "{moment}");
        assert_eq!(lines(&reply).len() as u64, end, "{moment}");
    }
    let reply = site.get("/v1/events?until=0").await;
    assert_eq!(
        reply.header("modelog-log"),
        site.engine.log_id().to_string()
    );
}

#[tokio::test]
async fn one_kind_can_be_had_as_arrow() {
    let site = Site::start().await;
    world(&site, 100).await;
    for (query, kind) in [
        ("kind=MetricLogged", Kind::MetricLogged),
        (
            "kind=PredictionLogged&from=10&until=200",
            Kind::PredictionLogged,
        ),
        (
            "kind=metric.logged&run=s&since=2026-11-22T17:00:30Z",
            Kind::MetricLogged,
        ),
        ("kind=RunFinished", Kind::RunFinished),
    ] {
        let path = format!("/v1/events?{query}");
        let arrow = site.ask(&path, Some(ARROW)).await;
        let batches = arrow.arrow();
        // Many small calls become few batches.
        assert!(batches.len() <= 1, "{}", batches.len());
        for batch in &batches {
            assert_eq!(batch.schema(), schema::arrow_schema(kind));
        }
        let (rows, events) = (arrow.rows(), lines(&site.get(&path).await));
        assert_eq!(rows.len(), events.len(), "{query}");
        for (row, event) in rows.iter().zip(&events) {
            for (field, cell) in row.as_object().unwrap() {
                match field.as_str() {
                    "input" => {
                        let cell: Value = serde_json::from_str(cell.as_str().unwrap()).unwrap();
                        assert_eq!(cell, event[field]);
                    }
                    _ => assert_eq!(*cell, event[field], "{query}: {field}"),
                }
            }
        }
    }
    for query in ["", "?kind=MetricLogged,RunStarted"] {
        let reply = site.ask(&format!("/v1/events{query}"), Some(ARROW)).await;
        assert_eq!(reply.problem()["errors"][0]["parameter"], "kind");
    }
    let reply = site.ask("/v1/events", Some("application/json")).await;
    assert_eq!(reply.problem()["code"], "not_acceptable");
}

#[tokio::test]
async fn a_large_call_becomes_several_record_batches() {
    let site = Site::start().await;
    let call: Vec<_> = (0..20_000)
        .map(|step| {
            format!(
                r#"{{"type":"MetricLogged","run":"r","name":"x","value":{step},"step":{step}}}"#
            )
        })
        .collect();
    site.log(&call.join("\n")).await;
    let path = "/v1/events?kind=MetricLogged&from=1&until=19999";
    let batches = site.ask(path, Some(ARROW)).await.arrow();
    assert!(batches.len() > 1);
    assert!(batches.iter().all(|batch| batch.num_rows() <= 8192));
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 19_998);
    let reply = site.get(path).await;
    assert_eq!(offsets(&lines(&reply)), Vec::from_iter(1..19_999));
}

#[tokio::test]
async fn an_empty_log_is_an_empty_answer() {
    let site = Site::start().await;
    let reply = site.get("/v1/events").await;
    assert_eq!((lines(&reply).len(), reply.offset()), (0, 0));
    let arrow = site.ask("/v1/events?kind=MetricLogged", Some(ARROW)).await;
    assert_eq!(arrow.arrow().len(), 0);
}
