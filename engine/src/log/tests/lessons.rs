//! What other logs were hurt by, tried on this one. Each test has a patch in `tests/reverts/` that takes its remedy away.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use super::*;

/// Nothing here takes longer than moments; a test that waits for this long hangs.
const HANG: Duration = Duration::from_secs(60);

fn fixed(path: &Path) -> Engine {
    let foundations = Foundations {
        clock: Arc::new(StoppedClock),
        new_log: LogId(uuid::Uuid::from_u128(11)),
        ..Foundations::default()
    };
    Engine::open_on(config(path), foundations).unwrap()
}

fn append_range(engine: &Engine, ids: std::ops::Range<u64>) {
    let events: Vec<_> = ids.map(prediction).collect();
    append(engine, &events).unwrap();
}

/// fjall, camunda and NATS took damage in the middle for the end, and cut off what came after it.
#[test]
fn damage_in_the_middle_is_not_taken_for_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let engine = Engine::open(config(&live)).unwrap();
    for call in 0..8 {
        append_range(&engine, call * 100..call * 100 + 20);
    }
    let path = segments(&live).pop().unwrap();
    let frames = inspect::frames(&path).unwrap();
    let groups: Vec<_> = frames.iter().filter(|frame| frame.bytes > 200).collect();
    assert_eq!(groups.len(), 8);
    for (number, frame) in groups[..7].iter().enumerate().step_by(3) {
        for place in [frame.position + 17, frame.position + frame.bytes / 2] {
            let crashed = directory.path().join(format!("crash{place}"));
            copy(&live, &crashed);
            let path = segments(&crashed).pop().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes[place as usize] ^= 4;
            fs::write(&path, &bytes).unwrap();
            match Engine::open(config(&crashed)) {
                Err(LogError::Corrupt { position, .. }) => assert_eq!(position, frame.position),
                Err(error) => panic!("{error}"),
                Ok(engine) => panic!(
                    "damage to call {number} of 8 was taken for the end: {} events are left",
                    engine.tail()
                ),
            }
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is changed");
        }
    }
}

/// RocksDB did not see a hole between two files of its log where the first one ended with a whole record.
#[test]
fn a_sealed_segment_that_ends_a_frame_early_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let engine = fixed(&live);
    append_range(&engine, 0..20);
    append_range(&engine, 100..120);
    engine.seal().unwrap();
    append_range(&engine, 200..220);
    let crashed = directory.path().join("crash");
    copy(&live, &crashed);
    let path = segments(&crashed).remove(0);
    let last = inspect::frames(&path).unwrap().pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(last.position).unwrap();
    let opened = Engine::open(config(&crashed)).map(|engine| engine.tail());
    assert!(
        matches!(opened, Err(LogError::Corrupt { .. })),
        "a hole at the end of a whole frame was not seen: {opened:?}"
    );
}

/// The next file must continue this very one: same log, same number, same first offset are not enough.
#[test]
fn a_segment_of_another_life_of_the_log_does_not_follow() {
    let directory = tempfile::tempdir().unwrap();
    let life = |name: &str, first: u64| {
        let live = directory.path().join(name);
        let engine = fixed(&live);
        append_range(&engine, first..first + 20);
        engine.seal().unwrap();
        append_range(&engine, first + 100..first + 120);
        let crashed = directory.path().join(format!("{name} crashed"));
        copy(&live, &crashed);
        crashed
    };
    let (one, other) = (life("one", 1000), life("other", 5000));
    let (path, foreign) = (segments(&one).remove(1), segments(&other).remove(1));
    assert_eq!(path.file_name(), foreign.file_name());
    fs::copy(foreign, path).unwrap();
    let opened = Engine::open(config(&one)).map(|engine| read_all(&engine).len());
    assert!(
        matches!(opened, Err(LogError::Corrupt { .. })),
        "two histories were joined: {opened:?}"
    );
}

/// RocksDB and Pebble read bytes that a recycled file still held as new. Ours are never recycled, but a disk may bring
/// old bytes back: they are neither read nor do they prove anything.
#[test]
fn old_bytes_behind_the_end_are_neither_read_nor_proof() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let engine = fixed(&live);
    for call in 0..10 {
        append_range(&engine, call * 100..call * 100 + 20);
    }
    engine.seal().unwrap();
    append_range(&engine, 5000..5001);
    let [old, new] = &segments(&live)[..] else {
        panic!("two segments");
    };
    let end = {
        let last = inspect::frames(new).unwrap().pop().unwrap();
        (last.position + last.bytes) as usize
    };
    let old_bytes = fs::read(old).unwrap();
    let frames = inspect::frames(old).unwrap();
    let last = frames.last().unwrap();
    let expected = read_all(&engine);
    let moved = &old_bytes[last.position as usize..][..last.bytes as usize];
    // As a recycled file would have them, and moved right behind the end.
    for (name, at, stale) in [
        ("recycled", end, &old_bytes[end..]),
        ("moved", end, moved),
        ("moved on", end + 80, moved),
    ] {
        let crashed = directory.path().join(name);
        copy(&live, &crashed);
        let path = segments(&crashed).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[at..at + stale.len()].copy_from_slice(stale);
        fs::write(&path, bytes).unwrap();
        let engine = match Engine::open(config(&crashed)) {
            Ok(engine) => engine,
            Err(error) => panic!("old bytes ({name}) were believed: {error}"),
        };
        assert_eq!(read_all(&engine), expected, "{name}");
        assert_eq!(engine.epoch(), 2, "{name}: they are cut off");
    }
}

