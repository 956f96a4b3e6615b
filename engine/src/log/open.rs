//! Opening a log: what a crash can have left, told apart from what it cannot.
//!
//! Writes are serial (group, sync, next group), so a crash damages the last, unsynced group at most. Every frame states
//! how far the file was synced when it was written (`durable_end`):
//!
//! ```text
//! last segment:  [ frames, proven durable ][ sound frames, unproven ][ torn? ][ zeros ]
//!                                          P                         D
//! ```
//!
//! Damage at D is *corrupt* if any frame behind it proves that D was synced, else *torn*: it was never acknowledged.
//! Frames between P and D may have been acknowledged, or only sit in the page cache: they are copied into a new
//! segment and synced; the manifest then records that the old one ends at P. Torn bytes go to `quarantine/`, and what
//! is cut starts a new epoch. A log that was closed in order ends with a closing frame of which the manifest knows: it
//! leaves nothing unproven, and is written on where it ended.
//!
//! # Invariants
//! O1. Recovery writes nothing into a segment that holds acknowledged frames; it cuts the old one, at P, only after the
//!     manifest speaks of the new one.
//! O2. Until the manifest speaks of the new segment nothing has changed: recovery can be interrupted anywhere and run
//!     again.
//! O3. Nothing is changed at all where the log is corrupt.
//! O4. A segment may be missing only if all it held lies below `cold_end`, and the cold tier still holds what was handed
//!     over to it.
//! O5. What only the page cache may hold is relied on nowhere: syncing it again proves nothing, since an earlier sync may
//!     have failed and its pages count as clean. Unproven frames and the manifest are written anew; a closing frame counts
//!     if the manifest was told of its end, which happens after its sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ahead::Ahead;
use super::append_clock::AppendClock;
use super::copy::sync_names;
use super::counts::space_wanted;
use super::fold::Fold;
use super::manifest::{Contents, Epoch, Manifest, first_sequence};
use super::roll::Active;
use super::scan::{LastSegment, check_sealed, scan_last, segment_files};
use super::segment::{self, SegmentEnd};
use super::snapshot::{self, ADMISSION, About};
use super::state::State;
use super::writer::Writer;
use super::{BUDGET_UNIT, Log, Queue, Recent, Segment, Shared, Tail};
use crate::clock::Clock;
use crate::cold::ColdTier;
use crate::config::LogConfig;
use crate::error::LogError;
use crate::storage::{LockGuard, Storage, StorageFile};
use crate::threads::{Condvar, Mutex, RwLock, Semaphore, watch};
use crate::{LogId, Offset, Timestamp};

/// How much is read at a time while the state is folded.
const FOLD_BYTES: usize = 8 << 20;

/// What a log is made of beside its settings.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cold: Option<Arc<dyn ColdTier>>,
    /// The identity of a log that is created.
    pub(crate) new_log: LogId,
}

impl Log {
    /// Opens the log in a data directory, or creates it.
    pub(crate) fn open(data: &Path, config: LogConfig, parts: Parts) -> Result<Self, LogError> {
        let storage = &*parts.storage;
        let (directory, snapshots) = (data.join("log"), data.join("snapshots"));
        let create = |path: &Path| {
            storage
                .create_dir_all(path)
                .map_err(LogError::io("creating", path))
        };
        create(data)?;
        super::backup::refuse_to_open(storage, data)?;
        create(&directory)?;
        create(&snapshots)?;
        let network = storage
            .network_file_system(data)
            .map_err(LogError::io("looking at", data))?;
        if let Some(name) = network {
            return Err(LogError::NetworkFileSystem {
                path: data.to_path_buf(),
                name,
            });
        }
        let lock_path = data.join("LOCK");
        let lock = storage
            .lock(&lock_path)
            .map_err(LogError::io("locking", &lock_path))?
            .map_err(|holder| LogError::Locked {
                path: data.to_path_buf(),
                holder,
            })?;
        let manifest = open_manifest(&parts, data, &directory)?;
        let opening = Opening {
            parts,
            config,
            directory,
            snapshots,
            manifest,
        };
        opening.run(lock)
    }
}

fn open_manifest(parts: &Parts, data: &Path, directory: &Path) -> Result<Manifest, LogError> {
    let storage = &*parts.storage;
    let path = directory.join("MANIFEST");
    let held = parts.cold.as_ref().and_then(|cold| cold.log());
    if storage
        .exists(&path)
        .map_err(LogError::io("looking for", &path))?
    {
        let manifest = Manifest::open(storage, directory, true)?;
        let expected = manifest.contents.log;
        return match held {
            Some(found) if found != expected => Err(LogError::ForeignCold { found, expected }),
            _ => Ok(manifest),
        };
    }
    if let Some(stray) = segment_files(storage, directory)?.into_iter().next() {
        return Err(LogError::Foreign {
            path: stray,
            reason: "there are segments but no MANIFEST".into(),
        });
    }
    if let Some(log) = held {
        return Err(LogError::LogGone { log });
    }
    let contents = Contents {
        log: parts.new_log,
        epochs: vec![Epoch {
            number: 1,
            start: Offset::ZERO,
        }],
        segments: Vec::new(),
        cold_end: Offset::ZERO,
    };
    // Once there is a manifest, its directories are durable.
    sync_names(storage, data)?;
    let sequence = first_sequence(parts.clock.now(), 0);
    Manifest::create(storage, directory, contents, sequence)
}

