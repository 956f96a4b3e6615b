//! The log on a real disk: what is acknowledged is there again, once, whatever is opened, rolled, cut or repeated.

mod backlog;
mod backup;
mod cold;
mod fold;
mod golden;
mod hostile;
mod lessons;
mod preconditions;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::inspect::{self, Severity};
use super::segment::SEGMENT_HEADER_BYTES;
use super::{Log, Parts, segment};
use crate::batch::{EventBatch, EventBatchBuilder, LoggedBatch, Row};
use crate::event::{
    EntityKind, EntityNamed, Event, Fact, Kind, MetricLogged, ModelCreated, PredictionLogged,
};
use crate::origin::{Origin, Source};
use crate::{
    AppendError, AppendOptions, Appended, Clock, Config, Engine, Foundations, Health, LocalStorage,
    LockGuard, LogError, LogId, Offset, OnConflict, OnCreate, Storage, StorageFile, Timestamp,
};

fn config(path: &Path) -> Config {
    let mut config = Config::new(path);
    config.log.segment_bytes = 16 << 10;
    config.log.reserve_bytes = 0;
    config
}

fn parts() -> Parts {
    let Foundations {
        storage,
        clock,
        cold,
        new_log,
    } = Foundations::default();
    Parts {
        storage,
        clock,
        cold,
        new_log,
    }
}

fn prediction(id: u64) -> Event {
    let prediction = PredictionLogged {
        model: format!("model {}", id % 3),
        version: format!("v{}", id % 2),
        prediction_id: Some(format!("p{id}")),
        confidence: Some(id as f64 / 1000.0),
        ..PredictionLogged::default()
    };
    Event::from(prediction).with_id(format!("e{id}"))
}

fn append(engine: &Engine, events: &[Event]) -> Result<Appended, AppendError> {
    engine.append_blocking(
        EventBatch::from_events(events).unwrap(),
        AppendOptions::default(),
    )
}

/// Everything in the log, without the times the log gave.
fn read_all(engine: &Engine) -> Vec<Event> {
    let mut reader = engine.reader(Offset::ZERO);
    let mut events = Vec::new();
    loop {
        let batches = reader.read(64 << 10).unwrap();
        if batches.is_empty() {
            assert_eq!(events.len() as u64, engine.tail().0, "offsets are dense");
            return events;
        }
        for batch in batches {
            for row in batch.in_order() {
                assert_eq!(row.offset().0, events.len() as u64);
                events.push(plain(row));
            }
        }
    }
}

fn plain(row: Row<'_>) -> Event {
    let mut event = row.to_event();
    event.time = event.time.filter(|time| *time != row.append_time());
    event
}

fn close(engine: Engine) {
    engine.close_blocking().unwrap();
}

/// Copies a data directory as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn segments(data: &Path) -> Vec<PathBuf> {
    inspect::segments(data)
        .unwrap()
        .into_iter()
        .map(|segment| segment.path)
        .collect()
}

#[test]
fn what_was_appended_is_read_again_across_segments_and_openings() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for opening in 0..4_u64 {
        let engine = Engine::open(config(directory.path())).unwrap();
        assert_eq!(read_all(&engine), expected, "opening {opening}");
        for call in 0..20_u64 {
            let first = opening * 100_000 + call * 1000;
            let size = [1, 3, 400][(call % 3) as usize];
            let events: Vec<_> = (first..first + size).map(prediction).collect();
            let appended = append(&engine, &events).unwrap();
            assert_eq!(appended.first, Some(Offset(expected.len() as u64)));
            expected.extend(events);
            assert_eq!(appended.end, Offset(expected.len() as u64));
        }
        assert_eq!(read_all(&engine), expected);
        close(engine);
    }
    assert!(segments(directory.path()).len() > 1, "the log rolled");
    let verified = inspect::verify(directory.path()).unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.events, expected.len() as u64);
}

