//! `export` and `tail`: what comes out is what went in.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use arrow_array::RecordBatch;
use modelog_engine::LocalStorage;
use modelog_engine::event::{Kind, schema};
use modelog_parquet::files::ParquetFile;
use serde_json::{Value, json};

use super::{Home, IO, Server, UNAVAILABLE, USAGE, binary, corpus, parse_lines};

/// One event of every kind a producer can send, and some values that are easily lost.
fn everything() -> Vec<Value> {
    let mut events = vec![
        json!({"type": "ModelCreated", "model": "m", "framework": "PyTorch", "tags": {"team": "a,\"b\""}}),
        json!({"type": "ModelVersionCreated", "model": "m", "version": "v1", "config": {"n": 1}}),
        json!({"type": "ModelVersionAliased", "model": "m", "alias": "prod", "version": null}),
        json!({"type": "DatasetRegistered", "dataset": "d", "row_count": 1797}),
        json!({"type": "ExperimentCreated", "experiment": "e"}),
        json!({"type": "RunStarted", "run": "r", "experiment": "e", "model": "m", "version": "v1"}),
        json!({"type": "DatasetUsed", "run": "r", "dataset": "d", "role": "train"}),
        json!({"type": "HyperparametersLogged", "run": "r", "params": {"lr": 0.1}}),
        json!({"type": "MetricLogged", "run": "r", "name": "loss", "value": "NaN", "step": 3, "split": ""}),
        json!({"type": "MetricLogged", "run": "r", "name": "loss", "value": 0.1, "step": -4}),
        json!({"type": "ArtifactLogged", "uri": "s3://b/k", "run": "r", "size_bytes": 9}),
        json!({"type": "RunFinished", "run": "r", "status": "finished"}),
        json!({"type": "PredictionLogged", "model": "m", "version": "v1", "prediction_id": "p",
               "output": {"text": "a\r\nb, \"c\""}, "predicted_class": " padded ", "confidence": 1.0}),
        json!({"type": "FeedbackLogged", "prediction_id": "p", "model": "m", "correct": true}),
        json!({"type": "TagsSet", "entity": "version/m@v1", "tags": {"x": null}}),
        json!({"type": "EntityDeleted", "entity": "run/r"}),
        json!({"type": "EntityRestored", "entity": "run/r"}),
        json!({"type": "EventLogged", "name": "deployed", "data": [1, 2]}),
    ];
    for (number, event) in events.iter_mut().enumerate() {
        event["time"] = json!(format!("2026-11-{:02}T17:00:00.000001Z", number + 1));
    }
    events
}

fn ndjson(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// Without what the log itself adds.
fn as_sent(mut events: Vec<Value>) -> Vec<Value> {
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        fields.remove("log_offset").unwrap();
        fields.remove("append_time").unwrap();
    }
    events
}

#[test]
fn what_is_exported_can_be_imported_again() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    let said = home.run(&["export", "--out", "out.ndjson"]).ok();
    assert!(
        said.out.is_empty() && said.err.contains("18 events in out.ndjson"),
        "{said:?}"
    );
    let exported = parse_lines(&home.read("out.ndjson"));
    let offsets: Vec<_> = exported
        .iter()
        .map(|event| event["log_offset"].clone())
        .collect();
    assert_eq!(
        offsets,
        (0..18).map(|offset| json!(offset)).collect::<Vec<_>>()
    );
    assert_eq!(as_sent(exported.clone()), everything());
    home.run(&["import", "out.ndjson", "--data", "second"]).ok();
    let again = home.run(&["export", "--data", "second"]).ok().out;
    assert_eq!(as_sent(parse_lines(&again)), everything());
}

#[test]
fn an_event_is_a_line_whatever_its_json_looked_like() {
    let home = Home::new();
    let event =
        json!({"type": "EventLogged", "name": "deployed", "data": {"a": [1, 2], "b": "x\ny"}});
    home.write(
        "events.json",
        serde_json::to_string_pretty(&[event]).unwrap(),
    );
    home.run(&["import", "events.json"]).ok();
    for command in [&["export"][..], &["tail", "--from", "0"]] {
        let lines = home.run(command).ok().out;
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert_eq!(
            parse_lines(&lines)[0]["data"],
            json!({"a": [1, 2], "b": "x\ny"})
        );
    }
}

