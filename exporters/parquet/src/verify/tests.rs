use std::fs;

use modelog_engine::batch::{EventBatchBuilder, LoggedBatch};
use modelog_engine::event::Kind;
use modelog_engine::inspect;
use modelog_engine::names::NamedEntity;
use modelog_engine::sim::SimStorage;
use modelog_engine::{Config, Engine, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::files::FileWriter;
use crate::files::testing::{
    self, Dice, Directory, Shape, Told, histories, simulate, write, write_of,
};
use crate::manifest::Sha256Sum;

const OFTEN: Shape = Shape {
    closing: 2,
    grouped: 1000,
    leave: false,
};
const ONCE: Shape = Shape {
    closing: 1_000_000,
    grouped: 1000,
    leave: false,
};
const SMALL: Shape = Shape {
    closing: 3,
    grouped: 7,
    leave: false,
};

fn verified(written: &Directory) -> Verification {
    verify(written.path(), &written.storage, None, &mut |_| {}).unwrap()
}

/// Findings by what they say of which offset.
fn said(found: &Verification) -> Vec<(Option<u64>, &str)> {
    let said = |finding: &'_ Finding| finding.offset.map(|offset| offset.0);
    found
        .findings
        .iter()
        .map(|finding| (said(finding), &*finding.what))
        .collect()
}

fn history(batches: u64) -> Vec<LoggedBatch> {
    let mut dice = Dice::new(11);
    (0..batches)
        .map(|number| {
            let time = Timestamp::from_micros(1_795_366_800_000_000 + number as i64);
            let mut builder = EventBatchBuilder::new();
            for row in 0..10 {
                let kind = match row {
                    5 => Kind::MetricLogged,
                    _ => Kind::PredictionLogged,
                };
                testing::event(&mut builder, kind, time, &mut dice);
            }
            let mut batch = builder.finish().into_logged(Offset(number * 10), time);
            batch.names = vec![NamedEntity {
                kind: modelog_engine::event::EntityKind::Model,
                id: number as u32 + 1,
                parent: 0,
                name: format!("model {number}").into(),
            }];
            batch
        })
        .collect()
}

fn plain() -> Directory {
    write(&history(12), &mut Dice::new(5), OFTEN)
}

fn entry_of(written: &Directory, kind: Kind) -> &FileEntry {
    &written.manifest.files_of(FileKind::Events(kind))[1]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn sound_directories_are_found_sound(
        batches in histories(14),
        seed in any::<u64>(),
        leave in any::<bool>(),
    ) {
        let written = simulate(&batches, &mut Dice::new(seed), Shape { closing: 5, grouped: 4, leave });
        let mut told = Vec::new();
        let found = verify(written.path(), &written.storage, None, &mut |at| told.push(at)).unwrap();
        prop_assert_eq!(said(&found), vec![]);
        prop_assert_eq!(found.cold_end, written.manifest.cold_end);
        prop_assert_eq!(found.files, written.manifest.files.len() as u64);
        prop_assert_eq!(found.bytes, written.manifest.bytes());
        prop_assert_eq!(found.rows, written.manifest.files.iter().map(|file| file.rows).sum::<u64>());
        let of = written.manifest.bytes();
        let last = Progress::Files { bytes: of, of };
        prop_assert!(of == 0 || told.contains(&last));
    }
}

#[test]
fn every_flipped_bit_is_found_and_none_is_read() {
    let batches = history(4);
    let written = write(&batches, &mut Dice::new(5), OFTEN);
    let expected = Told::of(&batches);
    for entry in &written.manifest.files {
        let path = entry.locate(written.path());
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(97).chain([sound.len() - 1]) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let found = verified(&written);
            assert!(found.is_damaged(), "{} byte {at}", entry.path);
            assert!(
                found.findings.iter().all(|finding| finding.path == path),
                "{:?}",
                said(&found)
            );
            let cold = written.store().cold();
            let error = cold.read(Offset::ZERO, usize::MAX).unwrap_err();
            assert_eq!(error.kind(), modelog_engine::ErrorKind::Corrupt);
        }
        fs::write(&path, &sound).unwrap();
    }
    let cold = written.store().cold();
    let read = cold.read(Offset::ZERO, usize::MAX).unwrap();
    assert_eq!(Told::of(read.iter().map(|batch| &**batch)), expected);
}

