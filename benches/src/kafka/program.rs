//! The program as users run it, reading a topic: until SQLite has everything, and killed in mid-load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::topic::{Topic, new_name};
use super::{MEMORY_MAX, SILENCE};
use crate::http::{Projection, client, sqlite};
use crate::inprocess::{memory_row, new_directory, runtime};
use crate::measure::{Figure, Stopwatch};
use crate::report::{Mark, Row};
use crate::server::Server;
use crate::{Options, Size};

/// How often the program is asked.
const LOOK: Duration = Duration::from_millis(5);
/// It is killed when it has so much of the topic, as a fraction.
const KILLED_AT: u64 = 4;
/// How often it may have read everything before the signal comes.
const MISSED_MAX: usize = 10;

/// From the first event that SQLite has to the last.
pub(super) fn into_sqlite(options: &Options, size: Size, topic: &Topic) -> Result<Vec<Row>> {
    let (mut rates, mut memory) = (Vec::new(), 0);
    for _ in 0..size.servers.min(2) {
        let installed = Installed::new(options, topic)?;
        let server = installed.start()?;
        let first = installed.wait(&server, |place| place.offset > 0)?;
        let watch = Stopwatch::start();
        installed.wait(&server, |place| place.offset >= topic.messages)?;
        rates.push(watch.rate((topic.messages - first.offset) as usize));
        memory = memory.max(server.memory_peak());
    }
    Ok(vec![
        Row::new("  until SQLite has them too", "events/s", Figure::of(rates))
            .mark(Mark::AtLeast(80e3)),
        memory_row(
            "  memory of the server with the backlog",
            memory,
            MEMORY_MAX,
        ),
    ])
}

/// Kills it in mid-load and starts it again: until the next event is taken. In the end every event must be there once.
pub(super) fn killed(options: &Options, size: Size, topic: &Topic) -> Result<Row> {
    let (mut seconds, mut missed) = (Vec::new(), 0);
    while seconds.len() < size.servers {
        let installed = Installed::new(options, topic)?;
        let server = installed.start()?;
        installed.wait(&server, |place| place.tail() >= topic.messages / KILLED_AT)?;
        // This is SIGKILL.
        drop(server);
        let watch = Stopwatch::start();
        let server = installed.start()?;
        let recovered = installed.wait(&server, |_| true)?.tail();
        if recovered >= topic.messages {
            missed += 1;
            ensure!(
                missed < MISSED_MAX,
                "it reads everything before it can be killed"
            );
            continue;
        }
        installed.wait(&server, |place| place.tail() > recovered)?;
        seconds.push(watch.elapsed().as_secs_f64());
        let place = installed.wait(&server, |place| place.offset >= topic.messages)?;
        ensure!(
            place.tail() == topic.messages,
            "{} events came of {} messages",
            place.tail(),
            topic.messages
        );
    }
    Ok(Row::new(
        "killed with -9: from restart to the next event, none twice",
        "s",
        Figure::of(seconds),
    )
    .mark(Mark::AtMost(3.0)))
}

/// A configuration that reads a topic, and a data directory.
pub(super) struct Installed<'a> {
    options: &'a Options,
    directory: TempDir,
    client: Client,
    runtime: Runtime,
}

impl<'a> Installed<'a> {
    pub(super) fn new(options: &'a Options, topic: &Topic) -> Result<Self> {
        let directory = new_directory(&options.directory)?;
        let config = format!(
            "[[kafka]]\nbrokers = {:?}\ntopics = [{:?}]\ngroup_id = {:?}\n",
            topic.brokers,
            topic.name,
            new_name()
        );
        std::fs::write(directory.path().join("modelog.toml"), config)?;
        Ok(Self {
            options,
            directory,
            client: client()?,
            runtime: runtime()?,
        })
    }

    pub(super) fn start(&self) -> Result<Server> {
        let directory = self.directory.path();
        Server::start_with(
            &self.options.program,
            &directory.join("data"),
            &directory.join("modelog.toml"),
        )
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Asks where SQLite and the log stand until it is as wanted.
    pub(super) fn wait(
        &self,
        server: &Server,
        wanted: impl Fn(&Projection) -> bool,
    ) -> Result<Projection> {
        self.runtime.block_on(async {
            let (mut seen, mut since) = (0, Stopwatch::start());
            loop {
                let place = sqlite(&self.client, server).await?;
                if wanted(&place) {
                    return Ok(place);
                }
                let now = place.offset + place.tail();
                if now != seen {
                    (seen, since) = (now, Stopwatch::start());
                }
                if since.elapsed() > SILENCE {
                    let url = server.url("/v1/sources");
                    let sources = crate::http::get(&self.client, &url).await?;
                    let sources = String::from_utf8_lossy(&sources).into_owned();
                    return Err(anyhow::anyhow!(sources))
                        .with_context(|| format!("nothing happens any more: {place:?}"));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}
