//! `dead-letters`: what could not be understood, looked at and tried again.
//!
//! ```text
//! the log's reader ─┐                        ┌─ list, show
//!                   ├─ records, one by one ──┤
//! GET /v1/events ───┘                        └─ retry: decode ─▶ events as JSON ─▶ the log, or POST /v1/events
//! ```
//!
//! A record of what was rejected stays in the log whatever becomes of it: nothing rewrites history. Memory holds a piece of
//! the log, or one answer of the server as it comes, and what is shown.

mod list;
mod read;
mod record;
mod retry;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use modelog_engine::Timestamp;

use crate::config::Settings;
use crate::exit::Failed;
use crate::filter::time;
use crate::output::Shape;
use crate::place::{Place, Reach};
use read::{Records, Stretch};
use record::Record;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Show what was rejected, and why
    List(ListArgs),
    /// Print the bytes that were rejected, as they came
    Show(ShowArgs),
    /// Try again to understand what was rejected, and put it into the log
    Retry(RetryArgs),
}

/// Which records are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Wanted {
    /// Only what was rejected for this reason, such as bad_json
    #[arg(long)]
    reason: Option<String>,
    /// Only messages of this Kafka topic
    #[arg(long)]
    topic: Option<String>,
    /// Only what the log took at this time or later: 2026-11-22T17:00:00Z, 2026-11-22, or 24h for a day ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog dead-letters list                                    the newest hundred
  modelog dead-letters list --topic ml-events --since 24h
  modelog dead-letters list --limit 1000000 --format ndjson | jq -r .reason | sort | uniq -c")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Show so many of the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The offset of the record, as `list` shows it
    offset: u64,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog dead-letters retry 41000 41007
  modelog dead-letters retry --all --reason value_too_long --config modelog.toml

An event without an `id` is given the place it came from as one, so that it is in the log once however often it is
retried, as long as the log remembers it (`log.dedupe_window`); its time, if it says none, is that of its rejection. Formats and
limits are those of the configuration, with a server the limits of the server.")]
pub(crate) struct RetryArgs {
    /// The offsets of records, as `list` shows them; or --all
    #[arg(value_name = "OFFSET", required_unless_present = "all")]
    offsets: Vec<u64>,
    /// All that were ever rejected
    #[arg(long, conflicts_with = "offsets")]
    all: bool,
    #[command(flatten)]
    wanted: Wanted,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    #[command(flatten)]
    reach: Reach,
}

impl Wanted {
    fn takes(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        is(&self.reason, Some(&record.reason))
            && is(&self.topic, record.topic())
            && self.since.is_none_or(|since| record.append_time >= since)
    }
}

/// Does what is asked for.
///
/// # Errors
/// If the log or the server cannot be read, or nothing more be appended.
pub(crate) async fn run(settings: &Settings, command: DeadLettersCommand) -> Result<ExitCode> {
    match command {
        DeadLettersCommand::List(args) => list::run(settings, &args).await?,
        DeadLettersCommand::Show(args) => show(settings, &args).await?,
        DeadLettersCommand::Retry(args) => return retry::run(settings, &args).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the bytes of one record.
async fn show(settings: &Settings, args: &ShowArgs) -> Result<()> {
    let place = Place::find(&args.reach, settings)?;
    let mut records = Records::open(settings, place, Stretch::one(args.offset)).await?;
    let found = records.next().await;
    records.close().await?;
    let Some(record) = found? else {
        return Err(Failed::bad_data(format!(
            "nothing was rejected at offset {}",
            args.offset
        )));
    };
    let bytes = record.bytes()?;
    if let Some(all) = record
        .raw_bytes
        .filter(|all| usize::try_from(*all) != Ok(bytes.len()))
    {
        eprintln!("only the first {} of {all} bytes were kept", bytes.len());
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(())
}
