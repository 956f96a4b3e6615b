//! Messages of a stream, in every format: their headers, on a line of their own in front of the value.
//!
//! What was accepted is written out as the log writes it, read again, and must be the same. What was rejected is read
//! again as it was kept; it may be refused, and nothing else.

use modelog_engine::event::{Event, EventRejected, Fact};
use modelog_formats::{
    Decoded, Limits, Message, MessageFormat, MessageReader, ModelTemplate, Options, Outcome, Place,
    RejectedMessage,
};

use super::formats::{check_again, events, written};
use super::{assert_within, memory};

/// A header, as the input says it.
type Header = (String, Option<String>);

const FORMATS: [MessageFormat; 4] = [
    MessageFormat::Auto,
    MessageFormat::Json,
    MessageFormat::CloudEvents,
    MessageFormat::KServe,
];

fn options() -> Options {
    Options {
        limits: Limits {
            batch_bytes: 1 << 20,
            ..Limits::default()
        },
        ..Options::default()
    }
}

/// Answers whether the message is taken whole where each may be anything.
pub(super) fn message(bytes: &[u8]) -> bool {
    let (headers, value) = split(bytes);
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes)))
        .collect();
    let message = Message {
        place: Place {
            topic: "topic",
            partition: 0,
            position: 7,
        },
        value: Some(value),
        key: Some(b"key"),
        headers: &headers,
    };
    FORMATS.map(|format| read(&message, format, bytes.len()))[0]
}

/// Headers as a JSON array of pairs on the first line, if it is one, and the value.
fn split(bytes: &[u8]) -> (Vec<Header>, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let headers = end.and_then(|end| serde_json::from_slice(&bytes[..end]).ok());
    match (headers, end) {
        (Some(headers), Some(end)) => (headers, &bytes[end + 1..]),
        _ => (Vec::new(), bytes),
    }
}

/// A few bytes make one value, or the record of a bad event, of which there are at most a hundred; each has the headers
/// beside it. A stream of Arrow may take what a batch may take, twice while it is looked at.
fn read(message: &Message<'_>, format: MessageFormat, bytes: usize) -> bool {
    let options = options();
    let ((outcome, decoded), peak) = memory::peak(|| read_one(message, format, &options));
    assert_within(peak, bytes, (300, 12 << 20));
    let (good, rejected) = match outcome {
        Outcome::Events(good) => (good, 0),
        Outcome::Rejected {
            events, rejected, ..
        } => (events, rejected),
        other => panic!("P3: {other:?} of a message with a value"),
    };
    assert!(rejected <= 100, "P2: {rejected} records of one message");
    let found = (decoded.batch.rows(), decoded.batch.rejected());
    assert_eq!(found, (good + rejected, rejected), "P3");
    if rejected == 0 {
        check_again(&written(decoded));
        return true;
    }
    for Event { fact, .. } in events(decoded) {
        if let Fact::EventRejected(fact) = fact {
            check_rejected(&fact, format, &options);
        }
    }
    false
}

fn read_one(message: &Message<'_>, format: MessageFormat, options: &Options) -> (Outcome, Decoded) {
    let mut reader = MessageReader::new(format, options, ModelTemplate::standard());
    let outcome = reader.read(message);
    (outcome, reader.finish())
}

fn check_rejected(fact: &EventRejected, format: MessageFormat, options: &Options) {
    let rejected = RejectedMessage {
        position: fact
            .position
            .as_deref()
            .expect("P3: a record has a position"),
        raw: fact.raw.as_deref().expect("P3: a record has its bytes"),
        raw_bytes: fact.raw_bytes,
        key: fact.key.as_deref(),
        headers: fact.headers.as_ref().map(|headers| headers.as_str()),
    };
    let mut reader = MessageReader::new(format, options, ModelTemplate::standard());
    let refused = reader.read_rejected(&rejected, "kafka:cluster").is_err();
    assert!(
        !refused || reader.rows() == 0,
        "P3: what is refused leaves nothing"
    );
    for event in events(reader.finish()) {
        assert!(event.id.is_some(), "P3: what is retried can be recognised");
    }
}
