//! Where events came from, with enough to answer a repeated call and to resume a source.

use std::sync::Arc;

use crate::event::schema::NAME_BYTES_MAX;

/// The stretch of a batch that one call or one source partition contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub source: Source,
    /// Place of its first event in the batch.
    pub first_ord: u32,
    /// How many events of the batch are its own, records of rejected ones included.
    pub rows: u32,
    /// How many of those are records of rejected ones.
    pub rejected: u32,
    /// How many more it brought that the log had already.
    pub duplicates: u32,
}

/// Who sent events, and where in its own order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A call that may be repeated under the same key.
    Call {
        key: Arc<str>,
        /// Hash of what was sent, to tell a repeat from another call under the same key.
        body: u64,
    },
    /// A producer that numbers its calls.
    Producer {
        id: Arc<str>,
        epoch: u32,
        sequence: u64,
    },
    /// A partition of a Kafka topic.
    Kafka {
        cluster: Arc<str>,
        topic: Arc<str>,
        /// The topic's identity, where the broker tells it: a recreated topic is another source.
        topic_id: Option<u128>,
        partition: i32,
        /// Positions `first..next` were read, rows or not. They follow what was read before; with `first == next`,
        /// which reads nothing, reading goes on there, wherever that is.
        first: i64,
        next: i64,
        leader_epoch: i32,
    },
}

/// The `source` of what is recorded about a Kafka cluster's events; none for a cluster whose name no event can carry.
#[must_use]
pub fn kafka_source(cluster: &str) -> Option<String> {
    let source = format!("kafka:{cluster}");
    let legal = source.len() <= NAME_BYTES_MAX && !source.chars().any(char::is_control);
    legal.then_some(source)
}

/// How far a log has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub topic: Arc<str>,
    pub topic_id: Option<u128>,
    pub partition: i32,
    /// The next one to read.
    pub next: i64,
    /// Of the last event read; negative if it is not known.
    pub leader_epoch: i32,
}

impl Origin {
    /// The origin of a batch with one source: on its own and without rows, it stands for all events there are when the
    /// batch is appended.
    #[must_use]
    pub fn whole(source: Source) -> Self {
        Self {
            source,
            first_ord: 0,
            rows: 0,
            rejected: 0,
            duplicates: 0,
        }
    }

    pub(crate) fn moved_by(&self, base: u32) -> Self {
        Self {
            first_ord: self.first_ord + base,
            ..self.clone()
        }
    }
}
