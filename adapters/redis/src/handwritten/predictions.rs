//! Predictions, and what was found out about them.

use modelog_engine::Timestamp;
use modelog_engine::event::Kind;

use super::bad::Bad;
use super::event::{Draft, Event};
use super::fields::Fields;
use super::key::Id;
use super::names::{MODEL, Names, VersionName};
use super::values;

const TIMES: &[&str] = &[
    "created_at",
    "timestamp",
    "time",
    "predicted_at",
    "logged_at",
    "ts",
    "date",
];
const FEEDBACK_TIMES: &[&str] = &[
    "feedback_at",
    "feedback_time",
    "labeled_at",
    "labelled_at",
    "label_time",
];
const TRUTHS: &[&str] = &[
    "true_class",
    "true_label",
    "ground_truth",
    "actual_class",
    "actual_label",
    "actual",
    "y_true",
];

/// Text of predictions, by the names it goes by.
const TEXTS: [(&str, &[&str]); 7] = [
    (
        "predicted_class",
        &["predicted_class", "predicted_label", "class"],
    ),
    ("request_id", &["request_id"]),
    ("trace_id", &["trace_id"]),
    ("session_id", &["session_id"]),
    ("user_id", &["user_id"]),
    ("environment", &["environment", "env"]),
    ("error", &["error", "error_message"]),
];
const JSONS: [(&str, &[&str]); 3] = [
    ("input", &["input", "input_data", "inputs", "features"]),
    (
        "output",
        &["output", "output_data", "outputs", "prediction", "result"],
    ),
    ("timings", &["timings"]),
];
const FLOATS: [(&str, &[&str]); 5] = [
    ("predicted_value", &["predicted_value"]),
    ("confidence", &["confidence", "probability", "score"]),
    (
        "inference_time_ms",
        &[
            "inference_time_ms",
            "latency_ms",
            "inference_ms",
            "duration_ms",
        ],
    ),
    ("sample_rate", &["sample_rate"]),
    ("time_to_first_token_ms", &["time_to_first_token_ms"]),
];
const INTS: [(&str, &[&str]); 2] = [
    ("input_tokens", &["input_tokens", "prompt_tokens"]),
    ("output_tokens", &["output_tokens", "completion_tokens"]),
];

/// A prediction, whose time may be known elsewhere.
#[derive(Debug)]
pub(super) struct Prediction {
    draft: Draft,
    pub(super) version: VersionName,
    pub(super) time: Option<Timestamp>,
    truth: Truth,
    id: String,
    /// Payloads that were too large for who wrote the hash.
    pub(super) omitted: bool,
}

impl Prediction {
    /// Out of its hash; `rest` is what follows `prediction:` in the key.
    ///
    /// # Errors
    /// What it cannot be taken over for.
    pub(super) fn read(
        rest: &Id,
        mut fields: Fields,
        id_prefix: &str,
        names: &Names,
    ) -> Result<Self, Bad> {
        let version = match names.version(&mut fields)? {
            Some(version) => version,
            None => unversioned(&mut fields, names)?,
        };
        let id = fields.text(&["prediction_id"]);
        let id = id.unwrap_or_else(|| values::name_of(&rest.to_string()));
        let id = format!("{id_prefix}{id}");
        fields.drop_if("id", &rest.to_string());
        let omitted = fields.text(&["omitted"]).is_some();
        let half = fields.text(&["complete"]).as_deref() == Some("0");
        fields.drop_all(&["log_offset"]);
        let mut draft = Draft::new(Kind::PredictionLogged);
        if half {
            draft.text("part", "request");
        }
        draft.text("model", &version.model);
        draft.text("version", &version.version);
        draft.text("prediction_id", &id);
        let time = fields.time(TIMES)?;
        let is_value = fields.peek("predicted_value").is_some();
        let truth = Truth::of_prediction(&mut fields, is_value)?;
        for (name, names) in TEXTS {
            if let Some(text) = fields.text(names) {
                draft.text(name, &text);
            }
        }
        for (name, names) in JSONS {
            if let Some(text) = fields.text(names) {
                draft.json(name, &values::to_json(&text));
            }
        }
        for (name, names) in FLOATS {
            if let Some(number) = fields.read(names, "is no number", values::number)? {
                draft.json(name, &number);
            }
        }
        for (name, names) in INTS {
            if let Some(number) = fields.read(names, "is no whole number", values::int)? {
                draft.json(name, &number.to_string());
            }
        }
        draft.object("tags", &fields.rest());
        Ok(Self {
            draft,
            version,
            time,
            truth,
            id,
            omitted,
        })
    }

    /// The prediction, and the feedback on it with its time.
    pub(super) fn finish(mut self) -> (Event, Option<(Event, Option<Timestamp>)>) {
        if let Some(time) = self.time {
            self.draft.time(time);
        }
        let feedback = self.truth.event(&self.id, Some(&self.version), self.time);
        (self.draft.finish(), feedback)
    }
}

/// The version of a prediction that names a model and no version: the word that events of KServe have there.
fn unversioned(fields: &mut Fields, names: &Names) -> Result<VersionName, Bad> {
    let model = names.of(&MODEL, fields)?;
    let model =
        model.ok_or_else(|| Bad::of_key(&fields.key, "nothing says which model made it"))?;
    Ok(VersionName {
        model: model.name,
        version: "unversioned".into(),
        id: None,
    })
}

