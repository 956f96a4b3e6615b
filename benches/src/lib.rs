//! The benchmark behind `modelog bench`: what this machine takes, beside what it could take at all.
//!
//! Each row is measured beside its limit, in turns, in one run: a figure without its limit says more about the machine
//! than about the program.
//!
//! | row | limit |
//! |---|---|
//! | NDJSON → durable, in process | parsing the same bytes with serde_json, typed and borrowed, and nothing else |
//! | Arrow → durable, in process | writing and syncing the same bytes to a file |
//! | single events of 64 callers, in process | one `fdatasync` for each event |
//! | open with a log that nobody closed | reading its file with a checksum over all bytes |
//! | replay of segments into nothing | the same |
//! | NDJSON over HTTP, ingest alone and with the stores | the same events in process; a server that drops what it reads |
//! | single events over HTTP, 64 connections | |
//! | single events over HTTP, one caller | writing and syncing one event |
//! | `GET` of predictions, of a series | `GET` of an empty answer |
//! | the log → verified Parquet | `ArrowWriter` on the same rows with the same settings, in memory, neither synced nor read back |
//! | ingest beside the compactor | ingest without it |
//! | replay of Parquet into nothing | the parquet crate reading all columns |
//! | replay of Parquet into SQLite | the same from the log's segments |
//! | size as Parquet, in the log | the NDJSON that was sent |
//! | Kafka → durable, and until SQLite or Parquet has it | `kcat -C` of the same topic to nowhere |
//! | the log → SQLite, PostgreSQL, MySQL | the same rows by `COPY` or multi-row `INSERT` |
//! | the log → Redis | the commands that were sent for it, sent again |
//! | the log grows to 50 million events | the same log when it had one million |
//!
//! The limits are programs of a crate that knows nothing of Modelog (`limits/`).
//!
//! # How it is measured
//! - The corpus ([`corpus`]) is fixed to the byte and has nothing that repeats, so neither dedupe nor compression flatter.
//! - In-process rows use two threads, as many as the limit; every repetition has a new data directory.
//! - The server is the program itself, in a process of its own, with its defaults; client and server share all cores. The
//!   client is `wrk`, with one thread; without it nothing is measured, since another client takes other shares of the cores.
//! - Ingest alone is the same server with nothing that follows the log (`serving`).
//! - Figures are medians over repetitions; the ratio is that of the medians.
//! - Replay of Parquet has no segments: they were deleted once Parquet held them. Files that are read were written just
//!   before, so the page cache has them.
//! - What a backup reads is counted by a disk that counts what is read from it.
//! - Memory is resident anonymous memory (`RssAnon`), sampled: that of the server's process, and the growth of this one
//!   since the start, without the bytes of the corpus.

pub mod corpus;
mod gets;
mod growth;
mod history;
mod http;
mod inprocess;
mod kafka;
mod keepalive;
mod measure;
mod memory;
mod opening;
mod report;
mod server;
mod serving;
mod singles;
mod stores;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context, Result};
use history::Python;
use inprocess::{MEMORY_GOAL, MEMORY_MAX, MemoryAtStart, memory_row};
use memory::Peaks;
use wrk::Wrk;

pub use measure::Figure;
pub use report::{Comparison, Machine, Mark, Report, Row};
pub use serving::serve_ingest_alone;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose `serve` is measured.
    pub program: PathBuf,
    /// Where data directories are made and removed again: the disk that is measured.
    pub directory: PathBuf,
    /// Fewer events and repetitions: a look, not a measurement.
    pub quick: bool,
    /// Also what takes long: a log that grows to 50 million events, and 20 million predictions as Parquet, asked by DuckDB
    /// through `python3`.
    pub full: bool,
    /// Measures reading from Kafka, and nothing else.
    pub kafka: Option<Kafka>,
    /// Measures one store that follows the log, by its URL, and nothing else.
    pub store: Option<String>,
}

