//! A disk that fails: each operation in turn, in each way.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use modelog_engine::event::Kind;
use modelog_engine::projection::{Projection, ProjectionError};
use modelog_engine::{LocalStorage, LockGuard, Offset, ProjectionState, Storage, StorageFile};
use modelog_parquet::ParquetError;

use crate::support::*;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `ENOSPC`
    Full,
    /// `EIO`
    Broken,
    /// A read of an unfinished file answers other bytes than were written.
    Flipped,
}

/// The disk of this machine, which fails when it is told to. It syncs nothing: nothing crashes here.
#[derive(Clone, Debug)]
struct Faulty(Arc<Plan>);

#[derive(Debug, Default)]
struct Plan {
    operations: AtomicU64,
    /// From which operation on, for how many, what.
    fault: Mutex<Option<(u64, u64, Fault)>>,
}

impl Faulty {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn fail(&self, at: u64, count: u64, fault: Fault) {
        *self.0.fault.lock().unwrap() = Some((at, count, fault));
    }

    fn heal(&self) {
        *self.0.fault.lock().unwrap() = None;
    }

    fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    /// Counts an operation; tells what befalls it.
    fn count(&self) -> Option<Fault> {
        let number = self.0.operations.fetch_add(1, Ordering::SeqCst);
        let fault = *self.0.fault.lock().unwrap();
        fault
            .filter(|(at, count, _)| (*at..at.saturating_add(*count)).contains(&number))
            .map(|(_, _, fault)| fault)
    }

    fn check(&self) -> io::Result<()> {
        match self.count() {
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Broken) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::Flipped) | None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Faulty,
    file: Arc<dyn StorageFile>,
}

impl Faulty {
    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        })
    }
}

