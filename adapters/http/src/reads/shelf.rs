//! What readers of the log have decoded and not yet written, while they wait for their clients.
//!
//! A client that stops reading keeps its connection, and may keep it for long; hundreds of them may do so at a time. So
//! what was decoded for a client does not stay with it between two steps: it lies on a shelf that all share. When the
//! shelf is full, what was put there first goes. Its reader decodes it once more, should its client ever go on.
//!
//! Reading takes turns for the same reason: what is decoded in a step is bounded by how many steps there are at a time.
//!
//! # Invariants
//! H1. The shelf holds no more than its room, or one thing that is larger: the newest.
//! H2. A thing is taken by whoever put it there, and once. A reader that ends takes its own along.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Things put away, the oldest first.
struct Things<T> {
    things: BTreeMap<u64, (T, usize)>,
    bytes: usize,
    next: u64,
}

/// Room for things, shared by all who hold it.
pub(crate) struct Shelf<T> {
    things: Arc<Mutex<Things<T>>>,
    room: usize,
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self {
            things: Arc::clone(&self.things),
            room: self.room,
        }
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

impl<T> Shelf<T> {
    /// A shelf for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            things: Arc::new(Mutex::new(Things {
                things: BTreeMap::new(),
                bytes: 0,
                next: 0,
            })),
            room,
        }
    }

    /// Puts a thing of so many bytes there.
    pub(crate) fn put(&self, thing: T, bytes: usize) -> Place<T> {
        let mut gone = Vec::new();
        let number = {
            let mut things = self.lock();
            let number = things.next;
            things.next += 1;
            things.bytes += bytes;
            things.things.insert(number, (thing, bytes));
            while things.bytes > self.room && things.things.len() > 1 {
                let Some((_, (thing, bytes))) = things.things.pop_first() else {
                    break;
                };
                things.bytes -= bytes;
                gone.push(thing);
            }
            number
        };
        // Freeing takes its time: nobody else waits for it.
        drop(gone);
        Place {
            shelf: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Things<T>> {
        // Changed in single steps, whatever happened to a thread that held it.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// Where a thing lies; dropping it takes the thing from the shelf.
#[derive(Debug)]
pub(crate) struct Place<T> {
    shelf: Shelf<T>,
    number: u64,
}

impl<T> Place<T> {
    /// Takes the thing, if it is still there.
    pub(crate) fn take(self) -> Option<T> {
        self.remove()
    }

    fn remove(&self) -> Option<T> {
        let mut things = self.shelf.lock();
        let (thing, bytes) = things.things.remove(&self.number)?;
        things.bytes -= bytes;
        Some(thing)
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        // The thing is freed after the lock is.
        drop(self.remove());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let shelf = Shelf::new(10);
        let first = shelf.put("first", 4);
        let second = shelf.put("second", 4);
        assert_eq!(first.take(), Some("first"));
        let first = shelf.put("first again", 4);
        let third = shelf.put("third", 4);
        assert_eq!(second.take(), None, "it was there longest");
        assert_eq!(first.take(), Some("first again"));
        assert_eq!(third.take(), Some("third"));
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn one_thing_may_be_larger_than_the_room() {
        let shelf = Shelf::new(10);
        let small = shelf.put("small", 1);
        let large = shelf.put("large", 100);
        assert_eq!(small.take(), None);
        assert_eq!(shelf.bytes(), 100);
        let small = shelf.put("small", 1);
        assert_eq!(large.take(), None);
        assert_eq!(small.take(), Some("small"));
    }

    #[test]
    fn who_ends_takes_its_own_along() {
        let shelf = Shelf::new(10);
        let place = shelf.put(Arc::new(1), 4);
        drop(place);
        assert_eq!(shelf.bytes(), 0);
    }
}
