//! When files are closed.

use std::time::Duration;

use modelog_engine::event::Kind;
use modelog_engine::{Offset, Timestamp};

use crate::support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// First and end of every file of metrics, with its date.
fn metrics(place: &Place) -> Vec<(String, u64, u64)> {
    files(place.parquet())
        .into_iter()
        .filter(|(name, _)| name.kind.name() == "MetricLogged")
        .map(|(name, _)| (name.date.to_string(), name.first.0, name.end.0))
        .collect()
}

fn dated(files: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    files
        .iter()
        .map(|(date, first, end)| ((*date).to_owned(), *first, *end))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_closed_an_hour_after_its_first_event_without_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T12:00:00Z");
    let place = Place::new(directory.path(), clock.clone());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    clock.advance(30 * MINUTE);
    running.append(of_kind(Kind::MetricLogged, 10..20)).await;
    running.append(of_kind(Kind::EventLogged, 0..5)).await;
    running.taken_in().await;
    clock.advance(30 * MINUTE - Duration::from_micros(1));
    // It looks every 20 ms; what is not due stays open.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(files(place.parquet()), []);
    clock.advance(Duration::from_micros(1));
    running
        .until("a file", |_| !metrics(&place).is_empty())
        .await;
    assert_eq!(metrics(&place), dated(&[("2026-11-22", 0, 20)]));
    // Events that came later are still needed.
    running
        .until("cold_end", |running| {
            running.engine.cold_end() == Offset(20)
        })
        .await;
    clock.advance(30 * MINUTE);
    running
        .until("the other file", |running| {
            running.engine.cold_end() == Offset(25)
        })
        .await;
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_closed_when_its_day_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T23:59:00Z");
    let place = Place::new(directory.path(), clock.clone());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.taken_in().await;
    clock.advance(MINUTE);
    running
        .until("a file", |_| !metrics(&place).is_empty())
        .await;
    running.append(of_kind(Kind::MetricLogged, 10..20)).await;
    running.flush().await;
    assert_eq!(
        metrics(&place),
        dated(&[("2026-11-22", 0, 10), ("2026-11-23", 10, 20)])
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_cut_by_its_own_times_when_it_is_taken_in_late() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T22:00:00Z");
    let place = Place::new(directory.path(), clock.clone());
    let (engine, _) = place.open();
    for part in 0..8 {
        let batch = of_kind(Kind::MetricLogged, part * 10..part * 10 + 10);
        engine.append(batch, Default::default()).await.unwrap();
        clock.advance(25 * MINUTE);
    }
    engine.close().await.unwrap();
    drop(engine);
    clock.advance(100 * 24 * 60 * MINUTE);
    let running = place.start();
    running
        .until("cold_end", |running| {
            running.engine.cold_end() == Offset(80)
        })
        .await;
    assert_eq!(
        metrics(&place),
        dated(&[
            // 22:00, 22:25, 22:50
            ("2026-11-22", 0, 30),
            // 23:15, 23:40
            ("2026-11-22", 30, 50),
            // 00:05, 00:30, 00:55
            ("2026-11-23", 50, 80),
        ])
    );
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_closed_when_it_has_grown_to_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let mut place = Place::new(directory.path(), FakeClock::at("2026-11-22T12:00:00Z"));
    place.config.pending_bytes = 20_000;
    place.config.target_file_bytes = 30_000;
    let running = place.start();
    for part in 0..60 {
        running
            .append(of_kind(Kind::MetricLogged, part * 100..part * 100 + 100))
            .await;
    }
    running.taken_in().await;
    let before = metrics(&place);
    assert!(before.len() > 1, "{before:?}");
    running.flush().await;
    let sizes: Vec<_> = files(place.parquet())
        .iter()
        .filter(|(name, _)| name.kind.name() == "MetricLogged")
        .map(|(_, path)| path.metadata().unwrap().len())
        .collect();
    for size in &sizes[..sizes.len() - 1] {
        assert!((30_000..90_000).contains(size), "{sizes:?}");
    }
    // A file ends where a batch does.
    assert!(
        before
            .iter()
            .all(|(_, first, end)| first % 100 == 0 && end % 100 == 0)
    );
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_loses_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T12:00:00Z");
    let place = Place::new(directory.path(), clock.clone());
    let running = place.start();
    let times = [
        "2026-11-22T12:10:00Z",
        "2031-01-01T00:00:00Z",
        "2026-11-22T12:20:00Z",
        "1999-12-31T23:59:59Z",
        "2026-11-23T00:00:01Z",
    ];
    for (part, time) in times.into_iter().enumerate() {
        running
            .append(of_kind(Kind::MetricLogged, part * 10..part * 10 + 10))
            .await;
        running.taken_in().await;
        clock.set(time);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // Set back for good: files are closed by the monotonic clock all the same.
    clock.set("1999-12-31T23:59:59Z");
    running.append(of_kind(Kind::MetricLogged, 50..60)).await;
    running.taken_in().await;
    clock.advance(60 * MINUTE);
    running
        .until("cold_end", |running| {
            running.engine.cold_end() == Offset(60)
        })
        .await;
    assert_complete(&running.engine, place.parquet());
    // The log's times never go back, so days do not either.
    let days: Vec<_> = metrics(&place).into_iter().map(|(date, ..)| date).collect();
    assert!(days.is_sorted(), "{days:?}");
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_nothing_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path(), FakeClock::at("2026-11-22T12:00:00Z"));
    let running = place.start();
    assert_eq!(running.flush().await, Offset::ZERO);
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    assert_eq!(running.flush().await, Offset(10));
    assert_eq!(running.flush().await, Offset(10));
    assert_eq!(metrics(&place), dated(&[("2026-11-22", 0, 10)]));
    let manifest = running.store.manifest().unwrap();
    let times = (
        manifest.files[0].min_append_time,
        manifest.files[0].max_append_time,
    );
    let noon = Timestamp::parse("2026-11-22T12:00:00Z").unwrap();
    assert_eq!(times, (noon, noon));
    running.close().await;
}
