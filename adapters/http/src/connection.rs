//! One connection, from its first byte to its last answer.
//!
//! hyper has no time-out before a connection's first byte, so it gets the socket when that byte is there. From then on
//! its own time-out bounds the head of every request; since it counts from the answer before, it also ends idle
//! connections. Its `pipeline_flush` stays off: with it, an answer to a request whose body was not read to the end is
//! never sent (hyper 1.12: the flush waits for the unread bytes to be read).
//!
//! A client may close its half of the connection once it has sent its request (`nc -N`, and programs that write a file
//! to a socket): the request is served, and answered. Whether the client is still there shows when it is written to.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tower::Service as _;

use crate::gate::Door;
use crate::state::{AppState, Phase};
use crate::stream::{Patient, Socket};

/// The largest head of a request, and how much of a body is read at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// A body that tells whether all of it was read.
struct Watched {
    body: Incoming,
    unread: Arc<AtomicBool>,
}

impl Watched {
    /// The body, and where it tells. A connection serves one request after the other, so there is one place for all.
    fn body(body: Incoming, unread: &Arc<AtomicBool>) -> Body {
        let empty = body.is_end_stream();
        unread.store(!empty, Ordering::Relaxed);
        if empty {
            return Body::empty();
        }
        Body::new(Self {
            body,
            unread: Arc::clone(unread),
        })
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.unread.store(false, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves a connection until it ends, by itself or with the server.
pub(crate) async fn serve(socket: impl Socket, door: Door, router: Router, state: AppState) {
    let mut phase = state.phase.clone();
    let first_byte = timeout(state.config.first_byte_time, socket.first_byte());
    tokio::select! {
        first = first_byte => match first {
            Ok(Ok(())) => {}
            _ => return,
        },
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
    }
    let unread = Arc::new(AtomicBool::new(false));
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let mut request = Request::from_parts(head, Watched::body(body, &unread));
        request.extensions_mut().insert(door);
        let answer = router.clone().call(request);
        let unread = Arc::clone(&unread);
        async move {
            let mut answer = answer.await.unwrap_or_else(|never| match never {});
            // hyper closes a connection whose request was not read to its end, and the client must know beforehand.
            if unread.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let socket = TokioIo::new(Patient::new(socket, state.config.write_time));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(state.config.head_time)
            .half_close(true)
            .max_buf_size(BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .serve_connection(socket, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                _ = phase.wait_for(|phase| *phase >= Phase::Ending) => return,
            }
        }
    };
    if let Err(error) = ended {
        // Clients break connections all the time: of interest to who looks for it.
        tracing::debug!(%error, "a connection ended early");
    }
}
