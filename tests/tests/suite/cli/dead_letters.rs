//! `dead-letters` on a directory and through a server, and `produce` where there is no broker: what becomes of what was
//! rejected, however often it is asked.

use serde_json::{Value, json};

use super::{BAD_DATA, CONFIG, Home, IO, Server, USAGE, parse_lines};

const SMALL: &str = "[http]\nvalue_bytes = \"1KiB\"\n";

fn long(name: &str) -> Value {
    json!({"type": "EventLogged", "name": name, "data": "x".repeat(2000)})
}

/// A log in which a limit has rejected two events, and nothing can be made of a third.
fn rejected() -> Home {
    let home = Home::new();
    home.write("small.toml", SMALL);
    let with_id =
        json!({"type": "EventLogged", "name": "own", "id": "e-1", "data": "y".repeat(2000)});
    let fine = json!({"type": "EventLogged", "name": "fine"});
    let lines = format!("{}\n{fine}\n{{\"type\":\n{with_id}\n", long("plain"));
    home.write("events.ndjson", lines);
    let import = [
        "import",
        "--on-error",
        "skip",
        "events.ndjson",
        "--config",
        "small.toml",
    ];
    let imported = home.run(&import).ok();
    assert!(
        imported.err.contains("modelog dead-letters list"),
        "{imported:?}"
    );
    home
}

fn list(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let all = ["dead-letters", "list", "--format", "ndjson"];
    parse_lines(&home.run(&[&all, arguments].concat()).ok().out)
}

fn offset(shown: &Value) -> String {
    shown["offset"].as_u64().unwrap().to_string()
}

/// Records tried, events accepted and known, records still rejected.
fn counts(out: &Value) -> [u64; 4] {
    ["records", "accepted", "duplicates", "still_rejected"].map(|name| out[name].as_u64().unwrap())
}

fn retry(home: &Home, code: i32, arguments: &[&str]) -> [u64; 4] {
    let all = ["dead-letters", "retry", "--format", "json"];
    let done = home.run(&[&all, arguments].concat());
    assert_eq!(done.status.code(), Some(code), "{done:?}");
    counts(&done.json())
}

#[test]
fn what_was_rejected_is_shown_with_the_reason() {
    let home = rejected();
    let look = |home: &Home| {
        let all = list(home, &[]);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0]["bytes"], long("plain").to_string().len());
        let reasons: Vec<_> = all
            .iter()
            .map(|shown| shown["reason"].as_str().unwrap())
            .collect();
        assert_eq!(reasons[0], reasons[2]);
        let one = list(home, &["--reason", reasons[1]]);
        assert_eq!(one, [all[1].clone()]);
        assert_eq!(list(home, &["--limit", "2"]), all[1..]);
        assert_eq!(list(home, &["--topic", "t"]), [Value::Null; 0]);
        assert_eq!(list(home, &["--since", "1h"]), all);
        assert_eq!(list(home, &["--since", "2261-01-01"]), [Value::Null; 0]);
        let shown = home.run(&["dead-letters", "show", &offset(&all[0])]).ok();
        assert_eq!(shown.out, long("plain").to_string());
        let table = home.run(&["dead-letters", "list", "--limit", "1"]).ok();
        assert!(
            table.out.contains(&offset(&all[2])) && table.err.contains("2 records"),
            "{table:?}"
        );
        let fine = (0..4)
            .find(|at| all.iter().all(|shown| shown["offset"] != *at))
            .unwrap();
        home.run(&["dead-letters", "show", &fine.to_string()])
            .fails(BAD_DATA, &["nothing was rejected at offset"]);
        all
    };
    let here = look(&home);
    let server = Server::start(&home, &[]);
    assert_eq!(look(&home), here, "a server tells the same");
    server.stop();
}

#[test]
fn a_retry_twice_is_once() {
    let home = rejected();
    let all = list(&home, &[]);
    // While the cause is there, nothing comes of it, and nothing is recorded once more.
    assert_eq!(
        retry(&home, BAD_DATA, &["--all", "--config", "small.toml"]),
        [3, 0, 0, 3]
    );
    assert_eq!(retry(&home, 0, &[&offset(&all[0])]), [1, 1, 0, 0]);
    assert_eq!(retry(&home, 0, &[&offset(&all[0])]), [1, 0, 1, 0]);
    let server = Server::start(&home, &[]);
    let reason = all[0]["reason"].as_str().unwrap();
    assert_eq!(
        retry(&home, 0, &["--all", "--reason", reason]),
        [2, 1, 1, 0]
    );
    assert_eq!(retry(&home, BAD_DATA, &["--all"]), [3, 0, 2, 1]);
    let done = home.run(&["dead-letters", "retry", "--all"]);
    let syntax = all[1]["reason"].as_str().unwrap();
    let done = done.fails(BAD_DATA, &[&offset(&all[1]), &format!(": {syntax}: ")]);
    assert!(done.out.contains("still rejected"), "{done:?}");
    server.stop();
    assert_eq!(retry(&home, BAD_DATA, &["--all"]), [3, 0, 2, 1]);
    let events = home.events();
    let taken: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "EventLogged" && event["name"] != "fine")
        .collect();
    let rejected_at = |at: usize| &all[at]["time"];
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert_eq!(taken[0]["id"], format!("rejected/0/{}", offset(&all[0])));
    assert!(
        taken[0]["source"].as_str().unwrap().starts_with("modelog:"),
        "{taken:?}"
    );
    assert_eq!(
        (&taken[0]["data"], &taken[0]["time"]),
        (&long("")["data"], rejected_at(0))
    );
    assert_eq!(
        (&taken[1]["id"], &taken[1]["source"]),
        (&json!("e-1"), &Value::Null)
    );
    assert_eq!(list(&home, &[]), all, "records stay");
}

