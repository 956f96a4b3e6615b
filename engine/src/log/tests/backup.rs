//! Backups of a log in use, and logs restored from them, from data directories and from what is left of them.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{append, close, config, copy, prediction, read_all, segments};
use crate::event::Event;
use crate::log::backup::{generations, read_mark};
use crate::log::inspect::{self, Severity};
use crate::log::manifest::Manifest;
use crate::log::restore::{Restore, Restored};
use crate::log::scan::scan_last;
use crate::storage::StorageFile;
use crate::{
    Checkpoint, CheckpointError, Engine, LocalStorage, LogError, Offset, Storage, SystemClock,
};

fn storage() -> Arc<dyn Storage> {
    Arc::new(LocalStorage)
}

fn restore(source: &Path, to: &Path, until: Option<u64>) -> Result<Restored, LogError> {
    let begun = Restore::begin(storage(), Arc::new(SystemClock::new()), to)?;
    let restored = begun.log(source, None, until.map(Offset))?;
    begun.finish()?;
    Ok(restored)
}

fn fill(engine: &Engine, from: u64, to: u64) {
    for start in (from..to).step_by(7) {
        let events: Vec<_> = (start..to.min(start + 7)).map(prediction).collect();
        append(engine, &events).unwrap();
    }
}

fn expected(end: u64) -> Vec<Event> {
    (0..end).map(prediction).collect()
}

#[test]
fn a_log_is_backed_up_while_it_is_written_to() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 1_000);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (engine, stop) = (engine.clone(), Arc::clone(&stop));
        move || {
            let mut next = 1_000;
            while !stop.load(Ordering::Relaxed) {
                append(&engine, &[prediction(next)]).unwrap();
                next += 1;
            }
        }
    });
    let mut reports = Vec::new();
    for _ in 0..5 {
        let report = engine.backup(dest.path(), Some(3), &mut |_, _| {}).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        reports.push(report);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(reports[1].new_files < reports[1].generation.files);
    let kept = generations(&LocalStorage, dest.path()).unwrap();
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[0].path, reports[4].path);
    assert!(!reports[0].path.exists());
    for found in kept {
        let end = found.generation.offset;
        assert!(matches!(
            Engine::open(config(&found.path)).map(drop),
            Err(LogError::Backup { .. })
        ));
        assert_eq!(inspect::verify(&found.path).unwrap().findings, []);
        let restored = tempfile::tempdir().unwrap();
        let outcome = restore(&found.path, restored.path(), None).unwrap();
        assert_eq!(outcome.end, end);
        let engine = Engine::open(config(restored.path())).unwrap();
        assert_eq!(read_all(&engine), expected(end.0));
    }
}

#[test]
fn a_restored_log_is_as_it_was_at_any_offset() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 600);
    // The source is in use.
    for until in [0, 1, 6, 7, 8, 299, 300, 301, 594, 599, 600] {
        let restored = tempfile::tempdir().unwrap();
        let outcome = restore(data.path(), restored.path(), Some(until)).unwrap();
        assert_eq!(outcome.end, Offset(until));
        assert_eq!(inspect::verify(restored.path()).unwrap().findings, []);
        let copied = Engine::open(config(restored.path())).unwrap();
        assert_eq!(copied.tail(), Offset(until));
        assert_eq!(read_all(&copied), expected(until));
        assert!(copied.epoch() > engine.epoch());
        // A store that has followed further is told apart, one that has not goes on.
        let at = |offset| Checkpoint {
            log: engine.log_id(),
            epoch: engine.epoch(),
            offset: Offset(offset),
            fold_version: 1,
        };
        assert_eq!(copied.check(&at(until)), Ok(()));
        assert!(matches!(
            copied.check(&at(until + 1)),
            Err(CheckpointError::LostHistory { .. })
        ));
        // Where they parted is where who followed further has to go on.
        for offset in [0, until / 2, until, until + 1, 600] {
            let common = copied.last_common(&at(offset));
            assert_eq!(common.offset, Offset(offset.min(until)));
            assert_eq!(copied.check(&common), Ok(()));
        }
        fill(&copied, until, until + 20);
        let of_no_epoch = Checkpoint {
            epoch: engine.epoch() + 1,
            ..at(600)
        };
        let common = copied.last_common(&of_no_epoch);
        assert_eq!(
            common.offset,
            Offset(until),
            "an epoch in between, which nobody knows"
        );
        assert_eq!(copied.check(&common), Ok(()));
        close(copied);
        let copied = Engine::open(config(restored.path())).unwrap();
        assert_eq!(read_all(&copied), expected(until + 20));
    }
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(
        restore(data.path(), nowhere.path(), Some(601)),
        Err(LogError::BeyondTail { .. })
    ));
    assert_eq!(read_all(&engine), expected(600), "the source is as it was");
}