#[test]
fn the_decoder_survives_any_flipped_bit() {
    // Files that somebody brings have no checksum: what comes of them may be wrong, but never the end of the process.
    let mut builder = EventBatchBuilder::new();
    let mut dice = Dice::new(5);
    for _ in 0..20 {
        testing::event(
            &mut builder,
            Kind::EventLogged,
            Timestamp::default(),
            &mut dice,
        );
    }
    let batch = builder
        .finish()
        .into_logged(Offset(0), Timestamp::from_micros(1));
    let disk = SimStorage::new(1);
    let path = PathBuf::from("/parquet");
    disk.storage().create_dir_all(&path).unwrap();
    let written = testing::write_on(
        disk.storage(),
        path,
        testing::log(),
        &[batch],
        &mut dice,
        ONCE,
    );
    let entry = &written.manifest.files[0];
    let path = entry.locate(written.path());
    let read = || -> Result<usize, FileError> {
        let mut rows = ParquetFile::open(&*written.storage, &path)?.events(Kind::EventLogged)?;
        let mut count = 0;
        while let Some(more) = rows.next_rows()? {
            count += more.num_rows();
        }
        Ok(count)
    };
    assert_eq!(read().unwrap(), 20);
    let (mut failed, mut unnoticed) = (0, 0);
    for at in 0..entry.bytes {
        let bit = (at % 8) as u8;
        disk.flip_bit(&path, at, bit).unwrap();
        match read() {
            Ok(_) => unnoticed += 1,
            Err(FileError::Io { .. }) => panic!("the disk is sound"),
            Err(_) => failed += 1,
        }
        disk.flip_bit(&path, at, bit).unwrap();
    }
    assert_eq!(read().unwrap(), 20);
    assert!(failed > 0 && unnoticed > 0);
}

#[test]
fn a_file_that_is_gone_cut_short_or_another_is_told_once() {
    let written = plain();
    for kind in [
        Kind::PredictionLogged,
        Kind::MetricLogged,
        Kind::EntityNamed,
    ] {
        let entry = entry_of(&written, kind);
        let path = entry.locate(written.path());
        let sound = fs::read(&path).unwrap();
        let first = Some(entry.first.0);

        fs::remove_file(&path).unwrap();
        let found = verified(&written);
        assert_eq!(said(&found), [(first, "the file is missing")]);
        assert_eq!(found.findings[0].severity, Severity::Corrupt);

        for len in [0, 3, sound.len() - 1] {
            fs::write(&path, &sound[..len]).unwrap();
            let what = format!("it has {len} bytes, {} were written", sound.len());
            assert_eq!(said(&verified(&written)), [(first, &*what)]);
        }

        let other = written.manifest.files_of(FileKind::Events(kind))[0].clone();
        let other_path = other.locate(written.path());
        let other_bytes = fs::read(&other_path).unwrap();
        fs::write(&path, &other_bytes).unwrap();
        fs::write(&other_path, &sound).unwrap();
        let found = verified(&written);
        let offsets: Vec<_> = said(&found).iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [Some(other.first.0), first]);
        fs::write(&other_path, &other_bytes).unwrap();
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(said(&verified(&written)), []);
}

