//! Redis databases that others filled by hand: read, checked and kept on disk before anything is appended.

use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use modelog_engine::LogId;
use modelog_formats::decode;
use modelog_redis::{Handwritten, RedisConfig, RedisError, Report, Taker};
use tokio::runtime::Handle;

use super::chunk::Chunk;
use super::identity::Identity;
use super::refusal::{Places, Refusal};
use super::send::{Beside, Prepared, Sink};
use super::spool::{Spool, Spooled};
use super::{ImportOptions, Outlet, tell};
use crate::exit::Failed;
use crate::output::counted;
use crate::progress;

/// Where the password is taken from if the URL has none, so that it shows in no list of processes. `redis-cli` does the same.
const PASSWORD: &str = "REDISCLI_AUTH";

/// A database that can be reached.
#[derive(Debug)]
pub(super) struct Database {
    source: Handwritten,
    /// A Modelog's own keys, of this log.
    live_view_of: Option<LogId>,
}

/// A database that was read and checked.
pub(super) struct CheckedDatabase {
    pub(super) name: String,
    pub(super) report: Report,
    pub(super) spooled: Spooled,
    live_view_of: Option<LogId>,
}

/// The database at a URL.
///
/// # Errors
/// That it is none.
pub(super) fn at(url: &str, settings: &RedisConfig) -> Result<Handwritten> {
    let password = std::env::var(PASSWORD)
        .ok()
        .filter(|password| !password.is_empty());
    Handwritten::at(url, password.as_deref(), settings).map_err(|error| match error {
        // The URL may hold a password.
        RedisError::Setting {
            setting: "url",
            reason,
        } => Failed::usage(format!("the URL of the database {reason}")),
        error => error.into(),
    })
}

/// Looks whether databases are there.
///
/// # Errors
/// The first that is not.
pub(super) async fn look(sources: Vec<Handwritten>) -> Result<Vec<Database>> {
    let mut found = Vec::new();
    for source in sources {
        let live_view_of = source.live_view_of().await.map_err(unreadable)?;
        found.push(Database {
            source,
            live_view_of,
        });
    }
    Ok(found)
}

/// Reads and checks databases.
///
/// # Errors
/// The first that cannot be read, or that they hold what cannot be taken over and is not to be skipped.
pub(super) async fn check(
    databases: Vec<Database>,
    options: &Arc<ImportOptions>,
) -> Result<Vec<CheckedDatabase>> {
    let mut checked = Vec::new();
    let mut bad = 0;
    for database in databases {
        let name = database.source.name().to_owned();
        let bar = progress::events(0, &format!("reading {name}"));
        let reading = (Arc::clone(options), bar.clone(), Handle::current());
        // Reading waits for the server, and writes to disk.
        let read = tokio::task::spawn_blocking(move || {
            let (options, bar, runtime) = reading;
            read(database, &options, &bar, &runtime)
        });
        let read = read.await?;
        bar.finish_and_clear();
        let (database, places) = read?;
        tell(&name, &places);
        bad += places.total;
        checked.push(database);
    }
    if bad > 0 && !options.skips {
        return Err(Failed::bad_data(format!(
            "{} cannot be taken over, so nothing was imported: mend them, or leave them out with --on-error skip",
            counted(bad, "thing")
        )));
    }
    Ok(checked)
}

fn read(
    database: Database,
    options: &ImportOptions,
    bar: &ProgressBar,
    runtime: &Handle,
) -> Result<(CheckedDatabase, Places)> {
    let mut checking = Checking {
        spool: Spool::new().context(SPOOL)?,
        options,
        bar,
        places: Places::default(),
    };
    let report = runtime.block_on(database.source.read(&mut checking));
    let report = report.map_err(unreadable)?;
    let (last, spooled) = checking.spool.finish().context(SPOOL)?;
    let mut places = Places {
        told: report.bad.iter().map(|bad| format!(": {bad}")).collect(),
        total: report.bad_total,
    };
    let mut undecoded = checking.places;
    if let Some(chunk) = last.filter(|_| !options.skips) {
        undecoded.add(undecodable(&chunk, options));
    }
    places.add(undecoded);
    let database = CheckedDatabase {
        name: database.source.name().to_owned(),
        report,
        spooled,
        live_view_of: database.live_view_of,
    };
    Ok((database, places))
}

