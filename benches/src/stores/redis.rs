//! Live views in Redis: a log of predictions into a server, beside the commands that were sent for it sent again by a bare
//! client; and what reading from them takes.

use std::cell::RefCell;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use modelog_engine::read::{
    Key, PageRequest, ReadError, ReadStore, SeriesOwner, SeriesQuery, VersionKey,
};
use modelog_engine::{AppendOptions, batch::EventBatch, event::MetricLogged};
use modelog_limits::{Recorder, redis_forget};
use modelog_redis::{RedisConfig, RedisStore, Streams};
use reqwest::Url;
use serde::Deserialize;

use crate::corpus::{self, Naming, Predictions};
use crate::history::{History, Opened, PATIENCE, Settings};
use crate::inprocess::{MEMORY_MAX, MemoryAtStart, memory_row, new_directory, runtime};
use crate::keepalive::Line;
use crate::measure::{Figure, Spread, Stopwatch, in_turns};
use crate::memory::{Peaks, Process, Watch};
use crate::report::{Mark, Row};
use crate::server::Server;
use crate::{Options, Size};

/// The prefix that is written to, and removed again.
const PREFIX: &str = "modelog_bench";
/// Events whose commands are written down: about a kilobyte each.
const EVENTS_MAX: usize = 200_000;
/// How many times as many events are followed where the newest are kept alone.
const PUSHED_OUT: usize = 20;
/// What redis-py does.
const REDIS_PY: &str = include_str!("redis_py.py");
/// What the events are made from that are waited for.
const FRESH_SEED: u64 = 12;
/// The run whose metric is read, and how many points it has.
const RUN: &str = "measured";
const POINTS: usize = 1_000;

pub(super) fn measure(
    options: &Options,
    url: &str,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let parsed = Url::parse(url).context("the URL of the server")?;
    ensure!(
        parsed.scheme() == "redis" && parsed.password().is_none(),
        "only a server without TLS and password can be measured: redis://HOST:PORT"
    );
    let host = parsed.host_str().unwrap_or("localhost");
    let server = format!("{host}:{}", parsed.port().unwrap_or(6379));
    progress("a log of predictions");
    let events = size.events.min(EVENTS_MAX);
    let mut scene = Scene {
        options,
        history: History::take_in(options, events)?.without_bodies(),
        server,
        runtime: runtime()?,
        start: MemoryAtStart::now()?,
        peaks: RefCell::default(),
    };
    let everything = RedisConfig {
        url: url.to_owned(),
        prefix: PREFIX.into(),
        predictions_window: usize::MAX >> 1,
        ..RedisConfig::default()
    };
    progress("the log into Redis, its commands written down");
    let directory = new_directory(&options.directory)?;
    let file = directory.path().join("commands");
    let recorder = Recorder::start(&scene.server, &file);
    let recorder = scene.runtime.block_on(recorder)?;
    scene.follow(&RedisConfig {
        url: format!("redis://{}", recorder.address()),
        ..everything.clone()
    })?;
    let commands = recorder.finish();
    progress("the log into Redis, and the same commands by a bare client");
    let (ours, limit) = in_turns(
        size.servers,
        || scene.follow(&everything),
        || {
            scene.runtime.block_on(async {
                redis_forget(&scene.server, PREFIX).await?;
                let watch = Stopwatch::start();
                commands.send(&scene.server).await?;
                anyhow::Ok(watch.rate(events))
            })
        },
    )?;
    let mut rows = vec![
        Row::new("the log → Redis, every event kept", "events/s", ours)
            .beside("the same commands, pipelined", limit)
            .mark(Mark::RatioAtLeast(0.8)),
    ];
    progress("the log into Redis, the newest alone");
    let newest = RedisConfig {
        predictions_window: 10_000,
        streams: Streams {
            predictions: false,
            metrics: false,
            events: false,
        },
        ..everything.clone()
    };
    scene.history = History::take_in_single_versions(options, events * PUSHED_OUT)?;
    let rates: Result<Vec<_>> = (0..size.servers).map(|_| scene.follow(&newest)).collect();
    rows.push(
        Row::new(
            "  the newest 10,000 of each of 4 versions, no streams",
            "events/s",
            Figure::of(rates?),
        )
        .mark(Mark::AtLeast(1e6)),
    );
    rows.push(memory_row(
        "  memory meanwhile",
        scene.peaks.borrow().highest(),
        MEMORY_MAX,
    ));
    progress("reading from Redis");
    rows.extend(scene.reads(&newest, size.gets)?);
    progress("events over HTTP into Redis");
    rows.push(scene.freshness(&newest, size.gets)?);
    scene
        .runtime
        .block_on(redis_forget(&scene.server, PREFIX))?;
    Ok(rows)
}

