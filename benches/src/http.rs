//! Rows over HTTP: events to a running server, alone and while its stores follow, then questions to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use modelog_formats::Format;
use modelog_limits::Sink;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::corpus::{self, Body, Naming};
use crate::inprocess::{
    JSON_EVENTS, MEMORY_MAX, append, bytes_of, memory_row, new_directory, runtime,
};
use crate::measure::{Figure, Stopwatch};
use crate::memory::Peaks;
use crate::report::{Mark, Report, Row};
use crate::server::Server;
use crate::wrk::{Requests, Wrk};
use crate::{Options, Size, gets};

/// Requests under way at a time, each on a connection of its own.
const CONNECTIONS: usize = 8;
const NDJSON: &str = "application/x-ndjson";

/// How often Prometheus asks, which is more often than it does by itself.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);
/// What the rows are held against.
const IN_PROCESS: &str = "in process";

/// Posts the corpus to fresh servers, then asks the last one.
pub(crate) fn measure(
    options: &Options,
    size: Size,
    wrk: &Wrk,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
    report: &mut Report,
) -> Result<()> {
    progress("NDJSON over HTTP");
    let bodies = Arc::new(corpus::ndjson(
        Naming::PredictionId,
        3,
        size.events,
        JSON_EVENTS,
    ));
    let sending = Sending {
        options,
        wrk,
        requests: Requests::bulk(&options.directory, &bodies)?,
        events: size.events,
        runtime: runtime()?,
        client: client()?,
    };
    let mut rates = Rates::default();
    for repetition in 1..=size.servers {
        let in_process = append(options, &bodies, Format::Ndjson)?;
        rates.in_process.push(in_process);
        rates.dropped.push(sending.to_sink(bytes_of(&bodies))?);
        rates.alone.push(sending.alone(peaks)?);
        let directory = new_directory(&options.directory)?;
        let server = Server::start(&options.program, directory.path())?;
        sending.followed(&server, &mut rates)?;
        if repetition == size.servers {
            rates.report(report);
            progress("questions over HTTP");
            let asked = gets::measure(&sending.client, &server, size);
            report.rows.extend(sending.runtime.block_on(asked)?);
            rates.memory = rates.memory.max(server.memory_peak());
            report.rows.push(memory_row(
                "memory of the server meanwhile",
                rates.memory,
                MEMORY_MAX,
            ));
        }
        rates.memory = rates.memory.max(server.memory_peak());
        peaks.add(rates.memory);
    }
    Ok(())
}

/// The corpus, ready to be sent.
struct Sending<'a> {
    options: &'a Options,
    wrk: &'a Wrk,
    requests: Requests,
    events: usize,
    runtime: Runtime,
    client: Client,
}

impl Sending<'_> {
    /// Events a second to a server that drops them.
    fn to_sink(&self, bytes: usize) -> Result<f64> {
        let sink = self.runtime.block_on(Sink::start())?;
        let (seconds, read) = self.wrk.bulk(&sink.url(), &self.requests, CONNECTIONS)?;
        ensure!(read == bytes as u64, "{read} of {bytes} bytes were read");
        Ok(self.events as f64 / seconds)
    }

    /// Events a second to a server that nothing follows.
    fn alone(&self, peaks: &mut Peaks) -> Result<f64> {
        let directory = new_directory(&self.options.directory)?;
        let server = Server::start_alone(&self.options.program, directory.path())?;
        let seconds = self.send(&server)?;
        peaks.add(server.memory_peak());
        Ok(self.events as f64 / seconds)
    }

    /// Sends to a server with its stores, which Prometheus asks meanwhile, and waits for SQLite.
    fn followed(&self, server: &Server, rates: &mut Rates) -> Result<()> {
        let scraping = self.runtime.spawn(scrape(
            self.client.clone(),
            server.url("/metrics"),
            Arc::clone(&rates.scrapes),
        ));
        let watch = Stopwatch::start();
        let seconds = self.send(server)?;
        let answered = watch.elapsed().as_secs_f64();
        self.runtime
            .block_on(sqlite_has_all(&self.client, server))?;
        let stored = watch.elapsed().as_secs_f64();
        ensure!(
            !scraping.is_finished(),
            "the metrics could not be asked for"
        );
        scraping.abort();
        let events = self.events as f64;
        rates.taken.push(events / seconds);
        // wrk reads what it sends before it begins.
        let lag = stored - answered;
        rates.stored.push(events / (seconds + lag));
        rates.lag.push(lag);
        Ok(())
    }

    /// Sends everything; answers the seconds it took.
    fn send(&self, server: &Server) -> Result<f64> {
        let (seconds, taken) =
            self.wrk
                .bulk(&server.url("/v1/events"), &self.requests, CONNECTIONS)?;
        let events = self.events as u64;
        ensure!(taken == events, "{taken} of {events} events were taken");
        Ok(seconds)
    }
}

