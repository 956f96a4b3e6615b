//! Rows without a network: bytes in memory → durable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use modelog_engine::{AppendOptions, Engine};
use modelog_formats::{Format, decode};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::corpus::{self, Body, Naming};
use crate::measure::{Figure, Stopwatch, in_turns};
use crate::memory::{Process, Watch};
use crate::report::{Mark, Report, Row};
use crate::{Options, Size, limits};

/// Threads of ours and of the limit.
const THREADS: usize = 2;
/// Calls under way at a time: while one is synced, others are parsed.
const CALLS: usize = 8;
const PARSING: &str = "serde_json parsing, 2 threads";
/// Events of a call in NDJSON, as over HTTP.
pub(crate) const JSON_EVENTS: usize = 2_000;
/// Events of a call in Arrow, as a notebook sends them.
const ARROW_EVENTS: usize = 8_192;

/// NDJSON beside serde_json.
pub(crate) fn json(
    options: &Options,
    size: Size,
    progress: &mut dyn FnMut(&str),
    report: &mut Report,
) -> Result<()> {
    progress("NDJSON → durable, in process");
    let bodies = Arc::new(corpus::ndjson(
        Naming::PredictionId,
        1,
        size.events,
        JSON_EVENTS,
    ));
    let memory = Memory::here()?;
    let parse = |bodies: &[Body]| {
        let watch = Stopwatch::start();
        limits::parse(bodies, THREADS)?;
        Ok(watch.rate(size.events))
    };
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Ndjson),
        || parse(&bodies),
    )?;
    report.rows.push(
        Row::new("NDJSON → durable, in process, 2 threads", "events/s", ours)
            .beside(PARSING, limit)
            .mark(Mark::RatioAtLeast(0.4)),
    );
    report
        .rows
        .push(memory.row("  memory meanwhile, beyond the corpus"));
    drop(bodies);
    let bodies = Arc::new(corpus::ndjson(Naming::EventId, 1, size.events, JSON_EVENTS));
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Ndjson),
        || parse(&bodies),
    )?;
    report.rows.push(
        Row::new("  the same with `id`: repeats recognised", "events/s", ours)
            .beside(PARSING, limit),
    );
    Ok(())
}

/// Arrow beside the disk.
pub(crate) fn arrow(
    options: &Options,
    size: Size,
    progress: &mut dyn FnMut(&str),
    report: &mut Report,
) -> Result<()> {
    progress("Arrow → durable, in process");
    let bodies = Arc::new(corpus::arrow(2, size.events, ARROW_EVENTS)?);
    let megabytes = bodies.iter().map(|body| body.bytes.len()).sum::<usize>() as f64 / 1e6;
    let memory = Memory::here()?;
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Arrow),
        || {
            let watch = Stopwatch::start();
            limits::write_and_sync(&options.directory, &bodies)?;
            Ok(watch.rate(size.events))
        },
    )?;
    report.rows.push(
        Row::new("Arrow → durable, in process, 2 threads", "events/s", ours)
            .beside("writing and syncing the same bytes", limit)
            .mark(Mark::RatioAtLeast(0.5)),
    );
    let bytes = |figure: Figure| figure.scaled(megabytes / size.events as f64);
    report
        .rows
        .push(Row::new("  the same in bytes", "MB/s", bytes(ours)).beside("", bytes(limit)));
    report
        .rows
        .push(memory.row("  memory meanwhile, beyond the corpus"));
    Ok(())
}

/// Appends all bodies to a new log; answers events per second.
fn append(options: &Options, bodies: &Arc<Vec<Body>>, format: Format) -> Result<f64> {
    let directory = new_directory(&options.directory)?;
    let engine = Engine::open(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .build()?;
    let rate = drive(&runtime, &engine, bodies, format)?;
    engine.close_blocking()?;
    Ok(rate)
}

fn drive(
    runtime: &Runtime,
    engine: &Engine,
    bodies: &Arc<Vec<Body>>,
    format: Format,
) -> Result<f64> {
    let events = bodies.iter().map(|body| body.events).sum();
    let next = Arc::new(AtomicUsize::new(0));
    let watch = Stopwatch::start();
    let appended = runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (engine, bodies, next) = (engine.clone(), Arc::clone(bodies), Arc::clone(&next));
            calls.spawn(async move {
                let mut appended = 0;
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let decoded =
                        decode(&body.bytes, format, &modelog_formats::Options::default())?;
                    let done = engine
                        .append(decoded.batch, AppendOptions::default())
                        .await?;
                    appended += done.accepted as usize;
                }
                anyhow::Ok(appended)
            });
        }
        calls.join_all().await.into_iter().sum::<Result<usize>>()
    })?;
    anyhow::ensure!(
        appended == events,
        "{appended} of {events} events were appended"
    );
    Ok(watch.rate(events))
}

/// A directory for data, removed when it is dropped.
pub(crate) fn new_directory(under: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("modelog-bench-")
        .tempdir_in(under)
        .with_context(|| format!("creating a directory in {}", under.display()))
}

/// Memory of this process, beyond what it had when the corpus was made.
struct Memory {
    before: u64,
    watch: Watch,
}

impl Memory {
    fn here() -> Result<Self> {
        let process = Process::this();
        Ok(Self {
            before: process.anonymous_bytes()?,
            watch: Watch::start(process),
        })
    }

    fn row(&self, what: &str) -> Row {
        let grown = self.watch.peak().saturating_sub(self.before);
        memory_row(what, grown)
    }
}

/// A row of bytes of memory.
pub(crate) fn memory_row(what: &str, bytes: u64) -> Row {
    let figure = Figure::of(vec![bytes as f64 / f64::from(1 << 20)]);
    Row::new(what, "MiB", figure).mark(Mark::AtMost(300.0))
}
