//! What is answered when something is wrong: RFC 9457 problem JSON.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use modelog_engine::read::ReadError;
use modelog_engine::{AppendError, NotYet, chain};
use modelog_formats::{DecodeErrors, LocatedError};
use serde::Serialize;

use crate::codes::Code;

/// The media type of every problem.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The one error of decoding that concerns the size of a whole body.
const BATCH_TOO_LARGE: &str = "batch_too_large";
/// How many located errors an answer holds.
pub(crate) const ERRORS_MAX: usize = 100;

/// Something is wrong with a request, or with what should answer it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    detail: String,
    errors: Vec<ErrorPlace>,
    errors_total: u64,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One thing that is wrong, and where. Absent places do not apply.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorPlace {
    /// Which event of the call, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<u64>,
    /// Which line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// Which byte of the body, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) byte: Option<u64>,
    /// Which field of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// Which query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// What is wrong, in one stable word.
    pub(crate) code: &'static str,
    /// What is wrong, for people.
    pub(crate) message: String,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:modelog:problem:` and the code.
    #[serde(rename = "type")]
    ty: String,
    /// What the code means.
    title: &'a str,
    status: u16,
    /// One word of the catalogue.
    code: &'a str,
    /// What is wrong with this very request.
    detail: &'a str,
    /// What to do about it.
    remedy: &'a str,
    /// Where it is wrong: the first 100 places.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ErrorPlace],
    /// How many places there are in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_total: Option<u64>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            errors_total: 0,
            headers: Vec::new(),
        }
    }

    /// Nothing of that name.
    pub(crate) fn not_found(what: impl std::fmt::Display, name: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {name}"))
    }

    /// A query parameter has a value it cannot have; the message goes on after its name.
    pub(crate) fn bad_parameter(name: &str, message: impl std::fmt::Display) -> Self {
        let message = format!("`{name}` {message}");
        Self::new(Code::BadParameter, message.clone()).at(ErrorPlace {
            parameter: Some(name.to_owned()),
            code: Code::BadParameter.entry().code,
            message,
            ..ErrorPlace::default()
        })
    }

    /// The whole request failed for a reason that is ours; the reason goes to the server's log only.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(Code::Internal, "the server's log says more")
    }

    /// Says where.
    pub(crate) fn at(mut self, place: ErrorPlace) -> Self {
        self.errors_total += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(place);
        }
        self
    }

    /// Adds a header to the answer.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.status()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let entry = self.code.entry();
        let body = ProblemBody {
            ty: format!("urn:modelog:problem:{}", entry.code),
            title: entry.meaning,
            status: entry.status,
            code: entry.code,
            detail: &self.detail,
            remedy: entry.remedy,
            errors: &self.errors,
            errors_total: (self.errors_total > 0).then_some(self.errors_total),
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers have a JSON form");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = entry.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.extend(self.headers);
        response
    }
}

impl From<LocatedError> for ErrorPlace {
    fn from(error: LocatedError) -> Self {
        Self {
            event: Some(error.event),
            line: error.line,
            byte: error.byte,
            field: error.field,
            parameter: None,
            code: error.code,
            message: error.message,
        }
    }
}

impl From<DecodeErrors> for Problem {
    fn from(refused: DecodeErrors) -> Self {
        let detail = match (refused.errors.first(), refused.total) {
            (Some(first), 0 | 1) => first.message.clone(),
            (Some(first), total) => format!("{total} errors; the first: {}", first.message),
            (None, total) => format!("{total} errors"),
        };
        let code = match refused.errors.first() {
            Some(first) if first.code == BATCH_TOO_LARGE => Code::TooLarge,
            _ => Code::InvalidEvents,
        };
        let mut problem = Self::new(code, detail);
        problem.errors_total = refused.total;
        problem.errors = refused
            .errors
            .into_iter()
            .take(ERRORS_MAX)
            .map(ErrorPlace::from)
            .collect();
        problem
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let (code, event) = match &error {
            AppendError::IdConflict { ord, .. } | AppendError::RepeatedId { ord, .. } => {
                (Code::IdConflict, Some(*ord))
            }
            AppendError::EntityConflict { ord, .. } => (Code::EntityConflict, Some(*ord)),
            AppendError::KeyReused => (Code::KeyReused, None),
            AppendError::StaleProducer { .. } => (Code::StaleProducer, None),
            AppendError::SequenceGap { .. } | AppendError::OutOfPlace { .. } => {
                (Code::SequenceGap, None)
            }
            AppendError::Reserved { .. } => (Code::InvalidEvents, None),
            AppendError::TooLarge { .. } => (Code::TooLarge, None),
            AppendError::Backlog { .. } => (Code::Backlog, None),
            AppendError::DiskFull => (Code::DiskFull, None),
            AppendError::Poisoned { .. } => (Code::Poisoned, None),
            AppendError::OutcomeUnknown { .. } => (Code::OutcomeUnknown, None),
            AppendError::Closed => (Code::Closing, None),
        };
        let message = error.to_string();
        let problem = Self::new(code, message.clone());
        match event {
            None => problem,
            Some(ord) => problem.at(ErrorPlace {
                event: Some(ord.into()),
                code: code.entry().code,
                message,
                ..ErrorPlace::default()
            }),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Cursor => Self::new(Code::BadCursor, error.to_string()),
            ReadError::NotKept { .. } => Self::new(Code::NotKept, error.to_string()),
            ReadError::NotYet(not_yet) => not_yet.into(),
            ReadError::Unavailable { .. } => {
                tracing::warn!(reason = %chain(&error), "a read failed");
                Self::new(Code::StoreUnavailable, error.to_string())
            }
        }
    }
}

impl From<NotYet> for Problem {
    fn from(error: NotYet) -> Self {
        Self::new(Code::NotYet, error.to_string())
    }
}

/// The problems any request can meet, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum Problems<'a> {
    /// The request is wrong: `errors` says where.
    #[response(status = 400, content_type = "application/problem+json")]
    Wrong(ProblemBody<'a>),
    /// A valid token is needed.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The token, the Host or the Origin does not allow this.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// More is waiting to be taken than there is room for.
    #[response(status = 429, content_type = "application/problem+json")]
    Backlog(ProblemBody<'a>),
    /// It cannot be answered now: try again as `Retry-After` says.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
}

/// There is nothing of that name, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[response(
    status = 404,
    description = "There is nothing of that name.",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct Missing<'a>(ProblemBody<'a>);

/// What can be wrong with a request that writes, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum WriteProblems<'a> {
    /// The body did not arrive in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Late(ProblemBody<'a>),
    /// It contradicts what is in the log.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemBody<'a>),
    /// The body is too large, as sent or decompressed.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody<'a>),
    /// The body has no type, or no encoding, that is taken here.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(ProblemBody<'a>),
    /// The idempotency key was used for another request.
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(ProblemBody<'a>),
}

/// A method that a route does not have.
pub(crate) async fn method_not_allowed(method: axum::http::Method) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!("the route does not take {method}"),
    )
}

/// A path that no route has.
pub(crate) async fn no_such_route(uri: axum::http::Uri) -> Problem {
    let shown: String = uri.path().chars().take(200).collect();
    Problem::new(Code::NoSuchRoute, format!("there is no route {shown}"))
}
