//! The benchmark behind `modelog bench`: what this machine takes, beside what it could take at all.
//!
//! Each row is measured beside its limit, in turns, in one run: a figure without its limit says more about the machine
//! than about the program.
//!
//! | row | limit |
//! |---|---|
//! | NDJSON → durable, in process | parsing the same bytes with serde_json, typed and borrowed, and nothing else |
//! | Arrow → durable, in process | writing and syncing the same bytes to a file |
//! | NDJSON over HTTP, SQLite following | a server that reads the same bodies and drops them |
//! | `GET` of predictions, of a series | `GET` of an empty answer |
//! | the log → verified Parquet | `ArrowWriter` on the same rows with the same settings, in memory, neither synced nor read back |
//! | ingest beside the compactor | ingest without it |
//! | replay of Parquet into nothing | the parquet crate reading all columns |
//! | replay of Parquet into SQLite | the same from the log's segments |
//! | size as Parquet | the NDJSON that was sent |
//!
//! # How it is measured
//! - The corpus ([`corpus`]) is fixed to the byte and has nothing that repeats, so neither dedupe nor compression flatter.
//! - In-process rows use two threads, as many as the limit; every repetition has a new data directory.
//! - The server is the program itself, in a process of its own, with its defaults; client and server share all cores.
//! - Figures are medians over repetitions; the ratio is that of the medians.
//! - Replay has no segments: they were deleted once Parquet held them.
//! - What a backup reads is counted by a disk that counts what is read from it.
//! - Memory is resident anonymous memory (`RssAnon`), sampled: that of the server's process, and the growth of this one
//!   since the start, without the bytes of the corpus.

pub mod corpus;
mod gets;
mod history;
mod http;
mod inprocess;
pub mod limits;
mod measure;
mod memory;
mod report;
mod server;

use std::path::PathBuf;

use anyhow::{Context, Result};
use history::Python;
use inprocess::MemoryAtStart;

pub use measure::Figure;
pub use report::{Comparison, Machine, Mark, Report, Row};

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose `serve` is measured.
    pub program: PathBuf,
    /// Where data directories are made and removed again: the disk that is measured.
    pub directory: PathBuf,
    /// Fewer events and repetitions: a look, not a measurement.
    pub quick: bool,
    /// Also 20 million predictions as Parquet, asked by DuckDB through `python3`: some minutes more.
    pub full: bool,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Events of a repetition.
    events: usize,
    repetitions: usize,
    /// Repetitions of rows that start a server.
    servers: usize,
    gets: usize,
}

impl Size {
    fn of(quick: bool) -> Self {
        if quick {
            Self {
                events: 200_000,
                repetitions: 3,
                servers: 1,
                gets: 200,
            }
        } else {
            Self {
                events: 1_000_000,
                repetitions: 5,
                servers: 3,
                gets: 2_000,
            }
        }
    }
}

/// Measures everything; takes some minutes, less than one if quick. `progress` is told what comes next.
///
/// # Errors
/// If the disk or the program fails, or `python3` lacks DuckDB where it is wanted.
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
    let python = options.full.then(Python::find).transpose()?;
    std::fs::create_dir_all(&options.directory)
        .with_context(|| format!("creating {}", options.directory.display()))?;
    let mut report = Report::new(Machine::this(&options.directory), options.quick);
    let start = MemoryAtStart::now()?;
    // Arrow is measured first: it needs least, and what the allocator keeps of a row counts in the next.
    let arrow = inprocess::arrow(options, size, start, progress)?;
    let json = inprocess::json(options, size, start, progress)?;
    report.rows.extend(json.into_iter().chain(arrow));
    http::measure(options, size, progress, &mut report)?;
    history::measure(options, size, python.as_ref(), progress, &mut report)?;
    Ok(report)
}
