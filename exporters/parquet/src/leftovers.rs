//! What a directory holds beside the files of its manifest.
//!
//! | found | then |
//! |---|---|
//! | an unfinished file of ours | removed |
//! | a finished file of our log, behind all that is in the manifest | removed: a crash came before the manifest |
//! | anything else | left alone, and reported |
//!
//! A file of our log that reaches below what the manifest holds is no leftover of a crash; nobody knows what it is, so
//! it stays. Names that are gone are gone durably before anything is published: one that came back would show rows twice.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use modelog_engine::Storage;

use crate::disk;
use crate::error::ParquetError;
use crate::footer;
use crate::layout::{self, FileName};
use crate::manifest::Manifest;
use crate::schema::keys;

/// Held while a compactor works in the directory.
pub(crate) const LOCK: &str = "_lock";
/// How many foreign files are remembered by name.
const FOREIGN_MAX: usize = 1000;

/// Removes leftovers of a crash; answers which files are not ours.
///
/// # Errors
/// If the disk fails.
pub(crate) fn clean(
    storage: &dyn Storage,
    root: &Path,
    manifest: &Manifest,
) -> Result<Vec<PathBuf>, ParquetError> {
    let listed = manifest.files.iter().map(|file| file.path.as_str());
    let mut sweep = Sweep {
        storage,
        root,
        manifest,
        listed: listed.collect(),
        touched: BTreeSet::new(),
        foreign: Vec::new(),
    };
    sweep.root()?;
    for directory in &sweep.touched {
        disk::sync_dir(storage, directory)?;
    }
    Ok(sweep.foreign)
}

struct Sweep<'a> {
    storage: &'a dyn Storage,
    root: &'a Path,
    manifest: &'a Manifest,
    listed: HashSet<&'a str>,
    /// Directories from which something was removed.
    touched: BTreeSet<PathBuf>,
    foreign: Vec<PathBuf>,
}

impl Sweep<'_> {
    fn root(&mut self) -> Result<(), ParquetError> {
        for path in self.list(self.root)? {
            match path.file_name().and_then(|name| name.to_str()) {
                Some(layout::MANIFEST | LOCK) => {}
                // Replaced, not read, by the next one who writes a manifest.
                Some(name) if name.strip_suffix(".tmp") == Some(layout::MANIFEST) => {}
                Some(name) if name.starts_with("kind=") => self.kind(path)?,
                _ => self.report(path),
            }
        }
        Ok(())
    }

    fn kind(&mut self, path: PathBuf) -> Result<(), ParquetError> {
        if !self.is_dir(&path)? {
            self.report(path);
            return Ok(());
        }
        for path in self.list(&path)? {
            if !self.is_dir(&path)? {
                self.report(path);
                continue;
            }
            for file in self.list(&path)? {
                self.file(file)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf) -> Result<(), ParquetError> {
        let below = path.strip_prefix(self.root).unwrap_or(&path);
        if below
            .to_str()
            .is_some_and(|below| self.listed.contains(below))
        {
            return Ok(());
        }
        let remove = layout::is_unfinished(below)
            || match FileName::parse(below) {
                Some(name) => self.is_orphan(&name, &path)?,
                None => false,
            };
        if !remove {
            self.report(path);
            return Ok(());
        }
        tracing::info!(path = %path.display(), "removing what a crash left");
        self.storage
            .remove(&path)
            .map_err(ParquetError::io("removing", &path))?;
        self.touched.extend(path.parent().map(Path::to_path_buf));
        Ok(())
    }

    /// Whether a finished file is ours, and of what the manifest does not hold yet.
    fn is_orphan(&self, name: &FileName, path: &Path) -> Result<bool, ParquetError> {
        let behind = name.first >= self.manifest.cold_end
            && name.first >= self.manifest.published_end(name.kind);
        if !behind {
            return Ok(false);
        }
        let file = self
            .storage
            .open(path, false)
            .map_err(ParquetError::io("opening", path))?;
        match footer::read(&*file, path) {
            Ok(metadata) => {
                let ours = self.manifest.log.to_string();
                Ok(footer::value(&metadata, keys::LOG) == Some(ours.as_str()))
            }
            Err(ParquetError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn report(&mut self, path: PathBuf) {
        tracing::warn!(path = %path.display(), "a file that is not Modelog's lies among its Parquet files; it is left alone");
        if self.foreign.len() < FOREIGN_MAX {
            self.foreign.push(path);
        }
    }

    fn is_dir(&self, path: &Path) -> Result<bool, ParquetError> {
        self.storage
            .is_dir(path)
            .map_err(ParquetError::io("looking at", path))
    }

    /// In order, so that the same directory is always swept in the same way.
    fn list(&self, path: &Path) -> Result<Vec<PathBuf>, ParquetError> {
        let mut names = self
            .storage
            .list(path)
            .map_err(ParquetError::io("listing", path))?;
        names.sort_unstable();
        Ok(names)
    }
}
