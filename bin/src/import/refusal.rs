//! Why something was not imported, with every place.

use modelog_engine::{AppendError, LogError};
use modelog_formats::{DecodeErrors, LocatedError};

use super::chunk::{Chunk, CutError, Spot};
use super::pieces::PieceError;
use crate::client::{ErrorPlace, ServerError};

/// How many places are told for one import.
pub(super) const PLACES_MAX: usize = 100;

/// Why a piece was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Events that cannot be understood: where, and how many there are.
    Events(Places),
    /// The input cannot be cut any further.
    Cut(CutError),
    /// Parquet files whose rows cannot be had.
    History(PieceError),
    /// What was read of a database cannot be read back from disk.
    Spool(std::io::Error),
    /// The file is not what it was when it was checked.
    Changed,
    /// The log cannot be read, to see what it has already.
    Reading(LogError),
    /// The log did not take it.
    Log { place: String, source: AppendError },
    /// The server did not.
    Server(ServerError),
}

/// Places in an input where something is wrong, as lines for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The first of them, each to be read after the input's name.
    pub(super) told: Vec<String>,
    pub(super) total: u64,
}

impl Places {
    /// Adds others; only so many are kept.
    pub(super) fn add(&mut self, more: Self) {
        let room = PLACES_MAX - self.told.len().min(PLACES_MAX);
        self.told.extend(more.told.into_iter().take(room));
        self.total += more.total;
    }

    /// What a format found in a piece.
    pub(super) fn of_format(errors: &DecodeErrors, chunk: &Chunk) -> Self {
        Self {
            told: errors
                .errors
                .iter()
                .map(|error| place(error, chunk))
                .collect(),
            total: errors.total,
        }
    }

    /// What a format recorded as rejected.
    pub(super) fn of_rejected(rejected: &[LocatedError], chunk: &Chunk) -> Self {
        Self {
            told: rejected.iter().map(|error| place(error, chunk)).collect(),
            total: rejected.len() as u64,
        }
    }
}

fn place(error: &LocatedError, chunk: &Chunk) -> String {
    let spot = Spot {
        event: Some(error.event),
        line: error.line,
        byte: error.byte,
    };
    format!(
        "{}{}",
        chunk.locate(&spot),
        with_field(&error.message, error.field.as_deref())
    )
}

fn with_field(message: &str, field: Option<&str>) -> String {
    match field {
        Some(field) if !message.contains(field) => format!("`{field}`: {message}"),
        _ => message.to_owned(),
    }
}

impl Refusal {
    /// What a server said about a piece.
    pub(super) fn of_server(error: ServerError, chunk: &Chunk) -> Self {
        let places = error
            .problem()
            .filter(|problem| !problem.errors.is_empty())
            .map(|problem| {
                let told = problem.errors.iter().map(|error| {
                    let ErrorPlace {
                        event, line, byte, ..
                    } = *error;
                    let message = with_field(&error.message, error.field.as_deref());
                    format!("{}{message}", chunk.locate(&Spot { event, line, byte }))
                });
                let told: Vec<_> = told.collect();
                let total = problem.errors_total.unwrap_or(told.len() as u64);
                Places { told, total }
            });
        places.map_or(Self::Server(error), Self::Events)
    }
}

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl From<PieceError> for Refusal {
    fn from(error: PieceError) -> Self {
        Self::History(error)
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Self::Reading(error)
    }
}

impl From<CutError> for Refusal {
    fn from(error: CutError) -> Self {
        Self::Cut(error)
    }
}
