//! The cold part of the log: history that segments no longer hold. `exporters/parquet` implements it.

use std::fmt;
use std::sync::Arc;

use crate::batch::LoggedBatch;
use crate::error::LogError;
use crate::{LogId, Offset};

/// Verified history below an offset.
pub trait ColdTier: Send + Sync + fmt::Debug {
    /// Whose history it holds; none if it holds nothing yet.
    fn log(&self) -> Option<LogId>;

    /// Everything before this offset is held, verified and durable.
    fn end(&self) -> Offset;

    /// Batches from an offset below [`end`](Self::end) on, of about `limit_bytes`: at least one, each starting where the
    /// one before ended, the first at `from` or before it. Their names and origins are those of the log; which epoch
    /// they belong to is for the reader to say.
    ///
    /// # Errors
    /// [`LogError`] if a file is missing or is not what was verified.
    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError>;
}