/// A file whose bytes in a range were not written yet when they were first read.
#[derive(Debug)]
struct Late {
    file: Arc<dyn StorageFile>,
    from: u64,
    to: u64,
    seen: AtomicBool,
}

impl StorageFile for Late {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, position)?;
        let end = position + read as u64;
        let (from, to) = (self.from.max(position), self.to.min(end));
        if from < to && !self.seen.swap(true, Ordering::Relaxed) {
            buffer[(from - position) as usize..(to - position) as usize].fill(0);
        }
        Ok(read)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn sync_data(&self) -> io::Result<()> {
        unreachable!("it is only read")
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("it is only read")
    }
}

#[test]
fn what_is_written_while_it_is_looked_at_is_no_damage() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 200);
    let path = segments(data.path()).pop().unwrap();
    let contents = Manifest::open(&LocalStorage, &data.path().join("log"), false)
        .unwrap()
        .contents;
    let file = || LocalStorage.open(&path, false).unwrap();
    let end = scan_last(&*file(), &path, &contents).unwrap().sound;
    for missing in [1, 100, 1_000] {
        let late = Late {
            file: file(),
            from: end.position - missing - 1_000,
            to: end.position - missing,
            seen: AtomicBool::new(false),
        };
        let found = scan_last(&late, &path, &contents).unwrap().sound;
        assert_eq!(found, end);
        assert!(late.seen.into_inner());
    }
}

#[test]
fn linked_files_of_the_source_stay_as_they_were() {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 600);
    close(engine);
    let before: Vec<_> = segments(data.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    for until in [None, Some(300)] {
        let restored = data.path().with_extension(format!("restored{until:?}"));
        restore(data.path(), &restored, until).unwrap();
        let copied = Engine::open(config(&restored)).unwrap();
        fill(&copied, copied.tail().0, 900);
        drop(copied);
        fs::remove_dir_all(&restored).unwrap();
    }
    let after: Vec<_> = segments(data.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(before == after);
}

#[test]
fn what_was_interrupted_is_neither_backup_nor_log() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 300);
    let whole = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    let broken = dest
        .path()
        .join("20200101T000000.000000Z-00000000000000000300");
    copy(&whole.path, &broken);
    fs::remove_file(broken.join("backup.json")).unwrap();
    assert_eq!(generations(&LocalStorage, dest.path()).unwrap().len(), 1);
    engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    assert!(!broken.exists());

    let to = tempfile::tempdir().unwrap();
    let begun = Restore::begin(storage(), Arc::new(SystemClock::new()), to.path()).unwrap();
    begun.log(&whole.path, None, None).unwrap();
    drop(begun);
    assert!(matches!(
        Engine::open(config(to.path())).map(drop),
        Err(LogError::Restoring { .. })
    ));
    restore(&whole.path, to.path(), None).unwrap();
    let restored = Engine::open(config(to.path())).unwrap();
    assert_eq!(read_all(&restored), expected(300));
    assert!(matches!(
        restore(&whole.path, to.path(), None),
        Err(LogError::NotEmpty { .. })
    ));
}

#[test]
fn a_log_and_what_was_restored_from_it_do_not_mix_their_backups() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 100);
    let first = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    fill(&engine, 100, 200);
    engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();

    // Everything after the first backup is taken back, and comes again otherwise.
    let restored = tempfile::tempdir().unwrap();
    restore(&first.path, restored.path(), None).unwrap();
    let copied = Engine::open(config(restored.path())).unwrap();
    fill(&copied, 100, 300);
    let again = copied.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    assert_eq!(inspect::verify(&again.path).unwrap().findings, []);
    let first_segment = segments(&first.path).remove(0);
    let shared = segments(&again.path).remove(0);
    assert_eq!(
        fs::metadata(first_segment).unwrap().ino(),
        fs::metadata(shared).unwrap().ino(),
        "what both histories have is not there twice"
    );

    // Nor is a log begun in their place.
    assert!(matches!(
        Engine::open(config(dest.path())).map(drop),
        Err(LogError::Backup { .. })
    ));
    assert!(!dest.path().join("log").exists());

    // The other one's backups would be the oldest ones from now on, and go first.
    let refused = engine.backup(dest.path(), Some(1), &mut |_, _| {});
    assert!(matches!(refused, Err(LogError::Foreign { path, .. }) if path == again.path));
    let kept = copied.backup(dest.path(), Some(1), &mut |_, _| {}).unwrap();
    assert_eq!(kept.removed.len(), 3);
    assert!(kept.path.exists());
}

