//! A disk that fills up, fails to sync, or takes its time.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use modelog_engine::{Foundations, LocalStorage, LockGuard, Storage, StorageFile};

/// What the test wants of the disk.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) free: AtomicU64,
    pub(crate) fail_syncs: AtomicBool,
    held: Mutex<bool>,
    released: Condvar,
}

impl Wishes {
    /// Syncs do not return until the disk is released.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }

    fn sync(&self) -> io::Result<()> {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        if self.fail_syncs.load(Ordering::SeqCst) {
            // EIO
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct WishfulStorage {
    local: LocalStorage,
    wishes: Arc<Wishes>,
}

#[derive(Debug)]
struct WishfulFile {
    file: Arc<dyn StorageFile>,
    wishes: Arc<Wishes>,
}

/// A disk like any other, until the test wishes otherwise.
pub(crate) fn wishful() -> (Foundations, Arc<Wishes>) {
    let wishes = Arc::new(Wishes {
        free: AtomicU64::new(u64::MAX / 2),
        fail_syncs: AtomicBool::new(false),
        held: Mutex::new(false),
        released: Condvar::new(),
    });
    let storage = WishfulStorage {
        local: LocalStorage,
        wishes: Arc::clone(&wishes),
    };
    let foundations = Foundations {
        storage: Arc::new(storage),
        ..Foundations::default()
    };
    (foundations, wishes)
}

impl WishfulStorage {
    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(WishfulFile {
            file,
            wishes: Arc::clone(&self.wishes),
        })
    }
}

impl Storage for WishfulStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.local.create(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.local.open(path, write).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.local.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.local.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.local.remove_dir(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalStorage.link(from, to)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        LocalStorage.is_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.local.sync_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.local.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.local.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.local.exists(path)
    }
    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.wishes.free.load(Ordering::SeqCst))
    }
    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.local.lock(path)
    }
    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.local.network_file_system(path)
    }
}

impl StorageFile for WishfulFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(slices, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.wishes.sync()?;
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