const SPOOL: &str = "what was read cannot be kept on disk, where temporary files lie (TMPDIR)";

/// Why a database cannot be read, and what helps.
fn unreadable(error: RedisError) -> anyhow::Error {
    let remedy = match &error {
        RedisError::Refused { code, .. } if code == "LOADING" => {
            "it has just been started: try again in a while"
        }
        RedisError::Refused { code, .. } if code == "NOAUTH" || code == "WRONGPASS" => {
            "give user and password in the URL, or the password in REDISCLI_AUTH"
        }
        RedisError::Refused { code, .. } if code == "NOPERM" => {
            "the user needs `+@read +select` on keys below the prefix"
        }
        RedisError::Denied { .. } => {
            "see user, password and database in the URL, or the password in REDISCLI_AUTH"
        }
        RedisError::Empty { .. } => "name the prefix in the URL: redis://HOST/DB?prefix=NAME",
        _ => return error.into(),
    };
    let said = format!("{error}; {remedy}");
    Failed::caused_with(crate::exit::of_redis(&error), said, error)
}

/// Takes what is read: into pieces, each of which is checked.
struct Checking<'a> {
    spool: Spool,
    options: &'a ImportOptions,
    bar: &'a ProgressBar,
    places: Places,
}

impl Taker for Checking<'_> {
    fn event(&mut self, key: &str, json: &str, digest: u64) -> io::Result<()> {
        let piece = self.spool.push(key, json, digest)?;
        if let Some(piece) = piece.filter(|_| !self.options.skips) {
            self.places.add(undecodable(&piece, self.options));
        }
        Ok(())
    }

    fn found(&mut self, keys: u64) {
        self.bar.set_length(keys);
    }

    fn passed(&mut self, keys: u64) {
        self.bar.inc(keys);
    }
}

fn undecodable(piece: &Chunk, options: &ImportOptions) -> Places {
    match decode(&piece.bytes, piece.format, &options.decoding) {
        Ok(_) => Places::default(),
        Err(errors) => Places::of_format(&errors, piece),
    }
}

/// Refuses the live view of the log that is imported into; says what the one of another log is.
///
/// # Errors
/// That one is, or that the log cannot be asked.
pub(super) async fn refuse_own(databases: &[CheckedDatabase], sink: &Sink) -> Result<()> {
    for database in databases {
        let Some(log) = database.live_view_of else {
            continue;
        };
        let name = &database.name;
        if sink.target().await?.log == log {
            return Err(Failed::usage(format!(
                "{name} is the live view of this very log, which has all of it already: nothing was imported"
            )));
        }
        eprintln!(
            "{name} is the live view of another Modelog's log: its predictions and points are the newest ones only. An \
             import of that log's Parquet files takes all"
        );
    }
    Ok(())
}

/// The pieces of a database.
pub(super) struct PreparingDatabase {
    spooled: Spooled,
    options: Arc<ImportOptions>,
    decodes: bool,
    bar: ProgressBar,
}

impl PreparingDatabase {
    pub(super) fn new(
        spooled: Spooled,
        options: Arc<ImportOptions>,
        decodes: bool,
        bar: ProgressBar,
    ) -> Self {
        Self {
            spooled,
            options,
            decodes,
            bar,
        }
    }

    pub(super) fn run(self, to: &Outlet) {
        let outcome = self.prepare(to);
        to.end(outcome);
    }

    fn prepare(mut self, to: &Outlet) -> Result<(), Refusal> {
        let mut identity = Identity::Pieces;
        while let Some(chunk) = self.spooled.next().map_err(Refusal::Spool)? {
            self.bar.inc(chunk.events);
            let decoded = if self.decodes {
                let decoded = decode(&chunk.bytes, chunk.format, &self.options.decoding);
                Some(
                    decoded
                        .map_err(|errors| Refusal::Events(Places::of_format(&errors, &chunk)))?,
                )
            } else {
                None
            };
            let prepared = Prepared {
                source: identity.source(chunk.index, &chunk.bytes),
                chunk,
                decoded,
                beside: Beside::default(),
            };
            if !to.put(prepared) {
                return Ok(());
            }
        }
        Ok(())
    }
}
