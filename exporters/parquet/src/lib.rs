//! The cold part of the log: history as Parquet files, which any analyst opens and from which everything can be rebuilt.

mod cold;
mod disk;
mod error;
pub mod files;
pub mod layout;
pub mod manifest;
mod merge;
pub mod schema;
mod store;
pub mod verify;

pub use error::ParquetError;
pub use store::{ParquetConfig, ParquetStatus, ParquetStore};
