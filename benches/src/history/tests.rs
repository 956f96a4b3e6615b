use super::*;

const EVENTS: usize = 5_000;

fn options(directory: &Path) -> Options {
    Options::of_a_test(directory)
}

fn size(events: usize) -> Size {
    Size {
        events,
        repetitions: 1,
        ..Size::of(true)
    }
}

/// Enough for the compactor to have work for some time.
const MANY: usize = 40_000;

fn said(_: &str) {}

#[test]
fn a_compacted_log_has_no_segments_and_all_events() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let log = History::take_in(&options, EVENTS).unwrap();
    assert!(bytes_below(log.path()).unwrap() > 0);
    let parquet = log.compacted(&options).unwrap();
    assert_eq!(parquet.prediction_files().unwrap().len(), 1);
    let rows = modelog_limits::read_parquet(&parquet.prediction_files().unwrap()).unwrap();
    assert_eq!(rows, EVENTS);
    let sizes = size::measure(&log, &parquet).unwrap();
    assert!(
        sizes
            .iter()
            .all(|row| row.limit.as_ref().unwrap().ratio < 1.0),
        "{sizes:?}"
    );
    let replayed = replay::measure(&options, size(EVENTS), &log, &parquet, &mut said).unwrap();
    assert!(
        replayed.iter().all(|row| row.figure.least > 0.0),
        "{replayed:?}"
    );
    drop((log, parquet));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn compaction_is_measured_beside_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let log = History::take_in(&options, MANY).unwrap();
    let rows = compaction::alone(&options, size(MANY), &log).unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(row.figure.least > 0.0 && row.limit.unwrap().figure.least > 0.0);
    }
    drop(log);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_backup_reads_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let log = History::take_in(&options, MANY).unwrap();
    let rows = backup::measure(&options, &log, &mut said).unwrap();
    let shares: Vec<_> = rows.iter().map(|row| row.figure.median).collect();
    // What is copied is read twice.
    assert!(
        shares[0] > 0.5 && shares[1] > 1.5 * shares[0] && shares[1] < 10.0,
        "{shares:?}"
    );
}

#[test]
fn predictions_are_spread_over_days() {
    let directory = tempfile::tempdir().unwrap();
    readers::write(directory.path(), 300_000).unwrap();
    let dates = std::fs::read_dir(directory.path().join("parquet/kind=PredictionLogged")).unwrap();
    assert_eq!(dates.count(), 30);
}
