//! `import`: files of events, and databases that others filled, into the log, once however often.
//!
//! ```text
//! read, decompress, hash ─▶ cut between events ─▶ decode ─┬▶ append in order, each piece under a name of its own
//!       a thread                       a thread           │        this process's engine, or a server's API
//! Parquet of a log ─▶ merge by offset ─▶ cut ─▶ copy ─────┤
//! Redis ─▶ events, checked and cut ─▶ disk ─▶ decode ─────┘
//! ```
//!
//! # Invariants
//! I1. A piece is in the log whole or not at all, and never twice: its origin is derived from its content (`identity`).
//! I2. Unless told to skip, a file with one bad event is not imported at all: files and databases are checked to their
//!     end before anything is appended. Stdin is checked piece by piece, because it cannot be read twice.
//! I3. Memory holds a few pieces, however large the file; of Parquet also what is decoded of each file of a stretch.
//! I4. Events keep everything they had, their time included. Rows that a log wrote and has still are not appended to it
//!     (`present`).
//!
//! # Failure
//! Killed, or cut off from the server, the import leaves what it had appended; the same command goes on after it.

mod arrow;
mod check;
mod chunk;
mod database;
mod elements;
mod history;
mod identity;
mod input;
mod lines;
mod merge;
mod pieces;
mod prepare;
mod present;
mod refusal;
mod rows;
mod send;
mod source;
mod spool;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod texts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use modelog_engine::AppendError;
use modelog_engine::event::Kind;
use modelog_formats::{OnError, Options};
use modelog_parquet::files::FileError;
use modelog_redis::Handwritten;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::exit::{Exit, Failed};
use crate::output::counted;
use crate::place::{self, Place, Reach};
use crate::progress;
use check::{CheckedHistory, CheckedInput};
use database::{CheckedDatabase, PreparingDatabase};
use input::Input;
use merge::MergeError;
use pieces::PieceError;
use prepare::{Preparing, PreparingHistory};
use refusal::{Places, Refusal};
use send::{Prepared, Sink};
pub(crate) use source::InputFormat;
use summary::Summary;

/// How many pieces are prepared ahead of the one that is being appended.
const PREPARED_AHEAD: usize = 3;

