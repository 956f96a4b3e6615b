//! What a crash or a failing disk does to a log whose history becomes Parquet, at every I/O of writing, comparing,
//! publishing, listing, handing over and deleting segments; of backups, and of restoring them.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

#[path = "../../../../engine/tests/crash/support.rs"]
#[expect(dead_code, reason = "the engine's own tests use the rest")]
mod support;

mod compacting;
mod copies;
mod glob;
mod place;
