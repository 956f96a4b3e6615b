//! What is in the files, as the `parquet` crate reads them.

use std::fs::File;

use modelog_engine::batch::EventBatchBuilder;
use modelog_engine::event::Kind;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{LocalStorage, Offset};
use modelog_parquet::manifest::Manifest;
use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::support::*;

fn place(directory: &tempfile::TempDir) -> Place {
    Place::new(directory.path(), FakeClock::at("2026-11-22T12:00:00Z"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_of_every_kind_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(&directory);
    let running = place.start();
    running.append(all_kinds(0..100)).await;
    // Batches of one row, too.
    for number in 100..130 {
        running
            .append(of_kind(Kind::PredictionLogged, number..number + 1))
            .await;
    }
    let mut with_origin = all_kinds(200..201);
    with_origin.add_origin(Origin::whole(Source::Call {
        key: "k".into(),
        body: u64::MAX,
    }));
    running.append(with_origin).await;
    let cold_end = running.flush().await;

    assert_eq!(cold_end, running.engine.tail());
    assert_eq!(running.engine.cold_end(), cold_end);
    assert_complete(&running.engine, place.parquet());
    assert!(!has_unfinished(place.parquet()));
    let status = running.store.status();
    assert_eq!(
        (status.cold_end, status.open_rows, status.open_bytes),
        (cold_end, 0, 0)
    );
    assert_eq!((status.last_error, status.foreign), (None, vec![]));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_says_what_files_are() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(&directory);
    let running = place.start();
    running.append(all_kinds(0..10)).await;
    running.flush().await;
    running.append(all_kinds(10..20)).await;
    running.flush().await;

    let manifest = Manifest::load(&LocalStorage, place.parquet())
        .unwrap()
        .unwrap();
    assert_eq!(manifest.log, running.engine.log_id());
    assert_eq!(manifest.epoch, running.engine.epoch());
    assert_eq!(manifest.cold_end, running.engine.tail());
    let on_disk = files(place.parquet());
    assert_eq!(manifest.files.len(), on_disk.len());
    // Two files of each kind of event and of names; the rows have no origin.
    assert_eq!(on_disk.len(), 2 * event_kinds().count() + 1);
    let events = manifest.files.iter().filter(|file| file.kind.is_events());
    let rows: u64 = events.map(|file| file.rows).sum();
    assert_eq!(Offset(rows), running.engine.tail());
    for (entry, (name, path)) in manifest.files.iter().zip(on_disk) {
        assert_eq!(
            (entry.kind, entry.first, entry.end),
            (name.kind, name.first, name.end)
        );
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, entry.bytes);
        assert_eq!(
            modelog_parquet::manifest::Sha256Sum::of(&content),
            entry.sha256
        );
    }
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn footers_and_columns_are_what_readers_need() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(&directory);
    let running = place.start();
    running.append(all_kinds(0..50)).await;
    running.flush().await;
    for (name, path) in files(place.parquet()) {
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let metadata = reader.metadata();
        let mut footer: Vec<_> = metadata
            .file_metadata()
            .key_value_metadata()
            .unwrap()
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.clone().unwrap()))
            .collect();
        footer.sort();
        let expected = [
            ("modelog.kind", name.kind.name().to_owned()),
            ("modelog.log", running.engine.log_id().to_string()),
            ("modelog.schema", "1".to_owned()),
        ];
        assert_eq!(
            footer, expected,
            "and no Arrow schema, over which old readers stumble"
        );
        for group in metadata.row_groups() {
            for column in group.columns() {
                let what = format!("{}.{}", name.kind, column.column_path());
                assert!(
                    matches!(column.compression(), Compression::ZSTD(_)),
                    "{what}"
                );
                assert!(column.statistics().is_some(), "{what}");
                assert!(column.offset_index_offset().is_some(), "{what}");
                let looked_up = ["id", "prediction_id", "run"];
                assert_eq!(
                    column.bloom_filter_offset().is_some(),
                    looked_up.contains(&column.column_path().string().as_str()),
                    "{what}"
                );
            }
            let offsets = group.column(0);
            assert!(
                offsets
                    .encodings()
                    .any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED)
            );
        }
    }
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_groups_are_bounded_whatever_the_number_of_kinds() {
    let directory = tempfile::tempdir().unwrap();
    let mut place = place(&directory);
    place.config.pending_bytes = 100_000;
    let running = place.start();
    let mut waiting = 0;
    for part in 0..20 {
        running.append(all_kinds(part * 50..part * 50 + 50)).await;
        running.taken_in().await;
        waiting = waiting.max(running.store.status().open_rows);
    }
    assert!(waiting > 0);
    running.flush().await;
    assert_complete(&running.engine, place.parquet());
    let mut groups = Vec::new();
    for (_, path) in files(place.parquet()) {
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        groups.push(reader.metadata().num_row_groups());
    }
    assert!(groups.iter().any(|groups| *groups > 1), "{groups:?}");
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_group_has_at_most_256k_rows() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(&directory);
    let running = place.start();
    for _ in 0..3 {
        let mut builder = EventBatchBuilder::new();
        for _ in 0..100_000 {
            let mut row = builder.row(Kind::EventLogged);
            row.text(modelog_engine::event::schema::COMMON.len(), "tick")
                .unwrap();
            row.finish().unwrap();
        }
        running.append(builder.finish()).await;
    }
    running.flush().await;
    let files = files(place.parquet());
    let [(_, path)] = &files[..] else {
        panic!("one file: {files:?}");
    };
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let groups = reader.metadata().row_groups().iter();
    let rows: Vec<_> = groups.map(|group| group.num_rows()).collect();
    assert_eq!(rows, [262_144, 300_000 - 262_144]);
    assert_complete(&running.engine, place.parquet());
    running.close().await;
}
