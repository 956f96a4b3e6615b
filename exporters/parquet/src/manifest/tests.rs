use chrono::NaiveDate;
use modelog_engine::LocalStorage;
use modelog_engine::event::Kind;

use super::*;

fn entry(kind: FileKind, first: u64, end: u64) -> FileEntry {
    let name = FileName {
        kind,
        date: NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
        first: Offset(first),
        end: Offset(end),
    };
    FileEntry {
        path: name.text(),
        kind,
        first: name.first,
        end: name.end,
        rows: 1,
        bytes: 4711,
        sha256: Sha256Sum::of(b"content"),
        min_append_time: Timestamp::parse("2026-11-22T00:00:00Z").unwrap(),
        max_append_time: Timestamp::parse("2026-11-22T00:00:00.000001Z").unwrap(),
    }
}

const METRICS: FileKind = FileKind::Events(Kind::MetricLogged);

fn sample() -> Manifest {
    let mut manifest = Manifest::new(LogId(uuid::Uuid::from_u128(7)));
    manifest.cold_end = Offset(20);
    manifest.add([entry(FileKind::Origin, 0, 20), entry(METRICS, 10, 20)]);
    manifest.add([entry(METRICS, 0, 10), entry(METRICS, 25, 30)]);
    manifest
}

#[test]
fn it_comes_back_as_it_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage;
    assert_eq!(Manifest::load(&storage, directory.path()).unwrap(), None);
    let mut manifest = sample();
    for _ in 0..2 {
        manifest.store(&storage, directory.path()).unwrap();
        let loaded = Manifest::load(&storage, directory.path()).unwrap();
        assert_eq!(loaded.as_ref(), Some(&manifest));
        manifest.cold_end = Offset(25);
    }
    // What a crash left beside it does not stand in the way.
    std::fs::write(directory.path().join("_manifest.json.tmp"), b"{").unwrap();
    manifest.store(&storage, directory.path()).unwrap();
    let names: Vec<_> = storage.list(directory.path()).unwrap();
    assert_eq!(names, [directory.path().join(MANIFEST)]);
}

#[test]
fn files_are_found_by_kind() {
    let manifest = sample();
    let firsts = |kind| {
        let files = manifest.files_of(kind).iter();
        files.map(|file| file.first.0).collect::<Vec<_>>()
    };
    assert_eq!(firsts(METRICS), [0, 10, 25]);
    assert_eq!(firsts(FileKind::Origin), [0]);
    assert_eq!(firsts(FileKind::Events(Kind::RunStarted)), [0; 0]);
    assert_eq!(manifest.published_end(METRICS), Offset(30));
    assert_eq!(
        manifest.published_end(FileKind::Events(Kind::RunStarted)),
        Offset::ZERO
    );
    assert_eq!(manifest.bytes(), 4 * 4711);
}

#[test]
fn any_changed_byte_is_found() {
    let manifest = sample();
    let content = manifest.to_json();
    let path = Path::new("_manifest.json");
    assert_eq!(Manifest::from_json(&content, path).unwrap(), manifest);
    for at in 0..content.len() - 1 {
        for flip in [0x01, 0x20] {
            let mut damaged = content.clone();
            damaged[at] ^= flip;
            match Manifest::from_json(&damaged, path) {
                Ok(read) => assert_eq!(read, manifest, "byte {at}"),
                Err(error) => assert!(
                    matches!(
                        error,
                        ParquetError::Manifest { .. } | ParquetError::TooNew { .. }
                    ),
                    "{error}"
                ),
            }
        }
        assert!(Manifest::from_json(&content[..at], path).is_err());
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let path = Path::new("_manifest.json");
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = sample();
        change(&mut manifest);
        let error = Manifest::from_json(&manifest.to_json(), path).unwrap_err();
        assert!(matches!(error, ParquetError::Manifest { .. }), "{error}");
    };
    refused(&|manifest| manifest.files.push(entry(METRICS, 5, 12)));
    refused(&|manifest| manifest.add([entry(METRICS, 9, 12)]));
    refused(&|manifest| manifest.files.swap(0, 1));
    refused(&|manifest| manifest.files[0].end = Offset(9));
    refused(&|manifest| manifest.files[0].path = "../outside.parquet".into());
    refused(&|manifest| manifest.files[0].rows = 0);
    refused(&|manifest| manifest.files[0].rows = 11);
    refused(&|manifest| manifest.files[0].min_append_time = Timestamp::MAX);
    // Rows of origins repeat offsets.
    let mut manifest = sample();
    let origins = manifest.files.last_mut().unwrap();
    assert_eq!(origins.kind, FileKind::Origin);
    origins.rows = 1000;
    Manifest::from_json(&manifest.to_json(), path).unwrap();
}

#[test]
fn a_newer_form_is_no_damage() {
    let newer = br#"{"format": 2, "something": "else"}"#;
    let error = Manifest::from_json(newer, Path::new("_manifest.json")).unwrap_err();
    assert!(matches!(error, ParquetError::TooNew { needed: 2, .. }));
}
