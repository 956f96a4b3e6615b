//! Lists: order, pages, limits and cursors.

use modelog_engine::event::{Event, PredictionLogged, RunStarted};
use modelog_engine::read::{
    PAGE_MAX, Page, PageRequest, ReadError, ReadStore, RunFilter, RunOrder,
};

use super::facts::{
    at, dataset, deleted, experiment, finished, model, named, prediction, restored, run, some,
    version, version_named,
};
use super::{Case, Factory, Scene, case, first, pages};

pub(super) const CASES: &[Case] = &[
    case("entities in the order of their numbers", |f| {
        Box::pin(by_number(f))
    }),
    case("runs in three orders", |f| Box::pin(orders_of_runs(f))),
    case("runs by experiment, model and status", |f| {
        Box::pin(filters_of_runs(f))
    }),
    case("predictions newest first", |f| {
        Box::pin(newest_predictions(f))
    }),
    case("pages while things come and go", |f| {
        Box::pin(pages_while_changing(f))
    }),
    case("pages of predictions while predictions come", |f| {
        Box::pin(pages_while_predicting(f))
    }),
    case("limits", |f| Box::pin(limits(f))),
    case("a cursor is for its list alone", |f| {
        Box::pin(foreign_cursors(f))
    }),
    case("nothing is not unknown", |f| Box::pin(empty_lists(f))),
];

const LIMITS: [u32; 4] = [1, 2, 3, 100];

async fn by_number(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let names = ["zebra", "Zebra", "ant", "9", "10", "émile", "yak"];
    for name in names {
        scene
            .log([
                Event::from(model(name)),
                version("ant", name).into(),
                dataset(name).into(),
                experiment(name).into(),
            ])
            .await;
    }
    for name in ["Zebra", "yak"] {
        scene
            .log([
                deleted(&format!("model/{name}")),
                deleted(&format!("version/ant@{name}")),
                deleted(&format!("dataset/{name}")),
                deleted(&format!("experiment/{name}")),
            ])
            .await;
    }
    // The first event named the models `zebra` and `ant`, the others came as they were logged.
    let shown = ["zebra", "ant", "9", "10", "émile"];
    let reads = scene.reads();
    for limit in LIMITS {
        let models = pages(limit, |page| reads.models(page)).await;
        let versions = pages(limit, |page| async {
            let versions = reads.versions(&named("ant"), page).await?;
            Ok(versions.expect("the model is there"))
        });
        let versions = versions.await;
        let datasets = pages(limit, |page| reads.datasets(page)).await;
        let experiments = pages(limit, |page| reads.experiments(page)).await;
        let found: Vec<_> = models.iter().map(|found| found.model.as_str()).collect();
        assert_eq!(found, shown, "models by {limit}");
        assert!(models.is_sorted_by_key(|found| found.id));
        let found: Vec<_> = versions
            .iter()
            .map(|found| found.version.as_str())
            .collect();
        assert_eq!(found, shown, "versions by {limit}");
        let found: Vec<_> = datasets
            .iter()
            .map(|found| found.dataset.as_str())
            .collect();
        assert_eq!(found, shown, "datasets by {limit}");
        let found: Vec<_> = experiments
            .iter()
            .map(|found| found.experiment.as_str())
            .collect();
        assert_eq!(found, shown, "experiments by {limit}");
    }
}

async fn listed_runs(reads: &dyn ReadStore, filter: &RunFilter, limit: u32) -> Vec<String> {
    let runs = pages(limit, |page| reads.runs(filter, page)).await;
    runs.into_iter().map(|run| run.run).collect()
}

/// Two runs start at the same time, two never do, two have the same name.
async fn some_runs(scene: &mut Scene) {
    let called = |run_name: &str, name: &str| RunStarted {
        name: some(name),
        ..run(run_name)
    };
    scene
        .log([
            at(30, run("c")),
            at(99, finished("never", "failed")),
            at(10, called("a", "twin")),
            at(30, called("b", "twin")),
            at(-5, called("early", "Twin")),
            at(0, finished("lost", "killed")),
            at(20, called("d", "")),
        ])
        .await;
}

