//! Exit codes, as sysexits.h has them, and the one place that decides which error gets which.

use std::io;
use std::process::ExitCode;

use modelog_engine::{AppendError, ErrorKind, LogError, chain};
use modelog_http::HttpError;
use modelog_parquet::ParquetError;
use modelog_redis::RedisError;
use modelog_sql::SqlError;

use crate::client::ServerError;
use crate::config::ConfigError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something that is none of the below.
    Failure = 1,
    /// Called in a way that cannot be meant.
    Usage = 2,
    /// Input, or stored data, is not as it should be.
    BadData = 65,
    /// A server or a store is not there, or busy.
    Unavailable = 69,
    /// The disk, or a file on it.
    Io = 74,
    /// The configuration.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows how the program ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    message: String,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failed {
    /// An error with the exit code that goes with it.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            cause: None,
        }
    }

    /// An error whose exit code its causes do not tell.
    pub(crate) fn caused(
        exit: Exit,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> anyhow::Error {
        Self::caused_with(exit, error.to_string(), error)
    }

    /// The same, with something else to say than the error itself.
    pub(crate) fn caused_with(
        exit: Exit,
        message: impl Into<String>,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> anyhow::Error {
        Self {
            exit,
            message: message.into(),
            // Its causes go on the chain; the message is its own part.
            cause: error.source().map(|cause| chain(cause).into()),
        }
        .into()
    }

    /// Called in a way that cannot be meant.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self::new(Exit::Usage, message).into()
    }

    /// Input, or stored data, is not as it should be.
    pub(crate) fn bad_data(message: impl Into<String>) -> anyhow::Error {
        Self::new(Exit::BadData, message).into()
    }

    /// A server is not there.
    pub(crate) fn unavailable(message: impl Into<String>) -> anyhow::Error {
        Self::new(Exit::Unavailable, message).into()
    }
}

/// The reader of our output has seen enough.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The exit code of an error: what we said ourselves, else that of the first cause that decides it.
pub(crate) fn code(error: &anyhow::Error) -> Exit {
    // Found here as a context, too, which no cause of the chain is.
    if let Some(failed) = error.downcast_ref::<Failed>() {
        return failed.exit;
    }
    error.chain().find_map(decide).unwrap_or(Exit::Failure)
}

fn decide(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        return Some(match error {
            ConfigError::Unreadable { .. } | ConfigError::Problems(_) => Exit::Config,
        });
    }
    if let Some(error) = cause.downcast_ref::<LogError>() {
        return Some(of_log(error));
    }
    if let Some(error) = cause.downcast_ref::<AppendError>() {
        return Some(of_append(error));
    }
    if let Some(error) = cause.downcast_ref::<HttpError>() {
        return Some(of_http(error));
    }
    if let Some(error) = cause.downcast_ref::<ServerError>() {
        return Some(error.exit());
    }
    if let Some(error) = cause.downcast_ref::<ParquetError>() {
        return Some(of_parquet(error));
    }
    if let Some(error) = cause.downcast_ref::<RedisError>() {
        return Some(of_redis(error));
    }
    if cause.is::<SqlError>() {
        // A store that is away later is waited for.
        return Some(Exit::Config);
    }
    cause.downcast_ref::<io::Error>().map(|_| Exit::Io)
}

fn of_log(error: &LogError) -> Exit {
    match error {
        LogError::Io { .. } | LogError::NotSealed { .. } => Exit::Io,
        LogError::Locked { .. } | LogError::Closed => Exit::Unavailable,
        LogError::TooNew { .. }
        | LogError::Foreign { .. }
        | LogError::Corrupt { .. }
        | LogError::Missing { .. }
        | LogError::ForeignCold { .. }
        | LogError::LogGone { .. }
        | LogError::ColdLost { .. }
        | LogError::Restoring { .. } => Exit::BadData,
        LogError::NetworkFileSystem { .. } | LogError::Setting { .. } => Exit::Config,
        LogError::BeyondTail { .. } | LogError::Backup { .. } | LogError::NotEmpty { .. } => {
            Exit::Usage
        }
    }
}

fn of_parquet(error: &ParquetError) -> Exit {
    match error {
        ParquetError::Setting { .. } | ParquetError::ForeignLog { .. } => Exit::Config,
        _ => match error.kind() {
            ErrorKind::Unavailable => Exit::Io,
            ErrorKind::Closed => Exit::Unavailable,
            ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::Corrupt => Exit::BadData,
        },
    }
}

/// The exit code of what Redis does not do.
pub(crate) fn of_redis(error: &RedisError) -> Exit {
    match error {
        RedisError::Setting { .. }
        | RedisError::Foreign { .. }
        | RedisError::Denied { .. }
        | RedisError::File { .. } => Exit::Config,
        RedisError::Refused { code, .. } => match code.as_str() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Exit::Config,
            _ => Exit::Unavailable,
        },
        RedisError::Unreachable { .. }
        | RedisError::Away { .. }
        | RedisError::NotWhole
        | RedisError::Moved
        | RedisError::NoRoomAside => Exit::Unavailable,
        RedisError::Content { .. } | RedisError::Empty { .. } => Exit::BadData,
        RedisError::Disk { .. } => Exit::Io,
    }
}

fn of_append(error: &AppendError) -> Exit {
    match error {
        AppendError::IdConflict { .. }
        | AppendError::RepeatedId { .. }
        | AppendError::EntityConflict { .. }
        | AppendError::KeyReused
        | AppendError::StaleProducer { .. }
        | AppendError::SequenceGap { .. }
        | AppendError::OutOfPlace { .. }
        | AppendError::Reserved { .. }
        | AppendError::TooLarge { .. } => Exit::BadData,
        AppendError::Backlog { .. } | AppendError::Closed => Exit::Unavailable,
        AppendError::DiskFull
        | AppendError::Poisoned { .. }
        | AppendError::OutcomeUnknown { .. } => Exit::Io,
    }
}

fn of_http(error: &HttpError) -> Exit {
    if error.is_configuration() {
        Exit::Config
    } else {
        Exit::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_first_cause_that_decides_decides() {
        let io = || io::Error::from(io::ErrorKind::NotFound);
        let plain = Err::<(), _>(io()).context("reading").unwrap_err();
        assert_eq!(code(&plain), Exit::Io);
        let said = plain.context(Failed::new(Exit::Config, "no token"));
        assert_eq!(code(&said), Exit::Config);
        assert_eq!(code(&said.context("starting")), Exit::Config);
        assert_eq!(code(&anyhow::anyhow!("something")), Exit::Failure);
        let locked = LogError::Locked {
            path: "d".into(),
            holder: "process 1".into(),
        };
        assert_eq!(code(&locked.into()), Exit::Unavailable);
        assert_eq!(code(&AppendError::DiskFull.into()), Exit::Io);
        let caused = Failed::caused(Exit::BadData, LogError::Closed);
        assert_eq!(code(&caused), Exit::BadData);
    }

    #[test]
    fn a_broken_pipe_is_found_behind_contexts() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = anyhow::Error::new(broken).context("writing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
