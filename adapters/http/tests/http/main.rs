//! The API over real sockets, with clients we did not write.

mod harness;
mod ingest;
mod reads;
mod retries;
mod safety;
mod sockets;
mod writes;
