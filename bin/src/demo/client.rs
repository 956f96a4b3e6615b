//! The demo's side of the API: what a user's program would do with any HTTP client.
//!
//! Reads ask for everything this client has written: the end of the last write goes along as `at_least`, and while the
//! store is not there yet, the question is asked again.
//!
//! A signal stops the demo between two calls: a call that is cut off may have its effect all the same, and nobody would
//! know.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::ServerError;
use crate::exit::{Exit, Failed};

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
    written: AtomicU64,
    stopped: AtomicBool,
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
            written: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// Makes no more calls, save those that end what was begun.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Where the server is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Writes to a path of the unified API.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.go_on()?;
        Ok(self.end(path, body).await?)
    }

    /// Ends what was begun, even when stopped.
    pub(super) async fn end(&self, path: &str, body: &Value) -> Result<Value, ServerError> {
        let request = self.request(Method::POST, path).json(body);
        self.write(request, path).await
    }

    /// Sets what a path names.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.go_on()?;
        let request = self.request(Method::PUT, path).json(body);
        Ok(self.write(request, path).await?)
    }

    /// Appends events, one JSON object a line.
    pub(super) async fn append(&self, ndjson: String) -> Result<Value> {
        self.go_on()?;
        let path = "/v1/events";
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/x-ndjson")
            .body(ndjson);
        Ok(self.write(request, path).await?)
    }

    /// Creates something that may be there already.
    pub(super) async fn create(&self, path: &str, body: &Value) -> Result<Created> {
        self.go_on()?;
        match self.end(path, body).await {
            Ok(_) => Ok(Created::Yes),
            Err(ServerError::Refused { status, .. }) if status == StatusCode::CONFLICT => {
                Ok(Created::Differs)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads, as fresh as the last write.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let fresh = format!(
            "{path}{joint}at_least={}",
            self.written.load(Ordering::Relaxed)
        );
        let mut attempt = 1;
        loop {
            self.go_on()?;
            match answer(self.request(Method::GET, &fresh), path).await {
                Err(ServerError::Refused { status, .. })
                    if status == StatusCode::SERVICE_UNAVAILABLE && attempt < ATTEMPTS =>
                {
                    tokio::time::sleep(PAUSE).await;
                    attempt += 1;
                }
                answer => return Ok(answer?),
            }
        }
    }

    fn go_on(&self) -> Result<()> {
        if self.is_stopped() {
            let message = "stopped by a signal; what was logged until then is in the log";
            return Err(Failed::new(Exit::Failure, message).into());
        }
        Ok(())
    }

    async fn write(&self, request: RequestBuilder, path: &str) -> Result<Value, ServerError> {
        let reply: Value = answer(request, path).await?;
        if let Some(end) = reply.get("end_offset").and_then(Value::as_u64) {
            self.written.fetch_max(end, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one a connection, and tells the first lines it was sent.
    async fn server(
        answers: &'static [(&'static str, &'static str)],
    ) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap()).unwrap();
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let read = socket.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                asked.push(request.lines().next().unwrap().to_owned());
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (client, serving)
    }

    #[tokio::test]
    async fn a_read_waits_for_what_was_written() {
        let (client, serving) = server(&[
            ("201 Created", r#"{"end_offset":7}"#),
            ("503 Service Unavailable", r#"{"code":"not_yet"}"#),
            ("200 OK", r#"{"items":[]}"#),
        ])
        .await;
        client.post("/v1/models", &Value::Null).await.unwrap();
        let read: Value = client.get("/v1/runs?limit=1").await.unwrap();
        assert_eq!(read, serde_json::json!({"items": []}));
        let read = "GET /v1/runs?limit=1&at_least=7 HTTP/1.1";
        assert_eq!(
            serving.await.unwrap(),
            ["POST /v1/models HTTP/1.1", read, read]
        );
    }

    #[tokio::test]
    async fn what_was_refused_or_is_not_understood_is_told() {
        let (client, _) = server(&[
            ("409 Conflict", r#"{"code":"entity_conflict"}"#),
            (
                "400 Bad Request",
                r#"{"code":"bad_field","detail":"a name is empty"}"#,
            ),
            ("200 OK", "<html>"),
        ])
        .await;
        let created = client.create("/v1/models", &Value::Null).await.unwrap();
        assert_eq!(created, Created::Differs);
        let refused = client.create("/v1/models", &Value::Null).await.unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("a name is empty") && refused.contains("bad_field"),
            "{refused}"
        );
        let odd = client.get::<Value>("/v1/stats").await.unwrap_err();
        assert!(odd.to_string().starts_with("/v1/stats answered"), "{odd}");
    }

    #[tokio::test]
    async fn once_stopped_it_only_ends_what_was_begun() {
        let (client, serving) = server(&[("200 OK", "{}")]).await;
        client.stop();
        assert!(client.post("/v1/runs", &Value::Null).await.is_err());
        assert!(client.append(String::new()).await.is_err());
        assert!(client.get::<Value>("/v1/stats").await.is_err());
        client.end("/v1/runs/r/finish", &Value::Null).await.unwrap();
        assert_eq!(serving.await.unwrap(), ["POST /v1/runs/r/finish HTTP/1.1"]);
    }
}
