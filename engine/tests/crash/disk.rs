//! The simulated disk by itself: it keeps the promises in its module's text, and breaks everything it may break.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelog_engine::sim::{Crash, Fault, SimStorage};
use modelog_engine::{Storage, StorageFile};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a program may do to a disk with two directories and three names in each.
#[derive(Clone, Debug)]
enum Act {
    Create(PathBuf),
    Write(PathBuf, u64, usize),
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
}

fn directories() -> [PathBuf; 2] {
    ["/d".into(), "/d/e".into()]
}

fn a_path() -> impl Strategy<Value = PathBuf> {
    (0..2_usize, 0..3_usize)
        .prop_map(|(directory, name)| directories()[directory].join(["a", "b", "c"][name]))
}

fn an_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => a_path().prop_map(Act::Create),
        4 => (a_path(), 0..9000_u64, 1..6000_usize).prop_map(|(p, at, len)| Act::Write(p, at, len)),
        1 => (a_path(), 0..12_000_u64).prop_map(|(p, len)| Act::SetLen(p, len)),
        3 => a_path().prop_map(Act::Sync),
        2 => (a_path(), a_path()).prop_map(|(p, q)| Act::Rename(p, q)),
        1 => (a_path(), a_path()).prop_map(|(p, q)| Act::Link(p, q)),
        1 => a_path().prop_map(Act::Remove),
        2 => (0..2_usize).prop_map(|d| Act::SyncDirectory(directories()[d].clone())),
    ]
}

