//! Fills Redis from the log.
//!
//! Each call to `apply` asks first whether the checkpoint is where this program left it: a server that was emptied, or that
//! somebody else writes to, is noticed before anything is written. It ends by moving it; the reply says how many of the
//! fields are new, and so whether the server was emptied meanwhile. Then nothing counts as done.
//!
//! # After a connection
//! A server that was a replica may lack the last moments of what its master had acknowledged, and where there are several
//! servers each its own. So the checkpoint says not only how far everything is, but how far it was some seconds before; every
//! connection starts from there, and writes those seconds again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Clock as _, LogId, Offset, SystemClock};

use crate::NAME;
use crate::config::RedisConfig;
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::fold::feed::Tops;
use crate::fold::predictions::{Memory, SHARED};
use crate::fold::{self, Batches, Writes};
use crate::hash::Hash;
use crate::health::Health;
use crate::keys::Keys;

/// The version of the rules in `fold`: stores filled by others must be rebuilt.
const FOLD_VERSION: u32 = 1;
/// The fields of the checkpoint; without them nothing is done.
const FIELDS: [&str; 5] = ["log", "epoch", "offset", "fold_version", "before"];
/// How often the server is asked whether it keeps what it was given.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The field that says whose keys these are.
pub(crate) const OURS: &str = "modelog";
/// How many keys are looked at, or removed, at a time.
const SCAN_KEYS: usize = 1000;

/// The projection called `redis`.
#[derive(Debug)]
pub struct RedisProjection {
    config: Arc<RedisConfig>,
    keys: Keys,
    session: Option<Session>,
    /// The keys were found to be ours since the program started, whatever became of the checkpoint meanwhile.
    ours: bool,
    health: Health,
}

/// What lasts as long as a connection.
#[derive(Debug)]
struct Session {
    server: Connection,
    /// What the checkpoint in Redis says.
    at: Option<Stand>,
    /// Where the runtime goes on: a while before.
    done: Offset,
    rewinds: Rewinds,
    memory: Memory,
    tops: Tops,
    published: Offset,
    /// When its health was looked at.
    looked: Duration,
    clock: SystemClock,
}

/// The checkpoint as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    at: Checkpoint,
    /// Where it was some seconds before.
    before: Offset,
}

/// Where the checkpoint was at times that lie back.
#[derive(Debug)]
struct Rewinds {
    bound: Duration,
    /// Two points: the older counts, and the newer takes its place once it is old enough.
    older: Offset,
    newer: (Duration, Offset),
}

impl Rewinds {
    fn new(bound: Duration, at: Offset, now: Duration) -> Self {
        Self {
            bound,
            older: at,
            newer: (now, at),
        }
    }

    /// Notes where the checkpoint goes; answers where it was.
    fn pass(&mut self, to: Offset, now: Duration) -> Offset {
        if now - self.newer.0 >= self.bound {
            self.older = self.newer.1;
            self.newer = (now, to);
        }
        self.older
    }
}

impl RedisProjection {
    pub(crate) fn new(config: Arc<RedisConfig>) -> Self {
        Self {
            keys: Keys::new(&config.prefix),
            config,
            session: None,
            ours: false,
            health: Health::default(),
        }
    }

    async fn begin(&mut self) -> Result<Option<Checkpoint>, RedisError> {
        self.session = None;
        let mut server = Connection::open(&self.config).await?;
        let at = read(&self.keys, &mut server).await?;
        if at == Found::Nothing
            && !self.ours
            && let Some(key) = any_key(&self.keys, &mut server).await?
        {
            return Err(RedisError::Foreign {
                prefix: self.keys.prefix().into(),
                key,
            });
        }
        let at = match at {
            Found::At(stand) => Some(stand),
            Found::Nothing | Found::Cleared => None,
        };
        let start = at.map_or(Offset::ZERO, |stand| stand.before);
        // From here on the key is there, unless the server is emptied.
        let mut ours = command("HSET", &self.keys.checkpoint());
        ours.arg(OURS).arg(1);
        server.one(ours).await?;
        self.ours = true;
        let fresh = at.is_none();
        self.health = self.health.look(&self.keys, fresh, &mut server).await?;
        let memory = Memory::read(&self.keys, &mut server).await?;
        let clock = SystemClock::new();
        self.session = Some(Session {
            memory,
            server,
            at,
            done: start,
            rewinds: Rewinds::new(self.config.rewind, start, clock.monotonic()),
            tops: Tops::new(),
            published: Offset::ZERO,
            looked: clock.monotonic(),
            clock,
        });
        Ok(at.map(|stand| stand.at))
    }

