//! The series of models say what was logged since the exporter follows, within their bounds.

use modelog_engine::event::{Event, FeedbackLogged, PredictionLogged};

use super::*;
use crate::testing::{Bench, value};
use crate::{Exporter, PrometheusConfig};

fn prediction(model: &str, version: &str, id: &str) -> PredictionLogged {
    PredictionLogged {
        model: model.into(),
        version: version.into(),
        prediction_id: Some(id.into()),
        predicted_class: Some("cat".into()),
        confidence: Some(0.91),
        inference_time_ms: Some(12.5),
        ..PredictionLogged::default()
    }
}

fn feedback(id: &str, class: &str) -> Event {
    let feedback = FeedbackLogged {
        prediction_id: id.into(),
        true_class: Some(class.into()),
        ..FeedbackLogged::default()
    };
    feedback.into()
}

fn exporter(max_series: usize) -> Exporter {
    let config = PrometheusConfig {
        max_series,
        ..PrometheusConfig::default()
    };
    Exporter::new(config).unwrap()
}

fn predictions(text: &str, model: &str, version: &str) -> Option<f64> {
    let series = format!("modelog_predictions_total{{model=\"{model}\",version=\"{version}\"}}");
    value(text, &series)
}

fn series(name: &str, text: &str) -> Option<f64> {
    value(
        text,
        &format!("modelog_{name}{{model=\"m\",version=\"v\"}}"),
    )
}

#[test]
fn predictions_and_labels_are_counted_from_the_start_on() {
    let bench = Bench::new();
    bench.log(&[prediction("m", "v", "before").into()]);
    let exporter = exporter(10);
    exporter.follow(&bench.engine);
    assert_eq!(
        series("predictions_total", &exporter.render(&bench.engine)),
        None
    );

    let failed = PredictionLogged {
        error: Some("out of memory".into()),
        confidence: Some(f64::NAN),
        inference_time_ms: Some(-1.0),
        ..prediction("m", "v", "p3")
    };
    bench.log(&[
        prediction("m", "v", "p1").into(),
        prediction("m", "v", "p2").into(),
        // Said twice, it happened once.
        prediction("m", "v", "p2").into(),
        failed.into(),
        feedback("p1", "cat"),
        feedback("p1", "cat"),
        feedback("p2", "dog"),
        // A label of a prediction that was there before is news.
        feedback("before", "cat"),
    ]);
    let text = exporter.render(&bench.engine);
    assert_eq!(series("predictions_total", &text), Some(3.0));
    assert_eq!(series("prediction_errors_total", &text), Some(1.0));
    assert_eq!(series("prediction_labelled_total", &text), Some(3.0));
    assert_eq!(series("prediction_correct_total", &text), Some(2.0));
    assert_eq!(
        series("prediction_inference_duration_seconds_count", &text),
        Some(2.0)
    );
    assert_eq!(
        series("prediction_inference_duration_seconds_sum", &text),
        Some(0.025)
    );
    let bucket = |bound| {
        let name = "modelog_prediction_confidence_ratio_bucket";
        value(
            &text,
            &format!("{name}{{model=\"m\",version=\"v\",le=\"{bound}\"}}"),
        )
    };
    assert_eq!((bucket("0.9"), bucket("0.95")), (Some(0.0), Some(2.0)));

    // Feedback that changes its mind counts again; a following one of the same opinion does not.
    bench.log(&[feedback("p2", "cat"), feedback("p2", "cat")]);
    let text = exporter.render(&bench.engine);
    assert_eq!(series("prediction_labelled_total", &text), Some(4.0));
    assert_eq!(series("prediction_correct_total", &text), Some(3.0));
}

#[test]
fn halves_count_when_the_response_arrives() {
    let bench = Bench::new();
    let exporter = exporter(10);
    exporter.follow(&bench.engine);
    let half = |part: &str| {
        let half = PredictionLogged {
            part: Some(part.into()),
            ..prediction("m", "v", "p1")
        };
        Event::from(half)
    };
    bench.log(&[half("request")]);
    assert_eq!(
        series("predictions_total", &exporter.render(&bench.engine)),
        None
    );
    bench.log(&[half("response")]);
    assert_eq!(
        series("predictions_total", &exporter.render(&bench.engine)),
        Some(1.0)
    );
}

