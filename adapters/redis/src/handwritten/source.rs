//! Where such a database is: a URL, with what else there is to say in its query.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::RedisConfig;
use crate::error::RedisError;

/// The longest prefix.
const PREFIX_BYTES_MAX: usize = 200;
const PARAMETERS: &str = "prefix, id_prefix, ca_file, cert_file and key_file";

/// A database that others wrote by hand.
#[derive(Clone)]
pub struct Handwritten {
    pub(super) config: Arc<RedisConfig>,
    pub(super) prefix: String,
    pub(super) id_prefix: String,
    name: String,
}

/// Without the password, which the URL may hold.
impl fmt::Debug for Handwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handwritten").field(&self.name).finish()
    }
}

impl Handwritten {
    /// Whether a text is meant as the URL of one.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        let text = text.get(..9).unwrap_or(text).to_ascii_lowercase();
        text.starts_with("redis://") || text == "rediss://"
    }

    /// The database at a URL: `redis://[user[:password]@]host[:port][/database][?prefix=aidb&id_prefix=old-]`, with TLS
    /// `rediss://…`. `password` is taken if the URL has none; certificates are those of `settings` unless the query names
    /// others: `ca_file=`, `cert_file=`, `key_file=`.
    ///
    /// # Errors
    /// [`RedisError::Setting`], which never holds the URL.
    pub fn at(
        url: &str,
        password: Option<&str>,
        settings: &RedisConfig,
    ) -> Result<Self, RedisError> {
        let refuse = |reason: String| RedisError::Setting {
            setting: "url",
            reason,
        };
        let mut parsed =
            redis::parse_redis_url(url).ok_or_else(|| refuse("is no URL of a Redis".into()))?;
        let mut config = RedisConfig {
            ca_file: settings.ca_file.clone(),
            cert_file: settings.cert_file.clone(),
            key_file: settings.key_file.clone(),
            ..RedisConfig::default()
        };
        let (mut prefix, mut id_prefix) = (config.prefix.clone(), String::new());
        let mut own_files = false;
        for (name, value) in parsed.query_pairs() {
            let file = Some(PathBuf::from(&*value));
            match &*name {
                "prefix" => prefix = value.trim_end_matches(':').to_owned(),
                "id_prefix" => id_prefix = value.into_owned(),
                "ca_file" | "cert_file" | "key_file" => {
                    if !own_files {
                        own_files = true;
                        (config.ca_file, config.cert_file, config.key_file) = (None, None, None);
                    }
                    match &*name {
                        "ca_file" => config.ca_file = file,
                        "cert_file" => config.cert_file = file,
                        _ => config.key_file = file,
                    }
                }
                other => {
                    return Err(refuse(format!(
                        "has the parameter {other}; there are {PARAMETERS}"
                    )));
                }
            }
        }
        for (what, text) in [("prefix", &prefix), ("id_prefix", &id_prefix)] {
            if text.len() > PREFIX_BYTES_MAX || text.chars().any(char::is_control) {
                let reason = format!(
                    "has a {what} that is no prefix: at most {PREFIX_BYTES_MAX} bytes, no control characters"
                );
                return Err(refuse(reason));
            }
        }
        if prefix.is_empty() {
            return Err(refuse("has an empty prefix".into()));
        }
        parsed.set_query(None);
        if let (None, Some(password)) = (parsed.password(), password) {
            parsed
                .set_password(Some(password))
                .map_err(|()| refuse("names no host".into()))?;
        }
        config.url = parsed.to_string();
        config.check()?;
        let scheme = parsed.scheme();
        let database = Some(parsed.path().trim_matches('/')).filter(|path| !path.is_empty());
        let database = database.unwrap_or("0");
        let name = format!("{scheme}://{}/{database}?prefix={prefix}", config.address());
        Ok(Self {
            config: Arc::new(config),
            prefix,
            id_prefix,
            name,
        })
    }

    /// What to call it in messages: without user and password.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What finds the keys below the prefix.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 2);
        for letter in self.prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push_str(":*");
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<Handwritten, String> {
        Handwritten::at(url, Some("fr@m env"), &RedisConfig::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn urls_say_where_and_keep_their_secrets() {
        let found = at("redis://me:s3cret@db:6380/3?prefix=ml%3Atracking:&id_prefix=old-").unwrap();
        assert_eq!(found.name(), "redis://db:6380/3?prefix=ml:tracking");
        assert_eq!(
            (&*found.id_prefix, &*found.config.url),
            ("old-", "redis://me:s3cret@db:6380/3")
        );
        assert!(!format!("{found:?}").contains("s3cret"));
        let plain = at("rediss://db?ca_file=/ca.pem").unwrap();
        assert_eq!(plain.name(), "rediss://db:6379/0?prefix=aidb");
        assert_eq!(plain.config.url, "rediss://:fr%40m%20env@db");
        assert_eq!(plain.config.ca_file, Some("/ca.pem".into()));
        assert_eq!(
            at("redis://db?prefix=a*[b]").unwrap().pattern(),
            "a\\*\\[b\\]:*"
        );
        for url in [
            "redis://me:s3cret@db?prefx=a",
            "redis://me:s3cret@db?prefix=",
            "redis://me:s3cret@db?prefix=a%0Ab",
            "redis://me:s3cret@db#insecure",
            "redis://me:s3cret@db/x",
            "redis://me:s3cret@:x",
            "redis://me:s3cret@db?cert_file=a",
        ] {
            let said = at(url).unwrap_err();
            assert!(!said.contains("s3cret") && !said.contains("fr@m"), "{said}");
        }
    }

    #[test]
    fn urls_are_told_from_files() {
        assert!(Handwritten::is_meant("redis://db") && Handwritten::is_meant("REDISS://db"));
        assert!(
            !Handwritten::is_meant("redis.ndjson")
                && !Handwritten::is_meant("rediss:/x")
                && !Handwritten::is_meant("é")
        );
    }
}
