//! Predictions and feedback are kept as long as was asked for, by the times in the log.

use std::time::Duration;

use modelog_engine::event::{Event, FeedbackLogged, ModelCreated, PredictionLogged};

use super::{START, Scene, content, rows};
use crate::{SqlConfig, SqlStore};

const HOUR: i64 = 3_600_000_000;

fn prediction(id: &str) -> Event {
    PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: Some(id.into()),
        ..Default::default()
    }
    .into()
}

fn feedback(id: &str) -> Event {
    FeedbackLogged {
        prediction_id: id.into(),
        correct: Some(true),
        ..Default::default()
    }
    .into()
}

fn store(scene: &Scene) -> SqlStore {
    let config = SqlConfig {
        predictions_keep: Some(Duration::from_secs(2 * 3600)),
        ..scene.config()
    };
    SqlStore::new(config).unwrap()
}

#[tokio::test]
async fn old_ones_go_as_the_log_goes_on() {
    let scene = Scene::new();
    let handle = scene.follow(store(&scene).projection()).await;
    for hour in 0..5 {
        scene.clock.set(START + hour * HOUR);
        // A time of its own does not matter: what counts is when the log took it.
        scene.append(&[
            prediction(&format!("p{hour}")).at(modelog_engine::Timestamp::from_micros(START)),
            feedback(&format!("p{hour}")),
        ]);
        scene.caught_up(&handle).await;
    }
    let mut database = scene.open().await;
    for table in ["predictions", "feedback"] {
        assert_eq!(
            rows(
                &mut database,
                &format!("SELECT prediction_id FROM {table} ORDER BY 1")
            )
            .await,
            ["'p2'", "'p3'", "'p4'"],
            "{table}"
        );
    }

    let again = Scene::new();
    for hour in 0..5 {
        again.clock.set(START + hour * HOUR);
        again.append(&[
            prediction(&format!("p{hour}")).at(modelog_engine::Timestamp::from_micros(START)),
            feedback(&format!("p{hour}")),
        ]);
    }
    again.follow(store(&again).projection()).await;
    assert_eq!(
        content(&again.path()).await,
        content(&scene.path()).await,
        "all at once"
    );
}

#[tokio::test]
async fn many_old_ones_go_step_by_step() {
    let scene = Scene::new();
    let events: Vec<_> = (0..4321)
        .map(|number| prediction(&number.to_string()))
        .collect();
    scene.append(&events);
    scene.clock.set(START + 3 * HOUR);
    scene.append(&[prediction("new")]);
    // Any event moves what is kept, one of another kind too.
    scene.clock.set(START + 4 * HOUR);
    scene.append(&[ModelCreated {
        model: "m".into(),
        ..Default::default()
    }
    .into()]);
    scene.follow(store(&scene).projection()).await;
    let mut database = scene.open().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT count(*), max(prediction_id) FROM predictions"
        )
        .await,
        ["1 'new'"]
    );
}

/// MLflow deleted old runs all at once, and took gigabytes of memory for it.
#[tokio::test]
async fn a_step_deletes_no_more_than_it_may() {
    use crate::bulk::{Habits, Transaction};
    use crate::connection::Session;
    use crate::error::Place;

    let scene = Scene::new();
    let events: Vec<_> = (0..2500)
        .map(|number| prediction(&number.to_string()))
        .collect();
    scene.append(&events);
    let mut database = scene.filled().await;
    let path = scene.path();
    for left in [1500, 500, 0] {
        let more = {
            let mut session = Session::Sqlite(scene.open().await);
            let (place, mut habits) = (Place::file(&path), Habits::default());
            let sql = session.begin().await.unwrap();
            let mut transaction = Transaction::new(sql, &place, &mut habits);
            let end = modelog_engine::Timestamp::from_micros(START + HOUR);
            let more = crate::retention::step("predictions", end, &mut transaction);
            let more = more.await.unwrap();
            let checkpoint = crate::checkpoint::read(&mut transaction.sql).await.unwrap();
            transaction.commit(checkpoint.unwrap()).await.unwrap();
            more
        };
        let found = rows(&mut database, "SELECT count(*) FROM predictions").await;
        assert_eq!(found, [left.to_string()], "a step deletes more than it may");
        assert_eq!(more, left > 0);
    }
}
