//! The answers of the read contract as Arrow record batches.
//!
//! Each kind of item is a list of columns with the names it has in JSON. What JSON nests becomes columns of its own
//! (`feedback`) or stays JSON text (`aliases`, `tags`, …), so that every reader of Arrow gets plain types.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use modelog_engine::event::Json;
use modelog_engine::read::{
    Dataset, Experiment, Feedback, MetricPoint, Model, ModelVersion, Prediction, Run, SeriesSummary,
};
use modelog_engine::{Offset, Timestamp};
use serde::Serialize;

/// Items that have a form in columns.
pub(super) trait Columnar: Sized {
    /// Adds the columns of the items, in their order.
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self>;

    /// The columns every list of such items has.
    fn schema() -> SchemaRef {
        Arc::clone(Self::record_batch(&[]).schema_ref())
    }

    /// The items as a record batch of [`schema`](Self::schema).
    fn record_batch(items: &[Self]) -> RecordBatch {
        Self::columns(Columns::of(items)).finish()
    }
}

/// Columns in the making.
pub(super) struct Columns<'a, T> {
    items: &'a [T],
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl<'a, T> Columns<'a, T> {
    fn of(items: &'a [T]) -> Self {
        Self {
            items,
            fields: Vec::new(),
            arrays: Vec::new(),
        }
    }

    fn column<C: Cell>(mut self, name: &str, cell: impl Fn(&'a T) -> C) -> Self {
        let array = C::column(self.items.iter().map(cell));
        self.fields
            .push(Field::new(name, C::column_type(), C::NULLABLE));
        self.arrays.push(array);
        self
    }

    fn finish(self) -> RecordBatch {
        let schema = Arc::new(Schema::new(self.fields));
        RecordBatch::try_new(schema, self.arrays)
            .expect("a column's field is made from its cells, and all columns from the same items")
    }
}

/// What a column is made of: values, or values that may be absent.
trait Cell: Sized {
    const NULLABLE: bool;
    fn column_type() -> DataType;
    fn column(cells: impl Iterator<Item = Self>) -> ArrayRef;
}

impl<V: Value> Cell for V {
    const NULLABLE: bool = false;

    fn column_type() -> DataType {
        V::data_type()
    }

    fn column(cells: impl Iterator<Item = Self>) -> ArrayRef {
        V::array(cells.map(Some))
    }
}

impl<V: Value> Cell for Option<V> {
    const NULLABLE: bool = true;

    fn column_type() -> DataType {
        V::data_type()
    }

    fn column(cells: impl Iterator<Item = Self>) -> ArrayRef {
        V::array(cells)
    }
}

/// A value, with the Arrow type of its column.
trait Value: Sized {
    fn data_type() -> DataType;
    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef;
}

impl Value for &str {
    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }
}

impl Value for String {
    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }
}

impl Value for i64 {
    fn data_type() -> DataType {
        DataType::Int64
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        Arc::new(values.collect::<Int64Array>())
    }
}

/// Counts and ids, none of which comes near 2⁶³, have the type that every reader knows.
impl Value for u64 {
    fn data_type() -> DataType {
        i64::data_type()
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        i64::array(values.map(|value| value.map(|value| value as i64)))
    }
}

impl Value for Offset {
    fn data_type() -> DataType {
        u64::data_type()
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        u64::array(values.map(|value| value.map(|offset| offset.0)))
    }
}

impl Value for f64 {
    fn data_type() -> DataType {
        DataType::Float64
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        Arc::new(values.collect::<Float64Array>())
    }
}

impl Value for bool {
    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        Arc::new(values.collect::<BooleanArray>())
    }
}

impl Value for Timestamp {
    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef {
        let micros = values.map(|value| value.map(Self::micros));
        Arc::new(
            micros
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        )
    }
}

/// The text of a JSON field, as its producer wrote it.
fn text(json: &Option<Json>) -> Option<&str> {
    json.as_ref().map(Json::as_str)
}

/// A nested list as JSON text.
fn nested(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a list of plain structs has a JSON form")
}

impl Columnar for Model {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("id", |model| u64::from(model.id))
            .column("model", |model| model.model.as_str())
            .column("architecture", |model| model.architecture.as_deref())
            .column("framework", |model| model.framework.as_deref())
            .column("task_type", |model| model.task_type.as_deref())
            .column("description", |model| model.description.as_deref())
            .column("tags", |model| text(&model.tags))
            .column("created_at", |model| model.created_at)
            .column("aliases", |model| nested(&model.aliases))
    }
}

impl Columnar for ModelVersion {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("id", |version| u64::from(version.id))
            .column("model_id", |version| u64::from(version.model_id))
            .column("model", |version| version.model.as_str())
            .column("version", |version| version.version.as_str())
            .column("checkpoint_path", |version| {
                version.checkpoint_path.as_deref()
            })
            .column("config", |version| text(&version.config))
            .column("signature", |version| text(&version.signature))
            .column("digest", |version| version.digest.as_deref())
            .column("run", |version| version.run.as_deref())
            .column("description", |version| version.description.as_deref())
            .column("tags", |version| text(&version.tags))
            .column("aliases", |version| nested(&version.aliases))
            .column("created_at", |version| version.created_at)
    }
}