async fn orders_of_runs(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    some_runs(&mut scene).await;
    // Names are given numbers in the order in which kinds of events name them: starts before ends.
    let expected: [(RunOrder, &[&str]); 3] = [
        (
            RunOrder::NewestStarted,
            &["b", "c", "d", "a", "early", "lost", "never"],
        ),
        (
            RunOrder::OldestStarted,
            &["never", "lost", "early", "a", "d", "c", "b"],
        ),
        (
            RunOrder::Name,
            &["d", "early", "c", "lost", "never", "a", "b"],
        ),
    ];
    for (order, expected) in expected {
        let filter = RunFilter {
            order,
            ..RunFilter::default()
        };
        for limit in LIMITS {
            let found = listed_runs(scene.reads(), &filter, limit).await;
            assert_eq!(found, expected, "{order:?} by {limit}");
        }
    }
    scene.log([deleted("run/d"), deleted("run/lost")]).await;
    let filter = RunFilter::default();
    for limit in LIMITS {
        let found = listed_runs(scene.reads(), &filter, limit).await;
        assert_eq!(found, ["b", "c", "a", "early", "never"], "by {limit}");
    }
}

async fn filters_of_runs(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let of = |name: &str, experiment: &str, model: &str| RunStarted {
        experiment: some(experiment),
        model: some(model),
        ..run(name)
    };
    scene
        .log([
            at(1, of("a", "x", "m")),
            at(2, of("b", "x", "n")),
            at(3, of("c", "y", "m")),
            at(4, of("d", "x", "m")),
            at(5, finished("a", "failed")),
            at(5, finished("c", "finished")),
            at(5, finished("e", "failed")),
            at(6, of("f", "X", "m ")),
        ])
        .await;
    let wanted = |experiment: &str, model: &str, status: &str| {
        let given = |text: &str| some(text).filter(|text| text != "*");
        RunFilter {
            experiment: given(experiment),
            model: given(model),
            status: given(status),
            order: RunOrder::OldestStarted,
        }
    };
    let cases: [(RunFilter, &[&str]); 12] = [
        (wanted("*", "*", "*"), &["e", "a", "b", "c", "d", "f"]),
        (wanted("x", "*", "*"), &["a", "b", "d"]),
        (wanted("X", "*", "*"), &["f"]),
        (wanted("*", "m", "*"), &["a", "c", "d"]),
        (wanted("*", "*", "failed"), &["e", "a"]),
        (wanted("*", "*", "running"), &["b", "d", "f"]),
        (wanted("x", "m", "running"), &["d"]),
        (wanted("y", "m", "finished"), &["c"]),
        (wanted("y", "n", "*"), &[]),
        (wanted("unknown", "*", "*"), &[]),
        (wanted("*", "unknown", "*"), &[]),
        (wanted("*", "*", "Failed"), &[]),
    ];
    for (filter, expected) in &cases {
        for limit in LIMITS {
            for order in [RunOrder::OldestStarted, RunOrder::NewestStarted] {
                let filter = RunFilter {
                    order,
                    ..filter.clone()
                };
                let mut found = listed_runs(scene.reads(), &filter, limit).await;
                if order == RunOrder::NewestStarted {
                    found.reverse();
                }
                assert_eq!(&found, expected, "{filter:?} by {limit}");
            }
        }
    }
    // Deleting an experiment hides none of its runs, nor that they belong to it.
    scene
        .log([deleted("experiment/y"), deleted("model/m")])
        .await;
    let found = listed_runs(scene.reads(), &cases[7].0, 9).await;
    assert_eq!(found, ["c"]);
}

async fn listed_predictions(reads: &dyn ReadStore, limit: u32) -> Vec<String> {
    let predictions = pages(limit, |page| async move {
        let version = version_named("m", "v");
        let page = reads.predictions(&version, page).await?;
        Ok(page.expect("the version is there"))
    });
    let ids = predictions
        .await
        .into_iter()
        .map(|found| found.prediction_id);
    ids.collect()
}

