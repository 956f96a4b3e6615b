//! Metrics: whose they are, their order, what is absorbed, and what is left out of many.

use modelog_engine::event::{Event, MetricLogged};
use modelog_engine::read::{MetricPoint, Series, SeriesOwner, SeriesQuery, SeriesSummary};
use modelog_engine::{Offset, Timestamp};

use super::facts::{at, finished, metric, of_run, of_version, run, some};
use super::{Case, Factory, Scene, case, second};

pub(super) const CASES: &[Case] = &[
    case("points in the order of step, time and offset", |f| {
        Box::pin(order(f))
    }),
    case("exact repeats are absorbed", |f| Box::pin(repeats(f))),
    case("numbers that are not finite show", |f| {
        Box::pin(non_finite(f))
    }),
    case("the latest is the highest, whenever it comes", |f| {
        Box::pin(latest(f))
    }),
    case("steps that were not given", |f| Box::pin(default_steps(f))),
    case("splits and owners are apart", |f| {
        Box::pin(splits_and_owners(f))
    }),
    case("bounds are inclusive", |f| Box::pin(bounds(f))),
    case("of many points few tell the shape", |f| {
        Box::pin(downsampling(f))
    }),
    case("long series are whole", |f| Box::pin(long_series(f))),
    case("a finished run takes metrics", |f| {
        Box::pin(after_the_end(f))
    }),
];

async fn series(scene: &Scene, owner: &SeriesOwner, name: &str, query: &SeriesQuery) -> Series {
    let found = scene.reads().points(owner, name, query).await.unwrap();
    found.expect("the owner is there")
}

async fn loss(scene: &Scene) -> Series {
    series(scene, &of_run("r"), "loss", &SeriesQuery::default()).await
}

async fn summaries(scene: &Scene, owner: &SeriesOwner) -> Vec<SeriesSummary> {
    let found = scene.reads().series(owner).await.unwrap();
    found.expect("the owner is there")
}

fn steps(series: &Series) -> Vec<i64> {
    series.points.iter().map(|point| point.step).collect()
}

fn offsets(series: &Series) -> Vec<u64> {
    series
        .points
        .iter()
        .map(|point| point.log_offset.0)
        .collect()
}

async fn order(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let point = |step, value| metric("r", "loss", step, value);
    scene
        .log([
            at(5, point(2, 0.5)),
            at(9, point(1, 0.25)),
            at(1, point(2, 0.75)),
            at(1, point(-3, 1.0)),
        ])
        .await;
    scene
        .log([
            at(5, point(2, 0.25)),
            at(1, point(i64::MIN, 3.0)),
            at(1, point(i64::MAX, -3.0)),
            at(5, point(2, 9.0)),
        ])
        .await;
    let found = loss(&scene).await;
    assert_eq!(offsets(&found), [5, 3, 1, 2, 0, 4, 7, 6]);
    assert_eq!(found.total_points, 8);
    assert_eq!(
        found.points[1],
        MetricPoint {
            step: -3,
            value: 1.0,
            epoch: None,
            time: second(1),
            log_offset: Offset(3),
        }
    );
    assert_eq!((found.name.as_str(), found.split), ("loss", None));
}

async fn repeats(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let point = |value| metric("r", "loss", 1, value);
    let with_epoch = MetricLogged {
        epoch: Some(2.0),
        ..point(0.1)
    };
    let events = [
        at(1, point(0.1)),
        at(1, with_epoch.clone()),
        at(2, point(0.1)),
        at(1, point(0.1 + f64::EPSILON)),
        at(1, point(f64::NAN)),
        at(1, point(f64::NAN)),
        at(1, point(f64::INFINITY)),
        at(1, point(f64::NEG_INFINITY)),
    ];
    scene.log(events.clone()).await;
    scene.log_each(events).await;
    let found = loss(&scene).await;
    assert_eq!(offsets(&found), [0, 3, 4, 6, 7, 2]);
    assert_eq!(found.total_points, 6);
    assert_eq!(found.points[0].epoch, None, "the first stays as it is");
    let summary = &summaries(&scene, &of_run("r")).await[0];
    assert_eq!(summary.points, 6);
    assert_eq!(summary.last, found.points[5]);
}

