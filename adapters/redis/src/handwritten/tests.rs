//! Mapping, on hashes as people write them.

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;
use serde_json::{Value, json};

use super::entities::{self, Indexed, Later};
use super::event::Event;
use super::fields::Fields;
use super::key::{Id, Key};
use super::names::Names;
use super::points::Series;
use super::predictions::{self, Prediction};

const AT: &str = "2026-11-22 17:00:00";
const TIME: &str = "2026-11-22T17:00:00Z";

fn fields(key: &str, pairs: &[(&str, &str)]) -> Fields {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    Fields::of_hash(key, pairs).unwrap()
}

/// An event without its id.
fn read(event: &Event) -> Value {
    let mut read: Value = serde_json::from_str(&event.json).unwrap();
    let id = read.as_object_mut().unwrap().remove("id").unwrap();
    assert!(id.as_str().unwrap().starts_with("redis-import:"));
    read
}

fn named(
    names: &mut Names,
    kind: EntityKind,
    id: &str,
    pairs: &[(&str, &str)],
) -> Result<(), String> {
    let id = Id::of(id);
    let mut fields = fields(&names.key(kind, &id), pairs);
    let found = entities::name(kind, &id, &mut fields, Indexed::default(), "", names);
    let added = found.and_then(|found| names.add(kind, id.clone(), found));
    added.map_err(|bad| {
        names.refuse(kind, id);
        bad.to_string()
    })
}

/// Two models with a version each, and what else there is one of.
fn names() -> Names {
    use EntityKind::{Dataset, Experiment, Model, Run, Version};
    let mut names = Names::new("aidb");
    for (kind, id, pairs) in [
        (Model, "1", &[("name", "resnet50"), ("created_at", AT)][..]),
        (Model, "2", &[("model_name", "vit")]),
        (Version, "3", &[("model_id", "1"), ("version", "v1")]),
        (Version, "4", &[("model", "vit"), ("version_number", "1")]),
        (Dataset, "2", &[("name", "imagenet"), ("version", "2012")]),
        (Experiment, "1", &[("experiment", "baseline")]),
        (Run, "5", &[("name", "first try"), ("start_time", AT)]),
        (Run, "6", &[("run_id", "0197a1")]),
    ] {
        assert_eq!(named(&mut names, kind, id, pairs), Ok(()));
    }
    names
}