#[test]
fn what_happened_long_ago_is_no_traffic() {
    let bench = Bench::new();
    let exporter = exporter(10);
    exporter.follow(&bench.engine);
    let ago = |seconds: i64, id: &str| {
        let micros = bench.engine.clock().now().micros() - seconds * 1_000_000;
        Event::from(prediction("m", "v", id)).at(Timestamp::from_micros(micros))
    };
    bench.log(&[ago(600, "p1"), ago(601, "p2"), ago(-601, "p3")]);
    assert_eq!(
        series("predictions_total", &exporter.render(&bench.engine)),
        Some(2.0)
    );
}

#[test]
fn versions_without_room_count_together_until_others_are_idle() {
    let bench = Bench::new();
    let exporter = exporter(2);
    exporter.follow(&bench.engine);
    let mut id = 0;
    let mut log = |model: &str, version: &str| {
        id += 1;
        bench.log(&[prediction(model, version, &format!("p{id}")).into()]);
        exporter.render(&bench.engine)
    };
    log("resnet", "50v1");
    log("resnet50", "v1");
    log("m", "v3");
    let text = log("m", "v4");
    assert_eq!(predictions(&text, "resnet", "50v1"), Some(1.0));
    assert_eq!(predictions(&text, "resnet50", "v1"), Some(1.0));
    assert_eq!(predictions(&text, "m", "v3"), None);
    assert_eq!(predictions(&text, OTHER, OTHER), Some(2.0));
    assert_eq!(value(&text, LABEL_OVERFLOW), Some(2.0));

    bench.clock.forward(IDLE / 2);
    log("resnet", "50v1");
    bench.clock.forward(IDLE / 2);
    // One of them was idle for as long as it takes: its place is free.
    let text = log("m", "v3");
    assert_eq!(predictions(&text, "resnet", "50v1"), Some(2.0));
    assert_eq!(predictions(&text, "resnet50", "v1"), None);
    assert_eq!(predictions(&text, "m", "v3"), Some(1.0));
    assert_eq!(predictions(&text, OTHER, OTHER), Some(2.0));

    // With nobody counting, a look is enough to free what is idle.
    bench.clock.forward(IDLE);
    let text = exporter.render(&bench.engine);
    for (model, version) in [("resnet", "50v1"), ("m", "v3")] {
        assert_eq!(predictions(&text, model, version), None);
    }
    assert!(
        !text.contains("resnet"),
        "no other series of it is left either"
    );
    let text = log("resnet", "50v1");
    assert_eq!(predictions(&text, "resnet", "50v1"), Some(1.0));
}

#[test]
fn without_room_everything_counts_together() {
    let bench = Bench::new();
    let exporter = exporter(0);
    exporter.follow(&bench.engine);
    bench.log(&[prediction("m", "v", "p1").into(), feedback("p1", "cat")]);
    let text = exporter.render(&bench.engine);
    assert_eq!(predictions(&text, OTHER, OTHER), Some(1.0));
    assert_eq!(value(&text, LABEL_OVERFLOW), Some(2.0));
}

#[test]
fn odd_names_stay_apart() {
    let bench = Bench::new();
    let exporter = exporter(10);
    exporter.follow(&bench.engine);
    bench.log(&[
        prediction("a\"b", "v", "p1").into(),
        prediction("a\\\"b", "v", "p2").into(),
        prediction("é ", "v", "p3").into(),
    ]);
    let text = exporter.render(&bench.engine);
    for model in ["a\\\"b", "a\\\\\\\"b", "é "] {
        assert_eq!(predictions(&text, model, "v"), Some(1.0), "{model}");
    }
}

#[test]
fn a_second_engine_is_not_followed() {
    let (first, second) = (Bench::new(), Bench::new());
    let exporter = exporter(10);
    exporter.follow(&first.engine);
    exporter.follow(&second.engine);
    second.log(&[prediction("m", "v", "p1").into()]);
    assert_eq!(
        series("predictions_total", &exporter.render(&first.engine)),
        None
    );
}
