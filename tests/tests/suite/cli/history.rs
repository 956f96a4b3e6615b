//! `import` of Parquet: the history of a log, into another one or into itself, whole or in parts.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use modelog_engine::batch::EventBatch;
use modelog_engine::event::{
    Event, EventRejected, FeedbackLogged, Json, Kind, MetricLogged, PredictionLogged,
};
use modelog_engine::{LogId, Offset, Timestamp};
use modelog_parquet::files::FileWriter;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{BAD_DATA, CONFIG, Done, Home, IO, LOOK, Server, USAGE, corpus, finish, send};

const LOG: LogId = LogId(uuid::Uuid::from_u128(
    0x0190_0000_0000_7000_8000_0000_0000_0001,
));
/// 2023-11-14T22:13:20Z
const START: i64 = 1_700_000_000_000_000;
const DAY: i64 = 86_400_000_000;

fn counts(done: &Done) -> (u64, u64) {
    let json = done.json();
    let count = |name: &str| json[name].as_u64().unwrap();
    assert_eq!(json["rejected"], 0, "{json}");
    (count("accepted"), count("duplicates"))
}

fn imported(home: &Home, arguments: &[&str]) -> (u64, u64) {
    counts(&home.run(&[&["import", "--json"], arguments].concat()).ok())
}

/// Events as their log had them: without what the log that took them added or filled in.
fn as_they_were(mut events: Vec<Value>) -> Vec<Value> {
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        fields.remove("log_offset").unwrap();
        fields.remove("append_time").unwrap();
        let id = fields.get("id").and_then(Value::as_str);
        if let Some(id) = id.filter(|id| id.starts_with("modelog:")) {
            let offset = id.rsplit(':').next().unwrap().to_owned();
            fields.remove("id");
            if fields.get("prediction_id") == Some(&json!(offset)) {
                fields.remove("prediction_id");
            }
        }
    }
    events
}

fn events_of(home: &Home, data: &str) -> Vec<Value> {
    super::parse_lines(&home.run(&["export", "--data", data]).ok().out)
}

/// Values that are easily lost, among events of several kinds and records that only an engine writes.
fn odd(home: &Home) {
    let events = [
        r#"{"type":"ModelVersionAliased","model":"m","alias":"prod","version":null}"#,
        r#"{"type":"PredictionLogged","model":"m","version":"v1","output":{"n": 9007199254740993,"n":1 },"input":[1,
   2],"confidence":0.1}"#,
        r#"{"type":"FeedbackLogged","prediction_id":"1","model":"m","correct":true,"label":"\u0000"}"#,
        r#"{"type":"MetricLogged","run":"r","name":"loss","value":"NaN","split":"","epoch":"-Infinity"}"#,
        r#"{"type":"PredictionLogged","model":"m","version":"v1","id":"own","source":"s","time":"2020-02-29T23:59:59.999999Z","error":"é"}"#,
        r#"{"type":"EventLogged","name":" padded ","colour":"red","data":null}"#,
        r#"{"type":"NoSuchKind","name":"é"}"#,
        r#"{"type":"FeedbackLogged","prediction_id":"own","model":"m","correct":false}"#,
    ];
    home.write("odd.json", format!("[{}]", events.join(",")));
    home.run(&["import", "--on-error", "skip", "odd.json"]).ok();
}

#[test]
fn what_was_exported_as_parquet_comes_back_as_it_was() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    let before = home.events();
    assert_eq!(imported(&home, &["--data", "second", "history"]), (8, 0));
    let after = events_of(&home, "second");
    assert_eq!(as_they_were(after.clone()), as_they_were(before.clone()));
    // JSON, too, is what it was to the byte.
    let lines = |data: &str| home.run(&["export", "--data", data]).ok().out;
    for part in [r#"{"n": 9007199254740993,"n":1 }"#, "[1,    2]"] {
        assert!(lines("second").contains(part), "{part}");
    }
    // What has no id got one, the same for everybody; what had one kept it.
    let ids: Vec<_> = after
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert!(
        ids[0].starts_with("modelog:") && ids[0].ends_with(":0"),
        "{ids:?}"
    );
    assert_eq!(ids[4], "own");
    // A prediction is what it was to those who name it, and so is its feedback.
    assert_eq!(after[1]["prediction_id"], "1");
    assert!(after[4].get("prediction_id").is_none());
    let server = Server::start(&home, &["--data", "second"]);
    for (id, correct) in [("1", true), ("own", false)] {
        let prediction = server.get(&format!("/v1/models/m/predictions/{id}"));
        assert_eq!(prediction["feedback"]["correct"], correct, "{prediction}");
    }
    server.stop();
    // A third log takes it from the second, with the ids it has.
    home.run(&[
        "export", "--data", "second", "--format", "parquet", "--out", "again/",
    ])
    .ok();
    assert_eq!(imported(&home, &["--data", "third", "again"]), (8, 0));
    let third = events_of(&home, "third");
    assert_eq!(as_they_were(third.clone()), as_they_were(before));
    let ids_again = third.iter().map(|event| event["id"].as_str().unwrap());
    assert!(ids_again.eq(ids));
}