/// Whether a snapshot is of this log, and of history that still is.
pub(super) fn fits(about: &About, contents: &Contents, tail: Offset) -> bool {
    let known = contents
        .epochs
        .iter()
        .any(|epoch| epoch.number == about.epoch);
    about.log == contents.log
        && known
        && about.offset <= contents.epoch_end(about.epoch).unwrap_or(tail)
}

/// An opening under way.
pub(super) struct Opening {
    pub(super) parts: Parts,
    pub(super) config: LogConfig,
    pub(super) directory: PathBuf,
    snapshots: PathBuf,
    pub(super) manifest: Manifest,
}

/// The last segment of the manifest.
enum Last {
    /// There is none: the log is new.
    New,
    Found {
        file: Arc<dyn StorageFile>,
        path: PathBuf,
        found: LastSegment,
    },
    /// Its file is gone, after the log was closed in order and the cold tier had all of it.
    Cold(SegmentEnd),
}

impl Opening {
    fn run(mut self, lock: LockGuard) -> Result<Log, LogError> {
        self.check_cold()?;
        let sealed = check_sealed(
            &*self.parts.storage,
            &self.directory,
            &mut self.manifest.contents,
        )?;
        let last = self.last()?;
        self.check_end(&last)?;
        self.manifest.renew(&*self.parts.storage, &self.directory)?;
        self.set_orphans_aside()?;
        let (first, tail) = match &last {
            Last::New => (Offset::ZERO, Offset::ZERO),
            Last::Found { found, .. } => (found.first, found.sound.offset),
            Last::Cold(end) => (end.offset, end.offset),
        };
        let window = self.config.dedupe_window;
        let snapshot = ADMISSION.read(&*self.parts.storage, &self.snapshots, |about, content| {
            if fits(about, &self.manifest.contents, tail) {
                snapshot::decode(about, content, window).ok()
            } else {
                None
            }
        });
        let snapshot = snapshot?;
        let has_snapshot = snapshot.is_some();
        let mut fold = Fold::new(snapshot.unwrap_or_else(|| State::new(window)), tail);
        self.fold_until(&mut fold, &sealed, first)?;
        let mut segments = sealed;
        let (active, clock) = match last {
            Last::New => (
                self.begin(
                    &fold.state.sources.lasting(),
                    SegmentEnd::default(),
                    Timestamp::MIN,
                    None,
                )?,
                Timestamp::MIN,
            ),
            Last::Cold(end) => {
                let clock = self.last_cold_time(end.offset)?;
                (
                    self.begin(&fold.state.sources.lasting(), end, clock, None)?,
                    clock,
                )
            }
            Last::Found { file, path, found } => {
                self.take_over(&mut fold, &mut segments, (file, path, found))?
            }
        };
        segments.push(Arc::clone(&active.segment));
        let changed = !has_snapshot || fold.has_news;
        let state = fold.finish(|fold| self.fold_until(fold, &segments, tail))?;
        self.start(lock, state, segments, active, clock, changed)
    }

    /// Whether the cold tier still holds what was handed over to it.
    fn check_cold(&self) -> Result<(), LogError> {
        let recorded = self.manifest.contents.cold_end;
        match &self.parts.cold {
            Some(cold) if cold.end() < recorded => Err(LogError::ColdLost {
                end: cold.end(),
                recorded,
            }),
            _ => Ok(()),
        }
    }

