//! What is said to the log in its life, and what it must know after each call: worked out by a log that nothing ever
//! happened to.

use std::collections::HashSet;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::{
    EntityKind, Event, EventRejected, FeedbackLogged, ModelCreated, PredictionLogged, RunFinished,
    RunStarted,
};
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{
    AppendError, AppendOptions, Appended, Engine, LogError, Offset, OnConflict, Timestamp,
};

use super::shelf::digest;
use crate::support::{calls as plain_calls, disk, open, prediction};

/// The Kafka cluster that a part of the calls comes from.
const CLUSTER: &str = "cluster";

/// What one caller sends at once.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) events: Vec<Event>,
    source: Source,
}

impl Call {
    pub(crate) fn append(&self, engine: &Engine) -> Result<Appended, AppendError> {
        let mut batch = EventBatch::from_events(&self.events).unwrap();
        batch.add_origin(Origin::whole(self.source.clone()));
        let options = AppendOptions {
            id_conflict: OnConflict::Record,
            ..AppendOptions::default()
        };
        engine.append_blocking(batch, options)
    }

    /// Whether it can be made again where it is in the log: of a Kafka partition nothing is, who resumes it goes by the
    /// positions in the log.
    pub(crate) fn is_answered_again(&self) -> bool {
        self.next_position().is_none()
    }

    /// The position of a Kafka partition that comes after it.
    fn next_position(&self) -> Option<i64> {
        match self.source {
            Source::Kafka { next, .. } => Some(next),
            _ => None,
        }
    }
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000 + seconds * 1_000_000)
}

/// Facts before those they build on: each is taken, and waits for nobody.
fn out_of_order() -> Vec<Event> {
    let feedback = FeedbackLogged {
        prediction_id: "late".into(),
        true_class: Some("cat".into()),
        ..FeedbackLogged::default()
    };
    let finished = RunFinished {
        run: "early".into(),
        status: "finished".into(),
        error: None,
    };
    let prediction = PredictionLogged {
        model: "unannounced".into(),
        version: "v9".into(),
        prediction_id: Some("late".into()),
        predicted_class: Some("cat".into()),
        ..PredictionLogged::default()
    };
    let started = RunStarted {
        run: "early".into(),
        ..RunStarted::default()
    };
    let announced = ModelCreated {
        model: "unannounced".into(),
        framework: Some("jax".into()),
        ..ModelCreated::default()
    };
    let facts: [Event; 5] = [
        feedback.into(),
        finished.into(),
        prediction.into(),
        started.into(),
        announced.into(),
    ];
    let named = |(number, fact): (usize, Event)| {
        fact.at(moment(number as i64))
            .with_id(format!("out-of-order-{number}"))
    };
    facts.into_iter().enumerate().map(named).collect()
}

/// Something a source could not read, between events it could.
fn with_a_rejection(first: u64) -> Vec<Event> {
    let rejected = EventRejected {
        reason: "malformed".into(),
        raw: Some(b"{\"half\": ".to_vec()),
        raw_bytes: Some(9),
        ..EventRejected::default()
    };
    vec![
        prediction(first, 20),
        Event::from(rejected).at(moment(first as i64)),
        prediction(first + 1, 20),
    ]
}

/// An id the log knows, with other content.
fn with_a_conflict(first: u64) -> Vec<Event> {
    let other = prediction(first, 30).with_id("e0");
    vec![prediction(first, 20), other, prediction(first + 1, 20)]
}