#[test]
fn what_else_lies_there_is_noticed() {
    let written = plain();
    let entry = entry_of(&written, Kind::PredictionLogged);
    let path = entry.locate(written.path());
    let directory = path.parent().unwrap();
    let last = written.manifest.files_of(entry.kind).last().unwrap();
    let name = |first: u64, end: u64| directory.join(format!("{first:020}-{end:020}.parquet"));
    let left = name(last.end.0, last.end.0 + 5);
    let twice = name(entry.first.0, entry.end.0 + 1);
    let unsound = name(500, 501);
    let unfinished = directory.join(format!(".{:020}.tmp", 77));
    let mine = directory.join("mine.parquet");
    let notes = written.path().join("notes.txt");
    fs::copy(&path, &left).unwrap();
    fs::copy(&path, &twice).unwrap();
    for path in [&unsound, &unfinished, &mine, &notes] {
        fs::write(path, "x").unwrap();
    }
    let foreign = write_of(
        LogId(uuid::Uuid::from_u128(1)),
        &history(1),
        &mut Dice::new(1),
        ONCE,
    );
    let theirs = name(600, 610);
    let entry = &foreign.manifest.files_of(entry.kind)[0];
    fs::copy(entry.locate(foreign.path()), &theirs).unwrap();

    let found = verified(&written);
    assert!(!found.is_damaged());
    let whats = |path: &Path| {
        let of_path = found.findings.iter().filter(|finding| finding.path == path);
        of_path
            .map(|finding| finding.what.clone())
            .collect::<Vec<_>>()
    };
    for (path, word) in [
        (&left, "removes it"),
        (&twice, "twice"),
        (&unsound, "no sound Parquet"),
        (&unfinished, "unfinished"),
        (&mine, "will read it too"),
        (&notes, "left alone"),
        (&theirs, "of another log"),
    ] {
        let whats = whats(path);
        assert!(
            matches!(&whats[..], [what] if what.contains(word)),
            "{path:?}: {whats:?}"
        );
    }
    assert_eq!(found.findings.len(), 7);
}

#[test]
fn holes_and_repetitions_are_found() {
    let written = plain();
    // The manifest is whole, and wrong.
    let mut manifest = written.manifest.clone();
    let at = manifest
        .files
        .iter()
        .position(|file| file == entry_of(&written, Kind::MetricLogged));
    let gone = manifest.files.remove(at.unwrap());
    manifest.cold_end = manifest.cold_end.advance(2);
    manifest.store(&*written.storage, written.path()).unwrap();
    let found = verified(&written);
    let holes: Vec<_> = said(&found)
        .into_iter()
        .filter(|(_, what)| what.contains("in no file"))
        .filter_map(|(offset, _)| offset)
        .collect();
    let metrics = (gone.first.0..gone.end.0).filter(|offset| offset % 10 == 5);
    let expected: Vec<_> = metrics.chain([120]).collect();
    assert_eq!(holes, expected);
    let cold = written.store().cold();
    let mut next = Offset::ZERO;
    let error = loop {
        match cold.read(next, 1) {
            Ok(batches) => next = batches.last().unwrap().end(),
            Err(error) => break error,
        }
    };
    assert_eq!(next.0, gone.first.0 / 10 * 10);
    assert!(
        error.to_string().contains(&format!(
            "events {0} to {1} are in no file",
            gone.first,
            gone.first.0 + 1
        )),
        "{error}"
    );

    // Events of another kind where there are some already.
    let metrics: Vec<_> = (0..12)
        .map(|number| {
            let time = Timestamp::from_micros(1_795_366_800_000_000 + number);
            let mut builder = EventBatchBuilder::new();
            testing::event(&mut builder, Kind::RunStarted, time, &mut Dice::new(3));
            builder
                .finish()
                .into_logged(Offset(number as u64 * 10 + 3), time)
        })
        .collect();
    let more = write(&metrics, &mut Dice::new(1), ONCE);
    let [entry] = &more.manifest.files[..] else {
        panic!("one file")
    };
    let mut manifest = written.manifest.clone();
    manifest.add([entry.clone()]);
    manifest.store(&*written.storage, written.path()).unwrap();
    let path = entry.locate(written.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(entry.locate(more.path()), &path).unwrap();
    let found = verified(&written);
    let twice: Vec<_> = said(&found)
        .into_iter()
        .filter(|(_, what)| what.contains("twice"))
        .filter_map(|(offset, _)| offset)
        .collect();
    assert_eq!(
        twice,
        (0..12).map(|number| number * 10 + 3).collect::<Vec<_>>()
    );
    let error = written.store().cold().read(Offset::ZERO, 1).unwrap_err();
    assert!(
        error.to_string().contains("event 3 is there twice"),
        "{error}"
    );
}

#[test]
fn a_damaged_manifest_is_a_finding_and_a_missing_one_too_if_there_should_be_one() {
    let written = plain();
    let path = written.path().join(MANIFEST);
    let sound = fs::read(&path).unwrap();
    for at in (0..sound.len()).step_by(101) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        match verify(written.path(), &written.storage, None, &mut |_| {}) {
            Ok(found) => {
                assert!(found.is_damaged(), "byte {at}");
                assert_eq!(found.findings[0].path, path);
            }
            // The number of its form.
            Err(error) => assert!(
                matches!(error, ParquetError::TooNew { .. }),
                "{at}: {error}"
            ),
        }
    }
    fs::remove_file(&path).unwrap();
    let found = verified(&written);
    assert_eq!((found.log, found.files), (None, 0));
    let files = written.manifest.files.len();
    let what = format!("the file is missing, and {files} files that it should list are there");
    assert_eq!(said(&found), [(None, &*what)]);
    assert!(found.is_damaged());

    // Nothing is there, and nothing should be.
    for path in ["nothing", "nothing/at all"] {
        let path = written.path().join(path);
        let found = verify(&path, &written.storage, None, &mut |_| {}).unwrap();
        assert_eq!((found.log, said(&found)), (None, vec![]));
    }
}