/// What the usual client takes for the same, in milliseconds.
#[derive(Debug, Deserialize)]
struct RedisPy {
    predictions: f64,
    series: f64,
    statistics: f64,
}

/// Asks it, if there is a Python that has it.
fn redis_py(url: &str, times: usize) -> Result<Option<RedisPy>> {
    let python = || Command::new("python3");
    let tried = python().args(["-c", "import redis"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return Ok(None);
    }
    let times = times.to_string();
    let done = python()
        .args(["-c", REDIS_PY, url, PREFIX, &times])
        .output()?;
    ensure!(
        done.status.success(),
        "redis-py failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(Some(serde_json::from_slice(&done.stdout)?))
}

/// A log to be followed, and a server.
struct Scene<'a> {
    options: &'a Options,
    history: History,
    server: String,
    runtime: tokio::runtime::Runtime,
    start: MemoryAtStart,
    peaks: RefCell<Peaks>,
}

impl Scene<'_> {
    /// Fills an empty prefix; answers how many events a second it took.
    fn follow(&self, config: &RedisConfig) -> Result<f64> {
        self.runtime.block_on(redis_forget(&self.server, PREFIX))?;
        let data = self.history.copy(self.options)?;
        let opened = Opened::on(data.path(), &Settings::default())?;
        let store = RedisStore::new(config.clone())?;
        let memory = Watch::start(Process::this());
        let rate = opened.runtime.block_on(async {
            let tail = opened.engine.tail();
            let watch = Stopwatch::start();
            let projection = opened.engine.project(Box::new(store.projection()));
            projection.wait_for(tail, PATIENCE).await?;
            let rate = watch.rate(self.history.events);
            let status = projection.status();
            ensure!(
                status.last_error.is_none(),
                "it failed meanwhile: {status:?}"
            );
            anyhow::Ok(rate)
        })?;
        self.start.row(&memory, 0, &mut self.peaks.borrow_mut());
        opened.close()?;
        Ok(rate)
    }

    /// What answers take, one after the other.
    fn reads(&self, config: &RedisConfig, gets: usize) -> Result<Vec<Row>> {
        self.runtime.block_on(redis_forget(&self.server, PREFIX))?;
        let data = self.history.copy(self.options)?;
        let opened = Opened::on(data.path(), &Settings::default())?;
        let points = (0..POINTS as i64).map(|step| {
            MetricLogged {
                run: Some(RUN.into()),
                name: "loss".into(),
                value: 1.0 / (step + 1) as f64,
                step: Some(step),
                ..MetricLogged::default()
            }
            .into()
        });
        let points = EventBatch::from_events(&points.collect::<Vec<_>>())?;
        let appended = opened
            .engine
            .append_blocking(points, AppendOptions::default());
        appended?;
        let store = RedisStore::new(config.clone())?;
        let rows = opened.runtime.block_on(async {
            let projection = opened.engine.project(Box::new(store.projection()));
            projection.wait_for(opened.engine.tail(), PATIENCE).await?;
            let reads = store.reads();
            let version = VersionKey::Name {
                model: Key::Name("resnet50".into()),
                version: "v1.0.0".into(),
            };
            let run = SeriesOwner::Run(Key::Name(RUN.into()));
            let page = PageRequest {
                limit: 100,
                cursor: None,
            };
            let mut spreads = [const { Vec::new() }; 3];
            for _ in 0..gets {
                let watch = Stopwatch::start();
                let found = reads.predictions(&version, page.clone()).await?;
                spreads[0].push(watch.millis());
                ensure!(
                    found.is_some_and(|page| page.items.len() == 100),
                    "100 predictions"
                );
                let watch = Stopwatch::start();
                let found = reads.points(&run, "loss", &SeriesQuery::default()).await?;
                spreads[1].push(watch.millis());
                ensure!(
                    found.is_some_and(|found| found.points.len() == POINTS),
                    "the series"
                );
                let watch = Stopwatch::start();
                let found = reads.version_stats(&version, None, None).await?;
                spreads[2].push(watch.millis());
                ensure!(found.is_some(), "the statistics");
            }
            let [predictions, series, statistics] = spreads.map(Spread::of);
            let peer = redis_py(&config.url, gets)?;
            let row = |what: &str, spread: &Spread, most: f64, peer: Option<f64>| {
                let figure = |millis| Figure::of(vec![millis]);
                let row = Row::new(what, "ms", figure(spread.at(0.5))).mark(Mark::AtMost(most));
                match peer {
                    Some(millis) => row
                        .beside("redis-py", figure(millis))
                        .goal(Mark::RatioAtMost(0.2)),
                    None => row,
                }
            };
            let of = |read: fn(&RedisPy) -> f64| peer.as_ref().map(read);
            anyhow::Ok(vec![
                row(
                    "100 predictions from Redis, p50",
                    &predictions,
                    1.0,
                    of(|peer| peer.predictions),
                ),
                row(
                    "a series of 1,000 points from Redis, p50",
                    &series,
                    1.0,
                    of(|peer| peer.series),
                ),
                row(
                    "statistics of a version from Redis, p50",
                    &statistics,
                    0.5,
                    of(|peer| peer.statistics),
                ),
            ])
        })?;
        opened.close()?;
        Ok(rows)
    }

    /// From the request with an event to the first question that Redis answers with it, one after the other.
    fn freshness(&self, config: &RedisConfig, events: usize) -> Result<Row> {
        self.runtime.block_on(redis_forget(&self.server, PREFIX))?;
        let data = new_directory(&self.options.directory)?;
        let file = data.path().join("modelog.toml");
        let settings = format!("[redis]\nurl = {:?}\nprefix = {PREFIX:?}\n", config.url);
        std::fs::write(&file, settings)?;
        let server = Server::start_with(&self.options.program, data.path(), &file)?;
        let mut line = Line::to(&server)?;
        let store = RedisStore::new(config.clone())?;
        let reads = store.reads();
        let bodies = corpus::ndjson(Naming::PredictionId, FRESH_SEED, events, 1);
        let mut waits = Vec::with_capacity(events);
        for (body, sent) in bodies.iter().zip(Predictions::new(FRESH_SEED)) {
            let model = Key::Name(sent.model.into());
            let watch = Stopwatch::start();
            line.post(body)?;
            self.runtime.block_on(async {
                loop {
                    match reads.prediction(&model, &sent.id).await {
                        Ok(Some(_)) => return Ok(()),
                        // The model may not be there either, or not yet whole.
                        Ok(None) | Err(ReadError::NotKept { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            })?;
            waits.push(watch.millis());
        }
        // The first ones make models and versions.
        let figure = Figure::of(vec![Spread::of(waits.split_off(events / 10)).at(0.99)]);
        let what = "an event over HTTP until Redis answers with it, p99";
        Ok(Row::new(what, "ms", figure).mark(Mark::AtMost(10.0)))
    }
}
