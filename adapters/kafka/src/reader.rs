//! The thread that reads: it takes messages from librdkafka, fills portions, commits what is durable, and answers the
//! group.
//!
//! ```text
//! poll ─▶ message ─▶ portion ─(size, count, time)─▶ pipeline ─▶ log
//!   │                                                  │
//!   ├─▶ rebalance ─▶ where to start, or: wait for what is on its way, commit, give back
//!   ├─▶ statistics ─▶ lag, positions without events, partitions that stand still
//!   └─▶ error ─▶ what is still there? ─▶ a gap: halt or record
//! ```
//!
//! # Invariants
//! R1. Everything that happens to a partition happens on this thread, between two polls.
//! R2. A partition is read from a position that the log has, or that was put into the log before: what is appended of it
//!     follows.
//! R3. Nothing is paused while a rebalance is under way.
//! R4. While members join or leave, nothing is committed but what is given back, and the last before leaving. librdkafka
//!     takes a commit that the group refuses because it came behind a request to join for the loss of every partition; so
//!     what is durable is stored, and librdkafka commits it when the group is at rest.
//! R5. A position that the partition does not hold any more stops it or is recorded; librdkafka is never left to choose
//!     another (`auto.offset.reset` is `error`).
//!
//! # Failure
//! Brokers that are away are waited for by librdkafka. When the log does not take events, reading is paused, and when it
//! takes them again, every partition is read from where the log stands. Where the log will never take them, the source
//! ends.

mod check;
mod group;

use std::sync::Arc;
use std::time::Duration;

use modelog_engine::sources::SourceState;
use modelog_engine::{AppendError, Engine, Health, metrics as names};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as Library, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{Context, Notice};
use crate::commit::Committer;
use crate::config::KafkaConfig;
use crate::intake::Intake;
use crate::pipeline::Pipeline;
use crate::shared::Shared;

/// How long a poll waits for something to happen.
const POLL_TIME: Duration = Duration::from_millis(100);
/// How many messages are taken before anything else is looked at.
const MESSAGES_AT_ONCE: usize = 1000;
/// How long the log may be busy until reading is paused.
const BUSY_TIME: Duration = Duration::from_millis(500);
/// How long what is on its way is waited for when a partition is taken away or the source ends.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How long to wait before the last positions are committed once more.
const RETRY_TIME: Duration = Duration::from_millis(50);
/// How long librdkafka may take to leave the group and close its connections.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// The reader's own part of a source.
pub(crate) struct Reader {
    engine: Engine,
    config: KafkaConfig,
    shared: Arc<Shared>,
    consumer: BaseConsumer<Context>,
    pipeline: Pipeline,
    /// The cluster's identity, once it is known.
    cluster: Option<Arc<str>>,
    intake: Intake,
    /// Reading is paused, since the log takes nothing.
    paused: bool,
    busy_since: Option<Duration>,
    stored_at: Duration,
    wanted: group::WantedPartitions,
    checks: check::Checks,
}

impl Reader {
    pub(crate) fn new(
        engine: Engine,
        config: KafkaConfig,
        shared: Arc<Shared>,
        consumer: BaseConsumer<Context>,
        pipeline: Pipeline,
    ) -> Self {
        let now = engine.clock().monotonic();
        Self {
            intake: Intake::new(Arc::clone(engine.clock())),
            engine,
            config,
            shared,
            consumer,
            pipeline,
            cluster: None,
            paused: false,
            busy_since: None,
            stored_at: now,
            wanted: group::WantedPartitions::default(),
            checks: check::Checks::new(now),
        }
    }

    /// Reads until the source is to end, or cannot go on.
    pub(crate) fn run(mut self) {
        if self.subscribe() {
            while !self.shared.is_ending() && self.step() {}
        }
        self.end();
    }

    fn now(&self) -> Duration {
        self.engine.clock().monotonic()
    }

    /// Joins the group; answers whether to go on.
    fn subscribe(&mut self) -> bool {
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        match self.consumer.subscribe(&topics) {
            Ok(()) => true,
            Err(error) => {
                let reason = format!("the topics cannot be read: {error}");
                self.shared.set_state(SourceState::Failed, Some(reason));
                false
            }
        }
    }

