//! What is read and not yet in the log: messages copied out of librdkafka, cut into portions.
//!
//! A portion copies keys, values and headers into one arena, so that librdkafka has its memory back at once and a portion
//! is two or three allocations, whatever it holds. Within it, messages lie by partition: a *stretch* is what a portion has
//! of one partition, positions `first..next`. Each stretch becomes an origin in the log.
//!
//! # Invariants
//! P1. The stretches of a partition follow each other from portion to portion: `first` is the `next` of the one before.
//! P2. Positions within a stretch ascend; those that are missing hold nothing for a reader: markers of transactions,
//!     events that were compacted away, events of transactions that were broken off.
//! P3. Once a partition is marked as lost, no stretch of it is appended.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use modelog_engine::origin::Source;

/// A partition that is being read, from its assignment until it is taken away or read anew.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) cluster: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Option<u128>,
    pub(crate) partition: i32,
    lost: AtomicBool,
    durable: AtomicI64,
}

impl Assigned {
    pub(crate) fn new(
        cluster: Arc<str>,
        topic: Arc<str>,
        topic_id: Option<u128>,
        partition: i32,
        position: i64,
    ) -> Self {
        Self {
            cluster,
            topic,
            topic_id,
            partition,
            lost: AtomicBool::new(false),
            durable: AtomicI64::new(position),
        }
    }

    /// The origin of what was read from `first` on, up to `next`.
    pub(crate) fn source(&self, first: i64, next: i64, leader_epoch: i32) -> Source {
        Source::Kafka {
            cluster: Arc::clone(&self.cluster),
            topic: Arc::clone(&self.topic),
            topic_id: self.topic_id,
            partition: self.partition,
            first,
            next,
            leader_epoch,
        }
    }

    /// From now on nothing of it is appended.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Everything before this position is durable in the log.
    pub(crate) fn durable(&self) -> i64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable(&self, position: i64) {
        self.durable.store(position, Ordering::Release);
    }
}

/// What a portion has of one partition.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) first: i64,
    pub(crate) next: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) entries: Vec<Entry>,
}

/// A message, as places in the arena.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: i64,
    value: Option<Range<u32>>,
    key: Option<Range<u32>>,
    headers: Range<u32>,
}

/// A header, as places in the arena.
#[derive(Clone, Debug)]
struct Header {
    name: Range<u32>,
    value: Option<Range<u32>>,
}

/// Messages on their way into the log.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) stretches: Vec<Stretch>,
    arena: Vec<u8>,
    headers: Vec<Header>,
    /// How many headers belong to messages; those behind them are of the one that comes next.
    headers_of_earlier: u32,
    messages: usize,
}

/// What librdkafka holds of a message beside its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'m> {
    pub(crate) position: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) value: Option<&'m [u8]>,
    pub(crate) key: Option<&'m [u8]>,
}

impl Portion {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            arena: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// What it takes of the budget: the arena and what points into it.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len()
            + self.stretches.len() * size_of::<Stretch>()
            + self.messages * size_of::<Entry>()
            + self.headers.len() * size_of::<Header>()
    }

    /// Begins a stretch; answers its number.
    pub(crate) fn begin(&mut self, assigned: &Arc<Assigned>, first: i64) -> usize {
        self.stretches.push(Stretch {
            assigned: Arc::clone(assigned),
            first,
            next: first,
            leader_epoch: -1,
            entries: Vec::new(),
        });
        self.stretches.len() - 1
    }

    /// Copies a message into a stretch, its headers having been [added](Self::add_header) before.
    pub(crate) fn add(&mut self, stretch: usize, raw: Raw<'_>) {
        let value = raw.value.map(|bytes| self.copy(bytes));
        let key = raw.key.map(|bytes| self.copy(bytes));
        let headers = self.headers_of_earlier..self.headers.len() as u32;
        self.headers_of_earlier = headers.end;
        self.messages += 1;
        let stretch = &mut self.stretches[stretch];
        stretch.next = raw.position + 1;
        stretch.leader_epoch = raw.leader_epoch;
        stretch.entries.push(Entry {
            position: raw.position,
            value,
            key,
            headers,
        });
    }

    /// Copies a header of the message that will be added next.
    pub(crate) fn add_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        // A name that is not UTF-8 is no name that anything is looked for under.
        let name = self.copy(String::from_utf8_lossy(name).as_bytes());
        let value = value.map(|bytes| self.copy(bytes));
        self.headers.push(Header { name, value });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        start..self.arena.len() as u32
    }

    fn bytes_at(&self, range: &Range<u32>) -> &[u8] {
        &self.arena[range.start as usize..range.end as usize]
    }

    pub(crate) fn value(&self, entry: &Entry) -> Option<&[u8]> {
        entry.value.as_ref().map(|range| self.bytes_at(range))
    }

    pub(crate) fn key(&self, entry: &Entry) -> Option<&[u8]> {
        entry.key.as_ref().map(|range| self.bytes_at(range))
    }

    /// The headers of a message, in order.
    pub(crate) fn headers<'p>(
        &'p self,
        entry: &Entry,
    ) -> impl Iterator<Item = (&'p str, Option<&'p [u8]>)> {
        let headers = &self.headers[entry.headers.start as usize..entry.headers.end as usize];
        headers.iter().map(|header| {
            let name = std::str::from_utf8(self.bytes_at(&header.name));
            let name = name.expect("names are copied as UTF-8");
            (
                name,
                header.value.as_ref().map(|range| self.bytes_at(range)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let assigned =
            |partition| Arc::new(Assigned::new("c".into(), "t".into(), None, partition, 5));
        let mut portion = Portion::with_capacity(64);
        let stretches = [
            portion.begin(&assigned(0), 5),
            portion.begin(&assigned(1), 70),
        ];
        for (number, position) in [(0, 5), (1, 72), (0, 9)] {
            if number == 1 {
                portion.add_header(b"a", Some(b"1"));
                portion.add_header(b"\xff", None);
            }
            let value = format!("value {position}");
            portion.add(
                stretches[number],
                Raw {
                    position,
                    leader_epoch: 3,
                    value: (position != 9).then_some(value.as_bytes()),
                    key: (position == 9).then_some(b"key"),
                },
            );
        }
        let [first, second] = &portion.stretches[..] else {
            panic!("two stretches")
        };
        assert_eq!((first.first, first.next), (5, 10));
        assert_eq!((second.first, second.next), (70, 73));
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.into()).unwrap());
        let parts = |entry| (text(portion.value(entry)), text(portion.key(entry)));
        assert_eq!(parts(&first.entries[0]), (Some("value 5".into()), None));
        assert_eq!(parts(&first.entries[1]), (None, Some("key".into())));
        assert_eq!(portion.headers(&first.entries[0]).count(), 0);
        assert_eq!(portion.headers(&first.entries[1]).count(), 0);
        let headers: Vec<_> = portion.headers(&second.entries[0]).collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("\u{fffd}", None)]);
        assert_eq!(portion.messages(), 3);
    }
}
