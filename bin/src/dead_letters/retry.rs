//! `dead-letters retry`: reads again what was rejected, and puts what is understood now into the log.
//!
//! A record is decoded by the rules of the source that reads its topic, and becomes events as JSON; several records make a
//! call. A call that is refused is made again record by record, so that one of them tells which it was. Nothing is recorded
//! as rejected once more: what still cannot be understood stays where it is, as one record.
//!
//! # Once
//! Events keep their ids. Those without one are given the place they came from: `topic/partition/position` with the
//! cluster as their source, or, if they did not come from Kafka, `rejected/0/<offset of the record>` with the log as their
//! source. So the log knows them again, as far back as it knows any event again.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use modelog_engine::event::Kind;
use modelog_engine::{AppendError, AppendOptions, Channel, Engine, LogId, Offset};
use modelog_formats::{
    Format, Limits, MessageFormat, MessageReader, ModelTemplate, Options, RejectedMessage,
    RetryError, decode,
};
use modelog_kafka::Topics;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::RetryArgs;
use super::read::{Records, Stretch, Target};
use super::record::Record;
use crate::client::{Client, ServerError};
use crate::config::Settings;
use crate::exit::{Exit, Failed};
use crate::output::{self, Rows, Shape, counted, thousands};
use crate::place::Place;
use crate::progress;

/// A call has about as many bytes at most,
const CALL_BYTES: usize = 1 << 20;
/// and so many records.
const CALL_RECORDS: usize = 1000;
/// How many of those that are still rejected are told one by one.
const TOLD_MAX: u64 = 20;
/// The largest event that a server can be set to take.
const SERVER_EVENT_BYTES: usize = 64 << 20;

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Records that were tried.
    records: u64,
    /// Events that are in the log now.
    accepted: u64,
    /// Events that were in the log before.
    duplicates: u64,
    /// Records of which something still cannot be taken.
    still_rejected: u64,
    /// The same by reason.
    reasons: BTreeMap<String, u64>,
}

/// Events as JSON, and why some of what was rejected is not among them.
type ReadAgain = (Vec<u8>, Option<Still>);

/// Why a record is still rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Still {
    reason: String,
    message: String,
}

/// Tries again.
///
/// # Errors
/// If the log or the server cannot be read, or takes nothing more.
pub(super) async fn run(settings: &Settings, args: &RetryArgs) -> Result<ExitCode> {
    let offsets: BTreeSet<u64> = args.offsets.iter().copied().collect();
    let stretch = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => Stretch::between(*first, *last),
        _ => Stretch::ALL,
    };
    let place = Place::find(&args.reach, settings)?;
    let records = Records::open(settings, place, stretch).await?;
    let mut retry = Retry {
        rules: Rules::new(settings, &records)?,
        target: records.log_of(),
        waiting: Vec::new(),
        bytes: 0,
        summary: Summary::default(),
    };
    let missing = retry.all(records, offsets, args).await?;
    retry.summary.print(args.format)?;
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(u64::to_string).collect();
        return Err(Failed::bad_data(format!(
            "nothing that fits was rejected at {}",
            missing.join(", ")
        )));
    }
    Ok(match retry.summary.still_rejected {
        0 => ExitCode::SUCCESS,
        _ => Exit::BadData.into(),
    })
}

struct Retry {
    rules: Rules,
    target: Target,
    /// Records that make the next call.
    waiting: Vec<Decoded>,
    /// What they have together.
    bytes: usize,
    summary: Summary,
}

/// A record that is understood now: its events as JSON, parted by commas.
struct Decoded {
    name: String,
    events: Vec<u8>,
}

/// Events that were taken, and events that were there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taken {
    accepted: u64,
    duplicates: u64,
}

/// Why a call was not taken.
enum Refused {
    /// Because of what is in it.
    Events(Still),
    Failed(anyhow::Error),
}

impl Retry {
    /// Tries all that are wanted; answers the offsets at which nothing was found.
    async fn all(
        &mut self,
        mut records: Records,
        mut offsets: BTreeSet<u64>,
        args: &RetryArgs,
    ) -> Result<BTreeSet<u64>> {
        let spinner = progress::spinner("retrying");
        let tried = async {
            while let Some(record) = records.next().await? {
                let named = args.all || offsets.contains(&record.offset.0);
                if named && args.wanted.takes(&record) {
                    offsets.remove(&record.offset.0);
                    self.record(&record).await?;
                    let tried = self.summary.records;
                    spinner.set_message(format!("{} retried", counted(tried, "record")));
                }
            }
            self.send().await
        };
        let tried = tried.await;
        spinner.finish_and_clear();
        let closed = records.close().await;
        tried?;
        closed?;
        Ok(offsets)
    }

