//! What can be typed: one definition gives the parsing, the help and the completions.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flag, Loaded};
use crate::{
    backup, bench, compact, dead_letters, export, import, inspect, produce, projections, restore,
    show, tail,
};

/// The event log for machine-learning models
///
/// Records what models do (created, versioned, trained, served) as events in an append-only log, and keeps a database,
/// statistics and metrics in step with it.
#[derive(Debug, Parser)]
#[command(name = "modelog", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  modelog demo                    train, serve and compare two models, and look
  modelog serve                   serve on http://127.0.0.1:7070
  modelog import events.ndjson    events into the log, once however often
  modelog export --kind MetricLogged --format csv --out metrics.csv
  modelog verify                  read every byte of the log and check it
  modelog backup /var/backups/ml  all events so far, beside the earlier backups

Exit codes: 0 done, 1 failed, 2 wrong usage, 65 bad data, 69 not available,
74 disk, 78 configuration";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The configuration file; without it there are defaults, variables and flags
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MODELOG_CONFIG",
        help_heading = "Common options"
    )]
    pub(crate) config: Option<PathBuf>,
    /// The data directory [default: ./modelog-data; ./modelog-demo for the demo]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common options", value_hint = clap::ValueHint::DirPath)]
    pub(crate) data: Option<String>,
    /// How the program's own log is written to stderr: text or json
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        help_heading = "Common options"
    )]
    pub(crate) log_format: Option<String>,
    /// What of it is written, such as `debug` or `info,modelog_sql=trace`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        help_heading = "Common options"
    )]
    pub(crate) log_filter: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train, serve and compare two models on handwritten digits, and look at the result
    Demo(DemoArgs),
    /// Take events and answer questions over HTTP
    Serve(ServeArgs),
    /// Put files of events, or a database in Redis, into the log, once however often
    Import(import::ImportArgs),
    /// Follow events as they come, as NDJSON
    Tail(tail::TailArgs),
    /// Write events to a file or stdout, as NDJSON, CSV or Parquet
    Export(export::ExportArgs),
    /// Read every byte of the log and check it
    Verify(inspect::VerifyArgs),
    /// Clear a store and build it again from the log
    Rebuild(projections::RebuildArgs),
    /// Show how far the stores have followed the log
    Projections(projections::ProjectionsArgs),
    /// See and retry what was rejected, from Kafka and elsewhere
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Send files of events to a Kafka topic
    Produce(produce::ProduceArgs),
    /// Put everything that is in the log into Parquet files
    Compact(compact::CompactArgs),
    /// Make a backup, while the server goes on
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup, as of any moment
    Restore(restore::RestoreArgs),
    /// Look into the log's files
    #[command(subcommand)]
    Log(LogCommand),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure this machine: what the program takes, beside what could be taken at all
    Bench(bench::BenchArgs),
    /// Print a script that completes commands in a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Go on serving afterwards, until stopped
    #[arg(long)]
    pub(crate) serve: bool,
    /// Where to listen [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modelog serve --data /var/lib/modelog --listen 127.0.0.1:8080
  MODELOG_LOG__SEGMENT_BYTES=256MiB modelog serve --config modelog.toml

SIGTERM or SIGINT (Ctrl-C) ends it in order: requests under way are finished, what is in the log goes into Parquet files,
the log is closed. A second one ends it at once; nothing that was acknowledged is lost.")]
pub(crate) struct ServeArgs {
    /// Where to listen [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List the segments of the log, or the frames of one
    Inspect(inspect::InspectArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with the configuration, without starting anything
    Check,
    /// Print every setting in effect, as TOML
    Show(show::ShowArgs),
}

impl Cli {
    /// Loads the configuration, with the flags of this call over everything else.
    ///
    /// # Errors
    /// [`crate::config::ConfigError`].
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let Common {
            config,
            data,
            log_format,
            log_filter,
        } = &self.common;
        let mut flags = Vec::new();
        let mut flag = |setting, flag, value: Option<String>| {
            flags.extend(value.map(|value| Flag {
                setting,
                flag,
                value,
            }));
        };
        flag("data", "--data", data.clone());
        flag("logging.format", "--log-format", log_format.clone());
        flag("logging.filter", "--log-filter", log_filter.clone());
        if let Command::Serve(ServeArgs { listen }) = &self.command {
            flag("http.listen", "--listen", listen.clone());
        }
        Ok(crate::config::load(config.as_deref(), flags)?)
    }
}
