//! The memory of a server that does everything at once.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::{History, new_directory};
use crate::corpus::{self, Naming};
use crate::http::{accepted, client, post, post_all, sqlite_has_all};
use crate::inprocess::{JSON_EVENTS, memory_row, runtime};
use crate::report::Row;
use crate::server::{Server, command};
use crate::{Options, Size};

/// What a server with history may take, in MiB.
const MEMORY_MAX: f64 = 400.0;

/// Starts a server on history that only Parquet holds. At once it builds SQLite from Parquet, takes new events in and
/// compacts them; while SQLite still catches up, what was begun is closed and backed up.
pub(super) fn measure(
    options: &Options,
    size: Size,
    parquet: &History,
    progress: &mut dyn FnMut(&str),
) -> Result<Row> {
    progress("a server that replays, compacts and backs up");
    let data = parquet.copy(options)?;
    let backups = new_directory(&options.directory)?;
    let bodies = corpus::ndjson(Naming::PredictionId, 7, size.events, JSON_EVENTS);
    let server = Server::start(&options.program, data.path())?;
    let client = client()?;
    runtime()?.block_on(async {
        let bodies = Arc::new(bodies);
        let taken = post_all(&client, &server.url("/v1/events"), &bodies, accepted).await?;
        ensure!(
            taken == size.events,
            "{taken} of {} events were taken",
            size.events
        );
        drop(bodies);
        let compact = server.url("/v1/compact");
        post(&client, &compact, "application/json", Bytes::new()).await?;
        back_up(&options.program, data.path(), backups.path())?;
        sqlite_has_all(&client, &server).await
    })?;
    Ok(memory_row(
        "memory of a server replaying, compacting and backing up",
        server.memory_peak(),
        MEMORY_MAX,
    ))
}

/// As users do: the command asks the server that has the data directory.
fn back_up(program: &Path, data: &Path, dest: &Path) -> Result<()> {
    let done = command(program, data, "backup").arg(dest).output()?;
    ensure!(
        done.status.success(),
        "the backup failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}
