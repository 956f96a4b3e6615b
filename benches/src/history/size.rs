//! How many bytes an event takes: as it was sent, as Parquet, and as the plainest archive there is, compressed NDJSON.

use std::io::{self, Write};

use anyhow::Result;

use super::{History, bytes_below};
use crate::measure::Figure;
use crate::report::{Mark, Row};

/// What the command `zstd` uses if nothing else is said.
const ZSTD_LEVEL: i32 = 3;
const UNIT: &str = "B/event";

pub(super) fn measure(log: &History, parquet: &History) -> Result<Vec<Row>> {
    let each = |bytes: u64| Figure::of(vec![bytes as f64 / log.events as f64]);
    let sent = log.bodies.iter().map(|body| body.bytes.len() as u64).sum();
    // Names, origins and the manifest included.
    let parquet = bytes_below(&parquet.path().join("parquet"))?;
    Ok(vec![
        Row::new("size as Parquet", UNIT, each(parquet))
            .beside("NDJSON", each(sent))
            .mark(Mark::RatioAtMost(0.4)),
        Row::new(
            "  NDJSON with zstd, for comparison",
            UNIT,
            each(compressed(log)?),
        )
        .beside("NDJSON", each(sent)),
        Row::new(
            "  the log",
            UNIT,
            each(bytes_below(&log.path().join("log"))?),
        )
        .beside("NDJSON", each(sent)),
    ])
}

/// Bytes of all NDJSON as one stream of zstd.
fn compressed(log: &History) -> Result<u64> {
    let mut encoder = zstd::Encoder::new(Counted(0), ZSTD_LEVEL)?;
    for body in log.bodies.iter() {
        encoder.write_all(&body.bytes)?;
    }
    Ok(encoder.finish()?.0)
}

/// Counts what is written, and drops it.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
