//! One connection, from its first byte to its last answer.
//!
//! hyper has no time-out before a connection's first byte, so it gets the socket when that byte is there. From then on
//! its own time-out bounds the head of every request; since it counts from the answer before, it also ends idle
//! connections.

use std::convert::Infallible;
use std::pin::pin;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
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

/// Serves a connection until it ends, by itself or with the server.
pub(crate) async fn serve(socket: impl Socket, door: Door, router: Router, state: AppState) {
    let mut phase = state.phase.clone();
    let first_byte = timeout(state.config.first_byte_time, socket.readable());
    tokio::select! {
        first = first_byte => match first {
            Ok(Ok(())) => {}
            _ => return,
        },
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(door);
        let answer = router.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let socket = TokioIo::new(Patient::new(socket, state.config.write_time));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(state.config.head_time)
            .max_buf_size(BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .pipeline_flush(true)
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
