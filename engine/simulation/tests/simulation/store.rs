//! A store that follows the log, is away now and then, and sometimes does its work and says it did not.
//!
//! It outlives the log's crashes, as a database elsewhere does. What it has must be the log up to its checkpoint, each
//! event once and in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use modelog_simulated_engine::Checkpoint;
use modelog_simulated_engine::batch::LoggedBatch;
use modelog_simulated_engine::projection::{Projection, ProjectionError, View};
use modelog_simulated_engine::threads::sleep;

use crate::chance::Chance;
use crate::trace::say;
use crate::world::World;

/// What a store keeps, across all lives.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    checkpoint: Option<Checkpoint>,
    /// The time of each event, by offset.
    events: Vec<i64>,
    /// What stopped it by the test's own will.
    pub(crate) broken: bool,
}

/// How often a store fails: once in so many operations; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mood {
    pub(crate) away: u64,
    pub(crate) broken: u64,
}

/// The store in one life of the log.
#[derive(Debug)]
pub(crate) struct Store {
    name: String,
    kept: Arc<Mutex<Kept>>,
    world: Arc<World>,
    chance: Chance,
    mood: Mood,
    /// Dropped with the task that runs it.
    _running: shuttle::sync::mpsc::Sender<()>,
}

impl Store {
    pub(crate) fn new(
        name: String,
        kept: Arc<Mutex<Kept>>,
        world: Arc<World>,
        chance: Chance,
        mood: Mood,
        running: shuttle::sync::mpsc::Sender<()>,
    ) -> Self {
        Self {
            name,
            kept,
            world,
            chance,
            mood,
            _running: running,
        }
    }

    fn fails(&mut self) -> Result<(), ProjectionError> {
        if self.mood.broken > 0 && self.chance.one_in(self.mood.broken) {
            self.kept.lock().unwrap().broken = true;
            self.world.note("a store was stopped");
            say!("{} is broken", self.name);
            return Err(ProjectionError::Stopped {
                reason: "broken by the test".into(),
            });
        }
        if self.mood.away > 0 && self.chance.one_in(self.mood.away) {
            self.world.note("a store was away");
            say!("{} is away", self.name);
            return Err(ProjectionError::Unavailable("away".into()));
        }
        Ok(())
    }

    async fn take_time(&mut self) {
        if self.chance.one_in(2) {
            sleep(Duration::from_micros(self.chance.below(3000))).await;
        }
    }

    fn take(&self, batches: &[Arc<LoggedBatch>], view: View<'_>, to: Checkpoint) {
        let mut kept = self.kept.lock().unwrap();
        let mut at = kept.events.len() as u64;
        assert_eq!(
            at,
            kept.checkpoint.map_or(0, |checkpoint| checkpoint.offset.0)
        );
        for batch in batches {
            assert!(
                batch.first_offset.0 <= at,
                "a hole before {}",
                batch.first_offset
            );
            assert!(
                at < batch.end().0,
                "{} was told what it has",
                batch.first_offset
            );
            for named in &batch.names {
                let known = view.names.name(named.kind, named.id);
                let expected = Some((named.parent, Arc::clone(&named.name)));
                assert_eq!(known, expected, "names of a batch are known");
            }
            for row in batch.in_order() {
                if row.offset().0 == at {
                    kept.events.push(row.time().micros());
                    at += 1;
                }
            }
        }
        assert_eq!(at, to.offset.0, "the checkpoint is the end of the batches");
        kept.checkpoint = Some(to);
    }
}

impl Kept {
    /// Asserts that it is the log up to its checkpoint.
    pub(crate) fn check(&self, log: &[i64]) {
        let end = self.events.len();
        assert!(self.events[..] == log[..end], "a store holds another log");
    }

    pub(crate) fn end(&self) -> u64 {
        self.events.len() as u64
    }
}

#[async_trait]
impl Projection for Store {
    fn name(&self) -> &str {
        &self.name
    }

    fn fold_version(&self) -> u32 {
        1
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.take_time().await;
        self.fails()?;
        Ok(self.kept.lock().unwrap().checkpoint)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        self.take_time().await;
        let folded = view.statistics.with(|statistics| statistics.offset());
        assert!(folded >= to.offset, "the fold is behind what is applied");
        self.fails()?;
        for batch in batches {
            self.world.witness().see(batch);
        }
        self.take(batches, view, to);
        say!("{} is at {}", self.name, to.offset);
        self.take_time().await;
        // It is done, but the answer may be lost.
        self.fails()
    }

    async fn idle(&mut self) -> ProjectionError {
        if self.mood.away == 0 || !self.chance.one_in(self.mood.away) {
            return std::future::pending().await;
        }
        sleep(Duration::from_micros(self.chance.below(20_000))).await;
        self.world.note("a store failed by itself");
        ProjectionError::Unavailable("idle".into())
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.take_time().await;
        self.fails()?;
        self.world.note("a store was rebuilt");
        let mut kept = self.kept.lock().unwrap();
        kept.checkpoint = None;
        kept.events.clear();
        Ok(())
    }
}
