//! A log whose disk crashes or fails at every single I/O: what was acknowledged is there, once; nothing else is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use modelog_engine::inspect::SegmentReader;
use modelog_engine::sim::{Crash, Fault, History, SimStorage};
use modelog_engine::{AppendError, Engine, Health, LogError, Offset};

use crate::support::{
    Expected, Replayable, append, calls, config, crash_points, data, disk, full, open, open_with,
    read_all,
};

/// When calls were submitted and acknowledged, by number of I/O.
#[derive(Debug, Default)]
struct Timeline {
    submitted: Vec<u64>,
    acknowledged: Vec<u64>,
}

impl Timeline {
    /// The calls that must, and those that may have come to the disk when it crashes at `k`.
    fn at(&self, k: u64) -> (usize, usize) {
        (
            self.acknowledged.partition_point(|at| *at <= k),
            self.submitted.partition_point(|at| *at <= k),
        )
    }
}

/// Appends all calls, closing and opening the log in between: it rolls, closes and writes snapshots.
fn live(disk: &SimStorage, calls: &[Vec<modelog_engine::event::Event>]) -> Timeline {
    let mut timeline = Timeline::default();
    let mut engine = open(disk).unwrap();
    for (sequence, call) in calls.iter().enumerate() {
        if sequence == calls.len() / 2 {
            engine.close_blocking().unwrap();
            engine = open(disk).unwrap();
        }
        timeline.submitted.push(disk.ios());
        append(&engine, sequence as u64, call).unwrap();
        timeline.acknowledged.push(disk.ios());
    }
    timeline
}

/// A life of a log, recorded: how it went, and what must be in it.
fn recorded() -> (History, Timeline, Expected) {
    let expected = Expected::new(calls());
    let disk = disk(1);
    disk.record();
    let timeline = live(&disk, &expected.calls);
    (disk.history(), timeline, expected)
}

/// The ways to crash that are tried at an I/O.
fn crashes(k: u64) -> Vec<Crash> {
    let seeds = if full() { 12 } else { 2 };
    let losses = (0..seeds).map(|seed| Crash::power_loss(k * 1000 + seed));
    [Crash::LoseAll, Crash::Kill { seed: k }]
        .into_iter()
        .chain(losses)
        .collect()
}

