//! The server: its sockets, the connections it accepts, and its end.
//!
//! # Invariants
//! S1. There are never more connections than allowed; more wait in the kernel's queue, which is bounded too.
//! S2. Once shutdown is asked for, no connection is accepted, none is kept alive, and requests under way are finished
//!     within `drain_time`; what takes longer is cut off. Nothing acknowledged depends on that: the log decides.
//! S3. `serve` returns after the last connection has ended.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::config::HttpConfig;
use crate::connection;
use crate::error::HttpError;
use crate::gate::Door;
use crate::router;
use crate::state::{AppState, Phase, Services};
use crate::stream::Socket;
use crate::tokens::Tokens;

/// Connections through the control socket: people and their tools.
const CONTROL_CONNECTIONS: usize = 64;
/// How long to wait when accepting fails, for want of file descriptors for example.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long connections may take to end when they are cut off.
const ENDING_TIME: Duration = Duration::from_secs(1);

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    tcp: TcpListener,
    local_addr: SocketAddr,
    control: Option<Control>,
    state: AppState,
    phase: watch::Sender<Phase>,
}

#[derive(Debug)]
struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // What is left over is replaced by the next server.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Opens the sockets. From here on connections are taken into the kernel's queue.
    ///
    /// # Errors
    /// A setting that cannot be, a token file that cannot be used, or an address that is taken.
    pub async fn bind(config: HttpConfig, services: Services) -> Result<Self, HttpError> {
        config.check()?;
        let tokens = config.token_file.as_deref().map(Tokens::read).transpose()?;
        let listen = config.listen;
        let failed = |source| HttpError::Listen { listen, source };
        let tcp = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = tcp.local_addr().map_err(failed)?;
        let control = match &config.control_socket {
            None => None,
            Some(path) => Some(
                bind_control(path).map_err(|source| HttpError::ControlSocket {
                    path: path.clone(),
                    source,
                })?,
            ),
        };
        let (phase, follow) = watch::channel(Phase::Serving);
        let openapi = Bytes::from(router::openapi());
        Ok(Self {
            tcp,
            local_addr,
            control,
            state: AppState::new(services, config, tokens, follow, openapi),
            phase,
        })
    }

    /// Where it listens; tells the port if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown` is ready, then finishes what is under way. The engine must be closed after this.
    ///
    /// # Errors
    /// None so far: what befalls a connection ends that connection.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), HttpError> {
        let Self {
            tcp,
            control,
            state,
            phase,
            ..
        } = self;
        let doors = Doors {
            router: router::service(state.clone()),
            state: state.clone(),
        };
        let network = Slots::new(state.config.connections);
        let local = Slots::new(CONTROL_CONNECTIONS);
        {
            let over_tcp = doors.keep_open(&tcp, &network);
            let over_control = async {
                match &control {
                    None => std::future::pending().await,
                    Some(control) => doors.keep_open(&control.listener, &local).await,
                }
            };
            tokio::select! {
                () = shutdown => {}
                () = over_tcp => {}
                () = over_control => {}
            }
        }
        // Whoever connects from now on is refused by the kernel.
        drop((tcp, control));
        phase.send_replace(Phase::Draining);
        let drained = timeout(state.config.drain_time, async {
            network.empty().await;
            local.empty().await;
        });
        if drained.await.is_err() {
            tracing::warn!(
                drain_time = ?state.config.drain_time,
                "requests were still under way and are cut off"
            );
            phase.send_replace(Phase::Ending);
            // Connections end as soon as they are polled; a handler that blocks its thread is not waited for.
            let _ = timeout(ENDING_TIME, async {
                network.empty().await;
                local.empty().await;
            })
            .await;
        }
        Ok(())
    }
}

/// A socket that accepts connections.
trait Listen: Sync {
    type Socket: Socket;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Socket, Door)>> + Send;
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Door)> {
        let (socket, _) = self.accept().await?;
        // Answers are written whole: waiting for more would only delay them.
        socket.set_nodelay(true)?;
        Ok((socket, Door::Network))
    }
}

impl Listen for UnixListener {
    type Socket = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Door)> {
        Ok((self.accept().await?.0, Door::Control))
    }
}

/// What a connection is served with.
struct Doors {
    router: Router,
    state: AppState,
}

impl Doors {
    /// Accepts connections, one for each free slot. Does not end.
    async fn keep_open(&self, door: &impl Listen, slots: &Slots) {
        loop {
            let slot = slots.next().await;
            match door.next().await {
                Ok((socket, door)) => {
                    let connection =
                        connection::serve(socket, door, self.router.clone(), self.state.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Room for connections.
struct Slots {
    free: Arc<Semaphore>,
    all: u32,
}

impl Slots {
    fn new(all: usize) -> Self {
        let all = u32::try_from(all.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(all as usize)),
            all,
        }
    }

    /// Waits for a free one.
    async fn next(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.free);
        free.acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Waits until all are free.
    async fn empty(&self) {
        let _ = self.free.acquire_many(self.all).await;
    }
}

/// Opens the control socket. It appears under its name with its final mode, replacing one left over from a crash: the
/// lock on the data directory keeps two servers from doing so.
fn bind_control(path: &Path) -> io::Result<Control> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    if let Ok(found) = std::fs::symlink_metadata(path)
        && !found.file_type().is_socket()
    {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something else of that name",
        ));
    }
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(Control {
        listener,
        path: path.to_owned(),
    })
}
