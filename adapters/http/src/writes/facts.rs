//! Calls that state facts about runs, versions and predictions.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use modelog_engine::Appended;
use modelog_engine::event::{EntityKind, Kind};
use modelog_formats::decode_as;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Expect, Write, json_text};
use crate::path::Path;
use crate::problem::{Problem, Problems, WriteProblems};
use crate::reads::By;
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(log_params))
        .routes(routes!(log_run_metrics))
        .routes(routes!(log_version_metrics))
        .routes(routes!(log_run_artifacts))
        .routes(routes!(log_version_artifacts))
        .routes(routes!(finish_run))
        .routes(routes!(log_predictions))
        .routes(routes!(log_feedback))
}

/// What a call that states facts is answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Logged {
    /// Facts that are in the log now.
    accepted: u32,
    /// Facts that were in the log before: they had an `id`.
    duplicates: u32,
    /// Offset of the first one appended; null if none was.
    first_offset: Option<u64>,
    /// Reads with `?at_least=` this see them.
    end_offset: u64,
    /// The prediction's id, for its feedback: if one prediction was logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_id: Option<String>,
    /// How often each field came that the kind does not have. They are kept in `extra`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unknown_fields: BTreeMap<String, u64>,
}

/// What a prediction is known by.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PredictionNames {
    prediction_id: Option<String>,
    id: Option<String>,
}

impl PredictionNames {
    /// The names in a body that holds one prediction.
    fn read(body: &[u8]) -> Option<Self> {
        let text = json_text(body);
        let single = text.first() == Some(&b'{');
        single.then(|| serde_json::from_slice(text).ok()).flatten()
    }

    /// The id by which the log knows the prediction.
    fn known_by(self, appended: Appended) -> Option<String> {
        self.prediction_id
            .or(self.id)
            .or_else(|| appended.first.map(|first| first.to_string()))
    }
}

impl Write<'_> {
    async fn log(
        &self,
        request: Request,
        body: Expect,
        kind: Kind,
        path: Vec<(&'static str, String)>,
    ) -> Result<Response, Problem> {
        let done = self
            .append(request, body, move |body, options| {
                let mut fields: Vec<(&str, &str)> = path
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                // A run that ends without a word has ended well.
                if kind == Kind::RunFinished && json_text(body).is_empty() {
                    fields.push(("status", "finished"));
                }
                let decoded = decode_as(body, kind, &fields, options)?;
                let prediction = (kind == Kind::PredictionLogged)
                    .then(|| PredictionNames::read(body))
                    .flatten();
                Ok((decoded, prediction))
            })
            .await?;
        let appended = done.appended;
        let status = if appended.accepted > 0 {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let logged = Logged {
            accepted: appended.accepted,
            duplicates: appended.duplicates,
            first_offset: appended.first.map(|first| first.0),
            end_offset: appended.end.0,
            prediction_id: done.kept.and_then(|names| names.known_by(appended)),
            unknown_fields: done.unknown_fields,
        };
        Ok((status, Json(logged)).into_response())
    }
}

/// Hyperparameters of a run; merged by key with those logged before.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/params",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewParams"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_params(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    write
        .log(
            request,
            Expect::Json,
            Kind::HyperparametersLogged,
            vec![("run", run)],
        )
        .await
}

/// Points of metrics of a run: one, or an array of them.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/metrics",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewRunMetrics"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_run_metrics(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    write
        .log(
            request,
            Expect::Json,
            Kind::MetricLogged,
            vec![("run", run)],
        )
        .await
}

/// Points of metrics of a model version: one, or an array of them.
#[utoipa::path(
    post,
    path = "/v1/models/{model}/versions/{version}/metrics",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("version" = String, Path, description = "The version's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewVersionMetrics"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_version_metrics(
    State(state): State<AppState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let (model, version) = write.version(model, version)?;
    write
        .log(
            request,
            Expect::Json,
            Kind::MetricLogged,
            vec![("model", model), ("version", version)],
        )
        .await
}

/// Files that a run produced: one, or an array of them. Their URIs are kept and never opened.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/artifacts",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewRunArtifacts"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_run_artifacts(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    write
        .log(
            request,
            Expect::Json,
            Kind::ArtifactLogged,
            vec![("run", run)],
        )
        .await
}

/// Files that belong to a model version: one, or an array of them. Their URIs are kept and never opened.
#[utoipa::path(
    post,
    path = "/v1/models/{model}/versions/{version}/artifacts",
    tag = "write",
    params(
        ("model" = String, Path, description = "The model's name."),
        ("version" = String, Path, description = "The version's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewVersionArtifacts"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_version_artifacts(
    State(state): State<AppState>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let (model, version) = write.version(model, version)?;
    write
        .log(
            request,
            Expect::Json,
            Kind::ArtifactLogged,
            vec![("model", model), ("version", version)],
        )
        .await
}

/// A run ended. Without a body its status is `finished`.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/finish",
    tag = "write",
    params(
        ("run" = String, Path, description = "The run's name."),
        ("by" = inline(Option<By>), Query, description = "`id`: the path holds ids."),
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewFinish"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn finish_run(
    State(state): State<AppState>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    let run = write.name(EntityKind::Run, run)?;
    write
        .log(
            request,
            Expect::JsonOrNothing,
            Kind::RunFinished,
            vec![("run", run)],
        )
        .await
}

/// Predictions of model versions: one, or an array of them.
#[utoipa::path(
    post,
    path = "/v1/predictions",
    tag = "write",
    params(
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewPredictions"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_predictions(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    write
        .log(request, Expect::Json, Kind::PredictionLogged, Vec::new())
        .await
}

/// What predictions should have been: one, or an array of them.
#[utoipa::path(
    post,
    path = "/v1/feedback",
    tag = "write",
    params(
        ("strict" = Option<bool>, Query, description = "Refuse unknown fields."),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the first answer again."),
    ),
    request_body = ref("#/components/schemas/NewFeedback"),
    responses(
        (status = 201, body = Logged, description = "Logged, and durable."),
        (status = 200, body = Logged, description = "Nothing of it was new."),
        Problems,
        WriteProblems,
    )
)]
async fn log_feedback(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::fact(&state, &request)?;
    write
        .log(request, Expect::Json, Kind::FeedbackLogged, Vec::new())
        .await
}
