//! The demo's side of the API: what a user's program would do with any HTTP client.
//!
//! Reads ask for everything this client has written: the end of the last write goes along as `at_least`, and while the
//! store is not there yet, the question is asked again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::ServerError;

/// How often a read is asked that wants more than the store holds. The server itself waits before it says so.
const ATTEMPTS: u32 = 60;
/// The pause between them.
const PAUSE: Duration = Duration::from_millis(250);
/// For a reply; loopback answers at once unless the machine is overwhelmed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    /// The end of the last write.
    end: AtomicU64,
}

/// What became of a call that creates something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there as the call says.
    Yes,
    /// It was there before, and differs.
    Differs,
}

impl Client {
    /// A client of the server at a loopback address.
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        let http = reqwest::Client::builder()
            // A proxy of the environment has no business between us and our own loopback.
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Self {
            http,
            base: format!("http://{address}"),
            end: AtomicU64::new(0),
        })
    }

    /// Where the server is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Writes to a path of the unified API.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ServerError> {
        self.write(self.request(Method::POST, path).json(body), path)
            .await
    }

    /// Sets what a path names.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, ServerError> {
        self.write(self.request(Method::PUT, path).json(body), path)
            .await
    }

    /// Appends events, one JSON object a line.
    pub(super) async fn append(&self, ndjson: String) -> Result<Value, ServerError> {
        let path = "/v1/events";
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/x-ndjson")
            .body(ndjson);
        self.write(request, path).await
    }

    /// Creates something that may be there already.
    pub(super) async fn create(&self, path: &str, body: &Value) -> Result<Created, ServerError> {
        match self.post(path, body).await {
            Ok(_) => Ok(Created::Yes),
            Err(ServerError::Refused { status, .. }) if status == StatusCode::CONFLICT => {
                Ok(Created::Differs)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads, as fresh as the last write.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServerError> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let fresh = format!("{path}{joint}at_least={}", self.end.load(Ordering::Relaxed));
        let mut attempt = 1;
        loop {
            match answer(self.request(Method::GET, &fresh), path).await {
                Err(ServerError::Refused { status, .. })
                    if status == StatusCode::SERVICE_UNAVAILABLE && attempt < ATTEMPTS =>
                {
                    tokio::time::sleep(PAUSE).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn write(&self, request: RequestBuilder, path: &str) -> Result<Value, ServerError> {
        let reply: Value = answer(request, path).await?;
        if let Some(end) = reply.get("end_offset").and_then(Value::as_u64) {
            self.end.fetch_max(end, Ordering::Relaxed);
        }
        Ok(reply)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }
}

/// The body of a good answer; what the problem says of a bad one.
async fn answer<T: DeserializeOwned>(
    request: RequestBuilder,
    path: &str,
) -> Result<T, ServerError> {
    let (status, body) = exchange(request)
        .await
        .map_err(|source| ServerError::Unreachable {
            what: path.to_owned(),
            source: source.without_url(),
        })?;
    if !status.is_success() {
        return Err(ServerError::Refused {
            what: path.to_owned(),
            status,
            problem: serde_json::from_slice(&body).unwrap_or_default(),
        });
    }
    serde_json::from_slice(&body).map_err(|source| ServerError::Malformed {
        what: path.to_owned(),
        source,
    })
}

async fn exchange(request: RequestBuilder) -> reqwest::Result<(StatusCode, Vec<u8>)> {
    let response: Response = request.send().await?;
    let status = response.status();
    Ok((status, response.bytes().await?.into()))
}
