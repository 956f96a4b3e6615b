//! Gauges of runs come, show the latest value, and go.

use modelog_engine::event::{Event, MetricLogged, RunFinished, RunStarted};

use super::*;
use crate::testing::{Bench, value};

struct Scene {
    bench: Bench,
    registry: Arc<Registry>,
    runs: Runs,
    read: Offset,
}

impl Scene {
    fn new(max_series: usize, patterns: &[&str]) -> Self {
        let config = PrometheusConfig {
            max_series,
            run_metrics: patterns.iter().map(|text| (*text).to_owned()).collect(),
        };
        let bench = Bench::new();
        let registry = Arc::new(Registry::new(modelog_engine::metrics::ALL));
        let runs = Runs::new(&config, &registry, &bench.engine);
        Self {
            bench,
            registry,
            runs,
            read: Offset::ZERO,
        }
    }

    /// Logs events, shows them, and answers with the text.
    fn log(&mut self, events: &[Event]) -> String {
        self.bench.log(events);
        let mut reader = self.bench.engine.reader(self.read);
        for batch in reader.read(1 << 20).unwrap() {
            self.runs.apply(&batch);
        }
        self.read = reader.position();
        self.registry.render()
    }

    fn ago(&self, event: Event, by: Duration) -> Event {
        let micros = self.bench.engine.clock().now().micros() - by.as_micros() as i64;
        event.at(Timestamp::from_micros(micros))
    }
}

fn point(run: &str, name: &str, step: i64, value: f64) -> Event {
    let point = MetricLogged {
        run: Some(run.into()),
        name: name.into(),
        step: Some(step),
        value,
        ..MetricLogged::default()
    };
    point.into()
}

fn finished(run: &str) -> Event {
    let fact = RunFinished {
        run: run.into(),
        status: "finished".into(),
        ..RunFinished::default()
    };
    fact.into()
}

fn started(run: &str) -> Event {
    let fact = RunStarted {
        run: run.into(),
        ..RunStarted::default()
    };
    fact.into()
}

fn shown(text: &str, run: &str, metric: &str, split: &str) -> Option<f64> {
    let labels = format!("run=\"{run}\",metric=\"{metric}\",split=\"{split}\"");
    value(text, &format!("{RUN_METRIC}{{{labels}}}"))
}

#[test]
fn selected_metrics_show_their_latest_value() {
    let mut scene = Scene::new(10, &["loss", "val_*"]);
    let split = MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        split: Some("train".into()),
        epoch: Some(2.9),
        value: f64::INFINITY,
        ..MetricLogged::default()
    };
    let of_a_version = MetricLogged {
        model: Some("m".into()),
        version: Some("v".into()),
        name: "loss".into(),
        value: 1.0,
        ..MetricLogged::default()
    };
    let text = scene.log(&[
        point("r", "loss", 5, 0.5),
        point("r", "loss", 4, 0.7),
        point("r", "val_accuracy", 1, 0.9),
        point("r", "lossy", 1, 9.0),
        point("r", "accuracy", 1, 9.0),
        split.into(),
        of_a_version.into(),
    ]);
    assert_eq!(shown(&text, "r", "loss", ""), Some(0.5));
    assert_eq!(shown(&text, "r", "val_accuracy", ""), Some(0.9));
    assert_eq!(shown(&text, "r", "loss", "train"), Some(f64::INFINITY));
    let gauges = text.lines().filter(|line| line.starts_with(RUN_METRIC));
    assert_eq!(gauges.count(), 3, "{text}");

    // An epoch without a step is one; of the same step the later counts.
    let at_epoch = |epoch, value| MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        split: Some("train".into()),
        epoch: Some(epoch),
        value,
        ..MetricLogged::default()
    };
    let text = scene.log(&[at_epoch(2.1, 7.0).into(), at_epoch(1.9, 8.0).into()]);
    assert_eq!(shown(&text, "r", "loss", "train"), Some(7.0));
}

#[test]
fn finished_runs_are_gone_until_they_are_started_again() {
    let mut scene = Scene::new(10, &["*"]);
    let text = scene.log(&[point("r", "loss", 1, 0.5), point("s", "loss", 1, 0.6)]);
    assert_eq!(shown(&text, "r", "loss", ""), Some(0.5));
    // The order within a batch counts.
    let text = scene.log(&[
        point("r", "loss", 2, 0.4),
        finished("r"),
        point("r", "loss", 3, 0.3),
    ]);
    assert_eq!(shown(&text, "r", "loss", ""), None);
    assert_eq!(shown(&text, "s", "loss", ""), Some(0.6));
    let text = scene.log(&[point("r", "late", 9, 0.1)]);
    assert_eq!(shown(&text, "r", "late", ""), None);
    let text = scene.log(&[started("r"), point("r", "loss", 1, 0.9)]);
    assert_eq!(shown(&text, "r", "loss", ""), Some(0.9));
}

#[test]
fn silent_and_late_metrics_are_not_shown() {
    let mut scene = Scene::new(10, &["*"]);
    let late = scene.ago(point("r", "late", 1, 1.0), Duration::from_secs(601));
    let text = scene.log(&[late, point("r", "loss", 1, 0.5), point("r", "rate", 1, 0.1)]);
    assert_eq!(shown(&text, "r", "late", ""), None);

    scene.bench.clock.forward(SILENCE / 2);
    // An older step is a sign of life, too.
    scene.log(&[point("r", "loss", 0, 0.9)]);
    scene.bench.clock.forward(SILENCE / 2);
    scene.runs.free_silent(scene.bench.engine.clock().now());
    let text = scene.registry.render();
    assert_eq!(shown(&text, "r", "loss", ""), Some(0.5));
    assert_eq!(shown(&text, "r", "rate", ""), None);
    scene.bench.clock.forward(SILENCE);
    scene.runs.free_silent(scene.bench.engine.clock().now());
    assert!(!scene.registry.render().contains(RUN_METRIC));
}

#[test]
fn no_more_gauges_than_allowed() {
    let mut scene = Scene::new(2, &["*"]);
    let text = scene.log(&[
        point("r", "a", 1, 1.0),
        point("r", "b", 1, 2.0),
        point("r", "c", 1, 3.0),
        point("r", "a", 2, 4.0),
    ]);
    assert_eq!(shown(&text, "r", "a", ""), Some(4.0));
    assert_eq!(shown(&text, "r", "c", ""), None);
    // A run that finishes makes room, and so does silence.
    let text = scene.log(&[
        finished("r"),
        point("s", "c", 1, 5.0),
        point("s", "d", 1, 6.0),
    ]);
    assert_eq!(shown(&text, "s", "c", ""), Some(5.0));
    assert_eq!(shown(&text, "s", "d", ""), Some(6.0));
    scene.bench.clock.forward(SILENCE);
    let text = scene.log(&[point("t", "e", 1, 7.0)]);
    assert_eq!(shown(&text, "t", "e", ""), Some(7.0));
    assert_eq!(shown(&text, "s", "c", ""), None);
}

#[test]
fn bits_of_finished_runs() {
    let mut finished = Finished::default();
    finished.set(200, false);
    assert!(finished.0.is_empty(), "nothing to remember");
    for id in [1, 63, 64, 200] {
        assert!(!finished.contains(id));
        finished.set(id, true);
        assert!(finished.contains(id));
    }
    finished.set(64, false);
    assert!(!finished.contains(64) && finished.contains(63) && !finished.contains(5000));
}
