//! Selected metrics of runs that are under way, as gauges: the latest value by (step, time, offset).
//!
//! # Invariants
//! G1. A run that finished has no gauges until it is started again. Runs that finished before the process started are
//!     not known to have; a late value of theirs shows until it falls silent.
//! G2. A gauge of which nothing was heard for [`SILENCE`] is gone.
//! G3. There are at most `max` gauges. What does not fit is not shown, and a warning says so.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use modelog_engine::batch::{LoggedBatch, Row};
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::metrics::{RUN_METRIC, is_backfilled};
use modelog_engine::names::Names;
use modelog_engine::{Engine, Offset, Timestamp};
use wildmatch::WildMatch;

use crate::PrometheusConfig;
use crate::registry::Registry;
use crate::series::Gauge;

/// After this time without a value a gauge is gone.
const SILENCE: Duration = Duration::from_secs(3600);

/// The gauges of all runs.
#[derive(Debug)]
pub(crate) struct Runs {
    max: usize,
    patterns: Vec<WildMatch>,
    registry: Arc<Registry>,
    names: Arc<Names>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By run, then by metric and split.
    runs: HashMap<String, HashMap<(String, String), Shown>>,
    gauges: usize,
    finished: Finished,
    /// Before this time no gauge can have fallen silent.
    silent_from: Option<Timestamp>,
    /// A person was told that there are too many.
    warned: bool,
}

/// A gauge and what it shows.
#[derive(Debug)]
struct Shown {
    gauge: Arc<Gauge>,
    /// Step, time and offset of the value.
    latest: (i64, Timestamp, Offset),
    /// When the log took the last value, older ones included.
    heard: Timestamp,
}

/// A value of a run's metric.
struct Point<'a> {
    run: &'a str,
    metric: &'a str,
    split: &'a str,
    value: f64,
    place: (i64, Timestamp, Offset),
}

impl<'a> Point<'a> {
    fn of(row: Row<'a>) -> Option<Self> {
        const RUN: usize = column(Kind::MetricLogged, "run");
        const NAME: usize = column(Kind::MetricLogged, "name");
        const SPLIT: usize = column(Kind::MetricLogged, "split");
        const VALUE: usize = column(Kind::MetricLogged, "value");
        const STEP: usize = column(Kind::MetricLogged, "step");
        const EPOCH: usize = column(Kind::MetricLogged, "epoch");
        // The step defaults to the epoch, cut off.
        let step = row
            .int(STEP)
            .or_else(|| row.float(EPOCH).map(|epoch| epoch as i64))
            .unwrap_or(0);
        Some(Self {
            run: row.text(RUN)?,
            metric: row.text(NAME)?,
            split: row.text(SPLIT).unwrap_or_default(),
            value: row.float(VALUE)?,
            place: (step, row.time(), row.offset()),
        })
    }
}

impl Runs {
    pub(crate) fn new(
        config: &PrometheusConfig,
        registry: &Arc<Registry>,
        engine: &Engine,
    ) -> Self {
        let pattern = |pattern: &String| WildMatch::new(pattern);
        Self {
            max: config.max_series,
            patterns: config.run_metrics.iter().map(pattern).collect(),
            registry: Arc::clone(registry),
            names: Arc::clone(engine.names()),
            state: Mutex::default(),
        }
    }

    /// Takes over what a batch says of runs.
    pub(crate) fn apply(&self, batch: &LoggedBatch) {
        const KINDS: [Kind; 3] = [Kind::MetricLogged, Kind::RunStarted, Kind::RunFinished];
        let tables = KINDS.iter().filter_map(|kind| batch.table(*kind));
        let mut rows: Vec<_> = tables.flat_map(|table| batch.rows_of(table)).collect();
        rows.sort_unstable_by_key(|row| row.offset());
        let mut state = self.lock();
        for row in rows {
            match row.kind() {
                Kind::MetricLogged => self.show(&mut state, row),
                Kind::RunStarted => {
                    self.set_finished(&mut state, row, column(Kind::RunStarted, "run"), false);
                }
                _ => self.set_finished(&mut state, row, column(Kind::RunFinished, "run"), true),
            }
        }
    }

