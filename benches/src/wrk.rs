//! Load by `wrk`, a client that needs little of the cores it shares with the server.
//!
//! What it sends lies in a file, ready to go over the wire; scripts read it before the time begins. It has one thread: a
//! second one would take a core from the server.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::corpus::Body;
use crate::inprocess::new_directory;

const BULK: &str = include_str!("wrk/bulk.lua");
const SINGLE: &str = include_str!("wrk/single.lua");
/// How the scripts begin the line that is for us.
const MEASURED: &str = "measured ";
/// How they begin what a server answered that was not 200.
const FAILURE: &str = "\nfailure ";
/// More than any run needs; it ends with its last answer.
const BULK_SECONDS: u32 = 3_600;
/// As many digits of an id are another number each time.
const ID_DIGITS: usize = 16;
/// What comes before the id in an event of the corpus.
const BEFORE_ID: &[u8] = b"\"prediction_id\":\"";

/// The program.
#[derive(Clone, Debug)]
pub(crate) struct Wrk {
    command: PathBuf,
}

/// What came of requests that were sent once each.
#[derive(Debug, Deserialize)]
struct Bulk {
    answers: usize,
    failed: usize,
    broken: usize,
    said: u64,
    seconds: f64,
}

/// What came of requests that were sent for some time. Times are seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Single {
    pub(crate) answers: usize,
    failed: usize,
    broken: usize,
    seconds: f64,
    p50: f64,
    p99: f64,
}

/// Requests in a file; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Requests {
    directory: TempDir,
    count: usize,
}

impl Wrk {
    /// Finds it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn find() -> Result<Self> {
        Self::at("wrk".into())
    }

    fn at(command: PathBuf) -> Result<Self> {
        // It answers with its version and a status of failure.
        let tried = Command::new(&command).arg("--version").output();
        tried.with_context(|| {
            format!(
                "{} cannot be started; the benchmark sends with it (Debian's package `wrk`)",
                command.display()
            )
        })?;
        Ok(Self { command })
    }

    /// Sends every request once, over so many connections. Answers the seconds from the first request to the last answer,
    /// and the sum of what the answers say.
    pub(crate) fn bulk(
        &self,
        url: &str,
        requests: &Requests,
        connections: usize,
    ) -> Result<(f64, u64)> {
        let done: Bulk = self.run(url, BULK, requests, connections, BULK_SECONDS)?;
        ensure!(
            done.answers == requests.count && done.failed + done.broken == 0,
            "not all of {} requests were answered well: {done:?}",
            requests.count
        );
        Ok((done.seconds, done.said))
    }

    /// Sends requests of one event for so many seconds, over so many connections.
    pub(crate) fn single(
        &self,
        url: &str,
        requests: &Requests,
        connections: usize,
        seconds: u32,
    ) -> Result<Single> {
        let done: Single = self.run(url, SINGLE, requests, connections, seconds)?;
        ensure!(
            done.answers > 0 && done.failed + done.broken == 0,
            "not all requests were answered well: {done:?}"
        );
        Ok(done)
    }

    fn run<T: DeserializeOwned>(
        &self,
        url: &str,
        script: &str,
        requests: &Requests,
        connections: usize,
        seconds: u32,
    ) -> Result<T> {
        let directory = requests.directory.path();
        let path = directory.join("script.lua");
        std::fs::write(&path, script)?;
        let done = Command::new(&self.command)
            .args(["--threads", "1", "--timeout", "60s"])
            .args(["--connections", &connections.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .args([path.as_path(), Path::new(url), Path::new("--")])
            .arg(requests.path())
            .output()
            .with_context(|| format!("starting {}", self.command.display()))?;
        let said = String::from_utf8_lossy(&done.stdout);
        let line = said.lines().find_map(|line| line.strip_prefix(MEASURED));
        let line = line.filter(|_| done.status.success()).with_context(|| {
            let errors = String::from_utf8_lossy(&done.stderr);
            format!("wrk measured nothing: {said}{errors}")
        })?;
        let failure = said
            .split_once(FAILURE)
            .map_or("", |(_, answer)| answer.trim());
        ensure!(failure.is_empty(), "the server answered {failure}");
        serde_json::from_str(line).with_context(|| format!("what wrk printed: {line}"))
    }
}

impl Single {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Milliseconds until half of the answers.
    pub(crate) fn p50(&self) -> f64 {
        self.p50 * 1e3
    }

    /// Milliseconds until all but one in a hundred answers.
    pub(crate) fn p99(&self) -> f64 {
        self.p99 * 1e3
    }
}

impl Requests {
    /// Each body in a request of its own.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn bulk(under: &Path, bodies: &[Body]) -> Result<Self> {
        Self::write(under, bodies, |body, out| {
            let head = head("/v1/events", "application/x-ndjson", body.bytes.len());
            writeln!(out, "{}", head.len() + body.bytes.len())?;
            out.write_all(head.as_bytes())?;
            out.write_all(&body.bytes)
        })
    }

    /// Each body, one event of the corpus, in a request of its own whose id will be counted up.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn single(under: &Path, bodies: &[Body]) -> Result<Self> {
        Self::write(under, bodies, |body, out| {
            let (before, behind) = around_id(body).map_err(std::io::Error::other)?;
            let head = head("/v1/events", "application/json", body.bytes.len());
            writeln!(out, "{} {}", head.len() + before.len(), behind.len())?;
            out.write_all(head.as_bytes())?;
            out.write_all(before)?;
            out.write_all(behind)
        })
    }

    fn write(
        under: &Path,
        bodies: &[Body],
        write: impl Fn(&Body, &mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<Self> {
        let requests = Self {
            directory: new_directory(under)?,
            count: bodies.len(),
        };
        let mut out = BufWriter::new(File::create(requests.path())?);
        bodies.iter().try_for_each(|body| write(body, &mut out))?;
        out.flush()?;
        Ok(requests)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("requests")
    }
}

/// The head of a request with a body of so many bytes. Servers on loopback go by any port.
pub(crate) fn head(path: &str, media_type: &str, bytes: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {bytes}\r\n\r\n"
    )
}

