//! A record of something that was rejected.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modelog_engine::batch::Row;
use modelog_engine::event::{Kind, schema};
use modelog_engine::{Offset, Timestamp};
use modelog_formats::Place;
use serde::Deserialize;
use serde_json::value::RawValue;

const REASON: usize = schema::column(Kind::EventRejected, "reason");
const MESSAGE: usize = schema::column(Kind::EventRejected, "message");
const POSITION: usize = schema::column(Kind::EventRejected, "position");
const RAW: usize = schema::column(Kind::EventRejected, "raw");
const RAW_BYTES: usize = schema::column(Kind::EventRejected, "raw_bytes");
const KEY: usize = schema::column(Kind::EventRejected, "key");
const HEADERS: usize = schema::column(Kind::EventRejected, "headers");

/// An `EventRejected`, from the log or from a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) offset: Offset,
    pub(super) append_time: Timestamp,
    pub(super) source: Option<String>,
    pub(super) reason: String,
    pub(super) message: Option<String>,
    pub(super) position: Option<String>,
    raw: Bytes,
    /// How many bytes there were.
    pub(super) raw_bytes: Option<i64>,
    key: Option<Bytes>,
    /// JSON.
    pub(super) headers: Option<String>,
}

/// Bytes as they come; a list needs none of them decoded.
#[derive(Clone, Debug, PartialEq)]
enum Bytes {
    Plain(Vec<u8>),
    Base64(String),
}

impl Bytes {
    fn decoded(&self) -> Result<Vec<u8>> {
        match self {
            Self::Plain(bytes) => Ok(bytes.clone()),
            Self::Base64(text) => STANDARD
                .decode(text)
                .context("the server sends bytes that are no base64"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Base64(text) => text.trim_end_matches('=').len() * 3 / 4,
        }
    }
}

/// The line of a server.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    log_offset: u64,
    #[serde(borrow)]
    append_time: std::borrow::Cow<'a, str>,
    source: Option<String>,
    reason: String,
    message: Option<String>,
    position: Option<String>,
    raw: Option<String>,
    raw_bytes: Option<i64>,
    key: Option<String>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
}

impl Record {
    /// A row of the kind.
    pub(super) fn of_row(row: Row<'_>) -> Self {
        let text = |column| row.text(column).map(str::to_owned);
        let bytes = |column| row.bytes(column).map(|bytes| Bytes::Plain(bytes.to_vec()));
        Self {
            offset: row.offset(),
            append_time: row.append_time(),
            source: text(schema::SOURCE),
            reason: text(REASON).unwrap_or_default(),
            message: text(MESSAGE),
            position: text(POSITION),
            raw: bytes(RAW).unwrap_or(Bytes::Plain(Vec::new())),
            raw_bytes: row.int(RAW_BYTES),
            key: bytes(KEY),
            headers: text(HEADERS),
        }
    }

    /// A line of `GET /v1/events`.
    pub(super) fn of_line(line: &[u8]) -> Result<Self> {
        let line: Line<'_> =
            serde_json::from_slice(line).context("the server sends a line that is no record")?;
        Ok(Self {
            offset: Offset(line.log_offset),
            append_time: Timestamp::parse(&line.append_time)
                .context("the server sends a time that is none")?,
            source: line.source,
            reason: line.reason,
            message: line.message,
            position: line.position,
            raw: Bytes::Base64(line.raw.unwrap_or_default()),
            raw_bytes: line.raw_bytes,
            key: line.key.map(Bytes::Base64),
            headers: line.headers.map(|headers| headers.get().to_owned()),
        })
    }

    /// The bytes that were kept.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        self.raw.decoded()
    }

    pub(super) fn key(&self) -> Result<Option<Vec<u8>>> {
        self.key.as_ref().map(Bytes::decoded).transpose()
    }

    /// How many bytes were rejected, whether or not all of them were kept.
    pub(super) fn size(&self) -> u64 {
        let size = self.raw_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        size.unwrap_or(self.raw.len() as u64)
    }

    /// The Kafka topic it is from, if it is from one.
    pub(super) fn topic(&self) -> Option<&str> {
        Place::topic_of(self.position.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelog_engine::batch::EventBatch;
    use modelog_engine::event::{Event, EventRejected, Json};

    #[test]
    fn the_log_and_a_server_tell_the_same() {
        let event = Event::from(EventRejected {
            reason: "bad_json".into(),
            message: Some("a \"brace\" is missing\n".into()),
            position: Some("t/0/7#2, byte 3".into()),
            raw: Some(b"{\xff\0a".into()),
            raw_bytes: Some(9),
            key: Some(b"\xfe".into()),
            headers: Some(Json::parse("[[\"a\",\n null]]").unwrap()),
            ..EventRejected::default()
        });
        let event = event.with_source("kafka:c");
        let batch = EventBatch::from_events([&event]).unwrap();
        let batch = batch.into_logged(Offset(41), Timestamp::from_micros(1_795_366_800_000_001));
        let row = batch.in_order()[0];
        let mut line = Vec::new();
        row.write_json_line(&mut line);
        let (here, there) = (Record::of_row(row), Record::of_line(&line).unwrap());
        for record in [&here, &there] {
            assert_eq!(record.bytes().unwrap(), b"{\xff\0a");
            assert_eq!(record.key().unwrap().as_deref(), Some(&b"\xfe"[..]));
            assert_eq!((record.size(), record.raw.len()), (9, 4));
            assert_eq!(record.topic(), Some("t"));
            assert_eq!(record.offset, Offset(41));
        }
        let told = |record: &Record| Record {
            raw: Bytes::Plain(Vec::new()),
            key: None,
            // Between the tokens of JSON a line has no line breaks.
            headers: record.headers.as_ref().map(|json| json.replace('\n', " ")),
            ..record.clone()
        };
        assert_eq!(told(&here), told(&there));
    }
}
