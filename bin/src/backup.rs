//! `backup`: all events so far in another place, through the server that holds the data directory, or from the directory
//! itself. What a backup is made of is the engine's business; here is where it may lie, and who makes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use modelog_engine::backup::{BackupReport, generations};
use modelog_engine::{LocalStorage, LogError, Timestamp};
use modelog_http::BackedUp;
use reqwest::Method;
use serde_json::json;

use crate::client::{Client, ServerError};
use crate::config::{OUTSIDE_OF_DATA, Settings, within};
use crate::exit::{Exit, Failed};
use crate::output::{self, Shape, counted};
use crate::place::{self, Opened, Place, Reach};
use crate::progress;

/// The code of a problem that says that a place is none for backups.
const BAD_DESTINATION: &str = "bad_destination";
/// The code of a problem that says that a backup could not be written.
const BACKUP_FAILED: &str = "backup_failed";
/// The code of a problem that says that another one is being made.
const BUSY: &str = "busy";
/// The file by which backups keep each other out of their directory.
const LOCK: &str = ".lock";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each backup is a directory of its own in DEST, complete in itself. What has not changed since the one before is shared
with it, and with the data where both are on one file system: a backup takes hardly any space and time then, but does
not outlive the disk. `modelog restore DEST --data DIR` makes a data directory of the newest.

Examples:
  modelog backup /mnt/backups/modelog
  modelog backup /mnt/backups/modelog --keep 7

A server makes backups by itself where the configuration says so: see [backup].")]
pub(crate) struct BackupArgs {
    /// The directory of the backups; it is created if it is not there
    #[arg(value_name = "DEST", value_hint = clap::ValueHint::DirPath)]
    dest: PathBuf,
    /// How many backups to keep there, the newest; all, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The place cannot be used.
    #[error("{}: {reason}", path.display())]
    Destination { path: PathBuf, reason: String },
    #[error("the backup was not made")]
    Failed(#[source] LogError),
    /// The thread that made it is gone.
    #[error("the backup was broken off")]
    BrokenOff,
}

impl BackupError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Destination { .. } => Exit::Usage,
            // Another process makes a backup there.
            Self::Failed(LogError::Locked { .. }) => Exit::Unavailable,
            Self::Failed(_) | Self::BrokenOff => Exit::Io,
        }
    }
}

/// A backup to be made.
#[derive(Clone, Debug)]
pub(crate) struct BackupTask {
    pub(crate) opened: Opened,
    pub(crate) data: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) keep: Option<u32>,
}

impl BackupTask {
    /// Makes it, on a thread of its own: it may take hours, and the runtime's threads are for short work. `progress` is
    /// told how many files are done, of how many.
    ///
    /// # Errors
    /// [`BackupError`]; earlier backups are as they were.
    pub(crate) async fn run(
        self,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<BackedUp, BackupError> {
        let (sender, made) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(self.make(progress));
        });
        made.await.unwrap_or(Err(BackupError::BrokenOff))
    }

    fn make(self, mut progress: impl FnMut(u64, u64)) -> Result<BackedUp, BackupError> {
        let Opened { engine, parquet } = &self.opened;
        check_place(&self.to, &[&self.data, parquet.path()])?;
        let keep = self.keep.map(|keep| keep as usize);
        let report = engine.backup(&self.to, keep, &mut progress);
        report.map(told).map_err(|error| match error {
            LogError::Foreign { path, reason } => BackupError::Destination { path, reason },
            error => BackupError::Failed(error),
        })
    }
}

/// What the engine says, as it is told.
fn told(report: BackupReport) -> BackedUp {
    let generation = &report.generation;
    BackedUp {
        path: report.path.display().to_string(),
        offset: generation.offset,
        new_files: report.new_files,
        new_bytes: report.new_bytes,
        reused_files: generation.files.saturating_sub(report.new_files),
        reused_bytes: generation.bytes.saturating_sub(report.new_bytes),
        removed: report
            .removed
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    }
}

