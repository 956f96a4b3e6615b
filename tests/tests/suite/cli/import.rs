//! `import`: once however often, killed or not, offline or through a server; and what bad input does.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{BAD_DATA, CONFIG, Home, LOOK, Server, corpus, finish, parse_lines, send};

/// Accepted and duplicate events, as told.
fn counts(done: &super::Done) -> (u64, u64, u64) {
    let json = done.json();
    let count = |name: &str| json[name].as_u64().unwrap();
    (count("accepted"), count("duplicates"), count("rejected"))
}

fn ids(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|event| event["prediction_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The events of [`corpus`], all of them, once, in order.
#[track_caller]
fn assert_complete(home: &Home, text: &str) {
    let expected = ids(&parse_lines(text));
    assert_eq!(ids(&home.events()), expected);
}

#[test]
fn importing_again_appends_nothing() {
    let home = Home::new();
    // Small ones are remembered with their answers, large ones by how far they came.
    for bytes in [1000, 18 << 20] {
        let text = corpus(bytes);
        let count = text.lines().count() as u64;
        home.write("events.ndjson", &text);
        let once = home.run(&["import", "--json", "events.ndjson"]).ok();
        assert_eq!(counts(&once), (count, 0, 0));
        for _ in 0..2 {
            let again = home.run(&["import", "--json", "events.ndjson"]).ok();
            assert_eq!(counts(&again), (0, count, 0));
        }
        assert_complete(&home, &text);
        std::fs::remove_dir_all(home.path("modelog-data")).unwrap();
    }
}

#[test]
fn the_same_content_is_the_same_however_it_is_packed() {
    let home = Home::new();
    let text = corpus(3 << 20);
    let count = text.lines().count() as u64;
    home.write("events.ndjson", &text);
    let pack = |tool: &str, arguments: &[&str]| {
        let packed = Command::new(tool)
            .args(arguments)
            .current_dir(home.0.path())
            .status();
        assert!(packed.unwrap().success());
    };
    pack("gzip", &["--keep", "events.ndjson"]);
    let first = home.run(&["import", "--json", "events.ndjson.gz"]).ok();
    assert_eq!(counts(&first), (count, 0, 0));
    std::fs::copy(home.path("events.ndjson"), home.path("copy.jsonl")).unwrap();
    let second = home
        .run(&["import", "--json", "events.ndjson", "copy.jsonl"])
        .ok();
    assert_eq!(counts(&second), (0, 2 * count, 0));
    assert_eq!(second.json()["files"][1]["file"], "copy.jsonl");
    assert_complete(&home, &text);
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let text = corpus(18 << 20);
    let count = text.lines().count() as u64;
    home.write("events.ndjson", &text);
    let logged = || -> u64 {
        let frames = home.run(&["log", "inspect", "0", "--format", "ndjson"]);
        parse_lines(&frames.out)
            .iter()
            .filter_map(|frame| frame["detail"]["kinds"]["PredictionLogged"].as_u64())
            .sum()
    };
    // It may be over before it is killed: then it is tried again.
    for _ in 0..50 {
        let mut import = home.command(&["import", "events.ndjson"]).spawn().unwrap();
        while logged() == 0 && import.try_wait().unwrap().is_none() {
            std::thread::sleep(LOOK);
        }
        send(&import, "KILL");
        import.wait().unwrap();
        let before = home.events().len() as u64;
        if before < count {
            assert!(before > 0);
            let rest = home.run(&["import", "--json", "events.ndjson"]).ok();
            assert_eq!(counts(&rest), (count - before, before, 0));
            assert_complete(&home, &text);
            return;
        }
        std::fs::remove_dir_all(home.path("modelog-data")).unwrap();
    }
    panic!("no import was killed in its midst");
}

#[test]
fn stdin_is_recognised_piece_by_piece() {
    let home = Home::new();
    let text = corpus(9 << 20);
    let count = text.lines().count() as u64;
    // Killed in the midst, while it waits for more: after two pieces of 2 MiB and, so that a pause cuts nothing, no
    // other whole line.
    let piece = 2 << 20;
    let first = text[..piece].rfind('\n').unwrap() + 1;
    let mut import = home
        .command(&["import", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&text.as_bytes()[..first + piece]).unwrap();
    while home
        .run(&["log", "inspect", "0"])
        .out
        .matches("PredictionLogged")
        .count()
        < 2
    {
        std::thread::sleep(LOOK);
    }
    send(&import, "KILL");
    import.wait().unwrap();
    let before = home.events().len() as u64;
    assert!(before > 0 && before < count);
    let done = home.feed(&["import", "--json", "-"], text.as_bytes()).ok();
    let (accepted, duplicates, _) = counts(&done);
    assert_eq!(accepted + duplicates, count);
    assert!(duplicates > 0, "{done:?}");
    let again = home.feed(&["import", "--json", "-"], text.as_bytes()).ok();
    assert_eq!(counts(&again), (0, count, 0));
    assert_complete(&home, &text);
}

#[test]
fn through_a_server_it_is_the_same() {
    let home = Home::new();
    let text = corpus(18 << 20);
    let count = text.lines().count() as u64;
    home.write("events.ndjson", &text);
    home.write(
        "small.ndjson",
        "{\"type\":\"EventLogged\",\"name\":\"n\",\"colour\":\"red\"}\n",
    );
    let server = Server::start(&home, &[]);
    let through_socket = home.run(&["import", "--json", "events.ndjson"]).ok();
    assert_eq!(counts(&through_socket), (count, 0, 0));
    let by_url = home
        .run(&["import", "--json", "--url", &server.url, "events.ndjson"])
        .ok();
    assert_eq!(counts(&by_url), (0, count, 0));
    let small = home.run(&["import", "--json", "small.ndjson"]).ok();
    assert_eq!(counts(&small), (1, 0, 0));
    assert_eq!(small.json()["files"][0]["unknown_fields"]["colour"], 1);
    let small = home.run(&["import", "--json", "small.ndjson"]).ok();
    assert_eq!(counts(&small), (0, 1, 0));
    // Stdin has keys of its own: it is not known to be that file.
    let piped = home
        .feed(
            &["import", "--json", "-"],
            b"{\"type\":\"EventLogged\",\"name\":\"n\"}\n",
        )
        .ok();
    assert_eq!(counts(&piped), (1, 0, 0));
    let piped = home
        .feed(
            &["import", "--json", "-"],
            b"{\"type\":\"EventLogged\",\"name\":\"n\"}\n",
        )
        .ok();
    assert_eq!(counts(&piped), (0, 1, 0));
    server.stop();
    // Offline the log still knows.
    let offline = home
        .run(&["import", "--json", "events.ndjson", "small.ndjson"])
        .ok();
    assert_eq!(counts(&offline), (0, count + 1, 0));
    let piped = home
        .feed(
            &["import", "--json", "-"],
            b"{\"type\":\"EventLogged\",\"name\":\"n\"}\n",
        )
        .ok();
    assert_eq!(counts(&piped), (0, 1, 0));
}

#[test]
fn events_with_ids_are_recognised_one_by_one() {
    let home = Home::new();
    let event = |id: u32, name: &str| {
        format!("{{\"type\":\"EventLogged\",\"id\":\"{id}\",\"name\":\"{name}\"}}\n")
    };
    home.write("a.ndjson", event(1, "x") + &event(2, "y"));
    home.write("b.ndjson", event(2, "y") + &event(3, "z") + &event(3, "z"));
    home.write("c.ndjson", event(4, "w") + &event(1, "other"));
    home.run(&["import", "a.ndjson"]).ok();
    assert_eq!(
        counts(&home.run(&["import", "--json", "b.ndjson"]).ok()),
        (1, 2, 0)
    );
    home.run(&["import", "c.ndjson"]).fails(
        BAD_DATA,
        &["c.ndjson:", "same id but other content", "offset 0"],
    );
    let skipped = home
        .run(&["import", "--json", "--on-error", "skip", "c.ndjson"])
        .ok();
    assert_eq!(counts(&skipped), (1, 0, 1));
    let rejected = parse_lines(&home.run(&["export", "--kind", "EventRejected"]).ok().out);
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0]["reason"], "id_conflict");
}

const BAD: &str = "{\"type\":\"EventLogged\",\"name\":\"a\"}\n\n{\"type\":\"EventLogged\"}\n{\"type\":\"EventLogged\",\"name\":\"b\"\n{\"type\":\"EventLogged\",\"name\":\"c\"}\n";

#[test]
fn a_bad_event_stops_the_file_before_anything_is_appended() {
    let home = Home::new();
    home.write("good.ndjson", "{\"type\":\"EventLogged\",\"name\":\"g\"}\n");
    // The bad events come after several pieces of good ones.
    home.write("bad.ndjson", corpus(5 << 20) + BAD);
    let line = corpus(5 << 20).lines().count();
    home.run(&["import", "good.ndjson", "bad.ndjson"]).fails(
        BAD_DATA,
        &[
            &format!("bad.ndjson:{}: byte ", line + 3),
            &format!("bad.ndjson:{}: byte ", line + 4),
            "`name`",
            "2 events cannot be understood, so nothing was imported",
            "--on-error skip",
        ],
    );
    assert!(!home.path("modelog-data").exists());
    // Through a server too.
    let server = Server::start(&home, &[]);
    home.run(&["import", "bad.ndjson"])
        .fails(BAD_DATA, &["nothing was imported"]);
    home.feed(&["import", "-"], BAD.as_bytes()).fails(
        BAD_DATA,
        &["stdin:3: byte ", "stdin:4: byte ", "2 events of stdin"],
    );
    assert_eq!(home.events().len(), 0);
    server.stop();
}

#[test]
fn bad_events_can_be_left_out_and_are_on_the_record() {
    for serving in [false, true] {
        let home = Home::new();
        let server = serving.then(|| Server::start(&home, &[]));
        home.write("bad.ndjson", BAD);
        let done = home
            .run(&["import", "--json", "--on-error", "skip", "bad.ndjson"])
            .ok();
        assert_eq!(counts(&done), (2, 0, 2));
        let again = home
            .run(&["import", "--json", "--on-error", "skip", "bad.ndjson"])
            .ok();
        assert_eq!(counts(&again).0, 0);
        let events = home.events();
        let kinds: Vec<_> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "EventLogged",
                "EventRejected",
                "EventRejected",
                "EventLogged"
            ]
        );
        if let Some(server) = server {
            server.stop();
        }
    }
}

