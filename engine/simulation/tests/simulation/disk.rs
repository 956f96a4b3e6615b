//! The simulated disk as the engine of a run sees it: each operation takes its time, may be overtaken, and is traced.
//!
//! Failures are planned by what they meet, not by number: which I/O is the n-th depends on the turns.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use modelog_simulated_engine::sim::{Fault, SimStorage};
use modelog_simulated_engine::threads::{point, time};
use modelog_simulated_engine::{LockGuard, Storage, StorageFile};
use xxhash_rust::xxh3::xxh3_64;

use crate::trace::say;

/// What a planned failure waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A change of any kind.
    Anything,
    /// A write of frames or zeros into a segment.
    SegmentWrite,
    /// A sync of a segment.
    SegmentSync,
}

/// A failure that comes true at the n-th match from now.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) target: Target,
    pub(crate) left: u64,
    pub(crate) fault: Fault,
}

/// A disk with doors.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) sim: SimStorage,
    planned: Arc<Mutex<Vec<Planned>>>,
    failures: usize,
}

#[derive(Debug)]
struct File {
    disk: Disk,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
}

impl Disk {
    pub(crate) fn new(sim: SimStorage, planned: Vec<Planned>) -> Self {
        Self {
            sim,
            failures: planned.len(),
            planned: Arc::new(Mutex::new(planned)),
        }
    }

    /// Whether a planned failure has come true.
    pub(crate) fn has_failed(&self) -> bool {
        self.planned.lock().unwrap().len() < self.failures
    }

    /// An operation that changes something: others may go first, then it takes its time.
    fn change<T: std::fmt::Debug>(
        &self,
        what: &str,
        path: &Path,
        is: &[Target],
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        point();
        let took = if what.starts_with("sync") { 400 } else { 20 };
        time::advance_to(time::now() + Duration::from_micros(took));
        let number = self.sim.ios();
        self.plan(number, is);
        let outcome = act();
        let name = path.strip_prefix("/var/data").unwrap_or(path).display();
        match &outcome {
            Ok(_) => say!("{number} {what} {name}"),
            Err(error) => say!("{number} {what} {name}: {error}"),
        }
        outcome
    }

    /// Lets a failure come true if it is its turn.
    fn plan(&self, number: u64, is: &[Target]) {
        let mut planned = self.planned.lock().unwrap();
        for plan in planned.iter_mut() {
            if plan.target == Target::Anything || is.contains(&plan.target) {
                plan.left = plan.left.saturating_sub(1);
            }
        }
        if let Some(at) = planned.iter().position(|plan| plan.left == 0) {
            let fault = planned.remove(at).fault;
            say!("{number} is to fail: {fault:?}");
            self.sim.fail_at(number, fault);
        }
    }

    fn look<T>(&self, look: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        point();
        look()
    }

    fn wrap(&self, path: &Path, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(File {
            disk: self.clone(),
            path: path.into(),
            file,
        })
    }
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.change("create", path, &[], || self.sim.create(path))?;
        Ok(self.wrap(path, file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.look(|| self.sim.open(path, write))?;
        Ok(self.wrap(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename to", to, &[], || self.sim.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, &[], || self.sim.remove(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("link to", to, &[], || self.sim.link(from, to))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, &[], || self.sim.remove_dir(path))
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.look(|| self.sim.is_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change("sync directory", path, &[], || self.sim.sync_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("create", path, &[], || self.sim.create_dir_all(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(|| self.sim.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|| self.sim.exists(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.look(|| self.sim.free_bytes(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.look(|| self.sim.lock(path))
    }

    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.look(|| self.sim.network_file_system(path))
    }
}

impl File {
    /// Segments, and what will be one.
    fn is_segment(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        name == "spare.tmp" || self.path.extension().is_some_and(|end| end == "seg")
    }
}

impl StorageFile for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.look(|| self.file.read_at(buffer, position))
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        // Only zeros are written in pieces as long as that.
        let looked = |slice: &IoSlice<'_>| xxh3_64(&slice[..slice.len().min(256 << 10)]);
        let sum = slices
            .iter()
            .fold(0, |sum: u64, slice| sum.rotate_left(7) ^ looked(slice));
        let what = format!("write {bytes} bytes ({sum:016x}) at {position} of");
        let is: &[_] = if self.is_segment() {
            &[Target::SegmentWrite]
        } else {
            &[]
        };
        self.disk.change(&what, &self.path, is, || {
            self.file.write_at(slices, position)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let is: &[_] = if self.is_segment() {
            &[Target::SegmentSync]
        } else {
            &[]
        };
        self.disk
            .change("sync", &self.path, is, || self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(|| self.file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let what = format!("set length {len} of");
        self.disk
            .change(&what, &self.path, &[], || self.file.set_len(len))
    }
}
