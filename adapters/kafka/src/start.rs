//! Where reading of a partition starts: decided from what the log knows, what the group has committed, and what the
//! partition still holds.
//!
//! | the log's position | committed by | starts at |
//! |---|---|---|
//! | k | nobody, or this log | k: the log knows best. A restored log reads again what it lost |
//! | k | another log, at c | the later of both: the partition was elsewhere meanwhile, and what this log has stays read |
//! | k | a stranger, at c | c: a person has moved the group, or a program that shares it has gone on |
//! | none | this log, which began at s | s: all that it read is gone with the disk |
//! | none | another log or a stranger, at c | c |
//! | none | nobody | as the policy says; at the first position if the log knows the topic from before it was made again |
//!
//! What lies between the wanted position and the first that the partition holds is a gap, and so is a topic that was
//! made again. A gap is recorded or halts the partition; nothing else moves a position over events that nobody has read.

use modelog_engine::LogId;

use crate::commit::{Committed, Committer};

/// Everything that decides where a partition is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Who asks.
    pub(crate) log: LogId,
    /// The next position the log needs of this very topic.
    pub(crate) position: Option<i64>,
    /// The next position the log would need of a topic of this name that is no more.
    pub(crate) former: Option<i64>,
    pub(crate) committed: Option<Committed>,
    /// The first position the partition holds, and the one after its last.
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// Where to start if nothing else decides.
    pub(crate) policy: i64,
    /// Whether the broker tells topics of the same name apart.
    pub(crate) identified: bool,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) at: i64,
    /// Where this log began to read, for its commits.
    pub(crate) began: i64,
    /// What nobody can read any more.
    pub(crate) gap: Option<Gap>,
}

/// Positions that were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) reason: GapReason,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Why positions had to be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// The broker deleted events that were not read yet.
    Deleted,
    /// The partition ends before the position: it lost its end.
    Truncated,
    /// The topic was deleted and made again.
    TopicRecreated,
}

impl GapReason {
    /// The word for it in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deleted => "events_deleted",
            Self::Truncated => "partition_truncated",
            Self::TopicRecreated => "topic_recreated",
        }
    }

    /// The same for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Deleted => "the broker has deleted events that were not read",
            Self::Truncated => "the partition ends before the position to read from",
            Self::TopicRecreated => "the topic was deleted and made again",
        }
    }
}

impl Known {
    /// Decides.
    pub(crate) fn start(&self) -> Start {
        let (wanted, began) = self.wanted();
        if let (None, Some(former)) = (self.position, self.former)
            && !self.committed_elsewhere()
        {
            let gap = Gap {
                reason: GapReason::TopicRecreated,
                from: former,
                to: self.low,
            };
            return self.with_gap(gap);
        }
        if wanted < self.low {
            return self.with_gap(Gap {
                reason: GapReason::Deleted,
                from: wanted,
                to: self.low,
            });
        }
        if wanted > self.high {
            // Of a topic that cannot be told from an earlier one of its name, nothing is known to have been read.
            let to = if self.identified { self.high } else { self.low };
            return self.with_gap(Gap {
                reason: GapReason::Truncated,
                from: wanted,
                to,
            });
        }
        Start {
            at: wanted,
            began,
            gap: None,
        }
    }

    fn with_gap(&self, gap: Gap) -> Start {
        Start {
            at: gap.to,
            began: gap.to,
            gap: Some(gap),
        }
    }

    /// Where to start if the partition holds it, and where this log began.
    fn wanted(&self) -> (i64, i64) {
        let ours = self.committed.and_then(|committed| match committed.by {
            Committer::Log { log, start } if log == self.log => Some(start),
            _ => None,
        });
        match (self.position, self.committed) {
            (Some(known), None) => (known, known),
            (Some(known), Some(committed)) => match (ours, committed.by) {
                (Some(start), _) => (known, start.min(known)),
                (None, Committer::Log { .. }) => {
                    let later = known.max(committed.position);
                    (later, later)
                }
                (None, Committer::Stranger) => (committed.position, committed.position),
            },
            (None, Some(committed)) => {
                let start = ours.unwrap_or(committed.position);
                (start, start)
            }
            (None, None) => (self.policy, self.policy),
        }
    }

