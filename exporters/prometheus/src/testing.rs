//! An engine in a temporary directory, on a clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use modelog_engine::event::Event;
use modelog_engine::{Clock, Engine, Foundations, Timestamp};

/// A clock that stands still unless it is moved.
#[derive(Debug)]
pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed) as u64)
    }
}

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<Hands>,
    _directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hands(AtomicI64::new(1_795_366_800_000_000)));
        let foundations = Foundations {
            clock: Arc::clone(&clock) as _,
            ..Foundations::default()
        };
        let engine = Engine::open_on(directory.path(), foundations).unwrap();
        Self {
            engine,
            clock,
            _directory: directory,
        }
    }

    /// Appends events and waits until they are counted.
    pub(crate) fn log(&self, events: &[Event]) {
        self.engine.append_events_blocking(events).unwrap();
        while self
            .engine
            .with_statistics(|statistics| statistics.offset())
            < self.engine.tail()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The value of a series in a text.
pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(series)?.strip_prefix(' ')?;
        Some(value.parse().unwrap())
    })
}
