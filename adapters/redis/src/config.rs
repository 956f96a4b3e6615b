//! Settings of the Redis store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::error::RedisError;

/// Settings of the Redis store.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user[:password]@]host[:port][/database]`; with TLS `rediss://…`.
    pub url: String,
    /// What all keys begin with, up to the first colon.
    pub prefix: String,
    /// How many predictions of each version are kept, by time.
    pub predictions_window: usize,
    /// How many points of each series are kept, by step.
    pub metrics_window: usize,
    /// How long a prediction is kept after the log took it; for ever if none.
    pub predictions_ttl: Option<Duration>,
    /// A JSON field of a prediction that is longer than this is left out; the hash says which, and SQL has it.
    pub payload_bytes_max: usize,
    /// The feeds that are written.
    pub streams: Streams,
    /// About how many entries each stream keeps.
    pub stream_length: usize,
    /// The certificate of who signs the server's, in a PEM file; without it, those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, in PEM files, for servers that ask for one.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How long a connection may take to be made.
    pub connect_time: Duration,
    /// How long a reply may take.
    pub response_time: Duration,
    /// How long a reply to a question may take, since somebody waits, and another store has the answer too.
    pub read_time: Duration,
    /// How much a replica may be behind that becomes master: after every connection, so much is written again.
    pub rewind: Duration,
}

/// Which feeds are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    pub predictions: bool,
    pub metrics: bool,
    pub events: bool,
}

impl Streams {
    /// The feeds of these names.
    ///
    /// # Errors
    /// The first name that is none.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut streams = Self {
            predictions: false,
            metrics: false,
            events: false,
        };
        for name in names {
            match name {
                "predictions" => streams.predictions = true,
                "metrics" => streams.metrics = true,
                "events" => streams.events = true,
                unknown => return Err(unknown),
            }
        }
        Ok(streams)
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.predictions, "predictions"),
            (self.metrics, "metrics"),
            (self.events, "events"),
        ]
        .into_iter()
        .filter_map(|(wanted, name)| wanted.then_some(name))
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://localhost:6379".into(),
            prefix: "aidb".into(),
            predictions_window: 10_000,
            metrics_window: 100_000,
            predictions_ttl: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            payload_bytes_max: 64 << 10,
            streams: Streams {
                predictions: true,
                metrics: true,
                events: true,
            },
            stream_length: 10_000,
            ca_file: None,
            cert_file: None,
            key_file: None,
            connect_time: Duration::from_secs(5),
            response_time: Duration::from_secs(10),
            read_time: Duration::from_secs(1),
            rewind: Duration::from_secs(10),
        }
    }
}

/// What is wrong with a setting.
pub(crate) fn refuse(setting: &'static str, reason: impl ToString) -> RedisError {
    RedisError::Setting {
        setting,
        reason: reason.to_string(),
    }
}

/// Without the password, which the URL may hold.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.address())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// Checks settings that can be checked without a server.
    ///
    /// # Errors
    /// [`RedisError::Setting`], with the setting's name in its section.
    pub fn check(&self) -> Result<(), RedisError> {
        let refuse = |setting, reason: &str| Err(refuse(setting, reason));
        if let Err(reason) = self.info() {
            return refuse("url", &reason);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(legal) {
            let reason = "must be 1 to 64 letters, digits, `-`, `_` or `.`";
            return refuse("prefix", reason);
        }
        for (setting, value) in [
            ("predictions_window", self.predictions_window),
            ("metrics_window", self.metrics_window),
            ("stream_length", self.stream_length),
        ] {
            if value == 0 {
                return refuse(setting, "must be at least 1");
            }
        }
        if self
            .predictions_ttl
            .is_some_and(|ttl| ttl < Duration::from_secs(1))
        {
            return refuse("ttl.predictions", "must be at least 1s");
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return refuse(
                "cert_file",
                "needs `redis.key_file`, and the other way round",
            );
        }
        Ok(())
    }

    /// Where the server is, without what must stay secret.
    #[must_use]
    pub fn address(&self) -> String {
        match self.info() {
            Ok(info) => info.addr().to_string(),
            Err(_) => "?".into(),
        }
    }

    fn info(&self) -> Result<ConnectionInfo, String> {
        if !self.url.starts_with("redis://") && !self.url.starts_with("rediss://") {
            return Err("must begin with redis:// or rediss://".into());
        }
        if self.url.contains('#') {
            // The crate takes `#insecure` for leave to believe any certificate.
            return Err("must not have a part behind `#`".into());
        }
        let info = self.url.as_str().into_connection_info();
        info.map_err(|error| match error.detail() {
            // Never the URL itself.
            Some(detail) => format!("cannot be used: {detail}"),
            None => "cannot be used".into(),
        })
    }

    /// Where to connect to, and as whom.
    pub(crate) fn connection(&self) -> Result<ConnectionInfo, RedisError> {
        self.info().map_err(|reason| refuse("url", reason))
    }

    /// A file that a setting names.
    pub(crate) fn read(&self, path: &Option<PathBuf>) -> Result<Option<Vec<u8>>, RedisError> {
        let Some(path) = path else {
            return Ok(None);
        };
        match std::fs::read(path) {
            Ok(read) => Ok(Some(read)),
            Err(source) => Err(RedisError::File {
                path: path.clone(),
                source,
            }),
        }
    }

    /// What makes connections.
    pub(crate) fn client(&self) -> Result<Client, RedisError> {
        let info = self.connection()?;
        let unreachable = |source| RedisError::Unreachable {
            address: self.address(),
            source,
        };
        if !self.url.starts_with("rediss://") {
            return Client::open(info).map_err(unreachable);
        }
        let own = self.read(&self.cert_file)?.zip(self.read(&self.key_file)?);
        let certificates = TlsCertificates {
            client_tls: own.map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            }),
            root_cert: self.read(&self.ca_file)?,
        };
        Client::build_with_tls(info, certificates).map_err(unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut RedisConfig)) -> Option<String> {
        let mut config = RedisConfig::default();
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn settings_are_checked_and_secrets_kept() {
        assert_eq!(problem(|_| ()), None);
        assert_eq!(
            problem(|config| config.url = "rediss://ml:secret@db:6380/3".into()),
            None
        );
        for url in [
            "",
            "http://db",
            "redis://me:secret@:x",
            "rediss://db#insecure",
        ] {
            let said = problem(|config| config.url = url.into()).unwrap();
            assert!(said.contains("url") && !said.contains("secret"), "{said}");
        }
        for prefix in ["", "a:b", "a{b}", "ä", "a*"] {
            assert!(
                problem(|config| config.prefix = prefix.into()).is_some(),
                "{prefix}"
            );
        }
        assert!(problem(|config| config.predictions_window = 0).is_some());
        assert!(problem(|config| config.cert_file = Some("x".into())).is_some());
        let config = RedisConfig {
            url: "redis://ml:secret@db:6380".into(),
            ..RedisConfig::default()
        };
        assert_eq!(config.address(), "db:6380");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
