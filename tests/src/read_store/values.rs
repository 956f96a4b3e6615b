//! Values that break naive systems.

use modelog_engine::Timestamp;
use modelog_engine::event::{
    DatasetRegistered, Event, FeedbackLogged, MetricLogged, ModelCreated, ModelVersionCreated,
    PredictionLogged, RunStarted,
};
use modelog_engine::read::{RunFilter, SeriesQuery};

use super::facts::{
    alias, dataset, experiment, feedback, json, metric, model, named, of_run, prediction, run,
    some, version, version_aliased, version_named,
};
use super::{Case, Factory, Scene, case, first, pages};

pub(super) const CASES: &[Case] = &[
    case("names differ by the byte", |f| Box::pin(names(f))),
    case("names of the largest size", |f| Box::pin(long_names(f))),
    case("JSON comes back byte for byte", |f| Box::pin(json_texts(f))),
    case("JSON of every field", |f| Box::pin(json_fields(f))),
    case("plain text comes back as it is", |f| {
        Box::pin(plain_texts(f))
    }),
    case("times from end to end", |f| Box::pin(times(f))),
];

/// Names that some database, locale or language takes for each other, or for something else.
const NAMES: [&str; 34] = [
    "model",
    "Model",
    "MODEL",
    " model",
    "model ",
    "model  ",
    "mödel",
    "mo\u{308}del",
    "é",
    "e\u{301}",
    "e",
    "E",
    "straße",
    "strasse",
    "ﬁ",
    "fi",
    "K",
    "\u{212a}",
    "ı",
    "I",
    "1",
    "01",
    "1.0",
    "1e0",
    "NULL",
    "null",
    "%",
    "_",
    "'; DROP TABLE models; --",
    "a/b@c:d{e}",
    "日本語",
    "🦀",
    "a\u{200b}",
    "\u{feff}a",
];

async fn names(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    for (value, name) in (0_u32..).zip(NAMES) {
        let value = f64::from(value);
        let answer = PredictionLogged {
            predicted_value: Some(value),
            ..prediction(name)
        };
        let labelled = FeedbackLogged {
            true_value: Some(value),
            model: some("m"),
            ..feedback(name, "")
        };
        let split = MetricLogged {
            split: some(name),
            ..metric("split", "loss", 0, value)
        };
        let named_run = RunStarted {
            experiment: some(name),
            model: some(name),
            ..run(name)
        };
        scene
            .log([
                Event::from(model(name)),
                version("m", name).into(),
                alias("m", name, Some(name)).into(),
                dataset(name).into(),
                experiment(name).into(),
                named_run.into(),
                metric("names", name, 0, value).into(),
                split.into(),
                answer.into(),
                labelled.into(),
            ])
            .await;
    }
    let reads = scene.reads();
    for (value, name) in (0_u32..).zip(NAMES) {
        let value = f64::from(value);
        let found = reads.model(&named(name)).await.unwrap().unwrap();
        assert_eq!(found.model, name);
        for key in [version_named("m", name), version_aliased("m", name)] {
            let found = reads.version(&key).await.unwrap().unwrap();
            assert_eq!(found.version, name);
            assert_eq!(found.aliases, [name]);
        }
        let found = reads.dataset(&named(name)).await.unwrap().unwrap();
        assert_eq!(found.dataset, name);
        let found = reads.experiment(&named(name)).await.unwrap().unwrap();
        assert_eq!(found.experiment, name);
        let found = reads.run(&named(name)).await.unwrap().unwrap();
        assert_eq!((found.run.as_str(), found.experiment), (name, some(name)));
        for (experiment, model) in [(some(name), None), (None, some(name))] {
            let filter = RunFilter {
                experiment,
                model,
                ..RunFilter::default()
            };
            let found = reads.runs(&filter, first(100)).await.unwrap().items;
            let found: Vec<_> = found.iter().map(|run| run.run.as_str()).collect();
            assert_eq!(found, [name]);
        }
        let query = SeriesQuery::default();
        let found = reads.points(&of_run("names"), name, &query).await.unwrap();
        let points = found.unwrap().points;
        assert_eq!(points.len(), 1, "{name:?}");
        assert_eq!(points[0].value, value, "{name:?}");
        let query = SeriesQuery {
            split: some(name),
            ..SeriesQuery::default()
        };
        let found = reads
            .points(&of_run("split"), "loss", &query)
            .await
            .unwrap();
        let points = found.unwrap().points;
        assert_eq!(points.len(), 1, "{name:?}");
        assert_eq!(points[0].value, value, "{name:?}");
        let found = reads.prediction(&named("m"), name).await.unwrap().unwrap();
        assert_eq!(found.prediction_id, name);
        assert_eq!(found.predicted_value, Some(value));
        let answer = found.feedback.unwrap();
        assert_eq!(answer.true_value, Some(value), "{name:?}");
    }
    let mut sorted = NAMES;
    sorted.sort_unstable();
    let series = reads.series(&of_run("names")).await.unwrap().unwrap();
    let found: Vec<_> = series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(found, sorted, "names are ordered by their bytes");
    let found = reads.model(&named("m")).await.unwrap().unwrap();
    let found: Vec<_> = found
        .aliases
        .iter()
        .map(|found| found.alias.as_str())
        .collect();
    assert_eq!(found, sorted);
}

