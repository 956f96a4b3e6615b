//! What can happen to a model: kinds of events, their fields, and events as Rust values.

mod check;
mod entity;
mod fact;
pub mod json;
mod kind;
pub mod schema;

pub use check::{FieldError, FieldProblem, VALUE_BYTES_MAX, json_type};
pub(crate) use check::{check_text, check_together};
pub use entity::EntityRef;
pub(crate) use fact::Slot;
pub use fact::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, EntityDeleted, EntityNamed, EntityRestored,
    Event, EventLogged, EventRejected, ExperimentCreated, Fact, FeedbackLogged,
    HyperparametersLogged, MetricLogged, ModelCreated, ModelVersionAliased, ModelVersionCreated,
    PredictionLogged, RunFinished, RunStarted, SourceGapRecorded, TagsSet,
};
pub use json::Json;
pub use kind::{EntityKind, Kind, UnknownKind};
