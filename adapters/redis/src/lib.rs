//! Live reads in Redis: a projection that keeps what is new there, and a store that answers from it.
//!
//! ```text
//! log ─▶ fold: what changes ─▶ read what is there ─▶ write: members, then hashes that say how far they are ─▶ checkpoint
//! ```
//!
//! # Layout
//! Below a prefix, `aidb` unless told otherwise. `%`, `:`, `{` and `}` in names are percent-encoded; an absent split is `_`.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `model:1`, `version:3`, `dataset:2`, `experiment:1`, `run:5` | hash | an entity, field by field; objects and lists as JSON |
//! | `hyperparam:5` | hash | a run's parameters: the JSON of each value |
//! | `metric:5:loss:train`, `metric:version:3:loss:_` | sorted set | points by step; a member is the offset in 20 digits, then JSON |
//! | `series:5`, `series:version:3` | hash | each series in short, as JSON, by `name:split` |
//! | `prediction:p-1` | hash | a prediction, with its latest feedback; `prediction:p-1:2` where another model has the plain key |
//! | `idx:predictions:3` | sorted set | a version's predictions by time; a member is the offset in 20 digits, `:`, and what follows `prediction:` in the key |
//! | `idx:models`, `idx:versions:1`, `idx:datasets`, `idx:experiments`, `idx:runs` | sorted set | numbers of entities that are not deleted |
//! | `idx:name:model`, `idx:name:version:1`, … | hash | name to number |
//! | `exprun:1:runs` | set | runs of an experiment |
//! | `counter:model`, … | string | the highest number given |
//! | `stream:predictions:3`, `stream:metrics:5`, `stream:events` | stream | the feed |
//! | `stats`, `stats:version:3` | hash | what the engine counted |
//! | `left` | hash | of each version, the highest place of predictions that are no longer kept |
//! | `feedback:p-1`, `idx:feedback` | hash, sorted set | feedback that waits for its prediction |
//! | `checkpoint` | hash | log, epoch, offset, version of the fold; whether the server has thrown keys away; how far a rebuild is |
//! | `rebuild:{aidb:model:1}`, … | | the store while it is built again: each key, with its prefix, in braces |
//!
//! # Invariants
//! K1. Every write says what is, not what to add: doing it again, or doing the last few batches again, changes nothing in the
//!     end. A hash that is made from what was there says up to which event it is made; older events pass it by.
//! K2. Every reply is looked at. What a hash says to be done was done before it was written, and the checkpoint is written
//!     last: whatever of a batch failed is done again.
//! K3. A prediction of a version above the bound in `left` is there, whole and up to the checkpoint; nothing is claimed of
//!     those below.
//! K4. Nothing outside of the prefix is touched, and nothing inside of it that is not ours.
//! K5. No command reaches across slots, and none relies on another to have happened at the same moment.

mod aside;
mod checkpoint;
mod config;
mod connection;
mod error;
mod fold;
mod handwritten;
mod hash;
mod health;
mod keys;
mod projection;
mod reads;
mod scan;

use std::sync::Arc;

pub use config::{RedisConfig, Streams};
pub use error::RedisError;
pub use handwritten::{Handwritten, Report, Taker};
pub use projection::RedisProjection;
pub use reads::RedisReads;

/// The name of the projection, and of the store.
pub(crate) const NAME: &str = "redis";

/// A Redis store. Nothing is opened before the projection runs or a question is asked.
#[derive(Clone, Debug)]
pub struct RedisStore {
    config: Arc<RedisConfig>,
}

impl RedisStore {
    /// The store these settings mean.
    ///
    /// # Errors
    /// [`RedisError::Setting`], if there can be none.
    pub fn new(config: RedisConfig) -> Result<Self, RedisError> {
        config.check()?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// What fills it. Only one may run at a time.
    #[must_use]
    pub fn projection(&self) -> RedisProjection {
        RedisProjection::new(Arc::clone(&self.config))
    }

    /// What answers from it.
    #[must_use]
    pub fn reads(&self) -> RedisReads {
        RedisReads::new(Arc::clone(&self.config))
    }
}
