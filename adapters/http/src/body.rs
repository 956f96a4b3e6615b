//! Bodies: what they are, read whole, within bounds of size, time and memory.
//!
//! # Invariants
//! B1. No more than `body_bytes` of a body are kept, whatever its head claims.
//! B2. Bytes are counted against the room for all bodies before more of them are read; what finds no room is refused.
//!     Nothing waits for room while holding some.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::binary::CE_SPECVERSION;
use crate::codes::Code;
use crate::encoding::Encoding;
use crate::problem::Problem;
use crate::state::{AppState, BODY_UNIT};

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) room: Room,
}

impl Received {
    /// No body at all.
    pub(crate) fn nothing(state: &AppState) -> Self {
        Self {
            bytes: Bytes::new(),
            encoding: Encoding::Identity,
            room: Room::new(state),
        }
    }
}

/// What a body takes of the room for all bodies; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn new(state: &AppState) -> Self {
        Self {
            all: Arc::clone(&state.bodies),
            taken: None,
        }
    }

    /// Room for so many bytes, for nobody else.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bytes.div_ceil(BODY_UNIT))),
            taken: None,
        }
    }

    /// Takes as much more as is needed to hold so many bytes.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self
            .taken
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(BODY_UNIT).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let full = || {
            Problem::new(
                Code::Backlog,
                "the bodies of other requests take all the memory there is for them",
            )
        };
        let more = u32::try_from(more).map_err(|_| full())?;
        let more = Arc::clone(&self.all)
            .try_acquire_many_owned(more)
            .map_err(|_| full())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken => *taken = Some(more),
        }
        Ok(())
    }
}

/// Reads a body, as it was sent.
pub(crate) async fn receive(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received, Problem> {
    let encoding = Encoding::of(headers)?;
    let mut room = Room::new(state);
    let time = state.config.body_time;
    let bytes = timeout(time, collect(body, state.config.body_bytes, &mut room))
        .await
        .unwrap_or_else(|_| Err(late(time)))?;
    Ok(Received {
        bytes,
        encoding,
        room,
    })
}

async fn collect(mut body: Body, limit: usize, room: &mut Room) -> Result<Bytes, Problem> {
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::new(Code::BadBody, error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let total = first.len() + whole.len() + data.len();
        if total > limit {
            return Err(too_large(limit));
        }
        room.grow_to(total)?;
        // A body that comes in one piece, as small ones do, is not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve_exact(announced as usize);
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.into()
    })
}

pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("the body is larger than the {limit} bytes allowed"),
    )
}

fn late(time: Duration) -> Problem {
    Problem::new(
        Code::RequestTimeout,
        format!("the body took longer than the {time:?} allowed"),
    )
}

/// The media type of a body, in lower case, without parameters.
///
/// # Errors
/// There is none, or it says that the text is not UTF-8.
pub(crate) fn media_type(headers: &HeaderMap, taken: &str) -> Result<String, Problem> {
    let unsupported = |detail: String| {
        Problem::new(
            Code::UnsupportedMediaType,
            format!("{detail}; taken: {taken}"),
        )
    };
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(unsupported("there must be one Content-Type".into()));
    };
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_owned();
    for parameter in parts {
        if let Some(charset) = parameter.strip_prefix("charset=")
            && !matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii")
        {
            return Err(unsupported(format!("text must be UTF-8, not {charset}")));
        }
    }
    Ok(essence)
}

/// Checks that a body is JSON.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    const JSON: &str = "application/json";
    if headers.contains_key(CE_SPECVERSION) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("CloudEvents are taken at /v1/events; taken here: {JSON}"),
        ));
    }
    let found = media_type(headers, JSON)?;
    if found == JSON {
        return Ok(());
    }
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("{found:?} is not taken here; taken: {JSON}"),
    ))
}