async fn newest_predictions(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let elsewhere = |id: &str, model: &str, version: &str| PredictionLogged {
        model: model.into(),
        version: version.into(),
        ..prediction(id)
    };
    scene
        .log([
            at(5, prediction("e")),
            at(5, prediction("d")),
            at(-1_000_000_000, prediction("z")),
            at(9, prediction("b")),
            at(6, elsewhere("x", "m", "w")),
            at(6, elsewhere("y", "n", "v")),
        ])
        .await;
    scene
        .log([
            at(5, prediction("c")),
            at(1_000_000_000, prediction("a")),
            at(4, prediction("f")),
        ])
        .await;
    for limit in LIMITS {
        let found = listed_predictions(scene.reads(), limit).await;
        assert_eq!(found, ["a", "b", "c", "d", "e", "f", "z"], "by {limit}");
    }
}

async fn page_after(
    reads: &dyn ReadStore,
    cursor: Option<String>,
    limit: u32,
) -> (Vec<String>, Option<String>) {
    let request = PageRequest { limit, cursor };
    let Page { items, next_cursor } = reads.models(request).await.unwrap();
    let names = items.into_iter().map(|model| model.model);
    (names.collect(), next_cursor)
}

async fn pages_while_changing(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene.log(["a", "b", "c", "d", "e", "f"].map(model)).await;
    let (names, cursor) = page_after(scene.reads(), None, 2).await;
    assert_eq!(names, ["a", "b"]);
    // The item the cursor stands on goes, one behind it too, and others come.
    scene.log([deleted("model/b"), deleted("model/d")]).await;
    scene.log([model("g")]).await;
    let (names, next) = page_after(scene.reads(), cursor.clone(), 2).await;
    assert_eq!(names, ["c", "e"]);
    scene.log([restored("model/d")]).await;
    let (names, end) = page_after(scene.reads(), next, 9).await;
    assert_eq!((names, end), (vec!["f".to_owned(), "g".to_owned()], None));
    // A cursor may be used again.
    let (names, _) = page_after(scene.reads(), cursor, 9).await;
    assert_eq!(names, ["c", "d", "e", "f", "g"]);
}

async fn pages_while_predicting(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let ids: Vec<String> = (0..20).map(|number| format!("old-{number:02}")).collect();
    scene.log(ids.iter().map(|id| at(10, prediction(id)))).await;
    let mut seen = Vec::new();
    let mut request = first(3);
    for round in 0_i64.. {
        let version = version_named("m", "v");
        let page = scene.reads().predictions(&version, request).await;
        let page = page.unwrap().unwrap();
        seen.extend(page.items.into_iter().map(|found| found.prediction_id));
        let Some(cursor) = page.next_cursor else {
            break;
        };
        request = PageRequest {
            limit: 3,
            cursor: Some(cursor),
        };
        // New ones in front of and behind the cursor, and more about one that was there.
        let halves = PredictionLogged {
            error: some("late"),
            ..prediction(&ids[(round % 20) as usize])
        };
        scene
            .log([
                at(20 + round, prediction(&format!("new-{round}"))),
                at(10, prediction(&format!("same-{round}"))),
                at(-round, halves),
            ])
            .await;
        assert!(round < 100, "paging comes to an end");
    }
    let old: Vec<_> = seen.iter().filter(|id| id.starts_with("old-")).collect();
    let expected: Vec<_> = ids.iter().rev().collect();
    assert_eq!(old, expected, "R1: each once");
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), seen.len(), "R1: none twice");
}

async fn limits(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let total = PAGE_MAX + 5;
    scene
        .log((0..total).map(|number| experiment(&format!("e{number}"))))
        .await;
    let reads = scene.reads();
    let page = reads.experiments(first(0)).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (0, None));
    for limit in [PAGE_MAX, PAGE_MAX + 1, u32::MAX] {
        let page = reads.experiments(first(limit)).await.unwrap();
        assert_eq!(page.items.len(), PAGE_MAX as usize, "R4");
        let rest = PageRequest {
            limit,
            cursor: page.next_cursor,
        };
        let rest = reads.experiments(rest).await.unwrap();
        assert_eq!((rest.items.len(), rest.next_cursor), (5, None));
    }
    let exact = reads.experiments(first(PAGE_MAX)).await.unwrap();
    let exact = reads.experiments(PageRequest {
        limit: 5,
        cursor: exact.next_cursor,
    });
    assert_eq!(exact.await.unwrap().next_cursor, None, "a full last page");
}

