//! `verify` and `log inspect`: sound logs, damaged ones, and ones that are none.

use std::os::unix::fs::FileExt;

use modelog_engine::Engine;

use super::{BAD_DATA, Home, IO, UNAVAILABLE, USAGE, corpus};

fn with_log(bytes: usize) -> (Home, std::path::PathBuf) {
    let home = Home::new();
    home.write("events.ndjson", corpus(bytes));
    home.run(&["import", "events.ndjson"]).ok();
    let log = home
        .run(&["log", "inspect", "--format", "json"])
        .ok()
        .json();
    assert_eq!(log["cold_end"], 0);
    let path = log["segments"][0]["path"].as_str().unwrap().to_owned();
    let path = home.0.path().join(path);
    (home, path)
}

#[test]
fn a_sound_log_is_called_so() {
    let (home, _) = with_log(5 << 20);
    let said = home.run(&["verify"]).ok();
    assert!(said.out.contains("sound: "), "{said:?}");
    let json = home.run(&["verify", "--format", "json"]).ok().json();
    assert_eq!(json["sound"], true);
    assert_eq!(json["events"], home.events().len());
    assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    let nothing = home.run(&["verify", "--format", "ndjson"]).ok();
    assert_eq!(nothing.out, "");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let (home, segment) = with_log(60_000);
    let frames = home
        .run(&["log", "inspect", "0", "--format", "json"])
        .ok()
        .json();
    let last = frames.as_array().unwrap().last().unwrap();
    assert_eq!(last["content"], "closing");
    let closing = last["position"].as_u64().unwrap();
    let end = closing + last["bytes"].as_u64().unwrap();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&segment)
        .unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let flip = |position: u64, bit: u32| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], position)
            .unwrap();
    };
    // Every byte where the file's header and the first frame's begin, then a sample, then the last byte.
    let step = (end / 150).max(1) as usize;
    let positions = (0..96)
        .chain(4090..4200)
        .chain((96..end).step_by(step))
        .chain([closing, end - 1]);
    for position in positions {
        let bit = (position % 8) as u32;
        flip(position, bit);
        let said = home.run(&["verify"]);
        // The last frame too: closing in order records where the log ends.
        assert_eq!(
            said.status.code(),
            Some(BAD_DATA),
            "byte {position}: {said:?}"
        );
        assert!(
            said.out.contains("corrupt") && said.out.contains(name),
            "byte {position}: {said:?}"
        );
        flip(position, bit);
    }
    home.run(&["verify"]).ok();

    let middle = u64::midpoint(4096, end);
    flip(middle, 0);
    let json = home
        .run(&["verify", "--format", "json"])
        .fails(BAD_DATA, &[])
        .json();
    assert_eq!(json["sound"], false);
    let finding = &json["findings"][0];
    assert!(finding["path"].as_str().unwrap().ends_with(name));
    assert!((4096..=middle).contains(&finding["position"].as_u64().unwrap()));
    assert!(finding["offset"].is_u64());
    // A damaged log is not opened, and not changed.
    for arguments in [
        &["export"][..],
        &["import", "events.ndjson"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        home.run(arguments)
            .fails(BAD_DATA, &["is corrupt at byte", "modelog log inspect"]);
    }
    let frames = home.run(&["log", "inspect", "0"]).ok().out;
    assert!(frames.contains("damaged"), "{frames}");
}

#[test]
fn a_missing_segment_and_a_missing_manifest_are_named() {
    let (home, segment) = with_log(60_000);
    std::fs::rename(&segment, home.path("aside")).unwrap();
    let said = home.run(&["verify"]).fails(BAD_DATA, &[]);
    assert!(said.out.contains("the file is missing"), "{said:?}");
    std::fs::rename(home.path("aside"), &segment).unwrap();
    // Looking into a file works wherever it is.
    std::fs::copy(&segment, home.path("copy.seg")).unwrap();
    assert!(
        home.run(&["log", "inspect", "copy.seg"])
            .ok()
            .out
            .contains("PredictionLogged")
    );
    std::fs::remove_file(home.path("modelog-data/log/MANIFEST")).unwrap();
    home.run(&["verify"]).fails(IO, &["there is no log"]);
    home.run(&["import", "events.ndjson"])
        .fails(BAD_DATA, &["segments but no MANIFEST"]);
}

