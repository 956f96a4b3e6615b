//! When a file is closed.
//!
//! | rule | looked at |
//! |---|---|
//! | it has grown to `target_file_bytes` | after each row group |
//! | its first row has been in the log for `max_delay` | before a batch, by the batch's append time; else by the clock |
//! | its day is over | the same |
//!
//! While the log is being read, only what it says counts: history that is taken in days later is cut as it would have
//! been then, and not into a file for each batch. The clock closes files once there is nothing more to read. A clock
//! that jumps closes files early, or late: by the monotonic clock no file waits longer than `max_delay` from when its
//! first row was taken in.

use std::time::Duration;

use chrono::NaiveDate;
use modelog_engine::Timestamp;

use crate::layout::date_of;

/// What of an open file the rules look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    pub(crate) date: NaiveDate,
    /// When the log took the first row.
    pub(crate) begun: Timestamp,
    /// When it was taken in, by the monotonic clock.
    pub(crate) opened: Duration,
}

impl Age {
    /// Whether the file must not take rows that the log took at `append_time`.
    pub(crate) fn ends_before(&self, append_time: Timestamp, max_delay: Duration) -> bool {
        self.date != date_of(append_time) || since(self.begun, append_time) >= max_delay
    }

    /// Whether the file is due, now that everything was read.
    pub(crate) fn is_due(&self, now: Timestamp, monotonic: Duration, max_delay: Duration) -> bool {
        self.date < date_of(now)
            || since(self.begun, now) >= max_delay
            || monotonic.saturating_sub(self.opened) >= max_delay
    }
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    let micros = later.micros().saturating_sub(earlier.micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2026-11-{text}Z")).unwrap()
    }

    fn age() -> Age {
        let begun = at("22T22:30:00");
        Age {
            date: date_of(begun),
            begun,
            opened: HOUR,
        }
    }

    #[test]
    fn the_log_ends_a_file() {
        let ends = |time| age().ends_before(at(time), HOUR);
        assert!(!ends("22T22:30:00"));
        assert!(!ends("22T23:29:59.999999"));
        assert!(ends("22T23:30:00"));
        assert!(!age().ends_before(at("22T23:59:59.999999"), 2 * HOUR));
        assert!(age().ends_before(at("23T00:00:00"), 2 * HOUR));
    }

    #[test]
    fn the_clock_makes_a_file_due() {
        let due = |time, monotonic| age().is_due(at(time), monotonic, HOUR);
        assert!(!due("22T22:30:00", HOUR));
        assert!(due("22T23:30:00", HOUR));
        assert!(due("23T00:00:00", HOUR));
        // The time of day was set back: only the monotonic clock tells.
        assert!(!due("01T00:00:00", 2 * HOUR - Duration::from_micros(1)));
        assert!(due("01T00:00:00", 2 * HOUR));
        // It never goes back; if it did, nothing would be due by it.
        assert!(!due("22T22:30:00", Duration::ZERO));
    }
}
