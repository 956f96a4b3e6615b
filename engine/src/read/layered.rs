//! Two stores as one: what the first no longer keeps, or does not answer at all, the second answers.
//!
//! The first is fast and keeps a part of history, the second keeps all of it. They make and read the same cursors, so a
//! list begins in the one and goes on in the other.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, Prediction, ReadError,
    ReadStore, Run, RunFilter, Series, SeriesOwner, SeriesQuery, SeriesSummary, StatsTotals,
    VersionKey, VersionStats,
};
use crate::{Offset, Timestamp, chain};

/// What happens before the second store answers.
#[async_trait]
pub trait FallBack: Send + Sync {
    /// Waits, perhaps, until the second store covers what the first one did.
    ///
    /// # Errors
    /// Why the second store must not answer either.
    async fn before(&self) -> Result<(), ReadError>;
}

/// Nothing happens.
#[async_trait]
impl FallBack for () {
    async fn before(&self) -> Result<(), ReadError> {
        Ok(())
    }
}

/// Two stores as one.
pub struct Layered<F> {
    first: Arc<dyn ReadStore>,
    second: Arc<dyn ReadStore>,
    fall_back: F,
}

impl<F: FallBack> Layered<F> {
    /// What asks the first store, and where that is of no use the second.
    pub fn new(first: Arc<dyn ReadStore>, second: Arc<dyn ReadStore>, fall_back: F) -> Self {
        Self {
            first,
            second,
            fall_back,
        }
    }
}

impl<F> std::fmt::Debug for Layered<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered")
            .field("first", &self.first.projection())
            .field("second", &self.second.projection())
            .finish_non_exhaustive()
    }
}

/// The answer of the first store, unless it says that it no longer keeps it, or is away.
macro_rules! either {
    ($self:ident, $store:ident => $ask:expr) => {{
        let $store = &$self.first;
        match $ask.await {
            Err(error @ (ReadError::NotKept { .. } | ReadError::Unavailable { .. })) => {
                tracing::debug!(reason = %chain(&error), "the other store is asked");
                $self.fall_back.before().await?;
                let $store = &$self.second;
                $ask.await
            }
            answer => answer,
        }
    }};
}

#[async_trait]
impl<F: FallBack> ReadStore for Layered<F> {
    fn projection(&self) -> &str {
        self.first.projection()
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        either!(self, store => store.models(page.clone()))
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        either!(self, store => store.model(key))
    }

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        either!(self, store => store.versions(model, page.clone()))
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        either!(self, store => store.version(key))
    }

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError> {
        either!(self, store => store.datasets(page.clone()))
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        either!(self, store => store.dataset(key))
    }

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError> {
        either!(self, store => store.experiments(page.clone()))
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        either!(self, store => store.experiment(key))
    }

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError> {
        either!(self, store => store.runs(filter, page.clone()))
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        either!(self, store => store.run(key))
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        either!(self, store => store.series(owner))
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        either!(self, store => store.points(owner, name, query))
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        either!(self, store => store.predictions(version, page.clone()))
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        either!(self, store => store.prediction(model, prediction_id))
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        either!(self, store => store.stats())
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        either!(self, store => store.version_stats(version, since, until))
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        self.first.offset().await
    }
}
