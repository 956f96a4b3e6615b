//! PostgreSQL and MariaDB keep the contract of every store that answers questions, on real servers.
//!
//! These tests need `postgresql` and `mariadb-server`; `tests/run` runs them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use modelog_sql::{SqlConfig, SqlStore};
use modelog_tests::read_store::{Factory, Subject, contract, random_histories, rebuilds_aside};

/// A server of its own, on a free port.
struct Server {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts what `command` says for a port and a directory, until it is `ready`.
    fn start(
        directory: tempfile::TempDir,
        command: impl Fn(u16, &Path) -> Command,
        ready: impl Fn(u16) -> bool,
    ) -> Self {
        // Somebody else may take the port before the server does: then it ends, and another one is tried.
        for _ in 0..10 {
            let probe = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = probe.local_addr().unwrap().port();
            drop(probe);
            let log = fs::File::create(directory.path().join("server.log")).unwrap();
            let mut process = command(port, directory.path())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            for _ in 0..3000 {
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                if ready(port) {
                    return Self {
                        process,
                        port,
                        directory,
                    };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        let log = fs::read_to_string(directory.path().join("server.log"));
        panic!("the server does not start: {}", log.unwrap_or_default());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command as a user who is not root: servers refuse to be.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(program);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// A directory that user may write to.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    if is_root() {
        run(Command::new("chown")
            .arg("nobody:nogroup")
            .arg(directory.path()));
    }
    directory
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
}

/// Where Debian puts the programs of the newest PostgreSQL.
fn postgres_programs() -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql is there");
    let newest = versions
        .map(|version| version.unwrap().path())
        .max_by_key(|path| {
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.parse::<u32>().ok());
            number.unwrap_or_default()
        });
    newest.unwrap().join("bin")
}

fn postgres() -> Server {
    let (programs, directory) = (postgres_programs(), directory());
    let data = directory.path().join("data");
    run(unprivileged(&programs.join("initdb"))
        .args([
            "--auth=trust",
            "--username=modelog",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ])
        .arg(&data)
        .current_dir("/"));
    let ready = |port: u16| {
        let mut asked = Command::new(programs.join("pg_isready"));
        asked.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        asked.status().unwrap().success()
    };
    let command = |port: u16, directory: &Path| {
        let mut command = unprivileged(&programs.join("postgres"));
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory)
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .current_dir("/");
        command
    };
    Server::start(directory, command, ready)
}

fn mariadb() -> Server {
    let directory = directory();
    let data = directory.path().join("data");
    run(unprivileged(Path::new("mariadb-install-db"))
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        // Several at a time would take each other's temporary tables.
        .arg(format!("--tmpdir={}", directory.path().display()))
        .current_dir("/"));
    let ready = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let command = |port: u16, directory: &Path| {
        let mut command = unprivileged(Path::new("/usr/sbin/mariadbd"));
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", directory.display()))
            .arg(format!("--socket={}", directory.join("socket").display()))
            .args(["--bind-address=127.0.0.1", &format!("--port={port}")])
            .args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-flush-method=nosync",
            ])
            .current_dir("/");
        command
    };
    Server::start(directory, command, ready)
}

/// Stores on one server, each in a place of its own.
struct DatabaseFactory {
    server: Server,
    made: AtomicUsize,
    url: fn(&Server, usize) -> String,
    change: fn(&mut SqlConfig),
}

impl DatabaseFactory {
    fn postgres() -> Self {
        Self {
            server: postgres(),
            made: AtomicUsize::new(0),
            url: |server, number| {
                format!(
                    "postgres://modelog@127.0.0.1:{}/postgres?schema=t{number}",
                    server.port
                )
            },
            change: |_| (),
        }
    }

    /// With `COPY` for whatever is written. Through a file: small packets of a network are held back.
    fn copying_postgres() -> Self {
        Self {
            url: |server, number| {
                format!(
                    "postgres://modelog@localhost:{}/postgres?schema=t{number}&host={}",
                    server.port,
                    server.directory.path().display()
                )
            },
            change: |config| config.copy_bytes_least = 0,
            ..Self::postgres()
        }
    }

    fn mariadb() -> Self {
        Self {
            server: mariadb(),
            made: AtomicUsize::new(0),
            url: |server, number| {
                run(Command::new("mariadb")
                    .args(["--no-defaults", "--user=root"])
                    .arg(format!(
                        "--socket={}",
                        server.directory.path().join("socket").display()
                    ))
                    .arg(format!("--execute=CREATE DATABASE t{number}")));
                format!("mysql://root@127.0.0.1:{}/t{number}", server.port)
            },
            change: |_| (),
        }
    }
}

#[async_trait]
impl Factory for DatabaseFactory {
    async fn subject(&self) -> Subject {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut config = SqlConfig {
            url: (self.url)(&self.server, number),
            ..SqlConfig::default()
        };
        (self.change)(&mut config);
        let store = SqlStore::new(config).unwrap();
        Subject {
            projection: Box::new(store.projection()),
            reads: Arc::new(store.reads()),
            guard: Box::new(store),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn postgres_keeps_the_contract() {
    contract(Arc::new(DatabaseFactory::postgres())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn postgres_keeps_the_contract_where_all_is_copied() {
    contract(Arc::new(DatabaseFactory::copying_postgres())).await;
}

#[test]
#[ignore = "needs postgresql"]
fn postgres_answers_what_a_plain_fold_answers_where_all_is_copied() {
    random_histories(Arc::new(DatabaseFactory::copying_postgres()), 48);
}

#[test]
#[ignore = "needs postgresql"]
fn postgres_answers_what_a_plain_fold_answers() {
    random_histories(Arc::new(DatabaseFactory::postgres()), 48);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadb-server"]
async fn mariadb_keeps_the_contract() {
    contract(Arc::new(DatabaseFactory::mariadb())).await;
}

#[test]
#[ignore = "needs mariadb-server"]
fn mariadb_answers_what_a_plain_fold_answers() {
    random_histories(Arc::new(DatabaseFactory::mariadb()), 48);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn postgres_is_built_again_aside() {
    rebuilds_aside(&DatabaseFactory::postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadb-server"]
async fn mariadb_is_built_again_aside() {
    rebuilds_aside(&DatabaseFactory::mariadb()).await;
}
