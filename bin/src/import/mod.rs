//! `import`: files of events into the log, once however often.
//!
//! ```text
//! read, decompress, hash ─▶ cut between events ─▶ decode ─▶ append in order, each piece under a name of its own
//!       a thread                       a thread              this process's engine, or a server's API
//! ```
//!
//! # Invariants
//! I1. A piece is in the log whole or not at all, and never twice: its origin is derived from its content (`identity`).
//! I2. Unless told to skip, a file with one bad event is not imported at all: files are checked to their end before
//!     anything is appended. Stdin is checked piece by piece, because it cannot be read twice.
//! I3. Memory holds a few pieces, however large the file.
//!
//! # Failure
//! Killed, or cut off from the server, the import leaves what it had appended; the same command goes on after it.

mod arrow;
mod chunk;
mod elements;
mod identity;
mod input;
mod lines;
mod refusal;
mod send;
mod source;
mod summary;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use modelog_engine::AppendError;
use modelog_engine::event::Kind;
use modelog_formats::{OnError, Options, decode};
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::exit::{Exit, Failed};
use crate::output::counted;
use crate::place::{self, Place, Reach};
use crate::progress;
use identity::Identity;
use input::Input;
use refusal::{Places, Refusal};
use send::{Prepared, Sink};
pub(crate) use source::InputFormat;
use source::{Pieces, open};
use summary::Summary;

/// How many pieces are prepared ahead of the one that is being appended.
const PREPARED_AHEAD: usize = 3;

/// What to do about events that cannot be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnBadEvent {
    /// Import nothing of a file that has one
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
  modelog import --url http://10.0.0.7:7070 --token-file token events.ndjson

