//! `tail`: follows events through a server, across its restarts; on a directory that nobody serves, what is there.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use modelog_engine::Offset;
use reqwest::Method;

use crate::client::{Client, ServerError, query};
use crate::config::Settings;
use crate::exit::Failed;
use crate::filter::{Filter, Span};
use crate::place::{self, Place, Reach};

/// How long a follower waits for a server to come back, in all.
const PATIENCE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_millis(500);
/// How much of the log is read at a time.
const READ_BYTES: usize = 4 << 20;
/// The longest line of a stream: an event of the largest size, and room.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog tail                                     from now on
  modelog tail --from 0 --kind MetricLogged        everything there is, then what comes
  modelog tail --url http://10.0.0.7:7070 --model resnet50 | jq .predicted_class")]
pub(crate) struct TailArgs {
    /// The offset of the first event; without it, from now on
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    reach: Reach,
}

/// Follows events until stdout is closed.
///
/// # Errors
/// If the server cannot be reached, or refuses.
pub(crate) async fn run(settings: &Settings, args: TailArgs) -> Result<()> {
    match Place::find(&args.reach, settings)? {
        Place::Server(client) => follow(&client, &args).await,
        Place::Directory => print(settings, &args).await,
    }
}

/// What is there. Nobody can follow a log that nobody writes.
async fn print(settings: &Settings, args: &TailArgs) -> Result<()> {
    let nobody = format!(
        "no server runs on {}: start one with `modelog serve`",
        settings.data.display()
    );
    let Some(from) = args.from else {
        return Err(Failed::unavailable(nobody));
    };
    let engine = place::open_existing(settings).await?;
    let mut reader = engine.reader(Offset(from));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    let wanted = args.filter.of_rows(Span::default());
    loop {
        let batches = reader.read(READ_BYTES)?;
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            for row in batch.in_order() {
                if row.offset().0 >= from && wanted.takes(row) {
                    line.clear();
                    row.write_json_line(&mut line);
                    line.push(b'\n');
                    out.write_all(&line)?;
                }
            }
        }
    }
    out.flush()?;
    engine.close().await?;
    eprintln!("this was all: {nobody}");
    Ok(())
}

async fn follow(client: &Client, args: &TailArgs) -> Result<()> {
    let mut parts = vec![("from", args.from.map(|from| from.to_string()))];
    parts.extend(args.filter.query());
    let path = format!("/v1/tail{}", query(&parts));
    let mut events = Events::default();
    let mut waited = Duration::ZERO;
    loop {
        let mut request = client
            .request(Method::GET, &path)
            .header("accept", "text/event-stream");
        if let Some(id) = &events.last_id {
            request = request.header("last-event-id", id);
        }
        let broken = match client.send(request).await {
            Ok(mut response) => loop {
                match response.chunk().await {
                    Ok(Some(bytes)) => {
                        waited = Duration::ZERO;
                        events.take(&bytes)?;
                    }
                    // The server ended in order: it may come back.
                    Ok(None) => break None,
                    Err(error) => break Some(client.unreachable(error)),
                }
            },
            Err(error @ ServerError::Unreachable { .. }) => Some(error),
            Err(error) if error.exit() == crate::exit::Exit::Unavailable => Some(error),
            Err(error) => return Err(error.into()),
        };
        events.forget_unfinished();
        if waited >= PATIENCE {
            match broken {
                Some(error) => return Err(error.into()),
                None => bail!(Failed::new(
                    crate::exit::Exit::Unavailable,
                    format!("{} ended the stream", client.what())
                )),
            }
        }
        if waited.is_zero() {
            tracing::warn!("{} is away; trying again", client.what());
        }
        tokio::time::sleep(DELAY).await;
        waited += DELAY;
    }
}

/// Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), printed as they are complete.
#[derive(Debug, Default)]
struct Events {
    /// Bytes without an end of line so far.
    line: Vec<u8>,
    data: Vec<u8>,
    /// The event is the server's last word, not one of the log.
    problem: bool,
    id: Option<String>,
    /// Of the last event printed.
    last_id: Option<String>,
}

impl Events {
    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.line(line.strip_suffix(b"\r").unwrap_or(&line), &mut out)?;
        }
        if self.line.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(Failed::bad_data("the server sends a line without end"));
        }
        self.line.extend_from_slice(bytes);
        out.flush()?;
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut impl Write) -> Result<()> {
        if line.is_empty() {
            if self.problem {
                let said = String::from_utf8_lossy(&self.data);
                return Err(Failed::bad_data(format!("the server cannot go on: {said}")));
            }
            if !self.data.is_empty() {
                out.write_all(&self.data)?;
                out.write_all(b"\n")?;
                self.data.clear();
            }
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            return Ok(());
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                // An event is one line of JSON; more lines of data would be joined by line feeds.
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.problem = value == b"problem",
            b"id" => self.id = String::from_utf8(value.to_vec()).ok(),
            _ => {}
        }
        Ok(())
    }

    /// An event cut off by a broken connection comes again.
    fn forget_unfinished(&mut self) {
        self.line.clear();
        self.data.clear();
        self.problem = false;
        self.id = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(events: &mut Events, text: &str) -> String {
        let mut out = Vec::new();
        for line in text.lines() {
            events.line(line.as_bytes(), &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_complete_events_are_printed_and_remembered() {
        let mut events = Events::default();
        let printed = lines(
            &mut events,
            ": heartbeat\n\nid: 4\ndata: {\"a\":1}\n\nid: 5\ndata: {",
        );
        assert_eq!(printed, "{\"a\":1}\n");
        assert_eq!(events.last_id.as_deref(), Some("4"));
        events.forget_unfinished();
        let printed = lines(&mut events, "id:5\ndata:{\"a\":2}\n\n");
        assert_eq!(printed, "{\"a\":2}\n");
        assert_eq!(events.last_id.as_deref(), Some("5"));
    }
}
