//! What events come to.

use modelog_engine::Timestamp;
use modelog_engine::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, EntityDeleted, EntityRestored, Event,
    ExperimentCreated, FeedbackLogged, HyperparametersLogged, Json, MetricLogged, ModelCreated,
    ModelVersionAliased, ModelVersionCreated, PredictionLogged, RunFinished, RunStarted, TagsSet,
};

use super::{START, Scene, rows};

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn at(event: impl Into<Event>, micros: i64) -> Event {
    event.into().at(Timestamp::from_micros(START + micros))
}

#[tokio::test]
async fn placeholders_are_filled_field_by_field() {
    let scene = Scene::new();
    scene.append(&[at(
        PredictionLogged {
            model: "m".into(),
            version: "v".into(),
            ..Default::default()
        },
        1,
    )]);
    let mut database = scene.filled().await;
    let models = "SELECT id, name, architecture, framework, created_at, log_offset FROM models";
    assert_eq!(
        rows(&mut database, models).await,
        ["1 'm' NULL NULL NULL NULL"]
    );
    scene.append(&[
        at(
            ModelCreated {
                model: "m".into(),
                architecture: Some("ResNet".into()),
                framework: Some("JAX".into()),
                ..Default::default()
            },
            5,
        ),
        at(
            ModelCreated {
                model: "m".into(),
                framework: Some("PyTorch".into()),
                ..Default::default()
            },
            3,
        ),
        at(
            ModelVersionCreated {
                model: "m".into(),
                version: "v".into(),
                config: Some(json(r#"{"a": 9007199254740993, "a":1}"#)),
                run: Some("r".into()),
                ..Default::default()
            },
            6,
        ),
    ]);
    scene
        .caught_up(&scene.engine.projection("sql").unwrap())
        .await;
    assert_eq!(
        rows(&mut database, models).await,
        [format!("1 'm' 'ResNet' 'PyTorch' {} 2", START + 5)]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT model_id, name, config, run_id FROM model_versions"
        )
        .await,
        [r#"1 'v' '{"a": 9007199254740993, "a":1}' 1"#]
    );
}

#[tokio::test]
async fn names_are_compared_byte_by_byte() {
    let names = ["Model", "model", "model ", "é", "e\u{301}", "e"];
    let events: Vec<Event> = names
        .map(|name| {
            ModelCreated {
                model: name.into(),
                ..Default::default()
            }
            .into()
        })
        .to_vec();
    let scene = Scene::with(&events);
    let mut database = scene.filled().await;
    let found: Vec<String> = sqlx::query_scalar("SELECT name FROM models ORDER BY id")
        .fetch_all(&mut database)
        .await
        .unwrap();
    assert_eq!(found, names);
}

#[tokio::test]
async fn runs_start_end_and_start_again() {
    let started = |run: &str, name: Option<&str>| RunStarted {
        run: run.into(),
        name: name.map(Into::into),
        experiment: Some("e".into()),
        model: Some("m".into()),
        version: Some("v".into()),
        ..Default::default()
    };
    let finished = |run: &str, status: &str| RunFinished {
        run: run.into(),
        status: status.into(),
        error: (status == "failed").then(|| "out of memory".into()),
    };
    let scene = Scene::new();
    scene.append(&[
        at(finished("late", "failed"), 1),
        at(started("a", Some("first")), 2),
        at(started("b", None), 3),
    ]);
    scene.append(&[
        at(started("late", None), 4),
        at(finished("a", "killed"), 5),
        at(finished("b", "finished"), 6),
    ]);
    scene.append(&[at(started("b", Some("again")), 7)]);
    let mut database = scene.filled().await;
    let query = format!(
        "SELECT name, display_name, experiment_id, model_id, version_id, status, error, started_at - {START}, \
         finished_at - {START}, log_offset FROM runs ORDER BY name"
    );
    assert_eq!(
        rows(&mut database, &query).await,
        [
            "'a' 'first' 1 1 1 'killed' NULL 2 5 4",
            "'b' 'again' 1 1 1 'running' NULL 3 NULL 6",
            "'late' NULL 1 1 1 'failed' 'out of memory' 4 1 3",
        ]
    );
}

#[tokio::test]
async fn tags_and_parameters_merge_per_key() {
    let scene = Scene::new();
    scene.append(&[
        ExperimentCreated {
            experiment: "e/1".into(),
            tags: Some(json(r#"{"b": 1.0, "a":"x", "gone": true}"#)),
            ..Default::default()
        }
        .into(),
        HyperparametersLogged {
            run: "r".into(),
            params: json(r#"{"lr":1e-3,"layers":[1, 2]}"#),
        }
        .into(),
    ]);
    scene.append(&[
        TagsSet {
            entity: "experiment/e%2F1".into(),
            tags: json(r#"{"a":{"deep" : 9007199254740993},"gone":null,"c":""}"#),
        }
        .into(),
        TagsSet {
            entity: "version/m@v".into(),
            tags: json(r#"{"stage":"prod","stage":"canary"}"#),
        }
        .into(),
        HyperparametersLogged {
            run: "r".into(),
            params: json(r#"{"lr":null}"#),
        }
        .into(),
    ]);
    let mut database = scene.filled().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT entity_kind, entity_id, tag_key, tag_value FROM tags ORDER BY entity_kind, log_offset, place"
        )
        .await,
        [
            "'experiment' 1 'b' '1.0'",
            r#"'experiment' 1 'a' '{"deep" : 9007199254740993}'"#,
            r#"'experiment' 1 'c' '""'"#,
            r#"'version' 1 'stage' '"canary"'"#,
        ]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT run_id, param_key, param_value FROM run_params ORDER BY log_offset, place"
        )
        .await,
        ["1 'layers' '[1, 2]'", "1 'lr' 'null'"]
    );
}

#[tokio::test]
async fn what_hangs_on_runs_and_models() {
    let alias = |alias: &str, version: Option<&str>| ModelVersionAliased {
        model: "m".into(),
        alias: alias.into(),
        version: version.map(Into::into),
    };
    let used = |role: Option<&str>| DatasetUsed {
        run: "r".into(),
        dataset: "d".into(),
        version: None,
        role: role.map(Into::into),
    };
    let artifact = |name: Option<&str>, size: Option<i64>| ArtifactLogged {
        uri: "s3://b/last.ckpt".into(),
        run: Some("r".into()),
        name: name.map(Into::into),
        size_bytes: size,
        ..Default::default()
    };
    let scene = Scene::new();
    scene.append(&[
        alias("prod", Some("v1")).into(),
        alias("canary", Some("v1")).into(),
        used(Some("train")).into(),
        used(None).into(),
        artifact(Some("last"), Some(1)).into(),
        DatasetRegistered {
            dataset: "d".into(),
            row_count: Some(7),
            schema: Some(json("[]")),
            ..Default::default()
        }
        .into(),
    ]);
    scene.append(&[
        alias("prod", Some("v2")).into(),
        alias("canary", None).into(),
        used(Some("train")).into(),
        used(None).into(),
        artifact(None, Some(2)).into(),
        EntityDeleted {
            entity: "dataset/d".into(),
        }
        .into(),
        EntityDeleted {
            entity: "run/r".into(),
        }
        .into(),
        EntityRestored {
            entity: "run/r".into(),
        }
        .into(),
    ]);
    let mut database = scene.filled().await;
    let aliases =
        "SELECT m.alias, v.name FROM model_aliases m JOIN model_versions v ON v.id = m.version_id";
    assert_eq!(rows(&mut database, aliases).await, ["'prod' 'v2'"]);
    assert_eq!(
        rows(
            &mut database,
            "SELECT run_id, dataset_id, role, log_offset FROM run_datasets"
        )
        .await,
        ["1 1 'train' 2", "1 1 NULL 3"]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT run_id, version_id, uri, name, size_bytes, log_offset FROM artifacts"
        )
        .await,
        ["1 0 's3://b/last.ckpt' 'last' 2 4"]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT row_count, data_schema, deleted_at, log_offset FROM datasets"
        )
        .await,
        [format!("7 '[]' {START} 11")]
    );
    assert_eq!(
        rows(&mut database, "SELECT deleted_at, log_offset FROM runs").await,
        ["NULL 13"]
    );
}

fn point(step: Option<i64>, value: f64, epoch: Option<f64>) -> MetricLogged {
    MetricLogged {
        name: "loss".into(),
        value,
        run: Some("r".into()),
        step,
        epoch,
        ..Default::default()
    }
}

#[tokio::test]
async fn exact_repeats_of_points_are_absorbed() {
    let scene = Scene::new();
    scene.append(&[
        at(point(Some(1), 0.5, None), 1),
        at(point(Some(1), 0.5, None), 1),
        at(point(Some(1), 0.25, None), 1),
        at(point(None, f64::NAN, Some(2.9)), 2),
        at(point(None, f64::NEG_INFINITY, Some(2.5)), 2),
    ]);
    scene.append(&[
        at(point(Some(1), 0.5, None), 1),
        at(point(Some(2), f64::NAN, None), 2),
        at(point(Some(1), 0.75, None), 0),
    ]);
    let mut database = scene.filled().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT step, value, non_finite, epoch, log_offset FROM metrics ORDER BY step, time, log_offset"
        )
        .await,
        [
            "1 0.75 NULL NULL 7",
            "1 0.5 NULL NULL 0",
            "1 0.25 NULL NULL 2",
            "2 NULL 'NaN' 2.9 3",
            "2 NULL '-Infinity' 2.5 4",
        ]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT owner_kind, owner_id, name, split, points, last_step, last_value, last_non_finite, last_log_offset, \
             min_value, max_value FROM metric_latest"
        )
        .await,
        ["'run' 1 'loss' NULL 5 2 NULL '-Infinity' 4 0.25 0.75"]
    );
}

