//! What `/metrics` shows is the engine's table: each metric, with its type, help and labels, and no other.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::{EventBatch, LoggedBatch};
use modelog_engine::event::{Event, FeedbackLogged, MetricLogged, PredictionLogged};
use modelog_engine::metrics::{self as names, ALL, MetricType};
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{AppendOptions, Checkpoint, Engine, OnConflict, Timestamp};
use modelog_prometheus::{Exporter, ExporterError, PrometheusConfig};

/// A store that is away at first.
struct Shaky {
    away: bool,
}

#[async_trait]
impl Projection for Shaky {
    fn name(&self) -> &str {
        "shaky"
    }

    fn fold_version(&self) -> u32 {
        1
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        if std::mem::replace(&mut self.away, false) {
            return Err(ProjectionError::Unavailable("not yet".into()));
        }
        Ok(None)
    }

    async fn apply(
        &mut self,
        _: &[Arc<LoggedBatch>],
        _: View<'_>,
        _: Checkpoint,
    ) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// A metric as the text has it.
#[derive(Debug, Default)]
struct Found {
    help: String,
    ty: String,
    /// Names of the labels of each sample, in order, `le` left out.
    labels: Vec<Vec<String>>,
    bounds: Vec<f64>,
}

/// Reads the text format, as far as label values without quotes go.
fn parse(text: &str) -> BTreeMap<String, Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let new = Found {
                help: help.to_owned(),
                ..Found::default()
            };
            assert!(
                found.insert(name.to_owned(), new).is_none(),
                "{name} comes twice"
            );
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, ty) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            found.get_mut(name).unwrap().ty = ty.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let family = found.get_mut(&family).unwrap();
            let mut labels: Vec<_> = labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|label| label.split_once('='))
                .collect();
            if name.ends_with("_bucket") {
                let (le, bound) = labels.pop().unwrap();
                assert_eq!(le, "le");
                family.bounds.push(bound.trim_matches('"').parse().unwrap());
            }
            let labels = labels.iter().map(|(name, _)| (*name).to_owned());
            family.labels.push(labels.collect());
        }
    }
    found
}

fn events() -> Vec<Event> {
    let prediction = PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: Some("p1".into()),
        predicted_class: Some("cat".into()),
        confidence: Some(0.5),
        inference_time_ms: Some(1.0),
        ..PredictionLogged::default()
    };
    let feedback = FeedbackLogged {
        prediction_id: "p1".into(),
        true_class: Some("cat".into()),
        ..FeedbackLogged::default()
    };
    let metric = |value| MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value,
        ..MetricLogged::default()
    };
    let old = Timestamp::from_micros(1_700_000_000_000_000);
    vec![
        prediction.into(),
        feedback.into(),
        Event::from(metric(0.5)).with_id("e1"),
        Event::from(metric(0.25)).at(old),
    ]
}

/// Makes the engine tell of everything it tells of.
async fn live(engine: &Engine) {
    engine.project(Box::new(Shaky { away: true }));
    let append = |events: Vec<Event>| {
        let options = AppendOptions {
            id_conflict: OnConflict::Record,
            ..AppendOptions::default()
        };
        engine.append(EventBatch::from_events(&events).unwrap(), options)
    };
    let events = events();
    append(events.clone()).await.unwrap();
    // A repeat, and other content under the same id.
    append(vec![events[2].clone()]).await.unwrap();
    let other = MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value: 9.0,
        ..MetricLogged::default()
    };
    append(vec![Event::from(other).with_id("e1")])
        .await
        .unwrap();
    // What the HTTP server tells.
    metrics::counter!(names::HTTP_REQUESTS, "route" => "/v1/events", "code" => "200").increment(1);
    metrics::histogram!(names::HTTP_REQUEST_DURATION, "route" => "/v1/events", "code" => "200")
        .record(0.01);
    // What sources from Kafka tell.
    metrics::gauge!(names::KAFKA_LAG, "group" => "g", "topic" => "t", "partition" => "0").set(1.0);
    for name in [names::KAFKA_REBALANCES, names::KAFKA_FETCH_ERRORS] {
        metrics::counter!(name, "group" => "g").increment(1);
    }
    for name in [
        names::KAFKA_MESSAGES,
        names::KAFKA_BYTES,
        names::KAFKA_TOMBSTONES,
    ] {
        metrics::counter!(name, "group" => "g", "topic" => "t").increment(1);
    }
    metrics::counter!(names::KAFKA_DEAD_LETTERS, "topic" => "t").increment(1);
    // What some library may tell is left out.
    metrics::counter!("someone_elses_total").increment(1);
}

#[tokio::test]
async fn the_text_shows_the_table() {
    let config = PrometheusConfig {
        run_metrics: vec!["l*".into()],
        ..PrometheusConfig::default()
    };
    let exporter = Exporter::install(config).unwrap();
    assert!(matches!(
        Exporter::install(PrometheusConfig::default()),
        Err(ExporterError::Installed)
    ));
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    exporter.follow(&engine);
    live(&engine).await;
    let shaky = engine.projection("shaky").unwrap();
    shaky.wait_for(engine.tail(), Duration::MAX).await.unwrap();

    // The series of models and runs follow on their own.
    let text = loop {
        let text = exporter.render(&engine);
        if text.contains(names::PREDICTION_CORRECT) && text.contains(names::RUN_METRIC) {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let mut found = parse(&text);
    for metric in ALL {
        let Some(shown) = found.remove(metric.name) else {
            panic!("{} is not shown in\n{text}", metric.name);
        };
        assert_eq!(shown.help, metric.help, "{}", metric.name);
        let expected = match metric.ty {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram(bounds) => {
                let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                let bounds: Vec<_> = bounds.collect();
                assert_eq!(shown.bounds[..bounds.len()], bounds, "{}", metric.name);
                "histogram"
            }
        };
        assert_eq!(shown.ty, expected, "{}", metric.name);
        assert!(!shown.labels.is_empty());
        for labels in &shown.labels {
            assert_eq!(labels, metric.labels, "{}", metric.name);
        }
    }
    assert!(found.is_empty(), "not in the table: {:?}", found.keys());
    engine.close().await.unwrap();
}

#[test]
fn an_empty_pattern_is_refused() {
    let config = PrometheusConfig {
        run_metrics: vec!["loss".into(), String::new()],
        ..PrometheusConfig::default()
    };
    assert!(matches!(
        Exporter::new(config),
        Err(ExporterError::EmptyPattern)
    ));
}
