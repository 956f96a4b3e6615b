//! Sends letters and the checkpoint behind them in one transaction.
//!
//! ```text
//! begin ─▶ letters, many at once ─▶ all delivered? ─▶ checkpoint ─▶ commit
//!   ▲                                    │ too large
//!   └── anew ◀─── alone, then without value, then without key and headers
//! ```
//!
//! Brokers refuse batches, not messages: one that is too large takes its neighbours with it. So what was refused is sent
//! alone the next time, and what is refused alone is sent without what is large.

use std::sync::Arc;
use std::time::Duration;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::{Checkpoint, Clock, Offset, Timestamp, metrics as names};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as Library, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as Pair, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset as Place, TopicPartitionList};

use super::failure::Failure;
use super::letter::{Extent, Letter, Rules};
use super::{Names, mark};
use crate::producer::{Deliveries, Producer, Quiet, Refused};
use crate::topics::Topics;

/// How long brokers may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long they may take about transactions: to end one that was left open, and to end ours.
const TRANSACTION_ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long nothing may be delivered while something waits for it.
const DELIVERY_TIME: Duration = Duration::from_secs(30);
/// How long a transaction may take until brokers break it off, unless the properties say otherwise.
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
const TRANSACTION_TIME: Duration = Duration::from_secs(300);
/// How long one look for deliveries takes.
const POLL_TIME: Duration = Duration::from_millis(2);
/// How old a checkpoint may become where there is nothing to send: so much of the log is looked through again.
const MARK_TIME: Duration = Duration::from_secs(60);
/// How often a checkpoint is written again though it is the same: brokers forget those that nobody writes.
const REFRESH_TIME: Duration = Duration::from_secs(60 * 60);
/// Letters from this size on are sent alone from the start: others would hardly fit beside them.
const ALONE_BYTES: usize = 512 << 10;

/// What a clerk is told.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) names: Names,
    /// Of a producer, without what makes it ours.
    pub(super) client: ClientConfig,
    pub(super) topics: Vec<Topics>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Whoever sends letters to one topic.
pub(super) struct Clerk {
    names: Names,
    client: ClientConfig,
    producer: Producer,
    group: ConsumerGroupMetadata,
    rules: Rules,
    clock: Arc<dyn Clock>,
    /// Up to where there is nothing left to send.
    at: Option<Checkpoint>,
    /// The checkpoint that brokers have.
    written: Option<Checkpoint>,
    written_at: Duration,
}

/// How a letter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Care {
    alone: bool,
    extent: Extent,
}

impl Care {
    /// After it was refused for its size.
    fn more(self) -> Option<Self> {
        let extent = match (self.alone, self.extent) {
            (false, extent) => extent,
            (true, Extent::Whole) => Extent::WithoutValue,
            (true, Extent::WithoutValue) => Extent::HeadersOfOurs,
            (true, Extent::HeadersOfOurs) => return None,
        };
        Some(Self {
            alone: true,
            extent,
        })
    }
}

