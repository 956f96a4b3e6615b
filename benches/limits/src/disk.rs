//! Writing to a file and syncing it, and nothing else.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes each body to a new file and syncs it before the next; the file is removed again.
///
/// # Errors
/// If the disk fails.
pub fn write_and_sync<B: AsRef<[u8]>>(directory: &Path, bodies: &[B]) -> Result<()> {
    let path = directory.join("limit");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    for body in bodies {
        file.write_all(body.as_ref())?;
        file.sync_data()?;
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(())
}

/// A file that takes one event at a time, each synced before the next. Its space was written with zeros and synced
/// before, so that a sync has nothing to do but the event itself: the cheapest durable write there is. The file is
/// removed when this is dropped.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
    length: u64,
    next: u64,
}

impl Events {
    /// Makes a file with room for so many bytes.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn create(directory: &Path, bytes: u64) -> Result<Self> {
        let path = directory.join("limit");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let events = Self {
            file,
            path,
            length: bytes,
            next: 0,
        };
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < bytes {
            let some = (bytes - at).min(zeros.len() as u64);
            events.file.write_all_at(&zeros[..some as usize], at)?;
            at += some;
        }
        events.file.sync_all()?;
        Ok(events)
    }

    /// Writes an event behind the one before and syncs it. Begins again at the front when the room is used up.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write(&mut self, event: &[u8]) -> Result<()> {
        let length = event.len() as u64;
        if self.next + length > self.length {
            self.next = 0;
        }
        self.file.write_all_at(event, self.next)?;
        self.file.sync_data()?;
        self.next += length;
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Whoever measures removes the directory too.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_one_behind_the_other_and_the_file_does_not_grow() {
        let directory = tempfile::tempdir().unwrap();
        let mut events = Events::create(directory.path(), 10).unwrap();
        let content = || std::fs::read(directory.path().join("limit")).unwrap();
        assert_eq!(content(), [0; 10]);
        events.write(b"abcd").unwrap();
        events.write(b"efgh").unwrap();
        assert_eq!(content(), b"abcdefgh\0\0");
        events.write(b"ijkl").unwrap();
        assert_eq!(content(), b"ijklefgh\0\0");
        drop(events);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
