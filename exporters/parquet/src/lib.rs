//! The cold part of the log: history as Parquet files, which any analyst opens and from which everything can be rebuilt.
//!
//! ```text
//! log ─▶ compactor: rows ─▶ pending ─▶ row groups ─▶ .tmp ─▶ read back, compared ─▶ *.parquet ─▶ _manifest.json ─▶ cold_end
//! log ◀─ cold tier: merged by offset ◀──────────────────────────────────────────── *.parquet
//! ```
//!
//! Files of a kind follow each other without overlap, and are never changed ([`layout`], [`manifest`]); their columns are
//! those of the log ([`schema`]). All disk access goes through the engine's `Storage`, all time through its `Clock`.

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
