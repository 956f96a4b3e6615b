//! Why the server could not start, or had to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(
        "`http.listen` is {listen}, which other machines can reach, without `http.token_file`: name a token file, or listen on 127.0.0.1"
    )]
    NoTokens { listen: SocketAddr },
    #[error(
        "`http.listen` is {listen}, which other machines can reach, without encryption: put a proxy with TLS in front and listen on 127.0.0.1, or set `http.insecure = true` to send tokens and data in the clear"
    )]
    NoEncryption { listen: SocketAddr },
    #[error("`{setting}` {reason}")]
    Setting {
        setting: &'static str,
        reason: String,
    },
    #[error("cannot listen on {listen}; choose another port with --listen, or stop who uses it")]
    Listen {
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on the control socket {}", path.display())]
    ControlSocket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("line {line} of the token file {}: {reason}", path.display())]
    TokenLine {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("the token file {} can be changed by others: run `chmod 600` on it", path.display())]
    TokenFileOpen { path: PathBuf },
}

impl HttpError {
    /// Whether the configuration must be changed, rather than the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::NoTokens { .. }
            | Self::NoEncryption { .. }
            | Self::Setting { .. }
            | Self::TokenFile { .. }
            | Self::TokenLine { .. }
            | Self::TokenFileOpen { .. } => true,
            Self::Listen { .. } | Self::ControlSocket { .. } => false,
        }
    }
}
