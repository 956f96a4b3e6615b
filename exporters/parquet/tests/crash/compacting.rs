//! The log and its Parquet files, crashed at every I/O.

use std::sync::atomic::Ordering;
use std::time::Duration;

use modelog_engine::event::Event;
use modelog_engine::inspect::SegmentReader;
use modelog_engine::sim::{Crash, Fault, History, SimStorage};
use modelog_parquet::verify::verify;

use crate::glob;
use crate::place::{Place, parquet};
use crate::support::{Expected, Replayable, append, calls, data, disk, full, part, read_all};

/// When calls were submitted and acknowledged, by number of I/O.
#[derive(Debug, Default)]
struct Timeline {
    submitted: Vec<u64>,
    acknowledged: Vec<u64>,
}

impl Timeline {
    fn at(&self, k: u64) -> (usize, usize) {
        (
            self.acknowledged.partition_point(|at| *at <= k),
            self.submitted.partition_point(|at| *at <= k),
        )
    }
}

/// Appends all calls over a few days, makes files of them, deletes segments, and starts again in between.
fn live(disk: &SimStorage, calls: &[Vec<Event>]) -> Timeline {
    let mut timeline = Timeline::default();
    let mut place = Place::open(disk).unwrap().compacting();
    for (sequence, call) in calls.iter().enumerate() {
        place
            .clock
            .now
            .fetch_add(7 * 3600 * 1_000_000, Ordering::SeqCst);
        place.clock.pass(Duration::from_secs(7 * 3600));
        timeline.submitted.push(disk.ios());
        append(&place.engine, sequence as u64, call).unwrap();
        timeline.acknowledged.push(disk.ios());
        if sequence % 4 == 2 {
            place.engine.seal().unwrap();
            place.flush().unwrap();
            place.engine.cold().retire().unwrap();
        }
        if sequence == calls.len() / 2 {
            let clock = std::sync::Arc::clone(&place.clock);
            place.close();
            place = Place::open_at(disk, clock).unwrap().compacting();
        }
    }
    place.flush().unwrap();
    place.engine.seal().unwrap();
    place.engine.cold().retire().unwrap();
    place.end();
    timeline
}

fn recorded() -> (History, Timeline, Expected) {
    let expected = Expected::new(calls());
    let disk = disk(1);
    disk.record();
    let timeline = live(&disk, &expected.calls);
    let segments = disk.files(&data().join("log")).unwrap();
    assert!(segments.len() < 4, "segments were deleted: {segments:?}");
    assert_eq!(
        glob::read(&disk, &parquet()).offsets.len() as u64,
        expected.events(expected.calls.len())
    );
    (disk.history(), timeline, expected)
}

/// I/Os at which something else can be left than at the one before; zero-filling comes in many alike.
fn crash_points(history: &History, step: usize) -> impl Iterator<Item = u64> {
    let mut replay = history.replay();
    let step = match (full(), cfg!(debug_assertions)) {
        (true, _) => 1,
        (false, false) => step,
        (false, true) => step * 8,
    };
    let points: Vec<_> = history
        .crash_points()
        .filter(|k| {
            replay.go_to(*k);
            let zeros =
                |io: &modelog_engine::sim::Io| io.is_write() && io.thread() == "modelog-ahead";
            full() || !replay.next_io().is_some_and(zeros)
        })
        .collect();
    points.into_iter().step_by(step)
}

/// What must be true of what a crash left, however it is gone on with; answers how many calls there are.
fn check(left: &SimStorage, expected: &Expected, least: usize, most: usize) -> usize {
    glob::read(left, &parquet());
    let place = Place::open(left).unwrap();
    expected.check(&place.engine, least, most)
}

/// Goes on: compacts everything, deletes all segments and snapshots, and rebuilds from the files alone.
fn go_on(left: &SimStorage, expected: &Expected, recovered: usize) {
    use modelog_engine::Storage as _;
    let place = Place::open(left).unwrap().compacting();
    let sealed = place.engine.seal().unwrap();
    assert_eq!(sealed.0, expected.events(recovered));
    assert_eq!(place.flush().unwrap(), sealed);
    place.engine.cold().retire().unwrap();
    expected.check(&place.engine, recovered, recovered);
    place.close();
    let found = glob::read(left, &parquet());
    assert_eq!(
        found.offsets.len() as u64,
        sealed.0,
        "every event is in the files"
    );
    let names: Vec<_> = left.files(&parquet()).unwrap();
    let place = Place::open(left).unwrap();
    let listed = place
        .store
        .manifest()
        .map_or(0, |manifest| manifest.files.len());
    assert_eq!(found.files.len(), listed, "no orphans: {names:?}");
    let unfinished = names
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "tmp"));
    assert_eq!(unfinished.count(), 0, "{names:?}");
    assert_eq!(place.store.status().foreign, [] as [std::path::PathBuf; 0]);
    place.end();
    let segments = SegmentReader::open(left.storage(), &data()).unwrap();
    let verified = verify(&parquet(), &left.storage(), Some(segments), &mut |_| {}).unwrap();
    assert_eq!(verified.findings, []);
    for snapshot in left.files(&data().join("snapshots")).unwrap() {
        left.remove(&snapshot).unwrap();
    }
    let place = Place::open(left).unwrap();
    expected.check(&place.engine, recovered, recovered);
    expected.repeat_all(&place.engine);
    place.end();
}

