//! What the crash tests share: a clock, events, a log on a simulated disk, and what must be in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::{
    EntityKind, Event, FeedbackLogged, MetricLogged, ModelCreated, PredictionLogged, RunStarted,
};
use modelog_engine::origin::{Origin, Source};
use modelog_engine::sim::{History, SimStorage};
use modelog_engine::{
    AppendError, AppendOptions, Appended, Clock, Config, Engine, Foundations, LogError, LogId,
    Offset, Timestamp,
};

/// A clock that stands where it is put: what is appended does not depend on when a test runs.
#[derive(Debug)]
pub(crate) struct HandClock {
    pub(crate) now: AtomicI64,
    monotonic_secs: AtomicU64,
}

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            now: AtomicI64::new(1_795_366_800_000_000),
            monotonic_secs: AtomicU64::new(0),
        })
    }

    /// Lets time pass that the time of day knows nothing of.
    pub(crate) fn pass(&self, time: Duration) {
        self.monotonic_secs
            .fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic_secs.load(Ordering::SeqCst))
    }
}

/// Whether the long versions are wanted.
pub(crate) fn full() -> bool {
    std::env::var_os("MODELOG_TESTS_FULL").is_some()
}

/// What of these I/Os `MODELOG_TESTS_PART` asks for: `2/5` is each fifth of them from the second on. A long version that takes
/// hours can be run in parts, and in several processes at once.
///
/// # Panics
///
/// If it says anything else than a part of a whole.
pub(crate) fn part(points: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (part, of) = std::env::var("MODELOG_TESTS_PART").map_or((1, 1), |asked| {
        asked
            .split_once('/')
            .and_then(|(part, of)| Some((part.parse::<usize>().ok()?, of.parse().ok()?)))
            .filter(|(part, of)| (1..=*of).contains(part))
            .unwrap_or_else(|| panic!("MODELOG_TESTS_PART is {asked}, and not like 2/5"))
    });
    points.skip(part - 1).step_by(of)
}

/// Where to crash: everywhere in an optimised build, at every so many I/Os otherwise.
pub(crate) fn crash_points(history: &History) -> impl Iterator<Item = u64> {
    let step = if cfg!(debug_assertions) && !full() {
        11
    } else {
        1
    };
    part(history.crash_points().step_by(step))
}

/// Says which crash it was if the test fails while this lives.
#[derive(Debug)]
pub(crate) struct Replayable(pub(crate) String);

impl Drop for Replayable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}", self.0);
        }
    }
}

pub(crate) fn data() -> PathBuf {
    "/var/data".into()
}

pub(crate) fn config() -> Config {
    let mut config = Config::new(data());
    config.log.segment_bytes = 16 << 10;
    config.log.reserve_bytes = 0;
    config
}

/// A disk with the directory the data directory is made in.
pub(crate) fn disk(seed: u64) -> SimStorage {
    use modelog_engine::Storage as _;
    let disk = SimStorage::new(seed);
    disk.create_dir_all(Path::new("/var")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

pub(crate) fn foundations(disk: &SimStorage) -> Foundations {
    Foundations {
        storage: disk.storage(),
        clock: HandClock::new(),
        new_log: LogId(uuid::Uuid::from_u128(7)),
        ..Foundations::default()
    }
}

pub(crate) fn open_with(disk: &SimStorage, config: Config) -> Result<Engine, LogError> {
    Engine::open_on(config, foundations(disk))
}

pub(crate) fn open(disk: &SimStorage) -> Result<Engine, LogError> {
    open_with(disk, config())
}

/// Text that does not compress.
pub(crate) fn noise(seed: u64, len: usize) -> String {
    let mut state = seed;
    let mut text = String::new();
    while text.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:012x}", state >> 16));
    }
    text
}

pub(crate) fn prediction(id: u64, noise_bytes: usize) -> Event {
    let prediction = PredictionLogged {
        model: format!("model {}", id % 3),
        version: format!("v{}", id % 2),
        prediction_id: Some(format!("p{id}")),
        confidence: Some(id as f64 / 1000.0),
        inference_time_ms: Some(1.0 + id as f64),
        predicted_class: Some(noise(id, noise_bytes)),
        ..PredictionLogged::default()
    };
    identified(prediction.into(), id, format!("e{id}"))
}

/// An event with an id and a time of its own, so that nothing about it depends on when the log takes it.
fn identified(mut event: Event, number: u64, id: String) -> Event {
    event.time = Some(Timestamp::from_micros(
        1_795_000_000_000_000 + number as i64,
    ));
    event.with_id(id)
}

fn others(id: u64) -> Vec<Event> {
    let model = ModelCreated {
        model: format!("model {}", id % 3),
        framework: Some("torch".into()),
        ..ModelCreated::default()
    };
    let run = RunStarted {
        run: format!("run {id}"),
        ..RunStarted::default()
    };
    let metric = MetricLogged {
        run: Some(format!("run {id}")),
        name: "loss".into(),
        value: 0.5,
        step: Some(id as i64),
        ..MetricLogged::default()
    };
    let feedback = FeedbackLogged {
        prediction_id: format!("p{}", id % 7),
        ..FeedbackLogged::default()
    };
    let facts: [Event; 4] = [model.into(), run.into(), metric.into(), feedback.into()];
    let named = |(number, event)| identified(event, id, format!("o{id}-{number}"));
    facts.into_iter().enumerate().map(named).collect()
}

