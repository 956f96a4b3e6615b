//! A directory of tables, one file for each kind: there whole or not at all.
//!
//! The files are written in a temporary directory beside the one it becomes. What all of them hold back in memory until
//! it makes a piece of a file is bounded together, however many kinds there are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use modelog_engine::LogId;
use modelog_engine::event::Kind;
use tempfile::TempDir;

use super::output::{Output, parent};
use super::table::{Table, TableFormat};
use crate::exit::Failed;

/// How much all files hold back in memory, in bytes.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// The files in the making.
pub(super) struct Folder {
    written: TempDir,
    path: PathBuf,
    format: TableFormat,
    log: Option<LogId>,
    tables: BTreeMap<Kind, Table>,
}

impl Folder {
    /// Begins a directory that is not there yet, or is empty.
    ///
    /// # Errors
    /// If there is something in it, or no directory can be made beside it.
    pub(super) fn open(path: &Path, format: TableFormat, log: Option<LogId>) -> Result<Self> {
        let failed = || format!("{} cannot be written", path.display());
        let occupied = match path.read_dir() {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(failed),
        };
        if occupied {
            return Err(Failed::usage(format!(
                "{} is not empty: name a directory that is not there yet, so that its files belong together",
                path.display()
            )));
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let written = tempfile::Builder::new()
            .prefix(".modelog-export-")
            .tempdir_in(parent(&path))
            .with_context(failed)?;
        Ok(Self {
            written,
            path,
            format,
            log,
            tables: BTreeMap::new(),
        })
    }

    /// Where it will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes rows of a kind. Of a kind without rows there is no file.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(super) fn write(&mut self, kind: Kind, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if !self.tables.contains_key(&kind) {
            let name = format!("{kind}.{}", self.format.ending());
            let out = Output::open(&self.written.path().join(name))?;
            self.tables
                .insert(kind, Table::begin(self.format, kind, self.log, out)?);
        }
        if let Some(table) = self.tables.get_mut(&kind) {
            table.write(rows)?;
        }
        self.bound_memory()
    }

    fn bound_memory(&mut self) -> Result<()> {
        let pending = |table: &Table| table.pending_bytes();
        while self.tables.values().map(pending).sum::<usize>() > PENDING_BYTES_MAX {
            let largest = self.tables.values_mut().max_by_key(|table| pending(table));
            match largest {
                Some(table) => table.write_pending()?,
                None => break,
            }
        }
        Ok(())
    }

    /// Ends all files, and gives the directory its name. Answers how many files there are.
    ///
    /// # Errors
    /// If the disk refuses, or something was put there meanwhile.
    pub(super) fn finish(self) -> Result<usize> {
        let failed = || format!("{} cannot be written", self.path.display());
        let files = self.tables.len();
        for table in self.tables.into_values() {
            table.finish()?;
        }
        let sync = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
        sync(self.written.path()).with_context(failed)?;
        // An empty directory gives way to another one.
        std::fs::rename(self.written.path(), &self.path).with_context(failed)?;
        // It has another name now: there is nothing to clear.
        let _ = self.written.keep();
        sync(parent(&self.path)).with_context(failed)?;
        Ok(files)
    }
}