/// The calls of a life: large ones that roll segments and small ones, of producers, of keyed calls and of a Kafka
/// partition; repeats of events, positions without events, facts out of order, records of what was refused.
pub(crate) fn calls() -> Vec<Call> {
    let mut events = plain_calls();
    let first = events[0].clone();
    events.insert(2, out_of_order());
    events.insert(5, first.clone());
    events.insert(8, with_a_rejection(90_000));
    // Kafka: two positions were read, none of them an event.
    events.insert(9, Vec::new());
    events.insert(12, with_a_conflict(91_000));
    let repeated_with_news = [&first[..], &[prediction(92_000, 10)]].concat();
    events.insert(15, repeated_with_news);
    let mut position = 0;
    let mut sequences = [0; 3];
    events
        .into_iter()
        .enumerate()
        .map(|(number, events)| {
            let source = match number {
                8 | 9 | 13 => {
                    let first = position;
                    position += events.len().max(2) as i64;
                    Source::Kafka {
                        cluster: CLUSTER.into(),
                        topic: "topic".into(),
                        topic_id: Some(5),
                        partition: 3,
                        first,
                        next: position,
                        leader_epoch: 1,
                    }
                }
                _ if number % 4 == 3 => Source::Call {
                    key: format!("key {number}").into(),
                    body: number as u64,
                },
                _ => {
                    let producer = number % 3;
                    let sequence = sequences[producer];
                    sequences[producer] += 1;
                    Source::Producer {
                        id: format!("producer {producer}").into(),
                        epoch: 1,
                        sequence,
                    }
                }
            };
            Call { events, source }
        })
        .collect()
}

/// What a log knows, whatever became of it.
#[derive(Debug, PartialEq)]
struct Picture {
    statistics: Vec<u8>,
    names: Vec<(EntityKind, u32, String)>,
}

/// Everything that can be read of a log.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) events: Vec<Event>,
    digests: Vec<u64>,
    /// Those of frames with events, each with the offset of its first event.
    origins: Vec<(Origin, Offset)>,
}

/// Reads from the start; offsets are dense, epochs and append times do not go back.
pub(crate) fn content(engine: &Engine) -> Result<Content, LogError> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut found = Content::default();
    let (mut epoch, mut time) = (0, Timestamp::MIN);
    loop {
        let batches = reader.read(64 << 10)?;
        if batches.is_empty() {
            assert_eq!(found.events.len() as u64, engine.tail().0, "dense (2)");
            return Ok(found);
        }
        for batch in batches {
            assert_eq!(
                batch.first_offset.0,
                found.events.len() as u64,
                "batches follow each other (2)"
            );
            assert!(batch.epoch >= epoch && batch.append_time >= time);
            (epoch, time) = (batch.epoch, batch.append_time);
            for row in batch.in_order() {
                assert_eq!(row.offset().0, found.events.len() as u64, "dense (2)");
                let mut event = row.to_event();
                event.time = event.time.filter(|time| *time != row.append_time());
                found.events.push(event);
                found.digests.push(digest(row, engine.names()));
            }
            for origin in &batch.origins {
                let offset = batch.first_offset.advance(origin.first_ord.into());
                // Its place in a frame is not a matter of the log: calls share frames, files are cut elsewhere.
                let origin = Origin {
                    first_ord: 0,
                    ..origin.clone()
                };
                found.origins.push((origin, offset));
            }
        }
    }
}

fn picture(engine: &Engine) -> Picture {
    let tail = engine.tail();
    let statistics = loop {
        let found = engine.with_statistics(|s| (s.offset() == tail).then(|| s.encode()));
        match found {
            Some(found) => break found,
            None => std::thread::yield_now(),
        }
    };
    let names = engine.names();
    let mut all = Vec::new();
    for kind in EntityKind::ALL {
        for id in 1..=names.count(kind) {
            let (parent, name) = names.name(kind, id).expect("numbers have no holes");
            all.push((kind, id, format!("{parent} {name}")));
        }
    }
    Picture {
        statistics,
        names: all,
    }
}

/// What a log must hold after its first so many calls.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) calls: Vec<Call>,
    /// What each was answered.
    answers: Vec<Appended>,
    /// The tail before each, and after the last.
    ends: Vec<u64>,
    pictures: Vec<Picture>,
    content: Content,
}

impl Expected {
    pub(crate) fn new() -> Self {
        let calls = calls();
        let engine = open(&disk(0)).unwrap();
        let mut expected = Self {
            answers: Vec::new(),
            ends: vec![0],
            pictures: vec![picture(&engine)],
            content: Content::default(),
            calls,
        };
        for call in &expected.calls {
            expected.answers.push(call.append(&engine).unwrap());
            expected.ends.push(engine.tail().0);
            expected.pictures.push(picture(&engine));
        }
        expected.content = content(&engine).unwrap();
        expected.is_worth_it();
        expected
    }

