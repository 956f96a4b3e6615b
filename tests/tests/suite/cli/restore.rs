//! `restore`: from every kind of source, as of any moment, and what is made of the stores that were there before.

use std::path::Path;

use serde_json::Value;

use super::backup::events_of;
use super::{BAD_DATA, Home, IO, Server, USAGE, corpus, files_below, parse_lines, sorted_names};

/// Segments are small, and go as soon as Parquet has them.
const EAGER: &str = "[log]\nsegment_bytes = \"16KiB\"\nkeep_segments = \"0s\"\n";
/// What marks a directory as half restored.
const RESTORING: &str = "RESTORING";

/// A log whose first events are in Parquet only, the next in both, and the last in segments only.
fn with_history() -> Home {
    let home = Home::new();
    home.write("eager.toml", EAGER);
    let text = corpus(1_500_000);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let parts = [&lines[..3000], &lines[3000..5000], &lines[5000..]];
    for (number, part) in parts.iter().enumerate() {
        let file = format!("part-{number}.ndjson");
        home.write(&file, part.concat());
        home.run(&["import", &file, "--config", "eager.toml"]).ok();
        if number < 2 {
            home.run(&["compact", "--config", "eager.toml"]).ok();
        }
    }
    let segments = home
        .run(&["log", "inspect", "--format", "json"])
        .ok()
        .json();
    let first = &segments["segments"][0]["first_offset"];
    assert_eq!((first, &segments["cold_end"]), (&3000.into(), &5000.into()));
    home
}

fn restore(home: &Home, arguments: &[&str]) -> Value {
    let fixed = ["restore", "--format", "json"];
    home.run(&[&fixed, arguments].concat()).ok().json()
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let to = to.join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from.join(&file), to).unwrap();
    }
}

#[test]
fn a_backup_its_directory_and_a_data_directory_are_sources() {
    let home = with_history();
    let all = home.events();
    let made = home
        .run(&["backup", "backups", "--format", "json"])
        .ok()
        .json();
    assert_eq!(
        events_of(&home, made["path"].as_str().unwrap(), "of-generation"),
        all
    );
    assert_eq!(events_of(&home, "backups", "of-directory"), all);
    assert_eq!(events_of(&home, "modelog-data", "of-data"), all);
    let server = Server::start(&home, &[]);
    let event = "{\"type\":\"EventLogged\",\"name\":\"newest\"}";
    assert_eq!(server.ask("POST", "/v1/events", event).unwrap().0, 200);
    let of_used = events_of(&home, "modelog-data", "of-used");
    assert_eq!(of_used[..all.len()], all[..]);
    // What was acknowledged before is there.
    assert_eq!(of_used.len(), all.len() + 1);
    server.stop();
    assert_eq!(home.events(), of_used);
}

#[test]
fn parquet_alone_is_a_source() {
    let home = with_history();
    home.run(&["compact"]).ok();
    let all = home.events();
    copy(
        &home.path("modelog-data/parquet"),
        &home.path("only/parquet"),
    );
    assert_eq!(events_of(&home, "only", "restored"), all);
    // Its events are recognised when they come again.
    let again = ["import", "--data", "restored", "part-0.ndjson"];
    let again = home.run(&again).ok();
    assert_eq!(super::last_line(&again.out)[1], "0", "{again:?}");
}

#[test]
fn a_restored_log_goes_on_in_an_epoch_of_its_own() {
    let home = with_history();
    let all = home.events();
    home.run(&["backup", "backups"]).ok();
    let first = restore(&home, &["backups", "--data", "first"]);
    let second = restore(&home, &["backups", "--data", "second", "--until", "100"]);
    assert_eq!(first["offset"], all.len());
    assert_eq!(second["offset"], 100);
    let epochs = [&first, &second].map(|told| told["epoch"].as_u64().unwrap());
    assert!(epochs[0] > 1 && epochs[1] > 1, "{epochs:?}");
    let server = Server::start(&home, &["--data", "second"]);
    assert_eq!(server.get("/version")["epoch"], epochs[1]);
    assert_eq!(server.get("/version")["log"], first["log"]);
    let event = "{\"type\":\"EventLogged\",\"name\":\"another way\"}";
    let (_, answer) = server.ask("POST", "/v1/events", event).unwrap();
    assert!(answer.contains("\"first_offset\":100"), "{answer}");
    server.stop();
    let table = home.run(&["restore", "backups", "--data", "third"]).ok();
    for said in [
        all.len().to_string().as_str(),
        "epoch",
        "modelog serve --data third",
    ] {
        assert!(table.out.contains(said), "{said}: {table:?}");
    }
}

