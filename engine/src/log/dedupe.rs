//! The window of event identities that a repeat is recognised by.
//!
//! A ring of the newest identities with an index over it: 48 bytes an identity, in two allocations. The oldest leaves
//! when the window is full.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::batch::Identity;
use crate::{Offset, Timestamp};

/// An identity that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) key: u128,
    pub(crate) content: u64,
    pub(crate) offset: Offset,
}

/// The newest identities, up to a number.
#[derive(Debug)]
pub(crate) struct Window {
    ring: VecDeque<Seen>,
    /// Serial numbers of ring entries, hashed by their keys.
    index: HashTable<u64>,
    /// Serial number of the ring's first entry.
    first: u64,
    capacity: usize,
    /// When the newest entry that left was received, or was not: an upper bound of the window's age.
    marks: VecDeque<(u64, Timestamp)>,
}

impl Window {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            index: HashTable::new(),
            first: 0,
            capacity,
            marks: VecDeque::new(),
        }
    }

    /// How many identities it remembers.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the oldest leaves when another one comes.
    pub(crate) fn is_full(&self) -> bool {
        self.ring.len() >= self.capacity
    }

    /// What is known of an identity.
    pub(crate) fn get(&self, key: u128) -> Option<Seen> {
        let at = |serial: u64| &self.ring[(serial - self.first) as usize];
        self.index
            .find(hash(key), |serial| at(*serial).key == key)
            .map(|serial| *at(*serial))
    }

    /// Remembers an identity that is not in the window.
    pub(crate) fn insert(&mut self, identity: &Identity, offset: Offset) {
        if self.capacity == 0 {
            return;
        }
        while self.ring.len() >= self.capacity {
            self.remove(self.first);
            self.ring.pop_front();
            self.first += 1;
        }
        let serial = self.first + self.ring.len() as u64;
        self.ring.push_back(Seen {
            key: identity.key,
            content: identity.content,
            offset,
        });
        let (ring, first) = (&self.ring, self.first);
        self.index
            .insert_unique(hash(identity.key), serial, |serial| {
                hash(ring[(*serial - first) as usize].key)
            });
    }

    /// Remembers what a later window holds, its age included.
    pub(crate) fn extend(&mut self, later: &Self) {
        if let Some((_, time)) = later.marks.front() {
            self.mark(*time);
        }
        for seen in later.iter() {
            if self.get(seen.key).is_none() {
                let identity = Identity {
                    ord: 0,
                    key: seen.key,
                    content: seen.content,
                };
                self.insert(&identity, seen.offset);
            }
        }
    }

    /// Forgets everything at or behind an offset: it did not come to be.
    pub(crate) fn forget_from(&mut self, offset: Offset) {
        while self.ring.back().is_some_and(|seen| seen.offset >= offset) {
            self.remove(self.first + self.ring.len() as u64 - 1);
            self.ring.pop_back();
        }
    }

    /// Notes the time, so that the window's age can be told.
    pub(crate) fn mark(&mut self, now: Timestamp) {
        if self.ring.is_empty() {
            // Nothing is remembered yet that could be older.
            self.marks.clear();
        }
        let next = self.first + self.ring.len() as u64;
        let worth = self.capacity as u64 / 64;
        if self
            .marks
            .back()
            .is_none_or(|(serial, _)| next >= serial + worth.max(1))
        {
            self.marks.push_back((next, now));
        }
        while self
            .marks
            .get(1)
            .is_some_and(|(serial, _)| *serial <= self.first)
        {
            self.marks.pop_front();
        }
    }

    /// When the oldest identity still remembered came in, about.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let remembers = !self.ring.is_empty();
        self.marks
            .front()
            .filter(|_| remembers)
            .map(|(_, time)| *time)
    }

    /// The identities from the oldest on.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Seen> {
        self.ring.iter()
    }

    fn remove(&mut self, serial: u64) {
        let key = self.ring[(serial - self.first) as usize].key;
        if let Ok(entry) = self.index.find_entry(hash(key), |found| *found == serial) {
            entry.remove();
        }
    }
}

/// Keys are hashes already.
fn hash(key: u128) -> u64 {
    key as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_what_is_remembered() {
        let mut window = Window::new(64);
        let second = |at: i64| Timestamp::from_micros(at * 1_000_000);
        window.mark(second(1));
        assert_eq!(window.oldest(), None, "nothing is remembered");
        window.mark(second(100));
        let identity = Identity {
            ord: 0,
            key: 1,
            content: 1,
        };
        window.insert(&identity, Offset(1));
        window.mark(second(200));
        assert_eq!(window.oldest(), Some(second(100)));
    }

    #[test]
    fn the_oldest_leaves_and_what_was_undone_is_forgotten() {
        let mut window = Window::new(3);
        let identity = |key| Identity {
            ord: 0,
            key,
            content: key as u64 * 10,
        };
        for key in 1..=4 {
            window.insert(&identity(key), Offset(key as u64));
        }
        assert_eq!(window.get(1), None);
        assert_eq!(
            window.get(2),
            Some(Seen {
                key: 2,
                content: 20,
                offset: Offset(2)
            })
        );
        window.forget_from(Offset(3));
        assert_eq!(window.iter().map(|seen| seen.key).collect::<Vec<_>>(), [2]);
        assert_eq!((window.get(3), window.get(4)), (None, None));
        window.insert(&identity(3), Offset(3));
        assert_eq!(window.get(3).map(|seen| seen.offset), Some(Offset(3)));
    }
}
