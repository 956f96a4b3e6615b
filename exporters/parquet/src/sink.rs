//! Where encoded bytes go: into a file, in large writes, with a checksum of everything on the way.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use modelog_engine::StorageFile;
use sha2::{Digest, Sha256};

use crate::manifest::Sha256Sum;

/// How much is written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that is written from its start to its end.
#[derive(Debug)]
pub(crate) struct Sink {
    file: Arc<dyn StorageFile>,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    position: u64,
    sum: Sha256,
    /// A write failed, or nobody wants the file any more.
    failed: bool,
}

impl Sink {
    pub(crate) fn new(file: Arc<dyn StorageFile>) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            position: 0,
            sum: Sha256::new(),
            failed: false,
        }
    }

    /// Writes what is left, and syncs. Answers how long the file is and what it comes to.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Sha256Sum)> {
        self.write_out(&[])?;
        self.file.sync_data()?;
        Ok((self.position, Sha256Sum::finish(self.sum)))
    }

    /// Writes nothing more, whoever asks: writers flush when they are dropped.
    pub(crate) fn give_up(&mut self) {
        self.failed = true;
    }

    fn write_out(&mut self, more: &[u8]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the file was given up"));
        }
        let slices = [IoSlice::new(&self.buffer), IoSlice::new(more)];
        let written = self.file.write_at(&slices, self.position);
        self.failed = written.is_err();
        written?;
        self.sum.update(&self.buffer);
        self.sum.update(more);
        self.position += (self.buffer.len() + more.len()) as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.write_out(bytes)?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: who wants bytes on the disk calls [`finish`](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