/// What a hash becomes: its events, those that come later, and what is bad about it.
fn said(
    kind: EntityKind,
    id: &str,
    pairs: &[(&str, &str)],
) -> (Vec<Value>, Vec<Value>, Vec<String>) {
    let names = names();
    let id = Id::of(id);
    let key = names.key(kind, &id);
    let said = entities::entity(
        kind,
        &id,
        fields(&key, pairs),
        names.get(kind, &id).unwrap(),
        &names,
    );
    let said = match said {
        Ok(said) => said,
        Err(bad) => return (vec![], vec![], vec![bad.to_string()]),
    };
    let later = said.later.into_iter().map(|later| match later {
        Later::Alias(event) | Later::Deleted(event) => read(&event),
        Later::End(end) => read(&end.finish()),
    });
    (
        said.events.iter().map(read).collect(),
        later.collect(),
        said.bad.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn models_versions_datasets_experiments() {
    use EntityKind::{Dataset, Experiment, Model, Version};
    for (kind, id, pairs, events) in [
        (
            Model,
            "1",
            &[
                ("name", "resnet50"),
                ("id", "1"),
                ("arch", "ResNet-50"),
                ("framework", "PyTorch"),
                ("task", "classification"),
                ("description", ""),
                ("tags", r#"{"stage":"prod"}"#),
                ("owner", "alice"),
                ("created_at", "1795366800"),
            ][..],
            json!([{
                "type": "ModelCreated", "model": "resnet50", "architecture": "ResNet-50", "framework": "PyTorch",
                "task_type": "classification", "tags": {"stage": "prod", "owner": "alice"}, "time": TIME,
            }]),
        ),
        (
            Version,
            "3",
            &[
                ("model_id", "1"),
                ("version", "v1"),
                ("path", "s3://b/v1.pth"),
                ("config", r#"{"layers": NaN}"#),
                ("checksum", "ab"),
                ("run_id", "5"),
                ("stage", "staging"),
            ],
            json!([{
                "type": "ModelVersionCreated", "model": "resnet50", "version": "v1", "checkpoint_path": "s3://b/v1.pth",
                "config": {"layers": "NaN"}, "digest": "ab", "run": "5", "tags": {"stage": "staging"},
            }]),
        ),
        (
            Version,
            "4",
            &[
                ("model", "2"),
                ("version_number", "1"),
                ("name", "first"),
                ("config", "layers=50"),
            ],
            json!([{
                "type": "ModelVersionCreated", "model": "vit", "version": "1", "config": "layers=50", "tags": {"name": "first"},
            }]),
        ),
        (
            Dataset,
            "2",
            &[
                ("name", "imagenet"),
                ("version", "2012"),
                ("path", "/data"),
                ("num_samples", "1281167.0"),
                ("splits", "[0.8, 0.2]"),
            ],
            json!([{
                "type": "DatasetRegistered", "dataset": "imagenet", "version": "2012", "uri": "/data", "row_count": 1_281_167,
                "split_info": [0.8, 0.2],
            }]),
        ),
        (
            Experiment,
            "1",
            &[
                ("experiment", "baseline"),
                ("description", "all defaults"),
                ("tags", "a,b"),
            ],
            json!([{
                "type": "ExperimentCreated", "experiment": "baseline", "description": "all defaults", "tags": {"tags": "a,b"},
            }]),
        ),
    ] {
        let (found, later, bad) = said(kind, id, pairs);
        assert_eq!(
            (Value::from(found), later, bad),
            (events, vec![], vec![]),
            "{kind} {id}"
        );
    }
}

#[test]
fn aliases_and_deletions_come_later() {
    let pairs = [
        ("model", "resnet50"),
        ("aliases", r#"{"best":3,"next":"v2"}"#),
        ("deleted", "1"),
    ];
    let (events, later, bad) = said(EntityKind::Model, "1", &pairs);
    assert_eq!((events.len(), bad.len()), (1, 0));
    let alias = |alias: &str, version: &str| json!({"type": "ModelVersionAliased", "model": "resnet50", "alias": alias, "version": version, "time": TIME});
    let deleted = json!({"type": "EntityDeleted", "entity": "model/resnet50", "time": TIME});
    assert_eq!(later, [alias("best", "v1"), alias("next", "v2"), deleted]);
}

#[test]
fn runs_and_how_they_end() {
    let start = |more: Value| {
        let mut start =
            json!({"type": "RunStarted", "run": "5", "name": "first try", "time": TIME});
        start
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        start
    };
    let base = [("name", "first try"), ("start_time", AT)];
    for (pairs, more, end) in [
        (&[][..], json!({}), None),
        (
            &[("status", "running"), ("finished_at", "None")],
            json!({}),
            None,
        ),
        (
            &[("status", "queued")],
            json!({"tags": {"status": "queued"}}),
            None,
        ),
        (
            &[
                ("experiment_id", "1"),
                ("version_id", "3"),
                ("model_id", "1"),
                ("dataset", "imagenet"),
                ("user", "alice"),
                ("git_commit", "abc"),
                ("status", "completed"),
                ("end_time", "1795366860.5"),
                ("gpu", "A100"),
                ("run_id", "5"),
            ],
            json!({
                "experiment": "baseline", "model": "resnet50", "version": "v1", "dataset": "imagenet", "started_by": "alice",
                "code": "abc", "tags": {"gpu": "A100"},
            }),
            Some(json!({"status": "finished", "time": "2026-11-22T17:01:00.500Z"})),
        ),
        (
            &[
                ("model", "vit"),
                ("parent_run_id", "6"),
                ("status", "FAILED"),
                ("error", "out of memory"),
            ],
            json!({"model": "vit", "parent": "0197a1"}),
            Some(
                json!({"status": "failed", "error": "out of memory", "extra": {"original_status": "FAILED"}}),
            ),
        ),
        (
            &[("error", "x")],
            json!({}),
            Some(json!({"status": "failed", "error": "x"})),
        ),
        (
            &[("state", "cancelled")],
            json!({}),
            Some(json!({"status": "killed", "extra": {"original_status": "cancelled"}})),
        ),
        (
            &[("ended_at", AT)],
            json!({}),
            Some(json!({"status": "finished", "time": TIME})),
        ),
    ] {
        let (events, later, bad) = said(EntityKind::Run, "5", &[&base[..], pairs].concat());
        assert_eq!(bad, Vec::<String>::new());
        assert_eq!(events[0], start(more), "{pairs:?}");
        let end = end.map(|end| {
            let mut whole = json!({"type": "RunFinished", "run": "5"});
            whole
                .as_object_mut()
                .unwrap()
                .extend(end.as_object().unwrap().clone());
            whole
        });
        assert_eq!(later, Vec::from_iter(end), "{pairs:?}");
    }
}

#[test]
fn runs_bring_parameters_datasets_and_artifacts() {
    let (events, _, _) = said(
        EntityKind::Run,
        "5",
        &[
            ("dataset_id", "2"),
            ("params", r#"{"lr": 1e-3}"#),
            ("hyperparameters", "lr=1"),
            (
                "artifacts",
                r#"[{"uri": "s3://b/w", "size_bytes": 7, "metadata": "{\"a\":1}"}]"#,
            ),
            ("datasets", "imagenet"),
        ],
    );
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "RunStarted",
            "HyperparametersLogged",
            "DatasetUsed",
            "ArtifactLogged"
        ]
    );
    assert_eq!(
        events[0]["tags"],
        json!({"hyperparameters": "lr=1", "datasets": "imagenet"})
    );
    assert_eq!(events[1]["params"], json!({"lr": 1e-3}));
    assert_eq!(
        (&events[2]["dataset"], &events[2]["version"]),
        (&json!("imagenet"), &json!("2012"))
    );
    assert_eq!(
        (&events[3]["size_bytes"], &events[3]["metadata"]),
        (&json!(7), &json!({"a": 1}))
    );
}

#[test]
fn a_start_that_comes_again_brings_its_end_again() {
    let ends = |gpu| {
        let names = names();
        let id = Id::Number(5);
        let fields = fields("aidb:run:5", &[("status", "done"), ("gpu", gpu)]);
        let named = names.get(EntityKind::Run, &id).unwrap();
        let mut said = entities::entity(EntityKind::Run, &id, fields, named, &names).unwrap();
        match said.later.pop() {
            Some(Later::End(end)) => end.finish().json,
            _ => panic!("it ended"),
        }
    };
    assert_eq!(ends("A100"), ends("A100"));
    assert_ne!(ends("A100"), ends("H100"));
}

#[test]
fn what_is_bad_is_named() {
    use EntityKind::{Dataset, Model, Run, Version};
    for (kind, id, pairs, expected) in [
        (
            Run,
            "5",
            &[("model_id", "7")][..],
            "aidb:run:5: model_id: \"7\" refers to aidb:model:7, which is not there",
        ),
        (
            Run,
            "5",
            &[("experiment", "9")],
            "aidb:run:5: experiment: \"9\" refers to aidb:experiment:9, which is not there",
        ),
        (
            Run,
            "5",
            &[("version", "v1")],
            "aidb:run:5: version: \"v1\" is a version, and no field says of which model",
        ),
        (
            Run,
            "5",
            &[("version_id", "3"), ("model", "vit")],
            "aidb:run:5: version_id: \"3\" is of another model than the one beside it",
        ),
        (
            Run,
            "5",
            &[("status", "blue")],
            "aidb:run:5: status: \"blue\" is no status of a run",
        ),
        (
            Run,
            "5",
            &[("end_time", "later")],
            "aidb:run:5: end_time: \"later\" is no time",
        ),
        (
            Dataset,
            "2",
            &[("rows", "many")],
            "aidb:dataset:2: rows: \"many\" is no whole number",
        ),
        (
            Version,
            "3",
            &[("model_id", "1"), ("run_id", "77")],
            "aidb:version:3: run_id: \"77\" refers to aidb:run:77, which is not there",
        ),
    ] {
        assert_eq!(said(kind, id, pairs).2, [expected]);
    }
    let mut names = names();
    for (kind, id, pairs, expected) in [
        (
            Model,
            "9",
            &[("description", "x")][..],
            "aidb:model:9: nothing says what it is called",
        ),
        (
            Model,
            "8",
            &[("name", "vit")],
            "aidb:model:8: model: \"vit\" is the name of aidb:model:2 already",
        ),
        (
            Version,
            "8",
            &[("version", "v1")],
            "aidb:version:8: nothing says of which model it is a version",
        ),
        (
            Version,
            "9",
            &[("model_id", "1"), ("version", "v1")],
            "aidb:version:9: version: \"v1\" is the name of aidb:version:3 already",
        ),
        (
            Version,
            "10",
            &[("model_id", "9"), ("version", "v1")],
            "aidb:version:10: belongs to what cannot be taken over",
        ),
        (
            Run,
            "7",
            &[("run_id", "0197a1")],
            "aidb:run:7: run: \"0197a1\" is the name of aidb:run:6 already",
        ),
    ] {
        assert_eq!(named(&mut names, kind, id, pairs), Err(expected.into()));
    }
    // The first one of a name keeps it, and of a dataset there may be several versions.
    assert_eq!(&*names.get(Version, &Id::Number(3)).unwrap().name, "v1");
    assert_eq!(
        named(
            &mut names,
            Dataset,
            "3",
            &[("name", "imagenet"), ("version", "2014")]
        ),
        Ok(())
    );
}

fn series(rest: &str) -> super::key::Points {
    match Key::of(rest) {
        Key::Points(points) => points,
        other => panic!("{other:?}"),
    }
}

#[test]
fn points_in_all_forms() {
    let names = names();
    let points = series("metric:5:val%3Aloss:train");
    let key = "aidb:metric:5:val%3Aloss:train";
    let owner = names.get(EntityKind::Run, &Id::Number(5)).unwrap();
    let series = Series {
        key,
        points: &points,
        owner,
    };
    for (member, score, expected) in [
        ("0.5", "3", json!({"value": 0.5, "step": 3})),
        ("nan", "3", json!({"value": "NaN", "step": 3})),
        ("-inf", "3", json!({"value": "-Infinity", "step": 3})),
        ("3:0.5", "3", json!({"value": 0.5, "step": 3})),
        (
            "3:0.5:1795366801",
            "3",
            json!({"value": 0.5, "step": 3, "time": "2026-11-22T17:00:01Z"}),
        ),
        (
            "1795366801.5:0.5",
            "3",
            json!({"value": 0.5, "step": 3, "time": "2026-11-22T17:00:01.500Z"}),
        ),
        // The score is a time, or counts epochs.
        (
            "3:0.5",
            "1795366801",
            json!({"value": 0.5, "step": 3, "time": "2026-11-22T17:00:01Z"}),
        ),
        ("0.5", "1.5", json!({"value": 0.5, "epoch": 1.5})),
        (
            r#"{"value": NaN, "step": 4, "epoch": 2}"#,
            "3",
            json!({"value": "NaN", "step": 4, "epoch": 2}),
        ),
        (
            r#"{"v": "0.25", "timestamp": "2026-11-22 17:00:02", "lr": 1e-3, "name": "val:loss", "split": "train"}"#,
            "7",
            json!({"value": 0.25, "step": 7, "time": "2026-11-22T17:00:02Z", "extra": {"lr": 1e-3}}),
        ),
        (
            r#"00000000000000000012{"step":1,"value":0.5,"epoch":2.0,"time":1795366803000000}"#,
            "1",
            json!({"value": 0.5, "step": 1, "epoch": 2.0, "time": "2026-11-22T17:00:03Z"}),
        ),
    ] {
        let (event, _) = series.member(member.as_bytes(), score.as_bytes()).unwrap();
        let mut whole = json!({"type": "MetricLogged", "run": "5", "name": "val:loss", "split": "train", "time": TIME});
        whole
            .as_object_mut()
            .unwrap()
            .extend(expected.as_object().unwrap().clone());
        assert_eq!(read(&event), whole, "{member} {score}");
    }
    for (member, score) in [
        (&b"x"[..], "1"),
        (b"", "1"),
        (b"1:2:3:4", "1"),
        (b"[1, 2]", "1"),
        (b"{\"step\": 1}", "1"),
        (b"x:1", "1"),
        (b"{\"value\": \"high\"}", "1"),
        (b"\xff", "1"),
        (b"0.5", "inf"),
        (b"1:2:soon", "1"),
    ] {
        let bad = series
            .member(member, score.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(bad.starts_with(key), "{bad}");
    }
    let (event, _) = series.element(b"0.5", 4).unwrap();
    assert_eq!(read(&event)["step"], 4);
    let pairs = vec![(b"value".to_vec(), b"0.5".to_vec())];
    let (event, time) = series.entry("1795366800000-0", pairs, 2).unwrap();
    assert_eq!(
        (&read(&event)["step"], time),
        (&json!(2), Timestamp::parse(TIME).ok())
    );
}

#[test]
fn points_of_versions_name_model_and_version() {
    let names = names();
    let points = series("metric:version:3:top1");
    let owner = names.get(EntityKind::Version, &Id::Number(3)).unwrap();
    let series = Series {
        key: "k",
        points: &points,
        owner,
    };
    let (event, time) = series.member(b"0.5", b"0").unwrap();
    let expected = json!({"type": "MetricLogged", "model": "resnet50", "version": "v1", "name": "top1", "value": 0.5, "step": 0});
    assert_eq!((read(&event), time), (expected, None));
}

#[test]
fn predictions_and_what_was_found_out() {
    let names = names();
    for (rest, pairs, prediction, feedback) in [
        (
            "17",
            &[
                ("id", "17"),
                ("model_version_id", "3"),
                ("input_data", r#"{"image": "a.jpg"}"#),
                ("prediction", "cat"),
                ("predicted_label", "cat"),
                ("confidence", "0.93"),
                ("latency_ms", "12.5"),
                ("ground_truth", "dog"),
                ("timestamp", "1795366800000"),
                ("device", "gpu0"),
            ][..],
            json!({
                "model": "resnet50", "version": "v1", "prediction_id": "17", "input": {"image": "a.jpg"}, "output": "cat",
                "predicted_class": "cat", "confidence": 0.93, "inference_time_ms": 12.5, "tags": {"device": "gpu0"}, "time": TIME,
            }),
            Some(
                json!({"prediction_id": "17", "model": "resnet50", "version": "v1", "true_class": "dog", "time": TIME}),
            ),
        ),
        (
            "r%3A1",
            &[
                ("model", "vit"),
                ("version", "1"),
                ("output", "[1, 2]"),
                ("correct", "True"),
                ("labeled_at", AT),
            ],
            json!({"model": "vit", "version": "1", "prediction_id": "r:1", "output": [1, 2]}),
            Some(
                json!({"prediction_id": "r:1", "model": "vit", "version": "1", "correct": true, "time": TIME}),
            ),
        ),
        (
            "2",
            &[
                ("model_id", "2"),
                ("predicted_value", "1.5"),
                ("actual", "1.25"),
            ],
            json!({"model": "vit", "version": "unversioned", "prediction_id": "2", "predicted_value": 1.5}),
            Some(
                json!({"prediction_id": "2", "model": "vit", "version": "unversioned", "true_value": 1.25}),
            ),
        ),
        (
            "3",
            &[
                ("version_id", "3"),
                (
                    "feedback",
                    r#"{"true_class":"cat","score":5,"time":1795366800000000,"by":"alice"}"#,
                ),
            ],
            json!({"model": "resnet50", "version": "v1", "prediction_id": "3"}),
            Some(json!({
                "prediction_id": "3", "model": "resnet50", "version": "v1", "true_class": "cat", "score": 5,
                "extra": {"by": "alice"}, "time": TIME,
            })),
        ),
        (
            "4",
            &[
                ("version_id", "3"),
                ("feedback", "good"),
                ("true_label", ""),
            ],
            json!({"model": "resnet50", "version": "v1", "prediction_id": "4"}),
            Some(
                json!({"prediction_id": "4", "model": "resnet50", "version": "v1", "label": "good"}),
            ),
        ),
        (
            "5:2",
            &[
                ("version_id", "3"),
                ("prediction_id", "5"),
                ("complete", "0"),
                ("log_offset", "7"),
                ("omitted", "input"),
            ],
            json!({"model": "resnet50", "version": "v1", "prediction_id": "5", "part": "request"}),
            None,
        ),
    ] {
        let read_one = Prediction::read(&Id::of(rest), fields("k", pairs), "", &names).unwrap();
        let (event, found_out) = read_one.finish();
        let whole = |kind: &str, event: Value| {
            let mut whole = json!({ "type": kind });
            whole
                .as_object_mut()
                .unwrap()
                .extend(event.as_object().unwrap().clone());
            whole
        };
        assert_eq!(
            read(&event),
            whole("PredictionLogged", prediction),
            "{rest}"
        );
        let found_out = found_out.map(|(event, _)| read(&event));
        assert_eq!(
            found_out,
            feedback.map(|event| whole("FeedbackLogged", event)),
            "{rest}"
        );
    }
    for (pairs, expected) in [
        (
            &[("output", "1")][..],
            "k: nothing says which model made it",
        ),
        (
            &[("version_id", "9")],
            "k: version_id: \"9\" refers to aidb:version:9, which is not there",
        ),
        (
            &[("version_id", "3"), ("confidence", "high")],
            "k: confidence: \"high\" is no number",
        ),
        (
            &[("version_id", "3"), ("correct", "maybe")],
            "k: correct: \"maybe\" is neither true nor false",
        ),
        (
            &[("version_id", "3"), ("timestamp", "17")],
            "k: timestamp: \"17\" is no time",
        ),
    ] {
        let bad = Prediction::read(&Id::Number(1), fields("k", pairs), "", &names).unwrap_err();
        assert_eq!(bad.to_string(), expected);
    }
}

#[test]
fn feedback_may_have_a_hash_of_its_own() {
    let names = names();
    let all = [
        ("prediction_id", "17"),
        ("is_correct", "0"),
        ("comment", "blurred"),
        ("created_at", AT),
    ];
    let (event, _) =
        predictions::feedback(&Id::Number(1), fields("k", &all), None, "old-", &names).unwrap();
    let expected = json!({
        "type": "FeedbackLogged", "prediction_id": "old-17", "correct": false, "extra": {"comment": "blurred"}, "time": TIME,
    });
    assert_eq!(read(&event), expected);
    let nothing = predictions::feedback(
        &Id::Number(1),
        fields("k", &[("id", "1")]),
        None,
        "",
        &names,
    );
    assert_eq!(
        nothing.unwrap_err().to_string(),
        "k: says nothing of its prediction"
    );
}

#[test]
fn nothing_that_anybody_writes_makes_it_panic() {
    const PARTS: [&str; 40] = [
        "",
        "0",
        "7",
        "-1",
        "1e400",
        "NaN",
        "-inf",
        "None",
        "null",
        "é",
        "\u{0}",
        "\u{10ffff}",
        "%",
        "%4",
        "%E9",
        ":",
        "::",
        "_",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "{\"a\":",
        "\\ud800",
        ",",
        " ",
        "T",
        "Z",
        "+01",
        "2026-11-22",
        "17:00",
        "1795366800",
        "v1",
        "00000000000000000012",
        "18446744073709551616",
        "value",
        "step",
        "true",
    ];
    let names = names();
    let series_of = series("metric:5:loss:train");
    let owner = names.get(EntityKind::Run, &Id::Number(5)).unwrap();
    let points = Series {
        key: "k",
        points: &series_of,
        owner,
    };
    let sound = |event: &Event| {
        let checked = modelog_engine::event::json::check(&event.json);
        assert_eq!(checked, Ok(()), "{}", event.json);
    };
    // A generator of Lehmer, so that every run tries the same.
    let mut state = 20_261_125_u64;
    let mut random = |below: usize| {
        state = state * 48_271 % 2_147_483_647;
        state as usize % below
    };
    for _ in 0..3_000 {
        let mut text =
            || -> String { (0..random(7)).map(|_| PARTS[random(PARTS.len())]).collect() };
        let (one, two, three) = (text(), text(), text());
        let _ = (Key::of(&one), super::key::pattern("p", &one));
        for key in [
            format!("metric:{one}:{two}"),
            format!("prediction:{one}"),
            format!("hyperparam:{one}:{two}"),
        ] {
            let _ = Key::of(&key);
        }
        let _ = points.member(one.as_bytes(), two.as_bytes());
        let _ = points.element(one.as_bytes(), 1);
        let _ = points.entry(
            &one,
            vec![(b"value".to_vec(), two.clone().into())],
            u64::MAX,
        );
        let pairs = [
            ("version_id", "3"),
            ("timestamp", &*one),
            ("confidence", &two),
            ("input", &three),
            ("feedback", &one),
            ("tags", &two),
        ];
        if let Ok(read) = Prediction::read(&Id::of(&one), fields("k", &pairs), &two, &names) {
            let (event, _) = read.finish();
            sound(&event);
        }
        for kind in EntityKind::ALL {
            let id = match kind {
                EntityKind::Model | EntityKind::Experiment => "1",
                EntityKind::Version => "3",
                EntityKind::Dataset => "2",
                EntityKind::Run => "5",
            };
            let (one, two, three) = (&*one, &*two, &*three);
            let pairs = [
                ("version_id", one),
                ("end_time", two),
                ("status", three),
                ("config", one),
                ("params", two),
                ("artifacts", three),
                ("aliases", one),
                ("datasets", two),
                ("rows", three),
                (one, two),
            ];
            let (id, key) = (Id::of(id), "k");
            let named = names.get(kind, &id).unwrap();
            if let Ok(said) = entities::entity(kind, &id, fields(key, &pairs), named, &names) {
                said.events.iter().for_each(sound);
            }
        }
    }
}