    /// Whether the log reaches as far as the cold tier: what that took over had been synced here.
    fn check_end(&self, last: &Last) -> Result<(), LogError> {
        let (path, position, offset) = match last {
            Last::New => return Ok(()),
            Last::Found { path, found, .. } => (path, found.sound.position, found.sound.offset),
            Last::Cold(end) => (&self.directory, end.position, end.offset),
        };
        match &self.parts.cold {
            Some(cold) if cold.end() > offset => Err(LogError::Corrupt {
                path: path.clone(),
                position,
                offset,
                reason: format!(
                    "events that were synced are missing; the cold tier holds those before {}",
                    cold.end()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Looks at the last segment.
    fn last(&self) -> Result<Last, LogError> {
        let contents = &self.manifest.contents;
        let Some(entry) = contents.segments.last() else {
            return Ok(Last::New);
        };
        let path = segment::path(&self.directory, entry.first_offset, entry.number);
        let storage = &self.parts.storage;
        let there = storage
            .exists(&path)
            .map_err(LogError::io("looking for", &path))?;
        if let (false, Some(end)) = (there, entry.end) {
            return Ok(Last::Cold(end));
        }
        let file = storage
            .open(&path, true)
            .map_err(LogError::io("opening", &path))?;
        let found = scan_last(&*file, &path, contents)?;
        Ok(Last::Found { file, path, found })
    }

    /// When the log took the event before an offset that only the cold tier reaches.
    fn last_cold_time(&self, end: Offset) -> Result<Timestamp, LogError> {
        let (Some(cold), Some(last)) = (&self.parts.cold, end.0.checked_sub(1)) else {
            return Ok(Timestamp::MIN);
        };
        let batches = cold.read(Offset(last), 1)?;
        Ok(batches
            .last()
            .map_or(Timestamp::MIN, |batch| batch.append_time))
    }

    /// Folds everything up to an offset that the snapshot does not have: from segments, and from the cold tier where
    /// there are none.
    fn fold_until(
        &self,
        fold: &mut Fold,
        segments: &[Arc<Segment>],
        end: Offset,
    ) -> Result<(), LogError> {
        while fold.state.next < end {
            let next = fold.state.next;
            let held =
                |segment: &&Arc<Segment>| segment.first_offset <= next && next < segment.end().0;
            match segments.iter().find(held) {
                Some(segment) => {
                    let file = self.open_file(&segment.path)?;
                    fold.segment(self.manifest.contents.log, segment, &*file, false)?;
                }
                None => {
                    let later = segments.iter().map(|segment| segment.first_offset);
                    let next = later.filter(|first| *first > next).min();
                    self.fold_cold(fold, next.map_or(end, |next| next.min(end)))?;
                }
            }
        }
        Ok(())
    }

    /// Folds the next piece of the cold tier, from where the fold stands up to where a segment begins, though a batch there
    /// may be of frames from before and behind: the cold tier does not know of calls without events, which the state and
    /// the segment do.
    fn fold_cold(&self, fold: &mut Fold, end: Offset) -> Result<(), LogError> {
        let first = fold.state.next;
        let missing = LogError::Missing { first, end };
        let cold = self
            .parts
            .cold
            .as_ref()
            .filter(|cold| cold.end() > first)
            .ok_or(missing)?;
        for batch in cold.read(first, FOLD_BYTES)? {
            if batch.first_offset >= end {
                break;
            }
            let next = fold.state.next;
            if batch.end() <= next {
                continue;
            }
            let is_within = batch.first_offset >= next && batch.end() <= end;
            let part = (!is_within).then(|| batch.between(next, batch.end().min(end)));
            if !fold.batch(part.as_ref().unwrap_or(&batch)) {
                return Err(LogError::Missing {
                    first: next,
                    end: batch.end(),
                });
            }
        }
        Ok(())
    }

    fn open_file(&self, path: &Path) -> Result<Arc<dyn StorageFile>, LogError> {
        self.parts
            .storage
            .open(path, false)
            .map_err(LogError::io("opening", path))
    }

    fn start(
        self,
        lock: LockGuard,
        state: State,
        segments: Vec<Arc<Segment>>,
        active: Active,
        clock: Timestamp,
        changed: bool,
    ) -> Result<Log, LogError> {
        let Self {
            parts,
            config,
            directory,
            snapshots,
            manifest,
        } = self;
        let tail = Tail {
            offset: state.next,
            written: 0,
            undone: 0,
            poisoned: None,
            closed: false,
        };
        // A log that is opened on a full disk says so before the first append finds out.
        let full = parts
            .storage
            .free_bytes(&directory)
            .is_ok_and(|free| free < space_wanted(&config));
        let full_since = full.then(|| parts.clock.monotonic());
        let budget = config.backlog_bytes_max.div_ceil(BUDGET_UNIT).max(1);
        let reserve = config.reserve_bytes;
        let sources = state.sources.without_calls();
        let shared = Arc::new(Shared {
            id: manifest.contents.log,
            directory: directory.clone(),
            snapshots,
            names: Arc::clone(&state.names),
            queue: Mutex::new(Queue {
                state,
                items: Default::default(),
                queued: 0,
                seals: Vec::new(),
                stopped: None,
                writer_waits: false,
                full_since,
            }),
            work: Condvar::new(),
            budget: Arc::new(Semaphore::new(budget)),
            tail: watch::Sender::new(tail),
            segments: RwLock::new(segments),
            contents: manifest.contents.clone(),
            manifest: Mutex::new(manifest),
            ages: Mutex::default(),
            pinned: Mutex::default(),
            recent: Mutex::new(Recent::default()),
            storage: Arc::clone(&parts.storage),
            clock: parts.clock,
            cold: parts.cold,
            config,
        });
        shared.find_ages()?;
        let ahead = Ahead::start(parts.storage, directory.clone(), reserve)
            .map_err(LogError::io("starting a thread for", &directory))?;
        let clock = AppendClock::new(clock);
        let writer = Writer::new(Arc::clone(&shared), active, ahead, clock, sources, changed);
        let writer = writer
            .start()
            .map_err(LogError::io("starting a thread for", &directory))?;
        Ok(Log {
            shared,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        })
    }
}
