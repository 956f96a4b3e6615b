//! The log into verified Parquet files, alone and beside ingest.
//!
//! The limit is the parquet crate's `ArrowWriter` on the same rows with the same settings, in memory from the start,
//! neither synced nor read back. It encodes on one thread; the compactor encodes the columns of a row group on several.

use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow_array::RecordBatch;
use modelog_engine::event::Kind;
use modelog_engine::inspect::SegmentReader;
use modelog_engine::{LocalStorage, LogId, ProjectionState};
use modelog_formats::Format;
use modelog_parquet::writer_properties;

use super::{History, Opened, PREDICTIONS, Settings};
use crate::corpus::{self, Body, Naming};
use crate::inprocess::{JSON_EVENTS, drive};
use crate::measure::{CpuTime, Figure, Stopwatch, in_turns};
use crate::report::{Mark, Row};
use crate::{Options, Size};

/// How much of the log is read at a time.
const READ_BYTES: usize = 4 << 20;

pub(super) fn measure(
    options: &Options,
    size: Size,
    log: &History,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("log → verified Parquet");
    let mut rows = alone(options, size, log)?;
    progress("ingest beside the compactor");
    rows.extend(beside_ingest(options, size, log)?);
    Ok(rows)
}

pub(super) fn alone(options: &Options, size: Size, log: &History) -> Result<Vec<Row>> {
    let (id, batches) = columns(log)?;
    let (mut our_cpu, mut limit_cpu) = (Vec::new(), Vec::new());
    let (ours, limit) = in_turns(
        size.repetitions,
        || {
            let (rate, cpu) = compact(options, log)?;
            our_cpu.push(cpu);
            Ok(rate)
        },
        || {
            let properties = writer_properties(PREDICTIONS, id);
            let (watch, cpu) = (Stopwatch::start(), CpuTime::start());
            modelog_limits::write_parquet(&options.directory, &batches, properties)?;
            limit_cpu.push(cpu.micros_each(log.events));
            Ok(watch.rate(log.events))
        },
    )?;
    let limit_name = "ArrowWriter alone, one thread";
    Ok(vec![
        Row::new(
            "log → verified Parquet, columns on all cores",
            "events/s",
            ours,
        )
        .beside(limit_name, limit)
        .mark(Mark::RatioAtLeast(0.5)),
        Row::new("  CPU time of all threads", "µs/event", Figure::of(our_cpu))
            .beside(limit_name, Figure::of(limit_cpu)),
    ])
}

/// The rows of a log as the files have them.
fn columns(log: &History) -> Result<(LogId, Vec<RecordBatch>)> {
    let mut reader = SegmentReader::open(Arc::new(LocalStorage), log.path())?;
    let mut batches = Vec::new();
    loop {
        let read = reader.next(READ_BYTES)?;
        if read.is_empty() {
            break;
        }
        let rows = read.iter().filter_map(|batch| {
            let table = batch.table(Kind::PredictionLogged)?;
            Some(table.to_record_batch(batch.first_offset, batch.append_time))
        });
        batches.extend(rows);
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    ensure!(
        rows == log.events,
        "{rows} of {} events are there",
        log.events
    );
    Ok((reader.log_id(), batches))
}

/// Compacts a copy of the log; answers events per second, from the first read to the last file's publication, and CPU
/// time of each.
fn compact(options: &Options, log: &History) -> Result<(f64, f64)> {
    let data = log.copy(options)?;
    let opened = Opened::on(data.path(), &Settings::default())?;
    let (watch, cpu) = (Stopwatch::start(), CpuTime::start());
    let compactor = opened.start_compactor();
    opened.compact(&compactor)?;
    let measured = (watch.rate(log.events), cpu.micros_each(log.events));
    opened.close()?;
    Ok(measured)
}

/// Ingest into a log that the compactor has not caught up with, so that it has work from the first moment to the last.
fn beside_ingest(options: &Options, size: Size, log: &History) -> Result<Vec<Row>> {
    let fresh = corpus::ndjson(Naming::PredictionId, 5, size.events, JSON_EVENTS);
    let fresh = Arc::new(fresh);
    let mut compacted = Vec::new();
    let (ours, limit) = in_turns(
        size.repetitions,
        || {
            let (ingested, meanwhile) = ingest(options, log, &fresh, true)?;
            compacted.push(meanwhile);
            Ok(ingested)
        },
        || Ok(ingest(options, log, &fresh, false)?.0),
    )?;
    Ok(vec![
        Row::new(
            "NDJSON → durable, the compactor at work, 2 threads",
            "events/s",
            ours,
        )
        .beside("without it", limit)
        .mark(Mark::RatioAtLeast(0.7)),
        Row::new(
            "  taken in by the compactor meanwhile",
            "events/s",
            Figure::of(compacted),
        ),
    ])
}

/// Answers events per second that were ingested, and that were compacted meanwhile.
fn ingest(
    options: &Options,
    log: &History,
    fresh: &Arc<Vec<Body>>,
    compacting: bool,
) -> Result<(f64, f64)> {
    let data = log.copy(options)?;
    let opened = Opened::on(data.path(), &Settings::default())?;
    let compactor = compacting.then(|| opened.start_compactor());
    let taken = || {
        compactor
            .as_ref()
            .map_or(0, |compactor| compactor.status().offset.0)
    };
    let before = taken();
    let watch = Stopwatch::start();
    let ingested = drive(&opened.runtime, &opened.engine, fresh, Format::Ndjson)?;
    let meanwhile = watch.rate((taken() - before) as usize);
    if let Some(compactor) = &compactor {
        let status = compactor.status();
        ensure!(status.state == ProjectionState::Running, "{status:?}");
    }
    let caught_up = compacting && taken() == opened.engine.tail().0;
    ensure!(!caught_up, "the compactor had nothing to do");
    opened.close()?;
    Ok((ingested, meanwhile))
}