#[test]
fn a_copy_taken_at_any_moment_opens_with_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(&directory.path().join("live"))).unwrap();
    let mut expected = Vec::new();
    for round in 0..12_u64 {
        let events: Vec<_> = (round * 1000..round * 1000 + 1 + round * 40)
            .map(prediction)
            .collect();
        append(&engine, &events).unwrap();
        expected.extend(events);
        let crashed = directory.path().join(format!("crash{round}"));
        copy(&directory.path().join("live"), &crashed);
        // Twice: recovery leaves what a recovery understands.
        for _ in 0..2 {
            let recovered = Engine::open(config(&crashed)).unwrap();
            assert_eq!(read_all(&recovered), expected, "round {round}");
            drop(recovered);
        }
        let recovered = Engine::open(config(&crashed)).unwrap();
        assert_eq!(append(&recovered, &[prediction(0)]).unwrap().duplicates, 1);
        assert_eq!(recovered.epoch(), 1, "nothing was cut");
        close(recovered);
        assert_eq!(inspect::verify(&crashed).unwrap().findings, []);
    }
}

#[test]
fn a_torn_end_is_cut_off_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(&directory.path().join("live"))).unwrap();
    append(&engine, &[prediction(1), prediction(2)]).unwrap();
    let events: Vec<_> = (10..200).map(prediction).collect();
    append(&engine, &events).unwrap();
    let live = directory.path().join("live");
    let path = segments(&live).pop().unwrap();
    let frames = inspect::frames(&path).unwrap();
    let last = frames.last().unwrap();
    // The last frame loses its end, as if the power had gone while it was written.
    for cut in [
        last.position + 8,
        last.position + 57,
        last.position + last.bytes - 8,
    ] {
        let crashed = directory.path().join(format!("cut{cut}"));
        copy(&live, &crashed);
        let path = segments(&crashed).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[cut as usize..].fill(0);
        fs::write(&path, bytes).unwrap();
        let found = inspect::verify(&crashed).unwrap().findings;
        assert_eq!(found[0].severity, Severity::Torn, "{found:?}");
        let recovered = Engine::open(config(&crashed)).unwrap();
        assert_eq!(recovered.tail(), Offset(2));
        assert_eq!(recovered.epoch(), 2, "what was cut starts a new epoch");
        append(&recovered, &[prediction(3)]).unwrap();
        close(recovered);
        assert_eq!(
            fs::read_dir(crashed.join("log/quarantine"))
                .unwrap()
                .count(),
            1
        );
        let again = Engine::open(config(&crashed)).unwrap();
        assert_eq!(
            read_all(&again),
            [prediction(1), prediction(2), prediction(3)]
        );
    }
}

#[test]
fn damage_to_what_was_synced_is_found_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let engine = Engine::open(config(&live)).unwrap();
    for round in 0..30_u64 {
        let events: Vec<_> = (round * 100..round * 100 + 99).map(prediction).collect();
        append(&engine, &events).unwrap();
    }
    close(engine);
    let paths = segments(&live);
    assert!(paths.len() >= 2, "{paths:?}");
    for path in &paths {
        let sound = fs::read(path).unwrap();
        let step = sound.len() / 40;
        let places = (0..sound.len())
            .step_by(step)
            .chain([0, 9, 4095, 4096, sound.len() - 1]);
        for place in places {
            let mut bytes = sound.clone();
            bytes[place] ^= 1 << (place % 8);
            fs::write(path, &bytes).unwrap();
            let findings = inspect::verify(&live).unwrap().findings;
            assert!(
                findings
                    .iter()
                    .any(|finding| finding.path == *path && finding.severity != Severity::Notice),
                "a flipped bit at {place} of {} was not found: {findings:?}",
                path.display()
            );
        }
        fs::write(path, &sound).unwrap();
    }
    assert_eq!(inspect::verify(&live).unwrap().findings, []);
    // In the middle of the last segment it keeps the log from opening, and nothing is changed.
    let path = paths.last().unwrap();
    let sound = fs::read(path).unwrap();
    let mut bytes = sound.clone();
    let place = SEGMENT_HEADER_BYTES.midpoint(bytes.len());
    bytes[place] ^= 1;
    fs::write(path, &bytes).unwrap();
    match Engine::open(config(&live)) {
        Err(LogError::Corrupt {
            path: found,
            position,
            ..
        }) => {
            assert_eq!(&found, path);
            assert!(position <= place as u64);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(path).unwrap(), bytes);
    // A missing segment too.
    fs::write(path, &sound).unwrap();
    fs::rename(&paths[0], live.join("aside")).unwrap();
    assert!(matches!(
        Engine::open(config(&live)),
        Err(LogError::Corrupt { .. })
    ));
}

