//! What a backup reads when little is new since the one before.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use modelog_formats::Format;

use super::counting::CountingStorage;
use super::{History, Opened, Settings, new_directory};
use crate::Options;
use crate::corpus::{self, Naming};
use crate::inprocess::{JSON_EVENTS, drive};
use crate::measure::Figure;
use crate::report::{Mark, Row};

/// One event in so many is new.
const NEW_SHARE: usize = 100;

pub(super) fn measure(
    options: &Options,
    log: &History,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("backups");
    let dest = new_directory(&options.directory)?;
    let same_disk = CountingStorage::new();
    let same_disk = incremental(options, log, dest.path(), same_disk)?;
    let dest = new_directory(&options.directory)?;
    let other_disk = CountingStorage::with_another_disk(dest.path());
    let other_disk = incremental(options, log, dest.path(), other_disk)?;
    let row = |what: &str, share: f64| Row::new(what, "% of the data", Figure::of(vec![share]));
    Ok(vec![
        row("backup of 1 % new events: read", same_disk).mark(Mark::AtMost(2.0)),
        row(
            "  to another disk: read here, and there to be checked",
            other_disk,
        ),
    ])
}

/// Backs up, takes in a little more, compacts it and backs up again. Answers what the second backup read, in percent of
/// what it holds.
fn incremental(
    options: &Options,
    log: &History,
    dest: &Path,
    storage: CountingStorage,
) -> Result<f64> {
    let data = log.copy(options)?;
    let storage = Arc::new(storage);
    let settings = Settings {
        storage: Arc::clone(&storage) as _,
        ..Settings::default()
    };
    let opened = Opened::on(data.path(), &settings)?;
    let compactor = opened.start_compactor();
    opened.compact(&compactor)?;
    opened.engine.backup(dest, None, &mut |_, _| ())?;
    let new = corpus::ndjson(Naming::PredictionId, 6, log.events / NEW_SHARE, JSON_EVENTS);
    drive(
        &opened.runtime,
        &opened.engine,
        &Arc::new(new),
        Format::Ndjson,
    )?;
    opened.compact(&compactor)?;
    let before = storage.bytes_read();
    let report = opened.engine.backup(dest, None, &mut |_, _| ())?;
    let read = storage.bytes_read() - before;
    opened.close()?;
    Ok(read as f64 / report.generation.bytes as f64 * 100.0)
}
