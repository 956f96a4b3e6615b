//! What was said to the log, what it answered, and what anybody ever saw of it: across all lives of a run.
//!
//! # What must hold, and is checked as it is seen
//! V1. What one reader has seen at an offset, every other sees there, in this life and in later ones.
//! V2. Everything seen was submitted: no event is invented, none is there twice.
//! V3. A call that was acknowledged is there, whole, where the answer said. One whose outcome is unknown is there whole or
//!     not at all. One that was answered "not applied" for good is not there.
//! V4. Calls of one producer that waited for each other's answers are in that order.

use std::collections::{BTreeMap, HashMap};

use modelog_simulated_engine::batch::LoggedBatch;
use modelog_simulated_engine::event::Event;
use modelog_simulated_engine::{Appended, Offset};
use xxhash_rust::xxh3::xxh3_64;

/// A call's number.
pub(crate) type CallId = usize;

/// What is known of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Never given to the log, or refused each time without being applied.
    NotApplied,
    /// Perhaps applied.
    Unknown,
    /// Durable; where, if it was told.
    Acknowledged(Option<Offset>),
}

#[derive(Debug)]
struct Call {
    events: Vec<Event>,
    producer: usize,
    outcome: Outcome,
    /// Others submit the same event under the same id: one of them is in the log.
    shared: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    calls: Vec<Call>,
    /// Events by the time they say they happened at, which no two of them have in common.
    events: HashMap<i64, Event>,
    /// By offset: the event's time, and a sum over all of it.
    seen: BTreeMap<u64, (i64, u64)>,
}

impl Witness {
    /// A call is about to be made for the first time.
    pub(crate) fn submit(&mut self, producer: usize, events: &[Event], shared: bool) -> CallId {
        for event in events {
            let before = self.events.insert(time(event), event.clone());
            assert!(shared || before.is_none(), "two events of one time");
        }
        self.calls.push(Call {
            events: events.to_vec(),
            producer,
            outcome: Outcome::NotApplied,
            shared,
        });
        self.calls.len() - 1
    }

    /// An attempt ended without an answer.
    pub(crate) fn lost_sight(&mut self, call: CallId) {
        self.calls[call].outcome = Outcome::Unknown;
    }

    /// An attempt was answered with success.
    pub(crate) fn acknowledge(&mut self, id: CallId, appended: Appended) {
        let call = &mut self.calls[id];
        let count = call.events.len() as u32;
        assert_eq!(
            (appended.accepted + appended.duplicates, appended.rejected),
            (count, 0),
            "call {id} has {count} events"
        );
        assert!(
            appended.accepted == count || appended.duplicates == count,
            "call {id} was taken in part: {appended:?}"
        );
        call.outcome = Outcome::Acknowledged(appended.first);
    }

    /// Somebody saw a batch.
    pub(crate) fn see(&mut self, batch: &LoggedBatch) {
        let mut next = batch.first_offset.0;
        for row in batch.in_order() {
            let offset = row.offset().0;
            assert_eq!(offset, next, "offsets within a batch are dense");
            next += 1;
            let mut line = Vec::new();
            row.write_json(&mut line);
            let found = (row.time().micros(), xxh3_64(&line));
            let event = self.events.get(&found.0);
            let event = event.unwrap_or_else(|| panic!("invented at {offset}: {row:?}"));
            assert_eq!(row.to_event(), *event, "another event at {offset}");
            let known = *self.seen.entry(offset).or_insert(found);
            assert_eq!(known, found, "what was seen at {offset} has changed");
        }
        assert_eq!(next, batch.end().0, "a batch has the rows it says");
    }

    /// The log was read from its start to its end: everything must be there that must, and nothing else.
    pub(crate) fn check_whole(&self, tail: Offset) {
        let whole = self.seen.len() as u64;
        let last = self.seen.keys().next_back().map_or(0, |last| last + 1);
        assert_eq!((whole, last), (tail.0, tail.0), "what was seen is the log");
        let mut places = HashMap::new();
        for (offset, (time, _)) in &self.seen {
            let before = places.insert(*time, *offset);
            assert_eq!(before, None, "an event is there twice, again at {offset}");
        }
        let mut ends: HashMap<usize, u64> = HashMap::new();
        for (id, call) in self.calls.iter().enumerate() {
            let found = self.find(id, call, &places);
            match (call.outcome, found) {
                (Outcome::Acknowledged(_), None) => panic!("acknowledged call {id} is lost"),
                (Outcome::Acknowledged(Some(first)), Some(found)) => {
                    assert_eq!(first.0, found, "call {id} lies elsewhere than was answered");
                }
                (Outcome::NotApplied, Some(found)) if !call.shared => {
                    panic!("call {id} was not applied and is there at {found}")
                }
                _ => {}
            }
            if let (Some(found), false) = (found, call.shared) {
                let end = ends.entry(call.producer).or_default();
                assert!(found >= *end, "call {id} overtook one before it");
                *end = found + call.events.len() as u64;
            }
        }
    }

    /// Where a call lies, if it is there.
    fn find(&self, id: CallId, call: &Call, places: &HashMap<i64, u64>) -> Option<u64> {
        let found: Vec<_> = call
            .events
            .iter()
            .map(|event| places.get(&time(event)).copied())
            .collect();
        let first = found[0]?;
        let expected = (first..).map(Some);
        assert!(
            found.iter().copied().eq(expected.take(found.len())),
            "call {id} is there in part: {found:?}"
        );
        Some(first)
    }

    /// Calls whose outcome was never learnt.
    pub(crate) fn unknown(&self) -> usize {
        let unknown = |call: &&Call| call.outcome == Outcome::Unknown;
        self.calls.iter().filter(unknown).count()
    }
}

fn time(event: &Event) -> i64 {
    event.time.map_or(0, |time| time.micros())
}
