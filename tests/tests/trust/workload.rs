//! A life of everything on one disk, crashed at every I/O; and crashed again at the I/Os of what follows.
//!
//! The log rolls small segments, is closed in order and left in a hurry, writes snapshots; the compactor of
//! `modelog-parquet` makes files of it on the same disk, and segments they hold are deleted; a projection keeps effects and
//! checkpoint there too. Twenty calls of producers, keyed callers and a Kafka partition bring facts out of order, repeats,
//! positions without events, and records of what was refused.
//!
//! # Which check is which rule of the architecture
//!
//! | rule | check |
//! |---|---|
//! | 1 acknowledged ⊆ recovered ⊆ submitted | `Expected::check`: whole calls from the first on, as many as were answered at least and as were submitted at most, field by field; saying all again takes none twice |
//! | 2 dense, never reused, prefixes stay | `content`: offsets, epochs and times in order, names with the numbers they had; no file and no store holds an offset the log has not; what one recovery found the next one finds |
//! | 3 a batch and its origin | `Expected::check`: the origins that are there are those of the events that are there; `repeat_all`: each call that is there gets its first answer, to the offset |
//! | 4 stores equal a fold | `check_shelf`: effects up to the checkpoint, before the log is even opened; statistics to the bit; Parquet files whole, no row twice, and equal to the segments (`verify`); a log opened from the files alone |
//! | 5 no order is refused | the script: feedback, run and prediction before what they belong to, all answered |
//! | 6 nothing is dropped silently | the script: records of an unreadable event and of a conflict, between the events they came with |
//! | 7 bounded memory | not here: it is a matter of size, not of crashes |
//! | 8 failures poison, or are told | `a_failure_then_a_restart_then_a_crash…`: answers are true, the next process recovers |
//! | 9 never overwritten | `never_overwritten`: every write and cut of both lives against what was synced before |
//!
//! # What else there is
//! `engine/tests/crash` crashes the log alone, more densely, with racing callers, padded groups on disks that tear blocks, full
//! disks, flipped bits, failed reads, and (`forgotten`) syncs that failed before a restart. `exporters/parquet/tests/crash`
//! crashes log and files without a store, backups and restores, and jumps with clocks.
//!
//! # Replaying
//! A failure prints the seed, both crashes and what led to them. `MODELOG_SEED` sets the seed of all that is left to chance.
//! Which of two threads did its I/O first is not of the seed: the trace that is printed says so.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod rules;
mod script;
pub(crate) mod shelf;
pub(crate) mod world;

use modelog_engine::sim::{Crash, Fault, History, Io, SimStorage};

use crate::support::{disk, full, part};
use rules::{check, go_on, never_overwritten};
use script::Expected;
use world::{Reach, Timeline, World, live};

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MODELOG_SEED").ok();
    given.map_or(1, |seed| seed.parse().expect("MODELOG_SEED is a number"))
}

/// A number that follows from the seed, alike for alike arguments.
fn chance(what: u64, k: u64, below: u64) -> u64 {
    let mut mixed = seed()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(what << 48)
        .wrapping_add(k);
    for _ in 0..3 {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
    }
    mixed % below
}

/// Says what it was if the test fails while this lives.
struct Story<F: Fn() -> String>(F);

impl<F: Fn() -> String> Drop for Story<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MODELOG_SEED={}: {}", seed(), (self.0)());
        }
    }
}

/// A life, recorded.
struct Recorded {
    expected: Expected,
    history: History,
    timeline: Timeline,
}

impl Recorded {
    fn new() -> Self {
        let expected = Expected::new();
        let disk = disk(seed());
        disk.record();
        let (timeline, outcome) = live(&disk, &expected, Reach::default());
        outcome.unwrap();
        let recorded = Self {
            history: disk.history(),
            expected,
            timeline,
        };
        recorded.is_worth_it(&disk);
        recorded
    }

    /// That the life has in it what it is said to have.
    fn is_worth_it(&self, disk: &SimStorage) {
        let all = self.expected.calls.len();
        assert_eq!(self.timeline.end().acknowledged, all);
        let trace = format!("{:?}", self.history);
        let count = |what: &str| trace.lines().filter(|line| line.contains(what)).count();
        assert!(count("Rename(\"/var/data/log/spare.tmp\"") > 5, "rolls");
        let removed = "Remove(\"/var/data/log/0";
        assert!(count(removed) > 4, "deleted segments");
        assert!(count(".snap\")") > 5, "snapshots");
        assert!(count(".parquet\")") > 5, "files");
        assert!(count("shelf/checkpoint\")") > 5, "checkpoints");
        never_overwritten(&[(&self.history, self.history.ios().len())]);
        let whole = Reach {
            acknowledged: all,
            submitted: all,
        };
        assert_eq!(
            check(&disk.after(Crash::LoseAll), &self.expected, whole),
            all
        );
    }
}

