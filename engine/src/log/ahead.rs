//! Space ahead of the writer: zero-filled, synced, by a thread of its own.
//!
//! Overwriting blocks that exist syncs two to four times faster than growing a file, and a disk without space is
//! noticed here, before any frame is written. There is at most one order of each sort under way.
//!
//! # Failure
//! A kernel tells of a failed sync once, and takes the file's pages for clean then, whoever wrote them: a sync that fails
//! here may take frames with it that the writer is about to sync, which would then succeed without them. So the writer
//! asks [`Ahead::check_synced`] after each of its own syncs; it waits there for a sync under way.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock;
use super::snapshot::ADMISSION;
use crate::Offset;
use crate::error::chain;
use crate::storage::{Storage, StorageFile};
use crate::threads::mpsc::{Receiver, Sender, channel};
use crate::threads::{self, JoinHandle, Mutex};

/// How much is prepared at a time, in bytes.
pub(crate) const STEP_BYTES: u64 = 8 << 20;
/// How much is written at once.
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug)]
enum Order {
    /// Zeros in a file from here to there.
    Zeros {
        file: Arc<dyn StorageFile>,
        from: u64,
        to: u64,
    },
    /// A new file with a first stretch of zeros.
    Spare(PathBuf),
    /// A snapshot, which nobody waits for.
    Snapshot {
        directory: PathBuf,
        offset: Offset,
        bytes: Vec<u8>,
    },
}

#[derive(Debug)]
enum Done {
    Zeros(io::Result<u64>),
    Spare(io::Result<Arc<dyn StorageFile>>),
}

/// The thread, and what it was asked for.
#[derive(Debug)]
pub(crate) struct Ahead {
    orders: Option<Sender<Order>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    zeros: Asked<u64>,
    spare: Asked<Arc<dyn StorageFile>>,
    lost: Arc<Mutex<bool>>,
}

#[derive(Debug)]
enum Asked<T> {
    Nothing,
    UnderWay,
    Ready(io::Result<T>),
}