#[test]
fn what_a_restore_took_back_is_not_taken_from_the_backup_before() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 100);
    let first = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    fill(&engine, 100, 200);
    let lost = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    let restored = tempfile::tempdir().unwrap();
    restore(&first.path, restored.path(), None).unwrap();
    let copied = Engine::open(config(restored.path())).unwrap();
    fill(&copied, 100, 200);
    copied.seal().unwrap();
    // As if all that comes again took as many bytes as before, which tells little where calls are repeated.
    let mut alike = 0;
    for segment in segments(restored.path()) {
        let before = lost.path.join("log").join(segment.file_name().unwrap());
        if segments(&first.path)
            .iter()
            .all(|kept| kept.file_name() != segment.file_name())
            && before.exists()
        {
            let bytes = fs::metadata(&segment).unwrap().len();
            fs::remove_file(&before).unwrap();
            fs::write(&before, vec![0; bytes as usize]).unwrap();
            alike += 1;
        }
    }
    assert!(alike > 0);
    let again = copied.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    assert_eq!(inspect::verify(&again.path).unwrap().findings, []);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_a_new_backup_the_oldest() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 100);
    let first = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    let mut later = first.generation.clone();
    later.time += 3_600_000_000;
    let mark = serde_json::to_vec(&later).unwrap();
    fs::write(first.path.join("backup.json"), mark).unwrap();
    let second = engine.backup(dest.path(), Some(1), &mut |_, _| {}).unwrap();
    assert_eq!(second.removed, [first.path]);
    assert!(second.path.exists());
}

#[test]
fn closing_the_log_breaks_a_backup_off() {
    let (data, dest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 1_000);
    let mut files = 0;
    let broken_off = engine.backup(dest.path(), None, &mut |done, of| {
        assert!(done < of, "there is another file");
        files = done;
        engine.close_blocking().unwrap();
    });
    assert!(matches!(broken_off, Err(LogError::Closed)));
    assert_eq!(files, 1);
    assert_eq!(generations(&LocalStorage, dest.path()).unwrap(), []);
    let engine = Engine::open(config(data.path())).unwrap();
    engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    assert_eq!(
        fs::read_dir(dest.path()).unwrap().count(),
        2,
        "the lock and a backup"
    );
    close(engine);
}

#[test]
fn a_backup_of_another_log_and_a_damaged_source_are_refused() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dest = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(data.path())).unwrap();
    fill(&engine, 0, 300);
    let report = engine.backup(dest.path(), None, &mut |_, _| {}).unwrap();
    let foreign = Engine::open(config(other.path())).unwrap();
    fill(&foreign, 0, 10);
    assert!(matches!(
        foreign.backup(dest.path(), None, &mut |_, _| {}),
        Err(LogError::Foreign { .. })
    ));
    // One bit, in the middle of a segment.
    let copied = tempfile::tempdir().unwrap();
    copy(&report.path, copied.path());
    let path = copied.path().join("log/00000000000000000000-000000.seg");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).unwrap();
    let findings = inspect::verify(copied.path()).unwrap().findings;
    assert!(
        findings
            .iter()
            .any(|finding| finding.severity == Severity::Corrupt)
    );
    let to = tempfile::tempdir().unwrap();
    assert!(matches!(
        restore(copied.path(), to.path(), None),
        Err(LogError::Corrupt { .. })
    ));
    assert!(read_mark(&LocalStorage, to.path()).unwrap().is_none());
    let empty = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    assert!(matches!(
        restore(empty.path(), to.path(), None),
        Err(LogError::Foreign { .. })
    ));
}

/// A write that a crash tears may bring up what its place on the disk held before: a slot of the manifest that the log was
/// restored from, which says more or less the same.
#[test]
fn slots_of_the_manifest_it_was_restored_from_do_not_count() {
    let source = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(source.path())).unwrap();
    for from in 0..5 {
        fill(&engine, from * 7, from * 7 + 7);
        engine.seal().unwrap();
    }
    close(engine);
    let manifest = |data: &Path| data.join("log").join("MANIFEST");
    let old = fs::read(manifest(source.path())).unwrap();
    let half = 256 << 10;
    for slot in [0, half] {
        let to = tempfile::tempdir().unwrap();
        restore(source.path(), to.path(), Some(9)).unwrap();
        let mut torn = fs::read(manifest(to.path())).unwrap();
        let end = old.len().min(slot + half);
        torn.resize(torn.len().max(end), 0);
        torn[slot..end].copy_from_slice(&old[slot..end]);
        fs::write(manifest(to.path()), torn).unwrap();
        let engine = Engine::open(config(to.path())).unwrap();
        assert_eq!(read_all(&engine), expected(9), "slot at {slot}");
        close(engine);
    }
}
