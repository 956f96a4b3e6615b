//! Answers that are written and not yet taken by their clients, within one bound for all of them.
//!
//! A page of rows is written whole before it is sent, and a client may take a minute to read it, or never read it. What
//! is there for such clients is counted, and the answer that finds no room is `429 backlog`. Small answers are not
//! counted: connections bound them, and whoever only wants to know how things stand is never refused.
//!
//! # Invariants
//! U1. An answer's bytes are counted for as long as they are in memory, whoever holds them.
//! U2. A large answer is never refused when it is alone: it takes all the room there is.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codes::Code;
use crate::problem::Problem;
use crate::state::AppState;

/// Room for all answers, in bytes.
const ROOM_BYTES: usize = 64 << 20;
/// Answers up to this size are not counted.
const SMALL_BYTES: u64 = 64 << 10;
/// Granularity of the accounting, in bytes.
const UNIT: usize = 4096;

/// Room for answers.
pub(crate) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM_BYTES / UNIT))
}

/// Bytes and their place in the room.
struct Untaken {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Untaken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts an answer. Those of unknown length are written at their client's pace, and pass.
pub(crate) async fn count(state: &AppState, answer: Response) -> Response {
    let (head, body) = answer.into_parts();
    let size = body.size_hint().exact().unwrap_or(0);
    if size <= SMALL_BYTES {
        return Response::from_parts(head, body);
    }
    let units = usize::try_from(size).map_or(ROOM_BYTES, |size| size.min(ROOM_BYTES)) / UNIT;
    let Ok(room) = Arc::clone(&state.answers).try_acquire_many_owned(units as u32) else {
        let detail =
            "answers that their clients have not read yet take all the memory there is for them";
        return Problem::new(Code::Backlog, detail).into_response();
    };
    // It is there already, in one piece.
    match body.collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let counted = Bytes::from_owner(Untaken { bytes, _room: room });
            Response::from_parts(head, Body::from(counted))
        }
        Err(error) => Problem::internal(error).into_response(),
    }
}
