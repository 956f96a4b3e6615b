//! A run: some lives of one log on one disk, each with everybody at work, each ended in some way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use modelog_simulated_engine::sim::{Crash, Fault, SimStorage};
use modelog_simulated_engine::threads::{block_on, point, sleep, spawn, time};
use modelog_simulated_engine::{
    Clock, Config, Engine, ErrorKind, Foundations, LogError, LogId, NotYet, Offset,
    ProjectionHandle, ProjectionState, Storage as _, Timestamp,
};

use crate::cellar::Cellar;
use crate::chance::Chance;
use crate::disk::{Disk, Planned, Target};
use crate::producers::Producer;
use crate::readers::{Listener, follow, look};
use crate::store::{Kept, Mood, Store};
use crate::trace::say;
use crate::witness::Witness;

/// Longer than anything takes: this wait ends early, or everything stands still.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Stores that follow the log.
const STORES: usize = 2;

/// What goes through all lives of a run.
#[derive(Debug)]
pub(crate) struct World {
    witness: Mutex<Witness>,
    stores: Vec<Arc<Mutex<Kept>>>,
    cellar: Arc<Cellar>,
    clock: Arc<SimClock>,
    /// How often what happened: a run in which nothing goes wrong proves little.
    notes: Mutex<BTreeMap<&'static str, u64>>,
}

/// A time of day that jumps, beside the simulated time.
#[derive(Debug, Default)]
struct SimClock {
    set_by: Mutex<i64>,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = time::now().as_micros() as i64;
        Timestamp::from_micros(1_795_366_800_000_000 + passed + *self.set_by.lock().unwrap())
    }

    fn monotonic(&self) -> Duration {
        time::now()
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everybody has finished, every store has everything; then it is closed.
    Finished,
    /// Closed while everybody is at work.
    Closed,
    /// The machine crashes, at the latest now.
    Crashed,
}

/// What is planned for a life.
#[derive(Debug)]
struct Plan {
    end: End,
    crash: Crash,
    crash_after: Option<u64>,
    faults: Vec<Planned>,
    /// Space left on the disk, and for how long.
    space: Option<(u64, Duration)>,
    calls: u64,
    producers: u64,
    followers: u64,
    mood: Mood,
    config: Config,
}

impl Plan {
    fn draw(chance: &mut Chance, pad_groups: bool) -> Self {
        let seed = chance.number();
        let crash = match chance.below(4) {
            0 => Crash::Kill { seed },
            1 => Crash::LoseAll,
            _ => Crash::PowerLoss {
                seed,
                torn_blocks: pad_groups,
            },
        };
        let end = chance.pick(&[End::Finished, End::Closed, End::Crashed, End::Crashed]);
        let at_work = chance.one_in(4);
        Self {
            end,
            crash,
            crash_after: (end == End::Crashed && !chance.one_in(4)).then(|| chance.below(250)),
            faults: faults(chance),
            space: chance.one_in(5).then(|| {
                let time = Duration::from_millis(chance.below(400));
                (chance.below(24 << 20), time)
            }),
            calls: chance.below(12),
            producers: 1 + chance.below(4),
            followers: chance.below(3),
            mood: Mood {
                away: chance.pick(&[0, 5, 20]),
                broken: if at_work { 15 } else { 0 },
            },
            config: config(chance, pad_groups),
        }
    }

    /// The last life: nothing goes wrong any more.
    fn last(chance: &mut Chance, pad_groups: bool) -> Self {
        Self {
            end: End::Finished,
            crash_after: None,
            faults: Vec::new(),
            space: None,
            producers: 4,
            followers: 1,
            mood: Mood { away: 0, broken: 0 },
            calls: 2,
            ..Self::draw(chance, pad_groups)
        }
    }
}

fn faults(chance: &mut Chance) -> Vec<Planned> {
    let mut plan = |target, among, fault| {
        chance.one_in(6).then(|| Planned {
            target,
            left: 1 + chance.below(among),
            fault,
        })
    };
    let planned = [
        plan(Target::Anything, 200, Fault::Io),
        plan(Target::SegmentWrite, 80, Fault::ShortWrite),
        plan(Target::SegmentWrite, 80, Fault::Full),
        plan(Target::SegmentSync, 40, Fault::LosingSync),
    ];
    planned.into_iter().flatten().collect()
}

