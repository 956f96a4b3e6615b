//! What reading costs in memory, counted by the allocator itself: nothing per event, and never more than a constant
//! times the body and the limit of a batch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{Field, Schema};
use modelog_engine::event::Kind;
use modelog_formats::{
    Format, Limits, Message, MessageFormat, MessageReader, ModelTemplate, OnError, Options,
    Outcome, Place, decode, decode_as,
};

struct Counting;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    allocations: usize,
    bytes: usize,
    peak: usize,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { allocations: 0, bytes: 0, peak: 0 }) };
}

fn note(taken: usize, given_back: usize) {
    // A thread that is ending has no count any more.
    let _ = COUNT.try_with(|cell| {
        let mut count = cell.get();
        count.allocations += usize::from(taken > 0);
        count.bytes = (count.bytes + taken).saturating_sub(given_back);
        count.peak = count.peak.max(count.bytes);
        cell.set(count);
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call allocates.
fn counted<T>(call: impl FnOnce() -> T) -> (T, Count) {
    COUNT.set(Count::default());
    let result = call();
    (result, COUNT.get())
}

fn line(number: usize) -> String {
    format!(
        "{{\"type\":\"PredictionLogged\",\"id\":\"{number:032x}\",\"model\":\"resnet50\",\"version\":\"v1\",\"input\":{{\"image\":\"{number}.jpg\",\"size\":[1,2]}},\"output\":[0.1,{number}],\"predicted_class\":\"caf\\u00e9\",\"confidence\":0.5,\"more\":{number}}}\n"
    )
}

/// The events of both formats of text, flat and in envelopes.
fn bodies(events: usize) -> Vec<(Format, String)> {
    let lines: String = (0..events).map(line).collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    let envelopes: Vec<_> = (0..events)
        .map(|number| format!("{{\"specversion\":\"1.0\",\"type\":\"MetricLogged\",\"source\":\"/s\",\"id\":\"{number}\",\"traceparent\":\"x\",\"data\":{{\"run\":\"r\",\"name\":\"loss\",\"value\":{number}}}}}"))
        .collect();
    vec![
        (Format::Ndjson, lines),
        (Format::Json, array),
        (
            Format::CloudEventBatch,
            format!("[{}]", envelopes.join(",")),
        ),
    ]
}

#[test]
fn nothing_is_allocated_per_event() {
    let options = Options::default();
    let mut costs = Vec::new();
    for events in [1000, 8000] {
        for (format, body) in bodies(events) {
            let (decoded, count) = counted(|| decode(body.as_bytes(), format, &options));
            assert_eq!(decoded.expect("sound").batch.rows(), events as u32);
            costs.push((format, count.allocations));
        }
    }
    let (few, many) = costs.split_at(3);
    for ((format, few), (_, many)) in few.iter().zip(many) {
        // Eight times the events double each column three times: a dozen columns, with offsets, places and identities.
        assert!(
            many - few <= 3 * 30,
            "{format:?}: {few} for 1000 events, {many} for 8000"
        );
        assert!(*few < 500, "{format:?}: {few}");
    }
}

#[test]
fn sound_text_takes_a_few_times_its_size() {
    for (format, body) in bodies(8000) {
        let (_, count) = counted(|| decode(body.as_bytes(), format, &Options::default()));
        assert!(
            count.peak < 4 * body.len(),
            "{format:?}: {} for {} bytes",
            count.peak,
            body.len()
        );
    }
}

/// Bodies that make as much of few bytes as they can.
fn hostile_text() -> Vec<(&'static str, Format, String)> {
    let many = |text: &str| text.repeat(200_000 / text.len());
    let names: String = (0..20_000).map(|name| format!(",\"{name}\":1")).collect();
    let elements =
        (0..2_000).map(|name| format!("{{\"type\":\"EventLogged\",\"name\":\"n\",\"{name}\":1}}"));
    vec![
        ("brackets", Format::Json, many("[")),
        ("braces", Format::Json, many("{\"a\":")),
        (
            "empty elements",
            Format::Json,
            format!("[{}{{}}]", many("{},")),
        ),
        ("numbers", Format::Json, format!("[{}1]", many("1,"))),
        ("lines", Format::Ndjson, many("1\n")),
        (
            "bad lines",
            Format::Ndjson,
            many("{\"type\":\"\\u0000\"}\n"),
        ),
        ("one name", Format::Json, format!("{{\"{}\":1}}", many("x"))),
        (
            "many names",
            Format::Json,
            format!("{{\"type\":\"EventLogged\",\"name\":\"n\"{names}}}"),
        ),
        (
            "names of many events",
            Format::Json,
            format!("[{}]", elements.collect::<Vec<_>>().join(",")),
        ),
        (
            "kinds",
            Format::Ndjson,
            many("{\"type\":\"MetricLogged\"}\n{\"type\":\"ModelCreated\"}\n"),
        ),
        (
            "escapes",
            Format::Json,
            format!(
                "{{\"type\":\"EventLogged\",\"name\":\"n\",\"data\":\"{}\"}}",
                many("\\u0000")
            ),
        ),
        (
            "envelopes",
            Format::CloudEventBatch,
            format!("[{}{{}}]", many("{\"a\":1},")),
        ),
        (
            "base64",
            Format::CloudEvent,
            format!("{{\"data_base64\":\"{}\"}}", many("AAAA")),
        ),
    ]
}

#[test]
fn hostile_text_takes_no_more_than_a_constant_times_its_size() {
    for (name, format, body) in hostile_text() {
        let (_, count) = counted(|| decode(body.as_bytes(), format, &Options::default()));
        // A described error takes some hundred bytes, and at most a hundred are described.
        let allowed = 16 * body.len() + 200_000;
        assert!(
            count.peak < allowed,
            "{name}: {} for {} bytes",
            count.peak,
            body.len()
        );
    }
}

#[test]
fn recorded_text_takes_a_constant_times_its_size() {
    let options = Options {
        on_error: OnError::Record,
        ..Options::default()
    };
    for (name, format, body) in hostile_text() {
        let (_, count) = counted(|| decode(body.as_bytes(), format, &options));
        // Two bytes can be an event, and the record of one has a reason, a message and a position.
        let allowed = 300 * body.len() + 200_000;
        assert!(
            count.peak < allowed,
            "{name}: {} for {} bytes",
            count.peak,
            body.len()
        );
    }
}

type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

fn message<'a>(value: &'a [u8], headers: Headers<'a>) -> Message<'a> {
    Message {
        place: Place {
            topic: "t",
            partition: 0,
            position: 7,
        },
        value: Some(value),
        key: Some(b"key"),
        headers,
    }
}

/// Messages of a shape, with an event each.
struct Messages {
    shape: &'static str,
    headers: Headers<'static>,
    value: fn(usize) -> String,
}

fn shapes() -> Vec<Messages> {
    const ATTRIBUTES: Headers<'_> = &[
        ("ce_specversion", Some(b"1.0")),
        ("ce_type", Some(b"MetricLogged")),
        ("ce_source", Some(b"/s")),
        ("ce_id", Some(b"a longer id than that of most")),
        ("ce_traceparent", Some(b"x")),
        ("content-type", Some(b"application/json")),
    ];
    const INFERENCE: Headers<'_> = &[
        ("ce_specversion", Some(b"1.0")),
        ("ce_type", Some(b"org.kubeflow.serving.inference.response")),
        ("ce_source", Some(b"/s")),
        ("ce_id", Some(b"9f3c6f2e-35c4-4a40-9c2f-3f5d1b1a2b3c")),
        ("ce_namespace", Some(b"n")),
        ("ce_inferenceservicename", Some(b"i")),
        ("content-type", Some(b"application/json")),
    ];
    let metric = |number| format!("{{\"run\":\"r\",\"name\":\"loss\",\"value\":{number}}}");
    let envelope: fn(usize) -> String = |number| {
        format!(
            "{{\"id\":\"{number}\",\"type\":\"MetricLogged\",\"source\":\"/s\",\"data\":{{\"run\":\"r\",\"name\":\"loss\",\"value\":{number}}},\"specversion\":\"1.0\"}}"
        )
    };
    let of = |shape, headers, value| Messages {
        shape,
        headers,
        value,
    };
    vec![
        of("flat", &[], line),
        of("flat, with headers", &[("a", Some(b"b"))], line),
        of(
            "lines",
            &[("content-type", Some(b"application/x-ndjson; charset=utf-8"))],
            line,
        ),
        of("framed", &[], |number| {
            format!("\0\0\0\0\x07{}", line(number))
        }),
        of("envelopes", &[], envelope),
        of(
            "envelopes, with headers",
            &[("content-type", Some(b"application/cloudevents+json"))],
            envelope,
        ),
        of("binary", ATTRIBUTES, metric),
        of("inferences", INFERENCE, |number| {
            format!("{{\"model_version\":\"3\",\"outputs\":[{number}]}}")
        }),
    ]
}

#[test]
fn nothing_is_allocated_per_message() {
    let options = Options::default();
    let template = ModelTemplate::standard();
    for Messages {
        shape,
        headers,
        value,
    } in shapes()
    {
        let counts = [1000, 8000].map(|messages| {
            let values: Vec<_> = (0..messages).map(value).collect();
            let (batch, count) = counted(|| {
                let mut reader = MessageReader::new(MessageFormat::Auto, &options, template);
                for value in &values {
                    let outcome = reader.read(&message(value.as_bytes(), headers));
                    assert_eq!(outcome, Outcome::Events(1), "{shape}");
                }
                reader.finish().batch
            });
            assert_eq!(batch.rows(), messages as u32);
            count.allocations
        });
        let [few, many] = counts;
        // Eight times the events double each column three times, as above.
        assert!(
            many - few <= 3 * 30,
            "{shape}: {few} for 1000 messages, {many} for 8000"
        );
        assert!(few < 500, "{shape}: {few}");
    }
}

#[test]
fn hostile_messages_take_a_constant_times_their_size() {
    let options = Options::default();
    let long = "h".repeat(20_000);
    let attribute = [
        ("ce_specversion", Some(&b"1.0"[..])),
        ("ce_type", Some(b"org.kubeflow.serving.inference.request")),
        ("ce_x", Some(long.as_bytes())),
    ];
    let inference = |value: &'static str| {
        [
            attribute[0],
            attribute[1],
            ("ce_id", Some(value.as_bytes())),
        ]
    };
    let many: Vec<_> = (0..5_000).map(|_| ("ce_a", Some(&b"b"[..]))).collect();
    let headers: [Headers<'_>; 5] = [
        &[],
        &attribute,
        &inference("1"),
        &many,
        &[("content-type", Some(b"application/x-ndjson"))],
    ];
    for (name, _, body) in hostile_text() {
        for headers in headers {
            let (_, count) = counted(|| {
                let template = ModelTemplate::standard();
                let mut reader = MessageReader::new(MessageFormat::Auto, &options, template);
                let outcome = reader.read(&message(body.as_bytes(), headers));
                (outcome, reader.finish())
            });
            // A hundred records of what is bad may have all headers beside them.
            let beside: usize = headers
                .iter()
                .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 8)
                .sum();
            let allowed = 16 * body.len() + 300 * beside + 400_000;
            assert!(
                count.peak < allowed,
                "{name}: {} for {} bytes",
                count.peak,
                body.len()
            );
        }
    }
}

