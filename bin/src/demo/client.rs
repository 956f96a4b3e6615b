//! The demo's side of the API: what a user's program would do with any HTTP client.
//!
//! Reads ask for everything this client has written: the end of the last write goes along as `at_least`, and where the
//! store is not there yet, the question is asked again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How often a read is repeated that asks for more than the store holds. The server waits before it says so.
const PATIENCE: u32 = 60;
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

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    /// It was taken, or had been taken before.
    Taken(Value),
    /// The entity exists and differs.
    Conflict,
}

/// An error as the API tells it (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    code: String,
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
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.taken(Method::POST, path, body).await
    }

    /// Sets what a path names.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.taken(Method::PUT, path, body).await
    }

    /// Writes, where an entity of that name may be there already.
    pub(super) async fn create(&self, path: &str, body: &Value) -> Result<Written> {
        let request = self.request(Method::POST, path).json(body);
        let response = send(request, &Method::POST, path).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(Written::Conflict);
        }
        let reply = reply(response, &Method::POST, path).await?;
        self.remember(&reply);
        Ok(Written::Taken(reply))
    }

    /// Appends events, one JSON object a line.
    pub(super) async fn append(&self, ndjson: String) -> Result<Value> {
        let path = "/v1/events";
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/x-ndjson")
            .body(ndjson);
        let reply: Value = reply(
            send(request, &Method::POST, path).await?,
            &Method::POST,
            path,
        )
        .await?;
        self.remember(&reply);
        Ok(reply)
    }

    /// Reads, as fresh as the last write; none if there is no such thing.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let fresh = format!("{path}{joint}at_least={}", self.end.load(Ordering::Relaxed));
        for _ in 0..PATIENCE {
            let response = send(self.request(Method::GET, &fresh), &Method::GET, path).await?;
            match response.status() {
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(PAUSE).await,
                _ => return reply(response, &Method::GET, path).await.map(Some),
            }
        }
        bail!("GET {path}: the store does not keep up with the log")
    }

    /// Reads what is there.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.find(path)
            .await?
            .with_context(|| format!("GET {path}: not found, though it was written"))
    }

    async fn taken(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.request(method.clone(), path).json(body);
        let reply: Value = reply(send(request, &method, path).await?, &method, path).await?;
        self.remember(&reply);
        Ok(reply)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    fn remember(&self, reply: &Value) {
        if let Some(end) = reply.get("end_offset").and_then(Value::as_u64) {
            self.end.fetch_max(end, Ordering::Relaxed);
        }
    }
}

async fn send(request: RequestBuilder, method: &Method, path: &str) -> Result<Response> {
    request
        .send()
        .await
        .with_context(|| format!("{method} {path}: no answer"))
}

/// The body of a good answer; what the problem says of a bad one.
async fn reply<T: DeserializeOwned>(response: Response, method: &Method, path: &str) -> Result<T> {
    let status = response.status();
    let body = response
        .bytes()
        .await
        .with_context(|| format!("{method} {path}: the answer broke off"))?;
    if !status.is_success() {
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        bail!("{method} {path}: {status}{}", problem.in_words());
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("{method} {path}: the answer is not what was expected"))
}

impl Problem {
    fn in_words(&self) -> String {
        [&self.code, &self.title, &self.detail]
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(|text| format!(": {text}"))
            .collect()
    }
}
