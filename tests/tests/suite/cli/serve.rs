//! `serve`, its end, and the commands that go through it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{Home, Server, UNAVAILABLE, USAGE, corpus};

fn projections(home: &Home) -> Value {
    home.run(&["projections", "--format", "json"]).ok().json()["items"][0].clone()
}

#[test]
fn it_says_where_it_is_and_ends_in_order() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let said = server.said();
    let data = home.path("modelog-data");
    assert!(
        said.contains(data.canonicalize().unwrap().to_str().unwrap()),
        "{said}"
    );
    let mut interrupted = server;
    interrupted.signal("INT");
    assert_eq!(interrupted.wait(), Some(0));
    assert!(interrupted.said().contains("closed in order"));
    assert!(!home.path("modelog-data/control.sock").exists());
    let verified = home.run(&["verify", "--format", "json"]).ok().json();
    assert_eq!(
        verified["findings"].as_array().unwrap().len(),
        0,
        "{verified}"
    );
}

#[test]
fn its_log_can_be_json() {
    let home = Home::new();
    let server = Server::start(&home, &["--log-format", "json", "--log-filter", "debug"]);
    let log = server.log.clone();
    server.stop();
    let said = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "closed in order"),
        "{said}"
    );
    assert!(lines.iter().all(|line| line["level"].is_string()));
}

#[test]
fn an_import_outlives_the_server_it_goes_through() {
    let home = Home::new();
    let text = corpus(18 << 20);
    home.write("events.ndjson", &text);
    let mut server = Server::start(&home, &[]);
    let import = home.command(&["import", "events.ndjson"]).spawn().unwrap();
    // Once some of it is in the log, the server is killed; what it was about to answer, nobody knows.
    while !home
        .run(&["log", "inspect", "0"])
        .out
        .contains("PredictionLogged")
    {
        std::thread::sleep(super::LOOK);
    }
    server.signal("KILL");
    server.wait();
    let server = Server::start(&home, &[]);
    super::finish(import).ok();
    let sent: Vec<_> = super::parse_lines(&text)
        .iter()
        .map(|event| event["prediction_id"].clone())
        .collect();
    let logged: Vec<_> = home
        .events()
        .iter()
        .map(|event| event["prediction_id"].clone())
        .collect();
    assert!(logged == sent, "{} of {}", logged.len(), sent.len());
    server.stop();
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let home = Home::new();
    home.write("events.ndjson", corpus(100_000));
    let mut server = Server::start(&home, &[]);
    home.run(&["import", "events.ndjson"]).ok();
    // A request that never ends keeps it from ending.
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stuck = TcpStream::connect(address).unwrap();
    stuck
        .write_all(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n")
        .unwrap();
    // It was begun once the server asks for the body.
    let mut answer = [0; 12];
    stuck.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    server.signal("TERM");
    while !server.said().contains("finishing what is under way") {
        std::thread::sleep(super::LOOK);
    }
    assert!(server.child.try_wait().unwrap().is_none());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(128 + 15));
    assert_eq!(home.events().len(), corpus(100_000).lines().count());
}

#[test]
fn a_directory_and_a_port_are_served_once() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let pid = server.child.id().to_string();
    home.run(&["serve", "--listen", "127.0.0.1:0"])
        .fails(UNAVAILABLE, &["modelog-data is in use by process", &pid]);
    let address = server.url.strip_prefix("http://").unwrap();
    home.run(&["serve", "--data", "other", "--listen", address])
        .fails(UNAVAILABLE, &[address, "choose another port"]);
    // What failed to start left nothing locked or unfinished.
    let verified = home
        .run(&["verify", "--data", "other", "--format", "json"])
        .ok()
        .json();
    assert_eq!(
        verified["findings"].as_array().unwrap().len(),
        0,
        "{verified}"
    );
    server.stop();
}

#[test]
fn a_killed_server_leaves_a_socket_that_is_in_nobodys_way() {
    let home = Home::new();
    home.write("events.ndjson", corpus(100_000));
    let mut server = Server::start(&home, &[]);
    home.run(&["import", "events.ndjson"]).ok();
    server.signal("KILL");
    server.wait();
    assert!(home.path("modelog-data/control.sock").exists());
    home.run(&["export"]).ok();
    let server = Server::start(&home, &[]);
    home.run(&["projections"]).ok();
    server.stop();
}

#[test]
fn a_long_path_is_no_obstacle() {
    let home = Home::new();
    home.write("events.ndjson", corpus(1000));
    let long = "d".repeat(150);
    let server = Server::start(&home, &["--data", &long]);
    home.run(&["import", "--data", &long, "events.ndjson"]).ok();
    home.run(&["projections", "--data", &long]).ok();
    server.stop();
}

#[test]
fn stores_are_rebuilt_with_and_without_a_server() {
    let home = Home::new();
    home.write("events.ndjson", corpus(300_000));
    let count = corpus(300_000).lines().count();
    home.run(&["import", "events.ndjson"]).ok();
    // Without a server a command brings the store up to date itself.
    let status = projections(&home);
    assert_eq!(
        (&status["offset"], &status["lag_events"]),
        (&count.into(), &0.into())
    );
    assert_eq!(status["name"], "sql");
    // What is not ours is left alone; what was lost comes back.
    let database = home.path("modelog-data/sqlite/modelog.db");
    std::fs::remove_dir_all(home.path("modelog-data/sqlite")).unwrap();
    std::fs::create_dir(home.path("modelog-data/sqlite")).unwrap();
    std::fs::write(&database, "this is no database").unwrap();
    home.run(&["rebuild", "sql"])
        .fails(1, &["was not made by Modelog"]);
    let status = projections(&home);
    assert_eq!(status["state"], "stopped");
    let error = status["last_error"].as_str().unwrap();
    assert!(error.contains("was not made by Modelog"), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), b"this is no database");
    std::fs::remove_file(&database).unwrap();
    home.run(&["rebuild", "sql"]).ok();
    let status = projections(&home);
    assert_eq!(
        (&status["state"], &status["offset"]),
        (&"running".into(), &count.into())
    );
    home.run(&["rebuild", "redis"])
        .fails(USAGE, &["there is no projection redis: there is sql"]);
    let server = Server::start(&home, &[]);
    home.run(&["rebuild", "sql"]).ok();
    let status = projections(&home);
    assert_eq!(
        (&status["offset"], &status["lag_events"]),
        (&count.into(), &0.into())
    );
    home.run(&["rebuild", "sql", "--no-wait"]).ok();
    home.run(&["rebuild", "redis"])
        .fails(USAGE, &["there is no projection redis: there is sql"]);
    let table = home.run(&["projections"]).ok().out;
    assert!(table.contains("sql") && table.contains("behind"), "{table}");
    server.stop();
}