#[test]
fn any_moment_can_be_restored() {
    let home = with_history();
    let all = home.events();
    home.run(&["backup", "backups"]).ok();
    // In Parquet and in segments, at the edges of batches and within them.
    for (number, until) in [
        0,
        1,
        2,
        2999,
        3000,
        3001,
        4999,
        5000,
        5001,
        all.len() - 1,
        all.len(),
    ]
    .iter()
    .enumerate()
    {
        for source in ["backups", "modelog-data"] {
            let into = format!("{source}-{number}");
            let told = restore(
                &home,
                &[source, "--data", &into, "--until", &until.to_string()],
            );
            assert_eq!(told["offset"], *until);
            let restored = parse_lines(&home.run(&["export", "--data", &into]).ok().out);
            assert_eq!(restored[..], all[..*until], "{source} until {until}");
            home.run(&["verify", "--data", &into]).ok();
        }
    }
    let beyond = (all.len() + 1).to_string();
    home.run(&["restore", "backups", "--data", "beyond", "--until", &beyond])
        .fails(USAGE, &[&all.len().to_string()]);
    assert!(!home.path("beyond").exists());
    // Everything that had arrived by the time the last of the older events did, and nothing later.
    let time = all[4999]["append_time"].as_str().unwrap();
    let held = all
        .iter()
        .filter(|event| event["append_time"].as_str().unwrap() <= time);
    let held: Vec<_> = held.cloned().collect();
    assert!(held.len() < all.len());
    restore(&home, &["backups", "--data", "then", "--until", time]);
    let then = parse_lines(&home.run(&["export", "--data", "then"]).ok().out);
    assert_eq!(then, held);
}

#[test]
fn every_read_answers_as_of_then() {
    let home = Home::new();
    let line = |name: &str| format!("{{\"type\":\"ModelCreated\",\"model\":\"{name}\"}}");
    home.write("a.ndjson", line("a"));
    home.write("b.ndjson", line("b"));
    home.run(&["import", "a.ndjson"]).ok();
    home.run(&["import", "b.ndjson"]).ok();
    home.run(&["restore", "modelog-data", "--data", "then", "--until", "1"])
        .ok();
    let server = Server::start(&home, &["--data", "then"]);
    let models = server.get("/v1/models?at_least=1");
    let items = models["items"].as_array().unwrap();
    assert!(items.len() == 1 && items[0]["model"] == "a", "{models}");
    assert_eq!(server.get("/v1/stats")["events"], 1);
    // Numbers of names that were never given can be given again.
    let (_, made) = server.ask("POST", "/v1/events", &line("c")).unwrap();
    assert!(made.contains("\"first_offset\":1"), "{made}");
    let models = server.get("/v1/models?at_least=2");
    assert_eq!(models["items"].as_array().unwrap().len(), 2, "{models}");
    server.stop();
}

#[test]
fn a_store_that_is_ahead_of_the_restored_log_is_told_apart() {
    let home = with_history();
    home.run(&["backup", "backups"]).ok();
    let count = home.events().len();
    home.write("newer.ndjson", corpus(1_520_000));
    home.run(&["import", "newer.ndjson"]).ok();
    assert!(home.events().len() > count);
    home.run(&["projections"]).ok();
    home.run(&["restore", "backups", "--data", "restored"]).ok();
    copy(
        &home.path("modelog-data/sqlite"),
        &home.path("restored/sqlite"),
    );
    let sql = || {
        let listed = home.run(&["projections", "--data", "restored", "--format", "json"]);
        listed.ok().json()["items"][0].clone()
    };
    let ahead = sql();
    assert_eq!(ahead["state"], "stopped");
    let said = ahead["last_error"].as_str().unwrap();
    assert!(
        said.contains("no longer exists") && said.contains("modelog rebuild sql"),
        "{said}"
    );
    home.run(&["rebuild", "sql", "--data", "restored"]).ok();
    let mended = sql();
    assert_eq!(
        (&mended["state"], &mended["offset"]),
        (&"running".into(), &count.into())
    );
}

#[test]
fn wrong_sources_and_targets_are_told_what_to_do() {
    let home = with_history();
    home.run(&["backup", "backups"]).ok();
    std::fs::create_dir(home.path("empty")).unwrap();
    std::fs::create_dir(home.path("full")).unwrap();
    home.write("full/thesis.txt", "precious");
    home.run(&["restore", "nowhere", "--data", "x"])
        .fails(IO, &["nowhere"]);
    for source in ["empty", "full", "part-0.ndjson"] {
        home.run(&["restore", source, "--data", "x"])
            .fails(BAD_DATA, &[source, "modelog backup"]);
    }
    for target in ["full", "modelog-data", "part-0.ndjson"] {
        home.run(&["restore", "backups", "--data", target])
            .fails(USAGE, &[target, "--data"]);
    }
    assert_eq!(sorted_names(&home.path("full")), ["thesis.txt"]);
    assert!(!home.path("x").exists());
    // An empty directory will do, as a mount point must.
    home.run(&["restore", "backups", "--data", "empty"]).ok();
}