#[test]
fn input_that_is_broken_is_told_apart_from_a_broken_disk() {
    let home = Home::new();
    home.write("open.json", "[{\"type\":\"EventLogged\",\"name\":\"a\"},\n");
    home.run(&["import", "open.json"]).fails(
        BAD_DATA,
        &["open.json:2: byte 36: the input ends before the array does"],
    );
    home.write("cut.arrow", b"\xff\xff\xff\xff\x10\x00\x00\x00short");
    home.run(&["import", "cut.arrow", "--kind", "EventLogged"])
        .fails(BAD_DATA, &["cut.arrow"]);
    home.write("text.arrow", "type,name\n");
    home.run(&["import", "text.arrow"])
        .fails(BAD_DATA, &["text.arrow"]);
    home.write("events.ndjson", corpus(2_000_000));
    let packed = Command::new("gzip")
        .arg("events.ndjson")
        .current_dir(home.0.path())
        .status();
    assert!(packed.unwrap().success());
    let mut gzip = std::fs::read(home.path("events.ndjson.gz")).unwrap();
    gzip.truncate(gzip.len() / 2);
    home.write("cut.ndjson.gz", &gzip);
    home.run(&["import", "cut.ndjson.gz"])
        .fails(BAD_DATA, &["cut.ndjson.gz cannot be read"]);
    let middle = gzip.len() / 2;
    gzip[middle..middle + 50].fill(0xff);
    home.write("bad.ndjson.gz", &gzip);
    home.run(&["import", "bad.ndjson.gz"])
        .fails(BAD_DATA, &["bad.ndjson.gz"]);
    home.write(
        "latin1.ndjson",
        b"{\"type\":\"EventLogged\",\"name\":\"caf\xe9\"}\n",
    );
    home.run(&["import", "latin1.ndjson"])
        .fails(BAD_DATA, &["latin1.ndjson:1: byte 33"]);
    home.write(
        "strict.ndjson",
        "{\"type\":\"EventLogged\",\"name\":\"a\",\"nmae\":1}\n",
    );
    home.run(&["import", "--strict", "strict.ndjson"])
        .fails(BAD_DATA, &["strict.ndjson:1:", "nmae"]);
    assert!(!home.path("modelog-data").exists());
}

