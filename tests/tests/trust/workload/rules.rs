//! The rules, held against what a crash left.

use std::collections::HashMap;

use modelog_engine::Storage as _;
use modelog_engine::inspect::SegmentReader;
use modelog_engine::sim::{History, Io, SimStorage, TouchSort};
use modelog_parquet::verify::verify;

use super::script::Expected;
use super::shelf;
use super::world::{Reach, World, parquet};
use crate::glob;
use crate::support::data;

/// What must be true of what a crash left before and after it is opened. Answers how many calls there are.
pub(crate) fn check(left: &SimStorage, expected: &Expected, reach: Reach) -> usize {
    let files = glob::read(left, &parquet());
    let stood = check_shelf(left, expected);
    let world = World::open(left).unwrap();
    let recovered = expected.check(&world.engine, reach.acknowledged, reach.submitted);
    let tail = world.engine.tail();
    assert!(
        files.offsets.iter().all(|offset| *offset < tail.0),
        "(2) files hold events that the log lost"
    );
    if let Some(checkpoint) = stood {
        assert!(checkpoint.offset <= tail, "(2) a store is ahead of the log");
        let checked = world.engine.check(&checkpoint);
        assert_eq!(checked, Ok(()), "(4) a store would have to be rebuilt");
    }
    world.end();
    recovered
}

/// The projection's effects are those of all events before its checkpoint.
fn check_shelf(left: &SimStorage, expected: &Expected) -> Option<modelog_engine::Checkpoint> {
    let (checkpoint, rows) = shelf::look(left)?;
    assert!(
        rows == expected.digests(checkpoint.offset),
        "(4) the store is no fold of the log up to {}",
        checkpoint.offset
    );
    Some(checkpoint)
}

/// Goes on with what a crash left to the end of all calls, with everything following; then asks the rules again: of
/// the log, of the store, of the files, and of a log opened from the files alone. Answers what was done.
pub(crate) fn go_on(left: &SimStorage, expected: &Expected, recovered: usize) -> History {
    left.record();
    let all = expected.calls.len();
    let world = World::open(left).unwrap().following(left);
    expected.repeat_all(&world.engine, recovered);
    let end = world.compact().unwrap();
    assert_eq!(end.0, expected.end(all), "(4) files of all events");
    world.caught_up().unwrap();
    expected.check(&world.engine, all, all);
    world.close().unwrap();
    let history = left.history();

    let stood = check_shelf(left, expected).expect("it has followed");
    assert_eq!(stood.offset, end, "(4) the store has followed");
    let found = glob::read(left, &parquet());
    assert_eq!(found.offsets.len() as u64, end.0, "(4) every event once");
    let segments = SegmentReader::open(left.storage(), &data()).unwrap();
    let verified = verify(&parquet(), &left.storage(), Some(segments), &mut |_| {}).unwrap();
    assert_eq!(verified.findings, [], "(4) files and segments agree");
    for snapshot in left.files(&data().join("snapshots")).unwrap() {
        left.remove(&snapshot).unwrap();
    }
    let world = World::open(left).unwrap();
    let listed = world.store.manifest().map_or(0, |m| m.files.len());
    assert_eq!(found.files.len(), listed, "no file is left over");
    expected.check(&world.engine, all, all);
    expected.repeat_all(&world.engine, all);
    world.end();
    history
}

/// Asserts rule 9 over the lives of a disk: in files of segments, what was written and synced is never written again, and is cut
/// only after the manifest that says where it lies now. Each life is a history and how much of it happened.
pub(crate) fn never_overwritten(lives: &[(&History, usize)]) {
    let mut files: HashMap<u64, Written> = HashMap::new();
    for (history, happened) in lives {
        let mut manifest_written = false;
        for (number, io) in history.ios().iter().take(*happened).enumerate() {
            manifest_written |= io.is_sync() && is_of(io, "MANIFEST");
            if is_of(io, ".seg") || is_of(io, "spare.tmp") {
                let file = io.touch().expect("it has a file").file;
                let written = files.entry(file).or_default();
                written.see(io, number, manifest_written);
            }
        }
    }
    assert!(!files.is_empty(), "no segment was written");
}

fn is_of(io: &Io, part: &str) -> bool {
    let path = io.file().map(|path| path.to_string_lossy());
    path.is_some_and(|path| path.contains(part))
}

/// How far a file's frames reach.
#[derive(Debug, Default)]
struct Written {
    end: u64,
    synced: u64,
}

impl Written {
    fn see(&mut self, io: &Io, number: usize, manifest_written: bool) {
        match io.touch().expect("it is about a file").sort {
            TouchSort::Write {
                position,
                len,
                zeros,
            } => {
                assert!(
                    position >= self.synced,
                    "(9) overwritten at I/O {number}, synced up to {}: {io:?}",
                    self.synced
                );
                if !zeros {
                    self.end = self.end.max(position + len);
                }
            }
            TouchSort::SetLen(len) if len < self.synced => {
                assert!(
                    manifest_written,
                    "(9) cut at I/O {number} before the manifest says where it lies: {io:?}"
                );
                (self.end, self.synced) = (len, len);
            }
            TouchSort::SetLen(len) => self.end = self.end.min(len),
            TouchSort::Sync => self.synced = self.end,
        }
    }
}
