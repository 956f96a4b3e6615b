//! Snapshots: states of folds at an offset. Caches that make opening short; any of them may be missing or damaged.
//!
//! A snapshot never runs ahead of the log: that of admission is taken under its lock, as bytes, and written only once
//! everything it speaks of is durable. The two newest of each sort are kept.
//!
//! ```text
//! magic 8 | version u32 | log uuid 16 | epoch u32 | offset u64 | content | CRC32C of all before
//! ```

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::bytes::{Malformed, Reader, put_u32, put_u64, put_u128};
use super::catalog::Stated;
use super::dedupe::Seen;
use super::frame::{
    NAME_BYTES_MIN, SOURCE_STATE_BYTES_MIN, get_name, get_state, put_name, put_state,
};
use super::state::State;
use crate::batch::Identity;
use crate::error::LogError;
use crate::event::EntityKind;
use crate::storage::{Storage, read_exact};
use crate::{LogId, Offset, Timestamp};

const KEPT: usize = 2;

/// A sort of snapshots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    pub(crate) magic: &'static [u8; 8],
    /// The version of its content, of the hashes in it, and of the fold it comes from.
    pub(crate) version: u32,
    /// What its files are called.
    pub(crate) name: &'static str,
}

/// Snapshots of what admission knows.
pub(super) const ADMISSION: Sort = Sort {
    magic: b"MODELOGA",
    version: 1,
    name: "admission",
};

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) log: LogId,
    pub(crate) epoch: u32,
    pub(crate) offset: Offset,
}

impl Sort {
    /// The bytes of a snapshot.
    pub(crate) fn seal(&self, about: About, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(content.len() + 44);
        out.extend_from_slice(self.magic);
        put_u32(&mut out, self.version);
        out.extend_from_slice(about.log.0.as_bytes());
        put_u32(&mut out, about.epoch);
        put_u64(&mut out, about.offset.0);
        out.extend_from_slice(content);
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        out
    }

    pub(crate) fn unseal<'a>(&self, bytes: &'a [u8]) -> Result<(About, &'a [u8]), Malformed> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(Malformed);
        }
        let mut reader = Reader(content);
        if reader.take(8)? != self.magic || reader.u32()? != self.version {
            return Err(Malformed);
        }
        let uuid = reader.take(16)?.try_into().map_err(|_| Malformed)?;
        let (epoch, offset) = (reader.u32()?, Offset(reader.u64()?));
        if offset.0 > i64::MAX as u64 {
            return Err(Malformed);
        }
        Ok((
            About {
                log: LogId(uuid::Uuid::from_bytes(uuid)),
                epoch,
                offset,
            },
            reader.0,
        ))
    }

    /// Writes a snapshot, whole or not at all, and removes old ones.
    pub(crate) fn write(
        &self,
        storage: &dyn Storage,
        directory: &Path,
        offset: Offset,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let path = directory.join(format!("{}-{:020}.snap", self.name, offset.0));
        let temporary = directory.join(format!("{}.tmp", self.name));
        if storage
            .exists(&temporary)
            .map_err(LogError::io("looking for", &temporary))?
        {
            storage
                .remove(&temporary)
                .map_err(LogError::io("removing", &temporary))?;
        }
        let file = storage
            .create(&temporary)
            .map_err(LogError::io("creating", &temporary))?;
        file.write_at(&[IoSlice::new(bytes)], 0)
            .map_err(LogError::io("writing", &temporary))?;
        file.sync_data()
            .map_err(LogError::io("syncing", &temporary))?;
        storage
            .rename(&temporary, &path)
            .map_err(LogError::io("renaming", &temporary))?;
        storage
            .sync_dir(directory)
            .map_err(LogError::io("syncing", directory))?;
        for (_, old) in self.list(storage, directory)?.into_iter().skip(KEPT) {
            storage
                .remove(&old)
                .map_err(LogError::io("removing", &old))?;
        }
        Ok(())
    }

    /// What `accept` makes of the newest snapshot that is sound and that it accepts.
    pub(crate) fn read<T>(
        &self,
        storage: &dyn Storage,
        directory: &Path,
        accept: impl Fn(&About, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, LogError> {
        for (_, path) in self.list(storage, directory)? {
            let file = storage
                .open(&path, false)
                .map_err(LogError::io("opening", &path))?;
            let len = file.len().map_err(LogError::io("measuring", &path))?;
            let mut bytes = vec![0; len as usize];
            read_exact(&*file, &mut bytes, 0).map_err(LogError::io("reading", &path))?;
            let found = self
                .unseal(&bytes)
                .ok()
                .and_then(|(about, content)| accept(&about, content));
            if found.is_some() {
                return Ok(found);
            }
            tracing::warn!(path = %path.display(), "a snapshot does not fit the log and is not used");
        }
        Ok(None)
    }

    /// Snapshots, the newest first.
    fn list(
        &self,
        storage: &dyn Storage,
        directory: &Path,
    ) -> Result<Vec<(u64, PathBuf)>, LogError> {
        let mut found: Vec<_> = storage
            .list(directory)
            .map_err(LogError::io("listing", directory))?
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.strip_prefix(self.name)?;
                let offset = name
                    .strip_prefix('-')?
                    .strip_suffix(".snap")?
                    .parse()
                    .ok()?;
                Some((offset, path))
            })
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }
}

