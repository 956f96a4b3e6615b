//! A disk in memory that crashes, fails, fills up and rots, as tests ask for; the same way each time for the same seed.
//!
//! It is held twice: as programs see it (cached), and as it is found after the power went (durable). An I/O here is
//! whatever changes the disk or makes changes last; I/Os are counted from 0. A crash at I/O `k` means that those before
//! `k` were answered, that `k` was asked for and never answered, and that nothing else was done.
//!
//! ```text
//! SimStorage ── I/Os, in order ──▶ Disk ── crash ──▶ SimStorage::reboot, Replay::crash
//!     │                             ▲
//!     └── record ──▶ History ───────┘  replayed up to any k
//! ```
//!
//! # Invariants
//! S1. Programs read what they wrote, as on any disk. A file is the same by all its names; who has it open keeps it when
//!     its name goes.
//! S2. After a crash, synced bytes that no unsynced change touches are what they were; so are the names of a directory
//!     that have not changed since its sync.
//! S3. An unsynced write is there complete, in parts (sectors of 512 bytes), not at all, or as something else: noise, or
//!     what stands elsewhere on the disk. An unsynced change of length is there or not; a file that grew may be cut
//!     anywhere down to its former length. Each change meets its own fate.
//! S4. Bytes outside of an unsynced write stay what they were, unless [`Crash::PowerLoss`] says `torn_blocks`: then the
//!     rest of the blocks it touches may be spoiled too.
//! S5. An unsynced creation, link, rename or removal is there whole or not at all, each by itself, save that those of one
//!     name come to the disk in order. A file has its synced bytes whatever became of its names. Syncing a file does
//!     not make its name durable, nor does syncing a directory make its own name in its parent durable.
//! S6. A rename into another directory is durable when that one is synced; that the old name is gone is durable when both
//!     are.
//! S7. When only the process dies ([`Crash::Kill`]), the next one sees all that it was answered. But nothing is synced by
//!     that: the power may still go later.
//! S8. What a crash leaves follows from the I/Os and the seed alone. Threads that race do their I/Os in some order; a
//!     [`History`] keeps that order, so what was seen can be seen again.
//! S9. A storage that has crashed fails for ever. What a crash left is another storage, so threads of the old life
//!     cannot reach the new one.
//!
//! # Why not a file system with fault injection
//! Those (dm-flakey, CrashMonkey) need a kernel, root and seconds for each crash; here a crash takes microseconds, so
//! every I/O can be tried. How real kernels and disks behave is tested with `strace` and small file systems.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sim_content::{BLOCK_BYTES, Chance, Data};
use super::sim_disk::{Disk, Node, Op};
use super::{LockGuard, Storage, StorageFile};

/// How a life of the disk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies, the machine goes on; what was not synced still is not. The write under way is there up to some
    /// block.
    Kill { seed: u64 },
    /// The power goes before anything that was not synced has come to the disk.
    LoseAll,
    /// The power goes while everything that was not synced is on its way.
    PowerLoss { seed: u64, torn_blocks: bool },
}

impl Crash {
    /// The power goes; overwriting a block does not damage the rest of it.
    #[must_use]
    pub fn power_loss(seed: u64) -> Self {
        Self::PowerLoss {
            seed,
            torn_blocks: false,
        }
    }
}

/// A failure the program lives to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done: EIO.
    Io,
    /// A part of a write is done, then EIO; else as `Io`.
    ShortWrite,
    /// A part of a write is done, then the disk is full; else nothing is done and it is full.
    Full,
    /// A sync of a file fails, and what it should have made durable is from then on taken for durable: the next sync
    /// succeeds without it. Else as `Io`, for directories too: names go through the journal of a file system, and one that
    /// cannot write its journal takes no more changes.
    LosingSync,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimStorage {
    shared: Arc<Mutex<State>>,
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStorage({} I/Os)", self.state().ios)
    }
}

/// Which I/O is meant.
type Wanted = Box<dyn FnMut(&Io) -> bool + Send>;

struct State {
    seed: u64,
    disk: Disk,
    ios: u64,
    reads: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// What was under way when it crashed.
    under_way: Option<Op>,
    /// By number of the I/O.
    faults: BTreeMap<u64, Fault>,
    /// The next I/O of a sort.
    fault_of: Option<(Wanted, Fault)>,
    /// Numbers of reads.
    read_faults: HashSet<u64>,
    /// Reads of bytes stop anywhere.
    reads_in_pieces: bool,
    capacity_bytes: Option<u64>,
    locks: HashSet<PathBuf>,
    history: Option<History>,
}

