//! Backups and restores, crashed at every I/O: half of one is never taken for a whole one, and it can be done again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use modelog_engine::backup::{Found, generations};
use modelog_engine::event::Event;
use modelog_engine::restore::Restore;
use modelog_engine::sim::{Crash, SimStorage};
use modelog_engine::{Clock, ErrorKind, LogError, Offset, Storage as _};
use modelog_parquet::cut::cut;
use modelog_parquet::manifest::Manifest;

use crate::glob;
use crate::place::Place;
use crate::support::{
    Expected, HandClock, Replayable, append, calls, data, disk, full, part, read_all,
};

fn backups() -> PathBuf {
    "/var/backups/modelog".into()
}

fn restored() -> PathBuf {
    "/var/restored/data".into()
}

/// Every so many I/Os, the last ones all.
fn crash_points(history: &modelog_engine::sim::History) -> Vec<u64> {
    let step = match (full(), cfg!(debug_assertions)) {
        (true, _) => 1,
        (false, false) => 2,
        (false, true) => 5,
    };
    let (first, last) = history.crash_points().into_inner();
    part((first..=last).filter(|k| (k - first) % step == 0 || last - k < 8)).collect()
}

/// The ways to crash that are tried in a turn: one after the other, or all.
fn crashes(turn: u64) -> Vec<Crash> {
    let all = [
        Crash::LoseAll,
        Crash::Kill { seed: turn },
        Crash::power_loss(turn),
    ];
    if full() {
        all.to_vec()
    } else {
        vec![all[(turn % 3) as usize]]
    }
}

/// A log, half of it in Parquet files; segments were deleted.
fn place(disk: &SimStorage, calls: &[Vec<Event>]) -> Place {
    let place = Place::open(disk).unwrap().compacting();
    for (sequence, call) in calls.iter().enumerate() {
        append(&place.engine, sequence as u64, call).unwrap();
        if sequence == 6 {
            place.engine.seal().unwrap();
            place.flush().unwrap();
            place.engine.cold().retire().unwrap();
        }
    }
    place
}

/// Restores a generation, or a data directory, as `modelog restore` does.
fn restore(
    disk: &SimStorage,
    source: &Path,
    until: Option<Offset>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (storage, clock) = (disk.storage(), HandClock::new());
    let clock: Arc<dyn Clock> = clock;
    let restore = Restore::begin(Arc::clone(&storage), clock, &restored())?;
    let (from, to) = (source.join("parquet"), restored().join("parquet"));
    let cold = match Manifest::load(&*storage, &from)? {
        None => None,
        Some(_) => {
            cut(&from, &to, until.unwrap_or(Offset(u64::MAX)), &storage)?;
            Some(Place::store_at(disk, &to)?.cold())
        }
    };
    let done = restore.log(source, cold.as_deref(), until)?;
    if let Some(mut history) = Manifest::load(&*storage, &to)? {
        history.epoch = done.epoch;
        history.store(&*storage, &to)?;
    }
    restore.finish()?;
    Ok(())
}

/// What is in a restored directory.
fn read_restored(disk: &SimStorage) -> Vec<Event> {
    glob::read(disk, &restored().join("parquet"));
    let place = Place::open_in(disk, &restored()).unwrap();
    read_all(&place.engine).unwrap()
}

/// Removes what was restored, so that there is room for the next one.
fn forget_restored(disk: &SimStorage) {
    fn remove(disk: &SimStorage, directory: &Path) {
        for path in disk.list(directory).unwrap() {
            if disk.is_dir(&path).unwrap() {
                remove(disk, &path);
            } else {
                disk.remove(&path).unwrap();
            }
        }
        disk.remove_dir(directory).unwrap();
    }
    if disk.is_dir(&restored()).unwrap() {
        remove(disk, &restored());
        disk.sync_dir(restored().parent().unwrap()).unwrap();
    }
}

