//! Where a stretch of the log ends: at an offset, or at a moment of the log's own time.
//!
//! A moment means the log as it was then: everything it had taken by that time, however old the events say they are.
//! Append times never go back along the log, so the moment has one place in it, found by halving.

use std::str::FromStr;

use modelog_engine::{Engine, LogError, Offset, Timestamp};

/// How much is read at each look: a place that is near is found without another one.
const LOOK_BYTES: usize = 256 << 10;

/// Where a stretch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Before this event.
    Offset(Offset),
    /// After the last event that the log had taken by then.
    Moment(Timestamp),
}

/// The text is neither an offset nor a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither an offset nor an RFC 3339 time")]
pub(super) struct NoEnd;

impl FromStr for Until {
    type Err = NoEnd;

    /// A number is an offset, never a time: both could be meant otherwise.
    fn from_str(text: &str) -> Result<Self, NoEnd> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let offset = text.parse().map_err(|_| NoEnd)?;
            return Ok(Self::Offset(Offset(offset)));
        }
        Timestamp::parse(text).map(Self::Moment).map_err(|_| NoEnd)
    }
}

impl Until {
    /// The offset after the last event of the stretch, `tail` at most. Blocks while it reads.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn resolve(self, engine: &Engine, tail: Offset) -> Result<Offset, LogError> {
        match self {
            Self::Offset(offset) => Ok(offset.min(tail)),
            Self::Moment(moment) => end_at(engine, moment, tail),
        }
    }
}

/// The offset after the last event that was appended at a moment or before.
fn end_at(engine: &Engine, moment: Timestamp, tail: Offset) -> Result<Offset, LogError> {
    // Everything before `taken` was there by then, nothing from `missing` on was.
    let (mut taken, mut missing) = (Offset::ZERO, tail);
    // The end of the log is what is asked for most.
    let mut look = Offset(tail.0.saturating_sub(1));
    while taken < missing {
        for batch in engine.reader(look).read(LOOK_BYTES)? {
            if batch.append_time > moment {
                missing = missing.min(batch.first_offset);
                break;
            }
            taken = taken.max(batch.end());
        }
        look = Offset(taken.0 + missing.0.saturating_sub(taken.0) / 2);
    }
    Ok(taken.min(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_offsets_and_times_are_times() {
        assert_eq!("17".parse(), Ok(Until::Offset(Offset(17))));
        let moment = Timestamp::parse("2026-11-22T17:00:00Z").unwrap();
        assert_eq!(
            "2026-11-22T18:00:00+01:00".parse(),
            Ok(Until::Moment(moment))
        );
        for text in ["", "-1", "+1", "18446744073709551616", "now", "2026-11-22"] {
            assert_eq!(text.parse::<Until>(), Err(NoEnd), "{text}");
        }
    }
}
