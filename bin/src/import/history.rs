//! Parquet files that a Modelog wrote: which there are, of which logs, and which belong together.
//!
//! A file holds one kind of a log's events, so the order of the log lies between files. Files whose offsets overlap make
//! a *stretch*, whose rows are merged; stretches follow each other. Files of a data directory end with the day, so
//! however long a history is, a stretch of it is a day at most, and no more of its files are ever open.
//!
//! A stretch is recognised by the content of its files. When a history that has grown is imported again, only what has
//! grown is another stretch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use modelog_engine::event::Kind;
use modelog_engine::{LocalStorage, LogId, Offset};
use modelog_parquet::files::{ContentSum, FileError, ParquetFile};
use modelog_parquet::layout::{FINISHED, FileKind};
use modelog_parquet::manifest::{Manifest, Sha256Sum};
use modelog_parquet::schema::keys;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::exit::{Exit, Failed};
use crate::output::thousands;

/// What a backup has that a data directory has not.
const BACKUP: &str = modelog_engine::backup::MARK;
/// What a Parquet file begins with.
pub(super) const MAGIC: &[u8] = b"PAR1";
/// How deep files are looked for: `parquet/kind=K/date=D`, and room above.
const DEPTH_MAX: usize = 8;

/// A file of one kind of a log's events.
#[derive(Clone, Debug)]
pub(super) struct HistoryFile {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) rows: u64,
    /// Offset of its first row, and the one after that of its last.
    pub(super) first: u64,
    pub(super) end: u64,
    /// What was written, if somebody wrote that down: Parquet's pages have no checksum, and changed bits in them often
    /// decode.
    written: Written,
    stamp: Stamp,
}

/// What a file came to when it was written.
#[derive(Clone, Copy, Debug)]
enum Written {
    Unknown,
    /// From the manifest of the directory it lies in.
    Whole(Sha256Sum),
    /// From its own footer: the part before that.
    Content(ContentSum),
}

/// What shows that a file was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl HistoryFile {
    /// The SHA-256 of the file, if it is what was written.
    ///
    /// # Errors
    /// [`FileError`] if it is not, or cannot be read.
    pub(super) fn digest(&self) -> Result<[u8; 32], FileError> {
        let content = match self.written {
            Written::Content(sum) => Some(sum.bytes),
            Written::Whole(_) | Written::Unknown => None,
        };
        let hashed = File::open(&self.path).and_then(|file| hash(file, content));
        let (whole, start) = hashed.map_err(|source| FileError::Io {
            action: "reading",
            path: self.path.clone(),
            source,
        })?;
        let intact = match self.written {
            Written::Unknown => true,
            Written::Whole(sum) => sum.0 == whole,
            Written::Content(sum) => Some(sum.sha256.0) == start,
        };
        if intact {
            return Ok(whole);
        }
        Err(FileError::Corrupt {
            path: self.path.clone(),
            position: 0,
            offset: Offset(self.first),
            reason: "its SHA-256 is not that of what was written".into(),
        })
    }

    /// Whether the file is what it was when its footer was read.
    pub(super) fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }
}

/// Files of a log whose rows lie among each other.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// By their first offset.
    pub(super) files: Vec<HistoryFile>,
}

/// All files of one log.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) log: LogId,
    /// What to call it in messages.
    pub(super) name: String,
    pub(super) rows: u64,
    /// In log order.
    pub(super) stretches: Vec<Stretch>,
}

/// Whether this is something to look for Parquet in: such a file, or a directory.
///
/// # Errors
/// The disk's own.
pub(super) fn is_history(path: &Path) -> io::Result<bool> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(true);
    }
    if !metadata.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    Ok(head == MAGIC || is_named_parquet(path))
}

fn is_named_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == FINISHED)
}

