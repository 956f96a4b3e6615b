//! What comes of a body: the batch that grows, and the errors on the way.
//!
//! An event that cannot be understood is described, or recorded as `EventRejected` in its place.

use std::collections::BTreeMap;

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::EventRejected;
use sha2::{Digest, Sha256};

use crate::Decoded;
use crate::error::{Code, DecodeErrors, LocatedError};
use crate::options::{Limits, OnError, Options};

/// Gathers the events and errors of one body.
#[derive(Debug)]
pub(crate) struct Gather<'o> {
    options: &'o Options,
    pub(crate) builder: EventBatchBuilder,
    /// How many events were met.
    events: u64,
    errors: Vec<LocatedError>,
    total: u64,
    /// Whether nothing comes of the body, whatever is done about single events.
    refused: bool,
}

impl<'o> Gather<'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self {
            options,
            builder: EventBatchBuilder::new(),
            events: 0,
            errors: Vec::new(),
            total: 0,
            refused: false,
        }
    }

    /// How many events were met, and so the number of the next one.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Counts an event that was read; answers whether there is room for more.
    #[inline]
    pub(crate) fn accepted(&mut self) -> bool {
        self.events += 1;
        let max = self.options.limits.batch_bytes_max();
        self.builder.bytes() <= max || self.too_large(max)
    }

    /// Takes note of an event that cannot be understood, `raw` being its bytes; answers whether there is room for
    /// more.
    #[cold]
    pub(crate) fn rejected(&mut self, error: LocatedError, raw: &[u8]) -> bool {
        if self.options.on_error == OnError::Record {
            let rejection = rejection(&error, raw, self.options.limits.raw_bytes);
            let recorded = self.builder.push(&rejection.into());
            recorded.expect("a rejection has a reason, and text without U+0000");
        }
        self.describe(error);
        self.accepted()
    }

    /// Takes note of why nothing can come of the body.
    #[cold]
    pub(crate) fn refuse(&mut self, error: LocatedError) {
        self.refused = true;
        self.describe(error);
    }

    /// Ends the body.
    pub(crate) fn finish(
        self,
        unknown_fields: BTreeMap<String, u64>,
    ) -> Result<Decoded, DecodeErrors> {
        if self.refused || self.total > 0 && self.options.on_error == OnError::Refuse {
            return Err(DecodeErrors {
                errors: self.errors,
                total: self.total,
            });
        }
        Ok(Decoded {
            batch: self.builder.finish(),
            unknown_fields,
            rejected: self.errors,
        })
    }

    fn describe(&mut self, error: LocatedError) {
        self.total += 1;
        if self.errors.len() < self.options.limits.errors.max(1) {
            self.errors.push(error);
        }
    }

    #[cold]
    fn too_large(&mut self, max: usize) -> bool {
        self.refuse(batch_too_large(self.events - 1, max));
        false
    }
}

impl Limits {
    pub(crate) fn batch_bytes_max(&self) -> usize {
        self.batch_bytes.min(Self::BATCH_BYTES_MAX)
    }
}

/// The error of a body whose events take too much, from this one on.
pub(crate) fn batch_too_large(event: u64, max: usize) -> LocatedError {
    LocatedError {
        event,
        line: None,
        byte: None,
        field: None,
        code: Code::BatchTooLarge.as_str(),
        message: format!(
            "the events take more than {max} bytes, which is all that one call may bring"
        ),
    }
}

/// The record of an event that cannot be understood.
fn rejection(error: &LocatedError, raw: &[u8], raw_bytes_max: usize) -> EventRejected {
    let kept = &raw[..raw.len().min(raw_bytes_max)];
    let position = match (error.line, error.byte) {
        (Some(line), Some(byte)) => format!("line {line}, byte {byte}"),
        (None, Some(byte)) => format!("byte {byte}"),
        _ => format!("row {}", error.event),
    };
    EventRejected {
        reason: error.code.to_owned(),
        // Messages show what the producer wrote.
        message: Some(error.message.replace('\0', "\u{fffd}")),
        position: Some(position),
        raw: Some(kept.to_vec()),
        raw_bytes: i64::try_from(raw.len()).ok(),
        raw_sha256: (kept.len() < raw.len()).then(|| hex(&Sha256::digest(raw))),
        ..EventRejected::default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_events_are_kept_in_part_with_their_hash() {
        let error = batch_too_large(7, 1);
        let whole = rejection(&error, b"abc", 3);
        assert_eq!(whole.raw.as_deref(), Some(&b"abc"[..]));
        assert_eq!((whole.raw_bytes, whole.raw_sha256), (Some(3), None));
        assert_eq!(whole.position.as_deref(), Some("row 7"));
        let part = rejection(&error, b"abc", 2);
        assert_eq!(part.raw.as_deref(), Some(&b"ab"[..]));
        assert_eq!(part.raw_bytes, Some(3));
        // FIPS 180-2, the example of "abc".
        assert_eq!(
            part.raw_sha256.as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
    }
}
