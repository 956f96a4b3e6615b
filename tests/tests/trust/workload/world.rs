//! A log, its Parquet files and a projection on one simulated disk; and a life of them.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use modelog_engine::sim::SimStorage;
use modelog_engine::{Clock, Engine, Foundations, Offset, ProjectionHandle};
use modelog_parquet::{ParquetConfig, ParquetStore};
use tokio::runtime::Runtime;

use super::script::Expected;
use super::shelf::Shelf;
use crate::support::{HandClock, config, data, foundations};

/// How long a projection may take to catch up, or files to be made. What never comes fails, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn parquet() -> PathBuf {
    data().join("parquet")
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) store: ParquetStore,
    pub(crate) clock: Arc<HandClock>,
    running: Option<Running>,
}

/// What follows the log.
#[derive(Debug)]
struct Running {
    runtime: Runtime,
    shelf: ProjectionHandle,
}

impl World {
    /// Opens the log and the files; nothing follows yet.
    pub(crate) fn open(disk: &SimStorage) -> Result<Self, Box<dyn Error>> {
        Self::open_at(disk, HandClock::new())
    }

    fn open_at(disk: &SimStorage, clock: Arc<HandClock>) -> Result<Self, Box<dyn Error>> {
        let door: Arc<dyn Clock> = Arc::<HandClock>::clone(&clock);
        // Small files, small row groups; nothing is closed by time unless the clock is moved.
        let files = ParquetConfig {
            path: parquet(),
            target_file_bytes: 64 << 10,
            max_delay: Duration::from_secs(36 * 3600),
            pending_bytes: 24 << 10,
            check_every: Duration::from_millis(5),
        };
        let store = ParquetStore::open(files, disk.storage(), Arc::clone(&door))?;
        let foundations = Foundations {
            cold: Some(store.cold()),
            clock: door,
            ..foundations(disk)
        };
        let mut config = config();
        config.log.keep_segments = Duration::ZERO;
        let engine = Engine::open_on(config, foundations)?;
        Ok(Self {
            engine,
            store,
            clock,
            running: None,
        })
    }

    /// Starts the compactor and the projection.
    pub(crate) fn following(mut self, disk: &SimStorage) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let shelf = runtime.block_on(async {
            let compactor = self.store.projection(self.engine.cold());
            self.engine.project(Box::new(compactor));
            self.engine.project(Box::new(Shelf::new(disk)))
        });
        self.running = Some(Running { runtime, shelf });
        self
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it is followed")
    }

    /// Waits until the projection has everything.
    pub(crate) fn caught_up(&self) -> Result<(), Box<dyn Error>> {
        let Running { runtime, shelf } = self.running();
        runtime.block_on(shelf.wait_for(self.engine.tail(), PATIENCE))?;
        Ok(())
    }

    /// Ends the segment, makes files of all there is, and deletes the segments they hold.
    pub(crate) fn compact(&self) -> Result<Offset, Box<dyn Error>> {
        self.engine.seal()?;
        let flushed = self
            .running()
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.store.flush()).await });
        let end = flushed??;
        self.engine.cold().retire()?;
        Ok(end)
    }

    /// Lets hours pass, for every clock.
    pub(crate) fn pass_hours(&self, hours: u64) {
        let passed = Duration::from_secs(hours * 3600);
        self.clock.pass(passed);
        let micros = passed.as_micros() as i64;
        self.clock.now.fetch_add(micros, Ordering::SeqCst);
    }

    /// Closes the log in order, and ends everything.
    pub(crate) fn close(self) -> Result<(), Box<dyn Error>> {
        let closed = match &self.running {
            Some(running) => running.runtime.block_on(self.engine.close()),
            None => self.engine.close_blocking(),
        };
        self.end();
        Ok(closed?)
    }

    /// Ends everything as it stands; the log is closed without waiting for who follows it.
    pub(crate) fn end(self) {
        let Self {
            engine,
            store,
            running,
            ..
        } = self;
        drop((engine, store));
        drop(running);
    }
}

/// How far a life has come by an I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Calls that were answered.
    pub(crate) acknowledged: usize,
    /// Calls that may be there.
    pub(crate) submitted: usize,
}

/// A life, as its callers saw it: by number of I/O, the calls answered and submitted.
#[derive(Debug, Default)]
pub(crate) struct Timeline(Vec<(u64, Reach)>);

impl Timeline {
    fn note(&mut self, disk: &SimStorage, reach: Reach) {
        self.0.push((disk.ios(), reach));
    }

    /// What a crash at `k` must, and may leave.
    pub(crate) fn at(&self, k: u64) -> Reach {
        let before = self.0.partition_point(|(at, _)| *at <= k);
        before
            .checked_sub(1)
            .map_or_else(Reach::default, |last| self.0[last].1)
    }

    /// How far it came.
    pub(crate) fn end(&self) -> Reach {
        self.0
            .last()
            .map_or_else(Reach::default, |(_, reach)| *reach)
    }
}

/// Makes all calls that were not answered yet, over a few days: also those found in the log, as callers do that never heard;
/// of a Kafka partition only those that are not there, since who resumes it goes by the positions in the log. In between,
/// files are made and segments deleted; the log is closed in order and opened, and once left without waiting for those who
/// follow. Ends with the first thing that fails: what was answered until then is in the timeline.
pub(crate) fn live(
    disk: &SimStorage,
    expected: &Expected,
    start: Reach,
) -> (Timeline, Result<(), Box<dyn Error>>) {
    let mut timeline = Timeline::default();
    let outcome = try_live(disk, expected, start, &mut timeline);
    (timeline, outcome)
}

fn try_live(
    disk: &SimStorage,
    expected: &Expected,
    start: Reach,
    timeline: &mut Timeline,
) -> Result<(), Box<dyn Error>> {
    // What was found is as good as answered.
    let found = start.submitted;
    let mut reach = Reach {
        acknowledged: found,
        submitted: found,
    };
    timeline.note(disk, reach);
    let mut world = World::open(disk)?.following(disk);
    let calls = expected.calls.len();
    for number in start.acknowledged..calls {
        if number < found && !expected.calls[number].is_answered_again() {
            continue;
        }
        world.pass_hours(7);
        reach.submitted = found.max(number + 1);
        timeline.note(disk, reach);
        match expected.calls[number].append(&world.engine) {
            Ok(_) => reach.acknowledged = found.max(number + 1),
            Err(error) => {
                if error.is_not_applied() {
                    reach.submitted = found.max(number);
                    timeline.note(disk, reach);
                }
                world.end();
                return Err(error.into());
            }
        }
        timeline.note(disk, reach);
        if number % 5 == 3 {
            world.compact()?;
        }
        if number == calls / 3 || number == calls * 2 / 3 {
            let clock = Arc::clone(&world.clock);
            if number == calls / 3 {
                world.caught_up()?;
                world.close()?;
            } else {
                world.end();
            }
            world = World::open_at(disk, clock)?.following(disk);
        }
    }
    world.compact()?;
    world.caught_up()?;
    world.end();
    Ok(())
}
