//! Which of the worlds it is: what calls are answered, and what is read, tells.

use modelog_engine::event::Event;
use modelog_engine::{AppendError, Appended, OnBacklog};

use super::{Sent, World};

/// What a caller was told; nothing if it did not wait for it.
pub(in super::super) type Answer = Option<Result<Appended, AppendError>>;

/// What may go wrong without being wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Allowed {
    /// The disk may be full.
    pub(in super::super) full: bool,
    /// Something failed: whatever is under way may fail, with an outcome known or not.
    pub(in super::super) failure: bool,
}

/// All the ways things may be.
#[derive(Clone, Debug)]
pub(in super::super) struct Oracle {
    pub(in super::super) worlds: Vec<World>,
}

impl Oracle {
    pub(in super::super) fn new(window: usize) -> Self {
        Self {
            worlds: vec![World::new(window)],
        }
    }

    /// Takes calls that were under way together, and what they were answered. They were admitted in this order, or in
    /// another one if calls had to wait for room.
    pub(in super::super) fn round(&mut self, sent: &[Sent], answers: &[Answer], allowed: Allowed) {
        let orders = orders(sent.len());
        for order in &orders {
            let mut found = Vec::new();
            for world in &self.worlds {
                let pass = Pass {
                    sent,
                    answers,
                    order,
                    allowed,
                };
                pass.follow(world.clone(), 0, false, &mut found);
            }
            if !found.is_empty() {
                self.settle(found);
                return;
            }
        }
        let mut text = String::new();
        for (at, world) in self.worlds.iter().enumerate() {
            let mut world = world.clone();
            for (sent, answer) in sent.iter().zip(answers) {
                let expected = world.take(sent);
                text.push_str(&format!(
                    "\nworld {at}: {answer:?}, expected {expected:?} to {sent:?}"
                ));
            }
        }
        panic!("no order of these calls explains their answers ({allowed:?}):{text}");
    }

    /// The log is opened again.
    pub(in super::super) fn reopen(&mut self) {
        self.worlds.iter_mut().for_each(World::reopen);
    }

    /// Keeps the worlds that are what was read.
    pub(in super::super) fn read(&mut self, found: &[Event]) {
        let fitting: Vec<_> = self
            .worlds
            .iter()
            .filter(|world| world.is(found))
            .cloned()
            .collect();
        if fitting.is_empty() {
            let ends: Vec<_> = self.worlds.iter().map(World::end).collect();
            let differs = self.worlds[0]
                .stored
                .iter()
                .zip(found)
                .position(|(known, found)| !known.is(found));
            panic!(
                "the log holds {} events, it may end at {ends:?}; the first that differs is {differs:?}: {:?}",
                found.len(),
                differs.map(|at| (&found[at], &self.worlds[0].stored[at])),
            );
        }
        self.worlds = fitting;
    }

    pub(in super::super) fn settle(&mut self, mut worlds: Vec<World>) {
        let mut distinct: Vec<World> = Vec::new();
        for world in worlds.drain(..) {
            if !distinct.contains(&world) {
                distinct.push(world);
            }
        }
        self.worlds = distinct;
    }
}

/// All orders of so many calls, the given one first.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).rev().map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, next);
                    order
                })
            })
            .collect();
    }
    orders
}

/// Calls in an order of admission.
struct Pass<'a> {
    sent: &'a [Sent],
    answers: &'a [Answer],
    order: &'a [usize],
    allowed: Allowed,
}

impl Pass<'_> {
    /// Collects the worlds in which the calls from `at` on are answered so. Once something admitted is lost, so is
    /// everything behind it.
    fn follow(&self, before: World, at: usize, lost: bool, found: &mut Vec<World>) {
        match self.order.get(at).copied() {
            None => found.push(before),
            Some(number) => before
                .with_and_without(&self.sent[number])
                .into_iter()
                .for_each(|before| self.call(before, number, (at, lost), found)),
        }
    }

    fn call(
        &self,
        before: World,
        number: usize,
        (at, lost): (usize, bool),
        found: &mut Vec<World>,
    ) {
        let sent = &self.sent[number];
        let mut after = before.clone();
        let expected = after.take(sent);
        let changed = after != before;
        match &self.answers[number] {
            Some(Ok(answer)) => {
                if expected.as_ref() == Ok(answer) && !(lost && changed) {
                    self.follow(after, at + 1, lost, found);
                }
            }
            Some(Err(error)) if self.is_unknown(error) => {
                if changed && !lost {
                    self.follow(after, at + 1, false, found);
                }
                self.follow(before, at + 1, lost || changed, found);
            }
            Some(Err(error)) => {
                if self.may_fail(sent, at, error)
                    || expected
                        .err()
                        .is_some_and(|expected| is_alike(&expected, error))
                {
                    self.follow(before, at + 1, lost, found);
                }
            }
            // It did not wait: it is there if it was admitted, and it was if nothing was in its way.
            None => {
                if changed && !lost {
                    self.follow(after, at + 1, false, found);
                }
                if at > 0 || !changed || self.allowed != Allowed::default() {
                    self.follow(before, at + 1, lost, found);
                }
            }
        }
    }

    fn is_unknown(&self, error: &AppendError) -> bool {
        matches!(error, AppendError::OutcomeUnknown { .. })
            && (self.allowed.failure || self.allowed.full)
    }

    /// Whether a call may be refused so for reasons that are not its own; it is not applied then.
    fn may_fail(&self, sent: &Sent, at: usize, error: &AppendError) -> bool {
        let Allowed { full, failure } = self.allowed;
        match error {
            AppendError::Backlog { .. } => at > 0 && sent.options.backlog == OnBacklog::Refuse,
            AppendError::DiskFull => full || failure,
            AppendError::Poisoned { .. } | AppendError::Closed => full || failure,
            _ => false,
        }
    }
}

/// Whether these say the same; of several repeated ids any may be named.
fn is_alike(one: &AppendError, other: &AppendError) -> bool {
    let repeated = |error: &AppendError| matches!(error, AppendError::RepeatedId { .. });
    one == other || (repeated(one) && repeated(other))
}
