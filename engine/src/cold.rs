//! The cold part of the log: history that segments no longer hold. `exporters/parquet` implements it.

use std::fmt;
use std::sync::Arc;

use crate::Offset;
use crate::batch::LoggedBatch;
use crate::error::LogError;

/// Verified history below an offset.
pub trait ColdTier: Send + Sync + fmt::Debug {
    /// Everything before this offset is held, verified and durable.
    fn end(&self) -> Offset;

    /// Batches from an offset below [`end`](Self::end) on, of about `limit_bytes`. Rows before `from` may be among them.
    ///
    /// # Errors
    /// [`LogError`] if a file is missing or is not what was verified.
    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<Arc<LoggedBatch>>, LogError>;
}