impl Storage for Faulty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.check()?;
        LocalStorage.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.check()?;
        LocalStorage.open(path, write).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        LocalStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        LocalStorage.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalStorage.link(from, to)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        LocalStorage.remove_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.check()?;
        LocalStorage.is_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        LocalStorage.is_dir(path).map(|_| ())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        LocalStorage.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.check()?;
        LocalStorage.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.check()?;
        LocalStorage.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalStorage.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.check()?;
        LocalStorage.lock(path)
    }

    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        LocalStorage.network_file_system(path)
    }
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self.disk.count() {
            None => self.file.read_at(buffer, position),
            Some(Fault::Flipped) => {
                let read = self.file.read_at(buffer, position)?;
                if let Some(byte) = buffer[..read].last_mut() {
                    *byte ^= 1;
                }
                Ok(read)
            }
            Some(_) => Err(io::Error::from_raw_os_error(5)),
        }
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        match self.disk.count() {
            None | Some(Fault::Flipped) => self.file.write_at(slices, position),
            Some(fault) => {
                // Some of it is written.
                let half = &slices[0][..slices[0].len() / 2];
                self.file.write_at(&[IoSlice::new(half)], position)?;
                Err(match fault {
                    Fault::Full => io::ErrorKind::StorageFull.into(),
                    _ => io::Error::from_raw_os_error(5),
                })
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.check()?;
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// Files of two kinds, larger than a row group; and a second round, after the fault.
async fn work(place: &Place, disk: &Faulty, fault: Option<(u64, u64, Fault)>) -> (u64, u64) {
    let (engine, store) = place.open();
    let mut driven = Driven {
        engine: &engine,
        compactor: store.projection(engine.cold()),
    };
    let mut failures = 0;
    let begun = disk.operations();
    if let Some((at, count, fault)) = fault {
        disk.fail(begun + at, count, fault);
    }
    let mut number = 0;
    for _ in 0..2 {
        for kind in [
            Kind::PredictionLogged,
            Kind::MetricLogged,
            Kind::PredictionLogged,
        ] {
            let batch = of_kind(kind, number..number + 20);
            engine.append(batch, Default::default()).await.unwrap();
            number += 20;
        }
        loop {
            let done = match driven.catch_up().await {
                Ok(()) => store.flush().await.map_err(|error| error.to_string()),
                Err(ProjectionError::Unavailable(error)) => Err(error.to_string()),
                // What is read as damaged is for a person to look at: who sees that it is not after all.
                Err(error) if matches!(fault, Some((_, _, Fault::Flipped))) => {
                    Err(error.to_string())
                }
                Err(error) => panic!("waiting would have helped: {error}"),
            };
            match done {
                Ok(cold_end) => {
                    assert_eq!(cold_end, engine.tail());
                    break;
                }
                Err(_) => failures += 1,
            }
            assert!(failures < 100, "it goes on failing");
            // Whatever happened, what can be seen is a part of the history.
            let manifest = store.manifest();
            let listed = manifest.iter().flat_map(|manifest| &manifest.files);
            for file in listed {
                assert!(file.locate(place.parquet()).exists());
            }
        }
    }
    let operations = disk.operations() - begun;
    disk.heal();
    drop(driven);
    assert_complete(&engine, place.parquet());
    assert!(!has_unfinished(place.parquet()));
    assert_eq!(engine.cold_end(), engine.tail());
    engine.close().await.unwrap();
    (operations, failures)
}

fn place(directory: &Path, disk: &Faulty) -> Place {
    let mut place = Place::new(directory, FakeClock::at("2026-11-22T12:00:00Z"));
    place.storage = Arc::new(disk.clone());
    place.log_storage = Arc::new(Faulty::new());
    place.config.pending_bytes = 5_000;
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_may_fail_once() {
    let whole = {
        let directory = tempfile::tempdir().unwrap();
        let disk = Faulty::new();
        let (operations, failures) = work(&place(directory.path(), &disk), &disk, None).await;
        assert_eq!(failures, 0);
        operations
    };
    assert!(whole > 60, "{whole}");
    let mut noticed = 0;
    for fault in [Fault::Broken, Fault::Flipped] {
        for at in 0..whole {
            let directory = tempfile::tempdir().unwrap();
            let disk = Faulty::new();
            let place = place(directory.path(), &disk);
            let (_, failures) = work(&place, &disk, Some((at, 1, fault))).await;
            noticed += failures;
        }
    }
    // Most are not to be overlooked; removing what nobody needs may fail.
    assert!(noticed > whole / 2, "{noticed} of {whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stays_full_for_a_while() {
    for at in [0, 10, 30, 50] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Faulty::new();
        let place = place(directory.path(), &disk);
        let (_, failures) = work(&place, &disk, Some((at, 40, Fault::Full))).await;
        assert!(failures > 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_without_new_events_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let clock = FakeClock::at("2026-11-22T12:00:00Z");
    let mut place = Place::new(directory.path(), clock.clone());
    place.storage = Arc::new(disk.clone());
    let running = place.start();
    running.append(all_kinds(0..10)).await;
    running.taken_in().await;
    disk.fail(0, u64::MAX, Fault::Full);
    clock.advance(Duration::from_secs(3600));
    running
        .until("a retry", |running| {
            running.projection.status().state == ProjectionState::Retrying
        })
        .await;
    let error = running.store.status().last_error.unwrap();
    assert_eq!(running.engine.cold_end(), Offset::ZERO);
    let flushed = running.store.flush().await;
    let Err(ParquetError::NotRunning { reason }) = flushed else {
        panic!("it cannot be done: {flushed:?}");
    };
    assert!(!reason.is_empty() && !error.is_empty());
    // What was written in vain does not fill the disk any longer than it must.
    disk.heal();
    running
        .until("cold_end", |running| {
            running.engine.cold_end() == running.engine.tail()
        })
        .await;
    running.taken_in().await;
    assert_complete(&running.engine, place.parquet());
    assert_eq!(running.store.status().last_error, None);
    assert_eq!(running.projection.status().state, ProjectionState::Running);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_back_wrong_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let place = place(directory.path(), &disk);
    let (engine, store) = place.open();
    let batch = of_kind(Kind::PredictionLogged, 0..50);
    engine.append(batch, Default::default()).await.unwrap();
    let mut driven = Driven {
        engine: &engine,
        compactor: store.projection(engine.cold()),
    };
    driven.catch_up().await.unwrap();
    disk.fail(0, u64::MAX, Fault::Flipped);
    let error = store.flush().await.unwrap_err();
    assert!(
        modelog_engine::chain(&error).contains("read back"),
        "{error}"
    );
    assert_eq!(files(place.parquet()), []);
    let told = driven.compactor.idle().await;
    assert!(matches!(told, ProjectionError::Unavailable(_)), "{told}");
    disk.heal();
    driven.catch_up().await.unwrap();
    store.flush().await.unwrap();
    assert_complete(&engine, place.parquet());
}
