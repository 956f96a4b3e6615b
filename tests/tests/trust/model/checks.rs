//! What is looked at after every act, beside the events themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::{EntityKind, Event, EventLogged};
use modelog_engine::sim::SimStorage;
use modelog_engine::stats::Statistics;
use modelog_engine::{Clock, Engine, LogError, Offset, Timestamp};

use super::events;
use super::place::{HandClock, KEEP};

/// The numbers of names: by kind, model of a version, name.
pub(super) type Numbers = BTreeMap<(&'static str, String, String), u32>;

/// All of a log.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) events: Vec<Event>,
    pub(super) epochs: Vec<u32>,
    times: Vec<Timestamp>,
    batches: Vec<Arc<LoggedBatch>>,
}

/// Reads everything, in pieces of about so many bytes. Offsets are dense; epochs and times do not go back.
pub(super) fn read_all(engine: &Engine, limit_bytes: usize) -> Result<Read, LogError> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut read = Read {
        events: Vec::new(),
        epochs: Vec::new(),
        times: Vec::new(),
        batches: Vec::new(),
    };
    loop {
        let batches = reader.read(limit_bytes)?;
        if batches.is_empty() {
            break;
        }
        for batch in &batches {
            for row in batch.in_order() {
                assert_eq!(
                    row.offset().0,
                    read.events.len() as u64,
                    "offsets are dense"
                );
                let mut event = row.to_event();
                event.time = event.time.filter(|time| *time != row.append_time());
                read.events.push(event);
                read.epochs.push(batch.epoch);
                read.times.push(row.append_time());
            }
        }
        read.batches.extend(batches);
    }
    assert_eq!(
        read.events.len() as u64,
        engine.tail().0,
        "all of it is read"
    );
    assert!(
        read.epochs.is_sorted(),
        "epochs do not go back: {:?}",
        read.epochs
    );
    assert!(
        read.times.is_sorted(),
        "append times do not go back: {:?}",
        read.times
    );
    assert!(read.epochs.last() <= Some(&engine.epoch()));
    Ok(read)
}

/// The statistics are those of a fold over what is read.
pub(super) fn statistics(engine: &Engine, read: &Read) {
    let mut fold = Statistics::default();
    for batch in &read.batches {
        fold.apply(batch, engine.names());
    }
    let tail = engine.tail();
    let found = loop {
        let found = engine.with_statistics(|kept| (kept.offset() >= tail).then(|| kept.encode()));
        match found {
            Some(found) => break found,
            None => std::thread::yield_now(),
        }
    };
    assert!(found == fold.encode(), "statistics are another fold's");
}

/// An event that is like no other.
pub(super) fn plain_event(number: u32) -> Event {
    EventLogged {
        name: format!("event {number}"),
        ..EventLogged::default()
    }
    .into()
}

fn segments(disk: &SimStorage, data: &Path) -> Vec<Offset> {
    let in_log = data.join("log");
    let files = disk.files(&in_log).unwrap().into_iter();
    let mut firsts: Vec<_> = files
        .filter(|path: &PathBuf| path.parent() == Some(&in_log))
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Offset(name[..20].parse().unwrap())
        })
        .collect();
    firsts.sort();
    firsts
}

/// After their time, segments below `cold_end` are gone.
pub(super) fn retired(disk: &SimStorage, data: &Path, engine: &Engine) {
    let segments = segments(disk, data);
    let cold_end = engine.cold_end();
    let needless = segments
        .iter()
        .skip(1)
        .filter(|end| **end <= cold_end)
        .count();
    // Of two that begin at one offset, the first may be empty and the last.
    let tail = engine.tail();
    assert!(
        needless == 0 || segments[needless] >= cold_end.min(tail),
        "segments {segments:?} lie below {cold_end}"
    );
}

/// What is remembered from act to act.
#[derive(Debug, Default)]
pub(super) struct History {
    /// For how long the log was open.
    open: Duration,
    /// Ends of the cold tier, and when they were first seen.
    cold: Vec<(Offset, Duration)>,
    numbers: Numbers,
    /// Where the log ended when it was opened.
    opened: usize,
    /// The newest time an event was stamped with since then, and the monotonic time.
    stamped: Option<(Timestamp, Duration)>,
    /// Since when, at least, the clock has been too far ahead to be followed.
    ahead: Option<Duration>,
}

