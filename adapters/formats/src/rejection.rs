//! The record of what could not be understood.

use modelog_engine::batch::{EventBatchBuilder, RowWriter};
use modelog_engine::event::schema::{self, column};
use modelog_engine::event::{FieldError, Kind};
use sha2::{Digest, Sha256};

/// What an `EventRejected` says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rejection<'a> {
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    pub(crate) position: &'a str,
    pub(crate) raw: &'a [u8],
    pub(crate) key: Option<&'a [u8]>,
    /// JSON.
    pub(crate) headers: Option<&'a str>,
    /// What makes the record recognisable when it is written again.
    pub(crate) id: Option<&'a str>,
    /// Where the bytes are from, if that is not who wrote the record.
    pub(crate) source: Option<&'a str>,
}

const REASON: usize = column(Kind::EventRejected, "reason");
const MESSAGE: usize = column(Kind::EventRejected, "message");
const POSITION: usize = column(Kind::EventRejected, "position");
const RAW: usize = column(Kind::EventRejected, "raw");
const RAW_BYTES: usize = column(Kind::EventRejected, "raw_bytes");
const RAW_SHA256: usize = column(Kind::EventRejected, "raw_sha256");
const KEY: usize = column(Kind::EventRejected, "key");
const HEADERS: usize = column(Kind::EventRejected, "headers");

impl Rejection<'_> {
    /// Adds the record to a batch. Of bytes longer than `raw_bytes_max` their start is kept, beside their length and
    /// SHA-256.
    #[cold]
    pub(crate) fn write(&self, builder: &mut EventBatchBuilder, raw_bytes_max: usize) {
        self.fill(builder.row(Kind::EventRejected), raw_bytes_max)
            .expect("a rejection has a reason, short text without U+0000, a checked id and source");
    }

    fn fill(&self, mut row: RowWriter<'_>, raw_bytes_max: usize) -> Result<(), FieldError> {
        for (column, text) in [(schema::ID, self.id), (schema::SOURCE, self.source)] {
            if let Some(text) = text {
                row.text(column, text)?;
            }
        }
        row.text(REASON, self.reason)?;
        // Both show what a producer wrote.
        row.text(MESSAGE, &self.message.replace('\0', "\u{fffd}"))?;
        row.text(POSITION, &self.position.replace('\0', "\u{fffd}"))?;
        let kept = &self.raw[..self.raw.len().min(raw_bytes_max)];
        row.bytes(RAW, kept)?;
        row.int(RAW_BYTES, i64::try_from(self.raw.len()).unwrap_or(i64::MAX))?;
        if kept.len() < self.raw.len() {
            row.text(RAW_SHA256, &sha256(self.raw))?;
        }
        if let Some(key) = self.key {
            row.bytes(KEY, key)?;
        }
        if let Some(headers) = self.headers {
            row.checked_json(HEADERS, headers)?;
        }
        row.finish()
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelog_engine::batch::Row;
    use modelog_engine::event::{EventRejected, Fact};
    use modelog_engine::{Offset, Timestamp};

    fn written(raw: &[u8], raw_bytes_max: usize) -> EventRejected {
        let mut builder = EventBatchBuilder::new();
        let rejection = Rejection {
            reason: "bad_json",
            message: "a\0b",
            position: "row 7",
            raw,
            ..Rejection::default()
        };
        rejection.write(&mut builder, raw_bytes_max);
        let batch = builder
            .finish()
            .into_logged(Offset::ZERO, Timestamp::from_micros(0));
        match Row::to_event(batch.in_order()[0]).fact {
            Fact::EventRejected(fact) => fact,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn long_events_are_kept_in_part_with_their_hash() {
        let whole = written(b"abc", 3);
        assert_eq!(whole.raw.as_deref(), Some(&b"abc"[..]));
        assert_eq!((whole.raw_bytes, whole.raw_sha256), (Some(3), None));
        assert_eq!(whole.position.as_deref(), Some("row 7"));
        assert_eq!(whole.message.as_deref(), Some("a\u{fffd}b"));
        let part = written(b"abc", 2);
        assert_eq!(part.raw.as_deref(), Some(&b"ab"[..]));
        assert_eq!(part.raw_bytes, Some(3));
        // FIPS 180-2, the example of "abc".
        assert_eq!(
            part.raw_sha256.as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
    }
}
