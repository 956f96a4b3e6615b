//! Whose file it is, and what happens to files that are not as they should be.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use modelog_engine::ProjectionState;
use modelog_engine::event::{Event, ModelCreated};
use modelog_engine::projection::{Projection as _, ProjectionError};
use sqlx::Connection as _;

use super::{Scene, rows};
use crate::dialect::sqlite;

fn model(name: &str) -> Event {
    ModelCreated {
        model: name.into(),
        ..Default::default()
    }
    .into()
}

fn reason(error: ProjectionError) -> String {
    match error {
        ProjectionError::Stopped { reason } => reason,
        other => panic!("the projection should stop, not say {other:?}"),
    }
}

async fn execute(path: &Path, sql: &'static str) {
    let mut connection = super::open(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Lets a store be made, and closes it.
async fn made(scene: &Scene) {
    let mut projection = scene.store().projection();
    assert_eq!(projection.open().await.unwrap(), None);
    drop(projection);
    // Its connection closes on another thread, which then takes the write-ahead log away.
    while scene.path().with_extension("db-wal").exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_new_file_is_ours_alone() {
    let scene = Scene::with(&[model("m")]);
    let mut database = scene.filled().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = scene.path();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert!(path.with_extension("db-wal").exists());
    assert!(sqlite::is_ours(
        &fs::read(&path).unwrap()[..sqlite::HEADER_BYTES]
    ));
    assert_eq!(
        rows(&mut database, "SELECT version FROM schema_version").await,
        ["1"]
    );
}

#[tokio::test]
async fn what_is_not_ours_is_neither_read_nor_removed() {
    let scene = Scene::new();
    let path = scene.path();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let text: &[u8] = b"a diary, not a database";
    for other in ["text", "database"] {
        if other == "text" {
            fs::write(&path, text).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"").unwrap();
            execute(
                &path,
                "CREATE TABLE runs (mlflow TEXT); INSERT INTO runs VALUES ('mine')",
            )
            .await;
        }
        let before = fs::read(&path).unwrap();
        let mut projection = scene.store().projection();
        for refused in [
            projection.open().await.map(|_| ()).unwrap_err(),
            projection.clear().await.unwrap_err(),
        ] {
            let reason = reason(refused);
            assert!(reason.contains("was not made by Modelog"), "{reason}");
            assert!(reason.contains("modelog.db"), "{reason}");
        }
        assert_eq!(fs::read(&path).unwrap(), before, "{other}");
    }
}

#[tokio::test]
async fn an_empty_file_is_taken() {
    let scene = Scene::with(&[model("m")]);
    fs::create_dir(scene.path().parent().unwrap()).unwrap();
    fs::write(scene.path(), b"").unwrap();
    let mut database = scene.filled().await;
    assert_eq!(
        rows(&mut database, "SELECT name FROM models").await,
        ["'m'"]
    );
}

#[tokio::test]
async fn newer_tables_are_left_alone_until_told() {
    let scene = Scene::with(&[model("m")]);
    made(&scene).await;
    execute(&scene.path(), "UPDATE schema_version SET version = 99").await;
    let mut projection = scene.store().projection();
    let reason = reason(projection.open().await.unwrap_err());
    assert!(reason.contains("version 99"), "{reason}");
    assert!(reason.contains("use a newer modelog"), "{reason}");
    projection.clear().await.unwrap();
    assert_eq!(projection.open().await.unwrap(), None);
}

#[tokio::test]
async fn missing_tables_stop_it() {
    let scene = Scene::new();
    made(&scene).await;
    execute(&scene.path(), "DROP TABLE feedback").await;
    let reason = reason(scene.store().projection().open().await.unwrap_err());
    assert!(reason.contains("lacks tables"), "{reason}");
    assert!(reason.contains("modelog rebuild sql"), "{reason}");
}

#[tokio::test]
async fn guests_are_not_thrown_out() {
    let scene = Scene::new();
    made(&scene).await;
    execute(&scene.path(), "CREATE TABLE my_notes (note TEXT)").await;
    let mut projection = scene.store().projection();
    projection.open().await.unwrap();
    let reason = reason(projection.clear().await.unwrap_err());
    assert!(reason.contains("my_notes"), "{reason}");
    execute(&scene.path(), "DROP TABLE my_notes").await;
    projection.clear().await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_stops_it_and_is_rebuilt_when_told() {
    let scene = Scene::with(&[model("m")]);
    made(&scene).await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(scene.path())
        .unwrap();
    file.write_all_at(&[0xff; 4000], sqlite::HEADER_BYTES as u64)
        .unwrap();
    drop(file);
    let handle = scene.engine.project(Box::new(scene.store().projection()));
    while handle.status().state != ProjectionState::Stopped {
        tokio::task::yield_now().await;
    }
    let error = handle.status().last_error.unwrap();
    assert!(error.contains("damaged"), "{error}");
    assert!(error.contains("modelog rebuild sql"), "{error}");
    handle.rebuild().unwrap();
    while handle.status().state != ProjectionState::Running
        || handle.status().offset < scene.engine.tail()
    {
        tokio::task::yield_now().await;
    }
    let mut database = scene.open().await;
    assert_eq!(
        rows(&mut database, "SELECT name FROM models").await,
        ["'m'"]
    );
}
