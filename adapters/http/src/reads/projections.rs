//! How far stores are, and starting them anew.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use modelog_engine::{Engine, Offset, ProjectionStatus, Timestamp};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{List, json};
use super::parameters::{Asked, Nothing};
use super::places::ProjectionPlace;
use crate::codes::Code;
use crate::path::Path;
use crate::problem::{Missing, Problem, ProblemBody, Problems};
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(projections))
}

pub(super) fn admin_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(rebuild))
}

/// Where a projection stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Projection)]
struct Standing {
    name: String,
    /// `starting`, `running`, `degraded`, `retrying`, `stopped` or `clearing`.
    #[schema(example = "running")]
    state: &'static str,
    /// The end of what it has applied.
    #[schema(value_type = u64)]
    offset: Offset,
    lag_events: u64,
    /// Age of the oldest event it has not applied.
    lag_seconds: f64,
    /// Failures since the server started.
    errors: u64,
    /// The last of them, and why it stopped if it did.
    last_error: Option<String>,
    /// When it last applied something.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_success: Option<Timestamp>,
}

impl From<ProjectionStatus> for Standing {
    fn from(status: ProjectionStatus) -> Self {
        Self {
            name: status.name,
            state: status.state.name(),
            offset: status.offset,
            lag_events: status.lag_events,
            lag_seconds: status.lag_seconds,
            errors: status.errors,
            last_error: status.last_error,
            last_success: status.last_success,
        }
    }
}

/// All projections, in the order they were started.
#[utoipa::path(
    get,
    path = "/v1/projections",
    tag = "admin",
    responses((status = 200, body = List<Standing>), Problems)
)]
async fn projections(
    State(state): State<AppState>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    let projections = state.engine().projections();
    json(&List {
        items: projections
            .iter()
            .map(|projection| Standing::from(projection.status()))
            .collect(),
        next_cursor: None,
    })
}

/// Clears a store and builds it again from the start of the log. It goes on by itself; `GET /v1/projections` says how
/// far it is.
#[utoipa::path(
    post,
    path = "/v1/projections/{name}/rebuild",
    tag = "admin",
    params(ProjectionPlace),
    responses((status = 202, body = Standing, description = "It was told to; this is where it stood."), Problems, Missing, NotRebuildable<'_>)
)]
async fn rebuild(
    State(state): State<AppState>,
    Path(place): Path<ProjectionPlace>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    let projection = state
        .engine()
        .projection(&place.name)
        .ok_or_else(|| no_projection(state.engine(), &place.name))?;
    projection
        .rebuild()
        .map_err(|error| Problem::new(Code::NotRebuildable, error.to_string()))?;
    let standing = json(&Standing::from(projection.status()))?;
    Ok((StatusCode::ACCEPTED, standing).into_response())
}

/// The projection cannot be built again, for the API's description.
#[derive(Debug, utoipa::IntoResponses)]
#[response(
    status = 409,
    description = "It holds a part of the log itself, or has effects that cannot be taken back.",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "only its description is used")]
struct NotRebuildable<'a>(ProblemBody<'a>);

fn no_projection(engine: &Engine, name: &str) -> Problem {
    let projections = engine.projections();
    let names: Vec<_> = projections.iter().map(|known| known.name()).collect();
    let known = match names.as_slice() {
        [] => "none is running".to_owned(),
        names => format!("there is {}", names.join(", ")),
    };
    Problem::not_found("projection", format_args!("{name:?}; {known}"))
}
