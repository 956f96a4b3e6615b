//! Which fields each kind has: the one table behind the column builders, the Arrow schemas, the JSON reader and the
//! JSON writer.
//!
//! A field's place in its kind's table is its column number, written in frames as a bit of the column mask. So the
//! tables are append-only: new fields are new nullable columns at the end, types never change. `COMMON` comes first
//! in every kind.

use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use super::Kind;

/// What a column holds, and what is checked at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// UTF-8 without U+0000.
    Text,
    /// Non-empty UTF-8 without control characters, at most this many bytes.
    Name(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A reference such as `model/resnet50` ([`super::EntityRef`]).
    Entity,
    /// Any valid JSON text, kept byte for byte.
    Json,
    /// A JSON object, kept byte for byte.
    JsonObject,
    Int,
    Float,
    Bool,
    /// Microseconds since the epoch, UTC.
    Time,
    /// Raw bytes; in JSON as base64.
    Bytes,
    /// The row's place in its batch.
    Ord,
}

impl FieldType {
    /// The Arrow type of such a column.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text
            | Self::Name(_)
            | Self::Word(_)
            | Self::Entity
            | Self::Json
            | Self::JsonObject => DataType::Utf8,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Bytes => DataType::Binary,
            Self::Ord => DataType::UInt32,
        }
    }
}

/// One field of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub ty: FieldType,
    pub presence: Presence,
}

/// Whether a field may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Optional,
    /// A value must be given.
    Required,
    /// A value or an explicit null must be given.
    Stated,
}

const fn optional(name: &'static str, ty: FieldType) -> Field {
    Field {
        name,
        ty,
        presence: Presence::Optional,
    }
}

const fn required(name: &'static str, ty: FieldType) -> Field {
    Field {
        name,
        ty,
        presence: Presence::Required,
    }
}

/// The longest name of an entity, in bytes.
pub const NAME_BYTES_MAX: usize = 500;
/// The longest name of a metric, in bytes.
pub const METRIC_NAME_BYTES_MAX: usize = 250;
/// The longest event id, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// How a run may end.
pub const RUN_STATUSES: &[&str] = &["finished", "failed", "killed"];
/// The halves of a prediction.
pub const PREDICTION_PARTS: &[&str] = &["request", "response"];

const NAME: FieldType = FieldType::Name(NAME_BYTES_MAX);

/// Columns every kind starts with.
pub const COMMON: [Field; 5] = [
    optional("ord", FieldType::Ord),
    optional("id", FieldType::Name(ID_BYTES_MAX)),
    optional("source", NAME),
    optional("time", FieldType::Time),
    optional("extra", FieldType::JsonObject),
];

/// Fields that say which prediction an event is about, or which part of it; what else it says are values.
const IDENTIFYING: [&str; 4] = ["model", "version", "prediction_id", "part"];

/// The fields of predictions or feedback that are values, with their columns.
pub fn values(kind: Kind) -> impl Iterator<Item = (usize, &'static Field)> {
    let own = own_fields(kind).iter().enumerate();
    own.filter(|(_, field)| !IDENTIFYING.contains(&field.name))
        .map(|(column, field)| (column + COMMON.len(), field))
}

/// Column numbers of the common fields.
pub const ORD: usize = 0;
pub const ID: usize = 1;
pub const SOURCE: usize = 2;
pub const TIME: usize = 3;
pub const EXTRA: usize = 4;

/// The most columns a kind may have: bits of the mask in a frame.
pub const COLUMNS_MAX: usize = 64;

