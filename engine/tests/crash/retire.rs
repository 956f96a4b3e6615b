//! Handing history over to a cold tier and deleting segments, on a disk that crashes or fails at every single I/O; and
//! with clocks that jump. The tier here is perfect: what matters is what the log does with it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::sim::{Crash, Fault, SimStorage};
use modelog_engine::{
    ColdFile, ColdSnapshot, ColdTier, Config, Engine, Foundations, LogError, LogId, Offset,
};

use crate::support::{
    Expected, HandClock, Replayable, append, calls, config, crash_points, data, disk, foundations,
};

/// A cold tier that never fails and outlives every crash.
#[derive(Debug, Default)]
struct PerfectTier {
    batches: Mutex<Vec<Arc<LoggedBatch>>>,
}

impl PerfectTier {
    /// Takes over everything below an offset.
    fn take_over(&self, engine: &Engine, end: Offset) {
        let mut reader = engine.reader(self.end());
        while reader.position() < end {
            let batches = reader.read(1).unwrap();
            self.batches
                .lock()
                .unwrap()
                .extend(batches.into_iter().filter(|b| b.end() <= end));
        }
    }
}

impl PerfectTier {
    /// The tier as it was when it held less.
    fn until(&self, end: u64) -> Self {
        let batches = self.batches.lock().unwrap();
        let held = batches.iter().filter(|batch| batch.end().0 <= end);
        Self {
            batches: Mutex::new(held.map(Arc::clone).collect()),
        }
    }
}

impl ColdTier for PerfectTier {
    fn log(&self) -> Option<LogId> {
        self.batches
            .lock()
            .unwrap()
            .first()
            .map(|_| LogId(uuid::Uuid::from_u128(7)))
    }

    fn end(&self) -> Offset {
        self.batches
            .lock()
            .unwrap()
            .last()
            .map_or(Offset::ZERO, |batch| batch.end())
    }

    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let batches = self.batches.lock().unwrap();
        let start = batches.partition_point(|batch| batch.end() <= from);
        let mut bytes = 0;
        let fits = |batch: &&Arc<LoggedBatch>| {
            let fits = bytes < limit_bytes.max(1);
            bytes += batch.bytes();
            fits
        };
        Ok(batches[start..]
            .iter()
            .take_while(fits)
            .map(Arc::clone)
            .collect())
    }

    fn snapshot(&self) -> Result<ColdSnapshot, LogError> {
        Ok(ColdSnapshot {
            directory: data().join("tier"),
            end: self.end(),
            files: Vec::new(),
            manifest_name: "MANIFEST".into(),
            manifest: Vec::new(),
        })
    }

    fn check(&self, _copy: &Path, _file: &ColdFile) -> Result<(), LogError> {
        Ok(())
    }
}

fn keeping(keep: Duration) -> Config {
    let mut config = config();
    config.log.keep_segments = keep;
    config
}

fn open(disk: &SimStorage, tier: &Arc<PerfectTier>) -> Result<Engine, LogError> {
    let foundations = Foundations {
        cold: Some(Arc::<PerfectTier>::clone(tier)),
        ..foundations(disk)
    };
    Engine::open_on(keeping(Duration::ZERO), foundations)
}

/// Appends, takes over and deletes until all calls are in, as often as they are many; failures are tried again.
fn live(disk: &SimStorage, expected: &Expected, tier: &Arc<PerfectTier>) -> (Vec<u64>, Vec<u64>) {
    let (mut submitted, mut acknowledged) = (Vec::new(), Vec::new());
    let mut engine = open(disk, tier).unwrap();
    for (sequence, call) in expected.calls.iter().enumerate() {
        submitted.push(disk.ios());
        append(&engine, sequence as u64, call).unwrap();
        acknowledged.push(disk.ios());
        if sequence % 3 == 2 {
            let end = engine.seal().unwrap();
            tier.take_over(&engine, end);
            // Once a failure is over the next try succeeds.
            let cold = engine.cold();
            for step in [0, 1] {
                let outcome = cold.advance(end).and_then(|()| cold.retire());
                assert!(outcome.is_ok() || step == 0, "{outcome:?}");
            }
        }
        if sequence % 5 == 4 {
            engine.close_blocking().unwrap();
            drop(engine);
            engine = open(disk, tier).unwrap();
        }
    }
    (submitted, acknowledged)
}

#[test]
fn a_crash_while_segments_go_leaves_every_event_readable_once() {
    let (expected, disk, tier) = (Expected::new(calls()), disk(3), Arc::default());
    disk.record();
    let (submitted, acknowledged) = live(&disk, &expected, &tier);
    let left = disk.files(&data().join("log")).unwrap();
    assert!(left.len() < 4, "segments were deleted: {left:?}");
    let history = disk.history();
    let mut replay = history.replay();
    for k in crash_points(&history) {
        replay.go_to(k);
        let least = acknowledged.partition_point(|at| *at <= k);
        let most = submitted.partition_point(|at| *at <= k);
        for crash in [
            Crash::LoseAll,
            Crash::Kill { seed: k },
            Crash::power_loss(k),
        ] {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}, {:?}", replay.next_io()));
            // The tier as it was then, at the latest.
            let then = Arc::new(tier.until(expected.events(least)));
            let left = replay.crash(crash);
            let engine = open(&left, &then).unwrap();
            let recovered = expected.check(&engine, least, most);
            let end = engine.seal().unwrap();
            then.take_over(&engine, end);
            engine.cold().advance(end).unwrap();
            engine.cold().retire().unwrap();
            expected.check(&engine, recovered, recovered);
            engine.close_blocking().unwrap();
            drop(engine);
            expected.check(&open(&left, &then).unwrap(), recovered, recovered);
        }
    }
}