/// A log with segments, and the batches they hold.
fn log(data: &Path) -> (LogId, Vec<LoggedBatch>) {
    let engine = Engine::open(Config::new(data)).unwrap();
    for (number, batch) in history(12).into_iter().enumerate() {
        let mut events: Vec<_> = batch
            .in_order()
            .into_iter()
            .map(|row| row.to_event())
            .collect();
        // Some have the same id and other content, which the log refuses.
        events.iter_mut().for_each(|event| event.id = None);
        let mut events = modelog_engine::batch::EventBatch::from_events(&events).unwrap();
        events.add_origin(modelog_engine::origin::Origin::whole(
            modelog_engine::origin::Source::Call {
                key: format!("call {number}").into(),
                body: number as u64,
            },
        ));
        engine
            .append_blocking(events, modelog_engine::AppendOptions::default())
            .unwrap();
    }
    engine.close_blocking().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(modelog_engine::LocalStorage);
    let mut reader = SegmentReader::open(storage, data).unwrap();
    let mut batches = Vec::new();
    loop {
        let more = reader.next(1 << 20).unwrap();
        if more.is_empty() {
            return (reader.log_id(), batches);
        }
        batches.extend(more);
    }
}

fn compared(data: &Path, written: &Directory) -> Verification {
    let segments = SegmentReader::open(Arc::clone(&written.storage), data).unwrap();
    verify(
        written.path(),
        &written.storage,
        Some(segments),
        &mut |_| {},
    )
    .unwrap()
}