    fn show(&self, state: &mut State, row: Row<'_>) {
        let Some(point) = Point::of(row) else { return };
        let now = row.append_time();
        let shown = !is_backfilled(row.time(), now)
            && (self.patterns.iter()).any(|pattern| pattern.matches(point.metric))
            && !self.is_finished(state, point.run);
        if !shown {
            return;
        }
        let key = (point.metric.to_owned(), point.split.to_owned());
        let gauges = state.runs.get_mut(point.run);
        if let Some(shown) = gauges.and_then(|gauges| gauges.get_mut(&key)) {
            shown.heard = now;
            if shown.latest <= point.place {
                shown.latest = point.place;
                shown.gauge.set(point.value);
            }
            return;
        }
        if state.gauges >= self.max {
            state.free_silent(&self.registry, now);
        }
        if state.gauges >= self.max {
            if !std::mem::replace(&mut state.warned, true) {
                tracing::warn!(
                    max = self.max,
                    "there are more metrics of runs than `prometheus.max_series`; select fewer"
                );
            }
            return;
        }
        let labels = [point.run, point.metric, point.split];
        let gauge = self.registry.gauge(RUN_METRIC, &labels);
        gauge.set(point.value);
        let shown = Shown {
            gauge,
            latest: point.place,
            heard: now,
        };
        let gauges = state.runs.entry(point.run.to_owned()).or_default();
        gauges.insert(key, shown);
        state.gauges += 1;
    }

    fn is_finished(&self, state: &State, run: &str) -> bool {
        let id = self.names.id(EntityKind::Run, run);
        id.is_some_and(|id| state.finished.contains(id))
    }

    fn set_finished(&self, state: &mut State, row: Row<'_>, run: usize, finished: bool) {
        let Some(run) = row.text(run) else { return };
        if let Some(id) = self.names.id(EntityKind::Run, run) {
            state.finished.set(id, finished);
        }
        if finished && let Some(gauges) = state.runs.remove(run) {
            state.gauges -= gauges.len();
            for (metric, split) in gauges.keys() {
                self.registry.remove(RUN_METRIC, &[run, metric, split]);
            }
        }
    }

    /// Takes out gauges of which nothing was heard.
    pub(crate) fn free_silent(&self, now: Timestamp) {
        self.lock().free_silent(&self.registry, now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn free_silent(&mut self, registry: &Registry, now: Timestamp) {
        if self.silent_from.is_some_and(|from| now < from) {
            return;
        }
        let silent_at = |shown: &Shown| {
            Timestamp::from_micros(shown.heard.micros() + SILENCE.as_micros() as i64)
        };
        self.runs.retain(|run, gauges| {
            gauges.retain(|(metric, split), shown| {
                let keep = silent_at(shown) > now;
                if !keep {
                    registry.remove(RUN_METRIC, &[run, metric, split]);
                    self.gauges -= 1;
                }
                keep
            });
            !gauges.is_empty()
        });
        let shown = self.runs.values().flat_map(HashMap::values);
        self.silent_from = shown.map(silent_at).min();
    }
}

/// Runs that finished, one bit each.
#[derive(Debug, Default)]
struct Finished(Vec<u64>);

impl Finished {
    fn contains(&self, id: u32) -> bool {
        let word = self.0.get(id as usize / 64);
        word.is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn set(&mut self, id: u32, finished: bool) {
        let at = id as usize / 64;
        if at >= self.0.len() {
            if !finished {
                return;
            }
            self.0.resize(at + 1, 0);
        }
        let bit = 1 << (id % 64);
        if finished {
            self.0[at] |= bit;
        } else {
            self.0[at] &= !bit;
        }
    }
}
