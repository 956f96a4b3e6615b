//! The log under test: it does what a case says, beside the oracle, and is looked at after every act.

mod calls;
mod whole;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modelog_engine::sim::{Crash, SimStorage};
use modelog_engine::{
    AppendError, Checkpoint, Engine, Health, LogReader, Offset, Storage as _, chain,
};

use super::act::{Act, Setup};
use super::checks::{self, History, Numbers};
use super::door::{Door, Trouble};
use super::oracle::{Allowed, Oracle, Sent, World};
use super::place::{HandClock, Place, log_id};

/// How often an opening is tried: each failure must have a cause, and each cause is there once.
const OPENINGS: usize = 12;

/// A caller, who numbers its calls and remembers them.
#[derive(Debug)]
struct Caller {
    name: Arc<str>,
    epoch: u32,
    next: u64,
    sent: Vec<Sent>,
}

/// A reader that lives through everything, as a store with a checkpoint does.
#[derive(Debug, Default)]
struct Follower {
    /// Which calls' events it has seen.
    seen: Vec<(u32, u32)>,
    epoch: u32,
    reader: Option<LogReader>,
}

/// A backup that was reported.
#[derive(Debug)]
struct Taken {
    path: PathBuf,
    place: u8,
    epoch: u32,
    worlds: Vec<World>,
    numbers: Numbers,
}

#[derive(Debug)]
pub(super) struct Life {
    setup: Setup,
    pub(super) door: Door,
    clock: Arc<HandClock>,
    pub(super) data: PathBuf,
    place: Option<Place>,
    oracle: Oracle,
    callers: Vec<Caller>,
    follower: Follower,
    backups: Vec<Taken>,
    /// Places where a backup did not come to its answer, and may be there all the same.
    unanswered: BTreeSet<u8>,
    history: History,
    /// How many directories were restored into.
    restored: u32,
    serial: u32,
    /// What may go wrong, until the log is opened again.
    allowed: Allowed,
    /// For how many acts something has been wrong.
    ailing: u32,
    acts: u64,
}

/// The act that is under way, told when it fails.
struct UnderWay<'a>(u64, &'a Act);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in act {}: {:?}", self.0, self.1);
        }
    }
}

