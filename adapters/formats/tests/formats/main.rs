//! Bytes in, events out: what is accepted, what is refused and how, and what no bytes can do.

mod arrow;
mod binary;
mod cloud;
mod errors;
mod flat;
mod hostile;
mod hostile_messages;
mod kserve;
mod message;
mod random;
mod retry;
mod values;

use modelog_engine::batch::Row;
use modelog_engine::event::{Event, Fact, PredictionLogged};
use modelog_engine::{Offset, Timestamp};
use modelog_formats::{DecodeErrors, Decoded, Format, LocatedError, OnError, Options, decode};

/// When the events of the tests were received.
pub(crate) const RECEIVED: Timestamp = Timestamp::from_micros(1_795_366_800_000_000);

/// The events of a batch, in order; those without a time have the time of receipt.
pub(crate) fn events(decoded: Decoded) -> Vec<Event> {
    let batch = decoded.batch.into_logged(Offset::ZERO, RECEIVED);
    batch.in_order().into_iter().map(Row::to_event).collect()
}

/// The events as JSON, as a reader of the log would get them.
pub(crate) fn json(decoded: Decoded) -> Vec<serde_json::Value> {
    let batch = decoded.batch.into_logged(Offset::ZERO, RECEIVED);
    let rows = batch.in_order().into_iter();
    rows.map(|row| {
        let mut text = Vec::new();
        row.write_json(&mut text);
        serde_json::from_slice(&text).expect("the engine writes JSON")
    })
    .collect()
}

/// Reads a body that is all right.
pub(crate) fn read(body: &str, format: Format) -> Vec<Event> {
    events(
        decode(body.as_bytes(), format, &Options::default())
            .unwrap_or_else(|errors| panic!("{body}: {errors:?}")),
    )
}

/// The facts of flat events.
pub(crate) fn facts(body: &str) -> Vec<Fact> {
    read(body, Format::Json)
        .into_iter()
        .map(|event| event.fact)
        .collect()
}

/// The only fact of a body, which is a prediction.
pub(crate) fn prediction(body: &str) -> PredictionLogged {
    match &facts(body)[..] {
        [Fact::PredictionLogged(prediction)] => prediction.clone(),
        other => panic!("{body}: {other:?}"),
    }
}

/// Reads a body that is refused.
pub(crate) fn refused(body: impl AsRef<[u8]>, format: Format) -> DecodeErrors {
    decode(body.as_ref(), format, &Options::default()).expect_err("the body is wrong")
}

/// The only error of a body of flat events: its byte, field and code.
pub(crate) fn error(body: impl AsRef<[u8]>) -> (u64, Option<String>, &'static str) {
    let errors = refused(body, Format::Json);
    let [
        LocatedError {
            byte, field, code, ..
        },
    ] = &errors.errors[..]
    else {
        panic!("one error: {errors:?}")
    };
    assert_eq!(errors.total, 1);
    (byte.expect("text has a place"), field.clone(), code)
}

/// Options that record what is wrong.
pub(crate) fn recording() -> Options {
    Options {
        on_error: OnError::Record,
        ..Options::default()
    }
}