/// Zero-filling comes in many I/Os alike.
fn is_zeros(io: &Io) -> bool {
    io.is_write() && io.thread() == "modelog-ahead"
}

/// Whether it is the sync of what callers wait for.
fn is_of_a_group(io: &Io) -> bool {
    io.is_sync() && io.thread() == "modelog-writer" && io.file().is_some()
}

/// The I/Os at which it is crashed: all of them in an optimised build, but for zero-filling.
fn crash_points(history: &History) -> Vec<u64> {
    let mut replay = history.replay();
    let points = history.crash_points().filter(|k| {
        replay.go_to(*k);
        full() || !replay.next_io().is_some_and(is_zeros)
    });
    let step = if cfg!(debug_assertions) && !full() {
        13
    } else {
        1
    };
    part(points.step_by(step)).collect()
}

/// The ways to crash that are tried at an I/O: all in the long version, else one that is drawn.
fn crashes(k: u64) -> Vec<Crash> {
    if full() {
        let losses = (0..4).map(|loss| Crash::power_loss(chance(1, k * 8 + loss, u64::MAX)));
        let kill = Crash::Kill {
            seed: chance(2, k, u64::MAX),
        };
        return [Crash::LoseAll, kill].into_iter().chain(losses).collect();
    }
    vec![a_crash(k)]
}

fn a_crash(k: u64) -> Crash {
    let seed = chance(3, k, u64::MAX);
    match chance(4, k, 4) {
        0 => Crash::LoseAll,
        1 => Crash::Kill { seed },
        _ => Crash::power_loss(seed),
    }
}

#[test]
fn a_crash_at_any_io_breaks_no_rule() {
    let Recorded {
        expected,
        history,
        timeline,
    } = Recorded::new();
    let mut replay = history.replay();
    let points = crash_points(&history);
    let (mut checked, mut gone_on) = (0, 0);
    for k in points {
        replay.go_to(k);
        for crash in crashes(k) {
            let at = || format!("{crash:?} at I/O {k}, {:?}\n{history:?}", replay.next_io());
            let _story = Story(at);
            let left = replay.crash(crash);
            let recovered = check(&left, &expected, timeline.at(k));
            checked += 1;
            if full() || chance(5, k, 3) == 0 {
                let second_life = go_on(&left, &expected, recovered);
                let happened = (k - history.crash_points().start()) as usize;
                let whole = second_life.ios().len();
                never_overwritten(&[(&history, happened), (&second_life, whole)]);
                gone_on += 1;
            }
        }
    }
    eprintln!(
        "{checked} crashes at {} I/Os, {gone_on} gone on with",
        history.ios().len()
    );
    assert!(checked > 30 && gone_on > 5, "{checked}, {gone_on}");
}

/// What follows a crash, recorded: the recovery and everything that starts with it, and a while of going on.
fn second_life(left: &SimStorage, expected: &Expected, reach: Reach) -> (History, usize, u64) {
    left.record();
    let world = World::open(left).unwrap();
    let recovered = expected.check(&world.engine, reach.acknowledged, reach.submitted);
    let world = world.following(left);
    world.caught_up().unwrap();
    let opened = left.ios();
    world.compact().unwrap();
    world.end();
    (left.history(), recovered, opened)
}

#[test]
fn a_crash_at_any_io_of_what_follows_a_crash_breaks_no_rule() {
    let Recorded {
        expected,
        history,
        timeline,
    } = Recorded::new();
    let mut replay = history.replay();
    let (mut lives, mut checked) = (0, 0);
    for k in crash_points(&history) {
        replay.go_to(k);
        // What only the page cache has is the likeliest to be lost by what follows.
        let unsynced = replay.next_io().is_some_and(is_of_a_group);
        if !full() && chance(6, k, if unsynced { 2 } else { 16 }) != 0 {
            continue;
        }
        let first = match a_crash(k + 1_000_000) {
            Crash::LoseAll if unsynced => Crash::Kill { seed: k },
            other => other,
        };
        let left = replay.crash(first);
        let (second, recovered, opened) = second_life(&left, &expected, timeline.at(k));
        lives += 1;
        let happened = (k - history.crash_points().start()) as usize;
        never_overwritten(&[(&history, happened), (&second, second.ios().len())]);
        let mut again = second.replay();
        for j in second.crash_points() {
            again.go_to(j);
            // Every I/O of the recovery, if asked for, and some of what comes after it.
            let odds = match (full(), j < opened) {
                (true, true) => 1,
                (true, false) => 8,
                (false, true) => 6,
                (false, false) => 16,
            };
            let zeros = again.next_io().is_some_and(is_zeros);
            if zeros || chance(7, k * 10_000 + j, odds) != 0 {
                continue;
            }
            let crash = a_crash(k * 10_000 + j);
            let at = || {
                format!(
                    "{first:?} at I/O {k}, {:?}, then {crash:?} at {j}, {:?}\nthe first life\n{history:?}\nthe second\n{second:?}",
                    replay.next_io(),
                    again.next_io()
                )
            };
            let _story = Story(at);
            let left = again.crash(crash);
            // What one recovery found was perhaps answered by then.
            let reach = Reach {
                acknowledged: match j < opened {
                    true => timeline.at(k).acknowledged,
                    false => recovered,
                },
                submitted: recovered,
            };
            let found = check(&left, &expected, reach);
            checked += 1;
            if chance(8, k * 10_000 + j, 8) == 0 {
                go_on(&left, &expected, found);
            }
        }
    }
    eprintln!("{lives} second lives, {checked} crashes of them");
    assert!(lives > 3 && checked > 20, "{lives}, {checked}");
}

