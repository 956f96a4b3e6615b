//! From a record of the log to the message that is sent: the bytes as they came, and beside them why they are here.
//!
//! The headers of a letter are those of the message it is about, in their order, and then ours, whose names begin with
//! `modelog-`. Where a message brought headers of such names along, because it was a letter before, the last of a name
//! counts.

use std::borrow::Cow;
use std::sync::Arc;

use modelog_engine::batch::{LoggedBatch, Row};
use modelog_engine::event::{Kind, schema};
use modelog_engine::origin::kafka_source;
use modelog_engine::{LogId, Offset, Timestamp};
use modelog_formats::{HeaderPairs, Place, headers_of};

use crate::topics::Topics;

const REASON: usize = schema::column(Kind::EventRejected, "reason");
const MESSAGE: usize = schema::column(Kind::EventRejected, "message");
const POSITION: usize = schema::column(Kind::EventRejected, "position");
const RAW: usize = schema::column(Kind::EventRejected, "raw");
const RAW_BYTES: usize = schema::column(Kind::EventRejected, "raw_bytes");
const RAW_SHA256: usize = schema::column(Kind::EventRejected, "raw_sha256");
const KEY: usize = schema::column(Kind::EventRejected, "key");
const HEADERS: usize = schema::column(Kind::EventRejected, "headers");

/// Which records become letters.
#[derive(Debug)]
pub(super) struct Rules {
    /// What records of the cluster have as their source; none if they cannot have one.
    source: Option<String>,
    topics: Vec<Topics>,
}

impl Rules {
    pub(super) fn new(cluster: &str, topics: Vec<Topics>) -> Self {
        Self {
            source: kafka_source(cluster),
            topics,
        }
    }

    /// The letters among batches, from an offset on.
    pub(super) fn letters<'b>(
        &self,
        batches: &'b [Arc<LoggedBatch>],
        from: Offset,
    ) -> Vec<Letter<'b>> {
        let tables = batches
            .iter()
            .filter_map(|batch| Some((batch, batch.table(Kind::EventRejected)?)));
        let rows = tables.flat_map(|(batch, table)| batch.rows_of(table));
        rows.filter(|row| row.offset() >= from)
            .filter_map(|row| self.letter(row))
            .collect()
    }

    /// A record with an id was not left by reading: it was imported from another log, which has sent it.
    fn letter<'b>(&self, row: Row<'b>) -> Option<Letter<'b>> {
        let source = row.text(schema::SOURCE)?;
        if self.source.as_deref() != Some(source) || row.text(schema::ID).is_some() {
            return None;
        }
        let position = row.text(POSITION)?;
        let topic = Place::topic_of(position)?;
        let ours = self.topics.iter().any(|topics| topics.have(topic));
        ours.then(|| Letter {
            offset: row.offset(),
            time: row.append_time(),
            reason: row.text(REASON).unwrap_or_default(),
            message: row.text(MESSAGE),
            position,
            value: row.bytes(RAW),
            bytes: row.int(RAW_BYTES),
            sha256: row.text(RAW_SHA256),
            key: row.bytes(KEY),
            headers: row.text(HEADERS),
        })
    }
}

/// A message that could not be understood, on its way out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Letter<'a> {
    /// Of the record in the log.
    pub(super) offset: Offset,
    /// When the log took the record.
    time: Timestamp,
    reason: &'a str,
    message: Option<&'a str>,
    position: &'a str,
    value: Option<&'a [u8]>,
    /// How many bytes there were, of which the value has the first.
    bytes: Option<i64>,
    sha256: Option<&'a str>,
    key: Option<&'a [u8]>,
    headers: Option<&'a str>,
}

/// How much of a letter is sent: brokers refuse what is too large for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    Whole,
    WithoutValue,
    /// Only what says which message it was.
    HeadersOfOurs,
}

/// A header of a letter.
pub(super) type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

impl<'a> Letter<'a> {
    /// About how many bytes it is.
    pub(super) fn bytes(&self) -> usize {
        let [value, key] = [self.value, self.key].map(|bytes| bytes.map_or(0, <[u8]>::len));
        value + key + self.headers.map_or(0, str::len)
    }

