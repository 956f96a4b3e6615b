//! An engine with Parquet files beneath it, on a disk and a clock of the test's choice, and what its files hold as the
//! `parquet` crate reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use modelog_engine::batch::{EventBatch, EventBatchBuilder};
use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self, FieldType, Presence};
use modelog_engine::projection::{Projection, ProjectionError};
use modelog_engine::{
    AppendOptions, Checkpoint, Clock, Config, Engine, Foundations, LocalStorage, Offset,
    ProjectionHandle, ProjectionState, Storage, Timestamp,
};
use modelog_parquet::layout::FileName;
use modelog_parquet::{Compactor, PROJECTION, ParquetConfig, ParquetStore};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that moves when it is told to.
#[derive(Debug)]
pub(crate) struct FakeClock(Mutex<(i64, Duration)>);

impl FakeClock {
    pub(crate) fn at(time: &str) -> Arc<Self> {
        let time = Timestamp::parse(time).unwrap();
        Arc::new(Self(Mutex::new((time.micros(), Duration::from_secs(5)))))
    }

    /// Time goes on.
    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        now.0 += by.as_micros() as i64;
        now.1 += by;
    }

    /// Somebody sets the time of day.
    pub(crate) fn set(&self, time: &str) {
        self.0.lock().unwrap().0 = Timestamp::parse(time).unwrap().micros();
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.lock().unwrap().0)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

/// What everything is built on.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    pub(crate) config: ParquetConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) log_storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Place {
    pub(crate) fn new(data: &Path, clock: Arc<FakeClock>) -> Self {
        Self {
            data: data.to_path_buf(),
            config: ParquetConfig {
                path: data.join("parquet"),
                check_every: Duration::from_millis(20),
                ..ParquetConfig::default()
            },
            storage: Arc::new(LocalStorage),
            log_storage: Arc::new(LocalStorage),
            clock,
        }
    }

    pub(crate) fn parquet(&self) -> &Path {
        &self.config.path
    }

    /// Opens store and engine; nothing is compacted yet.
    pub(crate) fn open(&self) -> (Engine, ParquetStore) {
        let store = ParquetStore::open(
            self.config.clone(),
            Arc::clone(&self.storage),
            Arc::clone(&self.clock),
        )
        .unwrap();
        let foundations = Foundations {
            storage: Arc::clone(&self.log_storage),
            clock: Arc::clone(&self.clock),
            cold: Some(store.cold()),
            ..Foundations::default()
        };
        let mut config = Config::new(&self.data);
        config.log.segment_bytes = 64 << 10;
        let engine = Engine::open_on(config, foundations).unwrap();
        (engine, store)
    }

    /// Opens everything, with the compactor following the log.
    pub(crate) fn start(&self) -> Running {
        let (engine, store) = self.open();
        let projection = engine.project(Box::new(store.projection(engine.cold())));
        Running {
            engine,
            store,
            projection,
        }
    }
}

/// Everything, at work.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) store: ParquetStore,
    pub(crate) projection: ProjectionHandle,
}

impl Running {
    pub(crate) async fn append(&self, batch: EventBatch) {
        let appended = self.engine.append(batch, AppendOptions::default()).await;
        assert_eq!(appended.unwrap().duplicates, 0);
    }

    /// Waits until the compactor has taken everything in.
    pub(crate) async fn taken_in(&self) {
        let tail = self.engine.tail();
        self.projection.wait_for(tail, PATIENCE).await.unwrap();
    }

    pub(crate) async fn flush(&self) -> Offset {
        tokio::time::timeout(PATIENCE, self.store.flush())
            .await
            .expect("the compactor answers")
            .unwrap()
    }

    /// Waits for something that the compactor does by itself.
    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if reached(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not come: {:?}", self.store.status());
    }

    /// Closes the log, and waits until nothing of the compactor is left.
    pub(crate) async fn close(self) {
        // What has not begun to work cannot be seen to end.
        self.until("an opening", |running| {
            running.projection.status().state != ProjectionState::Starting
        })
        .await;
        let path = self.store.path().join("_lock");
        self.engine.close().await.unwrap();
        drop(self);
        for _ in 0..3000 {
            if LocalStorage.lock(&path).unwrap().is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the compactor did not end");
    }
}

/// The compactor without the runtime of projections: one step at a time.
pub(crate) struct Driven<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) compactor: Compactor,
}

