//! Models, versions, datasets, experiments and runs: how they come to be, change, hide and show again.

use modelog_engine::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, Event, ExperimentCreated, FeedbackLogged,
    MetricLogged, ModelCreated, ModelVersionCreated, PredictionLogged, RunFinished, RunStarted,
};
use modelog_engine::read::{
    Alias, Artifact, Key, Run, SeriesOwner, SeriesQuery, UsedDataset, VersionKey,
};

use super::facts::{
    alias, at, dataset, deleted, experiment, finished, json, metric, model, named, of_version,
    params, prediction, restored, run, some, tags, version, version_aliased, version_named,
};
use super::{Case, Factory, Scene, case, first, second};

pub(super) const CASES: &[Case] = &[
    case("whatever is named is there", |f| Box::pin(placeholders(f))),
    case("what is created fills the placeholder", |f| {
        Box::pin(fill(f))
    }),
    case("later fields go before earlier ones", |f| {
        Box::pin(merging(f))
    }),
    case("tags merge by key", |f| Box::pin(tags_merge(f))),
    case("hyperparameters merge by key", |f| {
        Box::pin(params_merge(f))
    }),
    case("aliases point, move and go", |f| Box::pin(aliases(f))),
    case("a run's life", |f| Box::pin(life_of_a_run(f))),
    case("a run that ends before it starts", |f| {
        Box::pin(end_before_start(f))
    }),
    case("what a run used and made", |f| Box::pin(used_and_made(f))),
    case("names, numbers and what nobody named", |f| {
        Box::pin(keys(f))
    }),
    case("what is deleted hides until it is restored", |f| {
        Box::pin(deletion(f))
    }),
    case("what belongs to the deleted hides with it", |f| {
        Box::pin(deletion_below(f))
    }),
    case("what is deleted unseen stays hidden", |f| {
        Box::pin(deleted_unseen(f))
    }),
];

async fn run_named(scene: &Scene, name: &str) -> Run {
    let found = scene.reads().run(&named(name)).await;
    found.expect("a run can be read").expect("the run is there")
}

/// How many models, versions of `m`, datasets, experiments and runs are shown.
async fn counts(scene: &Scene) -> [usize; 5] {
    let reads = scene.reads();
    let versions = reads.versions(&named("m"), first(100)).await.unwrap();
    [
        reads.models(first(100)).await.unwrap().items.len(),
        versions.map_or(0, |versions| versions.items.len()),
        reads.datasets(first(100)).await.unwrap().items.len(),
        reads.experiments(first(100)).await.unwrap().items.len(),
        reads
            .runs(&Default::default(), first(100))
            .await
            .unwrap()
            .items
            .len(),
    ]
}

