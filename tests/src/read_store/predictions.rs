//! Predictions: what makes one, how its parts come together, and the feedback on it.

use modelog_engine::event::{Event, FeedbackLogged, PredictionLogged};
use modelog_engine::read::{Feedback, Prediction};
use modelog_engine::{Offset, Timestamp};

use super::facts::{at, feedback, json, named, prediction, some, version_named};
use super::{Case, Factory, Scene, case, first, second};

pub(super) const CASES: &[Case] = &[
    case("a prediction comes back whole", |f| Box::pin(whole(f))),
    case("halves come together in either order", |f| {
        Box::pin(halves(f))
    }),
    case("of repeats the later field counts", |f| {
        Box::pin(repeats(f))
    }),
    case("what makes a prediction", |f| Box::pin(identity(f))),
    case("an id may be what another goes by for want of one", |f| {
        Box::pin(offset_as_id(f))
    }),
    case("a repeat may name another version", |f| {
        Box::pin(other_version(f))
    }),
    case("odd numbers of predictions", |f| Box::pin(odd_numbers(f))),
    case("feedback comes back whole", |f| Box::pin(whole_feedback(f))),
    case("the latest feedback counts, whenever it comes", |f| {
        Box::pin(latest_feedback(f))
    }),
    case("whose feedback it is", |f| Box::pin(whose_feedback(f))),
    case("right or wrong", |f| Box::pin(correctness(f))),
];

async fn found(scene: &Scene, model: &str, id: &str) -> Option<Prediction> {
    let found = scene.reads().prediction(&named(model), id).await.unwrap();
    // Lists say the same.
    if let Some(found) = &found {
        let version = version_named(model, &found.version);
        let page = scene.reads().predictions(&version, first(1_000)).await;
        let items = page.unwrap().expect("the version is there").items;
        let listed: Vec<_> = items
            .iter()
            .filter(|listed| listed.prediction_id == id)
            .collect();
        assert_eq!(listed.len(), 1);
        assert_eq!(format!("{:?}", listed[0]), format!("{found:?}"));
    }
    found
}

async fn one(scene: &Scene, id: &str) -> Prediction {
    found(scene, "m", id)
        .await
        .expect("the prediction is there")
}

