//! How far a store has followed which history.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Offset;

/// The identity of a log, given when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a store: it holds the effects of everything before `offset`, in this log's `epoch`, as the fold of this
/// version makes them. Stored together with those effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub log: LogId,
    pub epoch: u32,
    pub offset: Offset,
    /// The version of the projection's own rules; another one's store must be rebuilt.
    pub fold_version: u32,
}