    async fn apply_all(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), RedisError> {
        let session = self.session.as_mut().ok_or(RedisError::Moved)?;
        let server = &mut session.server;
        let expected = session.at.map_or(Found::Nothing, Found::At);
        let found = read(&self.keys, server).await?;
        if found != expected && !(session.at.is_none() && found == Found::Cleared) {
            return Err(RedisError::Moved);
        }
        let batches = Batches {
            all: batches,
            done: session.done,
            names: view.names,
            keys: &self.keys,
            config: &self.config,
        };
        let mut writes = Writes::default();
        fold::entities::apply(batches, server, &mut writes).await?;
        fold::series::apply(batches, server, &mut writes).await?;
        let memory = &mut session.memory;
        let versions = fold::predictions::apply(batches, memory, server, &mut writes).await?;
        let published = fold::statistics::publish(batches, view, session.published, &mut writes);
        server.run(writes.bounds).await?;
        server.run(writes.first).await?;
        server.run(writes.then).await?;
        fold::predictions::trim(&versions, &batches, memory, server).await?;
        fold::feed::write(batches, &mut session.tops, server).await?;
        let stand = Stand {
            at: to,
            before: session.rewinds.pass(to.offset, session.clock.monotonic()),
        };
        let new = write(stand, &self.keys, server).await?;
        if new
            != if session.at.is_some() {
                0
            } else {
                FIELDS.len()
            }
        {
            forget(&self.keys, server).await?;
            return Err(RedisError::Moved);
        }
        if session.clock.monotonic() - session.looked >= LOOK_EVERY {
            session.looked = session.clock.monotonic();
            self.health = self.health.look(&self.keys, false, server).await?;
        }
        session.at = Some(stand);
        session.done = to.offset;
        session.published = published;
        Ok(())
    }

    /// Looks, while nothing comes, whether the server still has what it was given. Ends when it has not.
    async fn watch(&mut self) -> RedisError {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(session) = self.session.as_mut() else {
                return RedisError::Moved;
            };
            let server = &mut session.server;
            let look = async {
                if let Some(at) = session.at
                    && read(&self.keys, server).await? != Found::At(at)
                {
                    return Err(RedisError::Moved);
                }
                self.health.look(&self.keys, false, server).await
            };
            match look.await {
                Ok(health) => self.health = health,
                Err(error) => return error,
            }
        }
    }

    /// Removes everything below the prefix but streams, whose readers have places in them.
    async fn remove_all(&mut self) -> Result<(), RedisError> {
        self.session = None;
        let mut server = Connection::open(&self.config).await?;
        // First of all, so that what is left when this is broken off is known to be ours.
        forget(&self.keys, &mut server).await?;
        self.health = Health::default();
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = scan(&self.keys, &cursor, &mut server).await?;
            let mut commands = Commands::default();
            let streams = self.keys.key("stream:");
            for key in keys {
                if key != self.keys.checkpoint() && !key.starts_with(&streams) {
                    commands.push(command("UNLINK", &key));
                }
            }
            server.run(commands).await?;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// What the checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// It was emptied to be built again.
    Cleared,
    At(Stand),
}

