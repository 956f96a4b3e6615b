//! The way of a call into the log, in three steps that a caller may take apart.
//!
//! ```text
//! prepare ──────────────▶ enqueue ────────────────▶ durable
//! arrays, bytes, hashes   room in the backlog,      the sync of its group
//! any thread, no lock     admission: its place      and the answer
//! ```
//!
//! Who appends one call takes them in one go. A source that must keep an order prepares many calls at once on several
//! threads, enqueues them one after the other, and waits for their syncs while it enqueues more.

use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admitted, Behind, Settled};
use super::call::{Call, Tally};
use super::sources::SourceState;
use super::{Log, Shared};
use crate::Offset;
use crate::batch::EventBatch;
use crate::config::{AppendOptions, Appended};
use crate::error::AppendError;
use crate::event::Kind;
use crate::threads::oneshot;

/// What a call may take in a frame; arrays in memory may take several times that.
const CALL_BYTES_MAX: usize = 128 << 20;

/// A call that needs nothing more but its place in the log.
#[derive(Debug)]
pub struct Prepared {
    call: Call,
    options: AppendOptions,
    settled: Settled,
    started: Duration,
}

/// A call that has its place in the log, and is durable once [`durable`](Self::durable) says so. It is appended even if
/// this is dropped.
#[derive(Debug)]
pub struct Enqueued {
    shared: Arc<Shared>,
    options: AppendOptions,
    duplicates: u32,
    waits: Waits,
}

/// What an answer waits for.
#[derive(Debug)]
enum Waits {
    /// The writer's word.
    Written {
        answer: oneshot::Receiver<Result<(), AppendError>>,
        tallies: Vec<Tally>,
        started: Duration,
        appended: Appended,
    },
    /// What came before, of which nothing must have been taken back: the call added nothing.
    Durable {
        behind: Behind,
        undone: u64,
        appended: Appended,
    },
}

impl Log {
    /// Appends a batch; durable when it returns. Once admitted, it is appended even if the future is dropped.
    pub(crate) async fn append(
        &self,
        batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let prepared = self.prepare(batch, options)?;
        self.enqueue(prepared).await?.durable().await
    }

    /// Does everything about a call that needs no lock.
    pub(crate) fn prepare(
        &self,
        mut batch: EventBatch,
        options: AppendOptions,
    ) -> Result<Prepared, AppendError> {
        let started = self.shared.clock.monotonic();
        if batch.holds(Kind::EntityNamed) {
            return Err(AppendError::Reserved {
                kind: Kind::EntityNamed,
            });
        }
        fit_origin(&mut batch);
        let (call, duplicates) = Call::new(batch, options)?;
        if call.bytes > CALL_BYTES_MAX {
            return Err(AppendError::TooLarge {
                bytes: call.bytes,
                max: CALL_BYTES_MAX,
            });
        }
        Ok(Prepared {
            call,
            options,
            settled: Settled {
                duplicates,
                wait_for: Offset::ZERO,
            },
            started,
        })
    }

    /// Gives a call its place, behind all that have one.
    pub(crate) async fn enqueue(&self, prepared: Prepared) -> Result<Enqueued, AppendError> {
        let Prepared {
            mut call,
            options,
            mut settled,
            started,
        } = prepared;
        let shared = &self.shared;
        let mut permit = Some(shared.reserve(call.bytes, options.backlog).await?);
        let mut undone = shared.tail.borrow().undone;
        let waits = loop {
            let (rejected, tallies) = (call.rejected(), call.tallies(shared.clock.now()));
            let count = call.count;
            match shared.admit(&mut call, options, &mut settled, &mut permit)? {
                Admitted::Refused { error, behind } => {
                    match shared.wait_durable(behind, undone).await {
                        Ok(()) => return Err(error),
                        // What stood in the way was taken back, perhaps.
                        Err(AppendError::DiskFull) => undone = shared.tail.borrow().undone,
                        Err(AppendError::OutcomeUnknown { reason }) => {
                            return Err(AppendError::Poisoned { reason });
                        }
                        Err(error) => return Err(error),
                    }
                }
                Admitted::Drop(drops) => {
                    settled.duplicates += drops.duplicates.len() as u32;
                    call = call.without(&drops);
                }
                Admitted::Repeat { state, behind } => {
                    // It was counted when it was new.
                    settled.duplicates = 0;
                    break Waits::Durable {
                        behind,
                        undone,
                        appended: state.into(),
                    };
                }
                Admitted::Nothing => {
                    let end = settled.wait_for;
                    let appended = Appended {
                        accepted: 0,
                        rejected: 0,
                        duplicates: settled.duplicates,
                        first: None,
                        end,
                    };
                    break Waits::Durable {
                        behind: Behind::Events(end),
                        undone,
                        appended,
                    };
                }
                Admitted::Queued { first, answer } => {
                    let appended = Appended {
                        accepted: count - rejected,
                        rejected,
                        duplicates: settled.duplicates,
                        first: (count > 0).then_some(first),
                        end: first.advance(count.into()).max(settled.wait_for),
                    };
                    break Waits::Written {
                        answer,
                        tallies,
                        started,
                        appended,
                    };
                }
            }
        };
        Ok(Enqueued {
            shared: Arc::clone(shared),
            options,
            duplicates: settled.duplicates,
            waits,
        })
    }
}

impl Enqueued {
    /// Waits until the call, and everything its answer speaks of, is durable.
    ///
    /// # Errors
    /// [`AppendError`]; unless it is `OutcomeUnknown`, nothing of the call is in the log.
    pub async fn durable(self) -> Result<Appended, AppendError> {
        let Self {
            shared,
            options,
            duplicates,
            waits,
        } = self;
        match waits {
            Waits::Written {
                answer,
                tallies,
                started,
                appended,
            } => {
                answer.await.unwrap_or_else(|_| {
                    Err(AppendError::OutcomeUnknown {
                        reason: "the writer stopped".into(),
                    })
                })?;
                shared.count(options, &tallies, duplicates, started);
                Ok(appended)
            }
            Waits::Durable {
                behind,
                undone,
                appended,
            } => {
                shared.wait_durable(behind, undone).await?;
                shared.count_duplicates(options, duplicates);
                Ok(appended)
            }
        }
    }
}

/// An origin that stands for the whole batch covers the rows it has now.
fn fit_origin(batch: &mut EventBatch) {
    let (rows, rejected) = (batch.rows(), batch.rejected());
    if let [origin] = &mut batch.origins_mut()[..]
        && origin.rows == 0
        && origin.first_ord == 0
    {
        origin.rows = rows;
        origin.rejected = rejected;
    }
}

impl From<SourceState> for Appended {
    fn from(state: SourceState) -> Self {
        let rows = state.rows();
        let SourceState {
            first,
            accepted,
            rejected,
            duplicates,
            ..
        } = state;
        let end = first.advance(rows.into());
        Self {
            accepted,
            rejected,
            duplicates,
            first: (rows > 0).then_some(first),
            end,
        }
    }
}
