//! The log held against a `Vec`, in random lives: callers that retry, readers, rolls, compaction, retention, crashes,
//! failing and full disks, clocks that jump, backups and restores.
//!
//! ```text
//! proptest ─▶ acts ─┬─▶ the log, its Parquet files, a simulated disk ─▶ answers, what is read ─┐
//!                   └─▶ the oracle: a Vec and rules that look through it ────────────────────▶ compared, after every act
//! ```
//!
//! Where the outcome of a call is not known, the oracle keeps a world for each; what is read later shows which it was.
//!
//! # What is checked after every act
//! M1. Each answer is the one a `Vec` gives: offsets, counts, conflicts, gaps, first answers to repeated calls. Only
//!     trouble that came true excuses another one, and it must say truly whether the call was applied.
//! M2. The log read from its start is the `Vec`, event by event, whatever part is in segments or Parquet files, in
//!     whatever pieces it is read. Offsets are dense; epochs and append times do not go back.
//! M3. A reader that follows is woken and shown everything in order. After an opening its checkpoint fits if and only if
//!     what it has seen is a part of the log.
//! M4. Names keep their numbers; the statistics are a fold over what is read.
//! M5. No segment goes before it has been in the cold tier for its time; after it, all go.
//! M6. Backups hold what the log held; a restored log is the `Vec`, cut; a restore that was interrupted is no log.
//! M7. The log can be opened after everything, and takes events as long as nothing stands in its way.
//!
//! # Replaying
//! Cases follow from seeds that count up from one; which I/O of which thread meets trouble is part of a case, and calls
//! that are under way together are admitted in a known order. A case that fails is shortened and printed with its seed;
//! `MODELOG_SEED=n` runs that one alone.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod act;
mod checks;
mod door;
mod events;
mod life;
mod oracle;
mod place;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use modelog_engine::sim::{Crash, Fault};

use act::{Act, Acts, Asked, How, Setup};
use door::{Plan, Trouble, Who};
use events::Said;
use life::Life;

/// The log beside its oracle.
#[derive(Debug)]
struct LogBesideVec;

impl StateMachineTest for LogBesideVec {
    type SystemUnderTest = Life;
    type Reference = Acts;

    fn init_test(setup: &Setup) -> Life {
        Life::new(*setup)
    }

    fn apply(mut life: Life, _: &Setup, act: Act) -> Life {
        life.act(&act);
        life
    }

    fn teardown(mut life: Life, _: Setup) {
        life.end();
    }
}

/// The seeds to run: one that was asked for, or as many as there is time for.
fn seeds(share: u64) -> Vec<u64> {
    if let Ok(seed) = std::env::var("MODELOG_SEED") {
        return vec![seed.parse().expect("MODELOG_SEED is a number")];
    }
    let full = std::env::var_os("MODELOG_TESTS_FULL").is_some();
    let count = match (full, cfg!(debug_assertions)) {
        (true, _) => 4000,
        (false, false) => 100,
        (false, true) => 20,
    };
    (1..=count * 2).filter(|seed| seed % 2 == share).collect()
}

fn run(seed: u64) {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config.clone(), chance);
    let outcome = runner.run(&Acts::sequential_strategy(1..50), |(setup, acts, seen)| {
        LogBesideVec::test_sequential(config.clone(), setup, acts, seen);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("MODELOG_SEED={seed} fails so again: {failure}");
    }
}

#[test]
fn a_log_is_a_vec_whatever_happens_to_it() {
    seeds(1).into_iter().for_each(run);
}

#[test]
fn a_log_is_a_vec_whatever_else_happens_to_it() {
    if std::env::var_os("MODELOG_SEED").is_none() {
        seeds(0).into_iter().for_each(run);
    }
}

/// A call of the first caller, in which it says these.
fn call(how: How, said: Vec<Said>) -> Asked {
    Asked {
        caller: 0,
        how,
        said,
        record: false,
        must_be_new: false,
        hurried: false,
        waits: true,
    }
}

fn asked(how: How, said: Vec<Said>) -> Act {
    Act::Calls(vec![call(how, said)])
}

const SETUP: Setup = Setup {
    window: 1000,
    padded: false,
    may_fill: false,
};

#[test]
fn a_call_that_brought_nothing_is_remembered_beside_parquet_files() {
    let mut life = Life::new(SETUP);
    let retire = Act::Retire { in_time: true };
    for act in [
        asked(How::Plain, vec![Said::prediction(1, 1)]),
        asked(How::Plain, vec![Said::prediction(3, 1)]),
        Act::Crash(Crash::LoseAll),
        Act::Compact { all: true },
        asked(How::Next, Vec::new()),
        retire,
        Act::Compact { all: true },
        asked(How::Next, vec![Said::prediction(2, 1)]),
        Act::Compact { all: true },
        // The segment's start is found again, and what it says; not only what the files have.
        Act::Crash(Crash::LoseAll),
        asked(How::Again(1), Vec::new()),
    ] {
        life.act(&act);
    }
    life.end();
}

