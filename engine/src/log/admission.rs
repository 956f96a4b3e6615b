//! Admission: the short serialised step that dedupes, checks preconditions, gives names and offsets, and queues.
//!
//! A call goes round until nothing of it is to be dropped: what admission finds to be a duplicate is taken out by the
//! caller's thread, outside the lock, and the rest tries again. Only then does anything change.
//!
//! # Invariants
//! A1. What is queued is in the state, and the queue is in offset order.
//! A2. An answer is given after everything it speaks of is durable: also of duplicates, which wait for their original,
//!     and of refusals, which wait for what they contradict.

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, Drops, Rows};
use super::catalog::{Repeat, created_by};
use super::item::{Content, Item, Waiter};
use super::sources::SourceState;
use super::{BUDGET_UNIT, Log, Queue, Shared, Stopped, Tail};
use crate::Offset;
use crate::batch::Table;
use crate::config::{AppendOptions, OnBacklog, OnConflict, OnCreate};
use crate::engine::Health;
use crate::error::AppendError;
use crate::event::schema;
use crate::origin::Position;
use crate::threads::{OwnedSemaphorePermit, TryAcquireError, oneshot};

/// How often a full disk is looked at again.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// What admission made of a call.
pub(super) enum Admitted {
    /// In the queue; the answer comes through here.
    Queued {
        first: Offset,
        answer: oneshot::Receiver<Result<(), AppendError>>,
    },
    /// It was made before, and answered so.
    Repeat { state: SourceState, behind: Behind },
    /// There was nothing left to append.
    Nothing,
    /// These events must be taken out first.
    Drop(Drops),
    /// It contradicts something that may not be durable yet.
    Refused { error: AppendError, behind: Behind },
}

/// What must be durable before an answer is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    /// The events before an offset.
    Events(Offset),
    /// So many items of the queue: all that had been admitted, with events or without.
    Items(u64),
}

impl Behind {
    fn is_durable(self, tail: &Tail) -> bool {
        match self {
            Self::Events(end) => tail.offset >= end,
            Self::Items(count) => tail.written >= count,
        }
    }
}

/// What is settled about a call on its rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub(super) duplicates: u32,
    /// Everything before this must be durable before the call is answered.
    pub(super) wait_for: Offset,
}

impl Log {
    /// How far each partition of a Kafka cluster was read.
    pub(crate) fn positions(&self, cluster: &str) -> Vec<Position> {
        self.shared.queue().state.sources.positions(cluster)
    }

    /// Whether events can be taken.
    pub(crate) fn health(&self) -> Health {
        let mut queue = self.shared.queue();
        match self.shared.check_open(&mut queue) {
            Ok(()) => Health::Accepting,
            Err(error) => Health::Refusing(error),
        }
    }
}

impl Shared {
    pub(super) async fn reserve(
        &self,
        bytes: usize,
        backlog: OnBacklog,
    ) -> Result<OwnedSemaphorePermit, AppendError> {
        let all = self.config.backlog_bytes_max.div_ceil(BUDGET_UNIT).max(1);
        let units = bytes.div_ceil(BUDGET_UNIT).clamp(1, all) as u32;
        let budget = Arc::clone(&self.budget);
        match backlog {
            OnBacklog::Wait => budget
                .acquire_many_owned(units)
                .await
                .map_err(|_| AppendError::Closed),
            OnBacklog::Refuse => {
                budget
                    .try_acquire_many_owned(units)
                    .map_err(|error| match error {
                        TryAcquireError::Closed => AppendError::Closed,
                        TryAcquireError::NoPermits => AppendError::Backlog {
                            backlog_bytes: self.backlog_bytes(),
                        },
                    })
            }
        }
    }

    /// Bytes that wait to be written, about.
    pub(crate) fn backlog_bytes(&self) -> usize {
        let all = self.config.backlog_bytes_max.div_ceil(BUDGET_UNIT).max(1);
        (all - self.budget.available_permits().min(all)) * BUDGET_UNIT
    }

    fn check_open(&self, queue: &mut Queue) -> Result<(), AppendError> {
        match &queue.stopped {
            Some(Stopped::Closing) => return Err(AppendError::Closed),
            Some(Stopped::Poisoned(reason)) => {
                return Err(AppendError::Poisoned {
                    reason: reason.clone(),
                });
            }
            None => {}
        }
        if let Some(since) = queue.full_since {
            let now = self.clock.monotonic();
            if now.saturating_sub(since) < FULL_RETRY || !self.has_space() {
                return Err(AppendError::DiskFull);
            }
            queue.full_since = None;
        }
        Ok(())
    }

