//! Ends of the process at any time: what is read again comes once.

use modelog_engine::Offset;
use modelog_engine::event::Kind;
use proptest::prelude::*;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_finished_is_taken_in_again() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path(), FakeClock::at("2026-11-22T12:00:00Z"));
    for part in 0..4 {
        let running = place.start();
        running.append(all_kinds(part * 10..part * 10 + 10)).await;
        running.taken_in().await;
        assert!(running.store.status().open_rows > 0);
        running.close().await;
        assert_eq!(files(place.parquet()), []);
        assert!(!has_unfinished(place.parquet()));
    }
    let running = place.start();
    assert_eq!(running.flush().await, running.engine.tail());
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_that_are_ahead_of_cold_end_are_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let mut place = Place::new(directory.path(), FakeClock::at("2026-11-22T12:00:00Z"));
    place.config.pending_bytes = 20_000;
    place.config.target_file_bytes = 10_000;
    // A rare kind keeps `cold_end` at the start, while files of the others are finished.
    let running = place.start();
    running.append(of_kind(Kind::EventLogged, 0..1)).await;
    for part in 0..30 {
        running
            .append(of_kind(Kind::MetricLogged, part * 100..part * 100 + 100))
            .await;
    }
    running.taken_in().await;
    let published = files(place.parquet());
    assert!(published.len() > 1);
    assert_eq!(running.engine.cold_end(), Offset::ZERO);
    running.close().await;

    let running = place.start();
    running
        .append(of_kind(Kind::MetricLogged, 3000..3010))
        .await;
    running.flush().await;
    assert_complete(&running.engine, place.parquet());
    let after = files(place.parquet());
    assert!(
        published.iter().all(|file| after.contains(file)),
        "files are final"
    );
    running.close().await;
}

#[derive(Clone, Debug)]
enum Step {
    All(usize),
    One(Kind),
    Flush,
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(event_kinds().collect::<Vec<_>>());
    prop_oneof![
        3 => (1..5_usize).prop_map(Step::All),
        6 => kind.prop_map(Step::One),
        1 => Just(Step::Flush),
        2 => Just(Step::Restart),
        2 => (1..2000_u64).prop_map(Step::Wait),
    ]
}

async fn play(steps: &[Step], pending_bytes: usize, target_file_bytes: u64) {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T22:00:00Z");
    let mut place = Place::new(directory.path(), clock.clone());
    place.config.pending_bytes = pending_bytes;
    place.config.target_file_bytes = target_file_bytes;
    let mut running = place.start();
    let mut number = 0;
    for step in steps {
        match step {
            Step::All(rows) => {
                running.append(all_kinds(number..number + rows)).await;
                number += rows;
            }
            Step::One(kind) => {
                running.append(of_kind(*kind, number..number + 1)).await;
                number += 1;
            }
            Step::Flush => {
                assert_eq!(running.flush().await, running.engine.tail());
            }
            Step::Restart => {
                running.close().await;
                running = place.start();
            }
            Step::Wait(seconds) => clock.advance(std::time::Duration::from_secs(*seconds)),
        }
    }
    running.flush().await;
    assert_complete(&running.engine, place.parquet());
    let manifest = running.store.manifest().unwrap();
    assert_eq!(manifest.files.len(), files(place.parquet()).len());
    running.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_event_is_in_one_file_whatever_happens(
        steps in prop::collection::vec(step(), 1..30),
        pending_bytes in 0..20_000_usize,
        target_file_bytes in 1..20_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(play(&steps, pending_bytes, target_file_bytes));
    }
}
