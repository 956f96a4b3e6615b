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
use crate::measure::{Figure, Spread, Stopwatch, in_turns};
use crate::memory::{Peaks, Process, Watch};
use crate::report::{Mark, Row};
use crate::{Options, Size};

/// Threads of ours and of the limit.
const THREADS: usize = 2;
/// Calls under way at a time: while one is synced, others are parsed.
const CALLS: usize = 8;
const PARSING: &str = "serde_json parsing, 2 threads";
/// Events of a call in NDJSON, as over HTTP.
pub(crate) const JSON_EVENTS: usize = 2_000;
/// Events of a call in Arrow, as a notebook sends them.
const ARROW_EVENTS: usize = 8_192;
/// What taking events in may need, in MiB.
pub(crate) const MEMORY_MAX: f64 = 300.0;
/// What it should need.
pub(crate) const MEMORY_GOAL: f64 = 200.0;

/// NDJSON beside serde_json.
pub(crate) fn json(
    options: &Options,
    size: Size,
    start: MemoryAtStart,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("NDJSON → durable, in process");
    let memory = Watch::start(Process::this());
    let bodies = Arc::new(corpus::ndjson(
        Naming::PredictionId,
        1,
        size.events,
        JSON_EVENTS,
    ));
    let parse = |bodies: &[Body]| {
        let watch = Stopwatch::start();
        modelog_limits::parse(bodies, THREADS)?;
        Ok(watch.rate(size.events))
    };
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Ndjson),
        || parse(&bodies),
    )?;
    let mut rows = vec![
        Row::new("NDJSON → durable, in process, 2 threads", "events/s", ours)
            .beside(PARSING, limit)
            .mark(Mark::RatioAtLeast(0.5))
            .goal(Mark::RatioAtLeast(0.6)),
        start.row(&memory, bytes_of(&bodies), peaks),
    ];
    drop(bodies);
    let bodies = Arc::new(corpus::ndjson(Naming::EventId, 1, size.events, JSON_EVENTS));
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Ndjson),
        || parse(&bodies),
    )?;
    rows.push(
        Row::new("  the same with `id`: repeats recognised", "events/s", ours)
            .beside(PARSING, limit),
    );
    Ok(rows)
}

/// Arrow beside the disk.
pub(crate) fn arrow(
    options: &Options,
    size: Size,
    start: MemoryAtStart,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("Arrow → durable, in process");
    let memory = Watch::start(Process::this());
    let bodies = Arc::new(corpus::arrow(2, size.events, ARROW_EVENTS)?);
    let megabytes = bytes_of(&bodies) as f64 / 1e6;
    let (ours, limit) = in_turns(
        size.repetitions,
        || append(options, &bodies, Format::Arrow),
        || {
            let watch = Stopwatch::start();
            modelog_limits::write_and_sync(&options.directory, &bodies)?;
            Ok(watch.rate(size.events))
        },
    )?;
    let bytes = |figure: Figure| figure.scaled(megabytes / size.events as f64);
    Ok(vec![
        Row::new("Arrow → durable, in process, 2 threads", "events/s", ours)
            .beside("writing and syncing the same bytes", limit)
            .mark(Mark::RatioAtLeast(0.7))
            .goal(Mark::AtLeast(5e6)),
        Row::new("  the same in bytes", "MB/s", bytes(ours)).beside("", bytes(limit)),
        start.row(&memory, bytes_of(&bodies), peaks),
    ])
}

/// Appends all bodies to a new log; answers events per second.
pub(crate) fn append(options: &Options, bodies: &Arc<Vec<Body>>, format: Format) -> Result<f64> {
    let directory = new_directory(&options.directory)?;
    let engine = Engine::open(directory.path())?;
    let rate = drive(&runtime()?, &engine, bodies, format)?;
    engine.close_blocking()?;
    Ok(rate)
}

/// A runtime with as many threads as everything in process has.
pub(crate) fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    Ok(runtime?)
}

/// Appends all bodies to a log; answers events per second.
pub(crate) fn drive(
    runtime: &Runtime,
    engine: &Engine,
    bodies: &Arc<Vec<Body>>,
    format: Format,
) -> Result<f64> {
    Ok(drive_callers(CALLS, runtime, engine, bodies, format)?.0)
}