async fn non_finite(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let values = [1.5, f64::NAN, f64::INFINITY, -2.5, f64::NEG_INFINITY];
    scene
        .log((0..).zip(values).map(|(step, value)| {
            let point = MetricLogged {
                epoch: Some(value),
                ..metric("r", "loss", step, value)
            };
            at(step, point)
        }))
        .await;
    let diverged = [f64::NAN, f64::NEG_INFINITY];
    scene
        .log(
            (0..)
                .zip(diverged)
                .map(|(step, value)| metric("r", "odd", step, value)),
        )
        .await;
    let found = loss(&scene).await;
    let shown: Vec<_> = found
        .points
        .iter()
        .map(|point| format!("{} {:?}", point.value, point.epoch))
        .collect();
    assert_eq!(
        shown,
        [
            "1.5 Some(1.5)",
            "NaN Some(NaN)",
            "inf Some(inf)",
            "-2.5 Some(-2.5)",
            "-inf Some(-inf)",
        ]
    );
    let json = serde_json::to_string(&found.points[2]).unwrap();
    assert!(
        json.contains(r#""value":"Infinity","epoch":"Infinity""#),
        "{json}"
    );
    let found = summaries(&scene, &of_run("r")).await;
    assert_eq!((found[0].min, found[0].max), (Some(-2.5), Some(1.5)));
    assert_eq!(found[0].last.value, f64::NEG_INFINITY);
    assert_eq!((found[1].min, found[1].max), (None, None));
    assert_eq!(found[1].points, 2);
}

async fn latest(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let point = |step, value| metric("r", "loss", step, value);
    let events = [
        (at(5, point(10, 1.0)), 0),
        (at(9, point(9, 0.5)), 0),
        (at(4, point(10, 0.25)), 0),
        (at(5, point(10, 2.0)), 3),
        (at(0, point(11, -1.0)), 4),
        (at(0, point(11, f64::NAN)), 5),
        (at(0, point(11, -1.0)), 5),
    ];
    for (event, last) in events.clone() {
        scene.log([event]).await;
        let found = summaries(&scene, &of_run("r")).await;
        assert_eq!(found[0].last.log_offset, Offset(last));
        let points = loss(&scene).await.points;
        let newest = points.last().unwrap();
        assert_eq!(newest.log_offset, Offset(last), "both ways of asking agree");
    }
    let found = summaries(&scene, &of_run("r")).await;
    assert_eq!((found[0].min, found[0].max), (Some(-1.0), Some(2.0)));
    let mut together = Scene::new(factory).await;
    together.log(events.map(|(event, _)| event)).await;
    let same = summaries(&together, &of_run("r")).await;
    assert_eq!(format!("{found:?}"), format!("{same:?}"));
}

async fn default_steps(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let cases = [
        (None, None, 0),
        (None, Some(3.99), 3),
        (None, Some(-1.5), -1),
        (None, Some(f64::NAN), 0),
        (None, Some(f64::INFINITY), i64::MAX),
        (None, Some(-1e300), i64::MIN),
        (Some(7), Some(3.0), 7),
        (Some(0), Some(3.0), 0),
    ];
    for (number, (step, epoch, _)) in cases.iter().enumerate() {
        let point = MetricLogged {
            step: *step,
            epoch: *epoch,
            ..metric("r", &format!("m{number}"), 0, 1.0)
        };
        scene.log([point]).await;
    }
    for (number, (_, epoch, expected)) in cases.iter().enumerate() {
        let name = format!("m{number}");
        let found = series(&scene, &of_run("r"), &name, &SeriesQuery::default()).await;
        assert_eq!(steps(&found), [*expected], "{epoch:?}");
        assert_eq!(format!("{:?}", found.points[0].epoch), format!("{epoch:?}"));
    }
}

async fn splits_and_owners(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let split = |split: Option<&str>, value| MetricLogged {
        split: split.map(str::to_owned),
        ..metric("r", "loss", 0, value)
    };
    let of = |run: Option<&str>, version: Option<&str>, value| MetricLogged {
        run: run.map(str::to_owned),
        model: version.and(some("m")),
        version: version.map(str::to_owned),
        ..metric("", "loss", 0, value)
    };
    scene
        .log([
            split(Some("val"), 1.0),
            split(None, 2.0),
            split(Some(""), 3.0),
            split(Some("Val"), 4.0),
            split(Some("_"), 5.0),
            metric("r", "Loss", 0, 6.0),
            metric("r", "acc", 0, 7.0),
            of(Some("s"), None, 8.0),
            of(None, Some("v"), 9.0),
            of(None, Some("w"), 10.0),
            of(Some("t"), Some("v"), 11.0),
        ])
        .await;
    let found = summaries(&scene, &of_run("r")).await;
    let found: Vec<_> = found
        .iter()
        .map(|found| {
            (
                found.name.as_str(),
                found.split.as_deref(),
                found.last.value,
            )
        })
        .collect();
    let expected = [
        ("Loss", None, 6.0),
        ("acc", None, 7.0),
        ("loss", None, 2.0),
        ("loss", Some(""), 3.0),
        ("loss", Some("Val"), 4.0),
        ("loss", Some("_"), 5.0),
        ("loss", Some("val"), 1.0),
    ];
    assert_eq!(found, expected, "by name and split");
    for (name, split, value) in expected {
        let query = SeriesQuery {
            split: split.map(str::to_owned),
            ..SeriesQuery::default()
        };
        let found = series(&scene, &of_run("r"), name, &query).await;
        assert_eq!(found.points.len(), 1, "{name} {split:?}");
        assert_eq!(found.points[0].value, value, "{name} {split:?}");
        assert_eq!(found.split.as_deref(), split);
    }
    let owners = [
        (of_run("s"), Some(8.0)),
        (of_version("m", "v"), Some(9.0)),
        (of_version("m", "w"), Some(10.0)),
        (of_run("t"), Some(11.0)),
    ];
    for (owner, value) in owners {
        let found = series(&scene, &owner, "loss", &SeriesQuery::default()).await;
        let values: Vec<_> = found.points.iter().map(|point| point.value).collect();
        assert_eq!(values.first().copied(), value, "{owner:?}");
        assert_eq!(
            values.len(),
            1,
            "a run's point is not its version's: {owner:?}"
        );
    }
    for name in ["LOSS", "los", "loss ", "l%"] {
        let found = series(&scene, &of_run("r"), name, &SeriesQuery::default()).await;
        assert_eq!((found.total_points, found.points.len()), (0, 0), "{name}");
    }
    scene.log([run("u")]).await;
    assert!(summaries(&scene, &of_run("u")).await.is_empty());
    let (owner, query) = (of_run("x"), SeriesQuery::default());
    let unknown = scene.reads().points(&owner, "loss", &query).await;
    assert_eq!(unknown.unwrap(), None);
}

async fn bounds(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let given = [i64::MIN, -2, -1, 0, 0, 1, 5, i64::MAX];
    scene
        .log(
            (0..)
                .zip(given)
                .map(|(seconds, step)| at(seconds, metric("r", "loss", step, 1.0))),
        )
        .await;
    let cases = [
        (None, None),
        (Some(-1), None),
        (None, Some(0)),
        (Some(0), Some(0)),
        (Some(-1), Some(1)),
        (Some(2), Some(4)),
        (Some(1), Some(-1)),
        (Some(i64::MIN), Some(i64::MIN)),
        (Some(i64::MAX), None),
    ];
    for (from_step, to_step) in cases {
        let inside = |step: &i64| {
            from_step.is_none_or(|from| *step >= from) && to_step.is_none_or(|to| *step <= to)
        };
        let expected: Vec<i64> = given.into_iter().filter(inside).collect();
        for max_points in [None, Some(8), Some(100)] {
            let query = SeriesQuery {
                split: None,
                from_step,
                to_step,
                max_points,
            };
            let found = series(&scene, &of_run("r"), "loss", &query).await;
            assert_eq!(steps(&found), expected, "{query:?}");
            assert_eq!(found.total_points, expected.len() as u64, "{query:?}");
        }
    }
}

async fn downsampling(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let total = 1_000_i64;
    let value = |step: i64| match step {
        137 => 9.0,
        138 => -9.0,
        611 => f64::NAN,
        612 => f64::INFINITY,
        _ => (step % 7) as f64 / 7.0,
    };
    // Out of order, in several batches: the order of the series counts, not that of the log.
    for part in 0..4 {
        let steps = (0..total).rev().filter(|step| step % 4 == part);
        scene
            .log(steps.map(|step| at(0, metric("r", "loss", step, value(step)))))
            .await;
    }
    let thinned = |max_points, from_step| SeriesQuery {
        max_points: Some(max_points),
        from_step,
        ..SeriesQuery::default()
    };
    for max_points in [5, 9, 10, 50, 333, 999] {
        let found = series(&scene, &of_run("r"), "loss", &thinned(max_points, None)).await;
        let kept = steps(&found);
        assert_eq!(found.total_points, 1_000);
        assert!(kept.len() <= max_points as usize, "{max_points}");
        assert!(kept.is_sorted_by(|a, b| a < b));
        for step in [0, 137, 138, 999] {
            assert!(kept.contains(&step), "{max_points} points lack {step}");
        }
        assert!(kept.contains(&611), "{max_points} points show no NaN");
        for point in &found.points {
            assert_eq!(format!("{}", point.value), format!("{}", value(point.step)));
        }
    }
    let few = |max_points, from_step| {
        let query = thinned(max_points, from_step);
        let scene = &scene;
        async move { steps(&series(scene, &of_run("r"), "loss", &query).await) }
    };
    // Two buckets of 500; the least and greatest of the second are the first of their kind.
    assert_eq!(
        few(10, None).await,
        [0, 137, 138, 499, 500, 503, 504, 611, 999]
    );
    assert_eq!(few(5, None).await, [0, 137, 138, 611, 999]);
    assert_eq!(few(3, None).await, [0, 611, 999]);
    assert_eq!(few(2, None).await, [0, 999]);
    assert_eq!(few(1, None).await, [999]);
    assert!(few(0, None).await.is_empty());
    assert_eq!(few(2, Some(990)).await, [990, 999]);
    assert_eq!(few(10, Some(990)).await.len(), 10);
}

/// Long enough for stores that read in stretches, with ties where these may end and epochs of every sort.
async fn long_series(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let total = 10_000_u32;
    let point = |number: u32| MetricLogged {
        epoch: match number {
            5_000..5_010 => Some(0.1 + f64::from(number)),
            7_000..7_010 => Some(f64::NAN),
            8_000..9_000 => Some(f64::from(number)),
            9_000..9_005 => Some(-1e300),
            _ => None,
        },
        ..metric(
            "r",
            "loss",
            (number / 3_000).into(),
            1.0 / f64::from(number + 1),
        )
    };
    scene
        .log((0..total).map(|number| at(0, point(number))))
        .await;
    let found = loss(&scene).await;
    assert_eq!(found.total_points, u64::from(total));
    assert_eq!(found.points.len(), total as usize);
    for (number, found) in (0..total).zip(&found.points) {
        let expected = point(number);
        assert_eq!(found.log_offset, Offset(number.into()));
        assert_eq!(Some(found.step), expected.step);
        assert_eq!(found.value, expected.value);
        assert_eq!(
            format!("{:?}", found.epoch),
            format!("{:?}", expected.epoch)
        );
    }
    let inner = SeriesQuery {
        from_step: Some(1),
        to_step: Some(2),
        max_points: Some(5),
        ..SeriesQuery::default()
    };
    let found = series(&scene, &of_run("r"), "loss", &inner).await;
    assert_eq!(found.total_points, 6_000);
    assert_eq!(offsets(&found), [3_000, 8_999]);
}

async fn after_the_end(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let events: [Event; 3] = [
        run("r").into(),
        finished("r", "finished").into(),
        metric("r", "loss", 1, 0.5).into(),
    ];
    scene.log(events).await;
    assert_eq!(steps(&loss(&scene).await), [1]);
    let extremes = [Timestamp::MIN, Timestamp::MAX];
    scene
        .log(extremes.map(|time| Event::from(metric("r", "loss", 1, 0.5)).at(time)))
        .await;
    let found = loss(&scene).await;
    let times: Vec<_> = found.points.iter().map(|point| point.time).collect();
    assert_eq!(times, [Timestamp::MIN, super::START, Timestamp::MAX]);
}
