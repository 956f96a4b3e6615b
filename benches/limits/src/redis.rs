//! Commands that were sent to a Redis server, sent again by a bare client: all of them pipelined, the replies thrown away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// What the server answers last.
const END: &[u8] = b"the end of the commands";
/// How much is sent and read at a time.
const CHUNK: usize = 256 << 10;

/// Stands between a client and a server, and writes down what the client sends. A client that sends on several connections
/// at once is not told apart.
#[derive(Debug)]
pub struct Recorder {
    address: String,
    file: PathBuf,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Listens for a client of a server.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn start(server: &str, file: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let log = Arc::new(Mutex::new(File::create(file).await?));
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, log) = (server.clone(), Arc::clone(&log));
                tokio::spawn(async move { pass(client, &server, log).await });
            }
        });
        Ok(Self {
            address,
            file: file.to_owned(),
            task,
        })
    }

    /// Where it listens, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends, and answers the commands.
    #[must_use]
    pub fn finish(self) -> Commands {
        self.task.abort();
        Commands { file: self.file }
    }
}

async fn pass(client: TcpStream, server: &str, log: Arc<Mutex<File>>) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let mut log = log.lock().await;
        log.write_all(&buffer[..read]).await?;
        log.flush().await?;
        drop(log);
        to_server.write_all(&buffer[..read]).await?;
    }
    drop(to_server);
    back.await??;
    Ok(())
}

/// Commands that were written down.
#[derive(Debug)]
pub struct Commands {
    file: PathBuf,
}

impl Commands {
    /// Sends them all, and waits for all replies; answers how many bytes they were.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn send(&self, server: &str) -> Result<u64> {
        let stream = TcpStream::connect(server).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (mut replies, mut commands) = stream.into_split();
        let file = self.file.clone();
        let sent = tokio::spawn(async move {
            let mut file = BufReader::with_capacity(CHUNK, File::open(file).await?);
            let sent = tokio::io::copy_buf(&mut file, &mut commands).await?;
            let end = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", END.len());
            commands.write_all(end.as_bytes()).await?;
            commands.write_all(END).await?;
            commands.write_all(b"\r\n").await?;
            anyhow::Ok((sent, commands))
        });
        let mut buffer = vec![0; CHUNK];
        let mut tail = Vec::new();
        loop {
            let read = replies.read(&mut buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            tail.extend_from_slice(&buffer[..read]);
            if tail.ends_with(b"the end of the commands\r\n") {
                break;
            }
            let keep = tail.len().saturating_sub(2 * END.len());
            tail.drain(..keep);
        }
        Ok(sent.await??.0)
    }
}

/// Removes all keys of a prefix.
///
/// # Errors
/// If the server fails.
pub async fn redis_forget(server: &str, prefix: &str) -> Result<()> {
    let script = format!(
        "local c = '0' repeat local r = redis.call('SCAN', c, 'MATCH', '{prefix}:*', 'COUNT', 1000) c = r[1] \
         if #r[2] > 0 then redis.call('UNLINK', unpack(r[2])) end until c == '0' return 'done'"
    );
    let mut stream = TcpStream::connect(server).await.context("connecting")?;
    let command = format!(
        "*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n",
        script.len()
    );
    stream.write_all(command.as_bytes()).await?;
    let mut reply = [0; 256];
    let read = stream.read(&mut reply).await?;
    let said = String::from_utf8_lossy(&reply[..read]).into_owned();
    ensure!(said.starts_with("$4"), "the server says {said:?}");
    Ok(())
}
