//! Entities that must be new, where events are not taken for other reasons as well.

use super::{config, read_all};
use crate::batch::EventBatch;
use crate::event::{Event, Fact, ModelCreated};
use crate::{AppendError, AppendOptions, Appended, Engine, OnConflict, OnCreate};

fn model(name: &str, framework: Option<&str>) -> Event {
    Event::from(ModelCreated {
        model: name.into(),
        framework: framework.map(str::to_owned),
        ..ModelCreated::default()
    })
}

fn create(engine: &Engine, events: &[Event]) -> Result<Appended, AppendError> {
    let options = AppendOptions {
        create: OnCreate::Refuse,
        id_conflict: OnConflict::Record,
        ..AppendOptions::default()
    };
    engine.append_blocking(EventBatch::from_events(events).unwrap(), options)
}

#[test]
fn an_event_recorded_as_rejected_is_not_a_duplicate_too() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    let first = [
        model("known", None),
        model("other", Some("torch")).with_id("id"),
    ];
    create(&engine, &first).unwrap();
    // Of a known entity, and with the id of another event.
    let call = [
        model("known", None).with_id("id"),
        model("new", None),
        model("newer", None),
    ];
    let appended = create(&engine, &call).unwrap();
    assert_eq!(
        (appended.accepted, appended.rejected, appended.duplicates),
        (2, 1, 0)
    );
    let events = read_all(&engine);
    assert_eq!(events.len() as u64, engine.tail().0);
    assert!(matches!(events[2].fact, Fact::EventRejected(_)));
    assert_eq!(events[3..], call[1..]);
}

#[test]
fn a_repeat_is_one_whatever_was_said_of_the_entity_since() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(directory.path())).unwrap();
    let call = [model("known", Some("torch")).with_id("id")];
    let first = create(&engine, &call).unwrap();
    engine
        .append_events_blocking(&[model("known", Some("jax"))])
        .unwrap();
    let again = create(&engine, &call).unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 1));
    assert_eq!(first.accepted, 1);
    assert!(matches!(
        create(&engine, &[model("known", Some("torch"))]),
        Err(AppendError::EntityConflict { .. })
    ));
}
