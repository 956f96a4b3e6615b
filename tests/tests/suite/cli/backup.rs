//! `backup`: through the server that holds the directory, on the directory itself, and by the configuration.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{
    BAD_DATA, Home, LOOK, Server, USAGE, corpus, files_below, parse_lines, send, sorted_names,
};

/// Segments and Parquet files are small and many, and segments go as soon as Parquet has them.
const BUSY: &str = "\
[log]
segment_bytes = \"64KiB\"
keep_segments = \"0s\"
[parquet]
target_file_bytes = \"64KiB\"
max_delay = \"1s\"
";
/// What a complete backup has, and no other.
const COMPLETE: &str = "backup.json";

fn with_events(bytes: usize) -> (Home, u64) {
    let home = Home::new();
    let text = corpus(bytes);
    home.write("events.ndjson", &text);
    home.write("busy.toml", BUSY);
    home.run(&["import", "events.ndjson"]).ok();
    (home, text.lines().count() as u64)
}

fn back_up(home: &Home, arguments: &[&str]) -> Value {
    let fixed = ["backup", "backups", "--format", "json"];
    home.run(&[&fixed, arguments].concat()).ok().json()
}

/// All complete backups of a directory, oldest first.
fn generations(directory: &Path) -> Vec<PathBuf> {
    let names = sorted_names(directory).into_iter();
    names
        .map(|name| directory.join(name))
        .filter(|path| path.join(COMPLETE).exists())
        .collect()
}

/// Restores a backup into a directory, and reads all events there.
pub(super) fn events_of(home: &Home, source: &str, into: &str) -> Vec<Value> {
    home.run(&["restore", source, "--data", into]).ok();
    home.run(&["verify", "--data", into]).ok();
    parse_lines(&home.run(&["export", "--data", into]).ok().out)
}

#[test]
fn backups_under_load_hold_what_the_log_held() {
    let (home, _) = with_events(1 << 20);
    let server = Server::start(&home, &["--config", "busy.toml"]);
    let stop = AtomicBool::new(false);
    let made: Vec<Value> = std::thread::scope(|scope| {
        for client in 0..4 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || post_until(server, stop, &client.to_string()));
        }
        let made = (0..4)
            .map(|_| {
                let before = server.get("/v1/stats?at_least=0")["events"]
                    .as_u64()
                    .unwrap();
                let made = back_up(&home, &[]);
                assert!(made["offset"].as_u64().unwrap() >= before, "{made}");
                made
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        made
    });
    server.stop();
    let source = home.events();
    assert_eq!(generations(&home.path("backups")).len(), 4);
    for (number, made) in made.iter().enumerate() {
        let offset = made["offset"].as_u64().unwrap() as usize;
        assert!(0 < offset && offset <= source.len());
        let path = made["path"].as_str().unwrap();
        let restored = events_of(&home, path, &format!("restored-{number}"));
        assert_eq!(restored.len(), offset);
        for (restored, source) in restored.iter().zip(&source) {
            assert_eq!(restored, source);
        }
        if number > 0 {
            assert!(made["reused_files"].as_u64().unwrap() > 0, "{made}");
        }
    }
}

/// Posts predictions, some of them many at a time, until told to stop or the server is gone. Answers the ids that were
/// acknowledged.
fn post_until(server: &Server, stop: &AtomicBool, client: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let size = [1, 3, 200][number % 3];
        let ids: Vec<_> = (0..size)
            .map(|at| format!("{client}-{number}-{at}"))
            .collect();
        let event = |id: &String| {
            let version = number % 7;
            format!(
                "{{\"type\":\"PredictionLogged\",\"id\":\"{id}\",\"model\":\"m\",\"version\":\"v{version}\",\
                 \"output\":{{\"of\":\"{id}\"}}}}\n"
            )
        };
        let body: String = ids.iter().map(event).collect();
        let Some((status, answer)) = server.ask("POST", "/v1/events", &body) else {
            return acknowledged;
        };
        assert_eq!(status, 200, "{answer}");
        acknowledged.extend(ids);
        number += 1;
    }
    acknowledged
}

