use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{RecordBatch, new_null_array};
use modelog_engine::batch::{EventBatch, EventBatchBuilder};
use modelog_engine::event::{EntityKind, EntityNamed, Event, EventLogged, MetricLogged};
use modelog_engine::names::NamedEntity;

use super::*;

const APPENDED: Timestamp = Timestamp::from_micros(1_795_366_800_000_000);

fn metric(name: &str, time: Option<Timestamp>) -> Event {
    let mut event = Event::from(MetricLogged {
        name: name.into(),
        value: f64::NAN,
        run: Some("run-1".into()),
        step: Some(i64::MIN),
        ..MetricLogged::default()
    });
    event.time = time;
    event
}

fn mixed() -> LoggedBatch {
    let other = |name: &str| {
        Event::from(EventLogged {
            name: name.into(),
            data: None,
        })
    };
    let events = [
        other("a"),
        metric("loss", None),
        metric("loss", Some(Timestamp::MIN)),
        other("b"),
        metric("accuracy", None),
    ];
    let batch = EventBatch::from_events(&events).unwrap();
    batch.into_logged(Offset(100), APPENDED)
}

fn whole(rows: &Rows) -> RecordBatch {
    let schema = schema::file_schema(rows.kind);
    let columns = schema.fields().iter().zip(&rows.columns);
    let columns = columns.map(|(field, column)| match column {
        Some(array) => Arc::clone(array),
        None => new_null_array(field.data_type(), rows.rows),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

fn offsets(rows: &Rows) -> Vec<i64> {
    let offsets = rows.columns[0].as_ref().unwrap();
    offsets.as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn events_are_those_of_the_table() {
    let batch = mixed();
    let all = Rows::of(&batch).unwrap();
    assert_eq!(all.len(), 2);
    for rows in &all {
        let FileKind::Events(kind) = rows.kind else {
            panic!("there are no origins");
        };
        let table = batch.table(kind).unwrap();
        let expected = table.to_record_batch(batch.first_offset, batch.append_time);
        assert_eq!(whole(rows), expected, "{kind}");
    }
    let metrics = all.iter().find(|rows| rows.rows == 3).unwrap();
    assert_eq!(offsets(metrics), [101, 102, 104]);
    assert_eq!((metrics.first, metrics.end), (Offset(101), Offset(105)));
    // What no row has is not there at all.
    let absent = metrics.columns.iter().filter(|column| column.is_none());
    assert_eq!(absent.count(), 7);
}

#[test]
fn rows_that_are_published_are_skipped() {
    let batch = mixed();
    let is_metric = |rows: &Rows| rows.kind == FileKind::Events(Kind::MetricLogged);
    let metrics = || {
        Rows::of(&batch)
            .unwrap()
            .into_iter()
            .find(is_metric)
            .unwrap()
    };
    let from = |offset| metrics().from(Offset(offset)).map(|rows| offsets(&rows));
    assert_eq!(from(0), Some(vec![101, 102, 104]));
    assert_eq!(from(101), Some(vec![101, 102, 104]));
    assert_eq!(from(102), Some(vec![102, 104]));
    assert_eq!(from(103), Some(vec![104]));
    assert_eq!(from(104), Some(vec![104]));
    assert_eq!(from(105), None);
    let rest = metrics().from(Offset(103)).unwrap();
    assert_eq!(
        (rest.first, rest.end, rest.rows),
        (Offset(104), Offset(105), 1)
    );
    assert_eq!(whole(&rest), whole(&metrics()).slice(2, 1));
}

#[test]
fn names_and_origins_stand_at_the_first_offset() {
    let mut batch = mixed();
    let named = |kind, id, parent, name: &str| NamedEntity {
        kind,
        id,
        parent,
        name: name.into(),
    };
    batch.names = vec![
        named(EntityKind::Model, 1, 0, "m"),
        named(EntityKind::Version, u32::MAX, 1, "v"),
    ];
    let origin = |source| Origin {
        source,
        first_ord: 1,
        rows: 2,
        rejected: 3,
        duplicates: u32::MAX,
    };
    batch.origins = vec![
        origin(Source::Call {
            key: "".into(),
            body: u64::MAX,
        }),
        origin(Source::Producer {
            id: "p".into(),
            epoch: 4,
            sequence: 1 << 63,
        }),
        origin(Source::Kafka {
            cluster: "c".into(),
            topic: "t".into(),
            topic_id: Some(7),
            partition: -1,
            first: i64::MIN,
            next: i64::MAX,
            leader_epoch: 5,
        }),
    ];
    let all = Rows::of(&batch).unwrap();
    let [_, _, names, origins] = &all[..] else {
        panic!("events of two kinds, names and origins");
    };
    assert_eq!(names.kind, FileKind::Events(Kind::EntityNamed));
    assert_eq!(offsets(names), [100, 100]);
    assert_eq!((names.first, names.end), (Offset(100), Offset(101)));
    let text = format!("{:?}", whole(names).columns());
    for value in ["\"model\"", "\"version\"", "4294967295", "\"m\"", "\"v\""] {
        assert!(text.contains(value), "{value}");
    }
    let parents = whole(names);
    let parents = parents.column_by_name("parent_id").unwrap();
    assert!(parents.is_null(0), "no parent");
    assert_eq!(parents.as_primitive::<Int64Type>().value(1), 1);

    assert_eq!(origins.kind, FileKind::Origin);
    assert_eq!(offsets(origins), [100, 100, 100]);
    let table = whole(origins);
    let int = |row, column: OriginColumn| {
        let column = table.column(column as usize);
        column
            .is_valid(row)
            .then(|| column.as_primitive::<Int64Type>().value(row))
    };
    let text = |row, column: OriginColumn| {
        let column = table.column(column as usize);
        column
            .is_valid(row)
            .then(|| column.as_string::<i32>().value(row).to_owned())
    };
    use OriginColumn as C;
    for row in 0..3 {
        let counts = [C::FirstOrd, C::Rows, C::Rejected, C::Duplicates];
        let counts = counts.map(|column| int(row, column).unwrap());
        assert_eq!(counts, [1, 2, 3, i64::from(u32::MAX)]);
    }
    assert_eq!(text(0, C::Source).as_deref(), Some("call"));
    assert_eq!(text(0, C::Key).as_deref(), Some(""));
    assert_eq!(int(0, C::BodyHash), Some(-1));
    assert_eq!(text(1, C::Source).as_deref(), Some("producer"));
    assert_eq!(text(1, C::Key), None);
    assert_eq!(text(1, C::Producer).as_deref(), Some("p"));
    assert_eq!(int(1, C::ProducerEpoch), Some(4));
    assert_eq!(int(1, C::Sequence), Some(i64::MIN));
    assert_eq!(text(2, C::Source).as_deref(), Some("kafka"));
    assert_eq!(
        text(2, C::TopicId).as_deref(),
        Some("00000000-0000-0000-0000-000000000007")
    );
    assert_eq!(int(2, C::Partition), Some(-1));
    assert_eq!(int(2, C::FirstPosition), Some(i64::MIN));
    assert_eq!(int(2, C::NextPosition), Some(i64::MAX));
    assert_eq!(int(2, C::LeaderEpoch), Some(5));
    assert_eq!(int(0, C::LeaderEpoch), None);
}

#[test]
fn an_event_that_only_the_log_may_make_is_refused() {
    let mut builder = EventBatchBuilder::new();
    let fact = EntityNamed {
        entity_kind: "model".into(),
        entity_id: 1,
        parent_id: None,
        name: "m".into(),
    };
    builder.push(&Event::from(fact)).unwrap();
    let batch = builder.finish().into_logged(Offset(3), APPENDED);
    let error = Rows::of(&batch).unwrap_err();
    assert!(error.to_string().contains("offset 3"), "{error}");
}
