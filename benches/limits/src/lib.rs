//! What the machine could do if nothing else had to be done: small programs that do one thing.
//!
//! They know nothing of Modelog, and stay as they are when Modelog is made faster: a ratio to a limit that moves says
//! nothing.

mod databases;
mod disk;
mod parquet;
mod parse;
mod redis;
mod scan;
mod sink;

pub use databases::{BareClient, PostgresRows, TableRows, mysql_execute, postgres_execute};
pub use disk::{Events, write_and_sync};
pub use parquet::{read_parquet, write_parquet};
pub use parse::parse;
pub use redis::{Commands, Recorder, redis_forget};
pub use scan::scan;
pub use sink::Sink;