#[test]
fn a_crash_at_any_io_of_a_backup_leaves_whole_ones_and_the_source() {
    let expected = Expected::new(calls());
    let (half, all) = (11, expected.calls.len());
    let disk = disk(1);
    let place = place(&disk, &expected.calls[..half]);
    disk.record();
    // The second one is built on the first, and ends it.
    let mut taken = Vec::new();
    for (sequence, call) in expected.calls.iter().enumerate().skip(half - 1) {
        if sequence >= half {
            append(&place.engine, sequence as u64, call).unwrap();
        }
        if sequence == half - 1 || sequence == all - 1 {
            place
                .engine
                .backup(&backups(), Some(1), &mut |_, _| {})
                .unwrap();
            taken.push((disk.ios(), expected.events(sequence + 1)));
        }
    }
    place.end();
    let history = disk.history();
    let mut replay = history.replay();
    for k in crash_points(&history) {
        replay.go_to(k);
        for crash in crashes(k) {
            let _replayable = Replayable(format!("{crash:?} at I/O {k}, {:?}", replay.next_io()));
            let left = replay.crash(crash);
            let there = left.is_dir(&backups()).unwrap();
            let found = if there {
                generations(&left, &backups()).unwrap()
            } else {
                Vec::new()
            };
            let newest = taken.iter().rev().find(|(at, _)| *at <= k);
            if let Some((_, events)) = newest {
                let kept = found
                    .iter()
                    .any(|found| found.generation.offset.0 >= *events);
                assert!(kept, "a backup that was reported is gone: {found:?}");
            }
            if k % 2 == 0 || found.len() == 2 || full() {
                check_generations(&left, &found, &expected);
            }
            // The source is what it was, and another backup can be taken of it.
            let place = Place::open(&left).unwrap();
            let recovered = expected.check(&place.engine, half, all);
            place.clock.now.fetch_add(1_000_000, Ordering::SeqCst);
            place
                .engine
                .backup(&backups(), Some(1), &mut |_, _| {})
                .unwrap();
            place.end();
            let left = left.reboot(Crash::LoseAll);
            let found = generations(&left, &backups()).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].generation.offset.0, expected.events(recovered));
            let others = left.list(&backups()).unwrap();
            let others = others.iter().filter(|path| left.is_dir(path).unwrap());
            // What was removed may come back, as something that is no backup.
            assert!(others.count() <= 3);
            if k % 3 == 0 || full() {
                check_generations(&left, &found, &expected);
            }
        }
    }
}

fn check_generations(left: &SimStorage, found: &[Found], expected: &Expected) {
    let all: Vec<_> = expected.calls.iter().flatten().cloned().collect();
    for found in found {
        restore(left, &found.path, None).unwrap();
        let events = read_restored(left);
        assert_eq!(events.len() as u64, found.generation.offset.0);
        assert!(events == all[..events.len()]);
        forget_restored(left);
    }
}

#[test]
fn a_crash_at_any_io_of_a_restore_is_told_and_repeated() {
    let expected = Expected::new(calls());
    let events: Vec<_> = expected.calls.iter().flatten().cloned().collect();
    let disk = disk(1);
    let place = place(&disk, &expected.calls);
    let backup = place
        .engine
        .backup(&backups(), None, &mut |_, _| {})
        .unwrap();
    place.end();
    let disk = disk.reboot(Crash::LoseAll);
    let mut turn = 0;
    // All of it, a part that ends in the middle of a call in segments, and one that ends in a Parquet file.
    for until in [None, Some(Offset(expected.events(9) + 3)), Some(Offset(20))] {
        turn += 1;
        let wanted = until.map_or(events.len(), |until| until.0 as usize);
        let sources = if until.is_none() {
            vec![backup.path.clone()]
        } else {
            vec![backup.path.clone(), data()]
        };
        for source in sources {
            let target = disk.after(Crash::LoseAll);
            target.record();
            restore(&target, &source, until).unwrap();
            let finished = target.ios();
            let history = target.history();
            let mut replay = history.replay();
            for k in crash_points(&history) {
                replay.go_to(k);
                for crash in crashes(k + turn) {
                    let _replayable = Replayable(format!(
                        "{crash:?} at I/O {k}, {:?}, of {} until {until:?}",
                        replay.next_io(),
                        source.display()
                    ));
                    let left = replay.crash(crash);
                    check_restored(&left, &source, until, &events[..wanted], k >= finished);
                }
            }
        }
    }
}

fn check_restored(
    left: &SimStorage,
    source: &Path,
    until: Option<Offset>,
    wanted: &[Event],
    finished: bool,
) {
    let begun = left.exists(&restored().join("log")).unwrap()
        || left.exists(&restored().join("parquet")).unwrap();
    assert!(begun || !finished, "a restore that was reported is gone");
    if begun {
        match Place::open_in(left, &restored()) {
            Ok(place) => {
                place.end();
                assert!(read_restored(left) == wanted, "half of it is opened");
            }
            Err(error) => {
                assert!(!finished, "{error}");
                let error = error.downcast::<LogError>().expect("the log refuses");
                assert!(matches!(*error, LogError::Restoring { .. }), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Invalid);
            }
        }
    }
    if !finished {
        if begun && !left.exists(&restored().join("RESTORING")).unwrap() {
            // It came to its end, and is not overwritten.
            return;
        }
        restore(left, source, until).unwrap();
        let left = left.reboot(Crash::LoseAll);
        assert!(read_restored(&left) == wanted);
        // What it was made of is what it was: links share their bytes.
        if source == data() {
            let place = Place::open(&left).unwrap();
            assert!(read_all(&place.engine).unwrap().starts_with(wanted));
        }
    }
}