    /// One round; answers whether to go on.
    fn step(&mut self) -> bool {
        if let Some(error) = self.pipeline.take_failure()
            && !self.recover(&error)
        {
            return false;
        }
        if !self.poll() {
            return false;
        }
        for notice in self.consumer.context().take() {
            self.notice(notice);
        }
        if self.now().saturating_sub(self.stored_at) >= POLL_TIME {
            self.store();
        }
        self.check();
        true
    }

    /// Takes messages, as long as there are some and room for them; answers whether to go on.
    fn poll(&mut self) -> bool {
        if !self.make_room() {
            // Something else may have happened; messages of before the pause are taken all the same.
            return self.poll_once(POLL_TIME) != Polled::Fatal;
        }
        // The clock is looked at where there is nothing to take: that costs as much as taking it.
        let mut waits = false;
        for _ in 0..MESSAGES_AT_ONCE {
            let patience = match waits {
                true => self.intake.patience().unwrap_or(POLL_TIME),
                false => Duration::ZERO,
            };
            match self.poll_once(patience) {
                Polled::Message if !self.intake.is_full() => waits = false,
                Polled::Nothing if !waits => waits = true,
                Polled::Fatal => return false,
                Polled::Message => {
                    self.send();
                    return true;
                }
                Polled::Nothing => break,
            }
        }
        if self.intake.patience().is_some_and(|left| left.is_zero()) {
            self.send();
        }
        true
    }

    fn poll_once(&mut self, patience: Duration) -> Polled {
        match self.consumer.poll(patience) {
            None => Polled::Nothing,
            // It may be of a topic that was made again: it is read once more when that is known.
            Some(Ok(_)) if self.consumer.context().is_changed() => Polled::Nothing,
            Some(Ok(message)) => {
                self.intake.take(&message);
                Polled::Message
            }
            Some(Err(error)) => self.error(&error),
        }
    }

    /// Sends the portion on its way.
    fn send(&mut self) {
        if let Some(portion) = self.intake.cut() {
            self.pipeline.send(portion);
        }
    }

    /// Waits for room; answers whether there is some. A log that is busy for long has reading paused, so that the group
    /// hears of us and librdkafka does not gather what nobody takes.
    fn make_room(&mut self) -> bool {
        let room = self.pipeline.has_room() || self.pipeline.wait_for_room(POLL_TIME);
        if !room {
            let now = self.now();
            let since = *self.busy_since.get_or_insert(now);
            if now.saturating_sub(since) > BUSY_TIME {
                self.pause();
            }
            return false;
        }
        self.busy_since = None;
        if self.paused && self.engine.health() == Health::Accepting {
            self.resume();
        }
        !self.paused
    }

    /// The partitions librdkafka reads for us.
    fn fetched(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for reading in &self.intake.partitions {
            if reading.halted.is_none() {
                list.add_partition(&reading.assigned.topic, reading.assigned.partition);
            }
        }
        list
    }

    fn pause(&mut self) {
        if let Err(error) = self.consumer.pause(&self.fetched()) {
            tracing::warn!(%error, "reading could not be paused");
        }
        if !self.paused {
            tracing::warn!("the log does not keep up: reading is paused");
        }
        self.paused = true;
    }

    fn resume(&mut self) {
        let now = self.now();
        for reading in &mut self.intake.partitions {
            reading.rest(now);
        }
        match self.consumer.resume(&self.fetched()) {
            Ok(()) => {
                tracing::info!("the log takes events: reading goes on");
                self.paused = false;
            }
            Err(error) => tracing::warn!(%error, "reading could not be resumed"),
        }
    }