#[test]
fn the_same_history_is_appended_once_whichever_way_it_comes() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    home.run(&[
        "export",
        "--format",
        "parquet",
        "--kind",
        "PredictionLogged",
        "--out",
        "p.parquet",
    ])
    .ok();
    let into = |paths: &[&str]| imported(&home, &[&["--data", "second"], paths].concat());
    assert_eq!(into(&["p.parquet"]), (2, 0));
    assert_eq!(into(&["p.parquet"]), (0, 2));
    // More files than before; a file twice; another file with the same events.
    assert_eq!(into(&["history"]), (6, 2));
    assert_eq!(
        into(&["history", "history/PredictionLogged.parquet"]),
        (0, 8)
    );
    assert_eq!(into(&["history", "p.parquet"]), (0, 10));
    assert_eq!(events_of(&home, "second").len(), 8);
}

#[test]
fn a_log_does_not_take_its_own_history_again() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    assert_eq!(imported(&home, &["history"]), (0, 8));
    home.write("more.ndjson", corpus(1000));
    home.run(&["import", "more.ndjson"]).ok();
    let before = home.events();
    assert_eq!(imported(&home, &["history"]), (0, 8));
    let server = Server::start(&home, &[]);
    assert_eq!(imported(&home, &["history"]), (0, 8 - 1));
    assert_eq!(
        imported(&home, &["--url", &server.url, "history"]),
        (0, 8 - 1)
    );
    server.stop();
    assert_eq!(home.events(), before);
}

#[test]
fn through_a_server_it_is_the_same_but_for_records() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    home.run(&["import", "--data", "offline", "history"]).ok();
    let server = Server::start(&home, &["--data", "online"]);
    let done = home
        .run(&["import", "--json", "--url", &server.url, "history"])
        .ok();
    assert_eq!(counts(&done), (7, 0));
    assert_eq!(done.json()["files"][0]["left_out"], 1);
    assert!(done.err.is_empty());
    let told = home.run(&["import", "--url", &server.url, "history"]).ok();
    assert!(told.err.contains("1 record left out"), "{told:?}");
    server.stop();
    let mut offline = events_of(&home, "offline");
    offline.retain(|event| event["type"] != "EventRejected");
    assert_eq!(
        as_they_were(events_of(&home, "online")),
        as_they_were(offline)
    );
    // Offline the rest is taken too, and nothing twice.
    assert_eq!(imported(&home, &["--data", "online", "history"]), (1, 7));
}

#[test]
fn a_token_that_may_only_ingest_is_not_enough() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    let hash = std::process::Command::new("sh")
        .args(["-c", "printf trainer | sha256sum | cut -d' ' -f1"])
        .output()
        .unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    let tokens = home.write(
        "tokens",
        format!("ingest sha256:{}  # trainers\n", hash.trim()),
    );
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    home.write("modelog.toml", format!("[http]\ntoken_file = {tokens:?}\n"));
    let server = Server::start(&home, &["--config", "modelog.toml", "--data", "second"]);
    let mut import = home.command(&["import", "--url", &server.url, "history"]);
    finish(import.env("MODELOG_TOKEN", "trainer").spawn().unwrap())
        .fails(CONFIG, &["an import of Parquet", "must read", "403"]);
    server.stop();
    assert_eq!(events_of(&home, "second").len(), 0);
}

fn prediction(number: u64) -> Event {
    Event::from(PredictionLogged {
        model: "resnet50".into(),
        version: format!("v{}", number % 3),
        prediction_id: Some(format!("p-{number}")),
        output: Some(Json::parse(format!("{{\"class\": {number}}}")).unwrap()),
        confidence: Some(0.5),
        ..PredictionLogged::default()
    })
}

fn feedback(number: u64) -> Event {
    Event::from(FeedbackLogged {
        prediction_id: format!("p-{number}"),
        model: Some("resnet50".into()),
        correct: Some(number.is_multiple_of(2)),
        ..FeedbackLogged::default()
    })
}

