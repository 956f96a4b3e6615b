//! Histories of every shape, and directories of files that hold them: for tests of reading back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelog_engine::batch::{EventBatchBuilder, LoggedBatch, Row};
use modelog_engine::event::schema::{self, FieldType, Presence};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::NamedEntity;
use modelog_engine::origin::{Origin, Source};
use modelog_engine::sim::SimStorage;
use modelog_engine::{LocalStorage, LogId, Offset, Storage, SystemClock, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::layout::{FileKind, date_of};
use crate::manifest::Manifest;
use crate::open_file::{OpenFile, Written};
use crate::rows::Rows;
use crate::store::{ParquetConfig, ParquetStore};

/// 2026-11-22T22:00:00Z, so that midnight is near.
const START: i64 = 1_795_384_800_000_000;

/// The log of all histories.
pub(crate) fn log() -> LogId {
    LogId(uuid::Uuid::from_u128(
        0x0197_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b,
    ))
}

/// Values that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A batch in the making.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Since the batch before.
    micros: i64,
    seed: u64,
    kinds: Vec<usize>,
    names: usize,
    origins: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let micros = prop_oneof![
        3 => Just(0_i64),
        5 => 1..1_000_000_i64,
        1 => Just(3_600_000_000_i64),
        1 => Just(26 * 3_600_000_000_i64),
    ];
    let kinds = prop::collection::vec(0..Kind::ALL.len(), 1..12);
    // Often one kind alone, as logs are.
    let kinds = (kinds, any::<bool>()).prop_map(|(mut kinds, alone)| {
        if alone {
            let first = kinds[0];
            kinds.fill(first);
        }
        kinds
    });
    (micros, any::<u64>(), kinds, 0..3_usize, 0..4_usize).prop_map(
        |(micros, seed, kinds, names, origins)| Plan {
            micros,
            seed,
            kinds,
            names,
            origins,
        },
    )
}

/// Histories of some batches.
pub(crate) fn histories(batches: usize) -> impl Strategy<Value = Vec<LoggedBatch>> {
    prop::collection::vec(plan(), 1..batches).prop_map(|plans| build(&plans))
}

fn build(plans: &[Plan]) -> Vec<LoggedBatch> {
    let mut time = START;
    let mut first = Offset::ZERO;
    let mut counts = [0_u32; EntityKind::ALL.len()];
    let mut batches = Vec::new();
    for plan in plans {
        time += plan.micros;
        let mut dice = Dice::new(plan.seed);
        let mut builder = EventBatchBuilder::new();
        for kind in &plan.kinds {
            let kind = Kind::ALL[*kind];
            if kind != Kind::EntityNamed {
                event(&mut builder, kind, Timestamp::from_micros(time), &mut dice);
            }
        }
        if builder.is_empty() {
            event(
                &mut builder,
                Kind::EventLogged,
                Timestamp::from_micros(time),
                &mut dice,
            );
        }
        let mut batch = builder
            .finish()
            .into_logged(first, Timestamp::from_micros(time));
        batch.names = (0..plan.names)
            .map(|_| named(&mut counts, &mut dice))
            .collect();
        batch.origins = (0..plan.origins)
            .map(|_| origin(batch.rows, &mut dice))
            .collect();
        first = batch.end();
        batches.push(batch);
    }
    batches
}

/// Appends an event with fields of all sorts.
pub(crate) fn event(builder: &mut EventBatchBuilder, kind: Kind, now: Timestamp, dice: &mut Dice) {
    let mut row = builder.row(kind);
    for (number, field) in schema::fields(kind).enumerate() {
        let given = field.presence == Presence::Required
            || matches!(field.name, "run" | "model" | "version")
            || dice.below(3) == 0;
        if field.ty == FieldType::Ord {
            continue;
        }
        if !given {
            if field.presence == Presence::Stated {
                row.null(number).unwrap();
            }
            continue;
        }
        let outcome = match field.ty {
            FieldType::Ord => Ok(()),
            FieldType::Text => {
                let long = "long ".repeat(60);
                let text = dice.pick(&["", "a", "ü\n\"q\" \\ 'x', ;\t", "日本語", "NaN", &long]);
                row.text(number, text)
            }
            FieldType::Name(_) => {
                let text = dice.pick(&["a", "b/c", "ünï", "10%", "@", " space "]);
                row.text(number, text)
            }
            FieldType::Word(words) => row.text(number, dice.pick(words)),
            FieldType::Entity => {
                row.text(number, dice.pick(&["model/a", "version/a@b%2F", "run/r"]))
            }
            FieldType::Json => {
                let text = dice.pick(&["null", "{\"a\": 1}", " [1,\n2.50]", "\"s\"", "1e400"]);
                row.checked_json(number, text)
            }
            FieldType::JsonObject => row.checked_json(number, dice.pick(&["{}", "{\"a\":\"ü\"}"])),
            FieldType::Int => {
                let value = dice.pick(&[i64::MIN, i64::MAX, 0, -1, (1 << 53) + 1]);
                row.int(number, value)
            }
            FieldType::Float => {
                let odd = f64::from_bits(dice.next());
                let value = dice.pick(&[
                    f64::NAN,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    -0.0,
                    5e-324,
                    odd,
                ]);
                row.float(number, value)
            }
            FieldType::Bool => row.boolean(number, dice.below(2) == 0),
            FieldType::Time => row.time(dice.pick(&[Timestamp::MIN, Timestamp::MAX, now])),
            FieldType::Bytes => row.bytes(number, dice.pick(&[&[], &[0, 255, 128], b"raw"])),
        };
        outcome.unwrap();
    }
    row.finish().unwrap();
}

