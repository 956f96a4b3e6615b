//! Predictions that a window no longer holds.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::names::EntityId;

/// How many are known.
const LEFT_IDS_MAX: usize = 1 << 17;

/// Predictions that have left, the newest of them: hashes of models and ids, and the version each was of.
#[derive(Debug, Default)]
pub struct LeftIds {
    order: VecDeque<u64>,
    versions: HashMap<u64, EntityId>,
}

impl LeftIds {
    fn hash(model: EntityId, id: &str) -> u64 {
        xxh3_64_with_seed(id.as_bytes(), model.into())
    }

    /// Notes that a prediction has left, or which version it is of now.
    pub fn add(&mut self, model: EntityId, id: &str, version: EntityId) {
        let hash = Self::hash(model, id);
        if self.versions.insert(hash, version).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > LEFT_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// The version a prediction was of that has left.
    #[must_use]
    pub fn version(&self, model: EntityId, id: &str) -> Option<EntityId> {
        if self.versions.is_empty() {
            return None;
        }
        self.versions.get(&Self::hash(model, id)).copied()
    }
}
