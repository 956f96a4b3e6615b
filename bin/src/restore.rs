//! `restore`: a data directory made of a backup, or of another data directory, as of any moment.
//!
//! ```text
//! source: a backup, a directory of them, a data directory ─▶ which offset is meant ─▶ Parquet, cut ─▶ log, cut ─▶ done
//! ```
//!
//! # Failure
//! What was made so far is removed: the directory is as it was before. Where that cannot be done either, because the
//! process was killed, a marker keeps the directory from being opened, and a restore begins anew.
//!
//! A data directory in use changes while it is read: segments go once Parquet has them. What is found missing is looked
//! for again, in the Parquet files of then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use modelog_engine::backup::{MARK, generations, is_generation_name};
use modelog_engine::inspect::SegmentReader;
use modelog_engine::restore::{Restore, Restored};
use modelog_engine::{Clock, Foundations, LogError, Offset, Storage, Timestamp};
use modelog_parquet::layout::MANIFEST;
use modelog_parquet::manifest::Manifest;
use modelog_parquet::{ParquetConfig, ParquetError, ParquetStore, cut};
use serde::Serialize;

use crate::backup::real_path;
use crate::config::{Settings, within};
use crate::exit::{Exit, Failed};
use crate::filter::Until;
use crate::output::{self, Shape};
use crate::place::RESTORING;
use crate::progress;

/// Where a directory has its Parquet files.
const PARQUET: &str = "parquet";
/// How often a source that changes meanwhile is read.
const ATTEMPTS: u32 = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
SRC is a backup, a directory of backups (the newest is taken), a data directory, also one that is being served, or a
directory that has nothing but `parquet/` left. It is only read. --data names the directory to make: one that is not
there, or empty.

Everything that is read from the new directory is as of then: --until names an offset (events before it), or a time
(events that had arrived by then). Without it, all events are restored.

Examples:
  modelog restore /mnt/backups/modelog --data modelog-data
  modelog restore modelog-data --data yesterday --until 24h
  modelog restore modelog-data --data then --until 2026-11-22T17:00:00Z")]