fn metric(number: u64) -> Event {
    Event::from(MetricLogged {
        name: "loss".into(),
        value: number as f64,
        run: Some("r".into()),
        step: Some(number as i64),
        ..MetricLogged::default()
    })
}

/// A record of something large that could not be understood.
fn rejected(number: u64, bytes: usize) -> Event {
    Event::from(EventRejected {
        reason: "not_json".into(),
        raw: Some(vec![number as u8; bytes]),
        ..EventRejected::default()
    })
}

/// Writes events that a log took in one go as files of their kinds, laid out as in a data directory.
fn write_files(directory: &Path, log: LogId, first: u64, time: i64, events: &[Event]) {
    let batch = EventBatch::from_events(events).unwrap();
    let batch = batch.into_logged(Offset(first), Timestamp::from_micros(time));
    let date = Timestamp::from_micros(time).to_string();
    for table in &batch.tables {
        let rows = table.to_record_batch(batch.first_offset, batch.append_time);
        let (kind, date) = (table.kind(), &date[..10]);
        let folder = directory.join(format!("kind={kind}/date={date}"));
        std::fs::create_dir_all(&folder).unwrap();
        let offsets: Vec<_> = batch.rows_of(table).map(|row| row.offset().0).collect();
        let (first, end) = (offsets[0], offsets[offsets.len() - 1] + 1);
        let file = File::create(folder.join(format!("{first:020}-{end:020}.parquet"))).unwrap();
        let mut writer = FileWriter::new(file, kind, log).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
    }
}

/// Open files and resident anonymous memory of a process, in bytes; none once it has ended.
fn held_by(process: u32) -> Option<(usize, u64)> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd"))
        .ok()?
        .count();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    Some((files, kilobytes << 10))
}

#[test]
fn three_years_of_history_open_few_files_and_stay_within_memory() {
    const DATES: u64 = 1_100;
    const RAW_BYTES: usize = 128 << 10;
    let home = Home::new();
    let mut offset = 0;
    for date in 0..DATES {
        let events: Vec<_> = (0..4)
            .flat_map(|number| {
                let number = date * 4 + number;
                [prediction(number), metric(number), feedback(number)]
            })
            .chain([rejected(date, RAW_BYTES)])
            .collect();
        let time = START + date as i64 * DAY;
        write_files(&home.path("parquet"), LOG, offset, time, &events);
        offset += events.len() as u64;
    }
    let import = home
        .command(&["import", "--json", "parquet"])
        .spawn()
        .unwrap();
    let (mut files, mut memory) = (0, 0);
    while let Some((open, anonymous)) = held_by(import.id()) {
        (files, memory) = (files.max(open), memory.max(anonymous));
        std::thread::sleep(LOOK);
    }
    let done = finish(import).ok();
    assert_eq!(counts(&done), (offset, 0));
    assert!((1..=40).contains(&files), "{files} files were open");
    // Less than what the records alone come to.
    let all = DATES * RAW_BYTES as u64;
    let allowed = 96 << 20;
    assert!(
        allowed < all && (1..allowed).contains(&memory),
        "{memory} bytes of memory"
    );

    // Every event is there once, in the order of its log.
    let events = home.events();
    let ids = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned());
    let expected = (0..offset).map(|offset| format!("modelog:{LOG}:{offset}"));
    assert!(ids.eq(expected));
    assert_eq!(events[0]["time"], "2023-11-14T22:13:20Z");
    let dates: BTreeSet<_> = events
        .iter()
        .map(|event| event["time"].as_str().unwrap()[..10].to_owned())
        .collect();
    assert_eq!(dates.len() as u64, DATES);
    // Partitions go by arrival: what came in one day is few files.
    home.run(&["compact"]).ok();
    let mut files = super::files_below(&home.path("modelog-data/parquet"));
    files.retain(|file| file.ends_with(".parquet"));
    assert!((5..=12).contains(&files.len()), "{files:?}");
}

/// Predictions, as one file after the other.
fn long_history(home: &Home, files: u64, rows: u64) -> u64 {
    for file in 0..files {
        let events: Vec<_> = (0..rows)
            .flat_map(|row| [prediction(file * rows + row), metric(file * rows + row)])
            .collect();
        let (first, time) = (file * rows * 2, START + file as i64 * DAY);
        write_files(&home.path("parquet"), LOG, first, time, &events);
    }
    files * rows * 2
}

fn assert_complete(events: &[Value], count: u64) {
    let found = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned());
    assert!(found.eq((0..count).map(|offset| format!("modelog:{LOG}:{offset}"))));
}

