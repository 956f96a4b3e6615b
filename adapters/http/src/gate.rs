//! What every request passes on its way in, and is counted by on its way out.
//!
//! # Invariants
//! G1. No handler runs before Host, Origin and token are found to be in order; `/healthz` and `/readyz` aside.
//! G2. No body is read before that.
//! G3. What a route needs is checked where the route is registered: a request that did not come through the gate may do
//!     nothing there.
//! G4. A handler that panics is answered 500 and harms no other request.
//! G5. Every answer tells browsers to believe its media type: what clients sent comes back as data, never as a page.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

use crate::codes::Code;
use crate::problem::Problem;
use crate::state::AppState;
use crate::tokens::{Scope, Scopes};
use crate::untaken;

/// Routes for machines that know no names and have no tokens.
const EXEMPT: &[&str] = &["/healthz", "/readyz"];

/// By which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Network,
    /// The control socket: whoever can open it owns the data directory.
    Control,
}

/// Checks and counts a request.
pub(crate) async fn pass(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let clock = state.engine().clock().clone();
    let started = clock.monotonic();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match admit(&state, &request, path.as_ref()) {
        Err(problem) => problem.into_response(),
        Ok(scopes) => {
            request.extensions_mut().insert(scopes);
            let answer = async { untaken::count(&state, next.run(request).await).await };
            AssertUnwindSafe(answer)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Problem::internal(panic_text(&*panic)).into_response())
        }
    };
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    let status = response.status();
    let elapsed = clock.monotonic().saturating_sub(started);
    let path = path.as_ref().map(MatchedPath::as_str);
    state.traffic.count(&method, path, status, elapsed);
    response
}

/// What the sender of a request may do, if it is to be heard at all.
fn admit(
    state: &AppState,
    request: &Request,
    path: Option<&MatchedPath>,
) -> Result<Scopes, Problem> {
    let door = request.extensions().get::<Door>().copied();
    if door == Some(Door::Control) {
        return Ok(Scopes::ALL);
    }
    if path.is_some_and(|path| EXEMPT.contains(&path.as_str())) {
        return Ok(Scopes::NONE);
    }
    let (uri, headers) = (request.uri(), request.headers());
    let scopes = match &state.tokens {
        None => Scopes::ALL,
        Some(tokens) => tokens.scopes(headers)?,
    };
    // A page that rebinds its name does not have a token.
    if state.tokens.is_none() || scopes == Scopes::NONE {
        state.hosts.check_host(uri, headers)?;
    }
    state.hosts.check_origin(uri, headers)?;
    Ok(scopes)
}

/// Checks that the sender may do what the routes behind this need.
pub(crate) async fn need(State(scope): State<Scope>, request: Request, next: Next) -> Response {
    let scopes = request
        .extensions()
        .get::<Scopes>()
        .copied()
        .unwrap_or(Scopes::NONE);
    if scopes.allows(scope) {
        return next.run(request).await;
    }
    let name = scope.name();
    let problem = if scopes == Scopes::NONE {
        Problem::new(
            Code::Unauthorized,
            format!("a token with the scope `{name}` is needed"),
        )
    } else {
        Problem::new(
            Code::Forbidden,
            format!("the token does not have the scope `{name}`"),
        )
    };
    problem.into_response()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("unknown reason"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use modelog_engine::Engine;
    use modelog_sql::{SqlConfig, SqlStore};
    use tokio::sync::watch;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::HttpConfig;
    use crate::maintenance::{BackedUp, Compacted, Maintenance, MaintenanceError};
    use crate::state::{Phase, Services};

    /// Does no work.
    #[derive(Debug)]
    struct Idle;

    #[async_trait::async_trait]
    impl Maintenance for Idle {
        async fn compact(&self) -> Result<Compacted, MaintenanceError> {
            Ok(Compacted::default())
        }

        async fn back_up(&self, _: PathBuf, _: Option<u32>) -> Result<BackedUp, MaintenanceError> {
            Err(MaintenanceError::Busy)
        }

        fn failing(&self) -> Vec<&'static str> {
            Vec::new()
        }
    }

    fn state(directory: &std::path::Path) -> AppState {
        let store = SqlStore::new(SqlConfig {
            directory: directory.to_owned(),
            ..SqlConfig::default()
        });
        let services = Services {
            engine: Engine::open(directory).unwrap(),
            reads: Arc::new(store.unwrap().reads()),
            history: None,
            metrics: Arc::new(String::new),
            sources: Arc::new(Vec::new),
            maintenance: Arc::new(Idle),
        };
        let config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..HttpConfig::default()
        };
        let (_, phase) = watch::channel(Phase::Serving);
        AppState::new(services, config, None, phase, "{}".into())
    }

    async fn status(router: Router, host: &str) -> StatusCode {
        let request = Request::builder()
            .uri("/")
            .header("host", host)
            .body(Body::empty());
        router.oneshot(request.unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let directory = tempfile::tempdir().unwrap();
        let panics = get(|| async { panic!("on purpose") as () });
        let router = Router::new()
            .route("/", panics)
            .layer(from_fn_with_state(state(directory.path()), pass));
        let answer = status(router, "localhost").await;
        assert_eq!(answer, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn what_did_not_come_through_the_gate_may_do_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let open = Router::new()
            .route("/", get(|| async {}))
            .route_layer(from_fn_with_state(Scope::Read, need));
        assert_eq!(
            status(open.clone(), "localhost").await,
            StatusCode::UNAUTHORIZED
        );
        let gated = open.layer(from_fn_with_state(state(directory.path()), pass));
        assert_eq!(status(gated.clone(), "localhost").await, StatusCode::OK);
        assert_eq!(status(gated, "evil.example").await, StatusCode::FORBIDDEN);
    }
}
