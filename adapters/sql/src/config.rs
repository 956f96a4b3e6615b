//! Settings of the SQL store, and which database a URL means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::SqlError;

/// Settings of the SQL store.
#[derive(Clone, Debug)]
pub struct SqlConfig {
    /// `sqlite:PATH`. The path is taken as it is written, without percent-encoding.
    pub url: String,
    /// Where relative SQLite paths start.
    pub directory: PathBuf,
    /// How long predictions and feedback are kept, counted from when the log took them to when it took the newest
    /// event the store has applied; for ever if none. Parquet and the log have them all the same.
    pub predictions_keep: Option<Duration>,
    /// How many questions are answered at the same time.
    pub readers: u32,
    /// How much of the tables the writer keeps in memory.
    pub cache_bytes: usize,
    /// How long the writer waits for another program that has locked the database, before it tries again later.
    pub busy_timeout: Duration,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            url: "sqlite:sqlite/modelog.db".into(),
            directory: PathBuf::new(),
            predictions_keep: None,
            readers: 4,
            cache_bytes: 64 << 20,
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// A database, as its URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Sqlite(PathBuf),
}

impl Location {
    /// Reads a URL. Errors never repeat it whole: it may hold a password.
    pub(crate) fn parse(url: &str, directory: &Path) -> Result<Self, SqlError> {
        let (scheme, rest) = url.split_once(':').ok_or(SqlError::NoScheme)?;
        match scheme {
            "sqlite" => sqlite_path(rest, directory).map(Self::Sqlite),
            "postgres" | "postgresql" | "mysql" | "mariadb" => Err(SqlError::NotInThisVersion {
                scheme: scheme.into(),
            }),
            _ => Err(SqlError::UnknownScheme {
                scheme: scheme.into(),
            }),
        }
    }
}

fn sqlite_path(rest: &str, directory: &Path) -> Result<PathBuf, SqlError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path == ":memory:" || path.ends_with('/') {
        return Err(SqlError::NotAFile);
    }
    if let Some((_, settings)) = path.split_once('?') {
        return Err(SqlError::UrlSettings {
            settings: settings.into(),
        });
    }
    Ok(directory.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |url: &str| Location::parse(url, Path::new("/data"));
        let file = |path: &str| Ok(Location::Sqlite(path.into()));
        assert_eq!(
            parse("sqlite:sqlite/modelog.db"),
            file("/data/sqlite/modelog.db")
        );
        assert_eq!(parse("sqlite://modelog.db"), file("/data/modelog.db"));
        assert_eq!(parse("sqlite:///var/ml.db"), file("/var/ml.db"));
        assert_eq!(parse("sqlite:/var/a b%20.db"), file("/var/a b%20.db"));
        for memory in ["sqlite:", "sqlite::memory:", "sqlite://", "sqlite:data/"] {
            assert_eq!(parse(memory), Err(SqlError::NotAFile), "{memory}");
        }
        assert_eq!(
            parse("sqlite:a.db?mode=ro"),
            Err(SqlError::UrlSettings {
                settings: "mode=ro".into()
            })
        );
        assert_eq!(parse("modelog.db"), Err(SqlError::NoScheme));
        for other in ["postgres", "postgresql", "mysql", "mariadb"] {
            let error = parse(&format!("{other}://me:secret@db/ml")).unwrap_err();
            assert!(error.to_string().contains("not in this version"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = parse("redis://me:secret@db").unwrap_err();
        assert_eq!(
            error,
            SqlError::UnknownScheme {
                scheme: "redis".into()
            }
        );
    }
}
