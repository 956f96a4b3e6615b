//! Arrow streams: types that become fields, what becomes JSON, and errors by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::{Float16Type, Int8Type, Int32Type, UInt16Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt64Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use modelog_engine::event::{Event, Fact, Kind};
use modelog_engine::{Offset, Timestamp};
use modelog_formats::{DecodeErrors, Format, Limits, OnError, Options, decode};
use serde_json::json;

use crate::{RECEIVED, events};

/// A stream of columns.
pub(crate) fn stream(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    written(&[batch(columns)], IpcWriteOptions::default())
}

pub(crate) fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

pub(crate) fn written(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options)
        .expect("a vector");
    for batch in batches {
        writer.write(batch).expect("a vector");
    }
    writer.finish().expect("a vector");
    writer.into_inner().expect("a vector")
}

pub(crate) fn compressed(codec: CompressionType) -> IpcWriteOptions {
    IpcWriteOptions::default()
        .try_with_compression(Some(codec))
        .expect("the feature is on")
}

fn of(kind: Kind) -> Options {
    Options {
        kind: Some(kind),
        ..Options::default()
    }
}

fn read(bytes: &[u8], kind: Kind) -> Vec<Event> {
    events(decode(bytes, Format::Arrow, &of(kind)).unwrap_or_else(|errors| panic!("{errors:?}")))
}

fn refused(bytes: &[u8], options: &Options) -> DecodeErrors {
    decode(bytes, Format::Arrow, options).expect_err("the stream is wrong")
}

fn code(columns: &[(&str, ArrayRef)], kind: Kind) -> (&'static str, Option<String>) {
    let errors = refused(&stream(columns), &of(kind));
    (errors.errors[0].code, errors.errors[0].field.clone())
}

fn text<const N: usize>(values: [Option<&str>; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn names(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![value; rows]))
}

/// Predictions of one model with one more column.
fn predictions(name: &str, array: ArrayRef) -> Vec<u8> {
    let rows = array.len();
    stream(&[
        (name, array),
        ("version", names("v", rows)),
        ("model", names("m", rows)),
    ])
}

/// What one field of predictions becomes, as JSON.
fn field(name: &str, column: &str, array: ArrayRef) -> Vec<serde_json::Value> {
    let bytes = predictions(column, array);
    let decoded = decode(&bytes, Format::Arrow, &of(Kind::PredictionLogged));
    let decoded = decoded.unwrap_or_else(|errors| panic!("{column}: {errors:?}"));
    let rows = crate::json(decoded).into_iter();
    rows.map(|mut row| row[name].take()).collect()
}

fn dictionary(values: &[Option<&str>]) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int8Type>::new();
    builder.extend(values.iter().copied());
    Arc::new(builder.finish())
}

#[test]
fn text_comes_in_every_form_of_text() {
    let expected = [json!("a"), json!(null), json!("é")];
    let values = [Some("a"), None, Some("é")];
    let keys = PrimitiveArray::<UInt16Type>::from(vec![0, 1, 2]);
    let arrays: [ArrayRef; 5] = [
        text(values),
        Arc::new(LargeStringArray::from(values.to_vec())),
        Arc::new(StringViewArray::from(values.to_vec())),
        dictionary(&values),
        // Null in the dictionary is null in the rows.
        Arc::new(DictionaryArray::new(keys, text(values))),
    ];
    for array in arrays {
        for sliced in [Arc::clone(&array), long(&array).slice(3, 3)] {
            assert_eq!(
                field("predicted_class", "predicted_class", sliced),
                expected
            );
        }
    }
    let nothing = field(
        "predicted_class",
        "predicted_class",
        Arc::new(NullArray::new(2)),
    );
    assert_eq!(nothing, [json!(null), json!(null)]);
}

/// The same rows twice.
fn long(array: &ArrayRef) -> ArrayRef {
    arrow_select::concat::concat(&[array.as_ref(), array.as_ref()]).expect("one type")
}

