//! Calls that change what is known of an entity: aliases and tags.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use modelog_engine::batch::EventBatch;
use modelog_engine::event::{EntityKind, EntityRef, Event, Fact, Kind, ModelVersionAliased};
use modelog_formats::{Decoded, decode_as};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Expect, Write};
use crate::codes::Code;
use crate::path::Path;
use crate::problem::{Missing, Problem, Problems, WriteProblems};
use crate::reads::By;
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(set_alias, remove_alias))
        .routes(routes!(tag_model))
        .routes(routes!(tag_version))
        .routes(routes!(tag_dataset))
        .routes(routes!(tag_experiment))
        .routes(routes!(tag_run))
}

/// What a call that changes something is answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Changed {
    /// Reads with `?at_least=` this see the change.
    end_offset: u64,
}

impl Write<'_> {
    /// Appends one fact that is made here; a body has nothing to add.
    pub(super) async fn change(
        &self,
        request: Request,
        fact: impl Into<Fact>,
    ) -> Result<Json<Changed>, Problem> {
        let event = Event::from(fact.into());
        let done = self
            .append(request, Expect::Nothing, move |_, _| {
                let batch = EventBatch::from_events([&event])
                    .map_err(|error| Problem::new(Code::BadPath, error.to_string()))?;
                let decoded = Decoded {
                    batch,
                    unknown_fields: BTreeMap::new(),
                    rejected: Vec::new(),
                };
                Ok((decoded, ()))
            })
            .await?;
        Ok(Json(Changed {
            end_offset: done.appended.end.0,
        }))
    }

    /// Appends one fact of which the body has the rest.
    async fn state(
        &self,
        request: Request,
        kind: Kind,
        given: Vec<(&'static str, String)>,
    ) -> Result<Json<Changed>, Problem> {
        let done = self
            .append(request, Expect::Json, move |body, options| {
                let given: Vec<(&str, &str)> = given
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                Ok((decode_as(body, kind, &given, options)?, ()))
            })
            .await?;
        Ok(Json(Changed {
            end_offset: done.appended.end.0,
        }))
    }

    async fn tag(&self, request: Request, entity: EntityRef) -> Result<Json<Changed>, Problem> {
        self.expect(&entity)?;
        let given = vec![("entity", entity.to_string())];
        self.state(request, Kind::TagsSet, given).await
    }
}

/// Lets an alias point to a version.
#[utoipa::path(
    put,
    path = "/v1/models/{model}/aliases/{alias}",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("alias" = String, Path, description = "The alias's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewAlias"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn set_alias(
    State(state): State<AppState>,
    Path((model, alias)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    let given = vec![("model", model), ("alias", alias)];
    write.state(request, Kind::ModelVersionAliased, given).await
}

/// Lets an alias point to nothing.
#[utoipa::path(
    delete,
    path = "/v1/models/{model}/aliases/{alias}",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("alias" = String, Path, description = "The alias's name."),
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
async fn remove_alias(
    State(state): State<AppState>,
    Path((model, alias)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    write.expect(&EntityRef::new(EntityKind::Model, &model))?;
    let fact = ModelVersionAliased {
        model,
        alias,
        version: None,
    };
    write.change(request, fact).await
}

/// Sets tags of a model: merged by key, null removes.
#[utoipa::path(
    patch,
    path = "/v1/models/{model}/tags",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewTags"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn tag_model(
    State(state): State<AppState>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    let entity = EntityRef::new(EntityKind::Model, model);
    write.tag(request, entity).await
}

/// Sets tags of a version: merged by key, null removes.
#[utoipa::path(
    patch,
    path = "/v1/models/{model}/versions/{version}/tags",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("version" = String, Path, description = "The version's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewTags"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn tag_version(
    State(state): State<AppState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let (model, version) = write.version(model, version)?;
    let entity = EntityRef::version(model, version);
    write.tag(request, entity).await
}

/// Sets tags of a dataset: merged by key, null removes.
#[utoipa::path(
    patch,
    path = "/v1/datasets/{dataset}/tags",
    tag = "write",
    params(
        ("dataset" = String, Path, description = "The dataset's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewTags"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn tag_dataset(
    State(state): State<AppState>,
    Path(dataset): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let dataset = write.name(EntityKind::Dataset, dataset)?;
    let entity = EntityRef::new(EntityKind::Dataset, dataset);
    write.tag(request, entity).await
}

/// Sets tags of an experiment: merged by key, null removes.
#[utoipa::path(
    patch,
    path = "/v1/experiments/{experiment}/tags",
    tag = "write",
    params(
        ("experiment" = String, Path, description = "The experiment's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewTags"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn tag_experiment(
    State(state): State<AppState>,
    Path(experiment): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let experiment = write.name(EntityKind::Experiment, experiment)?;
    let entity = EntityRef::new(EntityKind::Experiment, experiment);
    write.tag(request, entity).await
}

/// Sets tags of a run: merged by key, null removes.
#[utoipa::path(
    patch,
    path = "/v1/runs/{run}/tags",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewTags"),
    responses(
        (status = 200, body = Changed, description = "Changed, and durable."),
        Missing,
        Problems,
        WriteProblems,
    )
)]
async fn tag_run(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Json<Changed>, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    let entity = EntityRef::new(EntityKind::Run, run);
    write.tag(request, entity).await
}
