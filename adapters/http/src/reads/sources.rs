//! How far sources are: what is read from elsewhere into the log.

use axum::extract::State;
use axum::response::Response;
use modelog_engine::sources::{PartitionStatus, SourceStatus};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{List, json};
use super::parameters::{Asked, Nothing};
use crate::problem::{Problem, Problems};
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(sources))
}

/// Where a source stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Source {
    #[schema(example = "kafka:modelog")]
    name: String,
    /// `connecting`, `running`, `degraded`, `failed` or `stopped`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it is not simply running.
    reason: Option<String>,
    /// The identity of what it reads from, once that is known.
    cluster: Option<String>,
    /// What it was told to read.
    topics: Vec<String>,
    /// How often partitions were given or taken since the server started.
    rebalances: u64,
    /// Those it has now.
    partitions: Vec<SourcePartition>,
}

/// Where a source stands in one partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SourcePartition {
    topic: String,
    partition: i32,
    /// The next position that the log needs, once that is known.
    position: Option<i64>,
    /// The position committed to the group, as far as this member knows.
    committed: Option<i64>,
    /// How many positions can be read and are not in the log yet, if that is known.
    lag: Option<i64>,
    /// `waiting`, `reading`, `paused`, `halted` or `stalled`.
    #[schema(example = "reading")]
    state: &'static str,
    /// Why it is not simply read.
    reason: Option<String>,
}

impl From<SourceStatus> for Source {
    fn from(status: SourceStatus) -> Self {
        let SourceStatus {
            name,
            state,
            reason,
            cluster,
            topics,
            rebalances,
            partitions,
        } = status;
        Self {
            name,
            state: state.name(),
            reason,
            cluster,
            topics,
            rebalances,
            partitions: partitions.into_iter().map(SourcePartition::from).collect(),
        }
    }
}

impl From<PartitionStatus> for SourcePartition {
    fn from(status: PartitionStatus) -> Self {
        let PartitionStatus {
            topic,
            partition,
            position,
            committed,
            lag,
            state,
            reason,
        } = status;
        Self {
            topic,
            partition,
            position,
            committed,
            lag,
            state: state.name(),
            reason,
        }
    }
}

/// All sources, in the order of the configuration.
#[utoipa::path(
    get,
    path = "/v1/sources",
    tag = "admin",
    responses((status = 200, body = List<Source>), Problems)
)]
async fn sources(
    State(state): State<AppState>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    let sources = (state.services.sources)();
    json(&List {
        items: sources.into_iter().map(Source::from).collect(),
        next_cursor: None,
    })
}
