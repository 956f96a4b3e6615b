//! Histories of metrics.

use axum::extract::State;
use axum::response::Response;
use modelog_engine::read::{ReadStore, Series, SeriesOwner, SeriesSummary};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{ArrowStream, Form, List, NotAcceptable};
use super::fresh::Freshness;
use super::parameters::{One, Points, Reading};
use super::places::{RunMetricPlace, RunPlace, VersionMetricPlace, VersionPlace, no_owner};
use crate::path::Path;
use crate::problem::{Missing, Problem, Problems};
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(run_metrics))
        .routes(routes!(run_metric))
        .routes(routes!(version_metrics))
        .routes(routes!(version_metric))
}

/// A run's metrics in short, by name and split. Never more than one page.
#[utoipa::path(
    get,
    path = "/v1/runs/{run}/metrics",
    tag = "read",
    params(RunPlace, One, Freshness),
    responses(
        (status = 200, content(
            (List<SeriesSummary> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn run_metrics(
    Path(place): Path<RunPlace>,
    form: Form,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let owner = SeriesOwner::Run(one.by.key(place.run)?);
    summaries(&*reads, &owner, form).await
}

/// The points of a run's metric, by step, time and offset; none if it was never logged.
#[utoipa::path(
    get,
    path = "/v1/runs/{run}/metrics/{name}",
    tag = "read",
    params(RunMetricPlace, Points, Freshness),
    responses(
        (status = 200, content(
            (Series = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn run_metric(
    Path(place): Path<RunMetricPlace>,
    form: Form,
    Reading(points, reads): Reading<Points>,
) -> Result<Response, Problem> {
    let (owner, name) = place.metric(points.by)?;
    series(&*reads, &owner, &name, points, form).await
}

/// A version's own metrics in short, by name and split. Never more than one page.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions/{version}/metrics",
    tag = "read",
    params(VersionPlace, One, Freshness),
    responses(
        (status = 200, content(
            (List<SeriesSummary> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn version_metrics(
    State(state): State<AppState>,
    Path(place): Path<VersionPlace>,
    form: Form,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let owner = SeriesOwner::Version(place.key(&state, one.by)?);
    summaries(&*reads, &owner, form).await
}

/// The points of a version's own metric, by step, time and offset; none if it was never logged.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions/{version}/metrics/{name}",
    tag = "read",
    params(VersionMetricPlace, Points, Freshness),
    responses(
        (status = 200, content(
            (Series = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn version_metric(
    State(state): State<AppState>,
    Path(place): Path<VersionMetricPlace>,
    form: Form,
    Reading(points, reads): Reading<Points>,
) -> Result<Response, Problem> {
    let (owner, name) = place.metric(&state, points.by)?;
    series(&*reads, &owner, &name, points, form).await
}

async fn summaries(
    reads: &dyn ReadStore,
    owner: &SeriesOwner,
    form: Form,
) -> Result<Response, Problem> {
    let found = reads.series(owner).await?;
    form.summaries(found.ok_or_else(|| no_owner(owner))?).await
}

async fn series(
    reads: &dyn ReadStore,
    owner: &SeriesOwner,
    name: &str,
    points: Points,
    form: Form,
) -> Result<Response, Problem> {
    let found = reads.points(owner, name, &points.query()).await?;
    form.series(found.ok_or_else(|| no_owner(owner))?).await
}
