//! What every handler can reach.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use modelog_engine::Engine;
use modelog_engine::read::ReadStore;
use modelog_engine::sources::SourceStatus;
use tokio::sync::{Semaphore, watch};

use crate::config::HttpConfig;
use crate::hosts::Hosts;
use crate::maintenance::Maintenance;
use crate::reads::Reading;
use crate::tokens::Tokens;
use crate::traffic::Traffic;
use crate::untaken;

/// What the server stands in front of.
#[derive(Clone)]
pub struct Services {
    pub engine: Engine,
    /// The store that answers reads.
    pub reads: Arc<dyn ReadStore>,
    /// The store that answers what that one no longer keeps, and while it is behind.
    pub history: Option<Arc<dyn ReadStore>>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Where events come from without being sent.
    pub sources: Arc<dyn Fn() -> Vec<SourceStatus> + Send + Sync>,
    /// Who compacts and makes backups.
    pub maintenance: Arc<dyn Maintenance>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new requests; those under way are finished, streams without end are ended.
    Draining,
    /// Whatever is still under way is cut off.
    Ending,
}

/// Granularity of the accounting of bodies, in bytes.
pub(crate) const BODY_UNIT: usize = 4096;

/// What every handler can reach. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AppState(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) services: Services,
    pub(crate) config: HttpConfig,
    pub(crate) hosts: Hosts,
    /// None: everyone may do everything.
    pub(crate) tokens: Option<Tokens>,
    /// Room for bodies, in units of [`BODY_UNIT`].
    pub(crate) bodies: Arc<Semaphore>,
    /// Turns of decoding and encoding large bodies: as many as there are processors.
    pub(crate) turns: Arc<Semaphore>,
    /// Room for answers that are written and not yet taken.
    pub(crate) answers: Arc<Semaphore>,
    /// What readers of the log share.
    pub(crate) reading: Reading,
    /// What was asked for, and how it went.
    pub(crate) traffic: Traffic,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) openapi: Bytes,
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    pub(crate) fn new(
        services: Services,
        config: HttpConfig,
        tokens: Option<Tokens>,
        phase: watch::Receiver<Phase>,
        openapi: Bytes,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Shared {
            services,
            hosts: Hosts::new(&config.allowed_hosts),
            bodies: Arc::new(Semaphore::new(config.bodies_bytes.div_ceil(BODY_UNIT))),
            turns: Arc::new(Semaphore::new(processors)),
            answers: untaken::room(),
            reading: Reading::new(processors),
            traffic: Traffic::default(),
            config,
            tokens,
            phase,
            openapi,
        }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.services.engine
    }

    /// Waits until the server is shutting down: the end of every stream that has none of its own.
    pub(crate) fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut phase = self.phase.clone();
        async move {
            // An error means that the server is gone.
            let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        }
    }
}