#[test]
fn repeats_are_answered_and_not_appended() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    let first = append(&engine, &[prediction(1), prediction(2)]).unwrap();
    assert_eq!((first.accepted, first.duplicates), (2, 0));
    for _ in 0..2 {
        let repeat = append(&engine, &[prediction(2), prediction(3), prediction(3)]);
        let repeat = repeat.unwrap();
        assert!(
            repeat.duplicates >= 2 && repeat.end <= Offset(3),
            "{repeat:?}"
        );
    }
    let mut other = prediction(1);
    if let Fact::PredictionLogged(prediction) = &mut other.fact {
        prediction.confidence = Some(0.5);
    }
    assert_eq!(
        append(&engine, &[prediction(7), other.clone()]),
        Err(AppendError::IdConflict {
            ord: 1,
            event: other.kind(),
            existing: Offset(0)
        })
    );
    let record = AppendOptions {
        id_conflict: OnConflict::Record,
        ..AppendOptions::default()
    };
    let events = [prediction(7), other, prediction(8), prediction(2)];
    let recorded = engine
        .append_blocking(EventBatch::from_events(&events).unwrap(), record)
        .unwrap();
    assert_eq!(
        (recorded.accepted, recorded.rejected, recorded.duplicates),
        (2, 1, 1)
    );
    let all = read_all(&engine);
    assert_eq!(all.len(), 6);
    let Fact::EventRejected(rejected) = &all[4].fact else {
        panic!("{:?}", all[4])
    };
    assert_eq!(rejected.reason, "id_conflict");
    assert_eq!(all[5], prediction(8));
    // Also after opening from segments alone.
    close(engine);
    fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    assert_eq!(
        append(&engine, &[prediction(3), prediction(8)])
            .unwrap()
            .duplicates,
        2
    );
}

#[test]
fn a_conflict_says_where_its_event_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    append(&engine, &[prediction(1)]).unwrap();
    let other = || {
        let mut other = prediction(1);
        if let Fact::PredictionLogged(prediction) = &mut other.fact {
            prediction.confidence = Some(0.5);
        }
        other
    };
    let record = AppendOptions {
        id_conflict: OnConflict::Record,
        ..AppendOptions::default()
    };
    let stretch = |partition, first, next, ord| Origin {
        source: Source::Kafka {
            cluster: "c".into(),
            topic: "t".into(),
            topic_id: None,
            partition,
            first,
            next,
            leader_epoch: -1,
        },
        first_ord: ord,
        rows: 2,
        rejected: 0,
        duplicates: 0,
    };
    let events = [prediction(2), prediction(3), other(), prediction(4)];
    let mut batch = EventBatch::from_events(&events).unwrap();
    batch.add_origin(stretch(0, 0, 2, 0));
    batch.add_origin(stretch(1, 5, 9, 2));
    engine.append_blocking(batch, record).unwrap();
    let mut batch = EventBatch::from_events(&[other()]).unwrap();
    batch.add_origin(Origin::whole(stretch(1, 9, 10, 0).source));
    engine.append_blocking(batch, record).unwrap();
    let told: Vec<_> = read_all(&engine)
        .into_iter()
        .filter_map(|event| match event.fact {
            Fact::EventRejected(rejected) => Some((event.source, rejected.position)),
            _ => None,
        })
        .collect();
    let place = |position: &str| (Some("kafka:c".to_owned()), Some(position.to_owned()));
    assert_eq!(told, [place("t/1/5..9"), place("t/1/9")]);
}

#[test]
fn a_repeated_call_gets_its_first_answer() {
    let directory = tempfile::tempdir().unwrap();
    let call = |engine: &Engine, key: &str, body: u64, events: &[Event]| {
        let mut batch = EventBatch::from_events(events).unwrap();
        batch.add_origin(Origin::whole(Source::Call {
            key: key.into(),
            body,
        }));
        engine.append_blocking(batch, AppendOptions::default())
    };
    let metric = |step| {
        Event::from(MetricLogged {
            name: "loss".into(),
            value: 0.5,
            run: Some("r".into()),
            step: Some(step),
            ..MetricLogged::default()
        })
    };
    let engine = Engine::open(config(directory.path())).unwrap();
    let first = call(&engine, "a", 1, &[metric(1), metric(2)]).unwrap();
    call(&engine, "b", 2, &[metric(3)]).unwrap();
    assert_eq!(call(&engine, "a", 1, &[metric(1), metric(2)]), Ok(first));
    assert_eq!(
        call(&engine, "a", 9, &[metric(4)]),
        Err(AppendError::KeyReused)
    );
    drop(engine);
    let engine = Engine::open(config(directory.path())).unwrap();
    assert_eq!(call(&engine, "a", 1, &[metric(1), metric(2)]), Ok(first));
    assert_eq!(engine.tail(), Offset(3));
}