/// The fields of a kind that follow [`COMMON`].
#[must_use]
pub const fn own_fields(kind: Kind) -> &'static [Field] {
    use FieldType::{Bool, Bytes, Entity, Float, Int, Json, JsonObject, Text, Word};
    match kind {
        Kind::ModelCreated => {
            const {
                &[
                    required("model", NAME),
                    optional("architecture", Text),
                    optional("framework", Text),
                    optional("task_type", Text),
                    optional("description", Text),
                    optional("tags", JsonObject),
                ]
            }
        }
        Kind::ModelVersionCreated => {
            const {
                &[
                    required("model", NAME),
                    required("version", NAME),
                    optional("checkpoint_path", Text),
                    optional("config", Json),
                    optional("signature", Json),
                    optional("digest", Text),
                    optional("run", NAME),
                    optional("description", Text),
                    optional("tags", JsonObject),
                ]
            }
        }
        Kind::ModelVersionAliased => {
            const {
                &[
                    required("model", NAME),
                    required("alias", NAME),
                    Field {
                        name: "version",
                        ty: NAME,
                        presence: Presence::Stated,
                    },
                ]
            }
        }
        Kind::DatasetRegistered => {
            const {
                &[
                    required("dataset", NAME),
                    optional("version", Text),
                    optional("uri", Text),
                    optional("split_info", Json),
                    optional("row_count", Int),
                    optional("digest", Text),
                    optional("schema", Json),
                    optional("tags", JsonObject),
                ]
            }
        }
        Kind::DatasetUsed => {
            const {
                &[
                    required("run", NAME),
                    required("dataset", NAME),
                    optional("version", Text),
                    optional("role", Text),
                ]
            }
        }
        Kind::ExperimentCreated => {
            const {
                &[
                    required("experiment", NAME),
                    optional("description", Text),
                    optional("tags", JsonObject),
                ]
            }
        }
        Kind::RunStarted => {
            const {
                &[
                    required("run", NAME),
                    optional("name", Text),
                    optional("parent", NAME),
                    optional("experiment", NAME),
                    optional("model", NAME),
                    optional("version", NAME),
                    optional("dataset", NAME),
                    optional("started_by", Text),
                    optional("code", Text),
                    optional("tags", JsonObject),
                ]
            }
        }
        Kind::HyperparametersLogged => {
            const { &[required("run", NAME), required("params", JsonObject)] }
        }
        Kind::MetricLogged => {
            const {
                &[
                    required("name", FieldType::Name(METRIC_NAME_BYTES_MAX)),
                    required("value", Float),
                    optional("run", NAME),
                    optional("model", NAME),
                    optional("version", NAME),
                    optional("step", Int),
                    optional("epoch", Float),
                    optional("split", Text),
                ]
            }
        }
        Kind::ArtifactLogged => {
            const {
                &[
                    required("uri", Text),
                    optional("run", NAME),
                    optional("model", NAME),
                    optional("version", NAME),
                    optional("name", Text),
                    optional("media_type", Text),
                    optional("size_bytes", Int),
                    optional("digest", Text),
                    optional("metadata", Json),
                ]
            }
        }
        Kind::RunFinished => {
            const {
                &[
                    required("run", NAME),
                    required("status", Word(RUN_STATUSES)),
                    optional("error", Text),
                ]
            }
        }
        Kind::PredictionLogged => {
            const {
                &[
                    required("model", NAME),
                    required("version", NAME),
                    optional("prediction_id", NAME),
                    optional("input", Json),
                    optional("output", Json),
                    optional("predicted_class", Text),
                    optional("predicted_value", Float),
                    optional("confidence", Float),
                    optional("inference_time_ms", Float),
                    optional("timings", Json),
                    optional("request_id", Text),
                    optional("trace_id", Text),
                    optional("session_id", Text),
                    optional("user_id", Text),
                    optional("environment", Text),
                    optional("sample_rate", Float),
                    optional("input_tokens", Int),
                    optional("output_tokens", Int),
                    optional("time_to_first_token_ms", Float),
                    optional("error", Text),
                    optional("tags", JsonObject),
                    optional("part", Word(PREDICTION_PARTS)),
                ]
            }
        }
        Kind::FeedbackLogged => {
            const {
                &[
                    required("prediction_id", NAME),
                    optional("model", NAME),
                    optional("version", NAME),
                    optional("true_class", Text),
                    optional("true_value", Float),
                    optional("correct", Bool),
                    optional("label", Json),
                    optional("score", Float),
                    optional("score_name", Text),
                    optional("feedback_source", Text),
                ]
            }
        }
        Kind::TagsSet => const { &[required("entity", Entity), required("tags", JsonObject)] },
        Kind::EntityDeleted | Kind::EntityRestored => const { &[required("entity", Entity)] },
        Kind::EventLogged => const { &[required("name", NAME), optional("data", Json)] },
        Kind::EntityNamed => {
            const {
                &[
                    required("entity_kind", Text),
                    required("entity_id", Int),
                    optional("parent_id", Int),
                    required("name", NAME),
                ]
            }
        }
        Kind::EventRejected => {
            const {
                &[
                    required("reason", NAME),
                    optional("message", Text),
                    optional("position", Text),
                    optional("raw", Bytes),
                    optional("raw_bytes", Int),
                    optional("raw_sha256", Text),
                    optional("key", Bytes),
                    optional("headers", Json),
                ]
            }
        }
        Kind::SourceGapRecorded => {
            const {
                &[
                    required("reason", NAME),
                    required("from_position", Int),
                    required("to_position", Int),
                    optional("partition", Int),
                ]
            }
        }
    }
}

