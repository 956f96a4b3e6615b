//! What can go wrong, and whether waiting helps.

use std::path::PathBuf;

use modelog_engine::projection::ProjectionError;
use modelog_engine::read::ReadError;

use crate::NAME;

/// Why Redis does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error("redis.{setting} {reason}")]
    Setting {
        setting: &'static str,
        reason: String,
    },
    #[error("{path} cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Redis at {address} cannot be reached")]
    Unreachable {
        address: String,
        #[source]
        source: redis::RedisError,
    },
    /// It answers, and ends the talk with that.
    #[error("Redis at {address} does not let us in")]
    Denied {
        address: String,
        #[source]
        source: redis::RedisError,
    },
    /// It could not be reached a moment ago.
    #[error("Redis at {address} could not be reached a moment ago")]
    Away { address: String },
    /// The server answers, and does not do it.
    #[error("Redis refuses {command} on {key}: {reply}")]
    Refused {
        command: String,
        key: String,
        /// The code of the reply, such as `OOM`.
        code: String,
        reply: String,
    },
    /// It was emptied, has thrown keys away, or is about to replace what it has.
    #[error("Redis does not hold all that it was given")]
    NotWhole,
    /// Somebody else wrote the checkpoint, or it is gone.
    #[error("the checkpoint in Redis is not where this program left it")]
    Moved,
    #[error(
        "Redis holds keys that begin with {prefix}: and are not Modelog's, such as {key}; set `redis.prefix` to another one, \
         or move them away"
    )]
    Foreign { prefix: String, key: String },
    /// There is no memory for a second store beside the first.
    #[error(
        "Redis has no memory to build the store again beside what it holds, so that is removed first; until it is filled, \
         reads come from SQL"
    )]
    NoRoomAside,
    #[error("the key {key} holds what Modelog does not write: {what}; run `modelog rebuild redis`")]
    Content { key: String, what: String },
    /// There is nothing to take over.
    #[error("there are no keys at {database}; {found}")]
    Empty { database: String, found: String },
    #[error(
        "what was read of Redis cannot be put in order on disk, where temporary files lie (TMPDIR)"
    )]
    Disk {
        #[source]
        source: std::io::Error,
    },
}

impl RedisError {
    /// Whether the server has no memory for more.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "OOM")
    }

    /// Whether it may get better by itself.
    fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Away { .. }
            | Self::File { .. }
            | Self::NotWhole
            | Self::Moved
            | Self::NoRoomAside
            | Self::Denied { .. }
            | Self::Disk { .. } => true,
            // A key of ours that is of another type, and arguments it does not take, stay so.
            Self::Refused { code, .. } => code != "WRONGTYPE" && code != "ERR",
            Self::Setting { .. }
            | Self::Foreign { .. }
            | Self::Content { .. }
            | Self::Empty { .. } => false,
        }
    }
}

impl From<RedisError> for ProjectionError {
    fn from(error: RedisError) -> Self {
        if error.passes() {
            return Self::Unavailable(Box::new(error));
        }
        let reason = match &error {
            RedisError::Refused { code, key, .. } if code == "WRONGTYPE" => format!(
                "{error}. The key is in the place of one of ours: move {key} away, then run `modelog rebuild redis`"
            ),
            _ => error.to_string(),
        };
        Self::Stopped { reason }
    }
}

impl From<RedisError> for ReadError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::NotWhole => Self::NotKept { store: NAME },
            error => Self::Unavailable {
                store: NAME,
                source: Box::new(error),
            },
        }
    }
}
