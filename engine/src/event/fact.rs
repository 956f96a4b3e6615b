//! Events as Rust values: the convenient form, for embedders and for readers who need whole rows.
//!
//! Each struct lists its fields twice: once as fields, once in [`Fact::each`], in the order of the kind's columns
//! ([`super::schema`]); a test binds the two. Everything on the path of many events works on columns instead.

use super::{Json, Kind};
use crate::Timestamp;

/// One fact, with what is common to all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Makes a repeat recognisable: a second event with the same (source, kind, id) is a duplicate.
    pub id: Option<String>,
    /// The CloudEvents source; none for events that came without one.
    pub source: Option<String>,
    /// When it happened; the time of receipt where absent.
    pub time: Option<Timestamp>,
    /// Fields the kind does not have.
    pub extra: Option<Json>,
    pub fact: Fact,
}

impl<F: Into<Fact>> From<F> for Event {
    fn from(fact: F) -> Self {
        Self {
            id: None,
            source: None,
            time: None,
            extra: None,
            fact: fact.into(),
        }
    }
}

impl Event {
    /// The kind of the fact.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.fact.kind()
    }

    /// Says where it comes from; part of its identity.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Gives the event an identity.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Says when it happened.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }
}

/// A field of a fact, met in column order.
#[derive(Debug)]
pub(crate) enum Slot<'a> {
    Text(&'a mut String),
    OptionalText(&'a mut Option<String>),
    Json(&'a mut Json),
    OptionalJson(&'a mut Option<Json>),
    Int(&'a mut i64),
    OptionalInt(&'a mut Option<i64>),
    Float(&'a mut f64),
    OptionalFloat(&'a mut Option<f64>),
    OptionalBool(&'a mut Option<bool>),
    OptionalBytes(&'a mut Option<Vec<u8>>),
}

/// What happened, by kind.
#[expect(
    clippy::large_enum_variant,
    reason = "facts are handled one at a time; many at once are columns"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    ModelCreated(ModelCreated),
    ModelVersionCreated(ModelVersionCreated),
    ModelVersionAliased(ModelVersionAliased),
    DatasetRegistered(DatasetRegistered),
    DatasetUsed(DatasetUsed),
    ExperimentCreated(ExperimentCreated),
    RunStarted(RunStarted),
    HyperparametersLogged(HyperparametersLogged),
    MetricLogged(MetricLogged),
    ArtifactLogged(ArtifactLogged),
    RunFinished(RunFinished),
    PredictionLogged(PredictionLogged),
    FeedbackLogged(FeedbackLogged),
    TagsSet(TagsSet),
    EntityDeleted(EntityDeleted),
    EntityRestored(EntityRestored),
    EventLogged(EventLogged),
    EntityNamed(EntityNamed),
    EventRejected(EventRejected),
    SourceGapRecorded(SourceGapRecorded),
}

impl Fact {
    /// The kind of the fact.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ModelCreated(_) => Kind::ModelCreated,
            Self::ModelVersionCreated(_) => Kind::ModelVersionCreated,
            Self::ModelVersionAliased(_) => Kind::ModelVersionAliased,
            Self::DatasetRegistered(_) => Kind::DatasetRegistered,
            Self::DatasetUsed(_) => Kind::DatasetUsed,
            Self::ExperimentCreated(_) => Kind::ExperimentCreated,
            Self::RunStarted(_) => Kind::RunStarted,
            Self::HyperparametersLogged(_) => Kind::HyperparametersLogged,
            Self::MetricLogged(_) => Kind::MetricLogged,
            Self::ArtifactLogged(_) => Kind::ArtifactLogged,
            Self::RunFinished(_) => Kind::RunFinished,
            Self::PredictionLogged(_) => Kind::PredictionLogged,
            Self::FeedbackLogged(_) => Kind::FeedbackLogged,
            Self::TagsSet(_) => Kind::TagsSet,
            Self::EntityDeleted(_) => Kind::EntityDeleted,
            Self::EntityRestored(_) => Kind::EntityRestored,
            Self::EventLogged(_) => Kind::EventLogged,
            Self::EntityNamed(_) => Kind::EntityNamed,
            Self::EventRejected(_) => Kind::EventRejected,
            Self::SourceGapRecorded(_) => Kind::SourceGapRecorded,
        }
    }

    /// An empty fact of a kind, to be filled.
    pub(crate) fn empty(kind: Kind) -> Self {
        match kind {
            Kind::ModelCreated => Self::ModelCreated(ModelCreated::default()),
            Kind::ModelVersionCreated => Self::ModelVersionCreated(ModelVersionCreated::default()),
            Kind::ModelVersionAliased => Self::ModelVersionAliased(ModelVersionAliased::default()),
            Kind::DatasetRegistered => Self::DatasetRegistered(DatasetRegistered::default()),
            Kind::DatasetUsed => Self::DatasetUsed(DatasetUsed::default()),
            Kind::ExperimentCreated => Self::ExperimentCreated(ExperimentCreated::default()),
            Kind::RunStarted => Self::RunStarted(RunStarted::default()),
            Kind::HyperparametersLogged => {
                Self::HyperparametersLogged(HyperparametersLogged::default())
            }
            Kind::MetricLogged => Self::MetricLogged(MetricLogged::default()),
            Kind::ArtifactLogged => Self::ArtifactLogged(ArtifactLogged::default()),
            Kind::RunFinished => Self::RunFinished(RunFinished::default()),
            Kind::PredictionLogged => Self::PredictionLogged(PredictionLogged::default()),
            Kind::FeedbackLogged => Self::FeedbackLogged(FeedbackLogged::default()),
            Kind::TagsSet => Self::TagsSet(TagsSet::default()),
            Kind::EntityDeleted => Self::EntityDeleted(EntityDeleted::default()),
            Kind::EntityRestored => Self::EntityRestored(EntityRestored::default()),
            Kind::EventLogged => Self::EventLogged(EventLogged::default()),
            Kind::EntityNamed => Self::EntityNamed(EntityNamed::default()),
            Kind::EventRejected => Self::EventRejected(EventRejected::default()),
            Kind::SourceGapRecorded => Self::SourceGapRecorded(SourceGapRecorded::default()),
        }
    }

    /// Shows every field of the kind, in the order of its columns.
    pub(crate) fn each(&mut self, mut slot: impl FnMut(Slot<'_>)) {
        match self {
            Self::ModelCreated(fact) => {
                slot(Slot::Text(&mut fact.model));
                slot(Slot::OptionalText(&mut fact.architecture));
                slot(Slot::OptionalText(&mut fact.framework));
                slot(Slot::OptionalText(&mut fact.task_type));
                slot(Slot::OptionalText(&mut fact.description));
                slot(Slot::OptionalJson(&mut fact.tags));
            }
            Self::ModelVersionCreated(fact) => {
                slot(Slot::Text(&mut fact.model));
                slot(Slot::Text(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.checkpoint_path));
                slot(Slot::OptionalJson(&mut fact.config));
                slot(Slot::OptionalJson(&mut fact.signature));
                slot(Slot::OptionalText(&mut fact.digest));
                slot(Slot::OptionalText(&mut fact.run));
                slot(Slot::OptionalText(&mut fact.description));
                slot(Slot::OptionalJson(&mut fact.tags));
            }
            Self::ModelVersionAliased(fact) => {
                slot(Slot::Text(&mut fact.model));
                slot(Slot::Text(&mut fact.alias));
                slot(Slot::OptionalText(&mut fact.version));
            }
            Self::DatasetRegistered(fact) => {
                slot(Slot::Text(&mut fact.dataset));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.uri));
                slot(Slot::OptionalJson(&mut fact.split_info));
                slot(Slot::OptionalInt(&mut fact.row_count));
                slot(Slot::OptionalText(&mut fact.digest));
                slot(Slot::OptionalJson(&mut fact.schema));
                slot(Slot::OptionalJson(&mut fact.tags));
            }
            Self::DatasetUsed(fact) => {
                slot(Slot::Text(&mut fact.run));
                slot(Slot::Text(&mut fact.dataset));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.role));
            }
            Self::ExperimentCreated(fact) => {
                slot(Slot::Text(&mut fact.experiment));
                slot(Slot::OptionalText(&mut fact.description));
                slot(Slot::OptionalJson(&mut fact.tags));
            }
            Self::RunStarted(fact) => {
                slot(Slot::Text(&mut fact.run));
                slot(Slot::OptionalText(&mut fact.name));
                slot(Slot::OptionalText(&mut fact.parent));
                slot(Slot::OptionalText(&mut fact.experiment));
                slot(Slot::OptionalText(&mut fact.model));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.dataset));
                slot(Slot::OptionalText(&mut fact.started_by));
                slot(Slot::OptionalText(&mut fact.code));
                slot(Slot::OptionalJson(&mut fact.tags));
            }
            Self::HyperparametersLogged(fact) => {
                slot(Slot::Text(&mut fact.run));
                slot(Slot::Json(&mut fact.params));
            }
            Self::MetricLogged(fact) => {
                slot(Slot::Text(&mut fact.name));
                slot(Slot::Float(&mut fact.value));
                slot(Slot::OptionalText(&mut fact.run));
                slot(Slot::OptionalText(&mut fact.model));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalInt(&mut fact.step));
                slot(Slot::OptionalFloat(&mut fact.epoch));
                slot(Slot::OptionalText(&mut fact.split));
            }
            Self::ArtifactLogged(fact) => {
                slot(Slot::Text(&mut fact.uri));
                slot(Slot::OptionalText(&mut fact.run));
                slot(Slot::OptionalText(&mut fact.model));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.name));
                slot(Slot::OptionalText(&mut fact.media_type));
                slot(Slot::OptionalInt(&mut fact.size_bytes));
                slot(Slot::OptionalText(&mut fact.digest));
                slot(Slot::OptionalJson(&mut fact.metadata));
            }
            Self::RunFinished(fact) => {
                slot(Slot::Text(&mut fact.run));
                slot(Slot::Text(&mut fact.status));
                slot(Slot::OptionalText(&mut fact.error));
            }
            Self::PredictionLogged(fact) => {
                slot(Slot::Text(&mut fact.model));
                slot(Slot::Text(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.prediction_id));
                slot(Slot::OptionalJson(&mut fact.input));
                slot(Slot::OptionalJson(&mut fact.output));
                slot(Slot::OptionalText(&mut fact.predicted_class));
                slot(Slot::OptionalFloat(&mut fact.predicted_value));
                slot(Slot::OptionalFloat(&mut fact.confidence));
                slot(Slot::OptionalFloat(&mut fact.inference_time_ms));
                slot(Slot::OptionalJson(&mut fact.timings));
                slot(Slot::OptionalText(&mut fact.request_id));
                slot(Slot::OptionalText(&mut fact.trace_id));
                slot(Slot::OptionalText(&mut fact.session_id));
                slot(Slot::OptionalText(&mut fact.user_id));
                slot(Slot::OptionalText(&mut fact.environment));
                slot(Slot::OptionalFloat(&mut fact.sample_rate));
                slot(Slot::OptionalInt(&mut fact.input_tokens));
                slot(Slot::OptionalInt(&mut fact.output_tokens));
                slot(Slot::OptionalFloat(&mut fact.time_to_first_token_ms));
                slot(Slot::OptionalText(&mut fact.error));
                slot(Slot::OptionalJson(&mut fact.tags));
                slot(Slot::OptionalText(&mut fact.part));
            }
            Self::FeedbackLogged(fact) => {
                slot(Slot::Text(&mut fact.prediction_id));
                slot(Slot::OptionalText(&mut fact.model));
                slot(Slot::OptionalText(&mut fact.version));
                slot(Slot::OptionalText(&mut fact.true_class));
                slot(Slot::OptionalFloat(&mut fact.true_value));
                slot(Slot::OptionalBool(&mut fact.correct));
                slot(Slot::OptionalJson(&mut fact.label));
                slot(Slot::OptionalFloat(&mut fact.score));
                slot(Slot::OptionalText(&mut fact.score_name));
                slot(Slot::OptionalText(&mut fact.feedback_source));
            }
            Self::TagsSet(fact) => {
                slot(Slot::Text(&mut fact.entity));
                slot(Slot::Json(&mut fact.tags));
            }
            Self::EntityDeleted(fact) => {
                slot(Slot::Text(&mut fact.entity));
            }
            Self::EntityRestored(fact) => {
                slot(Slot::Text(&mut fact.entity));
            }
            Self::EventLogged(fact) => {
                slot(Slot::Text(&mut fact.name));
                slot(Slot::OptionalJson(&mut fact.data));
            }
            Self::EntityNamed(fact) => {
                slot(Slot::Text(&mut fact.entity_kind));
                slot(Slot::Int(&mut fact.entity_id));
                slot(Slot::OptionalInt(&mut fact.parent_id));
                slot(Slot::Text(&mut fact.name));
            }
            Self::EventRejected(fact) => {
                slot(Slot::Text(&mut fact.reason));
                slot(Slot::OptionalText(&mut fact.message));
                slot(Slot::OptionalText(&mut fact.position));
                slot(Slot::OptionalBytes(&mut fact.raw));
                slot(Slot::OptionalInt(&mut fact.raw_bytes));
                slot(Slot::OptionalText(&mut fact.raw_sha256));
                slot(Slot::OptionalBytes(&mut fact.key));
                slot(Slot::OptionalJson(&mut fact.headers));
            }
            Self::SourceGapRecorded(fact) => {
                slot(Slot::Text(&mut fact.reason));
                slot(Slot::Int(&mut fact.from_position));
                slot(Slot::Int(&mut fact.to_position));
                slot(Slot::OptionalInt(&mut fact.partition));
            }
        }
    }
}