async fn long_names(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let long = |last: &str| format!("{}{last}", "ü".repeat(249));
    for last in ["a", "b", "a "] {
        scene
            .log([
                Event::from(run(&long(last))),
                version(&long(last), &long(last)).into(),
                PredictionLogged {
                    model: long(last),
                    version: long(last),
                    ..prediction(&long(last))
                }
                .into(),
                metric(&long(last), &"ü".repeat(125), 0, 1.0).into(),
            ])
            .await;
    }
    for last in ["a", "b", "a "] {
        let name = long(last);
        let reads = scene.reads();
        let found = reads.run(&named(&name)).await.unwrap().unwrap();
        assert_eq!(found.run, name);
        let found = reads.prediction(&named(&name), &name).await.unwrap();
        assert_eq!(found.unwrap().version, name);
        let found = reads.series(&of_run(&name)).await.unwrap().unwrap();
        assert_eq!(found.len(), 1);
    }
    let found = pages(1, |page| scene.reads().models(page)).await;
    assert_eq!(found.len(), 3);
}

/// JSON that is easily changed by reading and writing it again.
fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "null",
        "true",
        " { } ",
        "[]",
        "0",
        "-0",
        "-0.0",
        "1E+2",
        "1e400",
        "0.1000000000000000055511151231257827021181583404541015625",
        "9007199254740993",
        "18446744073709551616",
        "123456789012345678901234567890",
        "\"\"",
        r#""\u0000""#,
        r#"{"\u0000":"\u0000"}"#,
        r#"{"a":1,"a":2, "a" :3}"#,
        "{\"b\":1,\n\t\"a\":\r\n2}",
        r#""\ud83e\udd80 🦀 \/ \u00e9 é e\u0301""#,
        r#"{"NaN":"NaN","'":"''","%s":"$1","?":"?"}"#,
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ]
    .map(str::to_owned)
    .into();
    texts.push(format!("{{\"big\":\"{}\"}}", "x".repeat(1_000_000)));
    texts
}

async fn json_texts(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let texts = odd_texts();
    let ids: Vec<String> = (0..texts.len()).map(|number| number.to_string()).collect();
    for (id, text) in ids.iter().zip(&texts) {
        let answer = PredictionLogged {
            input: Some(json(text)),
            output: Some(json(text)),
            ..prediction(id)
        };
        scene.log([answer]).await;
    }
    for (id, text) in ids.iter().zip(&texts) {
        let found = scene.reads().prediction(&named("m"), id).await.unwrap();
        let found = found.unwrap();
        assert_eq!(
            found.input.as_ref().map(|found| found.as_str()),
            Some(text.as_str())
        );
        assert_eq!(
            found.output.as_ref().map(|found| found.as_str()),
            Some(text.as_str())
        );
        let written = serde_json::to_string(&found).unwrap();
        assert!(
            written.contains(&format!("\"input\":{}", text.trim())),
            "written as it was read: {text}"
        );
    }
}

