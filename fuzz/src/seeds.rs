//! Sound inputs, as the present code writes them: what mutations start from, beside the files in `corpus/`.
//!
//! The log's files are those of one small log with everything in it: every kind, every sort of origin, several segments,
//! snapshots. It is written once, to a disk in memory, and is the same each time.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use modelog_engine::batch::{EventBatch, LoggedBatch};
use modelog_engine::origin::{Origin, Source};
use modelog_engine::sim::SimStorage;
use modelog_engine::{
    AppendOptions, Clock, Config, Engine, Foundations, LogId, Offset, Storage, Timestamp, fuzzing,
};
use modelog_formats::{Format, OnError, Options, decode};
use modelog_parquet::layout::{FileKind, FileName, date_of};
use modelog_parquet::manifest::{FileEntry, Manifest, Sha256Sum};

use super::mend::{self, SLOT_INPUT_BYTES};

/// 2026-11-22T17:00:00Z.
pub(super) const RECEIVED: Timestamp = Timestamp::from_micros(1_795_366_800_000_000);

/// An event of every kind a producer may send, with nearly every field.
pub(super) const LINES: &str = r#"{"type":"ModelCreated","id":"1","source":"/s","time":"2026-11-22T17:00:00Z","model":"resnet50","architecture":"cnn","framework":"torch","tags":{"a":"b"},"extra":{"x":[1,2.5,null]}}
{"type":"ModelVersionCreated","model":"resnet50","version":"v1","checkpoint_path":"s3://b/k","config":{"lr":1e-3},"signature":[],"run":"r1","tags":{}}
{"type":"ModelVersionAliased","model":"resnet50","alias":"prod","version":"v1"}
{"type":"ModelVersionAliased","model":"resnet50","alias":"old","version":null}
{"type":"DatasetRegistered","dataset":"digits","version":"1","uri":"file:///d","split_info":{"train":0.8},"row_count":1797,"schema":null}
{"type":"ExperimentCreated","experiment":"ex","description":"an \"experiment\"\n"}
{"type":"RunStarted","run":"r1","name":"first","parent":"r0","experiment":"ex","model":"resnet50","version":"v1","dataset":"digits","code":"abc"}
{"type":"DatasetUsed","run":"r1","dataset":"digits","role":"training"}
{"type":"HyperparametersLogged","run":"r1","params":{"depth":3,"name":"\u00e9\ud83d\ude00"}}
{"type":"MetricLogged","name":"loss","value":0.25,"run":"r1","step":1,"epoch":0.5,"split":"train"}
{"type":"MetricLogged","name":"loss","value":"NaN","run":"r1","step":2}
{"type":"MetricLogged","name":"latency","value":12,"model":"resnet50","version":"v1"}
{"type":"ArtifactLogged","uri":"s3://b/a","run":"r1","name":"plot","media_type":"image/png","size_bytes":12345,"metadata":{"w":1}}
{"type":"PredictionLogged","id":"p-1","model":"resnet50","version":"v1","prediction_id":"p1","input":{"image":"1.jpg","size":[1,2]},"output":[0.1,0.9],"predicted_class":"caf\u00e9","predicted_value":3.5,"confidence":0.93,"inference_time_ms":4.25,"timings":{"a":1},"request_id":"q","input_tokens":5,"output_tokens":7,"more":true}
{"type":"prediction.logged","model":"resnet50","version":"v1","prediction_id":"p2","input_data":[1],"part":"request"}
{"type":"prediction_logged","model":"resnet50","version":"v1","prediction_id":"p2","output_data":[2],"part":"response","error":"none"}
{"type":"FeedbackLogged","prediction_id":"p1","correct":true,"label":{"l":1},"true_class":"caf\u00e9","true_value":3,"score":1.0,"score_name":"stars"}
{"type":"FeedbackLogged","prediction_id":"p9","model":"resnet50","version":"v1","true_class":"dog"}
{"type":"TagsSet","entity":"model/resnet50","tags":{"stage":"prod"}}
{"type":"EntityDeleted","entity":"run/r1"}
{"type":"EntityRestored","entity":"run/r1"}
{"type":"EventLogged","name":"custom","data":{"deep":{"er":[[[1]]]}}}
{"type":"RunFinished","run":"r1","status":"finished"}
"#;

