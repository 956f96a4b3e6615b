//! What a window no longer holds, known by hashes: the newest of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::names::EntityId;

/// Hashes of predictions, which are not hashed once more.
pub type Hashes = HashSet<u64, BuildHasherDefault<ByItself>>;

/// Takes a hash as it is.
#[derive(Debug, Default)]
pub struct ByItself(u64);

impl Hasher for ByItself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
}

/// Values by the hashes of what has left; the oldest are forgotten.
#[derive(Debug)]
struct Newest<V> {
    order: VecDeque<u64>,
    values: HashMap<u64, V, BuildHasherDefault<ByItself>>,
}

impl<V> Default for Newest<V> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            values: HashMap::default(),
        }
    }
}

impl<V> Newest<V> {
    fn add(&mut self, hash: u64, value: V) {
        if self.values.insert(hash, value).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > LeftIds::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

/// Predictions that have left: by their models and ids, the version each was of.
#[derive(Debug, Default)]
pub struct LeftIds(Newest<EntityId>);

impl LeftIds {
    /// How many are known.
    pub const MAX: usize = 1 << 17;

    /// By what a prediction is known.
    #[must_use]
    pub fn hash(model: EntityId, id: &str) -> u64 {
        xxh3_64_with_seed(id.as_bytes(), model.into())
    }

    /// Notes that a prediction has left, or which version it is of now.
    pub fn add(&mut self, model: EntityId, id: &str, version: EntityId) {
        self.add_hash(Self::hash(model, id), version);
    }

    /// Notes by its hash that a prediction has left.
    pub fn add_hash(&mut self, hash: u64, version: EntityId) {
        self.0.add(hash, version);
    }

    /// Whether a prediction of this hash has left.
    #[must_use]
    pub fn contains_hash(&self, hash: u64) -> bool {
        self.0.values.contains_key(&hash)
    }

    /// The version a prediction was of that has left.
    #[must_use]
    pub fn version(&self, model: EntityId, id: &str) -> Option<EntityId> {
        if self.0.values.is_empty() {
            return None;
        }
        self.0.values.get(&Self::hash(model, id)).copied()
    }
}

/// Ids of predictions for which feedback has waited, and waits no more.
#[derive(Debug, Default)]
pub(super) struct NotAwaited(Newest<()>);

impl NotAwaited {
    pub(super) fn add(&mut self, id: &str) {
        self.0.add(xxh3_64(id.as_bytes()), ());
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        !self.0.values.is_empty() && self.0.values.contains_key(&xxh3_64(id.as_bytes()))
    }
}
