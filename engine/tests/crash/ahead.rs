//! A sync by the thread that prepares space fails, and takes with it what the writer has written into the same file.
//!
//! A failed sync is told once: the kernel then calls the pages clean, whoever wrote them, and the next sync succeeds
//! without them. So the writer must not believe its own sync if another one of the same file has failed.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use modelog_engine::sim::{Crash, Fault, SimStorage};
use modelog_engine::{AppendError, Foundations, LockGuard, Storage, StorageFile};

use super::support::{append, config, disk, foundations, open_with, prediction, read_all};

/// How far the accident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many syncs by the thread ahead.
    Syncs(u32),
    /// The second waits for the writer.
    Waiting,
    /// The writer has written and not synced.
    Written,
    /// The sync ahead has failed.
    Lost,
}

#[derive(Clone, Debug)]
struct Staged {
    sim: SimStorage,
    stage: Arc<(Mutex<Stage>, Condvar)>,
}

#[derive(Debug)]
struct File {
    disk: Staged,
    file: Arc<dyn StorageFile>,
}

fn is_thread(name: &str) -> bool {
    std::thread::current().name() == Some(name)
}

impl Staged {
    fn at(&self) -> Stage {
        *self.stage.0.lock().unwrap()
    }

    fn go_to(&self, stage: Stage) {
        *self.stage.0.lock().unwrap() = stage;
        self.stage.1.notify_all();
    }

    fn wait_for(&self, wanted: Stage) {
        let stage = self.stage.0.lock().unwrap();
        let waited = self.stage.1.wait_while(stage, |stage| *stage != wanted);
        drop(waited.unwrap());
    }

    fn wrap(&self, file: io::Result<Arc<dyn StorageFile>>) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(File {
            disk: self.clone(),
            file: file?,
        }))
    }
}

impl StorageFile for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let outcome = self.file.write_at(slices, position);
        if self.disk.at() == Stage::Waiting && is_thread("modelog-writer") {
            self.disk.go_to(Stage::Written);
        }
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.at() {
            Stage::Syncs(before) if is_thread("modelog-ahead") => {
                if before == 0 {
                    self.disk.go_to(Stage::Syncs(1));
                    return self.file.sync_data();
                }
                self.disk.go_to(Stage::Waiting);
                self.disk.wait_for(Stage::Written);
                self.disk
                    .sim
                    .fail_at(self.disk.sim.ios(), Fault::LosingSync);
                let outcome = self.file.sync_data();
                self.disk.go_to(Stage::Lost);
                outcome
            }
            Stage::Written if is_thread("modelog-writer") => {
                self.disk.wait_for(Stage::Lost);
                self.file.sync_data()
            }
            _ => self.file.sync_data(),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Storage for Staged {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.wrap(self.sim.create(path))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.wrap(self.sim.open(path, write))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.link(from, to)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.remove_dir(path)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.sim.is_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.sync_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.sim.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.sim.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.sim.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.sim.free_bytes(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.sim.lock(path)
    }
    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.sim.network_file_system(path)
    }
}

#[test]
fn a_failed_sync_of_space_ahead_is_not_taken_for_the_writers_success() {
    let sim = disk(1);
    let staged = Staged {
        sim: sim.clone(),
        stage: Arc::new((Mutex::new(Stage::Syncs(0)), Condvar::new())),
    };
    let mut settings = config();
    settings.log.segment_bytes = 64 << 20;
    let on = Foundations {
        storage: Arc::new(staged.clone()),
        ..foundations(&sim)
    };
    let engine = modelog_engine::Engine::open_on(settings.clone(), on).unwrap();
    let mut acknowledged = 0;
    for sequence in 0..10_000 {
        let first = sequence * 40;
        let events: Vec<_> = (first..first + 40).map(|id| prediction(id, 3000)).collect();
        match append(&engine, sequence, &events) {
            Ok(_) => acknowledged += events.len(),
            Err(AppendError::OutcomeUnknown { .. } | AppendError::Poisoned { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        if staged.at() == Stage::Lost {
            break;
        }
    }
    assert_eq!(staged.at(), Stage::Lost, "the accident happened");
    let left = sim.reboot(Crash::LoseAll);
    let found = read_all(&open_with(&left, settings).unwrap())
        .unwrap()
        .len();
    assert!(
        found >= acknowledged,
        "{acknowledged} acknowledged, {found} found"
    );
}