#[test]
fn exports_through_a_server_are_the_same_to_the_byte() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    let selections: &[&[&str]] = &[
        &[],
        &["--kind", "metric_logged"],
        &["--model", "m"],
        &[
            "--run",
            "r",
            "--since",
            "2026-11-08",
            "--to",
            "2026-11-12T17:00:00.000001Z",
        ],
        &["--kind", "MetricLogged", "--format", "csv"],
        &[
            "--kind",
            "PredictionLogged",
            "--format",
            "csv",
            "--model",
            "m",
        ],
        &["--kind", "TagsSet", "--format", "csv", "--model", "m"],
        &["--kind", "EventLogged", "--format", "csv", "--model", "m"],
    ];
    let export = |selection: &&[&str]| home.run(&[&["export"], *selection].concat()).ok().out;
    let offline: Vec<_> = selections.iter().map(export).collect();
    let server = Server::start(&home, &[]);
    let online: Vec<_> = selections.iter().map(export).collect();
    assert_eq!(online, offline);
    let by_url = home
        .run(&["export", "--url", &server.url, "--kind", "MetricLogged"])
        .ok()
        .out;
    assert_eq!(by_url, offline[1]);
    server.stop();
    let lines = |at: usize| offline[at].lines().count();
    assert_eq!((lines(0), lines(1)), (18, 2));
    // Tags of a version name its model.
    assert_eq!(lines(2), 7, "{}", offline[2]);
    assert_eq!(lines(3), 4, "{}", offline[3]);
    assert_eq!(lines(7), 1, "a header: {}", offline[7]);
}

/// The rows of an exported Parquet file.
fn rows(home: &Home, path: &str, kind: Kind) -> RecordBatch {
    let file = ParquetFile::open(&LocalStorage, &home.path(path)).unwrap();
    let mut rows = file.events(kind).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = rows.next_rows().unwrap() {
        batches.push(batch);
    }
    arrow_select::concat::concat_batches(&schema::arrow_schema(kind), &batches).unwrap()
}

#[test]
fn parquet_is_the_same_from_files_and_through_a_server() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    let export = |arguments: &[&str]| {
        home.run(&[&["export", "--format", "parquet"], arguments].concat())
            .ok()
    };
    let said = export(&["--out", "offline/"]);
    assert!(said.err.contains("18 events in 17 files in"), "{said:?}");
    export(&["--kind", "MetricLogged", "--out", "offline.parquet"]);
    export(&[
        "--model",
        "m",
        "--since",
        "2026-11-05",
        "--to",
        "2026-11-08",
        "--out",
        "some/",
    ]);
    let server = Server::start(&home, &[]);
    export(&["--out", "online/"]);
    export(&[
        "--kind",
        "MetricLogged",
        "--url",
        &server.url,
        "--out",
        "online.parquet",
    ]);
    server.stop();
    // From Parquet instead of segments.
    home.run(&["compact"]).ok();
    export(&["--out", "cold/"]);

    let names = super::sorted_names(&home.path("offline"));
    assert_eq!(names.len(), 17);
    for directory in ["online", "cold"] {
        assert_eq!(super::sorted_names(&home.path(directory)), names);
        for name in &names {
            let kind = name.strip_suffix(".parquet").unwrap().parse().unwrap();
            assert_eq!(
                rows(&home, &format!("{directory}/{name}"), kind),
                rows(&home, &format!("offline/{name}"), kind)
            );
        }
    }
    let metrics = rows(&home, "offline.parquet", Kind::MetricLogged);
    assert_eq!(metrics.num_rows(), 2);
    assert_eq!(rows(&home, "online.parquet", Kind::MetricLogged), metrics);
    assert_eq!(
        super::sorted_names(&home.path("some")),
        ["RunStarted.parquet"],
        "what names the model and happened then"
    );
    let log = |path: &str| {
        let file = ParquetFile::open(&LocalStorage, &home.path(path)).unwrap();
        (file.log().unwrap(), file.content_sum().unwrap().bytes > 0)
    };
    assert_eq!(log("offline.parquet"), log("online.parquet"));
    // Standard output takes it as well.
    let mut piped = home.command(&["export", "--format", "parquet", "--kind", "MetricLogged"]);
    let piped = piped.output().unwrap();
    home.write("piped.parquet", &piped.stdout);
    assert_eq!(rows(&home, "piped.parquet", Kind::MetricLogged), metrics);
    // No event is an empty table, which has its columns.
    export(&[
        "--kind",
        "MetricLogged",
        "--run",
        "none",
        "--out",
        "empty.parquet",
    ]);
    assert_eq!(
        rows(&home, "empty.parquet", Kind::MetricLogged).num_rows(),
        0
    );
}

