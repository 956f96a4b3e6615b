//! A server on a free port, with an engine and a store behind it.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType;
use modelog_engine::projection::Projection;
use modelog_engine::read::ReadStore;
use modelog_engine::{AppendOptions, Appended, Config, Engine, Timestamp};
use modelog_formats::{Format, Options, decode};
use modelog_http::{HttpConfig, Server, Services};
use modelog_sql::{SqlConfig, SqlStore};
use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::Keeper;

pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";

/// What a client meets.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) base: String,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Site {
    /// With the SQL store.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqlStore::new(SqlConfig {
            directory: directory.path().to_owned(),
            ..SqlConfig::default()
        })
        .unwrap();
        let reads = Arc::new(store.reads());
        Self::with(directory, reads, [Box::new(store.projection()) as _]).await
    }

    /// With other stores.
    pub(crate) async fn with(
        directory: tempfile::TempDir,
        reads: Arc<dyn ReadStore>,
        projections: impl IntoIterator<Item = Box<dyn Projection>>,
    ) -> Self {
        let config = Config::new(directory.path());
        Self::over(config, directory, reads, projections).await
    }

    /// With a live store before one that has all of history.
    pub(crate) async fn layered(
        reads: Arc<dyn ReadStore>,
        history: Arc<dyn ReadStore>,
        projections: impl IntoIterator<Item = Box<dyn Projection>>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new(directory.path());
        Self::start_on(config, directory, (reads, Some(history)), projections).await
    }

    /// Over a log with settings of the test's own.
    pub(crate) async fn over(
        config: Config,
        directory: tempfile::TempDir,
        reads: Arc<dyn ReadStore>,
        projections: impl IntoIterator<Item = Box<dyn Projection>>,
    ) -> Self {
        Self::start_on(config, directory, (reads, None), projections).await
    }

    async fn start_on(
        config: Config,
        directory: tempfile::TempDir,
        (reads, history): (Arc<dyn ReadStore>, Option<Arc<dyn ReadStore>>),
        projections: impl IntoIterator<Item = Box<dyn Projection>>,
    ) -> Self {
        let engine = Engine::open(config).unwrap();
        for projection in projections {
            engine.project(projection);
        }
        let services = Services {
            engine: engine.clone(),
            reads,
            history,
            metrics: Arc::new(String::new),
            sources: Arc::new(Vec::new),
            maintenance: Arc::new(Keeper::default()),
        };
        let config = HttpConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..HttpConfig::default()
        };
        let server = Server::bind(config, services).await.unwrap();
        let base = format!("http://{}", server.local_addr());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let shutdown = async {
                // Dropping the site stops it as well.
                let _ = stopped.await;
            };
            server.serve(shutdown).await.unwrap();
        });
        Self {
            engine,
            base,
            client: Client::new(),
            stop: Some(stop),
            serving,
            directory,
        }
    }

    /// Tells the server to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> (Engine, tempfile::TempDir) {
        self.stop.take().unwrap().send(()).unwrap();
        self.serving.await.unwrap();
        (self.engine, self.directory)
    }

    /// Appends events, one line of JSON each.
    pub(crate) async fn log(&self, lines: &str) -> Appended {
        log(&self.engine, lines).await
    }

    /// Asks for something, in some form.
    pub(crate) async fn ask(&self, path: &str, accept: Option<&str>) -> Reply {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        Reply::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(path, None).await
    }

    /// The JSON of something that is there.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json");
        reply.json()
    }

    /// The items of a list that is there.
    pub(crate) async fn items(&self, path: &str) -> Vec<Value> {
        let mut list = self.json(path).await;
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path}: the items are {other}"),
        }
    }

    /// The problem that something else is answered with.
    pub(crate) async fn problem(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert!(!reply.status.is_success(), "{path}: {}", reply.text());
        reply.problem()
    }
}

/// Appends events, one line of JSON each.
pub(crate) async fn log(engine: &Engine, lines: &str) -> Appended {
    let decoded = decode(lines.as_bytes(), Format::Ndjson, &Options::default()).unwrap();
    engine
        .append(decoded.batch, AppendOptions::default())
        .await
        .unwrap()
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Reply {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap_or("(not text)")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// What the answer covers.
    pub(crate) fn offset(&self) -> u64 {
        self.header("modelog-offset").parse().unwrap()
    }

    pub(crate) fn problem(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        problem
    }

    /// The record batches of an Arrow stream.
    pub(crate) fn arrow(&self) -> Vec<RecordBatch> {
        assert_eq!(self.header("content-type"), ARROW, "{}", self.text());
        StreamReader::try_new(&self.body[..], None)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    /// The rows of an Arrow stream, as JSON would have them.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.arrow().iter().flat_map(rows).collect()
    }
}

/// Rows as JSON objects. Times become RFC 3339; text stays text, also where it is JSON.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Value> {
    let schema = batch.schema();
    let cell = |column: usize, row: usize| {
        let array = batch.column(column);
        if array.is_null(row) {
            return Value::Null;
        }
        match schema.field(column).data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row).into(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
            DataType::Boolean => array.as_boolean().value(row).into(),
            DataType::Float64 => match array.as_primitive::<Float64Type>().value(row) {
                value if value.is_finite() => value.into(),
                value if value.is_nan() => "NaN".into(),
                value if value > 0.0 => "Infinity".into(),
                _ => "-Infinity".into(),
            },
            DataType::Timestamp(_, Some(zone)) if &**zone == "UTC" => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                Timestamp::from_micros(micros).to_string().into()
            }
            other => panic!("a column of the type {other}"),
        }
    };
    let fields = schema.fields();
    (0..batch.num_rows())
        .map(|row| {
            let cells = fields
                .iter()
                .enumerate()
                .map(|(column, field)| (field.name().clone(), cell(column, row)));
            Value::Object(cells.collect())
        })
        .collect()
}