/// The SHA-256 of a file, and of so many bytes at its start; nothing if it has not so many.
fn hash(mut file: File, start: Option<u64>) -> io::Result<([u8; 32], Option<[u8; 32]>)> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 256 << 10];
    let (mut position, mut at_start) = (0, None);
    loop {
        let left = start.filter(|start| *start > position);
        let limit = left.map_or(block.len() as u64, |start| start - position);
        let room = block
            .len()
            .min(usize::try_from(limit).unwrap_or(usize::MAX));
        let read = file.read(&mut block[..room])?;
        if read == 0 {
            return Ok((hash.finalize().into(), at_start));
        }
        hash.update(&block[..read]);
        position += read as u64;
        if start == Some(position) {
            at_start = Some(hash.clone().finalize().into());
        }
    }
}

/// Finds the files of all logs, and reads their footers.
///
/// # Errors
/// If a file cannot be read, or is none of a Modelog.
pub(super) fn gather(paths: &[PathBuf]) -> Result<Vec<History>> {
    let mut found = BTreeSet::new();
    for path in paths {
        let before = found.len();
        find(path, DEPTH_MAX, &mut found)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        if path.is_dir() && found.len() == before {
            return Err(nothing_in(path));
        }
    }
    let mut logs: BTreeMap<Uuid, Vec<HistoryFile>> = BTreeMap::new();
    let mut manifests = Manifests::default();
    let mut seen = BTreeSet::new();
    for path in found {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
        if seen.insert(canonical)
            && let Some((log, file)) = look_into(&path, &mut manifests)?
        {
            logs.entry(log.0).or_default().push(file);
        }
    }
    Ok(logs
        .into_iter()
        .map(|(log, files)| History::of(LogId(log), files))
        .collect())
}

/// A directory that has no Parquet files to import.
fn nothing_in(path: &Path) -> anyhow::Error {
    let error = if path.join(BACKUP).exists() {
        Failed::usage(format!(
            "{} is a backup, whose newest events are in no Parquet file: `modelog restore` makes a data directory of it",
            path.display()
        ))
    } else if path.join("log/MANIFEST").exists() {
        Failed::usage(format!(
            "{0} is a data directory, whose newest events are in no Parquet file yet: `modelog export --data {0}` has \
             them all",
            path.display()
        ))
    } else {
        let message = "there is no Parquet file in this directory";
        io::Error::new(io::ErrorKind::IsADirectory, message).into()
    };
    error.context(format!("{} cannot be imported", path.display()))
}

fn find(path: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        found.insert(path.to_path_buf());
        return Ok(());
    }
    // A data directory is more than its Parquet files.
    if depth == 0 || path.join("log/MANIFEST").exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.path().is_dir() {
            find(&entry.path(), depth - 1, found)?;
        } else if is_named_parquet(&entry.path()) && !hidden {
            found.insert(entry.path());
        }
    }
    Ok(())
}

/// Reads a footer. There is nothing to import from files without rows, and from those of names and origins: names are
/// given anew, and events come from this import.
fn look_into(path: &Path, manifests: &mut Manifests) -> Result<Option<(LogId, HistoryFile)>> {
    let foreign = |reason: &str| -> anyhow::Error {
        Failed::bad_data(format!(
            "{} is no Parquet file of a Modelog: {reason}",
            path.display()
        ))
    };
    let metadata =
        std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let file = ParquetFile::open(&LocalStorage, path).map_err(unreadable)?;
    let kind: FileKind = match file.footer(keys::KIND) {
        None => return Err(foreign("its footer has no `modelog.kind`")),
        Some(kind) => kind
            .parse()
            .map_err(|_| foreign(&format!("this program knows no kind {kind:?}")))?,
    };
    let log = file.log().ok_or_else(|| {
        foreign("its footer has no `modelog.log`, the log that its events are of")
    })?;
    let FileKind::Events(kind) = kind else {
        return Ok(None);
    };
    if kind == Kind::EntityNamed || file.rows() == 0 {
        return Ok(None);
    }
    if let Some(reason) = file.why_not(FileKind::Events(kind)) {
        return Err(foreign(&reason));
    }
    let (first, last) = file
        .offsets()
        .ok_or_else(|| foreign("its footer does not say which offsets it holds"))?;
    Ok(Some((
        log,
        HistoryFile {
            path: path.to_path_buf(),
            kind,
            rows: file.rows(),
            first: first.0,
            end: last.0 + 1,
            written: match (manifests.find(path)?, file.content_sum()) {
                (Some(sum), _) => Written::Whole(sum),
                (None, Some(sum)) => Written::Content(sum),
                (None, None) => Written::Unknown,
            },
            stamp: Stamp::of(&metadata),
        },
    )))
}

