//! The cold part of the log: history as Parquet files, which any analyst opens and from which everything can be rebuilt.

mod closing;
mod cold;
mod compactor;
pub mod cut;
mod digest;
mod disk;
mod encoding;
mod error;
pub mod files;
mod footer;
mod intake;
pub mod layout;
mod leftovers;
pub mod manifest;
mod merge;
mod open_file;
mod parallel;
mod pending;
mod readback;
mod rows;
pub mod schema;
mod sink;
mod store;
pub mod verify;
mod worker;

pub use compactor::{Compactor, PROJECTION};
pub use encoding::properties as writer_properties;
pub use error::ParquetError;
pub use store::{ParquetConfig, ParquetStatus, ParquetStore};
