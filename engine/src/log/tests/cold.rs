//! A log whose older part only the cold tier holds: nothing that can be asked of it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{append, close, config, copy, parts, plain, prediction, read_all, segments};
use crate::batch::{EventBatch, LoggedBatch};
use crate::event::Event;
use crate::log::inspect::{self, SegmentReader};
use crate::log::segment::SegmentEnd;
use crate::log::{ColdHandle, Log, Parts, lock};
use crate::origin::{Origin, Source};
use crate::{
    AppendOptions, Appended, Clock, ColdFile, ColdSnapshot, ColdTier, Engine, ErrorKind,
    Foundations, LocalStorage, LogError, LogId, Offset, SystemClock, Timestamp,
};

/// History in memory.
#[derive(Debug, Default)]
struct Cellar {
    held: Mutex<(Option<LogId>, Vec<Arc<LoggedBatch>>)>,
}

impl Cellar {
    /// Takes over everything the engine has.
    fn fill(&self, engine: &Engine) {
        let mut reader = engine.reader(Offset::ZERO);
        let mut batches = Vec::new();
        while reader.position() < engine.tail() {
            batches.extend(reader.read(1 << 20).unwrap());
        }
        *self.held.lock().unwrap() = (Some(engine.log_id()), batches);
        engine.cold().advance(engine.tail()).unwrap();
    }

    fn on(self: &Arc<Self>) -> Foundations {
        Foundations {
            cold: Some(Arc::clone(self) as Arc<dyn ColdTier>),
            ..Foundations::default()
        }
    }
}

impl ColdTier for Cellar {
    fn log(&self) -> Option<LogId> {
        self.held.lock().unwrap().0
    }

    fn end(&self) -> Offset {
        let held = self.held.lock().unwrap();
        held.1.last().map_or(Offset::ZERO, |batch| batch.end())
    }

    fn read(&self, from: Offset, _limit: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError> {
        let held = self.held.lock().unwrap();
        let start = held.1.partition_point(|batch| batch.end() <= from);
        Ok(held.1[start..].iter().take(3).map(Arc::clone).collect())
    }

    fn snapshot(&self) -> Result<ColdSnapshot, LogError> {
        Ok(ColdSnapshot {
            directory: PathBuf::new(),
            end: self.end(),
            files: Vec::new(),
            manifest_name: "held".into(),
            manifest: Vec::new(),
        })
    }

    fn check(&self, _copy: &Path, _file: &ColdFile) -> Result<(), LogError> {
        Ok(())
    }
}

/// A clock that a test moves.
#[derive(Debug)]
struct MovedClock(Mutex<(Timestamp, Duration)>);

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

fn produce(engine: &Engine, sequence: u64, events: &[Event]) -> Appended {
    let mut batch = EventBatch::from_events(events).unwrap();
    batch.add_origin(Origin::whole(Source::Producer {
        id: "trainer".into(),
        epoch: 1,
        sequence,
    }));
    engine
        .append_blocking(batch, AppendOptions::default())
        .unwrap()
}

/// A log of several segments, all its sealed ones retired, closed.
fn retired(data: &Path, cellar: &Arc<Cellar>) -> (Vec<Event>, Appended) {
    let mut settings = config(data);
    settings.log.keep_segments = Duration::ZERO;
    let engine = Engine::open_on(settings, cellar.on()).unwrap();
    let first = produce(&engine, 1, &[prediction(0), prediction(1)]);
    for start in (2..2_000).step_by(6) {
        let events: Vec<_> = (start..start + 6).map(prediction).collect();
        append(&engine, &events).unwrap();
    }
    let events = read_all(&engine);
    cellar.fill(&engine);
    engine.seal().unwrap();
    assert!(segments(data).len() > 3);
    assert!(engine.cold().retire().unwrap() > 2);
    assert_eq!(segments(data).len(), 1);
    assert_eq!(engine.cold_end(), engine.tail());
    assert_eq!(read_all(&engine), events);
    close(engine);
    (events, first)
}

#[test]
fn what_segments_no_longer_hold_is_read_from_the_cold_tier() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let (events, first) = retired(directory.path(), &cellar);
    assert_eq!(inspect::verify(directory.path()).unwrap().findings, []);
    fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
    let engine = Engine::open_on(config(directory.path()), cellar.on()).unwrap();
    assert_eq!(read_all(&engine), events);
    assert_eq!(
        produce(&engine, 1, &[prediction(0), prediction(1)]),
        first,
        "a producer's call is remembered"
    );
    let repeat = append(&engine, &[prediction(1_990), prediction(5_000)]).unwrap();
    assert_eq!((repeat.accepted, repeat.duplicates), (1, 1));
    assert_eq!(engine.tail().0, events.len() as u64 + 1);
}

