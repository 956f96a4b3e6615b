//! The fold is a function of the log, and counts what it says it counts.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Timestamp;
use crate::batch::EventBatch;
use crate::event::{Event, FeedbackLogged, PredictionLogged};
use crate::names::NamedEntity;

fn prediction(id: &str, class: Option<&str>, part: Option<&str>) -> PredictionLogged {
    PredictionLogged {
        model: "m".into(),
        version: "v1".into(),
        prediction_id: Some(id.into()),
        predicted_class: class.map(str::to_owned),
        confidence: Some(0.75),
        inference_time_ms: Some(12.5),
        part: part.map(str::to_owned),
        ..PredictionLogged::default()
    }
}

fn feedback(id: &str, class: &str) -> FeedbackLogged {
    FeedbackLogged {
        prediction_id: id.into(),
        true_class: Some(class.into()),
        ..FeedbackLogged::default()
    }
}

fn at(event: impl Into<Event>, seconds: i64) -> Event {
    event.into().at(Timestamp::from_micros(
        1_700_000_000_000_000 + seconds * 1_000_000,
    ))
}

fn names() -> Names {
    let names = Names::default();
    for (kind, id, parent, name) in [
        (EntityKind::Model, 1, 0, "m"),
        (EntityKind::Version, 1, 1, "v1"),
        (EntityKind::Version, 2, 1, "v2"),
    ] {
        assert!(names.insert(&NamedEntity {
            kind,
            id,
            parent,
            name: name.into()
        }));
    }
    names
}

fn batch(events: &[Event], first_offset: u64) -> LoggedBatch {
    let parts = EventBatch::from_events(events).unwrap().into_parts();
    LoggedBatch {
        first_offset: Offset(first_offset),
        rows: events.len() as u32,
        append_time: Timestamp::from_micros(1_800_000_000_000_000),
        epoch: 1,
        names: Vec::new(),
        origins: Vec::new(),
        tables: parts.tables,
    }
}

fn fold(events: &[Event]) -> Statistics {
    let mut statistics = Statistics::default();
    statistics.apply(&batch(events, 0), &names());
    statistics
}

fn stats(events: &[Event]) -> crate::read::VersionStats {
    fold(events).version(1).unwrap().view("m", "v1", Offset(0))
}

#[test]
fn predictions_count_once_when_their_output_arrives() {
    let whole = at(prediction("a", Some("cat"), None), 0);
    assert_eq!(stats(&[whole.clone(), whole]).predictions, 1);
    let request = at(prediction("b", None, Some("request")), 0);
    let response = at(prediction("b", Some("cat"), Some("response")), 1);
    assert!(fold(std::slice::from_ref(&request)).version(1).is_none());
    assert_eq!(stats(&[request.clone(), response.clone()]).predictions, 1);
    assert_eq!(stats(&[response, request]).predictions, 1);
    // Without an id of their own they are all different.
    let mut anonymous = prediction("", Some("cat"), None);
    anonymous.prediction_id = None;
    assert_eq!(
        stats(&[at(anonymous.clone(), 0), at(anonymous, 0)]).predictions,
        2
    );
}

#[test]
fn the_version_is_that_of_the_answer() {
    let mut request = prediction("a", None, Some("request"));
    request.version = "v2".into();
    let request = at(request, 0);
    let response = at(prediction("a", Some("cat"), Some("response")), 1);
    let label = at(feedback("a", "cat"), 2);
    for events in [
        [request.clone(), response.clone(), label.clone()],
        [response, request, label],
    ] {
        let folded = fold(&events);
        assert!(folded.version(2).is_none());
        let found = stats(&events);
        assert_eq!((found.predictions, found.labelled), (1, 1));
    }
}

