//! Rows that the database does not take, databases that are busy, checkpoints that moved.

use std::time::Duration;

use modelog_engine::ProjectionState;
use modelog_engine::event::{Event, MetricLogged, PredictionLogged};
use modelog_engine::projection::Projection as _;
use sqlx::Connection as _;

use super::{Scene, rows};
use crate::bulk::REFUSED_MAX;
use crate::{SqlConfig, SqlStore};

fn prediction(id: &str) -> Event {
    PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: Some(id.into()),
        ..Default::default()
    }
    .into()
}

/// A store whose database refuses some rows.
async fn picky(scene: &Scene, triggers: &'static str) {
    let mut projection = scene.store().projection();
    projection.open().await.unwrap();
    let mut database = scene.open().await;
    sqlx::raw_sql(triggers)
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn refused_rows_are_found_and_the_others_are_there() {
    let scene = Scene::new();
    picky(
        &scene,
        "CREATE TRIGGER no_bad BEFORE INSERT ON predictions WHEN new.prediction_id LIKE 'bad%' \
         BEGIN SELECT raise(ABORT, 'no bad ones'); END; \
         CREATE TRIGGER no_sevens BEFORE INSERT ON metrics WHEN new.value = 7.0 \
         BEGIN SELECT raise(ABORT, 'no sevens'); END",
    )
    .await;
    let bad = [17, 300, 301, 999];
    let events: Vec<_> = (0..1000)
        .map(|number| {
            let id = if bad.contains(&number) { "bad" } else { "good" };
            prediction(&format!("{id}{number}"))
        })
        .collect();
    scene.append(&events);
    let points: Vec<Event> = (0..10)
        .map(|value| {
            MetricLogged {
                name: "loss".into(),
                value: f64::from(value),
                run: Some("r".into()),
                ..Default::default()
            }
            .into()
        })
        .collect();
    scene.append(&points);
    let mut database = scene.filled().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT count(*), count(DISTINCT log_offset) FROM predictions"
        )
        .await,
        ["996 996"]
    );
    let refused = rows(
        &mut database,
        "SELECT table_name, log_offset, reason LIKE '%no bad ones%' OR reason LIKE '%no sevens%' FROM rejected_rows \
         ORDER BY log_offset",
    )
    .await;
    assert_eq!(
        refused,
        [
            "'predictions' 17 1",
            "'predictions' 300 1",
            "'predictions' 301 1",
            "'predictions' 999 1",
            "'metrics' 1007 1",
        ]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT points, min_value, max_value FROM metric_latest"
        )
        .await,
        ["9 0.0 9.0"],
        "a point that is not there does not count"
    );
}

#[tokio::test]
async fn too_many_refused_rows_stop_it() {
    let scene = Scene::new();
    picky(
        &scene,
        "CREATE TRIGGER none BEFORE INSERT ON predictions BEGIN SELECT raise(ABORT, 'none today'); END",
    )
    .await;
    let events: Vec<_> = (0..=REFUSED_MAX)
        .map(|number| prediction(&number.to_string()))
        .collect();
    scene.append(&events);
    let handle = scene.engine.project(Box::new(scene.store().projection()));
    while handle.status().state != ProjectionState::Stopped {
        tokio::task::yield_now().await;
    }
    let error = handle.status().last_error.unwrap();
    assert!(
        error.contains("predictions") && error.contains("none today"),
        "{error}"
    );
    let mut database = scene.open().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT (SELECT count(*) FROM rejected_rows) + (SELECT count(*) FROM models), count(*) FROM checkpoint"
        )
        .await,
        ["0 0"],
        "nothing of it is kept"
    );
}

#[tokio::test]
async fn a_trigger_that_ends_the_transaction_stops_it() {
    let scene = Scene::new();
    picky(
        &scene,
        "CREATE TRIGGER ender BEFORE INSERT ON predictions WHEN new.prediction_id = 'bad' \
         BEGIN SELECT raise(ROLLBACK, 'the end'); END",
    )
    .await;
    scene.append(&["good", "bad", "fine"].map(prediction));
    let handle = scene.engine.project(Box::new(scene.store().projection()));
    while handle.status().state != ProjectionState::Stopped {
        tokio::task::yield_now().await;
    }
    let error = handle.status().last_error.unwrap();
    assert!(error.contains("ended the transaction"), "{error}");
    let mut database = scene.open().await;
    let left = "SELECT (SELECT count(*) FROM predictions) + (SELECT count(*) FROM models), count(*) FROM checkpoint";
    assert_eq!(
        rows(&mut database, left).await,
        ["0 0"],
        "nothing of it is kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_waited_for() {
    let scene = Scene::new();
    let config = SqlConfig {
        busy_timeout: Duration::from_millis(1),
        ..scene.config()
    };
    let store = SqlStore::new(config).unwrap();
    scene.append(&[prediction("p")]);
    let handle = scene.follow(store.projection()).await;
    let mut database = scene.open().await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    scene.append(&[prediction("q")]);
    while handle.status().state != ProjectionState::Retrying {
        tokio::task::yield_now().await;
    }
    assert!(handle.status().last_error.unwrap().contains("locked"));
    lock.rollback().await.unwrap();
    scene.caught_up(&handle).await;
    assert_eq!(
        rows(&mut database, "SELECT count(*) FROM predictions").await,
        ["2"]
    );
}

#[tokio::test]
async fn a_checkpoint_that_moved_is_read_again() {
    let scene = Scene::new();
    scene.append(&[prediction("p")]);
    let handle = scene.follow(scene.store().projection()).await;
    let mut database = scene.open().await;
    // As if another program had applied what this one is about to.
    sqlx::query("UPDATE checkpoint SET log_offset = 2")
        .execute(&mut database)
        .await
        .unwrap();
    scene.append(&[prediction("skipped")]);
    scene.append(&[prediction("q")]);
    scene.caught_up(&handle).await;
    assert_eq!(handle.status().errors, 1);
    assert_eq!(
        rows(
            &mut database,
            "SELECT prediction_id FROM predictions ORDER BY log_offset"
        )
        .await,
        ["'p'", "'q'"]
    );
}
