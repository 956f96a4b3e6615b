//! What was taken in from the log and is not yet in finished files, and how it gets there.
//!
//! # Invariants
//! I1. A batch is never split between files of a kind, so a file ends where a batch does.
//! I2. `cold_end` is the offset of the first batch with rows in an open file; with no open file, of what follows what
//!     was taken in. It never goes back.
//! I3. Rows of a kind before the end of its last finished file are skipped: they are in it. So reading again from
//!     `cold_end`, after a restart or a failure, brings every row once.
//! I4. The values that wait, of all kinds together, take no more than `pending_bytes` and one batch.
//!
//! # Failure
//! Whatever fails, all of this is given up: the manifest says what is finished, and the log is read again from its
//! `cold_end`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::{ColdHandle, LogId, Offset, metrics as names};

use crate::closing::Age;
use crate::disk;
use crate::encoding::ROW_GROUP_ROWS;
use crate::error::ParquetError;
use crate::layout::FileKind;
use crate::manifest::Manifest;
use crate::open_file::{OpenFile, Written};
use crate::rows::Rows;
use crate::store::Shared;

/// Rows on their way into files.
#[derive(Debug)]
pub(crate) struct Intake {
    shared: Arc<Shared>,
    log: LogId,
    /// The one on disk.
    manifest: Arc<Manifest>,
    /// By number of the kind.
    open: Vec<Option<OpenFile>>,
    /// Everything before this offset was taken in.
    taken: Offset,
}

impl Intake {
    /// Goes on from a manifest.
    pub(crate) fn new(shared: Arc<Shared>, manifest: Arc<Manifest>) -> Self {
        Self {
            shared,
            log: manifest.log,
            open: (0..FileKind::COUNT).map(|_| None).collect(),
            taken: manifest.cold_end,
            manifest,
        }
    }

    pub(crate) fn taken(&self) -> Offset {
        self.taken
    }

    /// Rows in open files.
    pub(crate) fn open_rows(&self) -> u64 {
        self.open.iter().flatten().map(OpenFile::rows).sum()
    }

    /// Bytes that wait, and bytes of unfinished files.
    pub(crate) fn open_bytes(&self) -> u64 {
        let open = self.open.iter().flatten();
        open.map(|open| open.pending_bytes() as u64 + open.written_bytes())
            .sum()
    }

    /// Takes in batches that follow each other.
    ///
    /// # Errors
    /// If the disk fails, or the log hands over what cannot be.
    pub(crate) fn take(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        handle: &ColdHandle,
    ) -> Result<(), ParquetError> {
        for batch in batches {
            // What batches without rows say is in the first frame of every segment.
            if batch.rows > 0 && batch.end() > self.taken {
                self.take_batch(batch, handle)?;
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &LoggedBatch, handle: &ColdHandle) -> Result<(), ParquetError> {
        if batch.first_offset > self.taken {
            return Err(ParquetError::Rows {
                reason: format!(
                    "events {} to {} were not handed over",
                    self.taken, batch.first_offset
                ),
            });
        }
        let max_delay = self.shared.config.max_delay;
        self.close(handle, |open| {
            age(open).ends_before(batch.append_time, max_delay)
        })?;
        let from = batch.first_offset.max(self.taken);
        for rows in Rows::of(batch)? {
            let published = self.manifest.published_end(rows.kind);
            if let Some(rows) = rows.from(published) {
                let slot = &mut self.open[rows.kind.number()];
                let open = slot.get_or_insert_with(|| {
                    OpenFile::new(&self.shared, self.log, &rows, from, batch.append_time)
                });
                open.push(&rows, batch.append_time);
            }
        }
        self.taken = batch.end();
        self.encode()?;
        let target = self.shared.config.target_file_bytes;
        self.close(handle, |open| open.is_full(target))
    }

    /// Encodes until what waits is within its bounds.
    fn encode(&mut self) -> Result<(), ParquetError> {
        let shared = &self.shared;
        for open in self.open.iter_mut().flatten() {
            while open.pending_rows() >= ROW_GROUP_ROWS {
                open.write_row_group(shared)?;
            }
        }
        loop {
            let waiting: usize = self
                .open
                .iter()
                .flatten()
                .map(OpenFile::pending_bytes)
                .sum();
            if waiting <= shared.config.pending_bytes {
                return Ok(());
            }
            let open = self.open.iter_mut().flatten();
            let Some(largest) = open.max_by_key(|open| open.pending_bytes()) else {
                return Ok(());
            };
            largest.write_row_group(shared)?;
        }
    }

    /// Closes what the clock says is due; to be called when everything was read.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn close_due(&mut self, handle: &ColdHandle) -> Result<(), ParquetError> {
        let now = self.shared.clock.now();
        let monotonic = self.shared.clock.monotonic();
        let max_delay = self.shared.config.max_delay;
        self.close(handle, |open| age(open).is_due(now, monotonic, max_delay))
    }

    /// Closes all files.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn close_all(&mut self, handle: &ColdHandle) -> Result<Offset, ParquetError> {
        self.close(handle, |_| true)?;
        if self.cold_end() > self.manifest.cold_end {
            self.publish(Vec::new(), handle)?;
        }
        Ok(self.manifest.cold_end)
    }

