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
//!
//! # Built again
//! A store that is good is built again aside and then replaced (`aside`), one that is not is emptied first: what is wrong is
//! not to be shown, and there may be no memory for both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::{Projection, ProjectionError, View};
use modelog_engine::{Checkpoint, Clock as _, Offset, SystemClock};

use crate::checkpoint::{self, Found, Stand, Step};
use crate::config::RedisConfig;
use crate::connection::Connection;
use crate::error::RedisError;
use crate::fold::feed::Tops;
use crate::fold::predictions::Memory;
use crate::fold::{self, Batches, Writes};
use crate::health::Health;
use crate::keys::Keys;
use crate::{NAME, aside, scan};

/// The version of the rules in `fold`: stores filled by others must be rebuilt.
const FOLD_VERSION: u32 = 3;
/// How often the server is asked whether it keeps what it was given.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The projection called `redis`.
#[derive(Debug)]
pub struct RedisProjection {
    config: Arc<RedisConfig>,
    keys: Keys,
    session: Option<Session>,
    /// The keys were found to be ours since the program started, whatever became of the checkpoint meanwhile.
    ours: bool,
    /// What everybody reads is of this log, and may be shown while it is built again.
    good: bool,
    /// Somebody asked for a rebuild, and it goes on aside.
    rebuilding: bool,
    health: Health,
}

