//! Handing history over to the cold tier, and deleting the segments that are no longer needed.
//!
//! ```text
//! cold tier: files durable and compared ─▶ advance: MANIFEST says so ─▶ wait `keep_segments` ─▶ retire: files, then entries
//! ```
//!
//! # Invariants
//! C1. The manifest's `cold_end` never passes what the cold tier has made durable: it is told afterwards.
//! C2. A segment is deleted only if all of it lies below the durable `cold_end`, and only from the front, so that what
//!     is left has no hole.
//! C3. Files go before their entries: an entry without a file is legal below `cold_end`, a file without an entry would be
//!     set aside and kept for good.
//! C4. A segment's age is time during which this log was open and the segment was below `cold_end`, by the monotonic
//!     clock: a clock that jumps deletes nothing. Ages outlive openings as a snapshot; without it they start again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bytes::{Malformed, Reader, put_u32, put_u64};
use super::snapshot::{About, Sort};
use super::{Shared, lock};
use crate::error::{LogError, chain};
use crate::{LogId, Offset};

/// Snapshots of how long segments have been in the cold tier.
pub(super) const AGES: Sort = Sort {
    magic: b"MODELOGR",
    version: 1,
    name: "retention",
};

/// How long segments have been in the cold tier, by number.
#[derive(Debug, Default)]
pub(super) struct Ages {
    ages: BTreeMap<u64, Duration>,
    /// When they were last counted on.
    looked: Option<Duration>,
    /// When they were last written.
    written: Duration,
}

impl Ages {
    /// Adds the time since the last look to the segments that were there then, and begins with those that are new.
    fn count(&mut self, now: Duration, cold: impl Iterator<Item = u64>) {
        let elapsed = now.saturating_sub(self.looked.unwrap_or(now));
        self.looked = Some(now);
        self.ages = cold
            .map(|number| {
                let before = self
                    .ages
                    .get(&number)
                    .map(|age| age.saturating_add(elapsed));
                (number, before.unwrap_or_default())
            })
            .collect();
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32(&mut out, self.ages.len() as u32);
        for (number, age) in &self.ages {
            put_u64(&mut out, *number);
            put_u64(&mut out, age.as_secs());
        }
        out
    }

    pub(super) fn decode(content: &[u8]) -> Result<BTreeMap<u64, Duration>, Malformed> {
        let mut reader = Reader(content);
        let count = reader.count(16)?;
        let ages = (0..count)
            .map(|_| Ok((reader.u64()?, Duration::from_secs(reader.u64()?))))
            .collect::<Result<BTreeMap<_, _>, Malformed>>()?;
        if ages.len() == count {
            reader.ended(ages)
        } else {
            Err(Malformed)
        }
    }
}

/// The cold tier's hold on a log: tells it how far history has been taken over. It does not keep the log open.
#[derive(Clone, Debug)]
pub struct ColdHandle {
    shared: Arc<Shared>,
}

