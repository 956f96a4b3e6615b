//! The form of an answer: JSON, or Arrow for those who ask for it.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema};
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use modelog_engine::read::{MetricPoint, Page, Series, SeriesSummary};
use serde::Serialize;

use super::columns::Columnar;
use crate::codes::Code;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;

pub(super) const JSON: &str = "application/json";
pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";
/// Where the next page of a list in Arrow starts; absent on the last one.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("modelog-next-cursor");
/// Rows of a record batch. A text column of Arrow holds 2 GiB, and values may be large.
const BATCH_ROWS: usize = 256;
/// Items beyond which an answer is written on a thread that may block.
const INLINE_ITEMS: usize = 200;

/// A stretch of a list, as it is sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// To be given as `cursor` for the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

/// The bytes of an Arrow IPC stream, for the API's description.
#[derive(Debug, utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct ArrowStream(Vec<u8>);

/// The form the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Arrow,
}

/// The answer has no form that `Accept` allows, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[response(
    status = 406,
    description = "The answer has no form that `Accept` allows.",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct NotAcceptable<'a>(ProblemBody<'a>);

impl FromRequestParts<AppState> for Form {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Ok(match choose(&parts.headers, [JSON, ARROW])? {
            ARROW => Self::Arrow,
            _ => Self::Json,
        })
    }
}

/// Of two media types the one the client likes best; the first if it does not care.
///
/// # Errors
/// `not_acceptable` if it wants neither.
pub(super) fn choose(
    headers: &HeaderMap,
    offers: [&'static str; 2],
) -> Result<&'static str, Problem> {
    let mut accepted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .peekable();
    if accepted.peek().is_none() {
        return Ok(offers[0]);
    }
    let ranges: Vec<_> = accepted.map(range).collect();
    let [first, second] = offers.map(|offer| liking(&ranges, offer));
    let chosen = if second > first { 1 } else { 0 };
    if [first, second][chosen].0 > 0 {
        Ok(offers[chosen])
    } else {
        let detail = format!("the answer is offered as {} and {}", offers[0], offers[1]);
        Err(Problem::new(Code::NotAcceptable, detail))
    }
}

/// A media range of `Accept` and its weight in thousandths (RFC 9110, 12.4.2); a weight that cannot be read counts as 1.
fn range(text: &str) -> (String, u16) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, weight)| weight.trim().parse::<f32>().ok())
        .filter(|weight| (0.0..=1.0).contains(weight))
        .unwrap_or(1.0);
    (range, (weight * 1000.0) as u16)
}

/// How much a media type is liked: the weight of the most specific range it is in, and how specific that is.
fn liking(ranges: &[(String, u16)], offer: &str) -> (u16, u8) {
    let specific = |range: &str| {
        if range == offer {
            2
        } else if range
            .strip_suffix('*')
            .is_some_and(|kind| kind.len() > 2 && kind.ends_with('/') && offer.starts_with(kind))
        {
            1
        } else {
            0
        }
    };
    ranges
        .iter()
        .filter(|(range, _)| specific(range) > 0 || range == "*/*")
        .map(|(range, weight)| (specific(range), *weight))
        .max()
        .map_or((0, 0), |(specific, weight)| (weight, specific))
}

impl Form {
    /// A page of a list.
    ///
    /// # Errors
    /// `internal` if it cannot be written.
    pub(super) async fn list<T>(self, page: Page<T>) -> Result<Response, Problem>
    where
        T: Columnar + Serialize + Send + 'static,
    {
        let cursor = page.next_cursor.clone();
        let items = page.items.len();
        let mut response = render(items, move || match self {
            Self::Json => json_bytes(&List {
                items: page.items,
                next_cursor: page.next_cursor,
            }),
            Self::Arrow => arrow_bytes(&T::schema(), &page.items),
        })
        .await
        .map(|bytes| self.respond(bytes))?;
        if let Some(cursor) = cursor.filter(|_| self == Self::Arrow) {
            let cursor = HeaderValue::from_str(&cursor).map_err(Problem::internal)?;
            response.headers_mut().insert(NEXT_CURSOR, cursor);
        }
        Ok(response)
    }

