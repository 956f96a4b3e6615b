//! What a crash, a failing disk or a full one does to a log, at every single I/O. `disk` tests the disk itself first.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod ahead;
mod disk;
mod forgotten;
mod lessons;
mod log;
mod retire;
mod support;