#[test]
fn a_server_that_is_killed_loses_nothing_to_compaction_and_backups() {
    let home = Home::new();
    let scheduled = "[backup]\npath = \"../backups\"\nevery = \"1s\"\nkeep = 3\n";
    home.write("busy.toml", format!("{BUSY}{scheduled}"));
    let mut acknowledged = BTreeSet::new();
    for round in 0..6 {
        let mut server = Server::start(&home, &["--config", "busy.toml"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let post = |client: usize| {
                let (server, stop) = (&server, &stop);
                let client = format!("{round}-{client}");
                scope.spawn(move || post_until(server, stop, &client))
            };
            let clients: Vec<_> = (0..3).map(post).collect();
            // Long enough for files to be closed, segments to go and backups to be made, each time up to another moment.
            std::thread::sleep(Duration::from_millis(1300 + 170 * round));
            server.signal("KILL");
            for client in clients {
                acknowledged.extend(client.join().unwrap());
            }
        });
        server.wait();
    }
    let sound = home.run(&["verify", "--format", "json"]).ok().json();
    assert_eq!(sound["sound"], true, "{sound}");
    home.run(&["compact", "--config", "busy.toml"]).ok();
    home.run(&["verify"]).ok();
    let all = home.events();
    let ids: BTreeSet<_> = all
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), all.len(), "once");
    assert!(ids.is_superset(&acknowledged), "every one");
    let listed = home
        .run(&["log", "inspect", "--format", "json"])
        .ok()
        .json();
    let first = listed["segments"][0]["first_offset"].as_u64().unwrap();
    assert!(first > 0, "Parquet is relied on");
    let restored = events_of(&home, "backups", "restored");
    assert!(!restored.is_empty());
    assert_eq!(restored[..], all[..restored.len()]);
}

#[test]
fn what_has_not_changed_is_shared_with_the_backup_before() {
    let (home, count) = with_events(2 << 20);
    home.run(&["compact", "--config", "busy.toml"]).ok();
    let first = back_up(&home, &[]);
    assert_eq!(first["reused_files"], 0);
    assert_eq!(first["offset"], count);
    home.write(
        "more.ndjson",
        "{\"type\":\"EventLogged\",\"name\":\"more\"}",
    );
    home.run(&["import", "more.ndjson"]).ok();
    let second = back_up(&home, &[]);
    assert_eq!(second["offset"], count + 1);
    assert!(
        second["new_bytes"].as_u64().unwrap() * 20 < second["reused_bytes"].as_u64().unwrap(),
        "{second}"
    );
    let inodes = |made: &Value| {
        let path = PathBuf::from(made["path"].as_str().unwrap());
        let files = files_below(&path).into_iter();
        files
            .map(|file| (path.join(&file).metadata().unwrap().ino(), file))
            .collect::<BTreeSet<_>>()
    };
    let shared = inodes(&first).intersection(&inodes(&second)).count() as u64;
    assert_eq!(shared, second["reused_files"].as_u64().unwrap());
    // Each stands for itself.
    std::fs::remove_dir_all(first["path"].as_str().unwrap()).unwrap();
    let restored = events_of(&home, "backups", "restored");
    assert_eq!(restored, home.events());
}

#[test]
fn a_backup_that_was_broken_off_is_none() {
    let (home, count) = with_events(2 << 20);
    back_up(&home, &[]);
    for number in 0..8 {
        // Another segment, so that there is something to do.
        home.write(
            "one.ndjson",
            format!("{{\"type\":\"EventLogged\",\"name\":\"{number}\"}}"),
        );
        home.run(&["import", "one.ndjson"]).ok();
        let mut backup = home.command(&["backup", "backups"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 * number));
        send(&backup, "KILL");
        backup.wait().unwrap();
        // Whether it was complete or not: what is found is a complete one.
        let into = format!("restored-{number}");
        let restored = events_of(&home, "backups", &into);
        let made = generations(&home.path("backups")).len() as u64;
        assert!(restored.len() as u64 >= count, "{made}");
        assert_eq!(restored[..], home.events()[..restored.len()]);
        std::fs::remove_dir_all(home.path(&into)).unwrap();
    }
    let last = back_up(&home, &[]);
    assert_eq!(last["offset"], count + 8);
    assert_eq!(events_of(&home, "backups", "restored"), home.events());
    // One that lost its last file is passed over, though it is the newest.
    let newest = generations(&home.path("backups")).pop().unwrap();
    std::fs::remove_file(newest.join(COMPLETE)).unwrap();
    let restored = events_of(&home, "backups", "restored-again");
    assert!(restored.len() as u64 >= count);
    home.run(&["restore", newest.to_str().unwrap(), "--data", "none"])
        .fails(BAD_DATA, &[COMPLETE]);
    assert!(!home.path("none").exists());
}

