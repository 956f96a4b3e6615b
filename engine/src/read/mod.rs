//! The read contract of the unified API: what every store that answers questions must answer, and how.
//!
//! A store's answers are those of a fold of the log up to its checkpoint. The caller decides how fresh that must be
//! (the projection's handle waits for an offset); a store never waits itself.
//!
//! # Rules for every implementation
//! R1. Lists come in a total order and are cut by opaque cursors, so that paging neither repeats nor omits what was
//!     there throughout. Entities by id, newest runs and predictions first.
//! R2. JSON fields come back byte for byte, numbers that are not finite as such.
//! R3. Deleted entities are left out of lists and not found by name, until restored.
//! R4. A limit is obeyed, never exceeded; at most [`PAGE_MAX`].
//! R5. A store that keeps a part of history only says so ([`ReadError::NotKept`]) where it cannot know the answer. It never
//!     answers with less than a store that keeps everything would.

pub mod cursor;
mod downsample;
mod layered;
mod views;

use async_trait::async_trait;

pub use downsample::Downsampler;
pub use layered::{FallBack, Layered};
pub use views::{
    Alias, Artifact, Dataset, Experiment, Feedback, MetricPoint, Model, ModelVersion, Prediction,
    Run, Series, SeriesSummary, StatsTotals, UsedDataset, VersionStats,
};

use crate::names::EntityId;
use crate::{NotYet, Offset, Timestamp};

/// Items of a page unless the caller says otherwise.
pub const PAGE_DEFAULT: u32 = 100;
/// The most items of a page.
pub const PAGE_MAX: u32 = 10_000;

/// Where a list goes on, and how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most [`PAGE_MAX`].
    pub limit: u32,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A stretch of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page starts; none if this is the last.
    pub next_cursor: Option<String>,
}

/// An entity as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Name(String),
    Id(EntityId),
}

/// A version as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionKey {
    Name { model: Key, version: String },
    Alias { model: Key, alias: String },
    Id(EntityId),
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub experiment: Option<String>,
    pub model: Option<String>,
    /// `running`, `finished`, `failed` or `killed`.
    pub status: Option<String>,
    pub order: RunOrder,
}

/// How runs are ordered; ties are broken by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunOrder {
    #[default]
    NewestStarted,
    OldestStarted,
    Name,
}

/// Which points of a series to read; bounds are inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesQuery {
    /// `None` asks for the points logged without a split.
    pub split: Option<String>,
    pub from_step: Option<i64>,
    pub to_step: Option<i64>,
    /// Beyond this many, first, last, min and max of every bucket are kept, as [`Downsampler`] does.
    pub max_points: Option<u32>,
}

/// Whose metrics to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesOwner {
    Run(Key),
    Version(VersionKey),
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cursor is not one of ours.
    #[error("the cursor is not one that this list gave out")]
    Cursor,
    /// The answer needs more of history than the store keeps; one that keeps all of it has the answer.
    #[error("the {store} store no longer keeps what this asks for")]
    NotKept { store: &'static str },
    /// The store that has the answer does not follow the log closely enough.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// The store cannot be reached or failed; trying again may help.
    #[error("the {store} store cannot answer")]
    Unavailable {
        store: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store that answers questions.
#[async_trait]
pub trait ReadStore: Send + Sync {
    /// The projection that feeds it.
    fn projection(&self) -> &str;

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError>;
    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError>;

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError>;
    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError>;

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError>;
    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError>;

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError>;
    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError>;

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError>;
    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError>;

    /// Every series of a run or version, by (name, split).
    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError>;
    /// The points of a series, by (step, time, offset); none if the owner is unknown, empty if the series is.
    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError>;

    /// Predictions of a version, newest first by (time, offset), with their latest feedback.
    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError>;
    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError>;

    /// Totals over everything.
    async fn stats(&self) -> Result<StatsTotals, ReadError>;
    /// Statistics of a version: over all time, or over predictions whose event time lies in `[since, until)`.
    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError>;

    /// The end of what the store's answers cover.
    async fn offset(&self) -> Result<Offset, ReadError>;
}
