//! Rows in, rows out: what is written to a batch comes back.

use proptest::prelude::*;

use super::*;
use crate::event::schema::{self, FieldType};
use crate::event::{
    Event, Fact, FieldProblem, Json, MetricLogged, ModelCreated, PredictionLogged, Slot,
};

/// A fact of every kind with every field set to something legal.
fn full(kind: Kind) -> Fact {
    let mut fact = Fact::empty(kind);
    let mut column = schema::COMMON.len();
    fact.each(|slot| {
        let text = match schema::field(kind, column).ty {
            FieldType::Entity => "model/resnet50".to_owned(),
            FieldType::Word(words) => words[0].to_owned(),
            _ => format!("text {column}"),
        };
        let json = Json::parse(format!("{{\"n\": {column}}}")).expect("valid");
        match slot {
            Slot::Text(value) => *value = text,
            Slot::OptionalText(value) => *value = Some(text),
            Slot::Json(value) => *value = json,
            Slot::OptionalJson(value) => *value = Some(json),
            Slot::Int(value) => *value = column as i64,
            Slot::OptionalInt(value) => *value = Some(column as i64),
            Slot::Float(value) => *value = 0.5,
            Slot::OptionalFloat(value) => *value = Some(column as f64),
            Slot::OptionalBool(value) => *value = Some(true),
            Slot::OptionalBytes(value) => *value = Some(vec![0, 255]),
        }
        column += 1;
    });
    assert_eq!(
        column,
        schema::column_count(kind),
        "{kind} lists its fields in two ways"
    );
    fact
}

/// An event of every kind with every field.
pub(crate) fn one_of_each() -> Vec<Event> {
    Kind::ALL
        .into_iter()
        .map(|kind| Event::from(full(kind)).with_id(format!("{kind}-1")))
        .collect()
}

fn logged(batch: EventBatch, first_offset: u64) -> LoggedBatch {
    let rows = batch.rows();
    LoggedBatch {
        first_offset: Offset(first_offset),
        rows,
        append_time: Timestamp::from_micros(1_795_366_800_000_000),
        epoch: 1,
        names: Vec::new(),
        origins: batch.origins().to_vec(),
        tables: batch.into_parts().tables,
    }
}

#[test]
fn every_field_of_every_kind_round_trips() {
    let time = Timestamp::from_micros(1_700_000_000_000_000);
    let mut events: Vec<Event> = Vec::new();
    for kind in Kind::ALL {
        let mut event = Event::from(full(kind))
            .with_id(format!("{kind}-1"))
            .at(time);
        event.source = Some("/tests".into());
        event.extra = Some(Json::parse(r#"{"more":1}"#).unwrap());
        events.push(event);
        events.push(Event::from(full(kind)).at(time));
    }
    let batch = logged(EventBatch::from_events(&events).unwrap(), 7);
    let read: Vec<_> = batch.in_order().into_iter().map(Row::to_event).collect();
    assert_eq!(read, events);
    let offsets: Vec<_> = batch
        .in_order()
        .into_iter()
        .map(|row| row.offset().0)
        .collect();
    assert_eq!(offsets, (7..47).collect::<Vec<_>>());
    for row in batch.in_order() {
        let mut text = Vec::new();
        row.write_json(&mut text);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["type"], row.kind().name());
        assert_eq!(value["time"], "2023-11-14T22:13:20Z");
    }
    for table in &batch.tables {
        let arrow = table.to_record_batch(batch.first_offset, batch.append_time);
        assert_eq!(arrow.num_rows(), 2);
    }
}

#[test]
fn what_must_be_stated_is_stated_as_null() {
    let removed = crate::event::ModelVersionAliased {
        model: "m".into(),
        alias: "prod".into(),
        version: None,
    };
    let batch = logged(EventBatch::from_events([&removed.into()]).unwrap(), 0);
    let mut text = Vec::new();
    batch.in_order()[0].write_json_line(&mut text);
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert!(value.as_object().unwrap()["version"].is_null());
    assert!(!value.as_object().unwrap().contains_key("extra"));
}

#[test]
fn a_dropped_row_leaves_no_trace() {
    let mut builder = EventBatchBuilder::new();
    let model = |name: &str| ModelCreated {
        model: name.into(),
        ..ModelCreated::default()
    };
    builder.push(&model("a").into()).unwrap();
    let mut bad = MetricLogged {
        name: "loss".into(),
        value: 1.0,
        ..MetricLogged::default()
    };
    bad.version = Some("v1".into());
    let error = builder.push(&bad.clone().into()).unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.problem),
        ("version", FieldProblem::Needs("`model`"))
    );
    bad.version = None;
    builder.push(&bad.clone().into()).unwrap_err();
    bad.run = Some("r".into());
    builder.push(&bad.clone().into()).unwrap();
    builder.push(&model("x\u{0}").into()).unwrap_err();
    builder.push(&model("").into()).unwrap_err();
    builder.push(&model(&"x".repeat(501)).into()).unwrap_err();
    builder.push(&model("tab\tbed").into()).unwrap_err();
    builder.push(&model("c1 \u{85}").into()).unwrap_err();
    builder.push(&model("â").into()).unwrap();
    let batch = logged(builder.finish(), 0);
    let models: Vec<_> = batch
        .in_order()
        .into_iter()
        .map(|row| match row.to_event().fact {
            Fact::ModelCreated(model) => model.model,
            other => format!("{:?}", other.kind()),
        })
        .collect();
    assert_eq!(models, ["a", "MetricLogged", "â"]);
}

