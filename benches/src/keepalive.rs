//! Single events over HTTP, on connections that stay open: 64 at once, and one caller alone.
//!
//! The marks are on the program with its defaults, as users run it; ingest alone says what its stores cost.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use modelog_limits::Events;
use serde::Deserialize;

use crate::corpus::{self, Body, Naming};
use crate::inprocess::new_directory;
use crate::measure::{Figure, Spread, Stopwatch};
use crate::memory::Peaks;
use crate::report::{Mark, Row};
use crate::server::Server;
use crate::singles::LIMIT_BYTES;
use crate::wrk::{Requests, Wrk, head};
use crate::{Options, Size};

const CONNECTIONS: usize = 64;
/// Different events that are sent over and over, each time with another id.
const EVENTS: usize = 10_000;
/// One answer in so many of the caller alone is waited for where `size.singles` are sent by many.
const ALONE_SHARE: usize = 50;

pub(crate) fn measure(
    options: &Options,
    size: Size,
    wrk: &Wrk,
    peaks: &mut Peaks,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("single events over HTTP, 64 connections");
    let bodies = corpus::ndjson(Naming::PredictionId, 10, EVENTS, 1);
    let requests = Requests::single(&options.directory, &bodies)?;
    let mut defaults = Many::default();
    let mut alone = Many::default();
    for _ in 0..size.servers {
        alone.add(options, size, wrk, &requests, peaks, Server::start_alone)?;
        defaults.add(options, size, wrk, &requests, peaks, Server::start)?;
    }
    drop(requests);
    let [rate, slow, half] = defaults.rows("single events over HTTP, 64 connections, wrk");
    let mut rows = vec![
        rate.mark(Mark::AtLeast(40e3)).goal(Mark::AtLeast(60e3)),
        slow.mark(Mark::AtMost(10.0)),
        half,
    ];
    rows.extend(alone.rows("  ingest alone"));
    progress("single events over HTTP, one caller");
    rows.extend(one_caller(options, size, &bodies, peaks)?);
    Ok(rows)
}

/// What was measured of servers with many callers.
#[derive(Default)]
struct Many {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// How a server is started: the program, and its data directory.
type Start = fn(&Path, &Path) -> Result<Server>;

impl Many {
    fn add(
        &mut self,
        options: &Options,
        size: Size,
        wrk: &Wrk,
        requests: &Requests,
        peaks: &mut Peaks,
        start: Start,
    ) -> Result<()> {
        let data = new_directory(&options.directory)?;
        let server = start(&options.program, data.path())?;
        let done = wrk.single(&server.url("/"), requests, CONNECTIONS, size.seconds)?;
        // What was under way when the time was over may be there too.
        let found = events_so_far(&server)?;
        let sent = done.answers..=done.answers + CONNECTIONS;
        ensure!(
            sent.contains(&found),
            "{found} events are there after {} answers",
            done.answers
        );
        self.rates.push(done.rate());
        self.p50.push(done.p50());
        self.p99.push(done.p99());
        peaks.add(server.memory_peak());
        Ok(())
    }

