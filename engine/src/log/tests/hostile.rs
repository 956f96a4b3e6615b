//! Files whose checksums are right and whose numbers are not: they are refused, and nothing else happens.
//!
//! Every number in a frame, a MANIFEST and a snapshot lies in turn. What fuzzing has found is named below the sweeps.

use crate::batch::tests::one_of_each;
use crate::batch::{EventBatch, LoggedBatch};
use crate::event::{Event, FeedbackLogged, MetricLogged, ModelCreated, PredictionLogged};
use crate::log::frame::{
    Body, FrameKind, HEADER_BYTES, Header, Place, Prefix, SCHEMA_VERSION, body_sum, decode_body,
};
use crate::log::fuzzing;
use crate::log::manifest::{Contents, Epoch, SegmentEntry, decode_slot};
use crate::log::rows::{EncodedRows, encode_table};
use crate::log::segment::SegmentEnd;
use crate::log::snapshot::{self, ADMISSION, About};
use crate::log::state::State;
use crate::names::{NamedEntity, Names};
use crate::origin::{Origin, Source};
use crate::statistician::STATISTICS;
use crate::stats::Statistics;
use crate::{LogId, Offset, Timestamp};

/// Where `fuzzing` takes frames from.
const PLACE: Place = Place {
    log: LogId(uuid::Uuid::nil()),
    segment: 0,
    position: 0,
};
const NOW: Timestamp = Timestamp::from_micros(1_795_366_800_000_000);

/// What a number may say instead.
const LIES: [u64; 6] = [0, 1, 1 << 16, (1 << 31) - 1, 1 << 63, u64::MAX - 7];

/// Bytes in which one number lies, wherever it is and however wide.
fn lies(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let places = (0..bytes.len()).flat_map(|at| [1, 4, 8].map(|width| (at, width)));
    let fitting = places.filter(|(at, width)| at % width.min(&4) == 0 && at + width <= bytes.len());
    fitting.flat_map(move |(at, width)| {
        // Flags and small counts.
        let lies = if width == 1 { &[1, 255] } else { &LIES[..] };
        lies.iter().map(move |lie| {
            let mut lying = bytes.to_vec();
            lying[at..at + width].copy_from_slice(&lie.to_le_bytes()[..width]);
            lying
        })
    })
}

fn header(first_offset: u64, count: u32, body: &[u8]) -> Header {
    Header {
        body_len: body.len() as u32,
        body_crc: crc32c::crc32c(body),
        first_offset: Offset(first_offset),
        count,
        codec: 0,
        flags: FrameKind::Rows.flags(),
        schema: SCHEMA_VERSION,
        append_time: NOW,
        durable_end: 0,
        prev_header_crc: 0,
    }
}

fn frame(header: Header, body: &[u8]) -> Vec<u8> {
    let mut bytes = header.encode(PLACE).0.to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn check_frame(bytes: &[u8]) -> bool {
    let frame = fuzzing::frame(bytes);
    if let Some(frame) = &frame {
        frame.check();
    }
    frame.is_some()
}

/// Events of several kinds, as rows that are not compressed and as the batch they come from.
fn events() -> Vec<Event> {
    let prediction = |id: &str| PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: Some(id.into()),
        confidence: Some(0.5),
        input_tokens: Some(3),
        ..PredictionLogged::default()
    };
    let feedback = FeedbackLogged {
        prediction_id: "a".into(),
        correct: Some(true),
        ..FeedbackLogged::default()
    };
    vec![
        Event::from(prediction("a")).with_id("1"),
        feedback.into(),
        Event::from(prediction("b")).at(NOW),
    ]
}

fn batch() -> LoggedBatch {
    let mut batch = EventBatch::from_events(&events()).unwrap();
    batch.add_origin(Origin {
        source: Source::Producer {
            id: "p".into(),
            epoch: 1,
            sequence: 2,
        },
        first_ord: 0,
        rows: 3,
        rejected: 0,
        duplicates: 0,
    });
    fuzzing::named(batch.into_logged(Offset(7), NOW))
}