/// An I/O, as a trace shows it.
#[derive(Clone)]
pub struct Io {
    op: Op,
    /// The file, where the operation does not name one.
    path: Option<Arc<Path>>,
    thread: Arc<str>,
}

impl Io {
    /// The name of the thread that asked for it.
    #[must_use]
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// The file whose bytes or length it changes or syncs; none if it is about names.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What it does to the bytes of a file.
    #[must_use]
    pub fn touch(&self) -> Option<Touch> {
        let (file, sort) = match &self.op {
            Op::Write {
                file,
                position,
                data,
            } => {
                let (position, len) = (*position, data.len());
                let zeros = matches!(data, Data::Zeros(_));
                let sort = TouchSort::Write {
                    position,
                    len,
                    zeros,
                };
                (file, sort)
            }
            Op::SetLen { file, len } => (file, TouchSort::SetLen(*len)),
            Op::Sync(file) => (file, TouchSort::Sync),
            _ => return None,
        };
        Some(Touch {
            file: file.number(),
            sort,
        })
    }

    /// Whether it only makes earlier ones last.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        self.op.is_sync()
    }

    /// Whether it writes bytes into a file.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.op, Op::Write { .. })
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20} {:?}", self.thread, self.op)?;
        match &self.path {
            Some(path) => write!(f, " {}", path.display()),
            None => Ok(()),
        }
    }
}

/// What an I/O did to the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The number of the file, which it keeps whatever its names, and in what a crash leaves; none is given twice.
    pub file: u64,
    pub sort: TouchSort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchSort {
    Write {
        position: u64,
        len: u64,
        /// Nothing but zeros.
        zeros: bool,
    },
    SetLen(u64),
    /// What was written before is durable.
    Sync,
}

/// What was done to a disk, from where it was.
#[derive(Clone)]
pub struct History {
    start: Disk,
    first: u64,
    ios: Vec<Io>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, io) in (self.first..).zip(&self.ios) {
            writeln!(f, "{number:>6} {io:?}")?;
        }
        Ok(())
    }
}

impl History {
    /// The numbers at which it can have crashed: of its I/Os, and the one after.
    #[must_use]
    pub fn crash_points(&self) -> std::ops::RangeInclusive<u64> {
        self.first..=self.first + self.ios.len() as u64
    }

    /// What was done, in order.
    #[must_use]
    pub fn ios(&self) -> &[Io] {
        &self.ios
    }

    /// Does it again, step by step.
    #[must_use]
    pub fn replay(&self) -> Replay<'_> {
        Replay {
            history: self,
            disk: self.start.clone(),
            at: self.first,
        }
    }
}

/// A history on its way.
#[derive(Clone)]
pub struct Replay<'a> {
    history: &'a History,
    disk: Disk,
    at: u64,
}

impl fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replay(at {})", self.at)
    }
}

impl Replay<'_> {
    /// Goes to where I/O `k` is next; back too.
    ///
    /// # Panics
    /// If there is no such I/O in the history.
    pub fn go_to(&mut self, k: u64) {
        assert!(self.history.crash_points().contains(&k), "no I/O {k}");
        if k < self.at {
            *self = self.history.replay();
        }
        while self.at < k {
            let io = &self.history.ios[(self.at - self.history.first) as usize];
            self.disk.apply(&io.op).expect("it could be done before");
            self.at += 1;
        }
    }

    /// The next I/O; none at the end.
    #[must_use]
    pub fn next_io(&self) -> Option<&Io> {
        self.history
            .ios
            .get((self.at - self.history.first) as usize)
    }

    /// What a crash at the next I/O leaves.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> SimStorage {
        let mut disk = self.disk.clone();
        if let Some(io) = self.next_io() {
            begin(&mut disk, &io.op, crash);
        }
        SimStorage::of(disk.crash(crash), 0)
    }

    /// The disk as programs see it between the I/O before and the next one.
    #[must_use]
    pub fn seen(&self) -> SimStorage {
        SimStorage::of(self.disk.clone(), 0)
    }
}

