//! `modelog demo` as a newcomer runs it: the real binary, what it prints, and every command it says to try.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use modelog_engine::LocalStorage;
use modelog_parquet::files::ParquetFile;
use serde_json::Value;
use tempfile::TempDir;

/// Half of the 1,797 images, class by class.
const TEST_IMAGES: u64 = 901;
/// The exit code for what is not available.
const UNAVAILABLE: i32 = 69;

#[test]
fn the_demo_compares_two_trained_versions_and_its_commands_run_as_printed() {
    let home = TempDir::new().unwrap();
    let listen = free_address();
    let first = text(&demo_in(home.path(), &["--listen", &listen]));
    assert_narrow(&first);
    assert!(
        first.contains("Winner: ") || first.contains("No winner: "),
        "{first}"
    );

    let commands = commands(&first);
    let command = |what: &str| find(&commands, what);
    let confusions = shell(home.path(), command("what v2 takes for what"));
    assert!(confusions.contains("true_class"), "{confusions}");
    shell(home.path(), command("all predictions as a table"));
    let csv = std::fs::read_to_string(home.path().join("predictions.csv")).unwrap();
    assert_eq!(csv.lines().count() as u64, 1 + 2 * TEST_IMAGES);
    shell(home.path(), command("every byte of the log"));
    // The line for DuckDB is run where DuckDB is; that what it reads is complete is seen here.
    let history = command("the history is Parquet, in modelog-demo/parquet");
    assert!(history.starts_with("  duckdb -c \""), "{history}");
    let glob = "read_parquet('modelog-demo/parquet/kind=PredictionLogged/*/*.parquet', hive_partitioning = true)";
    assert!(history.contains(glob), "{history}");
    assert_eq!(
        predictions_in(&home.path().join("modelog-demo")),
        2 * TEST_IMAGES
    );

    let mut server = Running::start(home.path(), command("the API again"));
    server.wait_for(&format!("http://{listen}/readyz"));
    let comparison = json(&shell(home.path(), command("which version is better")));
    check_comparison(&comparison, 1);
    let curve = json(&shell(home.path(), command("a learning curve")));
    let losses: Vec<f64> = curve["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["value"].as_f64().unwrap())
        .collect();
    assert!(
        losses.len() >= 10 && losses[losses.len() - 1] < losses[0] / 2.0,
        "{losses:?}"
    );
    let newest = json(&shell(home.path(), command("the newest predictions")));
    let newest = newest["items"].as_array().unwrap();
    assert_eq!(newest.len(), 3);
    for prediction in newest {
        assert_eq!(prediction["input"]["pixels"].as_array().unwrap().len(), 64);
        assert_eq!(
            prediction["output"]["probabilities"]
                .as_array()
                .unwrap()
                .len(),
            10
        );
        assert!(prediction["inference_time_ms"].as_f64().unwrap() > 0.0);
        assert!(prediction["feedback"]["true_class"].is_string());
    }
    let metrics = shell(home.path(), command("what Prometheus sees"));
    assert!(metrics.contains("modelog_log_end_offset"), "{metrics}");

    // The directory is taken while it is served.
    let refused = run(home.path(), &["demo"]);
    assert_eq!(refused.status.code(), Some(UNAVAILABLE), "{refused:?}");
    assert!(refused.stdout.is_empty());
    server.stop();
}

#[test]
fn a_second_demo_adds_to_the_first_and_serves_until_it_is_told_to_stop() {
    let home = TempDir::new().unwrap();
    let first = text(&demo_in(home.path(), &["--data", "it's mine"]));
    for surprise in ["the same weights", "holds events already"] {
        assert!(!first.contains(surprise), "{first}");
    }
    let listen = free_address();
    let mut again = Running(start(
        home.path(),
        &[
            "demo",
            "--data",
            "it's mine",
            "--serve",
            "--listen",
            &listen,
        ],
    ));
    let mut printed = String::new();
    let mut lines = BufReader::new(again.0.stdout.take().unwrap()).lines();
    let serving = format!("Serving http://{listen} until Ctrl-C");
    while !printed.contains(&serving) {
        let line = lines.next().expect("it serves before it ends").unwrap();
        printed.push_str(&line);
        printed.push('\n');
    }
    assert!(printed.contains("holds events already"), "{printed}");
    assert_eq!(printed.matches("the same weights").count(), 2, "{printed}");
    assert_narrow(&printed);
    let commands = commands(&printed);
    assert!(
        commands
            .iter()
            .all(|(what, _)| !what.starts_with("the API again"))
    );
    let compare = find(&commands, "which version is better");
    check_comparison(&json(&shell(home.path(), compare)), 1);
    // The history of both is complete, also while the demo goes on serving.
    let history = find(&commands, "the history is Parquet");
    assert!(history.contains("'it''s mine/parquet/"), "{history}");
    assert_eq!(
        predictions_in(&home.path().join("it's mine")),
        4 * TEST_IMAGES
    );
    // Without its start, it covers the first demo too.
    let (all, _) = compare.split_once("&since=").unwrap();
    check_comparison(&json(&shell(home.path(), &format!("{all}'"))), 2);
    // What works on a data directory works while it is served, too.
    shell(home.path(), find(&commands, "what v2 takes for what"));
    shell(home.path(), find(&commands, "all predictions as a table"));
    shell(home.path(), find(&commands, "every byte of the log"));
    again.stop();
}

#[test]
fn a_demo_that_is_stopped_leaves_a_sound_log() {
    let home = TempDir::new().unwrap();
    let mut demo = Running(start(home.path(), &["demo"]));
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    while !lines
        .next()
        .expect("it trains")
        .unwrap()
        .starts_with("Training")
    {}
    terminate(&demo.0);
    // What it still prints must have somewhere to go.
    lines.for_each(drop);
    let mut complaint = String::new();
    demo.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(1), "{complaint}");
    assert!(complaint.contains("stopped by a signal"), "{complaint}");
    let verified = run(home.path(), &["verify", "--data", "modelog-demo"]);
    assert!(verified.status.success(), "{verified:?}");
    // Whether a run was cut off depends on the moment; in no case does it seem to go on, or get in the way.
    let whole = text(&demo_in(home.path(), &[]));
    assert!(!whole.contains("  running "), "{whole}");
}

