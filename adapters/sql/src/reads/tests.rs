//! Answers are found by index: what the database means to do is looked at, not how long it takes. And what happens when
//! there is no database, or one with nonsense in it.

use modelog_engine::Offset;
use modelog_engine::projection::Projection as _;
use modelog_engine::read::{Key, ReadError, ReadStore as _, SeriesOwner, StatsTotals, VersionKey};

use super::snapshot::{Snapshot, Statement};
use super::{entities, predictions, runs, series, statistics};
use crate::dialect::Dialect;
use crate::{SqlConfig, SqlStore};

/// The steps of a statement's plan.
async fn plan(snapshot: &mut Snapshot, mut statement: Statement) -> Vec<String> {
    statement.text.insert_str(0, "EXPLAIN QUERY PLAN ");
    snapshot.all(statement, |row| row.text(3)).await.unwrap()
}

async fn empty_store() -> (tempfile::TempDir, SqlStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqlStore::new(SqlConfig {
        directory: directory.path().into(),
        ..SqlConfig::default()
    })
    .unwrap();
    store.projection().open().await.unwrap();
    (directory, store)
}

#[tokio::test]
async fn pages_are_found_by_index_and_not_sorted() {
    let (_directory, store) = empty_store().await;
    let mut snapshot = Snapshot::begin(&store.reads().database).await.unwrap();
    let mut statements = vec![
        (
            predictions::page_statement(Dialect::Sqlite, 1, None, 101),
            "predictions_by_version (version_id=?)",
        ),
        (
            predictions::page_statement(Dialect::Sqlite, 1, Some((5, 6)), 101),
            "predictions_by_version (version_id=? AND time<?)",
        ),
        (
            predictions::one_statement(1, "p"),
            "predictions_by_id (prediction_id=? AND model_id=?)",
        ),
        (
            statistics::stretch_statement(1, (0, -1), 9),
            "predictions_by_version (version_id=? AND time>? AND time<?)",
        ),
    ];
    statements.extend(entities::page_statements());
    statements.extend(runs::page_statements());
    statements.extend(series::point_statements());
    for (statement, index) in statements {
        let text = statement.text.clone();
        let steps = plan(&mut snapshot, statement).await;
        let found = steps.iter().filter(|step| step.contains(index)).count();
        assert_eq!(found, 1, "{index}\n{text}\n{steps:#?}");
        for step in &steps {
            // Points of one step and time are sorted by offset, a few at a time.
            let ties = step == "USE TEMP B-TREE FOR LAST TERM OF ORDER BY";
            assert!(ties || !step.contains("TEMP B-TREE"), "{text}\n{steps:#?}");
        }
    }
    snapshot.end(()).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let config = SqlConfig {
        directory: directory.path().into(),
        ..SqlConfig::default()
    };
    let store = SqlStore::new(config).unwrap();
    let reads = store.reads();
    let away = |answer: Result<_, ReadError>| {
        matches!(answer, Err(ReadError::Unavailable { store: "sql", .. }))
    };
    assert!(away(reads.offset().await));
    // It answers as soon as it is there.
    store.projection().open().await.unwrap();
    assert_eq!(reads.offset().await.unwrap(), Offset(0));
    assert_eq!(reads.stats().await.unwrap(), StatsTotals::default());
    // Something else in its place is not read.
    store.close().await;
    let path = directory.path().join("sqlite/modelog.db");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"no database").unwrap();
    assert!(away(reads.offset().await));
}

#[tokio::test]
async fn damaged_content_is_an_error_that_says_so() {
    let (directory, store) = empty_store().await;
    let path = directory.path().join("sqlite/modelog.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let damage = "INSERT INTO models (id, name) VALUES (1, 'm'); \
         INSERT INTO model_versions (id, model_id, name, config) VALUES (1, 1, 'v', '{'); \
         INSERT INTO statistics (version_id, predictions, errors, labelled, correct, state) VALUES (1, 0, 0, 0, 0, x'00'); \
         INSERT INTO runs (id, name) VALUES (1, 'r'); \
         INSERT INTO metric_latest (series_id, owner_kind, owner_id, name, points, last_step, last_time, last_non_finite, \
         last_log_offset) VALUES (1, 'run', 1, 'loss', 1, 0, 0, 'nan', 0)";
    sqlx::raw_sql(damage)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let reads = store.reads();
    let version = VersionKey::Id(1);
    let failures = [
        reads.version(&version).await.map(drop),
        reads.version_stats(&version, None, None).await.map(drop),
        reads.series(&SeriesOwner::Run(Key::Id(1))).await.map(drop),
    ];
    for failure in failures {
        let error = failure.unwrap_err();
        let text = modelog_engine::chain(&error);
        assert!(text.contains("rebuild it from the log"), "{text}");
    }
    store.close().await;
}
