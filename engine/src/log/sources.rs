//! Where every source of events stands: what was answered to which call, and which position comes next.
//!
//! A repeated call gets its first answer. Positions and producers are kept for good and written into the state frame
//! of each segment; keys of calls are a window of the newest [`CALLS_MAX`], found again by reading the log.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::frame::Body;
use crate::Offset;
use crate::error::AppendError;
use crate::origin::{Origin, Position, Source};

/// How many idempotency keys are remembered.
pub(crate) const CALLS_MAX: usize = 100_000;
/// How many answers are remembered for each producer.
const ANSWERS_MAX: usize = 8;
/// How many producers are remembered; the one that has been silent longest is forgotten.
const PRODUCERS_MAX: usize = 10_000;

/// A call of a source and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceState {
    pub(crate) source: Source,
    /// Offset of its first event; where it would have been, had it any.
    pub(crate) first: Offset,
    /// Events appended, records of rejected ones aside.
    pub(crate) accepted: u32,
    pub(crate) rejected: u32,
    pub(crate) duplicates: u32,
}

impl SourceState {
    pub(crate) fn new(origin: &Origin, batch_first: Offset) -> Self {
        Self {
            source: origin.source.clone(),
            first: batch_first.advance(origin.first_ord.into()),
            accepted: origin.rows - origin.rejected.min(origin.rows),
            rejected: origin.rejected,
            duplicates: origin.duplicates,
        }
    }

    /// Events and records of rejected ones.
    pub(crate) fn rows(&self) -> u32 {
        self.accepted + self.rejected
    }
}

/// The identity of a Kafka partition.
type Partition = (Arc<str>, Arc<str>, Option<u128>, i32);

#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    calls: HashMap<Arc<str>, SourceState>,
    call_order: VecDeque<Arc<str>>,
    producers: HashMap<Arc<str>, VecDeque<SourceState>>,
    partitions: HashMap<Partition, SourceState>,
}

/// What a source's state was before, so that it can be had back.
#[derive(Debug)]
pub(crate) enum Undo {
    Call(Arc<str>),
    Producer(Arc<str>, Option<VecDeque<SourceState>>),
    Partition(Partition, Option<SourceState>),
}

impl Sources {
    /// Whether a call was made before: its first answer, nothing if it is new, or why it cannot be taken.
    pub(crate) fn find(&self, source: &Source) -> Result<Option<&SourceState>, AppendError> {
        match source {
            Source::Call { key, body } => match self.calls.get(key) {
                Some(state) if matches!(&state.source, Source::Call { body: known, .. } if known == body) => {
                    Ok(Some(state))
                }
                Some(_) => Err(AppendError::KeyReused),
                None => Ok(None),
            },
            Source::Producer {
                id,
                epoch,
                sequence,
            } => self.find_producer(id, *epoch, *sequence),
            Source::Kafka { .. } => self.check_position(source).map(|()| None),
        }
    }

    /// Positions of a partition follow each other: what is in the log cannot come again, nor can anything be passed over,
    /// save by an origin of no positions (`first == next`), which says where to go on.
    fn check_position(&self, source: &Source) -> Result<(), AppendError> {
        let Source::Kafka {
            cluster,
            topic,
            topic_id,
            partition,
            first,
            next,
            ..
        } = source
        else {
            return Ok(());
        };
        let key = (
            Arc::clone(cluster),
            Arc::clone(topic),
            *topic_id,
            *partition,
        );
        match self.partitions.get(&key).and_then(position) {
            Some(known) if known.next != *first && first != next => Err(AppendError::OutOfPlace {
                topic: topic.to_string(),
                partition: *partition,
                expected: known.next,
                found: *first,
            }),
            _ => Ok(()),
        }
    }

    /// How far each partition of a cluster was read, in no particular order.
    pub(crate) fn positions(&self, of: &str) -> Vec<Position> {
        let ours = self
            .partitions
            .iter()
            .filter(|((cluster, ..), _)| **cluster == *of);
        ours.filter_map(|(_, state)| position(state)).collect()
    }

    fn find_producer(
        &self,
        id: &Arc<str>,
        epoch: u32,
        sequence: u64,
    ) -> Result<Option<&SourceState>, AppendError> {
        let Some(answers) = self.producers.get(id) else {
            return Ok(None);
        };
        let Some((last_epoch, last_sequence)) = answers.back().and_then(numbers) else {
            return Ok(None);
        };
        if epoch > last_epoch {
            return Ok(None);
        }
        if epoch == last_epoch && sequence > last_sequence {
            return match last_sequence + 1 {
                expected if expected == sequence => Ok(None),
                expected => Err(AppendError::SequenceGap {
                    producer: id.to_string(),
                    expected,
                    found: sequence,
                }),
            };
        }
        answers
            .iter()
            .find(|state| numbers(state) == Some((epoch, sequence)))
            .map(Some)
            .ok_or_else(|| AppendError::StaleProducer {
                producer: id.to_string(),
                epoch: last_epoch,
                sequence: last_sequence,
            })
    }