/// What lasts as long as a connection.
#[derive(Debug)]
struct Session {
    server: Connection,
    /// Where it writes: what everybody reads, or aside.
    keys: Keys,
    /// What stands where everybody reads, while the store is built aside.
    replaces: Option<Stand>,
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
            good: false,
            rebuilding: false,
            health: Health::default(),
        }
    }

    async fn begin(&mut self) -> Result<Option<Checkpoint>, RedisError> {
        self.session = None;
        let mut server = Connection::open(&self.config).await?;
        let (mut found, step) = checkpoint::read(&self.keys, &mut server).await?;
        if found == Found::Nothing
            && !self.ours
            && let Some(key) = scan::any(&self.keys, &mut server).await?
        {
            return Err(RedisError::Foreign {
                prefix: self.keys.prefix().into(),
                key,
            });
        }
        // From here on the key is there, unless the server is emptied.
        checkpoint::claim(&self.keys, &mut server).await?;
        self.ours = true;
        let is_aside = match step {
            Some(step) => aside::resume(step, &self.keys, &mut server).await?,
            // The server is one that has not heard of it: an older copy.
            None if self.rebuilding && found.stand().is_some() => {
                aside::begin(&self.keys, &mut server).await?;
                true
            }
            None => false,
        };
        let replaces = found.stand().filter(|_| is_aside);
        let keys = if is_aside {
            self.keys.aside()
        } else {
            self.keys.clone()
        };
        if is_aside || step.is_some() {
            found = checkpoint::read(&keys, &mut server).await?.0;
        }
        (self.good, self.rebuilding) = (self.good && is_aside, is_aside);
        let at = found.stand();
        let start = at.map_or(Offset::ZERO, |stand| stand.before);
        self.health = self.health.look(&keys, at.is_none(), &mut server).await?;
        let memory = Memory::read(&keys, &mut server).await?;
        let clock = SystemClock::new();
        self.session = Some(Session {
            memory,
            server,
            keys,
            replaces,
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
        let (server, keys) = (&mut session.server, &session.keys);
        let (found, _) = checkpoint::read(keys, server).await?;
        if found.stand() != session.at || found == Found::Nothing && session.replaces.is_some() {
            return Err(RedisError::Moved);
        }
        let batches = Batches {
            all: batches,
            done: session.done,
            names: view.names,
            keys,
            config: &self.config,
        };
        let mut writes = Writes::default();
        fold::entities::apply(batches, server, &mut writes).await?;
        fold::series::apply(batches, server, &mut writes).await?;
        let memory = &mut session.memory;
        let predictions = fold::predictions::prepare(batches, memory, server, &mut writes).await?;
        let published = fold::statistics::publish(batches, view, session.published, &mut writes);
        server.run(writes.bounds).await?;
        server.run(writes.first).await?;
        let versions = predictions.write(batches, memory, server).await?;
        server.run(writes.then).await?;
        fold::predictions::trim(&versions, &batches, memory, server).await?;
        let passed = std::mem::take(&mut memory.gone.tops);
        fold::feed::write(batches, passed, &mut session.tops, server).await?;
        let stand = Stand {
            at: to,
            before: session.rewinds.pass(to.offset, session.clock.monotonic()),
        };
        let new = checkpoint::write(stand, keys, server).await?;
        let expected = match session.at {
            Some(_) => 0,
            None => checkpoint::FIELDS.len(),
        };
        if new != expected {
            checkpoint::forget(keys, server).await?;
            return Err(RedisError::Moved);
        }
        session.at = Some(stand);
        session.done = to.offset;
        session.published = published;
        if session.replaces.is_none() {
            self.good = true;
        }
        if session.clock.monotonic() - session.looked >= LOOK_EVERY {
            self.look().await?;
        }
        self.replace_if_as_far().await
    }

    /// Looks at the server.
    async fn look(&mut self) -> Result<(), RedisError> {
        let Some(session) = self.session.as_mut() else {
            return Err(RedisError::Moved);
        };
        session.looked = session.clock.monotonic();
        let server = &mut session.server;
        self.health = self.health.look(&session.keys, false, server).await?;
        if session.replaces.is_some() && self.health.not_whole {
            // What was thrown away may be of either.
            Health::mark(&self.keys, server).await?;
        }
        Ok(())
    }

    /// Lets readers have what is built aside, once it has come as far as what it replaces.
    async fn replace_if_as_far(&mut self) -> Result<(), RedisError> {
        let Some(session) = self.session.as_mut() else {
            return Err(RedisError::Moved);
        };
        let (Some(replaced), Some(stand)) = (session.replaces, session.at) else {
            return Ok(());
        };
        // A log that was cut short never comes as far.
        let is_whole = session.published == stand.at.offset;
        if stand.at.offset < replaced.at.offset && !is_whole {
            return Ok(());
        }
        aside::replace(Step::Filling, &self.keys, &mut session.server).await?;
        session.keys = self.keys.clone();
        session.replaces = None;
        (self.good, self.rebuilding) = (true, false);
        tracing::info!(
            prefix = self.keys.prefix(),
            "the store that was built again is in place"
        );
        Ok(())
    }

    /// Looks, while nothing comes, whether the server still has what it was given. Ends when it has not.
    async fn watch(&mut self) -> RedisError {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.look_whether_moved().await {
                return error;
            }
        }
    }

    async fn look_whether_moved(&mut self) -> Result<(), RedisError> {
        let session = self.session.as_mut().ok_or(RedisError::Moved)?;
        if session.at.is_some() {
            let (found, _) = checkpoint::read(&session.keys, &mut session.server).await?;
            if found.stand() != session.at {
                return Err(RedisError::Moved);
            }
        }
        self.look().await
    }

    /// Forgets the store: aside, if it may be shown meanwhile, or else at once.
    async fn forget(&mut self) -> Result<(), RedisError> {
        let is_shown = self.good && !self.health.not_whole;
        self.session = None;
        let mut server = Connection::open(&self.config).await?;
        let (found, step) = checkpoint::read(&self.keys, &mut server).await?;
        let is_mixed = step.is_some_and(Step::is_mixed);
        if is_shown && found.stand().is_some() && !is_mixed {
            aside::begin(&self.keys, &mut server).await?;
            self.rebuilding = true;
        } else {
            self.remove_all(&mut server).await?;
        }
        self.health = Health::default();
        Ok(())
    }

    /// Removes everything below the prefix but streams, whose readers have places in them.
    async fn remove_all(&mut self, server: &mut Connection) -> Result<(), RedisError> {
        (self.good, self.rebuilding) = (false, false);
        aside::abandon(&self.keys, server).await?;
        // Before the rest, so that what is left when this is broken off is known to be ours.
        checkpoint::forget(&self.keys, server).await?;
        let (checkpoint, streams) = (self.keys.checkpoint(), self.keys.streams());
        let stays = |key: &str| key == checkpoint || key.starts_with(&streams);
        scan::remove(&self.keys, stays, server).await
    }

    /// Empties a store that was being built aside where there is no memory for both.
    async fn make_room(&mut self) -> Result<(), RedisError> {
        self.session = None;
        let mut server = Connection::open(&self.config).await?;
        self.remove_all(&mut server).await?;
        self.health = Health::default();
        Err(RedisError::NoRoomAside)
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
        let Some(session) = &self.session else {
            return checkpoint.offset;
        };
        // What is replaced was good when the rebuild began; it is still, if it is of this log.
        self.good = session.replaces.is_none_or(|replaced| {
            (replaced.at.log, replaced.at.fold_version) == (checkpoint.log, FOLD_VERSION)
        });
        session.done
    }

    fn reads_ahead(&self) -> bool {
        let too_many = |session: &Session| session.memory.too_many;
        !self.session.as_ref().is_some_and(too_many)
    }

    async fn thin(
        &mut self,
        batches: &mut Vec<Arc<LoggedBatch>>,
        view: View<'_>,
    ) -> Result<(), ProjectionError> {
        let session = self.session.as_mut().ok_or(RedisError::Moved)?;
        let of = Batches {
            all: batches,
            done: session.done,
            names: view.names,
            keys: &session.keys,
            config: &self.config,
        };
        let (memory, server) = (&mut session.memory, &mut session.server);
        let stay = fold::predictions::thin(of, memory, server).await?;
        let mut stay = stay.into_iter();
        batches.retain(|_| stay.next() == Some(true));
        Ok(())
    }

    async fn apply(
        &mut self,
        batches: &[Arc<LoggedBatch>],
        view: View<'_>,
        to: Checkpoint,
    ) -> Result<(), ProjectionError> {
        let applied = match self.apply_all(batches, view, to).await {
            Err(error) if error.is_full() && self.rebuilding => self.make_room().await,
            applied => applied,
        };
        Ok(applied?)
    }

    async fn idle(&mut self) -> ProjectionError {
        self.watch().await.into()
    }

    fn degraded(&self) -> Option<String> {
        self.health.problem()
    }

    async fn clear(&mut self) -> Result<(), ProjectionError> {
        Ok(self.forget().await?)
    }
}