impl ColdHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The identity of the log.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.id
    }

    /// The offset after the last durable event.
    #[must_use]
    pub fn tail(&self) -> Offset {
        self.shared.tail()
    }

    /// The stretch of history an end of it belongs to.
    #[must_use]
    pub fn epoch_of(&self, end: Offset) -> u32 {
        self.shared.epoch_of(end)
    }

    /// The durable `cold_end`.
    #[must_use]
    pub fn cold_end(&self) -> Offset {
        self.shared.cold_end()
    }

    /// Records, durably, that the cold tier holds everything before `end`. Going back is not possible; an earlier end
    /// changes nothing.
    ///
    /// # Errors
    /// [`LogError::BeyondTail`], [`LogError::Closed`], or that the manifest could not be written.
    pub fn advance(&self, end: Offset) -> Result<(), LogError> {
        let shared = &self.shared;
        let tail = shared.tail();
        if end > tail {
            return Err(LogError::BeyondTail {
                requested: end,
                tail,
            });
        }
        let mut manifest = shared.open_manifest()?;
        let before = manifest.contents.cold_end;
        if end <= before {
            return Ok(());
        }
        manifest.contents.cold_end = end;
        let written = manifest.write();
        if written.is_err() {
            manifest.contents.cold_end = before;
        }
        written
    }

    /// Deletes the segments that have been in the cold tier for `keep_segments`; answers how many. To be called now and
    /// then: ages are counted from call to call.
    ///
    /// # Errors
    /// [`LogError::Closed`], or that a file could not be removed or the manifest not be written: the next call goes on.
    pub fn retire(&self) -> Result<usize, LogError> {
        let shared = &self.shared;
        // A backup is listing segments: the next call will do.
        let Ok(_pinned) = shared.pinned.try_lock() else {
            return Ok(0);
        };
        let mut manifest = shared.open_manifest()?;
        let now = shared.clock.monotonic();
        let keep = shared.config.keep_segments;
        let cold_end = manifest.contents.cold_end;
        // The last one is written to, or, for the moment of a closing, will be at the next opening.
        let sealed = manifest.contents.segments.split_last();
        let cold = sealed
            .map_or(&[][..], |(_, sealed)| sealed)
            .iter()
            .take_while(|entry| entry.end.is_some_and(|end| end.offset <= cold_end))
            .map(|entry| entry.number);
        let expired: Vec<u64> = {
            let mut ages = lock(&shared.ages);
            ages.count(now, cold);
            let old = ages.ages.iter().take_while(|(_, age)| **age >= keep);
            old.map(|(number, _)| *number).collect()
        };
        shared.keep_ages(now);
        // Of some only the entry may be left, if an earlier call failed behind them.
        let mut gone = 0;
        loop {
            let segment = {
                let mut segments = shared
                    .segments
                    .write()
                    .unwrap_or_else(crate::threads::PoisonError::into_inner);
                match segments.first() {
                    Some(first) if expired.contains(&first.number) => segments.remove(0),
                    _ => break,
                }
            };
            match shared.storage.remove(&segment.path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let mut segments = shared
                        .segments
                        .write()
                        .unwrap_or_else(crate::threads::PoisonError::into_inner);
                    segments.insert(0, Arc::clone(&segment));
                    return Err(LogError::io("removing", &segment.path)(error));
                }
            }
            gone += 1;
        }
        if !expired.is_empty() {
            shared
                .storage
                .sync_dir(&shared.directory)
                .map_err(LogError::io("syncing", &shared.directory))?;
            manifest
                .contents
                .segments
                .retain(|entry| !expired.contains(&entry.number));
            manifest.write()?;
            tracing::info!(segments = gone, "removed segments that the cold tier holds");
        }
        Ok(gone)
    }
}

impl Shared {
    /// The durable `cold_end`.
    pub(crate) fn cold_end(&self) -> Offset {
        lock(&self.manifest).contents.cold_end
    }

    /// The manifest, for a change; not once the log is closed, when another process may have it.
    fn open_manifest(
        &self,
    ) -> Result<crate::threads::MutexGuard<'_, super::manifest::Manifest>, LogError> {
        let manifest = lock(&self.manifest);
        if self.tail.borrow().closed {
            return Err(LogError::Closed);
        }
        Ok(manifest)
    }

    /// Takes up the ages an earlier opening left.
    pub(super) fn find_ages(&self) -> Result<(), LogError> {
        let found = AGES.read(&*self.storage, &self.snapshots, |about, content| {
            (about.log == self.id)
                .then(|| Ages::decode(content).ok())
                .flatten()
        })?;
        let now = self.clock.monotonic();
        *lock(&self.ages) = Ages {
            ages: found.unwrap_or_default(),
            looked: Some(now),
            written: now,
        };
        Ok(())
    }

    /// Writes the ages down, if that is worth it.
    fn keep_ages(&self, now: Duration) {
        let worth = {
            let ages = lock(&self.ages);
            let since = now.saturating_sub(ages.written);
            !ages.ages.is_empty() && since > self.config.keep_segments / 16
        };
        if worth {
            self.write_ages(now);
        }
    }

    /// Writes the ages down.
    pub(super) fn write_ages(&self, now: Duration) {
        let content = {
            let mut ages = lock(&self.ages);
            ages.written = now;
            if ages.ages.is_empty() {
                return;
            }
            ages.encode()
        };
        let offset = self.tail();
        let about = About {
            log: self.id,
            epoch: self.epoch_of(offset),
            offset,
        };
        let bytes = AGES.seal(about, &content);
        if let Err(error) = AGES.write(&*self.storage, &self.snapshots, offset, &bytes) {
            tracing::warn!(error = %chain(&error), "the ages of segments were not written down");
        }
    }
}
