use std::sync::Arc;

use std::path::PathBuf;

use modelog_engine::batch::{EventBatchBuilder, LoggedBatch};
use modelog_engine::event::schema;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::sim::SimStorage;
use modelog_engine::{LogError, Offset};
use proptest::prelude::*;

use super::*;
use crate::files::testing::{self, Dice, Directory, Shape, Told, histories, simulate};

fn merged(written: &Directory, from: Offset, batch_bytes: usize) -> Vec<LoggedBatch> {
    let history = Arc::new(History::new(
        Arc::clone(&written.storage),
        written.path().to_path_buf(),
    ));
    let manifest = Arc::new(written.manifest.clone());
    let end = manifest.cold_end;
    let mut merge = Merge::new(&history, &manifest, from, end).with_batch_bytes(batch_bytes);
    let mut batches = Vec::new();
    while let Some(merged) = merge.next().unwrap() {
        batches.push(merged.batch);
    }
    batches
}

/// That batches follow each other from one offset to another, and count what they hold.
fn assert_contiguous(batches: &[LoggedBatch], from: Offset, end: Offset) {
    let mut next = from;
    for batch in batches {
        assert_eq!(batch.first_offset, next);
        assert_eq!(batch.in_order().len(), batch.rows as usize);
        assert!(batch.rows > 0);
        for (row, ord) in batch.in_order().into_iter().zip(0..) {
            assert_eq!(row.offset(), batch.first_offset.advance(ord));
            assert_eq!(row.append_time(), batch.append_time);
        }
        next = batch.end();
    }
    assert_eq!(next, end.max(from));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_written_is_read(
        batches in histories(14),
        seed in any::<u64>(),
        closing in 1..12_usize,
        grouped in 1..8_usize,
        batch_bytes in prop_oneof![Just(1_usize), 100..2_000_usize, Just(BATCH_BYTES_MAX)],
        leave in any::<bool>(),
    ) {
        let written = simulate(&batches, &mut Dice::new(seed), Shape { closing, grouped, leave });
        let end = written.manifest.cold_end;
        let held: Vec<_> = batches.iter().take_while(|batch| batch.end() <= end).cloned().collect();
        let found = merged(&written, Offset::ZERO, batch_bytes);
        assert_contiguous(&found, Offset::ZERO, end);
        prop_assert_eq!(Told::of(&found), Told::of(&held));

        let from = Offset(Dice::new(seed).next() % (end.0 + 1));
        let found = merged(&written, from, batch_bytes);
        assert_contiguous(&found, from, end);
        prop_assert_eq!(Told::from(&found, from), Told::from(&held, from));
    }

    #[test]
    fn any_reader_at_any_place_reads_the_same(
        batches in histories(14),
        seed in any::<u64>(),
        leave in any::<bool>(),
        reads in prop::collection::vec((0..3_usize, 0..3_000_usize), 1..60),
    ) {
        let mut dice = Dice::new(seed);
        let written = simulate(&batches, &mut dice, Shape { closing: 5, grouped: 4, leave });
        let end = written.manifest.cold_end;
        let held: Vec<_> = batches.iter().take_while(|batch| batch.end() <= end).cloned().collect();
        let cold = written.store().cold();
        prop_assert_eq!(cold.end(), end);
        let mut places: Vec<_> = (0..3).map(|_| Offset(dice.next() % (end.0 + 1))).collect();
        let starts = places.clone();
        let mut read: Vec<Vec<Arc<LoggedBatch>>> = vec![Vec::new(); 3];
        for (reader, limit) in reads {
            let place = &mut places[reader];
            if *place == end {
                let beyond = matches!(cold.read(*place, limit), Err(LogError::BeyondTail { .. }));
                prop_assert!(beyond);
                continue;
            }
            let found = cold.read(*place, limit).unwrap();
            prop_assert!(!found.is_empty());
            *place = found.last().unwrap().end();
            read[reader].extend(found);
        }
        for ((start, place), read) in starts.into_iter().zip(places).zip(&read) {
            let read: Vec<_> = read.iter().map(|batch| LoggedBatch::clone(batch)).collect();
            assert_contiguous(&read, start, place);
            let told = Told::from(&read, start);
            let mut expected = Told::from(&held, start);
            expected.events.retain(|(offset, _)| *offset < place.0);
            prop_assert_eq!(told.events, expected.events);
        }
    }
}

/// Many events of one kind in batches of a hundred, in row groups of some thousands.
fn long(rows: u64, kind: Kind) -> (Vec<LoggedBatch>, Dice) {
    let mut dice = Dice::new(3);
    let batches = (0..rows / 100).map(|number| {
        let time = Timestamp::from_micros(1_795_366_800_000_000 + number as i64);
        let mut builder = EventBatchBuilder::new();
        for _ in 0..100 {
            testing::event(&mut builder, kind, time, &mut dice);
        }
        builder.finish().into_logged(Offset(number * 100), time)
    });
    (batches.collect(), dice)
}