impl Driven<'_> {
    /// Reads the log to its end from where the compactor stands.
    pub(crate) async fn catch_up(&mut self) -> Result<(), ProjectionError> {
        assert_eq!(self.compactor.name(), PROJECTION);
        let checkpoint = self.compactor.open().await?;
        let from = checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.offset);
        let mut reader = self.engine.reader(from);
        loop {
            let batches = reader.read(64 << 10).unwrap();
            let Some(last) = batches.last() else {
                return Ok(());
            };
            let to = Checkpoint {
                log: self.engine.log_id(),
                epoch: last.epoch,
                offset: last.end(),
                fold_version: self.compactor.fold_version(),
            };
            self.compactor
                .apply(&batches, self.engine.view(), to)
                .await?;
        }
    }
}

/// Rows of a kind with everything that is hard to keep; `number` makes them distinct.
pub(crate) fn write_row(builder: &mut EventBatchBuilder, kind: Kind, number: usize) {
    let needed_together = ["run", "model", "version"];
    let sparse = number.is_multiple_of(3);
    let mut row = builder.row(kind);
    row.text(schema::ID, &format!("{kind}-{number}")).unwrap();
    for (column, field) in schema::fields(kind).enumerate().skip(schema::TIME) {
        let wanted = field.presence == Presence::Required || needed_together.contains(&field.name);
        if sparse && !wanted {
            if field.presence == Presence::Stated {
                row.null(column).unwrap();
            }
            continue;
        }
        let even = number.is_multiple_of(2);
        let set = match field.ty {
            FieldType::Text if even => row.text(column, ""),
            FieldType::Text => row.text(column, &"é\u{1F600}\t\"\\,".repeat(number % 50 + 1)),
            FieldType::Name(_) => row.text(column, &format!("n{}", number % 7)),
            FieldType::Word(words) => row.text(column, words[number % words.len()]),
            FieldType::Entity => row.text(column, &format!("model/m{}", number % 5)),
            FieldType::Json if even => row.checked_json(column, "null"),
            FieldType::Json => row.checked_json(column, r#"[1.0, "é", {"a": null}]"#),
            FieldType::JsonObject if even => row.checked_json(column, "{}"),
            FieldType::JsonObject => row.checked_json(
                column,
                &format!(r#"{{"k{number}":  [18446744073709551615]}}"#),
            ),
            FieldType::Int => row.int(column, [i64::MIN, i64::MAX, -1, 0][number % 4]),
            FieldType::Float => row.float(
                column,
                [f64::NAN, f64::INFINITY, -0.0, 5e-324, f64::MAX, 0.1][number % 6],
            ),
            FieldType::Bool => row.boolean(column, even),
            FieldType::Time => row.time([Timestamp::MIN, Timestamp::MAX][number % 2]),
            FieldType::Bytes => row.bytes(column, &[0, 255, 10, 0][..number % 5]),
            FieldType::Ord => unreachable!("skipped"),
        };
        set.unwrap();
    }
    row.finish().unwrap();
}

/// Kinds that producers and the log write as events.
pub(crate) fn event_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::EntityNamed)
}

/// Rows of all kinds, interleaved.
pub(crate) fn all_kinds(numbers: std::ops::Range<usize>) -> EventBatch {
    let mut builder = EventBatchBuilder::new();
    for number in numbers {
        for kind in event_kinds() {
            write_row(&mut builder, kind, number);
        }
    }
    builder.finish()
}

/// Rows of one kind.
pub(crate) fn of_kind(kind: Kind, numbers: std::ops::Range<usize>) -> EventBatch {
    let mut builder = EventBatchBuilder::new();
    numbers.for_each(|number| write_row(&mut builder, kind, number));
    builder.finish()
}

/// Every finished file, by kind and offset.
pub(crate) fn files(parquet: &Path) -> Vec<(FileName, PathBuf)> {
    let mut found = Vec::new();
    let mut directories = vec![parquet.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                let name = FileName::parse(path.strip_prefix(parquet).unwrap());
                found.push((name.expect("a name of ours"), path));
            }
        }
    }
    found.sort();
    found
}

/// Whether there are unfinished files.
pub(crate) fn has_unfinished(parquet: &Path) -> bool {
    let mut directories = vec![parquet.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "tmp") {
                return true;
            }
        }
    }
    false
}

