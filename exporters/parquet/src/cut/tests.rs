use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use modelog_engine::batch::LoggedBatch;
use proptest::prelude::*;

use super::*;
use crate::files::testing::{self, Dice, Directory, Shape, Told, histories, simulate, write};
use crate::verify::verify;

fn read(path: &Path, storage: &Arc<dyn Storage>) -> (Offset, Vec<LoggedBatch>) {
    let cold = testing::open(path, storage).cold();
    let mut batches = Vec::new();
    let mut next = Offset::ZERO;
    while next < cold.end() {
        for batch in cold.read(next, 1 << 20).unwrap() {
            next = batch.end();
            batches.push(LoggedBatch::clone(&batch));
        }
    }
    (next, batches)
}

fn findings(path: &Path, storage: &Arc<dyn Storage>) -> Vec<String> {
    if !storage.is_dir(path).unwrap() {
        return Vec::new();
    }
    let found = verify(path, storage, None, &mut |_| {}).unwrap();
    found
        .findings
        .iter()
        .map(|finding| format!("{finding:?}"))
        .collect()
}

/// Cuts into a directory beside.
fn cut_beside(written: &Directory, from: &Path, name: &str, until: Offset) -> (PathBuf, Offset) {
    let target = written.path().with_file_name(name);
    let end = cut(from, &target, until, &written.storage).unwrap();
    (target, end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_below_stays(
        batches in histories(14),
        seed in any::<u64>(),
        leave in any::<bool>(),
    ) {
        let mut dice = Dice::new(seed);
        let shape = Shape { closing: 5, grouped: 4, leave };
        let written = simulate(&batches, &mut dice, shape);
        let tail = batches.last().unwrap().end();
        let until = Offset(dice.next() % (tail.0 + 2));
        let (target, end) = cut_beside(&written, written.path(), "cut", until);
        prop_assert_eq!(end, written.manifest.cold_end.min(until));
        let (reached, found) = read(&target, &written.storage);
        prop_assert_eq!(reached, end);
        prop_assert_eq!(Told::of(&found), Told::cut(&batches, end, until));
        prop_assert_eq!(findings(&target, &written.storage), Vec::<String>::new());

        // Cutting once more changes nothing that the first cut would not have.
        let again = Offset(dice.next() % (until.0 + 1));
        let (twice, _) = cut_beside(&written, &target, "twice", again);
        let (once, _) = cut_beside(&written, written.path(), "once", again);
        let (_, twice) = read(&twice, &written.storage);
        let (_, once) = read(&once, &written.storage);
        prop_assert_eq!(Told::of(&twice), Told::of(&once));
    }

    #[test]
    fn moments_are_found(
        batches in histories(14),
        seed in any::<u64>(),
        leave in any::<bool>(),
        batch in 0..14_usize,
        step in -1..2_i64,
    ) {
        let written = simulate(&batches, &mut Dice::new(seed), Shape { closing: 3, grouped: 4, leave });
        let end = written.manifest.cold_end;
        let moment = batches[batch % batches.len()].append_time.micros() + step;
        let later = batches.iter().find(|batch| batch.append_time.micros() > moment);
        let expected = later.map_or(end, |batch| batch.first_offset.min(end));
        let found = offset_at(written.path(), Timestamp::from_micros(moment), &written.storage);
        prop_assert_eq!(found.unwrap(), expected);
    }
}

/// A few batches of predictions and metrics, whose files are 0–60 and 60–100 as a rule.
fn plain() -> (Vec<LoggedBatch>, Directory) {
    use modelog_engine::batch::EventBatchBuilder;
    use modelog_engine::event::Kind;
    let mut dice = Dice::new(7);
    let batches: Vec<_> = (0..10)
        .map(|number| {
            let time = Timestamp::from_micros(1_795_366_800_000_000 + number);
            let mut builder = EventBatchBuilder::new();
            for row in 0..10 {
                let kind = if row == 5 {
                    Kind::MetricLogged
                } else {
                    Kind::PredictionLogged
                };
                testing::event(&mut builder, kind, time, &mut dice);
            }
            builder
                .finish()
                .into_logged(Offset(number as u64 * 10), time)
        })
        .collect();
    let written = write(
        &batches,
        &mut dice,
        Shape {
            closing: 4,
            grouped: 1000,
            leave: false,
        },
    );
    (batches, written)
}

#[test]
fn whole_files_are_linked_and_others_left_out() {
    let (_, written) = plain();
    let target = tempfile::tempdir().unwrap();
    let until = Offset(95);
    assert_eq!(
        cut(written.path(), target.path(), until, &written.storage).unwrap(),
        until
    );
    let kept = Manifest::load(&*written.storage, target.path())
        .unwrap()
        .unwrap();
    let mut linked = 0;
    for entry in &written.manifest.files {
        let path = entry.locate(target.path());
        if entry.end <= until {
            let [a, b] = [entry.locate(written.path()), path.clone()]
                .map(|path| std::fs::metadata(path).unwrap().ino());
            assert_eq!(a, b);
            assert!(kept.files.contains(entry));
            linked += 1;
        } else {
            assert!(!path.exists(), "{}", path.display());
        }
    }
    assert!(linked > 0);
    // Beyond the end everything is kept as it is; and what an earlier attempt brought stays.
    let all = cut(
        written.path(),
        target.path(),
        Offset(1000),
        &written.storage,
    )
    .unwrap();
    assert_eq!(all, Offset(100));
    let kept = Manifest::load(&*written.storage, target.path())
        .unwrap()
        .unwrap();
    assert_eq!(kept, written.manifest);
}

#[test]
fn nothing_comes_of_nothing() {
    let (_, written) = plain();
    let empty = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let end = cut(empty.path(), target.path(), Offset(5), &written.storage).unwrap();
    assert_eq!(end, Offset::ZERO);
    let end = cut(
        written.path(),
        target.path(),
        Offset::ZERO,
        &written.storage,
    )
    .unwrap();
    assert_eq!(end, Offset::ZERO);
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    let moment = Timestamp::from_micros(0);
    assert_eq!(
        offset_at(empty.path(), moment, &written.storage).unwrap(),
        Offset::ZERO
    );
}

#[test]
fn damage_is_not_copied() {
    let (_, written) = plain();
    for entry in &written.manifest.files {
        let path = entry.locate(written.path());
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        bytes[sound.len() / 2] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        for until in [entry.end, Offset(entry.end.0 - 1)] {
            let target = tempfile::tempdir().unwrap();
            if until <= entry.first {
                continue;
            }
            let outcome = cut(written.path(), target.path(), until, &written.storage);
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, ParquetError::Damaged { path: named, .. } if *named == path),
                "{error:?}"
            );
            assert!(!target.path().join(crate::layout::MANIFEST).exists());
        }
        std::fs::remove_file(&path).unwrap();
        let target = tempfile::tempdir().unwrap();
        let outcome = cut(written.path(), target.path(), entry.end, &written.storage);
        assert!(
            matches!(outcome, Err(ParquetError::Missing { path: named }) if named == path),
            "the file of the source is named"
        );
        std::fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn moments_between_files_of_a_kind_are_found() {
    let (batches, written) = plain();
    assert!(written.manifest.files.len() > 4);
    for batch in &batches {
        let time = batch.append_time;
        let at = |micros| {
            let moment = Timestamp::from_micros(time.micros() + micros);
            offset_at(written.path(), moment, &written.storage).unwrap()
        };
        assert_eq!(at(-1), batch.first_offset);
        assert_eq!(at(0), batch.end());
    }
}
