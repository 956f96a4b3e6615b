//! Backups: a log's history in another place, taken while it is appended to.
//!
//! A backup directory holds generations, each with the layout of a data directory:
//!
//! ```text
//! DEST/20261122T170000.000000Z-00000000000000004194/
//!     log/MANIFEST, log/*.seg     segments that do not change any more
//!     parquet/…                   the cold tier's files, as they were
//!     backup.json                 what it is a backup of; written last
//! ```
//!
//! The segment being written is ended first, so every file is final: one that the generation before has under the same
//! name with the same size is linked from there and not read, one that is new is linked from the source, or copied
//! where that is not possible, and checked. The generation before is the newest of this history: one of events that a
//! restore took back may have other content under the same name.
//!
//! # Invariants
//! B1. A generation without `backup.json` is none: an interrupted backup is never taken for one, and the next removes it.
//! B2. The source is not changed, save that a segment ends.
//! B3. A generation holds every event before its offset and none after it, whatever is appended, compacted or retired
//!     meanwhile: the cold tier's files are listed before the log's end is taken, and no segment is retired until both
//!     are there.
//! B4. A generation is not a data directory: opening it is refused, since its files may be those of another.
//! B5. The newest generation of a directory is that of the newest history. A log that another one was restored from
//!     adds none to the other's: what is kept, and what is restored unless another is named, would not be its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::copy::{
    Brought, bring, is_dir, list, read_whole, remove_tree, sync_names, walk, write_whole,
};
use super::manifest::{Contents, Manifest, SegmentEntry, backup_sequence};
use super::{Log, Shared, lock, segment};
use crate::cold::ColdSnapshot;
use crate::error::LogError;
use crate::storage::Storage;
use crate::{Checkpoint, LogId, Offset, Timestamp};

/// The file that makes a directory a generation.
pub const MARK: &str = "backup.json";

/// What a generation says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The version of this description.
    pub format: u32,
    pub log: LogId,
    pub epoch: u32,
    /// It holds every event before this offset.
    pub offset: Offset,
    /// Everything before this offset is in the cold tier's files.
    pub cold_end: Offset,
    /// When it was taken, in µs since 1970, UTC.
    pub time: i64,
    pub files: u64,
    pub bytes: u64,
}

impl Generation {
    /// Where in which history it ends.
    fn place(&self) -> Checkpoint {
        Checkpoint {
            log: self.log,
            epoch: self.epoch,
            offset: self.offset,
            fold_version: 0,
        }
    }
}

/// A generation and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub generation: Generation,
}

/// What a backup did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub path: PathBuf,
    pub generation: Generation,
    /// Files that the generation before did not have, and their bytes.
    pub new_files: u64,
    pub new_bytes: u64,
    /// Of these, how many bytes had to be copied: the others share their bytes with the source.
    pub copied_bytes: u64,
    /// Generations that were removed, the oldest first.
    pub removed: Vec<PathBuf>,
}

/// The complete generations in a backup directory, the newest first: by epoch, then offset, then time.
///
/// # Errors
/// That the directory cannot be read.
pub fn generations(storage: &dyn Storage, dest: &Path) -> Result<Vec<Found>, LogError> {
    let mut found = Vec::new();
    for path in list(storage, dest)? {
        if is_dir(storage, &path)?
            && let Some(generation) = read_mark(storage, &path)?
        {
            found.push(Found { path, generation });
        }
    }
    found.sort_by_key(|found| {
        let Generation {
            epoch,
            offset,
            time,
            ..
        } = found.generation;
        std::cmp::Reverse((epoch, offset, time))
    });
    Ok(found)
}

