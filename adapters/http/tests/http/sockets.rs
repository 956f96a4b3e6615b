//! Connections: those that dawdle, break off, talk ahead, or are there when the server ends.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Keeper, PATIENCE, TestServer, answer, read_all, send, token_file};

const EVENT: &str = r#"{"type":"EventLogged","name":"a"}"#;
const SHORT: Duration = Duration::from_millis(300);

fn post(body: &str) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads until the answer is there, headers and body of known length.
async fn read_answer(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    return text;
                }
            }
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).await.unwrap();
            assert!(count > 0, "closed after {text:?}");
            bytes.extend_from_slice(&buffer[..count]);
        }
    })
    .await
    .expect("the server answers")
}

#[tokio::test]
async fn silent_and_slow_clients_are_dropped() {
    let server = TestServer::start_with(|config| {
        config.first_byte_time = SHORT;
        config.head_time = SHORT;
        config.body_time = SHORT;
        config.connections = 4;
    })
    .await;
    // Not a byte; a head that does not end; one that trickles; a body that does not come.
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
    let unfinished = server.raw("GET /version HTTP/1.1\r\nhost: loc").await;
    assert!(!unfinished.contains("200"), "{unfinished}");
    let mut trickle = server.connect().await;
    let trickled = timeout(PATIENCE, async {
        loop {
            if trickle.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    trickled.await.expect("a trickling head is cut off");
    let late = server
        .raw(format!("{}\r\n", &post(EVENT)[..post(EVENT).len() - 5]))
        .await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    assert!(late.contains("request_timeout"), "{late}");
    // They held all connections there may be, and gave them back.
    let silent: Vec<_> = futures_util::future::join_all((0..8).map(|_| server.connect())).await;
    server.assert_alive().await;
    drop(silent);
    assert_eq!(server.tail(), 1);
}

/// By its own time alone: a time for heads need not have begun before there is a byte of one.
#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = TestServer::start_with(|config| {
        config.first_byte_time = SHORT;
        config.head_time = Duration::from_secs(3600);
    })
    .await;
    let mut silent = server.connect().await;
    let closed = timeout(PATIENCE, read_all(&mut silent)).await;
    assert_eq!(closed.expect("the server closes the connection"), "");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = TestServer::start_with(|config| config.head_time = SHORT).await;
    let mut socket = server.connect().await;
    socket.write_all(post(EVENT).as_bytes()).await.unwrap();
    assert!(read_answer(&mut socket).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(read_all(&mut socket).await, "");
}

#[tokio::test]
async fn connections_are_capped_and_more_wait() {
    let server = TestServer::start_with(|config| config.connections = 2).await;
    let held = [server.connect().await, server.connect().await];
    let mut waiting = server.connect().await;
    waiting.write_all(post(EVENT).as_bytes()).await.unwrap();
    let answered = timeout(SHORT, waiting.readable()).await;
    assert!(answered.is_err(), "no connection was free");
    assert_eq!(server.tail(), 0);
    drop(held);
    assert!(read_answer(&mut waiting).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn broken_off_bodies_append_nothing() {
    let server = TestServer::start().await;
    let whole = post(&format!("[{EVENT},{EVENT}]"));
    let chunked = |chunks: &str| {
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{chunks}"
        )
    };
    let length = format!("{:x}", EVENT.len());
    let requests = [
        whole[..whole.len() - 1].to_owned(),
        chunked(&format!("{length}\r\n{EVENT}\r\n")),
        chunked(&format!("{length}\r\n{}", &EVENT[..10])),
        chunked(&format!("zz\r\n{EVENT}\r\n0\r\n\r\n")),
        chunked(&format!("ffffffffffffffffff\r\n{EVENT}\r\n0\r\n\r\n")),
    ];
    for request in requests {
        let mut socket = server.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = read_all(&mut socket).await;
        assert!(!answer.contains(" 200 "), "{request:?}: {answer}");
    }
    let answer = server
        .raw(
            "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: 5\r\ncontent-length: 6\r\n\r\n[]    ",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.tail(), 0);
    // The same, complete.
    let mut socket = server.connect().await;
    let request = chunked(&format!("{length}\r\n{EVENT}\r\n0\r\n\r\n"));
    socket.write_all(request.as_bytes()).await.unwrap();
    assert!(read_answer(&mut socket).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.tail(), 1);
}

#[tokio::test]
async fn nonsense_is_answered_400() {
    let server = TestServer::start().await;
    for request in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\0\0\0",
        "GET /\u{1} HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let answer = server.raw(request).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{request:?}: {answer}"
        );
    }
    let many = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "x: y\r\n".repeat(1000)
    );
    let answer = server.raw(many).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(200_000)
    );
    let answer = server.raw(long).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    server.assert_alive().await;
}