#[test]
fn what_would_contradict_the_log_stays_rejected() {
    let home = rejected();
    let all = list(&home, &[]);
    // Meanwhile another event has come with the id of one that was rejected.
    home.write(
        "other.ndjson",
        json!({"type": "EventLogged", "name": "other", "id": "e-1"}).to_string(),
    );
    home.run(&["import", "other.ndjson"]).ok();
    for serving in [false, true] {
        let server = serving.then(|| Server::start(&home, &[]));
        let known = u64::from(serving);
        assert_eq!(retry(&home, BAD_DATA, &["--all"]), [3, 1 - known, known, 2]);
        let last = offset(&all[2]);
        home.run(&["dead-letters", "retry", &last])
            .fails(BAD_DATA, &[&format!("{last} ("), "id_conflict"]);
        if let Some(server) = server {
            server.stop();
        }
    }
}

#[test]
fn many_are_retried_in_few_calls() {
    let home = Home::new();
    home.write("small.toml", SMALL);
    let lines: String = (0..3000)
        .map(|number| long(&format!("n{number}")).to_string() + "\n")
        .collect();
    home.write("events.ndjson", lines);
    home.run(&[
        "import",
        "--on-error",
        "skip",
        "events.ndjson",
        "--config",
        "small.toml",
    ])
    .ok();
    let server = Server::start(&home, &[]);
    assert_eq!(retry(&home, 0, &["--all"]), [3000, 3000, 0, 0]);
    server.stop();
    assert_eq!(retry(&home, 0, &["--all"]), [3000, 0, 3000, 0]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let home = Home::new();
    for (arguments, said) in [
        (&["dead-letters"][..], "list"),
        (&["dead-letters", "retry"], "<OFFSET>"),
        (&["dead-letters", "retry", "--all", "7"], "--all"),
        (&["dead-letters", "retry", "first"], "OFFSET"),
        (
            &["dead-letters", "list", "--since", "yesterday"],
            "2026-11-22",
        ),
        (&["dead-letters", "show"], "OFFSET"),
        (&["produce"], "FILE"),
        (&["produce", "x", "--topic", "t"], "--brokers"),
        (&["produce", "x", "--brokers", "a:1"], "--topic"),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--headers",
                "a",
            ],
            "no `=`",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--property",
                "=a",
            ],
            "no name",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--rate",
                "0",
            ],
            "--rate",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--compression",
                "brotli",
            ],
            "lz4",
        ),
        (
            &["produce", "x", "--brokers", "a:1", "--topic", "a b"],
            "no name of a topic",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--property",
                "acks=some",
            ],
            "acks",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--property",
                "nonsense=1",
            ],
            "nonsense",
        ),
        (
            &[
                "produce",
                "x",
                "--brokers",
                "a:1",
                "--topic",
                "t",
                "--format",
                "lines",
                "--key",
                "k",
            ],
            "--key",
        ),
    ] {
        home.run(arguments).fails(USAGE, &[said]);
    }
    for arguments in [&["list"][..], &["show", "1"], &["retry", "--all"]] {
        home.run(&[&["dead-letters"], arguments].concat())
            .fails(IO, &["there is no log"]);
    }
    let home = rejected();
    home.run(&["dead-letters", "retry", "999999"])
        .fails(BAD_DATA, &["nothing that fits was rejected at 999999"]);
}

#[test]
fn a_topic_of_dead_letters_is_none_that_is_read() {
    let home = Home::new();
    let section = |topics: &str, dead: &str| {
        let text = format!(
            "[[kafka]]\nbrokers = [\"a:1\"]\ntopics = [{topics}]\ndead_letter_topic = \"{dead}\"\n"
        );
        home.write("modelog.toml", text);
        home.run(&["config", "check", "--config", "modelog.toml"])
    };
    section("\"ml\"", "ml-dead").ok();
    section("\"^ml-events.*$\"", "ml-dead").ok();
    for topics in ["\"a\", \"ml-dead\"", "\"^ml-.*\""] {
        section(topics, "ml-dead").fails(
            CONFIG,
            &["modelog.toml:4: `kafka[0].dead_letter_topic` is \"ml-dead\", which is among `topics`"],
        );
    }
    section("\"ml\"", "ml dead").fails(CONFIG, &["`kafka[0].dead_letter_topic` is \"ml dead\""]);
    section("\"^ml-(\"", "ml-dead").fails(CONFIG, &["modelog.toml:3: `kafka[0].topics` has"]);
}