/// Does as much of an I/O as a crash in its middle may leave.
fn begin(disk: &mut Disk, op: &Op, crash: Crash) {
    let op = match (op, crash) {
        (
            Op::Write {
                file,
                position,
                data,
            },
            Crash::Kill { seed },
        ) => {
            let len = data.len().min(part(seed, data.len()));
            Op::Write {
                file: *file,
                position: *position,
                data: data.prefix(len),
            }
        }
        _ => op.clone(),
    };
    if !op.is_sync() {
        // What cannot be done is not begun.
        let _ = disk.apply(&op);
    }
}

/// Where a write of some length stops early: at the border of a block, or at its end.
fn part(seed: u64, len: u64) -> u64 {
    let blocks = len.div_ceil(BLOCK_BYTES);
    Chance::new(seed).below(blocks + 1) * BLOCK_BYTES
}

impl SimStorage {
    /// An empty disk. The seed decides where short writes stop, and in which order directories are listed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(Disk::new(), seed)
    }

    fn of(disk: Disk, seed: u64) -> Self {
        let state = State {
            seed,
            disk,
            ios: 0,
            reads: 0,
            crash_at: None,
            crashed: false,
            under_way: None,
            faults: BTreeMap::new(),
            fault_of: None,
            read_faults: HashSet::new(),
            reads_in_pieces: false,
            capacity_bytes: None,
            locks: HashSet::new(),
            history: None,
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// The disk as the engine takes it.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// How many I/Os there were.
    #[must_use]
    pub fn ios(&self) -> u64 {
        self.state().ios
    }

    /// How many calls read bytes, names or lengths.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Crashes at an I/O: it and everything after it fails.
    pub fn crash_at(&self, k: u64) {
        self.state().crash_at = Some(k);
    }

    /// Whether it has crashed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Ends this life of the disk, if nothing has yet, and gives what the crash left.
    #[must_use]
    pub fn reboot(&self, crash: Crash) -> Self {
        self.state().crashed = true;
        self.after(crash)
    }

    /// What a crash would leave now; this life of the disk goes on.
    #[must_use]
    pub fn after(&self, crash: Crash) -> Self {
        let state = self.state();
        let mut disk = state.disk.clone();
        if let Some(op) = &state.under_way {
            begin(&mut disk, op, crash);
        }
        Self::of(disk.crash(crash), state.seed.wrapping_add(1))
    }

    /// Makes an I/O fail, by its number.
    pub fn fail_at(&self, k: u64, fault: Fault) {
        self.state().faults.insert(k, fault);
    }

    /// Makes the first I/O fail that is `wanted`, whatever its number: threads that race do theirs in varying order.
    pub fn fail_first(&self, wanted: impl FnMut(&Io) -> bool + Send + 'static, fault: Fault) {
        self.state().fault_of = Some((Box::new(wanted), fault));
    }

    /// Makes a read fail with EIO, by its number.
    pub fn fail_read_at(&self, number: u64) {
        self.state().read_faults.insert(number);
    }

    /// From now on a read of bytes may stop anywhere after the first one, as the contract of files allows.
    pub fn read_in_pieces(&self) {
        self.state().reads_in_pieces = true;
    }

    /// Takes back all failures that have not come true.
    pub fn fail_no_more(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.fault_of = None;
        state.read_faults.clear();
    }

    /// How large the disk is. Files take whole blocks, up to their length.
    pub fn set_capacity_bytes(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Space taken by files and directories.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().disk.used_bytes()
    }

    /// Turns over a bit, in memory and on the disk.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let file = state.disk.file(path)?;
        let op = Op::FlipBit {
            file,
            position,
            bit,
        };
        state.io(op, Some(&path.into())).map(|_| ())
    }

    /// Keeps from now on what is done, for [`History::replay`].
    pub fn record(&self) {
        let mut state = self.state();
        state.history = Some(History {
            start: state.disk.clone(),
            first: state.ios,
            ios: Vec::new(),
        });
    }

    /// What was done since [`record`](Self::record); nothing if that was not asked for.
    #[must_use]
    pub fn history(&self) -> History {
        let state = self.state();
        state.history.clone().unwrap_or_else(|| History {
            start: state.disk.clone(),
            first: state.ios,
            ios: Vec::new(),
        })
    }

    /// All files under a directory, in order.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn files(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        let mut found = Vec::new();
        let mut queue = vec![directory.to_path_buf()];
        while let Some(directory) = queue.pop() {
            for name in state.disk.list(&directory)? {
                let path = directory.join(name);
                if state.disk.is_directory(state.disk.find(&path)?) {
                    queue.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let content = state.disk.content(state.disk.file(path)?)?;
        let mut bytes = vec![0; content.len() as usize];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.read()?;
        look(&state)
    }

    fn open_file(&self, path: &Path, node: Node, write: bool) -> Arc<dyn StorageFile> {
        Arc::new(SimFile {
            storage: self.clone(),
            path: path.into(),
            node,
            write,
        })
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn gone() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

impl State {
    /// Does an I/O, if the plan lets it; the parts of failures that are done count as done.
    fn io(&mut self, op: Op, path: Option<&Arc<Path>>) -> io::Result<Option<Node>> {
        if self.crashed {
            return Err(gone());
        }
        if self.crash_at.is_some_and(|k| k <= self.ios) {
            self.disk.clone().apply(&op)?;
            self.crashed = true;
            self.under_way = Some(op);
            return Err(gone());
        }
        let io = Io {
            op,
            path: path.map(Arc::clone),
            thread: std::thread::current().name().unwrap_or("?").into(),
        };
        let fault = self.fault(&io);
        let (op, error) = match fault {
            Some(fault) => self.failing(io.op, fault),
            None => self.limited(io.op),
        };
        // What cannot be done for reasons of its own is no I/O.
        let created = self.disk.apply(&op)?;
        self.ios += 1;
        if let Some(history) = &mut self.history {
            history.ios.push(Io { op, ..io });
        }
        error.map_or(Ok(created), Err)
    }

    /// How the next I/O is to fail.
    fn fault(&mut self, io: &Io) -> Option<Fault> {
        if let Some((_, fault)) = self.fault_of.take_if(|(wanted, _)| wanted(io)) {
            return Some(fault);
        }
        self.faults.remove(&self.ios)
    }

    /// What is done of an I/O that is to fail.
    fn failing(&self, op: Op, fault: Fault) -> (Op, Option<io::Error>) {
        let seed = self.seed ^ self.ios;
        match (op, fault) {
            (
                Op::Write {
                    file,
                    position,
                    data,
                },
                Fault::ShortWrite | Fault::Full,
            ) => {
                let len = Chance::new(seed).below(data.len());
                let data = data.prefix(len);
                let error = if fault == Fault::Full {
                    ErrorKind::StorageFull.into()
                } else {
                    eio()
                };
                (
                    Op::Write {
                        file,
                        position,
                        data,
                    },
                    Some(error),
                )
            }
            (Op::Sync(file), Fault::LosingSync) => (Op::FailSync { file, seed }, Some(eio())),
            (_, Fault::Full) => (Op::Nothing, Some(ErrorKind::StorageFull.into())),
            _ => (Op::Nothing, Some(eio())),
        }
    }

    /// What is done of an I/O on a disk of limited size.
    fn limited(&self, op: Op) -> (Op, Option<io::Error>) {
        if self.capacity_bytes.is_none() {
            return (op, None);
        }
        let free = self.free_bytes();
        let full = || Some(ErrorKind::StorageFull.into());
        match op {
            Op::Create(_) | Op::MakeDirectory(_) | Op::Link(..) if free == 0 => {
                (Op::Nothing, full())
            }
            Op::Write {
                file,
                position,
                ref data,
            } => {
                let len = self.disk.content(file).map_or(0, |content| content.len());
                let most = len.next_multiple_of(BLOCK_BYTES) + free;
                if position + data.len() <= most {
                    return (op, None);
                }
                let data = data.prefix(most.saturating_sub(position));
                let write = Op::Write {
                    file,
                    position,
                    data,
                };
                (write, full())
            }
            Op::SetLen { file, len } => {
                let now = self.disk.content(file).map_or(0, |content| content.len());
                let most = now.next_multiple_of(BLOCK_BYTES) + free;
                if len <= most {
                    (op, None)
                } else {
                    (Op::Nothing, full())
                }
            }
            op => (op, None),
        }
    }

    fn free_bytes(&self) -> u64 {
        let used = || self.disk.used_bytes();
        self.capacity_bytes.map_or(u64::MAX / 2, |capacity| {
            let free = capacity.saturating_sub(used());
            free - free % BLOCK_BYTES
        })
    }

    /// How much of a read is done.
    fn piece(&self, wanted: usize) -> usize {
        if !self.reads_in_pieces || wanted == 0 {
            return wanted;
        }
        let mut chance = Chance::new(self.seed ^ self.reads);
        // Some reads are whole; short ones are often cut close to their start.
        match chance.below(4) {
            0 => wanted,
            1 => 1 + chance.below(wanted as u64) as usize,
            _ => wanted.min(1 + chance.below(300) as usize),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        if self.crashed {
            return Err(gone());
        }
        self.reads += 1;
        if self.read_faults.remove(&(self.reads - 1)) {
            return Err(eio());
        }
        Ok(())
    }
}

impl Storage for SimStorage {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let node = self.state().io(Op::Create(path.into()), None)?;
        let node = node.ok_or(ErrorKind::NotFound)?;
        Ok(self.open_file(path, node, true))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        let node = self.look(|state| state.disk.file(path))?;
        Ok(self.open_file(path, node, write))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op::Rename(from.into(), to.into());
        self.state().io(op, None).map(|_| ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().io(Op::Remove(path.into()), None).map(|_| ())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op::Link(from.into(), to.into());
        self.state().io(op, None).map(|_| ())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let op = Op::RemoveDirectory(path.into());
        self.state().io(op, None).map(|_| ())
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| match state.disk.find(path) {
            Ok(node) => Ok(state.disk.is_directory(node)),
            Err(error) => absent(&error).then_some(false).ok_or(error),
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let op = Op::SyncDirectory(path.into());
        self.state().io(op, None).map(|_| ())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut way: Vec<_> = path.ancestors().collect();
        way.reverse();
        let mut state = self.state();
        for directory in way.into_iter().filter(|path| path.file_name().is_some()) {
            match state.disk.find(directory) {
                Ok(node) if state.disk.is_directory(node) => state.read()?,
                Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
                Err(_) => {
                    state.io(Op::MakeDirectory(directory.into()), None)?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(|state| {
            let names = state.disk.list(path)?;
            let mut paths: Vec<_> = names.into_iter().map(|name| path.join(name)).collect();
            let mut chance = Chance::new(state.seed ^ paths.len() as u64);
            paths.sort_by_cached_key(|_| chance.number());
            Ok(paths)
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| match state.disk.find(path) {
            Ok(_) => Ok(true),
            Err(error) => absent(&error).then_some(false).ok_or(error),
        })
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.look(|state| Ok(state.free_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Result<LockGuard, String>> {
        let mut state = self.state();
        state.read()?;
        if state.disk.find(path).is_err() {
            state.io(Op::Create(path.into()), None)?;
        }
        if !state.locks.insert(path.into()) {
            return Ok(Err("another user of the simulated disk".into()));
        }
        Ok(Ok(Box::new(SimLock {
            storage: self.clone(),
            path: path.into(),
        })))
    }

    fn network_file_system(&self, _path: &Path) -> io::Result<Option<&'static str>> {
        self.look(|_| Ok(None))
    }
}

/// Whether it says that there is no such path; as the local disk does, a file in place of a directory is an error.
fn absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

#[derive(Debug)]
struct SimLock {
    storage: SimStorage,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.storage.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    storage: SimStorage,
    path: Arc<Path>,
    node: Node,
    write: bool,
}

impl SimFile {
    fn change(&self, op: Op) -> io::Result<()> {
        if !self.write {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.storage.state().io(op, Some(&self.path)).map(|_| ())
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.storage.look(|state| {
            let wanted = state.piece(buffer.len());
            let content = state.disk.content(self.node)?;
            Ok(content.read(&mut buffer[..wanted], position))
        })
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        if bytes.is_empty() {
            return Ok(());
        }
        self.change(Op::Write {
            file: self.node,
            position,
            data: Data::new(bytes),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let op = Op::Sync(self.node);
        self.storage.state().io(op, Some(&self.path)).map(|_| ())
    }

    fn len(&self) -> io::Result<u64> {
        self.storage
            .look(|state| Ok(state.disk.content(self.node)?.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen {
            file: self.node,
            len,
        })
    }
}
