//! This machine's disk, with a count of every byte that is read from it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use modelog_engine::{LocalStorage, LockGuard, Storage, StorageFile};

/// The local disk, counted.
#[derive(Debug)]
pub(super) struct CountingStorage {
    disk: LocalStorage,
    read: Arc<AtomicU64>,
    /// A directory that is treated as if it lay on a disk of its own: nothing in it can be linked from outside.
    apart: Option<PathBuf>,
}

impl CountingStorage {
    pub(super) fn new() -> Self {
        Self {
            disk: LocalStorage,
            read: Arc::default(),
            apart: None,
        }
    }

    /// The same, with a directory on a disk of its own.
    pub(super) fn with_another_disk(directory: &Path) -> Self {
        Self {
            apart: Some(directory.to_owned()),
            ..Self::new()
        }
    }

    /// Bytes read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn counted(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(CountingFile {
            file,
            read: Arc::clone(&self.read),
        })
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn StorageFile>,
    read: Arc<AtomicU64>,
}

impl StorageFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, position)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Storage for CountingStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.disk.create(path).map(|file| self.counted(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.disk.open(path, write).map(|file| self.counted(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inside = |apart: &PathBuf| from.starts_with(apart) == to.starts_with(apart);
        if self.apart.as_ref().is_none_or(inside) {
            self.disk.link(from, to)
        } else {
            Err(io::ErrorKind::CrossesDevices.into())
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_counted_and_disks_kept_apart() {
        let directory = tempfile::tempdir().unwrap();
        let (here, there) = (
            directory.path().join("here"),
            directory.path().join("there"),
        );
        std::fs::create_dir(&there).unwrap();
        let storage = CountingStorage::with_another_disk(&there);
        let file = storage.create(&here).unwrap();
        file.write_at(&[IoSlice::new(b"seven..")], 0).unwrap();
        assert_eq!(storage.bytes_read(), 0);
        let mut buffer = [0; 4];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
        let again = storage.open(&here, false).unwrap();
        assert_eq!(again.read_at(&mut buffer, 4).unwrap(), 3);
        assert_eq!(storage.bytes_read(), 7);
        let refused = storage.link(&here, &there.join("a")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::CrossesDevices);
        std::fs::copy(&here, there.join("a")).unwrap();
        storage.link(&there.join("a"), &there.join("b")).unwrap();
        CountingStorage::new()
            .link(&here, &there.join("c"))
            .unwrap();
    }
}
