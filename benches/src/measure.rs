//! Figures, and taking turns.

use std::time::Duration;

use anyhow::Result;
use modelog_engine::{Clock as _, SystemClock};
use serde::Serialize;

/// What was measured, over all repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Figure {
    /// The figure of some values; zero if there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self {
            median: quantile(&values, 0.5),
            least: values.first().copied().unwrap_or_default(),
            greatest: values.last().copied().unwrap_or_default(),
        }
    }

    /// The figure in another unit.
    pub(crate) fn scaled(self, by: f64) -> Self {
        Self {
            median: self.median * by,
            least: self.least * by,
            greatest: self.greatest * by,
        }
    }
}

/// Values of which quantiles are wanted, such as how long each of many callers waited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { sorted: values }
    }

    pub(crate) fn at(&self, share: f64) -> f64 {
        quantile(&self.sorted, share)
    }

    /// So many a second, if they are milliseconds of things done one after the other.
    pub(crate) fn rate(&self) -> f64 {
        self.sorted.len() as f64 * 1e3 / self.sorted.iter().sum::<f64>()
    }
}

/// The value at a share of sorted values, by the nearest rank.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let rank = (share * last as f64).round() as usize;
    sorted.get(rank).copied().unwrap_or_default()
}

/// Measures something and its limit in turns, so that whatever else happens on the machine happens to both.
pub(crate) fn in_turns(
    repetitions: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut limit: impl FnMut() -> Result<f64>,
) -> Result<(Figure, Figure)> {
    let mut values = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        values.1.push(limit()?);
        values.0.push(ours()?);
    }
    Ok((Figure::of(values.0), Figure::of(values.1)))
}

/// How long something takes.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    clock: SystemClock,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            clock: SystemClock::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn millis(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }

    /// So many in the time since the start, per second.
    pub(crate) fn rate(&self, count: usize) -> f64 {
        count as f64 / self.elapsed().as_secs_f64()
    }
}

/// The CPU time of this process, of all its threads: what other load on the machine hardly changes.
#[derive(Debug)]
pub(crate) struct CpuTime {
    start: Duration,
}

impl CpuTime {
    pub(crate) fn start() -> Self {
        Self { start: Self::now() }
    }

    /// Microseconds since the start, for each of so many.
    pub(crate) fn micros_each(&self, count: usize) -> f64 {
        (Self::now() - self.start).as_secs_f64() * 1e6 / count as f64
    }

    fn now() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_values() {
        let figure = Figure::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(
            (figure.median, figure.least, figure.greatest),
            (2.0, 1.0, 3.0)
        );
        assert_eq!(Figure::of(Vec::new()).median, 0.0);
        let hundred: Vec<_> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.99), 99.0);
        let waits = Spread::of(vec![4.0, 1.0, 3.0]);
        assert_eq!((waits.at(0.5), waits.at(1.0)), (3.0, 4.0));
        assert_eq!(waits.rate(), 375.0);
    }

    #[test]
    fn work_takes_cpu_time() {
        let time = CpuTime::start();
        while time.micros_each(10) < 100.0 {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn both_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let note = |letter: char, value| {
            order.borrow_mut().push(letter);
            Ok(value)
        };
        let (ours, limit) = in_turns(3, || note('o', 1.0), || note('l', 2.0)).unwrap();
        assert_eq!((ours.median, limit.median), (1.0, 2.0));
        assert_eq!(*order.borrow(), "lololo");
    }
}