#[test]
fn a_crash_at_any_io_loses_nothing_acknowledged_and_invents_nothing() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in crash_points(&history) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        for crash in crashes(k) {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}, {:?}", replay.next_io()));
            let left = replay.crash(crash);
            let engine = open(&left).unwrap();
            let recovered = expected.check(&engine, least, most);
            if k % 3 == 0 {
                expected.repeat_all(&engine);
                engine.close_blocking().unwrap();
                let engine = open(&left).unwrap();
                expected.check(&engine, expected.calls.len(), expected.calls.len());
            } else {
                // Opened again without an append, after another crash: nothing is lost, nothing comes back.
                drop(engine);
                let engine = open(&left.reboot(Crash::LoseAll)).unwrap();
                expected.check(&engine, recovered, recovered);
            }
        }
    }
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in crash_points(&history) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        for first in crashes(k).into_iter().skip(1) {
            let left = replay.crash(first);
            left.record();
            let recovered = expected.check(&open(&left).unwrap(), least, most);
            let recovery = left.history();
            let mut again = recovery.replay();
            let step = if full() { 1 } else { 5 };
            for j in recovery
                .crash_points()
                .skip((k % step) as usize)
                .step_by(step as usize)
            {
                again.go_to(j);
                for second in [Crash::LoseAll, Crash::power_loss(k * 100 + j)] {
                    let _replayable = Replayable(format!(
                        "{first:?} at I/O {k}, {second:?} at {j} of the recovery, {:?}",
                        again.next_io()
                    ));
                    // What one recovery found sound, the next one finds too: it may have been answered by then.
                    let engine = open(&again.crash(second)).unwrap();
                    expected.check(&engine, least, recovered);
                }
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_in_memory_is_durable_once_the_next_one_relies_on_it() {
    let calls: Vec<_> = calls().into_iter().filter(|call| call.len() < 6).collect();
    let expected = Expected::new(calls[..4].to_vec());
    let disk = disk(1);
    disk.record();
    let mut timeline = Timeline::default();
    for (sequence, call) in expected.calls[..3].iter().enumerate() {
        let engine = open(&disk).unwrap();
        timeline.submitted.push(disk.ios());
        append(&engine, sequence as u64, call).unwrap();
        timeline.acknowledged.push(disk.ios());
        engine.close_blocking().unwrap();
    }
    let history = disk.history();
    let mut replay = history.replay();
    for k in history.crash_points() {
        replay.go_to(k);
        if replay
            .next_io()
            .is_some_and(|io| io.is_write() && io.thread() == "modelog-ahead")
        {
            continue;
        }
        let _replayable = Replayable(format!("killed at I/O {k}, {:?}", replay.next_io()));
        let (least, most) = timeline.at(k);
        let left = replay.crash(Crash::Kill { seed: k });
        let engine = open(&left).unwrap();
        let recovered = expected.check(&engine, least, most);
        if k % 2 == 0 {
            engine.seal().unwrap();
        }
        append(&engine, recovered as u64, &expected.calls[recovered]).unwrap();
        let left = left.reboot(Crash::LoseAll);
        expected.check(&open(&left).unwrap(), recovered + 1, recovered + 1);
        drop(engine);
    }
}

/// Runs until the disk crashes under the program's feet.
fn live_until_crash(disk: &SimStorage, expected: &Expected) -> (usize, usize) {
    let (mut acknowledged, mut submitted) = (0, 0);
    let Ok(engine) = open(disk) else {
        return (0, 0);
    };
    for (sequence, call) in expected.calls.iter().enumerate() {
        match append(&engine, sequence as u64, call) {
            Ok(_) => {
                assert!(engine.tail().0 > 0);
                acknowledged = sequence + 1;
                submitted = sequence + 1;
            }
            Err(error) => {
                if !error.is_not_applied() {
                    submitted = sequence + 1;
                }
                assert_ne!(engine.health(), Health::Accepting, "{error}");
                break;
            }
        }
    }
    (acknowledged, submitted)
}

#[test]
fn a_program_that_lives_to_see_its_disk_die_answers_truly() {
    let (history, _, expected) = recorded();
    for k in crash_points(&history).step_by(if full() { 1 } else { 3 }) {
        let crash = Crash::power_loss(k);
        let _replayable = Replayable(format!("{crash:?} at I/O {k}, live"));
        let disk = disk(1);
        disk.crash_at(k);
        let (acknowledged, submitted) = live_until_crash(&disk, &expected);
        let engine = open(&disk.reboot(crash)).unwrap();
        expected.check(&engine, acknowledged, submitted);
    }
}

#[test]
fn a_failure_of_any_io_is_answered_truly_and_outlived() {
    let (history, _, expected) = recorded();
    for k in crash_points(&history).step_by(if full() { 1 } else { 2 }) {
        let faults = [Fault::Io, Fault::ShortWrite, Fault::Full, Fault::LosingSync];
        let faults = if full() {
            &faults[..]
        } else {
            &faults[(k / 2 % 4) as usize..][..1]
        };
        for fault in faults {
            let _replayable = Replayable(format!("{fault:?} of I/O {k}"));
            let disk = disk(k);
            disk.fail_at(k, *fault);
            let (mut acknowledged, mut submitted) = live_until_crash(&disk, &expected);
            disk.fail_no_more();
            // The process starts again; the machine does not, and takes for written what it failed to write.
            match open(&disk) {
                Ok(engine) => {
                    let found = expected.check(&engine, acknowledged, submitted);
                    (acknowledged, submitted) = (found, found);
                }
                Err(error) => panic!("the log cannot be opened again: {error:?}"),
            }
            // What it read then is as good as answered: the power may go now.
            let engine = open(&disk.reboot(Crash::power_loss(k))).unwrap();
            expected.check(&engine, acknowledged, submitted);
            expected.repeat_all(&engine);
        }
    }
}

#[test]
fn an_opening_without_space_for_something_loses_nothing_that_follows() {
    let expected = Expected::new(calls());
    let (half, all) = (expected.calls.len() / 2, expected.calls.len());
    let append_all = |engine: &Engine, calls: std::ops::Range<usize>| {
        for sequence in calls {
            append(engine, sequence as u64, &expected.calls[sequence]).unwrap();
        }
    };
    let begun = disk(1);
    append_all(&open(&begun).unwrap(), 0..half);
    let begun = begun.reboot(Crash::LoseAll);
    let ios_of_opening = {
        let disk = begun.after(Crash::LoseAll);
        let engine = open(&disk).unwrap();
        let ios = disk.ios();
        drop(engine);
        ios
    };
    for k in 0..ios_of_opening {
        let _replayable = Replayable(format!("no space for I/O {k} of the opening"));
        let disk = begun.after(Crash::LoseAll);
        disk.fail_at(k, Fault::Full);
        // It opens, or says that it cannot and does the next time.
        let engine = open(&disk).or_else(|_| open(&disk)).unwrap();
        disk.fail_no_more();
        expected.check(&engine, half, half);
        append_all(&engine, half..all);
        drop(engine);
        let engine = open(&disk.reboot(Crash::LoseAll)).unwrap();
        expected.check(&engine, all, all);
    }
}

#[test]
fn a_read_that_fails_is_an_error_and_changes_nothing() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    let k = *history.crash_points().end();
    replay.go_to(k);
    let (least, most) = timeline.at(k);
    let left = replay.crash(Crash::power_loss(3));
    let reads = {
        let copy = left.after(Crash::LoseAll);
        drop(open(&copy).unwrap());
        copy.reads()
    };
    let mut failed = 0;
    for read in 0..reads {
        let copy = left.after(Crash::LoseAll);
        copy.fail_read_at(read);
        failed += usize::from(open(&copy).is_err());
        let engine = open(&copy).unwrap();
        expected.check(&engine, least, most);
    }
    assert!(failed > 10, "{failed} of {reads}");
}

#[test]
fn a_disk_that_reads_in_pieces_is_read_whole() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in crash_points(&history).step_by(if full() { 1 } else { 7 }) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        let _replayable = Replayable(format!("power loss at I/O {k}, read in pieces"));
        let left = replay.crash(Crash::power_loss(k));
        left.read_in_pieces();
        let engine = open(&left).unwrap();
        expected.check(&engine, least, most);
        expected.repeat_all(&engine);
    }
}