#[test]
fn a_log_can_be_looked_into() {
    let (home, segment) = with_log(5 << 20);
    let listed = home.run(&["log", "inspect"]).ok().out;
    assert!(listed.contains(" open "), "{listed}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    let by_number = home.run(&["log", "inspect", "0"]).ok().out;
    assert!(
        by_number.contains("producer import:") && by_number.contains("closed in order"),
        "{by_number}"
    );
    assert_eq!(home.run(&["log", "inspect", name]).ok().out, by_number);
    let frames = super::parse_lines(
        &home
            .run(&["log", "inspect", "0", "--format", "ndjson"])
            .ok()
            .out,
    );
    let events = frames.iter().filter(|frame| frame["content"] == "events");
    let logged: u64 = events
        .map(|frame| {
            frame["detail"]["kinds"]["PredictionLogged"]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(logged, home.events().len() as u64);
    home.run(&["log", "inspect", "7"])
        .fails(USAGE, &["neither a file nor a segment"]);
    home.run(&["log", "inspect", "events.ndjson"])
        .fails(BAD_DATA, &["events.ndjson"]);
}

/// A log whose events are in Parquet and in its segments.
fn compacted(bytes: usize) -> (Home, u64) {
    let (home, _) = with_log(bytes);
    home.run(&["compact"]).ok();
    let count = corpus(bytes).lines().count() as u64;
    (home, count)
}

/// The Parquet file of the predictions.
fn predictions(home: &Home) -> std::path::PathBuf {
    let mut files = super::files_below(&home.path("modelog-data/parquet"));
    files.retain(|file| file.starts_with("kind=PredictionLogged/"));
    assert_eq!(files.len(), 1, "{files:?}");
    home.path("modelog-data/parquet").join(files.remove(0))
}

#[test]
fn parquet_files_are_verified_too() {
    let (home, count) = compacted(300_000);
    let verify = || home.run(&["verify", "--format", "json"]);
    let sound = verify().ok().json();
    let parquet = &sound["parquet"];
    assert_eq!(
        (&sound["cold_end"], &parquet["cold_end"], &parquet["log"]),
        (&count.into(), &count.into(), &sound["log"])
    );
    // Predictions, their names, and where they came from.
    assert!(parquet["files"].as_u64().unwrap() >= 3 && parquet["rows"].as_u64().unwrap() > count);
    assert_eq!(parquet["compared"], count, "{sound}");
    let said = home.run(&["verify"]).ok().out;
    assert!(
        said.starts_with("sound: ") && said.contains("Parquet file"),
        "{said}"
    );
    let listed = home.run(&["log", "inspect"]).ok().out;
    assert!(
        listed.contains(&format!("everything before offset {count} is in Parquet")),
        "{listed}"
    );
    let listed = home
        .run(&["log", "inspect", "--format", "json"])
        .ok()
        .json();
    assert_eq!(listed["cold_end"], count);

    let path = predictions(&home);
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let content = std::fs::read(&path).unwrap();
    for position in [0, 4, content.len() / 2, content.len() - 1] {
        let mut flipped = content.clone();
        flipped[position] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        let found = verify().fails(BAD_DATA, &[]).json();
        assert_eq!(found["sound"], false);
        let finding = &found["findings"][0];
        assert!(
            finding["severity"] == "corrupt" && finding["offset"].is_u64(),
            "{found}"
        );
        let path = finding["path"].as_str().unwrap();
        assert!(path.ends_with(&name), "{found}");
        let said = home.run(&["verify"]).fails(BAD_DATA, &[]).out;
        assert!(said.contains("damaged: ") && said.contains(&name), "{said}");
    }
    std::fs::remove_file(&path).unwrap();
    let said = home.run(&["verify"]).fails(BAD_DATA, &[]).out;
    assert!(said.contains("missing") && said.contains(&name), "{said}");
    std::fs::write(&path, &content).unwrap();
    // A stranger is told of, and is no damage.
    std::fs::write(home.path("modelog-data/parquet/notes.parquet"), "mine").unwrap();
    let strange = verify().ok().json();
    assert_eq!(strange["findings"][0]["severity"], "notice", "{strange}");
}

#[test]
fn verifying_works_beside_a_server_and_where_the_log_refuses_to_open() {
    let (home, count) = compacted(300_000);
    let server = super::Server::start(&home, &[]);
    home.write("more.ndjson", corpus(30_000).replace("p-", "q-"));
    home.run(&["import", "more.ndjson"]).ok();
    let beside = home.run(&["verify", "--format", "json"]).ok().json();
    assert_eq!(beside["parquet"]["cold_end"], count);
    server.stop();
    home.run(&["compact"]).ok();
    // Without its manifest a log is not opened; both parts are looked at all the same.
    let manifest = home.path("modelog-data/log/MANIFEST");
    let content = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, vec![7; content.len()]).unwrap();
    home.run(&["export"]).fails(BAD_DATA, &["MANIFEST"]);
    let found = home
        .run(&["verify", "--format", "json"])
        .fails(BAD_DATA, &[])
        .json();
    assert!(
        found["parquet"]["cold_end"].as_u64().unwrap() > count,
        "{found}"
    );
    let finding = &found["findings"][0];
    assert!(
        finding["path"].as_str().unwrap().ends_with("MANIFEST"),
        "{found}"
    );
    std::fs::remove_file(&manifest).unwrap();
    let said = home.run(&["verify"]).fails(BAD_DATA, &[]).out;
    assert!(said.contains("the log is missing"), "{said}");
    std::fs::write(&manifest, &content).unwrap();
    home.run(&["verify"]).ok();
    // A manifest of the Parquet files that is gone is missed.
    std::fs::remove_file(home.path("modelog-data/parquet/_manifest.json")).unwrap();
    let said = home.run(&["verify"]).fails(BAD_DATA, &[]).out;
    assert!(said.contains("_manifest.json"), "{said}");
}

#[test]
fn a_backup_is_verified_where_it_lies() {
    let (home, count) = compacted(300_000);
    home.write("more.ndjson", corpus(30_000).replace("p-", "q-"));
    home.run(&["import", "more.ndjson"]).ok();
    home.run(&["backup", "backups"]).ok();
    let mut generations = super::sorted_names(&home.path("backups"));
    generations.retain(|name| name.starts_with("20"));
    let generation = format!("backups/{}", generations.remove(0));
    // The configuration is that of the data directory, whose Parquet files may lie elsewhere.
    home.write("modelog.toml", "[parquet]\npath = \"elsewhere\"\n");
    let verify = ["verify", "--data", &generation, "--config", "modelog.toml"];
    let sound = home
        .run(&[&verify[..], &["--format", "json"]].concat())
        .ok()
        .json();
    assert!(
        sound["parquet"]["cold_end"].as_u64().unwrap() >= count,
        "{sound}"
    );
    assert_eq!(sound["end_offset"], home.events().len());
    let before = super::files_below(&home.path(&generation));
    let mut parquet = before.clone();
    parquet.retain(|file| file.starts_with("parquet/kind=PredictionLogged/"));
    let path = home.path(&generation).join(&parquet[0]);
    // Other generations share its files: the copy that is damaged is another one.
    let mut content = std::fs::read(&path).unwrap();
    content[100] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, content).unwrap();
    let said = home.run(&verify).fails(BAD_DATA, &[]).out;
    assert!(said.contains(&parquet[0]), "{said}");
    assert_eq!(super::files_below(&home.path(&generation)), before);
    home.run(&["verify"]).ok();
    home.run(&["import", "--data", "second", &generation])
        .fails(USAGE, &["is a backup", "modelog restore"]);
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    let (home, segment) = with_log(1000);
    // Which version a reader must have stands behind the magic number and the file's own version; the checksum of the
    // header is at its end.
    let mut changed = std::fs::read(&segment).unwrap();
    changed[12..16].copy_from_slice(&99_u32.to_le_bytes());
    let crc = crc32c::crc32c(&changed[..4092]);
    changed[4092..4096].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segment, &changed).unwrap();
    for arguments in [
        &["export"][..],
        &["import", "events.ndjson"],
        &["verify"],
        &["log", "inspect", "0"],
    ] {
        home.run(arguments)
            .fails(BAD_DATA, &["log format 99", "use a newer modelog"]);
    }
    assert!(std::fs::read(&segment).unwrap() == changed);
}

#[test]
fn directories_that_cannot_be_used() {
    let home = Home::new();
    home.write("file", "");
    home.write("events.ndjson", corpus(1000));
    // Also for root, nothing lies below a file.
    for arguments in [
        &["import", "events.ndjson", "--data", "file/data"][..],
        &["serve", "--data", "file/data", "--listen", "127.0.0.1:0"],
        &["verify", "--data", "file/data"],
    ] {
        home.run(arguments)
            .fails(IO, &["file/data", "Not a directory"]);
    }
}

#[test]
fn a_directory_held_by_another_process() {
    let (home, _) = with_log(1000);
    let engine = Engine::open(home.path("modelog-data")).unwrap();
    let holder = format!("process {}", std::process::id());
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["import", "events.ndjson"],
        &["export"],
        &["rebuild", "sql"],
    ] {
        home.run(arguments)
            .fails(UNAVAILABLE, &["is in use by", &holder]);
    }
    // Files can be looked at all the same.
    home.run(&["verify"]).ok();
    home.run(&["log", "inspect", "0"]).ok();
    engine.close_blocking().unwrap();
}