#[test]
fn the_log_as_it_was() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.write("late.ndjson", ndjson(&everything()[7..10]));
    home.run(&["import", "events.ndjson"]).ok();
    // The events of the second call happened before the first was taken.
    home.run(&["import", "late.ndjson"]).ok();
    let events = home.events();
    let taken = |offset: usize| events[offset]["append_time"].as_str().unwrap().to_owned();
    assert_ne!(taken(17), taken(18));
    let untils = [
        ("0".to_owned(), 0),
        ("5".to_owned(), 5),
        ("21".to_owned(), 21),
        ("999999".to_owned(), 21),
        (taken(17), 18),
        (taken(20), 21),
        ("2020-01-01".to_owned(), 0),
        ("0s".to_owned(), 21),
    ];
    let check = || {
        for (until, count) in &untils {
            let lines = home.run(&["export", "--until", until]).ok().out;
            let found: Vec<_> = parse_lines(&lines);
            assert_eq!(found, events[..*count], "{until}");
            let csv = [
                "export",
                "--kind",
                "MetricLogged",
                "--format",
                "csv",
                "--until",
                until,
            ];
            let csv = home.run(&csv).ok().out;
            let metrics = events[..*count]
                .iter()
                .filter(|event| event["type"] == "MetricLogged");
            assert_eq!(csv.lines().count(), 1 + metrics.count(), "{until}");
        }
        let dated = [
            "export",
            "--until",
            "18",
            "--since",
            "2026-11-08",
            "--to",
            "2026-11-10",
        ];
        assert_eq!(parse_lines(&home.run(&dated).ok().out), events[7..9]);
    };
    check();
    let server = Server::start(&home, &[]);
    check();
    server.stop();
    home.run(&["compact"]).ok();
    check();
}

#[test]
fn a_directory_of_tables_appears_whole_or_not_at_all() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    for (arguments, said) in [
        (&["--format", "parquet"][..], "--kind"),
        (
            &["--format", "parquet", "--out", "file.parquet"],
            "--out DIR/",
        ),
        (&["--format", "ndjson", "--out", "d/"], "name a file"),
        (
            &["--format", "parquet", "--out", "modelog-data"],
            "is not empty",
        ),
        (&["--until", "tomorrow"], "an offset"),
    ] {
        home.run(&[&["export"], arguments].concat())
            .fails(USAGE, &[said]);
    }
    let refused = [
        "export",
        "--format",
        "parquet",
        "--out",
        "d/",
        "--url",
        "http://127.0.0.1:1",
    ];
    home.run(&refused).fails(UNAVAILABLE, &[]);
    home.run(&["export", "--format", "parquet", "--out", "none/d/"])
        .fails(IO, &["none/d"]);
    assert_eq!(
        super::sorted_names(home.0.path()),
        ["events.ndjson", "modelog-data"],
        "nothing is left over"
    );
    // A directory that is there is used while it is empty.
    std::fs::create_dir(home.path("d")).unwrap();
    home.run(&["export", "--format", "csv", "--out", "d"]).ok();
    let names = super::sorted_names(&home.path("d"));
    assert!(names.len() == 17 && names[0].ends_with(".csv"), "{names:?}");
    home.run(&["export", "--format", "csv", "--out", "d"])
        .fails(USAGE, &["is not empty"]);
    // A disk without room is told as such.
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut export = home.command(&["export", "--format", "parquet", "--kind", "MetricLogged"]);
    super::finish(export.stdout(full).spawn().unwrap()).fails(IO, &["No space left"]);
}

