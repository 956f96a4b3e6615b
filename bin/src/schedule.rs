//! When the next backup is due.
//!
//! What is there decides: a restart neither makes a backup too many nor puts one off. Since clocks are set, and machines
//! sleep, two clocks are asked: a backup is due when either says that the time is up. A clock that was set back cannot put
//! backups off for longer than that; one that was set forward costs a backup, which takes hardly any space.

use std::time::Duration;

use modelog_engine::{Clock, Timestamp};

/// How long to sleep at most before the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);
/// The first wait after a failure; each is twice the one before.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Says when to make backups.
#[derive(Debug)]
pub(crate) struct Schedule {
    every: Duration,
    /// When this process began to wait for the next one, in monotonic time.
    since: Duration,
    /// After a failure, how long to wait from then on.
    retry: Option<Duration>,
}

impl Schedule {
    /// A schedule that begins to wait now.
    pub(crate) fn new(every: Duration, clock: &dyn Clock) -> Self {
        Self {
            every,
            since: clock.monotonic(),
            retry: None,
        }
    }

    /// How long to wait before asking again; zero if a backup is due. `newest` says when the newest was made.
    pub(crate) fn wait(&self, newest: Option<Timestamp>, clock: &dyn Clock) -> Duration {
        let waited = clock.monotonic().saturating_sub(self.since);
        let left = match (self.retry, newest) {
            (Some(retry), _) => retry.saturating_sub(waited),
            (None, None) => Duration::ZERO,
            (None, Some(newest)) => {
                let age = clock.now().micros().saturating_sub(newest.micros());
                // One from the future is as good as new.
                let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
                self.every.saturating_sub(age.max(waited))
            }
        };
        left.min(LOOK)
    }

    /// One was made.
    pub(crate) fn made(&mut self, clock: &dyn Clock) {
        self.since = clock.monotonic();
        self.retry = None;
    }

    /// One could not be made; answers how long to wait before trying again.
    pub(crate) fn failed(&mut self, clock: &dyn Clock) -> Duration {
        let next = self.retry.map_or(RETRY_MIN, |before| before * 2);
        let retry = next.min(RETRY_MAX).min(self.every);
        self.since = clock.monotonic();
        self.retry = Some(retry);
        retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The two clocks, in seconds since the schedule began.
    #[derive(Clone, Copy, Debug)]
    struct Clocks {
        day: i64,
        monotonic: u64,
    }

    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            at(self.day)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(1000 + self.monotonic)
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_795_366_800_000_000 + seconds * 1_000_000)
    }

    fn clocks(day: i64, monotonic: u64) -> Clocks {
        Clocks { day, monotonic }
    }

    fn hourly() -> Schedule {
        Schedule::new(HOUR, &clocks(0, 0))
    }

    #[test]
    fn what_is_there_decides() {
        let schedule = hourly();
        assert_eq!(schedule.wait(None, &clocks(0, 0)), Duration::ZERO);
        let newest = Some(at(0));
        assert_eq!(schedule.wait(newest, &clocks(3600, 0)), Duration::ZERO);
        let nearly = schedule.wait(newest, &clocks(3590, 0));
        assert_eq!(nearly, Duration::from_secs(10));
        assert_eq!(schedule.wait(newest, &clocks(1, 1)), LOOK);
    }

    #[test]
    fn no_clock_puts_a_backup_off() {
        let schedule = hourly();
        // Set back by a year: the backup seems to be of the future.
        let future = Some(at(365 * 86_400));
        assert_eq!(schedule.wait(future, &clocks(0, 0)), LOOK);
        assert_eq!(schedule.wait(future, &clocks(0, 3600)), Duration::ZERO);
        // It slept, and the other clock did not run.
        assert_eq!(schedule.wait(Some(at(0)), &clocks(7200, 1)), Duration::ZERO);
    }

    #[test]
    fn failures_are_tried_again_ever_later() {
        let begun = clocks(0, 0);
        let mut schedule = Schedule::new(HOUR * 24, &begun);
        let waits: Vec<_> = (0..8)
            .map(|_| schedule.failed(&begun).as_secs() / 60)
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(schedule.wait(None, &clocks(0, 3600)), Duration::ZERO);
        assert_eq!(schedule.wait(None, &clocks(0, 1)), LOOK);
        schedule.made(&begun);
        assert_eq!(schedule.failed(&begun), RETRY_MIN);
        let mut often = Schedule::new(Duration::from_secs(5), &begun);
        assert_eq!(often.failed(&begun).as_secs(), 5);
    }
}
