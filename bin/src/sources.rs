//! Where events come from without being sent: the sources of the configuration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use modelog_engine::Engine;
use modelog_engine::sources::SourceStatus;
use modelog_formats::Limits;
use modelog_kafka::{DeadLetters, KafkaSource};

use crate::config::Settings;

/// The running sources.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    kafka: Mutex<Vec<KafkaSource>>,
}

impl Sources {
    /// Starts every source, and what sends on what they reject; none waits for a broker.
    ///
    /// # Errors
    /// What cannot be set up. Those that were started go on until they are [stopped](Self::stop).
    pub(crate) fn start(&self, settings: &Settings, engine: &Engine) -> Result<()> {
        let limits = Limits {
            value_bytes: settings.http.value_bytes,
            event_bytes: settings.http.event_bytes,
            depth: settings.http.depth,
            ..Limits::default()
        };
        for (place, config) in settings.kafka.iter().enumerate() {
            let earlier = settings.kafka[..place].iter();
            let number = earlier
                .filter(|earlier| earlier.group_id == config.group_id)
                .count();
            let source = KafkaSource::start(engine.clone(), config.clone(), limits, number)
                .with_context(|| format!("starting the source kafka[{place}]"))?;
            self.lock().push(source);
        }
        let dead_letters = DeadLetters::of_sources(engine, &settings.kafka)?;
        for projection in dead_letters {
            engine.project(Box::new(projection));
        }
        Ok(())
    }

    /// Where each of them stands.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        self.lock().iter().map(KafkaSource::status).collect()
    }

    /// Ends them: what was read is in the log then, and the brokers know.
    pub(crate) async fn stop(self: &Arc<Self>) {
        let sources = Arc::clone(self);
        let stop = tokio::task::spawn_blocking(move || {
            for source in &*sources.lock() {
                source.stop();
            }
        });
        if let Err(error) = stop.await {
            tracing::error!(%error, "the sources could not be ended");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KafkaSource>> {
        self.kafka.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