#[test]
fn numbers_are_widened_and_may_be_whole_floats() {
    let arrays: [ArrayRef; 5] = [
        Arc::new(Int8Array::from(vec![Some(3), None, Some(-4)])),
        Arc::new(Int32Array::from(vec![Some(3), None, Some(-4)])),
        Arc::new(Int64Array::from(vec![Some(3), None, Some(-4)])),
        Arc::new(Float32Array::from(vec![Some(3.0), None, Some(-4.0)])),
        Arc::new(Float64Array::from(vec![Some(3.0), None, Some(-4.0)])),
    ];
    for array in arrays {
        assert_eq!(
            field("input_tokens", "input_tokens", Arc::clone(&array)),
            [json!(3), json!(null), json!(-4)]
        );
        assert_eq!(
            field("confidence", "confidence", array),
            [json!(3.0), json!(null), json!(-4.0)]
        );
    }
    let small: ArrayRef = Arc::new(UInt8Array::from(vec![255]));
    assert_eq!(field("input_tokens", "input_tokens", small), [json!(255)]);
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![i64::MAX as u64]));
    assert_eq!(
        field("input_tokens", "input_tokens", large),
        [json!(i64::MAX)]
    );
    let beyond: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(
        field("confidence", "confidence", Arc::clone(&beyond)),
        [json!(u64::MAX as f64)]
    );
    let half: ArrayRef = Arc::new(
        [1.5_f32]
            .into_iter()
            .map(|value| Some(half(value)))
            .collect::<PrimitiveArray<Float16Type>>(),
    );
    assert_eq!(field("confidence", "confidence", half), [json!(1.5)]);
    let single: ArrayRef = Arc::new(Float32Array::from(vec![0.1]));
    assert_eq!(
        field("confidence", "confidence", single),
        [json!(f64::from(0.1_f32))]
    );
    let odd: ArrayRef = Arc::new(Float64Array::from(vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ]));
    assert_eq!(
        field("confidence", "confidence", odd),
        [json!("NaN"), json!("Infinity"), json!("-Infinity")]
    );
    for (array, expected) in [
        (beyond, "number_out_of_range"),
        (
            Arc::new(Float64Array::from(vec![1.5])) as ArrayRef,
            "wrong_type",
        ),
        (Arc::new(Float64Array::from(vec![f64::NAN])), "wrong_type"),
        (Arc::new(Float64Array::from(vec![1e16])), "wrong_type"),
    ] {
        let errors = refused(
            &predictions("input_tokens", array),
            &of(Kind::PredictionLogged),
        );
        assert_eq!(
            (errors.errors[0].code, errors.errors[0].field.as_deref()),
            (expected, Some("input_tokens"))
        );
    }
}

/// A half-precision number, without naming its crate.
fn half(value: f32) -> <Float16Type as arrow_array::ArrowPrimitiveType>::Native {
    <Float16Type as arrow_array::ArrowPrimitiveType>::Native::from_f32(value)
}

#[test]
fn times_of_every_unit_are_utc() {
    let seconds = 1_795_366_800_i64;
    let arrays: [ArrayRef; 8] = [
        Arc::new(TimestampSecondArray::from(vec![seconds])),
        Arc::new(TimestampMillisecondArray::from(vec![seconds * 1_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![seconds * 1_000_000])),
        Arc::new(
            TimestampMicrosecondArray::from(vec![seconds * 1_000_000])
                .with_timezone("Europe/Berlin"),
        ),
        Arc::new(TimestampNanosecondArray::from(vec![
            seconds * 1_000_000_000 + 999,
        ])),
        Arc::new(Int64Array::from(vec![seconds * 1_000_000])),
        text([Some("2026-11-22T17:00:00Z")]),
        dictionary(&[Some("2026-11-22T18:00:00+01:00")]),
    ];
    for array in arrays {
        assert_eq!(
            read(&predictions("time", array), Kind::PredictionLogged)[0].time,
            Some(RECEIVED)
        );
    }
    let before: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1]));
    assert_eq!(
        read(&predictions("time", before), Kind::PredictionLogged)[0].time,
        Some(Timestamp::from_micros(-1))
    );
    let absent: ArrayRef = Arc::new(TimestampSecondArray::from(vec![None]));
    assert_eq!(
        read(&predictions("time", absent), Kind::PredictionLogged)[0].time,
        Some(RECEIVED)
    );
    for (array, expected) in [
        (
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])) as ArrayRef,
            "bad_time",
        ),
        (
            Arc::new(TimestampMillisecondArray::from(vec![i64::MIN])),
            "bad_time",
        ),
        (Arc::new(Int64Array::from(vec![seconds])), "bad_time"),
        (text([Some("noon")]), "bad_time"),
        (
            Arc::new(UInt64Array::from(vec![1])),
            "unsupported_arrow_type",
        ),
        (
            Arc::new(Float64Array::from(vec![1.0])),
            "unsupported_arrow_type",
        ),
    ] {
        let errors = refused(&predictions("time", array), &of(Kind::PredictionLogged));
        assert_eq!(
            (errors.errors[0].code, errors.errors[0].field.as_deref()),
            (expected, Some("time"))
        );
    }
}