/// In okaywal everybody who commits after a failed sync waits for ever.
#[test]
fn a_failed_sync_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let engine = open_on(directory.path(), &storage);
    append(&engine, &[prediction(0)]).unwrap();
    let (answers, inbox) = mpsc::channel();
    let caller = |caller: u64| {
        let (engine, answers) = (engine.clone(), answers.clone());
        std::thread::spawn(move || {
            for call in 1.. {
                // Every fourth call says what another one said: it waits for that one's sync.
                let id = 1000 * (caller / 4 * 4) + call;
                if let Err(error) = append(&engine, &[prediction(id)]) {
                    let _ = answers.send(error);
                    return;
                }
            }
        });
    };
    (0..16).for_each(caller);
    storage.failing_syncs.store(1, Ordering::SeqCst);
    let answered = |inbox: &mpsc::Receiver<AppendError>| match inbox.recv_timeout(HANG) {
        Ok(error) => assert!(
            matches!(
                error,
                AppendError::OutcomeUnknown { .. } | AppendError::Poisoned { .. }
            ),
            "{error}"
        ),
        Err(_) => panic!("a caller was never answered"),
    };
    (0..16).for_each(|_| answered(&inbox));
    caller(77);
    answered(&inbox);
}

/// In mrecordlog a future that was dropped left memory and disk apart.
#[test]
fn a_caller_that_goes_away_takes_nothing_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let engine = open_on(directory.path(), &storage);
    let batch = |id| EventBatch::from_events(&[prediction(id)]).unwrap();
    // Never polled: never asked for.
    drop(engine.append(batch(9), AppendOptions::default()));
    let seen = &storage.seen;
    let waiting = {
        let _gate = super::super::lock(&seen.gate);
        let before = seen.syncs_begun.load(Ordering::SeqCst);
        let waiting = {
            let engine = engine.clone();
            std::thread::spawn(move || append(&engine, &[prediction(1)]))
        };
        while seen.syncs_begun.load(Ordering::SeqCst) == before {
            std::thread::yield_now();
        }
        // The writer is busy: this call is queued behind it, and forgotten.
        let mut forgotten = pin!(engine.append(batch(2), AppendOptions::default()));
        let polled = forgotten
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        waiting
    };
    waiting.join().unwrap().unwrap();
    // What was admitted comes, though nobody waits for it.
    let (came, inbox) = mpsc::channel();
    let mut reader = engine.reader(Offset(1));
    std::thread::spawn(move || came.send(pollster::block_on(reader.next(1))));
    let next = inbox.recv_timeout(HANG);
    assert!(next.is_ok(), "a forgotten call never came");
    append(&engine, &[prediction(3)]).unwrap();
    let expected: Vec<_> = (1..4).map(prediction).collect();
    assert_eq!(read_all(&engine), expected, "disk and memory agree");
    let repeat = append(&engine, &[prediction(2), prediction(4)]).unwrap();
    assert_eq!((repeat.accepted, repeat.duplicates), (1, 1));
    let expected: Vec<_> = (1..5).map(prediction).collect();
    close(engine);
    let engine = open_on(directory.path(), &storage);
    assert_eq!(read_all(&engine), expected, "disk and memory agree");
}

/// A file that was made longer by `fallocate` lost what was written into it (crashmonkey#70). Here the writer only ever
/// overwrites bytes that were written and synced before.
#[test]
fn the_writer_never_makes_a_file_longer() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let mut engine = open_on(directory.path(), &storage);
    for opening in 0..3_u64 {
        for call in 0..30_u64 {
            let first = opening * 100_000 + call * 1000;
            append_range(&engine, first..first + 1 + call * 20);
            if call % 10 == 9 {
                engine.seal().unwrap();
            }
        }
        close(engine);
        engine = open_on(directory.path(), &storage);
    }
    assert_eq!(
        storage.seen.growing_writes.load(Ordering::SeqCst),
        0,
        "writes went beyond what was prepared"
    );
}

/// NATS, Iggy and KurrentDB went on with a checkpoint that was ahead of the log. Our own snapshots are such.
#[test]
fn a_snapshot_ahead_of_the_log_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let (live, early) = (
        directory.path().join("live"),
        directory.path().join("early"),
    );
    let engine = fixed(&live);
    append_range(&engine, 0..3);
    copy(&live, &early);
    append_range(&engine, 3..20);
    close(engine);
    fs::remove_dir_all(early.join("snapshots")).unwrap();
    copy(&live.join("snapshots"), &early.join("snapshots"));
    assert!(
        fs::read_dir(early.join("snapshots")).unwrap().count() > 0,
        "closing left a snapshot"
    );
    let engine = Engine::open(config(&early)).unwrap();
    assert_eq!(engine.tail(), Offset(3), "a snapshot went ahead of the log");
    let appended = append(&engine, &[prediction(2), prediction(5)]).unwrap();
    assert_eq!((appended.accepted, appended.duplicates), (1, 1));
    assert_eq!(read_all(&engine).len(), 4);
}

/// MLflow wrote files that everybody could read (CVE-2022-0736).
#[test]
fn what_is_written_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    fn look(path: &Path, seen: &mut usize) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "others may look into {}", path.display());
        *seen += 1;
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                look(&entry.unwrap().path(), seen);
            }
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let engine = Engine::open(config(&data)).unwrap();
    append_range(&engine, 0..500);
    engine.seal().unwrap();
    append_range(&engine, 500..600);
    let mut seen = 0;
    look(&data, &mut seen);
    close(engine);
    look(&data, &mut seen);
    assert!(seen > 15, "{seen}");
}