/// Callers on threads of their own; what they were answered, by caller.
fn many_callers(disk: &SimStorage, calls_each: u64) -> Vec<Timeline> {
    let engine = open(disk).unwrap();
    let caller = |caller: u64| {
        let (engine, disk) = (engine.clone(), disk.clone());
        std::thread::spawn(move || {
            let mut timeline = Timeline::default();
            for call in 0..calls_each {
                let event = crate::support::prediction(caller * 1000 + call, 1500);
                timeline.submitted.push(disk.ios());
                engine.append_events_blocking(&[event]).unwrap();
                timeline.acknowledged.push(disk.ios());
            }
            timeline
        })
    };
    let callers: Vec<_> = (0..6).map(caller).collect();
    callers
        .into_iter()
        .map(|caller| caller.join().unwrap())
        .collect()
}

#[test]
fn callers_that_share_groups_share_no_fate_but_a_crash() {
    let disk = disk(2);
    disk.record();
    let timelines = many_callers(&disk, 20);
    let history = disk.history();
    let mut replay = history.replay();
    for k in crash_points(&history) {
        replay.go_to(k);
        for crash in crashes(k) {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}\n{history:?}"));
            let found = read_all(&open(&replay.crash(crash)).unwrap()).unwrap();
            let mut counts = [0; 6];
            for event in found {
                let id: usize = event.id.unwrap()[1..].parse().unwrap();
                assert_eq!(id % 1000, counts[id / 1000], "in the caller's order, once");
                counts[id / 1000] += 1;
            }
            for (timeline, count) in timelines.iter().zip(counts) {
                let (least, most) = timeline.at(k);
                assert!(
                    (least..=most).contains(&count),
                    "{count}: {least} to {most}"
                );
            }
        }
    }
}

#[test]
fn padded_groups_outlive_disks_that_tear_blocks() {
    let mut config = config();
    config.log.pad_groups = true;
    let expected = Expected::new(calls());
    let disk = disk(1);
    disk.record();
    let mut timeline = Timeline::default();
    let mut engine = open_with(&disk, config.clone()).unwrap();
    for (sequence, call) in expected.calls.iter().enumerate() {
        if sequence % 5 == 4 {
            engine.close_blocking().unwrap();
            engine = open_with(&disk, config.clone()).unwrap();
        }
        timeline.submitted.push(disk.ios());
        append(&engine, sequence as u64, call).unwrap();
        timeline.acknowledged.push(disk.ios());
    }
    let history = disk.history();
    let mut replay = history.replay();
    let crash = |seed| Crash::PowerLoss {
        seed,
        torn_blocks: true,
    };
    for k in history.crash_points() {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        // Only what the writer writes shares blocks with what is synced.
        let writes = replay
            .next_io()
            .is_some_and(|io| io.is_write() && io.thread() == "modelog-writer");
        let seeds = match (writes, full()) {
            (true, true) => 200,
            (true, false) if cfg!(debug_assertions) => 3,
            (true, false) => 16,
            (false, true) => 10,
            (false, false) => 0,
        };
        for seed in 0..seeds {
            let first = crash(k * 1000 + seed);
            let _replayable = Replayable(format!("{first:?} at I/O {k}, {:?}", replay.next_io()));
            let left = replay.crash(first);
            let engine = open_with(&left, config.clone()).unwrap();
            let recovered = expected.check(&engine, least, most);
            // One more call behind what was recovered, torn.
            let Some(call) = expected.calls.get(recovered).filter(|_| seed % 8 == 0) else {
                continue;
            };
            left.crash_at(left.ios() + 9 + seed % 3);
            let _ = append(&engine, recovered as u64, call);
            for seed in 0..if full() { 20 } else { 4 } {
                let engine = open_with(&left.after(crash(seed)), config.clone()).unwrap();
                expected.check(&engine, recovered, recovered + 1);
            }
        }
    }
}

