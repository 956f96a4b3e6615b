//! What is done to the log as a whole: sealing, compacting, deleting, closing, filling the disk, backing up, restoring.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modelog_engine::backup::generations;
use modelog_engine::{LogError, Offset, Storage as _, chain};

use super::super::act::From;
use super::super::checks;
use super::super::door::Door;
use super::super::oracle::Allowed;
use super::super::place::{HANG, KEEP, Place, restore};
use super::{Life, Taken};

/// What is waited for at a time.
const STEP: Duration = Duration::from_millis(1);

fn backups(place: u8) -> PathBuf {
    format!("/var/backups/{place}").into()
}

impl Life {
    pub(super) fn seal(&mut self) {
        let engine = self.engine();
        let sealed = engine.seal();
        self.look_for_failures();
        match sealed {
            Ok(end) => assert_eq!(end, engine.tail()),
            Err(error) => self.excuse(&error),
        }
    }

    pub(super) fn compact(&mut self, all: bool) {
        let place = self.place();
        let outcome = if all {
            place.compact().map_err(Box::<dyn Error>::from)
        } else {
            place
                .take_in()
                .map(|_| place.in_files())
                .map_err(Into::into)
        };
        let (tail, known) = (place.engine.tail(), place.engine.cold_end());
        let in_files = place.in_files();
        self.look_for_failures();
        match outcome {
            Ok(end) => {
                assert!(
                    !all || end == tail,
                    "not all of it is in files: {end} of {tail}"
                );
                // While files are taken in, the log is told a moment later.
                assert!(
                    known <= in_files,
                    "{known} is handed over, files end at {in_files}"
                );
                assert!(!all || known == tail, "{known} is handed over, of {tail}");
            }
            Err(error) => {
                self.excuse(&*error);
                // It tries again after a while; a new process does so at once.
                self.allowed.failure = true;
                self.restart();
            }
        }
    }

    pub(super) fn retire(&mut self, in_time: bool) {
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
    pub(super) fn look_for_failures(&mut self) {
        let fired = self.door.fired();
        self.allowed.failure |= !fired.is_empty();
        self.fall(&fired);
    }

    /// A failure must have a cause.
    fn excuse(&self, error: &dyn Error) {
        // After a crash what is allowed has been forgotten: the next life has not begun.
        let fallen = self.place.is_none();
        assert!(
            fallen || self.allowed != Allowed::default(),
            "nothing was in the way: {}",
            chain(error)
        );
    }

    pub(super) fn close(&mut self) {
        let engine = self.engine();
        let closed = engine.close_blocking();
        drop(engine);
        self.look_for_failures();
        if let Err(error) = closed {
            self.excuse(&error);
        }
        self.restart();
    }

    pub(super) fn fill(&mut self, kib: u64) {
        let disk = &self.door.disk;
        disk.set_capacity_bytes(Some(disk.used_bytes() + kib * 1024));
        self.allowed.full = true;
    }

    pub(super) fn free(&mut self) {
        self.door.disk.set_capacity_bytes(None);
        self.allowed.full = false;
    }

    pub(super) fn lose_snapshots(&mut self) {
        self.close();
        let directory = self.data.join("snapshots");
        if let Ok(snapshots) = self.door.disk.files(&directory) {
            for snapshot in snapshots {
                self.door.disk.remove(&snapshot).unwrap();
            }
            self.door.disk.sync_dir(&directory).unwrap();
        }
    }

    /// Waits until what admission knows at an offset is in a snapshot.
    pub(in super::super) fn wait_for_snapshot(&self, offset: u64) {
        let path = self
            .data
            .join(format!("snapshots/admission-{offset:020}.snap"));
        let mut left = HANG;
        while !self.door.disk.exists(&path).unwrap() {
            left = left.checked_sub(STEP).expect("there is no snapshot");
            std::thread::sleep(STEP);
        }
    }

    /// Lets the files of segments go that the Parquet files hold, as retiring does before it says so in the manifest.
    pub(in super::super) fn lose_retired_files(&mut self) {
        let (cold_end, directory) = (self.engine().cold_end(), self.data.join("log"));
        let mut segments = self.door.disk.files(&directory).unwrap();
        segments.retain(|path| path.extension().is_some_and(|it| it == "seg"));
        segments.sort();
        for pair in segments.windows(2) {
            let next = pair[1].file_name().unwrap().to_str().unwrap();
            let first: u64 = next[..20].parse().unwrap();
            if Offset(first) <= cold_end {
                self.door.disk.remove(&pair[0]).unwrap();
            }
        }
    }

    pub(super) fn backup(&mut self, place: u8, keep: usize) {
        self.sound();
        let engine = self.engine();
        let taken = engine.backup(&backups(place), Some(keep), &mut |_, _| {});
        let (tail, epoch) = (engine.tail(), engine.epoch());
        drop(engine);
        self.look_for_failures();
        let later = |taken: &&Taken| taken.place == place && taken.epoch > epoch;
        let later = self.backups.iter().any(|taken| later(&taken));
        // One that is refused removes nothing.
        let keep = if taken.is_ok() { keep } else { usize::MAX };
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
                    numbers: self.history.numbers(),
                });
            }
            Err(LogError::Foreign { .. }) if later => {}
            Err(error) => self.excuse(&error),
        }
        if self.place.is_some() && self.allowed == Allowed::default() {
            self.check_backups(place, keep);
        } else {
            // What an interrupted one removed is gone; what it left of others is there, and perhaps it is there itself.
            self.unanswered.insert(place);
            let disk = self.door.disk.clone();
            let there = |taken: &Taken| disk.exists(&taken.path.join("backup.json")).unwrap();
            self.backups
                .retain(|taken| taken.place != place || there(taken));
        }
    }

    fn check_backups(&mut self, place: u8, keep: usize) {
        let found = generations(&self.door.disk, &backups(place)).unwrap();
        let mut paths: Vec<_> = found.iter().map(|found| &found.path).collect();
        let of_place = self.backups.iter().filter(|taken| taken.place == place);
        let mut known: Vec<_> = of_place.map(|taken| &taken.path).collect();
        paths.sort();
        known.sort();
        assert!(paths.len() <= keep, "{keep} are to be kept: {paths:?}");
        if paths == known {
            self.unanswered.remove(&place);
        } else if self.unanswered.contains(&place) {
            paths.retain(|path| known.contains(path));
        }
        assert_eq!(paths, known, "the backups there are");
    }

    pub(super) fn restore(&mut self, from: From, until: Option<u8>) {
        self.sound();
        let (source, worlds, numbers) = match from {
            From::Backup(number) if !self.backups.is_empty() => {
                let taken = &self.backups[number % self.backups.len()];
                let (path, worlds) = (taken.path.clone(), taken.worlds.clone());
                (path, worlds, taken.numbers.clone())
            }
            _ => {
                let worlds = self.oracle.worlds.clone();
                (self.data.clone(), worlds, self.history.numbers())
            }
        };
        let end = worlds[0].end();
        let until = until.map(|part| Offset(end.0 * u64::from(part) / 256));
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
                self.history.restored(numbers);
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
