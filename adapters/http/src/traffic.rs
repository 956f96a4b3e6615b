//! Requests, counted by route and status.
//!
//! Every request asks for the same few series, so they are looked up once and kept: a label is text that would have to
//! be put together each time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram};
use modelog_engine::metrics::{HTTP_REQUEST_DURATION, HTTP_REQUESTS};

/// The route label of requests that no route took.
const UNMATCHED: &str = "unmatched";

/// What was counted so far: by the template of the path, as many as there are routes.
#[derive(Default)]
pub(crate) struct Traffic(RwLock<HashMap<Box<str>, Vec<Answers>>>);

/// The answers of a route that have one status.
struct Answers {
    method: Method,
    status: StatusCode,
    requests: Counter,
    duration: Histogram,
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    /// Counts an answer. `path` is the template of the route that took the request.
    pub(crate) fn count(
        &self,
        method: &Method,
        path: Option<&str>,
        status: StatusCode,
        elapsed: Duration,
    ) {
        // Methods that no route has are the client's to invent.
        let (method, path) = match path {
            Some(path) if status != StatusCode::METHOD_NOT_ALLOWED => (method, path),
            _ => (&Method::GET, UNMATCHED),
        };
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let found = known.get(path).and_then(|answers| {
                answers
                    .iter()
                    .find(|answers| answers.status == status && answers.method == *method)
            });
            if let Some(answers) = found {
                return answers.count(elapsed);
            }
        }
        let answers = Answers::new(method, path, status);
        answers.count(elapsed);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(path.into()).or_default().push(answers);
    }
}

impl Answers {
    fn new(method: &Method, path: &str, status: StatusCode) -> Self {
        let route = match path {
            UNMATCHED => path.to_owned(),
            _ => format!("{method} {path}"),
        };
        let code = status.as_str().to_owned();
        let requests =
            metrics::counter!(HTTP_REQUESTS, "route" => route.clone(), "code" => code.clone());
        let duration = metrics::histogram!(HTTP_REQUEST_DURATION, "route" => route, "code" => code);
        Self {
            method: method.clone(),
            status,
            requests,
            duration,
        }
    }

    fn count(&self, elapsed: Duration) {
        self.requests.increment(1);
        self.duration.record(elapsed.as_secs_f64());
    }
}