/// Appends all bodies to a log, by so many callers of which each waits for its answer. Answers events per second, and how
/// long each call took.
pub(crate) fn drive_callers(
    callers: usize,
    runtime: &Runtime,
    engine: &Engine,
    bodies: &Arc<Vec<Body>>,
    format: Format,
) -> Result<(f64, Spread)> {
    let events = bodies.iter().map(|body| body.events).sum();
    let next = Arc::new(AtomicUsize::new(0));
    let watch = Stopwatch::start();
    let done = runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..callers {
            let (engine, bodies, next) = (engine.clone(), Arc::clone(bodies), Arc::clone(&next));
            calls.spawn(async move {
                let (mut appended, mut waits) = (0, Vec::new());
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let call = Stopwatch::start();
                    let decoded =
                        decode(&body.bytes, format, &modelog_formats::Options::default())?;
                    let done = engine
                        .append(decoded.batch, AppendOptions::default())
                        .await?;
                    appended += done.accepted as usize;
                    waits.push(call.millis());
                }
                anyhow::Ok((appended, waits))
            });
        }
        calls.join_all().await
    });
    let rate = watch.rate(events);
    let done = done.into_iter().collect::<Result<Vec<_>>>()?;
    let appended: usize = done.iter().map(|(appended, _)| appended).sum();
    anyhow::ensure!(
        appended == events,
        "{appended} of {events} events were appended"
    );
    let waits = done.into_iter().flat_map(|(_, waits)| waits).collect();
    Ok((rate, Spread::of(waits)))
}

/// A directory for data, removed when it is dropped.
pub(crate) fn new_directory(under: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("modelog-bench-")
        .tempdir_in(under)
        .with_context(|| format!("creating a directory in {}", under.display()))
}

pub(crate) fn bytes_of(bodies: &[Body]) -> usize {
    bodies.iter().map(|body| body.bytes.len()).sum()
}

/// Anonymous memory of this process before anything was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryAtStart(u64);

impl MemoryAtStart {
    pub(crate) fn now() -> Result<Self> {
        Process::this().anonymous_bytes().map(Self)
    }

    /// The peak, without what was there at the start and so many bytes of the corpus. What the allocator keeps of earlier
    /// rows counts.
    pub(crate) fn row(self, memory: &Watch, corpus: usize, peaks: &mut Peaks) -> Row {
        let grown = self.growth(memory).saturating_sub(corpus as u64);
        peaks.add(grown);
        memory_row("  memory meanwhile, beyond the corpus", grown, MEMORY_MAX)
    }

    /// The peak, without what was there at the start, in bytes.
    pub(crate) fn growth(self, memory: &Watch) -> u64 {
        memory.peak().saturating_sub(self.0)
    }
}

/// A row of bytes of memory, of which so many MiB are allowed.
pub(crate) fn memory_row(what: &str, bytes: u64, most: f64) -> Row {
    let figure = Figure::of(vec![bytes as f64 / f64::from(1 << 20)]);
    Row::new(what, "MiB", figure).mark(Mark::AtMost(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_measured_and_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::of_a_test(directory.path());
        let size = Size {
            events: 5_000,
            repetitions: 2,
            ..Size::of(true)
        };
        let start = MemoryAtStart::now().unwrap();
        let mut said = Vec::new();
        let mut progress = |what: &str| said.push(what.to_owned());
        let mut peaks = Peaks::default();
        let mut rows = arrow(&options, size, start, &mut peaks, &mut progress).unwrap();
        rows.extend(json(&options, size, start, &mut peaks, &mut progress).unwrap());
        assert!(peaks.highest() > 0);
        assert_eq!(said.len(), 2);
        for row in rows.iter().filter(|row| row.unit != "MiB") {
            let limit = row.limit.as_ref().unwrap();
            assert!(row.figure.least > 0.0 && limit.ratio > 0.0, "{row:?}");
        }
        let marked = rows.iter().filter(|row| row.mark.is_some());
        assert_eq!(marked.count(), 4);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
