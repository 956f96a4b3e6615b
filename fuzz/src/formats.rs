//! Bodies of requests: flat JSON, CloudEvents, Arrow.
//!
//! serde_json is the oracle for text: what it takes for JSON, and which values it finds. Whatever was accepted, in
//! whichever format, is written out as the log writes it, read again as NDJSON, and must be the same.

use modelog_engine::Offset;
use modelog_engine::batch::Row;
use modelog_engine::event::{Event, Kind};
use modelog_formats::{DecodeErrors, Decoded, Format, Limits, OnError, Options, decode};

use super::json::{self, is_blank, is_sound};
use super::seeds::RECEIVED;
use super::{assert_within, memory};

/// A tenth of what the corpus and its mutations may take, so that the limit is met too.
const BATCH_BYTES: usize = 1 << 20;

fn options(on_error: OnError) -> Options {
    Options {
        on_error,
        kind: Some(Kind::PredictionLogged),
        limits: Limits {
            batch_bytes: BATCH_BYTES,
            ..Limits::default()
        },
        ..Options::default()
    }
}

pub(super) fn json(bytes: &[u8]) -> bool {
    text(bytes, Format::Json)
}

pub(super) fn ndjson(bytes: &[u8]) -> bool {
    text(bytes, Format::Ndjson)
}

pub(super) fn cloud_event(bytes: &[u8]) -> bool {
    text(bytes, Format::CloudEvent)
}

pub(super) fn cloud_event_batch(bytes: &[u8]) -> bool {
    text(bytes, Format::CloudEventBatch)
}

/// A few bytes of text make one value in one column, or the description of an error, of which there are at most a
/// hundred; where errors are recorded, two bytes can be an event with a reason, a message and a position.
fn text(bytes: &[u8], format: Format) -> bool {
    let bounds = [(16, 200_000), (300, 200_000)];
    let Some(decoded) = both_ways(bytes, format, bounds) else {
        return false;
    };
    let text = std::str::from_utf8(bytes).expect("P3: what is accepted is UTF-8");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sound = match format {
        Format::Ndjson => text.lines().all(|line| is_blank(line) || is_sound(line)),
        _ => is_blank(text) || is_sound(text),
    };
    assert!(sound, "P3: what is accepted is JSON");
    let written = written(decoded);
    match format {
        Format::Ndjson => json::check_values(text.lines().filter(|line| !is_blank(line)), &written),
        Format::Json => json::check_values(json::elements(text).into_iter(), &written),
        _ => json::check_envelopes(text, format == Format::CloudEventBatch, &written),
    }
    check_again(&written);
    true
}

/// An Arrow stream. Compression is paid for from the limit of a batch; what is cast is there twice.
pub(super) fn arrow(bytes: &[u8]) -> bool {
    let constant = 12 * BATCH_BYTES;
    let bounds = [(32, constant), (300, constant)];
    let decoded = both_ways(bytes, Format::Arrow, bounds);
    decoded
        .map(|decoded| check_again(&written(decoded)))
        .is_some()
}

/// Reads a body in both ways of treating errors, which must agree; answers what was accepted without any.
fn both_ways(bytes: &[u8], format: Format, bounds: [(usize, usize); 2]) -> Option<Decoded> {
    let read = |on_error, bound| {
        let options = options(on_error);
        let (result, peak) = memory::peak(|| decode(bytes, format, &options));
        assert_within(peak, bytes.len(), bound);
        result
    };
    let refusing = read(OnError::Refuse, bounds[0]);
    match read(OnError::Record, bounds[1]) {
        Ok(recorded) => check_agreement(&refusing, &recorded, bytes),
        // All else that is wrong is recorded.
        Err(errors) => {
            let last = errors.errors.last().expect("P3: an error is described");
            assert_eq!(last.code, "batch_too_large", "P3");
            assert!(refusing.is_err(), "P3: too much is too much in both ways");
        }
    }
    if let Err(errors) = &refusing {
        check_refusal(errors, bytes, format);
    }
    refusing.ok()
}

fn check_agreement(refusing: &Result<Decoded, DecodeErrors>, recorded: &Decoded, bytes: &[u8]) {
    let rows = recorded.batch.rows();
    match refusing {
        Ok(decoded) => {
            assert_eq!(
                (recorded.batch.rejected(), rows),
                (0, decoded.batch.rows()),
                "P3"
            );
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty(), "P3: an error is described");
            assert!(errors.total >= errors.errors.len() as u64, "P3");
            assert_eq!(u64::from(recorded.batch.rejected()), errors.total, "P3");
            assert_eq!(recorded.rejected, errors.errors, "P3");
            for error in &errors.errors {
                let inside = error.byte.is_none_or(|byte| byte <= bytes.len() as u64);
                assert!(
                    inside && error.event < u64::from(rows),
                    "P3: {error:?} lies in the body"
                );
            }
        }
    }
}

/// What serde_json takes for JSON is not refused for not being JSON.
fn check_refusal(errors: &DecodeErrors, bytes: &[u8], format: Format) {
    let syntax = |code| ["bad_json", "invalid_utf8", "unpaired_surrogate"].contains(&code);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // A CloudEvent may hold more JSON, in base64; Arrow columns hold JSON too.
    if matches!(format, Format::Json | Format::Ndjson) {
        // One mark is no part of the text; a second one is.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = &errors.errors[0];
        let place = match format {
            Format::Ndjson => first
                .line
                .and_then(|line| text.split('\n').nth(line as usize - 1)),
            _ => Some(text),
        };
        if let Some(place) = place.filter(|_| syntax(first.code)) {
            assert!(
                !is_sound(place),
                "P3: {first:?} refuses sound JSON: {place}"
            );
        }
    }
}

/// The events.
pub(super) fn events(decoded: Decoded) -> Vec<Event> {
    let batch = decoded.batch.into_logged(Offset::ZERO, RECEIVED);
    batch.in_order().into_iter().map(Row::to_event).collect()
}

/// The events as the log writes them, a line each.
pub(super) fn written(decoded: Decoded) -> Vec<String> {
    let batch = decoded.batch.into_logged(Offset::ZERO, RECEIVED);
    let line = |row: Row<'_>| {
        let mut line = Vec::new();
        row.write_json_line(&mut line);
        String::from_utf8(line).expect("P3: what is written is UTF-8")
    };
    batch.in_order().into_iter().map(line).collect()
}

/// What the log wrote is read, and is the same.
pub(super) fn check_again(lines: &[String]) {
    let options = Options {
        on_error: OnError::Refuse,
        ..Options::default()
    };
    let again = decode(lines.join("\n").as_bytes(), Format::Ndjson, &options);
    let again = again.unwrap_or_else(|errors| panic!("P3: {:?} in {lines:?}", errors.errors));
    assert_eq!(
        written(again),
        lines,
        "P3: what was written is read as it was"
    );
}