fn body() -> Vec<u8> {
    let batch = batch();
    let mut body = Prefix::of_rows(&batch.origins, &batch.names)
        .bytes()
        .to_vec();
    batch
        .tables
        .iter()
        .for_each(|table| encode_table(table, &mut body));
    body
}

#[test]
fn frames_of_every_kind_are_read() {
    assert!(check_frame(&frame(header(7, 3, &body()), &body())));
    let all = EventBatch::from_events(&one_of_each()).unwrap();
    let all = all.into_logged(Offset(7), NOW);
    let (prefix, rows) = (Prefix::of_rows(&[], &[]), EncodedRows::new(&all.tables));
    let body = [prefix.bytes(), &rows.bytes].concat();
    let codec = rows.codec;
    let header = Header {
        codec,
        ..header(7, all.rows, &body)
    };
    assert_eq!(
        body_sum(&prefix, Some(&rows)),
        (header.body_len, header.body_crc)
    );
    assert!(check_frame(&frame(header, &body)));
}

#[test]
fn every_number_of_a_frame_may_lie() {
    let body = body();
    for lying in lies(&body) {
        check_frame(&frame(header(7, 3, &lying), &lying));
    }
    let rows = EncodedRows::new(&batch().tables);
    let packed = [Prefix::of_rows(&[], &[]).bytes(), &rows.bytes].concat();
    for lying in lies(&packed) {
        let codec = rows.codec;
        let header = Header {
            codec,
            ..header(7, 3, &lying)
        };
        check_frame(&frame(header, &lying));
    }
    let sound = frame(header(7, 3, &body), &body);
    for mut lying in lies(&sound[..HEADER_BYTES]) {
        let seed = crc32c::crc32c(&[0; 32]);
        let crc = crc32c::crc32c_append(seed, &lying[8..HEADER_BYTES]);
        lying[4..8].copy_from_slice(&crc.to_le_bytes());
        lying.extend_from_slice(&body);
        check_frame(&lying);
    }
    let sources = [snapshot_source(0)];
    let state = Prefix::of_state(&sources).bytes().to_vec();
    for lying in lies(&state) {
        let flags = FrameKind::State.flags();
        let header = Header {
            flags,
            ..header(7, 0, &lying)
        };
        check_frame(&frame(header, &lying));
    }
}

#[test]
fn rows_are_those_the_header_counts() {
    let body = body();
    for count in [0, 1, 2, 4, u32::MAX] {
        assert!(
            !check_frame(&frame(header(7, count, &body), &body)),
            "{count}"
        );
    }
}

#[test]
fn a_kind_has_one_table_and_a_place_one_row() {
    let batch = batch();
    let read = |tables: &[_], count| {
        let prefix = Prefix::of_rows(&[], &[]);
        let rows = EncodedRows::new(tables);
        let body = [prefix.bytes(), &rows.bytes].concat();
        let codec = rows.codec;
        let header = Header {
            codec,
            ..header(7, count, &body)
        };
        decode_body(&header, 1, &body)
    };
    let [predictions, feedback] = &batch.tables[..] else {
        panic!("two kinds");
    };
    let found = read(&batch.tables, 3);
    assert!(matches!(found, Ok(Body::Rows(found)) if found.rows == 3));
    // Whoever looks for a kind finds its first table.
    let half = |row, ord| predictions.take(&[row], vec![ord]);
    assert!(read(&[half(0, 0), half(1, 2), feedback.clone()], 3).is_err());
    assert!(read(&[feedback.take(&[0], vec![0]), half(0, 0)], 2).is_err());
    assert!(read(&[feedback.take(&[0], vec![2]), half(0, 0)], 2).is_err());
    assert!(read(&[predictions.take(&[0, 1], vec![1, 0])], 2).is_err());
}