/// A model was announced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCreated {
    pub model: String,
    pub architecture: Option<String>,
    pub framework: Option<String>,
    pub task_type: Option<String>,
    pub description: Option<String>,
    pub tags: Option<Json>,
}

impl From<ModelCreated> for Fact {
    fn from(fact: ModelCreated) -> Self {
        Self::ModelCreated(fact)
    }
}

/// A version of a model exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelVersionCreated {
    pub model: String,
    pub version: String,
    pub checkpoint_path: Option<String>,
    pub config: Option<Json>,
    pub signature: Option<Json>,
    pub digest: Option<String>,
    pub run: Option<String>,
    pub description: Option<String>,
    pub tags: Option<Json>,
}

impl From<ModelVersionCreated> for Fact {
    fn from(fact: ModelVersionCreated) -> Self {
        Self::ModelVersionCreated(fact)
    }
}

/// An alias points to a version; without one, the alias is removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelVersionAliased {
    pub model: String,
    pub alias: String,
    pub version: Option<String>,
}

impl From<ModelVersionAliased> for Fact {
    fn from(fact: ModelVersionAliased) -> Self {
        Self::ModelVersionAliased(fact)
    }
}

/// A dataset was announced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetRegistered {
    pub dataset: String,
    pub version: Option<String>,
    pub uri: Option<String>,
    pub split_info: Option<Json>,
    pub row_count: Option<i64>,
    pub digest: Option<String>,
    pub schema: Option<Json>,
    pub tags: Option<Json>,
}

