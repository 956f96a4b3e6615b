//! Kafka: a source that reads events exactly once from topic to log, a topic for what cannot be understood, and a producer
//! for the command line.
//!
//! ```text
//! broker ─▶ librdkafka ─▶ reader ─▶ portions ─▶ workers ─▶ log ─▶ positions ─▶ commits
//!           prefetch      one       copied,     decode,    frame with events and
//!                         thread    bounded     in turns   positions, one sync for many
//! ```
//!
//! # How exactly once
//! K1. The frame that holds events holds the positions they came from: after a crash both are there or neither is.
//! K2. Reading starts where the log stands, and the log refuses positions that do not follow those it has.
//! K3. The group is told a position after it is durable. Its commits move partitions between logs and inform people; the
//!     log they name does not believe them over itself.
//! K4. Where a partition does not hold the next position any more, it stops or the gap is recorded: see [`OnGap`].
//!
//! What cannot be understood is in the log too, and may be sent on to a topic from there: [`DeadLetters`].
//!
//! # Threads
//! One reads and answers the group (`reader`), some decode, one waits for syncs (`pipeline`). librdkafka has its own.

mod client;
mod commit;
mod config;
mod dead_letters;
mod decode;
mod error;
mod intake;
mod native;
mod partition;
mod pipeline;
mod portion;
mod produce;
mod producer;
mod reader;
mod shared;
mod start;
mod topics;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use modelog_engine::Engine;
use modelog_engine::sources::SourceStatus;
use modelog_formats::{ModelTemplate, OnError, Options};
use rdkafka::consumer::BaseConsumer;

pub use config::{Format, InstanceId, KafkaConfig, OnGap, StartAt};
pub use dead_letters::DeadLetters;
pub use error::KafkaError;
pub use produce::{Outgoing, ProduceError, ProduceErrorKind, Target, TopicProducer};
pub use topics::{BadPattern, Topics};

use client::Context;
use decode::Decoder;
use pipeline::Pipeline;
use reader::Reader;
use shared::Shared;

/// How many threads decode: more would wait for the log.
const WORKERS_MAX: usize = 4;

/// A running source.
#[derive(Debug)]
pub struct KafkaSource {
    shared: Arc<Shared>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaSource {
    /// Starts to read into an engine's log. `limits` bound what one message may hold; `number` tells sources of one process
    /// and one group apart. It does not wait for brokers.
    ///
    /// # Errors
    /// [`KafkaError`] if the settings cannot be, or the threads.
    pub fn start(
        engine: Engine,
        config: KafkaConfig,
        limits: modelog_formats::Limits,
        number: usize,
    ) -> Result<Self, KafkaError> {
        config.check()?;
        let template: ModelTemplate = config
            .kserve_model
            .parse()
            .expect("the settings were checked");
        let options = Options {
            on_error: OnError::Record,
            limits,
            ..Options::default()
        };
        let decoder = Decoder::new(
            config.format,
            options,
            template,
            config.group_id.as_str().into(),
        );
        let consumer: BaseConsumer<Context> = config
            .client(engine.log_id(), number)
            .create_with_context(Context::default())
            .map_err(|source| KafkaError::Client {
                brokers: config.brokers.join(", "),
                source,
            })?;
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(WORKERS_MAX);
        let pipeline = Pipeline::start(engine.clone(), &decoder, config.buffer_bytes / 2, workers)?;
        let name = match number {
            0 => format!("kafka:{}", config.group_id),
            _ => format!("kafka:{}-{number}", config.group_id),
        };
        let shared = Arc::new(Shared::new(name, config.topics.clone()));
        let reader = Reader::new(engine, config, Arc::clone(&shared), consumer, pipeline);
        let reader = std::thread::Builder::new()
            .name("modelog-kafka".into())
            .spawn(move || reader.run())
            .map_err(KafkaError::Thread)?;
        Ok(Self {
            shared,
            reader: Mutex::new(Some(reader)),
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.shared.status().clone()
    }

    /// Ends it: what was read becomes durable, positions are committed, the group is left. Blocks until that is done.
    pub fn stop(&self) {
        self.shared.end();
        let reader = self
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reader) = reader {
            // A thread that panicked has said so.
            let _ = reader.join();
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.stop();
    }
}
