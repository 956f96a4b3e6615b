//! Following the log: nothing lost, nothing repeated, whatever the client does.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::support::{Reply, Site, log};

/// A message of an event stream.
#[derive(Debug)]
struct Message {
    /// The last id known when it came.
    id: String,
    event: String,
    data: String,
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    fn offset(&self) -> u64 {
        self.json()["log_offset"].as_u64().unwrap()
    }
}

/// Reads an event stream as a browser does (WHATWG HTML, 9.2.6).
struct Stream {
    response: Response,
    buffer: Vec<u8>,
    id: String,
}

impl Stream {
    async fn open(site: &Site, path: &str, last: Option<&str>) -> Self {
        let mut request = site.client.get(format!("{}{path}", site.base));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let (buffer, id) = (Vec::new(), String::new());
        Self {
            response,
            buffer,
            id,
        }
    }

    /// The next message; none at the end of the stream. Blocks without data only change the id.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let block = self.block().await?;
            let (mut event, mut data) = (String::new(), Vec::new());
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                match field {
                    "id" => self.id = value,
                    "event" => event = value,
                    "data" => data.push(value),
                    "" | "retry" => {}
                    other => panic!("a field called {other:?}"),
                }
            }
            if !data.is_empty() {
                return Some(Message {
                    id: self.id.clone(),
                    event,
                    data: data.join("\n"),
                });
            }
        }
    }

    /// What comes before the next empty line.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(block).unwrap());
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.next().await.unwrap());
        }
        messages
    }
}

fn offsets(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(Message::offset).collect()
}

fn event(name: impl std::fmt::Display) -> String {
    format!(r#"{{"type":"EventLogged","name":"{name}"}}"#)
}

#[tokio::test]
async fn without_a_start_it_begins_now() {
    let site = Site::start().await;
    site.log(&event("before")).await;
    let mut stream = Stream::open(&site, "/v1/tail", None).await;
    // The opening gives a position, so that a connection that breaks before the first event loses nothing.
    let opening = stream.block().await.unwrap();
    assert!(opening.starts_with("retry: "), "{opening}");
    assert!(opening.contains("\nid: 1-"), "{opening}");
    site.log(&event("after")).await;
    let message = stream.next().await.unwrap();
    let json = message.json();
    assert_eq!(message.event, "");
    assert_eq!(
        (&json["type"], &json["name"]),
        (&"EventLogged".into(), &"after".into())
    );
    assert_eq!(json["log_offset"], 1);
    assert!(json["append_time"].is_string());
}

#[tokio::test]
async fn it_starts_at_an_offset_or_a_position() {
    let site = Site::start().await;
    let lines: Vec<_> = (0..10).map(event).collect();
    site.log(&lines.join("\n")).await;
    let all = Stream::open(&site, "/v1/tail?from=0", None)
        .await
        .take(10)
        .await;
    assert_eq!(offsets(&all), Vec::from_iter(0..10));
    let some = Stream::open(&site, "/v1/tail?from=7", None)
        .await
        .take(3)
        .await;
    assert_eq!(offsets(&some), [7, 8, 9]);
    let rest = Stream::open(&site, &format!("/v1/tail?from={}", all[4].id), None)
        .await
        .take(5)
        .await;
    assert_eq!(offsets(&rest), [5, 6, 7, 8, 9]);
    // What was seen last goes before where it once began.
    let rest = Stream::open(&site, "/v1/tail?from=0", Some(&all[7].id))
        .await
        .take(2)
        .await;
    assert_eq!(offsets(&rest), [8, 9]);
}

#[tokio::test]
async fn a_start_that_is_not_there_is_refused() {
    let site = Site::start().await;
    site.log(&event("x")).await;
    for (path, code) in [
        ("/v1/tail?from=2", "bad_parameter"),
        ("/v1/tail?from=now", "bad_parameter"),
        ("/v1/tail?form=0", "unknown_parameter"),
        ("/v1/tail?at_least=0", "unknown_parameter"),
        ("/v1/tail?kind=MetricLoged", "bad_parameter"),
        ("/v1/tail?from=1-1-00000000", "position_lost"),
        ("/v1/events?from=1-1-00000000", "position_lost"),
    ] {
        assert_eq!(site.problem(path).await["code"], code, "{path}");
    }
    let problem = site.problem("/v1/tail?kind=MetricLoged").await;
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `MetricLogged`")
    );
    let seen = |id: String| async {
        let request = site.client.get(format!("{}/v1/tail", site.base));
        Reply::of(request.header("Last-Event-ID", id).send().await.unwrap()).await
    };
    assert_eq!(
        seen("nonsense".into()).await.problem()["code"],
        "bad_request"
    );
    // A position of this log, but of a part that was never written, or is no more.
    let mut stream = Stream::open(&site, "/v1/tail?from=0", None).await;
    let id = stream.next().await.unwrap().id;
    for lost in [id.replacen("1-", "2-", 1), id.replacen("-1-", "-9-", 1)] {
        let reply = seen(lost).await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        assert_eq!(reply.problem()["code"], "position_lost");
    }
}