/// What was found out about a prediction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Truth {
    class: Option<String>,
    /// JSON of a number.
    value: Option<String>,
    correct: Option<bool>,
    label: Option<String>,
    score: Option<String>,
    score_name: Option<String>,
    source: Option<String>,
    time: Option<Timestamp>,
    extra: Vec<(String, String)>,
}

impl Truth {
    /// Beside the prediction: in fields of its own, in the field `feedback`, or in both.
    fn of_prediction(fields: &mut Fields, is_value: bool) -> Result<Self, Bad> {
        let mut truth = Self::default();
        if let Some(taken) = fields.take(&["feedback"]) {
            match Fields::of_json(&fields.key, &taken.text) {
                Some(nested) => truth = Self::of_feedback(nested, is_value)?,
                None => truth.label = Some(values::to_json(&taken.text)),
            }
        }
        let time = fields.time(FEEDBACK_TIMES)?;
        truth.time = truth.time.or(time);
        truth.read(fields, is_value)?;
        Ok(truth)
    }

    /// In a hash, or an object, that is about nothing else.
    fn of_feedback(mut fields: Fields, is_value: bool) -> Result<Self, Bad> {
        let own = fields.time(FEEDBACK_TIMES)?;
        let mut truth = Self {
            time: own.or(fields.time(TIMES)?),
            ..Self::default()
        };
        fields.drop_all(&["log_offset"]);
        truth.read(&mut fields, is_value)?;
        truth.label = fields.text(&["label"]).map(|text| values::to_json(&text));
        truth.score = fields.read(&["score", "rating"], "is no number", values::number)?;
        truth.score_name = fields.text(&["score_name"]);
        truth.source = truth.source.or(fields.text(&["source"]));
        truth.extra = fields.rest();
        Ok(truth)
    }

    /// What is called the same in both.
    fn read(&mut self, fields: &mut Fields, is_value: bool) -> Result<(), Bad> {
        if self.class.is_none()
            && self.value.is_none()
            && let Some(taken) = fields.take(TRUTHS)
        {
            match values::number(&taken.text).filter(|_| is_value) {
                Some(number) => self.value = Some(number),
                None => self.class = Some(taken.text),
            }
        }
        if self.value.is_none() {
            self.value = fields.read(&["true_value"], "is no number", values::number)?;
        }
        if self.correct.is_none() {
            let correct = &["correct", "is_correct"];
            self.correct = fields.read(correct, "is neither true nor false", values::truth)?;
        }
        if self.source.is_none() {
            self.source = fields.text(&["feedback_source"]);
        }
        Ok(())
    }

    /// The event, unless nothing was found out; `time` is the prediction's.
    fn event(
        self,
        id: &str,
        version: Option<&VersionName>,
        time: Option<Timestamp>,
    ) -> Option<(Event, Option<Timestamp>)> {
        let nothing = Self {
            time: self.time,
            ..Self::default()
        };
        if self == nothing {
            return None;
        }
        let mut draft = Draft::new(Kind::FeedbackLogged);
        draft.text("prediction_id", id);
        if let Some(version) = version {
            draft.text("model", &version.model);
            draft.text("version", &version.version);
        }
        for (name, text) in [
            ("true_class", &self.class),
            ("score_name", &self.score_name),
            ("feedback_source", &self.source),
        ] {
            if let Some(text) = text {
                draft.text(name, text);
            }
        }
        let correct = self.correct.map(|correct| correct.to_string());
        for (name, json) in [
            ("true_value", &self.value),
            ("correct", &correct),
            ("label", &self.label),
            ("score", &self.score),
        ] {
            if let Some(json) = json {
                draft.json(name, json);
            }
        }
        draft.object("extra", &self.extra);
        let time = self.time.or(time);
        if let Some(time) = time {
            draft.time(time);
        }
        Some((draft.finish(), time))
    }
}

/// Which prediction a hash of feedback is about, as it is written; `rest` is what follows `feedback:` in the key.
pub(super) fn predicted(rest: &Id, fields: &Fields) -> String {
    let said = fields.peek("prediction_id").map(|taken| taken.text);
    said.unwrap_or_else(|| values::name_of(&rest.to_string()))
}

/// Feedback out of a hash of its own. The version is that of its prediction, unless it says its own.
///
/// # Errors
/// What it cannot be taken over for.
pub(super) fn feedback(
    rest: &Id,
    mut fields: Fields,
    of_prediction: Option<VersionName>,
    id_prefix: &str,
    names: &Names,
) -> Result<(Event, Option<Timestamp>), Bad> {
    let id = format!("{id_prefix}{}", predicted(rest, &fields));
    let key = fields.key.clone();
    fields.drop_all(&["prediction_id"]);
    fields.drop_if("id", &rest.to_string());
    let version = names.version(&mut fields)?.or(of_prediction);
    let truth = Truth::of_feedback(fields, false)?;
    let event = truth.event(&id, version.as_ref(), None);
    event.ok_or_else(|| Bad::of_key(&key, "says nothing of its prediction"))
}
