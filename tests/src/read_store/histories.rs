//! Random histories, in random cuts: a store answers what the oracle answers.

use std::sync::Arc;

use modelog_engine::Offset;
use modelog_engine::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, Event, ExperimentCreated, Fact, FeedbackLogged,
    Json, MetricLogged, ModelCreated, ModelVersionCreated, PredictionLogged, RunFinished,
    RunStarted,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::facts::{alias, deleted, json, params, restored, tags};
use super::{Factory, Scene, picture, second};
use crate::read_store_oracle::OracleFactory;

/// Events, cut into calls, and how many batches are applied at a time.
#[derive(Clone, Debug)]
struct History {
    calls: Vec<Vec<Event>>,
    strides: Vec<usize>,
    /// Whether every other application goes back by a batch.
    overlap: bool,
}

/// Compares a store with the oracle on `cases` random histories.
///
/// # Panics
/// If they differ; shows the shortest history found on which they do.
pub fn random_histories(factory: Arc<dyn Factory>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let config = Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&histories(), |history| {
        runtime.block_on(compare(&*factory, history))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

async fn compare(factory: &dyn Factory, history: History) -> Result<(), TestCaseError> {
    let mut oracle = Scene::new(&OracleFactory).await;
    for call in history.calls {
        oracle.append(call).await;
    }
    let batches = oracle.read(Offset::ZERO).await;
    oracle.apply_batches(&batches).await;
    // The store is fed from the same log, in other portions.
    let mut subject = factory.subject().await;
    let opened = subject.projection.open().await;
    prop_assert_eq!(opened.expect("a new store opens"), None);
    let mut rest = batches.as_slice();
    let mut strides = history.strides.iter().cycle();
    let mut back = false;
    while !rest.is_empty() {
        let stride = (*strides.next().expect("there are strides")).min(rest.len());
        let done = batches.len() - rest.len();
        let from = done - usize::from(back && done > 0);
        let portion = &batches[from..done + stride];
        let to = oracle.checkpoint(portion, subject.projection.fold_version());
        let view = oracle.engine().view();
        let mut thinned = portion.to_vec();
        let thin = subject.projection.thin(&mut thinned, view).await;
        prop_assert!(thin.is_ok(), "{:?}", thin);
        let applied = subject.projection.apply(&thinned, view, to).await;
        prop_assert!(applied.is_ok(), "{:?}", applied);
        rest = &rest[stride..];
        back = history.overlap && !back;
    }
    let expected = picture(oracle.reads()).await;
    let found = picture(&*subject.reads).await;
    for (expected, found) in expected.iter().zip(&found) {
        prop_assert_eq!(found, expected);
    }
    prop_assert_eq!(found.len(), expected.len());
    Ok(())
}

fn histories() -> impl Strategy<Value = History> {
    let calls = proptest::collection::vec(proptest::collection::vec(event(), 1..12), 1..8);
    let strides = proptest::collection::vec(1_usize..5, 1..4);
    (calls, strides, any::<bool>()).prop_map(|(calls, strides, overlap)| History {
        calls,
        strides,
        overlap,
    })
}

/// One of a few words, so that events are about the same things.
fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(words).prop_map(str::to_owned)
}

fn maybe(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(word(words))
}

const MODELS: &[&str] = &["m", "M"];
const VERSIONS: &[&str] = &["1", "1 "];
const RUNS: &[&str] = &["r", "s", "é"];
const EXPERIMENTS: &[&str] = &["e", "f"];
const DATASETS: &[&str] = &["d", "c"];
const IDS: &[&str] = &["p", "q", "P", "4"];
const TEXTS: &[&str] = &["", "x", "y"];
const CLASSES: &[&str] = &["cat", "dog"];
const OBJECTS: &[&str] = &[
    "{}",
    r#"{"a":1}"#,
    r#"{"a":null,"b":"x"}"#,
    r#"{"b": 9007199254740993, "c":[ ]}"#,
];
const ENTITIES: &[&str] = &[
    "model/m",
    "model/M",
    "version/m@1",
    "version/M@1 ",
    "dataset/d",
    "experiment/e",
    "run/r",
    "run/é",
];

fn object() -> impl Strategy<Value = Option<Json>> {
    proptest::option::of(word(OBJECTS).prop_map(|text| json(&text)))
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-3_i32..4).prop_map(|number| f64::from(number) / 2.0),
        1 => proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300]),
    ]
}

