//! The consumer's side of librdkafka: what it calls back with becomes notices, which the reader takes between two polls.
//!
//! That a topic has another identity than before is told by librdkafka's log alone, which goes on fetching from where it
//! was. The line is queued before anything of the new topic is fetched, and overtakes messages: whoever looks at
//! [`Context::is_changed`] before taking a message takes none of a topic that it does not know.
//!
//! Nothing is done inside a callback. A rebalance is answered by the reader when it has put everything in order, which
//! librdkafka waits for; so whatever happens to a partition happens on one thread, in one place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// The name of a partition: topic and number.
pub(crate) type Name = (String, i32);

/// Something librdkafka told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Partitions are ours from when this is answered.
    Given(Vec<Name>),
    /// Partitions are taken away when this is answered; `lost` if somebody else may have them already.
    Taken {
        partitions: Vec<Name>,
        lost: bool,
    },
    Statistics(Box<Statistics>),
    /// A topic of this name was deleted and made again.
    Recreated(String),
    /// Something went wrong in the background.
    Error {
        code: Option<RDKafkaErrorCode>,
        text: String,
    },
}

/// Gathers notices.
#[derive(Debug, Default)]
pub(crate) struct Context {
    notices: Mutex<Vec<Notice>>,
    /// There is a topic that was made again among the notices.
    changed: AtomicBool,
    /// The consumer is being closed: partitions are given back without asking.
    closing: AtomicBool,
}

impl Context {
    /// What was told since this was asked last.
    pub(crate) fn take(&self) -> Vec<Notice> {
        let mut notices = self.notices();
        self.changed.store(false, Ordering::Release);
        std::mem::take(&mut *notices)
    }

    /// Whether a topic was made again, and nobody has taken the notice yet.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn notices(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, notice: Notice) {
        self.notices().push(notice);
    }
}

fn names(list: &TopicPartitionList) -> Vec<Name> {
    list.elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}

/// The topic that a line of librdkafka's log says has another identity now.
///
/// It is the only way it tells. What it says when it learns of a topic for the first time names an identity of zeros.
fn recreated(message: &str) -> Option<&str> {
    let (_, said) = message.split_once("Topic ")?;
    let (topic, ids) = said.split_once(" changed id from ")?;
    let (before, _) = ids.split_once(" to ")?;
    (!before
        .trim_end_matches('=')
        .bytes()
        .all(|letter| letter == b'A'))
    .then_some(topic)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It repeats itself; what concerns people is said by the reader, once.
        tracing::debug!(?level, facility, "librdkafka: {message}");
        if let Some(topic) = recreated(message) {
            let mut notices = self.notices();
            notices.push(Notice::Recreated(topic.to_owned()));
            self.changed.store(true, Ordering::Release);
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.add(Notice::Statistics(Box::new(statistics)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.add(Notice::Error {
            code: error.rdkafka_error_code(),
            text: reason.to_owned(),
        });
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let given = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // Nothing can be done about a partition that cannot be given back: the consumer ends.
            let _ = match given {
                true => consumer.incremental_assign(&TopicPartitionList::new()),
                false => consumer.unassign(),
            };
            return;
        }
        self.add(if given {
            Notice::Given(names(list))
        } else {
            Notice::Taken {
                partitions: names(list),
                lost: consumer.assignment_lost(),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_made_again_is_heard_of() {
        let line = |before| {
            format!("[thrd:main]: Topic a.b-c changed id from {before} to F4xuKSnPTOW5u4N9o8bB2Q")
        };
        assert_eq!(recreated(&line("cW8GYxPsTg2CcHFHnlGY6w")), Some("a.b-c"));
        assert_eq!(recreated(&line("AAAAAAAAAAAAAAAAAAAAAA")), None);
        assert_eq!(
            recreated("[thrd:main]: Topic a.b-c partition count changed from 1 to 2"),
            None
        );
    }
}