/// What a directory says of itself, if it is a complete generation.
///
/// # Errors
/// That it cannot be read.
pub fn read_mark(storage: &dyn Storage, directory: &Path) -> Result<Option<Generation>, LogError> {
    let mark = directory.join(MARK);
    let there = storage
        .exists(&mark)
        .map_err(LogError::io("looking for", &mark))?;
    if !there {
        return Ok(None);
    }
    let bytes = read_whole(storage, &mark)?;
    let foreign = |error: serde_json::Error| LogError::Foreign {
        path: mark,
        reason: error.to_string(),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(foreign)
}

impl Log {
    /// Takes a backup into `dest`, which may hold older generations, and keeps the newest `keep` of them.
    pub(crate) fn backup(
        &self,
        dest: &Path,
        keep: Option<usize>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, LogError> {
        let shared = self.shared();
        let storage = &*shared.storage;
        storage
            .create_dir_all(dest)
            .map_err(LogError::io("creating", dest))?;
        sync_names(storage, dest)?;
        let lock_path = dest.join(".lock");
        let _lock = storage
            .lock(&lock_path)
            .map_err(LogError::io("locking", &lock_path))?
            .map_err(|holder| LogError::Locked {
                path: dest.to_path_buf(),
                holder,
            })?;
        let known = generations(storage, dest)?;
        if let Some(other) = known.iter().find(|known| known.generation.log != shared.id) {
            return Err(LogError::Foreign {
                path: other.path.clone(),
                reason: format!(
                    "it is a backup of log {}, this is log {}",
                    other.generation.log, shared.id
                ),
            });
        }
        if let Some(later) = known
            .first()
            .filter(|known| known.generation.epoch > self.epoch())
        {
            return Err(LogError::Foreign {
                path: later.path.clone(),
                reason: format!(
                    "it is a backup of what a restore made of this log, epoch {}, and this is epoch {}: name another \
                     directory, or move it out of this one",
                    later.generation.epoch,
                    self.epoch(),
                ),
            });
        }
        remove_unfinished(storage, dest)?;
        // No segment is retired while this is held.
        let _pinned = lock(&shared.pinned);
        let cold = shared
            .cold
            .as_ref()
            .map(|cold| cold.snapshot())
            .transpose()?;
        let offset = self.seal()?;
        let plan = Plan::new(shared, cold, offset)?;
        let now = shared.clock.now();
        let target = dest.join(generation_name(now, offset));
        let before = known
            .iter()
            .find(|known| shared.check(&known.generation.place()).is_ok());
        let taken = plan.carry_out(shared, &target, before, now, progress)?;
        let removed = match keep {
            Some(keep) => prune(storage, dest, keep.max(1), &taken.path)?,
            None => Vec::new(),
        };
        Ok(BackupReport { removed, ..taken })
    }
}

/// The name of a generation: its time without signs that some file systems refuse, and its offset.
fn generation_name(time: Timestamp, offset: Offset) -> String {
    let time: String = time
        .to_string()
        .chars()
        .filter(|sign| !matches!(sign, '-' | ':'))
        .collect();
    format!("{time}-{:020}", offset.0)
}

/// Whether a directory's name is one that generations have. Without [`MARK`] it is then what an interrupted backup left.
#[must_use]
pub fn is_generation_name(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(time, offset)| {
        offset.len() == 20
            && offset.bytes().all(|sign| sign.is_ascii_digit())
            && time.starts_with(|sign: char| sign.is_ascii_digit())
            && time.ends_with('Z')
    })
}

/// Removes what interrupted backups left.
fn remove_unfinished(storage: &dyn Storage, dest: &Path) -> Result<(), LogError> {
    for path in list(storage, dest)? {
        let ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_generation_name);
        if ours && is_dir(storage, &path)? && read_mark(storage, &path)?.is_none() {
            remove_tree(storage, &path)?;
        }
    }
    Ok(())
}

/// Removes all generations but the newest; each stops being one before its first file goes. The last that was taken is
/// the newest, whatever the clocks say.
fn prune(
    storage: &dyn Storage,
    dest: &Path,
    keep: usize,
    last: &Path,
) -> Result<Vec<PathBuf>, LogError> {
    let mut found = generations(storage, dest)?;
    found.sort_by_key(|found| found.path != last);
    let mut removed = Vec::new();
    for old in found.into_iter().skip(keep).rev() {
        let mark = old.path.join(MARK);
        storage
            .remove(&mark)
            .map_err(LogError::io("removing", &mark))?;
        storage
            .sync_dir(&old.path)
            .map_err(LogError::io("syncing", &old.path))?;
        remove_tree(storage, &old.path)?;
        removed.push(old.path);
    }
    Ok(removed)
}

/// What goes into a generation.
struct Plan {
    contents: Contents,
    /// That of the manifest.
    sequence: u64,
    segments: Vec<(SegmentEntry, PathBuf)>,
    cold: Option<ColdSnapshot>,
    offset: Offset,
}

