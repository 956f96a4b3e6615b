//! What the group gives and takes, and where reading starts.
//!
//! A partition that is given waits among the *wanted* until everything that decides about its start is known; librdkafka
//! is answered at once with those that can be read, so that the group never waits for us.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::{Event, SourceGapRecorded};
use modelog_engine::origin::Position;
use modelog_engine::{AppendError, metrics as names};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError as Library;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::check::ANSWER_TIME;
use super::{DRAIN_TIME, Reader};
use crate::client::Name;
use crate::commit::{Committed, Committer};
use crate::config::{OnGap, StartAt};
use crate::native::{self, Identity};
use crate::partition::Reading;
use crate::pipeline::set_position;
use crate::portion::Assigned;
use crate::start::{Gap, Known, Start};

/// How long to wait before what could not be found out is asked again.
pub(super) const AGAIN_TIME: Duration = Duration::from_millis(500);

/// Partitions that are ours and not read yet.
#[derive(Debug, Default)]
pub(super) struct WantedPartitions {
    pub(super) names: Vec<Name>,
    /// When to ask again where they start.
    again_at: Option<Duration>,
}

/// Where a partition will be read from.
#[derive(Debug)]
struct Plan {
    name: Name,
    topic_id: Option<u128>,
    /// The next position the log needs under this identity.
    known: Option<i64>,
    leader_epoch: i32,
    committed: Option<i64>,
    start: Start,
}

/// What librdkafka is to read, which partitions must wait, and why.
type Begun = (TopicPartitionList, Vec<Name>, Option<NotYet>);