    /// Notes a call and its answer.
    pub(crate) fn note(&mut self, state: SourceState) -> Undo {
        match state.source.clone() {
            Source::Call { key, .. } => {
                if self.calls.contains_key(&key) {
                    // Read twice, by a fold: the answer is the same.
                    self.calls.insert(Arc::clone(&key), state);
                    return Undo::Call(key);
                }
                while self.call_order.len() >= CALLS_MAX {
                    if let Some(oldest) = self.call_order.pop_front() {
                        self.calls.remove(&oldest);
                    }
                }
                self.calls.insert(Arc::clone(&key), state);
                self.call_order.push_back(Arc::clone(&key));
                Undo::Call(key)
            }
            Source::Producer { id, .. } => {
                let before = self.producers.get(&id).cloned();
                if before.is_none() && self.producers.len() >= PRODUCERS_MAX {
                    self.forget_silent_producer();
                }
                let answers = self.producers.entry(Arc::clone(&id)).or_default();
                // Read twice, by a fold.
                answers.retain(|known| known.source != state.source);
                if answers.len() >= ANSWERS_MAX {
                    answers.pop_front();
                }
                answers.push_back(state);
                Undo::Producer(id, before)
            }
            Source::Kafka {
                cluster,
                topic,
                topic_id,
                partition,
                ..
            } => {
                let key = (cluster, topic, topic_id, partition);
                let before = self.partitions.insert(key.clone(), state);
                Undo::Partition(key, before)
            }
        }
    }

    fn forget_silent_producer(&mut self) {
        let last = |answers: &VecDeque<SourceState>| answers.back().map(|state| state.first);
        let silent = self
            .producers
            .iter()
            .min_by_key(|(id, answers)| (last(answers), Arc::clone(id)));
        if let Some(id) = silent.map(|(id, _)| Arc::clone(id)) {
            self.producers.remove(&id);
        }
    }

    /// Takes a note back; the latest first.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Call(key) => {
                self.calls.remove(&key);
                self.call_order.pop_back();
            }
            Undo::Producer(id, before) => match before {
                Some(before) => drop(self.producers.insert(id, before)),
                None => drop(self.producers.remove(&id)),
            },
            Undo::Partition(key, before) => match before {
                Some(before) => drop(self.partitions.insert(key, before)),
                None => drop(self.partitions.remove(&key)),
            },
        }
    }

    /// Producers and positions alone, without the keys of calls.
    pub(crate) fn without_calls(&self) -> Self {
        Self {
            calls: HashMap::default(),
            call_order: VecDeque::default(),
            producers: self.producers.clone(),
            partitions: self.partitions.clone(),
        }
    }

    /// What a state frame holds: producers and positions, in an order that depends on nothing else.
    pub(crate) fn lasting(&self) -> Vec<SourceState> {
        let mut producers: Vec<_> = self.producers.iter().collect();
        producers.sort_unstable_by_key(|(id, _)| *id);
        let mut partitions: Vec<_> = self.partitions.iter().collect();
        partitions.sort_unstable_by_key(|(partition, _)| *partition);
        let producers = producers.into_iter().flat_map(|(_, answers)| answers);
        let partitions = partitions.into_iter().map(|(_, state)| state);
        let mut states: Vec<_> = producers.chain(partitions).cloned().collect();
        // Calls without events have the offset of the next one: of a producer they stay in the order of their numbers.
        states.sort_by_key(|state| state.first);
        states
    }

    /// Takes producers and positions from a state frame, which has them all.
    pub(crate) fn replace_lasting(&mut self, states: Vec<SourceState>) {
        self.producers.clear();
        self.partitions.clear();
        for state in states {
            self.note(state);
        }
    }

    /// Takes in what a frame says of producers and partitions, or how it moves them.
    pub(crate) fn follow(&mut self, body: Body) {
        match body {
            Body::State(states) => self.replace_lasting(states),
            Body::Rows(batch) => self.note_lasting(&batch.origins, batch.first_offset),
            Body::Closing => {}
        }
    }

    /// Notes what moves producers and partitions.
    pub(crate) fn note_lasting(&mut self, origins: &[Origin], first: Offset) {
        for origin in origins {
            if !matches!(origin.source, Source::Call { .. }) {
                self.note(SourceState::new(origin, first));
            }
        }
    }

    /// The remembered calls, from the oldest on.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &SourceState> {
        self.call_order.iter().filter_map(|key| self.calls.get(key))
    }
}

