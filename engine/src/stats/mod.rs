//! The one fold behind every count, rate and quantile.

use crate::Offset;
use crate::batch::LoggedBatch;
use crate::names::Names;

/// Statistics of a log, up to an offset.
#[derive(Debug, Default)]
pub struct Statistics {
    offset: Offset,
}

impl Statistics {
    pub fn offset(&self) -> Offset {
        self.offset
    }
    pub fn apply(&mut self, batch: &LoggedBatch, _names: &Names) {
        self.offset = self.offset.max(batch.end());
    }
    pub fn encode(&self) -> Vec<u8> {
        self.offset.0.to_le_bytes().to_vec()
    }
    pub fn decode(bytes: &[u8]) -> Result<Self, ()> {
        Ok(Self {
            offset: Offset(u64::from_le_bytes(bytes.try_into().map_err(|_| ())?)),
        })
    }
}