#[test]
fn an_import_of_history_that_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let count = long_history(&home, 30, 2_000);
    let logged = || {
        let frames = home.run(&["log", "inspect", "0", "--format", "ndjson"]).out;
        frames.matches("PredictionLogged").count()
    };
    // It may be over before it is killed: then it is tried again.
    for _ in 0..50 {
        let mut import = home.command(&["import", "parquet"]).spawn().unwrap();
        while logged() == 0 && import.try_wait().unwrap().is_none() {
            std::thread::sleep(LOOK);
        }
        send(&import, "KILL");
        import.wait().unwrap();
        let before = home.events().len() as u64;
        if before < count {
            assert!(before > 0);
            assert_eq!(imported(&home, &["parquet"]), (count - before, before));
            assert_complete(&home.events(), count);
            return;
        }
        std::fs::remove_dir_all(home.path("modelog-data")).unwrap();
    }
    panic!("no import was killed in its midst");
}

#[test]
fn a_history_that_has_grown_brings_what_is_new() {
    let home = Home::new();
    // Identities are forgotten at once: days that were imported are known by their files.
    home.write("modelog.toml", "[log]\ndedupe_window = 1\n");
    let config = ["--config", "modelog.toml", "parquet"];
    let first = long_history(&home, 3, 500);
    assert_eq!(imported(&home, &config), (first, 0));
    let more = long_history(&home, 5, 500);
    assert_eq!(imported(&home, &config), (more - first, first));
    assert_complete(&home.events(), more);
}

#[test]
fn histories_that_a_restore_parted_are_not_mixed() {
    let home = Home::new();
    write_files(
        &home.path("one"),
        LOG,
        0,
        START,
        &[metric(0), metric(1), metric(2)],
    );
    write_files(
        &home.path("other"),
        LOG,
        1,
        START + 1,
        &[metric(7), metric(8)],
    );
    home.run(&["import", "one", "other"]).fails(
        BAD_DATA,
        &[
            "hold different events at offset 1",
            "restore",
            "one/kind=MetricLogged",
            "other/kind",
        ],
    );
    assert!(!home.path("modelog-data").exists());
    // Another log's events are no such thing, whatever their offsets.
    let another = LogId(uuid::Uuid::from_u128(7));
    write_files(
        &home.path("another"),
        another,
        1,
        START,
        &[metric(7), metric(8)],
    );
    assert_eq!(imported(&home, &["one", "another"]), (5, 0));
}

#[test]
fn files_that_are_no_history_are_told_and_nothing_is_imported() {
    let home = Home::new();
    long_history(&home, 1, 2_000);
    let path = "parquet/kind=PredictionLogged/date=2023-11-14/00000000000000000000-00000000000000003999.parquet";
    let sound = std::fs::read(home.path(path)).unwrap();
    let refused = |content: &[u8], said: &[&str]| {
        home.write("f.parquet", content);
        home.run(&["import", "f.parquet"])
            .fails(BAD_DATA, &[&["f.parquet"], said].concat());
        assert!(!home.path("modelog-data").exists());
    };
    refused(b"", &["corrupt"]);
    refused(b"type,name\n", &["corrupt"]);
    for end in [6, sound.len() / 2, sound.len() - 1] {
        refused(&sound[..end], &["corrupt"]);
    }
    let mut flipped = sound.clone();
    let middle = sound.len() / 3;
    flipped[middle..middle + 64].fill(0xff);
    refused(&flipped, &["corrupt"]);
    // What still decodes is told by its checksum.
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    refused(&flipped, &["SHA-256 is not that of what was written"]);

    // Sound Parquet of somebody else, and of a Modelog that is not ours.
    let column = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("log_offset", column)]).unwrap();
    let write = |metadata: &[(&str, &str)]| {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        for (key, value) in metadata {
            let pair = parquet::file::metadata::KeyValue::new(
                (*key).to_owned(),
                Some((*value).to_owned()),
            );
            writer.append_key_value_metadata(pair);
        }
        writer.into_inner().unwrap()
    };
    let log = ("modelog.log", "01900000-0000-7000-8000-000000000001");
    refused(
        &write(&[]),
        &["no Parquet file of a Modelog", "modelog.kind"],
    );
    refused(
        &write(&[("modelog.kind", "MetricLogged")]),
        &["modelog.log"],
    );
    refused(
        &write(&[("modelog.kind", "Nonsense"), log]),
        &["no kind \"Nonsense\""],
    );
    refused(
        &write(&[("modelog.kind", "MetricLogged"), log]),
        &["column `append_time` is missing"],
    );
    let newer = [
        ("modelog.kind", "MetricLogged"),
        log,
        ("modelog.schema", "99"),
    ];
    refused(&write(&newer), &["use a newer modelog"]);

    // One of many is enough.
    home.write("parquet/f.parquet", &flipped);
    home.run(&["import", "parquet"])
        .fails(BAD_DATA, &["parquet/f.parquet"]);
    assert!(!home.path("modelog-data").exists());
    std::fs::remove_file(home.path("parquet/f.parquet")).unwrap();
    // Leftovers of a compactor are none of them.
    home.write("parquet/kind=PredictionLogged/.0.tmp", &sound[..100]);
    assert_eq!(imported(&home, &["parquet"]), (4_000, 0));
    home.write("parquet/_manifest.json", "{}");
    home.run(&["import", "parquet"])
        .fails(BAD_DATA, &["parquet/_manifest.json is damaged"]);
}

