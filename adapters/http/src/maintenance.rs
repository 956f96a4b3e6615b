//! Work on the data directory itself: compacting, and backing up.
//!
//! What is done is the program's business ([`Maintenance`]); here is who may ask for it, and how it is answered. Work
//! that was begun is finished though the client goes away: its answer is lost then, nothing else.
//!
//! # Why backups need the control socket
//! The request names a path on the server's machine, which the server then writes to with its own rights. Whoever may
//! open the control socket owns the data directory and has those rights anyway; a token must not lend them out.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use modelog_engine::Offset;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::{expect_json, receive};
use crate::codes::Code;
use crate::encoding::Encoding;
use crate::gate::Door;
use crate::problem::{Problem, ProblemBody, Problems};
use crate::query::Query;
use crate::state::AppState;

/// What a program does to its data directory when it is asked to.
#[async_trait]
pub trait Maintenance: Send + Sync + fmt::Debug {
    /// Puts everything that is in the log now into Parquet files.
    async fn compact(&self) -> Result<Compacted, MaintenanceError>;

    /// Makes a backup in a directory, given by its absolute path. Of those there, `keep` are kept: the newest.
    async fn back_up(&self, to: PathBuf, keep: Option<u32>) -> Result<BackedUp, MaintenanceError>;

    /// The tasks that fail at present, and are tried again: `backup`.
    fn failing(&self) -> Vec<&'static str>;
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceError {
    /// One backup is made at a time.
    #[error("another backup is being made")]
    Busy,
    /// Not a place for backups; the reason says what it is.
    #[error("{0}")]
    Destination(String),
    /// Nothing is lost: the log keeps what is not in Parquet.
    #[error("{0}")]
    Compaction(String),
    /// Earlier backups are as they were.
    #[error("{0}")]
    Backup(String),
}

/// What a compaction wrote, and what there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Compacted {
    /// Parquet files written by this call.
    pub files: u64,
    /// Rows in them: events, names and origins.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
    /// All events before this offset are in verified Parquet files.
    #[schema(value_type = u64)]
    pub cold_end: Offset,
    /// All Parquet files there are now.
    pub total_files: u64,
    pub total_rows: u64,
    pub total_bytes: u64,
}

/// A backup that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BackedUp {
    /// Its directory.
    pub path: String,
    /// It holds all events before this offset.
    #[schema(value_type = u64)]
    pub offset: Offset,
    /// Files that the backup before did not have.
    pub new_files: u64,
    pub new_bytes: u64,
    /// Files that it had: both hold the same.
    pub reused_files: u64,
    pub reused_bytes: u64,
    /// Directories of older backups that were removed.
    pub removed: Vec<String>,
}

/// Where a backup is to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBackup {
    /// The directory of the backups, as an absolute path on the server's machine; it is created if it is not there.
    #[schema(value_type = String, example = "/var/backups/modelog")]
    path: PathBuf,
    /// How many backups to keep there, this one among them; all, if it is not given.
    #[schema(minimum = 1)]
    keep: Option<u32>,
}

impl From<MaintenanceError> for Problem {
    fn from(error: MaintenanceError) -> Self {
        let code = match &error {
            MaintenanceError::Busy => Code::Busy,
            MaintenanceError::Destination(_) => Code::BadDestination,
            MaintenanceError::Compaction(_) => Code::CompactionFailed,
            MaintenanceError::Backup(_) => Code::BackupFailed,
        };
        Self::new(code, error.to_string())
    }
}

/// Routes that need the scope `admin`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(compact))
        .routes(routes!(back_up))
}

/// Puts everything that is in the log now into Parquet files, without waiting for them to fill up. Answers when it is
/// done, which takes as long as it takes.
#[utoipa::path(
    post,
    path = "/v1/compact",
    tag = "admin",
    responses((status = 200, body = Compacted, description = "What was written."), Problems)
)]
async fn compact(State(state): State<AppState>, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let maintenance = Arc::clone(&state.services.maintenance);
    let done = tokio::spawn(async move { maintenance.compact().await });
    let compacted = done.await.map_err(Problem::internal)??;
    Ok(Json(compacted).into_response())
}

/// Makes a backup on the server's machine, beside the earlier ones and sharing with them what has not changed. Only
/// over the control socket of the data directory. Answers when it is done.
#[utoipa::path(
    post,
    path = "/v1/backups",
    tag = "admin",
    request_body(content = NewBackup, content_type = "application/json"),
    responses(
        (status = 201, body = BackedUp, description = "The backup is complete and was checked."),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
         description = "Another backup is being made."),
        (status = 422, body = ProblemBody, content_type = "application/problem+json",
         description = "The place for the backup cannot be used."),
        Problems,
    )
)]
async fn back_up(
    State(state): State<AppState>,
    door: Option<Extension<Door>>,
    request: Request,
) -> Result<Response, Problem> {
    if door.map(|Extension(door)| door) != Some(Door::Control) {
        return Err(Problem::new(
            Code::ControlOnly,
            "a backup is written to the server's machine: it is asked for there",
        ));
    }
    Query::parse(request.uri().query(), &[])?;
    let NewBackup { path, keep } = asked(&state, request).await?;
    let maintenance = Arc::clone(&state.services.maintenance);
    let done = tokio::spawn(async move { maintenance.back_up(path, keep).await });
    let backup = done.await.map_err(Problem::internal)??;
    Ok((StatusCode::CREATED, Json(backup)).into_response())
}

/// Reads what backup is asked for.
async fn asked(state: &AppState, request: Request) -> Result<NewBackup, Problem> {
    let wrong = |what: String| {
        let detail = format!("the body must be {{\"path\": \"/absolute/path\"}}: {what}");
        Problem::new(Code::BadDestination, detail)
    };
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    let received = receive(state, &head.headers, body).await?;
    if received.encoding != Encoding::Identity {
        return Err(wrong("it is not compressed".to_owned()));
    }
    let asked: NewBackup =
        serde_json::from_slice(&received.bytes).map_err(|error| wrong(error.to_string()))?;
    if !asked.path.is_absolute() {
        return Err(wrong(format!("{:?} is not absolute", asked.path)));
    }
    if asked.keep == Some(0) {
        return Err(wrong("`keep` must be at least 1".to_owned()));
    }
    Ok(asked)
}