async fn json_fields(factory: &dyn Factory) {
    let odd = json(" {\"a\": 9007199254740993, \"a\" :1e400,\"\\u0000\":\"\\u0000\" } ");
    let mut scene = Scene::new(factory).await;
    let created = ModelVersionCreated {
        config: Some(odd.clone()),
        signature: Some(odd.clone()),
        ..version("m", "v")
    };
    let registered = DatasetRegistered {
        split_info: Some(odd.clone()),
        schema: Some(odd.clone()),
        ..dataset("d")
    };
    let answer = PredictionLogged {
        timings: Some(odd.clone()),
        tags: Some(odd.clone()),
        ..prediction("p")
    };
    let labelled = FeedbackLogged {
        label: Some(odd.clone()),
        ..feedback("p", "x")
    };
    let artifact = modelog_engine::event::ArtifactLogged {
        uri: "u".into(),
        run: some("r"),
        metadata: Some(odd.clone()),
        ..Default::default()
    };
    scene
        .log([
            Event::from(created),
            registered.into(),
            answer.into(),
            labelled.into(),
            artifact.into(),
        ])
        .await;
    let reads = scene.reads();
    let found = reads.version(&version_named("m", "v")).await.unwrap();
    let found = found.unwrap();
    assert_eq!(found.config.as_ref(), Some(&odd));
    assert_eq!(found.signature.as_ref(), Some(&odd));
    let found = reads.dataset(&named("d")).await.unwrap().unwrap();
    assert_eq!(found.split_info.as_ref(), Some(&odd));
    assert_eq!(found.schema.as_ref(), Some(&odd));
    let found = reads.prediction(&named("m"), "p").await.unwrap().unwrap();
    assert_eq!(found.timings.as_ref(), Some(&odd));
    assert_eq!(found.tags.as_ref(), Some(&odd));
    assert_eq!(found.feedback.unwrap().label.as_ref(), Some(&odd));
    let found = reads.run(&named("r")).await.unwrap().unwrap();
    assert_eq!(found.artifacts[0].metadata.as_ref(), Some(&odd));
}

async fn plain_texts(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let texts = [
        String::new(),
        " ".into(),
        "line\nline\r\n\ttab\u{7f}\u{1}".into(),
        "' \" \\ ; -- /* */ $1 ? :a @b".into(),
        "e\u{301} é 🦀 \u{10ffff}".into(),
        "NaN".into(),
        "0x10".into(),
        "1e5".into(),
        "x".repeat(1 << 20),
    ];
    for (number, text) in texts.iter().enumerate() {
        let described = ModelCreated {
            description: Some(text.clone()),
            ..model(&format!("m{number}"))
        };
        let answer = PredictionLogged {
            predicted_class: Some(text.clone()),
            error: Some(text.clone()),
            ..prediction(&format!("p{number}"))
        };
        scene.log([Event::from(described), answer.into()]).await;
    }
    for (number, text) in texts.iter().enumerate() {
        let key = named(&format!("m{number}"));
        let found = scene.reads().model(&key).await.unwrap().unwrap();
        assert_eq!(found.description.as_ref(), Some(text));
        let id = format!("p{number}");
        let found = scene.reads().prediction(&named("m"), &id).await.unwrap();
        let found = found.unwrap();
        assert_eq!(found.predicted_class.as_ref(), Some(text));
        assert_eq!(found.error.as_ref(), Some(text));
    }
}

async fn times(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let times = [
        Timestamp::MIN,
        Timestamp::from_micros(-1),
        Timestamp::from_micros(0),
        Timestamp::from_micros(1),
        Timestamp::MAX,
    ];
    let events = times.iter().enumerate().map(|(number, time)| {
        Event::from(PredictionLogged {
            output: Some(json("1")),
            ..prediction(&number.to_string())
        })
        .at(*time)
    });
    scene.log(events).await;
    let version = version_named("m", "v");
    let found = pages(2, |page| async {
        let page = scene.reads().predictions(&version, page).await?;
        Ok(page.expect("the version is there"))
    });
    let found: Vec<_> = found.await.iter().map(|found| found.time).collect();
    assert!(found.iter().rev().eq(&times), "{found:?}");
    let stats = scene.reads().version_stats(&version, None, None).await;
    let stats = stats.unwrap().unwrap();
    assert_eq!(stats.first_time, Some(Timestamp::MIN));
    assert_eq!(stats.last_time, Some(Timestamp::MAX));
    let stretch = (Some(Timestamp::from_micros(0)), Some(Timestamp::MAX));
    let stats = scene.reads().version_stats(&version, stretch.0, stretch.1);
    assert_eq!(stats.await.unwrap().unwrap().predictions, 2);
}