/// Reads positions of a Kafka partition in which there is no event.
fn pass_over(engine: &Engine, first: i64, next: i64) {
    let mut batch = EventBatch::from_events(&[]).unwrap();
    batch.add_origin(Origin::whole(Source::Kafka {
        cluster: "c".into(),
        topic: "t".into(),
        topic_id: None,
        partition: 0,
        first,
        next,
        leader_epoch: 1,
    }));
    engine
        .append_blocking(batch, AppendOptions::default())
        .unwrap();
}

/// The snapshots of admission.
fn snapshots(data: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(data.join("snapshots")).unwrap();
    let paths = all.map(|entry| entry.unwrap().path());
    let is_of_admission = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("admission-") && name.ends_with(".snap")
    };
    paths.filter(is_of_admission).collect()
}

/// A snapshot that goes as far in events does not know the calls without events that came later.
#[test]
fn calls_without_events_outlive_openings_beside_an_older_snapshot_of_the_same_offset() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    pass_over(&engine, 0, 3);
    append(&engine, &[prediction(1), prediction(2)]).unwrap();
    assert_eq!(engine.seal().unwrap(), Offset(2));
    // The next call gets the snapshot written that was taken before it.
    pass_over(&engine, 3, 5);
    while snapshots(directory.path()).is_empty() {
        std::thread::yield_now();
    }
    let older = snapshots(directory.path()).pop().unwrap();
    let older = (
        older.file_name().unwrap().to_owned(),
        fs::read(older).unwrap(),
    );
    let crashed = tempfile::tempdir().unwrap();
    copy(directory.path(), crashed.path());
    close(engine);
    for (data, is_put_back) in [(&crashed, false), (&directory, false), (&directory, true)] {
        if is_put_back {
            // As if no snapshot had been written at the closing.
            fs::write(data.path().join("snapshots").join(&older.0), &older.1).unwrap();
        }
        for opening in 0..3 {
            let engine = Engine::open(config(data.path())).unwrap();
            let positions: Vec<_> = engine.positions("c").iter().map(|it| it.next).collect();
            assert_eq!(positions, [5], "put back: {is_put_back}, {opening}");
            close(engine);
        }
    }
}

#[test]
fn names_and_creations_outlive_openings() {
    let directory = tempfile::tempdir().unwrap();
    let model = |name: &str, framework: Option<&str>| {
        Event::from(ModelCreated {
            model: name.into(),
            framework: framework.map(str::to_owned),
            ..ModelCreated::default()
        })
    };
    let create = |engine: &Engine, events: &[Event]| {
        let options = AppendOptions {
            create: OnCreate::Refuse,
            ..AppendOptions::default()
        };
        engine.append_blocking(EventBatch::from_events(events).unwrap(), options)
    };
    let engine = Engine::open(config(directory.path())).unwrap();
    append(&engine, &[prediction(5)]).unwrap();
    // A placeholder is filled in, not in conflict.
    assert_eq!(
        create(&engine, &[model("model 2", Some("torch"))])
            .unwrap()
            .accepted,
        1
    );
    close(engine);
    for remove_snapshots in [false, true, false] {
        if remove_snapshots {
            fs::remove_dir_all(directory.path().join("snapshots")).unwrap();
        }
        let engine = Engine::open(config(directory.path())).unwrap();
        let ids = ["model 2", "nobody"].map(|name| engine.names().id(EntityKind::Model, name));
        assert_eq!(ids, [Some(1), None]);
        assert_eq!(engine.names().version_id(1, "v1"), Some(1));
        let repeat = create(&engine, &[model("model 2", Some("torch"))]).unwrap();
        assert_eq!((repeat.accepted, repeat.duplicates), (0, 1));
        assert_eq!(
            create(&engine, &[model("model 2", None)])
                .unwrap()
                .duplicates,
            1
        );
        match create(&engine, &[model("model 2", Some("jax"))]) {
            Err(AppendError::EntityConflict { fields, .. }) => assert_eq!(fields, ["framework"]),
            other => panic!("{other:?}"),
        }
        close(engine);
    }
}

