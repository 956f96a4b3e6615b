//! Routes for machines that look after this one.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use modelog_engine::sources::SourceState;
use modelog_engine::{AppendError, Health, ProjectionState};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::{Problem, ProblemBody, Problems};
use crate::state::{AppState, Phase};

/// A projection that is this far behind is degraded.
const LAG_SECONDS_MAX: f64 = 60.0;

/// Routes without any need.
pub(crate) fn open_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(version))
        .routes(routes!(openapi))
}

/// Routes that need the scope `read`.
pub(crate) fn read_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Whether the process is there.
#[derive(Serialize, utoipa::ToSchema)]
struct Alive {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Answers as long as the process is there. Any Host, no token.
#[utoipa::path(get, path = "/healthz", tag = "admin", responses((status = 200, body = Alive, description = "It is.")))]
async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Events are taken.
#[derive(Serialize, utoipa::ToSchema)]
struct Ready {
    /// Always `ready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// Stores that lag or stopped: they hold up nothing, but their answers are old. `GET /v1/projections` says more.
    /// Sources that read nothing, or not everything: `GET /v1/sources` says more.
    /// Tasks that fail too, such as the backups of the configuration: the server's log says why.
    degraded: Vec<Degraded>,
}

/// A store that lags or stopped, a source that does not read, or a task that fails.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
enum Degraded {
    /// A store that lags or stopped.
    Store {
        projection: String,
        /// `starting`, `running`, `degraded`, `retrying`, `stopped` or `clearing`.
        state: &'static str,
        lag_events: u64,
        lag_seconds: f64,
    },
    /// A source that reads nothing, or not everything.
    Source {
        source: String,
        /// `connecting`, `degraded`, `failed` or `stopped`.
        state: &'static str,
    },
    /// A task that failed and is tried again.
    Task {
        /// `backup`.
        task: &'static str,
        /// Always `retrying`.
        state: &'static str,
    },
}

/// Whether events can be taken. Any Host, no token; so it gives no reasons away.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "admin",
    responses(
        (status = 200, body = Ready, description = "They can."),
        (status = 503, body = ProblemBody, content_type = "application/problem+json",
         description = "Events cannot be taken: the log is poisoned, the disk full, or the server closing."),
    )
)]
async fn readyz(State(state): State<AppState>) -> Result<Json<Ready>, Problem> {
    if *state.phase.borrow() != Phase::Serving {
        return Err(refusing(&AppendError::Closed));
    }
    if let Health::Refusing(error) = state.engine().health() {
        return Err(refusing(&error));
    }
    let projections = state.engine().projections();
    let degraded = projections
        .iter()
        .map(|projection| projection.status())
        .filter(|status| {
            status.state != ProjectionState::Running || status.lag_seconds > LAG_SECONDS_MAX
        })
        .map(|status| Degraded::Store {
            projection: status.name,
            state: status.state.name(),
            lag_events: status.lag_events,
            lag_seconds: status.lag_seconds,
        });
    let failing = state.services.maintenance.failing();
    let failing = failing.into_iter().map(|task| Degraded::Task {
        task,
        state: ProjectionState::Retrying.name(),
    });
    let sources = (state.services.sources)();
    let unread = sources
        .into_iter()
        .filter(|source| source.state != SourceState::Running)
        .map(|source| Degraded::Source {
            source: source.name,
            state: source.state.name(),
        });
    let degraded = degraded.chain(unread).chain(failing).collect();
    Ok(Json(Ready {
        status: "ready",
        degraded,
    }))
}

fn refusing(error: &AppendError) -> Problem {
    let code = Problem::from(error.clone()).code;
    Problem::new(code, code.entry().meaning)
}

/// Which program and which log this is.
#[derive(Serialize, utoipa::ToSchema)]
struct Version {
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The identity of the log: another data directory has another one.
    #[schema(format = "uuid")]
    log: String,
    /// The stretch of the log's history; grows when a recovery had to cut something off.
    epoch: u32,
}

/// Which program and which log this is.
#[utoipa::path(get, path = "/version", tag = "admin", responses((status = 200, body = Version, description = "The program and the log."), Problems))]
async fn version(State(state): State<AppState>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        log: state.engine().log_id().to_string(),
        epoch: state.engine().epoch(),
    })
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "admin",
    responses((status = 200, body = Object, content_type = "application/json", description = "OpenAPI 3.1."), Problems)
)]
async fn openapi(State(state): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.openapi.clone())
}

/// Metrics for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "admin",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4", description = "Prometheus text."), Problems)
)]
async fn metrics(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    // Folding and printing thousands of series is no work for a thread that others wait for.
    let render = std::sync::Arc::clone(&state.services.metrics);
    let text = tokio::task::spawn_blocking(move || render())
        .await
        .map_err(Problem::internal)?;
    Ok((
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    ))
}