const CLOUD: &str = r#"[{"specversion":"1.0","type":"model.created","source":"/s","id":"1","time":"2026-11-22T17:00:00Z","traceparent":"00-1","x":1,"data":{"model":"m","tags":{}}},
{"data_base64":"eyJtb2RlbCI6Im0ifQ==","id":"2","type":"ModelCreated","source":"/s","specversion":"1.0"},
{"specversion":"1.0","type":"MetricLogged","source":"/s","id":"3","datacontenttype":"application/json","subject":"m","data":{"run":"r","name":"loss","value":0.5}}]"#;

fn events(lines: &str) -> EventBatch {
    let options = Options {
        on_error: OnError::Record,
        ..Options::default()
    };
    decode(lines.as_bytes(), Format::Ndjson, &options)
        .expect("what is wrong is recorded")
        .batch
}

/// A batch that a log could hold at an offset: new names, predictions and feedback.
pub(super) fn batch_at(offset: Offset) -> LoggedBatch {
    fuzzing::named(events(LINES).into_logged(offset, RECEIVED))
}

pub(super) fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

pub(super) fn ndjson() -> Vec<Vec<u8>> {
    let mut seeds = vec![LINES.into()];
    seeds.extend(LINES.lines().map(Into::into));
    seeds
}

pub(super) fn json() -> Vec<Vec<u8>> {
    let mut seeds = vec![format!("[{}]", LINES.trim().replace('\n', ",")).into()];
    seeds.extend(LINES.lines().map(Into::into));
    seeds
}

