//! Answers from Redis. Every question takes one or two trips to the server, however long its answer is, and one more for
//! each name that was not asked for before.
//!
//! On every trip the last thing that is asked is whether the server has all that it was given: it may be emptied, or the
//! store be replaced, between two trips of one question.
//!
//! Where an answer would need what is no longer kept, or what expired or was evicted, it is
//! [`ReadError::NotKept`]. Lists of runs in other orders than by start, or of more runs than can be looked through, are left
//! to SQL in the same way.

mod entities;
mod line;
mod numbers;
mod predictions;
mod replies;
mod runs;
mod series;
mod statistics;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::read::{
    Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, Prediction, ReadError,
    ReadStore, Run, RunFilter, Series, SeriesOwner, SeriesQuery, SeriesSummary, StatsTotals,
    VersionKey, VersionStats,
};
use modelog_engine::{Clock as _, Offset, SystemClock, Timestamp};
use redis::Cmd;
use tokio::sync::Semaphore;

use crate::NAME;
use crate::checkpoint::{OURS, REBUILD, Step};
use crate::config::RedisConfig;
use crate::connection::{Commands, command, refused_with};
use crate::error::RedisError;
use crate::hash::Hash;
use crate::health::NOT_WHOLE;
use crate::keys::Keys;
use line::Line;
use numbers::Numbers;
use replies::{Replies, Reply};

/// How many hashes are asked for at once.
const HASHES: usize = 1000;
/// How many connections there are for questions, at most.
const LINES: usize = 16;
/// How long a server that could not be reached is not tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The answer needs what Redis does not keep.
const NOT_KEPT: ReadError = ReadError::NotKept { store: NAME };

/// The store as one that answers questions.
#[derive(Clone, Debug)]
pub struct RedisReads {
    config: Arc<RedisConfig>,
    keys: Keys,
    lines: Arc<Lines>,
    numbers: Arc<Numbers>,
}

/// The connections of all questions, made when one is asked.
struct Lines {
    /// Those that nobody asks on.
    idle: Mutex<Vec<Line>>,
    /// As many questions are asked at a time.
    room: Semaphore,
    /// When one broke, or could not be made.
    broke: Mutex<Option<Duration>>,
    clock: SystemClock,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            room: Semaphore::new(LINES),
            broke: Mutex::default(),
            clock: SystemClock::default(),
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
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
            lines: Arc::default(),
            numbers: Arc::default(),
        }
    }

    /// The replies to commands, in order, refusals among them.
    async fn ask(&self, commands: &[Cmd]) -> Result<Replies, RedisError> {
        let _room = self.lines.room.acquire().await;
        let idle = lock(&self.lines.idle).pop();
        if let Some(line) = idle {
            match self.ask_on(line, commands).await {
                // A server that was restarted has closed them all, which is nothing to be told of.
                Err(RedisError::Unreachable { source, .. }) if !source.is_timeout() => {
                    lock(&self.lines.idle).clear();
                }
                answered => return answered,
            }
        }
        let now = self.lines.clock.monotonic();
        let broke = *lock(&self.lines.broke);
        if broke.is_some_and(|broke| now - broke < RETRY_AFTER) {
            return Err(RedisError::Away {
                address: self.config.address(),
            });
        }
        let answered = async {
            let line = Line::open(&self.config).await?;
            self.ask_on(line, commands).await
        };
        let answered = answered.await;
        if answered.is_err() {
            *lock(&self.lines.broke) = Some(self.lines.clock.monotonic());
        }
        answered
    }

    async fn ask_on(&self, mut line: Line, commands: &[Cmd]) -> Result<Replies, RedisError> {
        let asked = tokio::time::timeout(self.config.response_time, line.ask(commands)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(replies) => {
                lock(&self.lines.idle).push(line);
                Ok(replies)
            }
            Err(error) => Err(RedisError::Unreachable {
                address: self.config.address(),
                source: error.into(),
            }),
        }
    }

    /// The replies to commands, in order, and one more.
    ///
    /// # Errors
    /// [`RedisError::NotWhole`] if the server has not all that it was given, or is about to replace it;
    /// [`RedisError::Refused`] for the first command that it does not do.
    async fn run(&self, mut commands: Commands) -> Result<Replies, RedisError> {
        let mut whole = command("HMGET", &self.keys.checkpoint());
        whole.arg(&[OURS, NOT_WHOLE, REBUILD]);
        commands.push(whole);
        let replies = self.ask(&commands).await?;
        let mut refusal = Ok(());
        let mut whole = Reply::Nil;
        for (command, reply) in commands.iter().zip(replies.iter()) {
            if let (Reply::Refusal(reply), Ok(())) = (reply, &refusal) {
                let code = reply.split(' ').next().unwrap_or_default();
                refusal = Err(refused_with(command, code, reply.to_owned()));
            }
            whole = reply;
        }
        if let Reply::Refusal(_) = whole {
            // It does not say, as while it reads its own copy from the disk.
            return refusal.map(|()| replies);
        }
        let mut whole = whole.list();
        let mut next = || whole.next().unwrap_or(Reply::Nil);
        // Without the mark the store is new, or the mark itself was thrown away.
        let (ours, not_whole, step) = (next().int(), next().int(), next().text());
        let is_mixed = step.and_then(Step::of).is_some_and(Step::is_mixed);
        if ours != Some(1) || not_whole == Some(1) || is_mixed {
            return Err(RedisError::NotWhole);
        }
        refusal.map(|()| replies)
    }

    async fn one(&self, command: Cmd) -> Result<Replies, RedisError> {
        self.run(vec![command]).await
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

    /// What whole hashes hold; none where there is none.
    async fn hashes<T>(
        &self,
        keys: Vec<String>,
        read: impl Fn(Hash<&str>) -> Result<T, RedisError>,
    ) -> Result<Vec<Option<T>>, RedisError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let some: Vec<String> = keys.by_ref().take(HASHES).collect();
            let commands = some.iter().map(|key| command("HGETALL", key));
            let replies = self.run(commands.collect()).await?;
            for (key, reply) in some.into_iter().zip(replies.iter()) {
                found.push(read_hash(key, reply)?.map(&read).transpose()?);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl ReadStore for RedisReads {
    fn projection(&self) -> &str {
        NAME
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        self.list_models(page).await
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        self.one_model(key).await
    }

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        self.list_versions(model, page).await
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        self.one_version(key).await
    }

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError> {
        self.list_datasets(page).await
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        self.one_dataset(key).await
    }

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError> {
        self.list_experiments(page).await
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        self.one_experiment(key).await
    }

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError> {
        self.list_runs(filter, page).await
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        self.one_run(key).await
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        self.summaries(owner).await
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        self.points_of(owner, name, query).await
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        self.list_predictions(version, page).await
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        self.one_prediction(model, prediction_id).await
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        self.totals().await
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        self.stats_of(version, since, until).await
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        let mut asked = command("HGET", &self.keys.checkpoint());
        asked.arg("offset");
        let found = self.ask(&[asked]).await?;
        let offset = found.first().text();
        Ok(Offset(
            offset.and_then(|text| text.parse().ok()).unwrap_or(0),
        ))
    }
}

/// A hash that is there.
fn read_hash(key: String, reply: Reply<'_>) -> Result<Option<Hash<&str>>, RedisError> {
    Hash::of(key, reply.list().map(Reply::text))
}

/// A number out of a reply.
fn id(reply: Reply<'_>) -> Option<u32> {
    reply.int().and_then(|number| number.try_into().ok())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
