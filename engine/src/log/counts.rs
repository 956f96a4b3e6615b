//! What the log tells its metrics.

use std::time::Duration;

use super::Shared;
use super::call::Tally;
use crate::config::{AppendOptions, Channel, LogConfig};
use crate::metrics as names;
use crate::{Offset, Timestamp};

impl Channel {
    /// The word in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Http => "http",
            Self::Kafka => "kafka",
            Self::Import => "import",
        }
    }
}

impl Shared {
    /// A call is durable.
    pub(super) fn count(
        &self,
        options: AppendOptions,
        tallies: &[Tally],
        duplicates: u32,
        started: Duration,
    ) {
        let source = options.channel.name();
        for tally in tallies.iter().filter(|tally| tally.rows > 0) {
            let kind = tally.kind.name();
            metrics::counter!(names::INGEST_EVENTS, "source" => source, "kind" => kind)
                .increment(tally.rows);
            if tally.backfilled > 0 {
                metrics::counter!(names::INGEST_BACKFILLED_EVENTS, "source" => source, "kind" => kind)
                    .increment(tally.backfilled);
            }
            for (reason, rows) in &tally.reasons {
                metrics::counter!(names::INGEST_REJECTED, "source" => source, "reason" => reason.clone())
                    .increment(*rows);
            }
        }
        self.count_duplicates(options, duplicates);
        let elapsed = self.clock.monotonic().saturating_sub(started);
        metrics::histogram!(names::LOG_APPEND_DURATION).record(elapsed.as_secs_f64());
    }

    pub(super) fn count_duplicates(&self, options: AppendOptions, duplicates: u32) {
        if duplicates > 0 {
            metrics::counter!(names::INGEST_DUPLICATES, "source" => options.channel.name())
                .increment(duplicates.into());
        }
    }

    /// A group is durable.
    pub(super) fn count_group(&self, events: u64, end: Offset) {
        metrics::histogram!(names::LOG_GROUP_EVENTS).record(events as f64);
        metrics::gauge!(names::LOG_END_OFFSET).set(end.0 as f64);
        metrics::gauge!(names::LOG_BACKLOG_BYTES).set(self.backlog_bytes() as f64);
    }

    pub(super) fn observe_sync(&self, elapsed: Duration) {
        metrics::histogram!(names::LOG_FSYNC_DURATION).record(elapsed.as_secs_f64());
    }

    pub(super) fn count_poisoned(&self) {
        metrics::gauge!(names::LOG_POISONED).set(1.0);
    }

    /// Sets the gauges that change without an append: called before a scrape.
    pub(crate) fn refresh_gauges(&self) {
        metrics::gauge!(names::LOG_END_OFFSET).set(self.tail().0 as f64);
        metrics::gauge!(names::LOG_BACKLOG_BYTES).set(self.backlog_bytes() as f64);
        metrics::gauge!(names::LOG_SIZE_BYTES).set(self.size_bytes() as f64);
        let poisoned = self.tail.borrow().poisoned.is_some();
        metrics::gauge!(names::LOG_POISONED).set(f64::from(u8::from(poisoned)));
        if let Ok(free) = self.storage.free_bytes(&self.directory) {
            metrics::gauge!(names::DISK_FREE_BYTES).set(free as f64);
        }
        let age = |oldest: Timestamp| (self.clock.now().micros() - oldest.micros()) as f64 / 1e6;
        let oldest = self.queue().state.window.oldest();
        metrics::gauge!(names::DEDUPE_WINDOW_SECONDS).set(oldest.map_or(0.0, age));
    }

    /// Whether there is space enough to go on after the disk was full.
    pub(super) fn has_space(&self) -> bool {
        self.storage
            .free_bytes(&self.directory)
            .is_ok_and(|free| free >= space_wanted(&self.config))
    }
}

/// Free space with which events are taken, after there had been too little.
pub(super) fn space_wanted(config: &LogConfig) -> u64 {
    config.reserve_bytes + 2 * super::ahead::STEP_BYTES
}