#[tokio::test]
async fn series_are_told_apart() {
    let of = |run: Option<&str>, split: Option<&str>| {
        let mut point = point(Some(1), 1.0, None);
        point.run = run.map(Into::into);
        if run.is_none() {
            (point.model, point.version) = (Some("m".into()), Some("v".into()));
        }
        point.split = split.map(Into::into);
        Event::from(point)
    };
    let scene = Scene::new();
    scene.append(&[
        of(Some("r"), Some("train")),
        of(None, None),
        of(Some("r"), None),
        of(Some("r"), Some("")),
        of(Some("r"), Some("train")),
    ]);
    scene.append(&[of(Some("s"), None), of(Some("r"), None)]);
    let mut database = scene.filled().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT series_id, owner_kind, owner_id, split, points FROM metric_latest ORDER BY series_id"
        )
        .await,
        [
            "1 'run' 1 'train' 1",
            "2 'version' 1 NULL 1",
            "3 'run' 1 NULL 1",
            "4 'run' 1 '' 1",
            "5 'run' 2 NULL 1",
        ]
    );
}

fn prediction(id: Option<&str>) -> PredictionLogged {
    PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: id.map(Into::into),
        ..Default::default()
    }
}

#[tokio::test]
async fn halves_of_a_prediction_become_one() {
    let scene = Scene::new();
    let mut request = prediction(Some("p"));
    request.part = Some("request".into());
    request.input = Some(json(r#"{ "x":1}"#));
    request.user_id = Some("u".into());
    let mut response = prediction(Some("p"));
    response.part = Some("response".into());
    response.output = Some(json("[1]"));
    response.confidence = Some(0.5);
    response.version = "v2".into();
    scene.append(&[at(request, 1)]);
    let mut database = scene.filled().await;
    let query = format!(
        "SELECT log_offset, version_id, prediction_id, complete, time - {START}, input, output, confidence, user_id \
         FROM predictions"
    );
    assert_eq!(
        rows(&mut database, &query).await,
        [r#"0 1 'p' 0 1 '{ "x":1}' NULL NULL 'u'"#]
    );
    scene.append(&[at(response, 9), prediction(None).into()]);
    scene.append(&[Event::from(prediction(None)).with_id("own")]);
    scene
        .caught_up(&scene.engine.projection("sql").unwrap())
        .await;
    assert_eq!(
        rows(&mut database, &query).await,
        [
            r#"0 2 'p' 1 1 '{ "x":1}' '[1]' 0.5 'u'"#,
            "2 1 '2' 1 0 NULL NULL NULL NULL",
            "3 1 'own' 1 0 NULL NULL NULL NULL",
        ]
    );
}

#[tokio::test]
async fn numbers_that_are_not_finite_merge_like_others() {
    let with = |value: Option<f64>, confidence: Option<f64>| {
        let mut prediction = prediction(Some("p"));
        (prediction.predicted_value, prediction.confidence) = (value, confidence);
        Event::from(prediction)
    };
    let scene = Scene::new();
    let query = "SELECT predicted_value, confidence, non_finite FROM predictions";
    let nan = f64::NAN;
    scene.append(&[with(Some(1.0), Some(nan))]);
    let mut database = scene.filled().await;
    let steps = [
        (with(None, None), r#"1.0 NULL '{"confidence":"NaN"}'"#),
        (
            with(Some(f64::INFINITY), None),
            r#"NULL NULL '{"confidence":"NaN","predicted_value":"Infinity"}'"#,
        ),
        (
            with(None, Some(0.5)),
            r#"NULL 0.5 '{"predicted_value":"Infinity"}'"#,
        ),
        (
            with(Some(-f64::INFINITY), Some(0.25)),
            r#"NULL 0.25 '{"predicted_value":"-Infinity"}'"#,
        ),
        (with(Some(2.0), None), "2.0 0.25 NULL"),
    ];
    for (event, expected) in steps {
        scene.append(&[event]);
        scene
            .caught_up(&scene.engine.projection("sql").unwrap())
            .await;
        assert_eq!(rows(&mut database, query).await, [expected]);
    }
}

#[tokio::test]
async fn feedback_finds_its_prediction_whichever_comes_first() {
    let feedback = |id: &str, model: Option<&str>, class: Option<&str>| FeedbackLogged {
        prediction_id: id.into(),
        model: model.map(Into::into),
        true_class: class.map(Into::into),
        true_value: Some(f64::NAN),
        ..Default::default()
    };
    let mut judged = feedback("early", Some("m"), Some("cat"));
    judged.correct = Some(false);
    let mut cat = prediction(Some("early"));
    cat.predicted_class = Some("cat".into());
    let mut dog = prediction(Some("late"));
    dog.predicted_class = Some("dog".into());
    let scene = Scene::new();
    scene.append(&[
        at(feedback("early", None, Some("cat")), 5),
        at(judged, 4),
        at(feedback("early", Some("other"), Some("fish")), 9),
        at(cat, 1),
        at(dog.clone(), 1),
        at(feedback("late", Some("m"), Some("cat")), 2),
    ]);
    let mut database = scene.filled().await;
    let query = "SELECT prediction_id, predicted_class, true_class, correct FROM prediction_details \
                 ORDER BY log_offset";
    assert_eq!(
        rows(&mut database, query).await,
        ["'early' 'cat' 'cat' 1", "'late' 'dog' 'cat' 0"]
    );
    dog.predicted_class = Some("cat".into());
    scene.append(&[at(dog, 3)]);
    scene
        .caught_up(&scene.engine.projection("sql").unwrap())
        .await;
    assert_eq!(
        rows(&mut database, query).await,
        ["'early' 'cat' 'cat' 1", "'late' 'cat' 'cat' 1"]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT count(*), min(non_finite) FROM feedback"
        )
        .await,
        [r#"4 '{"true_value":"NaN"}'"#]
    );
}

#[tokio::test]
async fn statistics_are_those_of_the_engine() {
    let scene = Scene::new();
    for latency in [10.0, 20.0, 30.0] {
        let mut prediction = prediction(None);
        prediction.inference_time_ms = Some(latency);
        scene.append(&[prediction.into()]);
    }
    let mut database = scene.filled().await;
    let totals =
        "SELECT as_of_offset, events, models, versions, predictions FROM statistics_totals";
    assert_eq!(rows(&mut database, totals).await, ["3 3 1 1 3"]);
    let state: Vec<u8> = sqlx::query_scalar("SELECT state FROM statistics WHERE version_id = 1")
        .fetch_one(&mut database)
        .await
        .unwrap();
    scene.engine.with_statistics(|statistics| {
        assert_eq!(statistics.version(1).unwrap().encode(), state);
    });
    assert_eq!(
        rows(
            &mut database,
            "SELECT predictions, latency_ms_mean FROM statistics"
        )
        .await,
        ["3 20.0"]
    );
}

#[tokio::test]
async fn views_speak_in_names() {
    let scene = Scene::new();
    let mut of_version = point(Some(4), f64::INFINITY, None);
    (of_version.run, of_version.split) = (None, Some("val".into()));
    (of_version.model, of_version.version) = (Some("m".into()), Some("v".into()));
    let deleted = EntityDeleted {
        entity: "run/gone".into(),
    };
    scene.append(&[
        at(
            RunStarted {
                run: "r".into(),
                parent: Some("p".into()),
                model: Some("m".into()),
                version: Some("v".into()),
                ..Default::default()
            },
            123_000,
        ),
        deleted.into(),
        at(point(Some(3), 0.5, Some(1.5)), 0),
        at(of_version, 0),
        at(prediction(Some("p")), 0),
    ]);
    let mut database = scene.filled().await;
    assert_eq!(
        rows(
            &mut database,
            "SELECT run, parent, model, version, status, started_at FROM run_details ORDER BY run"
        )
        .await,
        [
            "'p' NULL NULL NULL NULL NULL",
            "'r' 'p' 'm' 'v' 'running' '2026-11-18T11:06:40.123Z'",
        ]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT run, model, version, metric, split, step, epoch, value, non_finite, time FROM metric_details \
             ORDER BY log_offset"
        )
        .await,
        [
            "'r' NULL NULL 'loss' NULL 3 1.5 0.5 NULL '2026-11-18T11:06:40.000Z'",
            "NULL 'm' 'v' 'loss' 'val' 4 NULL NULL 'Infinity' '2026-11-18T11:06:40.000Z'",
        ]
    );
    assert_eq!(
        rows(
            &mut database,
            "SELECT prediction_id, model, version, time, true_class, correct FROM prediction_details"
        )
        .await,
        ["'p' 'm' 'v' '2026-11-18T11:06:40.000Z' NULL NULL"]
    );
}
