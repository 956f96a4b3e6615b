//! However events are cut into batches and calls, repeated, interrupted or rebuilt: the tables are the same.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::{
    ArtifactLogged, DatasetUsed, EntityDeleted, EntityRestored, Event, ExperimentCreated,
    FeedbackLogged, HyperparametersLogged, Json, MetricLogged, ModelCreated, ModelVersionAliased,
    ModelVersionCreated, PredictionLogged, RunFinished, RunStarted, TagsSet,
};
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use tokio::sync::Notify;

use super::{START, Scene, content};
use crate::SqlProjection;

/// How a projection is fed what the runtime has for it.
#[derive(Clone, Copy, Debug)]
enum Feeding {
    Plain,
    /// One batch a call.
    Single,
    /// Every call starts with the first batch again.
    Overlapping,
    /// Every call is abandoned somewhere, later each time, and made again.
    Interrupted,
}

struct Fed {
    inner: SqlProjection,
    feeding: Feeding,
    /// Is told when the store was cleared.
    cleared: Arc<Notify>,
}

impl Fed {
    fn new(inner: SqlProjection, feeding: Feeding) -> Self {
        Self {
            inner,
            feeding,
            cleared: Arc::default(),
        }
    }
}

#[async_trait]
impl Projection for Fed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn fold_version(&self) -> u32 {
        self.inner.fold_version()
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.inner.open().await
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let until = |end: usize| Checkpoint {
            offset: batches[end - 1].end(),
            ..to
        };
        match self.feeding {
            Feeding::Plain => self.inner.apply(batches, view, to).await,
            Feeding::Single => {
                for end in 1..=batches.len() {
                    self.inner
                        .apply(&batches[end - 1..end], view, until(end))
                        .await?;
                }
                Ok(())
            }
            Feeding::Overlapping => {
                for end in 1..=batches.len() {
                    self.inner.apply(&batches[..end], view, until(end)).await?;
                }
                Ok(())
            }
            Feeding::Interrupted => {
                let mut patience = 1;
                while polled(self.inner.apply(batches, view, to), patience)
                    .await
                    .is_none()
                {
                    patience += 1;
                    if self
                        .inner
                        .open()
                        .await?
                        .is_some_and(|at| at.offset >= to.offset)
                    {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.inner.clear().await?;
        self.cleared.notify_one();
        Ok(())
    }
}

/// Drops a future that is not ready after a number of polls.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Names everything once, in the same order for every log: which number a name gets is the log's affair.
fn names() -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for model in MODELS {
        events.push(model_created(model, None));
        for version in VERSIONS {
            events.push(
                ModelVersionCreated {
                    model: model.into(),
                    version: version.into(),
                    ..Default::default()
                }
                .into(),
            );
        }
    }
    for run in RUNS {
        events.push(
            HyperparametersLogged {
                run: run.into(),
                params: Json::default(),
            }
            .into(),
        );
    }
    events.push(
        ExperimentCreated {
            experiment: "e".into(),
            ..Default::default()
        }
        .into(),
    );
    for dataset in ["d1", "d2"] {
        events.push(
            TagsSet {
                entity: format!("dataset/{dataset}"),
                tags: Json::default(),
            }
            .into(),
        );
    }
    events
}

const MODELS: [&str; 2] = ["m", "n"];
const VERSIONS: [&str; 2] = ["v1", "v2"];
const RUNS: [&str; 3] = ["r", "s", "t"];
const NUMBERS: [f64; 6] = [0.5, 1.0, -2.0, f64::NAN, f64::INFINITY, 0.0];

fn model_created(model: &str, framework: Option<String>) -> Event {
    ModelCreated {
        model: model.into(),
        framework,
        ..Default::default()
    }
    .into()
}

fn word() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn maybe<T: Clone + std::fmt::Debug + 'static>(
    values: &'static [T],
) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(select(values))
}

fn object() -> impl Strategy<Value = Json> {
    proptest::collection::vec((word(), select(vec!["null", "1", "[ ]"])), 0..3).prop_map(
        |members| {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("\"{key}\": {value}"))
                .collect();
            Json::parse(format!("{{{}}}", members.join(","))).unwrap()
        },
    )
}

fn version_name() -> impl Strategy<Value = (String, String)> {
    (select(&MODELS[..]), select(&VERSIONS[..]))
        .prop_map(|(model, version)| (model.to_owned(), version.to_owned()))
}

fn run_name() -> impl Strategy<Value = String> {
    select(&RUNS[..]).prop_map(str::to_owned)
}

fn entity() -> impl Strategy<Value = String> {
    select(vec![
        "model/m",
        "version/m@v1",
        "run/r",
        "experiment/e",
        "dataset/d1",
    ])
    .prop_map(str::to_owned)
}