/// The bytes of a snapshot of the state as it is.
pub(super) fn encode(state: &State, log: LogId, epoch: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + state.window.iter().len() * 32);
    let names = state.names.all();
    put_u32(&mut out, names.len() as u32);
    names.iter().for_each(|name| put_name(&mut out, name));
    let entities = state.catalog.in_order();
    put_u32(&mut out, entities.len() as u32);
    for ((kind, id), values) in entities {
        out.push(*kind as u8);
        put_u32(&mut out, *id);
        put_u32(&mut out, values.len() as u32);
        for value in values {
            out.push(value.column);
            put_u64(&mut out, value.hash);
        }
    }
    let sources: Vec<_> = state.sources.lasting();
    let calls: Vec<_> = state.sources.calls().collect();
    put_u32(&mut out, (sources.len() + calls.len()) as u32);
    sources
        .iter()
        .chain(calls)
        .for_each(|source| put_state(&mut out, source));
    put_u64(
        &mut out,
        state.window.oldest().unwrap_or_default().micros() as u64,
    );
    put_u32(&mut out, state.window.iter().len() as u32);
    for seen in state.window.iter() {
        put_u128(&mut out, seen.key);
        put_u64(&mut out, seen.content);
        put_u64(&mut out, seen.offset.0);
    }
    ADMISSION.seal(
        About {
            log,
            epoch,
            offset: state.next,
        },
        &out,
    )
}

/// The state a snapshot's content tells of.
pub(super) fn decode(
    about: &About,
    content: &[u8],
    dedupe_window: usize,
) -> Result<State, Malformed> {
    let mut reader = Reader(content);
    let mut state = State::new(dedupe_window);
    state.next = about.offset;
    for _ in 0..reader.count(NAME_BYTES_MIN)? {
        if !state.names.insert(&get_name(&mut reader)?) {
            return Err(Malformed);
        }
    }
    for _ in 0..reader.count(9)? {
        let kind = EntityKind::from_number(reader.u8()?).ok_or(Malformed)?;
        let id = reader.u32()?;
        let count = reader.count(9)?;
        let values = (0..count).map(|_| {
            Ok(Stated {
                column: reader.u8()?,
                hash: reader.u64()?,
            })
        });
        state
            .catalog
            .insert((kind, id), values.collect::<Result<_, Malformed>>()?);
    }
    for _ in 0..reader.count(SOURCE_STATE_BYTES_MIN)? {
        state.sources.note(get_state(&mut reader)?);
    }
    let oldest = Timestamp::from_micros(reader.u64()? as i64);
    if oldest != Timestamp::default() {
        state.mark(oldest);
    }
    for _ in 0..reader.count(32)? {
        let seen = Seen {
            key: reader.u128()?,
            content: reader.u64()?,
            offset: Offset(reader.u64()?),
        };
        if seen.offset >= about.offset {
            return Err(Malformed);
        }
        state.window.insert(
            &Identity {
                ord: 0,
                key: seen.key,
                content: seen.content,
            },
            seen.offset,
        );
    }
    reader.ended(state)
}
