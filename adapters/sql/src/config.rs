//! Settings of the SQL store, and which database a URL means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::error::SqlError;

/// Settings of the SQL store.
#[derive(Clone, Debug)]
pub struct SqlConfig {
    /// `sqlite:PATH`, `postgres://USER:PASSWORD@HOST:PORT/DATABASE` or `mysql://USER:PASSWORD@HOST:PORT/DATABASE`. A path
    /// is taken as it is written, without percent-encoding.
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
    /// On PostgreSQL, about how many bytes rows have at least that go in by `COPY`.
    pub copy_bytes_least: usize,
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
            // The end of a copy is a small packet behind the last of the data, which TCP holds back until that data is
            // acknowledged: at once if there was much of it, else 40 ms later.
            copy_bytes_least: 256 << 10,
        }
    }
}

/// A database, as its URL says.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    Sqlite(PathBuf),
    Postgres {
        options: Box<PgConnectOptions>,
        schema: String,
    },
    MySql(Box<MySqlConnectOptions>),
}

impl Location {
    /// Reads a URL. Errors never repeat it whole: it may hold a password.
    pub(crate) fn parse(url: &str, directory: &Path) -> Result<Self, SqlError> {
        let (scheme, rest) = url.split_once(':').ok_or(SqlError::NoScheme)?;
        match scheme {
            "sqlite" => sqlite_path(rest, directory).map(Self::Sqlite),
            "postgres" | "postgresql" => postgres(rest),
            "mysql" | "mariadb" => mysql(rest),
            _ => Err(SqlError::UnknownScheme {
                scheme: scheme.into(),
            }),
        }
    }
}

/// The schema of PostgreSQL that is ours, unless a URL says otherwise.
const SCHEMA: &str = "modelog";

fn postgres(rest: &str) -> Result<Location, SqlError> {
    const KNOWN: &str =
        "`schema`, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `host`, `application_name`";
    let mut schema = SCHEMA.to_owned();
    let rest = settings(rest, KNOWN, |setting| {
        match setting.strip_prefix("schema=") {
            Some(name) => {
                schema = name.to_owned();
                false
            }
            None => true,
        }
    })?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // Another one is named like it, with `_rebuild` behind, and PostgreSQL takes 63 bytes.
    if !(1..=55).contains(&schema.len()) || !schema.chars().all(plain) || schema.starts_with("pg_")
    {
        return Err(SqlError::Malformed {
            reason: "a schema is named by at most 55 small letters, digits and `_`".into(),
        });
    }
    let options: PgConnectOptions = format!("postgres:{rest}").parse().map_err(malformed)?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(SqlError::NoDatabase { scheme: "postgres" });
    }
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("modelog"),
    };
    Ok(Location::Postgres {
        options: Box::new(options),
        schema,
    })
}

fn mysql(rest: &str) -> Result<Location, SqlError> {
    const KNOWN: &str = "`ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key`, `socket`";
    let rest = settings(rest, KNOWN, |_| true)?;
    let options: MySqlConnectOptions = format!("mysql:{rest}").parse().map_err(malformed)?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(SqlError::NoDatabase { scheme: "mysql" });
    }
    Ok(Location::MySql(Box::new(options)))
}

fn malformed(error: sqlx::Error) -> SqlError {
    let reason = match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        other => other.to_string(),
    };
    SqlError::Malformed { reason }
}

/// What follows the scheme, with those settings that `keep` wants. Fails on one that is not known: a driver would pass
/// over it, and with it over what it was to protect.
fn settings(
    rest: &str,
    known: &'static str,
    mut keep: impl FnMut(&str) -> bool,
) -> Result<String, SqlError> {
    let Some((address, settings)) = rest.split_once('?') else {
        return Ok(rest.into());
    };
    let mut kept = Vec::new();
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        let name = setting.split('=').next().unwrap_or_default();
        if !known.contains(&format!("`{name}`")) {
            return Err(SqlError::UnknownSetting {
                name: name.into(),
                known,
            });
        }
        if keep(setting) {
            kept.push(setting);
        }
    }
    Ok(format!("{address}?{}", kept.join("&")))
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

    fn parse(url: &str) -> Result<Location, SqlError> {
        Location::parse(url, Path::new("/data"))
    }

    #[test]
    fn files() {
        let file = |url: &str| match parse(url) {
            Ok(Location::Sqlite(path)) => path,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(
            file("sqlite:sqlite/modelog.db"),
            Path::new("/data/sqlite/modelog.db")
        );
        assert_eq!(file("sqlite://modelog.db"), Path::new("/data/modelog.db"));
        assert_eq!(file("sqlite:///var/ml.db"), Path::new("/var/ml.db"));
        assert_eq!(file("sqlite:/var/a b%20.db"), Path::new("/var/a b%20.db"));
        for memory in ["sqlite:", "sqlite::memory:", "sqlite://", "sqlite:data/"] {
            assert_eq!(parse(memory).unwrap_err(), SqlError::NotAFile, "{memory}");
        }
        assert_eq!(
            parse("sqlite:a.db?mode=ro").unwrap_err(),
            SqlError::UrlSettings {
                settings: "mode=ro".into()
            }
        );
        assert_eq!(parse("modelog.db").unwrap_err(), SqlError::NoScheme);
    }

    #[test]
    fn servers() {
        let url = "postgresql://me:se%40cret@db:5433/ml?schema=models_2&sslmode=verify-full&sslrootcert=/a";
        let Ok(Location::Postgres { options, schema }) = parse(url) else {
            panic!()
        };
        assert_eq!((options.get_host(), options.get_port()), ("db", 5433));
        assert_eq!(options.get_database(), Some("ml"));
        assert_eq!(schema, "models_2");
        assert!(matches!(
            options.get_ssl_mode(),
            sqlx::postgres::PgSslMode::VerifyFull
        ));
        let Ok(Location::MySql(options)) = parse("mariadb://me@db/ml?ssl-mode=REQUIRED") else {
            panic!()
        };
        assert_eq!((options.get_host(), options.get_port()), ("db", 3306));
        assert_eq!(options.get_database(), Some("ml"));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for url in [
            "redis://me:secret@db",
            "postgres://me:secret@db",
            "postgres://me:secret@db/ml?sslmod=require",
            "postgres://me:secret@db/ml?sslmode=always",
            "postgres://me:secret@db/ml?schema=Models",
            "postgres://me:secret@db:port/ml",
            "mysql://me:secret@db/",
            "mysql://me:secret@db/ml?sslmode=required",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
            assert!(error.contains("`sql.url`"), "{error}");
        }
    }
}
