//! SQL tables: a log of predictions into a database, beside the same rows written into the same table by a bare client.
//!
//! What is ours includes everything that belongs to it: reading the log, names, statistics, the checkpoint.

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use modelog_limits::{BareClient, PostgresRows, TableRows};
use modelog_sql::{SqlConfig, SqlStore};
use reqwest::Url;

use crate::history::{History, Opened, PATIENCE, Settings};
use crate::inprocess::{MEMORY_MAX, MemoryAtStart, new_directory, runtime};
use crate::measure::{Figure, Stopwatch};
use crate::memory::{Process, Watch};
use crate::report::{Mark, Row};
use crate::{Options, Size};

/// The schema or database that is made, measured in and dropped.
const PLACE: &str = "modelog_bench";
/// The table most rows of the corpus go to.
const TABLE: &str = "predictions";
const ORDER: &str = "log_offset";

pub(super) fn sqlite(
    options: &Options,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let scene = Scene::new(options, size, progress)?;
    let directory = new_directory(&options.directory)?;
    let config = |number: usize| SqlConfig {
        url: format!("sqlite:{number}.db"),
        directory: directory.path().to_owned(),
        ..SqlConfig::default()
    };
    let mut figures = Figures::default();
    for number in 0..size.servers {
        progress("the log into SQLite");
        figures.ours.push(scene.follow(&config(number))?);
        progress("the same rows into SQLite by a bare client");
        let path = directory.path().join(format!("{number}.db"));
        figures
            .limit
            .push(scene.raw(TableRows::open(&path, TABLE, ORDER))?);
        std::fs::remove_file(path)?;
    }
    Ok(figures.rows("SQLite", "multi-row INSERT of the same rows", 0.7, &scene))
}

pub(super) fn postgres(
    options: &Options,
    url: &str,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let scene = Scene::new(options, size, progress)?;
    let separator = if url.contains('?') { '&' } else { '?' };
    let config = SqlConfig {
        url: format!("{url}{separator}schema={PLACE}"),
        ..SqlConfig::default()
    };
    let drop = format!("DROP SCHEMA IF EXISTS {PLACE} CASCADE");
    let mut figures = Figures::default();
    for _ in 0..size.servers {
        scene
            .runtime
            .block_on(modelog_limits::postgres_execute(url, &drop))?;
        progress("the log into PostgreSQL");
        figures.ours.push(scene.follow(&config)?);
        progress("the same rows into PostgreSQL by a bare client");
        figures
            .limit
            .push(scene.raw(PostgresRows::read(url, &format!("{PLACE}.{TABLE}")))?);
    }
    scene
        .runtime
        .block_on(modelog_limits::postgres_execute(url, &drop))?;
    Ok(figures.rows("PostgreSQL", "COPY of the same rows", 0.5, &scene))
}

pub(super) fn mysql(
    options: &Options,
    url: &str,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    let scene = Scene::new(options, size, progress)?;
    let mut own = Url::parse(url).context("the URL of the database")?;
    own.set_path(PLACE);
    let config = SqlConfig {
        url: own.to_string(),
        ..SqlConfig::default()
    };
    let run = |text: String| {
        scene
            .runtime
            .block_on(modelog_limits::mysql_execute(url, &text))
    };
    let mut figures = Figures::default();
    for _ in 0..size.servers {
        run(format!("DROP DATABASE IF EXISTS {PLACE}"))?;
        run(format!("CREATE DATABASE {PLACE}"))?;
        progress("the log into MySQL");
        figures.ours.push(scene.follow(&config)?);
        progress("the same rows into MySQL by a bare client");
        figures
            .limit
            .push(scene.raw(TableRows::read(&config.url, TABLE, ORDER))?);
    }
    run(format!("DROP DATABASE {PLACE}"))?;
    Ok(figures.rows("MySQL", "multi-row INSERT of the same rows", 0.7, &scene))
}

/// A log to be followed.
struct Scene<'a> {
    options: &'a Options,
    history: History,
    runtime: tokio::runtime::Runtime,
    start: MemoryAtStart,
    /// Memory of the first time: later the allocator has what the bare client took.
    peak: RefCell<Option<u64>>,
}

impl<'a> Scene<'a> {
    fn new(options: &'a Options, size: Size, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        progress("a log of predictions");
        let history = History::take_in(options, size.events)?.without_bodies();
        Ok(Self {
            options,
            history,
            runtime: runtime()?,
            start: MemoryAtStart::now()?,
            peak: RefCell::default(),
        })
    }

    /// Lets a bare client write the rows it reads; answers how many events a second the writing took.
    fn raw<C: BareClient>(&self, client: impl Future<Output = Result<C>>) -> Result<f64> {
        self.runtime.block_on(async {
            let mut client = client.await?;
            client.prepare().await?;
            let watch = Stopwatch::start();
            client.write().await?;
            let rate = watch.rate(self.history.events);
            client.forget().await?;
            Ok(rate)
        })
    }

    /// Fills an empty store; answers how many events a second it took.
    fn follow(&self, config: &SqlConfig) -> Result<f64> {
        let data = self.history.copy(self.options)?;
        let opened = Opened::on(data.path(), &Settings::default())?;
        let store = SqlStore::new(config.clone())?;
        let tail = opened.engine.tail();
        let memory = Watch::start(Process::this());
        let rate = opened.runtime.block_on(async {
            let watch = Stopwatch::start();
            let projection = opened.engine.project(Box::new(store.projection()));
            projection.wait_for(tail, PATIENCE).await?;
            let rate = watch.rate(self.history.events);
            let status = projection.status();
            ensure!(
                status.last_error.is_none(),
                "it failed meanwhile: {status:?}"
            );
            store.close().await;
            anyhow::Ok(rate)
        })?;
        let mut peak = self.peak.borrow_mut();
        if peak.is_none() {
            *peak = Some(self.start.growth(&memory));
        }
        opened.close()?;
        Ok(rate)
    }
}

/// What was measured in turns.
#[derive(Default)]
struct Figures {
    ours: Vec<f64>,
    limit: Vec<f64>,
}

impl Figures {
    fn rows(self, store: &str, limit: &str, ratio: f64, scene: &Scene<'_>) -> Vec<Row> {
        vec![
            Row::new(
                format!("the log → {store}, predictions"),
                "events/s",
                Figure::of(self.ours),
            )
            .beside(limit, Figure::of(self.limit))
            .mark(Mark::RatioAtLeast(ratio)),
            crate::inprocess::memory_row(
                "  memory meanwhile",
                scene.peak.borrow().unwrap_or_default(),
                MEMORY_MAX,
            ),
        ]
    }
}
