//! Checking everything before anything is appended, and finding out by what its pieces are recognised.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use modelog_formats::decode;

use super::history::{self, History, HistoryFile, Stretch};
use super::identity::Identity;
use super::input::Input;
use super::merge::MergeError;
use super::pieces::{PieceError, Pieces};
use super::refusal::{Places, Refusal};
use super::source::{self, open};
use super::{ImportOptions, failure, tell};
use crate::exit::Failed;
use crate::output::counted;
use crate::progress;

/// An input that was checked, if it can be read twice.
#[derive(Debug)]
pub(super) struct CheckedInput {
    pub(super) input: Input,
    pub(super) identity: Option<Identity>,
}

/// A history that was checked.
#[derive(Debug)]
pub(super) struct CheckedHistory {
    pub(super) history: History,
    /// The SHA-256 of every file, stretch by stretch.
    pub(super) digests: Vec<Vec<[u8; 32]>>,
}

/// Checks every input.
///
/// # Errors
/// The first that cannot be read, or that some events cannot be understood.
pub(super) async fn inputs(
    inputs: &[Input],
    options: &Arc<ImportOptions>,
) -> Result<Vec<CheckedInput>> {
    let mut found = Vec::new();
    let mut bad = 0_u64;
    for input in inputs {
        let regular = input
            .is_regular()
            .with_context(|| format!("{} cannot be read", input.name()))?;
        let mut identity = None;
        if regular {
            let bar = progress::bytes(input.bytes(), &format!("checking {}", input.name()));
            let checking = (input.clone(), Arc::clone(options), bar.clone());
            let checked = tokio::task::spawn_blocking(move || {
                let (input, options, bar) = checking;
                check(&input, &options, &bar)
            })
            .await?;
            bar.finish_and_clear();
            let (known, places) = checked.map_err(|refusal| failure(&input.name(), refusal))?;
            tell(&input.name(), &places);
            bad += places.total;
            identity = Some(known);
        }
        found.push(CheckedInput {
            input: input.clone(),
            identity,
        });
    }
    if bad > 0 {
        return Err(Failed::bad_data(format!(
            "{} cannot be understood, so nothing was imported: mend them, or leave them out with --on-error skip",
            counted(bad, "event")
        )));
    }
    Ok(found)
}

/// Reads a file to its end. Bad events are answered as such unless they are to be skipped.
pub(super) fn check(
    input: &Input,
    options: &ImportOptions,
    bar: &ProgressBar,
) -> Result<(Identity, Places), Refusal> {
    let source::Pieces {
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

/// Finds and checks Parquet files.
///
/// # Errors
/// The first file that cannot be read, is none of a Modelog, or holds what no event can be.
pub(super) async fn histories(paths: Vec<PathBuf>) -> Result<Vec<CheckedHistory>> {
    let found = tokio::task::spawn_blocking(move || history::gather(&paths)).await??;
    let mut checked = Vec::new();
    for history in found {
        let name = history.name.clone();
        let bar = progress::events(history.rows, &format!("checking {name}"));
        let checking = bar.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let stretches = history.stretches.iter();
            let digests = stretches.map(|stretch| check_stretch(&history, stretch, &checking));
            let digests = digests.collect::<Result<_, _>>()?;
            Ok(CheckedHistory { history, digests })
        })
        .await?;
        bar.finish_and_clear();
        checked.push(outcome.map_err(|refusal| failure(&name, refusal))?);
    }
    Ok(checked)
}

/// Makes events of every row, and hashes the files.
fn check_stretch(
    history: &History,
    stretch: &Stretch,
    bar: &ProgressBar,
) -> Result<Vec<[u8; 32]>, Refusal> {
    let digests = stretch.files.iter().map(HistoryFile::digest);
    let digests = digests
        .collect::<Result<_, _>>()
        .map_err(|error| PieceError::from(MergeError::from(error)))?;
    let mut pieces = Pieces::new(history.log, stretch, true);
    while let Some(piece) = pieces.next(None)? {
        bar.inc(piece.offsets.len() as u64 + piece.repeated);
    }
    Ok(digests)
}