/// Why a transaction did not come about.
enum Broken {
    /// Letters that brokers refused for their size, or their neighbours'.
    TooLarge(Vec<usize>),
    Failure(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Clerk {
    /// Takes over from whoever sent letters of this log before, and reads how far they came.
    pub(super) fn open(orders: Orders) -> Result<(Self, Option<Checkpoint>), Failure> {
        let Orders {
            names,
            client,
            topics,
            clock,
        } = orders;
        let producer = producer(&client, &names)?;
        let failed = |doing| library(&producer, doing);
        find_topic(&producer, &names)?;
        let cluster = producer.client().fetch_cluster_id(ANSWER_TIME);
        let cluster = cluster.ok_or_else(|| silence(&producer))?;
        take_over(&producer)?;
        let (group, written) =
            group(&client, &names).map_err(|(doing, error)| failed(doing)(error))?;
        let written = written
            .map(|(position, text)| {
                mark::read(position, &text).ok_or_else(|| Failure::strange_mark(&names, position))
            })
            .transpose()?;
        let written_at = clock.monotonic();
        let clerk = Self {
            rules: Rules::new(&cluster, topics),
            client,
            names,
            producer,
            group,
            clock,
            at: None,
            written,
            written_at,
        };
        Ok((clerk, written))
    }

    /// Sends the letters among batches, from an offset on, and notes that everything before `to` is sent.
    pub(super) fn advance(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        from: Offset,
        to: Checkpoint,
    ) -> Result<(), Failure> {
        let letters = self.rules.letters(batches, from);
        self.at = Some(to);
        if letters.is_empty() {
            return self.idle();
        }
        let care = |letter: &Letter<'_>| Care {
            alone: letter.bytes() >= ALONE_BYTES,
            extent: Extent::Whole,
        };
        let mut cares: Vec<Care> = letters.iter().map(care).collect();
        loop {
            match self.transaction(&letters, &cares, to) {
                Ok(()) => break,
                Err(Broken::Failure(failure)) => return Err(failure),
                Err(Broken::TooLarge(numbers)) => {
                    for number in numbers {
                        let more = cares[number].more();
                        cares[number] = more.ok_or_else(|| Failure::no_room(&self.names))?;
                    }
                }
            }
        }
        metrics::counter!(names::KAFKA_DEAD_LETTERS, "topic" => self.names.topic.clone())
            .increment(letters.len() as u64);
        Ok(())
    }

    /// Writes the checkpoint where there was nothing to send for a while.
    pub(super) fn idle(&mut self) -> Result<(), Failure> {
        self.producer.poll(Duration::ZERO);
        let Some(at) = self.at.or(self.written) else {
            return Ok(());
        };
        let age = self.clock.monotonic().saturating_sub(self.written_at);
        let patience = match self.written == Some(at) {
            true => REFRESH_TIME,
            false => MARK_TIME,
        };
        if age < patience {
            return Ok(());
        }
        match self.transaction(&[], &[], at) {
            Ok(()) => Ok(()),
            Err(Broken::Failure(failure)) => Err(failure),
            Err(Broken::TooLarge(_)) => unreachable!("no letter was sent"),
        }
    }

    /// All of it, or nothing.
    fn transaction(
        &mut self,
        letters: &[Letter<'_>],
        cares: &[Care],
        to: Checkpoint,
    ) -> Result<(), Broken> {
        let begun = self.clock.now();
        let done = self.try_transaction(letters, cares, to);
        match done {
            Ok(()) => {
                self.written = Some(to);
                self.written_at = self.clock.monotonic();
                Ok(())
            }
            Err(Broken::TooLarge(numbers)) => {
                self.renew()?;
                Err(Broken::TooLarge(numbers))
            }
            // Whoever opens the next producer ends what this one may have left open.
            Err(Broken::Failure(failure)) => Err(self.late(begun, failure).into()),
        }
    }

    fn late(&self, begun: Timestamp, failure: Failure) -> Failure {
        let taken = self.clock.now().micros().saturating_sub(begun.micros());
        let given = self.client.get(TRANSACTION_TIMEOUT);
        let given = given.and_then(|millis| millis.parse().ok());
        let most = given.map_or(TRANSACTION_TIME, Duration::from_millis);
        match Duration::from_micros(taken.unsigned_abs()) < most {
            true => failure,
            false => failure.of_long_transaction(),
        }
    }

    fn try_transaction(
        &self,
        letters: &[Letter<'_>],
        cares: &[Care],
        to: Checkpoint,
    ) -> Result<(), Broken> {
        let failed = |doing| library(&self.producer, doing);
        self.producer
            .begin_transaction()
            .map_err(failed("beginning a transaction"))?;
        for (number, (letter, care)) in letters.iter().zip(cares).enumerate() {
            if care.alone {
                self.settle()?;
            }
            self.send(number, letter, care.extent, to)?;
            if care.alone {
                self.settle()?;
            }
        }
        self.settle()?;
        let mut list = TopicPartitionList::new();
        let position = i64::try_from(to.offset.0).unwrap_or(i64::MAX);
        let mut element = list.add_partition(&self.names.topic, 0);
        element.set_metadata(mark::text(&to));
        element
            .set_offset(Place::Offset(position))
            .map_err(failed("putting the checkpoint down"))?;
        // Tells too why letters were given up, if they were.
        self.producer
            .send_offsets_to_transaction(&list, &self.group, TRANSACTION_ANSWER_TIME)
            .map_err(failed("sending the checkpoint"))?;
        if let Some(one) = self.producer.context().refused().first() {
            return Err(self.not_delivered(one.code).into());
        }
        self.producer
            .commit_transaction(TRANSACTION_ANSWER_TIME)
            .map_err(failed("committing"))?;
        Ok(())
    }

    /// Puts a letter into the queue, in which there may have to be made room.
    fn send(
        &self,
        number: usize,
        letter: &Letter<'_>,
        extent: Extent,
        to: Checkpoint,
    ) -> Result<(), Broken> {
        let mut headers = OwnedHeaders::new();
        let all = letter.headers(to.log, extent);
        for (name, value) in &all {
            headers = headers.insert(Pair {
                key: name,
                value: value.as_deref(),
            });
        }
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.names.topic, number).headers(headers);
        record.payload = letter.value(extent);
        record.key = letter.key(extent);
        let mut since = Waiting::new(self);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((Library::MessageProduction(Code::QueueFull), back)) => back,
                Err((Library::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(Broken::TooLarge(vec![number]));
                }
                Err((error, _)) => {
                    // Once a letter is refused, the transaction takes no more: that letter is what there is to tell.
                    self.settle()?;
                    return Err(library(&self.producer, "sending a dead letter")(error).into());
                }
            };
            since.look()?;
            self.judge()?;
        }
    }

    /// Waits until everything that was sent is delivered.
    fn settle(&self) -> Result<(), Broken> {
        let mut since = Waiting::new(self);
        while self.producer.in_flight_count() > 0 {
            since.look()?;
            self.judge()?;
        }
        self.judge()
    }

    /// Looks whether anything was refused. Letters that were given up because of another, or because the transaction was
    /// ended, say nothing themselves.
    fn judge(&self) -> Result<(), Broken> {
        let refused = self.producer.context().refused();
        let large = |refused: &&Refused| {
            matches!(
                refused.code,
                Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize
            )
        };
        let too_large: Vec<_> = refused.iter().filter(large).map(|one| one.number).collect();
        if !too_large.is_empty() {
            return Err(Broken::TooLarge(too_large));
        }
        let given_up = |code| matches!(code, Code::PurgeQueue | Code::PurgeInflight);
        match refused.iter().find(|one| !given_up(one.code)) {
            None => Ok(()),
            Some(one) => Err(self.not_delivered(one.code).into()),
        }
    }

    fn not_delivered(&self, code: Code) -> Failure {
        Failure::NotDelivered {
            topic: self.names.topic.clone(),
            code,
        }
    }

    /// Takes everything back that belongs to the transaction. What was refused has left a hole in the numbers that brokers
    /// count messages by, which librdkafka does not close by breaking the transaction off: only somebody new begins anew.
    fn renew(&mut self) -> Result<(), Failure> {
        self.producer = producer(&self.client, &self.names)?;
        take_over(&self.producer)
    }
}

/// A wait for deliveries, which ends when there are none for too long.
struct Waiting<'c> {
    clerk: &'c Clerk,
    in_flight: i32,
    since: Duration,
}