pub(super) fn cloud_event() -> Vec<Vec<u8>> {
    let envelopes = CLOUD.trim_matches(['[', ']']).split(",\n");
    let mut seeds: Vec<Vec<u8>> = envelopes.map(Into::into).collect();
    seeds.extend(LINES.lines().map(|line| {
        // The envelope has them.
        let data = line
            .replace(r#""id":"1","source":"/s","#, "")
            .replace(r#""id":"p-1","#, "");
        let envelope = r#"{"specversion":"1.0","source":"/s","id":"e","type":"#;
        let (kind, _) = data[8..].split_once(',').expect("every event has fields");
        format!("{envelope}{kind},\"data\":{data}}}").into()
    }));
    seeds
}

pub(super) fn cloud_event_batch() -> Vec<Vec<u8>> {
    let many = cloud_event().join(&b',');
    vec![CLOUD.into(), [b"[", &many[..], b"]"].concat()]
}

/// Headers on a line, then the value.
pub(super) fn messages() -> Vec<Vec<u8>> {
    let attributes = |ty: &str| {
        format!(
            r#"[["ce_specversion","1.0"],["ce_type","{ty}"],["ce_source","/s"],["ce_id","1"],["ce_time","2026-11-22T17:00:00Z"],["ce_namespace","n"],["ce_inferenceservicename","i"],["ce_endpoint",""],["content-type","application/json"]]"#
        )
    };
    let content_type = |ty: &str| format!(r#"[["content-type","{ty}"],["none",null]]"#);
    let inference = "org.kubeflow.serving.inference.";
    let first = LINES.lines().next().expect("there are lines");
    let mut seeds = ndjson();
    seeds.extend(json());
    seeds.extend(cloud_event());
    for (headers, value) in [
        (content_type("application/x-ndjson"), LINES),
        (
            content_type("application/cloudevents-batch+json; charset=utf-8"),
            CLOUD,
        ),
        (attributes("model.created"), r#"{"model":"m","tags":{}}"#),
        (attributes(&format!("{inference}request")), "a=1&b=2"),
        (
            attributes(&format!("{inference}response")),
            r#"{"model_version":"3","outputs":[]}"#,
        ),
        ("[]".to_owned(), &format!("\0\0\0\0\x07{first}")),
    ] {
        seeds.push(format!("{headers}\n{value}").into());
    }
    seeds
}

pub(super) fn parquet_manifests() -> Vec<Vec<u8>> {
    let mut manifest = Manifest::new(LogId(uuid::Uuid::from_u128(7)));
    let mut seeds = vec![manifest.to_json()];
    manifest.cold_end = Offset(20);
    for (first, end) in [(0, 10), (10, 20)] {
        for kind in FileKind::all().step_by(4) {
            let name = FileName {
                kind,
                date: date_of(RECEIVED),
                first: Offset(first),
                end: Offset(end),
            };
            manifest.add([FileEntry {
                path: name.text(),
                kind,
                first: name.first,
                end: name.end,
                rows: 3,
                bytes: 4711,
                sha256: Sha256Sum::of(b"content"),
                min_append_time: RECEIVED,
                max_append_time: RECEIVED,
            }]);
        }
        seeds.push(manifest.to_json());
    }
    seeds
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        RECEIVED
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The files of the small log.
struct Files {
    segments: Vec<Vec<u8>>,
    manifest: Vec<u8>,
    snapshots: Vec<Vec<u8>>,
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let disk = SimStorage::new(0);
        let data = Path::new("/data");
        disk.create_dir_all(data).expect("the disk is sound");
        let mut config = Config::new(data);
        config.log.segment_bytes = 64 << 10;
        config.log.reserve_bytes = 0;
        let foundations = Foundations {
            storage: disk.storage(),
            clock: Arc::new(Still),
            new_log: LogId(uuid::Uuid::from_u128(7)),
            ..Foundations::default()
        };
        let engine = Engine::open_on(config, foundations).expect("the disk is sound");
        append_all(&engine);
        engine.close_blocking().expect("the disk is sound");
        drop(engine);
        let read = |path: &Path| disk.read(path).expect("the disk is sound");
        let all = |directory: &str, extension: &str| -> Vec<Vec<u8>> {
            let files = disk
                .files(&data.join(directory))
                .expect("the disk is sound");
            let wanted = files
                .iter()
                .filter(|path| path.extension().is_some_and(|found| found == extension));
            wanted.map(|path| read(path)).collect()
        };
        Files {
            segments: all("log", "seg"),
            manifest: read(&data.join("log/MANIFEST")),
            snapshots: all("snapshots", "snap"),
        }
    })
}

/// Fills a log: small calls and large ones, of every sort of source, in two segments.
fn append_all(engine: &Engine) {
    let append = |lines: &str, source: Option<Source>| {
        let mut batch = events(lines);
        if let Some(source) = source {
            batch.add_origin(Origin::whole(source));
        }
        engine
            .append_blocking(batch, AppendOptions::default())
            .expect("the disk is sound");
    };
    append(
        LINES,
        Some(Source::Call {
            key: "key".into(),
            body: 7,
        }),
    );
    append("{\"type\":\"ModelCreated\",\"model\":\"m\"}", None);
    append(
        "{\"type\":\"Nonsense\"}\n{\"type\":\"EventLogged\",\"name\":\"n\"}",
        None,
    );
    engine.seal().expect("the disk is sound");
    for (sequence, line) in (1..).zip(LINES.lines()).skip(9) {
        append(
            line,
            Some(Source::Producer {
                id: "producer".into(),
                epoch: 1,
                sequence,
            }),
        );
    }
    let many: String = (0..40)
        .map(|number| {
            format!("{{\"type\":\"PredictionLogged\",\"model\":\"m\",\"version\":\"v\",\"prediction_id\":\"{number:032x}\",\"confidence\":0.{number},\"input\":{{\"n\":{number}}}}}\n")
        })
        .collect();
    append(
        &many,
        Some(Source::Kafka {
            cluster: "c".into(),
            topic: "t".into(),
            topic_id: Some(7),
            partition: 3,
            first: 100,
            next: 140,
            leader_epoch: 1,
        }),
    );
}

pub(super) fn segments() -> Vec<Vec<u8>> {
    files().segments.clone()
}

/// Every frame of the log, as if it lay where the target's frames do.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for segment in &files().segments {
        let mut rest = &segment[4096..];
        while rest.starts_with(b"MLFR") {
            let length: [u8; 4] = rest[8..12].try_into().expect("four bytes");
            let (frame, behind) = rest.split_at(56 + u32::from_le_bytes(length) as usize);
            frames.push(mend::frame(frame.to_vec()));
            rest = behind;
        }
    }
    frames
}

/// The MANIFEST without what lies between its slots.
pub(super) fn manifests() -> Vec<Vec<u8>> {
    let file = &files().manifest;
    let (first, second) = file.split_at(file.len().min(256 << 10));
    let trimmed = |slot: &[u8]| {
        let end = slot
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        slot[..end.next_multiple_of(8).min(slot.len())].to_vec()
    };
    let mut both = trimmed(first);
    both.resize(SLOT_INPUT_BYTES, 0);
    both.extend(trimmed(second));
    vec![trimmed(first), both]
}

pub(super) fn snapshots() -> Vec<Vec<u8>> {
    files().snapshots.clone()
}