fn named(counts: &mut [u32], dice: &mut Dice) -> NamedEntity {
    let kind = dice.pick(&EntityKind::ALL);
    counts[kind as usize] += 1;
    let id = counts[kind as usize];
    NamedEntity {
        kind,
        id,
        parent: if kind == EntityKind::Version { id } else { 0 },
        name: format!("ü {id}").into(),
    }
}

fn origin(rows: u32, dice: &mut Dice) -> Origin {
    let first_ord = dice.below(rows as usize + 1) as u32;
    let own = dice.below((rows - first_ord) as usize + 1) as u32;
    let source = match dice.below(4) {
        0 => Source::Call {
            key: dice.pick(&["", "k", "ü"]).into(),
            body: dice.next(),
        },
        1 => Source::Producer {
            id: "p".into(),
            epoch: dice.pick(&[0, 1, u32::MAX]),
            sequence: dice.pick(&[0, 7, u64::MAX]),
        },
        kafka => Source::Kafka {
            cluster: "".into(),
            topic: "t".into(),
            topic_id: (kafka == 2).then(|| u128::from(dice.next()) << 64 | u128::from(dice.next())),
            partition: dice.pick(&[0, i32::MAX, -1]),
            first: dice.pick(&[0, i64::MAX - 1]),
            next: dice.pick(&[0, i64::MAX]),
            leader_epoch: dice.pick(&[-1, 5]),
        },
    };
    Origin {
        source,
        first_ord,
        rows: own,
        rejected: dice.below(own as usize + 1) as u32,
        duplicates: dice.pick(&[0, 3, u32::MAX]),
    }
}

/// A directory of finished files.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) manifest: Manifest,
    /// Removed at the end, if it is one of this machine.
    _temporary: Option<TempDir>,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn store(&self) -> ParquetStore {
        open(self.path(), &self.storage)
    }
}

pub(crate) fn open(path: &Path, storage: &Arc<dyn Storage>) -> ParquetStore {
    let config = ParquetConfig {
        path: path.to_path_buf(),
        ..ParquetConfig::default()
    };
    ParquetStore::open(config, Arc::clone(storage), Arc::new(SystemClock::new())).unwrap()
}

/// How files are written: they close after one of so many batches, and a row group after about so many rows; what is
/// open at the end may be left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) closing: usize,
    pub(crate) grouped: usize,
    pub(crate) leave: bool,
}

/// Writes batches on the disk of this machine.
pub(crate) fn write(batches: &[LoggedBatch], dice: &mut Dice, shape: Shape) -> Directory {
    write_of(log(), batches, dice, shape)
}

/// The same for a log of another identity.
pub(crate) fn write_of(
    log: LogId,
    batches: &[LoggedBatch],
    dice: &mut Dice,
    shape: Shape,
) -> Directory {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().to_path_buf();
    let mut written = write_on(Arc::new(LocalStorage), path, log, batches, dice, shape);
    written._temporary = Some(temporary);
    written
}

/// Writes batches on a disk in memory.
pub(crate) fn simulate(batches: &[LoggedBatch], dice: &mut Dice, shape: Shape) -> Directory {
    let storage = SimStorage::new(1).storage();
    let path = PathBuf::from("/log/parquet");
    storage.create_dir_all(&path).unwrap();
    write_on(storage, path, log(), batches, dice, shape)
}

