//! What the server answers about all that was recorded: nothing printed at the end comes from the demo's own memory.

use anyhow::Result;
use modelog_engine::Timestamp;
use serde::Deserialize;

use super::client::Client;
use super::record::{CANDIDATES, EXPERIMENT, MODEL};

/// How many of the newest runs are shown.
const RUNS: usize = 6;

/// The newest runs.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) newest: Vec<RunInShort>,
    /// Whether there are older ones.
    pub(super) more: bool,
}

/// A run with its final metrics.
#[derive(Debug)]
pub(super) struct RunInShort {
    pub(super) run: Run,
    /// The last step of any series: with a point an epoch, the number of epochs.
    pub(super) epochs: i64,
    pub(super) train: Finals,
    pub(super) validation: Finals,
    /// Validation loss by epoch.
    pub(super) curve: Vec<f64>,
}

/// The last loss and accuracy on a split.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Finals {
    pub(super) loss: Option<f64>,
    pub(super) accuracy: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Run {
    pub(super) run: String,
    pub(super) version: Option<String>,
    pub(super) status: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SeriesInShort {
    name: String,
    split: Option<String>,
    last: Point,
}

#[derive(Debug, Deserialize)]
struct Series {
    points: Vec<Point>,
}

#[derive(Debug, Deserialize)]
struct Point {
    step: i64,
    /// A number, or the name of one that is not finite.
    value: serde_json::Value,
}

/// Counts over everything in the log.
#[derive(Debug, Deserialize)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) metric_points: u64,
    pub(super) predictions: u64,
    pub(super) feedback: u64,
}

/// The experiment's newest runs.
pub(super) async fn runs(client: &Client) -> Result<Runs> {
    let page: List<Run> = client
        .get(&format!("/v1/runs?experiment={EXPERIMENT}&limit={RUNS}"))
        .await?;
    let more = page.next_cursor.is_some();
    let mut newest = Vec::new();
    for run in page.items {
        newest.push(run_in_short(client, run).await?);
    }
    Ok(Runs { newest, more })
}

/// Counts over everything.
pub(super) async fn totals(client: &Client) -> Result<Totals> {
    client.get("/v1/stats").await
}

async fn run_in_short(client: &Client, run: Run) -> Result<RunInShort> {
    let metrics = format!("/v1/runs/{}/metrics", run.run);
    let series: List<SeriesInShort> = client.get(&metrics).await?;
    let last = |name: &str, split: &str| {
        series
            .items
            .iter()
            .find(|series| series.name == name && series.split.as_deref() == Some(split))
            .and_then(|series| series.last.value.as_f64())
    };
    let finals = |split: &str| Finals {
        loss: last("loss", split),
        accuracy: last("accuracy", split),
    };
    let (train, validation) = (finals("train"), finals("val"));
    let epochs = series.items.iter().map(|series| series.last.step).max();
    let curve: Series = client.get(&format!("{metrics}/loss?split=val")).await?;
    let curve = curve
        .points
        .iter()
        .filter_map(|point| point.value.as_f64())
        .collect();
    Ok(RunInShort {
        run,
        epochs: epochs.unwrap_or(0),
        train,
        validation,
        curve,
    })
}

/// Two versions compared; what `a` has more than `b`. Here `a` is the newer one.
#[derive(Debug, Deserialize)]
pub(super) struct Comparison {
    pub(super) a: Side,
    pub(super) b: Side,
    pub(super) difference: Differences,
    pub(super) winner: Option<String>,
    pub(super) method: Method,
}

#[derive(Debug, Deserialize)]
pub(super) struct Side {
    pub(super) version: String,
    pub(super) predictions: u64,
    pub(super) labelled: u64,
    pub(super) label_coverage: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) accuracy_interval: Option<Interval>,
    pub(super) confidence_mean: Option<f64>,
    pub(super) latency_ms_p50: Option<f64>,
    pub(super) latency_ms_p95: Option<f64>,
    pub(super) latency_ms_p99: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Differences {
    pub(super) accuracy: Option<Difference>,
    pub(super) confidence_mean: Option<Difference>,
    pub(super) latency_ms_p50: Option<Shift>,
    pub(super) latency_ms_p95: Option<Shift>,
    pub(super) latency_ms_p99: Option<Shift>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Difference {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

/// A difference of latencies, which has no interval.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Shift {
    pub(super) value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Interval {
    pub(super) lower: f64,
    pub(super) upper: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Method {
    pub(super) level: f64,
    pub(super) share_interval: String,
    pub(super) share_difference: String,
}

impl Comparison {
    /// The version that won, if one did.
    pub(super) fn winner(&self) -> Option<&str> {
        match self.winner.as_deref()? {
            "a" => Some(&self.a.version),
            _ => Some(&self.b.version),
        }
    }
}

/// Where the two versions are compared, from a moment on. The same images answered once more are no new evidence, so an
/// earlier demo is left out.
pub(super) fn comparison_path(since: Timestamp) -> String {
    let [older, newer] = CANDIDATES.map(|candidate| candidate.version);
    format!("/v1/compare?a={MODEL}@{newer}&b={MODEL}@{older}&since={since}")
}

/// Compares the two versions.
pub(super) async fn comparison(client: &Client, path: &str) -> Result<Comparison> {
    client.get(path).await
}
