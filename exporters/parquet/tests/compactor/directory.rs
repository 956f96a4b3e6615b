//! What else a directory may hold, and whose it is.

use std::fs;
use std::path::Path;

use modelog_engine::event::Kind;
use modelog_engine::{Offset, ProjectionState};
use modelog_parquet::ParquetError;

use crate::support::*;

fn place(directory: &Path) -> Place {
    Place::new(directory, FakeClock::at("2026-11-22T12:00:00Z"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_a_crash_are_removed_and_the_rest_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    running.append(of_kind(Kind::MetricLogged, 10..20)).await;
    running.flush().await;
    running.close().await;

    let day = place.parquet().join("kind=MetricLogged/date=2026-11-22");
    let name = |first: u64, end: u64| day.join(format!("{first:020}-{end:020}.parquet"));
    // As if the crash had come before the manifest.
    let orphan = name(20, 25);
    fs::copy(name(10, 20), &orphan).unwrap();
    let unfinished = day.join(".00000000000000000020.tmp");
    fs::write(&unfinished, b"PAR1").unwrap();
    let foreign = [
        // Ours, but of what the manifest holds: nobody knows why it is there.
        name(0, 5),
        // Not ours, though named like ours.
        name(25, 30),
        day.join("notes.txt"),
        day.join("mine.tmp"),
        place
            .parquet()
            .join("kind=Unheard/date=2026-11-22/x.parquet"),
        place.parquet().join("README"),
    ];
    for path in &foreign {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(name(0, 10), path).unwrap();
    }
    fs::write(name(25, 30), b"this is no Parquet file").unwrap();

    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 20..30)).await;
    running.taken_in().await;
    assert!(!orphan.exists());
    assert!(!unfinished.exists());
    let mut expected = foreign.to_vec();
    expected.sort();
    let mut reported = running.store.status().foreign;
    reported.sort();
    assert_eq!(reported, expected);
    assert!(foreign.iter().all(|path| path.exists()));
    for path in &foreign {
        fs::remove_file(path).unwrap();
    }
    running.flush().await;
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_another_log_is_no_leftover() {
    let [one, other] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    for directory in [&one, &other] {
        let running = place(directory.path()).start();
        running.append(of_kind(Kind::MetricLogged, 0..10)).await;
        running.flush().await;
        running.close().await;
    }
    let file =
        "kind=MetricLogged/date=2026-11-22/00000000000000000000-00000000000000000010.parquet";
    let strange =
        "kind=MetricLogged/date=2026-11-22/00000000000000000010-00000000000000000020.parquet";
    let strange = one.path().join("parquet").join(strange);
    fs::copy(other.path().join("parquet").join(file), &strange).unwrap();
    let running = place(one.path()).start();
    running.flush().await;
    assert_eq!(
        running.store.status().foreign,
        std::slice::from_ref(&strange)
    );
    assert!(strange.exists());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_log_is_refused() {
    let [one, other] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let theirs = place(one.path());
    let running = theirs.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    running.close().await;

    // The log refuses to be opened above it; without telling it, the compactor refuses.
    let mut ours = place(other.path());
    ours.config.path = theirs.config.path.clone();
    let store = modelog_parquet::ParquetStore::open(
        ours.config.clone(),
        ours.storage.clone(),
        ours.clock.clone(),
    )
    .unwrap();
    let engine = modelog_engine::Engine::open(other.path()).unwrap();
    let mut compactor = store.projection(engine.cold());
    let error = modelog_engine::projection::Projection::open(&mut compactor)
        .await
        .unwrap_err();
    let reason = modelog_engine::chain(&error);
    assert!(reason.contains("holds the history of log"), "{reason}");
    drop(compactor);
    let running = theirs.start();
    assert_complete(&running.engine, theirs.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_belongs_to_one_log_from_its_first_opening() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    assert_eq!(running.flush().await, Offset::ZERO);
    assert_eq!(
        running.store.manifest().unwrap().log,
        running.engine.log_id()
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_not_taken_for_leftovers_when_the_manifest_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    let (log, cold_end) = (running.engine.log_id(), running.engine.cold_end());
    let handle = running.engine.cold();
    let manifest = place.parquet().join("_manifest.json");
    let content = fs::read(&manifest).unwrap();
    running.close().await;
    let before = files(place.parquet());
    assert_eq!((handle.log_id(), handle.cold_end()), (log, cold_end));

    // The log itself refuses to open above it. So does a compactor that is asked all the same.
    fs::remove_file(&manifest).unwrap();
    let store = modelog_parquet::ParquetStore::open(
        place.config.clone(),
        place.storage.clone(),
        place.clock.clone(),
    )
    .unwrap();
    let mut compactor = store.projection(handle);
    let error = modelog_engine::projection::Projection::open(&mut compactor)
        .await
        .unwrap_err();
    let reason = modelog_engine::chain(&error);
    assert!(
        reason.contains("up to offset 0, the log has recorded 10"),
        "{reason}"
    );
    drop(compactor);
    assert_eq!(files(place.parquet()), before, "nothing was removed");
    fs::write(&manifest, content).unwrap();
    let running = place.start();
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_compactor() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    let mut second = running.store.projection(running.engine.cold());
    let error = modelog_engine::projection::Projection::open(&mut second)
        .await
        .unwrap_err();
    assert!(modelog_engine::chain(&error).contains("is being written by"));
    drop(second);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_compactor_nothing_can_be_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let (engine, store) = place.open();
    assert!(matches!(
        store.flush().await,
        Err(ParquetError::NotRunning { .. })
    ));
    let compactor = store.projection(engine.cold());
    drop(compactor);
    assert!(matches!(
        store.flush().await,
        Err(ParquetError::NotRunning { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_missing_or_cut_short_are_told_at_opening() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    running.close().await;
    let open = || {
        modelog_parquet::ParquetStore::open(
            place.config.clone(),
            place.storage.clone(),
            place.clock.clone(),
        )
    };
    let (_, path) = files(place.parquet()).remove(0);
    let content = fs::read(&path).unwrap();
    fs::write(&path, &content[..content.len() - 1]).unwrap();
    assert!(matches!(open(), Err(ParquetError::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(), Err(ParquetError::Missing { .. })));
    fs::write(&path, &content).unwrap();
    open().unwrap();
    fs::write(place.parquet().join("_manifest.json"), b"{}").unwrap();
    assert!(matches!(open(), Err(ParquetError::Manifest { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_lost_while_serving_stops_the_compactor_at_its_next_opening() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    running.close().await;
    let (engine, store) = place.open();
    fs::remove_file(files(place.parquet()).remove(0).1).unwrap();
    let mut compactor = store.projection(engine.cold());
    let error = modelog_engine::projection::Projection::open(&mut compactor)
        .await
        .unwrap_err();
    assert!(modelog_engine::chain(&error).contains("yet missing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_the_compactor_is_told_by_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    fs::create_dir_all(place.parquet()).unwrap();
    fs::write(place.parquet().join("_lock"), b"").unwrap();
    let running = place.start();
    running.append(of_kind(Kind::MetricLogged, 0..10)).await;
    running.flush().await;
    running.close().await;
    // Another manifest while the log is about to be opened: the store has read the right one.
    let manifest = place.parquet().join("_manifest.json");
    let content = fs::read(&manifest).unwrap();
    let guard = tempfile::tempdir().unwrap();
    let mut other = place.clone();
    other.data = guard.path().to_path_buf();
    other.config.path = guard.path().join("parquet");
    fs::create_dir_all(other.parquet()).unwrap();
    let newer = String::from_utf8(content)
        .unwrap()
        .replace("\"format\":1", "\"format\":9");
    let (engine, store) = other.open();
    fs::write(other.parquet().join("_manifest.json"), newer).unwrap();
    let projection = engine.project(Box::new(store.projection(engine.cold())));
    let running = Running {
        engine,
        store,
        projection,
    };
    running
        .until("a stop", |running| {
            running.projection.status().state == ProjectionState::Stopped
        })
        .await;
    let reason = running.projection.status().last_error.unwrap();
    assert!(reason.contains("use a newer modelog"), "{reason}");
    assert_eq!(running.store.status().last_error, Some(reason));
    let flushed = running.store.flush().await;
    assert!(matches!(flushed, Err(ParquetError::NotRunning { .. })));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever_for_a_log_that_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at("2026-11-22T12:00:00Z");
    let place = Place::new(directory.path(), clock.clone());
    let (engine, store) = place.open();
    let mut driven = Driven {
        engine: &engine,
        compactor: store.projection(engine.cold()),
    };
    driven.catch_up().await.unwrap();
    // A long silence while there was nothing to hand over is none.
    clock.advance(std::time::Duration::from_secs(100));
    let batch = of_kind(Kind::MetricLogged, 0..10);
    engine.append(batch, Default::default()).await.unwrap();
    let flushing = tokio::spawn({
        let store = store.clone();
        async move { store.flush().await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!flushing.is_finished());
    driven.catch_up().await.unwrap();
    assert_eq!(flushing.await.unwrap().unwrap(), Offset(10));

    let batch = of_kind(Kind::MetricLogged, 10..20);
    engine.append(batch, Default::default()).await.unwrap();
    let flushing = tokio::spawn(async move { store.flush().await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!flushing.is_finished());
    clock.advance(std::time::Duration::from_secs(61));
    let error = flushing.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("hands nothing over"), "{error}");
}
