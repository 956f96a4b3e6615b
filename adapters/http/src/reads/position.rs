//! Places in the log, as clients hand them back.
//!
//! A client that resumes says where; the answer must be exact or refused. So a position names, beside the offset, the
//! epoch and the log it belongs to: what a client saw of another log, or of history that a restore took back, is not
//! quietly continued with other events. To clients it is an opaque string.

use std::fmt;
use std::str::FromStr;

use modelog_engine::{Checkpoint, CheckpointError, Engine, LogError, LogId, Offset, chain};

use crate::codes::Code;
use crate::problem::{Problem, ProblemBody};

/// The place after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) epoch: u32,
    /// The random end of the log's identity: enough to tell logs apart, short enough for every event.
    log: u32,
}

impl Position {
    pub(super) fn new(log: LogId, epoch: u32, offset: Offset) -> Self {
        let [.., a, b, c, d] = *log.0.as_bytes();
        Self {
            offset,
            epoch,
            log: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// The position at an offset of this log as it is now.
    pub(super) fn here(engine: &Engine, offset: Offset) -> Self {
        Self::new(engine.log_id(), engine.epoch(), offset)
    }

    /// The same position of the same log, at another offset.
    pub(super) fn at(self, epoch: u32, offset: Offset) -> Self {
        Self {
            offset,
            epoch,
            ..self
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, epoch, log } = self;
        write!(f, "{offset}-{epoch}-{log:08x}")
    }
}

/// Where a client wants to start: a plain offset, or a position it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Offset(Offset),
    Position(Position),
}

/// The text is neither an offset nor a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither an offset nor a position that was given out")]
pub(super) struct NoPosition;

impl FromStr for Start {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        // `parse` would take a sign.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse().ok().filter(|_| digits(text)).ok_or(NoPosition);
        let Some((offset, rest)) = text.split_once('-') else {
            return number(text).map(|offset| Self::Offset(Offset(offset)));
        };
        let (epoch, log) = rest.split_once('-').ok_or(NoPosition)?;
        let hexadecimal = log.len() == 8 && log.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(Self::Position(Position {
            offset: Offset(number(offset)?),
            epoch: u32::try_from(number(epoch)?).map_err(|_| NoPosition)?,
            log: u32::from_str_radix(log, 16)
                .ok()
                .filter(|_| hexadecimal)
                .ok_or(NoPosition)?,
        }))
    }
}

/// Why reading cannot start there.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    BeyondTail(LogError),
    #[error("the position belongs to another log")]
    OtherLog,
    #[error("the position belongs to history that no longer exists")]
    Lost(#[source] CheckpointError),
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::BeyondTail(error) => Self::from(&error),
            StartError::OtherLog | StartError::Lost(_) => {
                Self::new(Code::PositionLost, chain(&error))
            }
        }
    }
}

/// The position is not of this log's history, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[response(
    status = 409,
    description = "The position belongs to another log, or to history that no longer exists.",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct Lost<'a>(ProblemBody<'a>);

impl From<&LogError> for Problem {
    /// Why the log cannot be read.
    fn from(error: &LogError) -> Self {
        match error {
            LogError::BeyondTail { requested, tail } => {
                let message =
                    format!("lies beyond the end of the log: {requested}, not above {tail}");
                Self::bad_parameter("from", message)
            }
            LogError::Closed => Self::new(Code::Closing, error.to_string()),
            _ => {
                tracing::error!(reason = %chain(error), "the log cannot be read");
                Self::new(Code::LogDamaged, error.to_string())
            }
        }
    }
}

impl Start {
    /// The position in this log.
    ///
    /// # Errors
    /// If there is no such place in it.
    pub(super) fn resolve(self, engine: &Engine) -> Result<Position, StartError> {
        match self {
            Self::Offset(offset) => {
                let tail = engine.tail();
                if offset > tail {
                    return Err(StartError::BeyondTail(LogError::BeyondTail {
                        requested: offset,
                        tail,
                    }));
                }
                Ok(Position::here(engine, offset))
            }
            Self::Position(position) => {
                if position.log != Position::here(engine, Offset::ZERO).log {
                    return Err(StartError::OtherLog);
                }
                let checkpoint = Checkpoint {
                    log: engine.log_id(),
                    epoch: position.epoch,
                    offset: position.offset,
                    fold_version: 0,
                };
                engine.check(&checkpoint).map_err(StartError::Lost)?;
                Ok(position)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_as_they_went_out() {
        let log = LogId(uuid::Uuid::from_u128(0xdead_beef));
        let position = Position::new(log, 3, Offset(u64::MAX));
        assert_eq!(position.to_string(), "18446744073709551615-3-deadbeef");
        assert_eq!(position.to_string().parse(), Ok(Start::Position(position)));
        assert_eq!("17".parse(), Ok(Start::Offset(Offset(17))));
    }

    #[test]
    fn other_texts_are_no_positions() {
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1e3",
            "now",
            "18446744073709551616",
            "1-",
            "1-2",
            "1-2-",
            "1-2-dead",
            "1-2-deadbeef0",
            "1-2-+eadbeef",
            "1-4294967296-deadbeef",
            "1-2-deadbeef-",
        ] {
            assert_eq!(text.parse::<Start>(), Err(NoPosition), "{text}");
        }
    }
}