impl Plan {
    fn new(shared: &Shared, cold: Option<ColdSnapshot>, offset: Offset) -> Result<Self, LogError> {
        let (mut contents, sequence) = {
            let manifest = lock(&shared.manifest);
            (manifest.contents.clone(), manifest.sequence)
        };
        let cold_end = cold.as_ref().map_or(Offset::ZERO, |cold| cold.end);
        contents.cold_end = contents.cold_end.min(cold_end);
        contents
            .segments
            .retain(|entry| entry.end.is_some_and(|end| end.offset <= offset));
        // Behind an entry whose file was removed already there is all that is needed.
        let there: Vec<_> = shared.segments().iter().map(|there| there.number).collect();
        let gone = contents
            .segments
            .iter()
            .rposition(|entry| !there.contains(&entry.number));
        contents.segments.drain(..gone.map_or(0, |gone| gone + 1));
        let segments = contents
            .segments
            .iter()
            .map(|entry| {
                let path = segment::path(&shared.directory, entry.first_offset, entry.number);
                (*entry, path)
            })
            .collect();
        let first = contents
            .segments
            .first()
            .map_or(offset, |entry| entry.first_offset);
        if first > contents.cold_end {
            return Err(LogError::Missing {
                first: contents.cold_end,
                end: first,
            });
        }
        Ok(Self {
            contents,
            sequence,
            segments,
            cold,
            offset,
        })
    }

    fn carry_out(
        self,
        shared: &Arc<Shared>,
        target: &Path,
        before: Option<&Found>,
        now: Timestamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, LogError> {
        let storage = &*shared.storage;
        let log = target.join("log");
        storage
            .create_dir_all(&log)
            .map_err(LogError::io("creating", &log))?;
        let mut carrier = Carrier {
            storage,
            target,
            before: before.map(|found| found.path.as_path()),
            directories: HashMap::new(),
            files: 0,
            bytes: 0,
            new_files: 0,
            new_bytes: 0,
            copied_bytes: 0,
        };
        let cold_files = self.cold.as_ref().map_or(0, |cold| cold.files.len());
        let total = (self.segments.len() + cold_files) as u64;
        for (entry, path) in &self.segments {
            go_on(shared)?;
            let end = entry.end.expect("only sealed segments are planned");
            let name = segment::file_name(entry.first_offset, entry.number);
            let relative = Path::new("log").join(name);
            if carrier.bring(path, &relative, Some(end.position))? {
                let copied = target.join(&relative);
                check_segment(storage, &copied, self.contents.log, entry)?;
            }
            progress(carrier.files, total);
        }
        // One that holds nothing yet has nothing that lists it.
        let cold = self.cold.as_ref();
        if let Some(cold) = cold.filter(|cold| !cold.manifest.is_empty()) {
            let directory = Path::new("parquet");
            for file in &cold.files {
                go_on(shared)?;
                let from = cold.directory.join(&file.path);
                let relative = directory.join(&file.path);
                if carrier.bring(&from, &relative, Some(file.bytes))? {
                    let tier = shared.cold.as_ref().expect("it made the snapshot");
                    tier.check(&target.join(&relative), file)?;
                }
                progress(carrier.files, total);
            }
            let place = target.join(directory);
            carrier.make_directory(&place)?;
            write_whole(storage, &place, &cold.manifest_name, &cold.manifest)?;
        }
        carrier.sync_directories()?;
        Manifest::create(
            storage,
            &log,
            self.contents.clone(),
            backup_sequence(self.sequence),
        )?;
        let generation = Generation {
            format: 1,
            log: self.contents.log,
            epoch: self.contents.epoch(),
            offset: self.offset,
            cold_end: self.contents.cold_end,
            time: now.micros(),
            files: carrier.files,
            bytes: carrier.bytes,
        };
        let mark = serde_json::to_vec_pretty(&generation).expect("it has no maps");
        write_whole(storage, target, MARK, &mark)?;
        if let Some(parent) = target.parent() {
            storage
                .sync_dir(parent)
                .map_err(LogError::io("syncing", parent))?;
        }
        Ok(BackupReport {
            path: target.to_path_buf(),
            generation,
            new_files: carrier.new_files,
            new_bytes: carrier.new_bytes,
            copied_bytes: carrier.copied_bytes,
            removed: Vec::new(),
        })
    }
}

/// Breaks off once the log is closed: whoever ends the program does not want to wait for a slow disk.
fn go_on(shared: &Shared) -> Result<(), LogError> {
    if shared.tail.borrow().closed {
        return Err(LogError::Closed);
    }
    Ok(())
}

/// Reads a segment's frames: all there, sound and linked.
fn check_segment(
    storage: &dyn Storage,
    path: &Path,
    log: LogId,
    entry: &SegmentEntry,
) -> Result<(), LogError> {
    let end = entry.end.unwrap_or_default();
    let file = storage
        .open(path, false)
        .map_err(LogError::io("opening", path))?;
    let walked = walk(
        &*file,
        path,
        (log, entry),
        end.position,
        end.offset,
        |_, _| Ok(()),
    )?;
    if walked.end == end {
        return Ok(());
    }
    Err(LogError::Corrupt {
        path: path.to_path_buf(),
        position: walked.end.position,
        offset: walked.end.offset,
        reason: "it is not what it was when it was sealed".into(),
    })
}

/// Brings files into a generation.
struct Carrier<'a> {
    storage: &'a dyn Storage,
    target: &'a Path,
    /// The generation before.
    before: Option<&'a Path>,
    /// Directories that were made, to be synced when all is there.
    directories: HashMap<PathBuf, ()>,
    files: u64,
    bytes: u64,
    new_files: u64,
    new_bytes: u64,
    copied_bytes: u64,
}