    pub(super) fn value(&self, extent: Extent) -> Option<&'a [u8]> {
        self.value.filter(|_| extent == Extent::Whole)
    }

    pub(super) fn key(&self, extent: Extent) -> Option<&'a [u8]> {
        self.key.filter(|_| extent <= Extent::WithoutValue)
    }

    /// The headers, to be sent in this order.
    pub(super) fn headers(&self, log: LogId, extent: Extent) -> Vec<Header<'a>> {
        let theirs = self.headers.filter(|_| extent <= Extent::WithoutValue);
        let HeaderPairs { pairs, left_out } = theirs.and_then(headers_of).unwrap_or_default();
        let theirs = pairs
            .into_iter()
            .map(|(name, value)| (Cow::Owned(name), value.map(Cow::Owned)));
        let mut headers: Vec<Header<'a>> = theirs.collect();
        let mut ours = |name: &'static str, value: Cow<'a, str>| {
            let value = match value {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            };
            headers.push((name.into(), Some(value)));
        };
        ours("modelog-reason", self.reason.into());
        if let Some(message) = self.message {
            ours("modelog-message", message.into());
        }
        ours("modelog-position", self.position.into());
        ours("modelog-time", self.time.to_string().into());
        ours("modelog-log", log.to_string().into());
        ours("modelog-offset", self.offset.to_string().into());
        if self.is_cut(extent)
            && let Some(bytes) = self.bytes
        {
            ours("modelog-bytes", bytes.to_string().into());
            if let Some(sha256) = self.sha256 {
                ours("modelog-sha256", sha256.into());
            }
        }
        if let Some(parts) = left_out_parts(left_out, extent) {
            ours("modelog-left-out", parts.into());
        }
        headers
    }

    /// Whether the value that is sent is not the whole value.
    fn is_cut(&self, extent: Extent) -> bool {
        let sent = self.value(extent).map_or(0, <[u8]>::len);
        self.bytes
            .is_some_and(|bytes| i64::try_from(sent) != Ok(bytes))
    }
}

