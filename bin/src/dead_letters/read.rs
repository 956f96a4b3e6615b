//! Records of rejections one by one: from the log itself, or from its server.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use modelog_engine::batch::LoggedBatch;
use modelog_engine::event::Kind;
use modelog_engine::{Engine, LogId, LogReader, Offset};
use reqwest::{Method, Response};

use super::record::Record;
use crate::client::{Client, query};
use crate::config::Settings;
use crate::exit::Failed;
use crate::place::{self, Place};

/// How much of the log is read at a time.
const READ_BYTES: usize = 4 << 20;
/// The longest line of a server: bytes of the largest size that are kept, in base64, and room.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    from: u64,
    /// Exclusive; the end of the log if there is none.
    until: Option<u64>,
}

impl Stretch {
    pub(super) const ALL: Self = Self {
        from: 0,
        until: None,
    };

    pub(super) fn one(offset: u64) -> Self {
        Self::between(offset, offset)
    }

    /// Both are in it.
    pub(super) fn between(first: u64, last: u64) -> Self {
        Self {
            from: first,
            until: Some(last.saturating_add(1)),
        }
    }
}

/// Reads records. It must be closed.
pub(super) enum Records {
    Log {
        engine: Engine,
        reader: LogReader,
        from: Offset,
        end: Offset,
        read: VecDeque<Arc<LoggedBatch>>,
        /// The row of the first batch that comes next.
        row: usize,
    },
    Server {
        client: Arc<Client>,
        log: Option<LogId>,
        response: Response,
        /// What came and is not a whole line yet, from `at` on.
        buffer: Vec<u8>,
        at: usize,
    },
}

impl Records {
    /// Begins to read. What is appended later is not read.
    pub(super) async fn open(settings: &Settings, place: Place, stretch: Stretch) -> Result<Self> {
        match place {
            Place::Directory => {
                let engine = place::open_existing(settings).await?;
                let (from, tail) = (Offset(stretch.from), engine.tail());
                Ok(Self::Log {
                    reader: engine.reader(from),
                    from,
                    end: stretch.until.map_or(tail, |until| tail.min(Offset(until))),
                    engine,
                    read: VecDeque::new(),
                    row: 0,
                })
            }
            Place::Server(client) => Self::ask(Arc::new(client), stretch).await,
        }
    }

    async fn ask(client: Arc<Client>, Stretch { from, until }: Stretch) -> Result<Self> {
        let path = format!(
            "/v1/events{}",
            query(&[
                ("kind", Some(Kind::EventRejected.name().to_owned())),
                ("from", Some(from.to_string())),
                ("until", until.map(|until| until.to_string())),
            ])
        );
        let request = client
            .request(Method::GET, &path)
            .header("accept", "application/x-ndjson");
        let response = client.send(request).await?;
        let log = response.headers().get("modelog-log");
        let log = log.and_then(|log| log.to_str().ok()?.parse().ok().map(LogId));
        Ok(Self::Server {
            client,
            log,
            response,
            buffer: Vec::new(),
            at: 0,
        })
    }

    /// Which log it is; a server that is older does not say.
    pub(super) fn log(&self) -> Option<LogId> {
        match self {
            Self::Log { engine, .. } => Some(engine.log_id()),
            Self::Server { log, .. } => *log,
        }
    }

    /// The next record; none at the end.
    ///
    /// # Errors
    /// If the log or the server cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Self::Log { .. } => self.next_row(),
            Self::Server { .. } => self.next_line().await,
        }
    }

    fn next_row(&mut self) -> Result<Option<Record>> {
        let Self::Log {
            reader,
            from,
            end,
            read,
            row,
            ..
        } = self
        else {
            unreachable!("asked of the log only");
        };
        loop {
            while let Some(batch) = read.front() {
                let table = batch.table(Kind::EventRejected);
                let rows = table.map_or(0, modelog_engine::batch::Table::rows);
                while let Some(table) = table.filter(|_| *row < rows) {
                    let found = batch.row(table, *row);
                    *row += 1;
                    if (*from..*end).contains(&found.offset()) {
                        return Ok(Some(Record::of_row(found)));
                    }
                }
                read.pop_front();
                *row = 0;
            }
            if reader.position() >= *end {
                return Ok(None);
            }
            read.extend(reader.read(READ_BYTES)?);
            if read.is_empty() {
                return Ok(None);
            }
        }
    }

    async fn next_line(&mut self) -> Result<Option<Record>> {
        let Self::Server {
            client,
            response,
            buffer,
            at,
            ..
        } = self
        else {
            unreachable!("asked of a server only");
        };
        let mut looked = *at;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &buffer[looked..]) {
                let line = *at..looked + found;
                *at = line.end + 1;
                return Record::of_line(&buffer[line]).map(Some);
            }
            buffer.drain(..*at);
            *at = 0;
            looked = buffer.len();
            if looked > LINE_BYTES_MAX {
                return Err(Failed::bad_data("the server sends a line without end"));
            }
            let chunk = response.chunk().await;
            match chunk.map_err(|error| client.unreachable(error))? {
                Some(bytes) => buffer.extend_from_slice(&bytes),
                None if buffer.is_empty() => return Ok(None),
                None => return Err(Failed::bad_data("the server's last line has no end")),
            }
        }
    }

    /// Where more can be put into the same log.
    pub(super) fn log_of(&self) -> Target {
        match self {
            Self::Log { engine, .. } => Target::Engine(engine.clone()),
            Self::Server { client, .. } => Target::Server(Arc::clone(client)),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// What the log could not write at its end.
    pub(super) async fn close(self) -> Result<()> {
        if let Self::Log { engine, .. } = self {
            engine.close().await?;
        }
        Ok(())
    }
}

/// A log that takes events.
pub(super) enum Target {
    Engine(Engine),
    Server(Arc<Client>),
}