#[test]
fn offsets_beyond_all_are_refused() {
    let body = body();
    for first in [u64::MAX, u64::MAX - 2, i64::MAX as u64 - 2] {
        assert!(
            !check_frame(&frame(header(first, 3, &body), &body)),
            "{first}"
        );
    }
    assert!(check_frame(&frame(
        header(i64::MAX as u64 - 3, 3, &body),
        &body
    )));
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let batch = batch();
    let sound = Prefix::of_rows(&batch.origins, &batch.names)
        .bytes()
        .to_vec();
    let tail = |flags, mut body: Vec<u8>, at: usize| {
        body[at] = 1;
        let header = Header {
            flags,
            ..header(7, 0, &body)
        };
        check_frame(&frame(header, &body))
    };
    let padded = [&sound[..], &[0; 8]].concat();
    let rows = FrameKind::Rows.flags();
    assert!(
        check_frame(&frame(header(7, 0, &padded), &padded)),
        "zeros are padding"
    );
    assert!(!tail(rows, padded.clone(), padded.len() - 1));
    assert!(!tail(FrameKind::State.flags(), vec![0; 16], 15));
    assert!(!tail(FrameKind::Closing.flags(), vec![0; 16], 15));
    // A prefix that says it is longer than what it holds.
    let mut longer = padded;
    let len = longer.len() as u32 - 4;
    longer[..4].copy_from_slice(&len.to_le_bytes());
    assert!(!check_frame(&frame(header(7, 0, &longer), &longer)));
}

fn contents() -> Contents {
    let end = SegmentEnd {
        offset: Offset(10),
        position: 5000,
        last_header_crc: 7,
    };
    let entry = |number, first, end| SegmentEntry {
        number,
        first_offset: Offset(first),
        end,
    };
    Contents {
        log: LogId(uuid::Uuid::from_u128(7)),
        epochs: vec![
            Epoch {
                number: 1,
                start: Offset::ZERO,
            },
            Epoch {
                number: 2,
                start: Offset(10),
            },
        ],
        segments: vec![entry(0, 0, Some(end)), entry(1, 10, None)],
        cold_end: Offset(5),
    }
}

/// A MANIFEST of one slot.
fn slot(content: &[u8]) -> Vec<u8> {
    let mut slot = b"MODELOGM\x01\0\0\0\0\0\0\0".to_vec();
    slot.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot), content);
    slot.extend_from_slice(&crc.to_le_bytes());
    slot.extend_from_slice(content);
    slot
}

#[test]
fn every_number_of_a_manifest_may_lie() {
    let content = contents().encode();
    let sound = fuzzing::manifest(&slot(&content)).expect("it is sound");
    sound.check();
    for lying in lies(&content) {
        if let Some(manifest) = fuzzing::manifest(&slot(&lying)) {
            manifest.check();
        }
    }
    for end in 0..content.len() {
        let cut = decode_slot(&slot(&content[..end]));
        assert!(cut.is_err(), "{end} bytes of {}", content.len());
    }
}

#[test]
fn segments_and_epochs_that_do_not_follow_each_other_are_no_manifest() {
    let accepted = |change: &dyn Fn(&mut Contents)| {
        let mut changed = contents();
        change(&mut changed);
        fuzzing::manifest(&slot(&changed.encode())).is_some()
    };
    assert!(accepted(&|_| {}));
    assert!(accepted(&|contents| contents.segments.clear()));
    assert!(!accepted(&|contents| contents.epochs.clear()));
    assert!(!accepted(&|contents| contents.epochs[0].start = Offset(1)));
    assert!(!accepted(&|contents| contents.epochs.swap(0, 1)));
    assert!(!accepted(&|contents| contents.segments.swap(0, 1)));
    assert!(!accepted(&|contents| contents.segments[0].end = None));
    assert!(!accepted(
        &|contents| contents.segments[1].first_offset = Offset(9)
    ));
    assert!(!accepted(
        &|contents| contents.segments[0].first_offset = Offset(11)
    ));
}

fn snapshot_source(accepted: u32) -> crate::log::state::SourceState {
    crate::log::state::SourceState {
        source: Source::Call {
            key: "key".into(),
            body: 7,
        },
        first: Offset(1),
        accepted,
        rejected: 0,
        duplicates: 0,
    }
}

