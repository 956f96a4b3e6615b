//! `GET /v1/events`: a finite stretch of the log, as JSON lines or, one kind at a time, as an Arrow stream.
//!
//! The answer is written while the client reads it, in pieces of a bounded size, however long the log is. It ends where
//! the log ended when the request arrived, or where it ended at a moment before. If the log cannot be read on, the connection is cut without the end of the
//! body, so that no client takes a part for the whole.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::VARY;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::try_unfold;
use futures_util::{Stream, StreamExt as _};
use modelog_engine::batch::Row;
use modelog_engine::{Offset, chain};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{ARROW, ArrowStream, NotAcceptable, choose, respond};
use super::arrow_events::{ArrowEvents, ArrowEventsError};
use super::feed::{Events, Feed, Step, elsewhere};
use super::fresh::OFFSET;
use super::log_parameters::Stretch;
use super::parameters::Asked;
use super::position::{Lost, Start};
use crate::problem::{Problem, Problems};
use crate::state::AppState;

const NDJSON: &str = "application/x-ndjson";
/// Of which log the events are: places in it mean nothing in another one.
const LOG: HeaderName = HeaderName::from_static("modelog-log");

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_events))
}

/// Reads a stretch of the log: every event that fits, in log order, one line of JSON each; or events of one kind as an
/// Arrow stream.
///
/// The stretch ends where the log ended when the request arrived, or at `until`; `Modelog-Offset` says where, so that
/// the next call can go on `from` there, and `Modelog-Log` says of which log.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "read",
    params(Stretch),
    responses(
        (
            status = 200,
            content(
                (String = "application/x-ndjson"),
                (ArrowStream = "application/vnd.apache.arrow.stream"),
            ),
            headers(
                ("Modelog-Offset" = u64, description = "The end of the stretch."),
                ("Modelog-Log" = String, description = "The UUID of the log that the events are of."),
            )
        ),
        Problems,
        Lost,
        NotAcceptable,
    )
)]
async fn read_events(
    State(state): State<AppState>,
    Asked(asked): Asked<Stretch>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let media_type = choose(&headers, [NDJSON, ARROW])?;
    let tail = engine.tail();
    let start = asked.from.unwrap_or(Start::Offset(Offset::ZERO));
    let from = start.resolve(engine)?.offset;
    let until = match asked.until {
        None => tail,
        Some(until) => {
            let engine = engine.clone();
            elsewhere(move || until.resolve(&engine, tail))
                .await
                .flatten()
                .map_err(|error| Problem::from(&error))?
        }
    };
    let feed = Feed::new(engine.reader(from), Some(until));
    let source = match (media_type, asked.kind.as_deref()) {
        (ARROW, Some([kind])) => {
            let kind = *kind;
            let events = ArrowEvents::new(&state.reading, feed, asked.filter(), kind, from)?;
            Source::Arrow(Box::new(events))
        }
        (ARROW, _) => {
            let message = "must name one kind: an Arrow stream has one schema";
            return Err(Problem::bad_parameter("kind", message));
        }
        _ => {
            let events = Events::new(&state.reading, feed, asked.filter(), from, engine.epoch());
            Source::Lines(Box::new(events))
        }
    };
    // What is wrong from the start is still told as a problem.
    let (first, rest) = source.piece().await?;
    let mut response = respond(media_type, Body::from_stream(body(first, rest)));
    let headers = response.headers_mut();
    headers.insert(OFFSET, until.0.into());
    let log = HeaderValue::from_str(&engine.log_id().to_string());
    headers.insert(LOG, log.expect("a UUID is plain text"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The body, written as it is read.
fn body(
    first: Bytes,
    rest: Option<Source>,
) -> impl Stream<Item = Result<Bytes, ArrowEventsError>> + Send {
    let first = futures_util::stream::iter([Ok(first)]);
    let rest = try_unfold(rest, |rest| async {
        let Some(source) = rest else {
            return Ok(None);
        };
        source.next().await.inspect_err(|error| {
            tracing::error!(reason = %chain(error), "an answer was cut short: the log cannot be read");
        })
    });
    first.chain(rest)
}

/// What the body is made of.
enum Source {
    Lines(Box<Events>),
    Arrow(Box<ArrowEvents>),
}

impl Source {
    /// The next piece, and what is left to do; with the last piece nothing is.
    async fn piece(self) -> Result<(Bytes, Option<Self>), ArrowEventsError> {
        let (source, piece, step) = match self {
            Self::Arrow(events) => {
                let (events, piece, step) = events.step_elsewhere().await?;
                (Self::Arrow(Box::new(events)), piece, step)
            }
            Self::Lines(events) => {
                let write = |row: Row<'_>, _, out: &mut Vec<u8>| {
                    row.write_json_line(out);
                    out.push(b'\n');
                };
                let (events, piece, step) = events.step_elsewhere(write).await?;
                (Self::Lines(Box::new(events)), piece, step)
            }
        };
        // The stretch ends at the tail at the latest.
        let rest = (step == Step::More).then_some(source);
        Ok((piece.into(), rest))
    }

    /// The next piece that is not empty; none at the end.
    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, ArrowEventsError> {
        loop {
            match self.piece().await? {
                (piece, rest) if !piece.is_empty() => return Ok(Some((piece, rest))),
                (_, Some(rest)) => self = rest,
                (_, None) => return Ok(None),
            }
        }
    }
}