pub(crate) struct RestoreArgs {
    /// What to restore
    #[arg(value_name = "SRC", value_hint = clap::ValueHint::DirPath)]
    source: PathBuf,
    /// Only what the log held at this length, or at this time: 41000, 2026-11-22T17:00:00Z, or 24h for a day ago
    #[arg(long, value_name = "OFFSET|TIME")]
    until: Option<Until>,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Told {
    /// The backup or directory it was made of.
    source: PathBuf,
    data: PathBuf,
    log: String,
    /// It holds all events before this offset.
    offset: Offset,
    /// The stretch of history that begins there.
    epoch: u32,
}

/// What a restore reads and writes with.
#[derive(Debug)]
struct Job {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    source: PathBuf,
    data: PathBuf,
    /// The Parquet files of the new directory.
    parquet: ParquetConfig,
    until: Option<Until>,
}

/// Makes the directory.
///
/// # Errors
/// If the source is none, is damaged, or ends before the moment asked for; if the directory holds something already, or
/// cannot be written.
pub(crate) async fn run(settings: &Settings, args: &RestoreArgs) -> Result<()> {
    let Foundations { storage, clock, .. } = Foundations::default();
    let job = Job {
        source: find(&*storage, &args.source)?,
        data: settings.data.clone(),
        parquet: settings.parquet.clone(),
        until: args.until,
        storage,
        clock,
    };
    job.check_target()?;
    let told = (job.source.clone(), job.data.clone());
    let spinner = progress::spinner(&format!("restoring {}", job.source.display()));
    let restored = tokio::task::spawn_blocking(move || job.run()).await;
    spinner.finish_and_clear();
    let restored = restored??;
    let (source, data) = told;
    tell(
        &Told {
            source,
            data,
            log: restored.log.to_string(),
            offset: restored.end,
            epoch: restored.epoch,
        },
        args.format,
    )
}

fn tell(told: &Told, format: Shape) -> Result<()> {
    match format {
        Shape::Table => output::line(&format!(
            "{data}\n  all events before offset {offset} of {source}, checked\n  epoch {epoch}: stores that followed \
             the log beyond that are told apart, and rebuilt\n  next: modelog serve --data {data}",
            data = told.data.display(),
            source = told.source.display(),
            offset = told.offset,
            epoch = told.epoch,
        ))?,
        Shape::Json => output::json(told)?,
        Shape::Ndjson => output::ndjson([told])?,
    }
    Ok(())
}

/// The directory that is meant by a source: itself, or the newest backup in it.
fn find(storage: &dyn Storage, source: &Path) -> Result<PathBuf> {
    let looked = || format!("{} cannot be looked at", source.display());
    let metadata = source.metadata().with_context(looked)?;
    let is_there = |name: &str| storage.exists(&source.join(name)).with_context(looked);
    if metadata.is_dir() {
        let parquet = format!("{PARQUET}/{MANIFEST}");
        if is_there(MARK)? || is_there("log/MANIFEST")? || is_there(&parquet)? {
            check_whole(storage, source)?;
            return Ok(source.to_owned());
        }
        if let Some(newest) = generations(storage, source)?.into_iter().next() {
            return Ok(newest.path);
        }
    }
    Err(Failed::bad_data(format!(
        "{} is nothing to restore from: name what `modelog backup` made ({MARK} is in it), the directory of such backups, \
         a data directory, or a directory with the `{PARQUET}` of one",
        source.display()
    )))
}

/// Refuses what looks like a directory of a log and is not whole.
fn check_whole(storage: &dyn Storage, source: &Path) -> Result<()> {
    if storage.exists(&source.join(RESTORING))? {
        return Err(LogError::Restoring {
            path: source.to_owned(),
        }
        .into());
    }
    let name = source.file_name().and_then(|name| name.to_str());
    if name.is_some_and(is_generation_name) && !storage.exists(&source.join(MARK))? {
        return Err(Failed::bad_data(format!(
            "{} is a backup that was not finished, without {MARK}: name another one, or the directory of all of them",
            source.display()
        )));
    }
    Ok(())
}

impl Job {
    /// Refuses to restore into the source, and Parquet into a directory that has some.
    fn check_target(&self) -> Result<()> {
        let (source, data) = (&self.source, &self.data);
        let (real, target) = (real_path(source), real_path(data));
        if within(&target, &real) || within(&real, &target) {
            return Err(Failed::usage(format!(
                "{} and {} are one in the other: name another directory with --data",
                source.display(),
                data.display()
            )));
        }
        if data.exists() && !data.is_dir() {
            return Err(Failed::usage(format!(
                "{} is no directory: name another one with --data",
                data.display()
            )));
        }
        let parquet = &self.parquet.path;
        let taken = |path: &Path| {
            path.read_dir()
                .is_ok_and(|mut found| found.next().is_some())
        };
        if !within(parquet, data) && taken(parquet) {
            return Err(Failed::usage(format!(
                "{}, where `parquet.path` says that Parquet files belong, is not empty: set it to a path below the \
                 data directory for this one, or move what is there away",
                parquet.display()
            )));
        }
        Ok(())
    }

    fn run(&self) -> Result<Restored> {
        let mut attempt = 1;
        loop {
            match self.attempt() {
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => attempt += 1,
                Err(error) if is_passing(&error) => {
                    return Err(error.context(Failed::new(Exit::BadData, self.not_whole())));
                }
                outcome => return outcome,
            }
        }
    }

    fn not_whole(&self) -> String {
        let source = self.source.display();
        let parquet = self.source.join(PARQUET);
        if parquet.exists() {
            return format!("{source} is not whole");
        }
        format!(
            "{source} is not whole, or has its Parquet files elsewhere than in {}, as `parquet.path` can say: then make \
             a backup of it, and restore that",
            parquet.display()
        )
    }

    fn attempt(&self) -> Result<Restored> {
        let until = self.end()?;
        let existed = self.data.try_exists()?;
        let begun = Restore::begin(
            Arc::clone(&self.storage),
            Arc::clone(&self.clock),
            &self.data,
        );
        let restore = match begun {
            Err(error @ LogError::NotEmpty { .. }) => {
                let usage = Failed::new(Exit::Usage, "choose another directory with --data");
                return Err(anyhow::Error::new(error).context(usage));
            }
            begun => begun?,
        };
        let outcome = self.make(&restore, until);
        match outcome {
            Ok(restored) => {
                restore.finish()?;
                Ok(restored)
            }
            Err(error) => {
                drop(restore);
                self.undo(existed);
                Err(error)
            }
        }
    }