/// Calls of one producer, each with its sequence: large ones that roll segments, small ones, ones of other kinds.
pub(crate) fn calls() -> Vec<Vec<Event>> {
    let mut calls = Vec::new();
    for call in 0..14_u64 {
        let first = call * 100;
        calls.push(match call % 4 {
            0 => vec![prediction(first, 10)],
            1 => others(first),
            2 => (first..first + 30).map(|id| prediction(id, 1000)).collect(),
            _ => (first..first + 5).map(|id| prediction(id, 3000)).collect(),
        });
    }
    calls
}

pub(crate) fn append(
    engine: &Engine,
    sequence: u64,
    events: &[Event],
) -> Result<Appended, AppendError> {
    let mut batch = EventBatch::from_events(events).unwrap();
    batch.add_origin(Origin::whole(Source::Producer {
        id: "producer".into(),
        epoch: 1,
        sequence,
    }));
    engine.append_blocking(batch, AppendOptions::default())
}

/// Everything in the log, in order; offsets are dense.
pub(crate) fn read_all(engine: &Engine) -> Result<Vec<Event>, LogError> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut events = Vec::new();
    loop {
        let batches = reader.read(64 << 10)?;
        if batches.is_empty() {
            assert_eq!(events.len() as u64, engine.tail().0, "offsets are dense");
            return Ok(events);
        }
        for batch in batches {
            for row in batch.in_order() {
                assert_eq!(row.offset().0, events.len() as u64, "offsets are dense");
                let mut event = row.to_event();
                event.time = event.time.filter(|time| *time != row.append_time());
                events.push(event);
            }
        }
    }
}

/// What a log must hold after its first so many calls: worked out by a log that nothing ever happened to.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) calls: Vec<Vec<Event>>,
    states: Vec<State>,
}

#[derive(Debug, PartialEq)]
struct State {
    statistics: Vec<u8>,
    names: Vec<(EntityKind, u32, String)>,
}

fn state(engine: &Engine) -> State {
    let tail = engine.tail();
    let statistics = loop {
        let found = engine.with_statistics(|s| (s.offset() == tail).then(|| s.encode()));
        match found {
            Some(found) => break found,
            None => std::thread::yield_now(),
        }
    };
    let names = engine.names();
    let mut all = Vec::new();
    for kind in EntityKind::ALL {
        for id in 1..=names.count(kind) {
            let (parent, name) = names
                .name(kind, id)
                .expect("names are numbered without holes");
            all.push((kind, id, format!("{parent} {name}")));
        }
    }
    State {
        statistics,
        names: all,
    }
}

impl Expected {
    pub(crate) fn new(calls: Vec<Vec<Event>>) -> Self {
        let engine = open(&disk(0)).unwrap();
        let mut states = vec![state(&engine)];
        for (sequence, call) in calls.iter().enumerate() {
            append(&engine, sequence as u64, call).unwrap();
            states.push(state(&engine));
        }
        Self { calls, states }
    }

    /// How many events the first so many calls have.
    pub(crate) fn events(&self, calls: usize) -> u64 {
        self.calls[..calls].iter().map(Vec::len).sum::<usize>() as u64
    }

    /// Asserts that a log holds whole calls from the first on, at least and at most so many; and what follows from them.
    /// Answers how many.
    pub(crate) fn check(&self, engine: &Engine, least: usize, most: usize) -> usize {
        let found = read_all(engine).unwrap();
        let mut ends = Vec::from([0]);
        for call in &self.calls {
            ends.push(ends.last().unwrap() + call.len());
        }
        let recovered = ends.iter().position(|end| *end == found.len());
        let recovered =
            recovered.unwrap_or_else(|| panic!("a call is there in part: {}", found.len()));
        assert!(
            recovered >= least,
            "lost what was acknowledged: {recovered} of {least} calls"
        );
        assert!(
            recovered <= most,
            "invented: {recovered} calls, {most} were submitted"
        );
        assert!(
            found.iter().eq(self.calls[..recovered].iter().flatten()),
            "other events"
        );
        assert_eq!(
            state(engine),
            self.states[recovered],
            "after {recovered} calls"
        );
        recovered
    }

    /// Lets the producer say everything again: what is there is not taken twice, what is missing is taken.
    pub(crate) fn repeat_all(&self, engine: &Engine) {
        for (sequence, call) in self.calls.iter().enumerate() {
            let batch = EventBatch::from_events(call).unwrap();
            let appended = engine.append_blocking(batch, AppendOptions::default());
            let appended = appended.unwrap_or_else(|error| panic!("call {sequence}: {error}"));
            assert_eq!(
                (appended.accepted + appended.duplicates) as usize,
                call.len()
            );
        }
        self.check(engine, self.calls.len(), self.calls.len());
    }
}
