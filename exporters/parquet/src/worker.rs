//! The thread that compacts: one command at a time, and the clock in between.
//!
//! It is niced, so that taking events comes first; threads it starts to encode and decode columns inherit that.
//!
//! # Invariants
//! K1. All I/O of the compactor is done by this thread, in an order that depends on the log and the clocks alone.
//! K2. After a failure nothing is done before the next opening, which starts from what is on disk.
//! K3. A directory has one compactor: it holds the lock from its first opening until it ends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use modelog_engine::batch::LoggedBatch;
use modelog_engine::projection::ProjectionError;
use modelog_engine::{Checkpoint, ColdHandle, LockGuard, LogError, Offset, chain};
use tokio::sync::{mpsc, oneshot};

use crate::compactor::FOLD_VERSION;
use crate::disk;
use crate::error::ParquetError;
use crate::intake::Intake;
use crate::leftovers;
use crate::manifest::Manifest;
use crate::store::{self, Shared};

/// How much its own threads yield to others, on the scale of `nice`.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;
/// How often segments are looked at that the cold tier holds.
const RETIRE_EVERY: Duration = Duration::from_secs(60);
/// For how long nothing may be handed over, while there is something, before nobody waits for it any more.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is asked of the thread.
#[derive(Debug)]
pub(crate) enum Command {
    Open(oneshot::Sender<Result<Checkpoint, ProjectionError>>),
    Take(
        Vec<Arc<LoggedBatch>>,
        oneshot::Sender<Result<(), ProjectionError>>,
    ),
    Flush(oneshot::Sender<Result<Offset, ParquetError>>),
    Stop,
}

/// The state of the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    handle: ColdHandle,
    commands: Receiver<Command>,
    /// Failures that nobody was waiting for.
    failures: mpsc::UnboundedSender<ProjectionError>,
    lock: Option<LockGuard>,
    state: State,
    flushes: Vec<Flush>,
    /// When something was last handed over.
    heard: Duration,
    /// When segments were last looked at.
    retired: Option<Duration>,
}

/// Somebody who waits for files to be closed.
#[derive(Debug)]
struct Flush {
    /// How much of the log must have been taken in before.
    wanted: Offset,
    /// Since when, by the monotonic clock.
    since: Duration,
    reply: oneshot::Sender<Result<Offset, ParquetError>>,
}

