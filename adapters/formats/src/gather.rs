//! What comes of a body: the batch that grows, and the errors on the way.
//!
//! An event that cannot be understood is described, or recorded as `EventRejected` in its place.

use std::collections::BTreeMap;
use std::ops::Range;

use modelog_engine::batch::EventBatchBuilder;

use crate::Decoded;
use crate::error::{Code, DecodeErrors, LocatedError};
use crate::options::{Limits, OnError, Options};
use crate::rejection::Rejection;

/// Where the events of a body go, and what is wrong with them.
pub(crate) trait Sink {
    fn builder(&mut self) -> &mut EventBatchBuilder;

    /// How many events of the body were met, and so the number of the next one.
    fn events(&self) -> u64;

    /// Counts an event that was read; answers whether to go on.
    fn accepted(&mut self) -> bool;

    /// Takes note of an event that cannot be understood; answers whether to go on.
    fn rejected(&mut self, error: LocatedError, bad: Bad<'_>) -> bool;
}

/// An event that cannot be understood.
#[derive(Clone, Debug)]
pub(crate) struct Bad<'b> {
    pub(crate) body: &'b [u8],
    /// The bytes of the body that are the event.
    pub(crate) range: Range<usize>,
    pub(crate) among: Among,
}

/// What an event has beside it in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// Nothing: the body is the event.
    Alone,
    Lines,
    Elements,
}

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

    /// Takes note of an event that cannot be understood, `raw` being its bytes, and `headers`, in JSON, what stood beside
    /// them; answers whether there is room for more.
    #[cold]
    pub(crate) fn reject(
        &mut self,
        error: LocatedError,
        raw: &[u8],
        headers: Option<&str>,
    ) -> bool {
        if self.options.on_error == OnError::Record {
            let position = match (error.line, error.byte) {
                (Some(line), Some(byte)) => format!("line {line}, byte {byte}"),
                (None, Some(byte)) => format!("byte {byte}"),
                _ => format!("row {}", error.event),
            };
            let rejection = Rejection {
                reason: error.code,
                message: &error.message,
                position: &position,
                raw,
                headers,
                ..Rejection::default()
            };
            rejection.write(&mut self.builder, self.options.limits.raw_bytes);
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

impl Sink for Gather<'_> {
    fn builder(&mut self) -> &mut EventBatchBuilder {
        &mut self.builder
    }

    fn events(&self) -> u64 {
        self.events
    }

    #[inline]
    fn accepted(&mut self) -> bool {
        self.events += 1;
        let max = self.options.limits.batch_bytes_max();
        self.builder.bytes() <= max || self.too_large(max)
    }

    fn rejected(&mut self, error: LocatedError, bad: Bad<'_>) -> bool {
        self.reject(error, bad.body[bad.range].trim_ascii_end(), None)
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