/// The ways to crash that are tried at an I/O.
fn crashes(k: u64) -> Vec<Crash> {
    let losses = (0..if full() { 6 } else { 1 }).map(|seed| Crash::power_loss(k * 1000 + seed));
    [Crash::LoseAll, Crash::Kill { seed: k }]
        .into_iter()
        .chain(losses)
        .collect()
}

#[test]
fn a_crash_at_any_io_shows_every_event_once_and_loses_none() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in part(crash_points(&history, 3)) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        for (turn, crash) in crashes(k).into_iter().enumerate() {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}, {:?}", replay.next_io()));
            let left = replay.crash(crash);
            let recovered = check(&left, &expected, least, most);
            if (k as usize + turn).is_multiple_of(3) || full() {
                go_on(&left, &expected, recovered);
            }
        }
    }
}

#[test]
fn who_reads_the_files_meanwhile_sees_whole_ones_and_no_event_twice() {
    let (history, _, _) = recorded();
    let mut replay = history.replay();
    let mut most = 0;
    for k in history.crash_points() {
        replay.go_to(k);
        // Between other I/Os nothing changes for a glob.
        if !format!("{:?}", replay.next_io()).contains(".parquet") {
            continue;
        }
        let _replayable = Replayable(format!("before I/O {k}, {:?}", replay.next_io()));
        most = most.max(glob::read(&replay.seen(), &parquet()).offsets.len());
    }
    assert!(most > 100, "{most}");
}

#[test]
fn a_crash_while_what_a_crash_left_is_gone_on_with_is_no_worse() {
    let (history, timeline, expected) = recorded();
    let mut replay = history.replay();
    for k in part(crash_points(&history, 9)) {
        replay.go_to(k);
        let (least, most) = timeline.at(k);
        for first in [Crash::Kill { seed: k }, Crash::power_loss(k)] {
            let left = replay.crash(first);
            left.record();
            let place = Place::open(&left).unwrap().compacting();
            let recovered = expected.check(&place.engine, least, most);
            place.engine.seal().unwrap();
            place.flush().unwrap();
            place.engine.cold().retire().unwrap();
            place.end();
            let second_life = left.history();
            let _trace = Replayable(format!("the second life\n{second_life:?}"));
            let mut again = second_life.replay();
            for j in crash_points(&second_life, 11).skip(k as usize % 3) {
                again.go_to(j);
                for second in [Crash::LoseAll, Crash::power_loss(k * 100 + j)] {
                    let _replayable = Replayable(format!(
                        "{first:?} at I/O {k}, {second:?} at {j} of the second life, {:?}",
                        again.next_io()
                    ));
                    let left = again.crash(second);
                    let found = check(&left, &expected, least, recovered);
                    if j % 5 == 0 {
                        go_on(&left, &expected, found);
                    }
                }
            }
        }
    }
}

/// The same life on a disk that fails once: what can go on goes on, until the log takes no more. Answers how many calls
/// were acknowledged, and how many may be there.
fn live_with_a_failure(disk: &SimStorage, expected: &Expected) -> (usize, usize) {
    let (mut acknowledged, mut submitted) = (0, 0);
    let Ok(place) = Place::open(disk) else {
        return (0, 0);
    };
    let place = place.compacting();
    for (sequence, call) in expected.calls.iter().enumerate() {
        match append(&place.engine, sequence as u64, call) {
            Ok(_) => (acknowledged, submitted) = (sequence + 1, sequence + 1),
            Err(error) => {
                submitted += usize::from(!error.is_not_applied());
                break;
            }
        }
        if sequence % 4 == 2 {
            // Whatever of this fails, it is tried again by the next one, or in the next life.
            let _ = place.engine.seal();
            let _ = place.flush();
            let _ = place.engine.cold().retire();
        }
    }
    let _ = place.flush();
    place.end();
    (acknowledged, submitted)
}