fn full(id: &str) -> PredictionLogged {
    PredictionLogged {
        input: Some(json(r#"{"image": "a.jpg"}"#)),
        output: Some(json(r#"{"class": 281, "class":282}"#)),
        predicted_class: some("tabby cat"),
        predicted_value: Some(-0.1),
        confidence: Some(0.93),
        inference_time_ms: Some(12.5),
        timings: Some(json(r#"{"queue":1.5}"#)),
        request_id: some("q"),
        trace_id: some("t"),
        session_id: some("s"),
        user_id: some("u"),
        environment: some("prod"),
        sample_rate: Some(0.1),
        input_tokens: Some(i64::MAX),
        output_tokens: Some(0),
        time_to_first_token_ms: Some(1e-9),
        error: some("too late"),
        tags: Some(json(r#"{"a":null}"#)),
        ..prediction(id)
    }
}

fn expected(fact: &PredictionLogged, time: Timestamp, offset: u64) -> Prediction {
    let fact = fact.clone();
    Prediction {
        prediction_id: fact.prediction_id.unwrap_or_default(),
        model: fact.model,
        version: fact.version,
        time,
        log_offset: Offset(offset),
        input: fact.input,
        output: fact.output,
        predicted_class: fact.predicted_class,
        predicted_value: fact.predicted_value,
        confidence: fact.confidence,
        inference_time_ms: fact.inference_time_ms,
        timings: fact.timings,
        request_id: fact.request_id,
        trace_id: fact.trace_id,
        session_id: fact.session_id,
        user_id: fact.user_id,
        environment: fact.environment,
        sample_rate: fact.sample_rate,
        input_tokens: fact.input_tokens,
        output_tokens: fact.output_tokens,
        time_to_first_token_ms: fact.time_to_first_token_ms,
        error: fact.error,
        tags: fact.tags,
        feedback: None,
    }
}

async fn whole(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    scene
        .log([at(5, full("p")), Event::from(prediction("bare"))])
        .await;
    assert_eq!(one(&scene, "p").await, expected(&full("p"), second(5), 0));
    let bare = expected(&prediction("bare"), super::START, 1);
    assert_eq!(one(&scene, "bare").await, bare, "the time of receipt");
}

async fn halves(factory: &dyn Factory) {
    let all = full("p");
    let request = PredictionLogged {
        // It does not know who will answer it.
        version: "unversioned".into(),
        input: all.input.clone(),
        user_id: all.user_id.clone(),
        part: some("request"),
        ..prediction("p")
    };
    let response = PredictionLogged {
        input: None,
        user_id: None,
        part: some("response"),
        ..all.clone()
    };
    for together in [false, true] {
        for swapped in [false, true] {
            let mut scene = Scene::new(factory).await;
            let mut events = [at(5, request.clone()), at(7, response.clone())];
            if swapped {
                events.reverse();
            }
            if together {
                scene.log(events).await;
            } else {
                scene.log_each(events).await;
            }
            let time = second(if swapped { 7 } else { 5 });
            assert_eq!(one(&scene, "p").await, expected(&all, time, 0));
        }
    }
    let mut scene = Scene::new(factory).await;
    scene.log([request]).await;
    let half = one(&scene, "p").await;
    assert_eq!((half.input, half.output), (all.input, None));
    assert_eq!(half.version, "unversioned");
}

async fn repeats(factory: &dyn Factory) {
    let earlier = full("p");
    let later = PredictionLogged {
        output: Some(json("2")),
        confidence: Some(0.5),
        error: some(""),
        tags: Some(json("{}")),
        output_tokens: Some(-1),
        ..prediction("p")
    };
    let both = PredictionLogged {
        output: later.output.clone(),
        confidence: later.confidence,
        error: later.error.clone(),
        tags: later.tags.clone(),
        output_tokens: later.output_tokens,
        ..earlier.clone()
    };
    for together in [false, true] {
        let mut scene = Scene::new(factory).await;
        let events = [at(9, earlier.clone()), at(3, later.clone())];
        if together {
            scene.log(events).await;
        } else {
            scene.log_each(events).await;
        }
        // Log order decides, not event time; the place stays that of the first.
        assert_eq!(one(&scene, "p").await, expected(&both, second(9), 0));
        scene.log([at(1, earlier.clone())]).await;
        assert_eq!(one(&scene, "p").await, expected(&earlier, second(9), 0));
    }
}

async fn identity(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let anonymous = |value: f64| PredictionLogged {
        prediction_id: None,
        predicted_value: Some(value),
        ..prediction("")
    };
    let of = |model: &str, id: &str, value: f64| PredictionLogged {
        model: model.into(),
        predicted_value: Some(value),
        ..prediction(id)
    };
    scene
        .log([
            Event::from(anonymous(0.0)),
            Event::from(anonymous(1.0)),
            Event::from(anonymous(2.0)).with_id("event"),
            Event::from(of("m", "given", 3.0)).with_id("other"),
            of("n", "given", 4.0).into(),
            of("m", "Given", 5.0).into(),
        ])
        .await;
    scene.log([anonymous(6.0)]).await;
    let expected = [
        ("m", "0", Some(0.0)),
        ("m", "1", Some(1.0)),
        ("m", "event", Some(2.0)),
        ("m", "given", Some(3.0)),
        ("n", "given", Some(4.0)),
        ("m", "Given", Some(5.0)),
        ("m", "6", Some(6.0)),
        ("m", "other", None),
        ("m", "2", None),
        ("n", "event", None),
        ("x", "given", None),
    ];
    for (model, id, value) in expected {
        let found = found(&scene, model, id).await;
        assert_eq!(
            found.and_then(|found| found.predicted_value),
            value,
            "{model} {id}"
        );
    }
}

async fn offset_as_id(factory: &dyn Factory) {
    let with = |id: Option<&str>, value: f64| PredictionLogged {
        prediction_id: id.map(Into::into),
        predicted_value: Some(value),
        ..prediction("")
    };
    let mut scene = Scene::new(factory).await;
    // The first goes by its offset, and the second is about it; of the other two the one that is named comes first.
    let events = [
        with(None, 1.0),
        with(Some("0"), 2.0),
        with(Some("3"), 3.0),
        with(None, 4.0),
    ];
    scene.log(events).await;
    for (id, value) in [("0", 2.0), ("3", 4.0)] {
        let found = found(&scene, "m", id).await;
        assert_eq!(found.and_then(|found| found.predicted_value), Some(value));
    }
}

async fn other_version(factory: &dyn Factory) {
    for together in [false, true] {
        let mut scene = Scene::new(factory).await;
        let moved = PredictionLogged {
            version: "w".into(),
            ..prediction("p")
        };
        let events = [at(1, full("p")), at(2, moved)];
        if together {
            scene.log(events).await;
        } else {
            scene.log_each(events).await;
        }
        let found = one(&scene, "p").await;
        assert_eq!(found.version, "w");
        assert_eq!(found.output, full("p").output);
        let before = version_named("m", "v");
        let left = scene.reads().predictions(&before, first(9)).await.unwrap();
        assert!(left.unwrap().items.is_empty());
    }
}

async fn odd_numbers(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let with = |id: &str, number: f64| PredictionLogged {
        predicted_value: Some(number),
        confidence: Some(number),
        inference_time_ms: Some(number),
        sample_rate: Some(number),
        time_to_first_token_ms: Some(number),
        ..prediction(id)
    };
    let shown = |found: &Prediction| {
        format!(
            "{:?}",
            [
                found.predicted_value,
                found.confidence,
                found.inference_time_ms,
                found.sample_rate,
                found.time_to_first_token_ms,
            ]
        )
    };
    let numbers = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        0.1 + 0.2,
        9_007_199_254_740_993.0,
        -1.0,
    ];
    for (place, number) in numbers.into_iter().enumerate() {
        scene.log([with(&format!("p{place}"), number)]).await;
        // One after the other under one id: the later counts, be it finite or not.
        scene.log([with("all", number)]).await;
        let expected = format!("{:?}", [Some(number); 5]);
        assert_eq!(shown(&one(&scene, &format!("p{place}")).await), expected);
        assert_eq!(shown(&one(&scene, "all").await), expected);
    }
    scene.log(numbers.map(|number| with("batch", number))).await;
    let expected = format!("{:?}", [Some(-1.0); 5]);
    assert_eq!(shown(&one(&scene, "batch").await), expected);
    let part = PredictionLogged {
        confidence: Some(f64::NAN),
        ..prediction("batch")
    };
    scene.log([part, prediction("batch")]).await;
    let found = one(&scene, "batch").await;
    assert!(found.confidence.is_some_and(f64::is_nan));
    assert_eq!(found.predicted_value, Some(-1.0));

    let answer = |number: f64| FeedbackLogged {
        prediction_id: "batch".into(),
        true_value: Some(number),
        score: Some(number),
        ..FeedbackLogged::default()
    };
    for number in numbers {
        scene.log([answer(number)]).await;
        let found = one(&scene, "batch").await.feedback.unwrap();
        assert_eq!(
            format!("{:?}", [found.true_value, found.score]),
            format!("{:?}", [Some(number); 2])
        );
    }
}

async fn whole_feedback(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let given = FeedbackLogged {
        prediction_id: "p".into(),
        model: some("m"),
        version: some("v"),
        true_class: some("dog"),
        true_value: Some(3.5),
        correct: Some(true),
        label: Some(json(r#"{"boxes": [1, 2]}"#)),
        score: Some(-4.0),
        score_name: some("bleu"),
        feedback_source: some("human"),
    };
    scene.log([at(4, given.clone()), at(2, full("p"))]).await;
    let expected = Feedback {
        true_class: given.true_class,
        true_value: given.true_value,
        correct: given.correct,
        label: given.label,
        score: given.score,
        score_name: given.score_name,
        feedback_source: given.feedback_source,
        time: second(4),
        log_offset: Offset(0),
    };
    assert_eq!(one(&scene, "p").await.feedback, Some(expected));
}

async fn latest_feedback(factory: &dyn Factory) {
    let answers = [
        (10, "a", "a"),
        (5, "b", "a"),
        (20, "c", "c"),
        (20, "d", "d"),
        (19, "e", "d"),
        (-99, "f", "d"),
    ];
    for before in [true, false] {
        let mut scene = Scene::new(factory).await;
        if before {
            scene.log([at(0, full("p"))]).await;
        }
        for (seconds, class, latest) in answers {
            scene.log([at(seconds, feedback("p", class))]).await;
            if before {
                let found = one(&scene, "p").await.feedback.unwrap();
                assert_eq!(found.true_class, some(latest));
            }
        }
        if !before {
            assert!(
                found(&scene, "m", "p").await.is_none(),
                "feedback is no prediction"
            );
            scene.log([at(0, full("p"))]).await;
        }
        let found = one(&scene, "p").await.feedback.unwrap();
        assert_eq!(found.true_class, some("d"));
        assert_eq!(found.time, second(20));
    }
    // A later answer replaces an earlier one whole: it is not merged into it.
    let mut scene = Scene::new(factory).await;
    let scored = FeedbackLogged {
        score: Some(1.0),
        ..feedback("p", "a")
    };
    let bare = FeedbackLogged {
        prediction_id: "p".into(),
        ..FeedbackLogged::default()
    };
    scene
        .log([at(0, full("p")), at(1, scored), at(2, bare)])
        .await;
    let found = one(&scene, "p").await.feedback.unwrap();
    assert_eq!(
        (found.score, found.true_class, found.correct),
        (None, None, None)
    );
}

async fn whose_feedback(factory: &dyn Factory) {
    let mut scene = Scene::new(factory).await;
    let of = |model: &str, version: &str| PredictionLogged {
        model: model.into(),
        version: version.into(),
        ..full("p")
    };
    let answer = |model: Option<&str>, version: Option<&str>, class: &str| FeedbackLogged {
        model: model.map(str::to_owned),
        version: version.map(str::to_owned),
        ..feedback("p", class)
    };
    async fn classes(scene: &Scene) -> [Option<String>; 2] {
        let mut classes = [None, None];
        for (class, model) in classes.iter_mut().zip(["m", "n"]) {
            let found = found(scene, model, "p").await.unwrap();
            *class = found.feedback.and_then(|feedback| feedback.true_class);
        }
        classes
    }
    scene.log([at(0, of("m", "v")), at(0, of("n", "v"))]).await;
    assert_eq!(classes(&scene).await, [None, None]);
    let answers = [
        (1, answer(Some("n"), None, "a"), [None, some("a")]),
        (2, answer(None, None, "b"), [some("b"), some("b")]),
        (3, answer(Some("m"), None, "c"), [some("c"), some("b")]),
        (
            4,
            answer(Some("m"), Some("other"), "d"),
            [some("d"), some("b")],
        ),
        (5, answer(Some("x"), Some("v"), "e"), [some("d"), some("b")]),
        (2, answer(Some("n"), None, "f"), [some("d"), some("f")]),
    ];
    for (seconds, answer, expected) in answers {
        let text = format!("{answer:?}");
        scene.log([at(seconds, answer)]).await;
        assert_eq!(classes(&scene).await, expected, "{text}");
    }
}

async fn correctness(factory: &dyn Factory) {
    let cases = [
        (some("cat"), None, some("cat"), Some(true)),
        (some("cat"), None, some("dog"), Some(false)),
        (some("cat"), None, some("Cat"), Some(false)),
        (some("cat"), Some(false), some("cat"), Some(false)),
        (some("cat"), Some(true), some("dog"), Some(true)),
        (some("cat"), None, None, None),
        (None, None, some("cat"), None),
        (None, Some(true), None, Some(true)),
        (some(""), None, some(""), Some(true)),
        (some("cat "), None, some("cat"), Some(false)),
    ];
    let mut scene = Scene::new(factory).await;
    for (predicted_class, correct, true_class, expected) in cases {
        let asked = PredictionLogged {
            predicted_class: predicted_class.clone(),
            ..prediction("p")
        };
        let answer = FeedbackLogged {
            correct,
            true_class: true_class.clone(),
            ..feedback("p", "")
        };
        let mut scene = Scene::new(factory).await;
        scene.log([Event::from(answer), asked.into()]).await;
        let found = one(&scene, "p").await.feedback.unwrap();
        assert_eq!(
            found.correct, expected,
            "{predicted_class:?} {correct:?} {true_class:?}"
        );
        assert_eq!(found.true_class, true_class);
    }
    // The class may come after the feedback, and change.
    scene
        .log([Event::from(prediction("p")), feedback("p", "cat").into()])
        .await;
    assert_eq!(one(&scene, "p").await.feedback.unwrap().correct, None);
    for (class, expected) in [("dog", false), ("cat", true), ("dog", false)] {
        let says = PredictionLogged {
            predicted_class: some(class),
            ..prediction("p")
        };
        scene.log([says]).await;
        let found = one(&scene, "p").await.feedback.unwrap();
        assert_eq!(found.correct, Some(expected));
    }
}