/// What files hold, read by the `parquet` crate alone, by kind.
pub(crate) fn written(parquet: &Path) -> BTreeMap<String, RecordBatch> {
    let mut by_kind = BTreeMap::<String, Vec<RecordBatch>>::new();
    for (name, path) in files(parquet) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap())
            .unwrap()
            .build()
            .unwrap();
        let batches = by_kind.entry(name.kind.name().to_owned()).or_default();
        batches.extend(reader.map(Result::unwrap));
    }
    by_kind
        .into_iter()
        .map(|(kind, batches)| {
            (
                kind,
                concat_batches(&batches[0].schema(), &batches).unwrap(),
            )
        })
        .collect()
}

/// What the log holds as events, by kind.
pub(crate) fn logged(engine: &Engine) -> BTreeMap<String, RecordBatch> {
    let mut by_kind = BTreeMap::<String, Vec<RecordBatch>>::new();
    let mut reader = engine.reader(Offset::ZERO);
    loop {
        let batches = reader.read(4 << 20).unwrap();
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            for table in &batch.tables {
                by_kind
                    .entry(table.kind().name().to_owned())
                    .or_default()
                    .push(table.to_record_batch(batch.first_offset, batch.append_time));
            }
        }
    }
    by_kind
        .into_iter()
        .map(|(kind, batches)| {
            (
                kind,
                concat_batches(&batches[0].schema(), &batches).unwrap(),
            )
        })
        .collect()
}

/// Asserts that files hold every event of the log, once, as it is.
pub(crate) fn assert_complete(engine: &Engine, parquet: &Path) {
    let logged = logged(engine);
    let written = written(parquet);
    let events = |kind: &&String| !matches!(kind.as_str(), "Origin" | "EntityNamed");
    assert_eq!(
        logged.keys().collect::<Vec<_>>(),
        written.keys().filter(events).collect::<Vec<_>>()
    );
    for (kind, expected) in logged {
        let found = &written[&kind];
        assert_eq!(found.num_rows(), expected.num_rows(), "{kind}");
        for (field, column) in expected.schema().fields().iter().zip(expected.columns()) {
            let found = found.column_by_name(field.name()).expect("the column");
            assert_eq!(found, column, "{kind}.{}", field.name());
        }
        assert_eq!(found.num_columns(), expected.num_columns(), "{kind}");
    }
    assert_names_and_origins(engine, &written);
}

fn assert_names_and_origins(engine: &Engine, written: &BTreeMap<String, RecordBatch>) {
    let mut names = Vec::new();
    let mut origins = Vec::new();
    let mut reader = engine.reader(Offset::ZERO);
    loop {
        let batches = reader.read(4 << 20).unwrap();
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            let at = batch.first_offset.0 as i64;
            names.extend(batch.names.iter().map(|named| {
                (
                    at,
                    named.kind.name().to_owned(),
                    i64::from(named.id),
                    named.name.to_string(),
                )
            }));
            origins.extend(
                batch
                    .origins
                    .iter()
                    .map(|origin| (at, i64::from(origin.rows))),
            );
        }
    }
    let found: Vec<_> = written.get("EntityNamed").map_or(Vec::new(), |rows| {
        (0..rows.num_rows())
            .map(|row| {
                let (at, id) = (int(rows, "log_offset", row), int(rows, "entity_id", row));
                (
                    at,
                    text(rows, "entity_kind", row),
                    id,
                    text(rows, "name", row),
                )
            })
            .collect()
    });
    assert_eq!(found, names);
    let found: Vec<_> = written.get("Origin").map_or(Vec::new(), |rows| {
        (0..rows.num_rows())
            .map(|row| (int(rows, "log_offset", row), int(rows, "rows", row)))
            .collect()
    });
    assert_eq!(found, origins);
}

fn int(rows: &RecordBatch, column: &str, row: usize) -> i64 {
    use arrow_array::cast::AsArray;
    let column = rows.column_by_name(column).expect("the column");
    column
        .as_primitive::<arrow_array::types::Int64Type>()
        .value(row)
}

fn text(rows: &RecordBatch, column: &str, row: usize) -> String {
    use arrow_array::cast::AsArray;
    let column = rows.column_by_name(column).expect("the column");
    column.as_string::<i32>().value(row).to_owned()
}
