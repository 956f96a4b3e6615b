//! A partition as the reader sees it, from the moment it is given until it is taken away.

use std::sync::Arc;
use std::time::Duration;

use modelog_engine::sources::{PartitionState, PartitionStatus};
use rdkafka::statistics::Partition as Statistics;

use crate::client::Name;
use crate::portion::Assigned;

/// A partition of ours.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) assigned: Arc<Assigned>,
    /// The next position to be read.
    pub(crate) next: i64,
    /// Where this log began to read it.
    pub(crate) began: i64,
    /// What the group was last known to have.
    pub(crate) committed: Option<i64>,
    /// Its stretch in the portion that is being filled.
    pub(crate) stretch: Option<usize>,
    /// Why it is not read until a person decides.
    pub(crate) halted: Option<String>,
    /// Whether it stood still for too long.
    pub(crate) stalled: bool,
    /// When it last was seen to have moved, or to have nothing before it, and where it was then.
    moved: (Duration, i64),
    /// The first position behind all there is, and behind those that are held back by open transactions.
    end: Option<i64>,
    /// Where the broker had nothing more, when it was last told.
    exhausted: Option<i64>,
}

impl Reading {
    pub(crate) fn new(assigned: Arc<Assigned>, next: i64, began: i64, now: Duration) -> Self {
        Self {
            assigned,
            next,
            began,
            committed: None,
            stretch: None,
            halted: None,
            stalled: false,
            moved: (now, next),
            end: None,
            exhausted: None,
        }
    }

    pub(crate) fn is(&self, topic: &str, partition: i32) -> bool {
        self.assigned.partition == partition && *self.assigned.topic == *topic
    }

