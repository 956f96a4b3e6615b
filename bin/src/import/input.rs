//! What is imported: files or stdin, compressed or not, read on a thread of their own.
//!
//! Compression is told by the first bytes, not by the name, so it works for stdin too; no event begins with them.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// How much is read at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// How many blocks are read ahead.
const BLOCKS_AHEAD: usize = 8;
/// How long stdin may pause before what is there is taken.
const PAUSE: Duration = Duration::from_secs(1);

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Enough to tell what it is.
const HEAD_BYTES: usize = 8;

/// One thing to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Stdin,
    File(PathBuf),
}

/// An input that is being read.
pub(super) struct Opened {
    /// Its bytes, decompressed.
    pub(super) reader: Box<dyn Read + Send>,
    /// The first of them.
    pub(super) head: Vec<u8>,
    pub(super) compressed: bool,
    /// How many bytes of the input, as it is stored, were read so far.
    pub(super) read: Arc<AtomicU64>,
}

impl Input {
    /// `-` is stdin.
    pub(super) fn new(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdin
        } else {
            Self::File(path.to_path_buf())
        }
    }

    /// What to call it in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".into(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Whether it can be read twice: first to check it, then to import it.
    ///
    /// # Errors
    /// If it is not there, or a directory.
    pub(super) fn is_regular(&self) -> io::Result<bool> {
        match self {
            Self::Stdin => Ok(false),
            Self::File(path) => {
                let metadata = std::fs::metadata(path)?;
                if metadata.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Ok(metadata.is_file())
            }
        }
    }

    /// How many bytes it has, as it is stored.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Stdin => 0,
            Self::File(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// The disk's own.
    pub(super) fn open(&self) -> io::Result<Opened> {
        let read = Arc::new(AtomicU64::new(0));
        let raw: Box<dyn Read + Send> = match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => Box::new(File::open(path)?),
        };
        let mut raw: Box<dyn Read + Send> = Box::new(Counted {
            inner: raw,
            read: Arc::clone(&read),
        });
        let magic = head(&mut *raw)?;
        let raw = Cursor::new(magic.clone()).chain(raw);
        let (mut reader, compressed): (Box<dyn Read + Send>, bool) = if magic.starts_with(GZIP) {
            (Box::new(MultiGzDecoder::new(BufReader::new(raw))), true)
        } else if magic.starts_with(ZSTD) {
            (Box::new(zstd::Decoder::new(raw)?), true)
        } else {
            (Box::new(raw), false)
        };
        let head = head(&mut *reader)?;
        Ok(Opened {
            reader: Box::new(Cursor::new(head.clone()).chain(reader)),
            head,
            compressed,
            read,
        })
    }
}

fn head(reader: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What a reading thread has to say.
#[derive(Debug)]
pub(super) enum Block {
    Bytes(Vec<u8>),
    /// Nothing came for a while.
    Pause,
    /// That was all; the SHA-256 of it, if asked for.
    End(Option<[u8; 32]>),
}

/// The bytes of an input, read ahead.
#[derive(Debug)]
pub(super) struct Blocks {
    receiver: Receiver<io::Result<Block>>,
    pauses: bool,
    /// Said for good.
    ended: Option<Option<[u8; 32]>>,
}

impl Blocks {
    /// Starts reading. With `hashed` the end tells the hash of all bytes; with `pauses` silence is told.
    pub(super) fn start(reader: Box<dyn Read + Send>, hashed: bool, pauses: bool) -> Self {
        let (sender, receiver) = sync_channel(BLOCKS_AHEAD);
        std::thread::spawn(move || read_all(reader, hashed, &sender));
        Self {
            receiver,
            pauses,
            ended: None,
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// The disk's own, or the decompressor's.
    pub(super) fn next(&mut self) -> io::Result<Block> {
        if let Some(digest) = self.ended {
            return Ok(Block::End(digest));
        }
        let next = if self.pauses {
            match self.receiver.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) => return Ok(Block::Pause),
                Ok(next) => Ok(next),
                Err(RecvTimeoutError::Disconnected) => Err(()),
            }
        } else {
            self.receiver.recv().map_err(|_| ())
        };
        let block = next.map_err(|()| io::Error::other("the reading thread ended"))??;
        if let Block::End(digest) = &block {
            self.ended = Some(*digest);
        }
        Ok(block)
    }
}

fn read_all(
    mut reader: Box<dyn Read + Send>,
    hashed: bool,
    sender: &SyncSender<io::Result<Block>>,
) {
    let mut hash = Sha256::new();
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let said = match reader.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
            Ok(0) => Ok(Block::End(hashed.then(|| hash.finalize_reset().into()))),
            Ok(read) => {
                block.truncate(read);
                if hashed {
                    hash.update(&block);
                }
                Ok(Block::Bytes(block))
            }
        };
        let last = !matches!(said, Ok(Block::Bytes(_)));
        // Nobody listens any more: the import stopped.
        if sender.send(said).is_err() || last {
            return;
        }
    }
}

/// Blocks as a plain reader.
#[derive(Debug)]
pub(super) struct BlockReader {
    blocks: Blocks,
    block: Cursor<Vec<u8>>,
}

impl BlockReader {
    pub(super) fn new(blocks: Blocks) -> Self {
        Self {
            blocks,
            block: Cursor::default(),
        }
    }

    /// Reads what is left, for the hash of everything.
    pub(super) fn finish(&mut self) -> io::Result<Option<[u8; 32]>> {
        loop {
            if let Block::End(digest) = self.blocks.next()? {
                return Ok(digest);
            }
        }
    }
}

impl Read for BlockReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.blocks.next()? {
                Block::Bytes(bytes) => self.block = Cursor::new(bytes),
                Block::Pause => {}
                Block::End(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn content(bytes: &[u8]) -> (Vec<u8>, bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input");
        std::fs::write(&path, bytes).unwrap();
        let mut opened = Input::File(path).open().unwrap();
        let mut content = Vec::new();
        opened.reader.read_to_end(&mut content).unwrap();
        assert!(content.starts_with(&opened.head));
        assert_eq!(opened.read.load(Ordering::Relaxed), bytes.len() as u64);
        (content, opened.compressed)
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        let text = b"{\"type\":\"EventLogged\",\"name\":\"a\"}\n".repeat(1000);
        assert_eq!(content(&text), (text.clone(), false));
        assert_eq!(content(b""), (Vec::new(), false));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(content(&gzip), (text.clone(), true));
        // Members and frames that follow each other are one file.
        assert_eq!(
            content(&[&gzip[..], &gzip].concat()).0.len(),
            2 * text.len()
        );
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(content(&zstd), (text.clone(), true));
        assert_eq!(
            content(&[&zstd[..], &zstd].concat()).0.len(),
            2 * text.len()
        );
    }

    #[test]
    fn the_end_tells_the_hash() {
        let text = vec![7; 3 * BLOCK_BYTES + 1];
        let mut blocks = Blocks::start(Box::new(Cursor::new(text.clone())), true, false);
        let mut read = Vec::new();
        let digest = loop {
            match blocks.next().unwrap() {
                Block::Bytes(bytes) => read.extend(bytes),
                Block::Pause => panic!("files do not pause"),
                Block::End(digest) => break digest,
            }
        };
        assert_eq!(read, text);
        assert_eq!(digest, Some(Sha256::digest(&text).into()));
        assert!(matches!(blocks.next().unwrap(), Block::End(Some(_))));
    }
}