#[test]
fn a_log_that_ends_before_its_cold_tier_is_not_gone_on_with() {
    let (expected, disk, tier) = (Expected::new(calls()), disk(3), Arc::default());
    let early = {
        let engine = open(&disk, &tier).unwrap();
        append(&engine, 0, &expected.calls[0]).unwrap();
        engine.close_blocking().unwrap();
        drop(engine);
        disk.after(Crash::LoseAll)
    };
    let engine = open(&disk, &tier).unwrap();
    append(&engine, 1, &expected.calls[1]).unwrap();
    let end = engine.seal().unwrap();
    tier.take_over(&engine, end);
    // The log of before, beside the cold tier of now.
    match open(&early, &tier) {
        Err(LogError::Corrupt { offset, .. }) => assert_eq!(offset.0, expected.events(1)),
        other => panic!("{other:?}"),
    }
    let early_tier = Arc::new(tier.until(expected.events(1)));
    expected.check(&open(&early, &early_tier).unwrap(), 1, 1);
}

#[test]
fn a_failure_while_segments_go_deletes_nothing_else() {
    let expected = Expected::new(calls());
    let mut failed = 0;
    for k in 0..24 {
        let _replayable = Replayable(format!("EIO at I/O {k} of the hand-over"));
        let (disk, tier) = (disk(3), Arc::new(PerfectTier::default()));
        let engine = open(&disk, &tier).unwrap();
        for (sequence, call) in expected.calls.iter().enumerate() {
            append(&engine, sequence as u64, call).unwrap();
        }
        let end = engine.seal().unwrap();
        tier.take_over(&engine, end);
        let cold = engine.cold();
        // One of the I/Os of the hand-over and the deletion, or of the snapshot that is written meanwhile.
        disk.fail_at(disk.ios() + k, Fault::Io);
        for _ in 0..3 {
            failed += usize::from(cold.advance(end).and_then(|()| cold.retire()).is_err());
        }
        disk.fail_no_more();
        append(
            &engine,
            expected.calls.len() as u64,
            &[crate::support::prediction(77_777, 10)],
        )
        .unwrap();
        for _ in 0..3 {
            failed += usize::from(cold.retire().is_err());
        }
        let all = crate::support::read_all(&engine).unwrap();
        assert_eq!(
            all.len(),
            expected.calls.iter().map(Vec::len).sum::<usize>() + 1
        );
        drop(engine);
        let engine = open(&disk.reboot(Crash::power_loss(k)), &tier).unwrap();
        assert_eq!(crate::support::read_all(&engine).unwrap(), all);
    }
    assert!(failed > 3, "{failed}");
}

#[test]
fn clocks_that_jump_delete_nothing() {
    let (disk, tier, clock) = (disk(4), Arc::new(PerfectTier::default()), HandClock::new());
    let open = |disk: &SimStorage| {
        let foundations = Foundations {
            cold: Some(Arc::<PerfectTier>::clone(&tier)),
            clock: Arc::<HandClock>::clone(&clock),
            ..foundations(disk)
        };
        Engine::open_on(keeping(Duration::from_secs(24 * 3600)), foundations).unwrap()
    };
    let segments = |disk: &SimStorage| {
        let files = disk.files(&data().join("log")).unwrap().into_iter();
        files
            .filter(|path| path.extension().is_some_and(|e| e == "seg"))
            .count()
    };
    let mut engine = open(&disk);
    let year = 365 * 24 * 3600 * 1_000_000_i64;
    for (sequence, jump) in [0, 30 * year, -45 * year, 100 * year, -85 * year]
        .into_iter()
        .enumerate()
    {
        clock.now.fetch_add(jump, Ordering::SeqCst);
        append(
            &engine,
            sequence as u64,
            &[crate::support::prediction(sequence as u64, 10)],
        )
        .unwrap();
        let end = engine.seal().unwrap();
        tier.take_over(&engine, end);
        engine.cold().advance(end).unwrap();
        assert_eq!(engine.cold().retire().unwrap(), 0);
        engine.close_blocking().unwrap();
        engine = open(&disk);
        assert_eq!(engine.cold().retire().unwrap(), 0);
        assert_eq!(segments(&disk), sequence + 2);
    }
    // What counts is time that passes while the log is open.
    clock.pass(Duration::from_secs(23 * 3600));
    assert_eq!(engine.cold().retire().unwrap(), 0);
    clock.pass(Duration::from_secs(2 * 3600));
    assert_eq!(engine.cold().retire().unwrap(), 5);
    assert_eq!(segments(&disk), 1);
    assert_eq!(crate::support::read_all(&engine).unwrap().len(), 5);
}