    /// A portion was not appended: waits for the log, and reads every partition from where the log stands. Answers whether
    /// to go on.
    fn recover(&mut self, error: &AppendError) -> bool {
        let hopeless = matches!(
            error,
            AppendError::Poisoned { .. } | AppendError::OutcomeUnknown { .. } | AppendError::Closed
        );
        if hopeless {
            let reason = format!("the log takes no events until it is opened again: {error}");
            self.shared.set_state(SourceState::Failed, Some(reason));
            return false;
        }
        tracing::warn!(%error, "events were not appended; they are read again");
        for reading in &self.intake.partitions {
            reading.assigned.lose();
        }
        self.intake.cut();
        self.pipeline.wait_until_idle(DRAIN_TIME);
        // What failed behind the first failure is read again too.
        self.pipeline.take_failure();
        self.pause();
        self.checks.reread = Some(self.now());
        true
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Given(partitions) => self.given(partitions),
            Notice::Taken { partitions, lost } => self.taken(&partitions, lost),
            Notice::Statistics(statistics) => self.observe(&statistics),
            Notice::Recreated(topic) => self.recreated(&topic),
            Notice::Error { code, text } => self.checks.trouble(code, text, self.now()),
        }
    }

    /// Tells librdkafka what is durable. It is committed when the group is at rest next.
    fn store(&mut self) {
        self.stored_at = self.now();
        let list = self.uncommitted();
        if list.count() > 0
            && let Err(error) = self.consumer.store_offsets(&list)
        {
            tracing::debug!(%error, "positions were not stored");
        }
    }

    /// Tells the group what is durable of partitions that are given back.
    pub(super) fn commit(&mut self, places: &[usize]) {
        // What is stored is committed once more when they are put down.
        self.store();
        let list = self.positions_of(places);
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Sync)
        {
            tracing::warn!(
                %error,
                "positions were not committed: whoever is next reads events again that this log has"
            );
        }
    }

    /// The positions the group does not have.
    fn uncommitted(&self) -> TopicPartitionList {
        let all: Vec<usize> = (0..self.intake.partitions.len()).collect();
        self.positions_of(&all)
    }

    fn positions_of(&self, places: &[usize]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        let log = self.engine.log_id();
        for place in places {
            let reading = &self.intake.partitions[*place];
            let Some(position) = reading.uncommitted() else {
                continue;
            };
            let assigned = &reading.assigned;
            let mut element = list.add_partition(&assigned.topic, assigned.partition);
            element.set_metadata(Committer::text(log, reading.began));
            element
                .set_offset(Offset::Offset(position))
                .expect("a position of the log is an offset");
        }
        list
    }

    /// What polling brought instead of a message.
    fn error(&mut self, error: &Library) -> Polled {
        metrics::counter!(names::KAFKA_FETCH_ERRORS, "group" => self.config.group_id.clone())
            .increment(1);
        if let Library::MessageConsumptionFatal(code) = error {
            let reason = match code {
                Code::FencedInstanceId => {
                    "another member with the same `group_instance_id` has joined the group".into()
                }
                _ => format!("the group is out of reach for good: {error}"),
            };
            self.shared.set_state(SourceState::Failed, Some(reason));
            return Polled::Fatal;
        }
        // What it was about came as a notice, in better words.
        Polled::Nothing
    }

    /// Puts everything in order, and leaves the group.
    fn end(mut self) {
        let mut last = TopicPartitionList::new();
        if !matches!(self.shared.status().state, SourceState::Failed) {
            self.send();
            self.pipeline.wait_until_idle(DRAIN_TIME);
            self.store();
            last = self.uncommitted();
            self.shared.set_state(SourceState::Stopped, None);
        }
        self.shared.status().partitions.clear();
        let Self {
            consumer, pipeline, ..
        } = self;
        consumer.context().close();
        // Closing talks to brokers, which may be gone; whoever stops us does not wait for that.
        let (closed, wait) = std::sync::mpsc::channel();
        let close = move || {
            if last.count() > 0
                && let Err(error) = commit_last(&consumer, &last)
            {
                tracing::warn!(%error, "the last positions were not committed; the log has them");
            }
            drop(consumer);
            let _ = closed.send(());
        };
        let closing = std::thread::Builder::new().name("modelog-kafka-close".into());
        if closing.spawn(close).is_ok() && wait.recv_timeout(CLOSE_TIME).is_err() {
            tracing::warn!("the group could not be left in time; it will notice");
        }
        drop(pipeline);
    }
}

/// Commits before the group is left; once more where members are joining or leaving just now, which is over soon. Until then
/// the consumer is not polled, so that no partition is given away of which the group does not know where it stands.
fn commit_last(consumer: &BaseConsumer<Context>, last: &TopicPartitionList) -> Result<(), Library> {
    let mut tries = CLOSE_TIME.as_millis() / RETRY_TIME.as_millis();
    loop {
        match consumer.commit(last, CommitMode::Sync) {
            Err(Library::ConsumerCommit(Code::IllegalGeneration | Code::RebalanceInProgress))
                if tries > 0 =>
            {
                tries -= 1;
                std::thread::sleep(RETRY_TIME);
            }
            done => return done,
        }
    }
}

/// What a poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    Message,
    Nothing,
    Fatal,
}
