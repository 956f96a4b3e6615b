//! Dead letters: messages that could not be understood, sent to a topic of their own with the reason.
//!
//! ```text
//! topics ─▶ source ─▶ log: EventRejected ─▶ this projection ─▶ letters, checkpoint ─▶ brokers
//!                     bytes, key, headers                      one transaction
//! ```
//!
//! What a source does not understand is in the log, beside the events that came with it. This projection follows the log
//! and sends each such record of its cluster and topics to the topic of dead letters: with the bytes, the key and the
//! headers of the message, and headers that say why, from where, and where the record is. Whoever cares for the topic
//! needs no access to us.
//!
//! # Invariants
//! D1. Letters and the checkpoint behind them are one transaction: a reader of committed messages sees each letter once,
//!     whatever was killed or broke in between.
//! D2. One process sends the letters of a log to a topic. A second one shuts the first out, which then stops: the
//!     transactional id is made of the log and the topic.
//! D3. Where there is nothing to send, a checkpoint may be old: what lies behind it is looked through once more, and
//!     holds no letter that was not sent.
//! D4. Nothing waits for brokers: neither the start of the program nor its end, the log, or another store.
//!
//! # Where the checkpoint is
//! It is a position of a consumer group that has no members, `modelog-dead-letters-<log>`, for partition 0 of the topic:
//! the one thing beside messages that a transaction can carry. Brokers forget positions that nobody writes (after
//! `offsets.retention.minutes`, seven days if nothing else was set). While the program runs it writes its own again every
//! hour; after a longer absence all letters of the log are sent once more.
//!
//! # After a restore
//! A log that was restored parts from its old history somewhere before the checkpoint. Letters are sent from there on. What
//! the old history had behind that place was sent before: where the source reads those messages again, they are rejected
//! again and sent again, under another `modelog-offset`. Nothing is lost; `modelog-position` tells such pairs.
//!
//! A log that begins anew in an empty directory is another log: it has another group, and sends what it rejects.
//!
//! # Why it cannot be built again
//! Clearing the topic would take away what others may not have read yet, and sending everything again is what D1 is
//! against. Whoever wants it all the same deletes the group.
//!
//! # Why not from the source
//! A source that sends to a topic and then appends to the log, or the other way round, loses or doubles what lies between.
//! And brokers that take no letters would hold up events.

mod clerk;
mod courier;
mod failure;
mod letter;
mod mark;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::Kind;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, CheckpointError, Engine, LogId, Offset};

use crate::config::KafkaConfig;
use crate::error::KafkaError;
use crate::producer;
use crate::topics::Topics;

use clerk::Orders;
use courier::Courier;
use failure::Failure;

/// The version of the rules by which letters are made. What was sent by another one stays sent.
const FOLD_VERSION: u32 = 1;

/// What brokers know us by.
#[derive(Clone, Debug)]
struct Names {
    topic: String,
    group: String,
    transactional_id: String,
}

impl Names {
    fn new(log: LogId, topic: &str) -> Self {
        let group = format!("modelog-dead-letters-{log}");
        Self {
            transactional_id: format!("{group}-{topic}"),
            topic: topic.into(),
            group,
        }
    }
}

/// The projection that feeds a topic of dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    name: String,
    engine: Engine,
    names: Names,
    brokers: Vec<String>,
    properties: BTreeMap<String, String>,
    /// Of each source whose letters go there.
    topics: Vec<Topics>,
    courier: Option<Courier>,
    /// Up to where letters were sent.
    at: Offset,
}

impl DeadLetters {
    /// One for each topic of dead letters that sources name. Sources with the same brokers may share one; the properties of
    /// the first of them count.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] if a pattern of topics cannot be understood.
    pub fn of_sources(engine: &Engine, sources: &[KafkaConfig]) -> Result<Vec<Self>, KafkaError> {
        let mut all: Vec<Self> = Vec::new();
        for source in sources {
            let Some(topic) = &source.dead_letter_topic else {
                continue;
            };
            let topics = Topics::new(&source.topics).map_err(|error| KafkaError::Setting {
                setting: "topics".into(),
                reason: format!("has {error}"),
            })?;
            let same =
                |known: &&mut Self| known.names.topic == *topic && known.brokers == source.brokers;
            if let Some(known) = all.iter_mut().find(same) {
                known.topics.push(topics);
                continue;
            }
            let namesakes = all
                .iter()
                .filter(|known| known.names.topic == *topic)
                .count();
            let name = match namesakes {
                0 => format!("dead-letters:{topic}"),
                _ => format!("dead-letters:{topic}-{namesakes}"),
            };
            all.push(Self {
                name,
                engine: engine.clone(),
                names: Names::new(engine.log_id(), topic),
                brokers: source.brokers.clone(),
                properties: source.properties.clone(),
                topics: vec![topics],
                courier: None,
                at: Offset::ZERO,
            });
        }
        Ok(all)
    }

    async fn take_up(&mut self) -> Result<Option<Checkpoint>, Failure> {
        // The one before gives its place up.
        self.courier = None;
        let orders = Orders {
            names: self.names.clone(),
            client: producer::client(&self.brokers, &self.properties),
            topics: self.topics.clone(),
            clock: Arc::clone(self.engine.clock()),
        };
        let (courier, found) = Courier::open(orders).await?;
        let checkpoint = found.map(|found| self.place(found)).transpose()?;
        self.at = checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.offset);
        self.courier = Some(courier);
        Ok(checkpoint)
    }

    /// Where to go on in this log, given where letters were sent up to.
    fn place(&self, found: Checkpoint) -> Result<Checkpoint, Failure> {
        let found = Checkpoint {
            fold_version: FOLD_VERSION,
            ..found
        };
        match self.engine.check(&found) {
            Err(CheckpointError::ForeignLog { found, .. }) => {
                Err(Failure::foreign_mark(&self.names, found))
            }
            Err(CheckpointError::LostHistory { .. }) => {
                let common = self.engine.last_common(&found);
                tracing::warn!(
                    projection = self.name,
                    sent = %found.offset,
                    from = %common.offset,
                    "the log was cut or restored: what is rejected from there on is sent"
                );
                Ok(common)
            }
            Ok(()) | Err(CheckpointError::FoldVersion { .. }) => Ok(found),
        }
    }
}

#[async_trait]
impl Projection for DeadLetters {
    fn name(&self) -> &str {
        &self.name
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    fn rebuildable(&self) -> bool {
        false
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        let taken_up = self.take_up().await;
        taken_up.map_err(|failure| failure.into_projection(&self.names))
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        _view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let rejected = |batch: &&Arc<LoggedBatch>| batch.table(Kind::EventRejected).is_some();
        let batches: Vec<_> = batches.iter().filter(rejected).cloned().collect();
        let from = self.at;
        let advanced = match &mut self.courier {
            Some(courier) => {
                courier
                    .run(move |clerk| clerk.advance(&batches, from, to))
                    .await
            }
            None => Err(Failure::Ended),
        };
        advanced.map_err(|failure| failure.into_projection(&self.names))?;
        self.at = to.offset;
        Ok(())
    }

    /// The checkpoint is written now and then, which may fail.
    async fn idle(&mut self) -> ProjectionError {
        match &mut self.courier {
            Some(courier) => courier.given_up().await.into_projection(&self.names),
            None => std::future::pending().await,
        }
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Err(ProjectionError::Stopped {
            reason: format!("{} has sent what it has sent", self.name),
        })
    }
}