#[test]
fn files_agree_with_segments_or_the_difference_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (id, batches) = log(data.path());
    assert!(batches.iter().any(|batch| !batch.names.is_empty()));
    let rows: u32 = batches.iter().map(|batch| batch.rows).sum();
    // Before anything was handed over, files in no manifest are what a crash left.
    let left = write_of(id, &batches, &mut Dice::new(9), ONCE);
    fs::remove_file(left.path().join(MANIFEST)).unwrap();
    let found = compared(data.path(), &left);
    assert_eq!(found.findings.len(), 1);
    assert!(!found.is_damaged(), "{:?}", said(&found));
    let whole = |batches: &[LoggedBatch]| write_of(id, batches, &mut Dice::new(9), SMALL);
    let found = compared(data.path(), &whole(&batches));
    assert_eq!((said(&found), found.compared), (vec![], u64::from(rows)));
    // The last part is not in files yet.
    let found = compared(data.path(), &whole(&batches[..batches.len() - 2]));
    assert_eq!(said(&found), []);

    // One event of another content.
    let mut other = batches.clone();
    let time = other[4].append_time;
    let mut builder = EventBatchBuilder::new();
    for row in batches[4].in_order() {
        let mut event = row.to_event();
        if row.offset() == batches[4].first_offset.advance(3) {
            event.id = Some("another".into());
        }
        builder.push(&event).unwrap();
    }
    let changed = builder.finish().into_logged(other[4].first_offset, time);
    other[4].tables = changed.tables;
    let found = compared(data.path(), &whole(&other));
    let [(offset, what)] = said(&found)[..] else {
        panic!("{:?}", said(&found))
    };
    assert_eq!(offset, Some(batches[4].first_offset.0 + 3));
    assert!(what.contains("differs in `id`"), "{what}");

    // Names and origins that are not those of the log.
    let named = batches
        .iter()
        .position(|batch| !batch.names.is_empty())
        .unwrap();
    let mut other = batches.clone();
    other[named].names[0].name = "b".into();
    assert!(
        said(&compared(data.path(), &whole(&other)))[0]
            .1
            .contains("is named where")
    );
    let mut other = batches.clone();
    other[named].names.clear();
    let found = compared(data.path(), &whole(&other));
    let whats = said(&found);
    assert!(
        whats.iter().any(|(_, what)| what.contains("same names")),
        "{whats:?}"
    );
    let mut other = batches.clone();
    other[7].origins[0].duplicates += 1;
    assert!(
        said(&compared(data.path(), &whole(&other)))[0]
            .1
            .contains("origin differs")
    );
    let mut other = batches.clone();
    other[7].origins.clear();
    let found = compared(data.path(), &whole(&other));
    assert!(said(&found)[0].1.contains("origin"), "{:?}", said(&found));

    // A segment that a running server removes meanwhile.
    let written = whole(&batches);
    let segments = SegmentReader::open(Arc::clone(&written.storage), data.path()).unwrap();
    let segment = inspect::segments(data.path()).unwrap().remove(0).path;
    let aside = data.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    let found = verify(
        written.path(),
        &written.storage,
        Some(segments),
        &mut |_| {},
    )
    .unwrap();
    assert!(!found.is_damaged(), "{:?}", said(&found));
    assert!(said(&found)[0].1.contains("could not be compared"));
    fs::rename(&aside, &segment).unwrap();

    // Files of another log.
    let foreign = write(&batches, &mut Dice::new(9), SMALL);
    assert!(
        said(&compared(data.path(), &foreign))[0]
            .1
            .contains("the segments those of")
    );
}

#[test]
fn times_that_go_back_are_found() {
    let batch = |number: u64, kind: Kind, micros: i64| {
        let time = Timestamp::from_micros(1_795_366_800_000_000 + micros);
        let mut builder = EventBatchBuilder::new();
        testing::event(&mut builder, kind, time, &mut Dice::new(number));
        builder.finish().into_logged(Offset(number), time)
    };
    // Within a kind, and between kinds.
    for kinds in [
        [Kind::MetricLogged; 3],
        [Kind::MetricLogged, Kind::RunStarted, Kind::MetricLogged],
    ] {
        let batches: Vec<_> = [(0, 5), (1, 9), (2, 7)]
            .into_iter()
            .zip(kinds)
            .map(|((number, micros), kind)| batch(number, kind, micros))
            .collect();
        let mut written = simulate(&batches, &mut Dice::new(1), ONCE);
        for file in &mut written.manifest.files {
            file.max_append_time = batches[1].append_time;
        }
        let path = written.path();
        written.manifest.store(&*written.storage, path).unwrap();
        let found = verified(&written);
        let [(offset, what)] = said(&found)[..] else {
            panic!("{kinds:?}: {:?}", said(&found))
        };
        assert_eq!(offset, Some(2));
        assert!(what.contains("was appended at"), "{what}");
        let error = read_all(&written).unwrap_err();
        assert!(error.to_string().contains("appended"), "{error}");
    }
}

fn read_all(written: &Directory) -> Result<(), modelog_engine::LogError> {
    let cold = written.store().cold();
    let mut next = Offset::ZERO;
    while next < cold.end() {
        next = cold.read(next, 1)?.last().unwrap().end();
    }
    Ok(())
}