#[test]
fn the_latest_feedback_counts_whenever_it_comes() {
    let asked = at(prediction("a", Some("cat"), None), 0);
    let right = at(feedback("a", "cat"), 10);
    let wrong = at(feedback("a", "dog"), 5);
    let orders: [&[&Event]; 4] = [
        &[&asked, &right, &wrong],
        &[&right, &asked, &wrong],
        &[&wrong, &right, &asked],
        &[&asked, &wrong, &right],
    ];
    for order in orders {
        let events: Vec<_> = order.iter().map(|event| (*event).clone()).collect();
        let found = stats(&events);
        assert_eq!((found.labelled, found.correct), (1, 1));
        assert_eq!(fold(&events).totals().feedback_unmatched, 0);
    }
    let unmatched = fold(&[asked, at(feedback("b", "cat"), 0)]);
    assert_eq!(unmatched.totals().feedback_unmatched, 1);
    // With model and version it counts without a prediction, if it says whether that was right.
    let mut told = feedback("c", "cat");
    (told.model, told.version, told.correct) = (Some("m".into()), Some("v2".into()), Some(false));
    let told = fold(&[at(told, 0)]);
    let found = told.version(2).unwrap().view("m", "v2", Offset(0));
    assert_eq!(
        (found.predictions, found.labelled, found.correct),
        (0, 1, 0)
    );
}

#[test]
fn odd_numbers_stay_out_of_means() {
    let mut odd = prediction("a", None, None);
    (odd.confidence, odd.inference_time_ms) = (Some(f64::NAN), Some(-1.0));
    let mut endless = prediction("b", None, None);
    endless.inference_time_ms = Some(f64::INFINITY);
    let found = stats(&[at(odd, 0), at(endless, 2)]);
    assert_eq!(
        (
            found.predictions,
            found.latency_count,
            found.confidence_count
        ),
        (2, 0, 1)
    );
    assert_eq!(found.confidence_mean, Some(0.75));
    assert_eq!(found.rate_per_second, Some(0.5));
    assert_eq!(found.latency_ms_p99, None);
}

#[test]
fn the_oldest_predictions_leave_the_window() {
    let mut window = Window::new(2);
    window.entry(1, 7).seen = true;
    window.entry(2, 7).seen = true;
    window.entry(3, 7).seen = true;
    assert!(!window.entry(1, 7).seen, "it left, and is new again");
    assert!(window.entry(3, 7).seen);
    assert!(!window.entry(2, 7).seen);
}

#[test]
fn observers_are_told_each_count_once() {
    let events = [
        at(prediction("p1", None, Some("request")), 1),
        at(prediction("p1", Some("cat"), Some("response")), 2),
        at(prediction("p1", Some("cat"), Some("response")), 3),
        at(feedback("p1", "cat"), 4),
        at(feedback("p1", "cat"), 5),
        at(feedback("p1", "dog"), 6),
        at(feedback("p2", "cat"), 7),
        at(prediction("p2", Some("cat"), None), 8),
    ];
    let (batch, names) = (batch(&events, 0), names());
    let mut told = Vec::new();
    let mut statistics = Statistics::default();
    statistics.apply_observed(&batch, &names, &mut |observation| told.push(*observation));
    // What was counted before is not told again.
    statistics.apply_observed(&batch, &names, &mut |observation| told.push(*observation));
    let right = |correct| LabelFacts {
        correct: Some(correct),
        value_error: None,
    };
    let label = |correct, replaced| Fact::Label {
        label: right(correct),
        replaced,
    };
    let found: Vec<_> = told
        .iter()
        .map(|told| match told.fact {
            Fact::Prediction(facts) => {
                assert_eq!((facts.latency_ms, facts.time), (Some(12.5), told.time));
                (told.offset.0, None)
            }
            fact @ Fact::Label { .. } => (told.offset.0, Some(fact)),
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, None),
            (3, Some(label(true, None))),
            (5, Some(label(false, Some(right(true))))),
            (7, Some(label(true, None))),
            (7, None),
        ]
    );
    for told in &told {
        assert_eq!(told.version, 1);
        assert_eq!(told.append_time, batch.append_time);
        let second = told.offset.0 as i64 + 1;
        assert_eq!(
            told.time.micros(),
            1_700_000_000_000_000 + second * 1_000_000
        );
    }
}

#[test]
fn predictions_that_say_nothing_are_in_snapshots_too() {
    // Entries of the least size, and nothing behind them that could make up for a wrong idea of it.
    let plain: Vec<_> = (0..9)
        .map(|number| at(prediction(&format!("p{number}"), None, None), 0))
        .collect();
    let folded = fold(&plain);
    let again = Statistics::decode(&folded.encode()).unwrap();
    assert_eq!(again.encode(), folded.encode());
}

