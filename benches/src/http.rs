//! Rows over HTTP: events to a running server while SQLite follows, then questions to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::corpus::{self, Body, Naming};
use crate::inprocess::{JSON_EVENTS, MEMORY_MAX, memory_row, new_directory, runtime};
use crate::limits::Sink;
use crate::measure::{Figure, Stopwatch};
use crate::report::{Mark, Report, Row};
use crate::server::Server;
use crate::{Options, Size, gets};

/// Requests under way at a time, each on a connection of its own.
const REQUESTS: usize = 8;
const NDJSON: &str = "application/x-ndjson";

/// Posts the corpus to fresh servers, then asks the last one.
pub(crate) fn measure(
    options: &Options,
    size: Size,
    progress: &mut dyn FnMut(&str),
    report: &mut Report,
) -> Result<()> {
    progress("NDJSON over HTTP");
    let runtime = runtime()?;
    let bodies = Arc::new(corpus::ndjson(
        Naming::PredictionId,
        3,
        size.events,
        JSON_EVENTS,
    ));
    let client = client()?;
    let mut rates = Rates::default();
    for repetition in 1..=size.servers {
        rates
            .limit
            .push(runtime.block_on(to_sink(&client, &bodies))?);
        let directory = new_directory(&options.directory)?;
        let server = Server::start(&options.program, directory.path())?;
        let watch = Stopwatch::start();
        let path = server.url("/v1/events");
        let taken = runtime.block_on(post_all(&client, &path, &bodies, accepted))?;
        ensure!(
            taken == size.events,
            "{taken} of {} events were taken",
            size.events
        );
        rates.taken.push(watch.rate(taken));
        runtime.block_on(sqlite_has_all(&client, &server))?;
        rates.stored.push(watch.rate(taken));
        rates
            .lag
            .push(watch.elapsed().as_secs_f64() - taken as f64 / rates.taken[repetition - 1]);
        rates.memory = rates.memory.max(server.memory_peak());
        if repetition == size.servers {
            rates.report(report);
            progress("questions over HTTP");
            let asked = gets::measure(&client, &server, size);
            report.rows.extend(runtime.block_on(asked)?);
            let memory = rates.memory.max(server.memory_peak());
            report.rows.push(memory_row(
                "memory of the server meanwhile",
                memory,
                MEMORY_MAX,
            ));
        }
    }
    Ok(())
}

/// What was measured of each server.
#[derive(Default)]
struct Rates {
    taken: Vec<f64>,
    stored: Vec<f64>,
    lag: Vec<f64>,
    limit: Vec<f64>,
    memory: u64,
}

impl Rates {
    fn report(&mut self, report: &mut Report) {
        let figure = |values: &mut Vec<f64>| Figure::of(std::mem::take(values));
        report.rows.extend([
            Row::new(
                "NDJSON over HTTP, 2,000 events a request, SQLite following",
                "events/s",
                figure(&mut self.taken),
            )
            .beside("read and dropped", figure(&mut self.limit))
            .mark(Mark::AtLeast(200_000.0)),
            Row::new(
                "  until SQLite has them too",
                "events/s",
                figure(&mut self.stored),
            ),
            Row::new(
                "  SQLite's lag after the last answer",
                "s",
                figure(&mut self.lag),
            ),
        ]);
    }
}

/// A client of the servers that are measured.
pub(crate) fn client() -> Result<Client> {
    // A proxy of the surroundings has no part in this.
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(600));
    Ok(client.build()?)
}

async fn to_sink(client: &Client, bodies: &Arc<Vec<Body>>) -> Result<f64> {
    let sink = Sink::start().await?;
    let events = bodies.iter().map(|body| body.events).sum();
    let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
    let watch = Stopwatch::start();
    let read = post_all(client, &sink.url(), bodies, |answer| {
        Ok(std::str::from_utf8(answer)?.parse()?)
    })
    .await?;
    ensure!(read == bytes, "{read} of {bytes} bytes were read");
    Ok(watch.rate(events))
}

/// Posts all bodies; answers the sum of what the answers say.
pub(crate) async fn post_all(
    client: &Client,
    url: &str,
    bodies: &Arc<Vec<Body>>,
    said: fn(&[u8]) -> Result<usize>,
) -> Result<usize> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let (client, url) = (client.clone(), url.to_owned());
        let (bodies, next) = (Arc::clone(bodies), Arc::clone(&next));
        requests.spawn(async move {
            let mut sum = 0;
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                sum += said(&post(&client, &url, NDJSON, body.bytes.clone()).await?)?;
            }
            anyhow::Ok(sum)
        });
    }
    requests.join_all().await.into_iter().sum()
}

/// Posts a body; anything but success is an error that says what came.
pub(crate) async fn post(
    client: &Client,
    url: &str,
    media_type: &'static str,
    body: Bytes,
) -> Result<Bytes> {
    let request = client.post(url).header(CONTENT_TYPE, media_type).body(body);
    answer(request.send().await, url).await
}

/// Gets an answer; anything but success is an error that says what came.
pub(crate) async fn get(client: &Client, url: &str) -> Result<Bytes> {
    answer(client.get(url).send().await, url).await
}

async fn answer(sent: reqwest::Result<reqwest::Response>, url: &str) -> Result<Bytes> {
    let response = sent.with_context(|| format!("asking {url}"))?;
    let status = response.status();
    let body = response.bytes().await?;
    ensure!(
        status.is_success(),
        "{url} answered {status}: {}",
        String::from_utf8_lossy(&body[..body.len().min(500)])
    );
    Ok(body)
}

/// How many events an answer says were taken.
pub(crate) fn accepted(answer: &[u8]) -> Result<usize> {
    #[derive(Deserialize)]
    struct Taken {
        accepted: usize,
    }
    let taken: Taken = serde_json::from_slice(answer)?;
    Ok(taken.accepted)
}

/// Waits until SQLite has applied everything.
pub(crate) async fn sqlite_has_all(client: &Client, server: &Server) -> Result<()> {
    #[derive(Deserialize)]
    struct Projections {
        items: Vec<Projection>,
    }
    #[derive(Deserialize)]
    struct Projection {
        name: String,
        state: String,
        lag_events: u64,
    }
    let url = server.url("/v1/projections");
    loop {
        let projections: Projections = serde_json::from_slice(&get(client, &url).await?)?;
        let sql = projections
            .items
            .iter()
            .find(|projection| projection.name == "sql");
        let sql = sql.context("the server has no projection `sql`")?;
        ensure!(sql.state != "stopped", "the projection `sql` stopped");
        if sql.lag_events == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_body_arrives_once() {
        let bodies = Arc::new(corpus::ndjson(Naming::PredictionId, 1, 1_000, 90));
        let client = client().unwrap();
        assert!(to_sink(&client, &bodies).await.unwrap() > 0.0);
        let sink = Sink::start().await.unwrap();
        let error = get(&client, &format!("{}nothing", sink.url())).await;
        assert!(error.unwrap_err().to_string().contains("404"));
    }
}
