//! The whole engine under one seed: writer, space ahead, statistics, projections, followers, callers that repeat
//! themselves, a compactor and an operator, on a disk that fails, fills up and crashes, with a clock that jumps.
//!
//! The engine is the product's, compiled with simulated threads (`engine/simulation/src/threads.rs`): at each lock, wait,
//! wake-up and I/O the seed says who goes on. So the seed alone decides what happens, and it happens again.
//!
//! ```text
//! seed ─▶ plan of lives ──▶ open ─ everybody works ─ crash | close | finish ─▶ reboot ─▶ … ─▶ last life ─▶ checks
//!      └▶ turns            (world)                                                            (witness, store)
//! ```
//!
//! # What is checked
//! Of every run: the four points of `witness`; that each store is the log up to its checkpoint; that statistics at any
//! moment are a fold of the log, and listeners are told each count once; that names keep their numbers; that the log
//! opens after every crash. Deadlocks and lost wake-ups show as a run in which nobody can go on.
//!
//! # When a seed fails
//! It is printed with the last things that happened. `MODELOG_SEED=… cargo test -p modelog-simulation` runs it alone;
//! `MODELOG_TRACE=FILE` writes down all that happened.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod cellar;
mod chance;
mod disk;
mod producers;
mod readers;
mod scheduler;
mod store;
mod trace;
mod witness;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use modelog_simulated_engine::threads::time;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use scheduler::Turns;

type Notes = BTreeMap<&'static str, u64>;

/// Runs something under a seed; if it fails, says how to see that again.
fn simulate(seed: u64, body: impl Fn() + Send + Sync + 'static) -> std::thread::Result<usize> {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(1_000_000);
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    trace::begin();
    time::reset();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(Turns::new(seed), config).run(body)
    }));
    if let Some(path) = std::env::var_os("MODELOG_TRACE") {
        std::fs::write(path, trace::whole()).unwrap();
    }
    outcome
}

/// Runs a seed; answers what happened how often, and the trace.
fn run(seed: u64) -> (Notes, String) {
    let notes = Arc::new(Mutex::new(Notes::new()));
    let told = Arc::clone(&notes);
    let outcome = simulate(seed, move || *told.lock().unwrap() = world::run(seed));
    if let Err(panic) = outcome {
        eprintln!("{}\nfailed with MODELOG_SEED={seed}", trace::last(60));
        std::panic::resume_unwind(panic);
    }
    (std::mem::take(&mut *notes.lock().unwrap()), trace::whole())
}

/// The seed that was asked for.
fn asked() -> Option<u64> {
    let text = std::env::var("MODELOG_SEED").ok()?;
    Some(text.parse().expect("MODELOG_SEED is a number"))
}

/// So many seeds: fewer where the code is not optimised, more if the long versions are wanted.
fn seeds(few: u64, many: u64) -> std::ops::Range<u64> {
    match asked() {
        Some(seed) => seed..seed + 1,
        None if std::env::var_os("MODELOG_TESTS_FULL").is_some() => 0..many,
        None if cfg!(debug_assertions) => 0..few / 10,
        None => 0..few,
    }
}

/// Does something with each seed, two at a time; none is begun after one has failed.
fn each(seeds: std::ops::Range<u64>, with: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| with(seed)));
                    if let Err(panic) = outcome {
                        end.store(0, Ordering::Relaxed);
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// What the seeds must have met: where nothing goes wrong nothing is proven.
const MET: [&str; 20] = [
    "a caller went away",
    "a duplicate was recognised",
    "a listener was told",
    "a model existed",
    "a store failed by itself",
    "a store was away",
    "a store was rebuilt",
    "a store was stopped",
    "an id was taken",
    "an outcome was unknown",
    "calls whose outcome stayed unknown",
    "every store had everything",
    "segments were retired",
    "statistics were compared",
    "the backlog was full",
    "the disk was full",
    "the log could not be opened",
    "the log was closed",
    "the log was closed in order",
    "the log was poisoned",
];

#[test]
fn every_seed_keeps_every_promise() {
    let met = Mutex::new(Notes::new());
    let seeds = seeds(600, 50_000);
    let enough = seeds.end - seeds.start >= 600;
    each(seeds, |seed| {
        for (what, times) in run(seed).0 {
            *met.lock().unwrap().entry(what).or_default() += times;
        }
    });
    let met = met.into_inner().unwrap();
    println!("{met:#?}");
    if enough {
        for what in MET {
            assert!(met[what] > 0, "never: {what}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    each(seeds(40, 2000), |seed| {
        let (first, second) = (run(seed).1, run(seed).1);
        let mut lines = first.lines().zip(second.lines());
        let differing = lines.find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed} did something else");
        assert!(first == second, "seed {seed} went on longer");
    });
}

#[test]
fn other_seeds_give_other_traces() {
    let (first, second) = (run(1).1, run(2).1);
    assert_ne!(first, second);
}

#[test]
fn waiting_for_what_never_comes_is_a_failure() {
    let outcome = simulate(1, || world::wait_for_nothing(1));
    let panic = outcome.expect_err("nobody could go on");
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("deadlock"), "{message}");
}
