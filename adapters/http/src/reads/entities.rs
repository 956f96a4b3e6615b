//! Models, versions, datasets, experiments and runs.

use axum::extract::State;
use axum::response::Response;
use modelog_engine::read::{Dataset, Experiment, Model, ModelVersion, Run};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{ArrowStream, Form, List, NotAcceptable, json};
use super::fresh::Freshness;
use super::parameters::{Many, ManyOf, One, Reading, Runs};
use super::places::{
    DatasetPlace, ExperimentPlace, ModelPlace, RunPlace, VersionPlace, no, no_version,
};
use crate::path::Path;
use crate::problem::{Missing, Problem, Problems};
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(model))
        .routes(routes!(versions))
        .routes(routes!(model_version))
        .routes(routes!(datasets))
        .routes(routes!(dataset))
        .routes(routes!(experiments))
        .routes(routes!(experiment))
        .routes(routes!(runs))
        .routes(routes!(run))
}

/// All models, by id.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "read",
    params(Many, Freshness),
    responses(
        (status = 200, content(
            (List<Model> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems,
        NotAcceptable,
    )
)]
async fn models(form: Form, Reading(many, reads): Reading<Many>) -> Result<Response, Problem> {
    form.list(reads.models(many.page()).await?).await
}

/// A model, with its aliases.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "read",
    params(ModelPlace, One, Freshness),
    responses((status = 200, body = Model), Problems, Missing)
)]
async fn model(
    Path(place): Path<ModelPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let key = one.by.key(place.model)?;
    let found = reads.model(&key).await?;
    json(&found.ok_or_else(|| no("model", &key))?)
}

/// All versions of a model, by id.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions",
    tag = "read",
    params(ModelPlace, ManyOf, Freshness),
    responses(
        (status = 200, content(
            (List<ModelVersion> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn versions(
    Path(place): Path<ModelPlace>,
    form: Form,
    Reading(many, reads): Reading<ManyOf>,
) -> Result<Response, Problem> {
    let key = many.by.key(place.model)?;
    let page = reads.versions(&key, many.page()).await?;
    form.list(page.ok_or_else(|| no("model", &key))?).await
}

/// A version of a model, by its name or an alias.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions/{version}",
    tag = "read",
    params(VersionPlace, One, Freshness),
    responses((status = 200, body = ModelVersion), Problems, Missing)
)]
async fn model_version(
    State(state): State<AppState>,
    Path(place): Path<VersionPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let key = place.key(&state, one.by)?;
    let found = reads.version(&key).await?;
    json(&found.ok_or_else(|| no_version(&key))?)
}

/// All datasets, by id.
#[utoipa::path(
    get,
    path = "/v1/datasets",
    tag = "read",
    params(Many, Freshness),
    responses(
        (status = 200, content(
            (List<Dataset> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems,
        NotAcceptable,
    )
)]
async fn datasets(form: Form, Reading(many, reads): Reading<Many>) -> Result<Response, Problem> {
    form.list(reads.datasets(many.page()).await?).await
}

/// A dataset.
#[utoipa::path(
    get,
    path = "/v1/datasets/{dataset}",
    tag = "read",
    params(DatasetPlace, One, Freshness),
    responses((status = 200, body = Dataset), Problems, Missing)
)]
async fn dataset(
    Path(place): Path<DatasetPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let key = one.by.key(place.dataset)?;
    let found = reads.dataset(&key).await?;
    json(&found.ok_or_else(|| no("dataset", &key))?)
}

/// All experiments, by id.
#[utoipa::path(
    get,
    path = "/v1/experiments",
    tag = "read",
    params(Many, Freshness),
    responses(
        (status = 200, content(
            (List<Experiment> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems,
        NotAcceptable,
    )
)]
async fn experiments(form: Form, Reading(many, reads): Reading<Many>) -> Result<Response, Problem> {
    form.list(reads.experiments(many.page()).await?).await
}

/// An experiment.
#[utoipa::path(
    get,
    path = "/v1/experiments/{experiment}",
    tag = "read",
    params(ExperimentPlace, One, Freshness),
    responses((status = 200, body = Experiment), Problems, Missing)
)]
async fn experiment(
    Path(place): Path<ExperimentPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let key = one.by.key(place.experiment)?;
    let found = reads.experiment(&key).await?;
    json(&found.ok_or_else(|| no("experiment", &key))?)
}

/// Runs: all, or those of an experiment, of a model, or in some state.
#[utoipa::path(
    get,
    path = "/v1/runs",
    tag = "read",
    params(Runs, Freshness),
    responses(
        (status = 200, content(
            (List<Run> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems,
        NotAcceptable,
    )
)]
async fn runs(form: Form, Reading(runs, reads): Reading<Runs>) -> Result<Response, Problem> {
    let filter = runs.filter();
    form.list(reads.runs(&filter, runs.page()).await?).await
}

/// A run, with its hyperparameters, datasets and artifacts.
#[utoipa::path(
    get,
    path = "/v1/runs/{run}",
    tag = "read",
    params(RunPlace, One, Freshness),
    responses((status = 200, body = Run), Problems, Missing)
)]
async fn run(
    Path(place): Path<RunPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let key = one.by.key(place.run)?;
    let found = reads.run(&key).await?;
    json(&found.ok_or_else(|| no("run", &key))?)
}
