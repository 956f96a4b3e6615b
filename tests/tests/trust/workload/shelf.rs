//! A projection on the same disk as the log, which makes its effects and its checkpoint durable as P1 of the contract
//! allows in its weaker form: effects first, which may be repeated, then the checkpoint.
//!
//! ```text
//! rows        8 bytes an event, at 8 × its offset: a digest of the event and of the numbers of its names
//! checkpoint  written beside, synced, renamed
//! ```

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use modelog_engine::batch::{LoggedBatch, Row};
use modelog_engine::event::{EntityKind, Fact};
use modelog_engine::names::Names;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::sim::SimStorage;
use modelog_engine::{Checkpoint, Storage, StorageFile};

use crate::support::data;

const ROW_BYTES: u64 = 8;
/// The version of what a row is.
const FOLD_VERSION: u32 = 1;

fn directory() -> PathBuf {
    data().join("shelf")
}

/// What an event amounts to: all its fields but a time that the log gave, and the numbers of the names it mentions.
pub(crate) fn digest(row: Row<'_>, names: &Names) -> u64 {
    let mut event = row.to_event();
    event.time = event.time.filter(|time| *time != row.append_time());
    let mut hasher = DefaultHasher::new();
    format!("{event:?}").hash(&mut hasher);
    if let Fact::PredictionLogged(fact) = &event.fact {
        let model = names.id(EntityKind::Model, &fact.model);
        let model = model.expect("names are there before the events that mention them");
        (model, names.version_id(model, &fact.version)).hash(&mut hasher);
    }
    hasher.finish()
}

#[derive(Debug)]
pub(crate) struct Shelf {
    storage: Arc<dyn Storage>,
    rows: Option<Arc<dyn StorageFile>>,
    at: Option<Checkpoint>,
}

impl Shelf {
    pub(crate) fn new(disk: &SimStorage) -> Self {
        Self {
            storage: disk.storage(),
            rows: None,
            at: None,
        }
    }

    fn try_open(&mut self) -> io::Result<Option<Checkpoint>> {
        let (storage, directory) = (&*self.storage, directory());
        storage.create_dir_all(&directory)?;
        storage.sync_dir(&data())?;
        let rows = directory.join("rows");
        self.rows = Some(match storage.exists(&rows)? {
            true => storage.open(&rows, true)?,
            false => storage.create(&rows)?,
        });
        storage.sync_dir(&directory)?;
        self.at = read_checkpoint(storage)?;
        Ok(self.at)
    }

    fn try_apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        names: &Names,
        to: Checkpoint,
    ) -> io::Result<()> {
        let rows = self.rows.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let done = self.at.map_or(0, |at| at.offset.0);
        for batch in batches {
            let digests: Vec<u8> = batch
                .in_order()
                .into_iter()
                .filter(|row| row.offset().0 >= done)
                .flat_map(|row| digest(row, names).to_le_bytes())
                .collect();
            let first = batch.first_offset.0.max(done);
            rows.write_at(&[IoSlice::new(&digests)], first * ROW_BYTES)?;
        }
        rows.sync_data()?;
        self.write_checkpoint(to)?;
        self.at = Some(to);
        Ok(())
    }

    fn write_checkpoint(&self, to: Checkpoint) -> io::Result<()> {
        let (storage, directory) = (&*self.storage, directory());
        let (path, temporary) = (
            directory.join("checkpoint"),
            directory.join("checkpoint.tmp"),
        );
        if storage.exists(&temporary)? {
            storage.remove(&temporary)?;
        }
        let file = storage.create(&temporary)?;
        let text = serde_json::to_vec(&to)?;
        file.write_at(&[IoSlice::new(&text)], 0)?;
        file.sync_data()?;
        storage.rename(&temporary, &path)?;
        storage.sync_dir(&directory)
    }
}

fn read_all(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path, false)?;
    let mut bytes = vec![0; file.len()? as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(bytes)
}

fn read_checkpoint(storage: &dyn Storage) -> io::Result<Option<Checkpoint>> {
    let path = directory().join("checkpoint");
    if !storage.exists(&path)? {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&read_all(storage, &path)?)?))
}

/// What lies on a disk: a checkpoint and the rows before it.
pub(crate) fn look(disk: &SimStorage) -> Option<(Checkpoint, Vec<u64>)> {
    let at = read_checkpoint(disk).unwrap()?;
    let bytes = read_all(disk, &directory().join("rows")).unwrap();
    let rows = bytes
        .chunks_exact(ROW_BYTES as usize)
        .map(|row| u64::from_le_bytes(row.try_into().unwrap()))
        .take(at.offset.0 as usize)
        .collect();
    Some((at, rows))
}

fn away(error: io::Error) -> ProjectionError {
    ProjectionError::Unavailable(Box::new(error))
}

#[async_trait]
impl Projection for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.try_open().map_err(away)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        self.try_apply(batches, view.names, to).map_err(away)
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        let path = directory().join("checkpoint");
        let removed = self.storage.remove(&path);
        removed
            .and_then(|()| self.storage.sync_dir(&directory()))
            .map_err(away)
    }
}