#[test]
fn a_name_that_promises_more_rows_is_found() {
    let written = simulate(&history(3), &mut Dice::new(5), ONCE);
    let kind = FileKind::Events(Kind::PredictionLogged);
    let mut manifest = written.manifest.clone();
    manifest.cold_end = Offset(31);
    let at = manifest
        .files
        .iter()
        .position(|file| file.kind == kind)
        .unwrap();
    let entry = &mut manifest.files[at];
    let name = FileName {
        end: Offset(31),
        ..FileName::parse(Path::new(&entry.path)).unwrap()
    };
    let from = entry.locate(written.path());
    written
        .storage
        .rename(&from, &written.path().join(name.path()))
        .unwrap();
    (entry.path, entry.end) = (name.text(), name.end);
    manifest.store(&*written.storage, written.path()).unwrap();
    let found = verified(&written);
    let [(offset, what)] = said(&found)[..] else {
        panic!("{:?}", said(&found))
    };
    assert_eq!(offset, Some(0));
    assert!(what.contains("its footer says events 0 to 29"), "{what}");
    let error = read_all(&written).unwrap_err().to_string();
    assert!(
        error.contains("its rows end at 30, its name says 31"),
        "{error}"
    );
}

#[test]
fn a_file_that_the_disk_cannot_read_is_a_finding() {
    let disk = SimStorage::new(1);
    let path = PathBuf::from("/parquet");
    disk.storage().create_dir_all(&path).unwrap();
    let batches = history(6);
    let mut dice = Dice::new(5);
    let written = testing::write_on(
        disk.storage(),
        path,
        testing::log(),
        &batches,
        &mut dice,
        OFTEN,
    );
    let before = disk.reads();
    assert_eq!(said(&verified(&written)), []);
    let reads = disk.reads() - before;
    let mut told = 0;
    for number in 0..reads {
        disk.fail_read_at(disk.reads() + number);
        let found = verify(written.path(), &written.storage, None, &mut |_| {});
        disk.fail_no_more();
        let found = match found {
            // By that everything is judged.
            Err(ParquetError::Io { path, .. }) if path.ends_with(MANIFEST) => continue,
            found => found.unwrap(),
        };
        assert!(found.is_damaged(), "read {number} of {reads}");
        told += u32::from(said(&found)[0].1.contains("it failed"));
    }
    assert!(told > 10, "{told} of {reads}");
}

#[test]
fn rows_out_of_order_are_found() {
    let metrics = |range: std::ops::Range<u64>| {
        let time = Timestamp::from_micros(1_795_366_800_000_000);
        let mut builder = EventBatchBuilder::new();
        for offset in range.clone() {
            testing::event(
                &mut builder,
                Kind::MetricLogged,
                time,
                &mut Dice::new(offset),
            );
        }
        let first = Offset(range.start);
        let batch = builder.finish().into_logged(first, time);
        batch.tables[0].to_record_batch(first, time)
    };
    let time = Timestamp::from_micros(1_795_366_800_000_000);
    for (ranges, offset, what) in [
        ([5..10, 0..5, 10..12], 0, "event 0 follows event 9"),
        ([0..5, 4..8, 10..12], 4, "event 4 follows event 4"),
        ([0..5, 3..4, 10..12], 3, "event 3 follows event 4"),
    ] {
        let rows: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let mut writer = FileWriter::new(Vec::new(), Kind::MetricLogged, testing::log()).unwrap();
        for range in ranges {
            writer.write(&metrics(range)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let name = FileName {
            kind: FileKind::Events(Kind::MetricLogged),
            date: date_of(time),
            first: Offset(0),
            end: Offset(12),
        };
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join(name.directory())).unwrap();
        fs::write(directory.path().join(name.path()), &bytes).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(modelog_engine::LocalStorage);
        let mut manifest = Manifest::new(testing::log());
        manifest.cold_end = Offset(12);
        manifest.add([FileEntry {
            path: name.text(),
            kind: name.kind,
            first: name.first,
            end: name.end,
            rows,
            bytes: bytes.len() as u64,
            sha256: Sha256Sum::of(&bytes),
            min_append_time: time,
            max_append_time: time,
        }]);
        manifest.store(&*storage, directory.path()).unwrap();
        let found = verify(directory.path(), &storage, None, &mut |_| {}).unwrap();
        assert_eq!(said(&found), [(Some(offset), what)]);
        let store = testing::open(directory.path(), &storage);
        let error = store.cold().read(Offset::ZERO, 1).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}
