//! Positions in a log, and points in time: the two orders every event has.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Position of an event in a log: dense, starting at 0. As the end of a range it is exclusive.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The first position of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `rows` further on.
    #[must_use]
    pub fn advance(self, rows: u64) -> Self {
        Self(self.0 + rows)
    }

    /// How many events lie between `earlier` and this offset; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a time was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("is not an RFC 3339 time such as 2026-11-22T17:00:00Z")]
    Malformed,
    /// An integer too small for microseconds of our days.
    #[error("{0} looks like seconds or milliseconds; integers are microseconds since 1970-01-01")]
    LooksLikeSeconds(i64),
    /// Before 1678 or after 2261.
    #[error("lies outside the years 1678 to 2261")]
    OutOfRange,
}

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1678-01-01T00:00:00Z, the earliest time a log holds.
    pub const MIN: Self = Self(-9_214_560_000_000_000);
    /// 2261-12-31T23:59:59.999999Z, the latest one.
    pub const MAX: Self = Self(9_214_646_399_999_999);
    /// Integers nearer to zero than this are taken for seconds or milliseconds.
    const LEAST_PLAUSIBLE: u64 = 100_000_000_000_000;

    /// Microseconds since the epoch, as our own clock and log give them.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// An integer from a producer.
    ///
    /// # Errors
    /// [`TimeError::LooksLikeSeconds`] below 10¹⁴ in magnitude, [`TimeError::OutOfRange`] outside 1678–2261.
    pub fn from_producer_micros(micros: i64) -> Result<Self, TimeError> {
        if micros.unsigned_abs() < Self::LEAST_PLAUSIBLE {
            return Err(TimeError::LooksLikeSeconds(micros));
        }
        Self(micros).in_range()
    }

    /// An RFC 3339 text; digits beyond microseconds are cut off.
    ///
    /// # Errors
    /// [`TimeError::Malformed`] or [`TimeError::OutOfRange`].
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let parsed =
            chrono::DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::Malformed)?;
        Self(parsed.timestamp_micros()).in_range()
    }

    fn in_range(self) -> Result<Self, TimeError> {
        if (Self::MIN..=Self::MAX).contains(&self) {
            Ok(self)
        } else {
            Err(TimeError::OutOfRange)
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with exactly as many sub-second digits as there are (0, 3 or 6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            None => write!(f, "{}µs", self.0),
        }
    }
}

impl Serialize for Timestamp {
    /// As RFC 3339 text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_producers() {
        assert_eq!(
            Timestamp::parse("2026-11-22T17:00:00Z").unwrap().micros(),
            1_795_366_800_000_000
        );
        assert_eq!(
            Timestamp::parse("2026-11-22T18:00:00.123456789+01:00")
                .unwrap()
                .to_string(),
            "2026-11-22T17:00:00.123456Z"
        );
        assert_eq!(Timestamp::parse("yesterday"), Err(TimeError::Malformed));
        assert_eq!(
            Timestamp::parse("1677-12-31T23:59:59Z"),
            Err(TimeError::OutOfRange)
        );
        assert_eq!(
            Timestamp::parse("2262-01-01T00:00:00Z"),
            Err(TimeError::OutOfRange)
        );
        assert_eq!(Timestamp::parse("1678-01-01T00:00:00Z"), Ok(Timestamp::MIN));
        assert_eq!(
            Timestamp::parse("2261-12-31T23:59:59.999999Z"),
            Ok(Timestamp::MAX)
        );
        assert_eq!(
            Timestamp::from_producer_micros(1_795_366_800_000),
            Err(TimeError::LooksLikeSeconds(1_795_366_800_000))
        );
        assert!(Timestamp::from_producer_micros(1_795_366_800_000_000).is_ok());
        assert_eq!(
            Timestamp::from_producer_micros(i64::MAX),
            Err(TimeError::OutOfRange)
        );
    }
}