fn about() -> About {
    About {
        log: LogId(uuid::Uuid::from_u128(7)),
        epoch: 1,
        offset: batch().end(),
    }
}

/// What follows a snapshot: the same predictions and feedback again.
fn next(offset: Offset) -> LoggedBatch {
    let batch = batch();
    LoggedBatch {
        first_offset: offset,
        ..batch
    }
}

fn check_snapshot(bytes: &[u8]) {
    if let Some(snapshot) = fuzzing::snapshot(bytes) {
        snapshot.check(next);
    }
}

#[test]
fn every_number_of_a_snapshot_may_lie() {
    let mut state = State::new(100);
    state.next = batch().first_offset;
    assert!(state.fold(&batch()));
    let created = ModelCreated {
        model: "m".into(),
        framework: Some("torch".into()),
        ..ModelCreated::default()
    };
    let created = EventBatch::from_events([&Event::from(created)]).unwrap();
    assert!(state.fold(&created.into_logged(state.next, NOW)));
    state.sources.note(snapshot_source(3));
    let about = about();
    let sealed = snapshot::encode(&state, about.log, about.epoch);
    let (found, content) = ADMISSION.unseal(&sealed).unwrap();
    check_snapshot(&sealed);
    for lying in lies(content) {
        check_snapshot(&ADMISSION.seal(found, &lying));
    }

    let mut statistics = Statistics::default();
    let names = Names::default();
    batch()
        .names
        .iter()
        .for_each(|named| assert!(names.insert(named)));
    statistics.apply(&batch(), &names);
    let content = statistics.encode();
    assert!(fuzzing::snapshot(&STATISTICS.seal(about, &content)).is_some());
    for lying in lies(&content) {
        // The offset is said twice.
        let offset = lying
            .first_chunk()
            .map(|bytes| Offset(u64::from_le_bytes(*bytes)));
        let offset = offset.expect("it starts with the offset");
        check_snapshot(&STATISTICS.seal(About { offset, ..about }, &lying));
    }
}

#[test]
fn a_version_has_a_model_and_nothing_else_has_a_parent() {
    let names = Names::default();
    let named = |kind, id, parent| NamedEntity {
        kind,
        id,
        parent,
        name: "n".into(),
    };
    use crate::event::EntityKind::{Model, Run, Version};
    assert!(
        !names.insert(&named(Version, 1, 1)),
        "there is no model yet"
    );
    assert!(!names.insert(&named(Model, 1, 1)));
    assert!(names.insert(&named(Model, 1, 0)));
    assert!(!names.insert(&named(Version, 1, 0)));
    assert!(!names.insert(&named(Version, 1, 2)));
    assert!(names.insert(&named(Version, 1, 1)));
    assert!(!names.insert(&named(Run, 1, 1)));
}

/// Small events of a kind that has no names of its own.
#[test]
fn a_required_column_has_a_value_in_every_row() {
    let metric = MetricLogged {
        run: Some("r".into()),
        name: "loss".into(),
        value: 0.5,
        ..MetricLogged::default()
    };
    let batch = EventBatch::from_events([&Event::from(metric)]).unwrap();
    let batch = batch.into_logged(Offset(7), NOW);
    let mut rows = Vec::new();
    encode_table(&batch.tables[0], &mut rows);
    let with_mask = |mask: u64| {
        let mut rows = rows.clone();
        rows[8..16].copy_from_slice(&mask.to_le_bytes());
        let body = [Prefix::of_rows(&[], &[]).bytes(), &rows].concat();
        decode_body(&header(7, 1, &body), 1, &body)
    };
    let mask = u64::from_le_bytes(*rows[8..].first_chunk().unwrap());
    assert!(with_mask(mask).is_ok());
    for column in 0..64 {
        assert!(with_mask(mask & !(1 << column)).is_err() || mask & (1 << column) == 0);
    }
    assert!(with_mask(0).is_err(), "rows of nothing take no bytes");
}
