//! The API over real sockets, with clients we did not write.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod binary;
mod disk;
mod harness;
mod ingest;
mod lessons;
mod maintenance;
mod metrics;
mod reads;
mod refusals;
mod retries;
mod safety;
mod sockets;
mod writes;
