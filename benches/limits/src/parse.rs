//! serde_json, typed and borrowed, and nothing else.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A prediction that borrows its text; JSON values stay as they are.
#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing them is the point")]
struct Prediction<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(alias = "prediction_id")]
    id: &'a str,
    model: &'a str,
    version: &'a str,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    output: &'a RawValue,
    predicted_class: &'a str,
    confidence: f64,
    inference_time_ms: f64,
}

/// Parses bodies of NDJSON on a number of threads.
///
/// # Errors
/// If the bodies hold anything but predictions as the benchmark has them.
pub fn parse<B: AsRef<[u8]> + Sync>(bodies: &[B], threads: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                parse_body(body.as_ref())?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("parsing does not panic"))
    })
}

fn parse_body(bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let prediction: Prediction<'_> =
            serde_json::from_slice(&rest[..end]).context("a prediction")?;
        black_box(&prediction);
        rest = &rest[end + 1..];
    }
    Ok(())
}
