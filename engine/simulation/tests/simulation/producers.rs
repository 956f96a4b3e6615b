//! Those who log: each makes one call after the other and repeats it until it is answered, in this life or the next.

use std::time::Duration;

use modelog_simulated_engine::batch::EventBatch;
use modelog_simulated_engine::event::{
    Event, FeedbackLogged, MetricLogged, ModelCreated, PredictionLogged,
};
use modelog_simulated_engine::origin::{Origin, Source};
use modelog_simulated_engine::sim::SimStorage;
use modelog_simulated_engine::threads::{block_on, sleep, timeout};
use modelog_simulated_engine::{
    AppendError, AppendOptions, Appended, Engine, OnBacklog, OnCreate, Timestamp,
};

use crate::chance::Chance;
use crate::trace::say;
use crate::witness::CallId;
use crate::world::World;

/// How a call is recognised if it is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// By the producer's numbers.
    Sequenced,
    /// By a key.
    Keyed,
    /// By the ids of its events.
    Identified,
    /// Not at all: it is made again only if it is known not to be applied.
    Once,
    /// One event that several producers report, under one id.
    Shared,
    /// One event under an id that others give to other content: the first wins.
    Clash,
    /// A model that others create too, with other attributes: the first wins.
    Creation,
}

#[derive(Clone, Debug)]
struct Call {
    id: CallId,
    number: u64,
    sort: Sort,
    events: Vec<Event>,
}

/// A producer, across all lives.
#[derive(Debug)]
pub(crate) struct Producer {
    number: usize,
    chance: Chance,
    /// How many calls it has begun.
    calls: u64,
    /// How many of them had numbers.
    sequenced: u64,
    /// What it is about.
    current: Option<Call>,
}

/// Why a producer stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Done,
    /// The same again, later.
    Again,
    /// This life of the log takes no more.
    Over,
}