fn config(chance: &mut Chance, pad_groups: bool) -> Config {
    let mut config = Config::new("/var/data");
    config.log.segment_bytes = 16 << 10;
    config.log.reserve_bytes = 0;
    config.log.group_bytes_max = chance.pick(&[1, 4 << 10, 2 << 20]);
    config.log.backlog_bytes_max = 64 << 10;
    config.log.keep_segments = Duration::from_millis(chance.below(20));
    config.log.pad_groups = pad_groups;
    config
}

impl World {
    pub(crate) fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap()
    }

    /// Something worth knowing happened.
    pub(crate) fn note(&self, what: &'static str) {
        *self.notes.lock().unwrap().entry(what).or_default() += 1;
    }
}

/// Runs a seed; answers what happened how often.
pub(crate) fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    // The first task: see the scheduler.
    drop(shuttle::future::spawn(keep_time()));
    let mut chance = Chance::new(seed, 2);
    let mut run = Run::new(seed, chance.branch());
    let world = Arc::clone(&run.world);
    let pad_groups = chance.one_in(4);
    for life in 0..1 + chance.below(4) {
        let plan = Plan::draw(&mut chance, pad_groups);
        run.live(life, &plan);
    }
    while run.producers.iter().any(Producer::is_waiting) {
        let plan = Plan::last(&mut chance, pad_groups);
        run.live(100, &plan);
    }
    run.check();
    let unknown = world.witness().unknown() as u64;
    let mut notes = world.notes.lock().unwrap().clone();
    notes.insert("calls whose outcome stayed unknown", unknown);
    notes
}

/// Opens a log, to which nobody appends, and waits for its first event.
pub(crate) fn wait_for_nothing(seed: u64) {
    drop(shuttle::future::spawn(keep_time()));
    let mut run = Run::new(seed, Chance::new(seed, 2));
    let plan = Plan::last(&mut run.chance, false);
    let disk = Disk::new(run.sim.clone(), Vec::new());
    let life = run.open(&disk, &plan).unwrap();
    let read = block_on(life.engine.reader(Offset::ZERO).next(1));
    unreachable!("there is something: {read:?}")
}

/// Moves time whenever it is chosen to.
async fn keep_time() {
    loop {
        time::wanted().await;
        if let Some(due) = time::next_timer() {
            time::advance_to(due);
        }
        point();
    }
}

struct Run {
    world: Arc<World>,
    sim: SimStorage,
    producers: Vec<Producer>,
    chance: Chance,
}

/// Everybody of a life, and what to wait for.
struct Life {
    disk: Disk,
    engine: Engine,
    projections: Vec<ProjectionHandle>,
    runners: shuttle::sync::mpsc::Receiver<()>,
}

impl Run {
    fn new(seed: u64, chance: Chance) -> Self {
        let sim = SimStorage::new(seed);
        sim.create_dir_all(Path::new("/var")).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        let world = World {
            witness: Mutex::default(),
            stores: (0..STORES).map(|_| Arc::default()).collect(),
            cellar: Arc::default(),
            clock: Arc::default(),
            notes: Mutex::default(),
        };
        Self {
            world: Arc::new(world),
            sim,
            producers: (0..4).map(|number| Producer::new(number, seed)).collect(),
            chance,
        }
    }

    fn live(&mut self, number: u64, plan: &Plan) {
        say!("life {number}: {plan:?}");
        for producer in &mut self.producers {
            producer.next_life();
        }
        let disk = Disk::new(self.sim.clone(), plan.faults.clone());
        if let Some(after) = plan.crash_after {
            self.sim.crash_at(self.sim.ios() + after);
        }
        let capacity = plan.space.map(|(space, _)| self.sim.used_bytes() + space);
        self.sim.set_capacity_bytes(capacity);
        match self.open(&disk, plan) {
            Ok(life) => self.work(plan, life),
            Err(error) => self.did_not_open(plan, &disk, &error),
        }
        let crashed = self.sim.has_crashed() || plan.end == End::Crashed;
        // A failed sync may have left what only the page cache has: that the process ends is what is to be survived then.
        let crash = if crashed {
            plan.crash
        } else {
            Crash::Kill { seed: number }
        };
        say!("life {number} ends: {crash:?}");
        self.sim = self.sim.reboot(crash);
    }

