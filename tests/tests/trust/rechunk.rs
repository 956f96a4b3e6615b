//! However a history is cut into calls, handed over, abandoned, taken up again, rebuilt, or read from files instead of
//! segments: every projection comes to the same state.
//!
//! One history is appended in one call to one log, and in many to another. The first one's projections are fed once, from
//! start to end. Those of the second are fed in portions that overlap, in calls that are abandoned half-way and made again; they
//! are opened again and cleared in between, and the process starts again in the middle. Then the history is made Parquet, its
//! segments and all snapshots are deleted, and everything is built once more from what is left.
//!
//! | projection | its state, compared |
//! |---|---|
//! | statistics | the fold, to the bit, as a snapshot encodes it |
//! | SQLite | every answer to every question of the read contract |
//! | Parquet | every row of every kind, as a reader of the files finds it |
//! | a plain fold | what every event amounts to, with the numbers of its names (`workload::shelf`) |
//!
//! `MODELOG_SEED` sets the seed; the smallest case found that fails is printed with it.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

use std::collections::{BTreeMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use modelog_engine::batch::{EventBatch, LoggedBatch};
use modelog_engine::event::{Event, Json, TagsSet};
use modelog_engine::projection::Projection;
use modelog_engine::sim::{Crash, SimStorage};
use modelog_engine::{AppendOptions, Checkpoint, Engine, Offset, Storage as _};
use modelog_sql::{SqlConfig, SqlStore};
use modelog_tests::read_store::{SUBJECTS, event, picture};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::runtime::Runtime;

use crate::glob;
use crate::support::{data, disk, full};
use crate::workload::seed;
use crate::workload::shelf::{self, Shelf};
use crate::workload::world::{World, parquet};

/// How a projection is handed the next portion.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain,
    /// From so many events before its checkpoint on.
    Overlapping(u64),
    /// Abandoned after a number of polls; then its store is asked where it stands.
    Abandoned(usize),
    /// Opened again afterwards, as after a failure.
    Reopened,
    /// Cleared afterwards, to start over; once.
    Cleared,
}

/// A portion: about how many bytes, and how.
#[derive(Clone, Copy, Debug)]
struct Portion {
    bytes: usize,
    step: Step,
}

/// A history, and one way of cutting it.
#[derive(Clone, Debug)]
struct Case {
    events: Vec<Event>,
    /// Sizes of calls, in turn; whether the segment ends behind them.
    calls: Vec<(usize, bool)>,
    portions: Vec<Portion>,
    /// How much of it there is, of ten, when the process starts again.
    restart: usize,
}

fn portion() -> impl Strategy<Value = Portion> {
    let step = prop_oneof![
        3 => Just(Step::Plain),
        2 => (1..20_u64).prop_map(Step::Overlapping),
        2 => (1..12_usize).prop_map(Step::Abandoned),
        1 => Just(Step::Reopened),
        1 => Just(Step::Cleared),
    ];
    let bytes = prop::sample::select(vec![1, 1_500, 10_000, 1 << 20]);
    (bytes, step).prop_map(|(bytes, step)| Portion { bytes, step })
}

fn case() -> impl Strategy<Value = Case> {
    // Some have an id, and some of those are sent again later on, as they were.
    let sent = (event(), any::<bool>(), 0..6_usize);
    let events = vec(sent, 1..70).prop_map(|sent| {
        let mut events: Vec<Event> = Vec::new();
        for (number, (event, identified, back)) in sent.into_iter().enumerate() {
            let again = events
                .len()
                .checked_sub(back * 3)
                .and_then(|at| events.get(at));
            match again.filter(|again| again.id.is_some()).cloned() {
                Some(again) => events.push(again),
                None if identified => events.push(event.with_id(format!("e{number}"))),
                None => events.push(event),
            }
        }
        events
    });
    let calls = vec((1..9_usize, prop::bool::weighted(0.15)), 1..8);
    (events, calls, vec(portion(), 1..8), 0..10_usize).prop_map(
        |(events, calls, portions, restart)| Case {
            events,
            calls,
            portions,
            restart,
        },
    )
}

