//! A running server, seen from a command: through the control socket of its data directory, or by URL.
//!
//! The control socket has all rights and needs no token: whoever may open it may do anything to the directory anyway.
//! Requests that may be repeated are repeated while the server is away or busy, for as long as [`PATIENCE`] lasts.

use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::CONTROL_SOCKET;
use crate::exit::{Exit, Failed};

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The longest silence of a server; followers hear from it every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How long a request is repeated, in all.
const PATIENCE: Duration = Duration::from_secs(60);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// A little less than the longest path of a unix socket: the server makes the socket under a name of its own first.
const SOCKET_PATH_MAX: usize = 100;

/// A server to talk to.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    /// What to call it in messages.
    what: String,
    /// The control socket, if it is reached through one.
    socket: Option<PathBuf>,
    /// Keeps a path through `/proc/self/fd` good.
    _directory: Option<File>,
}

/// A problem as the API describes it; absent parts are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) remedy: String,
    pub(crate) errors: Vec<ErrorPlace>,
    pub(crate) errors_total: Option<u64>,
}

/// One thing that is wrong with what was sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorPlace {
    pub(crate) event: Option<u64>,
    pub(crate) line: Option<u64>,
    pub(crate) byte: Option<u64>,
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("{what} cannot be reached")]
    Unreachable {
        what: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{what} answered {status}: {}", describe(.problem))]
    Refused {
        what: String,
        status: StatusCode,
        problem: Box<Problem>,
    },
    #[error("{what} answered something that this program does not understand")]
    Malformed {
        what: String,
        #[source]
        source: serde_json::Error,
    },
}

fn describe(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    if !problem.remedy.is_empty() {
        let _ = write!(text, ". {}", problem.remedy);
    }
    if !problem.code.is_empty() {
        let _ = write!(text, " ({})", problem.code);
    }
    text
}

impl ServerError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::Malformed { .. } => Exit::Failure,
            Self::Refused { status, .. } => match status.as_u16() {
                401 | 403 => Exit::Config,
                429 | 503 => Exit::Unavailable,
                400..=499 => Exit::BadData,
                _ => Exit::Failure,
            },
        }
    }

    /// The problem the server described.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            Self::Unreachable { .. } | Self::Malformed { .. } => None,
        }
    }

    /// Whether the same request may succeed later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502..=504),
            Self::Malformed { .. } => false,
        }
    }
}

impl Client {
    /// The server at a URL.
    ///
    /// # Errors
    /// If the URL is none that can be spoken to.
    pub(crate) fn at_url(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&base)
            .map_err(|error| Failed::usage(format!("--url {url} is no URL: {error}")))?;
        match parsed.scheme() {
            "http" => {}
            "https" => {
                return Err(Failed::usage(format!(
                    "--url {url}: this program speaks no TLS; go through a tunnel, such as \
                     `ssh -L 7070:127.0.0.1:7070 HOST`, to http://127.0.0.1:7070"
                )));
            }
            _ => {
                return Err(Failed::usage(format!(
                    "--url {url} must start with http://"
                )));
            }
        }
        Ok(Self {
            http: client().read_timeout(SILENCE_MAX).build()?,
            what: format!("the server at {base}"),
            base,
            token,
            socket: None,
            _directory: None,
        })
    }

    /// The server that holds a data directory; `None` if none answers there.
    ///
    /// # Errors
    /// If the socket exists and may not be used.
    pub(crate) fn of_directory(data: &Path) -> std::io::Result<Option<Self>> {
        let connected = socket_path(data).and_then(|(path, directory)| {
            UnixStream::connect(&path)?;
            Ok((path, directory))
        });
        let (path, directory) = match connected {
            Ok(found) => found,
            // No such directory, no socket, or one that a killed server left.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let http = client()
            .read_timeout(SILENCE_MAX)
            .unix_socket(path.clone())
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Some(Self {
            http,
            base: "http://localhost".into(),
            token: None,
            what: format!("the server that holds {}", data.display()),
            socket: Some(path),
            _directory: directory,
        }))
    }

    /// The same server, however long it is silent: for work that takes as long as it takes.
    ///
    /// # Errors
    /// If there is no more room for connections in this process.
    pub(crate) fn patient(self) -> reqwest::Result<Self> {
        let mut http = client();
        if let Some(socket) = &self.socket {
            http = http.unix_socket(socket.clone());
        }
        let http = http.build()?;
        Ok(Self { http, ..self })
    }

    /// What to call it in messages.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// A request to a path of the API.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// [`ServerError`] if there is no answer, or one of failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ServerError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            detail: String::from_utf8_lossy(&body).chars().take(500).collect(),
            ..Problem::default()
        });
        Err(ServerError::Refused {
            what: self.what.clone(),
            status,
            problem: Box::new(problem),
        })
    }

    /// Sends a request that has the same effect however often it arrives, until it is answered for good.
    ///
    /// # Errors
    /// As [`send`](Self::send): the last failure.
    pub(crate) async fn send_repeatedly(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, ServerError> {
        let mut waited = Duration::ZERO;
        let mut delay = DELAY_MIN;
        loop {
            let error = match self.send(request()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !error.is_passing() || waited >= PATIENCE {
                return Err(error);
            }
            tracing::debug!(error = %modelog_engine::chain(&error), ?delay, "trying again");
            tokio::time::sleep(delay).await;
            waited += delay;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }

    /// The JSON answer to a `GET`.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        self.parse(response).await
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) async fn parse<T: DeserializeOwned>(
        &self,
        response: Response,
    ) -> Result<T, ServerError> {
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|source| ServerError::Malformed {
            what: self.what.clone(),
            source,
        })
    }

    /// A connection that broke.
    pub(crate) fn unreachable(&self, source: reqwest::Error) -> ServerError {
        ServerError::Unreachable {
            what: self.what.clone(),
            // The URL is named already.
            source: source.without_url(),
        }
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIME)
        .user_agent(concat!("modelog/", env!("CARGO_PKG_VERSION")))
}

/// The path of a data directory's control socket. One that is too long for a socket's address leads through the open
/// directory, which must be kept for as long as the path is used.
///
/// # Errors
/// If the directory cannot be opened.
pub(crate) fn socket_path(data: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    let path = data.join(CONTROL_SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((path, None));
    }
    let directory = File::open(data)?;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok((Path::new(&link).join(CONTROL_SOCKET), Some(directory)))
}

/// A path or query part, percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A query of the parts that are given.
pub(crate) fn query(parts: &[(&str, Option<String>)]) -> String {
    let mut query = String::new();
    for (name, value) in parts {
        if let Some(value) = value {
            query.push(if query.is_empty() { '?' } else { '&' });
            let _ = write!(query, "{name}={}", encoded(value));
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_url() {
        assert_eq!(encoded("org/model é"), "org%2Fmodel%20%C3%A9");
        assert_eq!(
            query(&[
                ("kind", Some("MetricLogged".into())),
                ("run", None),
                ("model", Some("a&b".into()))
            ]),
            "?kind=MetricLogged&model=a%26b"
        );
        assert_eq!(query(&[("run", None)]), "");
    }

    #[test]
    fn long_paths_are_reached_through_their_directory() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("d".repeat(120));
        assert!(socket_path(&data).is_err());
        std::fs::create_dir(&data).unwrap();
        let (path, directory) = socket_path(&data).unwrap();
        assert!(path.as_os_str().len() < SOCKET_PATH_MAX && directory.is_some());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(data.join(CONTROL_SOCKET).exists());
        drop(listener);
    }
}