impl Columnar for Dataset {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("id", |dataset| u64::from(dataset.id))
            .column("dataset", |dataset| dataset.dataset.as_str())
            .column("version", |dataset| dataset.version.as_deref())
            .column("uri", |dataset| dataset.uri.as_deref())
            .column("split_info", |dataset| text(&dataset.split_info))
            .column("row_count", |dataset| dataset.row_count)
            .column("digest", |dataset| dataset.digest.as_deref())
            .column("schema", |dataset| text(&dataset.schema))
            .column("tags", |dataset| text(&dataset.tags))
            .column("created_at", |dataset| dataset.created_at)
    }
}

impl Columnar for Experiment {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("id", |experiment| u64::from(experiment.id))
            .column("experiment", |experiment| experiment.experiment.as_str())
            .column("description", |experiment| {
                experiment.description.as_deref()
            })
            .column("tags", |experiment| text(&experiment.tags))
            .column("created_at", |experiment| experiment.created_at)
    }
}

impl Columnar for Run {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("id", |run| u64::from(run.id))
            .column("run", |run| run.run.as_str())
            .column("name", |run| run.name.as_deref())
            .column("parent", |run| run.parent.as_deref())
            .column("experiment", |run| run.experiment.as_deref())
            .column("model", |run| run.model.as_deref())
            .column("version", |run| run.version.as_deref())
            .column("dataset", |run| run.dataset.as_deref())
            .column("started_by", |run| run.started_by.as_deref())
            .column("code", |run| run.code.as_deref())
            .column("tags", |run| text(&run.tags))
            .column("params", |run| text(&run.params))
            .column("status", |run| run.status.as_deref())
            .column("error", |run| run.error.as_deref())
            .column("started_at", |run| run.started_at)
            .column("finished_at", |run| run.finished_at)
            .column("datasets", |run| nested(&run.datasets))
            .column("artifacts", |run| nested(&run.artifacts))
    }
}

impl Columnar for SeriesSummary {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("name", |series| series.name.as_str())
            .column("split", |series| series.split.as_deref())
            .column("points", |series| series.points)
            .column("last_step", |series| series.last.step)
            .column("last_value", |series| series.last.value)
            .column("last_epoch", |series| series.last.epoch)
            .column("last_time", |series| series.last.time)
            .column("last_log_offset", |series| series.last.log_offset)
            .column("min", |series| series.min)
            .column("max", |series| series.max)
    }
}

impl Columnar for MetricPoint {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        columns
            .column("step", |point| point.step)
            .column("value", |point| point.value)
            .column("epoch", |point| point.epoch)
            .column("time", |point| point.time)
            .column("log_offset", |point| point.log_offset)
    }
}

impl Columnar for Prediction {
    fn columns(columns: Columns<'_, Self>) -> Columns<'_, Self> {
        let columns = columns
            .column("prediction_id", |it| it.prediction_id.as_str())
            .column("model", |it| it.model.as_str())
            .column("version", |it| it.version.as_str())
            .column("time", |it| it.time)
            .column("log_offset", |it| it.log_offset)
            .column("input", |it| text(&it.input))
            .column("output", |it| text(&it.output))
            .column("predicted_class", |it| it.predicted_class.as_deref())
            .column("predicted_value", |it| it.predicted_value)
            .column("confidence", |it| it.confidence)
            .column("inference_time_ms", |it| it.inference_time_ms)
            .column("timings", |it| text(&it.timings))
            .column("request_id", |it| it.request_id.as_deref())
            .column("trace_id", |it| it.trace_id.as_deref())
            .column("session_id", |it| it.session_id.as_deref())
            .column("user_id", |it| it.user_id.as_deref())
            .column("environment", |it| it.environment.as_deref())
            .column("sample_rate", |it| it.sample_rate)
            .column("input_tokens", |it| it.input_tokens)
            .column("output_tokens", |it| it.output_tokens)
            .column("time_to_first_token_ms", |it| it.time_to_first_token_ms)
            .column("error", |it| it.error.as_deref())
            .column("tags", |it| text(&it.tags));
        feedback(columns)
    }
}

/// The latest feedback on each prediction.
fn feedback(columns: Columns<'_, Prediction>) -> Columns<'_, Prediction> {
    fn of<'a, T>(
        prediction: &'a Prediction,
        field: impl FnOnce(&'a Feedback) -> Option<T>,
    ) -> Option<T> {
        prediction.feedback.as_ref().and_then(field)
    }
    columns
        .column("true_class", |it| of(it, |said| said.true_class.as_deref()))
        .column("true_value", |it| of(it, |said| said.true_value))
        .column("correct", |it| of(it, |said| said.correct))
        .column("label", |it| of(it, |said| text(&said.label)))
        .column("score", |it| of(it, |said| said.score))
        .column("score_name", |it| of(it, |said| said.score_name.as_deref()))
        .column("feedback_source", |it| {
            of(it, |said| said.feedback_source.as_deref())
        })
        .column("feedback_time", |it| of(it, |said| Some(said.time)))
        .column("feedback_log_offset", |it| {
            of(it, |said| Some(said.log_offset))
        })
}
