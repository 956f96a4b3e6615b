//! What the machine could do if nothing else had to be done: small programs that do one thing.

mod disk;
mod parquet;
mod parse;
mod sink;

pub use disk::write_and_sync;
pub use parquet::{read_parquet, write_parquet};
pub use parse::parse;
pub use sink::Sink;