#[tokio::test]
async fn connections_are_kept_and_requests_may_come_ahead() {
    let server = TestServer::start().await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(post(EVENT).as_bytes()).await.unwrap();
        assert!(read_answer(&mut socket).await.starts_with("HTTP/1.1 200 "));
    }
    // Many at once, answered in order.
    let ahead =
        post(EVENT).repeat(20) + "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(ahead.as_bytes()).await.unwrap();
    let answers = read_all(&mut socket).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 21, "{answers}");
    let offsets: Vec<_> = answers
        .split("\"first_offset\":")
        .skip(1)
        .map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
        .collect();
    assert_eq!(offsets, (3..23).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_is_still_being_sent() {
    let server = TestServer::start_with(|config| {
        config.body_bytes = 1000;
        config.decoded_bytes = 1000;
    })
    .await;
    let body = "x".repeat(8 << 20);
    for _ in 0..10 {
        let answer = server.raw(post(&body)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
        assert!(answer.contains("too_large"), "{answer}");
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    let server = TestServer::start().await;
    let addr = server.addr;
    let engine = server.engine.clone();
    let idle = server.connect().await;
    let mut kept = server.connect().await;
    kept.write_all(post(EVENT).as_bytes()).await.unwrap();
    read_answer(&mut kept).await;
    let mut begun = server.connect().await;
    let request = post(EVENT);
    let (first, rest) = request.split_at(request.len() - 10);
    begun.write_all(first.as_bytes()).await.unwrap();
    // The head has been taken once the server asks for the rest.
    let mut asks = server.connect().await;
    let head = request.split("\r\n\r\n").next().unwrap();
    asks.write_all(format!("{head}\r\nexpect: 100-continue\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut expected = [0; 25];
    timeout(PATIENCE, asks.read_exact(&mut expected))
        .await
        .unwrap()
        .unwrap();
    assert!(expected.starts_with(b"HTTP/1.1 100 Continue"));

    let (task, _, _data) = server.begin_stop();
    let mut closed = kept;
    assert_eq!(
        read_all(&mut closed).await,
        "",
        "a connection kept alive is closed"
    );
    let mut idle = idle;
    assert_eq!(
        read_all(&mut idle).await,
        "",
        "a silent connection is closed"
    );
    assert!(
        TcpStream::connect(addr).await.is_err(),
        "nothing listens any more"
    );
    begun.write_all(rest.as_bytes()).await.unwrap();
    let answer = read_all(&mut begun).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    asks.write_all(EVENT.as_bytes()).await.unwrap();
    let answer = read_all(&mut asks).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    assert_eq!(engine.tail().0, 3);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = TestServer::start_with(|config| config.drain_time = SHORT).await;
    let mut begun = server.connect().await;
    let request = post(EVENT);
    begun
        .write_all(&request.as_bytes()[..request.len() - 1])
        .await
        .unwrap();
    let mut tail = server.connect().await;
    tail.write_all(b"GET /v1/tail HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    timeout(PATIENCE, tail.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let (task, engine, _data) = server.begin_stop();
    timeout(PATIENCE, task)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
    assert!(!read_all(&mut begun).await.contains("200"));
    read_all(&mut tail).await;
    assert_eq!(engine.tail().0, 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let server = TestServer::start_with(|config| config.write_time = SHORT).await;
    let event = format!(
        r#"{{"type":"EventLogged","name":"a","data":"{}"}}"#,
        "x".repeat(500_000)
    );
    for _ in 0..40 {
        assert_eq!(
            answer(server.post("/v1/events", event.clone())).await.0,
            200
        );
    }
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(SHORT * 4).await;
    let taken = read_all(&mut socket).await;
    assert!(taken.starts_with("HTTP/1.1 200 "));
    assert!(taken.len() < 20_000_000, "the answer was cut off");
}

#[tokio::test]
async fn the_control_socket_has_all_rights_and_is_private() {
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("control.sock");
    // Left over from a crash.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let tokens = token_file(
        data.path(),
        &format!("read {}", modelog_http::hash_token("r")),
    );
    let path = socket.clone();
    let server = TestServer::start_in(data, |config| {
        config.control_socket = Some(path);
        config.token_file = Some(tokens);
    })
    .await;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!server.path("control.new").exists());
    let client = Client::builder()
        .unix_socket(socket.clone())
        .build()
        .unwrap();
    for request in [
        client.get("http://any.name/v1/models"),
        client.get("http://modelog/metrics"),
        client.post("http://modelog/v1/projections/sql/rebuild"),
        client
            .post("http://modelog/v1/events")
            .header("content-type", "application/json")
            .body(EVENT),
    ] {
        let response = send(request).await;
        assert!(response.status().is_success(), "{}", response.status());
    }
    assert_eq!(send(server.get("/metrics")).await.status(), 401);
    drop(client);
    server.stop().await;
    assert!(!socket.exists(), "it is removed at the end");
}

#[tokio::test]
async fn a_file_in_the_place_of_the_control_socket_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    let engine = modelog_engine::Engine::open(data.path().join("log")).unwrap();
    let store = modelog_sql::SqlStore::new(modelog_sql::SqlConfig {
        directory: data.path().to_owned(),
        ..modelog_sql::SqlConfig::default()
    })
    .unwrap();
    let services = modelog_http::Services {
        engine,
        reads: std::sync::Arc::new(store.reads()),
        history: None,
        metrics: std::sync::Arc::new(String::new),
        sources: std::sync::Arc::new(Vec::new),
        maintenance: std::sync::Arc::new(Keeper::default()),
    };
    let config = modelog_http::HttpConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        control_socket: Some(path.clone()),
        ..modelog_http::HttpConfig::default()
    };
    let error = modelog_http::Server::bind(config, services)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("control.sock"), "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}
