//! Those who read: followers, who see everything in order; onlookers, for whom the statistics are a fold of the log;
//! listeners, who are told each count once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use modelog_simulated_engine::names::Names;
use modelog_simulated_engine::stats::{Observation, Observer, Statistics};
use modelog_simulated_engine::threads::{block_on, sleep, timeout};
use modelog_simulated_engine::{Engine, LogError, Offset};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::trace::say;
use crate::world::World;

/// Whether an error of reading is only that the simulated machine is gone.
fn is_dead(error: &LogError, disk: &Disk) -> bool {
    matches!(error, LogError::Io { .. }) && disk.sim.has_crashed()
}

/// Follows the log until it is closed; answers how far it got.
pub(crate) fn follow(world: &World, engine: &Engine, disk: &Disk, mut chance: Chance) -> Offset {
    let mut reader = engine.reader(Offset(chance.below(engine.tail().0 + 1)));
    loop {
        let position = reader.position();
        let limit = chance.pick(&[1, 4 << 10, 64 << 10]);
        let read = match chance.below(4) {
            0 => {
                let there = engine.tail() > position;
                let read = reader.read(limit);
                let nothing = read.as_ref().is_ok_and(Vec::is_empty);
                assert!(!(there && nothing), "nothing below the tail");
                read
            }
            1 => {
                // Dropping the future loses nothing.
                let patience = Duration::from_micros(chance.below(2000));
                let next = timeout(patience, reader.next(limit));
                block_on(next).unwrap_or(Ok(Vec::new()))
            }
            _ => block_on(reader.next(limit)),
        };
        match read {
            Ok(batches) => {
                let mut at = position;
                for batch in &batches {
                    assert!(batch.first_offset <= at && at < batch.end(), "in order");
                    at = batch.end();
                    world.witness().see(batch);
                }
                assert_eq!(reader.position(), at);
                assert!(at <= engine.tail(), "a reader is ahead of the tail");
            }
            Err(LogError::Closed) => {
                assert_eq!(reader.position(), engine.tail(), "closed before the end");
                return reader.position();
            }
            Err(error) if is_dead(&error, disk) => return reader.position(),
            Err(error) => panic!("a follower at {position}: {error}"),
        }
        if chance.one_in(16) {
            // Comes back later, somewhere else.
            block_on(sleep(Duration::from_micros(chance.below(5000))));
            reader = engine.reader(Offset(chance.below(engine.tail().0 + 1)));
        }
    }
}

/// Folds the log anew up to an offset; none if the simulated machine is gone.
pub(crate) fn fold(engine: &Engine, disk: &Disk, end: Offset) -> Option<Statistics> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut fold = Statistics::default();
    while fold.offset() < end {
        let batches = match reader.read(64 << 10) {
            Ok(batches) => batches,
            Err(error) if is_dead(&error, disk) => return None,
            Err(error) => panic!("folding the log anew: {error}"),
        };
        for batch in batches.iter().filter(|batch| batch.end() <= end) {
            fold.apply(batch, engine.names());
        }
    }
    Some(fold)
}

/// Compares the statistics with a fold of the log.
pub(crate) fn look(world: &World, engine: &Engine, disk: &Disk) {
    let (end, found) = engine.with_statistics(|found| (found.offset(), found.encode()));
    assert!(end <= engine.tail(), "counted before durable");
    if let Some(expected) = fold(engine, disk, end) {
        assert!(expected.encode() == found, "statistics at {end} differ");
        world.note("statistics were compared");
    }
    engine.refresh_gauges();
    say!("looked at {end}: {:?}", engine.health());
}

/// Told what is counted.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    heard: Mutex<Vec<Offset>>,
}

impl Observer for Listener {
    fn observe(&self, observation: &Observation) {
        self.heard.lock().unwrap().push(observation.offset);
    }
}

impl Listener {
    /// Begins to listen at some moment; answers the tail before and after.
    pub(crate) fn begin(self: &Arc<Self>, engine: &Engine) -> (Offset, Offset) {
        let before = engine.tail();
        engine.observe(Arc::clone(self) as Arc<dyn Observer>);
        (before, engine.tail())
    }

    /// Asserts that it was told everything from some tail on, up to an end.
    pub(crate) fn check(
        &self,
        world: &World,
        engine: &Engine,
        disk: &Disk,
        between: (Offset, Offset),
    ) {
        let end = engine.with_statistics(|found| found.offset());
        let mut reader = engine.reader(Offset::ZERO);
        let mut fold = Statistics::default();
        let mut counted = Vec::new();
        while fold.offset() < end {
            let batches = match reader.read(64 << 10) {
                Ok(batches) => batches,
                Err(error) if is_dead(&error, disk) => return,
                Err(error) => panic!("reading what was counted: {error}"),
            };
            let names: &Names = engine.names();
            for batch in batches.iter().filter(|batch| batch.end() <= end) {
                fold.apply_observed(batch, names, &mut |seen| counted.push(seen.offset));
            }
        }
        let heard = self.heard.lock().unwrap();
        let from = heard.first().copied().unwrap_or(between.1);
        assert!(from >= between.0, "told of what was there already");
        let start = counted.partition_point(|at| *at < from.min(between.1));
        assert!(heard[..] == counted[start..], "told something else");
        world.note("a listener was told");
    }
}
