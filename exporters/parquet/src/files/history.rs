//! The files of a manifest, opened only as what the manifest says they are.
//!
//! Parquet pages carry no checksum, and flipped bits in them often decode. So a file is compared with its SHA-256 once
//! before its first row is handed out, which on processors with SHA instructions costs a twentieth of decoding it; while
//! one file is read, the next of its kind is compared on a thread of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use modelog_engine::{LogId, Offset, Storage};
use sha2::{Digest, Sha256};

use super::bytes::FileBytes;
use super::error::{FileError, Place};
use super::file::ParquetFile;
use crate::manifest::{FileEntry, Sha256Sum};
use crate::schema::keys;

/// How much is hashed at a time.
const HASHED_BYTES: usize = 1 << 20;
/// Smaller files are hashed when they are opened: a thread would cost more.
const AHEAD_BYTES_MIN: u64 = 4 << 20;

/// A directory of Parquet files, and which of them were found sound.
#[derive(Debug)]
pub(crate) struct History {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    /// By path; held while a file is being compared.
    sound: Mutex<HashMap<String, Arc<Mutex<bool>>>>,
}

impl History {
    pub(crate) fn new(storage: Arc<dyn Storage>, directory: PathBuf) -> Self {
        Self {
            storage,
            directory,
            sound: Mutex::default(),
        }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens a file, if it is what was verified when it was written.
    pub(crate) fn open(&self, log: LogId, entry: &FileEntry) -> Result<ParquetFile, FileError> {
        let path = entry.locate(&self.directory);
        let place = Place::start(&path, entry.first);
        let bytes = self.open_bytes(entry)?;
        self.compare(entry, &bytes)?;
        let file = ParquetFile::from_bytes(bytes, &path, entry.first)?;
        match why_another(&file, log, entry) {
            None => Ok(file),
            Some(reason) => Err(place.corrupt(reason)),
        }
    }

    fn open_bytes(&self, entry: &FileEntry) -> Result<FileBytes, FileError> {
        let path = entry.locate(&self.directory);
        open_sized(&*self.storage, &path, entry.bytes, entry.first)
    }

    fn compare(&self, entry: &FileEntry, bytes: &FileBytes) -> Result<(), FileError> {
        let slot = {
            let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(sound.entry(entry.path.clone()).or_default())
        };
        let mut sound = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if *sound {
            return Ok(());
        }
        let path = entry.locate(&self.directory);
        compare(bytes, &path, entry.sha256, entry.first)?;
        *sound = true;
        Ok(())
    }

    /// Starts to compare a file that will be opened soon. What is wrong with it shows when it is.
    pub(crate) fn compare_ahead(self: &Arc<Self>, entry: &FileEntry) {
        if entry.bytes < AHEAD_BYTES_MIN {
            return;
        }
        let (history, entry) = (Arc::clone(self), entry.clone());
        let ahead = thread::Builder::new().name("parquet-sha256".into());
        // Without a thread it is compared later.
        let _ = ahead.spawn(move || {
            history
                .open_bytes(&entry)
                .and_then(|bytes| history.compare(&entry, &bytes))
        });
    }
}

/// Opens a file of a known length, which holds events from an offset on.
fn open_sized(
    storage: &dyn Storage,
    path: &Path,
    len: u64,
    offset: Offset,
) -> Result<FileBytes, FileError> {
    let place = Place::start(path, offset);
    let file = match storage.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(place.corrupt("the file is missing"));
        }
        opened => opened.map_err(FileError::io("opening", path))?,
    };
    let bytes = FileBytes::new(file).map_err(FileError::io("measuring", path))?;
    if bytes.len() != len {
        let reason = format!("it has {} bytes, {len} were written", bytes.len());
        return Err(place.corrupt(reason));
    }
    Ok(bytes)
}

fn compare(
    bytes: &FileBytes,
    path: &Path,
    expected: Sha256Sum,
    offset: Offset,
) -> Result<(), FileError> {
    let found = sha256(bytes).map_err(FileError::io("reading", path))?;
    if found != expected {
        let reason = "its SHA-256 is not that of the file that was written";
        return Err(Place::start(path, offset).corrupt(reason));
    }
    Ok(())
}

/// Checks that a file, which holds events from an offset on, has a length and a checksum.
pub(crate) fn check_content(
    storage: &dyn Storage,
    path: &Path,
    (len, sum): (u64, Sha256Sum),
    offset: Offset,
) -> Result<(), FileError> {
    let bytes = open_sized(storage, path, len, offset)?;
    compare(&bytes, path, sum, offset)
}

/// Why a file is not the one an entry describes.
pub(crate) fn why_another(file: &ParquetFile, log: LogId, entry: &FileEntry) -> Option<String> {
    if file.log() != Some(log) {
        let found = file.footer(keys::LOG).unwrap_or("none");
        return Some(format!("its footer names the log {found}, not {log}"));
    }
    if file.footer(keys::KIND) != Some(entry.kind.name()) {
        let found = file.footer(keys::KIND).unwrap_or("none");
        return Some(format!(
            "its footer names the kind {found}, not {}",
            entry.kind
        ));
    }
    if file.rows() != entry.rows {
        let rows = file.rows();
        return Some(format!("it has {rows} rows, {} were written", entry.rows));
    }
    None
}

/// The SHA-256 of a whole file.
pub(crate) fn sha256(bytes: &FileBytes) -> io::Result<Sha256Sum> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASHED_BYTES.min(bytes.len().max(1) as usize)];
    let mut position = 0;
    while position < bytes.len() {
        let left = bytes.len() - position;
        let piece = (buffer.len() as u64).min(left) as usize;
        bytes.read_exact(&mut buffer[..piece], position)?;
        hasher.update(&buffer[..piece]);
        position += piece as u64;
    }
    Ok(Sha256Sum::finish(hasher))
}
