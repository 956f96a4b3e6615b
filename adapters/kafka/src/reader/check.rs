//! What the reader looks at now and then: whether brokers are there, whether topics are what they were, whether positions
//! are still held, whether every partition moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use modelog_engine::sources::{PartitionState, PartitionStatus, SourceState};
use modelog_engine::{Health, metrics as names};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::statistics::Statistics;

use super::Reader;
use super::group::AGAIN_TIME;
use crate::client::Name;
use crate::native::{self, Identity};
use crate::partition::Reading;
use crate::start::GapReason;

/// How often topics are asked for their identity.
const IDENTITY_TIME: Duration = Duration::from_secs(3);
/// How long a broker may take to answer a question in passing.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(3);
/// How long trouble is shown after it was last met.
const TROUBLE_TIME: Duration = Duration::from_secs(10);

/// What is to be looked at, and what was found.
#[derive(Debug)]
pub(super) struct Checks {
    /// When every partition is to be read anew, from where the log stands.
    pub(super) reread: Option<Duration>,
    identities_at: Duration,
    /// A broker is connected, as far as is known.
    connected: bool,
    /// The last thing that went wrong, and when.
    trouble: Option<(String, Duration)>,
    /// Why no broker can be reached; that one does not let us in says more than that none is there.
    unreachable: Option<(bool, String)>,
    /// Topics of the configuration that are not there.
    missing: Vec<String>,
}

impl Checks {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            reread: None,
            identities_at: now,
            connected: false,
            trouble: None,
            unreachable: None,
            missing: Vec::new(),
        }
    }

    /// Takes note of something that went wrong.
    pub(super) fn trouble(&mut self, code: Option<Code>, text: String, now: Duration) {
        let unheld = [
            Code::AutoOffsetReset,
            Code::OffsetOutOfRange,
            Code::LogTruncation,
        ];
        // It is not said of which partition. librdkafka has put that one down; it is found out where each can be read.
        if code.is_some_and(|code| unheld.contains(&code)) {
            self.reread.get_or_insert(now + AGAIN_TIME);
        }
        let refused = [
            Code::Authentication,
            Code::SSL,
            Code::SaslAuthenticationFailed,
        ];
        let away = [
            Code::AllBrokersDown,
            Code::BrokerTransportFailure,
            Code::Resolve,
        ];
        let is_one_of = |codes: &[Code]| code.is_some_and(|code| codes.contains(&code));
        // Statistics tell whether anybody is there.
        if is_one_of(&refused) || is_one_of(&away) {
            let tells = is_one_of(&refused);
            if tells || self.unreachable.as_ref().is_none_or(|(told, _)| !told) {
                self.unreachable = Some((tells, text));
            }
        } else if code != Some(Code::UnknownTopicOrPartition) {
            self.trouble = Some((text, now));
        }
    }

    fn recent_trouble(&self, now: Duration) -> Option<&str> {
        let (text, at) = self.trouble.as_ref()?;
        (now.saturating_sub(*at) < TROUBLE_TIME).then_some(text)
    }
}

impl Reader {
    /// Looks at what is to be looked at.
    pub(super) fn check(&mut self) {
        if self.checks.reread.is_some_and(|at| at <= self.now())
            && self.engine.health() == Health::Accepting
        {
            self.checks.reread = None;
            let read = self.intake.partitions.iter();
            let read = read.filter(|reading| reading.halted.is_none());
            self.read_anew(read.map(Reading::key).collect());
        }
        if self.take_up() {
            self.tell();
        }
        if self.now().saturating_sub(self.checks.identities_at) > IDENTITY_TIME {
            self.checks.identities_at = self.now();
            self.check_identities();
        }
    }

    /// Takes in what librdkafka tells of every partition.
    pub(super) fn observe(&mut self, told: &Statistics) {
        if told.brokers.values().any(|broker| broker.state == "UP") {
            self.reached();
        } else {
            self.checks.connected = false;
        }
        let read_committed = self
            .config
            .properties
            .get("isolation.level")
            .is_none_or(|level| level == "read_committed");
        let partitions: BTreeMap<_, _> = told
            .topics
            .values()
            .flat_map(|topic| {
                let of_topic = topic.partitions.values();
                of_topic.map(|partition| ((topic.topic.as_str(), partition.partition), partition))
            })
            .collect();
        let now = self.now();
        let mut stalled = Vec::new();
        for place in 0..self.intake.partitions.len() {
            let reading = &mut self.intake.partitions[place];
            let key = (&*reading.assigned.topic, reading.assigned.partition);
            let Some(told) = partitions.get(&key) else {
                continue;
            };
            if let Some(next) = reading.observe(told, read_committed, now) {
                self.intake.pass_over(place, next);
            } else if self.paused || !self.checks.connected {
                reading.rest(now);
            } else if reading.stalls(self.config.stall_time, now) {
                tracing::warn!(
                    partition = reading.name(),
                    position = reading.next,
                    "there are events, and none has come for a while: it is read anew"
                );
                stalled.push(reading.key());
            }
        }
        self.read_anew(stalled);
        self.tell();
    }

