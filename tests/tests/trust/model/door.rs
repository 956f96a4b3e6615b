//! The door to the simulated disk through which trouble comes: at the n-th I/O of a certain thread, so that a case that
//! failed fails again however its threads raced. The writer can be held back, so that it is known which calls meet in a
//! group.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use modelog_engine::sim::{Crash, Fault, SimStorage};
use modelog_engine::{LockGuard, Storage, StorageFile};

/// Whose I/O it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Writer,
    Ahead,
    Compactor,
    /// Whoever calls the engine: opening, closing, deleting segments, backing up, restoring.
    Caller,
    Anybody,
}

impl Who {
    fn is_here(self) -> bool {
        let here = match std::thread::current().name() {
            Some("modelog-writer") => Self::Writer,
            Some("modelog-ahead") => Self::Ahead,
            Some("parquet") => Self::Compactor,
            _ => Self::Caller,
        };
        self == Self::Anybody || self == here
    }
}

/// What happens to an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Crash(Crash),
    Fault(Fault),
}

/// Trouble that waits for its I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) who: Who,
    /// So many I/Os pass before.
    pub(super) after: u16,
    pub(super) trouble: Trouble,
}

/// A disk behind the door. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) disk: SimStorage,
    plans: Arc<Mutex<Plans>>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Debug, Default)]
struct Plans {
    /// The first one is waited for, then the next.
    waiting: VecDeque<Plan>,
    /// What came true since it was last asked.
    fired: Vec<Trouble>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    /// The writer stands before it.
    waiting: bool,
}

/// Opens the gate when it goes, also when an assertion fails.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Door);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.0.gate.0).closed = false;
        self.0.gate.1.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    pub(super) fn new(disk: SimStorage) -> Self {
        Self {
            disk,
            plans: Arc::default(),
            gate: Arc::default(),
        }
    }

    /// The door to what a crash left; plans that have not come true wait on.
    pub(super) fn reboot(&self, crash: Crash) -> Self {
        let next = Self::new(self.disk.reboot(crash));
        lock(&next.plans).waiting = std::mem::take(&mut lock(&self.plans).waiting);
        next
    }

    pub(super) fn plan(&self, plan: Plan) {
        lock(&self.plans).waiting.push_back(plan);
    }

    /// What came true since the last time.
    pub(super) fn fired(&self) -> Vec<Trouble> {
        std::mem::take(&mut lock(&self.plans).fired)
    }

    /// Holds the writer back before its next I/O, until the answer is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        lock(&self.gate.0).closed = true;
        Held(self)
    }

    /// Waits until the writer is held back, or something else has come of it.
    pub(super) fn wait_for_writer(&self, mut otherwise: impl FnMut() -> bool) {
        loop {
            let gate = lock(&self.gate.0);
            if gate.waiting {
                return;
            }
            drop(gate);
            if otherwise() {
                return;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Lets an I/O through, or lets trouble happen to it.
    fn io<T>(&self, io: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if Who::Writer.is_here() {
            let (gate, moved) = &*self.gate;
            let mut gate = lock(gate);
            while gate.closed {
                gate.waiting = true;
                moved.notify_all();
                gate = moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            gate.waiting = false;
        }
        // Held during the I/O, so that no other takes the trouble that is meant for it.
        let mut plans = lock(&self.plans);
        let Some(plan) = plans.waiting.front_mut().filter(|plan| plan.who.is_here()) else {
            return io();
        };
        if plan.after > 0 {
            plan.after -= 1;
            return io();
        }
        let (trouble, before) = (plan.trouble, self.disk.ios());
        match trouble {
            Trouble::Crash(_) => self.disk.crash_at(before),
            Trouble::Fault(fault) => self.disk.fail_at(before, fault),
        }
        let outcome = io();
        if self.disk.has_crashed() || self.disk.ios() > before {
            plans.waiting.pop_front();
            plans.fired.push(trouble);
        } else {
            // It was none, for reasons of its own; the next one is meant.
            self.disk.crash_at(u64::MAX);
            self.disk.fail_no_more();
        }
        outcome
    }

    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(DoorFile {
            file,
            door: self.clone(),
        })
    }
}

impl Storage for Door {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.io(|| self.disk.create(path))
            .map(|file| self.file(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.disk.open(path, write).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.io(|| self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.io(|| self.disk.remove(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.io(|| self.disk.link(from, to))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.io(|| self.disk.remove_dir(path))
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.io(|| self.disk.sync_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // Of what is there already nothing is made.
        match self.disk.is_dir(path) {
            Ok(true) => Ok(()),
            _ => self.io(|| self.disk.create_dir_all(path)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.disk.lock(path)
    }

    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.disk.network_file_system(path)
    }
}

#[derive(Debug)]
struct DoorFile {
    file: Arc<dyn StorageFile>,
    door: Door,
}

impl StorageFile for DoorFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.door.io(|| self.file.write_at(slices, position))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.door.io(|| self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.door.io(|| self.file.set_len(len))
    }
}