/// A disk with both directories, durable.
fn disk() -> SimStorage {
    let disk = SimStorage::new(1);
    disk.create_dir_all(Path::new("/d/e")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn act(disk: &SimStorage, act: &Act, byte: u8) -> io::Result<()> {
    match act {
        Act::Create(path) => disk.create(path).map(|_| ()),
        Act::Write(path, at, len) => {
            let bytes = vec![byte; *len];
            let (first, second) = bytes.split_at(len / 2);
            disk.open(path, true)?
                .write_at(&[IoSlice::new(first), IoSlice::new(second)], *at)
        }
        Act::SetLen(path, len) => disk.open(path, true)?.set_len(*len),
        Act::Sync(path) => disk.open(path, false)?.sync_data(),
        Act::Rename(from, to) => disk.rename(from, to),
        Act::Link(from, to) => disk.link(from, to),
        Act::Remove(path) => disk.remove(path),
        Act::SyncDirectory(path) => disk.sync_dir(path),
    }
}

/// A file as the rules speak of it.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// What is certain to be there after a crash, byte by byte.
    certain: Vec<Option<u8>>,
    certain_len: Option<usize>,
}

impl File {
    fn touch(&mut self, from: usize, to: usize) {
        self.certain.resize(self.certain.len().max(to), None);
        self.certain[from..to].fill(None);
    }

    fn set_len(&mut self, len: usize) {
        let (before, most) = (self.bytes.len(), self.bytes.len().max(len));
        self.touch(before.min(len), most);
        self.certain_len = None;
        self.bytes.resize(len, 0);
    }

    /// Whether these bytes can be what a crash left of it.
    fn allows(&self, found: &[u8]) -> bool {
        let len = self.certain_len.is_none_or(|len| len == found.len());
        let mut pairs = self.certain.iter().zip(found);
        // Where a crash may have cut the file is uncertain anyway: cuts are unsynced changes beyond the cut.
        len && pairs.all(|(certain, found)| certain.is_none_or(|certain| certain == *found))
    }
}

/// The rules, as plainly as can be.
#[derive(Clone, Debug, Default)]
struct Oracle {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    /// What a name may stand for after a crash.
    possible: BTreeMap<PathBuf, BTreeSet<Option<usize>>>,
    /// Names that went into another directory, which was not synced since.
    moved: BTreeMap<PathBuf, PathBuf>,
    torn_blocks: bool,
}

impl Oracle {
    fn file(&mut self, path: &Path) -> Result<&mut File, ErrorKind> {
        let number = *self.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(&mut self.files[number])
    }

    fn name(&mut self, path: &Path, file: Option<usize>) {
        let before = self.names.get(path).copied();
        let possible = self
            .possible
            .entry(path.into())
            .or_insert_with(|| [before].into());
        possible.insert(file);
        match file {
            Some(file) => self.names.insert(path.into(), file),
            None => self.names.remove(path),
        };
    }

    fn act(&mut self, act: &Act, byte: u8) -> Result<(), ErrorKind> {
        match act {
            Act::Create(path) => {
                if self.names.contains_key(path) {
                    return Err(ErrorKind::AlreadyExists);
                }
                self.files.push(File {
                    certain_len: Some(0),
                    ..File::default()
                });
                self.name(path, Some(self.files.len() - 1));
            }
            Act::Write(path, at, len) => {
                let torn = self.torn_blocks;
                let file = self.file(path)?;
                let (from, to) = (*at as usize, *at as usize + len);
                if to > file.bytes.len() {
                    file.set_len(to);
                }
                file.bytes[from..to].fill(byte);
                if torn {
                    let whole = to.next_multiple_of(4096);
                    file.touch(from - from % 4096, whole);
                } else {
                    file.touch(from, to);
                }
            }
            Act::SetLen(path, len) => self.file(path)?.set_len(*len as usize),
            Act::Sync(path) => {
                let file = self.file(path)?;
                file.certain = file.bytes.iter().copied().map(Some).collect();
                file.certain_len = Some(file.bytes.len());
            }
            Act::Rename(from, to) => {
                let file = *self.names.get(from).ok_or(ErrorKind::NotFound)?;
                if self.names.get(to) != Some(&file) {
                    self.name(to, Some(file));
                    self.name(from, None);
                    if from.parent() != to.parent() {
                        self.moved.insert(from.clone(), to.parent().unwrap().into());
                    }
                }
            }
            Act::Link(from, to) => {
                let file = *self.names.get(from).ok_or(ErrorKind::NotFound)?;
                if self.names.contains_key(to) {
                    return Err(ErrorKind::AlreadyExists);
                }
                self.name(to, Some(file));
            }
            Act::Remove(path) => {
                self.file(path)?;
                self.name(path, None);
            }
            Act::SyncDirectory(directory) => {
                for (path, possible) in &mut self.possible {
                    let now = self.names.get(path).copied();
                    let away = now.is_none() && self.moved.contains_key(path);
                    if path.parent() == Some(directory) && !away {
                        *possible = [now].into();
                    }
                }
                self.moved.retain(|_, to| to != directory);
            }
        }
        Ok(())
    }

    /// Whether a crash may have left this.
    fn check(&self, left: &SimStorage) {
        for (path, possible) in &self.possible {
            let found = left.read(path).ok();
            let fits = possible.iter().any(|file| match (file, &found) {
                (None, None) => true,
                (Some(file), Some(found)) => self.files[*file].allows(found),
                _ => false,
            });
            assert!(fits, "{} is none of {possible:?}", path.display());
        }
    }
}

/// All files with their bytes.
fn dump(disk: &SimStorage) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files(Path::new("/")).unwrap().into_iter();
    files
        .map(|path| (path.clone(), disk.read(&path).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// S1: what a program sees; S2 to S5: what any crash may leave, and no more.
    #[test]
    fn a_crash_leaves_what_the_rules_allow(
        acts in vec(an_act(), 1..40),
        seeds in vec(any::<u64>(), 8),
        torn_blocks in any::<bool>(),
    ) {
        let (disk, mut oracle) = (disk(), Oracle { torn_blocks, ..Oracle::default() });
        for (number, next) in acts.iter().enumerate() {
            let byte = number as u8 + 1;
            let expected = oracle.act(next, byte);
            prop_assert_eq!(act(&disk, next, byte).map_err(|error| error.kind()), expected, "{:?}", next);
        }
        let seen = oracle.names.iter().map(|(path, file)| (path.clone(), oracle.files[*file].bytes.clone()));
        prop_assert_eq!(dump(&disk), seen.collect::<BTreeMap<_, _>>());
        for seed in seeds {
            oracle.check(&disk.after(Crash::PowerLoss { seed, torn_blocks }));
        }
        oracle.check(&disk.after(Crash::LoseAll));
        let killed = disk.after(Crash::Kill { seed: 0 });
        oracle.check(&killed);
        prop_assert_eq!(dump(&killed), dump(&disk));
    }

    /// S8: the same I/Os and the same crash leave the same, whether seen live or replayed; and once more by the seed.
    #[test]
    fn a_crash_replays(acts in vec(an_act(), 1..30), at in any::<prop::sample::Index>(), seed in any::<u64>()) {
        let recorded = disk();
        recorded.record();
        for (number, next) in acts.iter().enumerate() {
            let _ = act(&recorded, next, number as u8 + 1);
        }
        let history = recorded.history();
        let (first, last) = history.crash_points().into_inner();
        let k = first + at.index((last - first + 1) as usize) as u64;
        let live = disk();
        live.crash_at(k);
        for (number, next) in acts.iter().enumerate() {
            let _ = act(&live, next, number as u8 + 1);
        }
        prop_assert_eq!(live.has_crashed(), k < last);
        let mut replay = history.replay();
        replay.go_to(last);
        replay.go_to(k);
        for crash in [Crash::power_loss(seed), Crash::Kill { seed }, Crash::LoseAll] {
            let left = dump(&live.after(crash));
            prop_assert_eq!(&left, &dump(&replay.crash(crash)));
            prop_assert_eq!(&left, &dump(&live.after(crash)));
        }
    }
}

fn write(file: &Arc<dyn StorageFile>, bytes: &[u8], position: u64) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

/// A disk with a durable file of the ones, and that file.
fn with_file(bytes: &[u8]) -> (SimStorage, Arc<dyn StorageFile>) {
    let disk = disk();
    let file = disk.create(Path::new("/d/a")).unwrap();
    write(&file, bytes, 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

/// What some hundred crashes leave.
fn crashes(disk: &SimStorage, torn_blocks: bool) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
    let crash = |seed| Crash::PowerLoss { seed, torn_blocks };
    (0..300)
        .map(|seed| dump(&disk.after(crash(seed))))
        .collect()
}

#[test]
fn every_fate_of_a_write_occurs() {
    let (disk, file) = with_file(&[1; 8192]);
    write(&file, &[2; 2000], 1000);
    let path = Path::new("/d/a");
    let left = crashes(&disk, false);
    let middles: Vec<_> = left.iter().map(|left| &left[path][1000..3000]).collect();
    assert!(
        middles.iter().any(|middle| **middle == [2; 2000]),
        "complete"
    );
    assert!(
        middles.iter().any(|middle| **middle == [1; 2000]),
        "dropped"
    );
    let mixed = |middle: &&[u8]| middle.contains(&1) && middle.contains(&2);
    assert!(middles.iter().any(mixed), "in parts");
    let foreign = |middle: &&[u8]| middle.iter().any(|byte| ![1, 2].contains(byte));
    assert!(middles.iter().any(foreign), "as noise");
    let outside = |left: &BTreeMap<_, Vec<u8>>| {
        left[path][..1000] == [1; 1000] && left[path][3000..] == [1; 5192]
    };
    assert!(left.iter().all(outside), "the rest is untouched");
    let torn = crashes(&disk, true);
    assert!(!torn.iter().all(outside), "save on disks that tear blocks");
    assert!(
        torn.iter().all(|left| left[path][4096..] == [1; 4096]),
        "but only blocks of the write"
    );
}

#[test]
fn old_bytes_turn_up_elsewhere() {
    let (disk, file) = with_file(&[7; 4096]);
    write(&file, &[2; 4096], 4096);
    let stale = |left: BTreeMap<PathBuf, Vec<u8>>| {
        left[Path::new("/d/a")]
            .get(4096..)
            .is_some_and(|second| second.contains(&7))
    };
    assert!(crashes(&disk, false).into_iter().any(stale));
}

#[test]
fn a_file_that_grew_has_any_length_in_between() {
    let (disk, file) = with_file(&[1; 1000]);
    write(&file, &[2; 5000], 1000);
    let lens: BTreeSet<_> = crashes(&disk, false)
        .iter()
        .map(|left| left[Path::new("/d/a")].len())
        .collect();
    assert!(
        lens.contains(&1000) && lens.contains(&6000) && lens.len() > 10,
        "{lens:?}"
    );
    assert!(
        lens.iter().all(|len| (1000..=6000).contains(len)),
        "{lens:?}"
    );
    file.sync_data().unwrap();
    file.set_len(10).unwrap();
    let lens: BTreeSet<_> = crashes(&disk, false)
        .iter()
        .map(|left| left[Path::new("/d/a")].len())
        .collect();
    assert_eq!(lens, [10, 6000].into());
}

#[test]
fn a_rename_is_there_or_not_and_never_half() {
    let (disk, _file) = with_file(b"new");
    let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
    write(&disk.create(b).unwrap(), b"unsynced", 0);
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.rename(a, b).unwrap();
    let mut seen = BTreeSet::new();
    for left in crashes(&disk, false) {
        let replaced = left.get(b).is_some_and(|bytes| bytes == b"new");
        assert_eq!(replaced, !left.contains_key(a), "{left:?}");
        seen.insert(replaced);
    }
    assert_eq!(seen.len(), 2);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert!(
        crashes(&disk, false)
            .iter()
            .all(|left| left[b] == b"new" && !left.contains_key(a))
    );
}

#[test]
fn names_come_to_the_disk_one_by_one() {
    let disk = disk();
    for name in ["a", "b", "c"] {
        disk.create(&Path::new("/d").join(name)).unwrap();
    }
    let combinations: BTreeSet<Vec<_>> = crashes(&disk, false)
        .into_iter()
        .map(|left| left.into_keys().collect())
        .collect();
    assert_eq!(
        combinations.len(),
        8,
        "any of three creations: {combinations:?}"
    );
    // A name's changes come in their order: what was created again was removed before, what was removed was created.
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.remove(Path::new("/d/a")).unwrap();
    write(&disk.create(Path::new("/d/a")).unwrap(), b"", 0);
    disk.rename(Path::new("/d/b"), Path::new("/d/a")).unwrap();
    disk.create(Path::new("/d/b")).unwrap();
    let combinations: BTreeSet<Vec<_>> = crashes(&disk, false)
        .into_iter()
        .map(|left| left.into_keys().collect())
        .collect();
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| Path::new("/d").join(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        combinations,
        [
            names(&["a", "b", "c"]),
            names(&["b", "c"]),
            names(&["a", "c"])
        ]
        .into()
    );
}

#[test]
fn a_rename_into_another_directory_lasts_when_that_one_is_synced() {
    let (disk, _file) = with_file(b"x");
    let (from, to) = (Path::new("/d/a"), Path::new("/d/e/a"));
    disk.rename(from, to).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    let names = |disk: &SimStorage| -> BTreeSet<Vec<PathBuf>> {
        crashes(disk, false)
            .into_iter()
            .map(|left| left.into_keys().collect())
            .collect()
    };
    assert_eq!(names(&disk), [vec![from.into()], vec![to.into()]].into());
    disk.sync_dir(Path::new("/d/e")).unwrap();
    assert_eq!(
        names(&disk),
        [vec![to.into()], vec![from.into(), to.into()]].into()
    );
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(names(&disk), [vec![to.into()]].into());
}

#[test]
fn a_directory_that_was_not_synced_takes_its_files_with_it() {
    let disk = disk();
    disk.create_dir_all(Path::new("/d/new/deep")).unwrap();
    let file = disk.create(Path::new("/d/new/deep/a")).unwrap();
    write(&file, b"x", 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d/new/deep")).unwrap();
    assert!(dump(&disk.after(Crash::LoseAll)).is_empty());
}

#[test]
fn links_are_one_file() {
    let (disk, file) = with_file(&[1; 100]);
    let (a, b) = (Path::new("/d/a"), Path::new("/d/e/b"));
    disk.link(a, b).unwrap();
    disk.sync_dir(Path::new("/d/e")).unwrap();
    write(&file, &[2; 10], 0);
    file.sync_data().unwrap();
    disk.remove(a).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(file.len().unwrap(), 100, "who has it open keeps it");
    let left = dump(&disk.after(Crash::LoseAll));
    assert_eq!(left.keys().collect::<Vec<_>>(), [b]);
    assert_eq!(left[b][..12], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1]);
    assert_eq!(
        disk.link(b, Path::new("/d/e/b")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
}

#[test]
fn a_sync_that_fails_loses_what_the_next_one_does_not_bring_back() {
    let (disk, file) = with_file(&[1; 4096]);
    let mut lost = 0;
    for _ in 0..40 {
        write(&file, &[2; 4096], 0);
        disk.fail_at(disk.ios(), Fault::LosingSync);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let left = dump(&disk.after(Crash::LoseAll));
        lost += usize::from(left[Path::new("/d/a")] != [2; 4096]);
        // As it was, for the next turn.
        write(&file, &[1; 4096], 0);
        file.sync_data().unwrap();
    }
    assert!((10..40).contains(&lost), "{lost}");
}

#[test]
fn failures_are_seen_and_do_what_they_say() {
    let (disk, file) = with_file(&[1; 4096]);
    let fail = |fault| disk.fail_at(disk.ios(), fault);
    let mut written = BTreeSet::new();
    for fault in [Fault::Io, Fault::ShortWrite, Fault::Full] {
        for _ in 0..20 {
            write(&file, &[1; 4096], 0);
            fail(fault);
            let error = file.write_at(&[IoSlice::new(&[2; 4096])], 0).unwrap_err();
            assert_eq!(error.kind() == ErrorKind::StorageFull, fault == Fault::Full);
            let bytes = disk.read(Path::new("/d/a")).unwrap();
            let done = bytes.iter().take_while(|byte| **byte == 2).count();
            assert!(bytes[done..].iter().all(|byte| *byte == 1));
            assert!(fault != Fault::Io || done == 0);
            written.insert(done);
        }
    }
    assert!(
        written.len() > 10 && !written.contains(&4096),
        "{written:?}"
    );
    fail(Fault::Full);
    assert_eq!(
        disk.create(Path::new("/d/b")).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert!(!disk.exists(Path::new("/d/b")).unwrap());
    disk.fail_read_at(disk.reads() + 1);
    let mut buffer = [0; 10];
    assert!(file.read_at(&mut buffer, 0).is_ok());
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert!(file.read_at(&mut buffer, 0).is_ok());
    write(&file, &[1; 4096], 0);
    file.sync_data().unwrap();
    disk.flip_bit(Path::new("/d/a"), 5, 3).unwrap();
    for disk in [
        disk.after(Crash::Kill { seed: 0 }),
        disk.after(Crash::LoseAll),
    ] {
        assert_eq!(disk.read(Path::new("/d/a")).unwrap()[4..7], [1, 9, 1]);
    }
}

#[test]
fn a_read_in_pieces_stops_anywhere_but_before_its_first_byte() {
    let bytes: Vec<u8> = (0..4096).map(|at| at as u8).collect();
    let (disk, file) = with_file(&bytes);
    let read = || {
        let mut buffer = vec![0; 5000];
        let len = file.read_at(&mut buffer, 10).unwrap();
        assert_eq!(buffer[..len], bytes[10..][..len]);
        len
    };
    assert_eq!(read(), 4086, "whole, unless it is asked for");
    disk.read_in_pieces();
    let lens: BTreeSet<_> = (0..200).map(|_| read()).collect();
    assert!(lens.len() > 50 && lens.contains(&4086), "{lens:?}");
    assert!(lens.iter().all(|len| *len > 0), "{lens:?}");
    assert_eq!(file.read_at(&mut [0; 10], 4096).unwrap(), 0, "at the end");
}

#[test]
fn a_disk_fills_up_and_gets_free_again() {
    let (disk, file) = with_file(&[1; 4096]);
    disk.set_capacity_bytes(Some(disk.used_bytes() + 8192));
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 8192);
    let error = file
        .write_at(&[IoSlice::new(&[2; 12_288])], 2048)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 12_288, "as much as fits");
    assert_eq!(
        disk.create(Path::new("/d/b")).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    write(&file, &[3; 4096], 0);
    file.set_len(4096).unwrap();
    assert_eq!(
        file.set_len(1 << 20).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.create(Path::new("/d/b")).unwrap();
}

#[test]
fn a_disk_that_crashed_answers_nobody_and_a_lock_does_not_outlive_it() {
    let (disk, file) = with_file(b"x");
    let lock = disk.lock(Path::new("/d/LOCK")).unwrap().unwrap();
    assert!(disk.lock(Path::new("/d/LOCK")).unwrap().is_err());
    let next = disk.reboot(Crash::LoseAll);
    assert!(
        file.sync_data().is_err() && file.len().is_err() && disk.list(Path::new("/d")).is_err()
    );
    assert!(next.lock(Path::new("/d/LOCK")).unwrap().is_ok());
    drop(lock);
    let lock = next.lock(Path::new("/d/LOCK")).unwrap().unwrap();
    drop(lock);
    assert!(next.lock(Path::new("/d/LOCK")).unwrap().is_ok());
}

#[test]
fn a_trace_tells_who_did_what() {
    let (disk, file) = with_file(b"x");
    disk.record();
    write(&file, b"abc", 1);
    disk.fail_at(disk.ios(), Fault::Io);
    file.sync_data().unwrap_err();
    let trace = format!("{:?}", disk.history());
    assert_eq!(trace.lines().count(), 2);
    assert!(
        trace.contains("3 bytes") && trace.contains("/d/a") && trace.contains("Nothing"),
        "{trace}"
    );
    assert!(
        trace.contains("a_trace_tells_who_did_what"),
        "the thread's name: {trace}"
    );
}