impl History {
    pub(super) fn passed(&mut self, time: Duration, open: bool) {
        if open {
            self.open += time;
        }
    }

    pub(super) fn jumped(&mut self, clock: &HandClock) {
        self.ahead.get_or_insert(clock.monotonic());
    }

    pub(super) fn opened(&mut self, disk: &SimStorage, data: &Path, engine: &Engine) {
        self.stamped = None;
        self.opened = engine.tail().0 as usize;
        if self.cold.is_empty() {
            // What is there at first is what a restore made: nothing was deleted.
            let first = segments(disk, data).first().copied().unwrap_or_default();
            self.cold
                .push((first.min(engine.cold_end()), Duration::ZERO));
        }
    }

    /// Numbers of names, as far as they are known of a history.
    pub(super) fn numbers(&self) -> Numbers {
        self.numbers.clone()
    }

    /// The log is another one now, of which these numbers are known.
    pub(super) fn restored(&mut self, numbers: Numbers) {
        self.numbers = numbers;
        self.cold.clear();
    }

    /// No segment was deleted that has not been in the cold tier for its time, while the log was open.
    pub(super) fn segments(&mut self, disk: &SimStorage, data: &Path, engine: &Engine) {
        let Some(first) = segments(disk, data).first().copied() else {
            panic!("a log that is open has a segment");
        };
        let old = |(_, since): &&(Offset, Duration)| *since + KEEP <= self.open || since.is_zero();
        let most = self.cold.iter().filter(old).map(|(end, _)| *end).max();
        assert!(
            Some(first) <= most,
            "events before {first} went too early: {:?}",
            self.cold
        );
        let end = engine.cold_end();
        if self.cold.last().is_none_or(|(known, _)| *known < end) {
            self.cold
                .push((end, self.open.max(Duration::from_nanos(1))));
        }
    }

    /// Every name that is said has a number, the one it had.
    pub(super) fn names(&mut self, engine: &Engine, said: &[Event]) {
        let names = engine.names();
        let mut all: BTreeMap<_, u32> = BTreeMap::new();
        for kind in EntityKind::ALL {
            for id in 1..=names.count(kind) {
                let (parent, name) = names.name(kind, id).expect("numbers have no gaps");
                let parent = match parent {
                    0 => String::new(),
                    model => {
                        let model = names.name(EntityKind::Model, model);
                        model.expect("a version has a model").1.to_string()
                    }
                };
                let twice = all.insert((kind.name(), parent, name.to_string()), id);
                assert_eq!(twice, None, "{name} has two numbers");
            }
        }
        let mut numbers = Numbers::new();
        for key in said.iter().flat_map(events::names) {
            let id = all.get(&key);
            let id = *id.unwrap_or_else(|| panic!("{key:?} was said and has no number"));
            if let Some(known) = self.numbers.get(&key) {
                assert_eq!(*known, id, "{key:?} has another number now");
            }
            numbers.insert(key, id);
        }
        self.numbers = numbers;
    }

    /// A clock that jumps forward is not followed before it has stayed there for ten minutes.
    pub(super) fn times(&mut self, read: &Read, clock: &HandClock) {
        let Some(last) = read.times[self.opened..].last().copied() else {
            return;
        };
        let now = clock.monotonic();
        if let Some((before, then)) = self.stamped {
            let passed = now.saturating_sub(then) + Duration::from_secs(60);
            let most = before.micros() + passed.as_micros() as i64 + 1_000_000;
            let patient = self
                .ahead
                .is_none_or(|since| now.saturating_sub(since) >= Duration::from_secs(600));
            assert!(
                last.micros() <= most || patient,
                "{last} follows {before} too soon, after a jump"
            );
            if last.micros() > most {
                self.ahead = None;
            }
        }
        // Time passes without events too.
        if self.stamped.is_none_or(|(before, _)| before != last) {
            self.stamped = Some((last, now));
        }
    }
}
