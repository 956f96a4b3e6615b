//! Work on columns by a few threads at once.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many threads work on columns, whatever the machine has: beyond a few, one large column decides.
const WORKERS_MAX: usize = 4;

/// How many threads to use.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX))
}

/// Does something with each item, by several threads that take them in their order; answers in that order. After a
/// failure nothing new is begun.
///
/// # Errors
/// The failure of the earliest item that failed.
pub(crate) fn for_each<T: Send, R: Send, E: Send>(
    workers: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if workers < 2 || items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    // A function, so that the queue is free again while the item is worked on.
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some((place, item)) = take() {
            let outcome = work(item);
            if outcome.is_err() {
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.by_ref().for_each(drop);
            }
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((place, outcome));
        }
    };
    thread::scope(|scope| {
        // The caller works too.
        for _ in 1..workers.min(count) {
            scope.spawn(run);
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order() {
        for workers in [1, 2, 3, 100] {
            let answers = for_each(workers, (0..50).collect(), |item: u32| {
                Ok::<_, ()>(item * 2)
            });
            assert_eq!(answers, Ok((0..50).map(|item| item * 2).collect()));
        }
        assert_eq!(for_each(2, Vec::<u8>::new(), Ok::<_, ()>), Ok(vec![]));
    }

    #[test]
    fn the_earliest_failure_is_told() {
        for workers in [1, 2, 4] {
            let begun = Mutex::new(0);
            let answer = for_each(workers, (0..1000).collect(), |item: u32| {
                *begun.lock().unwrap() += 1;
                if item >= 10 { Err(item) } else { Ok(item) }
            });
            assert_eq!(answer, Err(10));
            assert!(*begun.lock().unwrap() <= 10 + workers);
        }
    }

    #[test]
    fn a_panic_is_not_swallowed() {
        let outcome = std::panic::catch_unwind(|| {
            for_each(2, vec![1, 2], |item| {
                assert!(item != 2, "broken");
                Ok::<_, ()>(item)
            })
        });
        assert!(outcome.is_err());
    }
}
