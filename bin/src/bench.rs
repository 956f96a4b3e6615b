//! `bench`: what this machine takes, beside what it could take at all.

use std::path::PathBuf;

use anyhow::{Context, Result};
use modelog_benches::{Kafka, Options};

use crate::config::Settings;
use crate::output::{self, Shape};
use crate::progress;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every figure stands beside its limit, measured in the same run: parsing alone, writing to a file alone, a server that
drops what it gets, the libraries we use by themselves. Runs for some minutes and wants the machine to itself. Needs
`wrk`, which sends over HTTP.")]
pub(crate) struct BenchArgs {
    /// Fewer events and repetitions: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Also a log that grows to 50 million events, and 20 million predictions as Parquet, asked by DuckDB: ten minutes and
    /// 7 GB more; python3 must have duckdb
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Where the data directories of the benchmark are made and removed again: the disk that is measured
    #[arg(long, value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
    /// Measure reading from Kafka, and nothing else, with these brokers; needs `kcat`. Topics are made there, filled with
    /// a gigabyte, and deleted again
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        conflicts_with = "full"
    )]
    kafka: Vec<String>,
    /// Read this topic instead of a new one: an event in each message, and nobody adds any
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    topic: Option<String>,
    /// Measure filling one store, and nothing else: `sqlite:`, or the URL of a PostgreSQL, MySQL or Redis server. What is made there
    /// is named `modelog_bench` and `raw_rows`, and dropped again
    #[arg(long, value_name = "URL", conflicts_with_all = ["full", "kafka"])]
    store: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    /// What the benchmark starts to see what stores cost: a server with nothing that follows its log
    #[arg(long, hide = true)]
    serve_ingest_alone: bool,
}

/// Measures and prints.
///
/// # Errors
/// If the disk or the server that is measured fails.
pub(crate) fn run(settings: &Settings, args: BenchArgs) -> Result<()> {
    if args.serve_ingest_alone {
        return crate::block_on(modelog_benches::serve_ingest_alone(&settings.data));
    }
    let options = Options {
        program: std::env::current_exe().context("this program cannot be found")?,
        directory: args.dir,
        quick: args.quick,
        full: args.full,
        kafka: (!args.kafka.is_empty()).then_some(Kafka {
            brokers: args.kafka,
            topic: args.topic,
        }),
        store: args.store,
    };
    let spinner = progress::spinner("getting ready");
    let report = modelog_benches::run(&options, &mut |what| {
        spinner.set_message(what.to_owned());
    });
    spinner.finish_and_clear();
    let report = report?;
    match args.format {
        Shape::Table => output::line(report.table().trim_end())?,
        Shape::Json => output::json(&report)?,
        Shape::Ndjson => output::ndjson(&report.rows)?,
    }
    Ok(())
}