impl<'c> Waiting<'c> {
    fn new(clerk: &'c Clerk) -> Self {
        Self {
            clerk,
            in_flight: i32::MAX,
            since: clerk.clock.monotonic(),
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        let producer = &self.clerk.producer;
        producer.poll(POLL_TIME);
        let (now, in_flight) = (self.clerk.clock.monotonic(), producer.in_flight_count());
        if in_flight < self.in_flight {
            (self.in_flight, self.since) = (in_flight, now);
        }
        match now.saturating_sub(self.since) < DELIVERY_TIME {
            true => Ok(()),
            false => Err(silence(producer)),
        }
    }
}

fn producer(client: &ClientConfig, names: &Names) -> Result<Producer, Failure> {
    let mut client = client.clone();
    client.set("transactional.id", &names.transactional_id);
    if client.get(TRANSACTION_TIMEOUT).is_none() {
        let most = TRANSACTION_TIME.as_millis().to_string();
        client.set(TRANSACTION_TIMEOUT, most);
    }
    client
        .create_with_context(Deliveries::default())
        .map_err(|source| Failure::Library {
            doing: "setting up",
            why: String::new(),
            source,
        })
}

/// Ends what another producer may have left open, so that its outcome is known, and shuts that one out.
fn take_over(producer: &Producer) -> Result<(), Failure> {
    producer
        .init_transactions(TRANSACTION_ANSWER_TIME)
        .map_err(library(producer, "taking over the dead letters of the log"))
}

/// Sees to it that there is a topic to send to.
fn find_topic(producer: &Producer, names: &Names) -> Result<(), Failure> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(&names.topic), ANSWER_TIME)
        .map_err(library(producer, "asking for the topic of dead letters"))?;
    let found = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == names.topic);
    let error = found.and_then(|topic| topic.error()).map(Code::from);
    match error {
        None if found.is_some_and(|topic| !topic.partitions().is_empty()) => Ok(()),
        Some(code @ Code::TopicAuthorizationFailed) => Err(Failure::NotDelivered {
            topic: names.topic.clone(),
            code,
        }),
        _ => Err(Failure::NoTopic {
            topic: names.topic.clone(),
        }),
    }
}

type Committed = Option<(i64, String)>;

/// Our group, and the position it has committed.
fn group(
    client: &ClientConfig,
    names: &Names,
) -> Result<(ConsumerGroupMetadata, Committed), (&'static str, Library)> {
    const READING: &str = "reading the checkpoint";
    let mut client = client.clone();
    client
        .set("group.id", &names.group)
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer<Quiet> = client
        .create_with_context(Quiet)
        .map_err(|error| (READING, error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition(&names.topic, 0);
    let answered = consumer
        .committed_offsets(list, TRANSACTION_ANSWER_TIME)
        .map_err(|error| (READING, error))?;
    let elements = answered.elements();
    let element = elements
        .first()
        .ok_or((READING, Library::NoMessageReceived))?;
    element.error().map_err(|error| (READING, error))?;
    let committed = match element.offset() {
        Place::Offset(position) => Some((position, element.metadata().to_owned())),
        _ => None,
    };
    let group = consumer.group_metadata();
    let group = group.ok_or((READING, Library::NoMessageReceived))?;
    Ok((group, committed))
}

fn library(producer: &Producer, doing: &'static str) -> impl Fn(Library) -> Failure {
    move |source| Failure::Library {
        doing,
        why: producer.context().why(),
        source,
    }
}

fn silence(producer: &Producer) -> Failure {
    Failure::Silence {
        why: producer.context().why(),
    }
}
