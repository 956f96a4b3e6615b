//! Append times, which never go back whatever the clock does.

use std::time::Duration;

use crate::Timestamp;

/// The time frames are stamped with: never goes back, and follows a clock that jumps forward only once it has stayed
/// there.
#[derive(Debug)]
pub(super) struct AppendClock {
    last: Timestamp,
    last_monotonic: Option<Duration>,
    /// Since when the clock has been ahead.
    ahead_since: Option<Duration>,
}

impl AppendClock {
    /// A forward step up to this is followed at once.
    const STEP: Duration = Duration::from_secs(60);
    /// A longer one after the clock has been there for this long.
    const PATIENCE: Duration = Duration::from_secs(600);

    pub(super) fn new(last: Timestamp) -> Self {
        Self {
            last,
            last_monotonic: None,
            ahead_since: None,
        }
    }

    /// The time given last.
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    pub(super) fn stamp(&mut self, now: Timestamp, monotonic: Duration) -> Timestamp {
        let elapsed = self
            .last_monotonic
            .map(|last| monotonic.saturating_sub(last));
        let expected = elapsed.map(|elapsed| self.last.micros() + elapsed.as_micros() as i64);
        let limit = expected.map(|expected| expected + Self::STEP.as_micros() as i64);
        let stamp = match limit {
            Some(limit) if now.micros() > limit => {
                let since = *self.ahead_since.get_or_insert(monotonic);
                if monotonic.saturating_sub(since) >= Self::PATIENCE {
                    self.ahead_since = None;
                    now.micros()
                } else {
                    expected.unwrap_or(limit)
                }
            }
            _ => {
                self.ahead_since = None;
                now.micros()
            }
        };
        self.last = self.last.max(Timestamp::from_micros(stamp));
        self.last_monotonic = Some(monotonic);
        self.last
    }
}
