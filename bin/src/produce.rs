//! `produce`: each event of a file becomes a message of a Kafka topic.
//!
//! ```text
//! read, decompress, cut ─▶ portions ─▶ queue of librdkafka ─▶ brokers
//!      a thread            a few        bounded
//! ```
//!
//! Nothing of an event is looked at but whether it is JSON, and the field that becomes the key. Interrupted, it sends what
//! it has taken and says how much that was.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;
use modelog_engine::{Clock, SystemClock, chain};
use modelog_kafka::{Outgoing, ProduceError, ProduceErrorKind, Target, TopicProducer};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exit::{Exit, Failed};
use crate::import::texts::{Portion, Text, TextFormat, Texts};
use crate::output::{self, counted};
use crate::progress;

/// How many portions are read ahead.
const AHEAD: usize = 2;
/// How long one wait is, after which is looked whether to end.
const WAIT: Duration = Duration::from_millis(20);
/// How long an interrupted call waits for what is on its way.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// The exit code of what SIGINT ended.
const INTERRUPTED: u8 = 128 + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog produce events.ndjson --brokers localhost:9092 --topic ml-events
  zcat old.gz | modelog produce - --brokers a:9092,b:9092 --topic ml-events --key model --compression lz4
  modelog produce garbage.txt --format lines --rate 100 --brokers localhost:9092 --topic ml-events
  modelog produce events.json --brokers kafka:9093 --topic t --property security.protocol=ssl --headers source=backfill