async fn foreign_cursors(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    for name in ["m", "n", "o"] {
        scene
            .log([
                Event::from(model(name)),
                version("m", name).into(),
                version("n", name).into(),
                dataset(name).into(),
                experiment(name).into(),
                run(name).into(),
            ])
            .await;
        for version_name in ["m", "n"] {
            let event = PredictionLogged {
                version: version_name.into(),
                ..prediction(&format!("{name} {version_name}"))
            };
            scene.log([event]).await;
        }
    }
    let reads = scene.reads();
    let all = RunFilter::default();
    let by_name = RunFilter {
        order: RunOrder::Name,
        ..RunFilter::default()
    };
    let running = RunFilter {
        status: some("running"),
        ..RunFilter::default()
    };
    let owned = |page: Option<Page<_>>| page.and_then(|page: Page<_>| page.next_cursor);
    let versions = |model: &str, page| {
        let model = named(model);
        async move { reads.versions(&model, page).await }
    };
    let predictions = |version: &str, page| {
        let version = version_named("m", version);
        async move { reads.predictions(&version, page).await }
    };
    let cursors = [
        reads.models(first(1)).await.unwrap().next_cursor,
        reads.datasets(first(1)).await.unwrap().next_cursor,
        reads.experiments(first(1)).await.unwrap().next_cursor,
        owned(versions("m", first(1)).await.unwrap()),
        owned(versions("n", first(1)).await.unwrap()),
        reads.runs(&all, first(1)).await.unwrap().next_cursor,
        reads.runs(&by_name, first(1)).await.unwrap().next_cursor,
        reads.runs(&running, first(1)).await.unwrap().next_cursor,
        predictions("m", first(1))
            .await
            .unwrap()
            .unwrap()
            .next_cursor,
        predictions("n", first(1))
            .await
            .unwrap()
            .unwrap()
            .next_cursor,
    ];
    let garbage = ["", "x", "AAAA", "é", "null", "AQ", "0"].map(some);
    for (place, cursor) in cursors.iter().chain(&garbage).enumerate() {
        assert!(cursor.is_some(), "list {place} has more than one item");
        let page = PageRequest {
            limit: 1,
            cursor: cursor.clone(),
        };
        let answers = [
            reads.models(page.clone()).await.map(drop),
            reads.datasets(page.clone()).await.map(drop),
            reads.experiments(page.clone()).await.map(drop),
            versions("m", page.clone()).await.map(drop),
            versions("n", page.clone()).await.map(drop),
            reads.runs(&all, page.clone()).await.map(drop),
            reads.runs(&by_name, page.clone()).await.map(drop),
            reads.runs(&running, page.clone()).await.map(drop),
            predictions("m", page.clone()).await.map(drop),
            predictions("n", page.clone()).await.map(drop),
        ];
        for (list, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(()) => assert_eq!(list, place, "a cursor of list {place}: {cursor:?}"),
                Err(ReadError::Cursor) => assert_ne!(list, place, "{cursor:?}"),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

async fn empty_lists(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let reads = scene.reads();
    assert!(reads.models(first(9)).await.unwrap().items.is_empty());
    assert!(reads.datasets(first(9)).await.unwrap().items.is_empty());
    assert!(reads.experiments(first(9)).await.unwrap().items.is_empty());
    let runs = reads.runs(&RunFilter::default(), first(9)).await.unwrap();
    assert_eq!((runs.items.len(), runs.next_cursor), (0, None));
    assert_eq!(reads.versions(&named("m"), first(9)).await.unwrap(), None);
    let unknown = reads.predictions(&version_named("m", "v"), first(9)).await;
    assert_eq!(unknown.unwrap(), None);
    scene.log([model("m")]).await;
    let versions = scene.reads().versions(&named("m"), first(9)).await;
    assert!(versions.unwrap().unwrap().items.is_empty());
    scene.log([version("m", "v")]).await;
    let version = version_named("m", "v");
    let predictions = scene.reads().predictions(&version, first(9)).await;
    assert!(predictions.unwrap().unwrap().items.is_empty());
    assert_eq!(
        scene.reads().prediction(&named("m"), "p").await.unwrap(),
        None
    );
}
