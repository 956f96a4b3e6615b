//! Calls that create entities.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use modelog_engine::event::{EntityKind, Kind, schema};
use modelog_engine::names::EntityId;
use modelog_engine::{Clock, Offset, chain};
use modelog_formats::decode_as;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::{NoContext, Uuid};

use super::{Expect, Write, json_text};
use crate::codes::Code;
use crate::path::Path;
use crate::problem::{Problem, Problems, WriteProblems};
use crate::reads::By;
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_model))
        .routes(routes!(create_version))
        .routes(routes!(create_dataset))
        .routes(routes!(create_experiment))
        .routes(routes!(start_run))
}

/// How many entities a call may create: each is in the answer. `/v1/events` takes more.
const CREATIONS_MAX: u32 = 10_000;

/// An entity as a call named it, with its number.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
struct Named {
    /// Its number, for `?by=id` and for the keys of stores.
    #[schema(example = 1)]
    id: EntityId,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

/// What a call that created entities is answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
enum Created {
    /// To one object.
    One(CreatedOne),
    /// To an array.
    Many(CreatedMany),
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CreatedOne {
    #[serde(flatten)]
    named: Named,
    /// Reads with `?at_least=` this see it.
    end_offset: u64,
    /// How often each field came that the kind does not have. They are kept in `extra`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unknown_fields: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CreatedMany {
    items: Vec<Named>,
    /// How many of them are new, or changed.
    accepted: u32,
    /// How many were there already, just like this.
    duplicates: u32,
    /// Reads with `?at_least=` this see them.
    end_offset: u64,
    /// How often each field came that the kind does not have. They are kept in `extra`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unknown_fields: BTreeMap<String, u64>,
}

/// The names that a body gives.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GivenNames {
    model: Option<String>,
    version: Option<String>,
    dataset: Option<String>,
    experiment: Option<String>,
    run: Option<String>,
}

/// One object, or an array.
#[derive(Debug)]
enum Given {
    One(GivenNames),
    Many(Vec<GivenNames>),
}

impl GivenNames {
    /// The names in a body of one object, or of nothing; none if it is something else.
    fn alone(body: &[u8]) -> Option<Self> {
        match body.first() {
            None => Some(Self::default()),
            Some(b'{') => serde_json::from_slice(body).ok(),
            Some(_) => None,
        }
    }
}

/// What the decoder keeps.
struct Kept {
    given: Given,
    /// The name that a run was given here.
    generated: Option<String>,
}

impl Write<'_> {
    async fn create(
        &self,
        request: Request,
        kind: Kind,
        path: Vec<(&'static str, String)>,
    ) -> Result<Response, Problem> {
        let run = (kind == Kind::RunStarted).then(|| new_run(&**self.state.engine().clock()));
        let model = path
            .iter()
            .find(|(name, _)| *name == "model")
            .map(|(_, model)| model.clone());
        let repeatable = request.headers().contains_key("idempotency-key")
            || request.headers().contains_key("modelog-producer");
        let done = self
            .append(request, Expect::Json, move |body, options| {
                let text = json_text(body);
                let alone = GivenNames::alone(text);
                let generated =
                    run.filter(|_| alone.as_ref().is_some_and(|names| names.run.is_none()));
                let mut fields: Vec<(&str, &str)> = path
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                if let Some(run) = &generated {
                    fields.push(("run", run));
                }
                let decoded = decode_as(body, kind, &fields, options)?;
                if decoded.batch.rows() > CREATIONS_MAX {
                    return Err(too_many());
                }
                let given = match alone {
                    Some(names) => Given::One(names),
                    // What can be decoded has names that are text.
                    None => serde_json::from_slice(text)
                        .map(Given::Many)
                        .map_err(Problem::internal)?,
                };
                Ok((decoded, Kept { given, generated }))
            })
            .await?;
        let (appended, mut kept) = (done.appended, done.kept);
        if let (Some(run), Some(first)) = (&mut kept.generated, appended.first)
            && repeatable
        {
            // This may be the answer to an earlier call, which had another name generated.
            *run = self.run_at(first).await?;
        }
        let status = if appended.accepted > 0 {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let named = |given| self.numbered(kind, given, &model, &kept.generated);
        let body = match kept.given {
            Given::One(given) => Created::One(CreatedOne {
                named: named(given)?,
                end_offset: appended.end.0,
                unknown_fields: done.unknown_fields,
            }),
            Given::Many(given) => Created::Many(CreatedMany {
                items: given.into_iter().map(named).collect::<Result<_, _>>()?,
                accepted: appended.accepted,
                duplicates: appended.duplicates,
                end_offset: appended.end.0,
                unknown_fields: done.unknown_fields,
            }),
        };
        Ok((status, Json(body)).into_response())
    }

    /// The entity that was created, with its number.
    fn numbered(
        &self,
        kind: Kind,
        given: GivenNames,
        model: &Option<String>,
        run: &Option<String>,
    ) -> Result<Named, Problem> {
        let names = self.state.engine().names();
        let mut named = Named::default();
        let id = match kind {
            Kind::ModelVersionCreated => {
                named.model = given.model.or_else(|| model.clone());
                named.version = given.version;
                named
                    .model
                    .as_deref()
                    .and_then(|model| names.id(EntityKind::Model, model))
                    .and_then(|model| names.version_id(model, named.version.as_deref()?))
            }
            _ => {
                let (entity, from, to) = match kind {
                    Kind::ModelCreated => (EntityKind::Model, given.model, &mut named.model),
                    Kind::DatasetRegistered => {
                        (EntityKind::Dataset, given.dataset, &mut named.dataset)
                    }
                    Kind::ExperimentCreated => {
                        let experiment = given.experiment;
                        (EntityKind::Experiment, experiment, &mut named.experiment)
                    }
                    _ => {
                        let run = given.run.or_else(|| run.clone());
                        (EntityKind::Run, run, &mut named.run)
                    }
                };
                *to = from;
                to.as_deref().and_then(|name| names.id(entity, name))
            }
        };
        named.id = id.ok_or_else(|| Problem::internal("what was created has no number"))?;
        Ok(named)
    }

    /// The name of the run that the event at an offset started.
    async fn run_at(&self, offset: Offset) -> Result<String, Problem> {
        let mut reader = self.state.engine().reader(offset);
        let read = move || -> Result<Option<String>, modelog_engine::LogError> {
            let batches = reader.read(1)?;
            let rows = batches.iter().flat_map(|batch| {
                batch
                    .table(Kind::RunStarted)
                    .into_iter()
                    .flat_map(|table| batch.rows_of(table))
            });
            let column = const { schema::column(Kind::RunStarted, "run") };
            Ok(rows
                .filter(|row| row.offset() == offset)
                .find_map(|row| row.text(column).map(str::to_owned)))
        };
        let run = tokio::task::spawn_blocking(read)
            .await
            .map_err(Problem::internal)?
            .map_err(|error| Problem::new(Code::LogDamaged, chain(&error)))?;
        run.ok_or_else(|| Problem::internal("the run that was started is not in the log"))
    }
}

fn too_many() -> Problem {
    let detail = format!("at most {CREATIONS_MAX} entities are created by one call");
    Problem::new(Code::TooLarge, detail)
}

/// A name for a run: a version 7 UUID, so that names sort by time.
fn new_run(clock: &dyn Clock) -> String {
    let micros = clock.now().micros().max(0).unsigned_abs();
    let nanos = (micros % 1_000_000) as u32 * 1000;
    let time = uuid::Timestamp::from_unix(NoContext, micros / 1_000_000, nanos);
    Uuid::new_v7(time).to_string()
}

/// Announces a model, or several. The same again is 200; other attributes are 409, or merged with `on_conflict=merge`.
#[utoipa::path(
    post,
    path = "/v1/models",
    tag = "write",
    params(
        ("on_conflict" = Option<String>, Query, description = "`refuse` (default) or `merge`."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewModel"),
    responses(
        (status = 201, body = Created, description = "Created, and durable."),
        (status = 200, body = Created, description = "It was there already, just like this."),
        Problems,
        WriteProblems,
    )
)]
async fn create_model(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::creation(&state, &request)?;
    write.create(request, Kind::ModelCreated, Vec::new()).await
}

/// Announces a version of a model, or several. The same again is 200; other attributes are 409, or merged with
/// `on_conflict=merge`.
#[utoipa::path(
    post,
    path = "/v1/models/{model}/versions",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("on_conflict" = Option<String>, Query, description = "`refuse` (default) or `merge`."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewVersion"),
    responses(
        (status = 201, body = Created, description = "Created, and durable."),
        (status = 200, body = Created, description = "It was there already, just like this."),
        Problems,
        WriteProblems,
    )
)]
async fn create_version(
    State(state): State<AppState>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::creation(&state, &request)?;
    let model = write.name(EntityKind::Model, model)?;
    write
        .create(request, Kind::ModelVersionCreated, vec![("model", model)])
        .await
}

/// Announces a dataset, or several. The same again is 200; other attributes are 409, or merged with
/// `on_conflict=merge`.
#[utoipa::path(
    post,
    path = "/v1/datasets",
    tag = "write",
    params(
        ("on_conflict" = Option<String>, Query, description = "`refuse` (default) or `merge`."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewDataset"),
    responses(
        (status = 201, body = Created, description = "Created, and durable."),
        (status = 200, body = Created, description = "It was there already, just like this."),
        Problems,
        WriteProblems,
    )
)]
async fn create_dataset(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::creation(&state, &request)?;
    write
        .create(request, Kind::DatasetRegistered, Vec::new())
        .await
}

/// Announces an experiment, or several. The same again is 200; other attributes are 409, or merged with
/// `on_conflict=merge`.
#[utoipa::path(
    post,
    path = "/v1/experiments",
    tag = "write",
    params(
        ("on_conflict" = Option<String>, Query, description = "`refuse` (default) or `merge`."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewExperiment"),
    responses(
        (status = 201, body = Created, description = "Created, and durable."),
        (status = 200, body = Created, description = "It was there already, just like this."),
        Problems,
        WriteProblems,
    )
)]
async fn create_experiment(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::creation(&state, &request)?;
    write
        .create(request, Kind::ExperimentCreated, Vec::new())
        .await
}

/// Starts a run, or several. A run without a name is given one, if it comes alone. The same again is 200; other
/// attributes are 409, or merged with `on_conflict=merge`.
#[utoipa::path(
    post,
    path = "/v1/runs",
    tag = "write",
    params(
        ("on_conflict" = Option<String>, Query, description = "`refuse` (default) or `merge`."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewRun"),
    responses(
        (status = 201, body = Created, description = "Created, and durable."),
        (status = 200, body = Created, description = "It was there already, just like this."),
        Problems,
        WriteProblems,
    )
)]
async fn start_run(State(state): State<AppState>, request: Request) -> Result<Response, Problem> {
    let write = Write::creation(&state, &request)?;
    write.create(request, Kind::RunStarted, Vec::new()).await
}
