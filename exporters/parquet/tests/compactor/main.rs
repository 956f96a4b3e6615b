//! The compactor with a real engine, over real directories.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod closing;
mod directory;
mod failures;
mod files;
mod restarts;
mod support;
