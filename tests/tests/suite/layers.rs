//! A store that keeps little before one that keeps everything, as one.

use std::sync::Arc;

use async_trait::async_trait;
use modelog_engine::Checkpoint;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::read::Layered;
use modelog_tests::read_store::Subject;

/// Two stores as one, the second answering what the first no longer keeps.
pub(crate) fn layered(first: Subject, second: Subject) -> Subject {
    Subject {
        projection: Box::new(Both {
            first: first.projection,
            second: second.projection,
        }),
        reads: Arc::new(Layered::new(first.reads, second.reads, ())),
        guard: Box::new((first.guard, second.guard)),
    }
}

/// Two projections as one.
struct Both {
    first: Box<dyn Projection>,
    second: Box<dyn Projection>,
}

#[async_trait]
impl Projection for Both {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn fold_version(&self) -> u32 {
        self.first.fold_version()
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        self.first.open().await?;
        self.second.open().await
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        self.first.apply(batches, view, to).await?;
        self.second.apply(batches, view, to).await
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        self.first.clear().await?;
        self.second.clear().await
    }
}