impl Producer {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        Self {
            number,
            chance: Chance::new(seed, 1000 + number as u64),
            calls: 0,
            sequenced: 0,
            current: None,
        }
    }

    /// Whether a call waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.current.is_some()
    }

    /// Makes so many calls, fewer if the log takes no more.
    ///
    /// A machine that has gone is no disk that is full, though a log that asks it for space cannot tell: nobody waits for
    /// that one.
    pub(crate) fn work(
        &mut self,
        world: &World,
        engine: &Engine,
        machine: &SimStorage,
        calls: u64,
    ) {
        let mut left = calls;
        while (left > 0 || self.is_waiting()) && !machine.has_crashed() {
            let call = match &self.current {
                Some(call) => call.clone(),
                None => self.begin(world),
            };
            self.current = Some(call.clone());
            match self.attempt(world, engine, &call) {
                Said::Done => {
                    self.current = None;
                    left = left.saturating_sub(1);
                }
                Said::Again => {
                    // At once, while what it asked for may still be under way, or later.
                    let most = self.chance.pick(&[1, 1, 1000, 50_000]);
                    block_on(sleep(Duration::from_micros(self.chance.below(most))));
                }
                Said::Over => return,
            }
        }
    }

    fn begin(&mut self, world: &World) -> Call {
        let sort = self.chance.pick(&[
            Sort::Sequenced,
            Sort::Sequenced,
            Sort::Sequenced,
            Sort::Keyed,
            Sort::Identified,
            Sort::Identified,
            Sort::Once,
            Sort::Once,
            Sort::Shared,
            Sort::Clash,
            Sort::Creation,
        ]);
        self.calls += 1;
        let number = match sort {
            Sort::Sequenced => {
                self.sequenced += 1;
                self.sequenced
            }
            _ => self.calls,
        };
        let events = self.events(sort);
        let id = world
            .witness()
            .submit(self.number, &events, sort == Sort::Shared);
        Call {
            id,
            number,
            sort,
            events,
        }
    }

    fn events(&mut self, sort: Sort) -> Vec<Event> {
        // Each event has a time of its own, by which it is known again.
        let first = (self.number as i64 + 1) * 1_000_000_000 + self.calls as i64 * 1000;
        match sort {
            Sort::Shared => {
                let which = self.chance.below(12);
                let event = prediction(which as i64, 100, &mut Chance::new(which, 0));
                vec![event.with_id(format!("shared {which}"))]
            }
            Sort::Clash => {
                let which = self.chance.below(12);
                let event = prediction(first, 20, &mut self.chance);
                vec![event.with_id(format!("clash {which}"))]
            }
            Sort::Creation => {
                let model = ModelCreated {
                    model: format!("contended {}", self.chance.below(12)),
                    description: Some(format!("of {first}")),
                    ..ModelCreated::default()
                };
                vec![Event::from(model).at(at(first))]
            }
            _ => {
                let count = self.chance.pick(&[1, 1, 1, 2, 5, 20]);
                let noise = self.chance.pick(&[10, 100, 100, 100, 700, 2500]);
                let mut events: Vec<_> = (0..count)
                    .map(|ord| self.event(first + ord, noise))
                    .collect();
                if sort == Sort::Identified {
                    for event in &mut events {
                        event.id = event.time.map(|time| format!("e{}", time.micros()));
                    }
                }
                events
            }
        }
    }

    fn event(&mut self, time: i64, noise: u64) -> Event {
        match self.chance.below(8) {
            0 => {
                let metric = MetricLogged {
                    run: Some(format!("run {}", self.chance.below(9))),
                    name: "loss".into(),
                    value: self.chance.below(1000) as f64 / 8.0,
                    ..MetricLogged::default()
                };
                Event::from(metric).at(at(time))
            }
            1 => {
                let feedback = FeedbackLogged {
                    prediction_id: format!("p{}", time - 1000),
                    correct: Some(self.chance.one_in(2)),
                    ..FeedbackLogged::default()
                };
                Event::from(feedback).at(at(time))
            }
            _ => prediction(time, noise, &mut self.chance),
        }
    }

    fn attempt(&mut self, world: &World, engine: &Engine, call: &Call) -> Said {
        let mut batch = EventBatch::from_events(&call.events).unwrap();
        let options = self.options(call, &mut batch);
        let patience = self.chance.one_in(8).then(|| self.chance.below(1500));
        say!(
            "producer {} calls: {:?} {} of {} events, patience {patience:?}",
            self.number,
            call.sort,
            call.id,
            call.events.len()
        );
        let append = engine.append(batch, options);
        let answer = match patience {
            None => Some(block_on(append)),
            Some(micros) => block_on(timeout(Duration::from_micros(micros), append)),
        };
        say!("producer {} is answered {answer:?}", self.number);
        match answer {
            // The caller went away: what it asked for may be done all the same.
            None => {
                world.note("a caller went away");
                self.unknown(world, call, Said::Again)
            }
            Some(Ok(appended)) => {
                self.acknowledged(world, engine, call, appended);
                Said::Done
            }
            Some(Err(error)) => self.refused(world, call, &error),
        }
    }

    fn options(&mut self, call: &Call, batch: &mut EventBatch) -> AppendOptions {
        let mut options = AppendOptions::default();
        match call.sort {
            Sort::Sequenced => batch.add_origin(Origin::whole(Source::Producer {
                id: format!("producer {}", self.number).into(),
                epoch: 1,
                sequence: call.number,
            })),
            Sort::Keyed => batch.add_origin(Origin::whole(Source::Call {
                key: format!("key {} of {}", call.number, self.number).into(),
                body: call.number,
            })),
            Sort::Creation => options.create = OnCreate::Refuse,
            _ => {}
        }
        if self.chance.one_in(4) {
            options.backlog = OnBacklog::Refuse;
        }
        options
    }

    fn acknowledged(&self, world: &World, engine: &Engine, call: &Call, appended: Appended) {
        if appended.duplicates > 0 {
            world.note("a duplicate was recognised");
        }
        assert!(engine.tail() >= appended.end, "answered before durable");
        world.witness().acknowledge(call.id, appended);
    }

    fn unknown(&self, world: &World, call: &Call, then: Said) -> Said {
        world.witness().lost_sight(call.id);
        match call.sort {
            Sort::Once if then == Said::Again => Said::Done,
            _ => then,
        }
    }

    fn refused(&mut self, world: &World, call: &Call, error: &AppendError) -> Said {
        match error {
            AppendError::DiskFull => {
                world.note("the disk was full");
                // Not everybody comes again.
                if call.sort == Sort::Once && self.chance.one_in(2) {
                    Said::Done
                } else {
                    Said::Again
                }
            }
            AppendError::Backlog { .. } => {
                world.note("the backlog was full");
                Said::Again
            }
            AppendError::Poisoned { .. } => {
                world.note("the log was poisoned");
                Said::Over
            }
            AppendError::Closed => {
                world.note("the log was closed");
                Said::Over
            }
            AppendError::OutcomeUnknown { .. } => {
                world.note("an outcome was unknown");
                self.unknown(world, call, Said::Over)
            }
            AppendError::IdConflict { .. } if call.sort == Sort::Clash => {
                world.note("an id was taken");
                Said::Done
            }
            AppendError::EntityConflict { .. } if call.sort == Sort::Creation => {
                world.note("a model existed");
                Said::Done
            }
            other => panic!("a {:?} call was refused: {other}", call.sort),
        }
    }

    /// Gives up what cannot be recognised: making it again could make it twice.
    pub(crate) fn next_life(&mut self) {
        let given_up = |call: &Call| call.sort == Sort::Once;
        if self.current.as_ref().is_some_and(given_up) {
            self.current = None;
        }
    }
}

fn at(time: i64) -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000 + time)
}

fn prediction(time: i64, noise: u64, chance: &mut Chance) -> Event {
    let text: String = (0..noise.div_ceil(16))
        .map(|_| format!("{:016x}", chance.number()))
        .collect();
    let prediction = PredictionLogged {
        model: format!("model {}", chance.below(4)),
        version: format!("v{}", chance.below(3)),
        prediction_id: Some(format!("p{time}")),
        predicted_class: Some(text),
        confidence: Some(chance.below(1000) as f64 / 1000.0),
        inference_time_ms: Some(chance.below(1000) as f64 / 8.0),
        ..PredictionLogged::default()
    };
    Event::from(prediction).at(at(time))
}
