//! A source against librdkafka's mock cluster, whose brokers fail as they are told: what no real broker does on cue.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as tests do")]

mod cluster;
mod failures;
mod log;
