//! A socket that does not wait for ever: for a client to take what is sent, and for one to notice that we are done.
//!
//! A socket closed while it holds unread bytes is reset, and a reset can destroy the answer on its way. So after an
//! answer to a request whose body was not read (too large, not allowed) the socket is closed for writing only, and
//! what still comes in is thrown away for a moment.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// How long after closing what comes in is thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_BYTES: usize = 128 << 20;

/// A socket that tells when the first byte is there, without taking it.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Waits for a byte, or for the client's end. That a socket is ready does not tell: a new one is called so at once.
    fn first_byte(&self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Socket for TcpStream {
    async fn first_byte(&self) -> io::Result<()> {
        self.peek(&mut [0]).await.map(drop)
    }
}

impl Socket for UnixStream {
    async fn first_byte(&self) -> io::Result<()> {
        loop {
            self.readable().await?;
            let peek = || Ok(recv(self, &mut [0_u8; 1], RecvFlags::PEEK).map(drop)?);
            match self.try_io(Interest::READABLE, peek) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                found => return found,
            }
        }
    }
}

/// A socket with patience for writing and closing.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    socket: S,
    write_time: Duration,
    /// Running while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Running once the socket is closed for writing.
    linger: Option<Pin<Box<Sleep>>>,
    discarded: usize,
}

impl<S: Socket> Patient<S> {
    pub(crate) fn new(socket: S, write_time: Duration) -> Self {
        Self {
            socket,
            write_time,
            stalled: None,
            linger: None,
            discarded: 0,
        }
    }

    /// Passes on the outcome of a write; an error once it has been pending for too long.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let write_time = self.write_time;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(write_time)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing",
        )))
    }
}

impl<S: Socket> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: Socket> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_flush(cx);
        self.written(cx, outcome)
    }

    /// Closes for writing, then throws away what comes in until the client closes too, for a bounded time and amount.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.linger = Some(Box::pin(sleep(LINGER)));
        }
        let mut scratch = [0; 16 << 10];
        while self.discarded < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.discarded += buffer.filled().len();
                }
                // Closed by the client as well, or broken: either way there is nothing left to save.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    if let Some(linger) = &mut self.linger {
                        ready!(linger.as_mut().poll(cx));
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