impl Ahead {
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        directory: PathBuf,
        reserve_bytes: u64,
    ) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let (outbox, done) = channel();
        let lost = Arc::default();
        let worker = Worker {
            storage,
            directory,
            reserve_bytes,
            lost: Arc::clone(&lost),
        };
        let thread = threads::spawn("modelog-ahead", move || {
            for order in inbox {
                let done = match order {
                    Order::Zeros { file, from, to } => {
                        Done::Zeros(worker.more_zeros(&*file, from, to))
                    }
                    Order::Spare(path) => Done::Spare(worker.spare(path)),
                    Order::Snapshot {
                        directory,
                        offset,
                        bytes,
                    } => {
                        worker.snapshot(&directory, offset, &bytes);
                        continue;
                    }
                };
                if outbox.send(done).is_err() {
                    break;
                }
            }
        })?;
        let (zeros, spare) = (Asked::Nothing, Asked::Nothing);
        Ok(Self {
            orders: Some(orders),
            done,
            thread: Some(thread),
            zeros,
            spare,
            lost,
        })
    }

    /// Asks for zeros in a file, unless that was asked already.
    pub(crate) fn ask_zeros(&mut self, file: &Arc<dyn StorageFile>, from: u64, to: u64) {
        if matches!(self.zeros, Asked::Nothing) {
            self.send(Order::Zeros {
                file: Arc::clone(file),
                from,
                to,
            });
            self.zeros = Asked::UnderWay;
        }
    }

    /// Whether a sync of the file being written can be believed: none of ours has failed.
    pub(crate) fn check_synced(&self) -> io::Result<()> {
        if *lock(&self.lost) {
            return Err(io::Error::other("a sync of the space ahead failed before"));
        }
        Ok(())
    }

    /// The end of the zeros that were asked for, once they are there; waits if told to.
    pub(crate) fn zeros(&mut self, wait: bool) -> Option<io::Result<u64>> {
        self.collect(wait, |ahead| matches!(ahead.zeros, Asked::UnderWay));
        match std::mem::replace(&mut self.zeros, Asked::Nothing) {
            Asked::Ready(outcome) => Some(outcome),
            other => {
                self.zeros = other;
                None
            }
        }
    }

    /// Asks for a new file, unless that was asked already.
    pub(crate) fn ask_spare(&mut self, path: PathBuf) {
        if matches!(self.spare, Asked::Nothing) {
            self.send(Order::Spare(path));
            self.spare = Asked::UnderWay;
        }
    }

    /// The new file; waits for it if it was asked for.
    pub(crate) fn take_spare(&mut self) -> Option<io::Result<Arc<dyn StorageFile>>> {
        self.collect(true, |ahead| matches!(ahead.spare, Asked::UnderWay));
        match std::mem::replace(&mut self.spare, Asked::Nothing) {
            Asked::Ready(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Writes a snapshot some time soon; before this is dropped.
    pub(crate) fn write_snapshot(&self, directory: PathBuf, offset: Offset, bytes: Vec<u8>) {
        self.send(Order::Snapshot {
            directory,
            offset,
            bytes,
        });
    }

    fn send(&self, order: Order) {
        let orders = self
            .orders
            .as_ref()
            .expect("orders are given until the thread is joined");
        orders
            .send(order)
            .expect("the thread runs until its orders end");
    }

    fn collect(&mut self, wait: bool, wanted: impl Fn(&Self) -> bool) {
        loop {
            let done = if wait && wanted(self) {
                self.done.recv().ok()
            } else {
                self.done.try_recv().ok()
            };
            match done {
                Some(Done::Zeros(outcome)) => self.zeros = Asked::Ready(outcome),
                Some(Done::Spare(outcome)) => self.spare = Asked::Ready(outcome),
                None => return,
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; what it was asked for is simply missing.
            let _ = thread.join();
        }
    }
}

struct Worker {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    reserve_bytes: u64,
    /// A sync of a file that the writer has, too, has failed. Held while there is one under way.
    lost: Arc<Mutex<bool>>,
}

impl Worker {
    /// Zeros in the file that is being written.
    fn more_zeros(&self, file: &dyn StorageFile, from: u64, to: u64) -> io::Result<u64> {
        self.write_zeros(file, from, to)?;
        let mut lost = lock(&self.lost);
        let synced = file.sync_data();
        *lost |= synced.is_err();
        synced.map(|()| to)
    }

    /// Zeros in a file that nobody else has.
    fn zeros(&self, file: &dyn StorageFile, from: u64, to: u64) -> io::Result<u64> {
        self.write_zeros(file, from, to)?;
        file.sync_data()?;
        Ok(to)
    }

    fn write_zeros(&self, file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
        if self.storage.free_bytes(&self.directory)? < self.reserve_bytes + (to - from) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; CHUNK_BYTES];
        let mut at = from;
        while at < to {
            let len = (to - at).min(CHUNK_BYTES as u64) as usize;
            file.write_at(&[IoSlice::new(&zeros[..len])], at)?;
            at += len as u64;
        }
        Ok(())
    }

    fn snapshot(&self, directory: &Path, offset: Offset, bytes: &[u8]) {
        if let Err(error) = ADMISSION.write(&*self.storage, directory, offset, bytes) {
            tracing::warn!(error = %chain(&error), "no snapshot was written; the next opening will read more");
        }
    }

    fn spare(&self, path: PathBuf) -> io::Result<Arc<dyn StorageFile>> {
        if self.storage.exists(&path)? {
            self.storage.remove(&path)?;
        }
        let file = self.storage.create(&path)?;
        match self.zeros(&*file, 0, STEP_BYTES) {
            Ok(_) => Ok(file),
            Err(error) => {
                drop(file);
                // The space is needed more than the error of removing would be.
                let _ = self.storage.remove(&path);
                Err(error)
            }
        }
    }
}
