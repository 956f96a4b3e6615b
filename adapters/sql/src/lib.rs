//! Modelog's tables in a SQL database: a projection that fills them from the log, and a store that answers from them.
//!
//! ```text
//! log ─▶ fold: names, entities, metrics, predictions, feedback ─▶ bulk ─▶ dialect ─▶ database
//!             what an event means, without a word of SQL          rows    its SQL     SQLite, PostgreSQL, MySQL
//! ```
//!
//! The meaning of events lives in `fold` and speaks of tables and columns only; how a row is written in a particular
//! database is the affair of its module in `dialect`. What the tables hold is said in `schema`.

mod bulk;
mod checkpoint;
mod config;
mod connection;
mod database;
mod dialect;
mod error;
mod fold;
mod projection;
mod reads;
mod retention;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod value;

pub use config::SqlConfig;
pub use error::SqlError;
pub use projection::SqlProjection;
pub use reads::SqlReads;
pub use store::SqlStore;