async fn placeholders(factory: &dyn Factory) {
    let started = RunStarted {
        parent: some("p"),
        experiment: some("e"),
        model: some("m"),
        version: some("v"),
        dataset: some("d"),
        ..run("r")
    };
    let made_by = ModelVersionCreated {
        run: some("r"),
        ..version("m", "v")
    };
    let used = DatasetUsed {
        run: "r".into(),
        dataset: "d".into(),
        ..DatasetUsed::default()
    };
    let of_version = MetricLogged {
        name: "loss".into(),
        model: some("m"),
        version: some("v"),
        ..MetricLogged::default()
    };
    let artifact = ArtifactLogged {
        uri: "s3://a".into(),
        run: some("r"),
        model: some("m"),
        version: some("v"),
        ..ArtifactLogged::default()
    };
    let answer = FeedbackLogged {
        prediction_id: "p".into(),
        model: some("m"),
        version: some("v"),
        ..FeedbackLogged::default()
    };
    let mentions: [(Event, [usize; 5]); 15] = [
        (started.into(), [1, 1, 1, 1, 2]),
        (made_by.into(), [1, 1, 0, 0, 1]),
        (alias("m", "best", Some("v")).into(), [1, 1, 0, 0, 0]),
        (alias("m", "best", None).into(), [1, 0, 0, 0, 0]),
        (used.into(), [0, 0, 1, 0, 1]),
        (params("r", "{}").into(), [0, 0, 0, 0, 1]),
        (metric("r", "loss", 0, 1.0).into(), [0, 0, 0, 0, 1]),
        (of_version.into(), [1, 1, 0, 0, 0]),
        (artifact.into(), [1, 1, 0, 0, 1]),
        (finished("r", "failed").into(), [0, 0, 0, 0, 1]),
        (prediction("p").into(), [1, 1, 0, 0, 0]),
        (answer.into(), [1, 1, 0, 0, 0]),
        (tags("version/m@v", "{}").into(), [1, 1, 0, 0, 0]),
        (tags("dataset/d", r#"{"a":1}"#).into(), [0, 0, 1, 0, 0]),
        (restored("experiment/e").into(), [0, 0, 0, 1, 0]),
    ];
    for (event, expected) in mentions {
        let mut scene = Scene::new(factory).await;
        let text = format!("{event:?}");
        scene.log([event]).await;
        assert_eq!(counts(&scene).await, expected, "{text}");
        let models = scene.reads().models(first(9)).await.unwrap();
        for model in models.items {
            assert_eq!((model.id, model.created_at), (1, None), "{text}");
        }
    }
}

async fn fill(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene
        .log([RunStarted {
            experiment: some("e"),
            model: some("m"),
            version: some("v"),
            dataset: some("d"),
            ..run("r")
        }])
        .await;
    let model = ModelCreated {
        model: "m".into(),
        architecture: some("ResNet-50"),
        framework: some("PyTorch"),
        task_type: some("classification"),
        description: some("a\nb"),
        tags: Some(json(r#"{"team": "x"}"#)),
    };
    let version = ModelVersionCreated {
        model: "m".into(),
        version: "v".into(),
        checkpoint_path: some("s3://bucket/x.pth"),
        config: Some(json("{\"layers\": 50 }")),
        signature: Some(json("[1,2]")),
        digest: some("sha256:0"),
        run: some("r"),
        description: some(""),
        tags: Some(json(r#"{"a":null,"b":2}"#)),
    };
    let dataset = DatasetRegistered {
        dataset: "d".into(),
        version: some("2024"),
        uri: some("s3://d"),
        split_info: Some(json(r#"{"train":0.9}"#)),
        row_count: Some(i64::MAX),
        digest: some("x"),
        schema: Some(json(r#""csv""#)),
        tags: Some(json(r#"{"pii":false}"#)),
    };
    let experiment = ExperimentCreated {
        experiment: "e".into(),
        description: some("why"),
        tags: Some(json(r#"{"q":[1]}"#)),
    };
    scene
        .log_each([
            at(1, model.clone()),
            at(2, version.clone()),
            at(3, dataset.clone()),
            at(4, experiment.clone()),
        ])
        .await;
    let reads = scene.reads();
    let found = reads.model(&named("m")).await.unwrap().unwrap();
    assert_eq!((found.id, found.created_at), (1, Some(second(1))));
    assert_eq!(found.architecture, model.architecture);
    assert_eq!(found.framework, model.framework);
    assert_eq!(found.task_type, model.task_type);
    assert_eq!(found.description, model.description);
    assert_eq!(found.tags, Some(json(r#"{"team":"x"}"#)));
    let found = reads.version(&version_named("m", "v")).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.id, found.model_id), (1, 1));
    assert_eq!((found.model.as_str(), found.version.as_str()), ("m", "v"));
    assert_eq!(found.created_at, Some(second(2)));
    assert_eq!(found.checkpoint_path, version.checkpoint_path);
    assert_eq!(found.config, version.config);
    assert_eq!(found.signature, version.signature);
    assert_eq!(found.digest, version.digest);
    assert_eq!(found.run, version.run);
    assert_eq!(found.description, version.description);
    assert_eq!(found.tags, Some(json(r#"{"b":2}"#)));
    let found = reads.dataset(&named("d")).await.unwrap().unwrap();
    assert_eq!(found.created_at, Some(second(3)));
    assert_eq!(found.version, dataset.version);
    assert_eq!(found.uri, dataset.uri);
    assert_eq!(found.split_info, dataset.split_info);
    assert_eq!(found.row_count, dataset.row_count);
    assert_eq!(found.digest, dataset.digest);
    assert_eq!(found.schema, dataset.schema);
    assert_eq!(found.tags, dataset.tags);
    let found = reads.experiment(&named("e")).await.unwrap().unwrap();
    assert_eq!(found.created_at, Some(second(4)));
    assert_eq!(found.description, experiment.description);
    assert_eq!(found.tags, experiment.tags);
}

async fn merging(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let facts = [
        ModelCreated {
            architecture: some("a"),
            framework: some("b"),
            ..model("m")
        },
        ModelCreated {
            framework: some("c"),
            description: some(""),
            ..model("m")
        },
        ModelCreated {
            description: some("d"),
            ..model("m")
        },
    ];
    // Once apart, once together: how events are cut does not matter.
    for (name, together) in [("m", false), ("n", true)] {
        let events = (5..).zip(&facts).map(|(seconds, fact)| {
            let fact = ModelCreated {
                model: name.into(),
                ..fact.clone()
            };
            at(10 - seconds, fact)
        });
        if together {
            scene.log(events).await;
        } else {
            scene.log_each(events).await;
        }
        let found = scene.reads().model(&named(name)).await.unwrap().unwrap();
        assert_eq!(found.architecture, some("a"));
        assert_eq!(found.framework, some("c"));
        assert_eq!(found.description, some("d"));
        assert_eq!(found.created_at, Some(second(5)), "the first event's time");
    }
}

async fn tags_merge(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let entities = [
        "model/m",
        "version/m@v",
        "dataset/d",
        "experiment/e",
        "run/r",
    ];
    let apart = [
        r#"{"a":1, "b" : "x" ,"c":[ 1 ]}"#,
        r#"{"b":null,"d":9007199254740993}"#,
        r#"{"a":{"z":1},"missing":null}"#,
        r#"{}"#,
    ];
    for entity in entities {
        scene.log_each(apart.map(|text| tags(entity, text))).await;
    }
    let expected = Some(json(r#"{"c":[ 1 ],"d":9007199254740993,"a":{"z":1}}"#));
    let reads = scene.reads();
    let found = [
        reads.model(&named("m")).await.unwrap().unwrap().tags,
        reads
            .version(&version_named("m", "v"))
            .await
            .unwrap()
            .unwrap()
            .tags,
        reads.dataset(&named("d")).await.unwrap().unwrap().tags,
        reads.experiment(&named("e")).await.unwrap().unwrap().tags,
        run_named(&scene, "r").await.tags,
    ];
    for (found, entity) in found.into_iter().zip(entities) {
        assert_eq!(found, expected, "{entity}");
    }
    // The same in one batch, and all tags removed again.
    scene.log(apart.map(|text| tags("run/s", text))).await;
    assert_eq!(run_named(&scene, "s").await.tags, expected);
    scene
        .log([tags("run/s", r#"{"a":null,"c":null,"d":null}"#)])
        .await;
    assert_eq!(run_named(&scene, "s").await.tags, None);
    // Set and removed within one batch, and the other way round.
    scene
        .log([
            tags("run/t", r#"{"a":1,"b":2}"#),
            tags("run/t", r#"{"a":null}"#),
            tags("run/t", r#"{"b":null}"#),
            tags("run/t", r#"{"b":3}"#),
        ])
        .await;
    assert_eq!(run_named(&scene, "t").await.tags, Some(json(r#"{"b":3}"#)));
}

async fn params_merge(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let given = [
        params("r", r#"{"lr": 1e-3, "layers":[3, 4], "é\"":null}"#),
        params("r", r#"{"n":18446744073709551617,"lr":0.10}"#),
        params("r", r#"{"n":12345678901234567890123}"#),
    ];
    let expected = Some(json(
        r#"{"layers":[3, 4],"é\"":null,"lr":0.10,"n":12345678901234567890123}"#,
    ));
    scene.log_each(given.clone()).await;
    assert_eq!(run_named(&scene, "r").await.params, expected);
    scene
        .log(given.map(|mut fact| {
            fact.run = "s".into();
            fact
        }))
        .await;
    assert_eq!(run_named(&scene, "s").await.params, expected);
    scene.log([params("t", "{}")]).await;
    assert_eq!(run_named(&scene, "t").await.params, None);
}

async fn aliases(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let pairs = |pairs: &[(&str, &str)]| -> Vec<Alias> {
        pairs
            .iter()
            .map(|(alias, version)| Alias {
                alias: (*alias).into(),
                version: (*version).into(),
            })
            .collect()
    };
    scene
        .log([
            alias("m", "prod", Some("1")),
            alias("m", "best", Some("2")),
            alias("n", "prod", Some("9")),
        ])
        .await;
    let found = scene.reads().model(&named("m")).await.unwrap().unwrap();
    assert_eq!(found.aliases, pairs(&[("best", "2"), ("prod", "1")]));
    scene
        .log([alias("m", "prod", Some("2")), alias("m", "none", None)])
        .await;
    let reads = scene.reads();
    let version = reads.version(&version_aliased("m", "prod")).await.unwrap();
    let version = version.unwrap();
    assert_eq!(version.version, "2");
    assert_eq!(version.aliases, ["best", "prod"]);
    let first_version = reads.version(&version_named("m", "1")).await.unwrap();
    assert!(first_version.unwrap().aliases.is_empty());
    let other = reads.version(&version_aliased("n", "prod")).await.unwrap();
    assert_eq!(other.unwrap().version, "9");
    for (model, alias) in [("m", "Prod"), ("m", "2"), ("n", "best"), ("x", "prod")] {
        let found = reads.version(&version_aliased(model, alias)).await.unwrap();
        assert!(found.is_none(), "{model}@{alias}");
    }
    scene
        .log([alias("m", "prod", None), alias("m", "best", Some("1"))])
        .await;
    let reads = scene.reads();
    let found = reads.model(&named("m")).await.unwrap().unwrap();
    assert_eq!(found.aliases, pairs(&[("best", "1")]));
    let found = reads.version(&version_aliased("m", "prod")).await.unwrap();
    assert!(found.is_none());
    // An alias of a version that is hidden is hidden too, and comes back with it.
    scene.log([deleted("version/m@1")]).await;
    let found = scene.reads().model(&named("m")).await.unwrap().unwrap();
    assert!(found.aliases.is_empty());
    let found = scene.reads().version(&version_aliased("m", "best")).await;
    assert!(found.unwrap().is_none());
    scene.log([restored("version/m@1")]).await;
    let found = scene.reads().version(&version_aliased("m", "best")).await;
    assert_eq!(found.unwrap().unwrap().version, "1");
}

async fn life_of_a_run(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let start = RunStarted {
        name: some("first try"),
        parent: some("p"),
        experiment: some("e"),
        model: some("m"),
        version: some("v"),
        dataset: some("d"),
        started_by: some("eve"),
        code: some("abc"),
        tags: Some(json(r#"{"k":1}"#)),
        ..run("r")
    };
    scene.log([at(10, start.clone())]).await;
    let running = run_named(&scene, "r").await;
    let expected = Run {
        id: running.id,
        run: "r".into(),
        name: start.name,
        parent: start.parent,
        experiment: start.experiment,
        model: start.model,
        version: start.version,
        dataset: start.dataset,
        started_by: start.started_by,
        code: start.code,
        tags: start.tags,
        params: None,
        status: some("running"),
        error: None,
        started_at: Some(second(10)),
        finished_at: None,
        datasets: Vec::new(),
        artifacts: Vec::new(),
    };
    assert_eq!(running, expected);
    let failure = RunFinished {
        error: some("out of memory"),
        ..finished("r", "failed")
    };
    scene.log([at(20, failure)]).await;
    let failed = Run {
        status: some("failed"),
        error: some("out of memory"),
        finished_at: Some(second(20)),
        ..expected.clone()
    };
    assert_eq!(run_named(&scene, "r").await, failed);
    // Another start opens it again; what it says goes before what was said.
    let again = RunStarted {
        name: some("second try"),
        ..run("r")
    };
    scene.log([at(30, again)]).await;
    let reopened = Run {
        name: some("second try"),
        ..expected
    };
    assert_eq!(run_named(&scene, "r").await, reopened);
    scene
        .log([
            at(40, finished("r", "killed")),
            at(35, finished("r", "finished")),
        ])
        .await;
    let ended = Run {
        status: some("finished"),
        finished_at: Some(second(35)),
        ..reopened
    };
    assert_eq!(run_named(&scene, "r").await, ended, "the last in the log");
    // All of it in one batch.
    scene
        .log([
            at(10, run("s")).fact,
            finished("s", "failed").into(),
            run("s").into(),
        ])
        .await;
    let found = run_named(&scene, "s").await;
    assert_eq!((found.status, found.finished_at), (some("running"), None));
    let placeholder = run_named(&scene, "p").await;
    assert_eq!((placeholder.status, placeholder.started_at), (None, None));
}

async fn end_before_start(factory: &dyn Factory) {
    for together in [false, true] {
        let mut scene = Scene::new(factory).await;
        let events = [at(20, finished("r", "failed")), at(10, run("r"))];
        if together {
            scene.log(events).await;
        } else {
            scene.log_each(events).await;
        }
        let found = run_named(&scene, "r").await;
        assert_eq!(
            found.status,
            some("failed"),
            "a first start reopens nothing"
        );
        assert_eq!(found.started_at, Some(second(10)));
        assert_eq!(found.finished_at, Some(second(20)));
        scene.log([at(30, run("r"))]).await;
        let found = run_named(&scene, "r").await;
        assert_eq!(found.status, some("running"), "a second one does");
        assert_eq!(found.started_at, Some(second(10)));
        assert_eq!(found.finished_at, None);
    }
}

async fn used_and_made(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let used = |dataset: &str, version: Option<&str>, role: Option<&str>| UsedDataset {
        dataset: dataset.into(),
        version: version.map(str::to_owned),
        role: role.map(str::to_owned),
    };
    let uses = [
        used("d", None, Some("train")),
        used("c", Some("1"), Some("val")),
        used("d", None, Some("")),
        used("d", None, None),
        used("d", Some(""), None),
    ];
    let event = |used: &UsedDataset| DatasetUsed {
        run: "r".into(),
        dataset: used.dataset.clone(),
        version: used.version.clone(),
        role: used.role.clone(),
    };
    scene.log(uses.iter().map(event)).await;
    scene.log_each(uses.iter().rev().map(event)).await;
    assert_eq!(run_named(&scene, "r").await.datasets, uses, "each once");

    let made = |uri: &str, name: Option<&str>| ArtifactLogged {
        uri: uri.into(),
        run: some("r"),
        name: name.map(str::to_owned),
        ..ArtifactLogged::default()
    };
    let whole = ArtifactLogged {
        media_type: some("application/x"),
        size_bytes: Some(5_000_000_000),
        digest: some("d"),
        metadata: Some(json(r#"{"a": 1.0}"#)),
        ..made("s3://b", Some("weights"))
    };
    let elsewhere = ArtifactLogged {
        run: some("s"),
        ..made("s3://z", None)
    };
    scene
        .log([made("s3://z", Some("log")), whole.clone(), elsewhere])
        .await;
    scene.log([made("s3://z", Some("log 2"))]).await;
    let artifact = Artifact {
        uri: "s3://z".into(),
        name: some("log 2"),
        media_type: None,
        size_bytes: None,
        digest: None,
        metadata: None,
    };
    let weights = Artifact {
        uri: whole.uri,
        name: whole.name,
        media_type: whole.media_type,
        size_bytes: whole.size_bytes,
        digest: whole.digest,
        metadata: whole.metadata,
    };
    assert_eq!(run_named(&scene, "r").await.artifacts, [artifact, weights]);
    assert_eq!(run_named(&scene, "s").await.artifacts.len(), 1);
    let page = scene.reads().runs(&Default::default(), first(9)).await;
    for listed in page.unwrap().items {
        assert_eq!(listed, run_named(&scene, &listed.run).await, "lists agree");
    }
}

async fn keys(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene
        .log([
            Event::from(model("m")),
            version("m", "v").into(),
            version("m", "w").into(),
            dataset("d").into(),
            experiment("e").into(),
            run("r").into(),
        ])
        .await;
    let reads = scene.reads();
    let by_name = reads.model(&named("m")).await.unwrap();
    assert!(by_name.is_some());
    assert_eq!(by_name, reads.model(&Key::Id(1)).await.unwrap());
    assert_eq!(
        reads.dataset(&named("d")).await.unwrap(),
        reads.dataset(&Key::Id(1)).await.unwrap()
    );
    assert_eq!(
        reads.experiment(&named("e")).await.unwrap(),
        reads.experiment(&Key::Id(1)).await.unwrap()
    );
    assert_eq!(
        reads.run(&named("r")).await.unwrap(),
        reads.run(&Key::Id(1)).await.unwrap()
    );
    let second_version = reads.version(&VersionKey::Id(2)).await.unwrap();
    assert!(second_version.is_some());
    let by_model_id = VersionKey::Name {
        model: Key::Id(1),
        version: "w".into(),
    };
    assert_eq!(reads.version(&by_model_id).await.unwrap(), second_version);
    for key in [
        named("x"),
        named(""),
        Key::Id(0),
        Key::Id(2),
        Key::Id(u32::MAX),
    ] {
        assert_eq!(reads.model(&key).await.unwrap(), None, "{key:?}");
        assert_eq!(reads.dataset(&key).await.unwrap(), None, "{key:?}");
        assert_eq!(reads.experiment(&key).await.unwrap(), None, "{key:?}");
        assert_eq!(reads.run(&key).await.unwrap(), None, "{key:?}");
        assert_eq!(
            reads.versions(&key, first(9)).await.unwrap(),
            None,
            "{key:?}"
        );
        let version = VersionKey::Name {
            model: key.clone(),
            version: "v".into(),
        };
        assert_eq!(reads.version(&version).await.unwrap(), None, "{key:?}");
        let owner = SeriesOwner::Run(key);
        assert_eq!(reads.series(&owner).await.unwrap(), None, "{owner:?}");
    }
    let unknown = reads.version(&version_named("m", "x")).await.unwrap();
    assert_eq!(unknown, None);
    assert_eq!(reads.version(&VersionKey::Id(3)).await.unwrap(), None);
}

async fn deletion(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let created: [Event; 5] = [
        model("m").into(),
        version("m", "v").into(),
        dataset("d").into(),
        experiment("e").into(),
        run("r").into(),
    ];
    scene.log(created).await;
    let entities = [
        "model/m",
        "version/m@v",
        "dataset/d",
        "experiment/e",
        "run/r",
    ];
    for (at, entity) in entities.into_iter().enumerate() {
        let mut expected = [1; 5];
        expected[at] = 0;
        if at == 0 {
            expected[1] = 0;
        }
        scene.log([deleted(entity)]).await;
        assert_eq!(counts(&scene).await, expected, "{entity}");
        scene
            .log([Event::from(deleted(entity)), restored(entity).into()])
            .await;
        assert_eq!(counts(&scene).await, [1; 5], "{entity}");
        scene
            .log([Event::from(restored(entity)), deleted(entity).into()])
            .await;
        assert_eq!(counts(&scene).await, expected, "{entity}");
        scene.log([restored(entity)]).await;
    }
    scene.log(entities.map(deleted)).await;
    let reads = scene.reads();
    for key in [named("m"), Key::Id(1)] {
        assert_eq!(reads.model(&key).await.unwrap(), None);
        assert_eq!(reads.versions(&key, first(9)).await.unwrap(), None);
    }
    for key in [version_named("m", "v"), VersionKey::Id(1)] {
        assert_eq!(reads.version(&key).await.unwrap(), None);
    }
    for (dataset, experiment, run) in [("d", "e", "r")] {
        assert_eq!(reads.dataset(&named(dataset)).await.unwrap(), None);
        assert_eq!(reads.experiment(&named(experiment)).await.unwrap(), None);
        assert_eq!(reads.run(&named(run)).await.unwrap(), None);
    }
    assert_eq!(reads.dataset(&Key::Id(1)).await.unwrap(), None);
    assert_eq!(reads.experiment(&Key::Id(1)).await.unwrap(), None);
    assert_eq!(reads.run(&Key::Id(1)).await.unwrap(), None);
    // What happens meanwhile is not lost.
    let described = ModelCreated {
        description: some("still there"),
        ..model("m")
    };
    scene.log([described]).await;
    assert_eq!(counts(&scene).await, [0; 5], "creating restores nothing");
    scene.log(entities.map(restored)).await;
    assert_eq!(counts(&scene).await, [1; 5]);
    let found = scene.reads().model(&named("m")).await.unwrap().unwrap();
    assert_eq!((found.id, found.description), (1, some("still there")));
}

async fn deletion_below(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let of_version_metric = MetricLogged {
        run: None,
        model: some("m"),
        version: some("v"),
        ..metric("", "acc", 0, 1.0)
    };
    let events: [Event; 5] = [
        PredictionLogged {
            output: Some(json("1")),
            ..prediction("p")
        }
        .into(),
        of_version_metric.into(),
        metric("r", "loss", 0, 1.0).into(),
        RunStarted {
            experiment: some("e"),
            model: some("m"),
            dataset: some("d"),
            ..run("r")
        }
        .into(),
        alias("m", "a", Some("v")).into(),
    ];
    scene.log(events).await;
    for entity in ["model/m", "version/m@v"] {
        scene.log([deleted(entity)]).await;
        let reads = scene.reads();
        for key in [
            version_named("m", "v"),
            VersionKey::Id(1),
            version_aliased("m", "a"),
        ] {
            assert_eq!(reads.version(&key).await.unwrap(), None, "{entity}");
            let predictions = reads.predictions(&key, first(9)).await.unwrap();
            assert_eq!(predictions, None, "{entity}");
            let stats = reads.version_stats(&key, None, None).await.unwrap();
            assert_eq!(stats, None, "{entity}");
            let stats = reads.version_stats(&key, Some(second(0)), None).await;
            assert_eq!(stats.unwrap(), None, "{entity}");
            let owner = SeriesOwner::Version(key);
            assert_eq!(reads.series(&owner).await.unwrap(), None, "{entity}");
            let points = reads.points(&owner, "acc", &Default::default()).await;
            assert_eq!(points.unwrap(), None, "{entity}");
        }
        let one = reads.prediction(&named("m"), "p").await.unwrap();
        assert_eq!(one, None, "{entity}");
        scene.log([restored(entity)]).await;
        let reads = scene.reads();
        assert!(reads.prediction(&named("m"), "p").await.unwrap().is_some());
        let series = reads.series(&of_version("m", "v")).await.unwrap();
        assert_eq!(series.map(|series| series.len()), Some(1));
    }
    // A run goes on showing the names of what it used.
    let before = run_named(&scene, "r").await;
    scene
        .log(["model/m", "experiment/e", "dataset/d"].map(deleted))
        .await;
    assert_eq!(run_named(&scene, "r").await, before);
    scene.log([deleted("run/r")]).await;
    let owner = SeriesOwner::Run(named("r"));
    assert_eq!(scene.reads().series(&owner).await.unwrap(), None);
    let query = SeriesQuery::default();
    let points = scene.reads().points(&owner, "loss", &query).await;
    assert_eq!(points.unwrap(), None);
}

async fn deleted_unseen(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene.log([deleted("model/m")]).await;
    assert_eq!(counts(&scene).await, [0; 5]);
    scene.log([version("m", "v")]).await;
    scene.log([model("m")]).await;
    assert_eq!(counts(&scene).await, [0; 5]);
    scene.log([restored("model/m")]).await;
    assert_eq!(counts(&scene).await, [1, 1, 0, 0, 0]);
    let found = scene.reads().model(&named("m")).await.unwrap().unwrap();
    assert!(found.created_at.is_some());
}