/// Why a start could not be decided, or could not be put into the log.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("the cluster does not tell its identity")]
    NoCluster,
    #[error("there is no topic {0}")]
    NoTopic(String),
    #[error(transparent)]
    Library(#[from] Library),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Reader {
    /// The group has given us partitions.
    pub(super) fn given(&mut self, partitions: Vec<Name>) {
        self.count_rebalance();
        self.reached();
        self.wanted.names.extend(partitions);
        self.wanted.again_at = None;
        if !self.take_up() {
            // The group is answered all the same.
            self.add_to_assignment(&TopicPartitionList::new());
        }
        self.tell();
    }

    /// The group takes partitions away; or has taken them, if they are `lost`.
    pub(super) fn taken(&mut self, partitions: &[Name], lost: bool) {
        self.count_rebalance();
        self.wanted.names.retain(|name| !partitions.contains(name));
        if !lost {
            self.send();
            if !self.pipeline.wait_until_idle(DRAIN_TIME) {
                tracing::warn!(
                    "the log takes long: events on their way will be read again by whoever is next"
                );
            }
            let places: Vec<usize> = partitions
                .iter()
                .filter_map(|(topic, partition)| self.intake.find(topic, *partition))
                .collect();
            self.commit(&places);
        }
        let list = self.let_go(partitions);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(%error, "partitions could not be given back");
        }
        self.tell();
    }

    /// Stops reading partitions; answers those that librdkafka was reading.
    fn let_go(&mut self, partitions: &[Name]) -> TopicPartitionList {
        // What the portion holds of others is appended.
        for (topic, partition) in partitions {
            if let Some(place) = self.intake.find(topic, *partition) {
                self.intake.partitions[place].assigned.lose();
            }
        }
        self.send();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            let Some(place) = self.intake.find(topic, *partition) else {
                continue;
            };
            if self.intake.take_away(place).halted.is_none() {
                list.add_partition(topic, *partition);
            }
            let labels = self.partition_labels(topic, *partition);
            metrics::gauge!(names::KAFKA_LAG, &labels).set(0.0);
        }
        list
    }

    /// Reads partitions from where the log stands, or from where they can be read.
    pub(super) fn read_anew(&mut self, partitions: Vec<Name>) {
        if partitions.is_empty() {
            return;
        }
        self.send();
        self.pipeline.wait_until_idle(DRAIN_TIME);
        let list = self.let_go(&partitions);
        if list.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            tracing::warn!(%error, "partitions could not be put down");
        }
        self.wanted.names.extend(partitions);
        self.wanted.again_at = None;
        self.take_up();
    }

    /// Begins to read what is wanted, if it can be decided where; answers whether librdkafka was told.
    pub(super) fn take_up(&mut self) -> bool {
        let now = self.now();
        let soon = self.wanted.again_at.is_some_and(|at| at > now);
        if self.wanted.names.is_empty() || soon {
            return false;
        }
        let names = std::mem::take(&mut self.wanted.names);
        match self.begin_some(&names) {
            Ok((list, later, None)) => {
                self.wanted.names = later;
                self.add_to_assignment(&list);
                true
            }
            Ok((list, later, Some(error))) => {
                self.wanted.names = later;
                self.put_off(&error);
                self.add_to_assignment(&list);
                true
            }
            Err(error) => {
                self.wanted.names = names;
                self.put_off(&error);
                false
            }
        }
    }

    /// What could not be decided is asked again soon.
    fn put_off(&mut self, error: &NotYet) {
        let now = self.now();
        let code = match error {
            NotYet::Library(error) => error.rdkafka_error_code(),
            _ => None,
        };
        let text = format!("it is not known yet where to start: {error}");
        self.checks.trouble(code, text, now);
        self.wanted.again_at = Some(now + AGAIN_TIME);
    }

    fn add_to_assignment(&mut self, list: &TopicPartitionList) {
        if let Err(error) = self.consumer.incremental_assign(list) {
            tracing::warn!(%error, "partitions could not be taken up");
        }
        // Those that came are paused like the others, when the log is looked at next; and none stays so by itself.
        if self.paused {
            self.resume();
        }
    }

    /// Begins to read those of some partitions of which it is known where; answers what librdkafka is to read, which ones
    /// must wait, and why.
    fn begin_some(&mut self, names: &[Name]) -> Result<Begun, NotYet> {
        let cluster = match &self.cluster {
            Some(cluster) => Arc::clone(cluster),
            None => {
                let found = self.consumer.client().fetch_cluster_id(ANSWER_TIME);
                let cluster: Arc<str> = found.ok_or(NotYet::NoCluster)?.into();
                self.cluster = Some(Arc::clone(&cluster));
                cluster
            }
        };
        let positions = self.engine.positions(&cluster);
        let topics: BTreeSet<&str> = names.iter().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let ids = native::topic_ids(self.consumer.client(), &topics, ANSWER_TIME)?;
        let committed = self.committed_positions(names)?;
        let (mut plans, mut later, mut why) = (Vec::new(), Vec::new(), None);
        for name in names {
            let topic = topics.binary_search(&name.0.as_str());
            let id = ids[topic.expect("it is one of them")];
            let committed = committed
                .iter()
                .find(|(of, _)| of == name)
                .map(|(_, committed)| *committed);
            match self.plan(name, id, committed, &positions) {
                Ok(plan) => plans.push(plan),
                Err(error) => {
                    later.push(name.clone());
                    why = Some(error);
                }
            }
        }
        Ok((self.begin(&cluster, plans)?, later, why))
    }

    fn plan(
        &self,
        name: &Name,
        identity: Identity,
        committed: Option<Committed>,
        positions: &[Position],
    ) -> Result<Plan, NotYet> {
        let id = match identity {
            Identity::Known(id) => Some(id),
            Identity::Unknown => None,
            Identity::Missing => return Err(NotYet::NoTopic(name.0.clone())),
        };
        let (topic, partition) = (&*name.0, name.1);
        let (low, high) = self
            .consumer
            .fetch_watermarks(topic, partition, ANSWER_TIME)?;
        let of_name =
            |position: &&Position| *position.topic == *topic && position.partition == partition;
        let of_name: Vec<&Position> = positions.iter().filter(of_name).collect();
        let exact = of_name.iter().find(|position| position.topic_id == id);
        // A broker that tells no identity, or has begun to tell some, goes on with what there is.
        let going_on = exact.or_else(|| {
            let alike = |position: &&&Position| id.is_none() || position.topic_id.is_none();
            of_name
                .iter()
                .filter(alike)
                .max_by_key(|position| position.next)
        });
        let topic_id = id.or_else(|| going_on.and_then(|position| position.topic_id));
        let former = of_name.iter().map(|position| position.next).max();
        // A partition that was added to a topic that is being read has nothing that was to be passed over.
        let known_topic = positions
            .iter()
            .any(|position| *position.topic == *topic && position.topic_id == id);
        let policy = match (going_on, committed) {
            (None, None) if !known_topic => self.policy(topic, partition, (low, high))?,
            _ => low,
        };
        let start = Known {
            log: self.engine.log_id(),
            position: going_on.map(|position| position.next),
            former: former.filter(|_| going_on.is_none()),
            committed,
            low,
            high,
            policy,
            identified: topic_id.is_some(),
        }
        .start();
        let known = of_name
            .iter()
            .find(|position| position.topic_id == topic_id)
            .filter(|position| position.next == start.at);
        Ok(Plan {
            name: name.clone(),
            topic_id,
            known: known.map(|position| position.next),
            leader_epoch: known.map_or(-1, |position| position.leader_epoch),
            committed: committed.map(|committed| committed.position),
            start,
        })
    }

    /// What the group has committed of some partitions.
    fn committed_positions(&self, names: &[Name]) -> Result<Vec<(Name, Committed)>, NotYet> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in names {
            list.add_partition(topic, *partition);
        }
        let answered = self.consumer.committed_offsets(list, ANSWER_TIME)?;
        let mut committed = Vec::new();
        for element in answered.elements() {
            element.error()?;
            if let Offset::Offset(position) = element.offset() {
                let by = Committer::read(element.metadata());
                let name = (element.topic().to_owned(), element.partition());
                committed.push((name, Committed { position, by }));
            }
        }
        Ok(committed)
    }

    /// Where the settings say to start.
    fn policy(&self, topic: &str, partition: i32, (low, high): (i64, i64)) -> Result<i64, NotYet> {
        let time = match self.config.start {
            StartAt::Earliest => return Ok(low),
            StartAt::Latest => return Ok(high),
            StartAt::Time(time) => time,
        };
        let mut list = TopicPartitionList::new();
        let millis = time.micros().div_euclid(1000);
        list.add_partition_offset(topic, partition, Offset::Offset(millis))?;
        let found = self.consumer.offsets_for_times(list, ANSWER_TIME)?;
        let elements = found.elements();
        let element = elements.first().ok_or(NotYet::NoCluster)?;
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(position) => position,
            // No event is as young as that.
            _ => high,
        })
    }

    /// Puts starts into the log where it does not have them, and answers what librdkafka is to read.
    fn begin(
        &mut self,
        cluster: &Arc<str>,
        plans: Vec<Plan>,
    ) -> Result<TopicPartitionList, NotYet> {
        let mut list = TopicPartitionList::new();
        let mut readings = Vec::with_capacity(plans.len());
        for plan in plans {
            let cluster = Arc::clone(cluster);
            let Start { at, began, gap } = plan.start;
            let (topic, partition) = (plan.name.0.as_str(), plan.name.1);
            let halted = gap.filter(|_| self.config.on_gap == OnGap::Halt);
            let at = halted.map_or(at, |gap| gap.from);
            let assigned = Assigned::new(cluster, topic.into(), plan.topic_id, partition, at);
            if let Some(gap) = halted {
                tracing::error!(topic, partition, "{}", halt_reason(gap));
            } else {
                self.put_start(&assigned, &plan)?;
                list.add_partition_offset(topic, partition, Offset::Offset(at))?;
                if plan.leader_epoch >= 0 {
                    let last = list.count() - 1;
                    native::set_leader_epoch(&mut list, last, plan.leader_epoch);
                }
            }
            let mut reading = Reading::new(Arc::new(assigned), at, began, self.now());
            reading.committed = plan.committed;
            reading.halted = halted.map(halt_reason);
            readings.push(reading);
        }
        for reading in readings {
            self.intake.give(reading);
        }
        Ok(list)
    }

    /// Sees to it that the log says where reading starts.
    fn put_start(&self, assigned: &Assigned, plan: &Plan) -> Result<(), NotYet> {
        let (topic, partition) = (plan.name.0.as_str(), plan.name.1);
        let at = plan.start.at;
        if let Some(gap) = plan.start.gap {
            let recorded = gap_event(assigned, gap);
            let batch = EventBatch::from_events([&recorded]).expect("a gap's fields are legal");
            tracing::warn!(
                topic,
                partition,
                from = gap.from,
                to = gap.to,
                "{}: recorded, and read on",
                gap.reason.text()
            );
            set_position(&self.engine, assigned, at, batch)?;
        } else if plan.known.is_none() {
            let batch = EventBatch::from_events([]).expect("no event is illegal");
            tracing::info!(topic, partition, at, "reading starts");
            set_position(&self.engine, assigned, at, batch)?;
        }
        Ok(())
    }

    fn count_rebalance(&self) {
        self.shared.status().rebalances += 1;
        metrics::counter!(names::KAFKA_REBALANCES, "group" => self.config.group_id.clone())
            .increment(1);
    }

    pub(super) fn partition_labels(
        &self,
        topic: &str,
        partition: i32,
    ) -> [(&'static str, String); 3] {
        [
            ("group", self.config.group_id.clone()),
            ("topic", topic.to_owned()),
            ("partition", partition.to_string()),
        ]
    }
}

fn halt_reason(gap: Gap) -> String {
    format!(
        "{} (position {}, it holds events from {} on): nothing is read until `on_gap` is \"skip\" or the group's position is moved",
        gap.reason.text(),
        gap.from,
        gap.to
    )
}

/// The record of positions that nobody can read any more.
fn gap_event(assigned: &Assigned, gap: Gap) -> Event {
    let event = Event::from(SourceGapRecorded {
        reason: gap.reason.name().into(),
        from_position: gap.from,
        to_position: gap.to,
        partition: Some(assigned.partition.into()),
    });
    event.with_source(format!("kafka:{}/{}", assigned.cluster, assigned.topic))
}
