//! Where pieces go: into the log of this process, or to a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{
    AppendError, AppendOptions, Channel, Engine, LogId, Offset, OnBacklog, OnConflict,
};
use modelog_formats::{Decoded, Format};
use reqwest::Method;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::ImportOptions;
use super::chunk::{Chunk, Spot};
use super::present::{Target, TargetPlace};
use super::refusal::Refusal;
use crate::client::{self, Client, ServerError};
use crate::exit::Failed;

/// Where pieces go.
pub(super) enum Sink {
    Engine {
        engine: Engine,
        /// Where the log ended when the import began: what lies before it was there.
        began: Offset,
    },
    Server {
        client: Arc<Client>,
        began: Offset,
    },
}

/// A piece, ready to go.
pub(super) struct Prepared {
    pub(super) chunk: Chunk,
    pub(super) source: Source,
    /// For an engine.
    pub(super) decoded: Option<Decoded>,
    pub(super) beside: Beside,
}

/// What there is to say about a piece of history, beside its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// Events that were in the log before, and are not in the piece.
    pub(super) known: u64,
    /// Records that are not taken.
    pub(super) left_out: u64,
    /// How many events of the piece are records of rejected ones: here they are events like others.
    pub(super) records: u64,
}

/// What became of a piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
    pub(super) unknown_fields: BTreeMap<String, u64>,
    /// Every piece up to this one is in the log.
    pub(super) through: Option<u64>,
}

impl Sent {
    /// So many of the events were records of rejected ones when they were sent.
    pub(super) fn with_records(mut self, records: u64) -> Self {
        let records = records.min(self.rejected);
        self.rejected -= records;
        self.accepted += records;
        self
    }
}

/// What a server answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taken {
    accepted: u64,
    rejected: u64,
    duplicates: u64,
    end_offset: Option<u64>,
    unknown_fields: BTreeMap<String, u64>,
}

impl Sink {
    /// An engine of this process.
    pub(super) fn engine(engine: Engine) -> Self {
        let began = engine.tail();
        Self::Engine { engine, began }
    }

    /// A server.
    ///
    /// # Errors
    /// If it cannot be asked where its log ends.
    pub(super) async fn server(client: Client) -> Result<Self, ServerError> {
        let began = match crate::projections::tail_of(&client).await {
            Ok(tail) => tail,
            // A token that may only ingest: what was there before is then counted as accepted once more.
            Err(ServerError::Refused { status, .. }) if status.as_u16() == 403 => Offset::ZERO,
            Err(error) => return Err(error),
        };
        Ok(Self::Server {
            client: Arc::new(client),
            began,
        })
    }

    /// The log itself, as somebody who has to know what is in it. Of a server it takes the right to read.
    ///
    /// # Errors
    /// If the server does not say which log it has.
    pub(super) async fn target(&self) -> Result<Target> {
        let (log, tail, at) = match self {
            Self::Engine { engine, began } => {
                (engine.log_id(), *began, TargetPlace::Engine(engine.clone()))
            }
            Self::Server { client, began } => {
                let place = TargetPlace::Server(Arc::clone(client), Handle::current());
                (log_of(client).await?, *began, place)
            }
        };
        Ok(Target { log, tail, at })
    }

    /// Whether pieces are decoded here.
    pub(super) fn decodes(&self) -> bool {
        matches!(self, Self::Engine { .. })
    }

    /// Sends a piece; it is durable when this returns.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) async fn send(
        &self,
        prepared: Prepared,
        options: &ImportOptions,
    ) -> Result<Sent, Refusal> {
        let (chunk, source) = (prepared.chunk, prepared.source);
        match self {
            Self::Engine { engine, began } => {
                let decoded = prepared.decoded.expect("pieces for an engine are decoded");
                append(engine, *began, chunk, source, decoded, options).await
            }
            Self::Server { client, began } => post(client, *began, chunk, source, options).await,
        }
    }
}

/// Which log a server has.
async fn log_of(client: &Client) -> Result<LogId> {
    const NOT_TOLD: &str = "to tell what the log has already, an import of Parquet, or of a live view in Redis, must read";
    let request = client.request(Method::GET, "/v1/events?until=0");
    let response = client.send(request).await.context(NOT_TOLD)?;
    let header = response.headers().get("modelog-log");
    header
        .and_then(|log| log.to_str().ok()?.parse().ok().map(LogId))
        .ok_or_else(|| {
            Failed::unavailable(format!(
                "{} does not say which log it has: it is older than this program",
                client.what()
            ))
        })
}