/// What the manifests of directories say of the files there.
#[derive(Debug, Default)]
struct Manifests {
    /// Of the directory looked into last: files come in order.
    directory: PathBuf,
    sums: HashMap<String, Sha256Sum>,
}

impl Manifests {
    /// What a file was when it was written, if it lies where a manifest lists it.
    fn find(&mut self, path: &Path) -> Result<Option<Sha256Sum>> {
        // As in `kind=K/date=D/FILE`.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let Some(directory) = path.ancestors().nth(3) else {
            return Ok(None);
        };
        if directory != self.directory {
            let manifest = Manifest::load(&LocalStorage, directory)
                .map_err(|error| Failed::caused(Exit::BadData, error))?;
            let files = manifest.into_iter().flat_map(|manifest| manifest.files);
            self.sums = files.map(|file| (file.path, file.sha256)).collect();
            self.directory = directory.to_path_buf();
        }
        let name = path.strip_prefix(directory).ok().and_then(Path::to_str);
        Ok(name.and_then(|name| self.sums.get(name).copied()))
    }
}

/// A file that cannot be opened as Parquet: the disk's doing, or that of what is in it.
fn unreadable(error: FileError) -> anyhow::Error {
    let exit = match &error {
        FileError::Io { .. } => Exit::Io,
        FileError::Corrupt { .. } | FileError::Foreign { .. } => Exit::BadData,
    };
    Failed::caused(exit, error)
}

impl History {
    fn of(log: LogId, files: Vec<HistoryFile>) -> Self {
        let name = match &files[..] {
            [file] => file.path.display().to_string(),
            files => format!("{} files of log {log}", thousands(files.len() as u64)),
        };
        Self {
            log,
            name,
            rows: files.iter().map(|file| file.rows).sum(),
            stretches: stretches(files),
        }
    }
}

/// Puts files together whose rows lie among each other.
fn stretches(mut files: Vec<HistoryFile>) -> Vec<Stretch> {
    files.sort_by(|a, b| (a.first, a.end, &a.path).cmp(&(b.first, b.end, &b.path)));
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut reached = 0;
    for file in files {
        let end = file.end;
        match stretches.last_mut() {
            Some(stretch) if file.first < reached => stretch.files.push(file),
            _ => stretches.push(Stretch { files: vec![file] }),
        }
        reached = end.max(reached);
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(first: u64, end: u64) -> HistoryFile {
        HistoryFile {
            path: format!("{first}-{end}").into(),
            kind: Kind::EventLogged,
            rows: end - first,
            first,
            end,
            written: Written::Unknown,
            stamp: Stamp {
                bytes: 0,
                modified: None,
            },
        }
    }

    #[test]
    fn the_start_of_a_file_is_hashed_beside_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let of = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let hashed = |start| hash(File::open(&path).unwrap(), start).unwrap();
        assert_eq!(hashed(None), (of(&content), None));
        for start in [1, 262_144, 262_145, 600_000] {
            assert_eq!(
                hashed(Some(start)),
                (of(&content), Some(of(&content[..start as usize])))
            );
        }
        assert_eq!(hashed(Some(600_001)), (of(&content), None));
    }

    #[test]
    fn files_that_overlap_belong_together() {
        let files = [
            (10, 20),
            (0, 5),
            (15, 18),
            (4, 9),
            (20, 30),
            (19, 20),
            (9, 10),
        ];
        let files = files.map(|(first, end)| file(first, end)).to_vec();
        let found: Vec<Vec<_>> = stretches(files)
            .iter()
            .map(|stretch| {
                stretch
                    .files
                    .iter()
                    .map(|file| (file.first, file.end))
                    .collect()
            })
            .collect();
        assert_eq!(
            found,
            [
                vec![(0, 5), (4, 9)],
                vec![(9, 10)],
                vec![(10, 20), (15, 18), (19, 20)],
                vec![(20, 30)]
            ]
        );
    }
}
