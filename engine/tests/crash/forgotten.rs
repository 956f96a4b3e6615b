//! Failures in a row: a sync fails and the pages count as clean, the process starts again and reads them, the power goes.
//! What the second process saw was in memory alone, and no sync of its own brings it to the disk.

use modelog_engine::sim::{Crash, Fault, History, Io, SimStorage};

use crate::support::{Expected, Replayable, append, calls, disk, full, open};

/// The calls that were answered, and those that may be there.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    acknowledged: usize,
    submitted: usize,
}

/// Appends the calls from a number on, closing and opening the log after every other one, until something fails.
/// Answers how far it came by then, and notes at which I/O that was so.
fn live(
    disk: &SimStorage,
    expected: &Expected,
    from: usize,
    until: usize,
    notes: &mut Vec<(u64, Reach)>,
) -> Reach {
    let mut reach = Reach {
        acknowledged: from,
        submitted: from,
    };
    notes.push((disk.ios(), reach));
    let Ok(mut engine) = open(disk) else {
        return reach;
    };
    for (sequence, call) in expected.calls.iter().enumerate().take(until).skip(from) {
        if sequence % 2 == 1 {
            let closed = engine.close_blocking();
            drop(engine);
            engine = match (closed, open(disk)) {
                (Ok(()), Ok(engine)) => engine,
                _ => return reach,
            };
        }
        reach.submitted = sequence + 1;
        notes.push((disk.ios(), reach));
        match append(&engine, sequence as u64, call) {
            Ok(_) => reach.acknowledged = sequence + 1,
            Err(error) => {
                if error.is_not_applied() {
                    reach.submitted = sequence;
                }
                return reach;
            }
        }
        notes.push((disk.ios(), reach));
    }
    let _ = engine.close_blocking();
    reach
}

/// What was answered and what was asked for when it crashed at `k`.
fn at(notes: &[(u64, Reach)], k: u64) -> Reach {
    notes[notes.partition_point(|(at, _)| *at <= k) - 1].1
}

/// How many calls the first process makes.
const FIRST: usize = 5;

/// A life in which nothing fails, recorded.
fn undisturbed(expected: &Expected) -> History {
    let disk = disk(1);
    disk.record();
    let reach = live(&disk, expected, 0, FIRST, &mut Vec::new());
    assert_eq!(reach.acknowledged, FIRST);
    disk.history()
}

/// How many of its I/Os are of a sort.
fn count(history: &History, wanted: impl Fn(&Io) -> bool) -> usize {
    let mut replay = history.replay();
    let wanted = |k: &u64| {
        replay.go_to(*k);
        replay.next_io().is_some_and(&wanted)
    };
    history.crash_points().filter(wanted).count()
}

/// Whether it is about the manifest's bytes; whoever created it still has it open by its first name.
fn is_of_manifest(io: &Io) -> bool {
    let names = ["MANIFEST", "MANIFEST.tmp"];
    io.file()
        .is_some_and(|path| names.iter().any(|name| path.ends_with(name)))
}

/// The n-th sync of a sort.
fn nth_sync(n: usize, wanted: fn(&Io) -> bool) -> impl FnMut(&Io) -> bool {
    let mut left = n;
    move |io| {
        let found = io.is_sync() && wanted(io);
        left -= usize::from(found && left > 0);
        found && left == 0
    }
}

/// A first process that sees a sync fail, and a second one that opens what it left and goes on to the call before
/// `until`. Crashes it as `crashes` says, and checks what is left each time. Answers how many crashes there were.
fn first_and_second_life(
    expected: &Expected,
    (n, wanted): (usize, fn(&Io) -> bool),
    seed: u64,
    until: usize,
    crashes: impl Fn(u64, Option<&Io>) -> Vec<Crash>,
) -> usize {
    let _replayable = Replayable(format!("sync {n} lost, seed {seed}"));
    // The seed decides what of the sync is lost, and whether the pages are.
    let disk = disk(seed);
    disk.fail_first(nth_sync(n, wanted), Fault::LosingSync);
    let reach = live(&disk, expected, 0, FIRST, &mut Vec::new());
    disk.fail_no_more();
    disk.record();
    let found = {
        let engine = open(&disk).unwrap();
        expected.check(&engine, reach.acknowledged, reach.submitted)
    };
    let opened = disk.ios();
    let mut notes = Vec::new();
    let second_life = live(&disk, expected, found, until, &mut notes);
    assert_eq!(second_life.acknowledged, until.max(found));
    let history = disk.history();
    let mut replay = history.replay();
    let mut count = 0;
    for j in history.crash_points() {
        replay.go_to(j);
        // Before it has read the log the second process has told nobody anything.
        let (least, most) = match j < opened {
            true => (reach.acknowledged, found),
            false => (at(&notes, j).acknowledged, at(&notes, j).submitted),
        };
        for crash in crashes(j, replay.next_io()) {
            let _replayable = Replayable(format!("{crash:?} at {j}, {:?}", replay.next_io()));
            let engine = open(&replay.crash(crash)).unwrap();
            expected.check(&engine, least, most);
            count += 1;
        }
    }
    count
}

#[test]
fn what_a_failed_sync_did_not_write_is_written_again_before_it_is_relied_on() {
    let expected = Expected::new(calls()[..8].to_vec());
    let syncs = count(&undisturbed(&expected), Io::is_sync);
    assert!(syncs > 30, "{syncs}");
    let (every, step) = match (full(), cfg!(debug_assertions)) {
        (true, _) => (1, 1),
        (false, false) => (1, 5),
        (false, true) => (5, 17),
    };
    let mut crashes = 0;
    for n in (1..=syncs).step_by(every) {
        for seed in 0..if full() { 8 } else { 2 } {
            let seed = seed + 100 * n as u64;
            crashes += first_and_second_life(&expected, (n, |_| true), seed, 8, |j, _| {
                if (j + seed).is_multiple_of(step) {
                    vec![Crash::LoseAll, Crash::power_loss(seed * 1000 + j)]
                } else {
                    Vec::new()
                }
            });
        }
    }
    assert!(crashes > 100, "{crashes}");
}

/// Three failures in a row: a slot that is in memory alone, and a crash that spoils the other one.
#[test]
fn a_manifest_that_a_failed_sync_left_in_memory_is_not_lost_with_the_next_slot() {
    let expected = Expected::new(calls()[..8].to_vec());
    let syncs = count(&undisturbed(&expected), |io| {
        io.is_sync() && is_of_manifest(io)
    });
    assert!(syncs > 6, "{syncs}");
    let mut crashes = 0;
    for n in 1..=syncs {
        for seed in 0..if full() { 32 } else { 4 } {
            let seed = seed + 100 * n as u64;
            let last = (n, is_of_manifest as fn(&Io) -> bool);
            crashes += first_and_second_life(&expected, last, seed, FIRST, |j, io| {
                let losses = if full() { 32 } else { 8 };
                match io {
                    Some(io) if is_of_manifest(io) => (0..losses)
                        .map(|loss| Crash::power_loss(seed * 1000 + j * 10 + loss))
                        .collect(),
                    _ => Vec::new(),
                }
            });
        }
    }
    assert!(crashes > 100, "{crashes}");
}
