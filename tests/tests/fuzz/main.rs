//! The fuzz targets of `fuzz/`, run without a fuzzer: over the kept corpus, the seeds that the present code makes, and a
//! bounded number of mutations of both, which follow from a seed.
//!
//! `MODELOG_SEED=n` makes other inputs, `MODELOG_TESTS_FULL=1` more of them. Where a target fails, its input is kept and
//! named; put into `fuzz/corpus/TARGET/`, it is tried first from then on.

// It is a library of its own for libFuzzer, where these items are public.
#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use fuzz::Target;
use fuzz::mutate::{Random, mutate};

/// How many seconds of mutated inputs each target gets, about, in an optimised build.
const SECONDS: u32 = 4;
/// The same for the long versions.
const SECONDS_FULL: u32 = 300;
/// A decoder that works on one input for so long does not end.
const HANGS_AFTER: Duration = Duration::from_secs(180);

fn seed() -> u64 {
    let given = std::env::var("MODELOG_SEED").ok();
    given.map_or(1, |seed| seed.parse().expect("MODELOG_SEED is a number"))
}

fn inputs(target: &Target) -> u32 {
    let full = std::env::var_os("MODELOG_TESTS_FULL").is_some();
    let seconds = if full { SECONDS_FULL } else { SECONDS };
    // A build that is not optimised is slower by far.
    let slower = if cfg!(debug_assertions) { 20 } else { 1 };
    target.per_second * seconds / slower
}

/// The kept inputs of a target, by name.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target.name);
    let files = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

/// Gives an input to a target; keeps and names it if it fails.
fn run(target: &Target, input: &[u8], what: &str) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target.run(input))) else {
        return;
    };
    let kept = std::env::temp_dir().join(format!("modelog-fuzz-{}-{what}", target.name));
    let kept = std::fs::write(&kept, input).map(|()| kept.display().to_string());
    eprintln!(
        "{}: input {what} fails (MODELOG_SEED={}); it is kept in {kept:?}",
        target.name,
        seed()
    );
    resume_unwind(panic);
}

/// Ends the process, which nothing else can, if a decoder does not come back.
fn watch(name: &'static str, inputs: mpsc::Receiver<String>) {
    let mut input = String::from("the first");
    loop {
        match inputs.recv_timeout(HANGS_AFTER) {
            Ok(next) => input = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!(
                    "{name}: does not end; input {input} or one soon after it (MODELOG_SEED={})",
                    seed()
                );
                std::process::abort();
            }
        }
    }
}

fn fuzz(name: &'static str) {
    let target = Target::named(name);
    let mut known = corpus(target);
    known.extend(target.seeds());
    let (progress, inputs_begun) = mpsc::channel();
    let watcher = std::thread::spawn(move || watch(name, inputs_begun));
    let begin = |what: &str| progress.send(what.to_owned()).expect("the watcher lives");
    for (number, input) in known.iter().enumerate() {
        let what = format!("known-{number}");
        begin(&what);
        run(target, input, &what);
    }
    let mut random = Random::new(seed());
    for number in 0..inputs(target) {
        let mut input = known[random.below(known.len())].clone();
        let other = &known[random.below(known.len())];
        mutate(&mut input, other, target.shape, &mut random);
        let what = format!("mutated-{number}");
        if number % 16 == 0 {
            begin(&what);
        }
        run(target, &input, &what);
    }
    drop(progress);
    watcher.join().expect("the watcher has ended");
}

#[test]
fn frames() {
    fuzz("frame");
}

#[test]
fn segments() {
    fuzz("segment");
}

#[test]
fn manifests() {
    fuzz("manifest");
}

#[test]
fn snapshots() {
    fuzz("snapshot");
}

#[test]
fn flat_json() {
    fuzz("json");
}

#[test]
fn ndjson() {
    fuzz("ndjson");
}

#[test]
fn cloud_events() {
    fuzz("cloud_event");
}

#[test]
fn batches_of_cloud_events() {
    fuzz("cloud_event_batch");
}

#[test]
fn messages() {
    fuzz("message");
}

#[test]
fn arrow_streams() {
    fuzz("arrow");
}

#[test]
fn parquet_manifests() {
    fuzz("parquet_manifest");
}

/// Writes a seed where a fuzzer that is guided by coverage can start from it, if that is asked for.
fn write_out(target: &Target, number: usize, seed: &[u8]) {
    if let Some(directory) = std::env::var_os("MODELOG_FUZZ_SEEDS") {
        let directory = Path::new(&directory).join(target.name);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(format!("seed-{number}")), seed).expect("a file");
    }
}

/// A target that refuses everything would find nothing.
#[test]
fn sound_inputs_are_accepted() {
    for target in fuzz::TARGETS {
        let seeds = target.seeds();
        for (number, seed) in seeds.iter().enumerate() {
            assert!(target.run(seed), "{}: seed {number}", target.name);
            write_out(&target, number, seed);
        }
        let sound = corpus(&target)
            .iter()
            .filter(|input| target.run(input))
            .count();
        assert!(
            sound + seeds.len() > 1,
            "{}: nothing to start from",
            target.name
        );
    }
}

/// Damage is not accepted before its checksum is mended, and is looked at afterwards.
#[test]
fn checksums_are_mended() {
    for name in [
        "frame",
        "segment",
        "manifest",
        "snapshot",
        "parquet_manifest",
    ] {
        let target = Target::named(name);
        let sound = target.seeds().swap_remove(0);
        let mut random = Random::new(1);
        let accepted = (0..300).filter(|_| {
            let mut input = sound.clone();
            mutate(&mut input, &[], target.shape, &mut random);
            target.run(&input)
        });
        assert!(accepted.count() > 3, "{name}: mended inputs are refused");
    }
}
