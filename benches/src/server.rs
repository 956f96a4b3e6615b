//! The program as users run it: `modelog serve`, in a process of its own, with its defaults; or ingest alone.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::memory::{Process, Watch};

const SCHEME: &str = "http://";

/// A server that runs; it is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    url: String,
    memory: Watch,
}

impl Server {
    /// Starts the program on a data directory and a free port, with its defaults, and waits until it listens.
    pub(crate) fn start(program: &Path, data: &Path) -> Result<Self> {
        let mut command = command(program, data, "serve");
        command.args(["--listen", "127.0.0.1:0"]);
        Self::spawn(program, &mut command)
    }

    /// Starts the program with a configuration file too.
    pub(crate) fn start_with(program: &Path, data: &Path, config: &Path) -> Result<Self> {
        let mut command = command(program, data, "serve");
        command
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(config);
        Self::spawn(program, &mut command)
    }

    /// Starts a server that takes events, with nothing that follows them.
    pub(crate) fn start_alone(program: &Path, data: &Path) -> Result<Self> {
        let mut command = command(program, data, "bench");
        command.arg("--serve-ingest-alone");
        Self::spawn(program, &mut command)
    }

    fn spawn(program: &Path, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut server = Self {
            memory: Watch::start(Process::of(child.id())),
            child,
            url: String::new(),
        };
        let stderr = server.child.stderr.take();
        server.url = wait_for_url(stderr.expect("stderr is piped"))?;
        Ok(server)
    }

    /// Where a path of it is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches(SCHEME)
    }

    /// The most anonymous memory it had so far, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory.peak()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command on a data directory.
pub(crate) fn command(program: &Path, data: &Path, name: &str) -> Command {
    let mut command = plain_command(program);
    command.arg(name).arg("--data").arg(data);
    command
}

/// The program, with its defaults.
pub(crate) fn plain_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    // The defaults are measured, not what the caller's surroundings set.
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("MODELOG_")) {
        command.env_remove(name);
    }
    command
}

/// Reads what the program says until it says where it listens; what it says later is read and dropped, so that it never
/// waits for us.
fn wait_for_url(stderr: ChildStderr) -> Result<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    let url = loop {
        let Some(line) = lines.next() else {
            bail!("the server did not start: {}", said.join("\n"));
        };
        let line = line.context("reading what the server says")?;
        if let Some(url) = url_in(&line) {
            break url;
        }
        said.push(line);
    };
    std::thread::spawn(move || lines.for_each(drop));
    Ok(url)
}

fn url_in(line: &str) -> Option<String> {
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with(SCHEME))?;
    Some(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_found_in_what_is_said() {
        let said = "modelog 0.1.0 serves http://127.0.0.1:4711 with data in /tmp/x";
        assert_eq!(url_in(said).as_deref(), Some("http://127.0.0.1:4711"));
        assert_eq!(url_in("no address"), None);
    }

    #[test]
    fn a_program_that_does_not_serve_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let error = Server::start(Path::new("/bin/false"), directory.path()).unwrap_err();
        assert!(error.to_string().contains("did not start"), "{error}");
        let error = Server::start(Path::new("/no/such/program"), directory.path()).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
