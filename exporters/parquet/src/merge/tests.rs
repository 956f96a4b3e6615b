use std::sync::Arc;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::{LogError, Offset};
use proptest::prelude::*;

use super::*;
use crate::files::testing::{Dice, Directory, Told, histories, write};

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
        let written = write(&batches, &mut Dice::new(seed), (closing, grouped), leave);
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
        let written = write(&batches, &mut dice, (5, 4), leave);
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
