//! From portions to durable events: decoding on several threads, one order.
//!
//! ```text
//! reader ─▶ portion ─▶ worker: decode, prepare ─▶ its turn: enqueue ─▶ finisher: wait for the sync ─▶ positions, room
//!                      worker: …                                                │
//!                                                  a failure: partitions are lost, the reader starts anew
//! ```
//!
//! Fetching, decoding and syncing overlap: the reader goes on as long as there is room, workers decode portions side by
//! side and take turns at the log, which puts each portion behind the one before and syncs many at once.
//!
//! # Invariants
//! F1. Portions are enqueued in the order they were sent, and those of a partition therefore in the order of its positions.
//! F2. Bytes that were sent and are not durable stay within the budget, one portion aside.
//! F3. A position becomes durable after the events before it: what is committed to the group is in the log.
//!
//! # Failure
//! When a portion cannot be appended, its partitions are lost (P3), so that nothing of them that comes later is appended;
//! were it, the log would refuse positions that do not follow. The reader is told, waits for the log to take events again,
//! and reads on from where the log stands.

#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use modelog_engine::batch::EventBatch;
use modelog_engine::origin::Origin;
use modelog_engine::{
    AppendError, AppendOptions, Channel, Engine, Enqueued, OnBacklog, OnConflict, OnCreate,
    Prepared,
};
use pollster::block_on;

use crate::decode::Decoder;
use crate::error::KafkaError;
use crate::portion::{Assigned, Portion};

/// How events from Kafka are appended: what contradicts the log is recorded, since nobody is there to be told.
pub(crate) const APPEND: AppendOptions = AppendOptions {
    channel: Channel::Kafka,
    backlog: OnBacklog::Wait,
    id_conflict: OnConflict::Record,
    create: OnCreate::Merge,
};

/// Where portions go. Dropping it ends the threads once all portions are through.
#[derive(Debug)]
pub(crate) struct Pipeline {
    portions: Option<Sender<Numbered>>,
    next: u64,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    portion: Portion,
}

/// What the threads share.
#[derive(Debug)]
struct State {
    engine: Engine,
    budget: usize,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// The portion that may be enqueued.
    turn: u64,
    /// Bytes sent and not durable.
    bytes: usize,
    /// Why a portion was not appended, until the reader has taken notice.
    failure: Option<AppendError>,
}

/// A portion that has its place in the log, or has none.
struct Placed {
    outcome: Result<Vec<Enqueued>, AppendError>,
    /// Partitions, and where they stand once this is durable.
    positions: Vec<(Arc<Assigned>, i64)>,
    bytes: usize,
}

impl State {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Starts `workers` threads that decode, and one that waits for syncs.
    pub(crate) fn start(
        engine: Engine,
        decoder: &Decoder,
        budget: usize,
        workers: usize,
    ) -> Result<Self, KafkaError> {
        let state = Arc::new(State {
            engine,
            budget,
            progress: Mutex::default(),
            moved: Condvar::new(),
        });
        let (portions, received) = channel();
        let received = Arc::new(Mutex::new(received));
        let (placed, placements) = channel();
        let mut threads = Vec::with_capacity(workers + 1);
        for _ in 0..workers {
            let (state, received) = (Arc::clone(&state), Arc::clone(&received));
            let (decoder, placed) = (decoder.clone(), placed.clone());
            let work = move || work(&state, &decoder, &received, &placed);
            threads.push(spawn("modelog-kafka-decode", work)?);
        }
        let finishing = Arc::clone(&state);
        let finish = move || finish(&finishing, &placements);
        threads.push(spawn("modelog-kafka-sync", finish)?);
        Ok(Self {
            portions: Some(portions),
            next: 0,
            state,
            threads,
        })
    }

    /// Sends a portion on its way.
    pub(crate) fn send(&mut self, portion: Portion) {
        let number = self.next;
        self.next += 1;
        self.state.progress().bytes += portion.bytes();
        let portions = self.portions.as_ref().expect("open until it is dropped");
        portions
            .send(Numbered { number, portion })
            .expect("workers end after this");
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.state.progress().bytes < self.state.budget
    }

    /// Waits until there is room, or for some time; answers whether there is.
    pub(crate) fn wait_for_room(&self, patience: Duration) -> bool {
        let budget = self.state.budget;
        self.wait(patience, |progress| progress.bytes < budget)
    }