fn event() -> impl Strategy<Value = Event> {
    let id = 0..6_u8;
    let class = prop::sample::select(vec!["cat", "dog"]);
    let time = 0..20_i64;
    let part = prop::sample::select(vec![None, Some("request"), Some("response")]);
    prop_oneof![
        (id.clone(), class.clone(), part, time.clone(), -1.0..1e4_f64).prop_map(
            |(id, class, part, time, latency)| {
                let mut event = prediction(&format!("p{id}"), Some(class), part);
                event.version = if id % 2 == 0 {
                    "v1".into()
                } else {
                    "v2".into()
                };
                event.inference_time_ms = Some(latency);
                event.predicted_value = Some(latency);
                at(event, time)
            }
        ),
        (id, class, time, any::<bool>()).prop_map(|(id, class, time, named)| {
            let mut event = feedback(&format!("p{id}"), class);
            event.model = named.then(|| "m".into());
            event.true_value = Some(time as f64);
            at(event, time)
        }),
    ]
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_state(events in prop::collection::vec(event(), 1..40), cuts in prop::collection::vec((0..40_usize, 0..3_usize), 0..8)) {
        let whole = fold(&events);
        let mut cut = Statistics::default();
        let names = Arc::new(names());
        let mut places: Vec<_> = cuts.iter().map(|(at, back)| ((*at).min(events.len()), *back)).collect();
        places.sort_unstable();
        places.push((events.len(), 0));
        let mut done = 0_usize;
        for (end, back) in places {
            let start = done.saturating_sub(back);
            if end <= start {
                continue;
            }
            cut.apply(&batch(&events[start..end], start as u64), &names);
            // Going on from a snapshot is going on.
            cut = Statistics::decode(&cut.encode()).unwrap();
            done = done.max(end);
        }
        prop_assert_eq!(cut.encode(), whole.encode());
    }

    #[test]
    fn quantiles_are_within_their_error(mut values in prop::collection::vec(1e-3..1e7_f64, 1..400), q in 0.0..1.0_f64) {
        let mut sketch = sketch::Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        values.sort_unstable_by(f64::total_cmp);
        let exact = values[(q * (values.len() - 1) as f64).round() as usize];
        let found = sketch.quantile(q).unwrap();
        prop_assert!((found - exact).abs() <= exact * RELATIVE_ERROR * 1.000_001, "{found} for {exact}");
    }

    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), events in prop::collection::vec(event(), 0..5), place in any::<prop::sample::Index>()) {
        let _ = Statistics::decode(&bytes);
        let _ = VersionStatistics::decode(&bytes);
        bytes = fold(&events).encode();
        let place = place.index(bytes.len());
        bytes[place] ^= 0x41;
        let _ = Statistics::decode(&bytes);
        prop_assert!(Statistics::decode(&bytes[..place]).is_err());
    }
}

/// What a snapshot says may be anything; asked for, a span between its times must not overflow.
#[test]
fn times_that_cannot_be_are_no_span() {
    let one = |id| prediction(id, None, None);
    let sound = fold(&[at(one("p"), 0), at(one("q"), 5)]);
    let sound = sound.version(1).unwrap().encode();
    let span_rate = |first: i64, last: i64| {
        let mut bytes = sound.clone();
        bytes[16..24].copy_from_slice(&first.to_le_bytes());
        bytes[24..32].copy_from_slice(&last.to_le_bytes());
        let lying = VersionStatistics::decode(&bytes).unwrap();
        lying.view("m", "v1", Offset(0)).rate_per_second
    };
    assert_eq!(span_rate(0, 2_000_000), Some(0.5));
    assert!(span_rate(i64::MIN + 1, i64::MAX).is_some());
    for (first, last) in [
        (7, 6),
        (i64::MAX, i64::MIN + 1),
        (i64::MIN, 7),
        (7, i64::MIN),
    ] {
        assert_eq!(span_rate(first, last), None, "{first} {last}");
    }
}