A message that a file holds twice is sent twice, and so is a file that is sent twice.")]
pub(crate) struct ProduceArgs {
    /// Files, plain or compressed with gzip or zstd; - is stdin
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Brokers to ask first
    #[arg(
        long,
        required = true,
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    brokers: Vec<String>,
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// What the files are [default: what their first bytes and their names say]
    #[arg(long, value_enum)]
    format: Option<TextFormat>,
    /// The field of each event whose value becomes the key of its message
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// A header of every message; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// How messages are compressed [default: as the properties say, else not]
    #[arg(long, value_enum)]
    compression: Option<Compression>,
    /// At most so many messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// A setting of librdkafka, such as security.protocol=ssl; may be given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("has no `=`")?;
    if name.is_empty() {
        return Err("has no name before the `=`".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl Compression {
    fn codec(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Sends files.
///
/// # Errors
/// If a file cannot be read, or a message not delivered; the error says how many were.
pub(crate) async fn run(args: ProduceArgs) -> Result<ExitCode> {
    if args.key.is_some() && args.format == Some(TextFormat::Lines) {
        return Err(Failed::usage(
            "lines have no fields, so --key finds none in them",
        ));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut work = tokio::task::spawn_blocking(move || send_all(&args, &stopped));
    let done = tokio::select! {
        done = &mut work => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    match done? {
        Ok(()) if stop.load(Ordering::Relaxed) => Ok(INTERRUPTED.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

/// Sends everything, unless told to stop, and says how much.
fn send_all(args: &ProduceArgs, stop: &AtomicBool) -> Result<()> {
    let target = Target {
        brokers: args.brokers.clone(),
        topic: args.topic.clone(),
        compression: args.compression.map(Compression::codec),
        properties: args.properties.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let producer = TopicProducer::open(&target).map_err(|error| failed(error, ""))?;
    let mut sending = Sending {
        producer,
        args,
        stop,
        pace: args.rate.map(Pace::new),
    };
    let outcome = sending.files();
    // What was taken is sent, whatever ended the files.
    let (unread, settled) = match outcome {
        Ok(()) | Err(Ended::Interrupted) => (None, sending.settle()),
        Err(Ended::Failed(error)) => (Some(error), sending.settle()),
        Err(unsent @ Ended::NotSent(_)) => (None, Err(unsent)),
    };
    let (sent, delivered) = (sending.producer.sent(), sending.producer.delivered());
    let told = format!(
        "{} delivered to {}",
        counted(delivered, "message"),
        args.topic
    );
    match (settled, unread) {
        (Err(Ended::NotSent(error)), _) => Err(failed(error, &format!("{told}; then "))),
        (Err(Ended::Failed(error)), _) | (Ok(()) | Err(Ended::Interrupted), Some(error)) => {
            Err(error.context(told))
        }
        (Err(Ended::Interrupted), None) => Ok(output::line(&format!(
            "{told} when interrupted; whether {} more were is not known",
            sent - delivered
        ))?),
        (Ok(()), None) if stop.load(Ordering::Relaxed) => {
            Ok(output::line(&format!("{told} when interrupted"))?)
        }
        (Ok(()), None) => Ok(output::line(&told)?),
    }
}

fn failed(error: ProduceError, before: &str) -> anyhow::Error {
    let exit = match error.kind() {
        ProduceErrorKind::Usage => Exit::Usage,
        ProduceErrorKind::Unavailable => Exit::Unavailable,
        ProduceErrorKind::NotAllowed => Exit::Config,
        ProduceErrorKind::Refused => Exit::BadData,
    };
    Failed::new(exit, format!("{before}{}", chain(&error))).into()
}

/// Why nothing more is sent.
enum Ended {
    Interrupted,
    Failed(anyhow::Error),
    NotSent(ProduceError),
}

impl From<ProduceError> for Ended {
    fn from(error: ProduceError) -> Self {
        Self::NotSent(error)
    }
}

struct Sending<'a> {
    producer: TopicProducer,
    args: &'a ProduceArgs,
    stop: &'a AtomicBool,
    pace: Option<Pace>,
}

impl Sending<'_> {
    fn files(&mut self) -> Result<(), Ended> {
        for path in &self.args.files {
            let texts = Texts::open(path, self.args.format).map_err(Ended::Failed)?;
            let name = texts.name().to_owned();
            let bar = progress::bytes(texts.bytes(), &format!("sending {name}"));
            let sent = self.file(&name, read(texts), &bar);
            bar.finish_and_clear();
            sent?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        name: &str,
        portions: Receiver<Result<Portion>>,
        bar: &ProgressBar,
    ) -> Result<(), Ended> {
        loop {
            let portion = match portions.recv_timeout(WAIT) {
                Ok(portion) => portion.map_err(Ended::Failed)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    self.wait()?;
                    continue;
                }
            };
            for text in portion.texts() {
                self.text(name, text)?;
            }
            bar.set_position(portion.read);
        }
    }

    fn text(&mut self, name: &str, text: Text<'_>) -> Result<(), Ended> {
        let key = self
            .key(text.bytes)
            .map_err(|reason| bad(name, text.line, &reason))?;
        while let Some(pace) = &self.pace
            && let Some(wait) = pace.wait(self.producer.sent())
        {
            self.wait_for(wait.min(WAIT))?;
        }
        let message = Outgoing {
            value: text.bytes,
            key: key.as_deref(),
            headers: &self.args.headers,
        };
        while !self.producer.try_send(&message)? {
            self.wait()?;
        }
        Ok(())
    }

    /// The key of an event, if it is to have one; also sees to it that the event is one.
    fn key<'t>(&self, text: &'t [u8]) -> Result<Option<Cow<'t, [u8]>>, serde_json::Error> {
        if self.args.format == Some(TextFormat::Lines) {
            return Ok(None);
        }
        let Some(field) = &self.args.key else {
            serde_json::from_slice::<&RawValue>(text)?;
            return Ok(None);
        };
        let fields: BTreeMap<Cow<'t, str>, &'t RawValue> = serde_json::from_slice(text)?;
        let Some(value) = fields.get(field.as_str()) else {
            return Ok(None);
        };
        Ok(match value.get() {
            "null" => None,
            text if text.starts_with('"') => {
                let value = Cow::<str>::deserialize(*value)?;
                Some(Cow::Owned(value.into_owned().into_bytes()))
            }
            other => Some(Cow::Borrowed(other.as_bytes())),
        })
    }

    fn wait(&self) -> Result<(), Ended> {
        self.wait_for(WAIT)
    }

    fn wait_for(&self, time: Duration) -> Result<(), Ended> {
        self.producer.wait(time)?;
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Ended::Interrupted),
            false => Ok(()),
        }
    }

    /// Waits until everything that was taken is delivered; not for ever, if it is to end.
    fn settle(&self) -> Result<(), Ended> {
        let clock = SystemClock::new();
        let mut interrupted_at = None;
        while !self.producer.is_settled() {
            self.producer.wait(WAIT)?;
            if self.stop.load(Ordering::Relaxed) {
                let now = clock.monotonic();
                let since = *interrupted_at.get_or_insert(now);
                if now.saturating_sub(since) > LAST_WAIT {
                    return Err(Ended::Interrupted);
                }
            }
        }
        Ok(self.producer.wait(Duration::ZERO)?)
    }
}

fn bad(name: &str, line: u64, reason: &serde_json::Error) -> Ended {
    Ended::Failed(Failed::bad_data(format!(
        "{name}:{line}: {reason}; `--format lines` sends lines of anything"
    )))
}

/// Reads on a thread of its own, which may wait for ever for what comes through stdin.
fn read(mut texts: Texts) -> Receiver<Result<Portion>> {
    let (sender, portions) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        while let Some(portion) = texts.next().transpose() {
            let last = portion.is_err();
            if sender.send(portion).is_err() || last {
                return;
            }
        }
    });
    portions
}

/// So many messages a second.
struct Pace {
    rate: u32,
    clock: SystemClock,
    begun: Duration,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let clock = SystemClock::new();
        let begun = clock.monotonic();
        Self { rate, clock, begun }
    }

    /// How long to wait, after so many messages.
    fn wait(&self, sent: u64) -> Option<Duration> {
        let due = Duration::from_secs_f64(sent as f64 / f64::from(self.rate));
        let passed = self.clock.monotonic().saturating_sub(self.begun);
        due.checked_sub(passed).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