impl From<DatasetRegistered> for Fact {
    fn from(fact: DatasetRegistered) -> Self {
        Self::DatasetRegistered(fact)
    }
}

/// A run read a dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetUsed {
    pub run: String,
    pub dataset: String,
    pub version: Option<String>,
    pub role: Option<String>,
}

impl From<DatasetUsed> for Fact {
    fn from(fact: DatasetUsed) -> Self {
        Self::DatasetUsed(fact)
    }
}

/// An experiment was announced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExperimentCreated {
    pub experiment: String,
    pub description: Option<String>,
    pub tags: Option<Json>,
}

impl From<ExperimentCreated> for Fact {
    fn from(fact: ExperimentCreated) -> Self {
        Self::ExperimentCreated(fact)
    }
}

/// A run began, or was reopened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunStarted {
    pub run: String,
    pub name: Option<String>,
    pub parent: Option<String>,
    pub experiment: Option<String>,
    pub model: Option<String>,
    pub version: Option<String>,
    pub dataset: Option<String>,
    pub started_by: Option<String>,
    pub code: Option<String>,
    pub tags: Option<Json>,
}

impl From<RunStarted> for Fact {
    fn from(fact: RunStarted) -> Self {
        Self::RunStarted(fact)
    }
}

/// Hyperparameters of a run; merged per key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HyperparametersLogged {
    pub run: String,
    pub params: Json,
}