#[test]
fn parquet_may_lie_elsewhere() {
    let home = with_history();
    let all = home.events();
    home.run(&["backup", "backups"]).ok();
    home.write(
        "far.toml",
        format!("[parquet]\npath = {:?}\n", home.path("far")),
    );
    let far = ["--config", "far.toml", "--data", "restored"];
    // What fails leaves nothing, there either.
    home.run(&[&["restore", "backups", "--until", "8000"][..], &far].concat())
        .fails(USAGE, &["8000"]);
    assert!(!home.path("far").exists() && !home.path("restored").exists());
    home.run(&[&["restore", "backups"][..], &far].concat()).ok();
    assert!(!home.path("restored/parquet").exists());
    let restored = home.run(&[&["export"][..], &far].concat()).ok();
    assert_eq!(parse_lines(&restored.out), all);
    // A second log does not get into the same place.
    home.run(&[
        "restore", "backups", "--config", "far.toml", "--data", "second",
    ])
    .fails(USAGE, &["far", "parquet.path"]);
    assert!(!home.path("second").exists());
    // From such a directory there is a way through a backup.
    home.run(&["restore", "restored", "--data", "third"])
        .fails(BAD_DATA, &["parquet.path", "make a backup"]);
    assert!(!home.path("third").exists());
    home.run(&[&["backup", "more"][..], &far].concat()).ok();
    assert_eq!(events_of(&home, "more", "third"), all);
}

#[test]
fn damage_in_a_backup_is_not_restored() {
    let home = with_history();
    let made = home
        .run(&["backup", "backups", "--format", "json"])
        .ok()
        .json();
    let path = Path::new(made["path"].as_str().unwrap());
    for end in [".seg", ".parquet"] {
        // The last segment: what the first ones hold is taken from Parquet.
        let file = files_below(path)
            .into_iter()
            .rfind(|file| file.ends_with(end))
            .unwrap();
        // Not the file that is shared with the data directory.
        let whole = std::fs::read(path.join(&file)).unwrap();
        std::fs::remove_file(path.join(&file)).unwrap();
        home.run(&["restore", "backups", "--data", "missing"])
            .fails(BAD_DATA, &[&file]);
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(path.join(&file), damaged).unwrap();
        home.run(&["restore", "backups", "--data", "damaged"])
            .fails(BAD_DATA, &[&file]);
        std::fs::write(path.join(&file), whole).unwrap();
        // It can be done again in the same place, once there is a whole one.
        for into in ["missing", "damaged"] {
            assert_eq!(events_of(&home, "backups", into), home.events());
            std::fs::remove_dir_all(home.path(into)).unwrap();
        }
    }
}

#[test]
fn a_restore_that_was_broken_off_is_not_served_and_is_done_again() {
    let home = with_history();
    home.run(&["backup", "backups"]).ok();
    let all = home.events();
    for delay in [0, 5, 10, 20, 40] {
        let mut restore = home
            .command(&["restore", "backups", "--data", "restored"])
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        super::send(&restore, "KILL");
        restore.wait().unwrap();
        if home.path("restored").join(RESTORING).exists() {
            let said = ["restore was interrupted", "modelog restore"];
            for command in [
                &["export"][..],
                &["serve"],
                &["verify"],
                &["import", "part-0.ndjson"],
            ] {
                home.run(&[command, &["--data", "restored"]].concat())
                    .fails(BAD_DATA, &said);
            }
        } else if home.path("restored/log/MANIFEST").exists() {
            std::fs::remove_dir_all(home.path("restored")).unwrap();
        }
    }
    if home.path("restored/log/MANIFEST").exists() {
        std::fs::remove_dir_all(home.path("restored")).unwrap();
    }
    assert_eq!(events_of(&home, "backups", "restored"), all);
    // The marker alone, as a crash right after the start leaves it.
    std::fs::create_dir(home.path("marked")).unwrap();
    home.write(&format!("marked/{RESTORING}"), "");
    home.run(&["export", "--data", "marked"])
        .fails(BAD_DATA, &["restore was interrupted"]);
    assert_eq!(events_of(&home, "backups", "marked"), all);
}