#[test]
fn csv_tells_no_value_from_empty_text() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    let metrics = home
        .run(&["export", "--kind", "MetricLogged", "--format", "csv"])
        .ok()
        .out;
    let rows: Vec<_> = metrics.split("\r\n").collect();
    assert_eq!(
        rows[0],
        "log_offset,append_time,id,source,time,extra,name,value,run,model,version,step,epoch,split"
    );
    assert!(
        rows[1].ends_with(",,,2026-11-09T17:00:00.000001Z,,loss,NaN,r,,,3,,\"\""),
        "{metrics}"
    );
    assert!(rows[2].ends_with(",loss,0.1,r,,,-4,,"), "{metrics}");
    // Python's reader understands it.
    home.run(&[
        "export",
        "--kind",
        "PredictionLogged",
        "--format",
        "csv",
        "--out",
        "p.csv",
    ])
    .ok();
    let python = Command::new("python3")
        .args([
            "-c",
            "import csv, json; print(json.dumps(list(csv.DictReader(open('p.csv', newline='')))))",
        ])
        .current_dir(home.0.path())
        .output()
        .unwrap();
    let read: Value = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!(read[0]["predicted_class"], " padded ");
    assert_eq!(
        serde_json::from_str::<Value>(read[0]["output"].as_str().unwrap()).unwrap(),
        json!({"text": "a\r\nb, \"c\""})
    );
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    home.write("out.ndjson", "what was there before");
    home.run(&["export", "--out", "out.ndjson", "--format", "csv"])
        .fails(USAGE, &["--kind"]);
    home.run(&[
        "export",
        "--out",
        "out.ndjson",
        "--url",
        "http://127.0.0.1:1",
    ])
    .fails(UNAVAILABLE, &[]);
    assert_eq!(home.read("out.ndjson"), "what was there before");
    let names = super::sorted_names(home.0.path());
    assert_eq!(
        names,
        ["events.ndjson", "modelog-data", "out.ndjson"],
        "nothing is left over"
    );
    home.run(&["export", "--out", "none/out.ndjson"])
        .fails(IO, &["none/out.ndjson"]);
    home.run(&["export", "--out", "out.ndjson"]).ok();
    assert_eq!(home.read("out.ndjson").lines().count(), 18);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    home.write("events.ndjson", corpus(4 << 20));
    home.run(&["import", "events.ndjson"]).ok();
    let script = format!("set -o pipefail; {} export | head -n 1", binary().display());
    let done = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home.0.path())
        .output()
        .unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert_eq!(done.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    // A disk without room is one.
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut export = home.command(&["export"]);
    super::finish(export.stdout(full).spawn().unwrap()).fails(IO, &["No space left"]);
}

#[test]
fn a_tail_follows_across_a_restart_and_ends_with_its_reader() {
    let home = Home::new();
    home.write("first.ndjson", ndjson(&everything()));
    home.write(
        "second.ndjson",
        ndjson(&everything()[..3]).replace("2026", "2025"),
    );
    let server = Server::start(&home, &[]);
    home.run(&["import", "first.ndjson"]).ok();
    let mut tail = home.command(&["tail", "--from", "16"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["log_offset"], 16);
    assert_eq!(next()["log_offset"], 17);
    server.stop();
    let server = Server::start(&home, &[]);
    home.run(&["import", "second.ndjson"]).ok();
    for offset in 18..21 {
        assert_eq!(next()["log_offset"], offset);
    }
    super::send(&tail, "KILL");
    tail.wait().unwrap();

    let mut models = home.command(&["tail", "--from", "0", "--kind", "model.created"]);
    let mut models = models.stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(models.stdout.take().unwrap()).lines();
    for offset in [0, 18] {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["log_offset"], offset);
    }
    drop(lines);
    // It notices at its next event that nobody reads.
    home.write(
        "third.ndjson",
        ndjson(&everything()[..1]).replace("2026", "2024"),
    );
    home.run(&["import", "third.ndjson"]).ok();
    assert!(models.wait().unwrap().success());
    server.stop();
}

#[test]
fn a_tail_without_a_server_shows_what_is_there() {
    let home = Home::new();
    home.write("events.ndjson", ndjson(&everything()));
    home.run(&["import", "events.ndjson"]).ok();
    let done = home.run(&["tail", "--from", "16"]).ok();
    assert_eq!(parse_lines(&done.out).len(), 2);
    assert!(done.err.contains("modelog serve"), "{done:?}");
    home.run(&["tail", "--from", "19"])
        .fails(USAGE, &["beyond the end of the log"]);
    home.run(&["tail"]).fails(UNAVAILABLE, &["modelog serve"]);
}