fn maybe_number() -> impl Strategy<Value = Option<f64>> {
    proptest::option::of(number())
}

/// An event of any kind that producers send, about one of a few things; now and then without a time of its own.
pub fn event() -> impl Strategy<Value = Event> {
    let time = proptest::option::of(-2_i64..6);
    (fact(), time).prop_map(|(fact, time)| {
        let mut event = Event::from(fact);
        event.time = time.map(second);
        event
    })
}

/// Everything that [`event`] may be about, by the way it is written in facts about entities.
pub const SUBJECTS: &[&str] = &[
    "model/m",
    "model/M",
    "version/m@1",
    "version/m@1 ",
    "version/M@1",
    "version/M@1 ",
    "dataset/d",
    "dataset/c",
    "experiment/e",
    "experiment/f",
    "run/r",
    "run/s",
    "run/é",
];

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        1 => model_created().prop_map(Fact::from),
        1 => version_created().prop_map(Fact::from),
        1 => aliased(),
        1 => dataset_registered().prop_map(Fact::from),
        1 => dataset_used().prop_map(Fact::from),
        1 => experiment_created().prop_map(Fact::from),
        2 => run_started().prop_map(Fact::from),
        1 => hyperparameters(),
        4 => metric_logged().prop_map(Fact::from),
        1 => artifact_logged().prop_map(Fact::from),
        2 => run_finished().prop_map(Fact::from),
        6 => prediction_logged().prop_map(Fact::from),
        4 => feedback_logged().prop_map(Fact::from),
        3 => about_an_entity(),
    ]
}

fn model_created() -> impl Strategy<Value = ModelCreated> {
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    (word(MODELS), texts, object()).prop_map(|(model, texts, tags)| {
        let [architecture, framework, task_type, description] = texts;
        ModelCreated {
            model,
            architecture,
            framework,
            task_type,
            description,
            tags,
        }
    })
}

fn version_created() -> impl Strategy<Value = ModelVersionCreated> {
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    let objects = [object(), object(), object()];
    (word(MODELS), word(VERSIONS), texts, objects, maybe(RUNS)).prop_map(
        |(model, version, texts, objects, run)| {
            let [checkpoint_path, digest, description] = texts;
            let [config, signature, tags] = objects;
            ModelVersionCreated {
                model,
                version,
                checkpoint_path,
                config,
                signature,
                digest,
                run,
                description,
                tags,
            }
        },
    )
}

fn aliased() -> impl Strategy<Value = Fact> {
    (word(MODELS), word(&["best", "Best"]), maybe(VERSIONS))
        .prop_map(|(model, name, version)| alias(&model, &name, version.as_deref()).into())
}

fn dataset_registered() -> impl Strategy<Value = DatasetRegistered> {
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    let objects = [object(), object(), object()];
    let rows = proptest::option::of(any::<i64>());
    (word(DATASETS), texts, objects, rows).prop_map(|(dataset, texts, objects, row_count)| {
        let [version, uri, digest] = texts;
        let [split_info, schema, tags] = objects;
        DatasetRegistered {
            dataset,
            version,
            uri,
            split_info,
            row_count,
            digest,
            schema,
            tags,
        }
    })
}

fn dataset_used() -> impl Strategy<Value = DatasetUsed> {
    (word(RUNS), word(DATASETS), maybe(TEXTS), maybe(TEXTS)).prop_map(
        |(run, dataset, version, role)| DatasetUsed {
            run,
            dataset,
            version,
            role,
        },
    )
}

fn experiment_created() -> impl Strategy<Value = ExperimentCreated> {
    (word(EXPERIMENTS), maybe(TEXTS), object()).prop_map(|(experiment, description, tags)| {
        ExperimentCreated {
            experiment,
            description,
            tags,
        }
    })
}

fn run_started() -> impl Strategy<Value = RunStarted> {
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    let version = proptest::option::of((word(MODELS), maybe(VERSIONS)));
    let others = (maybe(RUNS), maybe(EXPERIMENTS), maybe(DATASETS));
    (word(RUNS), texts, version, others, object()).prop_map(
        |(run, texts, version, (parent, experiment, dataset), tags)| {
            let [name, started_by, code] = texts;
            let (model, version) = version.unzip();
            RunStarted {
                run,
                name,
                parent,
                experiment,
                model,
                version: version.flatten(),
                dataset,
                started_by,
                code,
                tags,
            }
        },
    )
}

