//! The log under test: it does what a case says, beside the oracle, and is looked at after every act.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use modelog_engine::backup::generations;
use modelog_engine::batch::EventBatch;
use modelog_engine::event::Event;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::sim::{Crash, SimStorage};
use modelog_engine::{
    AppendError, AppendOptions, Appended, Checkpoint, Engine, Health, LogError, LogReader,
    OnBacklog, OnConflict, OnCreate, Storage as _, chain,
};

use super::act::{Act, Asked, From, How, Setup};
use super::checks::{self, History};
use super::door::{Door, Trouble};
use super::oracle::{Allowed, Answer, Oracle, Sent, World};
use super::place::{HandClock, KEEP, Place, log_id, restore};

/// How often an opening is tried: each failure must have a cause, and each cause is there once.
const OPENINGS: usize = 12;

/// The longest an answer may take: a hang fails, and tells which act it was.
const HANG: Duration = Duration::from_secs(120);

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

fn backups(place: u8) -> PathBuf {
    format!("/var/backups/{place}").into()
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
            Act::Compact => self.compact(),
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
        if self.place.is_none() {
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

    /// What holds at every opening: the log is one of those it may be, and a store goes on from where it stands if and
    /// only if that is a part of it.
    fn opened(&mut self) {
        let engine = self.engine();
        let read = checks::read_all(&engine, 1 << 20).expect("what was opened can be read");
        self.oracle.read(&read.events);
        self.oracle.reopen();
        let world = &self.oracle.worlds[0];
        let at = self.follower.seen.len();
        if at > 0 {
            let checkpoint = Checkpoint {
                log: log_id(),
                epoch: self.follower.epoch,
                offset: modelog_engine::Offset(at as u64),
                fold_version: 1,
            };
            let fits = engine.check(&checkpoint);
            let stored = world.stored.iter().map(|stored| stored.by);
            let is_part =
                at <= world.stored.len() && stored.take(at).eq(self.follower.seen.iter().copied());
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
        let from = modelog_engine::Offset(self.follower.seen.len() as u64);
        self.follower.reader = Some(engine.reader(from));
        self.history.opened(&self.door.disk, &self.data, &engine);
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

/// Calls, and what they come to.
impl Life {
    fn resolve(&mut self, asked: &Asked) -> Sent {
        self.serial += 1;
        let serial = self.serial;
        let caller = &mut self.callers[asked.caller];
        if let (How::Again(back), false) = (asked.how, caller.sent.is_empty()) {
            let last = caller.sent.len() - 1;
            let again = &caller.sent[last - back % caller.sent.len()];
            return Sent {
                serial,
                ..again.clone()
            };
        }
        let events: Vec<Event> = asked.said.iter().map(|said| said.event()).collect();
        let numbered = |epoch, sequence| {
            Some(Source::Producer {
                id: Arc::clone(&caller.name),
                epoch,
                sequence,
            })
        };
        let (epoch, next) = (caller.epoch, caller.next);
        let source = match asked.how {
            How::Plain | How::Again(_) => None,
            How::Key(key) => Some(Source::Call {
                key: format!("key {key}").into(),
                body: body(&events),
            }),
            How::Next => numbered(epoch, next),
            How::Skipping(more) => numbered(epoch, next + more),
            How::Back(back) => numbered(epoch, next.saturating_sub(back)),
            How::NewEpoch => numbered(epoch + 1, 0),
            How::OldEpoch => numbered(epoch - 1, next),
        };
        let sent = Sent {
            serial,
            source,
            events,
            options: AppendOptions {
                backlog: if asked.hurried {
                    OnBacklog::Refuse
                } else {
                    OnBacklog::Wait
                },
                id_conflict: if asked.record {
                    OnConflict::Record
                } else {
                    OnConflict::Refuse
                },
                create: if asked.must_be_new {
                    OnCreate::Refuse
                } else {
                    OnCreate::Merge
                },
                ..AppendOptions::default()
            },
        };
        caller.sent.push(sent.clone());
        sent
    }

    /// What a caller makes of its answer.
    fn told(&mut self, sent: &Sent, answer: &Answer) {
        let taken = match answer {
            None | Some(Ok(_)) => true,
            Some(Err(error)) => !error.is_not_applied(),
        };
        if let (
            true,
            Some(Source::Producer {
                id,
                epoch,
                sequence,
            }),
        ) = (taken, &sent.source)
            && let Some(caller) = self.callers.iter_mut().find(|caller| caller.name == *id)
            && (*epoch, *sequence) >= (caller.epoch, caller.next)
        {
            (caller.epoch, caller.next) = (*epoch, sequence + 1);
        }
    }

    fn calls(&mut self, asked: &[Asked]) {
        let mut sent: Vec<_> = asked.iter().map(|asked| self.resolve(asked)).collect();
        let waits: Vec<_> = asked.iter().map(|asked| asked.waits).collect();
        let engine = self.engine();
        let reader = self.follower.reader.take();
        let mut reader = reader.filter(|reader| reader.position() == engine.tail());
        let mut following = reader.as_mut().map(|reader| Box::pin(reader.next(1 << 20)));
        if let Some(next) = &mut following {
            assert!(
                poll(next.as_mut()).is_pending(),
                "there is nothing to follow"
            );
        }
        let before = engine.tail();
        let mut answers = under_way(&self.door, &engine, &sent, &waits);
        if waits.iter().any(|waits| !waits) || sent.is_empty() {
            // Behind a last call that is answered, everything is.
            self.serial += 1;
            let last = Sent {
                serial: self.serial,
                source: None,
                events: vec![checks::plain_event(self.serial)],
                options: AppendOptions::default(),
            };
            answers.extend(under_way(
                &self.door,
                &engine,
                std::slice::from_ref(&last),
                &[true],
            ));
            sent.push(last);
        }
        if let Some(next) = &mut following
            && engine.tail() > before
        {
            let found = poll(next.as_mut());
            let grown = matches!(&found, Poll::Ready(Ok(batches)) if !batches.is_empty());
            assert!(
                grown || self.door.disk.has_crashed(),
                "the tail has moved, and who follows is not told: {found:?}"
            );
        }
        drop(following);
        // It starts over from what it has noted.
        let from = modelog_engine::Offset(self.follower.seen.len() as u64);
        self.follower.reader = Some(engine.reader(from));
        drop(engine);
        let fired = self.door.fired();
        self.allowed.failure |= !fired.is_empty();
        self.oracle.round(&sent, &answers, self.allowed);
        for (sent, answer) in sent.iter().zip(&answers) {
            self.told(sent, answer);
        }
        self.fall(&fired);
    }

    /// Falls if that is what came.
    fn fall(&mut self, fired: &[Trouble]) {
        for trouble in fired {
            if let Trouble::Crash(crash) = trouble
                && self.door.disk.has_crashed()
            {
                self.crash(*crash);
            }
        }
    }

    fn follow(&mut self, bytes: usize) {
        self.place();
        let world = &self.oracle.worlds[0];
        let Some(reader) = &mut self.follower.reader else {
            return;
        };
        let batches = match reader.read(bytes) {
            Ok(batches) => batches,
            Err(error) => {
                assert!(self.door.disk.has_crashed(), "{}", chain(&error));
                return;
            }
        };
        for batch in batches {
            for row in batch.in_order() {
                let at = row.offset().0 as usize;
                if at < self.follower.seen.len() {
                    continue;
                }
                assert_eq!(
                    at,
                    self.follower.seen.len(),
                    "it is shown everything, in order"
                );
                self.follower.seen.push(world.stored[at].by);
                self.follower.epoch = batch.epoch;
            }
        }
        assert_eq!(reader.position().0, self.follower.seen.len() as u64);
    }
}

/// What is done to the log as a whole.
impl Life {
    fn seal(&mut self) {
        let engine = self.engine();
        let sealed = engine.seal();
        self.look_for_failures();
        match sealed {
            Ok(end) => assert_eq!(end, engine.tail()),
            Err(error) => self.excuse(&error),
        }
    }

    fn compact(&mut self) {
        let place = self.place();
        let flushed = place.compact();
        let (tail, known) = (place.engine.tail(), place.engine.cold_end());
        self.look_for_failures();
        match flushed {
            Ok(end) => assert_eq!((end, known), (tail, tail), "all of it is in files"),
            Err(error) => {
                self.excuse(&error);
                // It tries again after a while; a new process does so at once.
                self.allowed.failure = true;
                self.restart();
            }
        }
    }

    fn retire(&mut self, in_time: bool) {
        let cold = self.engine().cold();
        let outcome = if in_time {
            let begun = cold.retire();
            self.pass(KEEP);
            begun.and_then(|_| cold.retire())
        } else {
            cold.retire()
        };
        self.look_for_failures();
        match outcome {
            Ok(_) => {
                let (disk, data) = (self.door.disk.clone(), self.data.clone());
                if in_time && !disk.has_crashed() {
                    let engine = self.engine();
                    checks::retired(&disk, &data, &engine);
                }
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// Notes what came true; a crash is looked for at the end of the act.
    fn look_for_failures(&mut self) {
        let fired = self.door.fired();
        self.allowed.failure |= !fired.is_empty();
        self.fall(&fired);
    }

    /// A failure must have a cause.
    fn excuse(&self, error: &dyn std::error::Error) {
        // After a crash what is allowed has been forgotten: the next life has not begun.
        let fallen = self.place.is_none();
        assert!(
            fallen || self.allowed != Allowed::default(),
            "nothing was in the way: {}",
            chain(error)
        );
    }

    fn close(&mut self) {
        let engine = self.engine();
        let closed = engine.close_blocking();
        drop(engine);
        self.look_for_failures();
        if let Err(error) = closed {
            self.excuse(&error);
        }
        self.restart();
    }

    fn fill(&mut self, kib: u64) {
        let disk = &self.door.disk;
        disk.set_capacity_bytes(Some(disk.used_bytes() + kib * 1024));
        self.allowed.full = true;
    }

    fn free(&mut self) {
        self.door.disk.set_capacity_bytes(None);
        self.allowed.full = false;
    }

    fn lose_snapshots(&mut self) {
        self.close();
        let directory = self.data.join("snapshots");
        if let Ok(snapshots) = self.door.disk.files(&directory) {
            for snapshot in snapshots {
                self.door.disk.remove(&snapshot).unwrap();
            }
            self.door.disk.sync_dir(&directory).unwrap();
        }
    }

    fn backup(&mut self, place: u8, keep: usize) {
        self.sound();
        let engine = self.engine();
        let taken = engine.backup(&backups(place), Some(keep), &mut |_, _| {});
        let (tail, epoch) = (engine.tail(), engine.epoch());
        drop(engine);
        self.look_for_failures();
        let later = |taken: &&Taken| taken.place == place && taken.epoch > epoch;
        let later = self.backups.iter().any(|taken| later(&taken));
        match taken {
            Ok(report) => {
                assert!(
                    !later,
                    "a backup of what a later log has a backup of already"
                );
                assert_eq!(
                    (report.generation.offset, report.generation.epoch),
                    (tail, epoch)
                );
                self.backups
                    .retain(|taken| !report.removed.contains(&taken.path));
                self.backups.push(Taken {
                    path: report.path,
                    place,
                    epoch,
                    worlds: self.oracle.worlds.clone(),
                });
            }
            Err(LogError::Foreign { .. }) if later => {}
            Err(error) => self.excuse(&error),
        }
        if self.place.is_some() && self.allowed == Allowed::default() {
            self.check_backups(place, keep);
        } else {
            // What an interrupted one removed is gone; what it left of others is there.
            let disk = self.door.disk.clone();
            let there = |taken: &Taken| disk.exists(&taken.path.join("backup.json")).unwrap();
            self.backups
                .retain(|taken| taken.place != place || there(taken));
        }
    }

    fn check_backups(&self, place: u8, keep: usize) {
        let found = generations(&self.door.disk, &backups(place)).unwrap();
        let mut paths: Vec<_> = found.iter().map(|found| &found.path).collect();
        let of_place = self.backups.iter().filter(|taken| taken.place == place);
        let mut known: Vec<_> = of_place.map(|taken| &taken.path).collect();
        paths.sort();
        known.sort();
        assert_eq!(paths, known, "the backups there are");
        let _ = keep;
    }

    fn restore(&mut self, from: From, until: Option<u8>) {
        self.sound();
        let (source, worlds) = match from {
            From::Backup(number) if !self.backups.is_empty() => {
                let taken = &self.backups[number % self.backups.len()];
                (taken.path.clone(), taken.worlds.clone())
            }
            _ => (self.data.clone(), self.oracle.worlds.clone()),
        };
        let end = worlds[0].end();
        let until = until.map(|part| modelog_engine::Offset(end.0 * u64::from(part) / 256));
        self.restored += 1;
        let target: PathBuf = format!("/var/restored-{}/data", self.restored).into();
        let done = restore(&self.door, &self.clock, (&source, &target), until);
        let fired = self.door.fired();
        self.allowed.failure |= !fired.is_empty();
        match done {
            Ok(done) => {
                assert_eq!(done.end, until.unwrap_or(end));
                let cut = worlds
                    .iter()
                    .flat_map(|world| world.cut(done.end))
                    .collect();
                self.oracle.settle(cut);
                self.follower.reader = None;
                if let Some(place) = self.place.take() {
                    place.end();
                }
                self.data = target;
                self.history.restored();
                self.fall(&fired);
                self.look_for_crash();
            }
            Err(error) => {
                let cause = !fired.is_empty() || self.allowed.full;
                assert!(cause, "nothing was in the way: {}", chain(&*error));
                self.fall(&fired);
                self.check_half_restored(&target);
            }
        }
    }

    /// What an interrupted restore left is not taken for a log.
    fn check_half_restored(&mut self, target: &Path) {
        let disk = self.door.disk.clone();
        if !disk.is_dir(&target.join("log")).unwrap_or(false) {
            return;
        }
        let opened = Place::open(&Door::new(disk.clone()), &self.clock, target, self.setup);
        match opened {
            Ok(place) => {
                // It had come to its end, and the answer was lost.
                let marked = disk.exists(&target.join("RESTORING")).unwrap();
                place.end();
                assert!(!marked, "half of a log is opened");
            }
            Err(error) => {
                let marked = disk.exists(&target.join("RESTORING")).unwrap();
                assert!(
                    marked,
                    "it can be opened or says why not: {}",
                    chain(&*error)
                );
            }
        }
    }
}

/// A hash of what a call says.
fn body(events: &[Event]) -> u64 {
    let text = format!("{events:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    future.poll(&mut Context::from_waker(&waker))
}

/// An answer that may come.
enum Call<'a> {
    UnderWay(Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + 'a>>),
    Answered(Answer),
}

impl Call<'_> {
    fn poll(&mut self) -> bool {
        if let Self::UnderWay(future) = self
            && let Poll::Ready(answer) = poll(future.as_mut())
        {
            *self = Self::Answered(Some(answer));
        }
        matches!(self, Self::Answered(_))
    }
}

/// Makes calls so that they are admitted in their order and under way together: the writer has the first one and waits.
/// Those that do not wait for an answer go when all have been made.
fn under_way(door: &Door, engine: &Engine, sent: &[Sent], waits: &[bool]) -> Vec<Answer> {
    let held = door.hold();
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut writing = false;
    for sent in sent {
        let mut batch = EventBatch::from_events(&sent.events).expect("its fields are legal");
        if let Some(source) = &sent.source {
            batch.add_origin(Origin::whole(source.clone()));
        }
        let mut call = Call::UnderWay(Box::pin(engine.append(batch, sent.options)));
        if !call.poll() && !writing {
            door.wait_for_writer(|| call.poll());
            writing = true;
        }
        calls.push(call);
    }
    for (call, waits) in calls.iter_mut().zip(waits) {
        if !waits && matches!(call, Call::UnderWay(_)) {
            *call = Call::Answered(None);
        }
    }
    drop(held);
    let mut rounds = 0;
    loop {
        let answered: Vec<_> = calls.iter_mut().map(Call::poll).collect();
        if answered.iter().all(|answered| *answered) {
            break;
        }
        // A wake-up that came in between is not lost: then this returns at once.
        std::thread::park_timeout(HANG / 100);
        rounds += 1;
        assert!(rounds < 100_000, "no answer comes");
    }
    calls
        .into_iter()
        .map(|call| match call {
            Call::Answered(answer) => answer,
            Call::UnderWay(_) => unreachable!("all are answered"),
        })
        .collect()
}

/// The names of everything that was ever said.
pub(super) type Numbers = BTreeMap<(&'static str, String, String), u32>;
