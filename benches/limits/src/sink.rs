//! A server that reads bodies, and nothing else.

use std::net::SocketAddr;

use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts it in the current runtime, on a free loopback port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> Result<Self> {
        let read = post(|body: Bytes| async move { body.len().to_string() });
        let router = Router::new()
            .route("/{*path}", read)
            .layer(DefaultBodyLimit::disable());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It serves until the task is ended.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }

    /// Where bodies go; every path below `/` will do.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/bodies", self.address)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
