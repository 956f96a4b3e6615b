//! What is fuzzed: a function for each decoder that takes any bytes, and panics where a promise is broken.
//!
//! ```text
//! libFuzzer ─▶ fuzz_targets/NAME ───┐   any bytes    ┌─▶ as they are ──────────┐
//!                                   ├─▶ Target::run ─┤                         ├─▶ decoder ─▶ what was accepted is checked
//! corpus ─▶ tests/tests/fuzz: mutate┘                └─▶ checksums mended ─────┘
//! ```
//!
//! The same functions run in two ways: guided by coverage, for as long as one likes, and over a bounded number of
//! seeded mutations in the project's tests, on any toolchain. So nothing in here is unstable Rust, and nothing depends on
//! the time or on chance.
//!
//! # Promises
//! P1. No bytes make a decoder panic, or loop.
//! P2. What a decoder allocates at its peak is bounded by the bytes it is given: each target states how.
//! P3. Nothing is accepted that would not be written, and what is accepted means what another reader says it means.
//!
//! # Why checksums are mended
//! Random bytes do not get past a checksum, and neither does damage; but a decoder must not lean on that alone. A
//! target that has checksums runs on the bytes as they are, and on a copy in which every checksum is right.

mod formats;
mod json;
mod log;
pub mod memory;
mod mend;
mod message;
pub mod mutate;
mod parquet;
mod seeds;

/// A decoder, and what is known of its input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the libFuzzer binary, of the test, and of the directory in `corpus/`.
    pub name: &'static str,
    /// How inputs are mutated without a fuzzer.
    pub shape: mutate::Shape,
    /// How many mutated inputs take about a second.
    pub per_second: u32,
    /// Answers whether the bytes were accepted.
    run: fn(&[u8]) -> bool,
    mend: Option<fn(Vec<u8>) -> Vec<u8>>,
    /// Sound inputs as the present code writes them.
    seeds: fn() -> Vec<Vec<u8>>,
}

/// Every decoder of bytes that come from outside the process.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "frame",
        shape: mutate::Shape::Bytes,
        per_second: 50_000,
        run: log::frame,
        mend: Some(mend::frame),
        seeds: seeds::frames,
    },
    Target {
        name: "segment",
        shape: mutate::Shape::Bytes,
        per_second: 2500,
        run: log::segment,
        mend: Some(mend::segment),
        seeds: seeds::segments,
    },
    Target {
        name: "manifest",
        shape: mutate::Shape::Bytes,
        per_second: 10_000,
        run: log::manifest,
        mend: Some(mend::manifest),
        seeds: seeds::manifests,
    },
    Target {
        name: "snapshot",
        shape: mutate::Shape::Bytes,
        per_second: 10_000,
        run: log::snapshot,
        mend: Some(mend::snapshot),
        seeds: seeds::snapshots,
    },
    Target {
        name: "json",
        shape: mutate::Shape::Text,
        per_second: 50_000,
        run: formats::json,
        mend: None,
        seeds: seeds::json,
    },
    Target {
        name: "ndjson",
        shape: mutate::Shape::Text,
        per_second: 50_000,
        run: formats::ndjson,
        mend: None,
        seeds: seeds::ndjson,
    },
    Target {
        name: "cloud_event",
        shape: mutate::Shape::Text,
        per_second: 50_000,
        run: formats::cloud_event,
        mend: None,
        seeds: seeds::cloud_event,
    },
    Target {
        name: "cloud_event_batch",
        shape: mutate::Shape::Text,
        per_second: 50_000,
        run: formats::cloud_event_batch,
        mend: None,
        seeds: seeds::cloud_event_batch,
    },
    Target {
        name: "arrow",
        shape: mutate::Shape::Bytes,
        per_second: 25_000,
        run: formats::arrow,
        mend: None,
        seeds: seeds::none,
    },
    Target {
        name: "message",
        shape: mutate::Shape::Text,
        per_second: 10_000,
        run: message::message,
        mend: None,
        seeds: seeds::messages,
    },
    Target {
        name: "parquet_manifest",
        shape: mutate::Shape::Text,
        per_second: 25_000,
        run: parquet::manifest,
        mend: Some(mend::parquet_manifest),
        seeds: seeds::parquet_manifests,
    },
];

impl Target {
    /// The target of a name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        let found = TARGETS.iter().find(|target| target.name == name);
        found.expect("a target has this name")
    }

    /// Gives bytes to the decoder: as they are, and with their checksums mended. Answers whether either was accepted.
    ///
    /// # Panics
    /// Where a promise is broken.
    pub fn run(&self, bytes: &[u8]) -> bool {
        let accepted = (self.run)(bytes);
        let Some(mend) = self.mend else {
            return accepted;
        };
        let mended = mend(bytes.to_vec());
        accepted | (mended != bytes && (self.run)(&mended))
    }

    /// Sound inputs as the present code writes them.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }
}

/// Checks that a decoder's peak of allocation, `(factor, constant)`, is within a factor of its input and a constant.
fn assert_within(peak: usize, input: usize, (factor, constant): (usize, usize)) {
    assert!(
        peak <= factor * input + constant,
        "P2: {peak} bytes allocated for {input}"
    );
}