    fn did_not_open(&self, plan: &Plan, disk: &Disk, error: &LogError) {
        say!("it does not open: {error:?}");
        self.world.note("the log could not be opened");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "not opened: {error}");
        let reason = self.sim.has_crashed() || disk.has_failed() || plan.space.is_some();
        assert!(reason, "not opened without a reason: {error}");
    }

    fn open(&mut self, disk: &Disk, plan: &Plan) -> Result<Life, LogError> {
        let foundations = Foundations {
            storage: Arc::new(disk.clone()),
            clock: Arc::clone(&self.world.clock) as Arc<dyn Clock>,
            cold: Some(Arc::clone(&self.world.cellar) as Arc<_>),
            new_log: LogId(uuid::Uuid::from_u128(7)),
        };
        let engine = Engine::open_on(plan.config.clone(), foundations)?;
        let (running, runners) = shuttle::sync::mpsc::channel();
        let projections = (0..STORES).map(|at| {
            let kept = &self.world.stores[at];
            kept.lock().unwrap().broken = false;
            let store = Store::new(
                format!("store {at}"),
                Arc::clone(kept),
                Arc::clone(&self.world),
                self.chance.branch(),
                plan.mood,
                running.clone(),
            );
            engine.project(Box::new(store))
        });
        Ok(Life {
            projections: projections.collect(),
            disk: disk.clone(),
            engine,
            runners,
        })
    }

    fn work(&mut self, plan: &Plan, life: Life) {
        let mut others = Vec::new();
        let mut start = |name: &str, body: Body| {
            let (world, engine, disk) = (
                Arc::clone(&self.world),
                life.engine.clone(),
                life.disk.clone(),
            );
            let chance = self.chance.branch();
            let thread = spawn(name, move || body(&world, engine, &disk, chance));
            others.push(thread.unwrap());
        };
        for _ in 0..plan.followers {
            start(
                "follower",
                Box::new(|world, engine, disk, chance| {
                    follow(world, &engine, disk, chance);
                }),
            );
        }
        start("onlooker", Box::new(onlook));
        start("compactor", Box::new(compact));
        let space = plan.space;
        start(
            "operator",
            Box::new(move |world, engine, disk, chance| {
                operate(world, &engine, disk, chance, space);
            }),
        );
        let working: Vec<_> = self
            .producers
            .drain(..)
            .map(|mut producer| {
                let (world, engine) = (Arc::clone(&self.world), life.engine.clone());
                let machine = self.sim.clone();
                let calls = if self.chance.below(4) < plan.producers {
                    plan.calls
                } else {
                    0
                };
                let work = move || {
                    producer.work(&world, &engine, &machine, calls);
                    producer
                };
                spawn("producer", work).unwrap()
            })
            .collect();
        if plan.end == End::Closed {
            block_on(sleep(Duration::from_micros(self.chance.below(30_000))));
            self.close(&life);
        }
        for producer in working {
            self.producers.push(producer.join().unwrap());
        }
        match plan.end {
            End::Finished => {
                self.catch_up(plan, &life);
                self.close(&life);
            }
            End::Closed => {}
            End::Crashed => drop(self.sim.reboot(plan.crash)),
        }
        self.end(life, others);
    }

    /// Waits until every store has everything.
    fn catch_up(&self, plan: &Plan, life: &Life) {
        let tail = life.engine.tail();
        for (handle, kept) in life.projections.iter().zip(&self.world.stores) {
            loop {
                match block_on(handle.wait_for(tail, FOREVER)) {
                    Ok(at) => {
                        assert!(at >= tail);
                        assert!(kept.lock().unwrap().end() >= tail.0);
                        break;
                    }
                    Err(NotYet::Stopped { .. }) if plan.mood.broken > 0 => {
                        assert!(kept.lock().unwrap().broken, "stopped by itself");
                        handle.rebuild().unwrap();
                        // It needs its turn to begin.
                        block_on(sleep(Duration::from_millis(1)));
                    }
                    Err(_) if self.sim.has_crashed() => return,
                    Err(error) => panic!("{error}: {:?}", handle.status()),
                }
            }
        }
        self.world.note("every store had everything");
    }

    fn close(&mut self, life: &Life) {
        let outcome = if self.chance.one_in(2) {
            block_on(life.engine.close())
        } else {
            life.engine.close_blocking()
        };
        say!("closed: {outcome:?}");
        if outcome.is_ok() {
            self.world.note("the log was closed in order");
        }
    }

    /// Lets go of the engine: every thread and task of it must end.
    fn end(&mut self, life: Life, others: Vec<shuttle::thread::JoinHandle<()>>) {
        let Life {
            engine,
            runners,
            projections,
            disk,
        } = life;
        for handle in &projections {
            let status = handle.status();
            if status.state == ProjectionState::Stopped {
                let reason = status.last_error.unwrap_or_default();
                let expected = reason.contains("broken by the test")
                    || self.sim.has_crashed()
                    || disk.has_failed();
                assert!(expected, "{} was stopped: {reason}", status.name);
            }
        }
        drop(projections);
        if !others.is_empty() {
            // They wait for the end of the log. After a crash this stands for the end of the process.
            let _ = engine.close_blocking();
        }
        drop(engine);
        for thread in others {
            thread.join().unwrap();
        }
        // No task says anything: each has dropped its store.
        while runners.recv().is_ok() {}
    }

    /// Everything that anybody was told, against the log as it is now.
    fn check(&mut self) {
        let plan = Plan::last(&mut self.chance, false);
        self.sim.set_capacity_bytes(None);
        let disk = Disk::new(self.sim.clone(), Vec::new());
        let life = self.open(&disk, &plan).unwrap();
        let engine = &life.engine;
        self.catch_up(&plan, &life);
        let tail = engine.tail();
        let mut reader = engine.reader(Offset::ZERO);
        let mut log = Vec::new();
        let mut names = BTreeMap::new();
        while reader.position() < tail {
            for batch in reader.read(64 << 10).unwrap() {
                assert_eq!(batch.first_offset.0, log.len() as u64, "no holes");
                self.world.witness().see(&batch);
                log.extend(batch.in_order().iter().map(|row| row.time().micros()));
                for named in &batch.names {
                    let count = names.entry(named.kind as usize).or_insert(0);
                    *count += 1;
                    assert_eq!(named.id, *count, "numbers of names have no gaps");
                    let known = engine.names().name(named.kind, named.id);
                    let expected = Some((named.parent, Arc::clone(&named.name)));
                    assert_eq!(known, expected, "a name keeps its number");
                }
            }
        }
        self.world.witness().check_whole(tail);
        for kept in &self.world.stores {
            kept.lock().unwrap().check(&log);
        }
        look(&self.world, engine, &disk);
        if self.chance.one_in(2) {
            self.close(&life);
        }
        self.end(life, Vec::new());
    }
}

