//! A file behind the engine's [`Storage`](modelog_engine::Storage), as the Parquet decoder wants to read it.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use modelog_engine::StorageFile;
use parquet::errors::ParquetError as DecodeError;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a file at any place; clones share the file.
#[derive(Clone, Debug)]
pub(crate) struct FileBytes {
    file: Arc<dyn StorageFile>,
    len: u64,
    /// What the disk said when it last failed: the decoder makes text of it.
    fault: Arc<Mutex<Option<io::Error>>>,
}

impl FileBytes {
    pub(crate) fn new(file: Arc<dyn StorageFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            len,
            fault: Arc::default(),
        })
    }

    /// The failure of the disk behind a failure of the decoder, if that was why.
    pub(crate) fn take_fault(&self) -> Option<io::Error> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            told
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads a range that must exist.
    pub(crate) fn read_exact(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], position + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FileBytes {
    type T = FileCursor;

    fn get_read(&self, start: u64) -> Result<FileCursor, DecodeError> {
        Ok(FileCursor {
            bytes: self.clone(),
            position: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, DecodeError> {
        // A damaged length must not be allocated before it is known to lie within the file.
        let fits = start
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.len);
        if !fits {
            return Err(DecodeError::EOF(format!(
                "{length} bytes at {start} reach beyond the end of the file, {}",
                self.len
            )));
        }
        let mut buffer = vec![0; length];
        self.read_exact(&mut buffer, start)
            .map_err(|error| DecodeError::External(Box::new(error)))?;
        Ok(buffer.into())
    }
}

/// Reads on from a place.
#[derive(Debug)]
pub(crate) struct FileCursor {
    bytes: FileBytes,
    position: u64,
}

impl Read for FileCursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