    /// Takes note that a broker has answered.
    pub(super) fn reached(&mut self) {
        self.checks.connected = true;
        self.checks.unreachable = None;
    }

    /// Says where everything stands.
    pub(super) fn tell(&mut self) {
        let mut partitions: Vec<_> = self
            .intake
            .partitions
            .iter()
            .map(|reading| reading.status(self.paused))
            .collect();
        let waiting = self.wanted.names.iter();
        partitions.extend(waiting.map(|(topic, partition)| PartitionStatus {
            topic: topic.clone(),
            partition: *partition,
            position: None,
            committed: None,
            lag: None,
            state: PartitionState::Waiting,
            reason: None,
        }));
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        for partition in &partitions {
            let labels = self.partition_labels(&partition.topic, partition.partition);
            metrics::gauge!(names::KAFKA_LAG, &labels).set(partition.lag.unwrap_or(0) as f64);
        }
        let wrong: Vec<_> = partitions
            .iter()
            .filter(|partition| {
                matches!(
                    partition.state,
                    PartitionState::Halted | PartitionState::Stalled
                )
            })
            .map(|partition| {
                let reason = partition.reason.as_deref().unwrap_or_default();
                format!("{}/{}: {reason}", partition.topic, partition.partition)
            })
            .collect();
        let trouble = self.checks.recent_trouble(self.now()).map(str::to_owned);
        let (state, reason) = if !self.checks.connected {
            let brokers = self.config.brokers.join(", ");
            let why = self.checks.unreachable.as_ref();
            let why = why.map_or(String::new(), |(_, why)| format!(": {why}"));
            let reason = format!("no broker of {brokers} can be reached{why}");
            (SourceState::Connecting, Some(reason))
        } else if !wrong.is_empty() {
            (SourceState::Degraded, Some(wrong.join("; ")))
        } else if self.paused {
            let reason = "the log does not take events: reading is paused until it does";
            (SourceState::Degraded, Some(reason.to_owned()))
        } else if !self.checks.missing.is_empty() {
            let missing = self.checks.missing.join(", ");
            let reason = format!("there is no topic {missing}; it is read as soon as there is");
            (SourceState::Degraded, Some(reason))
        } else if let Some(trouble) = trouble {
            (SourceState::Degraded, Some(trouble))
        } else {
            (SourceState::Running, None)
        };
        {
            let mut status = self.shared.status();
            status.partitions = partitions;
            status.cluster = self.cluster.as_deref().map(str::to_owned);
        }
        self.shared.set_state(state, reason);
    }

    /// Looks whether topics are there, and are the ones that were read before.
    fn check_identities(&mut self) {
        if !self.checks.connected {
            return;
        }
        let read: BTreeMap<String, Option<u128>> = self
            .intake
            .partitions
            .iter()
            .map(|reading| {
                let assigned = &reading.assigned;
                (assigned.topic.to_string(), assigned.topic_id)
            })
            .collect();
        let named = self.config.topics.iter();
        let named = named.filter(|topic| !topic.starts_with('^'));
        let topics: BTreeSet<&str> = named.chain(read.keys()).map(String::as_str).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        if topics.is_empty() {
            return;
        }
        let Ok(now) = native::topic_ids(self.consumer.client(), &topics, ANSWER_TIME) else {
            return;
        };
        let of_another = |topic: &str, id: u128| {
            let known = read.get(topic).copied().flatten();
            known.is_some_and(|known| known != id)
        };
        let (mut missing, mut recreated) = (Vec::new(), Vec::new());
        for (topic, identity) in topics.into_iter().zip(now) {
            match identity {
                Identity::Missing => missing.push(topic.to_owned()),
                Identity::Known(id) if of_another(topic, id) => recreated.push(topic.to_owned()),
                _ => {}
            }
        }
        self.checks.missing = missing;
        for topic in recreated {
            self.recreated(&topic);
        }
    }

    /// A topic is not the one of its name that was read before.
    pub(super) fn recreated(&mut self, topic: &str) {
        let keys = self.intake.partitions.iter().map(Reading::key);
        let partitions: Vec<Name> = keys.filter(|(of, _)| of == topic).collect();
        if !partitions.is_empty() {
            tracing::warn!(topic, "{}", GapReason::TopicRecreated.text());
            self.read_anew(partitions);
        }
    }
}