async fn read(keys: &Keys, server: &mut Connection) -> Result<Found, RedisError> {
    let reply = server.one(command("HGETALL", &keys.checkpoint())).await?;
    let Some(hash) = Hash::read(keys.checkpoint(), reply)? else {
        return Ok(Found::Nothing);
    };
    let Some(log) = hash.get("log") else {
        return Ok(Found::Cleared);
    };
    let log: LogId =
        serde_json::from_value(log.into()).map_err(|error| hash.content(error.to_string()))?;
    let number = |name: &str| {
        let number = hash.number::<u64>(name)?;
        number.ok_or_else(|| hash.content(format!("no {name}")))
    };
    Ok(Found::At(Stand {
        at: Checkpoint {
            log,
            epoch: number("epoch")? as u32,
            offset: Offset(number("offset")?),
            fold_version: number("fold_version")? as u32,
        },
        before: Offset(number("before")?),
    }))
}

/// Says that nothing is done, and that what is there is ours.
async fn forget(keys: &Keys, server: &mut Connection) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    let mut ours = command("HSET", &keys.checkpoint());
    ours.arg(OURS).arg(1);
    commands.push(ours);
    let mut fields = command("HDEL", &keys.checkpoint());
    fields.arg(&FIELDS).arg(&Health::FIELDS).arg(SHARED);
    commands.push(fields);
    server.run(commands).await?;
    Ok(())
}

/// Moves the checkpoint; answers how many of its fields were not there.
async fn write(stand: Stand, keys: &Keys, server: &mut Connection) -> Result<usize, RedisError> {
    let mut command = command("HSET", &keys.checkpoint());
    command.arg(OURS).arg(1);
    command.arg("log").arg(stand.at.log.to_string());
    command.arg("epoch").arg(stand.at.epoch);
    command.arg("offset").arg(stand.at.offset.0);
    command.arg("fold_version").arg(stand.at.fold_version);
    command.arg("before").arg(stand.before.0);
    let new = server.one(command).await?;
    Ok(int(&new).unwrap_or(0) as usize)
}

/// Some keys below the prefix, and where to go on.
async fn scan(
    keys: &Keys,
    cursor: &str,
    server: &mut Connection,
) -> Result<(String, Vec<String>), RedisError> {
    let mut command = command("SCAN", cursor);
    command
        .arg("MATCH")
        .arg(keys.key("*"))
        .arg("COUNT")
        .arg(SCAN_KEYS);
    let mut reply = list(server.one(command).await?).into_iter();
    let next = reply.next();
    let next = next.as_ref().map(|next| match int(next) {
        Some(number) => number.to_string(),
        None => text(next).unwrap_or("0").to_owned(),
    });
    let found = list(reply.next().unwrap_or(redis::Value::Nil));
    let found = found.iter().filter_map(|key| Some(text(key)?.to_owned()));
    Ok((next.unwrap_or_else(|| "0".into()), found.collect()))
}

/// A key below the prefix, if there is any.
async fn any_key(keys: &Keys, server: &mut Connection) -> Result<Option<String>, RedisError> {
    let mut cursor = "0".to_owned();
    loop {
        let (next, found) = scan(keys, &cursor, server).await?;
        if let Some(key) = found.into_iter().next() {
            return Ok(Some(key));
        }
        if next == "0" {
            return Ok(None);
        }
        cursor = next;
    }
}

#[async_trait]
impl Projection for RedisProjection {
    fn name(&self) -> &str {
        NAME
    }

    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    async fn open(&mut self) -> Result<Option<Checkpoint>, ProjectionError> {
        Ok(self.begin().await?)
    }

    fn start(&mut self, checkpoint: &Checkpoint) -> Offset {
        self.session
            .as_ref()
            .map_or(checkpoint.offset, |session| session.done)
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        Ok(self.apply_all(batches, view, to).await?)
    }

    async fn idle(&mut self) -> ProjectionError {
        self.watch().await.into()
    }

    fn degraded(&self) -> Option<String> {
        self.health.problem()
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Ok(self.remove_all().await?)
    }
}