/// A disk with the directory everything is made in.
fn disk() -> SimStorage {
    let disk = SimStorage::new(1);
    disk.create_dir_all(Path::new("/var")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

impl Life {
    pub(super) fn new(setup: Setup) -> Self {
        let caller = |name: &str| Caller {
            name: name.into(),
            epoch: 1,
            next: 0,
            sent: Vec::new(),
        };
        Self {
            setup,
            door: Door::new(disk()),
            clock: HandClock::new(),
            data: "/var/data".into(),
            place: None,
            oracle: Oracle::new(setup.window),
            callers: vec![caller("one"), caller("two")],
            follower: Follower::default(),
            backups: Vec::new(),
            unanswered: BTreeSet::new(),
            history: History::default(),
            restored: 0,
            serial: 0,
            allowed: Allowed::default(),
            ailing: 0,
            acts: 0,
        }
    }

    /// Does something, and looks at what has become of it all.
    pub(super) fn act(&mut self, act: &Act) {
        let _under_way = UnderWay(self.acts, act);
        self.acts += 1;
        self.pass(Duration::from_secs(1));
        match act {
            Act::Calls(asked) => self.calls(asked),
            Act::Seal => self.seal(),
            Act::Compact { all } => self.compact(*all),
            Act::Retire { in_time } => self.retire(*in_time),
            Act::Pass(hours) => self.pass(Duration::from_secs(u64::from(*hours) * 3600)),
            Act::Jump(hours) => {
                self.clock.jump(i64::from(*hours) * 3_600_000_000);
                self.history.jumped(&self.clock);
            }
            Act::Follow { bytes } => self.follow(*bytes),
            Act::Close => self.close(),
            Act::Crash(crash) => self.crash(*crash),
            Act::Plan(plan) => self.door.plan(*plan),
            Act::Fill(kib) => self.fill(*kib),
            Act::Free => self.free(),
            Act::Backup { place, keep } => self.backup(*place, *keep),
            Act::Restore { from, until } => self.restore(*from, *until),
            Act::LoseSnapshots => self.lose_snapshots(),
        }
        self.look_for_trouble();
        self.check();
    }

    /// Ends the case: whatever came, the log can be opened, read and written to.
    pub(super) fn end(&mut self) {
        self.free();
        self.crash(Crash::LoseAll);
        self.check();
        self.calls(&[]);
        self.close();
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        self.clock.pass(time);
        self.history.passed(time, self.place.is_some());
    }

    /// Notes what came true of the plans, and falls if that was a crash.
    fn look_for_trouble(&mut self) {
        let fired = self.door.fired();
        if !fired.is_empty() {
            self.allowed.failure = true;
        }
        let crash = fired.iter().find_map(|trouble| match trouble {
            Trouble::Crash(crash) => Some(*crash),
            Trouble::Fault(_) => None,
        });
        if let Some(crash) = crash.filter(|_| self.door.disk.has_crashed()) {
            self.crash(crash);
            return;
        }
        // What failed is gone on with for a while, then the process is started again.
        self.ailing = if self.allowed.failure {
            self.ailing + 1
        } else {
            0
        };
        if self.ailing > 3 {
            self.restart();
        }
    }

    /// Ends the process, as it is; the machine goes on.
    fn restart(&mut self) {
        self.follower.reader = None;
        if let Some(place) = self.place.take() {
            place.end();
        }
        self.look_for_crash();
    }

    /// While something ended, a crash may have come.
    fn look_for_crash(&mut self) {
        for trouble in self.door.fired() {
            self.allowed.failure = true;
            if let Trouble::Crash(crash) = trouble {
                self.crash(crash);
            }
        }
    }

    /// Everything stops; what the disk keeps is another disk.
    fn crash(&mut self, crash: Crash) {
        self.door = self.door.reboot(crash);
        self.allowed = Allowed::default();
        self.follower.reader = None;
        if let Some(place) = self.place.take() {
            place.end();
        }
    }

    /// The open log; opened now, if it is not.
    fn place(&mut self) -> &Place {
        while self.place.is_none() {
            self.place = Some(self.open());
            self.opened();
        }
        self.place.as_ref().expect("it was opened")
    }

    fn open(&mut self) -> Place {
        let mut failures = Vec::new();
        for _ in 0..OPENINGS {
            let opened = Place::open(&self.door, &self.clock, &self.data, self.setup);
            let fired = self.door.fired();
            let crash = fired.iter().find_map(|trouble| match trouble {
                Trouble::Crash(crash) => Some(*crash),
                Trouble::Fault(_) => None,
            });
            if let Some(crash) = crash.filter(|_| self.door.disk.has_crashed()) {
                if let Ok(place) = opened {
                    self.place = Some(place);
                }
                self.crash(crash);
                continue;
            }
            self.allowed.failure = !fired.is_empty();
            self.ailing = 0;
            match opened {
                Ok(place) => return place,
                Err(error) => {
                    let full = std::mem::take(&mut self.allowed.full);
                    self.door.disk.set_capacity_bytes(None);
                    let reason = chain(&*error);
                    assert!(
                        full || !fired.is_empty(),
                        "the log cannot be opened: {reason}"
                    );
                    failures.push(reason);
                }
            }
        }
        panic!("the log cannot be opened, after {failures:?}");
    }

    /// What holds at every opening: the log is one of those it may be.
    fn opened(&mut self) {
        let engine = self.engine();
        let read = checks::read_all(&engine, 1 << 20);
        if self.door.disk.has_crashed() {
            // A thread of its own fell behind the opening.
            drop(engine);
            return self.look_for_crash();
        }
        let read = read.expect("what was opened can be read");
        self.oracle.read(&read.events);
        self.oracle.reopen();
        self.history.opened(&self.door.disk, &self.data, &engine);
    }

    /// The follower comes back, perhaps after a while: it may go on from where it stands if and only if what it has seen is
    /// a part of this log.
    fn come_back(&mut self) {
        let engine = self.engine();
        let read = match checks::read_all(&engine, 1 << 20) {
            Ok(read) => read,
            Err(error) => {
                assert!(self.door.disk.has_crashed(), "{}", chain(&error));
                return;
            }
        };
        let world = &self.oracle.worlds[0];
        let at = self.follower.seen.len();
        if at > 0 {
            let checkpoint = Checkpoint {
                log: log_id(),
                epoch: self.follower.epoch,
                offset: Offset(at as u64),
                fold_version: 1,
            };
            let fits = engine.check(&checkpoint);
            let stored = world.stored.iter().map(|stored| stored.by);
            let is_part =
                at <= read.events.len() && stored.take(at).eq(self.follower.seen.iter().copied());
            assert!(
                fits.is_err() || is_part,
                "a store of another history fits: {checkpoint:?}"
            );
            let known = is_part && read.epochs[at - 1] == self.follower.epoch;
            assert!(
                fits.is_ok() || !known,
                "a store of this history does not fit: {fits:?}"
            );
            if fits.is_err() {
                self.follower.seen.clear();
            }
        }
        let from = Offset(self.follower.seen.len() as u64);
        self.follower.reader = Some(engine.reader(from));
    }

    fn engine(&mut self) -> Engine {
        self.place().engine.clone()
    }

    /// Starts again if something failed: what follows is about a sound log.
    fn sound(&mut self) {
        if self.allowed.failure {
            self.restart();
        }
        self.place();
    }

    /// Looks at everything.
    fn check(&mut self) {
        let engine = self.engine();
        let limits = [1, 3_000, 40_000, 4 << 20];
        let read = checks::read_all(&engine, limits[self.acts as usize % limits.len()]);
        if self.door.disk.has_crashed() {
            drop(engine);
            self.look_for_trouble();
            return self.check();
        }
        let read = read.unwrap_or_else(|error| panic!("the log cannot be read: {}", chain(&error)));
        match engine.health() {
            // What it does not know the outcome of is shown once it is known.
            Health::Refusing(AppendError::Poisoned { reason }) => {
                assert!(self.allowed != Allowed::default(), "poisoned: {reason}");
                self.allowed.failure = true;
                let known = self
                    .oracle
                    .worlds
                    .iter()
                    .any(|world| world.begins(&read.events));
                assert!(known, "a poisoned log shows what is none of it");
            }
            health => {
                let wrong = self.allowed == Allowed::default() && health != Health::Accepting;
                assert!(!wrong, "{health:?}");
                self.oracle.read(&read.events);
            }
        }
        let events = &read.events;
        checks::statistics(&engine, &read);
        self.history.names(&engine, events);
        self.history.times(&read, &self.clock);
        self.history.segments(&self.door.disk, &self.data, &engine);
    }
}
