//! Crashes that hurt other logs, at every I/O of the few that matter. Each test has a patch in `tests/reverts/` that takes
//! its remedy away.

use modelog_engine::sim::Crash;

use crate::support::{Expected, Replayable, append, calls, data, disk, open, read_all};

/// A segment that was not synced when the next one was begun lost its end in YugabyteDB; NATS acknowledged what was not
/// synced at all. At a roll everything has its order: file, name, manifest, and only then events.
#[test]
fn a_crash_at_any_io_of_a_roll_loses_nothing() {
    let expected = Expected::new(calls()[..2].to_vec());
    let disk = disk(1);
    disk.record();
    let engine = open(&disk).unwrap();
    let (mut submitted, mut acknowledged) = (Vec::new(), Vec::new());
    for (sequence, call) in expected.calls.iter().enumerate() {
        submitted.push(disk.ios());
        append(&engine, sequence as u64, call).unwrap();
        acknowledged.push(disk.ios());
        engine.seal().unwrap();
    }
    engine.close_blocking().unwrap();
    let history = disk.history();
    let mut replay = history.replay();
    for k in history.crash_points() {
        replay.go_to(k);
        // Zeros ahead are most of the I/Os, and one like the other.
        let ahead = |io: &modelog_engine::sim::Io| io.is_write() && io.thread() == "modelog-ahead";
        if replay.next_io().is_some_and(ahead) {
            continue;
        }
        let least = acknowledged.partition_point(|at| *at <= k);
        let most = submitted.partition_point(|at| *at <= k);
        for crash in [Crash::LoseAll, Crash::power_loss(k)] {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}, {:?}", replay.next_io()));
            let engine = match open(&replay.crash(crash)) {
                Ok(engine) => engine,
                Err(error) => panic!("a crash left no log behind: {error}"),
            };
            expected.check(&engine, least, most);
        }
    }
}

/// MLflow read its history again for every retry. What a repeat is recognised by is in memory.
#[test]
fn a_repeat_reads_nothing_from_the_disk() {
    let calls = calls();
    let disk = disk(1);
    {
        let engine = open(&disk).unwrap();
        for (sequence, call) in calls.iter().enumerate() {
            append(&engine, sequence as u64, call).unwrap();
        }
        engine.close_blocking().unwrap();
    }
    let engine = open(&disk).unwrap();
    let (reads, tail) = (disk.reads(), engine.tail());
    for call in &calls {
        let repeat = engine.append_events_blocking(call).unwrap();
        assert_eq!(repeat.duplicates as usize, call.len());
    }
    assert_eq!(disk.reads(), reads, "a repeat read the log again");
    assert_eq!(engine.tail(), tail);
    assert_eq!(read_all(&engine).unwrap(), calls.concat());
    assert!(disk.reads() > reads, "reads are counted");
    assert!(!disk.files(&data().join("log")).unwrap().is_empty());
}