/// Writes batches as the compactor does, kinds closing their files as the dice have it.
pub(crate) fn write_on(
    storage: Arc<dyn Storage>,
    path: PathBuf,
    log: LogId,
    batches: &[LoggedBatch],
    dice: &mut Dice,
    Shape {
        closing,
        grouped,
        leave,
    }: Shape,
) -> Directory {
    let store = open(&path, &storage);
    let mut manifest = Manifest::new(log);
    let mut files: Vec<Option<OpenFile>> = (0..FileKind::COUNT).map(|_| None).collect();
    let close = |file: Option<OpenFile>, manifest: &mut Manifest| {
        let Some(file) = file else { return };
        let Written {
            temporary,
            name,
            entry,
            ..
        } = file.finish(&store.shared).unwrap();
        storage.rename(&temporary, &path.join(name.path())).unwrap();
        manifest.add([entry]);
    };
    for batch in batches {
        for slot in &mut files {
            if slot
                .as_ref()
                .is_some_and(|file| file.date != date_of(batch.append_time))
            {
                close(slot.take(), &mut manifest);
            }
        }
        for rows in Rows::of(batch).unwrap() {
            let slot = &mut files[rows.kind.number()];
            let file = slot.get_or_insert_with(|| {
                OpenFile::new(
                    &store.shared,
                    log,
                    &rows,
                    batch.first_offset,
                    batch.append_time,
                )
            });
            file.push(&rows, batch.append_time);
            if file.pending_rows() >= grouped {
                file.write_row_group(&store.shared).unwrap();
            }
            if dice.below(closing) == 0 {
                close(slot.take(), &mut manifest);
            }
        }
    }
    manifest.cold_end = batches.last().map_or(Offset::ZERO, LoggedBatch::end);
    for slot in &mut files {
        if leave && dice.below(2) == 0 {
            if let Some(file) = slot.take() {
                manifest.cold_end = manifest.cold_end.min(file.from);
                file.abandon(&store.shared);
            }
        } else {
            close(slot.take(), &mut manifest);
        }
    }
    manifest.store(&*storage, &path).unwrap();
    Directory {
        path,
        storage,
        manifest,
        _temporary: None,
    }
}

/// What a history says, however it is cut into batches.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// Offset, and the event as JSON.
    pub(crate) events: Vec<(u64, String)>,
    /// Bits of numbers, which JSON does not tell.
    pub(crate) bits: Vec<u64>,
    pub(crate) names: Vec<NamedEntity>,
    /// With the offset of the first event.
    pub(crate) origins: Vec<(u64, Origin)>,
}

impl Told {
    pub(crate) fn of<'b>(batches: impl IntoIterator<Item = &'b LoggedBatch>) -> Self {
        Self::from(batches, Offset::ZERO)
    }

    /// What a reader learns that starts at an offset: names and origins of batches that start there or later.
    pub(crate) fn from<'b>(
        batches: impl IntoIterator<Item = &'b LoggedBatch>,
        from: Offset,
    ) -> Self {
        let mut told = Self::default();
        for batch in batches {
            for row in batch.in_order() {
                if row.offset() < from {
                    continue;
                }
                let mut json = Vec::new();
                row.write_json(&mut json);
                told.events
                    .push((row.offset().0, String::from_utf8(json).unwrap()));
                told.bits.extend(bits([row].into_iter()));
            }
            if batch.first_offset >= from {
                told.names.extend(batch.names.iter().cloned());
                told.origins.extend(batch.origins.iter().map(|origin| {
                    let at = batch.first_offset.0 + u64::from(origin.first_ord);
                    (
                        at,
                        Origin {
                            first_ord: 0,
                            ..origin.clone()
                        },
                    )
                }));
            }
        }
        told
    }

    /// What is left of it when a log is cut at `until` of which files hold everything before `end`.
    pub(crate) fn cut(batches: &[LoggedBatch], end: Offset, until: Offset) -> Self {
        let mut told = Self::default();
        for batch in batches.iter().filter(|batch| batch.first_offset < end) {
            let mut whole = Self::of([batch]);
            let kept = end.since(batch.first_offset) as usize;
            if kept < batch.rows as usize {
                whole.events.truncate(kept);
                whole.bits = bits(batch.in_order().into_iter().take(kept));
            }
            whole
                .origins
                .retain(|(first, origin)| first + u64::from(origin.rows) <= until.0);
            told.events.extend(whole.events);
            told.bits.extend(whole.bits);
            told.names.extend(whole.names);
            told.origins.extend(whole.origins);
        }
        told
    }
}

/// The bits of all numbers that are no integers.
fn bits<'b>(rows: impl Iterator<Item = Row<'b>>) -> Vec<u64> {
    let numbers = |row: Row<'b>| {
        schema::fields(row.kind())
            .enumerate()
            .filter(|(_, field)| field.ty == FieldType::Float)
            .filter_map(move |(column, _)| row.float(column))
    };
    rows.flat_map(numbers).map(f64::to_bits).collect()
}
