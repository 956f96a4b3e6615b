//! A log whose middle cannot be read: what clients are told, and that they never take a part for the whole.

use std::path::Path;
use std::sync::Arc;

use modelog_engine::{Config, Engine};
use modelog_sql::{SqlConfig, SqlStore};
use reqwest::StatusCode;

use super::support::{ARROW, Site, log};

const CALLS: usize = 24;

fn config(path: &Path) -> Config {
    let mut config = Config::new(path);
    config.log.segment_bytes = 1 << 20;
    config
}

/// A log of several segments, in which one byte of the segment at this place is changed after it was closed.
async fn damaged(segment: usize) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    for at in 0..CALLS {
        let data = noise(at as u64, 200 << 10);
        let line = format!(r#"{{"type":"EventLogged","name":"n{at}","data":"{data}"}}"#);
        log(&engine, &line).await;
    }
    engine.close().await.unwrap();
    drop(engine);
    let mut segments: Vec<_> = std::fs::read_dir(directory.path().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    assert!(segments.len() > segment + 1, "{segments:?}");
    let mut bytes = std::fs::read(&segments[segment]).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&segments[segment], bytes).unwrap();
    // The store is not fed: it would stop at the damage as well.
    let store = SqlStore::new(SqlConfig {
        directory: directory.path().to_owned(),
        ..SqlConfig::default()
    });
    let reads = Arc::new(store.unwrap().reads());
    Site::over(config(directory.path()), directory, reads, []).await
}

/// Text that does not compress.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed * 2 + 1;
    let letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    };
    std::iter::repeat_with(letter)
        .filter(|letter| letter.is_ascii_alphanumeric())
        .take(length)
        .collect()
}

#[tokio::test]
async fn damage_at_the_start_is_a_problem() {
    let site = damaged(0).await;
    for accept in ["*/*", ARROW] {
        let reply = site
            .ask("/v1/events?from=2&kind=EventLogged", Some(accept))
            .await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(reply.problem()["code"], "log_damaged");
    }
    // What lies behind it is there.
    let reply = site.get("/v1/events?from=20").await;
    assert_eq!(reply.text().lines().count(), CALLS - 20);
}

#[tokio::test]
async fn damage_further_on_cuts_the_answer() {
    let site = damaged(1).await;
    for accept in ["*/*", ARROW] {
        let request = site
            .client
            .get(format!("{}/v1/events?kind=EventLogged", site.base));
        let mut response = request.header("accept", accept).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (mut bytes, mut cut) = (0, false);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes += chunk.len(),
                Ok(None) => break,
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        assert!(cut, "the body ended as if it were whole");
        assert!(bytes > 500_000, "{bytes}");
    }
}

#[tokio::test]
async fn a_tail_says_why_it_ends() {
    let site = damaged(1).await;
    let reply = site.get("/v1/tail?from=0").await;
    let text = reply.text();
    assert!(text.contains(r#""name":"n0""#));
    let (_, last) = text.trim_end().rsplit_once("\n\n").unwrap();
    assert!(last.starts_with("event: problem\ndata: {"), "{last}");
    assert!(last.contains(r#""code":"log_damaged""#), "{last}");
}