/// Brokers to read from.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// Where to ask first, as `host:port`.
    pub brokers: Vec<String>,
    /// A topic that is there, with an event in each message; without it one is made, filled, and deleted again.
    pub topic: Option<String>,
}

impl Options {
    fn make_directory(&self) -> Result<()> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("creating {}", self.directory.display()))
    }

    fn report(&self, rows: Vec<Row>) -> Report {
        Report {
            machine: Machine::this(&self.directory),
            quick: self.quick,
            rows,
        }
    }
}

#[cfg(test)]
impl Options {
    /// Rows without a server, in a directory.
    fn of_a_test(directory: &std::path::Path) -> Self {
        Self {
            program: "not needed".into(),
            directory: directory.to_owned(),
            quick: true,
            full: false,
            kafka: None,
            store: None,
        }
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Events of a repetition.
    events: usize,
    repetitions: usize,
    /// Repetitions of rows that start a server, or fill a disk.
    servers: usize,
    gets: usize,
    /// Events of a repetition in which each is durable by itself.
    singles: usize,
    /// How long single events are sent over HTTP.
    seconds: u32,
    /// What nobody closed.
    unsealed_bytes: u64,
}

impl Size {
    fn of(quick: bool) -> Self {
        if quick {
            Self {
                events: 200_000,
                repetitions: 3,
                servers: 1,
                gets: 200,
                singles: 20_000,
                seconds: 2,
                unsealed_bytes: 64 << 20,
            }
        } else {
            Self {
                events: 1_000_000,
                repetitions: 5,
                servers: 3,
                gets: 2_000,
                singles: 100_000,
                seconds: 10,
                unsealed_bytes: 1 << 30,
            }
        }
    }
}

/// Measures everything; takes some minutes, about one if quick. `progress` is told what comes next.
///
/// # Errors
/// If there is no `wrk`, or `python3` lacks DuckDB where it is wanted: before anything is measured. Later, if the disk or
/// the program fails.
pub fn run(options: &Options, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Report> {
    // A thread of its own, because the caller may be in a runtime and the rows have theirs.
    std::thread::scope(|scope| {
        let measuring = scope.spawn(|| measure(options, progress));
        measuring
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure(options: &Options, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Report> {
    let size = Size::of(options.quick);
    if let Some(brokers) = &options.kafka {
        let rows = kafka::measure(options, brokers, size, progress)?;
        return Ok(options.report(rows));
    }
    if let Some(url) = &options.store {
        let rows = stores::measure(options, url, size, progress)?;
        return Ok(options.report(rows));
    }
    let wrk = Wrk::find()?;
    let python = options.full.then(Python::find).transpose()?;
    options.make_directory()?;
    let mut report = options.report(Vec::new());
    let mut peaks = Peaks::default();
    let start = MemoryAtStart::now()?;
    // What needs least memory comes first: what the allocator keeps of a row counts in the next.
    let singles = singles::measure(options, size, start, &mut peaks, progress)?;
    let opening = opening::measure(options, size, start, &mut peaks, progress)?;
    let arrow = inprocess::arrow(options, size, start, &mut peaks, progress)?;
    let json = inprocess::json(options, size, start, &mut peaks, progress)?;
    for rows in [json, arrow, singles, opening] {
        report.rows.extend(rows);
    }
    http::measure(options, size, &wrk, &mut peaks, progress, &mut report)?;
    let single = keepalive::measure(options, size, &wrk, &mut peaks, progress)?;
    report.rows.extend(single);
    report.rows.push(
        memory_row(
            "peak memory of all rows so far",
            peaks.highest(),
            MEMORY_MAX,
        )
        .goal(Mark::AtMost(MEMORY_GOAL)),
    );
    history::measure(options, size, python.as_ref(), progress, &mut report)?;
    if options.full {
        report.rows.extend(growth::measure(options, progress)?);
    }
    Ok(report)
}