/// What comes before and behind the digits of an event's id that are counted up.
fn around_id(body: &Body) -> Result<(&[u8], &[u8]), &'static str> {
    let bytes: &[u8] = &body.bytes;
    let found = bytes
        .windows(BEFORE_ID.len())
        .position(|window| window == BEFORE_ID);
    let start = found.ok_or("an event has no prediction id")? + BEFORE_ID.len();
    let behind = bytes.get(start + ID_DIGITS..);
    Ok((&bytes[..start], behind.ok_or("a prediction id is short")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Naming, ndjson};

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let error = Wrk::at("/no/such/wrk".into()).unwrap_err();
        let said = format!("{error:#}");
        assert!(
            said.contains("/no/such/wrk") && said.contains("package `wrk`"),
            "{said}"
        );
    }

    #[test]
    fn an_id_is_cut_out_and_everything_else_is_sent() {
        let body = &ndjson(Naming::PredictionId, 1, 1, 1)[0];
        let (before, behind) = around_id(body).unwrap();
        assert!(before.ends_with(BEFORE_ID));
        assert_eq!(before.len() + ID_DIGITS + behind.len(), body.bytes.len());
        let with_number = [before, b"0123456789abcdef", behind].concat();
        let event: serde_json::Value = serde_json::from_slice(&with_number).unwrap();
        let id = event["prediction_id"].as_str().unwrap();
        assert!(
            id.len() == 32 && id.starts_with("0123456789abcdef"),
            "{event}"
        );
        let other = &ndjson(Naming::EventId, 1, 1, 1)[0];
        assert!(around_id(other).is_err());
    }

    #[test]
    fn requests_lie_in_a_file_as_they_are_sent() {
        let directory = tempfile::tempdir().unwrap();
        let bodies = ndjson(Naming::PredictionId, 1, 5, 2);
        let requests = Requests::bulk(directory.path(), &bodies).unwrap();
        let file = std::fs::read(requests.path()).unwrap();
        let mut rest = file.as_slice();
        for body in &bodies {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let length: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
            let request = &rest[end + 1..][..length];
            assert!(request.starts_with(b"POST /v1/events HTTP/1.1\r\n"));
            assert!(request.ends_with(&body.bytes));
            rest = &rest[end + 1 + length..];
        }
        assert!(rest.is_empty());
        drop(requests);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
