//! Contract suites that every implementation of a contract must pass, and what they are checked against.

pub mod read_store;
pub mod read_store_oracle;
