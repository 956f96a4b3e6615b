//! Rows about history: the log into Parquet files, and back out of them.
//!
//! All of them start from one log of the corpus, taken in as over HTTP and closed. What changes it works on a copy.

mod backup;
mod compaction;
mod counting;
mod memory;
mod readers;
mod replay;
mod size;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use modelog_engine::{Config, Engine, Foundations, LocalStorage, ProjectionHandle, Storage};
use modelog_formats::Format;
use modelog_parquet::{ParquetConfig, ParquetStore, layout};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::corpus::{self, Body, Naming};
use crate::inprocess::{JSON_EVENTS, drive, new_directory, runtime};
use crate::report::Report;
use crate::{Options, Size};

pub(crate) use readers::Python;

/// Measures everything about history; what readers of others say only if there is one to ask.
pub(crate) fn measure(
    options: &Options,
    size: Size,
    python: Option<&Python>,
    progress: &mut dyn FnMut(&str),
    report: &mut Report,
) -> Result<()> {
    progress("a log to be compacted");
    let log = History::take_in(options, size.events)?;
    report
        .rows
        .extend(compaction::measure(options, size, &log, progress)?);
    progress("a log that is compacted");
    let parquet = log.compacted(options)?;
    report.rows.extend(size::measure(&log, &parquet)?);
    report
        .rows
        .extend(replay::measure(options, size, &log, &parquet, progress)?);
    report
        .rows
        .extend(backup::measure(options, &log, progress)?);
    drop(log);
    let memory = memory::measure(options, size, &parquet, progress)?;
    report.rows.push(memory);
    drop(parquet);
    if let Some(python) = python {
        report
            .rows
            .extend(readers::measure(options, python, progress)?);
    }
    Ok(())
}

/// How many events of a log are put together at a time.
const STRETCH_EVENTS: usize = 200_000;

/// A data directory that nobody has open; removed when it is dropped.
pub(crate) struct History {
    directory: TempDir,
    pub(crate) events: usize,
    /// The events as they were sent; nothing in a compacted one.
    bodies: Arc<Vec<Body>>,
}

impl History {
    /// A new log of the corpus, all of it in segments.
    pub(crate) fn take_in(options: &Options, events: usize) -> Result<Self> {
        let bodies = Arc::new(corpus::ndjson(Naming::PredictionId, 4, events, JSON_EVENTS));
        let directory = new_directory(&options.directory)?;
        let engine = Engine::open(directory.path())?;
        drive(&runtime()?, &engine, &bodies, Format::Ndjson)?;
        engine.close_blocking()?;
        Ok(Self {
            directory,
            events,
            bodies,
        })
    }

    /// Takes in predictions of one version of each model, of which there may be more than memory holds.
    pub(crate) fn take_in_single_versions(options: &Options, events: usize) -> Result<Self> {
        let [kept, other] = corpus::VERSIONS;
        let directory = new_directory(&options.directory)?;
        let engine = Engine::open(directory.path())?;
        let runtime = runtime()?;
        for (stretch, first) in (0..events).step_by(STRETCH_EVENTS).enumerate() {
            let count = STRETCH_EVENTS.min(events - first);
            let seed = 1_000 + stretch as u64;
            let mut bodies = corpus::ndjson(Naming::PredictionId, seed, count, JSON_EVENTS);
            for body in &mut bodies {
                let text = std::str::from_utf8(&body.bytes)?;
                body.bytes = text.replace(other, kept).into();
            }
            drive(&runtime, &engine, &Arc::new(bodies), Format::Ndjson)?;
        }
        engine.close_blocking()?;
        Ok(Self {
            directory,
            events,
            bodies: Arc::default(),
        })
    }

    /// A copy, to be changed.
    pub(crate) fn copy(&self, options: &Options) -> Result<TempDir> {
        let copy = new_directory(&options.directory)?;
        copy_tree(self.directory.path(), copy.path())?;
        Ok(copy)
    }

    /// The same, with the events as they were sent forgotten.
    pub(crate) fn without_bodies(mut self) -> Self {
        self.bodies = Arc::default();
        self
    }