/// What to do about events that cannot be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnBadEvent {
    /// Import nothing of a file, or of a database, that has one
    #[default]
    Stop,
    /// Import the others, and record each bad one as EventRejected
    Skip,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog import events.ndjson metrics.json.gz predictions.arrow
  zcat old/*.gz | modelog import -
  modelog import /mnt/backup/parquet/               the history of a log, with its times and ids
  modelog import --url http://10.0.0.7:7070 --token-file token events.ndjson
  modelog import 'redis://db:6379/0?prefix=aidb'    a database that was filled by hand

A file is recognised by its content: importing it again, or once more after a failure, appends only what is missing.
A file that was changed is another file; of that, events with an `id` are recognised one by one.

Parquet files that a Modelog wrote are merged into the order of their log. Events without an `id` are given one made of
that log and their offset in it. Events that this very log wrote and has still are not appended again.

A Redis database that follows the key convention (docs/redis.md) is read as it is, and nothing is written to it. With TLS it
is rediss://. `?prefix=` says what its keys begin with, aidb unless told; `&id_prefix=` goes in front of numbers that become
names, those of runs and predictions. The password may come from REDISCLI_AUTH. References to what is not there, and values
that cannot be read, are bad like events that cannot be understood; skipped, they are left out, named and counted.")]
pub(crate) struct ImportArgs {
    /// Files, plain or compressed with gzip or zstd; - is stdin. Parquet files, or directories of them. Redis databases, as
    /// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?prefix=aidb]`
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// What the files are [default: what their first bytes and their names say]
    #[arg(long, value_enum)]
    format: Option<InputFormat>,
    /// The kind of events in Arrow data that does not say it in its schema as modelog.kind
    #[arg(long)]
    kind: Option<Kind>,
    /// What to do about events that cannot be understood
    #[arg(long, value_enum, default_value_t)]
    on_error: OnBadEvent,
    /// Take no fields that the kind does not have, instead of keeping them in `extra`
    #[arg(long)]
    strict: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// How to import.
#[derive(Clone, Debug)]
pub(super) struct ImportOptions {
    pub(super) format: Option<InputFormat>,
    pub(super) kind: Option<Kind>,
    pub(super) skips: bool,
    pub(super) strict: bool,
    decoding: Options,
}

/// What is imported.
#[derive(Default)]
struct Sources {
    inputs: Vec<Input>,
    databases: Vec<Handwritten>,
    histories: Vec<PathBuf>,
}

/// What is imported, checked.
struct Checked {
    inputs: Vec<CheckedInput>,
    databases: Vec<CheckedDatabase>,
    histories: Vec<CheckedHistory>,
}

/// Imports files and databases.
///
/// # Errors
/// The first file or database that could not be read or was refused; those before it are in the log.
pub(crate) async fn run(settings: &Settings, args: ImportArgs) -> Result<ExitCode> {
    let skips = args.on_error == OnBadEvent::Skip;
    let mut decoding = Options {
        strict: args.strict,
        on_error: if skips {
            OnError::Record
        } else {
            OnError::Refuse
        },
        kind: args.kind,
        ..Options::default()
    };
    decoding.limits.value_bytes = settings.http.value_bytes;
    decoding.limits.event_bytes = settings.http.event_bytes;
    decoding.limits.depth = settings.http.depth;
    let options = Arc::new(ImportOptions {
        format: args.format,
        kind: args.kind,
        skips,
        strict: args.strict,
        decoding,
    });
    let sources = sorted_out(&args.files, args.format, settings)?;
    let databases = database::look(sources.databases).await?;
    let checked = Checked {
        inputs: check::inputs(&sources.inputs, &options).await?,
        databases: database::check(databases, &options).await?,
        histories: check::histories(sources.histories).await?,
    };
    let sink = match Place::find(&args.reach, settings)? {
        Place::Server(client) => Sink::server(client).await?,
        Place::Directory => Sink::engine(place::open(settings).await?),
    };
    let outcome = import_all(checked, &sink, &options, args.json).await;
    if let Sink::Engine { engine, .. } = sink {
        let closed = engine.close().await;
        outcome?;
        closed?;
    } else {
        outcome?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what is read from its beginning to its end from databases, and from Parquet, which is read together.
fn sorted_out(
    files: &[PathBuf],
    format: Option<InputFormat>,
    settings: &Settings,
) -> Result<Sources> {
    let mut sources = Sources::default();
    for path in files {
        let url = path.to_str().filter(|text| Handwritten::is_meant(text));
        if let Some(url) = url {
            sources.databases.push(database::at(url, &settings.redis)?);
            continue;
        }
        let input = Input::new(path);
        let parquet = match (&input, format) {
            (Input::Stdin, _) => false,
            (Input::File(_), Some(format)) => format == InputFormat::Parquet,
            (Input::File(path), None) => history::is_history(path)
                .with_context(|| format!("{} cannot be read", path.display()))?,
        };
        if parquet {
            sources.histories.push(path.clone());
        } else {
            sources.inputs.push(input);
        }
    }
    let stdin = sources
        .inputs
        .iter()
        .filter(|input| **input == Input::Stdin);
    if stdin.count() > 1 {
        return Err(Failed::usage("stdin can be read only once"));
    }
    Ok(sources)
}

async fn import_all(
    checked: Checked,
    sink: &Sink,
    options: &Arc<ImportOptions>,
    json: bool,
) -> Result<()> {
    database::refuse_own(&checked.databases, sink).await?;
    let mut summary = Summary::default();
    let imported = import_each(checked, sink, options, &mut summary).await;
    summary.print(json)?;
    imported
}

async fn import_each(
    checked: Checked,
    sink: &Sink,
    options: &Arc<ImportOptions>,
    summary: &mut Summary,
) -> Result<()> {
    let Checked {
        inputs,
        databases,
        histories,
    } = checked;
    for checked in inputs {
        let name = checked.input.name();
        let line = summary.begin(name.clone());
        let preparing = Preparing::new(checked, Arc::clone(options), sink.decodes());
        let bar = preparing.bar();
        let imported = deliver(move |to| preparing.run(to), sink, options, line).await;
        bar.finish_and_clear();
        tell(&name, &line.rejected_at);
        imported.map_err(|refusal| failure(&name, refusal))?;
    }
    for CheckedDatabase {
        name,
        report,
        spooled,
        ..
    } in databases
    {
        let line = summary.begin(name.clone());
        line.report(&report);
        let bar = progress::events(spooled.events, &format!("importing {name}"));
        let options = Arc::clone(options);
        let preparing =
            PreparingDatabase::new(spooled, Arc::clone(&options), sink.decodes(), bar.clone());
        let imported = deliver(move |to| preparing.run(to), sink, &options, line).await;
        bar.finish_and_clear();
        tell(&name, &line.rejected_at);
        imported.map_err(|refusal| failure(&name, refusal))?;
    }
    if histories.is_empty() {
        return Ok(());
    }
    let target = sink.target().await?;
    for checked in histories {
        let name = checked.history.name.clone();
        let line = summary.begin(name.clone());
        let bar = progress::events(checked.history.rows, &format!("importing {name}"));
        let mut imported = Ok(());
        for preparing in PreparingHistory::stretches(checked, &target, sink.decodes(), &bar) {
            imported = deliver(move |to| preparing.run(to), sink, options, line).await;
            if imported.is_err() {
                break;
            }
        }
        bar.finish_and_clear();
        imported.map_err(|refusal| failure(&name, refusal))?;
    }
    Ok(())
}

/// Where a preparation puts its pieces.
struct Outlet {
    sender: mpsc::Sender<Result<Prepared, Refusal>>,
    /// Pieces below this are in the log, and need not be decoded.
    known_below: Arc<AtomicU64>,
}

/// Sends the pieces that are prepared on another thread.
async fn deliver(
    prepare: impl FnOnce(&Outlet) + Send + 'static,
    sink: &Sink,
    options: &ImportOptions,
    summary: &mut summary::Line,
) -> Result<(), Refusal> {
    let known_below = Arc::new(AtomicU64::new(0));
    let (sender, mut prepared) = mpsc::channel(PREPARED_AHEAD);
    let outlet = Outlet {
        sender,
        known_below: Arc::clone(&known_below),
    };
    let preparation = tokio::task::spawn_blocking(move || prepare(&outlet));
    let mut outcome = Ok(());
    while let Some(piece) = prepared.recv().await {
        outcome = match piece {
            Ok(piece) => pass_on(piece, sink, options, &known_below, summary).await,
            Err(refusal) => Err(refusal),
        };
        if outcome.is_err() {
            break;
        }
    }
    // Whoever prepares notices that nobody listens.
    drop(prepared);
    if let Err(panic) = preparation.await {
        std::panic::resume_unwind(panic.into_panic());
    }
    outcome
}

/// Sends a piece, unless the log is known to have it.
async fn pass_on(
    piece: Prepared,
    sink: &Sink,
    options: &ImportOptions,
    known_below: &AtomicU64,
    summary: &mut summary::Line,
) -> Result<(), Refusal> {
    let (events, beside) = (piece.chunk.events, piece.beside);
    summary.add_known(beside.known);
    summary.left_out += beside.left_out;
    if events == 0 {
        return Ok(());
    }
    if piece.chunk.index < known_below.load(Ordering::Relaxed) {
        summary.add_known(events);
        return Ok(());
    }
    let rejected = piece
        .decoded
        .as_ref()
        .map(|decoded| Places::of_rejected(&decoded.rejected, &piece.chunk));
    let sent = sink.send(piece, options).await?;
    if let Some(through) = sent.through {
        known_below.fetch_max(through + 1, Ordering::Relaxed);
    } else if let Some(rejected) = rejected {
        summary.rejected_at.add(rejected);
    }
    summary.add(sent.with_records(beside.records));
    Ok(())
}

/// Tells the places to whoever has to mend them.
fn tell(name: &str, places: &Places) {
    for place in &places.told {
        eprintln!("{name}{place}");
    }
    let untold = places.total.saturating_sub(places.told.len() as u64);
    if untold > 0 {
        eprintln!("{name}: and {untold} more");
    }
}

/// What ended an import.
fn failure(name: &str, refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Cut(error) => Failed::caused(error.exit(), error),
        Refusal::History(error) => {
            let exit = match &error {
                PieceError::Merge(MergeError::File(FileError::Io { .. })) => Exit::Io,
                _ => Exit::BadData,
            };
            Failed::caused(exit, error).context(format!("importing {name}"))
        }
        Refusal::Reading(error) => {
            anyhow::Error::new(error).context("what the log has already cannot be looked up")
        }
        Refusal::Spool(error) => anyhow::Error::new(error).context(format!(
            "what was read of {name} cannot be read back from disk"
        )),
        Refusal::Changed => Failed::bad_data(format!(
            "{name} was changed while it was imported; what was read is in the log, and importing the file again takes \
             it for another one"
        )),
        Refusal::Events(places) => {
            tell(name, &places);
            Failed::bad_data(format!(
                "{} of {name} cannot be understood, and nothing from there on was imported",
                counted(places.total, "event")
            ))
        }
        Refusal::Log { place, source } => of_log(name, &place, source),
        Refusal::Server(error) => anyhow::Error::new(error).context(format!("importing {name}")),
    }
}

fn of_log(name: &str, place: &str, source: AppendError) -> anyhow::Error {
    let remedy = match &source {
        AppendError::OutcomeUnknown { .. }
        | AppendError::DiskFull
        | AppendError::Poisoned { .. } => {
            "; the same command goes on from there once this is mended"
        }
        _ => "; what comes before it is in the log",
    };
    anyhow::Error::new(source).context(format!("{name}{place}not appended{remedy}"))
}