    /// That the script has in it what it is said to have.
    fn is_worth_it(&self) {
        let sum = |count: fn(&Appended) -> u32| self.answers.iter().map(count).sum::<u32>();
        assert_eq!(sum(|a| a.duplicates), 2, "repeats");
        assert_eq!(sum(|a| a.rejected), 2, "an unreadable one and a conflict");
        let empty = self.answers.iter().filter(|a| a.first.is_none()).count();
        assert_eq!(empty, 2, "a repeat alone, and positions alone");
    }

    /// How many events the first so many calls leave in the log.
    pub(crate) fn end(&self, calls: usize) -> u64 {
        self.ends[calls]
    }

    /// Where a Kafka partition is to be resumed after the first so many calls.
    fn position(&self, calls: usize) -> Option<i64> {
        self.calls[..calls]
            .iter()
            .rev()
            .find_map(Call::next_position)
    }

    /// Whether a call leaves no events in the log.
    pub(crate) fn is_silent(&self, number: usize) -> bool {
        self.ends[number] == self.ends[number + 1]
    }

    /// What a projection holds that has got to an offset.
    pub(crate) fn digests(&self, end: Offset) -> &[u64] {
        &self.content.digests[..end.0 as usize]
    }

    /// Asserts rules 1 to 6 as far as the log by itself goes: it holds whole calls from the first on, at least and at
    /// most so many, and what follows from them. Answers how many.
    pub(crate) fn check(&self, engine: &Engine, least: usize, most: usize) -> usize {
        let found = content(engine).unwrap();
        let count = found.events.len() as u64;
        assert!(
            count >= self.ends[least],
            "(1) lost what was acknowledged: {count} events, {} are {least} calls",
            self.ends[least]
        );
        assert!(
            count <= self.ends[most],
            "(1) invented: {count} events, {} were submitted",
            self.ends[most]
        );
        let position = engine.positions(CLUSTER).first().map(|it| it.next);
        // Of other calls without events than those of a partition it cannot be told here; their repeats are answered as they
        // were.
        let recovered = (least..=most)
            .rev()
            .find(|calls| self.ends[*calls] == count && self.position(*calls) == position);
        let recovered = recovered.unwrap_or_else(|| {
            panic!(
                "(1, 3) a call in part, or lost: {count} events, position {position:?}; {:?} after {least} calls, {:?} after {most}",
                self.position(least),
                self.position(most)
            )
        });
        let count = count as usize;
        assert!(
            found.events == self.content.events[..count],
            "(1) other events"
        );
        assert!(
            found.digests == self.content.digests[..count],
            "(2) names have other numbers"
        );
        let origins = |origins: &[(Origin, Offset)]| -> HashSet<String> {
            let with_rows = origins.iter().filter(|(origin, _)| origin.rows > 0);
            with_rows.map(|origin| format!("{origin:?}")).collect()
        };
        let expected = self.content.origins.iter();
        let expected: Vec<_> = expected
            .filter(|(_, offset)| offset.0 < count as u64)
            .cloned()
            .collect();
        assert_eq!(
            origins(&found.origins),
            origins(&expected),
            "(3) origins without their events, or the reverse"
        );
        assert!(
            picture(engine) == self.pictures[recovered],
            "(4) statistics or names are no fold of {recovered} calls"
        );
        recovered
    }

    /// Asserts rules 1 and 3 by saying everything again: calls that are there get their first answer and change nothing,
    /// the others are taken with the answer they would have got. What was read from a Kafka partition is not read again.
    pub(crate) fn repeat_all(&self, engine: &Engine, recovered: usize) {
        for (number, call) in self.calls.iter().enumerate() {
            if number < recovered && !call.is_answered_again() {
                continue;
            }
            let before = engine.tail();
            let answer = call.append(engine);
            let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error}"));
            assert_eq!(
                answer, self.answers[number],
                "(3) the answer to call {number}"
            );
            if number < recovered {
                assert_eq!(engine.tail(), before, "(1) taken twice: call {number}");
            }
        }
        self.check(engine, self.calls.len(), self.calls.len());
    }
}