fn entity_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (select(&MODELS[..]), proptest::option::of(word()))
            .prop_map(|(model, framework)| model_created(model, framework)),
        (
            version_name(),
            proptest::option::of(word()),
            proptest::option::of(object())
        )
            .prop_map(|((model, version), digest, tags)| ModelVersionCreated {
                model,
                version,
                digest,
                tags,
                ..Default::default()
            }
            .into()),
        (version_name(), word(), any::<bool>()).prop_map(|((model, version), alias, set)| {
            ModelVersionAliased {
                model,
                alias,
                version: set.then_some(version),
            }
            .into()
        }),
        (run_name(), proptest::option::of(word()), version_name()).prop_map(
            |(run, name, (model, version))| RunStarted {
                run,
                name,
                model: Some(model),
                version: Some(version),
                ..Default::default()
            }
            .into()
        ),
        (
            run_name(),
            select(vec!["finished", "failed"]),
            proptest::option::of(word())
        )
            .prop_map(|(run, status, error)| RunFinished {
                run,
                status: status.into(),
                error,
            }
            .into()),
        (run_name(), object())
            .prop_map(|(run, params)| HyperparametersLogged { run, params }.into()),
        (
            run_name(),
            select(vec!["d1", "d2"]),
            proptest::option::of(word())
        )
            .prop_map(|(run, dataset, role)| DatasetUsed {
                run,
                dataset: dataset.into(),
                version: None,
                role,
            }
            .into()),
        (run_name(), word(), proptest::option::of(word())).prop_map(|(run, uri, name)| {
            ArtifactLogged {
                uri,
                run: Some(run),
                name,
                ..Default::default()
            }
            .into()
        }),
        (entity(), object()).prop_map(|(entity, tags)| TagsSet { entity, tags }.into()),
        entity().prop_map(|entity| EntityDeleted { entity }.into()),
        entity().prop_map(|entity| EntityRestored { entity }.into()),
    ]
}

fn fact() -> impl Strategy<Value = Event> {
    prop_oneof![
        (
            word(),
            select(&NUMBERS[..]),
            run_name(),
            maybe(&[1, 2]),
            maybe(&NUMBERS),
            proptest::option::of(word())
        )
            .prop_map(|(name, value, run, step, epoch, split)| MetricLogged {
                name,
                value,
                run: Some(run),
                step,
                epoch,
                split,
                ..Default::default()
            }
            .into()),
        (
            version_name(),
            proptest::option::weighted(0.9, word()),
            proptest::option::of(word()),
            maybe(&NUMBERS),
            maybe(&NUMBERS),
            maybe(&["request", "response"]),
        )
            .prop_map(
                |(
                    (model, version),
                    prediction_id,
                    predicted_class,
                    confidence,
                    predicted_value,
                    part,
                )| {
                    PredictionLogged {
                        model,
                        version,
                        prediction_id,
                        predicted_class,
                        confidence,
                        predicted_value,
                        part: part.map(Into::into),
                        ..Default::default()
                    }
                    .into()
                }
            ),
        (
            word(),
            proptest::option::of(version_name()),
            proptest::option::of(word()),
            maybe(&NUMBERS)
        )
            .prop_map(|(prediction_id, version, true_class, score)| {
                let (model, version) = version.unzip();
                FeedbackLogged {
                    prediction_id,
                    model,
                    version,
                    true_class,
                    score,
                    ..Default::default()
                }
                .into()
            }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Few moments, so that times are equal, and come in any order.
    let event = (prop_oneof![entity_event(), fact()], 0..3_i64)
        .prop_map(|(event, moment)| event.at(Timestamp::from_micros(START + moment)));
    proptest::collection::vec(event, 1..60)
}

type Content = std::collections::BTreeMap<&'static str, Vec<String>>;

async fn fed(events: &[Event], together: bool, feeding: Feeding) -> Content {
    let scene = Scene::with(&names());
    let cut = if together { events.len() } else { 4 };
    for events in events.chunks(cut) {
        scene.append(events);
    }
    let inner = scene.store().projection();
    scene.follow(Fed::new(inner, feeding)).await;
    content(&scene.path()).await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn tables_do_not_depend_on_cuts(events in events()) {
        let runtime = runtime();
        let expected = runtime.block_on(fed(&events, true, Feeding::Plain));
        for feeding in [Feeding::Plain, Feeding::Single, Feeding::Overlapping] {
            let found = runtime.block_on(fed(&events, false, feeding));
            prop_assert_eq!(&found, &expected, "{:?}", feeding);
        }
    }

    #[test]
    fn an_abandoned_call_leaves_nothing_or_all(events in events()) {
        let runtime = runtime();
        let expected = runtime.block_on(fed(&events, true, Feeding::Plain));
        let found = runtime.block_on(fed(&events, false, Feeding::Interrupted));
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_store_is_the_same() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = proptest::collection::vec(events(), 30);
    let events = strategy.new_tree(&mut runner).unwrap().current().concat();
    let scene = Scene::with(&names());
    let projection = Fed::new(scene.store().projection(), Feeding::Plain);
    let cleared = Arc::clone(&projection.cleared);
    let handle = scene.follow(projection).await;
    for events in events.chunks(97) {
        scene.append(events);
    }
    scene.caught_up(&handle).await;
    let before = content(&scene.path()).await;
    assert!(before["predictions"].len() > 3 && before["metrics"].len() > 100);
    handle.rebuild().unwrap();
    cleared.notified().await;
    scene.caught_up(&handle).await;
    assert_eq!(content(&scene.path()).await, before);
}
