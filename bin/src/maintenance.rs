//! What the running server does to its data directory when it is asked to.

use std::path::PathBuf;

use async_trait::async_trait;
use modelog_http::{BackedUp, Compacted, Maintenance, MaintenanceError};

/// The one who does it.
#[derive(Debug)]
pub(crate) struct Keeper;

#[async_trait]
impl Maintenance for Keeper {
    async fn compact(&self) -> Result<Compacted, MaintenanceError> {
        Err(MaintenanceError::Compaction("there is no Parquet".into()))
    }

    async fn back_up(&self, _: PathBuf, _: Option<u32>) -> Result<BackedUp, MaintenanceError> {
        Err(MaintenanceError::Busy)
    }

    fn failing(&self) -> Vec<&'static str> {
        Vec::new()
    }
}
