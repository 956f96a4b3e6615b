//! The running engine with everything around it: stores, HTTP, metrics. `serve` runs it until a signal, the demo until
//! it has seen enough.
//!
//! # Order
//! Starting: engine, store, metrics, server, sources; so nobody is told an address that does not answer. Stopping: the server
//! takes no more requests and finishes those under way, the sources put into the log what they have read, no backup is begun, the compactor closes its files, the engine
//! syncs and closes while projections catch up, a backup under way is broken off by that, the store is closed last.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use modelog_engine::chain;
use modelog_engine::live::LiveView;
use modelog_engine::read::ReadStore;
use modelog_http::{HttpConfig, HttpError, Server, Services};
use modelog_prometheus::Exporter;
use modelog_sql::SqlStore;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{LogFormat, ReadFrom, Settings};
use crate::maintenance::Keeper;
use crate::place::{self, Opened};
use crate::sources::Sources;
use crate::{client, compact, descriptors};

/// An engine that is being served.
#[derive(Debug)]
pub(crate) struct Running {
    opened: Opened,
    store: SqlStore,
    keeper: Arc<Keeper>,
    sources: Arc<Sources>,
    served: Served,
}

/// How long the end waits for the compactor to close its files. What it does not close it takes in again.
const FLUSH_TIME: Duration = Duration::from_secs(20);

/// The part that answers.
#[derive(Debug)]
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HttpError>>,
    /// Keeps a long path to the control socket good.
    _directory: Option<File>,
}

impl Running {
    /// Starts everything, as the settings say.
    ///
    /// # Errors
    /// Why some part could not start; the others are closed again.
    pub(crate) async fn start(settings: &Settings) -> Result<Self> {
        let store = SqlStore::new(settings.sql.clone())?;
        let opened = place::open_whole(settings).await?;
        let keeper = Arc::new(Keeper::new(settings, &opened));
        let sources = Arc::new(Sources::default());
        match Served::start(settings, &opened, &store, &keeper, &sources).await {
            Ok(served) => {
                keeper.start();
                Ok(Self {
                    opened,
                    store,
                    keeper,
                    sources,
                    served,
                })
            }
            Err(error) => {
                sources.stop().await;
                // The error is what there is to say; closing adds nothing to it.
                let _ = opened.engine.close().await;
                store.close().await;
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// Ends everything in order.
    ///
    /// # Errors
    /// The first thing that went wrong; what was acknowledged is in the log all the same.
    pub(crate) async fn stop(self) -> Result<()> {
        // A server that ended by itself says why below.
        let _ = self.served.stop.send(());
        let served = self.served.task.await;
        self.sources.stop().await;
        self.keeper.stop().await;
        let Opened { engine, parquet } = &self.opened;
        match timeout(FLUSH_TIME, compact::compact(engine, parquet, |_| ())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let reason = chain(&error);
                tracing::warn!(%reason, "not all events are in Parquet; the log keeps them");
            }
            Err(_) => tracing::warn!("compacting takes long; it goes on at the next start"),
        }
        let closed = engine.close().await;
        self.keeper.ended().await;
        self.store.close().await;
        served.context("the server failed")??;
        closed?;
        Ok(())
    }

    /// Waits until the server ends by itself, which it should not.
    async fn ended(&mut self) {
        while !self.served.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Served {
    async fn start(
        settings: &Settings,
        opened: &Opened,
        store: &SqlStore,
        keeper: &Arc<Keeper>,
        sources: &Arc<Sources>,
    ) -> Result<Self> {
        let Opened { engine, parquet } = opened;
        let exporter = Exporter::install(settings.prometheus.clone())?;
        let sql: Arc<dyn ReadStore> = Arc::new(store.reads());
        let live = (settings.read_from == ReadFrom::Memory).then(|| LiveView::new(settings.memory));
        let redis = place::redis(settings)?;
        let first: Option<Arc<dyn ReadStore>> = match settings.read_from {
            ReadFrom::Sql => None,
            ReadFrom::Memory => live.as_ref().map(|live| Arc::new(live.reads()) as _),
            ReadFrom::Redis => redis.as_ref().map(|redis| Arc::new(redis.reads()) as _),
        };
        let (reads, history) = match first {
            Some(first) => (first, Some(sql)),
            None => (sql, None),
        };
        exporter.follow(engine);
        let scraped = engine.clone();
        let services = Services {
            engine: engine.clone(),
            reads,
            history,
            metrics: Arc::new(move || exporter.render(&scraped)),
            maintenance: Arc::clone(keeper) as _,
            sources: {
                let sources = Arc::clone(sources);
                Arc::new(move || sources.status())
            },
        };
        let (control, directory) = client::socket_path(&settings.data)?;
        let http = HttpConfig {
            control_socket: Some(control),
            connections: descriptors::make_room(settings.http.connections),
            ..settings.http.clone()
        };
        let server = Server::bind(http, services).await?;
        engine.project(Box::new(store.projection()));
        if let Some(live) = live {
            engine.project(Box::new(live.projection()));
        }
        if let Some(redis) = redis {
            engine.project(Box::new(redis.projection()));
        }
        compact::start(engine, parquet);
        sources.start(settings, engine)?;
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async move {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        Ok(Self {
            address,
            stop,
            task,
            _directory: directory,
        })
    }
}

/// Serves until a signal.
///
/// # Errors
/// Why it could not start, or what went wrong when it ended.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut running = Running::start(settings).await?;
    announce(settings, &running);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is under way"),
        _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is under way"),
        () = running.ended() => tracing::error!("the server ended by itself"),
    }
    tokio::select! {
        stopped = running.stop() => stopped?,
        // The log is made for ends like this one: what was acknowledged is on the disk.
        _ = terminate.recv() => std::process::exit(128 + 15),
        _ = interrupt.recv() => std::process::exit(128 + 2),
    }
    tracing::info!("closed in order");
    Ok(())
}

/// Says where to go, whatever the log's filter, in the log's format.
fn announce(settings: &Settings, running: &Running) {
    let data = std::path::absolute(&settings.data).unwrap_or_else(|_| settings.data.clone());
    let version = env!("CARGO_PKG_VERSION");
    let url = format!("http://{}", running.address());
    match settings.logging.format {
        LogFormat::Text => {
            eprintln!(
                "modelog {version} serves {url} with data in {}",
                data.display()
            );
        }
        LogFormat::Json => {
            let line = serde_json::json!({
                "level": "INFO",
                "message": "serving",
                "version": version,
                "url": url,
                "data": data,
            });
            eprintln!("{line}");
        }
    }
}