#[test]
fn a_failure_of_any_io_loses_nothing_and_shows_nothing_twice() {
    let (history, _, expected) = recorded();
    for k in part(crash_points(&history, 4)) {
        let all = [Fault::LosingSync, Fault::Io, Fault::ShortWrite, Fault::Full];
        for fault in if full() {
            &all[..]
        } else {
            &all[(k / 4 % 4) as usize..][..1]
        } {
            let _replayable = Replayable(format!("{fault:?} of I/O {k}"));
            let disk = disk(k);
            disk.fail_at(k, *fault);
            let (acknowledged, submitted) = live_with_a_failure(&disk, &expected);
            disk.fail_no_more();
            // The process starts again; the machine does not, and takes for written what it failed to write.
            let place = Place::open(&disk).unwrap().compacting();
            let recovered = expected.check(&place.engine, acknowledged, submitted);
            place.engine.seal().unwrap();
            place.flush().unwrap();
            place.engine.cold().retire().unwrap();
            place.end();
            let left = disk.reboot(Crash::LoseAll);
            check(&left, &expected, recovered, recovered);
            go_on(&left, &expected, recovered);
        }
    }
}

#[test]
fn a_full_disk_is_not_filled_further_by_what_was_begun() {
    let calls = calls();
    let filled = (0..60).filter(|k| {
        let disk = disk(*k);
        let place = Place::open(&disk).unwrap().compacting();
        place.flush().unwrap();
        for (sequence, call) in calls.iter().take(3).enumerate() {
            append(&place.engine, sequence as u64, call).unwrap();
        }
        disk.fail_at(disk.ios() + k, Fault::Full);
        let failed = place.flush().is_err();
        place.end();
        let files = disk.files(&parquet()).unwrap();
        let published = files
            .iter()
            .any(|path| path.extension().is_some_and(|end| end == "parquet"));
        let left: Vec<_> = files
            .iter()
            .filter(|path| {
                modelog_parquet::layout::is_unfinished(path.strip_prefix(parquet()).unwrap())
            })
            .collect();
        assert!(published || left.is_empty(), "{k}: {left:?}");
        failed
    });
    assert!(filled.count() > 10);
}

#[test]
fn clocks_that_jump_delete_nothing_and_lose_nothing() {
    let expected = Expected::new(calls());
    let disk = disk(5);
    let year = 365 * 24 * 3600 * 1_000_000_i64;
    let jumps = [0, 1, -1, 30, -60, 100, -70, 200, -200].into_iter().cycle();
    let mut place = Place::open_keeping(&disk, Duration::from_secs(24 * 3600))
        .unwrap()
        .compacting();
    for ((sequence, call), jump) in expected.calls.iter().enumerate().zip(jumps) {
        place.clock.now.fetch_add(jump * year, Ordering::SeqCst);
        append(&place.engine, sequence as u64, call).unwrap();
        let sealed = place.engine.seal().unwrap();
        assert_eq!(
            place.flush().unwrap(),
            sealed,
            "files are closed whatever the clock says"
        );
        assert_eq!(place.engine.cold().retire().unwrap(), 0, "segments stay");
        if sequence % 4 == 3 {
            let clock = std::sync::Arc::clone(&place.clock);
            place.close();
            place = Place::open_keeping(&disk, Duration::from_secs(24 * 3600))
                .unwrap()
                .compacting();
            place
                .clock
                .now
                .store(clock.now.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
    let segments = disk.files(&data().join("log")).unwrap();
    assert!(segments.len() > expected.calls.len(), "{segments:?}");
    place.close();
    check(&disk, &expected, expected.calls.len(), expected.calls.len());
    go_on(&disk, &expected, expected.calls.len());
}

#[test]
fn a_flipped_bit_in_any_file_is_reported_and_never_served() {
    use modelog_engine::Storage as _;
    let expected = Expected::new(calls());
    let disk = disk(1);
    live(&disk, &expected.calls);
    for snapshot in disk.files(&data().join("snapshots")).unwrap() {
        disk.remove(&snapshot).unwrap();
    }
    let disk = disk.reboot(Crash::Kill { seed: 0 });
    let all: Vec<_> = expected.calls.iter().flatten().cloned().collect();
    let (mut refused, mut served) = (0, 0);
    for path in disk.files(&parquet()).unwrap() {
        let len = disk.read(&path).unwrap().len() as u64;
        let places = match (full(), cfg!(debug_assertions)) {
            (true, _) => 300,
            (false, false) => 25,
            (false, true) => 3,
        };
        let step = (len / places).max(1) as usize;
        for (turn, position) in (0..len).step_by(step).enumerate() {
            let _replayable = Replayable(format!("bit of byte {position} of {}", path.display()));
            let copy = disk.after(Crash::Kill { seed: 0 });
            copy.flip_bit(&path, position, turn as u8).unwrap();
            let segments = SegmentReader::open(copy.storage(), &data()).unwrap();
            let verified = verify(&parquet(), &copy.storage(), Some(segments), &mut |_| {});
            assert!(
                verified.is_err() || verified.unwrap().is_damaged(),
                "it is not found"
            );
            let read = Place::open(&copy).and_then(|place| {
                let events = read_all(&place.engine)?;
                Ok(events)
            });
            match read {
                Ok(events) => {
                    assert!(events == all, "other events are served");
                    served += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    // What the manifest says of a file beside its place is looked at by verifying alone.
    assert!(refused > served, "{refused} refused, {served} served");
}
