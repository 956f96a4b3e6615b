//! From a body to the log: decompressing, decoding, appending.
//!
//! Small bodies are decoded where they were received. Large ones take a turn on a thread for blocking work, as many at
//! a time as there are processors, so that other requests are answered meanwhile. There everything that takes a
//! processor is done, encoding for the log included: an append is started by polling it once. What remains is waiting
//! for the disk, and that needs no thread.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use modelog_engine::origin::Origin;
use modelog_engine::{AppendError, AppendOptions, Appended, Engine};
use modelog_formats::{Decoded, Limits, Options};

use crate::body::Received;
use crate::encoding::Encoding;
use crate::problem::{ERRORS_MAX, Problem};
use crate::retry::Retry;
use crate::state::AppState;

/// Bodies up to this size are decoded at once: it takes less time than handing them on.
const AT_ONCE_BYTES: usize = 32 << 10;

/// A request to append, all but its meaning.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) received: Received,
    pub(crate) options: AppendOptions,
    pub(crate) retry: Option<Retry>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) appended: Appended,
    pub(crate) unknown_fields: BTreeMap<String, u64>,
    /// What the decoder found worth keeping.
    pub(crate) kept: T,
}

type Pending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// An append that was started.
struct Started<T> {
    append: Append,
    unknown_fields: BTreeMap<String, u64>,
    kept: T,
}

enum Append {
    Ended(Result<Appended, AppendError>),
    Waiting(Pending),
}

/// Decodes and appends; durable when it returns.
pub(crate) async fn append<T: Send + 'static>(
    state: &AppState,
    call: Call,
    decode: impl FnOnce(&[u8]) -> Result<(Decoded, T), Problem> + Send + 'static,
) -> Result<Done<T>, Problem> {
    let engine = state.engine().clone();
    let limit = state.config.decoded_bytes;
    let small = call.received.bytes.len() <= AT_ONCE_BYTES;
    let started = if small && call.received.encoding == Encoding::Identity {
        start(&engine, limit, call, decode)?
    } else {
        let turn = Arc::clone(&state.turns).acquire_owned().await;
        let work = move || {
            let started = start(&engine, limit, call, decode);
            drop(turn);
            started
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(Problem::internal)??
    };
    let outcome = match started.append {
        Append::Ended(outcome) => outcome,
        Append::Waiting(pending) => pending.await,
    };
    Ok(Done {
        appended: outcome?,
        unknown_fields: started.unknown_fields,
        kept: started.kept,
    })
}

fn start<T>(
    engine: &Engine,
    limit: usize,
    call: Call,
    decode: impl FnOnce(&[u8]) -> Result<(Decoded, T), Problem>,
) -> Result<Started<T>, Problem> {
    let Received {
        bytes,
        encoding,
        mut room,
    } = call.received;
    let bytes = match encoding {
        Encoding::Identity => bytes,
        encoding => Bytes::from(encoding.decode(&bytes, limit, &mut room)?),
    };
    if bytes.len() > limit {
        return Err(crate::body::too_large(limit));
    }
    let source = call.retry.map(|retry| retry.source(&bytes));
    let (decoded, kept) = decode(&bytes)?;
    // From here on the log's own backlog bounds what is in memory.
    drop((bytes, room));
    let Decoded {
        mut batch,
        unknown_fields,
        ..
    } = decoded;
    if let Some(source) = source {
        batch.add_origin(Origin::whole(source));
    }
    let (engine, options) = (engine.clone(), call.options);
    let mut pending: Pending = Box::pin(async move { engine.append(batch, options).await });
    // Whoever awaits it polls it again, with a waker of its own.
    let append = match pending
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(outcome) => Append::Ended(outcome),
        Poll::Pending => Append::Waiting(pending),
    };
    Ok(Started {
        append,
        unknown_fields,
        kept,
    })
}

/// How bodies are decoded, by what the configuration says.
pub(crate) fn decoding(state: &AppState) -> Options {
    let config = &state.config;
    Options {
        limits: Limits {
            value_bytes: config.value_bytes,
            event_bytes: config.event_bytes,
            depth: config.depth,
            errors: ERRORS_MAX,
            ..Limits::default()
        },
        ..Options::default()
    }
}
