//! Takes what the `metrics` facade is told.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use modelog_engine::metrics::{Metric, MetricType};

use crate::registry::Registry;

/// A recorder that knows the metrics of the table. Others, which some library may tell of, are not ours to show.
#[derive(Debug)]
pub(crate) struct Recorder {
    registry: Arc<Registry>,
}

impl Recorder {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The metric of a key and its label values in the order of the table, if it is one of ours.
    fn find<'k>(
        &self,
        key: &'k Key,
        fits: impl Fn(MetricType) -> bool,
    ) -> Option<(&'static Metric, Vec<&'k str>)> {
        let metric = self.registry.metric(key.name())?;
        let labels = metric.labels.iter().map(|name| {
            let label = key.labels().find(|label| label.key() == *name);
            label.map_or("", metrics::Label::value)
        });
        let labels: Vec<_> = labels.collect();
        debug_assert!(fits(metric.ty), "`{}` is of another type", metric.name);
        debug_assert!(
            key.labels()
                .all(|label| metric.labels.contains(&label.key())),
            "`{}` has other labels: {key}",
            metric.name
        );
        fits(metric.ty).then_some((metric, labels))
    }
}

impl metrics::Recorder for Recorder {
    // The table describes the metrics.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.find(key, |ty| ty == MetricType::Counter) {
            Some((metric, labels)) => {
                Counter::from_arc(self.registry.counter(metric.name, &labels))
            }
            None => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.find(key, |ty| ty == MetricType::Gauge) {
            Some((metric, labels)) => Gauge::from_arc(self.registry.gauge(metric.name, &labels)),
            None => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.find(key, |ty| matches!(ty, MetricType::Histogram(_))) {
            Some((metric, labels)) => {
                Histogram::from_arc(self.registry.histogram(metric.name, &labels))
            }
            None => Histogram::noop(),
        }
    }
}
