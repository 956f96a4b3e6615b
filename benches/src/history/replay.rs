//! History out of Parquet files again, with no segments: into nothing, and into SQLite.

use anyhow::{Result, ensure};
use modelog_engine::Offset;
use modelog_sql::{SqlConfig, SqlStore};

use super::{History, Opened, PATIENCE, Settings};
use crate::measure::{Stopwatch, in_turns};
use crate::report::{Mark, Row};
use crate::{Options, Size};

/// As much as projections are given at a time.
const READ_BYTES: usize = 4 << 20;

pub(super) fn measure(
    options: &Options,
    size: Size,
    log: &History,
    parquet: &History,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("replay from Parquet");
    let files = parquet.prediction_files()?;
    let (nothing, limit) = in_turns(
        size.repetitions,
        || into_nothing(options, parquet),
        || {
            let watch = Stopwatch::start();
            let rows = modelog_limits::read_parquet(&files)?;
            ensure!(rows == parquet.events, "{rows} rows are in {files:?}");
            Ok(watch.rate(rows))
        },
    )?;
    progress("replay from Parquet into SQLite");
    let (sqlite, segments) = in_turns(
        size.servers,
        || into_sqlite(options, parquet),
        || into_sqlite(options, log),
    )?;
    Ok(vec![
        Row::new(
            "replay of Parquet, in process, into nothing",
            "events/s",
            nothing,
        )
        .beside("the parquet crate reading, one thread", limit)
        .mark(Mark::AtLeast(2e6)),
        Row::new("replay of Parquet into SQLite", "events/s", sqlite)
            .beside("from the log's segments", segments)
            // As fast, within what two runs of the same differ by.
            .mark(Mark::RatioAtLeast(0.9)),
    ])
}

fn into_nothing(options: &Options, history: &History) -> Result<f64> {
    let data = history.copy(options)?;
    let opened = Opened::on(data.path(), &Settings::default())?;
    let mut reader = opened.engine.reader(Offset::ZERO);
    let watch = Stopwatch::start();
    let mut rows = 0;
    loop {
        let batches = reader.read(READ_BYTES)?;
        if batches.is_empty() {
            break;
        }
        rows += batches
            .iter()
            .map(|batch| batch.rows as usize)
            .sum::<usize>();
    }
    let rate = watch.rate(rows);
    ensure!(
        rows == history.events,
        "{rows} of {} events were read",
        history.events
    );
    opened.close()?;
    Ok(rate)
}

fn into_sqlite(options: &Options, history: &History) -> Result<f64> {
    let data = history.copy(options)?;
    let opened = Opened::on(data.path(), &Settings::default())?;
    let store = SqlStore::new(SqlConfig {
        directory: data.path().to_owned(),
        ..SqlConfig::default()
    })?;
    let tail = opened.engine.tail();
    let rate = opened.runtime.block_on(async {
        let watch = Stopwatch::start();
        let projection = opened.engine.project(Box::new(store.projection()));
        projection.wait_for(tail, PATIENCE).await?;
        anyhow::Ok(watch.rate(history.events))
    })?;
    opened.runtime.block_on(store.close());
    opened.close()?;
    Ok(rate)
}