    /// Parquet first: the log begins where it ends.
    fn make(&self, restore: &Restore, until: Option<Offset>) -> Result<Restored> {
        let from = self.source.join(PARQUET);
        let cold = match self.history()? {
            None => None,
            Some(_) => {
                let until = until.unwrap_or(Offset(u64::MAX));
                cut::cut(&from, &self.parquet.path, until, &self.storage)?;
                let store = ParquetStore::open(
                    self.parquet.clone(),
                    Arc::clone(&self.storage),
                    Arc::clone(&self.clock),
                )?;
                Some(store.cold())
            }
        };
        let restored = restore.log(&self.source, cold.as_deref(), until)?;
        if let Some(mut history) = Manifest::load(&*self.storage, &self.parquet.path)? {
            // The log may not know the epochs of a source that has no log: its history is what was restored, all of it.
            history.epoch = restored.epoch;
            history.store(&*self.storage, &self.parquet.path)?;
        }
        Ok(restored)
    }

    /// What the source has in Parquet.
    fn history(&self) -> Result<Option<Manifest>, ParquetError> {
        Manifest::load(&*self.storage, &self.source.join(PARQUET))
    }

    /// What the source has in segments.
    fn segments(&self) -> Result<Option<SegmentReader>> {
        let there = self.storage.exists(&self.source.join("log/MANIFEST"))?;
        let open = || SegmentReader::open(Arc::clone(&self.storage), &self.source);
        Ok(there.then(open).transpose()?)
    }

    /// The offset that is meant, if one is; the source reaches as far.
    fn end(&self) -> Result<Option<Offset>> {
        let Some(until) = self.until else {
            return Ok(None);
        };
        let history = self.history()?;
        let segments = self.segments()?;
        let cold_end = history.map_or(Offset::ZERO, |history| history.cold_end);
        let tail = segments.as_ref().map_or(cold_end, SegmentReader::end);
        match until {
            Until::Offset(requested) if requested > tail => {
                Err(LogError::BeyondTail { requested, tail }.into())
            }
            Until::Offset(offset) => Ok(Some(offset)),
            Until::Time(time) => {
                let held = segments
                    .map(|segments| segments.offset_at(time))
                    .transpose()?;
                match held.flatten() {
                    Some(offset) => Ok(Some(offset)),
                    None => Ok(Some(self.history_at(time)?.min(tail))),
                }
            }
        }
    }

    /// The offset after the last event that Parquet had at a time.
    fn history_at(&self, time: Timestamp) -> Result<Offset, ParquetError> {
        cut::offset_at(&self.source.join(PARQUET), time, &self.storage)
    }

    /// Removes what was made, the marker last. Whatever stays is told by the marker.
    fn undo(&self, existed: bool) {
        let marker = self.data.join(RESTORING);
        let remove = || -> std::io::Result<()> {
            for entry in std::fs::read_dir(&self.data)? {
                let path = entry?.path();
                if path == marker {
                    continue;
                }
                if path.is_dir() {
                    std::fs::remove_dir_all(path)?;
                } else {
                    std::fs::remove_file(path)?;
                }
            }
            if !within(&self.parquet.path, &self.data) && self.parquet.path.exists() {
                std::fs::remove_dir_all(&self.parquet.path)?;
            }
            std::fs::remove_file(&marker)?;
            if !existed {
                std::fs::remove_dir(&self.data)?;
            }
            Ok(())
        };
        if let Err(error) = remove() {
            tracing::warn!(%error, data = %self.data.display(), "what was restored so far is still there");
        }
    }
}

/// Whether the source may have changed while it was read.
fn is_passing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = match cause.downcast_ref() {
            Some(LogError::Missing { .. }) => return true,
            Some(LogError::Io { source, .. }) => source,
            _ => return false,
        };
        // A segment that ends meanwhile is cut to its length.
        matches!(
            io.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_restored_into_its_source() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&source, &link).unwrap();
        let Foundations { storage, clock, .. } = Foundations::default();
        let mut job = Job {
            storage,
            clock,
            source,
            data: PathBuf::new(),
            parquet: ParquetConfig::default(),
            until: None,
        };
        for (data, refused) in [
            (job.source.join("below"), true),
            (link.clone(), true),
            (link.join("below"), true),
            (place.path().to_owned(), true),
            (place.path().join("beside"), false),
        ] {
            job.parquet.path = data.join("parquet");
            job.data = data;
            assert_eq!(
                job.check_target().is_err(),
                refused,
                "{}",
                job.data.display()
            );
        }
    }
}