A file is recognised by its content: importing it again, or once more after a failure, appends only what is missing.
A file that was changed is another file; of that, events with an `id` are recognised one by one.")]
pub(crate) struct ImportArgs {
    /// Files, plain or compressed with gzip or zstd; - is stdin
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

/// Imports files.
///
/// # Errors
/// The first file that could not be read or was refused; those before it are in the log.
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
    let inputs: Vec<Input> = args.files.iter().map(|path| Input::new(path)).collect();
    if inputs
        .iter()
        .filter(|input| **input == Input::Stdin)
        .count()
        > 1
    {
        return Err(Failed::usage("stdin can be read only once"));
    }
    let identities = check_all(&inputs, &options).await?;
    let sink = match Place::find(&args.reach, settings)? {
        Place::Server(client) => Sink::server(client).await?,
        Place::Directory => Sink::engine(place::open(settings).await?),
    };
    let outcome = import_all(&inputs, identities, &sink, &options, args.json).await;
    if let Sink::Engine { engine, .. } = sink {
        let closed = engine.close().await;
        outcome?;
        closed?;
    } else {
        outcome?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks every file, and finds out by what its pieces are recognised.
async fn check_all(
    inputs: &[Input],
    options: &Arc<ImportOptions>,
) -> Result<Vec<Option<Identity>>> {
    let mut identities = Vec::new();
    let mut bad = 0_u64;
    for input in inputs {
        let regular = input
            .is_regular()
            .with_context(|| format!("{} cannot be read", input.name()))?;
        if !regular {
            identities.push(None);
            continue;
        }
        let bar = progress::bytes(input.bytes(), &format!("checking {}", input.name()));
        let checking = (input.clone(), Arc::clone(options), bar.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let (input, options, bar) = checking;
            check(&input, &options, &bar)
        })
        .await?;
        bar.finish_and_clear();
        match checked {
            Ok((identity, places)) => {
                tell(&input.name(), &places);
                bad += places.total;
                identities.push(Some(identity));
            }
            Err(refusal) => return Err(failure(&input.name(), refusal)),
        }
    }
    if bad > 0 {
        return Err(Failed::bad_data(format!(
            "{} cannot be understood, so nothing was imported: mend them, or leave them out with --on-error skip",
            counted(bad, "event")
        )));
    }
    Ok(identities)
}

/// Reads a file to its end. Bad events are answered as such unless they are to be skipped.
fn check(
    input: &Input,
    options: &ImportOptions,
    bar: &ProgressBar,
) -> Result<(Identity, Places), Refusal> {
    let Pieces {
        mut cut,
        format,
        read,
    } = open(input, options.format, true)?;
    let mut places = Places::default();
    while let Some(chunk) = cut.next()? {
        bar.set_position(read.load(Ordering::Relaxed));
        if options.skips {
            continue;
        }
        if let Err(errors) = decode(&chunk.bytes, chunk.format, &options.decoding) {
            places.add(Places::of_format(&errors, &chunk));
        }
    }
    let digest = cut
        .digest()?
        .expect("the hash was asked for, and the end reached");
    Ok((Identity::of_file(&digest, format, options.kind), places))
}

async fn import_all(
    inputs: &[Input],
    identities: Vec<Option<Identity>>,
    sink: &Sink,
    options: &Arc<ImportOptions>,
    json: bool,
) -> Result<()> {
    let mut summary = Summary::default();
    let mut failed = None;
    for (input, identity) in inputs.iter().zip(identities) {
        let line = summary.begin(input.name());
        if let Err(refusal) = import(input, identity, sink, options, line).await {
            failed = Some(failure(&input.name(), refusal));
            break;
        }
    }
    summary.print(json)?;
    match failed {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Imports one input.
async fn import(
    input: &Input,
    identity: Option<Identity>,
    sink: &Sink,
    options: &Arc<ImportOptions>,
    summary: &mut summary::Line,
) -> Result<(), Refusal> {
    let bar = progress::bytes(input.bytes(), &format!("importing {}", input.name()));
    // Pieces below this are in the log, and need not be decoded.
    let known_below = Arc::new(AtomicU64::new(0));
    let (sender, mut prepared) = mpsc::channel(PREPARED_AHEAD);
    let preparing = Preparing {
        input: input.clone(),
        identity,
        options: Arc::clone(options),
        decodes: sink.decodes(),
        known_below: Arc::clone(&known_below),
        bar: bar.clone(),
    };
    let preparation = tokio::task::spawn_blocking(move || preparing.run(&sender));
    let mut outcome = Ok(());
    while let Some(piece) = prepared.recv().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(refusal) => {
                outcome = Err(refusal);
                break;
            }
        };
        let events = piece.chunk.events;
        if piece.chunk.index < known_below.load(Ordering::Relaxed) {
            summary.add_known(events);
            continue;
        }
        let rejected = piece
            .decoded
            .as_ref()
            .map(|decoded| Places::of_rejected(&decoded.rejected, &piece.chunk));
        match sink.send(piece, options).await {
            Ok(sent) => {
                if let Some(through) = sent.through {
                    known_below.fetch_max(through + 1, Ordering::Relaxed);
                } else if let Some(rejected) = rejected {
                    summary.rejected_at.add(rejected);
                }
                summary.add(sent);
            }
            Err(refusal) => {
                outcome = Err(refusal);
                break;
            }
        }
    }
    // Whoever prepares notices that nobody listens.
    drop(prepared);
    if let Err(panic) = preparation.await {
        std::panic::resume_unwind(panic.into_panic());
    }
    bar.finish_and_clear();
    tell(&input.name(), &summary.rejected_at);
    outcome
}

/// The work before a piece can go.
struct Preparing {
    input: Input,
    identity: Option<Identity>,
    options: Arc<ImportOptions>,
    decodes: bool,
    known_below: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Preparing {
    fn run(self, sender: &mpsc::Sender<Result<Prepared, Refusal>>) {
        let outcome = self.prepare(sender);
        if let Err(refusal) = outcome {
            // Nobody listens any more: the import has failed otherwise.
            let _ = sender.blocking_send(Err(refusal));
        }
    }

    fn prepare(self, sender: &mpsc::Sender<Result<Prepared, Refusal>>) -> Result<(), Refusal> {
        let Pieces {
            mut cut,
            format,
            read,
        } = open(&self.input, self.options.format, self.identity.is_some())?;
        let mut identity = self
            .identity
            .unwrap_or_else(|| Identity::of_stream(format, self.options.kind));
        while let Some(chunk) = cut.next()? {
            self.bar.set_position(read.load(Ordering::Relaxed));
            let source = identity.source(chunk.index, &chunk.bytes);
            let known = chunk.index < self.known_below.load(Ordering::Relaxed);
            let decoded = if self.decodes && !known {
                let decoded = decode(&chunk.bytes, chunk.format, &self.options.decoding);
                Some(
                    decoded
                        .map_err(|errors| Refusal::Events(Places::of_format(&errors, &chunk)))?,
                )
            } else {
                None
            };
            let prepared = Prepared {
                chunk,
                source,
                decoded,
            };
            if sender.blocking_send(Ok(prepared)).is_err() {
                return Ok(());
            }
        }
        if identity.digest() != cut.digest()? {
            return Err(Refusal::Changed);
        }
        Ok(())
    }
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
        Refusal::Cut(error) => {
            let exit = match &error {
                // A decompressor's complaint is about the data, not about the disk.
                chunk::CutError::Io { source, .. }
                    if !matches!(
                        source.kind(),
                        std::io::ErrorKind::InvalidData
                            | std::io::ErrorKind::InvalidInput
                            | std::io::ErrorKind::UnexpectedEof
                            | std::io::ErrorKind::Other
                    ) =>
                {
                    Exit::Io
                }
                _ => Exit::BadData,
            };
            Failed::caused(exit, error)
        }
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
