//! All integration tests, in one binary.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod cli;
mod databases;
mod demo;
mod layers;
mod read_store;
mod redis;
