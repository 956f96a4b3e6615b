//! The bytes on disk are what they were: logs of every version of the format, kept.

use super::*;

/// The logs of `tests/golden`, one for each version of the format: two calls, a repeat, and every kind.
fn write_golden(data: &Path) -> Vec<Event> {
    let foundations = Foundations {
        clock: Arc::new(StoppedClock),
        new_log: LogId(uuid::Uuid::from_u128(
            0x0193_5f3a_0000_7000_8000_0000_0000_0001,
        )),
        ..Foundations::default()
    };
    let engine = Engine::open_on(config(data), foundations).unwrap();
    let mut events: Vec<_> = crate::batch::tests::one_of_each();
    events.retain(|event| event.kind() != Kind::EntityNamed);
    append(&engine, &events).unwrap();
    let predictions: Vec<_> = (0..20).map(prediction).collect();
    let mut batch = EventBatch::from_events(&predictions).unwrap();
    let source = Source::Producer {
        id: "golden".into(),
        epoch: 1,
        sequence: 7,
    };
    batch.add_origin(Origin::whole(source));
    engine
        .append_blocking(batch, AppendOptions::default())
        .unwrap();
    events.extend(predictions);
    close(engine);
    events
}

/// The bytes are those of the golden files, which `MODELOG_WRITE_GOLDEN=1` writes anew: only ever with a new format
/// version, or a reason in `docs/decisions.md`.
#[test]
fn the_format_is_what_it_was() {
    let golden = golden(segment::FORMAT_VERSION);
    let directory = tempfile::tempdir().unwrap();
    let events = write_golden(directory.path());
    let names = ["MANIFEST", "00000000000000000000-000000.seg"];
    if std::env::var_os("MODELOG_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(&golden).unwrap();
        for name in names {
            fs::copy(directory.path().join("log").join(name), golden.join(name)).unwrap();
        }
    }
    for name in names {
        let (written, kept) = (directory.path().join("log").join(name), golden.join(name));
        assert!(
            fs::read(written).unwrap() == fs::read(kept).unwrap(),
            "{name} differs from the golden file"
        );
    }
    assert_eq!(read_golden(segment::FORMAT_VERSION), events);
}

/// Logs of every version there was are read, and written on.
#[test]
fn older_formats_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let events = write_golden(directory.path());
    for version in 1..segment::FORMAT_VERSION {
        assert_eq!(read_golden(version), events, "version {version}");
    }
}

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{version}"))
}

/// The events of a golden log, after more of them were written and the log was opened again.
fn read_golden(version: u32) -> Vec<Event> {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    copy(&golden(version), &data.join("log"));
    assert_eq!(inspect::verify(data).unwrap().findings, []);
    let engine = Engine::open(config(data)).unwrap();
    let events = read_all(&engine);
    let more = [prediction(1_000), prediction(1_001)];
    append(&engine, &more).unwrap();
    close(engine);
    assert_eq!(inspect::verify(data).unwrap().findings, []);
    let engine = Engine::open(config(data)).unwrap();
    let all = read_all(&engine);
    assert_eq!(all, [&events[..], &more].concat());
    close(engine);
    events
}
