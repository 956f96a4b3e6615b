//! A connection for questions, on which whoever asks reads the replies itself.
//!
//! The client library, which everything is written with, hands replies over from a task of its own, as a value of the heap
//! for each field and each name of one. A list of predictions has thousands, and took three times as long. Here replies
//! are taken apart where they lie ([`Replies`]).
//!
//! A line serves one question at a time. After an error, or left in the middle of its replies, it must not be used again:
//! what would come next answers something else.

use std::io;
use std::sync::Arc;

use redis::{Cmd, ConnectionAddr, ErrorKind, cmd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::replies::{Reading, Replies, Reply};
use crate::config::{RedisConfig, refuse};
use crate::error::RedisError;

/// How much is read at a time, at least.
const READ: usize = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection for questions.
pub(super) struct Line {
    stream: Box<dyn Stream>,
}

impl Line {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// [`RedisError::Unreachable`], [`RedisError::Denied`], [`RedisError::File`] and [`RedisError::Setting`].
    pub(super) async fn open(config: &RedisConfig) -> Result<Self, RedisError> {
        let opened = tokio::time::timeout(config.connect_time, Self::connect(config)).await;
        opened.unwrap_or_else(|_| Err(lost(config, io::ErrorKind::TimedOut.into())))
    }

    async fn connect(config: &RedisConfig) -> Result<Self, RedisError> {
        let lost = |error| lost(config, error);
        let info = config.connection()?;
        let (host, port, tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host, *port, None),
            ConnectionAddr::TcpTls { host, port, .. } => (host, *port, Some(tls(config)?)),
            _ => return Err(refuse("url", "must name a host")),
        };
        let tcp = TcpStream::connect((host.as_str(), port)).await;
        let tcp = tcp.map_err(lost)?;
        tcp.set_nodelay(true).map_err(lost)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|error| refuse("url", error))?;
                Box::new(tls.connect(name, tcp).await.map_err(lost)?)
            }
        };
        let mut line = Self { stream };
        let mut first = Vec::new();
        let who = info.redis_settings();
        if let Some(password) = who.password() {
            let mut auth = cmd("AUTH");
            auth.arg(who.username()).arg(password);
            first.push(auth);
        }
        if who.db() != 0 {
            let mut select = cmd("SELECT");
            select.arg(who.db());
            first.push(select);
        }
        for reply in line.ask(&first).await.map_err(lost)?.iter() {
            if let Reply::Refusal(reply) = reply {
                return Err(RedisError::Denied {
                    address: config.address(),
                    source: (ErrorKind::AuthenticationFailed, "it says", reply.to_owned()).into(),
                });
            }
        }
        Ok(line)
    }

    /// Sends commands, and answers with the replies to all of them, in order.
    pub(super) async fn ask(&mut self, commands: &[Cmd]) -> io::Result<Replies> {
        let mut sent = Vec::new();
        for command in commands {
            command.write_packed_command(&mut sent);
        }
        self.stream.write_all(&sent).await?;
        self.stream.flush().await?;
        let mut reading = Reading::of(commands.len());
        while !reading.go_on()? {
            reading.bytes.reserve(READ);
            if self.stream.read_buf(&mut reading.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        reading.finish()
    }
}

/// What encrypts, with whom it trusts, and the certificate that says who we are.
fn tls(config: &RedisConfig) -> Result<TlsConnector, RedisError> {
    let mut roots = RootCertStore::empty();
    match config.read(&config.ca_file)? {
        Some(pem) => {
            for certificate in certificates("ca_file", &pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| refuse("ca_file", error))?;
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // The system may trust some that are too old to be read.
                let _ = roots.add(certificate);
            }
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let own = config
        .read(&config.cert_file)?
        .zip(config.read(&config.key_file)?);
    let client = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(&key).map_err(|error| refuse("key_file", error))?;
            builder
                .with_client_auth_cert(certificates("cert_file", &certificate)?, key)
                .map_err(|error| refuse("cert_file", error))?
        }
    };
    Ok(Arc::new(client).into())
}

fn certificates(
    setting: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, RedisError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
    all.map_err(|error| refuse(setting, error))
}

fn lost(config: &RedisConfig, error: io::Error) -> RedisError {
    RedisError::Unreachable {
        address: config.address(),
        source: error.into(),
    }
}
