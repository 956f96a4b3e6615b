//! Answers from Redis. Every question takes one or two trips to the server, however long its answer is, and one more for
//! each name that was not asked for before.
//!
//! Where an answer would need what is no longer kept, or what expired or was evicted, it is
//! [`ReadError::NotKept`]. Lists of runs in other orders than by start, or of more runs than can be looked through, are left
//! to SQL in the same way.

mod entities;
mod numbers;
mod predictions;
mod runs;
mod series;
mod statistics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::read::{
    Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, Prediction, ReadError,
    ReadStore, Run, RunFilter, Series, SeriesOwner, SeriesQuery, SeriesSummary, StatsTotals,
    VersionKey, VersionStats,
};
use modelog_engine::{Clock as _, Offset, SystemClock, Timestamp};
use redis::Cmd;
use tokio::sync::Mutex;

use crate::NAME;
use crate::checkpoint::{OURS, REBUILD, Step};
use crate::config::RedisConfig;
use crate::connection::{Commands, Connection, command, int, text};
use crate::error::RedisError;
use crate::hash::Hash;
use crate::health::NOT_WHOLE;
use crate::keys::Keys;
use numbers::Numbers;

/// How many hashes are asked for with one pipeline: while the next come, these are read.
const HASHES: usize = 32;
/// How long a server that could not be reached is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The answer needs what Redis does not keep.
const NOT_KEPT: ReadError = ReadError::NotKept { store: NAME };

/// The store as one that answers questions.
#[derive(Clone, Debug)]
pub struct RedisReads {
    config: Arc<RedisConfig>,
    keys: Keys,
    server: Arc<Mutex<Server>>,
    numbers: Arc<Numbers>,
}

/// The connection of all questions, made when one is asked.
#[derive(Debug, Default)]
struct Server {
    connection: Option<Connection>,
    /// When it broke, or could not be made.
    broke: Option<Duration>,
    clock: SystemClock,
}

impl RedisReads {
    pub(crate) fn new(config: Arc<RedisConfig>) -> Self {
        let patience = config.response_time.min(config.read_time);
        let config = RedisConfig {
            response_time: patience,
            connect_time: config.connect_time.min(patience),
            ..(*config).clone()
        };
        Self {
            keys: Keys::new(&config.prefix),
            config: Arc::new(config),
            server: Arc::default(),
            numbers: Arc::default(),
        }
    }

    async fn connection(&self) -> Result<Connection, RedisError> {
        let mut server = self.server.lock().await;
        if let Some(connection) = &server.connection {
            return Ok(connection.clone());
        }
        let now = server.clock.monotonic();
        if server.broke.is_some_and(|broke| now - broke < RETRY_AFTER) {
            return Err(RedisError::Away {
                address: self.config.address(),
            });
        }
        match Connection::open(&self.config).await {
            Ok(made) => Ok(server.connection.insert(made).clone()),
            Err(error) => {
                server.broke = Some(server.clock.monotonic());
                Err(error)
            }
        }
    }

    /// Whether the server still has all that it was given, and is not about to replace it.
    ///
    /// # Errors
    /// [`ReadError::NotKept`] if it has not, or is.
    async fn whole(&self) -> Result<(), ReadError> {
        let mut asked = command("HMGET", &self.keys.checkpoint());
        asked.arg(&[OURS, NOT_WHOLE, REBUILD]);
        let found = crate::connection::list(self.one(asked).await?);
        let says = |at: usize| found.get(at).and_then(int) == Some(1);
        // Without the mark the store is new, or the mark itself was thrown away.
        let step = found.get(2).and_then(text).and_then(Step::of);
        if says(0) && !says(1) && !step.is_some_and(Step::is_mixed) {
            Ok(())
        } else {
            Err(NOT_KEPT)
        }
    }

    /// An answer, if the server has all that it was given. It is asked for both at once.
    async fn if_whole<T>(
        &self,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let (whole, answer) = tokio::join!(self.whole(), answer);
        whole?;
        answer
    }

    /// An answer about what may be hidden. Both are asked for at once.
    async fn if_shown<S, T>(
        &self,
        shown: impl Future<Output = Result<Option<S>, ReadError>>,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<Option<(S, T)>, ReadError> {
        let (shown, answer) = tokio::join!(shown, answer);
        match shown? {
            None => Ok(None),
            Some(shown) => Ok(Some((shown, answer?))),
        }
    }

    /// The replies to commands, in order.
    async fn run(&self, commands: Commands) -> Result<Vec<redis::Value>, RedisError> {
        let replies = self.connection().await?.run(commands).await;
        if let Err(RedisError::Unreachable { .. }) = replies {
            let mut server = self.server.lock().await;
            server.connection = None;
            server.broke = Some(server.clock.monotonic());
        }
        replies
    }

    async fn one(&self, command: Cmd) -> Result<redis::Value, RedisError> {
        let replies = self.run(vec![command]).await?;
        Ok(replies.into_iter().next().unwrap_or(redis::Value::Nil))
    }

    /// Whole hashes; none where there is none.
    async fn hashes(&self, keys: Vec<String>) -> Result<Vec<Option<Hash>>, RedisError> {
        let some = keys.chunks(HASHES).map(async |keys| {
            let commands = keys.iter().map(|key| command("HGETALL", key));
            let replies = self.run(commands.collect()).await?;
            let hashes = keys.iter().zip(replies);
            let hashes = hashes.map(|(key, reply)| Hash::read(key.clone(), reply));
            hashes.collect::<Result<Vec<_>, RedisError>>()
        });
        let all = futures_util::future::try_join_all(some).await?;
        Ok(all.into_iter().flatten().collect())
    }
}

#[async_trait]
impl ReadStore for RedisReads {
    fn projection(&self) -> &str {
        NAME
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        self.if_whole(self.list_models(page)).await
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        self.if_whole(self.one_model(key)).await
    }

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        self.if_whole(self.list_versions(model, page)).await
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        self.if_whole(self.one_version(key)).await
    }

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError> {
        self.if_whole(self.list_datasets(page)).await
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        self.if_whole(self.one_dataset(key)).await
    }

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError> {
        self.if_whole(self.list_experiments(page)).await
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        self.if_whole(self.one_experiment(key)).await
    }

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError> {
        self.if_whole(self.list_runs(filter, page)).await
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        self.if_whole(self.one_run(key)).await
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        self.if_whole(self.summaries(owner)).await
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        self.if_whole(self.points_of(owner, name, query)).await
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        self.if_whole(self.list_predictions(version, page)).await
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        self.if_whole(self.one_prediction(model, prediction_id))
            .await
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        self.if_whole(self.totals()).await
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        self.if_whole(self.stats_of(version, since, until)).await
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        let mut asked = command("HGET", &self.keys.checkpoint());
        asked.arg("offset");
        let found = self.one(asked).await?;
        Ok(Offset(
            text(&found).and_then(|text| text.parse().ok()).unwrap_or(0),
        ))
    }
}

/// A number out of a reply.
fn id(reply: &redis::Value) -> Option<u32> {
    int(reply).and_then(|number| number.try_into().ok())
}
