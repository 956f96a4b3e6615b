//! Statistics: over all time as the engine counts, over a stretch of time as the predictions are.

use modelog_engine::event::{
    Event, EventLogged, ExperimentCreated, FeedbackLogged, PredictionLogged,
};
use modelog_engine::read::{VersionKey, VersionStats};
use modelog_engine::stats::RELATIVE_ERROR;
use modelog_engine::{Offset, Timestamp};

use super::facts::{
    alias, at, dataset, feedback, json, metric, prediction, run, some, version, version_aliased,
    version_named,
};
use super::{Case, Factory, Scene, case, second};

pub(super) const CASES: &[Case] = &[
    case("totals are the engine's", |f| Box::pin(totals(f))),
    case("a version's statistics are the engine's", |f| {
        Box::pin(all_time(f))
    }),
    case("a stretch of time, half open", |f| Box::pin(stretches(f))),
    case("what counts in a stretch", |f| Box::pin(counting(f))),
    case("quantiles of a stretch", |f| Box::pin(quantiles(f))),
    case("statistics of nothing and of nobody", |f| {
        Box::pin(nothing(f))
    }),
    case("offsets go with the log", |f| Box::pin(offsets(f))),
];

async fn stats(scene: &Scene, since: Option<Timestamp>, until: Option<Timestamp>) -> VersionStats {
    let version = version_named("m", "v");
    let found = scene.reads().version_stats(&version, since, until).await;
    found.unwrap().expect("the version is there")
}

/// A whole answer, at a second.
fn answered(id: &str, seconds: i64, latency: f64, class: &str) -> Event {
    at(
        seconds,
        PredictionLogged {
            output: Some(json("1")),
            predicted_class: some(class),
            confidence: Some(0.5),
            inference_time_ms: Some(latency),
            ..prediction(id)
        },
    )
}

async fn totals(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let none = scene.reads().stats().await.unwrap();
    assert_eq!(none, Default::default());
    scene
        .log([
            Event::from(version("m", "v")),
            dataset("d").into(),
            run("r").into(),
            ExperimentCreated {
                experiment: "e".into(),
                ..ExperimentCreated::default()
            }
            .into(),
            metric("r", "loss", 1, 1.0).into(),
            metric("r", "loss", 1, 1.0).into(),
            answered("a", 1, 2.0, "x"),
            feedback("a", "x").into(),
            feedback("b", "x").into(),
        ])
        .await;
    let failed = PredictionLogged {
        error: some("boom"),
        ..prediction("c")
    };
    scene.log([failed]).await;
    let found = scene.reads().stats().await.unwrap();
    assert_eq!(
        found,
        scene.engine().with_statistics(|fold| fold.totals().clone())
    );
    let counts = [
        found.events,
        found.models,
        found.versions,
        found.datasets,
        found.experiments,
        found.runs,
        found.metric_points,
        found.predictions,
        found.prediction_errors,
        found.feedback,
        found.feedback_unmatched,
        found.rejected,
    ];
    assert_eq!(counts, [10, 1, 1, 1, 1, 1, 2, 2, 1, 2, 1, 0]);
    assert_eq!(found.as_of_offset, Offset(10));
}

async fn all_time(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let id_of = |number: i64| format!("p{number}");
    for batch in 0..5_i64 {
        let events = (0..40).map(|number| {
            let number = batch * 40 + number;
            let latency = (number as f64 * 0.37).exp().min(1e5);
            answered(&id_of(number), number, latency, "x")
        });
        scene.log(events).await;
        let labels = (0..40).step_by(3).map(|number| {
            feedback(
                &id_of(batch * 40 + number),
                if number % 2 == 0 { "x" } else { "y" },
            )
        });
        scene.log(labels).await;
    }
    scene.log([alias("m", "best", Some("v"))]).await;
    let expected = scene.engine().with_statistics(|fold| {
        let counted = fold.version(1).expect("the version was counted");
        counted.view("m", "v", fold.offset())
    });
    assert_eq!(stats(&scene, None, None).await, expected);
    assert_eq!(expected.predictions, 200);
    for key in [VersionKey::Id(1), version_aliased("m", "best")] {
        let found = scene.reads().version_stats(&key, None, None).await.unwrap();
        assert_eq!(found.as_ref(), Some(&expected));
    }
    // What the fold counted and what the rows say is the same where nothing was repeated.
    let rows = stats(&scene, Some(Timestamp::MIN), None).await;
    assert_eq!(
        (rows.predictions, rows.labelled, rows.correct),
        (expected.predictions, expected.labelled, expected.correct)
    );
    assert_eq!(rows.latency_ms_p50, expected.latency_ms_p50);
    assert_eq!(rows.latency_ms_p99, expected.latency_ms_p99);
    assert_eq!(rows.accuracy, expected.accuracy);
    assert_eq!(rows.rate_per_second, expected.rate_per_second);
}

async fn stretches(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let given = [-10, 0, 1, 1, 2, 5, 9];
    let events = (0..)
        .zip(given)
        .map(|(number, seconds)| answered(&format!("p{number}"), seconds, 1.0, "x"));
    scene.log(events).await;
    let bounds = [
        None,
        Some(-10),
        Some(0),
        Some(1),
        Some(2),
        Some(9),
        Some(10),
    ];
    for since in bounds {
        for until in bounds {
            let inside: Vec<i64> = given
                .into_iter()
                .filter(|time| since.is_none_or(|since| *time >= since))
                .filter(|time| until.is_none_or(|until| *time < until))
                .collect();
            let found = stats(&scene, since.map(second), until.map(second)).await;
            let text = format!("{since:?} to {until:?}");
            assert_eq!(found.predictions, inside.len() as u64, "{text}");
            let span = (inside.iter().min(), inside.iter().max());
            let times = (span.0.copied().map(second), span.1.copied().map(second));
            assert_eq!((found.first_time, found.last_time), times, "{text}");
            assert_eq!(found.as_of_offset, Offset(7), "{text}");
        }
    }
}

