//! What differs from database to database: connections, the text of statements, the meaning of errors.
//!
//! One module per dialect; there is one so far. Another one brings the same functions, this module becomes the place
//! where they are chosen, and nothing outside it changes.

pub(crate) mod sqlite;

pub(crate) use sqlite::{Rows, cause, insert_new, upsert};

/// What an error of the database means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Busy, full, or out of reach: waiting may help.
    Away,
    /// A row that the database does not take.
    Row,
    /// The file is not what was written.
    Damaged,
    /// Anything else: the tables are not ours any more.
    Other,
}
