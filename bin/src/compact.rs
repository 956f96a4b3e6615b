//! `compact`: everything that is in the log into Parquet, without waiting for files to fill up.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanBytes;
use modelog_engine::{Engine, NotYet, Offset, ProjectionHandle, ProjectionState, chain};
use modelog_http::Compacted;
use modelog_parquet::{ParquetStatus, ParquetStore};
use reqwest::Method;

use crate::config::Settings;
use crate::exit::{Exit, Failed};
use crate::output::{self, Rows, Shape, thousands};
use crate::place::{self, Opened, Place, Reach};
use crate::progress;

/// The compactor's name among the projections.
pub(crate) const COMPACTOR: &str = "parquet";
/// How often the compactor is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long it may fail before that is the answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A server compacts by itself, in files of the size and age that the configuration says. This closes what it has begun, so
that all events up to now are in files that others can read.

Examples:
  modelog compact
  modelog compact --url http://127.0.0.1:7070 --format json")]
pub(crate) struct CompactArgs {
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    #[command(flatten)]
    reach: Reach,
}

/// Why the log was not compacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactError {
    /// Said by the compactor itself.
    #[error("{0}")]
    Compactor(String),
    #[error("the files that were begun cannot be closed")]
    Closing(#[from] modelog_parquet::ParquetError),
}

/// Compacts, there or here.
///
/// # Errors
/// If the server cannot be asked, the directory not opened, or Parquet not written.
pub(crate) async fn run(settings: &Settings, args: &CompactArgs) -> Result<()> {
    let compacted = match Place::find(&args.reach, settings)? {
        Place::Server(client) => {
            let client = client.patient()?;
            let answer = client.send(client.request(Method::POST, "/v1/compact"));
            client.parse(answer.await?).await?
        }
        Place::Directory => here(settings).await?,
    };
    match args.format {
        Shape::Table => table(&compacted)?,
        Shape::Json => output::json(&compacted)?,
        Shape::Ndjson => output::ndjson([&compacted])?,
    }
    Ok(())
}

fn table(compacted: &Compacted) -> Result<()> {
    let mut rows = Rows::new(&["", "files", "rows", "size"]);
    let (written, all) = (
        (compacted.files, compacted.rows, compacted.bytes),
        (
            compacted.total_files,
            compacted.total_rows,
            compacted.total_bytes,
        ),
    );
    for (name, (files, count, bytes)) in [("written", written), ("in all", all)] {
        let size = HumanBytes(bytes).to_string();
        rows.plain([name.into(), thousands(files), thousands(count), size]);
    }
    rows.print()?;
    output::line(&format!(
        "all events before offset {} are in Parquet",
        compacted.cold_end
    ))?;
    Ok(())
}

/// On the directory itself, which is closed whatever came of it.
async fn here(settings: &Settings) -> Result<Compacted> {
    place::must_exist(&settings.data)?;
    let Opened { engine, parquet } = place::open_whole(settings).await?;
    start(&engine, &parquet);
    let bar = progress::events(engine.tail().0, "compacting");
    let outcome = compact(&engine, &parquet, |at| bar.set_position(at.0)).await;
    bar.finish_and_clear();
    let closed = engine.close().await;
    let compacted = outcome.map_err(|error| Failed::caused(Exit::Io, error))?;
    closed?;
    Ok(compacted)
}

/// Lets the compactor follow the log.
pub(crate) fn start(engine: &Engine, parquet: &ParquetStore) -> ProjectionHandle {
    engine.project(Box::new(parquet.projection(engine.cold())))
}

/// Waits until the compactor has taken in what is in the log now, and closes its files. Segments that are not needed any
/// more go.
///
/// # Errors
/// What keeps it from doing so.
pub(crate) async fn compact(
    engine: &Engine,
    parquet: &ParquetStore,
    progress: impl Fn(Offset),
) -> Result<Compacted, CompactError> {
    let before = parquet.status();
    let compactor = engine
        .projection(COMPACTOR)
        .ok_or_else(|| CompactError::Compactor("the compactor does not run".to_owned()))?;
    let tail = engine.tail();
    let mut failing = Duration::ZERO;
    while let Err(not_yet) = compactor.wait_for(tail, LOOK).await {
        match not_yet {
            NotYet::Stopped { reason, .. } => return Err(CompactError::Compactor(reason)),
            NotYet::Behind { at, .. } => progress(at),
        }
        let status = compactor.status();
        match status.last_error {
            Some(error) if status.state == ProjectionState::Retrying => {
                failing += LOOK;
                if failing >= PATIENCE {
                    return Err(CompactError::Compactor(error));
                }
            }
            _ => failing = Duration::ZERO,
        }
    }
    parquet.flush().await?;
    let cold = engine.cold();
    // What goes by its age would go by itself as well, some time later.
    match tokio::task::spawn_blocking(move || cold.retire()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(reason = %chain(&error), "old segments were not removed"),
        Err(error) => tracing::warn!(%error, "old segments were not removed"),
    }
    Ok(written(&before, &parquet.status()))
}

/// What there is now that there was not before.
fn written(before: &ParquetStatus, now: &ParquetStatus) -> Compacted {
    Compacted {
        files: now.files.saturating_sub(before.files),
        rows: now.rows.saturating_sub(before.rows),
        bytes: now.bytes.saturating_sub(before.bytes),
        cold_end: now.cold_end,
        total_files: now.files,
        total_rows: now.rows,
        total_bytes: now.bytes,
    }
}