#[test]
fn text_for_json_is_json_and_all_else_becomes_json() {
    let odd = r#" {"a" : 9007199254740993, "a":1}"#;
    let raw = read(
        &predictions("input", text([Some(odd)])),
        Kind::PredictionLogged,
    );
    match &raw[0].fact {
        Fact::PredictionLogged(prediction) => {
            assert_eq!(
                prediction.input.as_ref().map(|json| json.as_str()),
                Some(odd)
            );
        }
        other => panic!("{other:?}"),
    }
    let shared = dictionary(&[Some("[1]"), Some("[1]"), None]);
    assert_eq!(
        field("input", "input_data", shared),
        [json!([1]), json!([1]), json!(null)]
    );
    let plain: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    assert_eq!(
        field("output", "output_data", plain),
        [json!(1), json!(null)]
    );
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    assert_eq!(
        field("output", "output", flags),
        [json!(true), json!(false)]
    );
    for (bad, expected) in [
        ("nope", "bad_json"),
        ("", "bad_json"),
        ("1 2", "bad_json"),
        ("\"\\ud800\"", "unpaired_surrogate"),
    ] {
        let errors = refused(
            &predictions("input", text([Some("1"), Some(bad)])),
            &of(Kind::PredictionLogged),
        );
        let error = &errors.errors[0];
        assert_eq!(
            (error.event, error.code, error.field.as_deref()),
            (1, expected, Some("input")),
            "{bad}"
        );
    }
    let tags = refused(
        &predictions("tags", text([Some("[]")])),
        &of(Kind::PredictionLogged),
    );
    assert_eq!(tags.errors[0].code, "wrong_type");
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    let errors = refused(
        &predictions("input", text([Some(&deep)])),
        &of(Kind::PredictionLogged),
    );
    assert_eq!(errors.errors[0].code, "too_deep");
}

/// Structs of every kind of value that can be nested.
pub(crate) fn nested() -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("x\"y"), None]);
    lists.append_null();
    lists.append_value(Vec::<Option<&str>>::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("k");
    maps.values().append_value("1");
    maps.append(true).expect("one key, one value");
    maps.append(false).expect("null");
    maps.append(true).expect("empty");
    let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some([Some(1), None]), None, Some([Some(3), Some(4)])],
        2,
    );
    let times = TimestampSecondArray::from(vec![1_795_366_800, 0, i64::MAX]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 9] = [
        ("list", Arc::new(lists.finish())),
        ("map", Arc::new(maps.finish())),
        ("pair", Arc::new(pairs)),
        (
            "float",
            Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None])),
        ),
        ("word", dictionary(&[Some("a"), None, Some("b")])),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                "v1",
                "v2",
                "a longer one than twelve bytes",
            ])),
        ),
        ("when", Arc::new(times)),
        ("large", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| {
            (
                Arc::new(Field::new(name, array.data_type().clone(), true)),
                array,
            )
        })
        .unzip();
    Arc::new(StructArray::new(
        fields.into(),
        arrays,
        Some(vec![true, true, true].into()),
    ))
}

