//! What callers say: few names, few ids and few contents, so that they meet.

use modelog_engine::Timestamp;
use modelog_engine::event::{
    Event, FeedbackLogged, MetricLogged, ModelCreated, PredictionLogged, RunStarted,
};
use proptest::prelude::*;

/// One event, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    what: What,
    /// Makes it recognisable.
    id: Option<u8>,
    /// Of the model or run it is about.
    name: u8,
    content: u8,
    /// Whether the producer says when it happened.
    timed: bool,
    /// Bytes that do not compress.
    bulk: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Prediction,
    Feedback,
    Metric,
    Model,
    Run,
}

/// Before every append time there is.
const HAPPENED: i64 = 1_790_000_000_000_000;

impl Said {
    /// A prediction with an id.
    pub(super) fn prediction(id: u8, content: u8) -> Self {
        Self {
            what: What::Prediction,
            id: Some(id),
            name: 0,
            content,
            timed: false,
            bulk: 0,
        }
    }

    /// A prediction that nothing tells from others.
    pub(super) fn unnamed() -> Self {
        Self {
            id: None,
            ..Self::prediction(0, 0)
        }
    }

    /// One that fills half a segment.
    pub(super) fn bulky(content: u8) -> Self {
        Self {
            id: None,
            bulk: 60_000,
            ..Self::prediction(0, content)
        }
    }

    pub(super) fn event(self) -> Event {
        let Self { name, content, .. } = self;
        let mut event: Event = match self.what {
            What::Prediction => PredictionLogged {
                model: format!("model {name}"),
                version: format!("v{}", content % 2),
                prediction_id: Some(format!("prediction {content}")),
                confidence: Some(f64::from(content) / 256.0),
                predicted_class: Some(noise(content.into(), self.bulk.into())),
                ..PredictionLogged::default()
            }
            .into(),
            What::Feedback => FeedbackLogged {
                prediction_id: format!("prediction {content}"),
                model: Some(format!("model {name}")),
                correct: Some(content.is_multiple_of(3)),
                ..FeedbackLogged::default()
            }
            .into(),
            What::Metric => MetricLogged {
                name: "loss".into(),
                value: f64::from(content) / 3.0,
                run: Some(format!("run {name}")),
                ..MetricLogged::default()
            }
            .into(),
            What::Model => ModelCreated {
                model: format!("model {name}"),
                framework: (content % 3 > 0).then(|| format!("framework {}", content % 3)),
                description: (content % 2 > 0).then(|| format!("description {}", content / 8)),
                ..ModelCreated::default()
            }
            .into(),
            What::Run => RunStarted {
                run: format!("run {name}"),
                model: Some(format!("model {name}")),
                version: (content % 2 > 0).then(|| format!("v{}", content % 2)),
                ..RunStarted::default()
            }
            .into(),
        };
        event.id = self.id.map(|id| format!("id {id}"));
        let happened = HAPPENED + i64::from(content);
        event.time = self.timed.then(|| Timestamp::from_micros(happened));
        event
    }
}

/// Text that does not compress.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed.wrapping_add(1);
    let mut text = String::new();
    while text.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:012x}", state >> 16));
    }
    text.truncate(len);
    text
}

pub(super) fn said() -> impl Strategy<Value = Said> {
    let what = prop_oneof![
        4 => Just(What::Prediction),
        1 => Just(What::Feedback),
        1 => Just(What::Metric),
        2 => Just(What::Model),
        1 => Just(What::Run),
    ];
    let id = prop_oneof![1 => Just(None), 2 => (0..24_u8).prop_map(Some)];
    let content = prop_oneof![3 => 0..3_u8, 1 => any::<u8>()];
    let bulk = prop_oneof![4 => 0..40_u16, 3 => 3_000..16_000_u16];
    (what, id, 0..5_u8, content, any::<bool>(), bulk).prop_map(
        |(what, id, name, content, timed, bulk)| Said {
            what,
            id,
            name,
            content,
            timed,
            bulk,
        },
    )
}

/// The names an event gives numbers to: kind, model of a version, name.
pub(super) fn names(event: &Event) -> Vec<(&'static str, String, String)> {
    use modelog_engine::event::Fact;
    let model = |name: &str| ("model", String::new(), name.to_owned());
    let run = |name: &str| ("run", String::new(), name.to_owned());
    let version = |model: &str, name: &str| ("version", model.to_owned(), name.to_owned());
    match &event.fact {
        Fact::PredictionLogged(fact) => {
            vec![model(&fact.model), version(&fact.model, &fact.version)]
        }
        Fact::FeedbackLogged(fact) => fact.model.iter().map(|name| model(name)).collect(),
        Fact::MetricLogged(fact) => fact.run.iter().map(|name| run(name)).collect(),
        Fact::ModelCreated(fact) => vec![model(&fact.model)],
        Fact::RunStarted(fact) => {
            let (of, named) = (fact.model.as_deref(), fact.version.as_deref());
            let models = of.map(model);
            let versions = of.zip(named).map(|(of, named)| version(of, named));
            [run(&fact.run)]
                .into_iter()
                .chain(models)
                .chain(versions)
                .collect()
        }
        _ => Vec::new(),
    }
}
