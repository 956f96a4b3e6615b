//! `compact`, and what becomes of the log once Parquet has it.

use serde_json::{Value, json};

use super::{BAD_DATA, Home, IO, Server, USAGE, corpus, files_below, parse_lines};

/// Segments are small, and go as soon as Parquet has them.
const EAGER: &str = "[log]\nsegment_bytes = \"16KiB\"\nkeep_segments = \"0s\"\n";

fn events_of(bytes: usize) -> (Home, u64) {
    let home = Home::new();
    let text = corpus(bytes);
    home.write("events.ndjson", &text);
    home.write("eager.toml", EAGER);
    (home, text.lines().count() as u64)
}

fn parquet_files(home: &Home) -> Vec<String> {
    let mut files = files_below(&home.path("modelog-data/parquet"));
    files.retain(|file| file.ends_with(".parquet"));
    files
}

fn status_of<'a>(projections: &'a Value, name: &str) -> &'a Value {
    let items = projections["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).unwrap()
}

#[test]
fn everything_is_in_parquet_afterwards_and_nothing_is_written_twice() {
    let (home, count) = events_of(300_000);
    home.run(&["import", "events.ndjson"]).ok();
    let before = home.events();
    let compacted = home.run(&["compact", "--format", "json"]).ok().json();
    assert_eq!(compacted["cold_end"], count);
    let files = parquet_files(&home);
    assert_eq!(compacted["files"], files.len());
    assert_eq!(compacted["total_files"], files.len());
    // Predictions, the names they brought, and where they came from.
    for kind in ["PredictionLogged", "EntityNamed", "Origin"] {
        let kind = format!("kind={kind}/");
        assert!(
            files.iter().any(|file| file.starts_with(&kind)),
            "{files:?}"
        );
    }
    let size: u64 = files
        .iter()
        .map(|file| home.path("modelog-data/parquet").join(file))
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert_eq!(compacted["bytes"], size);
    let again = home.run(&["compact", "--format", "json"]).ok().json();
    assert_eq!(
        (&again["files"], &again["rows"], &again["bytes"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(again["total_bytes"], size);
    assert_eq!(parquet_files(&home), files);
    let table = home.run(&["compact"]).ok().out;
    assert!(
        table.contains(&format!("all events before offset {count} are in Parquet")),
        "{table}"
    );
    assert_eq!(home.events(), before);
    home.run(&["verify"]).ok();
    let idle = home.run(&["projections", "--format", "json"]).ok().json();
    let parquet = status_of(&idle, "parquet");
    assert_eq!(
        (
            &parquet["state"],
            &parquet["offset"],
            &parquet["lag_events"]
        ),
        (&"idle".into(), &count.into(), &0.into())
    );
}

#[test]
fn a_server_compacts_while_it_takes_events() {
    let (home, count) = events_of(3 << 20);
    let server = Server::start(&home, &["--config", "eager.toml"]);
    let import = home.command(&["import", "events.ndjson"]).spawn().unwrap();
    let mut ends = Vec::new();
    while ends.last().is_none_or(|end| *end < count) {
        let compacted = home.run(&["compact", "--format", "json"]).ok().json();
        ends.push(compacted["cold_end"].as_u64().unwrap());
    }
    super::finish(import).ok();
    assert!(
        ends.is_sorted() && *ends.last().unwrap() == count,
        "{ends:?}"
    );
    let url = server.url.clone();
    let over_http = home
        .run(&["compact", "--url", &url, "--format", "json"])
        .ok();
    assert_eq!(over_http.json()["cold_end"], count);
    let listed = server.get("/v1/projections");
    let parquet = status_of(&listed, "parquet");
    assert_eq!(
        (&parquet["state"], &parquet["offset"]),
        (&"running".into(), &count.into())
    );
    // Every event once, through whatever it is read from.
    let ids = |events: Vec<Value>| -> Vec<Value> {
        let id = |event: &Value| event["prediction_id"].clone();
        events.iter().map(id).collect()
    };
    let sent = ids(parse_lines(&corpus(3 << 20)));
    assert!(ids(home.events()) == sent);
    server.stop();
    assert!(ids(home.events()) == sent);
    home.run(&["verify"]).ok();
}

#[test]
fn a_server_that_ends_leaves_nothing_to_compact() {
    let (home, count) = events_of(200_000);
    let server = Server::start(&home, &[]);
    home.run(&["import", "events.ndjson"]).ok();
    server.stop();
    let files = parquet_files(&home);
    assert!(!files.is_empty());
    let compacted = home.run(&["compact", "--format", "json"]).ok().json();
    assert_eq!(
        (&compacted["files"], &compacted["cold_end"]),
        (&0.into(), &count.into())
    );
    assert_eq!(parquet_files(&home), files);
}

#[test]
fn parquet_is_all_that_is_needed() {
    let (home, count) = events_of(500_000);
    home.run(&["import", "--config", "eager.toml", "events.ndjson"])
        .ok();
    let before = home.events();
    let predictions = "/v1/models/resnet50/versions/v1/predictions?limit=10000";
    let answers = |server: &Server| {
        let at_least = format!("/v1/models?at_least={count}");
        server.get(&at_least);
        ["/v1/models", "/v1/stats", predictions].map(|path| server.get(path))
    };
    let server = Server::start(&home, &[]);
    let told = answers(&server);
    server.stop();
    home.run(&["compact", "--config", "eager.toml"]).ok();
    // Once with the segments that are left, once without any.
    for remove_segments in [false, true] {
        if remove_segments {
            for file in files_below(&home.path("modelog-data/log")) {
                if file.ends_with(".seg") {
                    std::fs::remove_file(home.path("modelog-data/log").join(file)).unwrap();
                }
            }
        }
        for derived in ["sqlite", "snapshots"] {
            std::fs::remove_dir_all(home.path("modelog-data").join(derived)).unwrap();
        }
        assert_eq!(home.events(), before);
        home.run(&["rebuild", "sql"]).ok();
        let server = Server::start(&home, &[]);
        assert!(
            answers(&server) == told,
            "segments removed: {remove_segments}"
        );
        server.stop();
    }
    // Events that are there already are recognised, and new ones come behind.
    let again = home.run(&["import", "events.ndjson"]).ok();
    let [_, accepted, duplicates, ..] = super::last_line(&again.out)[..] else {
        panic!("{again:?}");
    };
    assert_eq!(
        (accepted, duplicates.replace(',', "")),
        ("0", count.to_string())
    );
    assert_eq!(home.events(), before);
}

#[test]
fn parquet_is_not_rebuilt() {
    let (home, _) = events_of(1000);
    home.run(&["import", "events.ndjson"]).ok();
    let said = ["holds a part of the log itself", "modelog verify"];
    home.run(&["rebuild", "parquet"]).fails(USAGE, &said);
    let server = Server::start(&home, &[]);
    home.run(&["rebuild", "parquet"]).fails(USAGE, &said);
    let (status, problem) = server
        .ask("POST", "/v1/projections/parquet/rebuild", "")
        .unwrap();
    assert!(
        status == 409 && problem.contains("not_rebuildable"),
        "{problem}"
    );
    server.stop();
}

#[test]
fn what_cannot_be_written_is_said_and_holds_up_nothing() {
    let (home, count) = events_of(50_000);
    let server = Server::start(&home, &[]);
    // There is something else where the directory was.
    let parquet = home.path("modelog-data/parquet");
    while !parquet.join("_manifest.json").exists() {
        std::thread::sleep(super::LOOK);
    }
    std::fs::rename(&parquet, home.path("aside")).unwrap();
    std::fs::write(&parquet, "precious").unwrap();
    home.run(&["import", "events.ndjson"]).ok();
    home.run(&["compact"])
        .fails(super::UNAVAILABLE, &["compaction_failed", "parquet"]);
    // Whoever asked for it is told at once, the others soon.
    let listed = loop {
        let listed = server.get("/v1/projections");
        if status_of(&listed, "parquet")["errors"] != 0 {
            break listed;
        }
        std::thread::sleep(super::LOOK);
    };
    let compactor = status_of(&listed, "parquet");
    let error = compactor["last_error"].as_str().unwrap();
    assert!(error.contains("parquet"), "{compactor}");
    assert_eq!(status_of(&listed, "sql")["state"], "running");
    let degraded = server.get("/readyz")["degraded"].clone();
    assert_eq!(degraded[0]["projection"], "parquet", "{degraded}");
    let (_, metrics) = server.ask("GET", "/metrics", "").unwrap();
    assert!(!metrics.contains("modelog_projection_errors_total{projection=\"parquet\"} 0"));
    server.stop();
    assert_eq!(std::fs::read(&parquet).unwrap(), b"precious");
    home.run(&["compact"]).fails(IO, &["parquet"]);
    // Once it is out of the way, it goes on.
    std::fs::remove_file(&parquet).unwrap();
    std::fs::rename(home.path("aside"), &parquet).unwrap();
    assert_eq!(home.events().len() as u64, count);
    let compacted = home.run(&["compact", "--format", "json"]).ok().json();
    assert_eq!(compacted["cold_end"], count);
}

#[test]
fn history_that_is_elsewhere_or_of_another_log_is_told() {
    let (home, _) = events_of(300_000);
    let eager = ["--config", "eager.toml"];
    home.run(&[&["import", "events.ndjson"][..], &eager].concat())
        .ok();
    home.run(&[&["compact"][..], &eager].concat()).ok();
    let data = home.path("modelog-data");
    std::fs::rename(data.join("parquet"), home.path("aside")).unwrap();
    let gone = home.run(&["export"]).fails(BAD_DATA, &["parquet"]);
    assert!(gone.out.is_empty(), "{gone:?}");
    home.run(&["serve", "--listen", "127.0.0.1:0"])
        .fails(BAD_DATA, &["parquet"]);
    // Moved together with the setting it is found again.
    let moved = format!("[parquet]\npath = {:?}\n", home.path("aside"));
    home.write("moved.toml", moved);
    home.run(&["export", "--config", "moved.toml"]).ok();
    home.run(&["import", "--data", "other", "events.ndjson"])
        .ok();
    let foreign = home.run(&["export", "--data", "other", "--config", "moved.toml"]);
    foreign.fails(BAD_DATA, &["aside"]);
}