#[test]
fn what_the_path_gives_counts_against_the_batch() {
    let name = "x".repeat(500);
    let body = format!("[{}{{}}]", "{},".repeat(100_000));
    let options = Options {
        limits: Limits {
            batch_bytes: 1 << 20,
            ..Limits::default()
        },
        ..Options::default()
    };
    let (result, count) = counted(|| {
        decode_as(
            body.as_bytes(),
            Kind::ModelCreated,
            &[("model", &name)],
            &options,
        )
    });
    assert_eq!(
        result.expect_err("too much").errors[0].code,
        "batch_too_large"
    );
    assert!(count.peak < 8 << 20, "{}", count.peak);
}

fn stream(columns: Vec<(&str, ArrayRef)>, options: IpcWriteOptions) -> Vec<u8> {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns of one length");
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &schema, options).expect("a vector");
    writer.write(&batch).expect("a vector");
    writer.finish().expect("a vector");
    writer.into_inner().expect("a vector")
}

fn compressed(codec: CompressionType) -> IpcWriteOptions {
    IpcWriteOptions::default()
        .try_with_compression(Some(codec))
        .expect("the feature is on")
}

#[test]
fn streams_that_swell_stay_within_the_limit_of_a_batch() {
    let long = "x".repeat(4 << 20);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 4]));
    let keys = arrow_array::Int8Array::from(vec![0; 10_000]);
    let shared: ArrayRef = Arc::new(DictionaryArray::new(
        keys,
        Arc::new(StringArray::from(vec!["y".repeat(10_000)])),
    ));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["n"; 10_000]));
    let limits = Limits {
        batch_bytes: 2 << 20,
        ..Limits::default()
    };
    let options = Options {
        kind: Some(Kind::EventLogged),
        limits,
        ..Options::default()
    };
    for bytes in [
        stream(
            vec![("name", Arc::clone(&texts))],
            compressed(CompressionType::LZ4_FRAME),
        ),
        stream(vec![("name", texts)], compressed(CompressionType::ZSTD)),
        stream(
            vec![("name", Arc::clone(&names)), ("data", Arc::clone(&shared))],
            IpcWriteOptions::default(),
        ),
        stream(
            vec![("name", names), ("more", shared)],
            IpcWriteOptions::default(),
        ),
    ] {
        assert!(bytes.len() < 200_000, "{}", bytes.len());
        let (result, count) = counted(|| decode(&bytes, Format::Arrow, &options));
        assert_eq!(
            result.expect_err("too much").errors[0].code,
            "batch_too_large"
        );
        assert!(
            count.peak < 8 * limits.batch_bytes,
            "{} for {} bytes",
            count.peak,
            bytes.len()
        );
    }
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let long = "x".repeat(100_000);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let sound = stream(vec![("name", Arc::clone(&texts))], compressed(codec));
        let options = Options {
            kind: Some(Kind::EventLogged),
            ..Options::default()
        };
        assert_eq!(
            decode(&sound, Format::Arrow, &options)
                .expect_err("a long name")
                .errors[0]
                .code,
            "too_long"
        );
        // The text's length stands before its compressed bytes, and after the offset that says the same.
        let said = 100_000_u64.to_le_bytes();
        let at = sound
            .windows(8)
            .rposition(|bytes| bytes == said)
            .expect("a length");
        for length in [
            0_u64,
            1,
            99_999,
            100_001,
            1 << 30,
            1 << 40,
            u64::MAX - 1,
            u64::MAX >> 1,
        ] {
            let mut lying = sound.clone();
            lying[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let (result, count) = counted(|| decode(&lying, Format::Arrow, &options));
            let code = result.expect_err("a lie").errors[0].code;
            assert!(
                ["bad_arrow", "batch_too_large"].contains(&code),
                "{length}: {code}"
            );
            // Zstandard can make this much of the few bytes there are.
            assert!(count.peak < 4 << 20, "{codec:?}, {length}: {}", count.peak);
        }
    }
}
