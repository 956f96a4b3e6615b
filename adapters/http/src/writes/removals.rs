//! Calls that hide entities, and bring them back. History is never rewritten: hiding starts retention.

use axum::Json;
use axum::extract::{Request, State};
use modelog_engine::event::{EntityDeleted, EntityKind, EntityRef, EntityRestored};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Write;
use super::changes::Changed;
use crate::path::Path;
use crate::problem::{Missing, Problem, Problems, WriteProblems};
use crate::reads::By;
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(delete_model))
        .routes(routes!(restore_model))
        .routes(routes!(delete_version))
        .routes(routes!(restore_version))
        .routes(routes!(delete_dataset))
        .routes(routes!(restore_dataset))
        .routes(routes!(delete_experiment))
        .routes(routes!(restore_experiment))
        .routes(routes!(delete_run))
        .routes(routes!(restore_run))
}

impl Write<'_> {
    async fn delete(&self, request: Request, entity: EntityRef) -> Result<Json<Changed>, Problem> {
        self.expect(&entity)?;
        let entity = entity.to_string();
        self.change(request, EntityDeleted { entity }).await
    }

    async fn restore(&self, request: Request, entity: EntityRef) -> Result<Json<Changed>, Problem> {
        self.expect(&entity)?;
        let entity = entity.to_string();
        self.change(request, EntityRestored { entity }).await
    }
}

/// Hides a model until it is restored.
#[utoipa::path(
    delete,
    path = "/v1/models/{model}",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn delete_model(
    State(state): State<AppState>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    let entity = EntityRef::new(EntityKind::Model, model);
    write.delete(request, entity).await
}

/// Brings back a model that was deleted.
#[utoipa::path(
    post,
    path = "/v1/models/{model}/restore",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn restore_model(
    State(state): State<AppState>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    let entity = EntityRef::new(EntityKind::Model, model);
    write.restore(request, entity).await
}

/// Hides a version until it is restored.
#[utoipa::path(
    delete,
    path = "/v1/models/{model}/versions/{version}",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("version" = String, Path, description = "The version's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn delete_version(
    State(state): State<AppState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let (model, version) = write.version(model, version)?;
    let entity = EntityRef::version(model, version);
    write.delete(request, entity).await
}

/// Brings back a version that was deleted.
#[utoipa::path(
    post,
    path = "/v1/models/{model}/versions/{version}/restore",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("version" = String, Path, description = "The version's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn restore_version(
    State(state): State<AppState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let (model, version) = write.version(model, version)?;
    let entity = EntityRef::version(model, version);
    write.restore(request, entity).await
}

/// Hides a dataset until it is restored.
#[utoipa::path(
    delete,
    path = "/v1/datasets/{dataset}",
    tag = "write",
    params(
        ("dataset" = String, Path, description = "The dataset's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn delete_dataset(
    State(state): State<AppState>,
    Path(dataset): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let dataset = write.name(EntityKind::Dataset, dataset)?;
    let entity = EntityRef::new(EntityKind::Dataset, dataset);
    write.delete(request, entity).await
}

/// Brings back a dataset that was deleted.
#[utoipa::path(
    post,
    path = "/v1/datasets/{dataset}/restore",
    tag = "write",
    params(
        ("dataset" = String, Path, description = "The dataset's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn restore_dataset(
    State(state): State<AppState>,
    Path(dataset): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let dataset = write.name(EntityKind::Dataset, dataset)?;
    let entity = EntityRef::new(EntityKind::Dataset, dataset);
    write.restore(request, entity).await
}

/// Hides an experiment until it is restored.
#[utoipa::path(
    delete,
    path = "/v1/experiments/{experiment}",
    tag = "write",
    params(
        ("experiment" = String, Path, description = "The experiment's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn delete_experiment(
    State(state): State<AppState>,
    Path(experiment): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let experiment = write.name(EntityKind::Experiment, experiment)?;
    let entity = EntityRef::new(EntityKind::Experiment, experiment);
    write.delete(request, entity).await
}

/// Brings back an experiment that was deleted.
#[utoipa::path(
    post,
    path = "/v1/experiments/{experiment}/restore",
    tag = "write",
    params(
        ("experiment" = String, Path, description = "The experiment's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn restore_experiment(
    State(state): State<AppState>,
    Path(experiment): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let experiment = write.name(EntityKind::Experiment, experiment)?;
    let entity = EntityRef::new(EntityKind::Experiment, experiment);
    write.restore(request, entity).await
}

/// Hides a run until it is restored.
#[utoipa::path(
    delete,
    path = "/v1/runs/{run}",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn delete_run(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    let entity = EntityRef::new(EntityKind::Run, run);
    write.delete(request, entity).await
}

/// Brings back a run that was deleted.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/restore",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn restore_run(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    let entity = EntityRef::new(EntityKind::Run, run);
    write.restore(request, entity).await
}
