//! However long the log is and however slow its readers are, the server's memory stays where it is.
//!
//! What a process takes can only be told apart in a process of its own: the log is written here, and a second run of
//! this program, told where the log is, serves and reads it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use modelog_engine::batch::EventBatch;
use modelog_engine::event::{Event, EventLogged, Json};
use modelog_engine::{AppendOptions, Engine};
use modelog_sql::{SqlConfig, SqlStore};
use reqwest::header::ACCEPT;

use super::support::{ARROW, Site};

const DIRECTORY: &str = "MODELOG_TEST_LARGE_LOG";
const EVENTS: usize = 4000;
const CALL_EVENTS: usize = 25;
const EVENT_BYTES: usize = 16 << 10;
/// Far less than the log, which is 64 MiB.
const GROWTH_MAX: usize = 16 << 20;

#[tokio::test]
async fn a_log_of_any_length_is_read_in_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let filler = "x".repeat(EVENT_BYTES);
    for call in 0..EVENTS / CALL_EVENTS {
        let events: Vec<Event> = (0..CALL_EVENTS)
            .map(|at| {
                EventLogged {
                    name: format!("{call}-{at}"),
                    data: Some(Json::of(&filler).unwrap()),
                }
                .into()
            })
            .collect();
        let batch = EventBatch::from_events(&events).unwrap();
        engine
            .append(batch, AppendOptions::default())
            .await
            .unwrap();
    }
    engine.close().await.unwrap();
    drop(engine);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("{}::reads_a_large_log", module()))
        .env(DIRECTORY, directory.path())
        // What is freed goes back at once: the test is about what is held, not about what malloc keeps for later.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "65536")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// This module's path as tests are called.
fn module() -> &'static str {
    module_path!().split_once("::").unwrap().1
}

/// Memory of this process that belongs to no file, in bytes.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test]
#[ignore = "needs the log that the test above writes, which runs this"]
async fn reads_a_large_log() {
    let path = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let store = SqlStore::new(SqlConfig {
        directory: path.clone(),
        ..SqlConfig::default()
    });
    let reads = Arc::new(store.unwrap().reads());
    let nowhere = tempfile::tempdir().unwrap();
    let site = Site::over(path.into(), nowhere, reads, []).await;
    // Whatever is made once is made now.
    site.get("/v1/events?until=10").await;
    let before = anonymous();
    let grown = |what: &str| {
        let now = anonymous();
        assert!(
            now < before + GROWTH_MAX,
            "{what}: {now} bytes after {before}"
        );
    };
    for accept in ["*/*", ARROW] {
        let request = site
            .client
            .get(format!("{}/v1/events?kind=EventLogged", site.base));
        let mut response = request.header(ACCEPT, accept).send().await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            bytes += chunk.len();
            grown(accept);
        }
        assert!(bytes > EVENTS * EVENT_BYTES, "{bytes}");
    }
    // Clients that open a tail at the start and do not read on.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut response = site
            .client
            .get(format!("{}/v1/tail?from=0", site.base))
            .send()
            .await
            .unwrap();
        response.chunk().await.unwrap().unwrap();
        slow.push(response);
        grown("slow clients");
    }
    // While they hold still, somebody else reads everything.
    let everything = site.client.get(format!("{}/v1/events", site.base));
    let mut everything = everything.send().await.unwrap();
    while everything.chunk().await.unwrap().is_some() {
        grown("slow clients");
    }
}
