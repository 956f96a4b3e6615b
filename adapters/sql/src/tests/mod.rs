//! The projection on real files, fed by a real engine, read back with plain SQL.

mod cuts;
mod files;
mod kept;
mod meaning;
mod refused;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::Event;
use modelog_engine::projection::Projection;
use modelog_engine::{
    AppendOptions, Clock, Config, Engine, Foundations, LogId, ProjectionHandle, SystemClock,
    Timestamp,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::{SqlConfig, SqlStore, schema};

/// How long a projection may take to catch up. What never comes fails, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// When the clocks of tests start.
const START: i64 = 1_795_000_000_000_000;

/// A time of day that is set by hand.
#[derive(Debug)]
struct HandSet {
    now: std::sync::atomic::AtomicI64,
    system: SystemClock,
}

impl HandSet {
    fn set(&self, micros: i64) {
        self.now.store(micros, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for HandSet {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        // A jump that only one of the clocks makes is not believed.
        self.system.monotonic() + Duration::from_micros((self.now().micros() - START) as u64)
    }
}

/// A log and the file that is filled from it.
struct Scene {
    directory: tempfile::TempDir,
    engine: Engine,
    clock: Arc<HandSet>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandSet {
            now: START.into(),
            system: SystemClock::new(),
        });
        let mut config = Config::new(directory.path().join("log"));
        config.log.reserve_bytes = 0;
        let foundations = Foundations {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            // All logs of tests are the same one, so that stores can be compared.
            new_log: serde_json::from_str::<LogId>(r#""01970000-0000-7000-8000-000000000000""#)
                .unwrap(),
            ..Foundations::default()
        };
        let engine = Engine::open_on(config, foundations).unwrap();
        Self {
            directory,
            engine,
            clock,
        }
    }

    /// A log with these events.
    fn with(events: &[Event]) -> Self {
        let scene = Self::new();
        scene.append(events);
        scene
    }

    fn append(&self, events: &[Event]) {
        let batch = EventBatch::from_events(events).unwrap();
        self.engine
            .append_blocking(batch, AppendOptions::default())
            .unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sqlite/modelog.db")
    }

    fn config(&self) -> SqlConfig {
        SqlConfig {
            directory: self.directory.path().into(),
            ..SqlConfig::default()
        }
    }

    fn store(&self) -> SqlStore {
        SqlStore::new(self.config()).unwrap()
    }

    /// Runs a projection until it has everything.
    async fn follow(&self, projection: impl Projection + 'static) -> ProjectionHandle {
        let handle = self.engine.project(Box::new(projection));
        self.caught_up(&handle).await;
        handle
    }

    async fn caught_up(&self, handle: &ProjectionHandle) {
        handle.wait_for(self.engine.tail(), PATIENCE).await.unwrap();
    }

    /// Fills a store, and opens it for reading.
    async fn filled(&self) -> SqliteConnection {
        self.follow(self.store().projection()).await;
        self.open().await
    }

    async fn open(&self) -> SqliteConnection {
        open(&self.path()).await
    }
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

/// The rows of a query, each as SQL literals separated by blanks.
async fn rows(connection: &mut SqliteConnection, query: &str) -> Vec<String> {
    let mut columns = Vec::new();
    let described = format!("SELECT * FROM ({query}) LIMIT 0");
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "CREATE TEMP VIEW shown AS {described}"
    )))
    .execute(&mut *connection)
    .await
    .unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info('shown')")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    sqlx::query("DROP VIEW temp.shown")
        .execute(&mut *connection)
        .await
        .unwrap();
    for name in names {
        columns.push(format!("quote(\"{}\")", name.replace('"', "\"\"")));
    }
    let text = format!("SELECT {} FROM ({query})", columns.join(" || ' ' || "));
    sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut *connection)
        .await
        .unwrap()
}

/// Everything in a store, table by table.
async fn content(path: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let mut connection = open(path).await;
    let mut content = BTreeMap::new();
    for table in schema::tables(schema::SQLITE) {
        let mut lines = rows(&mut connection, &format!("SELECT * FROM {table}")).await;
        lines.sort();
        content.insert(table, lines);
    }
    content
}