#[test]
fn nested_values_become_json() {
    let expected = [
        json!({"list": ["x\"y", null], "map": {"k": "1"}, "pair": [1, null], "float": 0.1, "word": "a", "view": "v1",
               "when": "2026-11-22T17:00:00Z", "large": u64::MAX, "flag": true}),
        json!({"float": "NaN", "view": "v2", "when": "1970-01-01T00:00:00Z", "large": 0}),
        json!({"list": [], "map": {}, "pair": [3, 4], "word": "b", "view": "a longer one than twelve bytes",
               "when": format!("{}µs", i64::MAX), "large": 1, "flag": false}),
    ];
    assert_eq!(field("input", "input", nested()), expected);
    // Text is written as it would be by anyone: single precision keeps its short form.
    let bytes = predictions("input", nested());
    let first = &read(&bytes, Kind::PredictionLogged)[0];
    match &first.fact {
        Fact::PredictionLogged(prediction) => {
            let text = prediction.input.as_ref().expect("a value").as_str();
            assert!(text.contains(r#""float":0.1,"#), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(field("input", "input", nested().slice(1, 2)), expected[1..]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1)]),
        None,
        Some(vec![]),
    ]);
    assert_eq!(
        field("input", "input", Arc::new(lists)),
        [json!([1]), json!(null), json!([])]
    );
}

#[test]
fn columns_the_kind_does_not_have_go_to_extra() {
    let columns = [
        ("name", text([Some("a"), Some("b"), Some("c"), Some("d")])),
        (
            "x",
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3), None])) as ArrayRef,
        ),
        ("y \"z\"", text([Some("t"), None, None, None])),
        (
            "extra",
            text([Some("{ }"), Some("{\"k\":0}"), Some("{ \"k\":0 }"), None]),
        ),
        ("log_offset", Arc::new(Int64Array::from(vec![7; 4]))),
        ("append_time", Arc::new(BooleanArray::from(vec![true; 4]))),
    ];
    let bytes = stream(&columns);
    let decoded = decode(&bytes, Format::Arrow, &of(Kind::EventLogged)).expect("sound");
    let counts: Vec<_> = decoded
        .unknown_fields
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counts, [("x", 2), ("y \"z\"", 1)]);
    let extras: Vec<_> = events(decoded)
        .into_iter()
        .map(|event| event.extra.map(|it| it.as_str().to_owned()))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        extras,
        [
            some(r#"{"x":1,"y \"z\"":"t"}"#),
            some("{\"k\":0}"),
            some(r#"{"k":0,"x":3}"#),
            None
        ]
    );
    let strict = Options {
        strict: true,
        ..of(Kind::EventLogged)
    };
    let errors = refused(&bytes, &strict);
    assert_eq!(
        (errors.errors[0].code, errors.errors[0].field.as_deref()),
        ("unknown_field", Some("x"))
    );
    for bad in ["[1]", "{\"k\"}", "nope", "{"] {
        let columns = [
            ("name", names("n", 1)),
            ("extra", text([Some(bad)])),
            ("x", names("1", 1)),
        ];
        let (_, field) = code(&columns, Kind::EventLogged);
        assert_eq!(field.as_deref(), Some("extra"), "{bad}");
    }
}

#[test]
fn the_kind_is_said_once_or_twice_alike() {
    let plain = batch(&[("model", names("m", 1))]);
    let named = |kind: &str| {
        let metadata = HashMap::from([("modelog.kind".to_owned(), kind.to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(
            plain.schema().fields().clone(),
            metadata,
        ));
        let batch =
            RecordBatch::try_new(schema, plain.columns().to_vec()).expect("the same columns");
        written(&[batch], IpcWriteOptions::default())
    };
    for (bytes, options) in [
        (stream(&[("model", names("m", 1))]), of(Kind::ModelCreated)),
        (named("model.created"), Options::default()),
        (named("ModelCreated"), of(Kind::ModelCreated)),
        (
            stream(&[
                ("model", names("m", 1)),
                ("type", names("model_created", 1)),
            ]),
            of(Kind::ModelCreated),
        ),
    ] {
        assert_eq!(
            decode(&bytes, Format::Arrow, &options)
                .expect("sound")
                .batch
                .rows(),
            1
        );
    }
    for (bytes, options, expected) in [
        (
            stream(&[("model", names("m", 1))]),
            Options::default(),
            "missing_field",
        ),
        (named("nope"), Options::default(), "unknown_kind"),
        (named("EntityNamed"), Options::default(), "internal_kind"),
        (named("ModelCreated"), of(Kind::RunStarted), "other_kind"),
        (
            stream(&[("reason", names("m", 1))]),
            of(Kind::EventRejected),
            "internal_kind",
        ),
        (
            stream(&[("model", names("m", 1)), ("type", names("RunStarted", 1))]),
            of(Kind::ModelCreated),
            "other_kind",
        ),
    ] {
        assert_eq!(refused(&bytes, &options).errors[0].code, expected);
    }
}

#[test]
fn columns_that_cannot_be_fields_are_named() {
    for (columns, kind, expected, name) in [
        (
            vec![("model", Arc::new(Int32Array::from(vec![1])) as ArrayRef)],
            Kind::ModelCreated,
            "unsupported_arrow_type",
            "model",
        ),
        (
            vec![
                ("model", names("m", 1)),
                ("x", Arc::new(BinaryArray::from(vec![&b"b"[..]]))),
            ],
            Kind::ModelCreated,
            "unsupported_arrow_type",
            "x",
        ),
        (
            vec![("model", names("m", 1)), ("model", names("n", 1))],
            Kind::ModelCreated,
            "repeated_field",
            "model",
        ),
        (
            vec![("x", names("m", 1)), ("x", names("n", 1))],
            Kind::ModelCreated,
            "repeated_field",
            "x",
        ),
        (
            vec![("name", names("m", 1))],
            Kind::ModelCreated,
            "missing_field",
            "model",
        ),
        (
            vec![("model", names("", 1))],
            Kind::ModelCreated,
            "empty_value",
            "model",
        ),
        (
            vec![("entity", names("m", 1)), ("tags", names("{}", 1))],
            Kind::TagsSet,
            "bad_reference",
            "entity",
        ),
        (
            vec![("run", names("r", 1)), ("status", names("done", 1))],
            Kind::RunFinished,
            "not_a_word",
            "status",
        ),
        (
            vec![
                ("prediction_id", names("r", 1)),
                ("correct", names("true", 1)),
            ],
            Kind::FeedbackLogged,
            "unsupported_arrow_type",
            "correct",
        ),
        (
            vec![
                ("name", names("n", 1)),
                ("run", names("n", 1)),
                ("value", names("1", 1)),
            ],
            Kind::MetricLogged,
            "unsupported_arrow_type",
            "value",
        ),
        (
            vec![
                ("name", names("n", 1)),
                ("value", Arc::new(Int8Array::from(vec![1]))),
            ],
            Kind::MetricLogged,
            "incomplete_event",
            "run",
        ),
    ] {
        assert_eq!(code(&columns, kind), (expected, Some(name.to_owned())));
    }
    let inputs = predictions("input", Arc::new(NullArray::new(1)));
    assert_eq!(read(&inputs, Kind::PredictionLogged).len(), 1);
    let nothing_inside = FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Null, true)),
        2,
        Arc::new(NullArray::new(2)),
        None,
    );
    let errors = refused(
        &predictions("input", Arc::new(nothing_inside)),
        &of(Kind::PredictionLogged),
    );
    assert_eq!(errors.errors[0].code, "unsupported_arrow_type");
}