/// All fields of a kind, by column number.
pub fn fields(kind: Kind) -> impl ExactSizeIterator<Item = &'static Field> + Clone {
    (0..column_count(kind)).map(move |column| field(kind, column))
}

/// How many columns a kind has.
#[must_use]
pub const fn column_count(kind: Kind) -> usize {
    COMMON.len() + own_fields(kind).len()
}

/// The field at a column number.
///
/// # Panics
/// If the kind has no such column.
#[must_use]
pub const fn field(kind: Kind, column: usize) -> &'static Field {
    if column < COMMON.len() {
        &COMMON[column]
    } else {
        &own_fields(kind)[column - COMMON.len()]
    }
}

/// Which columns of a kind an event needs, as bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    /// Those that need a value.
    pub(crate) required: u64,
    /// Those that need a value or an explicit null.
    pub(crate) stated: u64,
}

/// Which columns an event of a kind needs.
#[inline]
pub(crate) fn needed(kind: Kind) -> Needed {
    const NEEDED: [Needed; Kind::ALL.len()] = {
        let none = Needed {
            required: 0,
            stated: 0,
        };
        let mut needed = [none; Kind::ALL.len()];
        let mut at = 0;
        while at < Kind::ALL.len() {
            let mut column = 0;
            while column < column_count(Kind::ALL[at]) {
                match field(Kind::ALL[at], column).presence {
                    Presence::Optional => {}
                    Presence::Required => needed[at].required |= 1 << column,
                    Presence::Stated => needed[at].stated |= 1 << column,
                }
                column += 1;
            }
            at += 1;
        }
        needed
    };
    NEEDED[usize::from(kind.number())]
}

/// The column number of a field known when the program is written; in a `const`, a misspelt name does not compile.
///
/// # Panics
/// If the kind has no such field.
#[must_use]
pub const fn column(kind: Kind, name: &str) -> usize {
    let mut at = 0;
    while at < column_count(kind) {
        if same(field(kind, at).name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such field")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The column number of a field named by a producer, `ord` excepted.
#[must_use]
pub fn find_column(kind: Kind, name: &str) -> Option<usize> {
    let name = match (kind, name) {
        (Kind::PredictionLogged, "input_data") => "input",
        (Kind::PredictionLogged, "output_data") => "output",
        _ => name,
    };
    let own = own_fields(kind)
        .iter()
        .position(|field| field.name == name)
        .map(|at| at + COMMON.len());
    own.or_else(|| {
        COMMON
            .iter()
            .position(|field| field.name == name)
            .filter(|column| *column != ORD)
    })
}

/// The schema rows of a kind have outside the log: `log_offset`, `append_time`, then every field save `ord`.
#[must_use]
pub fn arrow_schema(kind: Kind) -> SchemaRef {
    static SCHEMAS: OnceLock<Vec<SchemaRef>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| Kind::ALL.into_iter().map(build_schema).collect());
    Arc::clone(&schemas[usize::from(kind.number())])
}

fn build_schema(kind: Kind) -> SchemaRef {
    let mut columns = vec![
        ArrowField::new("log_offset", DataType::Int64, false),
        ArrowField::new("append_time", FieldType::Time.data_type(), false),
    ];
    for (number, field) in fields(kind)
        .enumerate()
        .filter(|(number, _)| *number != ORD)
    {
        let nullable = field.presence != Presence::Required && number != TIME;
        columns.push(ArrowField::new(field.name, field.ty.data_type(), nullable));
    }
    let metadata = [("modelog.kind".to_owned(), kind.name().to_owned())].into();
    Arc::new(Schema::new_with_metadata(columns, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_the_mask_and_have_distinct_names() {
        for kind in Kind::ALL {
            assert!(column_count(kind) <= COLUMNS_MAX);
            let mut names: Vec<_> = fields(kind).map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), column_count(kind), "{kind}");
            assert_eq!(arrow_schema(kind).fields().len(), column_count(kind) + 1);
        }
    }

    #[test]
    fn producers_find_fields_by_name() {
        const OUTPUT: usize = column(Kind::PredictionLogged, "output");
        assert_eq!(
            find_column(Kind::PredictionLogged, "output_data"),
            Some(OUTPUT)
        );
        assert_eq!(find_column(Kind::MetricLogged, "output_data"), None);
        assert_eq!(find_column(Kind::MetricLogged, "time"), Some(TIME));
        assert_eq!(find_column(Kind::MetricLogged, "ord"), None);
    }
}
