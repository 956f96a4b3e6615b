//! Single events of many callers at once, in process: each is durable before its caller goes on. And what an event takes
//! on the disk, alone and in company.

use std::sync::Arc;

use anyhow::{Result, ensure};
use modelog_engine::Engine;
use modelog_formats::Format;
use modelog_limits::Events;

use crate::corpus::{self, Body, Naming};
use crate::inprocess::{MemoryAtStart, bytes_of, drive_callers, new_directory, runtime};
use crate::measure::{Figure, Spread, Stopwatch, in_turns};
use crate::memory::{Peaks, Process, Watch};
use crate::report::{Mark, Row};
use crate::{Options, Size};

const CALLERS: usize = 64;
/// One event in so many is also written by the limit, which takes that much longer.
const LIMIT_SHARE: usize = 50;
/// The room of the limit's file.
pub(crate) const LIMIT_BYTES: u64 = 8 << 20;
const SYNC: &str = "one `fdatasync` an event";
/// Events of a larger call, and how many calls there are.
const CALL_EVENTS: usize = 1_000;
const CALLS: usize = 100;
const SIZE_UNIT: &str = "B/event";

pub(crate) fn measure(
    options: &Options,
    size: Size,
    start: MemoryAtStart,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("single events of 64 callers, in process");
    let memory = Watch::start(Process::this());
    let bodies = corpus::ndjson(Naming::PredictionId, 8, size.singles, 1);
    let bodies = Arc::new(bodies);
    let (mut waits, mut syncs, mut bytes) = (Vec::new(), Vec::new(), 0.0);
    let (ours, limit) = in_turns(
        size.servers,
        || {
            let taken = take(options, &bodies, CALLERS)?;
            waits.push(taken.waits.at(0.99));
            bytes = taken.bytes;
            Ok(taken.rate)
        },
        || {
            let spread = write_and_sync(options, &bodies[..bodies.len() / LIMIT_SHARE])?;
            syncs.push(spread.at(0.5));
            Ok(spread.rate())
        },
    )?;
    let sent = bytes_of(&bodies) as f64 / bodies.len() as f64;
    let mut rows = vec![
        Row::new(
            "single events, 64 callers, in process, each durable",
            "events/s",
            ours,
        )
        .beside(SYNC, limit)
        .mark(Mark::RatioAtLeast(25.0)),
        Row::new("  until its answer, p99", "ms", Figure::of(waits))
            .beside("one `fdatasync`, p50", Figure::of(syncs))
            .goal(Mark::RatioAtMost(5.0)),
        start.row(&memory, bytes_of(&bodies), peaks),
        size_row("  on disk", bytes, sent).mark(Mark::AtMost(250.0)),
    ];
    let bodies = corpus::ndjson(Naming::PredictionId, 9, CALLS * CALL_EVENTS, CALL_EVENTS);
    let sent = bytes_of(&bodies) as f64 / (CALLS * CALL_EVENTS) as f64;
    let taken = take(options, &Arc::new(bodies), 1)?;
    rows.push(
        size_row("on disk, calls of 1,000 events", taken.bytes, sent).mark(Mark::AtMost(90.0)),
    );
    Ok(rows)
}

fn size_row(what: &str, bytes: f64, sent: f64) -> Row {
    let figure = |bytes| Figure::of(vec![bytes]);
    Row::new(what, SIZE_UNIT, figure(bytes)).beside("NDJSON", figure(sent))
}

/// What was measured of a new log.
struct Taken {
    rate: f64,
    waits: Spread,
    /// On disk, of each event, when the log is closed.
    bytes: f64,
}

fn take(options: &Options, bodies: &Arc<Vec<Body>>, callers: usize) -> Result<Taken> {
    let directory = new_directory(&options.directory)?;
    let engine = Engine::open(directory.path())?;
    let runtime = runtime()?;
    let (rate, waits) = drive_callers(callers, &runtime, &engine, bodies, Format::Ndjson)?;
    engine.close_blocking()?;
    let events: usize = bodies.iter().map(|body| body.events).sum();
    let segments = modelog_engine::inspect::segments(directory.path())?;
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    Ok(Taken {
        rate,
        waits,
        bytes: bytes as f64 / events as f64,
    })
}

/// Milliseconds of each event that is written and synced alone.
fn write_and_sync(options: &Options, bodies: &[Body]) -> Result<Spread> {
    ensure!(!bodies.is_empty(), "the limit has nothing to write");
    let directory = new_directory(&options.directory)?;
    let mut file = Events::create(directory.path(), LIMIT_BYTES)?;
    let mut times = Vec::with_capacity(bodies.len());
    for body in bodies {
        let watch = Stopwatch::start();
        file.write(&body.bytes)?;
        times.push(watch.millis());
    }
    Ok(Spread::of(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_events_are_measured_with_their_size() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::of_a_test(directory.path());
        let size = Size {
            singles: 500,
            ..Size::of(true)
        };
        let start = MemoryAtStart::now().unwrap();
        let mut peaks = Peaks::default();
        let rows = measure(&options, size, start, &mut peaks, &mut |_| ()).unwrap();
        let marked = rows.iter().filter(|row| row.mark.is_some()).count();
        assert_eq!((rows.len(), marked), (5, 4));
        // An event alone in its frame takes more than one among a thousand.
        let bytes: Vec<_> = rows.iter().filter(|row| row.unit == SIZE_UNIT).collect();
        assert!(bytes[0].figure.median > bytes[1].figure.median, "{bytes:?}");
        assert!(bytes[1].limit.as_ref().unwrap().ratio < 1.0, "{bytes:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
