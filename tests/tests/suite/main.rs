//! All integration tests, in one binary.

mod cli;
mod demo;
mod read_store;