    /// All series of a run or version.
    ///
    /// # Errors
    /// `internal` if they cannot be written.
    pub(super) async fn summaries(self, items: Vec<SeriesSummary>) -> Result<Response, Problem> {
        let next_cursor = None;
        self.list(Page { items, next_cursor }).await
    }

    /// The points of a series; in Arrow, what belongs to all of them is metadata of the schema.
    ///
    /// # Errors
    /// `internal` if it cannot be written.
    pub(super) async fn series(self, series: Series) -> Result<Response, Problem> {
        let bytes = render(series.points.len(), move || match self {
            Self::Json => json_bytes(&series),
            Self::Arrow => {
                let schema = MetricPoint::schema();
                let mut metadata = vec![
                    ("modelog.name".to_owned(), series.name),
                    (
                        "modelog.total_points".to_owned(),
                        series.total_points.to_string(),
                    ),
                ];
                metadata.extend(
                    series
                        .split
                        .map(|split| ("modelog.split".to_owned(), split)),
                );
                let schema = Schema::clone(&schema).with_metadata(metadata.into_iter().collect());
                arrow_bytes(&schema, &series.points)
            }
        });
        bytes.await.map(|bytes| self.respond(bytes))
    }

    fn respond(self, bytes: Vec<u8>) -> Response {
        let media_type = match self {
            Self::Json => JSON,
            Self::Arrow => ARROW,
        };
        let mut response = respond(media_type, Body::from(bytes));
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        response
    }
}

/// An answer with a body of some type.
pub(super) fn respond(media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A single thing as JSON.
///
/// # Errors
/// `internal` if it cannot be written.
pub(super) fn json(value: &impl Serialize) -> Result<Response, Problem> {
    Ok(respond(JSON, Body::from(json_bytes(value)?)))
}

/// Writes an answer, on another thread if it is large.
async fn render(
    items: usize,
    write: impl FnOnce() -> Result<Vec<u8>, Problem> + Send + 'static,
) -> Result<Vec<u8>, Problem> {
    if items <= INLINE_ITEMS {
        return write();
    }
    tokio::task::spawn_blocking(write)
        .await
        .unwrap_or_else(|panicked| Err(Problem::internal(panicked)))
}

fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(Problem::internal)
}

fn arrow_bytes<T: Columnar>(schema: &Schema, items: &[T]) -> Result<Vec<u8>, Problem> {
    let write = || -> Result<Vec<u8>, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        for items in items.chunks(BATCH_ROWS) {
            let batch: RecordBatch = T::record_batch(items);
            writer.write(&batch)?;
        }
        writer.finish()?;
        writer.into_inner()
    };
    write().map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        choose(&headers, [JSON, ARROW]).ok()
    }

    #[test]
    fn the_form_is_the_one_the_client_likes_best() {
        for (accept, form) in [
            (&[][..], JSON),
            (&["*/*"], JSON),
            (&["application/*"], JSON),
            (&["application/json"], JSON),
            (&["Application/VND.Apache.Arrow.Stream"], ARROW),
            (&["application/vnd.apache.arrow.stream, */*"], ARROW),
            (&["*/*", "application/vnd.apache.arrow.stream"], ARROW),
            (
                &["application/vnd.apache.arrow.stream;q=0.5, application/json"],
                JSON,
            ),
            (
                &["application/vnd.apache.arrow.stream, application/json;q=0.9"],
                ARROW,
            ),
            (&["text/html, */*;q=0.1"], JSON),
            (&["application/json;q=0, */*"], ARROW),
            (&["application/json; charset=utf-8"], JSON),
        ] {
            assert_eq!(chosen(accept), Some(form), "{accept:?}");
        }
    }

    #[test]
    fn a_client_that_wants_something_else_is_told() {
        for accept in [
            &["text/html"][..],
            &["text/*"],
            &["*/*;q=0"],
            &["application"],
            &["*"],
        ] {
            assert_eq!(chosen(accept), None, "{accept:?}");
        }
    }
}
