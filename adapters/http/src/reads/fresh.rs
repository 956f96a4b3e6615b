//! Freshness: a read sees what its caller wrote before.
//!
//! Stores follow the log; each answer covers the log up to an offset, which `Modelog-Offset` tells. By default a read
//! waits a moment for the tail as it was when the request arrived, and then answers with what there is: someone who
//! looks wants an answer. `?at_least=N` is a demand: what does not cover N is refused as `not_yet`, at once where
//! waiting cannot help because the store is stopped. `?at_least=0` does not wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use modelog_engine::{NotYet, Offset, ProjectionHandle};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{OpenApi, RefOr};

use super::parameters::Parameters;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::AppState;

/// The end of what an answer covers.
pub(super) const OFFSET: HeaderName = HeaderName::from_static("modelog-offset");
/// How long a read waits for the tail by itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it waits when it is told an offset.
const PATIENCE_ASKED: Duration = Duration::from_secs(10);

/// How fresh the answer must be.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Freshness {
    /// The `end_offset` the answer must cover; waits up to 10 s for it. 0 does not wait. Without it, the answer covers
    /// what was in the log when the request arrived, if the store gets there within 500 ms.
    #[param(value_type = Option<u64>)]
    at_least: Option<Offset>,
}

impl Parameters for Freshness {
    const NAMES: &'static [&'static str] = &["at_least"];

    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            at_least: query.parsed("at_least", "an offset")?.map(Offset),
        })
    }
}

/// What the answer to a request covers, once that is known.
#[derive(Clone, Debug, Default)]
struct Covered(Arc<OnceLock<Offset>>);

/// Says on every answer of a route, also on one that nothing was found, what it covers.
pub(super) async fn tell(mut request: Request, next: Next) -> Response {
    let covered = Covered::default();
    request.extensions_mut().insert(covered.clone());
    let mut response = next.run(request).await;
    if let Some(offset) = covered.0.get() {
        response.headers_mut().insert(OFFSET, offset.0.into());
    }
    response
}

impl Freshness {
    /// Waits until the store is as fresh as asked for.
    ///
    /// # Errors
    /// `not_yet` if it does not get there.
    pub(super) async fn wait(self, parts: &Parts, state: &AppState) -> Result<(), Problem> {
        let reached = match state.engine().projection(state.reads().projection()) {
            Some(projection) => self.reached(&projection, state.engine().tail()).await,
            None => self.held(state).await?,
        };
        let (Ok(at) | Err(NotYet::Behind { at, .. } | NotYet::Stopped { at, .. })) = &reached;
        if let Some(covered) = parts.extensions.get::<Covered>() {
            // A request is read once.
            let _ = covered.0.set(*at);
        }
        match reached {
            Err(not_yet) if self.at_least.is_some() => Err(not_yet.into()),
            _ => Ok(()),
        }
    }

    async fn reached(&self, projection: &ProjectionHandle, tail: Offset) -> Result<Offset, NotYet> {
        match self.at_least {
            Some(wanted) => projection.wait_for(wanted, PATIENCE_ASKED).await,
            None => projection.wait_for(tail, PATIENCE).await,
        }
    }

    /// For a store that nothing feeds at present: what it has is what there is.
    async fn held(&self, state: &AppState) -> Result<Result<Offset, NotYet>, Problem> {
        let at = state.reads().offset().await?;
        let missing = self.at_least.is_some_and(|wanted| wanted > at);
        Ok(if missing {
            Err(NotYet::Stopped {
                name: state.reads().projection().to_owned(),
                at,
                reason: "it does not run".to_owned(),
            })
        } else {
            Ok(at)
        })
    }
}

/// Describes the header on every answer of routes that answer from a store.
pub(super) fn describe(api: &mut OpenApi) {
    let header = HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::Integer)))
        .description(Some(
            "The end of what the answer covers, as an `end_offset`.",
        ))
        .build();
    let answers = api
        .paths
        .paths
        .values_mut()
        .filter_map(|path| path.get.as_mut())
        .filter_map(|operation| operation.responses.responses.get_mut("200"));
    for answer in answers {
        if let RefOr::T(answer) = answer {
            let header = header.clone();
            answer
                .headers
                .insert("Modelog-Offset".to_owned(), header.into());
        }
    }
}