#[test]
fn a_call_that_brought_nothing_keeps_its_place_when_its_segment_has_gone() {
    let mut life = Life::new(SETUP);
    for act in [
        Act::Calls(vec![
            Asked {
                waits: false,
                ..call(How::Plain, vec![Said::unnamed()])
            },
            call(How::Next, Vec::new()),
        ]),
        Act::Plan(Plan {
            who: Who::Caller,
            after: 0,
            trouble: Trouble::Crash(Crash::LoseAll),
        }),
        Act::Backup { place: 0, keep: 1 },
        Act::Compact { all: true },
        Act::Retire { in_time: true },
        Act::Crash(Crash::LoseAll),
        Act::Calls(vec![Asked {
            caller: 1,
            ..call(How::Plain, Vec::new())
        }]),
        asked(How::Again(0), Vec::new()),
    ] {
        life.act(&act);
    }
    life.end();
}

#[test]
fn a_call_that_was_cut_is_forgotten_though_a_snapshot_from_before_a_recovery_knew_it() {
    let mut life = Life::new(SETUP);
    life.act(&asked(How::Next, vec![Said::unnamed()]));
    // The second call begins a segment while it waits to be written.
    life.act(&Act::Calls(vec![
        call(How::Plain, vec![Said::bulky(1)]),
        call(How::Next, vec![Said::bulky(2), Said::bulky(3)]),
    ]));
    life.wait_for_snapshot(4);
    // The recovery starts another one, which the events of that call are copied into.
    life.act(&Act::Crash(Crash::Kill { seed: 1 }));
    life.act(&Act::Restore {
        from: act::From::Itself,
        until: Some(192),
    });
    life.act(&asked(How::Next, Vec::new()));
    life.end();
}

#[test]
fn time_goes_on_from_the_last_event_of_a_log_that_was_cut_within_a_call() {
    let mut life = Life::new(SETUP);
    for act in [
        asked(How::Plain, vec![Said::unnamed()]),
        asked(How::Plain, vec![Said::unnamed(); 3]),
        Act::Compact { all: true },
        Act::Jump(-8),
        // After two events of four.
        Act::Restore {
            from: act::From::Itself,
            until: Some(128),
        },
        asked(How::Plain, vec![Said::unnamed()]),
    ] {
        life.act(&act);
    }
    life.end();
}

#[test]
fn a_log_is_restored_up_to_the_middle_of_a_segment_that_has_gone() {
    for in_manifest in [true, false] {
        let mut life = Life::new(SETUP);
        for act in [
            asked(How::Plain, vec![Said::unnamed(); 4]),
            asked(How::Plain, vec![Said::unnamed(); 4]),
            Act::Seal,
            asked(How::Plain, vec![Said::unnamed()]),
            Act::Compact { all: true },
        ] {
            life.act(&act);
        }
        if in_manifest {
            life.lose_retired_files();
        } else {
            life.act(&Act::Retire { in_time: true });
        }
        life.act(&Act::Restore {
            from: act::From::Itself,
            until: Some(100),
        });
        life.act(&asked(How::Plain, vec![Said::unnamed()]));
        life.end();
    }
}

#[test]
fn a_call_is_not_refused_for_what_never_came_to_be() {
    let asked = |content| call(How::Plain, vec![Said::prediction(1, content)]);
    // The second call contradicts the first, which is lost.
    for after in 0..2 {
        for trouble in [
            Trouble::Crash(Crash::LoseAll),
            Trouble::Fault(Fault::Io),
            Trouble::Fault(Fault::LosingSync),
        ] {
            let mut life = Life::new(SETUP);
            let who = Who::Writer;
            life.act(&Act::Plan(Plan {
                who,
                after,
                trouble,
            }));
            life.act(&Act::Calls(vec![asked(1), asked(2)]));
            life.act(&Act::Crash(Crash::LoseAll));
            life.act(&Act::Calls(vec![asked(2)]));
            life.end();
        }
    }
}

#[test]
fn calls_that_bring_nothing_are_not_answered_for_what_never_came_to_be() {
    let call = |how| call(how, Vec::new());
    // The second call repeats the first, or is of an epoch that the first one ended; the first is lost.
    for calls in [
        [call(How::Next), call(How::Next)],
        [call(How::NewEpoch), call(How::Next)],
    ] {
        for trouble in [
            Trouble::Crash(Crash::LoseAll),
            Trouble::Fault(Fault::Io),
            Trouble::Fault(Fault::LosingSync),
        ] {
            let mut life = Life::new(SETUP);
            life.act(&Act::Calls(vec![call(How::Next)]));
            life.act(&Act::Plan(Plan {
                who: Who::Writer,
                after: 0,
                trouble,
            }));
            life.act(&Act::Calls(calls.to_vec()));
            life.act(&Act::Crash(Crash::LoseAll));
            life.act(&Act::Calls(vec![call(How::Next)]));
            life.end();
        }
    }
}