#[test]
fn every_format_is_taken() {
    let home = Home::new();
    home.write(
        "one.json",
        "{\n \"type\": \"EventLogged\",\n \"name\": \"one\"\n}\n",
    );
    home.write(
        "many.json",
        "[{\"type\":\"EventLogged\",\"name\":\"a\"},\n {\"type\":\"event_logged\",\"name\":\"b\"}]",
    );
    home.write(
        "cloud.json",
        "{\"specversion\":\"1.0\",\"type\":\"EventLogged\",\"source\":\"s\",\"id\":\"1\",\"data\":{\"name\":\"c\"}}\n\
         {\"specversion\":\"1.0\",\"type\":\"EventLogged\",\"source\":\"s\",\"id\":\"2\",\"data\":{\"name\":\"d\"}}\n",
    );
    home.run(&["import", "one.json", "many.json"]).ok();
    home.run(&["import", "--format", "cloudevents", "cloud.json"])
        .ok();
    let names: Vec<_> = home
        .events()
        .iter()
        .map(|event| event["name"].clone())
        .collect();
    assert_eq!(names, ["one", "a", "b", "c", "d"]);
    home.write("empty.ndjson", "");
    let empty = home.run(&["import", "--json", "empty.ndjson"]).ok();
    assert_eq!(counts(&empty), (0, 0, 0));
}

