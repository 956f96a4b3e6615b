//! What a start takes: opening a log that nobody closed, and replaying segments into a projection that does nothing.
//!
//! A copy of a log in use is what a power loss leaves of it, with everything that was written on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Config, Engine, inspect};
use modelog_formats::Format;
use tempfile::TempDir;

use crate::corpus::{self, Naming};
use crate::history::{copy_tree, files_below};
use crate::inprocess::{JSON_EVENTS, MemoryAtStart, drive, new_directory, runtime};
use crate::measure::{Stopwatch, in_turns};
use crate::memory::{Peaks, Process, Watch};
use crate::report::{Mark, Row};
use crate::{Options, Size};

/// Events that are in memory at a time, before they are in the log.
const PART_EVENTS: usize = 200_000;
/// A part of the corpus has a seed of its own, from here on.
const SEED: u64 = 2_000;
/// What a file may hold beyond what was written: zeros ahead.
const AHEAD_BYTES: u64 = 16 << 20;
/// How long a replay may take; far more than any needs.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(crate) fn measure(
    options: &Options,
    size: Size,
    start: MemoryAtStart,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("a log that nobody closed");
    let mut rows = Vec::new();
    let memory = Watch::start(Process::this());
    rows.push(unsealed(options, size)?);
    progress("replay of segments");
    rows.push(replay(options, size)?);
    let corpus = PART_EVENTS.min(size.events) * EVENT_BYTES;
    rows.push(start.row(&memory, corpus, peaks));
    Ok(rows)
}

/// About what an event of the corpus takes as NDJSON.
const EVENT_BYTES: usize = 270;

fn unsealed(options: &Options, size: Size) -> Result<Row> {
    let killed = Killed::write(options, size.unsealed_bytes)?;
    let (ours, limit) = in_turns(
        size.servers,
        || killed.open(options),
        || {
            let watch = Stopwatch::start();
            let bytes = modelog_limits::scan(std::slice::from_ref(&killed.segment))?;
            Ok(gigabytes_a_second(bytes, &watch))
        },
    )?;
    let what = format!("open with {} MiB of unsealed log", killed.bytes >> 20);
    Ok(Row::new(what, "GB/s", ours)
        .beside("reading it with a checksum", limit)
        .mark(Mark::AtLeast(1.0))
        .goal(Mark::AtLeast(2.0)))
}

fn gigabytes_a_second(bytes: u64, watch: &Stopwatch) -> f64 {
    bytes as f64 / 1e9 / watch.elapsed().as_secs_f64()
}

/// What is left of a log in use.
struct Killed {
    directory: TempDir,
    /// Its only segment, which has everything.
    segment: PathBuf,
    /// What was written to it.
    bytes: u64,
    events: u64,
}

impl Killed {
    /// Fills a log with so many bytes, and copies it while it is open.
    fn write(options: &Options, bytes: u64) -> Result<Self> {
        let directory = new_directory(&options.directory)?;
        let engine = Engine::open(Self::config(directory.path(), bytes))?;
        let runtime = runtime()?;
        for seed in SEED.. {
            if written(directory.path())? >= bytes + AHEAD_BYTES {
                break;
            }
            let part = corpus::ndjson(Naming::PredictionId, seed, PART_EVENTS, JSON_EVENTS);
            drive(&runtime, &engine, &Arc::new(part), Format::Ndjson)?;
        }
        let left = new_directory(&options.directory)?;
        copy_tree(directory.path(), left.path())?;
        let events = engine.tail().0;
        engine.close_blocking()?;
        let segments = inspect::segments(left.path())?;
        let [segment] = segments.as_slice() else {
            anyhow::bail!("the log has several segments: {segments:?}");
        };
        let segment = segment.path.clone();
        let frames = inspect::frames(&segment)?;
        let last = frames.last().context("there are no frames")?;
        Ok(Self {
            directory: left,
            bytes: last.position + last.bytes,
            segment,
            events,
        })
    }