#[test]
fn a_disk_that_fills_up_at_any_byte_goes_on_when_there_is_space() {
    let expected = Expected::new(calls());
    let most = {
        let disk = disk(1);
        live(&disk, &expected.calls);
        disk.used_bytes()
    };
    let refused = AtomicUsize::new(0);
    let steps = if full() { 200 } else { 25 };
    for step in 1..steps {
        let capacity = most * step / steps + step * 512;
        let _replayable = Replayable(format!("a disk of {capacity} bytes"));
        let disk = disk(step);
        disk.set_capacity_bytes(Some(capacity));
        let mut acknowledged = 0;
        if let Ok(engine) = open(&disk) {
            for (sequence, call) in expected.calls.iter().enumerate() {
                match append(&engine, sequence as u64, call) {
                    Ok(_) => acknowledged = sequence + 1,
                    Err(AppendError::DiskFull) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(engine.health(), Health::Refusing(AppendError::DiskFull));
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            expected.check(&engine, acknowledged, acknowledged);
        }
        let left = disk.reboot(Crash::power_loss(step));
        left.set_capacity_bytes(None);
        let engine = open(&left).unwrap();
        expected.check(&engine, acknowledged, acknowledged);
        expected.repeat_all(&engine);
    }
    assert!(refused.into_inner() > 2);
}

#[test]
fn a_flipped_bit_in_what_was_synced_is_never_served_and_never_cut_away() {
    let expected = Expected::new(calls());
    let disk = disk(1);
    live(&disk, &expected.calls);
    let engine = open(&disk.reboot(Crash::LoseAll)).unwrap();
    drop(engine);
    let disk = closed(&expected);
    let all: Vec<_> = expected.calls.iter().flatten().cloned().collect();
    let files = disk.files(&data().join("log")).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for path in files {
        let len = disk.read(&path).unwrap().len() as u64;
        let step = (len / if full() { 2000 } else { 100 }).max(1);
        for (turn, position) in (0..len).step_by(step as usize).enumerate() {
            let _replayable = Replayable(format!("bit of byte {position} of {}", path.display()));
            let copy = disk.after(Crash::LoseAll);
            copy.flip_bit(&path, position, turn as u8).unwrap();
            match open(&copy).and_then(|engine| read_all(&engine).map(|found| (found, engine))) {
                Ok((found, engine)) => {
                    assert!(
                        found == all,
                        "{} of {} events are served",
                        found.len(),
                        all.len()
                    );
                    harmless += 1;
                    drop(engine);
                }
                Err(LogError::Corrupt { .. } | LogError::TooNew { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(
        refused > 50 && harmless > 0,
        "{refused} refused, {harmless} harmless"
    );
}

/// A log that holds all calls and was closed in order.
fn closed(expected: &Expected) -> SimStorage {
    let disk = disk(1);
    let engine = open(&disk).unwrap();
    for (sequence, call) in expected.calls.iter().enumerate() {
        append(&engine, sequence as u64, call).unwrap();
    }
    engine.close_blocking().unwrap();
    drop(engine);
    disk.reboot(Crash::LoseAll)
}

#[test]
fn segments_read_beside_a_crashed_log_are_those_of_the_log() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in crash_points(&history).step_by(3) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        let left = replay.crash(Crash::power_loss(k));
        let _replayable = Replayable(format!("power loss at I/O {k}"));
        let Ok(mut reader) = SegmentReader::open(Arc::new(left.clone()), &data()) else {
            assert_eq!(least, 0, "a log with events can be read");
            continue;
        };
        let mut found = 0;
        loop {
            let batches = reader.next(64 << 10).unwrap();
            let Some(last) = batches.last() else { break };
            assert_eq!(batches[0].first_offset, Offset(found));
            found = last.end().0;
        }
        assert!(found <= expected.events(most), "{found}");
        let engine: Engine = open(&left).unwrap();
        assert!(found <= engine.tail().0 && engine.tail().0 >= expected.events(least));
    }
}