#[test]
fn a_failure_then_a_restart_then_a_crash_breaks_no_rule() {
    let Recorded {
        expected, history, ..
    } = Recorded::new();
    let (mut failed, mut checked) = (0, 0);
    for k in crash_points(&history) {
        if !full() && chance(9, k, 14) != 0 {
            continue;
        }
        let fault = [Fault::LosingSync, Fault::Io, Fault::ShortWrite, Fault::Full]
            [chance(10, k, 4) as usize];
        let disk = disk(chance(11, k, u64::MAX));
        disk.fail_at(k, fault);
        let (first, outcome) = live(&disk, &expected, Reach::default());
        failed += usize::from(outcome.is_err());
        disk.fail_no_more();
        let what = || format!("{fault:?} of I/O {k}: {outcome:?}");
        let _story = Story(what);
        // The process starts again; the machine does not, and takes for written what it failed to write.
        disk.record();
        let world = World::open(&disk).unwrap();
        let reach = first.end();
        let recovered = expected.check(&world.engine, reach.acknowledged, reach.submitted);
        world.end();
        let start = Reach {
            acknowledged: reach.acknowledged,
            submitted: recovered,
        };
        let (second, outcome) = live(&disk, &expected, start);
        outcome.unwrap();
        let history = disk.history();
        let mut replay = history.replay();
        for j in history.crash_points() {
            if chance(12, k * 10_000 + j, if full() { 8 } else { 60 }) != 0 {
                continue;
            }
            replay.go_to(j);
            let crash = a_crash(k * 10_000 + j + 7);
            let at = || format!("then {crash:?} at {j}, {:?}\n{history:?}", replay.next_io());
            let _story = Story(at);
            let reach = match second.at(j) {
                // Before it was opened again, and while that was under way.
                Reach { submitted: 0, .. } => Reach {
                    submitted: recovered,
                    ..reach
                },
                later => later,
            };
            check(&replay.crash(crash), &expected, reach);
            checked += 1;
        }
    }
    eprintln!("{failed} lives that saw a failure, {checked} crashes after it");
    assert!(failed > 2 && checked > 20, "{failed}, {checked}");
}

#[test]
fn a_call_without_events_is_made_again_after_a_failure() {
    let expected = Expected::new();
    let silent = (0..expected.calls.len()).filter(|call| expected.is_silent(*call));
    let by_writer = |io: &Io| io.thread() == "modelog-writer" && (io.is_write() || io.is_sync());
    for (call, fault) in silent.flat_map(|call| {
        [Fault::LosingSync, Fault::Io, Fault::ShortWrite].map(|fault| (call, fault))
    }) {
        let what = || format!("{fault:?} of what call {call} needs");
        let _story = Story(what);
        let disk = disk(chance(13, call as u64, u64::MAX));
        let world = World::open(&disk).unwrap();
        for earlier in &expected.calls[..call] {
            earlier.append(&world.engine).unwrap();
        }
        disk.fail_first(by_writer, fault);
        let answer = expected.calls[call].append(&world.engine);
        assert!(answer.is_err_and(|error| !error.is_not_applied()));
        world.end();
        disk.fail_no_more();
        let world = World::open(&disk).unwrap();
        let recovered = expected.check(&world.engine, call, call + 1);
        world.end();
        let start = Reach {
            acknowledged: call,
            submitted: recovered,
        };
        live(&disk, &expected, start).1.unwrap();
        let world = World::open(&disk).unwrap();
        expected.repeat_all(&world.engine, expected.calls.len());
        world.end();
    }
}
