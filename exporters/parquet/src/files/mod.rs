//! Reading Parquet files back.

mod bytes;
mod error;
mod events;
mod file;
mod guard;
mod history;
mod rows;
mod single;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod walk;

pub use error::FileError;
pub use events::EventRows;
pub use file::ParquetFile;
pub use single::{ContentSum, EncodeError, FileWriter};

pub(crate) use error::Place;
pub(crate) use file::Columns;
pub(crate) use history::{History, check_content};
pub(crate) use rows::{KindRows, Piece};
pub(crate) use walk::walk;