    /// The same in Parquet only: its segments are gone.
    fn compacted(&self, options: &Options) -> Result<Self> {
        let directory = self.copy(options)?;
        let settings = Settings {
            keep_segments: Duration::ZERO,
            ..Settings::default()
        };
        let opened = Opened::on(directory.path(), &settings)?;
        let compactor = opened.start_compactor();
        opened.compact(&compactor)?;
        opened.engine.seal()?;
        opened.engine.cold().retire()?;
        opened.close()?;
        let segments = modelog_engine::inspect::segments(directory.path())?;
        let kept = segments.iter().any(|segment| {
            segment
                .end_offset
                .is_some_and(|end| end > segment.first_offset)
        });
        ensure!(!kept, "there are segments that Parquet holds: {segments:?}");
        Ok(Self {
            directory,
            events: self.events,
            bodies: Arc::default(),
        })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The files of predictions, if it is compacted.
    fn prediction_files(&self) -> Result<Vec<PathBuf>> {
        let parquet = self.path().join("parquet");
        let mut files = files_below(&parquet)?;
        files.retain(|path| {
            let path = path.strip_prefix(&parquet).unwrap_or(path);
            let kind = layout::FileName::parse(path).map(|name| name.kind);
            kind == Some(PREDICTIONS)
        });
        Ok(files)
    }
}

/// What the corpus consists of.
const PREDICTIONS: layout::FileKind =
    layout::FileKind::Events(modelog_engine::event::Kind::PredictionLogged);

/// How long a projection may take; far more than any needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);

/// How a data directory is opened.
pub(crate) struct Settings {
    storage: Arc<dyn Storage>,
    keep_segments: Duration,
    target_file_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            storage: Arc::new(LocalStorage),
            keep_segments: modelog_engine::LogConfig::default().keep_segments,
            target_file_bytes: ParquetConfig::default().target_file_bytes,
        }
    }
}

/// A data directory in use, as `modelog serve` has it.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    parquet: ParquetStore,
    pub(crate) runtime: Runtime,
}

impl Opened {
    pub(crate) fn on(data: &Path, settings: &Settings) -> Result<Self> {
        let storage = Arc::clone(&settings.storage);
        let foundations = Foundations::default();
        Self::on_foundations(
            data,
            settings,
            Foundations {
                storage,
                ..foundations
            },
        )
    }

    fn on_foundations(data: &Path, settings: &Settings, on: Foundations) -> Result<Self> {
        let parquet = ParquetConfig {
            path: data.join("parquet"),
            target_file_bytes: settings.target_file_bytes,
            ..ParquetConfig::default()
        };
        let parquet = ParquetStore::open(parquet, Arc::clone(&on.storage), Arc::clone(&on.clock))?;
        let on = Foundations {
            cold: Some(parquet.cold()),
            ..on
        };
        let mut config = Config::new(data);
        config.log.keep_segments = settings.keep_segments;
        Ok(Self {
            engine: Engine::open_on(config, on)?,
            parquet,
            runtime: runtime()?,
        })
    }

    pub(crate) fn start_compactor(&self) -> ProjectionHandle {
        let _inside = self.runtime.enter();
        let compactor = self.parquet.projection(self.engine.cold());
        self.engine.project(Box::new(compactor))
    }

    /// Waits until everything is in finished files.
    pub(crate) fn compact(&self, compactor: &ProjectionHandle) -> Result<()> {
        let tail = self.engine.tail();
        let end = self.runtime.block_on(async {
            compactor.wait_for(tail, PATIENCE).await?;
            anyhow::Ok(self.parquet.flush().await?)
        })?;
        ensure!(end == tail, "{end} of {tail} events are in Parquet");
        Ok(())
    }

    pub(crate) fn close(self) -> Result<()> {
        self.engine.close_blocking()?;
        Ok(())
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy_or_link_tree(from, to, &[])
}

/// Copies a data directory, which may be in use; some of its files, which nobody writes to, are linked. A file that gets
/// another name meanwhile, as snapshots do when they are whole, is not in the copy: a crash would not have left it either.
pub(crate) fn copy_or_link_tree(from: &Path, to: &Path, linked: &[PathBuf]) -> Result<()> {
    for file in files_below(from)? {
        let copy = to.join(file.strip_prefix(from)?);
        if let Some(parent) = copy.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let done = if linked.contains(&file) {
            std::fs::hard_link(&file, &copy)
        } else {
            std::fs::copy(&file, &copy).map(drop)
        };
        match done {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.with_context(|| format!("copying {}", file.display()))?,
        }
    }
    Ok(())
}

pub(crate) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let found =
        std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    for entry in found {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// How many bytes the files of a directory have.
fn bytes_below(directory: &Path) -> Result<u64> {
    let lengths = files_below(directory)?
        .into_iter()
        .map(|file| Ok(file.metadata()?.len()));
    lengths.sum()
}

#[cfg(test)]
mod tests;
