//! The command line as people and scripts meet it: the real binary, its output, its exit codes.

mod backup;
mod compact;
mod config;
mod dead_letters;
mod export;
mod files;
mod history;
mod import;
mod restore;
mod serve;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const USAGE: i32 = 2;
const BAD_DATA: i32 = 65;
const UNAVAILABLE: i32 = 69;
const IO: i32 = 74;
const CONFIG: i32 = 78;

/// How long between two looks at something that must come.
const LOOK: Duration = Duration::from_millis(10);

/// The binary under test: `MODELOG_BIN`, else the one beside this test.
fn binary() -> PathBuf {
    let beside = || {
        let this = std::env::current_exe().unwrap();
        this.parent().unwrap().with_file_name("modelog")
    };
    let path = std::env::var_os("MODELOG_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        path.exists(),
        "{} is not there: build it first (cargo build)",
        path.display()
    );
    path
}

/// What a command did.
#[derive(Debug)]
struct Done {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Done {
    /// It must have succeeded.
    #[track_caller]
    fn ok(self) -> Self {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// It must have failed like this, saying each of these.
    #[track_caller]
    fn fails(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        for said in said {
            assert!(self.err.contains(said), "{said:?} is not in {self:?}");
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A directory to work in, which is the working directory of every command.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Only what a test says counts.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MODELOG_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// The same with something on stdin.
    fn feed(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A command that refuses reads no further.
            scope.spawn(move || drop(stdin.write_all(input)));
            finish(child)
        })
    }

    /// Every event of the log in `modelog-data`, as exported.
    fn events(&self) -> Vec<Value> {
        parse_lines(&self.run(&["export"]).ok().out)
    }
}

fn finish(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    Done {
        status: output.status,
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn parse_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Events that differ from each other, `bytes` long in all, without ids.
fn corpus(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 300);
    let mut number = 0;
    while text.len() < bytes {
        text.push_str(&format!(
            "{{\"type\":\"PredictionLogged\",\"model\":\"resnet50\",\"version\":\"v{}\",\"prediction_id\":\"p-{number}\",\
             \"input\":{{\"image\":\"{number:032x}.jpg\"}},\"output\":{{\"class\":{}}},\"confidence\":0.5,\
             \"inference_time_ms\":{}.25}}\n",
            number % 3,
            number % 1000,
            number % 40
        ));
        number += 1;
    }
    text
}

/// A server on `modelog-data`, killed if the test fails.
struct Server {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Server {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let log = home.path("server.log");
        let mut command =
            home.command(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        command.stderr(File::create(&log).unwrap());
        let mut server = Self {
            child: command.spawn().unwrap(),
            url: String::new(),
            log,
        };
        loop {
            let said = server.said();
            if let Some(at) = said.find("http://127.0.0.1:") {
                let ends = |letter: char| letter.is_whitespace() || letter == '"';
                server.url = said[at..].split(ends).next().unwrap().to_owned();
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {said}");
            std::thread::sleep(LOOK);
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status and body of the answer to a request; events go as NDJSON. None if the server is gone.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).ok()?;
        let length = body.len();
        // By HTTP/1.0 the answer comes in one piece, and its end is that of the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).ok()?;
        socket.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The JSON answer to a request that must succeed.
    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "").unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn signal(&self, signal: &str) {
        send(&self.child, signal);
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Ends it in order.
    fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait(), Some(0), "{}", self.said());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status();
    assert!(sent.unwrap().success());
}

/// The cells of the last row of a table.
fn last_line(table: &str) -> Vec<&str> {
    let last = table.lines().last().unwrap_or_default();
    last.split_whitespace().collect()
}

/// The paths, below a directory, of all files in it; sorted.
fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(directory).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn sorted_names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn help_version_and_completions() {
    let home = Home::new();
    let version = home.run(&["--version"]).ok().out;
    assert_eq!(
        version.trim(),
        concat!("modelog ", env!("CARGO_PKG_VERSION"))
    );
    let help = home.run(&["--help"]).ok().out;
    for command in [
        "demo",
        "serve",
        "import",
        "tail",
        "export",
        "verify",
        "rebuild",
        "projections",
        "dead-letters",
        "produce",
        "compact",
        "backup",
        "restore",
        "log",
        "config",
        "completions",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
        home.run(&[command, "--help"]).ok();
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completions", shell]).ok().out;
        assert!(
            script.contains("rebuild") && script.contains("on-error"),
            "{shell}"
        );
    }
    let script = home.run(&["completions", "bash"]).ok().out;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());
    assert_eq!(
        sorted_names(home.0.path()),
        [""; 0],
        "asking leaves nothing behind"
    );
}

#[test]
fn wrong_usage_is_told_and_does_nothing() {
    let home = Home::new();
    for (arguments, said) in [
        (&["serv"][..], "serve"),
        (&["import"], "FILE"),
        (&["import", "-", "-"], "stdin can be read only once"),
        (&["import", "--on-error", "ignore", "x"], "skip"),
        (&["export", "--format", "csv"], "--kind"),
        (&["export", "--kind", "PredictionLoged"], "PredictionLoged"),
        (&["export", "--since", "yesterday"], "2026-11-22"),
        (&["tail", "--from", "now"], "--from"),
        (
            &["tail", "--url", "http://127.0.0.1:1", "--data", "x"],
            "--data",
        ),
        (&["export", "--token-file", "x"], "--url"),
        (&["export", "--url", "https://127.0.0.1:1"], "speaks no TLS"),
        (&["export", "--url", "127.0.0.1:7070"], "--url"),
        (&["completions", "tcsh"], "bash"),
        (&["verify", "--format", "yaml"], "ndjson"),
        (&["backup"], "DEST"),
        (&["backup", "--keep", "0", "b"], "--keep"),
        (&["restore"], "SRC"),
        (&["restore", "b", "--until", "tomorrow"], "--until"),
    ] {
        home.run(arguments).fails(USAGE, &[said]);
    }
    assert_eq!(sorted_names(home.0.path()), [""; 0]);
}

#[test]
fn a_directory_without_a_log_is_not_made_into_one() {
    let home = Home::new();
    for arguments in [
        &["verify"][..],
        &["export"],
        &["rebuild", "sql"],
        &["projections"],
        &["compact"],
        &["backup", "b"],
        &["log", "inspect"],
        &["log", "inspect", "0"],
        &["tail", "--from", "0"],
    ] {
        home.run(arguments)
            .fails(IO, &["there is no log in modelog-data"]);
    }
    home.run(&["tail"]).fails(UNAVAILABLE, &["modelog serve"]);
    home.run(&["import", "missing.ndjson"])
        .fails(IO, &["missing.ndjson cannot be read", "No such file"]);
    home.run(&["import", "."]).fails(IO, &["directory"]);
    assert_eq!(sorted_names(home.0.path()), [""; 0]);
}

#[test]
fn a_server_that_is_not_there() {
    let home = Home::new();
    home.write("events.ndjson", corpus(1000));
    // Port 1 refuses.
    let url = "http://127.0.0.1:1";
    home.run(&["export", "--url", url]).fails(
        UNAVAILABLE,
        &["the server at http://127.0.0.1:1 cannot be reached"],
    );
    home.run(&["projections", "--url", url])
        .fails(UNAVAILABLE, &[url]);
    home.run(&["import", "--url", url, "events.ndjson"])
        .fails(UNAVAILABLE, &[url]);
    home.run(&[
        "import",
        "--url",
        url,
        "--token-file",
        "none",
        "events.ndjson",
    ])
    .fails(CONFIG, &["none cannot be read"]);
}
