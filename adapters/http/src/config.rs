//! Settings of the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::HttpError;

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to listen. Anything but loopback needs a token file and `insecure`.
    pub listen: SocketAddr,
    /// A unix socket that serves the same routes with all rights, to whoever may open the file: its mode is 0600.
    pub control_socket: Option<PathBuf>,
    /// Names, without port, by which the server may be called; IP addresses and localhost always may.
    pub allowed_hosts: Vec<String>,
    /// Tokens and what they allow; without it everyone who reaches the server may do everything.
    pub token_file: Option<PathBuf>,
    /// Listen beyond loopback although nothing is encrypted.
    pub insecure: bool,
    /// The largest body, as sent.
    pub body_bytes: usize,
    /// The largest body, decompressed.
    pub decoded_bytes: usize,
    /// What the bodies of all requests together may take in memory.
    pub bodies_bytes: usize,
    /// The largest value of an event's field.
    pub value_bytes: usize,
    /// The largest event.
    pub event_bytes: usize,
    /// How deep JSON may be nested.
    pub depth: usize,
    /// How many connections there may be; more wait to be accepted.
    pub connections: usize,
    /// How long a new connection may stay silent.
    pub first_byte_time: Duration,
    /// How long the head of a request may take, counted from the answer before it: also how long an idle connection is
    /// kept.
    pub head_time: Duration,
    /// How long a body may take.
    pub body_time: Duration,
    /// How long a client may not take what is sent to it.
    pub write_time: Duration,
    /// How long a shutdown waits for requests under way.
    pub drain_time: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            control_socket: None,
            allowed_hosts: Vec::new(),
            token_file: None,
            insecure: false,
            body_bytes: 64 << 20,
            decoded_bytes: 64 << 20,
            bodies_bytes: 160 << 20,
            value_bytes: 1 << 20,
            event_bytes: 4 << 20,
            depth: 128,
            connections: 1024,
            first_byte_time: Duration::from_secs(10),
            head_time: Duration::from_secs(60),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(10),
        }
    }
}

impl HttpConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn check(&self) -> Result<(), HttpError> {
        let listen = self.listen;
        if !listen.ip().is_loopback() {
            if self.token_file.is_none() {
                return Err(HttpError::NoTokens { listen });
            }
            if !self.insecure {
                return Err(HttpError::NoEncryption { listen });
            }
        }
        for (setting, value) in [
            ("http.body_bytes", self.body_bytes),
            ("http.decoded_bytes", self.decoded_bytes),
            ("http.value_bytes", self.value_bytes),
            ("http.event_bytes", self.event_bytes),
            ("http.depth", self.depth),
            ("http.connections", self.connections),
        ] {
            if value == 0 {
                return Err(wrong(setting, "must not be 0"));
            }
        }
        let deepest = modelog_formats::Limits::DEPTH_MAX;
        if self.depth > deepest {
            return Err(wrong("http.depth", format!("must be at most {deepest}")));
        }
        if self.bodies_bytes < self.body_bytes.saturating_add(self.decoded_bytes) {
            return Err(wrong(
                "http.bodies_bytes",
                "must be at least `http.body_bytes` and `http.decoded_bytes` together",
            ));
        }
        for name in &self.allowed_hosts {
            let sound = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
            if !sound {
                return Err(wrong(
                    "http.allowed_hosts",
                    format!(
                        "takes names without port or scheme, such as modelog.example, not {name:?}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn wrong(setting: &'static str, reason: impl Into<String>) -> HttpError {
    HttpError::Setting {
        setting,
        reason: reason.into(),
    }
}
