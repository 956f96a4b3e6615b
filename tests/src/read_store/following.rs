//! A store follows a log: how the log is cut, how often it is applied and when does not show in its answers.

use modelog_engine::Offset;
use modelog_engine::event::{Event, PredictionLogged, RunStarted};

use super::facts::{
    alias, at, deleted, feedback, finished, json, metric, model, params, prediction, restored, run,
    some, tags, version,
};
use super::{Case, Factory, Scene, case, first, picture};

pub(super) const CASES: &[Case] = &[
    case("answers name the projection", |f| Box::pin(name(f))),
    case("batches may reach below the checkpoint", |f| {
        Box::pin(overlap(f))
    }),
    case("one batch or many", |f| Box::pin(cuts(f))),
    case("a rebuild gives the same answers", |f| {
        Box::pin(rebuilding(f))
    }),
    case("answers while the store is written", |f| {
        Box::pin(reading_while_writing(f))
    }),
];

/// Some of everything, in an order in which much comes before what it belongs to.
fn history() -> Vec<Event> {
    let response = PredictionLogged {
        output: Some(json("[1]")),
        predicted_class: some("a"),
        inference_time_ms: Some(3.0),
        part: some("response"),
        ..prediction("p")
    };
    let request = PredictionLogged {
        input: Some(json("{}")),
        part: some("request"),
        ..prediction("p")
    };
    let started = RunStarted {
        experiment: some("e"),
        model: some("m"),
        version: some("v"),
        ..run("r")
    };
    vec![
        at(9, feedback("p", "a")),
        at(3, finished("r", "finished")),
        at(1, metric("r", "loss", 2, 0.5)),
        at(1, metric("r", "loss", 2, 0.5)),
        at(2, response),
        at(1, started),
        at(1, alias("m", "best", Some("v"))),
        at(0, metric("r", "loss", 1, f64::NAN)),
        at(1, request),
        at(4, params("r", r#"{"a":1}"#)),
        at(4, model("m")),
        at(5, version("m", "v")),
        at(5, params("r", r#"{"a":2,"b":3}"#)),
        at(5, tags("model/m", r#"{"x":1,"y":2}"#)),
        at(5, tags("model/m", r#"{"x":null}"#)),
        at(6, deleted("experiment/e")),
        at(6, restored("experiment/e")),
        at(7, prediction("q")),
        at(8, feedback("q", "b")),
        at(8, deleted("model/n")),
    ]
}

async fn name(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let name = scene.reads().projection().to_owned();
    assert_eq!(scene.projection().name(), name);
}

async fn overlap(factory: &dyn Factory) {
    let mut straight = Scene::new(factory).await;
    straight.log(history()).await;
    let expected = picture(straight.reads()).await;

    let mut scene = Scene::new(factory).await;
    let events = history();
    scene.append(events[..8].to_vec()).await;
    scene.append(events[8..14].to_vec()).await;
    scene.append(events[14..].to_vec()).await;
    let batches = scene.read(Offset::ZERO).await;
    // The second batch comes twice, and everything once more at the end.
    scene.apply_batches(&batches[..2]).await;
    scene.apply_batches(&batches[1..]).await;
    assert_eq!(picture(scene.reads()).await, expected);
    scene.apply_batches(&batches).await;
    assert_eq!(picture(scene.reads()).await, expected);
}

async fn cuts(factory: &dyn Factory) {
    let mut apart = Scene::new(factory).await;
    apart.log_each(history()).await;
    let mut together = Scene::new(factory).await;
    // Numbers are given in the order of kinds within a call, so names are given theirs first.
    let named: Vec<Event> = history()
        .into_iter()
        .filter(|event| matches!(event.kind().name(), "RunStarted" | "ModelCreated"))
        .collect();
    for events in [history(), named] {
        let mut scene = Scene::new(factory).await;
        scene.append(events).await;
        let batches = scene.read(Offset::ZERO).await;
        for batch in &batches {
            scene.apply_batches(std::slice::from_ref(batch)).await;
        }
        let one_by_one = picture(scene.reads()).await;
        scene.rebuild().await;
        assert_eq!(picture(scene.reads()).await, one_by_one);
    }
    together.log(history()).await;
    let (apart, together) = (
        picture(apart.reads()).await,
        picture(together.reads()).await,
    );
    assert_eq!(apart, together);
}

async fn rebuilding(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene.log_each(history()).await;
    let before = picture(scene.reads()).await;
    let shared = scene.shared_reads();
    scene.rebuild().await;
    assert_eq!(picture(scene.reads()).await, before);
    assert_eq!(
        picture(&*shared).await,
        before,
        "whoever read goes on reading"
    );
}

/// A store that is built again shows what was there until it has come as far, and then what was built. Interrupted
/// meanwhile, it goes on.
///
/// # Panics
/// If it does not.
pub async fn rebuilds_aside(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene.log_each(history()).await;
    let calls = history().len();
    for interrupted in [0, 1, calls / 2, calls - 1] {
        let before = picture(scene.reads()).await;
        scene.reopen().await;
        scene.projection().clear().await.unwrap();
        assert_eq!(scene.projection().open().await.unwrap(), None);
        scene
            .append([at(9, prediction(&format!("r{interrupted}")))])
            .await;
        let batches = scene.read(Offset::ZERO).await;
        let (last, others) = batches.split_last().unwrap();
        for (number, batch) in others.iter().enumerate() {
            if number == interrupted {
                let checkpoint = scene.reopen().await;
                assert_eq!(
                    checkpoint.map(|at| at.offset),
                    (number > 0).then_some(batch.first_offset)
                );
            }
            assert_eq!(picture(scene.reads()).await, before, "{number} of {calls}");
            scene.apply_batches(std::slice::from_ref(batch)).await;
        }
        scene.apply_batches(std::slice::from_ref(last)).await;
        let after = picture(scene.reads()).await;
        assert_ne!(after, before, "what came meanwhile is there");
        let checkpoint = scene.reopen().await;
        assert_eq!(checkpoint.map(|at| at.offset), Some(last.end()));
        assert_eq!(picture(scene.reads()).await, after);
    }
    // Asked for twice, and with nothing new.
    let before = picture(scene.reads()).await;
    for applied in [2, usize::MAX] {
        scene.reopen().await;
        scene.projection().clear().await.unwrap();
        assert_eq!(scene.projection().open().await.unwrap(), None);
        for batch in scene.read(Offset::ZERO).await.iter().take(applied) {
            assert_eq!(picture(scene.reads()).await, before);
            scene.apply_batches(std::slice::from_ref(batch)).await;
        }
    }
    assert_eq!(picture(scene.reads()).await, before);
}

async fn reading_while_writing(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let reads = scene.shared_reads();
    scene.log([at(0, prediction("p0"))]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        let key = super::facts::version_named("m", "v");
        while !*stopped.borrow() {
            let page = reads.predictions(&key, first(1_000)).await.unwrap();
            let found = page.expect("the version is there").items.len();
            // Whole batches, and never fewer than before.
            assert_eq!(found % 5, 1, "{found} predictions");
            assert!(found >= seen);
            seen = found;
        }
        seen
    });
    for batch in 0..20 {
        let ids = (1..=5).map(|number| format!("p{}", batch * 5 + number));
        scene.log(ids.map(|id| at(0, prediction(&id)))).await;
    }
    stop.send_replace(true);
    assert!(reader.await.unwrap() <= 101);
    let key = super::facts::version_named("m", "v");
    let page = scene.reads().predictions(&key, first(1_000)).await.unwrap();
    assert_eq!(page.unwrap().items.len(), 101);
}
