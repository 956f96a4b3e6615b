//! The only door to the disk. Tests put a disk behind it that crashes, lies and fills up.
//!
//! Paths are absolute or relative to the process; the engine hands in paths under its data directory only. Nothing is
//! durable before the file's `sync_data`, and no created, renamed or removed name before its directory's `sync_dir`.

#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "sim")]
mod sim_content;
#[cfg(feature = "sim")]
mod sim_disk;

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates a file that must not exist, for reading and writing by its owner only.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens an existing file, for writing too if asked.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; who has it open may go on reading.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist. Fails where the file system cannot, or lies elsewhere.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a directory that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    fn is_dir(&self, path: &Path) -> io::Result<bool>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents, for their owner only; content if it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes free to us on the file system of a path.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Locks a file, created if need be, against other processes for as long as the guard lives; or tells who has it.
    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>>;
    /// The name of the network file system a path is on; none if it is local.
    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>>;
}

/// Holds a lock until it is dropped.
pub type LockGuard = Box<dyn Send + Sync + fmt::Debug>;

/// An open file.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Reads up to the end of the buffer or of the file; tells how much.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all slices one after the other, or fails with an unknown part of them written.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Makes data, and the length needed to read it, durable.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Cuts off or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// Reads a range that must exist.
pub(crate) fn read_exact(
    file: &dyn StorageFile,
    buffer: &mut [u8],
    position: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], position + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStorage;

#[derive(Debug)]
struct LocalFile(File);

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    options
}

impl Storage for LocalStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(LocalFile(
            owner_only().write(true).create_new(true).open(path)?,
        )))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(LocalFile(owner_only().write(write).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        let mut file = owner_only()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "process {}", std::process::id())?;
                Ok(Ok(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(256).read_to_string(&mut holder)?;
                Ok(Err(if holder.is_empty() {
                    "another process".into()
                } else {
                    holder
                }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        // The magic numbers of statfs(2).
        Ok(match rustix::fs::statfs(path)?.f_type as u32 {
            0x6969 => Some("NFS"),
            0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("SMB"),
            0x00c3_6400 => Some("Ceph"),
            0x5346_414f => Some("AFS"),
            _ => None,
        })
    }
}

impl StorageFile for LocalFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn write_at(&self, slices: &[IoSlice<'_>], mut position: u64) -> io::Result<()> {
        // Slices are written one by one: frames are large, and `pwritev` may stop short anywhere.
        for slice in slices {
            self.0.write_all_at(slice, position)?;
            position += slice.len() as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.size())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