#[test]
fn tokens_are_needed_where_they_are() {
    let home = Home::new();
    let hash = |token: &str| {
        let script = format!("printf %s {token} | sha256sum | cut -d' ' -f1");
        let hashed = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(hashed.stdout).unwrap().trim().to_owned()
    };
    let tokens = home.write(
        "tokens",
        format!(
            "admin sha256:{}  # operators\ningest sha256:{}  # trainers\n",
            hash("letmein"),
            hash("trainer")
        ),
    );
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    home.write(
        "modelog.toml",
        format!("[http]\ntoken_file = {:?}\n", tokens.to_str().unwrap()),
    );
    home.write("events.ndjson", corpus(1000));
    home.write("token", "letmein\n");
    let server = Server::start(&home, &["--config", "modelog.toml"]);
    let url = server.url.as_str();
    home.run(&["import", "--url", url, "events.ndjson"])
        .fails(CONFIG, &["401", "token"]);
    home.run(&[
        "import",
        "--url",
        url,
        "--token-file",
        "token",
        "events.ndjson",
    ])
    .ok();
    let mut trainer = home.command(&["import", "--url", url, "events.ndjson"]);
    finish(trainer.env("MODELOG_TOKEN", "trainer").spawn().unwrap()).ok();
    let mut trainer = home.command(&["export", "--url", url]);
    finish(trainer.env("MODELOG_TOKEN", "trainer").spawn().unwrap())
        .fails(CONFIG, &["403", "read"]);
    // The control socket needs none.
    assert_complete(&home, &corpus(1000));
    server.stop();
}
