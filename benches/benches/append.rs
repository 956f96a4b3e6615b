//! A batch into the log, durable, one call after the other: how long a caller waits.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use modelog_benches::corpus::{self, Naming};
use modelog_engine::{AppendOptions, Engine};
use modelog_formats::{Format, Options, decode};

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for events in [1, 100, 2_000] {
        let directory = tempfile::tempdir().expect("there is a disk");
        let engine = Engine::open(directory.path()).expect("an empty directory is no log yet");
        // Ids that were seen before would be dropped, so every call has a seed of its own.
        let mut seed = 0;
        let mut batch = || {
            seed += 1;
            let body = corpus::ndjson(Naming::EventId, seed, events, events).swap_remove(0);
            decode(&body.bytes, Format::Ndjson, &Options::default())
                .expect("the corpus can be read")
                .batch
        };
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(format!("{events} events"), |bencher| {
            bencher.iter_batched(
                &mut batch,
                |batch| engine.append_blocking(batch, AppendOptions::default()),
                BatchSize::PerIteration,
            );
        });
        engine.close_blocking().expect("the log can be closed");
    }
    group.finish();
}

criterion_group!(appending, benches);
criterion_main!(appending);