impl From<HyperparametersLogged> for Fact {
    fn from(fact: HyperparametersLogged) -> Self {
        Self::HyperparametersLogged(fact)
    }
}

/// One point of a metric, of a run or of a model version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricLogged {
    pub name: String,
    pub value: f64,
    pub run: Option<String>,
    pub model: Option<String>,
    pub version: Option<String>,
    pub step: Option<i64>,
    pub epoch: Option<f64>,
    pub split: Option<String>,
}

impl From<MetricLogged> for Fact {
    fn from(fact: MetricLogged) -> Self {
        Self::MetricLogged(fact)
    }
}

/// A file was produced; its URI is stored and never opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArtifactLogged {
    pub uri: String,
    pub run: Option<String>,
    pub model: Option<String>,
    pub version: Option<String>,
    pub name: Option<String>,
    pub media_type: Option<String>,
    pub size_bytes: Option<i64>,
    pub digest: Option<String>,
    pub metadata: Option<Json>,
}

impl From<ArtifactLogged> for Fact {
    fn from(fact: ArtifactLogged) -> Self {
        Self::ArtifactLogged(fact)
    }
}

/// A run ended: `finished`, `failed` or `killed`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFinished {
    pub run: String,
    pub status: String,
    pub error: Option<String>,
}