#[test]
fn a_version_with_other_weights_is_not_overwritten() {
    let home = TempDir::new().unwrap();
    let version =
        r#"{"type":"ModelVersionCreated","model":"digits","version":"v1","digest":"sha256:00"}"#;
    std::fs::write(home.path().join("other.ndjson"), version).unwrap();
    let imported = run(
        home.path(),
        &["import", "--data", "modelog-demo", "other.ndjson"],
    );
    assert!(imported.status.success(), "{imported:?}");
    let refused = run(home.path(), &["demo"]);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("with other weights"), "{complaint}");
    assert!(complaint.contains("--data"), "{complaint}");
}

/// Both versions answered every image, every label arrived, and they are not the same.
fn check_comparison(comparison: &Value, demos: u64) {
    let mut accuracies = Vec::new();
    for side in ["a", "b"] {
        let side = &comparison[side];
        assert_eq!(side["predictions"], demos * TEST_IMAGES, "{comparison}");
        assert_eq!(side["labelled"], demos * TEST_IMAGES, "{comparison}");
        assert_eq!(side["latency_count"], demos * TEST_IMAGES, "{comparison}");
        let accuracy = side["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.9 && accuracy < 1.0, "{comparison}");
        accuracies.push(accuracy);
    }
    assert_ne!(accuracies[0], accuracies[1]);
}

/// What a line beginning with `#` describes, and the command below it.
fn commands(printed: &str) -> Vec<(String, String)> {
    let (_, commands) = printed
        .split_once("\nTry next\n")
        .expect("it says what to try");
    commands
        .split("\n  # ")
        .skip(1)
        .map(|block| {
            let (what, command) = block.split_once('\n').unwrap();
            let command = command.split("\n\n").next().unwrap();
            (what.to_owned(), command.to_owned())
        })
        .collect()
}

fn find<'a>(commands: &'a [(String, String)], what: &str) -> &'a str {
    let (_, command) = commands
        .iter()
        .find(|(described, _)| described.starts_with(what))
        .unwrap_or_else(|| panic!("no command for {what:?} in {commands:?}"));
    command
}

/// Runs a command as it was printed; it must succeed.
fn shell(home: &Path, command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}\n{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many predictions are in the Parquet files of a data directory.
fn predictions_in(data: &Path) -> u64 {
    let days = std::fs::read_dir(data.join("parquet/kind=PredictionLogged")).unwrap();
    let files = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
    files
        .map(|file| ParquetFile::open(&LocalStorage, &file.unwrap().path()).unwrap())
        .map(|file| file.rows())
        .sum()
}

/// What is meant to be read, not copied, fits an old terminal.
fn assert_narrow(printed: &str) {
    let (prose, _) = printed
        .split_once("\nTry next\n")
        .expect("it says what to try");
    for line in prose.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn demo_in(home: &Path, arguments: &[&str]) -> Output {
    let output = run(home, &[&["demo"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    output
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    start(home, arguments).wait_with_output().unwrap()
}

fn start(home: &Path, arguments: &[&str]) -> Child {
    Command::new(binary())
        .args(arguments)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

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

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(sent.success());
}

/// A process that runs until it is told to stop; killed if the test fails before that.
struct Running(Child);

impl Running {
    fn start(home: &Path, command: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", &format!("exec {}", command.trim())])
            .current_dir(home)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn wait_for(&mut self, url: &str) {
        let answers = || {
            let asked = Command::new("curl")
                .args(["-sf", "-o", "/dev/null", url])
                .status();
            asked.unwrap().success()
        };
        while !answers() {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn stop(mut self) {
        terminate(&self.0);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