    async fn record(&mut self, record: &Record) -> Result<()> {
        self.summary.records += 1;
        let name = shown(record);
        match self.rules.decode(record)? {
            Err(still) => self.summary.refuse(&name, still),
            Ok((events, still)) => {
                if let Some(still) = still {
                    self.summary.refuse(&name, still);
                }
                if !events.is_empty() {
                    self.bytes += events.len();
                    self.waiting.push(Decoded { name, events });
                }
            }
        }
        if self.bytes >= CALL_BYTES || self.waiting.len() >= CALL_RECORDS {
            self.send().await?;
        }
        Ok(())
    }

    /// Puts into the log what waits for it.
    async fn send(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if waiting.is_empty() {
            return Ok(());
        }
        match self.call(&waiting).await {
            Ok(taken) => {
                self.summary.take(&taken);
                return Ok(());
            }
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Events(_)) => {}
        }
        for one in &waiting {
            match self.call(std::slice::from_ref(one)).await {
                Ok(taken) => self.summary.take(&taken),
                Err(Refused::Events(still)) => self.summary.refuse(&one.name, still),
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn call(&self, records: &[Decoded]) -> Result<Taken, Refused> {
        let events: Vec<_> = records.iter().map(|record| &record.events[..]).collect();
        let body = [&b"["[..], &events.join(&b","[..]), b"]"].concat();
        match &self.target {
            Target::Engine(engine) => append(engine, &body, &self.rules.options).await,
            Target::Server(client) => post(client, body.into()).await,
        }
    }
}

async fn append(engine: &Engine, body: &[u8], options: &Options) -> Result<Taken, Refused> {
    let decoded = decode(body, Format::Json, options).map_err(|errors| {
        let first = errors.errors.first();
        Refused::Events(Still {
            reason: first
                .map_or("invalid_events", |error| error.code)
                .to_owned(),
            message: first.map_or_else(String::new, |error| error.message.clone()),
        })
    })?;
    let how = AppendOptions {
        channel: Channel::Import,
        ..AppendOptions::default()
    };
    match engine.append(decoded.batch, how).await {
        Ok(appended) => Ok(Taken {
            accepted: appended.accepted.into(),
            duplicates: appended.duplicates.into(),
        }),
        Err(
            error @ (AppendError::IdConflict { .. }
            | AppendError::RepeatedId { .. }
            | AppendError::EntityConflict { .. }
            | AppendError::TooLarge { .. }),
        ) => Err(Refused::Events(Still {
            reason: code_of(&error).to_owned(),
            message: error.to_string(),
        })),
        Err(error) => Err(Refused::Failed(error.into())),
    }
}

/// The code that the API has for it.
fn code_of(error: &AppendError) -> &'static str {
    match error {
        AppendError::IdConflict { .. } | AppendError::RepeatedId { .. } => "id_conflict",
        AppendError::EntityConflict { .. } => "entity_conflict",
        _ => "too_large",
    }
}

async fn post(client: &Client, body: Bytes) -> Result<Taken, Refused> {
    let request = || {
        client
            .request(Method::POST, "/v1/events")
            .header("content-type", "application/json")
            .body(body.clone())
    };
    match client.send_repeatedly(request).await {
        Ok(response) => {
            let taken = client.parse(response).await;
            taken.map_err(|error| Refused::Failed(error.into()))
        }
        Err(ServerError::Refused {
            status, problem, ..
        }) if matches!(status.as_u16(), 400 | 409 | 413 | 422) => {
            let first = problem.errors.first();
            let message = first.map_or(&problem.detail, |error| &error.message);
            Err(Refused::Events(Still {
                reason: problem.code.clone(),
                message: message.clone(),
            }))
        }
        Err(error) => Err(Refused::Failed(error.into())),
    }
}

/// How records are understood.
struct Rules {
    log: Option<LogId>,
    options: Options,
    /// Those of sources, by their topics.
    sources: Vec<(Topics, MessageFormat, ModelTemplate)>,
    standard: ModelTemplate,
}

impl Rules {
    fn new(settings: &Settings, records: &Records) -> Result<Self> {
        let here = matches!(records, Records::Log { .. });
        let mut options = Options::default();
        // A server judges by limits of its own.
        options.limits = match here {
            true => Limits {
                value_bytes: settings.http.value_bytes,
                event_bytes: settings.http.event_bytes,
                depth: settings.http.depth,
                ..options.limits
            },
            false => Limits {
                event_bytes: SERVER_EVENT_BYTES,
                depth: Limits::DEPTH_MAX,
                ..options.limits
            },
        };
        let mut sources = Vec::new();
        for source in &settings.kafka {
            let topics = Topics::new(&source.topics);
            let topics = topics.map_err(|error| Failed::new(Exit::Config, error.to_string()))?;
            sources.push((topics, source.format.into(), source.kserve_model.parse()?));
        }
        Ok(Self {
            log: records.log(),
            options,
            sources,
            standard: ModelTemplate::standard().clone(),
        })
    }

