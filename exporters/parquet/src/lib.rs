//! The cold part of the log: history as Parquet files, which any analyst opens and from which everything can be rebuilt.

mod disk;
mod error;
pub mod layout;
pub mod manifest;
pub mod schema;
mod store;

pub use error::ParquetError;
pub use store::{ParquetConfig, ParquetStatus, ParquetStore};