#[test]
fn positions_outlive_segments_without_help_from_the_cold_tier() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let (_, first) = retired(directory.path(), &cellar);
    fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
    for batch in &mut cellar.held.lock().unwrap().1 {
        Arc::make_mut(batch).origins.clear();
    }
    let engine = Engine::open_on(config(directory.path()), cellar.on()).unwrap();
    assert_eq!(produce(&engine, 1, &[prediction(0), prediction(1)]), first);
}

#[test]
fn all_segments_may_go_once_the_log_is_closed_and_cold() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let (events, _) = retired(directory.path(), &cellar);
    for path in segments(directory.path()) {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(inspect::verify(directory.path()).unwrap().findings, []);
    let engine = Engine::open_on(config(directory.path()), cellar.on()).unwrap();
    assert_eq!(read_all(&engine), events);
    assert_eq!(append(&engine, &[prediction(9_000)]).unwrap().accepted, 1);
    close(engine);
    let engine = Engine::open_on(config(directory.path()), cellar.on()).unwrap();
    assert_eq!(engine.tail().0, events.len() as u64 + 1);
    assert_eq!(engine.epoch(), 1, "nothing was lost");
}

#[test]
fn what_the_cold_tier_does_not_hold_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let engine = Engine::open_on(config(directory.path()), cellar.on()).unwrap();
    for start in (0..1_998).step_by(6) {
        let events: Vec<_> = (start..start + 6).map(prediction).collect();
        append(&engine, &events).unwrap();
        if start == 1_200 {
            cellar.fill(&engine);
        }
    }
    close(engine);
    let all = segments(directory.path());
    let cold = inspect::segments(directory.path())
        .unwrap()
        .iter()
        .filter(|segment| segment.sealed && segment.end_offset <= Some(cellar.end()))
        .count();
    assert!(cold > 0 && all.len() > cold + 1);
    for (number, path) in all.iter().enumerate() {
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        fs::remove_file(copied.path().join("log").join(path.file_name().unwrap())).unwrap();
        let opened = Engine::open_on(config(copied.path()), cellar.on());
        match opened {
            Ok(engine) => {
                assert!(number < cold, "segment {number} is not in the cold tier");
                assert_eq!(read_all(&engine).len(), 1_998);
            }
            Err(error) => {
                assert!(
                    number >= cold,
                    "segment {number} is in the cold tier: {error}"
                );
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }
}

#[test]
fn a_cold_tier_that_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    retired(directory.path(), &cellar);
    let open = |cold: &Arc<Cellar>| Engine::open_on(config(directory.path()), cold.on()).map(drop);
    let empty = Arc::new(Cellar::default());
    assert!(matches!(open(&empty), Err(LogError::ColdLost { .. })));
    let none = Engine::open(config(directory.path())).map(drop);
    assert!(matches!(none, Ok(()) | Err(LogError::Missing { .. })));
    let elsewhere = tempfile::tempdir().unwrap();
    let gone = Engine::open_on(config(elsewhere.path()), cellar.on()).map(drop);
    assert!(matches!(gone, Err(LogError::LogGone { .. })));
    cellar.held.lock().unwrap().0 = Some(LogId(uuid::Uuid::from_u128(7)));
    assert!(matches!(open(&cellar), Err(LogError::ForeignCold { .. })));
}

/// InfluxDB and Iggy removed what was nowhere else yet.
#[test]
fn only_what_the_cold_tier_holds_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let mut settings = config(directory.path());
    settings.log.keep_segments = Duration::ZERO;
    let engine = Engine::open_on(settings, cellar.on()).unwrap();
    for id in 0..4 {
        append(&engine, &[prediction(id)]).unwrap();
        engine.seal().unwrap();
        if id == 1 {
            cellar.fill(&engine);
        }
    }
    let deleted = engine.cold().retire().unwrap();
    let events: Vec<_> = (0..4).map(prediction).collect();
    assert_eq!(read_all(&engine), events, "the only copy is gone");
    assert_eq!((deleted, segments(directory.path()).len()), (2, 3));
}

#[test]
fn no_clock_that_jumps_deletes_a_segment() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let day = Duration::from_secs(24 * 60 * 60);
    let start = SystemClock::new().now();
    let clock = Arc::new(MovedClock(Mutex::new((start, Duration::ZERO))));
    let open = || {
        let foundations = Foundations {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..cellar.on()
        };
        Engine::open_on(config(directory.path()), foundations).unwrap()
    };
    let engine = open();
    let events: Vec<_> = (0..100).map(prediction).collect();
    append(&engine, &events).unwrap();
    cellar.fill(&engine);
    engine.seal().unwrap();
    assert_eq!(engine.cold().retire().unwrap(), 0, "it was not cold before");
    let move_by = |wall: i64, monotonic: Duration| {
        let mut moved = clock.0.lock().unwrap();
        moved.0 = Timestamp::from_micros(moved.0.micros() + wall);
        moved.1 += monotonic;
    };
    for years in [3, -6, 10] {
        move_by(
            years * 365 * day.as_micros() as i64,
            Duration::from_secs(60),
        );
        assert_eq!(engine.cold().retire().unwrap(), 0);
    }
    move_by(0, day / 2);
    assert_eq!(engine.cold().retire().unwrap(), 0);
    close(engine);
    // Half a day was counted; time between openings is not.
    move_by(0, day);
    let engine = open();
    assert_eq!(engine.cold().retire().unwrap(), 0);
    move_by(0, day / 4);
    assert_eq!(engine.cold().retire().unwrap(), 0);
    move_by(0, day / 4);
    assert_eq!(engine.cold().retire().unwrap(), 1);
    assert_eq!(read_all(&engine), events);
}