#[derive(Debug)]
enum State {
    /// Not opened yet.
    New,
    Working(Intake),
    /// Why it must be opened again.
    Failed(String),
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        handle: ColdHandle,
        commands: Receiver<Command>,
        failures: mpsc::UnboundedSender<ProjectionError>,
    ) -> Self {
        Self {
            shared,
            handle,
            commands,
            failures,
            lock: None,
            state: State::New,
            flushes: Vec::new(),
            heard: Duration::ZERO,
            retired: None,
        }
    }

    /// Works until it is told to stop, or nobody can tell it any more.
    pub(crate) fn run(mut self) {
        be_nice();
        loop {
            match self.commands.recv_timeout(self.shared.config.check_every) {
                Ok(Command::Open(reply)) => {
                    let opened = self.open();
                    self.heard = self.shared.clock.monotonic();
                    // Whoever asked may be gone; the state is the same.
                    let _ = reply.send(opened);
                }
                Ok(Command::Take(batches, reply)) => {
                    let taken = self.take(&batches);
                    drop(batches);
                    self.heard = self.shared.clock.monotonic();
                    self.show();
                    let _ = reply.send(taken);
                }
                Ok(Command::Flush(reply)) => self.ask_flush(reply),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look_around();
            self.show();
        }
        if let State::Working(intake) = self.state {
            intake.abandon();
        }
    }

    /// Starts from what is on disk.
    fn open(&mut self) -> Result<Checkpoint, ProjectionError> {
        if let State::Working(intake) = std::mem::replace(&mut self.state, State::New) {
            intake.abandon();
        }
        match self.try_open() {
            Ok(manifest) => {
                if manifest.cold_end >= self.handle.tail() {
                    // Nothing will be taken in that could show that all is well again.
                    self.shared.progress().last_error = None;
                }
                let checkpoint = Checkpoint {
                    log: manifest.log,
                    epoch: manifest.epoch,
                    offset: manifest.cold_end,
                    fold_version: FOLD_VERSION,
                };
                self.state = State::Working(Intake::new(Arc::clone(&self.shared), manifest));
                Ok(checkpoint)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn try_open(&mut self) -> Result<Arc<Manifest>, ParquetError> {
        let shared = Arc::clone(&self.shared);
        let (storage, root) = (&*shared.storage, shared.config.path.as_path());
        if self.lock.is_none() {
            disk::create_dirs(storage, root, "".as_ref())?;
            self.lock = Some(lock(&shared)?);
        }
        let log = self.handle.log_id();
        let manifest = match store::load(storage, root)? {
            Some(manifest) => manifest,
            None => Manifest {
                epoch: self.handle.epoch_of(Offset::ZERO),
                ..Manifest::new(log)
            },
        };
        if manifest.log != log {
            return Err(ParquetError::ForeignLog {
                path: root.to_path_buf(),
                found: manifest.log,
                expected: log,
            });
        }
        let recorded = self.handle.cold_end();
        if manifest.cold_end < recorded {
            // Files the log relies on would look like leftovers.
            return Err(ParquetError::Behind {
                path: root.to_path_buf(),
                found: manifest.cold_end,
                recorded,
            });
        }
        // An earlier attempt may have failed, or died, between giving the manifest its name and syncing that: what is read
        // here must be durable before the log relies on it.
        disk::sync_dir(storage, root)?;
        let foreign = leftovers::clean(storage, root, &manifest)?;
        shared.progress().foreign = foreign;
        let manifest = Arc::new(manifest);
        if shared.manifest().is_none() {
            // From now on the directory is this log's.
            manifest.store(storage, root)?;
        }
        shared.set_manifest(Arc::clone(&manifest));
        let end = manifest.cold_end;
        self.handle
            .advance(end)
            .map_err(|source| ParquetError::Log { end, source })?;
        Ok(manifest)
    }

    fn take(&mut self, batches: &[Arc<LoggedBatch>]) -> Result<(), ProjectionError> {
        let outcome = match &mut self.state {
            State::Working(intake) => intake.take(batches, &self.handle),
            State::New => Err(not_running("it was not opened yet")),
            State::Failed(reason) => Err(not_running(reason)),
        };
        match outcome {
            Ok(()) => {
                self.shared.progress().last_error = None;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn ask_flush(&mut self, reply: oneshot::Sender<Result<Offset, ParquetError>>) {
        match &self.state {
            State::Failed(reason) => {
                let _ = reply.send(Err(not_running(reason)));
            }
            State::New | State::Working(_) => self.flushes.push(Flush {
                wanted: self.handle.tail(),
                since: self.shared.clock.monotonic(),
                reply,
            }),
        }
    }

    /// What is to be done without being asked: closing what is due, and what was waited for.
    fn look_around(&mut self) {
        let outcome = self.close_due().and_then(|()| self.flush());
        if let Err(error) = outcome {
            let error = self.fail(error);
            // The projection is told while it waits for events, and opened again.
            let _ = self.failures.send(error);
        }
        self.retire();
    }

    fn close_due(&mut self) -> Result<(), ParquetError> {
        match &mut self.state {
            State::Working(intake) if intake.taken() >= self.handle.tail() => {
                intake.close_due(&self.handle)
            }
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let State::Working(intake) = &mut self.state else {
            return Ok(());
        };
        let taken = intake.taken();
        let (now, heard) = (self.shared.clock.monotonic(), self.heard);
        let in_vain = |flush: &mut Flush| {
            let silence = now.saturating_sub(flush.since.max(heard));
            flush.wanted > taken && silence > SILENCE_MAX
        };
        for flush in self.flushes.extract_if(.., in_vain) {
            let reason = "the log hands nothing over: look at the state of the projection";
            let _ = flush.reply.send(Err(not_running(reason)));
        }
        if !self.flushes.iter().any(|flush| flush.wanted <= taken) {
            return Ok(());
        }
        let cold_end = intake.close_all(&self.handle)?;
        self.show();
        for flush in self.flushes.extract_if(.., |flush| flush.wanted <= taken) {
            let _ = flush.reply.send(Ok(cold_end));
        }
        Ok(())
    }

    /// Lets the log delete segments that are old enough.
    fn retire(&mut self) {
        let now = self.shared.clock.monotonic();
        let looked = self.retired.map(|retired| now.saturating_sub(retired));
        let working = matches!(self.state, State::Working(_));
        if !working || looked.is_some_and(|since| since < RETIRE_EVERY) {
            return;
        }
        self.retired = Some(now);
        match self.handle.retire() {
            Ok(_) | Err(LogError::Closed) => {}
            // The next look goes on.
            Err(error) => tracing::warn!(reason = %chain(&error), "old segments were not removed"),
        }
    }

    /// Gives up what is not in finished files, and tells whoever waits for it.
    fn fail(&mut self, error: ParquetError) -> ProjectionError {
        let reason = chain(&error);
        self.shared.progress().last_error = Some(reason.clone());
        for flush in self.flushes.drain(..) {
            let _ = flush.reply.send(Err(not_running(&reason)));
        }
        if let State::Working(intake) = std::mem::replace(&mut self.state, State::Failed(reason)) {
            intake.abandon();
        }
        error.into()
    }

    /// Keeps the figures of [`ParquetStore::status`](crate::ParquetStore::status).
    fn show(&self) {
        let (rows, bytes) = match &self.state {
            State::Working(intake) => (intake.open_rows(), intake.open_bytes()),
            State::New | State::Failed(_) => (0, 0),
        };
        let mut progress = self.shared.progress();
        progress.open_rows = rows;
        progress.open_bytes = bytes;
    }
}

fn not_running(reason: &str) -> ParquetError {
    ParquetError::NotRunning {
        reason: reason.into(),
    }
}

fn lock(shared: &Shared) -> Result<LockGuard, ParquetError> {
    let path = shared.config.path.join(leftovers::LOCK);
    let locked = shared
        .storage
        .lock(&path)
        .map_err(ParquetError::io("locking", &path))?;
    locked.map_err(|holder| ParquetError::Locked {
        path: shared.config.path.clone(),
        holder,
    })
}

#[cfg(target_os = "linux")]
fn be_nice() {
    // On Linux this is a matter of the thread alone. Where it is not allowed, all are equal.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn be_nice() {}