/// Asks for metrics until that fails, as Prometheus does.
async fn scrape(client: Client, url: String, count: Arc<AtomicUsize>) {
    while get(&client, &url).await.is_ok() {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(SCRAPED_EVERY).await;
    }
}

/// What was measured of each server.
#[derive(Default)]
struct Rates {
    in_process: Vec<f64>,
    dropped: Vec<f64>,
    alone: Vec<f64>,
    taken: Vec<f64>,
    stored: Vec<f64>,
    lag: Vec<f64>,
    scrapes: Arc<AtomicUsize>,
    memory: u64,
}

impl Rates {
    fn report(&mut self, report: &mut Report) {
        let figure = |values: &mut Vec<f64>| Figure::of(std::mem::take(values));
        let in_process = figure(&mut self.in_process);
        report.rows.extend([
            Row::new(
                "NDJSON over HTTP, 2,000 events a request, wrk, ingest alone",
                "events/s",
                figure(&mut self.alone),
            )
            .beside(IN_PROCESS, in_process)
            .mark(Mark::RatioAtLeast(0.6))
            .goal(Mark::AtLeast(1e6)),
            Row::new(
                "  with SQLite and Parquet following, Prometheus asking",
                "events/s",
                figure(&mut self.taken),
            )
            .beside(IN_PROCESS, in_process)
            .mark(Mark::RatioAtLeast(0.35))
            .goal(Mark::RatioAtLeast(0.5)),
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
            Row::new(
                "  the same to a server that drops what it reads",
                "events/s",
                figure(&mut self.dropped),
            )
            .beside(IN_PROCESS, in_process),
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

/// Posts all bodies; answers the sum of what the answers say.
pub(crate) async fn post_all(
    client: &Client,
    url: &str,
    bodies: &Arc<Vec<Body>>,
    said: fn(&[u8]) -> Result<usize>,
) -> Result<usize> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..CONNECTIONS {
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
    while sqlite(client, server).await?.lag_events > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Where SQLite stands.
#[derive(Debug, Deserialize)]
pub(crate) struct Projection {
    name: String,
    state: String,
    /// The offset of the next event it takes.
    pub(crate) offset: u64,
    pub(crate) lag_events: u64,
}

impl Projection {
    /// The offset of the next event the log takes.
    pub(crate) fn tail(&self) -> u64 {
        self.offset + self.lag_events
    }
}

/// Asks where SQLite stands.
pub(crate) async fn sqlite(client: &Client, server: &Server) -> Result<Projection> {
    #[derive(Deserialize)]
    struct Projections {
        items: Vec<Projection>,
    }
    let url = server.url("/v1/projections");
    let projections: Projections = serde_json::from_slice(&get(client, &url).await?)?;
    let mut items = projections.items.into_iter();
    let sql = items.find(|projection| projection.name == "sql");
    let sql = sql.context("the server has no projection `sql`")?;
    ensure!(sql.state != "stopped", "the projection `sql` stopped");
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_body_arrives_once() {
        let bodies = Arc::new(corpus::ndjson(Naming::PredictionId, 1, 1_000, 90));
        let client = client().unwrap();
        let sink = Sink::start().await.unwrap();
        let said = |answer: &[u8]| Ok(std::str::from_utf8(answer)?.parse()?);
        let read = post_all(&client, &sink.url(), &bodies, said).await.unwrap();
        assert_eq!(read, bytes_of(&bodies));
        let error = get(&client, &sink.url()).await;
        assert!(error.unwrap_err().to_string().contains("405"));
    }
}