impl From<RunFinished> for Fact {
    fn from(fact: RunFinished) -> Self {
        Self::RunFinished(fact)
    }
}

/// A model version answered; or one half of that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionLogged {
    pub model: String,
    pub version: String,
    pub prediction_id: Option<String>,
    pub input: Option<Json>,
    pub output: Option<Json>,
    pub predicted_class: Option<String>,
    pub predicted_value: Option<f64>,
    pub confidence: Option<f64>,
    pub inference_time_ms: Option<f64>,
    pub timings: Option<Json>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub session_id: Option<String>,
    pub user_id: Option<String>,
    pub environment: Option<String>,
    pub sample_rate: Option<f64>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub time_to_first_token_ms: Option<f64>,
    pub error: Option<String>,
    pub tags: Option<Json>,
    pub part: Option<String>,
}

impl From<PredictionLogged> for Fact {
    fn from(fact: PredictionLogged) -> Self {
        Self::PredictionLogged(fact)
    }
}

/// What the answer to a prediction should have been.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedbackLogged {
    pub prediction_id: String,
    pub model: Option<String>,
    pub version: Option<String>,
    pub true_class: Option<String>,
    pub true_value: Option<f64>,
    pub correct: Option<bool>,
    pub label: Option<Json>,
    pub score: Option<f64>,
    pub score_name: Option<String>,
    pub feedback_source: Option<String>,
}

impl From<FeedbackLogged> for Fact {
    fn from(fact: FeedbackLogged) -> Self {
        Self::FeedbackLogged(fact)
    }
}

/// Tags of an entity; merged per key, null removes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagsSet {
    pub entity: String,
    pub tags: Json,
}

impl From<TagsSet> for Fact {
    fn from(fact: TagsSet) -> Self {
        Self::TagsSet(fact)
    }
}

/// An entity is hidden from now on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityDeleted {
    pub entity: String,
}

impl From<EntityDeleted> for Fact {
    fn from(fact: EntityDeleted) -> Self {
        Self::EntityDeleted(fact)
    }
}

/// A hidden entity is shown again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityRestored {
    pub entity: String,
}

impl From<EntityRestored> for Fact {
    fn from(fact: EntityRestored) -> Self {
        Self::EntityRestored(fact)
    }
}

/// Whatever else a team wants on the record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventLogged {
    pub name: String,
    pub data: Option<Json>,
}

impl From<EventLogged> for Fact {
    fn from(fact: EventLogged) -> Self {
        Self::EventLogged(fact)
    }
}

/// A name was given its number. Written by the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityNamed {
    pub entity_kind: String,
    pub entity_id: i64,
    pub parent_id: Option<i64>,
    pub name: String,
}

impl From<EntityNamed> for Fact {
    fn from(fact: EntityNamed) -> Self {
        Self::EntityNamed(fact)
    }
}

/// Something that could not be understood. Written by the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventRejected {
    pub reason: String,
    pub message: Option<String>,
    pub position: Option<String>,
    pub raw: Option<Vec<u8>>,
    pub raw_bytes: Option<i64>,
    pub raw_sha256: Option<String>,
    pub key: Option<Vec<u8>>,
    pub headers: Option<Json>,
}

impl From<EventRejected> for Fact {
    fn from(fact: EventRejected) -> Self {
        Self::EventRejected(fact)
    }
}

/// A source no longer had what came next. Written by the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceGapRecorded {
    pub reason: String,
    pub from_position: i64,
    pub to_position: i64,
    pub partition: Option<i64>,
}

impl From<SourceGapRecorded> for Fact {
    fn from(fact: SourceGapRecorded) -> Self {
        Self::SourceGapRecorded(fact)
    }
}
