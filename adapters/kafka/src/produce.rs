//! Sends messages to a topic, for tests, demonstrations and whoever has events in a file: `modelog produce`.
//!
//! Memory is bounded by the queue of librdkafka: what does not fit is not taken. Messages are sent in order, and none twice
//! by one producer.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError as Library, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use crate::config::is_topic;
use crate::producer::{self, Deliveries, Producer};

/// How long brokers may take to say what they know of the topic.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How often a topic is looked for that brokers may be about to create.
const LOOKS: u32 = 15;
const LOOK_TIME: Duration = Duration::from_millis(200);
/// How long a message may take, unless the properties say otherwise.
const DELIVERY_TIME: Duration = Duration::from_secs(60);
/// Deliveries are looked at once for so many messages.
const MESSAGES_AT_ONCE: u64 = 256;

/// Where messages go, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to ask first, as `host:port`.
    pub brokers: Vec<String>,
    pub topic: String,
    /// A codec, as librdkafka calls it.
    pub compression: Option<&'static str>,
    /// Passed on to librdkafka.
    pub properties: BTreeMap<String, String>,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub value: &'a [u8],
    pub key: Option<&'a [u8]>,
    pub headers: &'a [(String, String)],
}

/// Why messages are not sent.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("{0:?} is no name of a topic")]
    Topic(String),
    #[error("librdkafka does not take these settings")]
    Settings(#[source] Box<Library>),
    #[error("no broker of {brokers} answers{why}")]
    Unreachable {
        brokers: String,
        why: String,
        #[source]
        source: Box<Library>,
    },
    #[error("there is no topic {topic}: create it, or allow brokers to")]
    NoTopic { topic: String },
    /// `number` counts messages from 0.
    #[error("message {number} was not delivered to {topic}: {code}{why}")]
    NotDelivered {
        number: usize,
        topic: String,
        code: Code,
        why: String,
    },
    #[error("the message could not be sent")]
    Library(#[source] Box<Library>),
}

/// What a caller may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceErrorKind {
    /// Called in a way that cannot be meant.
    Usage,
    /// Brokers are away, or the topic is.
    Unavailable,
    /// Brokers do not want this user's messages.
    NotAllowed,
    /// Brokers do not want this message.
    Refused,
}

impl ProduceError {
    #[must_use]
    pub fn kind(&self) -> ProduceErrorKind {
        match self {
            Self::Topic(_) | Self::Settings(_) => ProduceErrorKind::Usage,
            Self::Unreachable { .. } | Self::NoTopic { .. } | Self::Library(_) => {
                ProduceErrorKind::Unavailable
            }
            Self::NotDelivered { code, .. } => match code {
                Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidRecord => ProduceErrorKind::Refused,
                Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                    ProduceErrorKind::NotAllowed
                }
                _ => ProduceErrorKind::Unavailable,
            },
        }
    }
}

/// Sends messages to one topic.
pub struct TopicProducer {
    producer: Producer,
    topic: String,
    sent: u64,
}

impl std::fmt::Debug for TopicProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicProducer")
            .field("topic", &self.topic)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl TopicProducer {
    /// Finds brokers and the topic; blocks until they have answered.
    ///
    /// # Errors
    /// If a setting is wrong, no broker answers, or there is no such topic.
    pub fn open(target: &Target) -> Result<Self, ProduceError> {
        let Target {
            brokers,
            topic,
            compression,
            properties,
        } = target;
        if !is_topic(topic) {
            return Err(ProduceError::Topic(topic.clone()));
        }
        let mut given = properties.clone();
        given
            .entry("message.timeout.ms".into())
            .or_insert_with(|| DELIVERY_TIME.as_millis().to_string());
        let mut client = producer::client(brokers, &given);
        if let Some(codec) = compression {
            client.set("compression.codec", *codec);
        }
        let producer = Producer::from_config_and_context(&client, Deliveries::default())
            .map_err(|error| ProduceError::Settings(Box::new(error)))?;
        let opened = Self {
            producer,
            topic: topic.clone(),
            sent: 0,
        };
        opened.find_topic(&brokers.join(", "))?;
        Ok(opened)
    }

    fn find_topic(&self, brokers: &str) -> Result<(), ProduceError> {
        for look in 0..LOOKS {
            if look > 0 {
                self.producer.poll(LOOK_TIME);
            }
            let client = self.producer.client();
            let metadata = client
                .fetch_metadata(Some(&self.topic), ANSWER_TIME)
                .map_err(|source| {
                    self.producer.poll(Duration::ZERO);
                    ProduceError::Unreachable {
                        brokers: brokers.to_owned(),
                        why: self.producer.context().why(),
                        source: Box::new(source),
                    }
                })?;
            let found = metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == self.topic);
            match found.map(|topic| topic.error().map(Code::from)) {
                Some(None) => return Ok(()),
                Some(Some(code @ Code::TopicAuthorizationFailed)) => {
                    return Err(self.not_delivered(0, code));
                }
                // A broker that creates it has said so first.
                _ => {}
            }
        }
        Err(ProduceError::NoTopic {
            topic: self.topic.clone(),
        })
    }

    /// Takes a message, unless the queue is full; answers whether it did.
    ///
    /// # Errors
    /// If this one, or one before, cannot be delivered.
    pub fn try_send(&mut self, message: &Outgoing<'_>) -> Result<bool, ProduceError> {
        if self.sent.is_multiple_of(MESSAGES_AT_ONCE) {
            self.wait(Duration::ZERO)?;
        }
        let number = usize::try_from(self.sent).unwrap_or(usize::MAX);
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.topic, number).payload(message.value);
        record.key = message.key;
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (name, value) in message.headers {
                headers = headers.insert(Header {
                    key: name,
                    value: Some(value),
                });
            }
            record.headers = Some(headers);
        }
        match self.producer.send(record) {
            Ok(()) => {
                self.sent += 1;
                Ok(true)
            }
            Err((Library::MessageProduction(Code::QueueFull), _)) => Ok(false),
            Err((Library::MessageProduction(code), _)) => Err(self.not_delivered(number, code)),
            Err((error, _)) => Err(ProduceError::Library(Box::new(error))),
        }
    }

    /// Waits a while for deliveries.
    ///
    /// # Errors
    /// The first message that was not delivered.
    pub fn wait(&self, patience: Duration) -> Result<(), ProduceError> {
        self.producer.poll(patience);
        let refused = self.producer.context().refused();
        match refused.first() {
            None => Ok(()),
            Some(first) => Err(self.not_delivered(first.number, first.code)),
        }
    }

    fn not_delivered(&self, number: usize, code: Code) -> ProduceError {
        ProduceError::NotDelivered {
            number,
            topic: self.topic.clone(),
            code,
            why: self.producer.context().why(),
        }
    }

    /// How many messages were taken.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many messages brokers have.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.producer.context().delivered()
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.producer.in_flight_count() == 0
    }
}
