//! The producer's side of librdkafka: what dead letters and `modelog produce` have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as Library, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

/// A producer whose messages are known by their numbers.
pub(crate) type Producer = BaseProducer<Deliveries>;

/// How much may wait to be sent; more than the largest message.
const QUEUE_KILOBYTES: &str = "65536";
/// The library's own limit is not to refuse what brokers may take: this is the largest that can be set.
const MESSAGE_BYTES_MAX: &str = "1000000000";

/// What librdkafka is told about a producer that loses nothing, doubles nothing and keeps the order.
pub(crate) fn client(brokers: &[String], properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "modelog");
    for (name, value) in properties {
        client.set(name, value);
    }
    client
        .set("bootstrap.servers", brokers.join(","))
        .set("enable.idempotence", "true")
        .set("message.max.bytes", MESSAGE_BYTES_MAX)
        .set("queue.buffering.max.kbytes", QUEUE_KILOBYTES);
    client
}

/// A client of which nothing needs to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: Library, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    delivered: AtomicU64,
    refused: Mutex<Vec<Refused>>,
    /// What went wrong last with the connection.
    trouble: Mutex<Option<String>>,
}

/// A message that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) number: usize,
    pub(crate) code: Code,
}

impl Deliveries {
    /// How many messages were delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// What was not delivered.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        lock(&self.refused).clone()
    }

    /// What is known about why brokers cannot be reached, to be put behind what failed because of it.
    pub(crate) fn why(&self) -> String {
        let trouble = lock(&self.trouble).take();
        trouble.map_or_else(String::new, |text| format!(" ({text})"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It repeats itself; what concerns people is said by whoever sends.
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, _: Library, reason: &str) {
        *lock(&self.trouble) = Some(reason.to_owned());
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                lock(&self.refused).push(Refused { number, code });
            }
        }
    }
}
