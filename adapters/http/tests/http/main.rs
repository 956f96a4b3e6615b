//! The API over real sockets, with clients we did not write.

mod disk;
mod harness;
mod ingest;
mod metrics;
mod reads;
mod refusals;
mod retries;
mod safety;
mod sockets;
mod writes;