type Body = Box<dyn FnOnce(&Arc<World>, Engine, &Disk, Chance) + Send>;

/// Looks at statistics now and then, and has a listener told.
fn onlook(world: &Arc<World>, engine: Engine, disk: &Disk, mut chance: Chance) {
    let listener = Arc::new(Listener::default());
    block_on(sleep(Duration::from_micros(chance.below(4000))));
    let between = listener.begin(&engine);
    block_on(sleep(Duration::from_micros(chance.below(30_000))));
    look(world, &engine, disk);
    let end = follow(world, &engine, disk, chance);
    engine.close_blocking().unwrap_or_default();
    if !disk.sim.has_crashed() {
        let folded = engine.with_statistics(|found| found.offset());
        assert_eq!(folded, end, "the fold ends with the log");
    }
    listener.check(world, &engine, disk, between);
}

/// Seals segments, takes them over, and has them deleted.
fn compact(world: &Arc<World>, engine: Engine, disk: &Disk, mut chance: Chance) {
    for _ in 0..chance.below(6) {
        block_on(sleep(Duration::from_micros(chance.below(15_000))));
        if chance.one_in(2) {
            let sealed = engine.seal();
            say!("sealed: {sealed:?}");
        }
        let reads = chance.below(8);
        let taken = world
            .cellar
            .fill(&engine, reads)
            .and_then(|()| engine.cold().retire());
        say!("taken over and retired: {taken:?}");
        match taken {
            Ok(0) => {}
            Ok(_) => world.note("segments were retired"),
            Err(LogError::Io { .. } | LogError::Closed) => {}
            Err(error) => panic!("taking over: {error}"),
        }
        let _ = disk;
    }
}

/// Moves the clock, makes room on the disk, asks for rebuilds.
fn operate(
    world: &Arc<World>,
    engine: &Engine,
    disk: &Disk,
    mut chance: Chance,
    space: Option<(u64, Duration)>,
) {
    for _ in 0..chance.below(3) {
        block_on(sleep(Duration::from_micros(chance.below(10_000))));
        match chance.below(3) {
            0 => {
                let by = chance.below(2_000_000_000) as i64 - 1_000_000_000;
                *world.clock.set_by.lock().unwrap() = by;
                say!("the clock is set by {by} µs");
            }
            1 => {
                let handles = engine.projections();
                let handle = &handles[chance.below(handles.len() as u64) as usize];
                handle.rebuild().unwrap();
                say!("{} is to be rebuilt", handle.name());
            }
            _ => say!("{:?}", engine.health()),
        }
    }
    if let Some((_, time)) = space {
        block_on(sleep(time));
        disk.sim.set_capacity_bytes(None);
        say!("there is space");
    }
}
