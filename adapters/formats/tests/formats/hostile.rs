//! Bytes of any kind: they are taken or refused, and nothing else happens.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, NullArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use modelog_engine::event::Kind;
use modelog_formats::{Decoded, Format, OnError, Options, decode, decode_as};
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::arrow::{batch, compressed, nested, written};

const LINES: &str = r#"{"type":"PredictionLogged","id":"1","model":"resnet50","version":"v1","input":{"a":[1.5,-2e3,"\u00e9\n"],"b":{}},"confidence":0.93,"time":"2026-11-22T17:00:00Z"}
{"name":"loss","run":"r\u0041","value":"NaN","step":12,"type":"metric_logged","more":[null,true]}

{"type":"ModelVersionAliased","model":"mödel","alias":"prod","version":null,"extra":{"x":1}}
{"type":"FeedbackLogged","prediction_id":"p","correct":false,"label":"\ud83d\ude00"}
"#;

const CLOUD: &str = r#"[{"specversion":"1.0","type":"model.created","source":"/s","id":"1","time":"2026-11-22T17:00:00Z","x":1,"data":{"model":"m","tags":{}}},
{"data_base64":"eyJtb2RlbCI6Im0ifQ==","id":"2","type":"ModelCreated","source":"/s","specversion":"1.0"}]"#;

fn bodies() -> Vec<(Format, Vec<u8>)> {
    let array = format!(
        "[{}]",
        LINES.trim().replace("\n\n", "\n").replace('\n', ",")
    );
    let one = &CLOUD[1..CLOUD.find(",\n").expect("two events")];
    vec![
        (Format::Ndjson, LINES.into()),
        (Format::Json, array.into()),
        (Format::CloudEvent, one.into()),
        (Format::CloudEventBatch, CLOUD.into()),
    ]
}

/// Every so many bytes of the streams are looked at: all of the plain one, whose structure they share.
const STRIDES: [usize; 3] = [1, 7, 7];

fn predictions() -> RecordBatch {
    let column = |array: ArrayRef| array;
    batch(&[
        ("model", column(Arc::new(StringArray::from(vec!["m"; 3])))),
        (
            "version",
            column(Arc::new(StringViewArray::from(vec![
                "v",
                "w",
                "a longer one than twelve bytes",
            ]))),
        ),
        ("input", nested()),
        (
            "confidence",
            column(Arc::new(Float64Array::from(vec![
                Some(0.5),
                None,
                Some(f64::NAN),
            ]))),
        ),
        (
            "input_tokens",
            column(Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ),
        ("error", column(Arc::new(NullArray::new(3)))),
        (
            "more",
            column(Arc::new(StringArray::from(vec![
                Some("x".repeat(100)),
                None,
                None,
            ]))),
        ),
    ])
}

fn streams() -> Vec<Vec<u8>> {
    let two = [predictions(), predictions().slice(1, 2)];
    vec![
        written(&two, IpcWriteOptions::default()),
        written(&two[1..], compressed(CompressionType::LZ4_FRAME)),
        written(&two[1..], compressed(CompressionType::ZSTD)),
    ]
}

/// Reads bytes in both ways, and checks what must hold whatever they are.
fn check(bytes: &[u8], format: Format) -> bool {
    let options = |on_error| Options {
        on_error,
        kind: Some(Kind::PredictionLogged),
        ..Options::default()
    };
    let refusing = decode(bytes, format, &options(OnError::Refuse));
    let recorded = match decode(bytes, format, &options(OnError::Record)) {
        Ok(recorded) => recorded,
        // All else that is wrong is recorded.
        Err(errors) => {
            let last = errors.errors.last().expect("an error");
            assert_eq!(last.code, "batch_too_large");
            assert!(refusing.is_err());
            return false;
        }
    };
    match &refusing {
        Ok(decoded) => {
            assert_eq!(
                (recorded.batch.rejected(), recorded.batch.rows()),
                (0, decoded.batch.rows())
            );
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty() && errors.total >= errors.errors.len() as u64);
            assert_eq!(u64::from(recorded.batch.rejected()), errors.total);
            assert_eq!(recorded.rejected, errors.errors);
            for error in &errors.errors {
                assert!(
                    error.byte.is_none_or(|byte| byte <= bytes.len() as u64),
                    "{error:?}"
                );
                assert!(error.event < u64::from(recorded.batch.rows()), "{error:?}");
            }
        }
    }
    let accepted = refusing.is_ok();
    let _ = crate::json(recorded);
    refusing.map(crate::json).is_ok() && accepted
}