#[test]
fn the_last_segment_stays_while_the_log_is_being_closed() {
    let directory = tempfile::tempdir().unwrap();
    let cellar = Arc::new(Cellar::default());
    let mut settings = config(directory.path());
    settings.log.keep_segments = Duration::ZERO;
    let engine = Engine::open_on(settings.clone(), cellar.on()).unwrap();
    append(&engine, &[prediction(1)]).unwrap();
    cellar.fill(&engine);
    close(engine);
    let parts = Parts {
        cold: Some(Arc::clone(&cellar) as Arc<dyn ColdTier>),
        ..parts()
    };
    let log = Log::open(directory.path(), settings.log, parts).unwrap();
    let handle = ColdHandle::new(Arc::clone(log.shared()));
    // As closing leaves it, a moment before it says that the log is closed.
    let end = log.shared().segments()[0].end();
    lock(&log.shared().manifest).contents.segments[0].end = Some(SegmentEnd {
        offset: end.0,
        position: end.1,
        last_header_crc: 0,
    });
    assert_eq!(handle.retire().unwrap(), 0);
    assert_eq!(segments(directory.path()).len(), 1);
}

#[test]
fn segments_are_read_without_opening_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    for start in (0..1_998).step_by(6) {
        let events: Vec<_> = (start..start + 6).map(prediction).collect();
        append(&engine, &events).unwrap();
    }
    let expected = read_all(&engine);
    let storage = Arc::new(LocalStorage);
    for from in [0, 1, 5, 6, 1_234, 1_997, 1_998] {
        let mut reader = SegmentReader::open(storage.clone(), directory.path()).unwrap();
        assert_eq!((reader.first(), reader.end()), (Offset(0), Offset(1_998)));
        reader.seek(Offset(from));
        let mut found = Vec::new();
        loop {
            let batches = reader.next(10_000).unwrap();
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                let rows = batch.in_order();
                found.extend(
                    rows.into_iter()
                        .filter(|row| row.offset().0 >= from)
                        .map(plain),
                );
            }
        }
        assert_eq!(found, expected[from as usize..]);
    }
}

#[test]
fn a_time_is_found_in_segments() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(MovedClock(Mutex::new((
        Timestamp::parse("2026-11-22T00:00:00Z").unwrap(),
        Duration::ZERO,
    ))));
    let foundations = Foundations {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..Foundations::default()
    };
    let engine = Engine::open_on(config(directory.path()), foundations).unwrap();
    let start = clock.now().micros();
    for second in 0..50 {
        append(
            &engine,
            &[prediction(2 * second), prediction(2 * second + 1)],
        )
        .unwrap();
        let mut moved = clock.0.lock().unwrap();
        moved.0 = Timestamp::from_micros(moved.0.micros() + 1_000_000);
        moved.1 += Duration::from_secs(1);
    }
    let reader = SegmentReader::open(Arc::new(LocalStorage), directory.path()).unwrap();
    let at = |micros| {
        let found = reader.offset_at(Timestamp::from_micros(start + micros));
        found.unwrap()
    };
    assert_eq!(at(-1), Some(Offset(0)));
    assert_eq!(at(0), Some(Offset(2)));
    assert_eq!(at(999_999), Some(Offset(2)));
    assert_eq!(at(1_000_000), Some(Offset(4)));
    assert_eq!(at(1_000_000_000), Some(Offset(100)));
}

#[test]
fn a_log_that_lost_its_end_after_closing_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    append(&engine, &[prediction(1)]).unwrap();
    append(&engine, &[prediction(2)]).unwrap();
    close(engine);
    let path = segments(directory.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    for kept in [bytes.len() - 1, bytes.len() - 64, bytes.len() - 300, 4_500] {
        fs::write(&path, &bytes[..kept]).unwrap();
        let opened = Engine::open(config(directory.path())).map(drop);
        assert!(matches!(opened, Err(LogError::Corrupt { .. })), "{kept}");
    }
    fs::write(&path, &bytes).unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    assert_eq!(engine.tail(), Offset(2));
}