    fn committed_elsewhere(&self) -> bool {
        match self.committed.map(|committed| committed.by) {
            None => false,
            Some(Committer::Log { log, .. }) => log != self.log,
            Some(Committer::Stranger) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: LogId = LogId(uuid::Uuid::from_u128(1));
    const THEM: LogId = LogId(uuid::Uuid::from_u128(2));

    fn known() -> Known {
        Known {
            log: US,
            position: None,
            former: None,
            committed: None,
            low: 10,
            high: 1000,
            policy: 10,
            identified: true,
        }
    }

    fn by(log: LogId, position: i64, start: i64) -> Option<Committed> {
        let by = Committer::Log { log, start };
        Some(Committed { position, by })
    }

    fn by_a_stranger(position: i64) -> Option<Committed> {
        let by = Committer::Stranger;
        Some(Committed { position, by })
    }

    /// Position of the log, commit; start and beginning.
    #[test]
    fn the_log_the_group_and_the_policy_decide_in_this_order() {
        let cases = [
            (None, None, (10, 10)),
            (Some(500), None, (500, 500)),
            (Some(500), by(US, 480, 20), (500, 20)),
            // Restored: it reads again what it lost.
            (Some(300), by(US, 480, 20), (300, 20)),
            (None, by(US, 480, 20), (20, 20)),
            // The partition was elsewhere.
            (Some(500), by(THEM, 700, 500), (700, 700)),
            (Some(500), by(THEM, 400, 300), (500, 500)),
            (None, by(THEM, 400, 300), (400, 400)),
            // A person moved the group.
            (Some(500), by_a_stranger(700), (700, 700)),
            (Some(500), by_a_stranger(100), (100, 100)),
            (None, by_a_stranger(100), (100, 100)),
        ];
        for (position, committed, (at, began)) in cases {
            let known = Known {
                position,
                committed,
                ..known()
            };
            let expected = Start {
                at,
                began,
                gap: None,
            };
            assert_eq!(known.start(), expected, "{position:?} {committed:?}");
        }
    }

    #[test]
    fn what_the_partition_no_longer_holds_is_a_gap() {
        let gap = |known: Known| known.start().gap.map(|gap| (gap.reason, gap.from, gap.to));
        let of = |position| Known {
            position: Some(position),
            ..known()
        };
        assert_eq!(gap(of(9)), Some((GapReason::Deleted, 9, 10)));
        assert_eq!(gap(of(10)), None);
        assert_eq!(gap(of(1000)), None);
        assert_eq!(gap(of(1001)), Some((GapReason::Truncated, 1001, 1000)));
        let unidentified = Known {
            identified: false,
            ..of(1001)
        };
        assert_eq!(gap(unidentified), Some((GapReason::Truncated, 1001, 10)));
        let lost = Known {
            committed: by(US, 480, 5),
            ..known()
        };
        assert_eq!(gap(lost), Some((GapReason::Deleted, 5, 10)));
    }

    #[test]
    fn a_topic_that_was_made_again_is_read_from_its_first_position() {
        let again = Known {
            former: Some(700),
            policy: 1000,
            ..known()
        };
        let gap = Gap {
            reason: GapReason::TopicRecreated,
            from: 700,
            to: 10,
        };
        let start = Start {
            at: 10,
            began: 10,
            gap: Some(gap),
        };
        assert_eq!(again.start(), start);
        // A commit of ours is of the former topic.
        let committed = Known {
            committed: by(US, 700, 0),
            ..again
        };
        assert_eq!(committed.start(), start);
        // Another log has read it meanwhile.
        let elsewhere = Known {
            committed: by(THEM, 50, 10),
            ..again
        };
        assert_eq!(elsewhere.start().at, 50);
        assert_eq!(elsewhere.start().gap, None);
        // It was noticed before.
        let noticed = Known {
            position: Some(30),
            ..again
        };
        assert_eq!(noticed.start().at, 30);
    }
}
