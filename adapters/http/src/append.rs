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
use modelog_engine::batch::EventBatch;
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

/// A call whose body was decoded.
struct Ready<T> {
    batch: EventBatch,
    unknown_fields: BTreeMap<String, u64>,
    kept: T,
}

type Pending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// An append that was started.
enum Started {
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
    let (limit, options) = (state.config.decoded_bytes, call.options);
    let small = call.received.bytes.len() <= AT_ONCE_BYTES;
    let (outcome, unknown_fields, kept);
    if small && call.received.encoding == Encoding::Identity {
        let ready = read(limit, call, decode)?;
        (unknown_fields, kept) = (ready.unknown_fields, ready.kept);
        outcome = engine.append(ready.batch, options).await;
    } else {
        let turn = Arc::clone(&state.turns).acquire_owned().await;
        let work = move || {
            let ready = read(limit, call, decode)?;
            let started = start(&engine, ready.batch, options);
            drop(turn);
            Ok::<_, Problem>((started, ready.unknown_fields, ready.kept))
        };
        let started;
        (started, unknown_fields, kept) = tokio::task::spawn_blocking(work)
            .await
            .map_err(Problem::internal)??;
        outcome = match started {
            Started::Ended(outcome) => outcome,
            Started::Waiting(pending) => pending.await,
        };
    }
    Ok(Done {
        appended: outcome?,
        unknown_fields,
        kept,
    })
}

fn read<T>(
    limit: usize,
    call: Call,
    decode: impl FnOnce(&[u8]) -> Result<(Decoded, T), Problem>,
) -> Result<Ready<T>, Problem> {
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
    Ok(Ready {
        batch,
        unknown_fields,
        kept,
    })
}

/// Starts an append. Whoever awaits it polls it again, with a waker of its own.
fn start(engine: &Engine, batch: EventBatch, options: AppendOptions) -> Started {
    let engine = engine.clone();
    let mut pending: Pending = Box::pin(async move { engine.append(batch, options).await });
    let mut context = Context::from_waker(Waker::noop());
    match pending.as_mut().poll(&mut context) {
        Poll::Ready(outcome) => Started::Ended(outcome),
        Poll::Pending => Started::Waiting(pending),
    }
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