async fn counting(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let request = |id: &str| {
        at(
            3,
            PredictionLogged {
                part: some("request"),
                inference_time_ms: Some(5.0),
                ..prediction(id)
            },
        )
    };
    let response = |id: &str| {
        at(
            4,
            PredictionLogged {
                part: some("response"),
                output: Some(json("0")),
                ..prediction(id)
            },
        )
    };
    let failed = |id: &str| {
        at(
            3,
            PredictionLogged {
                error: some("boom"),
                ..prediction(id)
            },
        )
    };
    let valued = |id: &str, value: f64| {
        at(
            3,
            PredictionLogged {
                predicted_value: Some(value),
                confidence: Some(f64::NAN),
                inference_time_ms: Some(-1.0),
                ..prediction(id)
            },
        )
    };
    let truth = |id: &str, value: f64| FeedbackLogged {
        prediction_id: id.into(),
        true_value: Some(value),
        ..FeedbackLogged::default()
    };
    scene
        .log([
            request("only asked"),
            request("asked"),
            response("asked"),
            response("told"),
            request("told"),
            failed("failed"),
            valued("three", 3.0),
            valued("five", 5.0),
            valued("endless", f64::INFINITY),
            answered("right", 3, 10.0, "x"),
            answered("wrong", 3, 20.0, "x"),
            answered("right", 3, 10.0, "x"),
        ])
        .await;
    scene
        .log([
            Event::from(truth("three", 1.0)),
            truth("five", 6.0).into(),
            truth("endless", 0.0).into(),
            at(1, feedback("right", "y")),
            at(2, feedback("right", "x")),
            at(3, feedback("wrong", "z")),
            at(3, feedback("nobody's", "z")),
        ])
        .await;
    let found = stats(&scene, Some(second(0)), None).await;
    assert_eq!((found.predictions, found.errors), (8, 1));
    assert_eq!((found.labelled, found.correct), (2, 1));
    assert_eq!(found.accuracy, Some(0.5));
    assert_eq!(found.label_coverage, Some(0.25));
    assert_eq!(found.latency_count, 4);
    assert_eq!(found.latency_ms_mean, Some(10.0));
    assert_eq!(found.confidence_count, 2);
    assert_eq!(found.confidence_mean, Some(0.5));
    assert_eq!(found.confidence_stddev, Some(0.0));
    assert_eq!(found.valued, 2);
    assert_eq!(found.mean_absolute_error, Some(1.5));
    assert_eq!(found.root_mean_square_error, Some(2.5_f64.sqrt()));
}

/// Many predictions of few times, for stores that read in stretches.
async fn quantiles(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let total = 5_000_i64;
    let latency = |rank: i64| 0.001 * 1.003_f64.powi(rank as i32);
    // 769 and the total have no divisor in common, so that every rank comes once.
    let events = (0..total).map(|number| {
        let latency = latency(number * 769 % total);
        answered(&format!("p{number}"), number / 1_000, latency, "x")
    });
    scene.log(events).await;
    let found = stats(&scene, Some(second(0)), Some(second(9))).await;
    assert_eq!((found.predictions, found.latency_count), (5_000, 5_000));
    let quantiles = [
        (0.50, found.latency_ms_p50),
        (0.95, found.latency_ms_p95),
        (0.99, found.latency_ms_p99),
    ];
    for (q, found) in quantiles {
        let exact = latency((q * (total - 1) as f64).round() as i64);
        let found = found.unwrap();
        let error = (found - exact).abs() / exact;
        assert!(
            error <= RELATIVE_ERROR * 1.001,
            "p{q}: {found}, not {exact}"
        );
    }
    let mean = (0..total).map(latency).sum::<f64>() / total as f64;
    let found = found.latency_ms_mean.unwrap();
    assert!((found - mean).abs() / mean < 1e-9, "{found}, not {mean}");
}

async fn nothing(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let unknown = version_named("m", "v");
    let found = scene.reads().version_stats(&unknown, None, None).await;
    assert_eq!(found.unwrap(), None);
    scene.log([version("m", "v")]).await;
    for since in [None, Some(second(0))] {
        let found = stats(&scene, since, None).await;
        assert_eq!((found.model.as_str(), found.version.as_str()), ("m", "v"));
        assert_eq!((found.predictions, found.labelled), (0, 0));
        assert_eq!((found.accuracy, found.label_coverage), (None, None));
        assert_eq!((found.latency_ms_p50, found.rate_per_second), (None, None));
        assert_eq!(found.as_of_offset, Offset(1));
    }
}

async fn offsets(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    assert_eq!(scene.reads().offset().await.unwrap(), Offset(0));
    for end in [3, 6, 9] {
        scene
            .log([const { "tick" }; 3].map(|name| EventLogged {
                name: name.into(),
                data: None,
            }))
            .await;
        assert_eq!(scene.reads().offset().await.unwrap(), Offset(end));
        let totals = scene.reads().stats().await.unwrap();
        assert_eq!((totals.events, totals.as_of_offset), (end, Offset(end)));
    }
}