#[test]
fn many_callers_share_frames() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    let callers: Vec<_> = (0..16_u64)
        .map(|caller| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                for call in 0..40 {
                    let id = caller * 1000 + call;
                    let appended = append(&engine, &[prediction(id)]).unwrap();
                    assert_eq!(appended.accepted, 1);
                    assert!(engine.tail() >= appended.end, "acknowledged means durable");
                }
            })
        })
        .collect();
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());
    let mut ids: Vec<_> = read_all(&engine)
        .into_iter()
        .map(|event| event.id.unwrap())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 640);
    close(engine);
    let verified = inspect::verify(directory.path()).unwrap();
    assert_eq!(verified.events, 640);
    assert!(verified.frames < 640, "{} frames", verified.frames);
}

#[test]
fn a_read_is_limited_by_what_it_takes_in_memory() {
    const EVENT_BYTES: usize = 100 << 10;
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.log.segment_bytes = 8 << 20;
    let engine = Engine::open(config.clone()).unwrap();
    let event = Event::from(PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        // In the log this takes next to nothing.
        error: Some("x".repeat(EVENT_BYTES)),
        ..PredictionLogged::default()
    });
    for _ in 0..40 {
        append(&engine, std::slice::from_ref(&event)).unwrap();
    }
    close(engine);
    let engine = Engine::open(config).unwrap();
    let mut reader = engine.reader(Offset::ZERO);
    let mut rows = 0;
    loop {
        let batches = reader.read(4 * EVENT_BYTES).unwrap();
        if batches.is_empty() {
            break;
        }
        assert!(batches.len() <= 4, "{}", batches.len());
        rows += batches.iter().map(|batch| batch.rows).sum::<u32>();
    }
    assert_eq!(rows, 40);
}

#[test]
fn a_reader_stops_at_the_tail_whatever_can_be_read_already() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log::open(directory.path(), config(directory.path()).log, parts()).unwrap();
    let append = |events: std::ops::Range<u64>| {
        let events: Vec<_> = events.map(prediction).collect();
        let batch = EventBatch::from_events(&events).unwrap();
        let done = pollster::block_on(log.append(batch, AppendOptions::default()));
        assert_eq!(u64::from(done.unwrap().accepted), events.len() as u64);
    };
    append(0..4);
    append(4..10);
    // Between a sync and the news of it: the second batch is there, the tail is not.
    let shared = Arc::clone(log.shared());
    let set_tail = |end| shared.tail.send_modify(|tail| tail.offset = Offset(end));
    for recent in [true, false] {
        if !recent {
            super::lock(&shared.recent).batches.clear();
        }
        set_tail(4);
        let mut reader = log.reader(Offset::ZERO);
        let rows = |batches: Vec<Arc<LoggedBatch>>| -> u32 {
            batches.iter().map(|batch| batch.rows).sum()
        };
        assert_eq!(rows(reader.read(1 << 20).unwrap()), 4, "recent: {recent}");
        assert_eq!(reader.position(), Offset(4));
        assert_eq!(rows(reader.read(1 << 20).unwrap()), 0);
        set_tail(10);
        assert_eq!(rows(reader.read(1 << 20).unwrap()), 6);
        assert_eq!(rows(reader.read(1 << 20).unwrap()), 0);
    }
    log.close().unwrap();
}

#[test]
fn names_are_given_by_the_log_alone() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    let named = Event::from(EntityNamed {
        entity_kind: "model".into(),
        entity_id: 7,
        name: "m".into(),
        ..EntityNamed::default()
    });
    let refused = AppendError::Reserved {
        kind: Kind::EntityNamed,
    };
    assert_eq!(append(&engine, &[prediction(1), named]), Err(refused));
    assert_eq!(engine.tail(), Offset(0));
}

#[test]
fn one_process_at_a_time_and_nothing_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    assert!(matches!(
        Engine::open(config(directory.path())),
        Err(LogError::Locked { .. })
    ));
    let reader_end = {
        let mut reader = engine.reader(Offset::ZERO);
        append(&engine, &[prediction(1)]).unwrap();
        pollster::block_on(engine.close()).unwrap();
        assert_eq!(pollster::block_on(reader.next(1 << 20)).unwrap().len(), 1);
        pollster::block_on(reader.next(1 << 20))
    };
    assert!(matches!(reader_end, Err(LogError::Closed)));
    assert_eq!(append(&engine, &[prediction(2)]), Err(AppendError::Closed));
    let mut beyond = engine.reader(Offset(5));
    assert!(matches!(beyond.read(1), Err(LogError::BeyondTail { .. })));
}