    /// Topic and number.
    pub(crate) fn key(&self) -> Name {
        (self.assigned.topic.to_string(), self.assigned.partition)
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.assigned.topic, self.assigned.partition)
    }

    /// Something was read, up to `next`.
    pub(crate) fn advance(&mut self, next: i64) {
        self.next = next;
        self.exhausted = None;
    }

    /// Whether the group should be told where it stands.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        let durable = self.assigned.durable();
        // A restored log stands before what it committed once, and says so.
        (self.committed != Some(durable) && self.halted.is_none()).then_some(durable)
    }

    /// Positions before it that are not in the log yet.
    pub(crate) fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.assigned.durable()).max(0))
    }

    /// Takes in what librdkafka tells. Answers where to go on if there is nothing for a reader up to there, as with markers
    /// of transactions and events that were compacted away.
    ///
    /// That the broker had nothing more at a position is told after all messages before it were queued. If that was so the
    /// last time already, and the queue was empty this time, all of them have been taken from it: so nothing before that
    /// position is still to come.
    pub(crate) fn observe(
        &mut self,
        told: &Statistics,
        read_committed: bool,
        now: Duration,
    ) -> Option<i64> {
        let end = if read_committed {
            told.ls_offset
        } else {
            told.hi_offset
        };
        if end >= 0 {
            self.end = Some(end);
        }
        if told.committed_offset >= 0 {
            self.committed = Some(told.committed_offset);
        }
        if self.moved.1 != self.next || self.end.is_some_and(|end| end <= self.next) {
            self.rest(now);
            self.stalled = false;
        }
        let exhausted = (told.eof_offset > self.next).then_some(told.eof_offset);
        let settled = exhausted.is_some() && exhausted == self.exhausted && told.fetchq_cnt == 0;
        self.exhausted = exhausted;
        exhausted.filter(|_| settled)
    }

    /// Whether it has stood still for too long though there are events before it; once for each such time.
    pub(crate) fn stalls(&mut self, patience: Duration, now: Duration) -> bool {
        let still = now.saturating_sub(self.moved.0) > patience && self.halted.is_none();
        if still {
            self.stalled = true;
            self.rest(now);
        }
        still
    }

    /// It has moved, or was not meant to.
    pub(crate) fn rest(&mut self, now: Duration) {
        self.moved = (now, self.next);
    }

    pub(crate) fn status(&self, paused: bool) -> PartitionStatus {
        let (state, reason) = match &self.halted {
            Some(reason) => (PartitionState::Halted, Some(reason.clone())),
            None if self.stalled => {
                let reason =
                    "there are events, and none has come for a while; it is being read anew";
                (PartitionState::Stalled, Some(reason.to_owned()))
            }
            None if paused => (PartitionState::Paused, None),
            None => (PartitionState::Reading, None),
        };
        PartitionStatus {
            topic: self.assigned.topic.to_string(),
            partition: self.assigned.partition,
            position: Some(self.assigned.durable()),
            committed: self.committed,
            lag: self.lag(),
            state,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn reading(next: i64) -> Reading {
        let assigned = Assigned::new("c".into(), "t".into(), None, 0, next);
        Reading::new(Arc::new(assigned), next, next, NOW)
    }

    fn told(eof: i64, queued: i64, end: i64) -> Statistics {
        Statistics {
            eof_offset: eof,
            fetchq_cnt: queued,
            ls_offset: end,
            hi_offset: end + 5,
            ..Statistics::default()
        }
    }

    #[test]
    fn it_moves_over_what_is_no_event_only_when_nothing_can_come_before_it() {
        let mut reading = reading(10);
        assert_eq!(
            reading.observe(&told(12, 0, 12), true, NOW),
            None,
            "not twice"
        );
        assert_eq!(
            reading.observe(&told(12, 3, 12), true, NOW),
            None,
            "in the queue"
        );
        assert_eq!(reading.observe(&told(12, 0, 12), true, NOW), Some(12));
        reading.advance(12);
        assert_eq!(reading.observe(&told(12, 0, 12), true, NOW), None, "there");
        assert_eq!(reading.observe(&told(15, 0, 15), true, NOW), None);
        // A message came in between.
        reading.advance(13);
        assert_eq!(reading.observe(&told(15, 0, 15), true, NOW), None);
        assert_eq!(
            reading.observe(&told(16, 0, 16), true, NOW),
            None,
            "it went on"
        );
        assert_eq!(reading.observe(&told(16, 0, 16), true, NOW), Some(16));
        assert_eq!(
            reading.observe(&told(-1001, 0, -1001), true, NOW),
            None,
            "not known"
        );
    }

    #[test]
    fn lag_is_what_is_not_durable_of_what_can_be_read() {
        let mut reading = reading(10);
        assert_eq!(reading.lag(), None);
        reading.observe(&told(-1001, 0, 30), true, NOW);
        reading.advance(25);
        assert_eq!(reading.lag(), Some(20));
        reading.assigned.set_durable(25);
        assert_eq!(reading.lag(), Some(5));
        reading.observe(&told(-1001, 0, 30), false, NOW);
        assert_eq!(reading.lag(), Some(10));
    }

    #[test]
    fn what_stands_still_is_told_from_what_has_nothing_to_read() {
        let mut reading = reading(10);
        reading.observe(&told(-1001, 0, 30), true, NOW);
        let patience = Duration::from_secs(20);
        assert!(!reading.stalls(patience, NOW + patience));
        assert!(reading.stalls(patience, NOW + patience * 2));
        assert_eq!(reading.status(false).state, PartitionState::Stalled);
        assert!(!reading.stalls(patience, NOW + patience * 2), "once");
        reading.advance(20);
        reading.observe(&told(-1001, 0, 30), true, NOW + patience * 3);
        assert_eq!(reading.status(false).state, PartitionState::Reading);
        assert!(!reading.stalls(patience, NOW + patience * 4));
        reading.advance(30);
        reading.observe(&told(30, 0, 30), true, NOW + patience * 5);
        reading.observe(&told(30, 0, 30), true, NOW + patience * 7);
        assert!(
            !reading.stalls(patience, NOW + patience * 8),
            "nothing to read"
        );
    }
}