/// What of a letter is missing beside the end of a long value.
fn left_out_parts(headers: u64, extent: Extent) -> Option<String> {
    match (extent, headers) {
        (Extent::Whole, 0) => None,
        (Extent::Whole, headers) => Some(format!("headers={headers}")),
        (Extent::WithoutValue, 0) => Some("value".into()),
        (Extent::WithoutValue, headers) => Some(format!("value, headers={headers}")),
        (Extent::HeadersOfOurs, _) => Some("value, key, headers".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelog_engine::batch::EventBatch;
    use modelog_engine::event::{Event, EventRejected, Json};

    const LOG: LogId = LogId(uuid::Uuid::from_u128(5));

    fn rejected(position: &str, source: &str) -> Event {
        let event = Event::from(EventRejected {
            reason: "bad_json".into(),
            message: Some("a brace is missing".into()),
            position: Some(position.into()),
            raw: Some(b"{\xff".into()),
            raw_bytes: Some(2),
            key: Some(b"k".into()),
            headers: Some(
                Json::parse(r#"[["a","1"],["a",null],["b",{"base64":"/w=="}]]"#).unwrap(),
            ),
            ..EventRejected::default()
        });
        event.with_source(source)
    }

    fn logged(events: &[Event]) -> Vec<Arc<LoggedBatch>> {
        let batch = EventBatch::from_events(events).unwrap();
        vec![Arc::new(batch.into_logged(
            Offset(100),
            Timestamp::from_micros(1_795_366_800_000_000),
        ))]
    }

    fn rules() -> Rules {
        let topics = ["t".to_owned(), "^ml-".to_owned()];
        Rules::new("c", vec![Topics::new(&topics).unwrap()])
    }

    fn text(headers: &[Header<'_>]) -> Vec<(String, Option<String>)> {
        headers
            .iter()
            .map(|(name, value)| {
                let value = value
                    .as_deref()
                    .map(|value| value.escape_ascii().to_string());
                (name.to_string(), value)
            })
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.into(), Some(value.into()))
    }

    #[test]
    fn what_this_source_could_not_understand_becomes_letters() {
        let from_http = Event {
            source: None,
            ..rejected("line 1", "")
        };
        let events = [
            rejected("t/0/1", "kafka:c"),
            rejected("other/0/1", "kafka:c"),
            rejected("ml-x/7/3#2, byte 9", "kafka:c"),
            rejected("t/0/1", "kafka:d"),
            rejected("line 1", "kafka:c"),
            from_http,
            rejected("t/0/1", "kafka:c").with_id("modelog:…:7"),
            rejected("t/0/5..9", "kafka:c"),
        ];
        let batches = logged(&events);
        let positions = |from| -> Vec<_> {
            let letters = rules().letters(&batches, Offset(from));
            letters
                .iter()
                .map(|letter| (letter.offset.0, letter.position))
                .collect()
        };
        let all = [
            (100, "t/0/1"),
            (102, "ml-x/7/3#2, byte 9"),
            (107, "t/0/5..9"),
        ];
        assert_eq!(positions(0), all);
        assert_eq!(positions(101), all[1..]);
        assert_eq!(positions(108), []);
    }

    #[test]
    fn a_letter_is_the_message_and_why_it_is_here() {
        let batches = logged(&[rejected("t/0/1", "kafka:c")]);
        let letters = rules().letters(&batches, Offset::ZERO);
        let [letter] = &letters[..] else {
            panic!("{letters:?}")
        };
        assert_eq!(letter.value(Extent::Whole), Some(&b"{\xff"[..]));
        assert_eq!(letter.key(Extent::Whole), Some(&b"k"[..]));
        let theirs = [pair("a", "1"), ("a".into(), None), pair("b", "\\xff")];
        let ours = [
            pair("modelog-reason", "bad_json"),
            pair("modelog-message", "a brace is missing"),
            pair("modelog-position", "t/0/1"),
            pair("modelog-time", "2026-11-22T17:00:00Z"),
            pair("modelog-log", "00000000-0000-0000-0000-000000000005"),
            pair("modelog-offset", "100"),
        ];
        let sent = |extent| text(&letter.headers(LOG, extent));
        assert_eq!(sent(Extent::Whole), [&theirs[..], &ours].concat());
        let cut = [
            pair("modelog-bytes", "2"),
            pair("modelog-left-out", "value"),
        ];
        let without = [&theirs[..], &ours, &cut].concat();
        assert_eq!(sent(Extent::WithoutValue), without);
        assert_eq!(letter.value(Extent::WithoutValue), None);
        assert_eq!(letter.key(Extent::WithoutValue), Some(&b"k"[..]));
        let bare = [
            pair("modelog-bytes", "2"),
            pair("modelog-left-out", "value, key, headers"),
        ];
        assert_eq!(sent(Extent::HeadersOfOurs), [&ours[..], &bare].concat());
        assert_eq!(letter.key(Extent::HeadersOfOurs), None);
    }

    #[test]
    fn what_was_cut_when_it_was_recorded_says_so() {
        let long = EventRejected {
            reason: "too_large".into(),
            position: Some("t/0/1".into()),
            raw: Some(b"abc".into()),
            raw_bytes: Some(5_000),
            raw_sha256: Some("e3b0".into()),
            headers: Some(Json::parse(r#"[["a","1"],{"left_out":3}]"#).unwrap()),
            ..EventRejected::default()
        };
        let batches = logged(&[Event::from(long).with_source("kafka:c")]);
        let letters = rules().letters(&batches, Offset::ZERO);
        let headers = text(&letters[0].headers(LOG, Extent::Whole));
        assert_eq!(headers[0], pair("a", "1"));
        let end = [
            pair("modelog-bytes", "5000"),
            pair("modelog-sha256", "e3b0"),
            pair("modelog-left-out", "headers=3"),
        ];
        assert_eq!(headers[headers.len() - 3..], end);
    }
}