#[test]
fn older_backups_are_removed_and_nothing_else() {
    let (home, _) = with_events(100_000);
    back_up(&home, &[]);
    std::fs::create_dir(home.path("backups/precious")).unwrap();
    home.write("backups/notes", "precious");
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(back_up(&home, &["--keep", "2"]));
    }
    let kept = generations(&home.path("backups"));
    assert_eq!(kept.len(), 2);
    for (kept, made) in kept.iter().zip(&made[1..]) {
        assert!(
            kept.ends_with(
                Path::new(made["path"].as_str().unwrap())
                    .file_name()
                    .unwrap()
            )
        );
    }
    assert_eq!(made[0]["removed"].as_array().unwrap().len(), 0);
    assert_eq!(made[2]["removed"].as_array().unwrap().len(), 1);
    let names = sorted_names(&home.path("backups"));
    assert!(
        names.iter().any(|name| name == "precious") && names.iter().any(|name| name == "notes")
    );
    assert_eq!(events_of(&home, "backups", "restored"), home.events());
}

#[test]
fn places_that_are_not_for_backups_are_refused() {
    let (home, _) = with_events(10_000);
    std::fs::create_dir(home.path("full")).unwrap();
    home.write("full/thesis.txt", "precious");
    home.run(&["import", "--data", "other", "events.ndjson"])
        .ok();
    home.run(&["backup", "of-other", "--data", "other"]).ok();
    let refused = || {
        for (place, said) in [
            ("full", "full"),
            ("events.ndjson", "events.ndjson"),
            ("modelog-data/backups", "outside of the data directory"),
            ("modelog-data", "outside of the data directory"),
            (".", "outside of the data directory"),
            ("of-other", "of-other"),
        ] {
            home.run(&["backup", place]).fails(USAGE, &[said]);
        }
        assert_eq!(home.read("full/thesis.txt"), "precious");
        assert_eq!(sorted_names(&home.path("full")).len(), 1);
    };
    refused();
    let server = Server::start(&home, &[]);
    refused();
    // A link into the data directory leads there all the same.
    std::os::unix::fs::symlink(home.path("modelog-data"), home.path("link")).unwrap();
    home.run(&["backup", "link/backups"])
        .fails(USAGE, &["outside of the data directory"]);
    server.stop();
}

#[test]
fn the_configuration_has_backups_made() {
    let (home, _) = with_events(100_000);
    home.write(
        "every.toml",
        "[backup]\npath = \"../backups\"\nevery = \"1s\"\nkeep = 2\n",
    );
    let server = Server::start(&home, &["--config", "every.toml"]);
    let backups = home.path("backups");
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        if backups.exists() {
            seen.extend(generations(&backups));
        }
        std::thread::sleep(LOOK);
    }
    let degraded = server.get("/readyz")["degraded"].clone();
    assert!(!degraded.to_string().contains("backup"), "{degraded}");
    let (_, metrics) = server.ask("GET", "/metrics", "").unwrap();
    assert!(
        metrics.contains("modelog_backup_errors_total 0"),
        "{metrics}"
    );
    server.stop();
    assert_eq!(generations(&backups).len(), 2);
    assert_eq!(events_of(&home, "backups", "restored"), home.events());
}

#[test]
fn a_backup_that_fails_is_told_and_tried_again() {
    let (home, _) = with_events(10_000);
    home.write(
        "every.toml",
        "[backup]\npath = \"../backups\"\nevery = \"1s\"\n",
    );
    home.write("backups", "in the way");
    let server = Server::start(&home, &["--config", "every.toml"]);
    let failing = || {
        server.get("/readyz")["degraded"]
            .to_string()
            .contains("\"task\":\"backup\"")
    };
    while !failing() {
        std::thread::sleep(LOOK);
    }
    assert!(
        server.said().contains("the backup was not made"),
        "{}",
        server.said()
    );
    // Events are taken all the same.
    let event = "{\"type\":\"EventLogged\",\"name\":\"meanwhile\"}";
    assert_eq!(server.ask("POST", "/v1/events", event).unwrap().0, 200);
    let (_, metrics) = server.ask("GET", "/metrics", "").unwrap();
    assert!(
        !metrics.contains("modelog_backup_errors_total 0"),
        "{metrics}"
    );
    std::fs::remove_file(home.path("backups")).unwrap();
    while failing() {
        std::thread::sleep(LOOK);
    }
    server.stop();
    assert!(!generations(&home.path("backups")).is_empty());
}
