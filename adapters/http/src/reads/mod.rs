//! The routes that answer questions.
//!
//! ```text
//! /v1/models … /v1/compare ─▶ parameters ─▶ fresh: wait for the store ─▶ ReadStore ─▶ answer: JSON or Arrow
//! /v1/events, /v1/tail ─────▶ parameters ─▶ position ─▶ feed, shelf: the log, at the client's pace, filtered ─▶ body
//! /v1/projections ──────────▶ the engine's projections
//! /v1/sources ──────────────▶ those who read from elsewhere into the log
//! ```
//!
//! # Rules
//! - A query parameter that a route does not know is refused, with the nearest one it knows.
//! - Parts of paths are percent-decoded once; they are names, or with `?by=id` numbers.
//! - An answer that comes from a store says in `Modelog-Offset` what it covers.
//! - Nothing here writes to the log.

mod answer;
mod arrow_events;
mod columns;
mod entities;
mod events;
mod feed;
mod fresh;
mod log_parameters;
mod moment;
mod parameters;
mod places;
mod position;
mod predictions;
mod projections;
mod series;
mod shelf;
mod sources;
mod tail;

pub(crate) use feed::Reading;
pub(crate) use parameters::By;

use axum::middleware::from_fn;
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// Routes that need the scope `read`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let mut stored = entities::routes()
        .merge(series::routes())
        .merge(predictions::routes());
    fresh::describe(stored.get_openapi_mut());
    stored
        .route_layer(from_fn(fresh::tell))
        .merge(events::routes())
        .merge(tail::routes())
        .merge(projections::routes())
        .merge(sources::routes())
}

/// Routes that need the scope `admin`.
pub(crate) fn admin_routes() -> OpenApiRouter<AppState> {
    projections::admin_routes()
}