#[test]
fn padded_groups_read_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.log.pad_groups = true;
    let engine = Engine::open(config.clone()).unwrap();
    let mut builder = EventBatchBuilder::new();
    builder.push(&prediction(1)).unwrap();
    engine
        .append_blocking(builder.finish(), AppendOptions::default())
        .unwrap();
    append(&engine, &(2..300).map(prediction).collect::<Vec<_>>()).unwrap();
    close(engine);
    let path = segments(directory.path()).pop().unwrap();
    let frames = inspect::frames(&path).unwrap();
    assert!(
        frames[2..].iter().all(|frame| frame.position % 4096 == 0),
        "{frames:?}"
    );
    let engine = Engine::open(config).unwrap();
    assert_eq!(
        read_all(&engine),
        (1..300).map(prediction).collect::<Vec<_>>()
    );
}

/// A clock that stands still.
#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_795_366_800_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The local disk, with as much space as the test says.
#[derive(Debug)]
struct NarrowStorage {
    local: LocalStorage,
    free: AtomicU64,
    /// Fails the next syncs, as many as this says.
    failing_syncs: Arc<AtomicU64>,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct NarrowFile {
    file: Arc<dyn StorageFile>,
    failing_syncs: Arc<AtomicU64>,
    seen: Arc<Seen>,
}

/// What the disk saw of its files, and how it holds up who uses it.
#[derive(Debug, Default)]
struct Seen {
    /// Syncs wait while somebody has this.
    gate: Mutex<()>,
    syncs_begun: AtomicU64,
    /// Writes of the log's writer beyond what had been prepared, but into MANIFEST.
    growing_writes: AtomicU64,
}

impl NarrowStorage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            local: LocalStorage,
            free: AtomicU64::new(u64::MAX / 2),
            failing_syncs: Arc::default(),
            seen: Arc::default(),
        })
    }

    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(NarrowFile {
            file,
            failing_syncs: Arc::clone(&self.failing_syncs),
            seen: Arc::clone(&self.seen),
        })
    }
}

impl Storage for NarrowStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.local.create(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.local.open(path, write).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.local.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.local.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.local.remove_dir(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalStorage.link(from, to)
    }
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        LocalStorage.is_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.local.sync_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.local.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.local.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.local.exists(path)
    }
    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        self.local.lock(path)
    }
    fn network_file_system(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.local.network_file_system(path)
    }
}

impl StorageFile for NarrowFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, slices: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        let end = position + slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        let manifest = slices
            .first()
            .is_some_and(|slice| slice.starts_with(b"MODELOGM"));
        let writer = std::thread::current().name() == Some("modelog-writer");
        if writer && !manifest && end > self.file.len()? {
            self.seen.growing_writes.fetch_add(1, Ordering::SeqCst);
        }
        self.file.write_at(slices, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.seen.syncs_begun.fetch_add(1, Ordering::SeqCst);
        drop(super::lock(&self.seen.gate));
        let fail = |left: u64| left.checked_sub(1);
        match self
            .failing_syncs
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail)
        {
            Ok(_) => Err(io::Error::from_raw_os_error(5)),
            Err(_) => self.file.sync_data(),
        }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

fn open_on(path: &Path, storage: &Arc<NarrowStorage>) -> Engine {
    let storage: Arc<dyn Storage> = Arc::<NarrowStorage>::clone(storage);
    let mut config = config(path);
    config.log.segment_bytes = 16 << 20;
    Engine::open_on(
        config,
        Foundations {
            storage,
            ..Foundations::default()
        },
    )
    .unwrap()
}

