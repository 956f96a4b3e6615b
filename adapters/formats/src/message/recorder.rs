//! One message, while it is read: its events go to the batch, and so does what cannot be understood.
//!
//! A message of many bad events must not become many times its size. So its first [`REJECTED_MAX`] are recorded one by
//! one, the last of these with all that comes after it in the message, unread.

use std::collections::BTreeMap;

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::VALUE_BYTES_MAX;

use super::place::{Part, Position};
use super::retry::Retry;
use super::{Message, Outcome, headers};
use crate::error::{Code, Fault, LocatedError};
use crate::gather::{Among, Bad, Sink};
use crate::options::Limits;
use crate::rejection::Rejection;
use crate::text::line_of;

/// How many records of bad events a message may leave.
const REJECTED_MAX: u32 = 100;

/// What the messages came to so far.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) builder: EventBatchBuilder,
    /// The first of them, as many as the limits allow.
    pub(super) errors: Vec<LocatedError>,
    /// How many there are, by their codes.
    pub(super) reasons: BTreeMap<&'static str, u64>,
}

/// One message, being read.
#[derive(Debug)]
pub(super) struct Recorder<'r, 'm> {
    rows: &'r mut Rows,
    limits: &'r Limits,
    pub(super) message: &'m Message<'m>,
    /// What is known if it is read again.
    pub(super) retry: Option<&'m Retry<'m>>,
    /// What records of what is rejected say as their source.
    source: Option<&'r str>,
    /// How many bytes of the value come before the text.
    pub(super) before: usize,
    /// The number of the next event in the message.
    number: u64,
    events: u32,
    rejected: u32,
    /// Of the first that was rejected.
    reason: &'static str,
    /// The headers as JSON, once they are needed.
    headers: Option<Option<String>>,
    /// Why a message that is read again is no better.
    pub(super) refused: Option<LocatedError>,
}

impl<'r, 'm> Recorder<'r, 'm> {
    #[inline]
    pub(super) fn new(
        rows: &'r mut Rows,
        limits: &'r Limits,
        message: &'m Message<'m>,
        retry: Option<&'m Retry<'m>>,
        source: Option<&'r str>,
    ) -> Self {
        Self {
            rows,
            limits,
            message,
            retry,
            source,
            before: 0,
            number: retry.map_or(0, Retry::first),
            events: 0,
            rejected: 0,
            reason: "",
            headers: None,
            refused: None,
        }
    }

    #[inline]
    pub(super) fn outcome(&self) -> Outcome {
        match self.rejected {
            0 => Outcome::Events(self.events),
            rejected => Outcome::Rejected {
                events: self.events,
                rejected,
                reason: self.reason,
            },
        }
    }

    /// Counts events that were added all together.
    pub(super) fn add(&mut self, events: u32) {
        self.number += u64::from(events);
        self.events += events;
    }

    /// Takes note of why the whole message cannot be understood; `value` is what the place of the fault is in.
    #[cold]
    pub(super) fn reject(&mut self, fault: Fault, value: &[u8]) {
        let line = line_of(value, fault.at);
        let error = fault.located(self.number, Some(line));
        let bad = Bad {
            body: value,
            range: 0..value.len(),
            among: Among::Alone,
        };
        self.rejected(error, bad);
    }

    /// What of the message is rejected with an event, and its bytes.
    fn part<'b>(&self, bad: &Bad<'b>) -> (Part, &'b [u8])
    where
        'm: 'b,
    {
        let event = bad.body[bad.range.clone()].trim_ascii_end();
        let after = bad.body[bad.range.end..].trim_ascii();
        let rest = bad.body[bad.range.start..].trim_ascii_end();
        let last = self.rejected + 1 >= REJECTED_MAX;
        match bad.among {
            Among::Alone => (Part::Whole, self.message.value.unwrap_or(event)),
            Among::Lines if last && !after.is_empty() => (Part::Lines(self.number), rest),
            Among::Elements if last && !matches!(after, b"" | b"]") => {
                (Part::Elements(self.number), rest)
            }
            _ => (Part::Event(self.number), event),
        }
    }

    fn record(&mut self, error: &LocatedError, part: Part, raw: &[u8]) {
        let position = Position {
            place: self.message.place,
            part,
        };
        let byte = error.byte.map(|byte| format!(", byte {byte}"));
        let position_text = crate::error::shown_up_to(300, &position.to_string());
        let position_text = format!("{position_text}{}", byte.unwrap_or_default());
        let mut message = error.message.clone();
        let key = self
            .message
            .key
            .map(|key| match key.get(..VALUE_BYTES_MAX) {
                Some(start) if start.len() < key.len() => {
                    message.push_str(&format!(
                        " (the first {} of the key's {} bytes are kept)",
                        start.len(),
                        key.len()
                    ));
                    start
                }
                _ => key,
            });
        let headers = self
            .headers
            .get_or_insert_with(|| headers::to_json(self.message.headers.iter().copied()));
        let id = self.retry.map(|retry| retry.id(part));
        let rejection = Rejection {
            reason: error.code,
            message: &message,
            position: &position_text,
            raw,
            key,
            headers: headers.as_deref(),
            id: id.as_deref(),
            source: self.source,
        };
        rejection.write(&mut self.rows.builder, self.limits.raw_bytes);
    }
}

impl Sink for Recorder<'_, '_> {
    #[inline]
    fn builder(&mut self) -> &mut EventBatchBuilder {
        &mut self.rows.builder
    }

    #[inline]
    fn events(&self) -> u64 {
        self.number
    }

    #[inline]
    fn accepted(&mut self) -> bool {
        self.number += 1;
        self.events += 1;
        true
    }

    #[cold]
    fn rejected(&mut self, mut error: LocatedError, bad: Bad<'_>) -> bool {
        error.event = u64::from(self.rows.builder.rows());
        error.byte = error.byte.map(|byte| byte + self.before as u64);
        if self.retry.is_some() && bad.among == Among::Alone {
            self.refused = Some(error);
            return false;
        }
        let (part, raw) = self.part(&bad);
        let go_on = matches!(part, Part::Whole | Part::Event(_));
        if !go_on {
            error.code = Code::TooManyRejected.as_str();
            error.message = format!(
                "{REJECTED_MAX} events of the message are bad; this one is kept with all that follows: {}",
                error.message
            );
        }
        self.record(&error, part, raw);
        self.number += 1;
        self.rejected += 1;
        if self.rejected == 1 {
            self.reason = error.code;
        }
        *self.rows.reasons.entry(error.code).or_default() += 1;
        if self.rows.errors.len() < self.limits.errors.max(1) {
            self.rows.errors.push(error);
        }
        go_on
    }
}