/// Mentions everything once: which number a name gets is the affair of the log, and not what this is about.
fn introduction() -> Vec<Event> {
    let tags = |entity: &&str| {
        TagsSet {
            entity: (*entity).into(),
            tags: Json::default(),
        }
        .into()
    };
    SUBJECTS.iter().map(tags).collect()
}

fn append(engine: &Engine, events: &[Event]) {
    let batch = EventBatch::from_events(events).unwrap();
    engine
        .append_blocking(batch, AppendOptions::default())
        .unwrap();
}

/// The states of all projections.
#[derive(Debug, PartialEq)]
struct States {
    statistics: Vec<u8>,
    sql: Vec<String>,
    rows: BTreeMap<String, HashSet<String>>,
    shelf: Vec<u64>,
}

/// A log with everything that follows it.
struct Scene {
    disk: SimStorage,
    world: World,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let disk = disk(seed());
        let world = World::open(&disk).unwrap();
        append(&world.engine, &introduction());
        Self {
            disk,
            world,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The process starts again.
    fn restart(self) -> Self {
        let Self {
            disk,
            world,
            directory,
        } = self;
        world.close().unwrap();
        Self {
            world: World::open(&disk).unwrap(),
            disk,
            directory,
        }
    }

    fn sql(&self) -> SqlStore {
        let config = SqlConfig {
            directory: self.directory.path().into(),
            ..SqlConfig::default()
        };
        SqlStore::new(config).unwrap()
    }

    /// Lets all projections follow to the tail, in these portions.
    async fn follow(&self, portions: &[Portion]) {
        let engine = &self.world.engine;
        // What projections are handed has been counted, as the runtime sees to.
        while engine.with_statistics(|s| s.offset()) < engine.tail() {
            tokio::task::yield_now().await;
        }
        let mut compactor = self.world.store.projection(engine.cold());
        feed(&mut compactor, engine, portions).await;
        self.world.store.flush().await.unwrap();
        drop(compactor);
        feed(&mut Shelf::new(&self.disk), engine, portions).await;
        let store = self.sql();
        feed(&mut store.projection(), engine, portions).await;
        store.close().await;
    }

    async fn states(&self) -> States {
        let engine = &self.world.engine;
        let store = self.sql();
        let sql = picture(&store.reads()).await;
        store.close().await;
        let (stands, shelf) = shelf::look(&self.disk).unwrap();
        assert_eq!(stands.offset, engine.tail());
        assert_eq!(engine.with_statistics(|s| s.offset()), engine.tail());
        States {
            statistics: engine.with_statistics(|s| s.encode()),
            sql,
            rows: glob::read(&self.disk, &parquet()).rows,
            shelf,
        }
    }

    /// Leaves nothing but the Parquet files.
    async fn reduce(self) -> Self {
        let engine = &self.world.engine;
        engine.seal().unwrap();
        let mut compactor = self.world.store.projection(engine.cold());
        feed(&mut compactor, engine, &[]).await;
        assert_eq!(self.world.store.flush().await.unwrap(), engine.tail());
        drop(compactor);
        engine.cold().retire().unwrap();
        let Self { disk, world, .. } = self;
        world.close().unwrap();
        for name in ["snapshots", "shelf"] {
            for file in disk.files(&data().join(name)).unwrap() {
                disk.remove(&file).unwrap();
            }
        }
        let disk = disk.after(Crash::Kill { seed: 0 });
        Self {
            world: World::open(&disk).unwrap(),
            disk,
            directory: tempfile::tempdir().unwrap(),
        }
    }
}

/// Hands everything from its checkpoint to the tail to a projection, in portions of all sorts, then plainly.
async fn feed(projection: &mut dyn Projection, engine: &Engine, portions: &[Portion]) {
    let mut at = open(projection).await;
    let mut turns = portions.iter().cycle().take(portions.len() * 12);
    let mut clear = projection.rebuildable();
    loop {
        let portion = turns.next().copied().unwrap_or(Portion {
            bytes: 1 << 20,
            step: Step::Plain,
        });
        let done = at.map_or(0, |at| at.offset.0);
        if done >= engine.tail().0 {
            return;
        }
        let from = match portion.step {
            Step::Overlapping(back) => done.saturating_sub(back),
            _ => done,
        };
        let (batches, to) = read(engine, from, done, portion.bytes, projection.fold_version());
        let apply = projection.apply(&batches, engine.view(), to);
        let applied = match portion.step {
            Step::Abandoned(polls) => polled(apply, polls).await,
            _ => Some(apply.await),
        };
        at = match (applied, portion.step) {
            (Some(applied), Step::Reopened) => {
                applied.unwrap();
                open(projection).await
            }
            (Some(applied), Step::Cleared) if clear => {
                applied.unwrap();
                clear = false;
                projection.clear().await.unwrap();
                open(projection).await
            }
            (Some(applied), _) => {
                applied.unwrap();
                Some(to)
            }
            (None, _) => open(projection).await,
        };
    }
}

/// Opens a projection, and finds good what its store holds, as the runtime does.
async fn open(projection: &mut dyn Projection) -> Option<Checkpoint> {
    let at = projection.open().await.unwrap();
    if let Some(at) = &at {
        projection.start(at);
    }
    at
}

/// Batches from an offset on that reach beyond another one, and where they end.
fn read(
    engine: &Engine,
    from: u64,
    beyond: u64,
    bytes: usize,
    fold_version: u32,
) -> (Vec<Arc<LoggedBatch>>, Checkpoint) {
    let mut reader = engine.reader(Offset(from));
    let mut batches = Vec::new();
    loop {
        batches.extend(reader.read(bytes).unwrap());
        let last: &Arc<LoggedBatch> = batches.last().unwrap();
        if last.end().0 > beyond {
            let to = Checkpoint {
                log: engine.log_id(),
                epoch: last.epoch,
                offset: last.end(),
                fold_version,
            };
            return (batches, to);
        }
    }
}

/// Drops a future that is not ready after a number of polls.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// One call, one feeding.
async fn whole(case: &Case) -> States {
    let scene = Scene::new();
    append(&scene.world.engine, &case.events);
    scene.follow(&[]).await;
    scene.states().await
}

/// Many of both, with a restart in between.
async fn cut(case: &Case) -> (States, States) {
    let mut scene = Scene::new();
    let restart = case.events.len() * case.restart / 10;
    let mut appended = 0;
    let mut calls = case.calls.iter().cycle();
    while appended < case.events.len() {
        let (len, seal) = *calls.next().unwrap();
        let limit = if appended < restart {
            restart
        } else {
            case.events.len()
        };
        let end = (appended + len).min(limit);
        append(&scene.world.engine, &case.events[appended..end]);
        if seal {
            scene.world.engine.seal().unwrap();
        }
        if end == restart {
            scene.follow(&case.portions).await;
            scene = scene.restart();
        }
        appended = end;
    }
    scene.follow(&case.portions).await;
    let states = scene.states().await;
    let reduced = scene.reduce().await;
    reduced.follow(&case.portions).await;
    (states, reduced.states().await)
}

fn compare(runtime: &Runtime, case: &Case) -> Result<(), TestCaseError> {
    let expected = runtime.block_on(whole(case));
    let (cut, from_files) = runtime.block_on(cut(case));
    for (found, what) in [(cut, "cut"), (from_files, "from the files alone")] {
        prop_assert!(
            found.statistics == expected.statistics,
            "statistics, {}",
            what
        );
        prop_assert_eq!(&found.shelf, &expected.shelf, "the plain fold, {}", what);
        prop_assert_eq!(&found.rows, &expected.rows, "Parquet, {}", what);
        prop_assert_eq!(&found.sql, &expected.sql, "SQLite, {}", what);
    }
    Ok(())
}

#[test]
fn every_projection_comes_to_the_same_state_however_history_is_cut() {
    let cases = match (full(), cfg!(debug_assertions)) {
        (true, _) => 600,
        (false, false) => 40,
        (false, true) => 4,
    };
    let config = Config {
        cases,
        max_shrink_iters: if cfg!(debug_assertions) { 30 } else { 300 },
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&case(), |case| compare(&runtime, &case));
    if let Err(error) = outcome {
        panic!("MODELOG_SEED={}: {error}", seed());
    }
}
