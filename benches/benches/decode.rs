//! Bytes into batches, on one thread.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelog_benches::corpus::{self, Naming};
use modelog_formats::{
    Format, Message, MessageFormat, MessageReader, ModelTemplate, Options, Outcome, Place, decode,
};

const EVENTS: usize = 2_000;

fn benches(criterion: &mut Criterion) {
    let json = corpus::ndjson(Naming::PredictionId, 1, EVENTS, EVENTS);
    let arrow = corpus::arrow(1, EVENTS, EVENTS).expect("the corpus can be written");
    let options = Options::default();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, body, format) in [
        ("ndjson", &json[0], Format::Ndjson),
        ("arrow", &arrow[0], Format::Arrow),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let decoded = decode(black_box(&body.bytes), format, &options);
                decoded.expect("the corpus can be read")
            });
        });
    }
    let lines: Vec<&[u8]> = json[0].bytes.split(|byte| *byte == b'\n').collect();
    group.bench_function("messages", |bencher| {
        bencher.iter(|| {
            let template = ModelTemplate::standard();
            let mut reader = MessageReader::new(MessageFormat::Auto, &options, template);
            for line in black_box(&lines) {
                let message = Message {
                    place: Place {
                        topic: "t",
                        partition: 0,
                        position: 0,
                    },
                    value: Some(line),
                    key: None,
                    headers: &[],
                };
                assert!(matches!(reader.read(&message), Outcome::Events(_)));
            }
            reader.finish()
        });
    });
    group.bench_function("limit: serde_json", |bencher| {
        bencher
            .iter(|| modelog_limits::parse(black_box(&json), 1).expect("the corpus can be read"));
    });
    group.finish();
}

criterion_group!(decoding, benches);
criterion_main!(decoding);
