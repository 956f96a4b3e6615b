//! The values of series. All may be changed and read by many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that never falls.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl metrics::CounterFn for Counter {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A number, as its bits.
#[derive(Debug)]
pub(crate) struct Gauge(AtomicU64);

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicU64::new(0_f64.to_bits()))
    }
}

impl Gauge {
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, amount: f64) {
        self.0.update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            (f64::from_bits(bits) + amount).to_bits()
        });
    }
}

impl metrics::GaugeFn for Gauge {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        Gauge::set(self, value);
    }
}

/// Counts of values by size.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is larger.
    counts: Box<[AtomicU64]>,
    sum: Gauge,
}

impl Histogram {
    /// `bounds` are the upper bounds of the buckets, ascending.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: Gauge::default(),
        }
    }

    pub(crate) fn add(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.add(value);
    }

    /// The sum of all values.
    pub(crate) fn sum(&self) -> f64 {
        self.sum.value()
    }

    /// Bounds, and how many values lie at or below each; the last bound is infinite.
    pub(crate) fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut below = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            below += count.load(Ordering::Relaxed);
            (bound, below)
        })
    }
}

impl metrics::HistogramFn for Histogram {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{CounterFn as _, GaugeFn as _};

    use super::*;

    #[test]
    fn values_on_a_bound_are_within_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 2.5, f64::INFINITY] {
            histogram.add(value);
        }
        let found: Vec<_> = histogram.cumulated().collect();
        assert_eq!(found, [(1.0, 2), (2.0, 4), (f64::INFINITY, 6)]);
        assert_eq!(histogram.sum(), f64::INFINITY);
    }

    #[test]
    fn counters_never_fall_and_gauges_may() {
        let counter = Counter::default();
        counter.absolute(5);
        counter.absolute(3);
        counter.increment(1);
        assert_eq!(counter.value(), 6);
        let gauge = Gauge::default();
        gauge.increment(2.5);
        gauge.decrement(3.0);
        assert_eq!(gauge.value(), -0.5);
    }
}