const LONG: Shape = Shape {
    closing: 200,
    grouped: 12_000,
    leave: false,
};

#[test]
fn long_files_are_decoded_ahead_by_threads() {
    let (batches, mut dice) = long(60_000, Kind::MetricLogged);
    let written = simulate(&batches, &mut dice, LONG);
    let found = merged(&written, Offset::ZERO, BATCH_BYTES_MAX);
    assert_contiguous(&found, Offset::ZERO, Offset(60_000));
    assert_eq!(found.len(), batches.len());
    assert_eq!(Told::of(&found), Told::of(&batches));
    // From the middle of a row group, and of a page; and readers that leave.
    for from in [1, 11_999, 12_000, 31_415, 59_999] {
        let from = Offset(from);
        let cold = written.store().cold();
        let read = cold.read(from, 4 << 20).unwrap();
        assert_eq!(read[0].first_offset, from);
        let told = Told::from(read.iter().map(|batch| &**batch), from);
        let mut expected = Told::from(&batches, from).events;
        expected.truncate(told.events.len());
        assert_eq!(told.events, expected);
    }
}

#[test]
fn a_disk_that_fails_is_told_from_damage() {
    let (batches, mut dice) = long(40_000, Kind::MetricLogged);
    let disk = SimStorage::new(1);
    let path = PathBuf::from("/parquet");
    disk.storage().create_dir_all(&path).unwrap();
    let written = testing::write_on(
        disk.storage(),
        path,
        testing::log(),
        &batches,
        &mut dice,
        LONG,
    );
    let store = written.store();
    let before = disk.reads();
    let read_all = || {
        let cold = store.cold();
        let mut next = Offset::ZERO;
        while next < cold.end() {
            next = cold.read(next, 1 << 20)?.last().unwrap().end();
        }
        Ok::<_, LogError>(())
    };
    read_all().unwrap();
    let reads = disk.reads() - before;
    assert!(reads > 50, "{reads}");
    for number in (0..reads).step_by(7) {
        disk.fail_read_at(disk.reads() + number);
        match read_all() {
            Err(LogError::Io { .. }) => {}
            // Threads read in an order of their own; the one that failed may not have been needed any more.
            Ok(()) => assert!(number + 8 > reads, "read {number} of {reads}"),
            Err(error) => panic!("read {number} of {reads}: {error}"),
        }
        disk.fail_no_more();
    }
    read_all().unwrap();
}

#[test]
fn wide_rows_come_in_few() {
    let mut builder = EventBatchBuilder::new();
    let text = "x".repeat(64 << 10);
    for _ in 0..200 {
        let mut row = builder.row(Kind::ModelCreated);
        row.text(schema::column(Kind::ModelCreated, "model"), "m")
            .unwrap();
        row.text(schema::column(Kind::ModelCreated, "description"), &text)
            .unwrap();
        row.finish().unwrap();
    }
    let batch = builder
        .finish()
        .into_logged(Offset::ZERO, Timestamp::from_micros(1));
    let written = simulate(&[batch], &mut Dice::new(1), LONG);
    let history = Arc::new(History::new(
        Arc::clone(&written.storage),
        written.path().to_path_buf(),
    ));
    let manifest = Arc::new(written.manifest.clone());
    let range = (Offset::ZERO, Offset(200));
    let kind = FileKind::Events(Kind::ModelCreated);
    let mut rows = KindRows::new(&history, &manifest, kind, Columns::All, range);
    let mut sizes = Vec::new();
    while let Some(piece) = rows.next().unwrap() {
        sizes.push(piece.len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 200);
    assert!(sizes.iter().all(|rows| *rows <= 32), "{sizes:?}");
}

#[test]
fn large_stretches_of_one_time_are_cut_where_batches_of_the_log_start() {
    let (mut batches, mut dice) = long(6_000, Kind::MetricLogged);
    let time = batches[0].append_time;
    for (number, batch) in batches.iter_mut().enumerate() {
        batch.append_time = time;
        // Of every other batch it is known where it starts.
        if number % 2 == 0 {
            batch.origins.push(Origin {
                rows: 100,
                ..Origin::whole(Source::Call {
                    key: "k".into(),
                    body: 1,
                })
            });
        }
    }
    let written = simulate(&batches, &mut dice, LONG);
    let found = merged(&written, Offset::ZERO, 64 << 10);
    assert_contiguous(&found, Offset::ZERO, Offset(6_000));
    assert!(found.len() > 3, "{}", found.len());
    for batch in &found {
        assert_eq!(batch.first_offset.0 % 200, 0);
        // Origins are whole in their batch.
        for origin in &batch.origins {
            assert!(origin.first_ord + origin.rows <= batch.rows);
        }
    }
    // Where a batch of the log is larger than that, there is no other way.
    let found = merged(&written, Offset::ZERO, 1);
    assert_eq!(found.len(), 6_000);
    assert_eq!(Told::of(&found).origins, Told::of(&batches).origins);
}
