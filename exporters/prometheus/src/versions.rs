//! Series of models: what the statistics fold counts of each version, from the start of the process on.
//!
//! # Invariants
//! V1. At most `max` versions have series of their own: first come. A version keeps them until nothing was counted for
//!     it for [`IDLE`]; what is counted for others meanwhile goes to `_other` and stays there.
//! V2. What is told late is not counted.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;
use modelog_engine::metrics::{
    LABEL_OVERFLOW, PREDICTION_CONFIDENCE, PREDICTION_CORRECT, PREDICTION_ERRORS,
    PREDICTION_INFERENCE_DURATION, PREDICTION_LABELLED, PREDICTIONS, is_backfilled,
};
use modelog_engine::names::{EntityId, Names};
use modelog_engine::stats::{Fact, LabelFacts, Observation, Observer, PredictionFacts};

use crate::registry::Registry;
use crate::series::{Counter, Histogram};

/// After this time without a count a version's series are freed.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// The label of what has no series of its own.
const OTHER: &str = "_other";

/// The series of all versions.
#[derive(Debug)]
pub(crate) struct Versions {
    max: usize,
    registry: Arc<Registry>,
    names: Arc<Names>,
    overflow: Arc<Counter>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    versions: HashMap<EntityId, Version>,
    /// What was counted for versions without series.
    other: Option<Series>,
    /// Before this time no version can have become idle.
    idle_from: Option<Timestamp>,
}

#[derive(Debug)]
struct Version {
    model: Arc<str>,
    version: Arc<str>,
    series: Series,
    /// When the log took the last event that was counted.
    touched: Timestamp,
}

/// The series of one version.
#[derive(Debug)]
struct Series {
    predictions: Arc<Counter>,
    errors: Arc<Counter>,
    labelled: Arc<Counter>,
    correct: Arc<Counter>,
    inference: Arc<Histogram>,
    confidence: Arc<Histogram>,
}

impl Versions {
    pub(crate) fn new(max: usize, registry: &Arc<Registry>, names: &Arc<Names>) -> Self {
        Self {
            max,
            registry: Arc::clone(registry),
            names: Arc::clone(names),
            overflow: registry.counter(LABEL_OVERFLOW, &[]),
            state: Mutex::default(),
        }
    }

    /// Frees the series of versions that have been idle.
    pub(crate) fn free_idle(&self, now: Timestamp) {
        self.lock().free_idle(&self.registry, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a version series of its own, if there is room.
    fn admit(&self, state: &mut State, id: EntityId, now: Timestamp) {
        if state.versions.len() >= self.max {
            state.free_idle(&self.registry, now);
        }
        if state.versions.len() >= self.max {
            return;
        }
        let named = self.names.name(EntityKind::Version, id);
        let named = named.and_then(|(model, version)| {
            let (_, model) = self.names.name(EntityKind::Model, model)?;
            Some((model, version))
        });
        if let Some((model, version)) = named {
            let series = Series::new(&self.registry, &model, &version);
            let version = Version {
                model,
                version,
                series,
                touched: now,
            };
            state.versions.insert(id, version);
        }
    }
}

impl Observer for Versions {
    fn observe(&self, observation: &Observation) {
        let Observation {
            version,
            time,
            append_time,
            ..
        } = *observation;
        if is_backfilled(time, append_time) {
            return;
        }
        let mut state = self.lock();
        if !state.versions.contains_key(&version) {
            self.admit(&mut state, version, append_time);
        }
        let State {
            versions, other, ..
        } = &mut *state;
        match versions.get_mut(&version) {
            Some(version) => {
                version.touched = append_time;
                version.series.count(&observation.fact);
            }
            None => {
                self.overflow.add(1);
                other
                    .get_or_insert_with(|| Series::new(&self.registry, OTHER, OTHER))
                    .count(&observation.fact);
            }
        }
    }
}

impl State {
    fn free_idle(&mut self, registry: &Registry, now: Timestamp) {
        if self.idle_from.is_some_and(|from| now < from) {
            return;
        }
        let idle_at = |version: &Version| {
            Timestamp::from_micros(version.touched.micros() + IDLE.as_micros() as i64)
        };
        self.versions.retain(|_, version| {
            let keep = idle_at(version) > now;
            if !keep {
                Series::remove(registry, &version.model, &version.version);
            }
            keep
        });
        self.idle_from = self.versions.values().map(idle_at).min();
    }
}

impl Series {
    fn new(registry: &Registry, model: &str, version: &str) -> Self {
        let labels = [model, version];
        Self {
            predictions: registry.counter(PREDICTIONS, &labels),
            errors: registry.counter(PREDICTION_ERRORS, &labels),
            labelled: registry.counter(PREDICTION_LABELLED, &labels),
            correct: registry.counter(PREDICTION_CORRECT, &labels),
            inference: registry.histogram(PREDICTION_INFERENCE_DURATION, &labels),
            confidence: registry.histogram(PREDICTION_CONFIDENCE, &labels),
        }
    }

    fn remove(registry: &Registry, model: &str, version: &str) {
        for name in [
            PREDICTIONS,
            PREDICTION_ERRORS,
            PREDICTION_LABELLED,
            PREDICTION_CORRECT,
            PREDICTION_INFERENCE_DURATION,
            PREDICTION_CONFIDENCE,
        ] {
            registry.remove(name, &[model, version]);
        }
    }

    fn count(&self, fact: &Fact) {
        match fact {
            Fact::Prediction(facts) => self.count_prediction(facts),
            Fact::Label { label, replaced } => self.count_label(label, replaced.as_ref()),
        }
    }

    fn count_prediction(&self, facts: &PredictionFacts) {
        self.predictions.add(1);
        self.errors.add(facts.is_error.into());
        let latency = facts.latency_ms.filter(|ms| ms.is_finite() && *ms >= 0.0);
        if let Some(latency) = latency {
            self.inference.add(latency / 1e3);
        }
        if let Some(confidence) = facts.confidence.filter(|value| value.is_finite()) {
            self.confidence.add(confidence);
        }
    }

    /// A counter cannot take back: feedback that changes its mind counts again.
    fn count_label(&self, label: &LabelFacts, replaced: Option<&LabelFacts>) {
        let before = replaced.and_then(|replaced| replaced.correct);
        if let Some(correct) = label.correct.filter(|correct| before != Some(*correct)) {
            self.labelled.add(1);
            self.correct.add(correct.into());
        }
    }
}
