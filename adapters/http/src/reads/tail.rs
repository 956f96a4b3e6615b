//! `GET /v1/tail`: events as they are logged, as server-sent events.
//!
//! The stream reads the log at the client's pace: a step is taken when the last one was sent, so nothing is dropped for
//! a slow client and nothing piles up for it. It starts at a position and each event carries the one after it as its
//! `id`; a client that reconnects sends the last it saw as `Last-Event-ID`, and misses and repeats nothing.
//!
//! After a while without events a comment is sent, which keeps proxies from closing the connection, together with the
//! position: a client whose filter takes few events need not look through the others again.
//!
//! The stream ends when the server shuts down or the log is closed; a browser then connects again by itself. If the log
//! cannot be read, a last event of type `problem` says so.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use modelog_engine::LogError;
use modelog_engine::batch::Row;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::respond;
use super::feed::{Events, Feed, Step};
use super::log_parameters::Following;
use super::parameters::Asked;
use super::position::{Lost, Position, Start};
use crate::codes::Code;
use crate::problem::{Problem, Problems};
use crate::state::AppState;

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a client hears nothing at most.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long browsers wait before they connect again, in milliseconds.
const RETRY_MS: u32 = 1000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(tail))
}

/// Follows the log: events as server-sent events, each with the position after it as its `id`.
///
/// Every event of the log is a message whose data is the event as one line of JSON. Between events comments keep the
/// connection open. Should the log become unreadable, an event of the type `problem` says so and the stream ends.
#[utoipa::path(
    get,
    path = "/v1/tail",
    tag = "read",
    params(
        Following,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event seen: goes on after it."),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        Problems,
        Lost,
    )
)]
async fn tail(
    State(state): State<AppState>,
    Asked(asked): Asked<Following>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let start = match last_seen(&headers)?.or(asked.from) {
        Some(start) => start.resolve(engine)?,
        None => Position::here(engine, engine.tail()),
    };
    let feed = Feed::new(engine.reader(start.offset), None);
    let events = Events::new(
        &state.reading,
        feed,
        asked.filter(),
        start.offset,
        start.epoch,
    );
    let stream = follow(events, start, state.draining());
    let mut response = respond(EVENT_STREAM, Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Where a client that was here before goes on.
///
/// # Errors
/// `bad_request` for what is none of our positions.
fn last_seen(headers: &HeaderMap) -> Result<Option<Start>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let start = value.to_str().ok().and_then(|text| text.parse().ok());
    match start {
        Some(start) => Ok(Some(start)),
        None => {
            let detail = "`Last-Event-ID` must be an `id` of this stream, or an offset";
            Err(Problem::new(Code::BadRequest, detail))
        }
    }
}

/// A stream of server-sent events from a position on, until `draining`.
fn follow(
    events: Events,
    start: Position,
    draining: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let opening = format!("retry: {RETRY_MS}\nid: {start}\n\n");
    let follower = Follower {
        events,
        position: start,
        sent: Instant::now(),
        draining: Box::pin(draining),
    };
    let opening = futures_util::stream::iter([Ok(Bytes::from(opening))]);
    let rest = unfold(Some(follower), |follower| async {
        let (chunk, follower) = follower?.next().await?;
        Some((Ok(chunk), follower))
    });
    opening.chain(rest)
}

/// One client's place in the log.
struct Follower<D> {
    events: Events,
    position: Position,
    /// When something was sent last.
    sent: Instant,
    draining: std::pin::Pin<Box<D>>,
}

impl<D: Future<Output = ()> + Send + 'static> Follower<D> {
    /// What is sent next; without a follower it is the last. None if there is nothing more.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            // Also a client that still catches up is let go.
            if (&mut self.draining).now_or_never().is_some() {
                return None;
            }
            let position = self.position;
            let write = move |row: Row<'_>, epoch, out: &mut Vec<u8>| {
                write_event(row, position.at(epoch, row.offset().advance(1)), out);
            };
            let (events, out, step) = match self.events.step_elsewhere(write).await {
                Ok(stepped) => stepped,
                Err(error) => return Some((last_words(&error), None)),
            };
            self.events = events;
            if !out.is_empty() {
                self.sent = Instant::now();
                return Some((out.into(), Some(self)));
            }
            if self.sent.elapsed() >= HEARTBEAT {
                return Some(self.beat());
            }
            match step {
                Step::End => return None,
                Step::More => {}
                Step::Tail => {
                    let grown = tokio::select! {
                        grown = self.events.wait() => Some(grown),
                        () = tokio::time::sleep_until(self.sent + HEARTBEAT) => None,
                        () = &mut self.draining => return None,
                    };
                    match grown {
                        Some(Ok(())) => {}
                        Some(Err(LogError::Closed)) => return None,
                        Some(Err(error)) => return Some((last_words(&error), None)),
                        None => return Some(self.beat()),
                    }
                }
            }
        }
    }

    fn beat(mut self) -> (Bytes, Option<Self>) {
        self.sent = Instant::now();
        let (offset, epoch) = self.events.position();
        let beat = format!(":\nid: {}\n\n", self.position.at(epoch, offset));
        (beat.into(), Some(self))
    }
}

fn write_event(row: Row<'_>, after: Position, out: &mut Vec<u8>) {
    let mut id = String::new();
    write!(id, "id: {after}\ndata: ").expect("a string takes all text");
    out.extend_from_slice(id.as_bytes());
    row.write_json_line(out);
    out.extend_from_slice(b"\n\n");
}

/// The log cannot be read: what a client is told before the stream ends.
fn last_words(error: &LogError) -> Bytes {
    let problem = serde_json::json!({
        "code": Problem::from(error).code.entry().code,
        "detail": error.to_string(),
    });
    format!("event: problem\ndata: {problem}\n\n").into()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use modelog_engine::event::{Event, EventLogged, Kind};
    use modelog_engine::{Engine, Offset};

    use super::*;
    use crate::reads::Reading;
    use modelog_engine::batch::Filter;

    fn stream(
        engine: &Engine,
        draining: impl Future<Output = ()> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let filter = Filter {
            kinds: Some([Kind::RunFinished].into_iter().collect()),
            ..Filter::default()
        };
        let start = Position::here(engine, Offset::ZERO);
        let feed = Feed::new(engine.reader(Offset::ZERO), None);
        let events = Events::new(&Reading::new(1), feed, filter, Offset::ZERO, start.epoch);
        follow(events, start, draining)
    }

    fn id(engine: &Engine, offset: u64) -> String {
        format!("id: {}\n\n", Position::here(engine, Offset(offset)))
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_with_the_position() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path()).unwrap();
        let mut stream = pin!(stream(&engine, pending()));
        let opening = stream.next().await.unwrap().unwrap();
        assert_eq!(opening, format!("retry: 1000\n{}", id(&engine, 0)));
        let started = Instant::now();
        let beat = stream.next().await.unwrap().unwrap();
        assert_eq!(beat, format!(":\n{}", id(&engine, 0)));
        assert_eq!(started.elapsed().as_secs(), 15);
        // What the filter does not take moves the position all the same.
        let event = Event::from(EventLogged {
            name: "x".to_owned(),
            data: None,
        });
        let events = [event.clone(), event.clone(), event];
        engine.append_events(&events).await.unwrap();
        let beat = stream.next().await.unwrap().unwrap();
        assert_eq!(beat, format!(":\n{}", id(&engine, 3)));
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn a_drain_ends_it_while_there_is_more() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path()).unwrap();
        let stream = stream(&engine, ready(()));
        assert_eq!(stream.count().await, 1);
    }
}
