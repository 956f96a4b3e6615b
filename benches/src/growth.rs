//! A log that grows: whether what it takes, needs and costs to open stays the same from the first million events to the
//! fiftieth.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use modelog_engine::{Engine, inspect};
use modelog_formats::Format;

use crate::Options;
use crate::corpus::{self, Naming};
use crate::history::copy_or_link_tree;
use crate::inprocess::{JSON_EVENTS, bytes_of, drive, new_directory, runtime};
use crate::measure::{Figure, Stopwatch};
use crate::memory::Process;
use crate::report::Row;

/// Events that are put in at a time, and measured.
const STRETCH: usize = 1_000_000;
/// After how many stretches the log is looked at.
const LOOKS: [usize; 5] = [1, 5, 10, 25, 50];
/// A stretch has a seed of its own, from here on.
const SEED: u64 = 3_000;
const FIRST: &str = "at the first";

/// What a log of some size is like.
#[derive(Clone, Copy, Debug)]
struct Look {
    stretches: usize,
    /// Events a second of the last stretch.
    rate: f64,
    /// MiB of memory, without the corpus. Less what there was before it would be nothing: that is memory which earlier rows
    /// gave back to the allocator, and which serves again.
    memory: f64,
    /// Seconds to open it after it was closed, and after it was not.
    closed: f64,
    killed: f64,
}

pub(crate) fn measure(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let looks = grow(options, STRETCH, &LOOKS, progress)?;
    let first = looks[0];
    let millions = |look: &Look| look.stretches * STRETCH / 1_000_000;
    Ok(looks
        .iter()
        .flat_map(|look| rows(look, &first, millions(look)))
        .collect())
}

fn rows(look: &Look, first: &Look, millions: usize) -> [Row; 4] {
    let row = |what: String, unit, of: fn(&Look) -> f64| {
        let figure = |look| Figure::of(vec![of(look)]);
        Row::new(what, unit, figure(look)).beside(FIRST, figure(first))
    };
    [
        row(
            format!("a log of {millions} M events: the last million, in process"),
            "events/s",
            |look| look.rate,
        ),
        row("  memory".into(), "MiB", |look| look.memory),
        row("  open after it was closed".into(), "s", |look| look.closed),
        row("  open after it was not".into(), "s", |look| look.killed),
    ]
}

/// Puts stretches into a log, and looks at it after as many as are given.
fn grow(
    options: &Options,
    stretch: usize,
    looks: &[usize],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Look>> {
    let data = new_directory(&options.directory)?;
    let runtime = runtime()?;
    let mut engine = Engine::open(data.path())?;
    let mut seen = Vec::new();
    for stretches in 1..=looks.last().copied().unwrap_or_default() {
        progress(&format!("a log grows: {stretches} M events"));
        let seed = SEED + stretches as u64;
        let bodies = corpus::ndjson(Naming::PredictionId, seed, stretch, JSON_EVENTS);
        let bodies = Arc::new(bodies);
        let rate = drive(&runtime, &engine, &bodies, Format::Ndjson)?;
        if !looks.contains(&stretches) {
            continue;
        }
        let now = Process::this().anonymous_bytes()?;
        let corpus = bytes_of(&bodies) as u64;
        drop(bodies);
        let killed = open_copy(options, data.path(), &engine)?;
        engine.close_blocking()?;
        // A clone would keep the directory locked.
        drop(engine);
        let watch = Stopwatch::start();
        engine = Engine::open(data.path())?;
        seen.push(Look {
            stretches,
            rate,
            memory: now.saturating_sub(corpus) as f64 / f64::from(1 << 20),
            closed: watch.elapsed().as_secs_f64(),
            killed,
        });
        let expected = (stretches * stretch) as u64;
        ensure!(
            engine.tail().0 == expected,
            "{} of {expected} events are there",
            engine.tail()
        );
    }
    engine.close_blocking()?;
    Ok(seen)
}

/// Opens a copy of a log in use; answers the seconds it took. Segments that are ended are linked: nothing writes to them.
fn open_copy(options: &Options, data: &Path, engine: &Engine) -> Result<f64> {
    let copy = new_directory(&options.directory)?;
    let sealed: Vec<_> = inspect::segments(data)?
        .into_iter()
        .filter(|segment| segment.sealed)
        .map(|segment| segment.path)
        .collect();
    copy_or_link_tree(data, copy.path(), &sealed)?;
    let watch = Stopwatch::start();
    let copied = Engine::open(copy.path())?;
    let seconds = watch.elapsed().as_secs_f64();
    ensure!(
        copied.tail() == engine.tail(),
        "{} of {} events are in the copy",
        copied.tail(),
        engine.tail()
    );
    copied.close_blocking()?;
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_looked_at_as_it_grows() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::of_a_test(directory.path());
        let looks = grow(&options, 3_000, &[1, 3], &mut |_| ()).unwrap();
        assert_eq!(
            looks.iter().map(|look| look.stretches).collect::<Vec<_>>(),
            [1, 3]
        );
        for look in &looks {
            assert!(
                look.memory > 0.0 && look.rate > 0.0 && look.closed > 0.0 && look.killed > 0.0,
                "{look:?}"
            );
            let rows = rows(look, &looks[0], 1);
            assert!(rows.iter().all(|row| row.limit.is_some()));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