#[test]
fn bad_rows_are_told_and_recorded_in_their_place() {
    let columns = [
        ("model", text([Some("a"), None, Some("c"), Some("d")])),
        ("framework", text([Some("1"), Some("2"), Some("x\0"), None])),
        (
            "x",
            Arc::new(Int32Array::from(vec![1, 2, 3, 4])) as ArrayRef,
        ),
    ];
    let bytes = stream(&columns);
    let errors = refused(&bytes, &of(Kind::ModelCreated));
    let found: Vec<_> = errors
        .errors
        .iter()
        .map(|it| (it.event, it.line, it.byte, it.field.as_deref(), it.code))
        .collect();
    assert_eq!(
        found,
        [
            (1, None, None, Some("model"), "missing_field"),
            (2, None, None, Some("framework"), "control_character")
        ]
    );
    let recording = Options {
        on_error: OnError::Record,
        ..of(Kind::ModelCreated)
    };
    let decoded = decode(&bytes, Format::Arrow, &recording).expect("recorded");
    assert_eq!(
        (
            decoded.batch.rows(),
            decoded.batch.rejected(),
            decoded.rejected.len()
        ),
        (4, 2, 2)
    );
    let read = events(decoded);
    match (&read[0].fact, &read[1].fact, &read[2].fact, &read[3].fact) {
        (
            Fact::ModelCreated(a),
            Fact::EventRejected(first),
            Fact::EventRejected(second),
            Fact::ModelCreated(d),
        ) => {
            assert_eq!((a.model.as_str(), d.model.as_str()), ("a", "d"));
            assert_eq!(
                first.raw.as_deref(),
                Some(&br#"{"framework":"2","x":2}"#[..])
            );
            assert_eq!(
                (first.reason.as_str(), first.position.as_deref()),
                ("missing_field", Some("row 1"))
            );
            assert_eq!(
                second.raw.as_deref(),
                Some(&br#"{"model":"c","framework":"x\u0000","x":3}"#[..])
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        read[3].extra.as_ref().map(|extra| extra.as_str()),
        Some(r#"{"x":4}"#)
    );
}

#[test]
fn batches_follow_each_other() {
    let batches: Vec<_> = [[Some("a"), None], [Some("b"), Some("a")], [None, None]]
        .iter()
        .map(|words| {
            batch(&[
                ("model", names("m", 2)),
                ("version", names("v", 2)),
                ("predicted_class", dictionary(words)),
                ("input", nested().slice(0, 2)),
            ])
        })
        .collect();
    let expected = read(
        &written(&batches, IpcWriteOptions::default()),
        Kind::PredictionLogged,
    );
    let classes: Vec<_> = expected
        .iter()
        .map(|event| match &event.fact {
            Fact::PredictionLogged(prediction) => prediction.predicted_class.as_deref(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(classes, [Some("a"), None, Some("b"), Some("a"), None, None]);
    let delta = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    for options in [
        delta,
        compressed(CompressionType::LZ4_FRAME),
        compressed(CompressionType::ZSTD),
    ] {
        assert_eq!(
            read(&written(&batches, options), Kind::PredictionLogged),
            expected
        );
    }
    let mut file = FileWriter::try_new(Vec::new(), &batches[0].schema()).expect("a vector");
    // One dictionary for all: files do not replace them.
    file.write(&batches[1]).expect("a vector");
    file.write(&batches[1]).expect("a vector");
    file.finish().expect("a vector");
    let file = file.into_inner().expect("a vector");
    assert_eq!(read(&file, Kind::PredictionLogged).len(), 4);
    assert_eq!(
        refused(&file[..file.len() - 1], &of(Kind::PredictionLogged)).errors[0].code,
        "trailing_bytes"
    );
    let empty = written(&[batches[0].slice(0, 0)], IpcWriteOptions::default());
    assert!(
        decode(&empty, Format::Arrow, &of(Kind::PredictionLogged))
            .expect("sound")
            .batch
            .is_empty()
    );
}

#[test]
fn what_a_log_gives_out_is_taken_by_another() {
    let body = r#"
{"type":"PredictionLogged","id":"1","source":"/s","time":"2026-11-22T17:00:00Z","model":"m","version":"v","input":{"a":[1]},"confidence":0.5,"input_tokens":7,"more":1}
{"type":"PredictionLogged","model":"m","version":"v","error":"é"}
"#;
    let decoded = decode(body.as_bytes(), Format::Ndjson, &Options::default()).expect("sound");
    let logged = decoded.batch.into_logged(Offset(7), RECEIVED);
    let table = logged.table(Kind::PredictionLogged).expect("predictions");
    let batch = table.to_record_batch(logged.first_offset, logged.append_time);
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let again = decode(
        &written(&[batch], IpcWriteOptions::default()),
        Format::Arrow,
        &strict,
    )
    .expect("sound");
    assert_eq!(events(again), crate::read(body, Format::Ndjson));
}

#[test]
fn limits_hold_for_values_rows_and_batches() {
    let bytes = predictions("input", text([Some("1"), Some("\"12345678\"")]));
    let code = |limits: Limits, on_error| {
        let options = Options {
            limits,
            on_error,
            ..of(Kind::PredictionLogged)
        };
        decode(&bytes, Format::Arrow, &options)
            .map(|decoded| decoded.batch.rejected())
            .map_err(|errors| (errors.errors[0].event, errors.errors[0].code))
    };
    let limits = Limits::default();
    assert_eq!(
        code(
            Limits {
                value_bytes: 10,
                ..limits
            },
            OnError::Refuse
        ),
        Ok(0)
    );
    assert_eq!(
        code(
            Limits {
                value_bytes: 9,
                ..limits
            },
            OnError::Refuse
        ),
        Err((1, "too_long"))
    );
    assert_eq!(
        code(
            Limits {
                value_bytes: 9,
                ..limits
            },
            OnError::Record
        ),
        Ok(1)
    );
    assert_eq!(
        code(
            Limits {
                event_bytes: 12,
                ..limits
            },
            OnError::Refuse
        ),
        Ok(0)
    );
    assert_eq!(
        code(
            Limits {
                event_bytes: 11,
                ..limits
            },
            OnError::Refuse
        ),
        Err((1, "event_too_large"))
    );
    let long = "x".repeat(1000);
    let shared = predictions(
        "predicted_class",
        dictionary(&vec![Some(long.as_str()); 1000]),
    );
    assert!(shared.len() < 50_000);
    for on_error in [OnError::Refuse, OnError::Record] {
        let options = Options {
            limits: Limits {
                batch_bytes: 900_000,
                ..limits
            },
            on_error,
            ..of(Kind::PredictionLogged)
        };
        assert_eq!(refused(&shared, &options).errors[0].code, "batch_too_large");
    }
    assert_eq!(read(&shared, Kind::PredictionLogged).len(), 1000);
}