#[test]
fn files_of_a_data_directory_are_compared_with_its_manifest() {
    let home = Home::new();
    odd(&home);
    home.run(&["compact"]).ok();
    let before = home.events();
    assert_eq!(
        imported(&home, &["--data", "second", "modelog-data/parquet"]),
        (8, 0)
    );
    assert_eq!(
        as_they_were(events_of(&home, "second")),
        as_they_were(before)
    );
    // A partition, and a single file of it.
    let folder = "modelog-data/parquet/kind=PredictionLogged";
    assert_eq!(imported(&home, &["--data", "second", folder]), (0, 2));
    let mut files = super::files_below(&home.path(folder));
    let file = format!("{folder}/{}", files.remove(0));
    assert_eq!(imported(&home, &["--data", "third", &file]), (2, 0));
    let mut content = std::fs::read(home.path(&file)).unwrap();
    content[40] ^= 1;
    home.write(&file, content);
    home.run(&["import", "--data", "fourth", "modelog-data/parquet"])
        .fails(
            BAD_DATA,
            &[
                "kind=PredictionLogged",
                "SHA-256 is not that of what was written",
            ],
        );
    assert!(!home.path("fourth").exists());
}

#[test]
fn values_that_no_event_can_have_are_told_with_their_place() {
    let home = Home::new();
    write_files(
        &home.path("parquet"),
        LOG,
        40,
        START,
        &[prediction(0), prediction(1)],
    );
    let folder = home.path("parquet/kind=PredictionLogged/date=2023-11-14");
    let path = folder.join("00000000000000000040-00000000000000000042.parquet");
    let batch = EventBatch::from_events(&[prediction(0), prediction(1)]).unwrap();
    let batch = batch.into_logged(Offset(40), Timestamp::from_micros(START));
    let rows = batch.tables[0].to_record_batch(batch.first_offset, batch.append_time);
    let at = rows.schema().index_of("output").unwrap();
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(arrow_array::StringArray::from(vec!["{}", "{]"]));
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let mut writer =
        FileWriter::new(File::create(&path).unwrap(), Kind::PredictionLogged, LOG).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    home.run(&["import", "parquet"]).fails(
        BAD_DATA,
        &["00042.parquet: event 41", "`output`", "not valid JSON"],
    );
    assert!(!home.path("modelog-data").exists());
}

#[test]
fn directories_without_history() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    home.run(&["import", "empty"])
        .fails(IO, &["empty cannot be imported", "no Parquet file"]);
    odd(&home);
    home.run(&["import", "--data", "second", "modelog-data"])
        .fails(USAGE, &["is a data directory", "modelog export"]);
    home.run(&["import", "--format", "ndjson", "empty"])
        .fails(IO, &["directory"]);
    home.feed(&["import", "-"], b"PAR1....")
        .fails(BAD_DATA, &["Parquet can be read from files only"]);
}

#[test]
fn what_a_restore_took_back_can_be_taken_in_again() {
    let home = Home::new();
    odd(&home);
    home.run(&["export", "--format", "parquet", "--out", "history/"])
        .ok();
    let before = home.events();
    let restore = ["restore", "modelog-data", "--until", "5", "--data", "cut"];
    home.run(&restore).ok();
    home.write(
        "other.ndjson",
        "{\"type\":\"EventLogged\",\"name\":\"another life\"}\n",
    );
    home.run(&["import", "--data", "cut", "other.ndjson"]).ok();
    // The same log up to there, and other events behind: five of the eight are there, whatever stands in their places.
    let into_cut = || imported(&home, &["--data", "cut", "history"]);
    assert_eq!(into_cut(), (3, 5));
    assert_eq!(into_cut(), (0, 8));
    let after = events_of(&home, "cut");
    assert_eq!(after[5]["name"], "another life");
    let mut history = after;
    history.remove(5);
    assert_eq!(as_they_were(history), as_they_were(before));
}