    pub(super) fn admit(
        &self,
        call: &mut Call,
        options: AppendOptions,
        settled: &mut Settled,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Admitted, AppendError> {
        let mut queue = self.queue();
        self.check_open(&mut queue)?;
        let behind = Behind::Items(queue.queued);
        for origin in call.origins() {
            match queue.state.sources.find(&origin.source) {
                Ok(Some(state)) => {
                    let behind = match state.rows() {
                        0 => behind,
                        rows => Behind::Events(state.first.advance(rows.into())),
                    };
                    let state = state.clone();
                    return Ok(Admitted::Repeat { state, behind });
                }
                Ok(None) => {}
                Err(error) => return Ok(Admitted::Refused { error, behind }),
            }
        }
        let drops = match queue.find_drops(call, options, settled) {
            Ok(drops) => drops,
            Err(error) => return Ok(Admitted::Refused { error, behind }),
        };
        if drops.duplicates.len() as u32 == call.count
            && call.count > 0
            && call.origins().is_empty()
        {
            settled.duplicates += call.count;
            return Ok(Admitted::Nothing);
        }
        if !drops.is_empty() {
            return Ok(Admitted::Drop(drops));
        }
        if call.count == 0 && call.origins().is_empty() {
            return Ok(Admitted::Nothing);
        }
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter {
            answer,
            permit: permit.take(),
        };
        queue.state.mark(self.clock.now());
        let first = queue.push(call, waiter);
        let asleep = std::mem::take(&mut queue.writer_waits);
        drop(queue);
        if asleep {
            self.work.notify_one();
        }
        Ok(Admitted::Queued {
            first,
            answer: receiver,
        })
    }

    pub(super) async fn wait_durable(
        &self,
        behind: Behind,
        undone: u64,
    ) -> Result<(), AppendError> {
        let mut tail = self.tail.subscribe();
        let decided = |tail: &Tail| {
            behind.is_durable(tail)
                || tail.undone != undone
                || tail.poisoned.is_some()
                || tail.closed
        };
        let tail = tail
            .wait_for(decided)
            .await
            .map_err(|_| AppendError::Closed)?;
        match &tail.poisoned {
            _ if tail.undone != undone => Err(AppendError::DiskFull),
            _ if behind.is_durable(&tail) => Ok(()),
            Some(reason) => Err(AppendError::OutcomeUnknown {
                reason: reason.clone(),
            }),
            None => Err(AppendError::Closed),
        }
    }
}

impl Queue {
    /// What of a call is in the log already, or may not be.
    fn find_drops(
        &self,
        call: &Call,
        options: AppendOptions,
        settled: &mut Settled,
    ) -> Result<Drops, AppendError> {
        let mut drops = Drops::default();
        for identity in &call.identities {
            let Some(seen) = self.state.window.get(identity.key) else {
                continue;
            };
            if seen.content == identity.content {
                drops.duplicates.insert(identity.ord);
                settled.wait_for = settled.wait_for.max(seen.offset.advance(1));
            } else if options.id_conflict == OnConflict::Refuse {
                let event = call.kind_of(identity.ord);
                return Err(AppendError::IdConflict {
                    ord: identity.ord,
                    event,
                    existing: seen.offset,
                });
            } else {
                drops.conflicts.push((identity.ord, Some(seen.offset)));
            }
        }
        if options.create == OnCreate::Refuse {
            self.find_repeated_creations(call.creating(), &mut drops)?;
            if !drops.duplicates.is_empty() {
                settled.wait_for = settled.wait_for.max(self.state.next);
            }
        }
        Ok(drops)
    }

    fn find_repeated_creations(
        &self,
        tables: &[Table],
        drops: &mut Drops,
    ) -> Result<(), AppendError> {
        for table in tables {
            let Some(kind) = created_by(table.kind()) else {
                continue;
            };
            for row in 0..table.rows() {
                let ord = table.ord(row);
                // What is not taken for its id creates nothing.
                if drops.holds(ord) {
                    continue;
                }
                match self.state.catalog.compare(table, row, &self.state.names) {
                    Repeat::First => {}
                    Repeat::Identical => drops.duplicates.extend([ord]),
                    Repeat::Differing(fields) => {
                        let name = table
                            .text(schema::COMMON.len())
                            .get(row)
                            .unwrap_or_default();
                        let entity = format!("{kind} {name:?}");
                        return Err(AppendError::EntityConflict {
                            ord,
                            entity,
                            fields,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a call its offsets and names, and queues it. Answers its first offset.
    fn push(&mut self, call: &mut Call, waiter: Waiter) -> Offset {
        let first = self.state.next;
        let identities = std::mem::take(&mut call.identities);
        let mentions = std::mem::take(&mut call.mentions);
        let changes = self.state.admit(
            call.count,
            identities,
            &mentions,
            call.creating(),
            call.origins(),
        );
        match (&mut call.rows, self.items.back_mut()) {
            (Rows::Joined(builder), Some(item)) if item.takes(call.bytes) => {
                item.join(builder, call.bytes, changes, waiter);
            }
            (rows, _) => {
                let rows =
                    std::mem::replace(rows, Rows::Joined(crate::batch::EventBatchBuilder::new()));
                let content = match rows {
                    Rows::Joined(builder) => Content::Built(builder),
                    Rows::Encoded {
                        tables,
                        rows,
                        origins,
                    } => Content::Encoded {
                        tables,
                        rows,
                        origins,
                    },
                };
                self.items.push_back(Item::new(
                    first, call.count, call.bytes, content, changes, waiter,
                ));
                self.queued += 1;
            }
        }
        first
    }
}