fn hyperparameters() -> impl Strategy<Value = Fact> {
    (word(RUNS), word(OBJECTS)).prop_map(|(run, object)| params(&run, &object).into())
}

/// A run, a version, or both.
fn owner() -> impl Strategy<Value = (Option<String>, Option<(String, String)>)> {
    let version = || (word(MODELS), word(VERSIONS));
    prop_oneof![
        word(RUNS).prop_map(|run| (Some(run), None)),
        version().prop_map(|version| (None, Some(version))),
        (word(RUNS), version()).prop_map(|(run, version)| (Some(run), Some(version))),
    ]
}

fn metric_logged() -> impl Strategy<Value = MetricLogged> {
    let step = proptest::option::of(0_i64..4);
    let names = (word(&["loss", "Loss"]), maybe(&["", "train"]));
    (owner(), names, step, number(), maybe_number()).prop_map(
        |((run, version), (name, split), step, value, epoch)| {
            let (model, version) = version.unzip();
            MetricLogged {
                name,
                value,
                run,
                model,
                version,
                step,
                epoch,
                split,
            }
        },
    )
}

fn artifact_logged() -> impl Strategy<Value = ArtifactLogged> {
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    let size = proptest::option::of(any::<i64>());
    (owner(), word(TEXTS), texts, size, object()).prop_map(
        |((run, version), uri, texts, size_bytes, metadata)| {
            let (model, version) = version.unzip();
            let [name, media_type, digest] = texts;
            ArtifactLogged {
                uri,
                run,
                model,
                version,
                name,
                media_type,
                size_bytes,
                digest,
                metadata,
            }
        },
    )
}

fn run_finished() -> impl Strategy<Value = RunFinished> {
    let status = word(&["finished", "failed", "killed"]);
    (word(RUNS), status, maybe(TEXTS)).prop_map(|(run, status, error)| RunFinished {
        run,
        status,
        error,
    })
}

fn prediction_logged() -> impl Strategy<Value = PredictionLogged> {
    let names = (word(MODELS), word(VERSIONS), maybe(IDS));
    let numbers = [
        maybe_number(),
        maybe_number(),
        maybe_number(),
        maybe_number(),
    ];
    let objects = [object(), object(), object(), object()];
    let texts = [maybe(TEXTS), maybe(TEXTS), maybe(TEXTS)];
    let words = (maybe(CLASSES), maybe(&["request", "response"]));
    let tokens = proptest::option::of(any::<i64>());
    (names, numbers, objects, texts, words, tokens).prop_map(
        |((model, version, prediction_id), numbers, objects, texts, words, input_tokens)| {
            let [predicted_value, confidence, inference_time_ms, sample_rate] = numbers;
            let [input, output, timings, tags] = objects;
            let [request_id, user_id, error] = texts;
            let (predicted_class, part) = words;
            PredictionLogged {
                model,
                version,
                prediction_id,
                input,
                output,
                predicted_class,
                predicted_value,
                confidence,
                inference_time_ms,
                timings,
                request_id,
                user_id,
                sample_rate,
                input_tokens,
                error,
                tags,
                part,
                ..PredictionLogged::default()
            }
        },
    )
}

fn feedback_logged() -> impl Strategy<Value = FeedbackLogged> {
    let version = proptest::option::of((word(MODELS), maybe(VERSIONS)));
    let correct = proptest::option::of(any::<bool>());
    let numbers = [maybe_number(), maybe_number()];
    (
        word(IDS),
        version,
        maybe(CLASSES),
        correct,
        numbers,
        object(),
    )
        .prop_map(
            |(prediction_id, version, true_class, correct, [true_value, score], label)| {
                let (model, version) = version.unzip();
                FeedbackLogged {
                    prediction_id,
                    model,
                    version: version.flatten(),
                    true_class,
                    true_value,
                    correct,
                    label,
                    score,
                    ..FeedbackLogged::default()
                }
            },
        )
}

fn about_an_entity() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (word(ENTITIES), word(OBJECTS)).prop_map(|(entity, object)| tags(&entity, &object).into()),
        word(ENTITIES).prop_map(|entity| deleted(&entity).into()),
        word(ENTITIES).prop_map(|entity| restored(&entity).into()),
    ]
}