    /// The events of a record as JSON, and why some of it may still not be among them; or why none is.
    fn decode(&self, record: &Record) -> Result<Result<ReadAgain, Still>> {
        if record.reason == "id_conflict" {
            return Ok(Err(Still {
                reason: record.reason.clone(),
                message: record.message.clone().unwrap_or_default(),
            }));
        }
        let (raw, key) = (record.bytes()?, record.key()?);
        let topic = record.topic();
        let (position, source) = match (&record.position, topic) {
            (Some(position), Some(_)) => {
                let source = record.source.clone();
                (position.clone(), source.unwrap_or_else(|| "kafka".into()))
            }
            _ => self.place_of(record.offset),
        };
        let (format, template) = self.of_topic(topic);
        let mut reader = MessageReader::new(format, &self.options, template);
        let message = RejectedMessage {
            position: &position,
            raw: &raw,
            raw_bytes: record.raw_bytes,
            key: key.as_deref(),
            headers: record.headers.as_deref(),
        };
        if let Err(error) = reader.read_rejected(&message, &source) {
            return Ok(Err(still(error)));
        }
        let decoded = reader.finish();
        // Events that say no time happened when they were first taken note of.
        let batch = decoded.batch.into_logged(Offset::ZERO, record.append_time);
        let mut events = Vec::new();
        let good = batch.in_order().into_iter();
        for row in good.filter(|row| row.kind() != Kind::EventRejected) {
            if !events.is_empty() {
                events.push(b',');
            }
            row.write_json(&mut events);
        }
        let bad = decoded.rejected.into_iter().next();
        Ok(Ok((
            events,
            bad.map(|bad| still(RetryError::Rejected(bad))),
        )))
    }

    /// The place of what did not come from Kafka, and the source it is in.
    fn place_of(&self, offset: Offset) -> (String, String) {
        let source = match self.log {
            Some(log) => format!("modelog:{log}"),
            None => "modelog".into(),
        };
        (format!("rejected/0/{offset}"), source)
    }

    fn of_topic(&self, topic: Option<&str>) -> (MessageFormat, &ModelTemplate) {
        let read = |(topics, ..): &&(Topics, _, _)| topic.is_some_and(|topic| topics.have(topic));
        match self.sources.iter().find(read) {
            Some((_, format, template)) => (*format, template),
            None => (MessageFormat::Auto, &self.standard),
        }
    }
}

fn still(error: RetryError) -> Still {
    match error {
        RetryError::Rejected(error) => Still {
            reason: error.code.to_owned(),
            message: error.message,
        },
        RetryError::CutShort { .. } => of_code("cut_short", &error),
        RetryError::HeadersLeftOut => of_code("headers_left_out", &error),
        RetryError::NotAMessage(_) | RetryError::BadSource(_) => of_code("no_place", &error),
    }
}

fn of_code(reason: &str, error: &RetryError) -> Still {
    Still {
        reason: reason.to_owned(),
        message: error.to_string(),
    }
}

/// What to call a record in messages.
fn shown(record: &Record) -> String {
    match &record.position {
        Some(position) => format!("{} ({position})", record.offset),
        None => record.offset.to_string(),
    }
}

impl Summary {
    fn take(&mut self, taken: &Taken) {
        self.accepted += taken.accepted;
        self.duplicates += taken.duplicates;
    }

    /// Counts a record that is still rejected, and says which, as long as there are not too many.
    fn refuse(&mut self, name: &str, still: Still) {
        self.still_rejected += 1;
        if self.still_rejected <= TOLD_MAX {
            eprintln!("{name}: {}: {}", still.reason, still.message);
        }
        *self.reasons.entry(still.reason).or_default() += 1;
    }

    fn print(&self, format: Shape) -> Result<()> {
        match format {
            Shape::Json => output::json(self)?,
            Shape::Ndjson => output::ndjson([self])?,
            Shape::Table => {
                let mut rows = Rows::new(&["retried", "accepted", "duplicates", "still rejected"]);
                let counts = [
                    self.records,
                    self.accepted,
                    self.duplicates,
                    self.still_rejected,
                ];
                rows.plain(counts.map(thousands));
                rows.print()?;
            }
        }
        let untold = self.still_rejected.saturating_sub(TOLD_MAX);
        if untold > 0 {
            let reasons = self.reasons.iter();
            let reasons: Vec<_> = reasons
                .map(|(reason, count)| format!("{reason} ({})", thousands(*count)))
                .collect();
            eprintln!(
                "and {} more; in all: {}",
                thousands(untold),
                reasons.join(", ")
            );
        }
        Ok(())
    }
}