#[test]
fn a_repeat_has_the_identity_of_the_first() {
    let event = |id: &str, confidence| {
        let prediction = PredictionLogged {
            model: "m".into(),
            version: "v".into(),
            confidence: Some(confidence),
            ..PredictionLogged::default()
        };
        Event::from(prediction).with_id(id)
    };
    let events = [
        event("1", 0.5),
        event("1", 0.5),
        event("1", 0.6),
        event("2", 0.5),
    ];
    let parts = EventBatch::from_events(&events).unwrap().into_parts();
    let [first, repeat, other_content, other_id] = parts.identities[..] else {
        panic!("four identities")
    };
    assert_eq!((first.key, first.content), (repeat.key, repeat.content));
    assert_eq!(first.key, other_content.key);
    assert_ne!(first.content, other_content.content);
    assert_ne!(first.key, other_id.key);
    // Arrays have the identities their rows had, also once the time of receipt has been filled in.
    assert_eq!(parts.tables[0].identities(None), parts.identities);
    let received = Timestamp::from_micros(1_795_366_800_000_000);
    let timed: Vec<_> = events.into_iter().map(|event| event.at(received)).collect();
    let timed = EventBatch::from_events(&timed).unwrap().into_parts();
    assert_ne!(timed.identities, parts.identities);
    assert_eq!(timed.tables[0].identities(Some(received)), parts.identities);
}

proptest! {
    /// Joining batches gives the rows, and the identities, of one long batch.
    #[test]
    fn joined_batches_equal_one(cuts in proptest::collection::vec(0..5_usize, 1..6), seed in any::<u64>()) {
        let count: usize = cuts.iter().sum();
        let events: Vec<Event> = (0..count)
            .map(|at| {
                let number = seed.rotate_left(at as u32 * 7);
                let mut event = Event::from(full(Kind::ALL[(number % 20) as usize]));
                if number & 64 != 0 {
                    event.id = Some(format!("id{}", number % 3));
                }
                if number & 128 != 0 {
                    event.time = Some(Timestamp::from_micros(1_700_000_000_000_000 + at as i64));
                }
                if number & 256 != 0 && let Fact::PredictionLogged(prediction) = &mut event.fact {
                    *prediction = PredictionLogged { model: "m".into(), version: "v".into(), ..PredictionLogged::default() };
                }
                event
            })
            .collect();
        let mut whole = EventBatchBuilder::new();
        for event in &events {
            whole.push(event).unwrap();
        }
        let mut joined = EventBatchBuilder::new();
        let mut rest = &events[..];
        for cut in cuts {
            let mut part = EventBatchBuilder::new();
            for event in &rest[..cut] {
                part.push(event).unwrap();
            }
            rest = &rest[cut..];
            joined.extend(&part);
        }
        prop_assert_eq!(joined.rows(), whole.rows());
        let (joined, whole) = (joined.finish().into_parts(), whole.finish().into_parts());
        prop_assert_eq!(joined.identities, whole.identities);
        let list = |tables: Vec<Table>| {
            let batch = LoggedBatch {
                first_offset: Offset(0), rows: count as u32, append_time: Timestamp::default(), epoch: 1,
                names: Vec::new(), origins: Vec::new(), tables,
            };
            batch.in_order().into_iter().map(Row::to_event).collect::<Vec<_>>()
        };
        prop_assert_eq!(list(joined.tables), list(whole.tables));
    }
}