impl Carrier<'_> {
    /// Brings a final file of a known size; answers whether it is new, and so to be checked.
    fn bring(
        &mut self,
        from: &Path,
        relative: &Path,
        bytes: Option<u64>,
    ) -> Result<bool, LogError> {
        let to = self.target.join(relative);
        if let Some(parent) = to.parent() {
            self.make_directory(parent)?;
        }
        let bytes = bytes.unwrap_or_default();
        self.files += 1;
        self.bytes += bytes;
        if let Some(before) = self.before {
            let known = before.join(relative);
            if self.len(&known)? == Some(bytes) && self.storage.link(&known, &to).is_ok() {
                return Ok(false);
            }
        }
        self.new_files += 1;
        self.new_bytes += bytes;
        if bring(self.storage, from, &to)? == Brought::Copied {
            self.copied_bytes += bytes;
        }
        Ok(true)
    }

    /// The length of a file, if it is there.
    fn len(&self, path: &Path) -> Result<Option<u64>, LogError> {
        match self.storage.open(path, false) {
            Ok(file) => file
                .len()
                .map(Some)
                .map_err(LogError::io("measuring", path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("opening", path)(error)),
        }
    }

    fn make_directory(&mut self, path: &Path) -> Result<(), LogError> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        self.storage
            .create_dir_all(path)
            .map_err(LogError::io("creating", path))?;
        // Its parents too, up to the generation: their names must be durable.
        let mut at = Some(path);
        while let Some(directory) = at.filter(|directory| directory.starts_with(self.target)) {
            self.directories.insert(directory.to_path_buf(), ());
            at = directory.parent();
        }
        Ok(())
    }

    fn sync_directories(&self) -> Result<(), LogError> {
        let mut directories: Vec<_> = self.directories.keys().collect();
        directories.sort();
        for directory in directories {
            self.storage
                .sync_dir(directory)
                .map_err(LogError::io("syncing", directory))?;
        }
        Ok(())
    }
}

/// Refuses to open a directory whose files may be those of another log's, or that is not whole.
pub(super) fn refuse_to_open(storage: &dyn Storage, data: &Path) -> Result<(), LogError> {
    let there = |name: &str| {
        let path = data.join(name);
        storage
            .exists(&path)
            .map_err(LogError::io("looking for", path))
    };
    if there(MARK)? {
        return Err(LogError::Backup {
            path: data.to_path_buf(),
        });
    }
    if there(super::restore::MARK)? {
        return Err(LogError::Restoring {
            path: data.to_path_buf(),
        });
    }
    // A log among backups would be restored in their place.
    if !there("log/MANIFEST")? {
        for path in list(storage, data)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| is_generation_name(name)) else {
                continue;
            };
            if there(&format!("{name}/{MARK}"))? {
                return Err(LogError::Backup { path });
            }
        }
    }
    Ok(())
}