/// Refuses a place in which backups would get lost among other things, or be lost with what they are backups of.
fn check_place(to: &Path, apart: &[&Path]) -> Result<(), BackupError> {
    let refuse = |reason: String| {
        Err(BackupError::Destination {
            path: to.to_owned(),
            reason,
        })
    };
    let real = real_path(to);
    for place in apart {
        let place = real_path(place);
        if within(&real, &place) || within(&place, &real) {
            return refuse(format!("backups {OUTSIDE_OF_DATA}"));
        }
    }
    let found = match std::fs::read_dir(to) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return refuse(format!("it is no directory that can be read: {error}")),
    };
    let names: Vec<_> = found
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    if names.is_empty() || names.iter().any(|name| name == LOCK) {
        return Ok(());
    }
    refuse("it holds other things: name a directory of its own, such as a new one in it".into())
}

/// A path with all links in it resolved, as far as it is there.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut there = path.as_path();
    loop {
        if let Ok(real) = there.canonicalize() {
            return missing
                .iter()
                .rev()
                .fold(real, |path, name| path.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                there = parent;
            }
            // Ends in `..`, or nothing of it is there.
            _ => return path,
        }
    }
}

/// When the newest backup in a directory was made; none if there is none, or it cannot be read.
pub(crate) fn newest(directory: &Path) -> Option<Timestamp> {
    let found = generations(&LocalStorage, directory).ok()?;
    let times = found.iter().map(|found| found.generation.time);
    times.max().map(Timestamp::from_micros)
}

/// Makes a backup and says what it is.
///
/// # Errors
/// If the server does not make it, or the directory cannot be opened or the backup not be written.
pub(crate) async fn run(settings: &Settings, args: &BackupArgs) -> Result<()> {
    let to = std::path::absolute(&args.dest)
        .with_context(|| format!("{} is no path", args.dest.display()))?;
    let made = match Place::find(&Reach::default(), settings)? {
        Place::Server(client) => there(client, &to, args.keep).await?,
        Place::Directory => here(settings, to, args.keep).await?,
    };
    match args.format {
        Shape::Table => table(&made)?,
        Shape::Json => output::json(&made)?,
        Shape::Ndjson => output::ndjson([&made])?,
    }
    Ok(())
}

fn table(made: &BackedUp) -> Result<()> {
    let files =
        |files: u64, bytes: u64| format!("{}, {}", counted(files, "file"), HumanBytes(bytes));
    output::line(&format!(
        "{}\n  all events before offset {}\n  new       {}\n  as before {}",
        made.path,
        made.offset,
        files(made.new_files, made.new_bytes),
        files(made.reused_files, made.reused_bytes),
    ))?;
    for removed in &made.removed {
        output::line(&format!("  removed   {removed}"))?;
    }
    Ok(())
}

/// By the server that holds the directory.
async fn there(client: Client, to: &Path, keep: Option<u32>) -> Result<BackedUp> {
    let client = client.patient()?;
    let asked = json!({"path": to, "keep": keep});
    let spinner = progress::spinner("backing up");
    let answer = client
        .send(client.request(Method::POST, "/v1/backups").json(&asked))
        .await;
    spinner.finish_and_clear();
    Ok(client.parse(answer.map_err(refused)?).await?)
}

/// A refusal ends the program as it would without a server in between.
fn refused(error: ServerError) -> anyhow::Error {
    let code = error.problem().map(|problem| problem.code.as_str());
    match code {
        Some(BAD_DESTINATION) => Failed::caused(Exit::Usage, error),
        Some(BACKUP_FAILED) => Failed::caused(Exit::Io, error),
        Some(BUSY) => Failed::caused(Exit::Unavailable, error),
        _ => error.into(),
    }
}

/// From the directory itself, which is closed whatever came of it.
async fn here(settings: &Settings, to: PathBuf, keep: Option<u32>) -> Result<BackedUp> {
    place::must_exist(&settings.data)?;
    let opened = place::open_whole(settings).await?;
    let engine = opened.engine.clone();
    let task = BackupTask {
        opened,
        data: settings.data.clone(),
        to,
        keep,
    };
    let bar = progress::files("backing up");
    let shown = bar.clone();
    let made = task.run(move |done, of| {
        shown.set_length(of);
        shown.set_position(done);
    });
    let made = made.await;
    bar.finish_and_clear();
    let closed = engine.close().await;
    let made = made.map_err(|error| {
        let exit = error.exit();
        Failed::caused(exit, error)
    })?;
    closed?;
    Ok(made)
}
