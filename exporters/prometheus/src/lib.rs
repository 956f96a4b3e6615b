//! Metrics in Prometheus's text format: what the `metrics` facade is told, and the series of models and runs.
//!
//! ```text
//! engine, http ─ metrics facade ─▶ recorder ─┐
//! statistics fold ─ observer ────▶ versions ─┼─▶ registry ─▶ text
//! log from its tail ─────────────▶ runs ─────┘
//! ```
//!
//! The engine's table of metrics ([`modelog_engine::metrics::ALL`]) says which there are; nothing else is shown.
//!
//! # Invariants
//! M1. Counters start at zero when the process does and count what is appended from then on: no replay counts.
//! M2. Events that arrive late ([`is_backfilled`](modelog_engine::metrics::is_backfilled)) stay out of the series of
//!     models and runs.
//! M3. Labels that producers choose are bounded: models and versions by `max_series` and idle time, runs by the same
//!     number and silence.
//! M4. Different labels are different series, whatever characters they hold.
//!
//! # Why not a library
//! The recorder of `metrics-exporter-prometheus` keeps each sample of a histogram until the next scrape, lets series
//! go after one idle time for all of them, and writes `a"b` and `a\"b` as the same label. `prometheus` knows a series by
//! a hash of its label values run together, so that `resnet`, `50v1` and `resnet50`, `v1` are one. With the table given,
//! what is left is a map and a page of text.

mod recorder;
mod registry;
mod runs;
mod series;
#[cfg(test)]
mod testing;
mod versions;

use std::sync::{Arc, OnceLock};

use modelog_engine::metrics::{ALL, BUILD_INFO};
use modelog_engine::{Engine, chain};

use recorder::Recorder;
use registry::Registry;
use runs::Runs;
use versions::Versions;

/// The content type of what [`Exporter::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How much of the log is looked at together, in bytes.
const READ_BYTES: usize = 4 << 20;

/// Settings of the exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// How many pairs of model and version have series of their own; the same number of run metrics is shown.
    pub max_series: usize,
    /// Names of metrics shown of unfinished runs; `*` stands for any text, `?` for any character.
    pub run_metrics: Vec<String>,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            max_series: 200,
            run_metrics: Vec::new(),
        }
    }
}

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    #[error("`prometheus.run_metrics` holds an empty pattern; `*` selects all metrics")]
    EmptyPattern,
    /// The process has a recorder of metrics already.
    #[error("another metrics recorder is installed in this process")]
    Installed,
}

/// The metrics of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exporter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PrometheusConfig,
    registry: Arc<Registry>,
    following: OnceLock<Following>,
}

/// What follows an engine.
#[derive(Debug)]
struct Following {
    versions: Arc<Versions>,
    runs: Option<Arc<Runs>>,
}

impl Exporter {
    /// An exporter that nothing is told yet.
    ///
    /// # Errors
    /// [`ExporterError::EmptyPattern`].
    pub fn new(config: PrometheusConfig) -> Result<Self, ExporterError> {
        if config.run_metrics.iter().any(String::is_empty) {
            return Err(ExporterError::EmptyPattern);
        }
        let registry = Arc::new(Registry::new(ALL));
        registry
            .gauge(BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                registry,
                following: OnceLock::new(),
            }),
        })
    }

    /// An exporter that is told everything the `metrics` facade is told in this process from now on.
    ///
    /// # Errors
    /// [`ExporterError`].
    pub fn install(config: PrometheusConfig) -> Result<Self, ExporterError> {
        let exporter = Self::new(config)?;
        metrics::set_global_recorder(Recorder::new(Arc::clone(&exporter.inner.registry)))
            .map_err(|_| ExporterError::Installed)?;
        Ok(exporter)
    }

    /// Follows an engine from its tail on, with the series of models and runs. An exporter follows one engine: further
    /// calls do nothing.
    ///
    /// # Panics
    /// Outside a tokio runtime, if metrics of runs were asked for.
    pub fn follow(&self, engine: &Engine) {
        let Inner {
            config,
            registry,
            following,
        } = &*self.inner;
        let mut first = false;
        let following = following.get_or_init(|| {
            first = true;
            let runs = (!config.run_metrics.is_empty())
                .then(|| Arc::new(Runs::new(config, registry, engine)));
            Following {
                versions: Arc::new(Versions::new(config.max_series, registry, engine.names())),
                runs,
            }
        });
        if !first {
            return;
        }
        engine.observe(Arc::clone(&following.versions) as _);
        if let Some(runs) = &following.runs {
            tokio::spawn(follow_runs(Arc::clone(runs), engine.reader(engine.tail())));
        }
    }

    /// All metrics as they are now; `engine` sets its gauges first.
    #[must_use]
    pub fn render(&self, engine: &Engine) -> String {
        engine.refresh_gauges();
        if let Some(following) = self.inner.following.get() {
            let now = engine.clock().now();
            following.versions.free_idle(now);
            if let Some(runs) = &following.runs {
                runs.free_silent(now);
            }
        }
        self.inner.registry.render()
    }
}

async fn follow_runs(runs: Arc<Runs>, mut reader: modelog_engine::LogReader) {
    loop {
        match reader.next(READ_BYTES).await {
            Ok(batches) => batches.iter().for_each(|batch| runs.apply(batch)),
            Err(modelog_engine::LogError::Closed) => return,
            Err(error) => {
                tracing::error!(reason = %chain(&error), "metrics of runs cannot follow the log");
                return;
            }
        }
    }
}
