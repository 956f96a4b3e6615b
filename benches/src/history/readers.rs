//! What analysts do with the files: DuckDB over 20 million predictions of a month, asked by Python in a process of its
//! own. Only where it is wanted, since it takes minutes and a Python that has DuckDB.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use modelog_engine::{
    AppendOptions, Clock, Engine, Foundations, Offset, ProjectionHandle, Timestamp,
};
use modelog_formats::{Format, decode};
use serde::Deserialize;

use super::{Opened, PATIENCE, Settings, new_directory};
use crate::Options;
use crate::corpus::{self, Body};
use crate::measure::Figure;
use crate::report::{Mark, Row};

const PREDICTIONS: usize = 20_000_000;
/// They arrive over so many days, as many on each.
const DAYS: i64 = 30;
/// The first moment of the first day: 2026-01-01, in µs.
const FIRST_DAY: i64 = 1_767_225_600_000_000;
const DAY_MICROS: i64 = 86_400_000_000;
/// Events of a call.
const CALL_EVENTS: usize = 8_192;
/// How many events a part of the corpus with a seed of its own has.
const SEED_EVENTS: usize = 64 * CALL_EVENTS;
/// How far ingest may be ahead of the compactor.
const AHEAD_MAX: u64 = 2_000_000;

/// Asks; prints seconds as JSON.
const SCRIPT: &str = include_str!("../../../tests/python/duckdb_speed.py");

/// A Python that has DuckDB.
#[derive(Clone, Debug)]
pub(crate) struct Python(());

impl Python {
    const COMMAND: &str = "python3";

    /// Finds it.
    ///
    /// # Errors
    /// If there is none, with what it said.
    pub(crate) fn find() -> Result<Self> {
        let tried = Command::new(Self::COMMAND)
            .args(["-c", "import duckdb"])
            .output()
            .with_context(|| format!("starting {}", Self::COMMAND))?;
        ensure!(
            tried.status.success(),
            "{} does not have DuckDB, which the full benchmark asks (`pip install duckdb`): {}",
            Self::COMMAND,
            String::from_utf8_lossy(&tried.stderr).trim()
        );
        Ok(Self(()))
    }

    /// Runs a script with an argument; answers what it prints.
    fn run(&self, script: &str, argument: &Path) -> Result<Vec<u8>> {
        let mut child = Command::new(Self::COMMAND)
            .arg("-")
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", Self::COMMAND))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        let done = child.wait_with_output()?;
        ensure!(done.status.success(), "the questions to DuckDB failed");
        Ok(done.stdout)
    }
}

/// What the script prints.
#[derive(Debug, Deserialize)]
struct Answers {
    duckdb: String,
    predictions: usize,
    files: usize,
    count_by_version_and_day_seconds: f64,
    one_prediction_by_id_seconds: f64,
}

pub(super) fn measure(
    options: &Options,
    python: &Python,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("20 million predictions as Parquet");
    let data = new_directory(&options.directory)?;
    write(data.path(), PREDICTIONS)?;
    progress("questions to DuckDB");
    let answers: Answers = serde_json::from_slice(&python.run(SCRIPT, data.path())?)
        .context("what the questions to DuckDB print")?;
    ensure!(
        answers.predictions == PREDICTIONS,
        "DuckDB sees {} predictions",
        answers.predictions
    );
    let Answers { duckdb, files, .. } = answers;
    let seconds = |seconds| Figure::of(vec![seconds]);
    Ok(vec![
        Row::new(
            format!("DuckDB {duckdb}, 20 M predictions in {files} files: count by version and day"),
            "s",
            seconds(answers.count_by_version_and_day_seconds),
        )
        .mark(Mark::AtMost(0.5)),
        Row::new(
            "  one prediction by id",
            "s",
            seconds(answers.one_prediction_by_id_seconds),
        )
        .mark(Mark::AtMost(0.3)),
    ])
}

/// A clock that is set: the days of the predictions. Both its times pass, so the log has no reason to distrust it.
#[derive(Debug, Default)]
struct Calendar {
    /// µs since the first day began.
    passed: AtomicI64,
}

impl Clock for Calendar {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(FIRST_DAY + self.passed.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.passed.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// Writes a data directory of so many predictions, spread over the days, all in Parquet.
pub(super) fn write(data: &Path, predictions: usize) -> Result<()> {
    let calendar = Arc::new(Calendar::default());
    let foundations = Foundations {
        clock: Arc::clone(&calendar) as _,
        ..Foundations::default()
    };
    let settings = Settings {
        keep_segments: Duration::ZERO,
        ..Settings::default()
    };
    let opened = Opened::on_foundations(data, &settings, foundations)?;
    let compactor = opened.start_compactor();
    let (sender, bodies) = sync_channel(2);
    std::thread::scope(|scope| {
        let generating = scope.spawn(move || generate(predictions, &sender));
        let mut taken = 0;
        for body in bodies {
            let passed = (DAYS * DAY_MICROS) as i128 * taken as i128 / predictions as i128;
            calendar.passed.store(passed as i64, Ordering::Relaxed);
            append(&opened.engine, &body)?;
            taken += body.events;
            keep_close(&opened, &compactor, taken as u64)?;
        }
        generating.join().expect("generating does not panic")
    })?;
    opened.compact(&compactor)?;
    opened.close()
}

/// Sends the corpus, part by part.
fn generate(predictions: usize, bodies: &SyncSender<Body>) -> Result<()> {
    let mut left = predictions;
    for seed in 1_000.. {
        if left == 0 {
            break;
        }
        let events = left.min(SEED_EVENTS);
        for body in corpus::arrow(seed, events, CALL_EVENTS)? {
            if bodies.send(body).is_err() {
                bail!("the log does not take the predictions");
            }
        }
        left -= events;
    }
    Ok(())
}

fn append(engine: &Engine, body: &Body) -> Result<()> {
    let decoded = decode(
        &body.bytes,
        Format::Arrow,
        &modelog_formats::Options::default(),
    )?;
    let done = engine.append_blocking(decoded.batch, AppendOptions::default())?;
    ensure!(done.accepted as usize == body.events, "{done:?}");
    Ok(())
}

/// Waits until the compactor is close behind: the log would fill the disk.
fn keep_close(opened: &Opened, compactor: &ProjectionHandle, taken: u64) -> Result<()> {
    let wanted = Offset(taken.saturating_sub(AHEAD_MAX));
    opened
        .runtime
        .block_on(compactor.wait_for(wanted, PATIENCE))?;
    Ok(())
}
