//! Questions: a page of predictions, a series of a metric, one after the other, as a page that someone looks at asks.

use anyhow::{Result, ensure};
use bytes::Bytes;
use reqwest::Client;
use serde_json::Value;

use crate::Size;
use crate::http::{get, post};
use crate::measure::{Figure, Stopwatch, quantile};
use crate::report::{Mark, Row};
use crate::server::Server;

/// Points of the series.
const POINTS: usize = 1_000;
const PREDICTIONS: &str = "/v1/models/resnet50/versions/v1.0.0/predictions?limit=100";
const SERIES: &str = "/v1/runs/bench/metrics/loss";

/// Asks a server that has the corpus.
pub(crate) async fn measure(client: &Client, server: &Server, size: Size) -> Result<Vec<Row>> {
    log_series(client, server).await?;
    // The floor: what a question costs that needs no store.
    let nothing = times(client, &server.url("/healthz"), size.gets).await?;
    let mut rows = Vec::new();
    for (what, path, items) in [
        ("GET of 100 predictions", PREDICTIONS, 100),
        ("GET of a 1,000-point series", SERIES, POINTS),
    ] {
        let url = server.url(path);
        let found = count(&serde_json::from_slice(&get(client, &url).await?)?);
        ensure!(
            found == items,
            "{url} answers {found} items instead of {items}"
        );
        let times = times(client, &url, size.gets).await?;
        let at = |times: &[f64], share| Figure::of(vec![quantile(times, share)]);
        rows.push(
            Row::new(format!("{what}, p50"), "ms", at(&times, 0.5))
                .beside("an empty answer", at(&nothing, 0.5))
                .mark(Mark::AtMost(3.0)),
        );
        rows.push(
            Row::new("  p99", "ms", at(&times, 0.99)).beside("an empty answer", at(&nothing, 0.99)),
        );
    }
    Ok(rows)
}

async fn log_series(client: &Client, server: &Server) -> Result<()> {
    let lines = (0..POINTS).map(|step| {
        let value = 1.0 / (step + 1) as f64;
        format!("{{\"type\":\"MetricLogged\",\"run\":\"bench\",\"name\":\"loss\",\"step\":{step},\"value\":{value}}}\n")
    });
    let body: String = lines.collect();
    post(
        client,
        &server.url("/v1/events"),
        "application/x-ndjson",
        Bytes::from(body),
    )
    .await?;
    Ok(())
}

/// How many items a page or points a series has.
fn count(answer: &Value) -> usize {
    let of = |value: &Value| {
        ["items", "points"]
            .iter()
            .find_map(|name| value[name].as_array().cloned())
    };
    let items = of(answer).unwrap_or_default();
    // A metric has a series for each split.
    items
        .iter()
        .find_map(of)
        .map_or(items.len(), |points| points.len())
}

/// Milliseconds of each answer, sorted.
async fn times(client: &Client, url: &str, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let watch = Stopwatch::start();
        get(client, url).await?;
        times.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}
