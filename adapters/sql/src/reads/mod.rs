//! Answers questions from the tables.
//!
//! ```text
//! question ─▶ Snapshot: one read transaction ─▶ statements ─▶ rows ─▶ views
//!             entities, runs, series, predictions, statistics
//! ```
//!
//! # Invariants
//! Q1. All statements of an answer see one commit of the projection, so its parts agree.
//! Q2. The number of statements of an answer does not depend on how many rows it has: what belongs to the rows of a page
//!     is read for all of them at once.
//! Q3. A page starts where its cursor says by key, never by counting, and reads one row more than it has to, to know
//!     whether there are more.
//! Q4. Memory is that of the answer: rows that are only counted or thinned out pass by one at a time.
//!
//! # Hidden things
//! What is deleted is in no list and not found, by name or by number; a version is hidden with its model, and what
//! belongs to a hidden entity with it. A run goes on showing the names of what it used.
//!
//! # Failure
//! A database that is away, or not there yet, is [`ReadError::Unavailable`]. One that is being replaced is waited for.

mod entities;
mod predictions;
mod runs;
mod series;
mod snapshot;
mod statistics;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use modelog_engine::read::{
    Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, Prediction, ReadError,
    ReadStore, Run, RunFilter, Series, SeriesOwner, SeriesQuery, SeriesSummary, StatsTotals,
    VersionKey, VersionStats,
};
use modelog_engine::{Offset, Timestamp};

use crate::database::Database;
use snapshot::{Failure, Snapshot};

/// The store as one that answers questions.
#[derive(Clone, Debug)]
pub struct SqlReads {
    database: Arc<Database>,
}

impl SqlReads {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    async fn snapshot(&self) -> Result<Snapshot, Failure> {
        Snapshot::begin(&self.database).await
    }
}

#[async_trait]
impl ReadStore for SqlReads {
    fn projection(&self) -> &str {
        "sql"
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let models = entities::models(&mut snapshot, page).await?;
        snapshot.end(models).await
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let model = entities::model(&mut snapshot, key).await?;
        snapshot.end(model).await
    }

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let versions = entities::versions(&mut snapshot, model, page).await?;
        snapshot.end(versions).await
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let version = entities::version(&mut snapshot, key).await?;
        snapshot.end(version).await
    }

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let datasets = entities::datasets(&mut snapshot, page).await?;
        snapshot.end(datasets).await
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let dataset = entities::dataset(&mut snapshot, key).await?;
        snapshot.end(dataset).await
    }

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let experiments = entities::experiments(&mut snapshot, page).await?;
        snapshot.end(experiments).await
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let experiment = entities::experiment(&mut snapshot, key).await?;
        snapshot.end(experiment).await
    }

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let runs = runs::runs(&mut snapshot, filter, page).await?;
        snapshot.end(runs).await
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let run = runs::run(&mut snapshot, key).await?;
        snapshot.end(run).await
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let series = series::summaries(&mut snapshot, owner).await?;
        snapshot.end(series).await
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let points = series::points(&mut snapshot, owner, name, query).await?;
        snapshot.end(points).await
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let predictions = predictions::predictions(&mut snapshot, version, page).await?;
        snapshot.end(predictions).await
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let prediction = predictions::prediction(&mut snapshot, model, prediction_id).await?;
        snapshot.end(prediction).await
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let totals = statistics::totals(&mut snapshot).await?;
        snapshot.end(totals).await
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let stats = statistics::version(&mut snapshot, version, since, until).await?;
        snapshot.end(stats).await
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        let mut snapshot = self.snapshot().await?;
        let offset = statistics::offset(&mut snapshot).await?;
        snapshot.end(offset).await
    }
}