    /// Waits until nothing is on its way, or for some time; answers whether that is so.
    pub(crate) fn wait_until_idle(&self, patience: Duration) -> bool {
        self.wait(patience, |progress| progress.bytes == 0)
    }

    /// Why something was not appended, since this was asked last.
    pub(crate) fn take_failure(&self) -> Option<AppendError> {
        self.state.progress().failure.take()
    }

    fn wait(&self, patience: Duration, done: impl Fn(&Progress) -> bool) -> bool {
        let progress = self.state.progress();
        let waiting = |progress: &mut Progress| !done(progress);
        let (progress, _) = self
            .state
            .moved
            .wait_timeout_while(progress, patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        done(&progress)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        drop(self.portions.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, KafkaError> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(body).map_err(KafkaError::Thread)
}

/// Decodes portions and gives each its place when it is its turn.
fn work(
    state: &State,
    decoder: &Decoder,
    portions: &Mutex<Receiver<Numbered>>,
    placed: &Sender<Placed>,
) {
    loop {
        let received = portions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(Numbered { number, portion }) = received else {
            return;
        };
        let bytes = portion.bytes();
        let positions: Vec<_> = portion
            .stretches
            .iter()
            .map(|stretch| (Arc::clone(&stretch.assigned), stretch.next))
            .collect();
        let outcome = place(state, decoder, number, portion);
        if outcome.is_err() {
            for (assigned, _) in &positions {
                assigned.lose();
            }
        }
        // The finisher ends after the last worker. It is sent within the turn, so that its order is that of the log.
        let _ = placed.send(Placed {
            outcome,
            positions,
            bytes,
        });
        state.progress().turn = number + 1;
        state.moved.notify_all();
    }
}

/// Decodes a portion and enqueues it in its turn; answers within that turn.
fn place(
    state: &State,
    decoder: &Decoder,
    number: u64,
    portion: Portion,
) -> Result<Vec<Enqueued>, AppendError> {
    let lost = |portion: &Portion| -> Vec<bool> {
        let stretches = portion.stretches.iter();
        stretches
            .map(|stretch| stretch.assigned.is_lost())
            .collect()
    };
    let mut left_out = lost(&portion);
    let mut prepared = prepare(state, decoder, &portion, &left_out);
    let others = |progress: &mut Progress| progress.turn != number;
    let turn = state.moved.wait_while(state.progress(), others);
    drop(turn.unwrap_or_else(PoisonError::into_inner));
    // What was taken away while it was decoded must not be appended.
    let now = lost(&portion);
    if now != left_out {
        left_out = now;
        prepared = prepare(state, decoder, &portion, &left_out);
    }
    drop(portion);
    let enqueue = |prepared| block_on(state.engine.enqueue(prepared));
    prepared?.into_iter().map(enqueue).collect()
}

fn prepare(
    state: &State,
    decoder: &Decoder,
    portion: &Portion,
    left_out: &[bool],
) -> Result<Vec<Prepared>, AppendError> {
    let batches = decoder.decode(portion, left_out).into_iter();
    batches
        .map(|batch| state.engine.prepare(batch, APPEND))
        .collect()
}

/// Waits for syncs, moves positions ahead and gives room back.
fn finish(state: &State, placements: &Receiver<Placed>) {
    for placed in placements {
        let Placed {
            outcome,
            positions,
            bytes,
        } = placed;
        let durable = outcome.and_then(|all| {
            all.into_iter()
                .try_for_each(|enqueued| block_on(enqueued.durable()).map(drop))
        });
        for (assigned, next) in &positions {
            match &durable {
                Ok(()) if !assigned.is_lost() => assigned.set_durable(*next),
                Ok(()) => {}
                Err(_) => assigned.lose(),
            }
        }
        let mut progress = state.progress();
        progress.bytes -= bytes;
        if let Err(error) = durable {
            progress.failure.get_or_insert(error);
        }
        drop(progress);
        state.moved.notify_all();
    }
}

/// An event, or none, that says where reading of a partition goes on; durable when it returns.
pub(crate) fn set_position(
    engine: &Engine,
    assigned: &Assigned,
    at: i64,
    mut batch: EventBatch,
) -> Result<(), AppendError> {
    batch.add_origin(Origin::whole(assigned.source(at, at, -1)));
    engine.append_blocking(batch, APPEND).map(drop)
}