/// A piece that is in the log from before.
fn known(chunk: &Chunk, through: u64) -> Sent {
    Sent {
        duplicates: chunk.events,
        through: Some(through),
        ..Sent::default()
    }
}

async fn append(
    engine: &Engine,
    began: Offset,
    chunk: Chunk,
    source: Source,
    decoded: Decoded,
    options: &ImportOptions,
) -> Result<Sent, Refusal> {
    let Decoded {
        mut batch,
        unknown_fields,
        ..
    } = decoded;
    batch.add_origin(Origin::whole(source));
    let id_conflict = if options.skips {
        OnConflict::Record
    } else {
        OnConflict::Refuse
    };
    let how = AppendOptions {
        channel: Channel::Import,
        backlog: OnBacklog::Wait,
        id_conflict,
        ..AppendOptions::default()
    };
    match engine.append(batch, how).await {
        // A repeat gets the answer of the first time, which speaks of events that were there before.
        Ok(appended) if appended.first.is_some() && appended.end <= began => {
            Ok(known(&chunk, chunk.index))
        }
        Ok(appended) => Ok(Sent {
            accepted: appended.accepted.into(),
            duplicates: appended.duplicates.into(),
            rejected: appended.rejected.into(),
            unknown_fields,
            through: None,
        }),
        Err(AppendError::StaleProducer { sequence, .. }) => Ok(known(&chunk, sequence)),
        Err(AppendError::KeyReused) => Ok(known(&chunk, chunk.index)),
        Err(error) => {
            let event = match &error {
                AppendError::IdConflict { ord, .. }
                | AppendError::RepeatedId { ord, .. }
                | AppendError::EntityConflict { ord, .. } => Some(u64::from(*ord)),
                _ => None,
            };
            let place = event.map(|event| {
                chunk.locate(&Spot {
                    event: Some(event),
                    ..Spot::default()
                })
            });
            Err(Refusal::Log {
                place: place.unwrap_or_else(|| ": ".into()),
                source: error,
            })
        }
    }
}

async fn post(
    client: &Client,
    began: Offset,
    chunk: Chunk,
    source: Source,
    options: &ImportOptions,
) -> Result<Sent, Refusal> {
    let kind = options.kind.filter(|_| chunk.format == Format::Arrow);
    let path = format!(
        "/v1/events{}",
        client::query(&[
            ("on_error", options.skips.then(|| "skip".into())),
            ("strict", options.strict.then(|| "true".into())),
            ("kind", kind.map(|kind| kind.name().into())),
        ])
    );
    let (name, value) = match &source {
        Source::Producer {
            id,
            epoch,
            sequence,
        } => ("modelog-producer", format!("{id};{epoch};{sequence}")),
        Source::Call { key, .. } => ("idempotency-key", key.to_string()),
        Source::Kafka { .. } => unreachable!("an import has no partitions"),
    };
    // Shared, not copied, by every attempt.
    let body = Bytes::from(chunk.bytes.clone());
    let answer = client
        .send_repeatedly(|| {
            client
                .request(Method::POST, &path)
                .header("content-type", media_type(chunk.format))
                .header(name, &value)
                .body(body.clone())
        })
        .await;
    let taken: Taken = match answer {
        Ok(response) => client.parse(response).await?,
        Err(error) => {
            let code = error.problem().map(|problem| problem.code.as_str());
            // Both say that the piece is there: names and keys stand for content.
            if matches!(code, Some("stale_producer" | "key_reused")) {
                return Ok(known(&chunk, chunk.index));
            }
            return Err(Refusal::of_server(error, &chunk));
        }
    };
    if taken.end_offset.is_some_and(|end| end <= began.0) {
        return Ok(known(&chunk, chunk.index));
    }
    Ok(Sent {
        accepted: taken.accepted,
        duplicates: taken.duplicates,
        rejected: taken.rejected,
        unknown_fields: taken.unknown_fields,
        through: None,
    })
}

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::CloudEvent => "application/cloudevents+json",
        Format::CloudEventBatch => "application/cloudevents-batch+json",
        Format::Arrow => "application/vnd.apache.arrow.stream",
    }
}
