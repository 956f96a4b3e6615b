//! Redis keeps the contract of every store that answers questions, on a real server.
//!
//! These tests need `redis-server`; `tests/run` runs them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use modelog_redis::{RedisConfig, RedisStore, Streams};
use modelog_tests::read_store::{Factory, Subject, contract, random_histories, rebuilds_aside};

use crate::layers::layered;
use crate::read_store::SqliteFactory;

/// A server of its own, on a free port, that keeps nothing on the disk.
struct Server {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Somebody else may take the port before the server does: then it ends, and another one is tried.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut process = Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--port", &port.to_string()])
                .arg("--dir")
                .arg(directory.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server starts: it is in Debian's package of that name");
            for _ in 0..500 {
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self {
                        process,
                        port,
                        _directory: directory,
                    };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("redis-server does not listen");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Stores on one server, each under a prefix of its own.
struct RedisFactory {
    server: Server,
    made: AtomicUsize,
    change: fn(&mut RedisConfig),
}

impl RedisFactory {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: fn(&mut RedisConfig)) -> Self {
        Self {
            server: Server::start(),
            made: AtomicUsize::new(0),
            change,
        }
    }

    fn config(&self) -> RedisConfig {
        let mut config = RedisConfig {
            url: format!("redis://127.0.0.1:{}", self.server.port),
            prefix: format!("t{}", self.made.fetch_add(1, Ordering::Relaxed)),
            // Histories of tests lie in the past.
            predictions_ttl: None,
            payload_bytes_max: usize::MAX,
            // Whatever else the machine does.
            read_time: Duration::from_secs(60),
            response_time: Duration::from_secs(60),
            ..RedisConfig::default()
        };
        (self.change)(&mut config);
        config
    }
}

#[async_trait]
impl Factory for RedisFactory {
    async fn subject(&self) -> Subject {
        let store = RedisStore::new(self.config()).unwrap();
        Subject {
            projection: Box::new(store.projection()),
            reads: Arc::new(store.reads()),
            guard: Box::new(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_keeps_the_contract() {
    contract(Arc::new(RedisFactory::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_is_built_again_aside() {
    rebuilds_aside(&RedisFactory::new()).await;
}

#[test]
#[ignore = "needs redis-server"]
fn redis_answers_what_a_plain_fold_answers() {
    random_histories(Arc::new(RedisFactory::new()), 64);
}

/// Stores that keep little, before databases that keep everything.
struct LayeredFactory(RedisFactory);

#[async_trait]
impl Factory for LayeredFactory {
    async fn subject(&self) -> Subject {
        layered(self.0.subject().await, SqliteFactory.subject().await)
    }
}

/// What Redis no longer keeps is never missing from an answer: it says so, and the database answers.
#[test]
#[ignore = "needs redis-server"]
fn a_redis_that_keeps_little_says_so_rather_than_answer_with_less() {
    let changes: [fn(&mut RedisConfig); 3] = [
        |config| {
            (config.predictions_window, config.metrics_window) = (1, 1);
            config.stream_length = 1;
        },
        |config| {
            (config.predictions_window, config.metrics_window) = (2, 3);
            config.streams = Streams::of([]).unwrap();
        },
        |config| config.payload_bytes_max = 4,
    ];
    for change in changes {
        random_histories(Arc::new(LayeredFactory(RedisFactory::with(change))), 48);
    }
}