/// Whether serde_json takes every line, and no surrogate lacks its partner.
fn is_sound(text: &str) -> bool {
    let value: Result<&RawValue, _> = serde_json::from_str(text);
    value.is_ok_and(|value| modelog_engine::event::json::check_surrogates(value.get()).is_ok())
}

fn check_text(bytes: &[u8], format: Format) {
    if !check(bytes, format) {
        return;
    }
    let text = std::str::from_utf8(bytes).expect("what is accepted is UTF-8");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let blank = |text: &str| text.trim_matches([' ', '\t', '\r', '\n']).is_empty();
    match format {
        Format::Ndjson => assert!(
            text.lines().all(|line| blank(line) || is_sound(line)),
            "{text}"
        ),
        _ => assert!(blank(text) || is_sound(text), "{text}"),
    }
}

#[test]
fn whole_bodies_are_taken() {
    for (format, body) in bodies() {
        assert!(check(&body, format), "{format:?}");
    }
    for stream in streams() {
        assert!(check(&stream, Format::Arrow));
    }
}

#[test]
fn bodies_cut_anywhere_are_refused_or_sound() {
    for (format, body) in bodies() {
        for end in 0..body.len() {
            check_text(&body[..end], format);
        }
    }
    for (stride, stream) in STRIDES.into_iter().zip(streams()) {
        for end in (1..stream.len()).step_by(stride) {
            assert!(
                !check(&stream[..end], Format::Arrow),
                "{end} of {}",
                stream.len()
            );
        }
    }
}

#[test]
fn every_flipped_byte_is_refused_or_sound() {
    for (format, body) in bodies() {
        for at in 0..body.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut flipped = body.clone();
                flipped[at] ^= flip;
                check_text(&flipped, format);
            }
        }
    }
    for (stride, stream) in STRIDES.into_iter().zip(streams()) {
        for at in (0..stream.len()).step_by(stride) {
            for flip in [0x80, 0xff] {
                let mut flipped = stream.clone();
                flipped[at] ^= flip;
                check(&flipped, Format::Arrow);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Json, Format::Ndjson, Format::CloudEvent, Format::CloudEventBatch] {
            check_text(&bytes, format);
        }
        check(&bytes, Format::Arrow);
        let _: Result<Decoded, _> = decode_as(&bytes, Kind::MetricLogged, &[("run", "r")], &Options::default());
    }

    #[test]
    fn random_text_does_no_harm(text in r#"(\PC|[\[\]{}:,"\\\n 0-9]|"type":"ModelCreated"|"model":"m"|\{|\}){0,20}"#) {
        for format in [Format::Json, Format::Ndjson, Format::CloudEvent, Format::CloudEventBatch] {
            check_text(text.as_bytes(), format);
        }
    }

    #[test]
    fn spliced_bodies_do_no_harm(which in 0..4_usize, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), with in any::<prop::sample::Index>(), count in 0..30_usize) {
        let (format, body) = bodies().swap_remove(which);
        let (from, to) = (from.index(body.len()), to.index(body.len()));
        let with = with.index(body.len());
        let mut spliced = body[..from].to_vec();
        spliced.extend_from_slice(&body[with..(with + count).min(body.len())]);
        spliced.extend_from_slice(&body[to..]);
        check_text(&spliced, format);
    }

    #[test]
    fn damaged_streams_do_no_harm(which in 0..3_usize, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<[u8; 8]>(), 1..9_usize), 1..4)) {
        let mut stream = streams().swap_remove(which);
        for (at, bytes, count) in damage {
            let at = at.index(stream.len());
            let end = (at + count).min(stream.len());
            stream[at..end].copy_from_slice(&bytes[..end - at]);
        }
        check(&stream, Format::Arrow);
    }
}