fn position(state: &SourceState) -> Option<Position> {
    match &state.source {
        Source::Kafka {
            topic,
            topic_id,
            partition,
            next,
            leader_epoch,
            ..
        } => Some(Position {
            topic: Arc::clone(topic),
            topic_id: *topic_id,
            partition: *partition,
            next: *next,
            leader_epoch: *leader_epoch,
        }),
        _ => None,
    }
}

fn numbers(state: &SourceState) -> Option<(u32, u64)> {
    match state.source {
        Source::Producer {
            epoch, sequence, ..
        } => Some((epoch, sequence)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(
        sources: &mut Sources,
        epoch: u32,
        sequence: u64,
        first: u64,
    ) -> Result<Option<u64>, AppendError> {
        let source = Source::Producer {
            id: "p".into(),
            epoch,
            sequence,
        };
        let known = sources.find(&source)?.map(|state| state.first.0);
        if known.is_none() {
            sources.note(SourceState {
                source,
                first: Offset(first),
                accepted: 1,
                rejected: 0,
                duplicates: 0,
            });
        }
        Ok(known)
    }

    #[test]
    fn producers_count_up_and_repeats_get_their_answer() {
        let mut sources = Sources::default();
        assert_eq!(
            call(&mut sources, 1, 7, 0),
            Ok(None),
            "a producer may start anywhere"
        );
        assert_eq!(call(&mut sources, 1, 8, 1), Ok(None));
        assert_eq!(call(&mut sources, 1, 7, 2), Ok(Some(0)));
        assert!(matches!(
            call(&mut sources, 1, 10, 2),
            Err(AppendError::SequenceGap { expected: 9, .. })
        ));
        assert_eq!(
            call(&mut sources, 2, 0, 2),
            Ok(None),
            "a new epoch starts over"
        );
        assert!(matches!(
            call(&mut sources, 1, 9, 3),
            Err(AppendError::StaleProducer { epoch: 2, .. })
        ));
        assert_eq!(
            call(&mut sources, 1, 8, 3),
            Ok(Some(1)),
            "a late repeat still gets its answer"
        );
    }

    #[test]
    fn positions_follow_each_other_unless_it_is_said_where_to_go_on() {
        let mut sources = Sources::default();
        let mut read = |first, next, topic_id| {
            let source = Source::Kafka {
                cluster: "c".into(),
                topic: "t".into(),
                topic_id,
                partition: 3,
                first,
                next,
                leader_epoch: 7,
            };
            assert_eq!(sources.find(&source)?, None);
            let origin = Origin::whole(source);
            sources.note(SourceState::new(&origin, Offset(9)));
            Ok(sources.positions("c").len())
        };
        let refused = |expected, found| {
            Err(AppendError::OutOfPlace {
                topic: "t".into(),
                partition: 3,
                expected,
                found,
            })
        };
        assert_eq!(read(40, 50, Some(1)), Ok(1), "a source may start anywhere");
        assert_eq!(read(40, 50, Some(1)), refused(50, 40), "read twice");
        assert_eq!(read(45, 60, Some(1)), refused(50, 45), "read twice in part");
        assert_eq!(read(51, 60, Some(1)), refused(50, 51), "passed over");
        assert_eq!(read(50, 60, Some(1)), Ok(1));
        assert_eq!(read(90, 90, Some(1)), Ok(1), "says where to go on");
        assert_eq!(read(60, 70, Some(1)), refused(90, 60));
        assert_eq!(read(90, 91, Some(1)), Ok(1));
        assert_eq!(read(20, 20, Some(1)), Ok(1), "also back");
        assert_eq!(
            read(0, 5, Some(2)),
            Ok(2),
            "made again, it is another topic"
        );
        assert!(sources.positions("d").is_empty());
    }

    #[test]
    fn a_key_belongs_to_one_body() {
        let mut sources = Sources::default();
        let call = |body| Source::Call {
            key: "k".into(),
            body,
        };
        sources.note(SourceState {
            source: call(1),
            first: Offset(5),
            accepted: 2,
            rejected: 0,
            duplicates: 1,
        });
        assert_eq!(
            sources.find(&call(1)).unwrap().map(|state| state.first),
            Some(Offset(5))
        );
        assert_eq!(sources.find(&call(2)), Err(AppendError::KeyReused));
    }
}