#[tokio::test]
async fn it_can_be_narrowed_down() {
    let site = Site::start().await;
    site.log(
        r#"{"type":"ModelCreated","model":"a"}
{"type":"ModelVersionCreated","model":"a","version":"1","run":"r"}
{"type":"ModelCreated","model":"b"}
{"type":"RunStarted","run":"r","model":"b"}
{"type":"MetricLogged","run":"r","name":"loss","value":1}
{"type":"MetricLogged","model":"a","version":"1","name":"size","value":1}
{"type":"PredictionLogged","model":"a","version":"1","prediction_id":"p"}
{"type":"FeedbackLogged","prediction_id":"p"}
{"type":"TagsSet","entity":"model/a","tags":{}}
{"type":"TagsSet","entity":"version/a@1","tags":{}}
{"type":"TagsSet","entity":"run/r","tags":{}}
{"type":"EntityDeleted","entity":"run/q"}
{"type":"EventLogged","name":"end"}"#,
    )
    .await;
    for (query, expected) in [
        ("model=a", &[0, 1, 5, 6, 8, 9][..]),
        ("model=b", &[2, 3]),
        ("run=r", &[1, 3, 4, 10]),
        ("run=q", &[11]),
        ("kind=MetricLogged", &[4, 5]),
        ("kind=metric_logged,tags.set", &[4, 5, 8, 9, 10]),
        ("kind=MetricLogged&run=r", &[4]),
        ("model=b&run=r", &[3]),
        ("model=a&kind=TagsSet", &[8, 9]),
    ] {
        let path = format!("/v1/tail?from=0&{query}");
        let messages = Stream::open(&site, &path, None)
            .await
            .take(expected.len())
            .await;
        assert_eq!(offsets(&messages), expected, "{query}");
        // The finite form takes the same.
        let reply = site.get(&format!("/v1/events?{query}")).await;
        let found: Vec<_> = reply
            .text()
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["log_offset"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn line_breaks_within_json_do_not_break_a_message() {
    let site = Site::start().await;
    let body =
        "{\"type\":\"EventLogged\",\"name\":\"x\",\"data\":{\"a\":\n\n1,\r\"b\":\r\n\"c\\n\"}}";
    let decoded = modelog_formats::decode(
        body.as_bytes(),
        modelog_formats::Format::Json,
        &modelog_formats::Options::default(),
    );
    site.engine
        .append(decoded.unwrap().batch, Default::default())
        .await
        .unwrap();
    let message = Stream::open(&site, "/v1/tail?from=0", None)
        .await
        .next()
        .await
        .unwrap();
    assert_eq!(
        message.json()["data"],
        serde_json::json!({"a": 1, "b": "c\n"})
    );
    let lines = site.get("/v1/events").await;
    assert_eq!(lines.text().lines().count(), 1);
    assert!(
        lines.text().contains(r#"{"a":  1, "b":  "c\n"}"#),
        "{}",
        lines.text()
    );
}

/// Clients that lose their connection over and over, while others write.
#[tokio::test]
async fn a_client_that_reconnects_loses_and_repeats_nothing() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 150;
    let site = Site::start().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let engine = site.engine.clone();
            tokio::spawn(async move {
                for at in 0..EACH {
                    let lines = [event(format_args!("{writer}-{at}")), event("filler")];
                    log(&engine, &lines.join("\n")).await;
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    let mut last: Option<String> = None;
    let total = (WRITERS * EACH * 2) as usize;
    // Takes a different number of messages each time, and cuts the connection in the middle of more.
    for cut in (1..).map(|turn| turn * 7 % 61 + 1) {
        let mut stream = Stream::open(&site, "/v1/tail?from=0", last.as_deref()).await;
        let wanted = cut.min(total - seen.len());
        for message in stream.take(wanted).await {
            seen.push(message.offset());
            last = Some(message.id);
        }
        if seen.len() == total {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen, Vec::from_iter(0..total as u64));
}

#[tokio::test]
async fn many_clients_follow_at_once() {
    let site = Site::start().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Stream::open(&site, "/v1/tail?from=0&kind=MetricLogged", None).await);
    }
    for step in 0..30 {
        let metric =
            format!(r#"{{"type":"MetricLogged","run":"r","name":"x","value":1,"step":{step}}}"#);
        site.log(&format!("{}\n{metric}", event("between"))).await;
    }
    for mut stream in streams {
        let steps: Vec<_> = stream
            .take(30)
            .await
            .iter()
            .map(|it| it.json()["step"].as_i64())
            .collect();
        assert_eq!(steps, Vec::from_iter((0..30).map(Some)));
    }
}

/// A client with a small window that does not read for a while.
async fn slow_client(site: &Site) -> TcpStream {
    let address = site.base.strip_prefix("http://").unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /v1/tail?from=0 HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_slow_client_holds_nobody_up_and_loses_nothing() {
    const CALLS: usize = 200;
    let site = Site::start().await;
    let mut slow = slow_client(&site).await;
    // Far more than sockets and server hold between them.
    let filler = "x".repeat(32 << 10);
    for at in 0..CALLS {
        site.log(&format!(
            r#"{{"type":"EventLogged","name":"n{at}","data":"{filler}"}}"#
        ))
        .await;
    }
    let quick = Stream::open(&site, "/v1/tail?from=0", None)
        .await
        .take(CALLS)
        .await;
    assert_eq!(quick.len(), CALLS);
    drop(site.get("/v1/stats").await);
    let mut body = Vec::new();
    let mut names = BTreeSet::new();
    let mut chunk = vec![0; 64 << 10];
    while names.len() < CALLS {
        let count = slow.read(&mut chunk).await.unwrap();
        assert!(count > 0, "the connection was cut");
        body.extend_from_slice(&chunk[..count]);
        // Chunks of the transfer may fall anywhere but into a name: lines are short compared with them.
        let text = String::from_utf8_lossy(&body);
        for found in text.match_indices(r#""name":"n"#) {
            let rest = &text[found.0 + 9..];
            if let Some(end) = rest.find('"') {
                names.insert(rest[..end].to_owned());
            }
        }
        let keep = body.len().saturating_sub(256);
        body.drain(..keep);
    }
    let expected: BTreeSet<_> = (0..CALLS).map(|at| at.to_string()).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn it_ends_with_the_server() {
    let site = Site::start().await;
    site.log(&event("x")).await;
    let mut idle = Stream::open(&site, "/v1/tail?from=0", None).await;
    idle.take(1).await;
    let (engine, _directory) = tokio::time::timeout(Duration::from_secs(5), site.stop())
        .await
        .unwrap();
    assert!(idle.next().await.is_none());
    engine.close().await.unwrap();
}

#[tokio::test]
async fn it_ends_with_the_log() {
    let site = Site::start().await;
    site.log(&event("x")).await;
    let mut stream = Stream::open(&site, "/v1/tail?from=0", None).await;
    stream.take(1).await;
    site.engine.close().await.unwrap();
    assert!(stream.next().await.is_none());
}