    /// Segments that hold so much and more.
    fn config(data: &Path, bytes: u64) -> Config {
        let mut config = Config::new(data);
        config.log.segment_bytes = 2 * bytes + 4 * AHEAD_BYTES;
        config
    }

    /// Opens a copy; answers how many GB a second were read.
    fn open(&self, options: &Options) -> Result<f64> {
        let data = new_directory(&options.directory)?;
        copy_tree(self.directory.path(), data.path())?;
        // Or the disk is still busy with it.
        for file in files_below(data.path())? {
            std::fs::File::open(file)?.sync_all()?;
        }
        let config = Self::config(data.path(), self.bytes);
        let watch = Stopwatch::start();
        let engine = Engine::open(config)?;
        let rate = gigabytes_a_second(self.bytes, &watch);
        ensure!(
            engine.tail().0 == self.events,
            "{} of {} events were found",
            engine.tail(),
            self.events
        );
        engine.close_blocking()?;
        Ok(rate)
    }
}

/// How long the last segment's file is.
fn written(data: &Path) -> Result<u64> {
    let segments = inspect::segments(data)?;
    Ok(segments.last().map_or(0, |segment| segment.bytes))
}

fn replay(options: &Options, size: Size) -> Result<Row> {
    let data = new_directory(&options.directory)?;
    let engine = Engine::open(data.path())?;
    let runtime = runtime()?;
    let mut left = size.events;
    for seed in SEED.. {
        if left == 0 {
            break;
        }
        let events = left.min(PART_EVENTS);
        let part = corpus::ndjson(Naming::PredictionId, seed, events, JSON_EVENTS);
        drive(&runtime, &engine, &Arc::new(part), Format::Ndjson)?;
        left -= events;
    }
    engine.close_blocking()?;
    let segments: Vec<_> = inspect::segments(data.path())?
        .into_iter()
        .map(|segment| segment.path)
        .collect();
    let (ours, limit) = in_turns(
        size.repetitions,
        || into_nothing(data.path(), size.events),
        || {
            let watch = Stopwatch::start();
            modelog_limits::scan(&segments)?;
            Ok(watch.rate(size.events))
        },
    )?;
    Ok(
        Row::new("replay of segments into a no-op", "events/s", ours)
            .beside("reading them with a checksum", limit)
            .mark(Mark::AtLeast(3e6))
            .goal(Mark::AtLeast(10e6)),
    )
}

/// Feeds all events to a projection that does nothing; answers events per second.
fn into_nothing(data: &Path, events: usize) -> Result<f64> {
    let engine = Engine::open(data)?;
    ensure!(
        engine.tail().0 == events as u64,
        "{} of {events} events are there",
        engine.tail()
    );
    let runtime = runtime()?;
    let rate = runtime.block_on(async {
        let watch = Stopwatch::start();
        let projection = engine.project(Box::new(Nothing));
        projection.wait_for(engine.tail(), PATIENCE).await?;
        anyhow::Ok(watch.rate(events))
    })?;
    engine.close_blocking()?;
    Ok(rate)
}

/// A projection that is always empty.
struct Nothing;

#[async_trait]
impl Projection for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn fold_version(&self) -> u32 {
        1
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(None)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        _: View<'_>,
        _: Checkpoint,
    ) -> Result<(), ProjectionError> {
        std::hint::black_box(batches);
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_closed_opens_with_everything() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::of_a_test(directory.path());
        let killed = Killed::write(&options, 1 << 20).unwrap();
        assert!(killed.bytes >= 1 << 20 && killed.events > 0);
        assert!(killed.open(&options).unwrap() > 0.0);
        // What is measured is not what was there before.
        assert!(killed.open(&options).unwrap() > 0.0);
        drop(killed);
        let size = Size {
            events: 5_000,
            repetitions: 1,
            ..Size::of(true)
        };
        let row = replay(&options, size).unwrap();
        assert!(row.figure.least > 0.0 && row.limit.unwrap().figure.least > 0.0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
