//! The list of finished files: what is part of the history, and how far it reaches without a hole.
//!
//! It is one JSON file, replaced as a whole: a crash leaves the old or the new one. Its content is covered by a
//! checksum of its own, since everything else is judged by it.
//!
//! # Invariants
//! F1. Files of a kind have ascending, disjoint offset ranges.
//! F2. Every row below `cold_end` is in a file of the list. Files may hold rows beyond it: kinds with many rows are
//!     closed earlier than others.
//! F3. A file is listed only after it was read back and its name made durable. It is never changed.

use std::path::{Path, PathBuf};

use modelog_engine::{LogId, Offset, Storage, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::ParquetError;
use crate::layout::{FileKind, FileName, MANIFEST};

/// The version of the manifest's own form.
const FORMAT: u32 = 1;

/// The finished files of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whose history it is.
    pub log: LogId,
    /// The stretch of history that `cold_end` belongs to.
    pub epoch: u32,
    /// Everything before this offset is in files.
    pub cold_end: Offset,
    /// By kind, then by offset.
    pub files: Vec<FileEntry>,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the directory of the manifest, with slashes.
    pub path: String,
    pub kind: FileKind,
    /// Offset of the first row.
    pub first: Offset,
    /// The offset after that of the last row.
    pub end: Offset,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: Sha256Sum,
    /// When the log took the first row.
    #[serde(with = "rfc3339")]
    pub min_append_time: Timestamp,
    /// When the log took the last row.
    #[serde(with = "rfc3339")]
    pub max_append_time: Timestamp,
}

/// A SHA-256 checksum; text as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Sum(pub [u8; 32]);

impl Sha256Sum {
    /// Of bytes at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// Of everything a hasher was told.
    #[must_use]
    pub fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut sum = [0; 32];
        if digits.len() != 2 * sum.len() {
            return None;
        }
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(sum))
    }
}

impl std::fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Sha256Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a SHA-256 has 64 hexadecimal digits"))
    }
}

mod rfc3339 {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Timestamp::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The file: a manifest's text, and its checksum.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    /// Of the bytes of `manifest` as they stand in the file.
    sha256: Sha256Sum,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

/// What is read before anything else, so that a newer form is told from damage.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl FileEntry {
    /// Where the file lies.
    #[must_use]
    pub fn locate(&self, directory: &Path) -> PathBuf {
        directory.join(&self.path)
    }
}

impl Manifest {
    /// The manifest of a log without files.
    #[must_use]
    pub fn new(log: LogId) -> Self {
        Self {
            log,
            epoch: 0,
            cold_end: Offset::ZERO,
            files: Vec::new(),
        }
    }

    /// Reads the manifest of a directory; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or of a newer form.
    pub fn load(storage: &dyn Storage, directory: &Path) -> Result<Option<Self>, ParquetError> {
        let path = directory.join(MANIFEST);
        let Some(content) = disk::read_all(storage, &path)? else {
            return Ok(None);
        };
        Self::from_json(&content, &path).map(Some)
    }

    /// Takes a manifest from the content of its file; `path` is for the messages.
    ///
    /// # Errors
    /// If it is damaged or of a newer form.
    pub fn from_json(content: &[u8], path: &Path) -> Result<Self, ParquetError> {
        let damaged = |reason: String| ParquetError::Manifest {
            path: path.to_path_buf(),
            reason,
        };
        let json = |error: serde_json::Error| damaged(error.to_string());
        let Form { format } = serde_json::from_slice(content).map_err(json)?;
        if format > FORMAT {
            return Err(ParquetError::TooNew {
                path: path.to_path_buf(),
                needed: format,
                supported: FORMAT,
            });
        }
        let envelope: Envelope<'_> = serde_json::from_slice(content).map_err(json)?;
        let text = envelope.manifest.get();
        if Sha256Sum::of(text.as_bytes()) != envelope.sha256 {
            return Err(damaged("its checksum does not fit its content".into()));
        }
        let manifest: Self = serde_json::from_str(text).map_err(json)?;
        manifest.check().map_err(damaged)?;
        Ok(manifest)
    }

    /// The content of its file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("a manifest is plain data");
        let sha256 = Sha256Sum::of(text.as_bytes());
        let manifest = RawValue::from_string(text).expect("what was just written is JSON");
        let envelope = Envelope {
            format: FORMAT,
            sha256,
            manifest: &manifest,
        };
        let mut content = serde_json::to_vec(&envelope).expect("a manifest is plain data");
        content.push(b'\n');
        content
    }

    /// Replaces the manifest of a directory; durable when it returns.
    ///
    /// # Errors
    /// If the disk fails; the old one is there then, or the new one.
    pub fn store(&self, storage: &dyn Storage, directory: &Path) -> Result<(), ParquetError> {
        debug_assert_eq!(self.check(), Ok(()));
        disk::replace(storage, directory, MANIFEST, &self.to_json())
    }

    /// The files of a kind, by offset.
    #[must_use]
    pub fn files_of(&self, kind: FileKind) -> &[FileEntry] {
        let from = self.files.partition_point(|file| file.kind < kind);
        let to = self.files.partition_point(|file| file.kind <= kind);
        &self.files[from..to]
    }

    /// The offset after the last row of a kind that is in a file.
    #[must_use]
    pub fn published_end(&self, kind: FileKind) -> Offset {
        self.files_of(kind)
            .last()
            .map_or(Offset::ZERO, |file| file.end)
    }

    /// Adds files, each behind those of its kind.
    pub fn add(&mut self, files: impl IntoIterator<Item = FileEntry>) {
        self.files.extend(files);
        self.files.sort_by_key(|file| (file.kind, file.first));
    }

    /// The sum of the sizes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Invariant F1, and that names say what entries do.
    fn check(&self) -> Result<(), String> {
        for file in &self.files {
            let named = FileName::parse(Path::new(&file.path)).is_some_and(|name| {
                (name.kind, name.first, name.end) == (file.kind, file.first, file.end)
            });
            if !named {
                return Err(format!("{} does not say what its entry does", file.path));
            }
            let ordered = file.min_append_time <= file.max_append_time;
            let dense = file.rows <= file.end.since(file.first) || !file.kind.is_events();
            if file.rows == 0 || !ordered || !dense {
                return Err(format!("the entry of {} contradicts itself", file.path));
            }
        }
        for pair in self.files.windows(2) {
            let [before, after] = pair else { continue };
            let ordered = before.kind < after.kind
                || (before.kind == after.kind && before.end <= after.first);
            if !ordered {
                return Err(format!("{} and {} overlap", before.path, after.path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
