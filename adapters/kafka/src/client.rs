//! The consumer's side of librdkafka: what it calls back with becomes notices, which the reader takes between two polls.
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
    /// The consumer is being closed: partitions are given back without asking.
    closing: AtomicBool,
}

impl Context {
    /// What was told since this was asked last.
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices())
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

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It repeats itself; what concerns people is said by the reader, once.
        tracing::debug!(?level, facility, "librdkafka: {message}");
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
