//! What the read contract answers with. Names and shapes are those of the HTTP API.

use serde::{Serialize, Serializer};

use crate::batch::non_finite;
use crate::event::Json;
use crate::names::EntityId;
use crate::{Offset, Timestamp};

/// A model. Until its `ModelCreated` arrives it is a placeholder: `created_at` is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    pub id: EntityId,
    pub model: String,
    pub architecture: Option<String>,
    pub framework: Option<String>,
    pub task_type: Option<String>,
    pub description: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub created_at: Option<Timestamp>,
    pub aliases: Vec<Alias>,
}

/// A name for one of a model's versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alias {
    pub alias: String,
    pub version: String,
}

/// A version of a model; a placeholder until its `ModelVersionCreated` arrives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelVersion {
    pub id: EntityId,
    pub model_id: EntityId,
    pub model: String,
    pub version: String,
    /// A URI; stored, never opened.
    pub checkpoint_path: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub config: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub signature: Option<Json>,
    pub digest: Option<String>,
    /// The run that produced it.
    pub run: Option<String>,
    pub description: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    pub aliases: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub created_at: Option<Timestamp>,
}

/// A dataset; a placeholder until its `DatasetRegistered` arrives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Dataset {
    pub id: EntityId,
    pub dataset: String,
    pub version: Option<String>,
    pub uri: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub split_info: Option<Json>,
    pub row_count: Option<i64>,
    pub digest: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub schema: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub created_at: Option<Timestamp>,
}

/// An experiment; a placeholder until its `ExperimentCreated` arrives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Experiment {
    pub id: EntityId,
    pub experiment: String,
    pub description: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub created_at: Option<Timestamp>,
}

/// A run; a placeholder until its `RunStarted` arrives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Run {
    pub id: EntityId,
    pub run: String,
    pub name: Option<String>,
    pub parent: Option<String>,
    pub experiment: Option<String>,
    pub model: Option<String>,
    pub version: Option<String>,
    pub dataset: Option<String>,
    pub started_by: Option<String>,
    pub code: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    /// Hyperparameters, one JSON value per key.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub params: Option<Json>,
    /// `running`, `finished`, `failed` or `killed`; null for a placeholder.
    pub status: Option<String>,
    pub error: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub finished_at: Option<Timestamp>,
    /// Datasets it used, as `name` or `name@version`, with roles.
    pub datasets: Vec<UsedDataset>,
    pub artifacts: Vec<Artifact>,
}

/// A dataset a run used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsedDataset {
    pub dataset: String,
    pub version: Option<String>,
    pub role: Option<String>,
}

/// A file a run produced.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    pub uri: String,
    pub name: Option<String>,
    pub media_type: Option<String>,
    pub size_bytes: Option<i64>,
    pub digest: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub metadata: Option<Json>,
}

/// A metric in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeriesSummary {
    pub name: String,
    pub split: Option<String>,
    pub points: u64,
    /// The point with the highest (step, time, offset).
    pub last: MetricPoint,
    /// Over finite values only.
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// A metric's history, by (step, time, offset).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Series {
    pub name: String,
    pub split: Option<String>,
    /// Points in range, of which `points` may be a selection.
    pub total_points: u64,
    pub points: Vec<MetricPoint>,
}

/// A point of a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricPoint {
    pub step: i64,
    /// A number, or `"NaN"`, `"Infinity"`, `"-Infinity"`.
    #[serde(serialize_with = "number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Number))]
    pub value: f64,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub epoch: Option<f64>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub log_offset: Offset,
}

/// A prediction, merged from all that was logged under its id.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prediction {
    pub prediction_id: String,
    pub model: String,
    pub version: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub log_offset: Offset,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub input: Option<Json>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub output: Option<Json>,
    pub predicted_class: Option<String>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub predicted_value: Option<f64>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub confidence: Option<f64>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub inference_time_ms: Option<f64>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub timings: Option<Json>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub session_id: Option<String>,
    pub user_id: Option<String>,
    pub environment: Option<String>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub sample_rate: Option<f64>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub time_to_first_token_ms: Option<f64>,
    pub error: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tags: Option<Json>,
    pub feedback: Option<Feedback>,
}

/// The latest feedback on a prediction, by (time, offset).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Feedback {
    pub true_class: Option<String>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub true_value: Option<f64>,
    /// As given, else whether the classes agree.
    pub correct: Option<bool>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub label: Option<Json>,
    #[serde(serialize_with = "optional_number")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Number>))]
    pub score: Option<f64>,
    pub score_name: Option<String>,
    pub feedback_source: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub log_offset: Offset,
}

/// Counts over the whole log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsTotals {
    pub events: u64,
    pub models: u64,
    pub versions: u64,
    pub datasets: u64,
    pub experiments: u64,
    pub runs: u64,
    pub metric_points: u64,
    pub predictions: u64,
    pub prediction_errors: u64,
    pub feedback: u64,
    /// Feedback whose prediction was not found within the live join's window.
    pub feedback_unmatched: u64,
    pub rejected: u64,
    /// The end of what was counted.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub as_of_offset: Offset,
}

/// How a version does in service. Times are in milliseconds, rates per second of event time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionStats {
    pub model: String,
    pub version: String,
    /// Predictions with an output or an error; each counts once.
    pub predictions: u64,
    pub errors: u64,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub first_time: Option<Timestamp>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_time: Option<Timestamp>,
    /// Predictions per second between the first and the last; null where that span is empty.
    pub rate_per_second: Option<f64>,
    /// Predictions with an inference time.
    pub latency_count: u64,
    pub latency_ms_mean: Option<f64>,
    /// Quantiles with a relative error of at most 1 %.
    pub latency_ms_p50: Option<f64>,
    pub latency_ms_p95: Option<f64>,
    pub latency_ms_p99: Option<f64>,
    /// Predictions with a confidence.
    pub confidence_count: u64,
    pub confidence_mean: Option<f64>,
    /// Sample standard deviation; null below two.
    pub confidence_stddev: Option<f64>,
    /// Predictions whose latest feedback says right or wrong.
    pub labelled: u64,
    pub correct: u64,
    /// `correct / labelled`; never without `label_coverage`.
    pub accuracy: Option<f64>,
    /// `labelled / predictions`.
    pub label_coverage: Option<f64>,
    /// Predictions with both a predicted and a true value.
    pub valued: u64,
    pub mean_absolute_error: Option<f64>,
    pub root_mean_square_error: Option<f64>,
    /// The end of what was counted.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub as_of_offset: Offset,
}

/// How a number is described: one that is not finite is a word.
#[cfg(feature = "openapi")]
struct Number;

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Number {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let words = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(non_finite);
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::Number))
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .enum_values(Some(words)),
            )
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Number {}

fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_str(non_finite(*value))
    }
}

fn optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}
