//! What the log promises, held against crashes, failing disks and unlikely orders of things.

#[path = "../../../engine/tests/crash/support.rs"]
#[expect(dead_code, reason = "the engine's own tests use the rest")]
#[allow(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]
mod support;

#[path = "../../../exporters/parquet/tests/crash/glob.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]
mod glob;

mod model;
mod rechunk;
mod workload;