    fn close(
        &mut self,
        handle: &ColdHandle,
        which: impl Fn(&OpenFile) -> bool,
    ) -> Result<(), ParquetError> {
        let mut written = Vec::new();
        for slot in &mut self.open {
            let Some(open) = slot.take_if(|open| which(open)) else {
                continue;
            };
            match open.finish(&self.shared) {
                Ok(file) => written.push(file),
                Err(error) => {
                    discard(&self.shared, &written);
                    return Err(error);
                }
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        self.publish(written, handle)
    }

    /// Makes finished files part of the history: their names, the manifest, and then the log's own record.
    fn publish(&mut self, written: Vec<Written>, handle: &ColdHandle) -> Result<(), ParquetError> {
        let shared = &self.shared;
        let (root, storage) = (&shared.config.path, &*shared.storage);
        let mut directories = BTreeSet::<PathBuf>::new();
        for (place, file) in written.iter().enumerate() {
            let renamed = storage.rename(&file.temporary, &root.join(file.name.path()));
            if renamed.is_err() {
                discard(shared, &written[place..]);
            }
            renamed.map_err(ParquetError::io("renaming", &file.temporary))?;
            directories.insert(file.name.directory());
        }
        for directory in directories {
            disk::sync_dir(storage, &root.join(directory))?;
        }
        let mut manifest = Manifest::clone(&self.manifest);
        manifest.add(written.iter().map(|file| file.entry.clone()));
        manifest.cold_end = self.cold_end().max(manifest.cold_end);
        manifest.epoch = handle.epoch_of(manifest.cold_end);
        manifest.store(storage, root)?;
        self.manifest = Arc::new(manifest);
        shared.set_manifest(Arc::clone(&self.manifest));
        report(shared, &written);
        let end = self.manifest.cold_end;
        handle
            .advance(end)
            .map_err(|source| ParquetError::Log { end, source })
    }

    /// Invariant I2.
    fn cold_end(&self) -> Offset {
        let open = self.open.iter().flatten();
        open.map(|open| open.from).min().unwrap_or(self.taken)
    }

    /// Gives everything up that is not in a finished file.
    pub(crate) fn abandon(self) {
        for open in self.open.into_iter().flatten() {
            open.abandon(&self.shared);
        }
    }
}

/// Removes files that were not published. What stays, the next opening removes.
fn discard(shared: &Shared, written: &[Written]) {
    for file in written {
        let _ = shared.storage.remove(&file.temporary);
    }
}

fn age(open: &OpenFile) -> Age {
    Age {
        date: open.date,
        begun: open.begun,
        opened: open.opened,
    }
}

fn report(shared: &Shared, written: &[Written]) {
    for file in written {
        metrics::histogram!(names::COMPACTION_DURATION).record(file.busy.as_secs_f64());
        tracing::debug!(
            path = %file.entry.path, rows = file.entry.rows, bytes = file.entry.bytes,
            "a Parquet file is finished"
        );
    }
    let now = shared.clock.now().micros() as f64 / 1e6;
    metrics::gauge!(names::COMPACTION_LAST_SUCCESS).set(now);
}
