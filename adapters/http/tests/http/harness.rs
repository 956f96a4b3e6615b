//! A whole server on a free loopback port, over a log and a SQLite store in a temporary directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::{Config, Engine, Foundations, Offset};
use modelog_http::{
    BackedUp, Compacted, HttpConfig, HttpError, Maintenance, MaintenanceError, Server, Services,
};
use modelog_sql::{SqlConfig, SqlStore};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for what must happen; it fails beyond, whatever the reason.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says that it did what it was asked to, with a directory of backups that tells what becomes of them: `busy`, `broken`,
/// or any other. After a broken one it says that backups fail.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    failing: AtomicBool,
}

#[async_trait]
impl Maintenance for Keeper {
    async fn compact(&self) -> Result<Compacted, MaintenanceError> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(MaintenanceError::Compaction("the disk is full".to_owned()));
        }
        Ok(Compacted {
            files: 2,
            cold_end: Offset(3),
            ..Compacted::default()
        })
    }

    async fn back_up(&self, to: PathBuf, keep: Option<u32>) -> Result<BackedUp, MaintenanceError> {
        match to.to_str() {
            Some("/busy") => Err(MaintenanceError::Busy),
            Some("/etc") => Err(MaintenanceError::Destination("/etc holds files".to_owned())),
            Some("/broken") => {
                self.failing.store(true, Ordering::Relaxed);
                Err(MaintenanceError::Backup("the disk is broken".to_owned()))
            }
            _ => Ok(BackedUp {
                path: to.join("new").display().to_string(),
                new_files: keep.map_or(0, u64::from),
                ..BackedUp::default()
            }),
        }
    }

    fn failing(&self) -> Vec<&'static str> {
        let failing = self.failing.load(Ordering::Relaxed);
        if failing { vec!["backup"] } else { Vec::new() }
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) engine: Engine,
    pub(crate) addr: SocketAddr,
    pub(crate) client: Client,
    data: TempDir,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HttpError>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with settings of the test's own.
    pub(crate) async fn start_with(settings: impl FnOnce(&mut HttpConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::start_in(data, settings).await
    }

    /// A server on a data directory that is there already.
    pub(crate) async fn start_in(data: TempDir, settings: impl FnOnce(&mut HttpConfig)) -> Self {
        Self::start_on(data, Foundations::default(), settings).await
    }

    /// A server whose log is on a disk of the test's own.
    pub(crate) async fn start_on(
        data: TempDir,
        foundations: Foundations,
        settings: impl FnOnce(&mut HttpConfig),
    ) -> Self {
        let mut config = Config::new(data.path());
        config.log.segment_bytes = 256 << 10;
        config.log.backlog_bytes_max = 1 << 20;
        let engine = Engine::open_on(config, foundations).unwrap();
        let store = SqlStore::new(SqlConfig {
            directory: data.path().to_owned(),
            ..SqlConfig::default()
        })
        .unwrap();
        engine.project(Box::new(store.projection()));
        let mut config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..HttpConfig::default()
        };
        settings(&mut config);
        let services = Services {
            engine: engine.clone(),
            reads: Arc::new(store.reads()),
            history: None,
            metrics: Arc::new(|| "modelog_build_info{version=\"0\"} 1\n".to_owned()),
            sources: Arc::new(Vec::new),
            maintenance: Arc::new(Keeper::default()),
        };
        let server = Server::bind(config, services).await.unwrap();
        let addr = server.local_addr();
        let (shutdown, asked) = oneshot::channel();
        let task = tokio::spawn(server.serve(async move {
            let _ = asked.await;
        }));
        Self {
            engine,
            addr,
            client: Client::new(),
            data,
            shutdown,
            task,
        }
    }

    /// Shuts down in order; the data can be served again.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        self.engine.close().await.unwrap();
        self.data
    }

    /// Asks for a shutdown, and hands out what tells when it is done.
    pub(crate) fn begin_stop(self) -> (JoinHandle<Result<(), HttpError>>, Engine, TempDir) {
        self.shutdown.send(()).unwrap();
        (self.task, self.engine, self.data)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// A request with a JSON body, sent as it is.
    pub(crate) fn post(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        json(self.client.post(self.url(path)), body)
    }

    pub(crate) fn put(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        json(self.client.put(self.url(path)), body)
    }

    pub(crate) fn patch(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        json(self.client.patch(self.url(path)), body)
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(self.url(path))
    }

    pub(crate) fn tail(&self) -> u64 {
        self.engine.tail().0
    }

    /// All events of the log from an offset on, as JSON.
    pub(crate) fn events(&self, from: u64) -> Vec<Value> {
        let mut reader = self.engine.reader(Offset(from));
        let mut events = Vec::new();
        loop {
            let batches = reader.read(1 << 20).unwrap();
            if batches.is_empty() {
                return events;
            }
            for batch in &batches {
                for row in batch.in_order() {
                    let mut json = Vec::new();
                    row.write_json(&mut json);
                    events.push(serde_json::from_slice(&json).unwrap());
                }
            }
        }
    }

    /// Sends bytes over a socket of their own, and reads until the server closes it.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request.as_ref()).await.unwrap();
        read_all(&mut socket).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Checks that the server is unharmed: it takes an event and answers.
    pub(crate) async fn assert_alive(&self) {
        let event = r#"{"type":"EventLogged","name":"alive"}"#;
        let before = self.tail();
        let reply = answer(self.post("/v1/events", event)).await;
        assert_eq!(reply.0, 200, "{reply:?}");
        assert_eq!(self.tail(), before + 1);
    }
}

fn json(request: RequestBuilder, body: impl Into<String>) -> RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.into())
}

/// Status and JSON body.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = send(request).await;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    match serde_json::from_str(&text) {
        Ok(value) => (status, value),
        Err(error) => panic!("{status}: {error}: {text}"),
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Response {
    tokio::time::timeout(PATIENCE, request.send())
        .await
        .expect("the server answers")
        .unwrap()
}

/// Checks that a request is refused with a code, as problem JSON that says what to do.
pub(crate) async fn refused(request: RequestBuilder, status: u16, code: &str) -> Value {
    let response = send(request).await;
    let found = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    let retry_after = response.headers().get("retry-after").cloned();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(content_type.unwrap(), "application/problem+json", "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["status"], status, "{text}");
    for field in ["title", "detail", "remedy"] {
        assert!(
            !problem[field].as_str().unwrap().is_empty(),
            "{field}: {text}"
        );
    }
    assert_eq!(
        retry_after.is_some(),
        matches!(status, 429 | 503),
        "Retry-After: {text}"
    );
    problem
}

pub(crate) async fn read_all(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        // A reset ends the answer as well.
        let _ = socket.read_to_end(&mut bytes).await;
    })
    .await
    .expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A token file that only its owner can change.
pub(crate) fn token_file(directory: &Path, lines: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("tokens");
    std::fs::write(&path, lines).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
