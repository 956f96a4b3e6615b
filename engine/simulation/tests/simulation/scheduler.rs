//! Whose turn it is, as a seed says.
//!
//! Three styles, one for each seed. *Even*: anybody, at every point. *Sticky*: whoever has the turn mostly keeps it, so that
//! long stretches run undisturbed between few interruptions. *Ranked*: each task has a rank, the first that can go on
//! does, and now and then the one at work falls to the end (probabilistic concurrency testing, Burckhardt et al.,
//! ASPLOS 2010: a bug that takes d orderings is found with a probability that is known).
//!
//! Task 1 moves time. It is chosen when nobody else can go on, and else seldom, and only if the next timer is near:
//! a wait of days ends when nothing else ever will.

use std::time::Duration;

use modelog_simulated_engine::threads::time;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::chance::Chance;
use crate::trace;

/// The task that moves time: the first that is started.
const KEEPER: usize = 1;
/// Timers beyond this wait until nothing else can go on.
const NEAR: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Style {
    Even,
    Sticky {
        one_in: u64,
    },
    Ranked {
        ranks: Vec<u64>,
        one_in: u64,
        last: u64,
    },
}

/// Chooses for one run.
#[derive(Debug)]
pub(crate) struct Turns {
    seed: u64,
    chance: Chance,
    style: Style,
    begun: bool,
}

impl Turns {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1);
        let style = match chance.below(4) {
            0 => Style::Even,
            1 => Style::Sticky {
                one_in: chance.pick(&[4, 16, 64, 256]),
            },
            _ => Style::Ranked {
                ranks: Vec::new(),
                one_in: chance.pick(&[16, 64, 256, 1024]),
                last: u64::MAX / 2,
            },
        };
        Self {
            seed,
            chance,
            style,
            begun: false,
        }
    }

    fn choose(&mut self, able: &[usize], current: Option<usize>) -> usize {
        let chance = &mut self.chance;
        match &mut self.style {
            Style::Even => chance.pick(able),
            Style::Sticky { one_in } => match current {
                Some(current) if able.contains(&current) && !chance.one_in(*one_in) => current,
                _ => chance.pick(able),
            },
            Style::Ranked {
                ranks,
                one_in,
                last,
            } => {
                let most = able.iter().max().map_or(0, |most| most + 1);
                while ranks.len() < most {
                    ranks.push(chance.below(u64::MAX / 2));
                }
                if let Some(current) = current
                    && chance.one_in(*one_in)
                {
                    *last += 1;
                    ranks[current] = *last;
                }
                let first = able.iter().min_by_key(|task| ranks[**task]);
                *first.expect("somebody can go on")
            }
        }
    }
}

impl Scheduler for Turns {
    fn new_execution(&mut self) -> Option<Schedule> {
        let first = !self.begun;
        self.begun = true;
        first.then(|| Schedule::new(self.seed))
    }

    fn next_task(
        &mut self,
        tasks: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let able: Vec<usize> = tasks
            .iter()
            .filter(|task| task.runnable())
            .map(|task| usize::from(task.id()))
            .collect();
        let others: Vec<usize> = able.iter().copied().filter(|id| *id != KEEPER).collect();
        let near = || time::next_timer().is_some_and(|due| due < time::now() + NEAR);
        let keeper = able.contains(&KEEPER);
        let chosen = if others.is_empty() || keeper && self.chance.one_in(100) && near() {
            KEEPER
        } else {
            self.choose(&others, current.map(usize::from))
        };
        trace::turn(chosen);
        tasks
            .iter()
            .map(|task| task.id())
            .find(|id| usize::from(*id) == chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.chance.number()
    }
}