    fn rows(self, what: &str) -> [Row; 3] {
        [
            Row::new(what, "events/s", Figure::of(self.rates)),
            Row::new("  until its answer, p99", "ms", Figure::of(self.p99)),
            Row::new("  p50", "ms", Figure::of(self.p50)),
        ]
    }
}

/// A request that the server answers by itself.
const NOTHING: &str = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How many events a server has taken: an event more is told where it lies.
fn events_so_far(server: &Server) -> Result<usize> {
    #[derive(Deserialize)]
    struct Taken {
        first_offset: usize,
    }
    let bodies = corpus::ndjson(Naming::PredictionId, 11, 1, 1);
    let mut line = Line::to(server)?;
    let answer = line.post(&bodies[0])?;
    let taken: Taken = serde_json::from_slice(answer)
        .with_context(|| format!("the answer {}", String::from_utf8_lossy(answer)))?;
    Ok(taken.first_offset)
}

/// One event after the other; in turns with one that is written and synced, on the same disk.
fn one_caller(
    options: &Options,
    size: Size,
    bodies: &[Body],
    peaks: &mut Peaks,
) -> Result<Vec<Row>> {
    let data = new_directory(&options.directory)?;
    let server = Server::start(&options.program, data.path())?;
    let mut line = Line::to(&server)?;
    let mut file = Events::create(data.path(), LIMIT_BYTES)?;
    let (mut ours, mut limit, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for body in bodies.iter().cycle().take(size.singles / ALONE_SHARE) {
        let watch = Stopwatch::start();
        file.write(&body.bytes)?;
        limit.push(watch.millis());
        let watch = Stopwatch::start();
        line.post(body)?;
        ours.push(watch.millis());
        let watch = Stopwatch::start();
        line.exchange(NOTHING.as_bytes())?;
        empty.push(watch.millis());
    }
    peaks.add(server.memory_peak());
    let (ours, limit, empty) = (Spread::of(ours), Spread::of(limit), Spread::of(empty));
    let at = |spread: &Spread, share| Figure::of(vec![spread.at(share)]);
    let sync = "writing and syncing it";
    Ok(vec![
        Row::new(
            "one caller, one event at a time over HTTP, p50",
            "ms",
            at(&ours, 0.5),
        )
        .beside(sync, at(&limit, 0.5))
        .mark(Mark::AboveLimitAtMost(0.15))
        .goal(Mark::AboveLimitAtMost(0.08)),
        Row::new("  p99", "ms", at(&ours, 0.99)).beside(sync, at(&limit, 0.99)),
        Row::new("  an answer that needs no disk, p50", "ms", at(&empty, 0.5)),
    ])
}

/// A connection that stays open, with as little around it as there can be: what a caller waits for is the server.
pub(crate) struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Line {
    pub(crate) fn to(server: &Server) -> Result<Self> {
        let address = server.address();
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Posts an event; answers the body of the answer.
    pub(crate) fn post(&mut self, body: &Body) -> Result<&[u8]> {
        let mut request = head("/v1/events", "application/json", body.bytes.len()).into_bytes();
        request.extend_from_slice(&body.bytes);
        self.exchange(&request)
    }

    /// Sends a request; answers the body of the answer. Anything but 200 is an error that says what came.
    fn exchange(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request)?;
        self.received.clear();
        let whole = loop {
            if let Some(whole) = Answer::find(&self.received)? {
                break whole;
            }
            let mut some = [0; 4096];
            let read = self.stream.read(&mut some)?;
            ensure!(read > 0, "the server closed the connection");
            self.received.extend_from_slice(&some[..read]);
        };
        let said = &self.received[whole.body..];
        ensure!(
            whole.status == 200,
            "the server answered {}: {}",
            whole.status,
            String::from_utf8_lossy(said)
        );
        Ok(said)
    }
}

/// An answer that has arrived as a whole.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    /// Where its body begins.
    body: usize,
}

impl Answer {
    /// `None` while some of it is missing.
    fn find(received: &[u8]) -> Result<Option<Self>> {
        const END: &[u8] = b"\r\n\r\n";
        let end = received.windows(END.len()).position(|bytes| bytes == END);
        let Some(end) = end else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&received[..end]).context("the head of an answer")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = name
                .eq_ignore_ascii_case("content-length")
                .then_some(value)?;
            value.trim().parse::<usize>().ok()
        });
        let (status, length) = status
            .zip(length)
            .with_context(|| format!("an answer without status or length: {head}"))?;
        let body = end + END.len();
        let whole = received.len() >= body + length;
        Ok(whole.then_some(Self { status, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx: y\r\n\r\nbody";
        for end in 0..answer.len() {
            assert_eq!(Answer::find(&answer[..end]).unwrap(), None, "{end}");
        }
        let found = Answer::find(answer).unwrap().unwrap();
        assert_eq!((found.status, &answer[found.body..]), (200, &b"body"[..]));
        assert!(Answer::find(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