#[test]
fn a_full_disk_refuses_undoes_and_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let engine = open_on(directory.path(), &storage);
    append(&engine, &[prediction(0)]).unwrap();
    storage.free.store(0, Ordering::SeqCst);
    let noise = |id: u64| {
        let mut state = id;
        let mut text = String::new();
        while text.len() < 900_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(&format!("{state:x}"));
        }
        let mut event = prediction(id);
        if let Fact::PredictionLogged(prediction) = &mut event.fact {
            prediction.model = format!("model of {id}");
            prediction.error = Some(text);
        }
        event
    };
    let mut written = 1;
    let refused = loop {
        match append(&engine, &[noise(written)]) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::DiskFull);
    assert!(written > 1, "the space prepared before was used");
    assert_eq!(engine.tail(), Offset(written));
    let name = format!("model of {written}");
    assert_eq!(
        engine.names().id(EntityKind::Model, &name),
        None,
        "the name was taken back"
    );
    assert!(matches!(
        engine.health(),
        Health::Refusing(AppendError::DiskFull)
    ));
    assert_eq!(read_all(&engine).len() as u64, written, "reads go on");
    storage.free.store(u64::MAX / 2, Ordering::SeqCst);
    let accepted = loop {
        // The disk is looked at again now and then.
        match append(&engine, &[noise(written)]) {
            Ok(appended) => break appended,
            Err(error) => assert_eq!(error, AppendError::DiskFull),
        }
    };
    assert_eq!(
        (accepted.accepted, accepted.duplicates),
        (1, 0),
        "what was undone is not a duplicate"
    );
    close(engine);
    assert_eq!(inspect::verify(directory.path()).unwrap().findings, []);
}

#[test]
fn a_log_opened_on_a_full_disk_says_so_until_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let engine = open_on(directory.path(), &storage);
    append(&engine, &[prediction(0)]).unwrap();
    close(engine);
    storage.free.store(0, Ordering::SeqCst);
    let engine = open_on(directory.path(), &storage);
    assert!(matches!(
        engine.health(),
        Health::Refusing(AppendError::DiskFull)
    ));
    assert_eq!(
        append(&engine, &[prediction(1)]),
        Err(AppendError::DiskFull)
    );
    assert_eq!(read_all(&engine), [prediction(0)], "reads go on");
    storage.free.store(u64::MAX / 2, Ordering::SeqCst);
    while let Err(error) = append(&engine, &[prediction(1)]) {
        // The disk is looked at again now and then.
        assert_eq!(error, AppendError::DiskFull);
    }
    assert_eq!(read_all(&engine), [prediction(0), prediction(1)]);
}

#[test]
fn a_failed_sync_poisons_and_opening_again_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let storage = NarrowStorage::new();
    let engine = open_on(directory.path(), &storage);
    append(&engine, &[prediction(0)]).unwrap();
    storage.failing_syncs.store(1, Ordering::SeqCst);
    let outcome = append(&engine, &[prediction(1)]);
    assert!(
        matches!(outcome, Err(AppendError::OutcomeUnknown { .. })),
        "{outcome:?}"
    );
    let refused = append(&engine, &[prediction(2)]);
    assert!(
        matches!(refused, Err(AppendError::Poisoned { .. })),
        "{refused:?}"
    );
    assert_eq!(
        read_all(&engine),
        [prediction(0)],
        "what may be lost is not shown, what is durable is"
    );
    drop(engine);
    let engine = open_on(directory.path(), &storage);
    // Whether the call of unknown outcome is there or not, repeating it makes it once.
    append(&engine, &[prediction(1)]).unwrap();
    assert_eq!(read_all(&engine), [prediction(0), prediction(1)]);
}

#[test]
fn the_append_time_never_goes_back_nor_far_ahead() {
    use super::append_clock::AppendClock;
    let second = |at: i64| Timestamp::from_micros(1_795_366_800_000_000 + at * 1_000_000);
    let mut clock = AppendClock::new(second(0));
    let since = |seconds| Duration::from_secs(seconds);
    assert_eq!(clock.stamp(second(10), since(0)), second(10));
    assert_eq!(clock.stamp(second(5), since(1)), second(10), "not back");
    assert_eq!(clock.stamp(second(12), since(2)), second(12));
    let year = 31_536_000;
    assert_eq!(
        clock.stamp(second(12 + 80 * year), since(3)),
        second(13),
        "not eighty years ahead"
    );
    assert_eq!(clock.stamp(second(14), since(4)), second(14));
    assert_eq!(clock.stamp(second(7200), since(5)), second(15));
    assert_eq!(
        clock.stamp(second(7800), since(605)),
        second(7800),
        "a clock that stays is followed"
    );
}
