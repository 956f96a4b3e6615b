//! What the events mean, one at a time.

use std::collections::{BTreeMap, HashMap};

use modelog_engine::batch::Row;
use modelog_engine::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, EntityKind, EntityRef, Event,
    ExperimentCreated, Fact, FeedbackLogged, HyperparametersLogged, Json, MetricLogged,
    ModelCreated, ModelVersionAliased, ModelVersionCreated, PredictionLogged, RunFinished,
    RunStarted, TagsSet,
};
use modelog_engine::names::{EntityId, NamedEntity};
use modelog_engine::read::{
    Artifact, Dataset, Experiment, Feedback, MetricPoint, Model, ModelVersion, Prediction, Run,
    StatsTotals, UsedDataset,
};
use modelog_engine::stats::{Statistics, VersionStatistics};
use modelog_engine::{Checkpoint, Offset, Timestamp};
use serde_json::value::RawValue;

/// Keys with the texts of their values, in the order in which they were set last.
pub(super) type Fields = Vec<(String, String)>;

/// Everything that was logged, folded.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) checkpoint: Option<Checkpoint>,
    ids: HashMap<(EntityKind, EntityId, String), EntityId>,
    pub(super) models: BTreeMap<EntityId, Entity<Model>>,
    pub(super) versions: BTreeMap<EntityId, Entity<ModelVersion>>,
    pub(super) datasets: BTreeMap<EntityId, Entity<Dataset>>,
    pub(super) experiments: BTreeMap<EntityId, Entity<Experiment>>,
    pub(super) runs: BTreeMap<EntityId, Entity<Run>>,
    /// (model, alias) to version.
    pub(super) aliases: BTreeMap<(EntityId, String), EntityId>,
    pub(super) params: BTreeMap<EntityId, Fields>,
    /// Runs' artifacts, with the version they name beside the run.
    pub(super) artifacts: BTreeMap<EntityId, Vec<(Option<EntityId>, Artifact)>>,
    pub(super) series: BTreeMap<SeriesKey, Vec<MetricPoint>>,
    /// By (model, prediction id).
    pub(super) predictions: BTreeMap<(EntityId, String), Answered>,
    pub(super) feedback: Vec<Given>,
    pub(super) totals: StatsTotals,
    pub(super) statistics: HashMap<EntityId, VersionStatistics>,
}

/// An entity with what its view does not say.
#[derive(Debug)]
pub(super) struct Entity<T> {
    pub(super) view: T,
    pub(super) deleted: bool,
    pub(super) tags: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Run(EntityId),
    Version(EntityId),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesKey {
    pub(super) owner: Owner,
    pub(super) name: String,
    pub(super) split: Option<String>,
}

/// A prediction, merged so far.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) view: Prediction,
    pub(super) version: EntityId,
    /// Its output or error has arrived.
    pub(super) complete: bool,
}

/// Feedback as it was given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) prediction_id: String,
    pub(super) model: Option<EntityId>,
    pub(super) view: Feedback,
}

/// When and where an event was logged.
#[derive(Clone, Copy)]
struct Place {
    time: Timestamp,
    offset: Offset,
}

impl State {
    pub(super) fn id(&self, kind: EntityKind, parent: EntityId, name: &str) -> Option<EntityId> {
        self.ids.get(&(kind, parent, name.to_owned())).copied()
    }

    /// Takes a name: it is an entity from now on, if only a placeholder. A name may come again with its batch.
    pub(super) fn name(&mut self, named: &NamedEntity) {
        let (id, name) = (named.id, named.name.to_string());
        self.ids
            .insert((named.kind, named.parent, name.clone()), id);
        match named.kind {
            EntityKind::Model => {
                self.models
                    .entry(id)
                    .or_insert_with(|| entity(empty_model(id, name)));
            }
            EntityKind::Version => {
                let model = self.models[&named.parent].view.model.clone();
                let version = empty_version(id, named.parent, model, name);
                self.versions.entry(id).or_insert_with(|| entity(version));
            }
            EntityKind::Dataset => {
                self.datasets
                    .entry(id)
                    .or_insert_with(|| entity(empty_dataset(id, name)));
            }
            EntityKind::Experiment => {
                self.experiments
                    .entry(id)
                    .or_insert_with(|| entity(empty_experiment(id, name)));
            }
            EntityKind::Run => {
                self.runs
                    .entry(id)
                    .or_insert_with(|| entity(empty_run(id, name)));
            }
        }
    }

    /// What the engine's fold says, as it would be published.
    pub(super) fn publish(&mut self, statistics: &Statistics) {
        self.totals = statistics.totals().clone();
        self.statistics = statistics
            .versions_changed_since(Offset::ZERO)
            .map(|(id, found)| (id, found.clone()))
            .collect();
    }

    pub(super) fn event(&mut self, row: Row<'_>) {
        let place = Place {
            time: row.time(),
            offset: row.offset(),
        };
        let Event { id, fact, .. } = row.to_event();
        match fact {
            Fact::ModelCreated(fact) => self.model_created(fact, place),
            Fact::ModelVersionCreated(fact) => self.version_created(fact, place),
            Fact::ModelVersionAliased(fact) => self.aliased(fact),
            Fact::DatasetRegistered(fact) => self.dataset_registered(fact, place),
            Fact::DatasetUsed(fact) => self.dataset_used(fact),
            Fact::ExperimentCreated(fact) => self.experiment_created(fact, place),
            Fact::RunStarted(fact) => self.run_started(fact, place),
            Fact::HyperparametersLogged(fact) => self.params_logged(&fact),
            Fact::MetricLogged(fact) => self.metric_logged(fact, place),
            Fact::ArtifactLogged(fact) => self.artifact_logged(fact),
            Fact::RunFinished(fact) => self.run_finished(fact, place),
            Fact::PredictionLogged(fact) => self.prediction_logged(fact, id, place),
            Fact::FeedbackLogged(fact) => self.feedback_logged(fact, place),
            Fact::TagsSet(fact) => self.tags_set(&fact),
            Fact::EntityDeleted(fact) => self.set_deleted(&fact.entity, true),
            Fact::EntityRestored(fact) => self.set_deleted(&fact.entity, false),
            Fact::EventLogged(_)
            | Fact::EntityNamed(_)
            | Fact::EventRejected(_)
            | Fact::SourceGapRecorded(_) => {}
        }
    }

    fn model_created(&mut self, fact: ModelCreated, place: Place) {
        let model = self.model_mut(&fact.model);
        merge(&mut model.view.architecture, fact.architecture);
        merge(&mut model.view.framework, fact.framework);
        merge(&mut model.view.task_type, fact.task_type);
        merge(&mut model.view.description, fact.description);
        model.view.created_at.get_or_insert(place.time);
        merge_tags(&mut model.tags, fact.tags.as_ref());
    }

    fn version_created(&mut self, fact: ModelVersionCreated, place: Place) {
        let version = self.version_mut(&fact.model, &fact.version);
        merge(&mut version.view.checkpoint_path, fact.checkpoint_path);
        merge(&mut version.view.config, fact.config);
        merge(&mut version.view.signature, fact.signature);
        merge(&mut version.view.digest, fact.digest);
        merge(&mut version.view.run, fact.run);
        merge(&mut version.view.description, fact.description);
        version.view.created_at.get_or_insert(place.time);
        merge_tags(&mut version.tags, fact.tags.as_ref());
    }

    fn aliased(&mut self, fact: ModelVersionAliased) {
        let model = self.model_mut(&fact.model).view.id;
        match fact.version {
            Some(version) => {
                let version = self.version_mut(&fact.model, &version).view.id;
                self.aliases.insert((model, fact.alias), version);
            }
            None => {
                self.aliases.remove(&(model, fact.alias));
            }
        }
    }

    fn dataset_registered(&mut self, fact: DatasetRegistered, place: Place) {
        let dataset = self.dataset_mut(&fact.dataset);
        merge(&mut dataset.view.version, fact.version);
        merge(&mut dataset.view.uri, fact.uri);
        merge(&mut dataset.view.split_info, fact.split_info);
        merge(&mut dataset.view.row_count, fact.row_count);
        merge(&mut dataset.view.digest, fact.digest);
        merge(&mut dataset.view.schema, fact.schema);
        dataset.view.created_at.get_or_insert(place.time);
        merge_tags(&mut dataset.tags, fact.tags.as_ref());
    }

    fn dataset_used(&mut self, fact: DatasetUsed) {
        let used = UsedDataset {
            dataset: fact.dataset,
            version: fact.version,
            role: fact.role,
        };
        let datasets = &mut self.run_mut(&fact.run).view.datasets;
        if !datasets.contains(&used) {
            datasets.push(used);
        }
    }

    fn experiment_created(&mut self, fact: ExperimentCreated, place: Place) {
        let id = self
            .id(EntityKind::Experiment, 0, &fact.experiment)
            .expect("the experiment was named");
        let experiment = self.experiments.get_mut(&id).expect("it was named");
        merge(&mut experiment.view.description, fact.description);
        experiment.view.created_at.get_or_insert(place.time);
        merge_tags(&mut experiment.tags, fact.tags.as_ref());
    }

    /// The first start fills in what is known of the run; a later one reopens it.
    fn run_started(&mut self, fact: RunStarted, place: Place) {
        let run = self.run_mut(&fact.run);
        merge(&mut run.view.name, fact.name);
        merge(&mut run.view.parent, fact.parent);
        merge(&mut run.view.experiment, fact.experiment);
        merge(&mut run.view.model, fact.model);
        merge(&mut run.view.version, fact.version);
        merge(&mut run.view.dataset, fact.dataset);
        merge(&mut run.view.started_by, fact.started_by);
        merge(&mut run.view.code, fact.code);
        merge_tags(&mut run.tags, fact.tags.as_ref());
        let reopened = run.view.started_at.is_some();
        if reopened || run.view.status.is_none() {
            run.view.status = Some("running".into());
            (run.view.finished_at, run.view.error) = (None, None);
        }
        run.view.started_at.get_or_insert(place.time);
    }

    fn run_finished(&mut self, fact: RunFinished, place: Place) {
        let run = &mut self.run_mut(&fact.run).view;
        run.status = Some(fact.status);
        run.error = fact.error;
        run.finished_at = Some(place.time);
    }

    fn params_logged(&mut self, fact: &HyperparametersLogged) {
        let run = self.run_mut(&fact.run).view.id;
        let params = self.params.entry(run).or_default();
        for (key, value) in fields(&fact.params) {
            set(params, key, Some(value));
        }
    }

    /// An artifact is told by its owner and URI; a run's may name a version beside.
    fn artifact_logged(&mut self, fact: ArtifactLogged) {
        let version = match (&fact.model, &fact.version) {
            (Some(model), Some(version)) => Some(self.version_mut(model, version).view.id),
            _ => None,
        };
        let Some(run) = fact.run else { return };
        let run = self.run_mut(&run).view.id;
        let artifacts = self.artifacts.entry(run).or_default();
        let known = artifacts
            .iter_mut()
            .find(|(named, known)| *named == version && known.uri == fact.uri);
        match known {
            Some((_, known)) => {
                merge(&mut known.name, fact.name);
                merge(&mut known.media_type, fact.media_type);
                merge(&mut known.size_bytes, fact.size_bytes);
                merge(&mut known.digest, fact.digest);
                merge(&mut known.metadata, fact.metadata);
            }
            None => artifacts.push((
                version,
                Artifact {
                    uri: fact.uri,
                    name: fact.name,
                    media_type: fact.media_type,
                    size_bytes: fact.size_bytes,
                    digest: fact.digest,
                    metadata: fact.metadata,
                },
            )),
        }
    }

    fn metric_logged(&mut self, fact: MetricLogged, place: Place) {
        let owner = match (&fact.run, &fact.model, &fact.version) {
            (Some(run), ..) => Owner::Run(self.run_mut(run).view.id),
            (None, Some(model), Some(version)) => {
                Owner::Version(self.version_mut(model, version).view.id)
            }
            _ => panic!("a metric without an owner is not legal"),
        };
        let key = SeriesKey {
            owner,
            name: fact.name,
            split: fact.split,
        };
        let step = fact.step.unwrap_or(fact.epoch.unwrap_or(0.0) as i64);
        let point = MetricPoint {
            step,
            value: unsigned_zero(fact.value),
            epoch: fact.epoch.map(unsigned_zero),
            time: place.time,
            log_offset: place.offset,
        };
        let points = self.series.entry(key).or_default();
        let same = |known: &MetricPoint| {
            let equal = known.value == point.value || known.value.is_nan() && point.value.is_nan();
            (known.step, known.time) == (point.step, point.time) && equal
        };
        if !points.iter().any(same) {
            points.push(point);
            points.sort_by_key(|point| (point.step, point.time, point.log_offset));
        }
    }

    fn prediction_logged(&mut self, fact: PredictionLogged, id: Option<String>, place: Place) {
        let version = &self.version_mut(&fact.model, &fact.version).view;
        let (model, version) = (version.model_id, version.id);
        let id = (fact.prediction_id.clone().or(id)).unwrap_or_else(|| place.offset.to_string());
        let complete = fact.part.as_deref() != Some("request");
        let known = self
            .predictions
            .entry((model, id.clone()))
            .or_insert_with(|| Answered {
                view: empty_prediction(id, &fact, place),
                version,
                complete: false,
            });
        if complete || !known.complete {
            known.version = version;
            known.view.version.clone_from(&fact.version);
        }
        known.complete |= complete;
        merge_prediction(&mut known.view, fact);
    }

    fn feedback_logged(&mut self, fact: FeedbackLogged, place: Place) {
        let model = fact.model.map(|model| self.model_mut(&model).view.id);
        self.feedback.push(Given {
            prediction_id: fact.prediction_id,
            model,
            view: Feedback {
                true_class: fact.true_class,
                true_value: fact.true_value.map(unsigned_zero),
                correct: fact.correct,
                label: fact.label,
                score: fact.score.map(unsigned_zero),
                score_name: fact.score_name,
                feedback_source: fact.feedback_source,
                time: place.time,
                log_offset: place.offset,
            },
        });
    }

    fn tags_set(&mut self, fact: &TagsSet) {
        let (tags, _) = self.referred(&fact.entity);
        merge_tags(tags, Some(&fact.tags));
    }

    fn set_deleted(&mut self, entity: &str, value: bool) {
        let (_, deleted) = self.referred(entity);
        *deleted = value;
    }

    /// Tags, and the mark of deletion, of an entity by reference.
    fn referred(&mut self, entity: &str) -> (&mut Fields, &mut bool) {
        let EntityRef { kind, parent, name } = entity.parse().expect("references are checked");
        let parent = parent.map_or(0, |model| self.model_mut(&model).view.id);
        let id = self.id(kind, parent, &name).expect("the entity was named");
        match kind {
            EntityKind::Model => self.models.get_mut(&id).map(marks),
            EntityKind::Version => self.versions.get_mut(&id).map(marks),
            EntityKind::Dataset => self.datasets.get_mut(&id).map(marks),
            EntityKind::Experiment => self.experiments.get_mut(&id).map(marks),
            EntityKind::Run => self.runs.get_mut(&id).map(marks),
        }
        .expect("every number has its entity")
    }

    fn model_mut(&mut self, name: &str) -> &mut Entity<Model> {
        let id = self.id(EntityKind::Model, 0, name);
        self.models
            .get_mut(&id.expect("the model was named"))
            .expect("every number has its entity")
    }

    fn version_mut(&mut self, model: &str, version: &str) -> &mut Entity<ModelVersion> {
        let model = self.model_mut(model).view.id;
        let id = self.id(EntityKind::Version, model, version);
        self.versions
            .get_mut(&id.expect("the version was named"))
            .expect("every number has its entity")
    }

    fn dataset_mut(&mut self, name: &str) -> &mut Entity<Dataset> {
        let id = self.id(EntityKind::Dataset, 0, name);
        self.datasets
            .get_mut(&id.expect("the dataset was named"))
            .expect("every number has its entity")
    }

    fn run_mut(&mut self, name: &str) -> &mut Entity<Run> {
        let id = self.id(EntityKind::Run, 0, name);
        self.runs
            .get_mut(&id.expect("the run was named"))
            .expect("every number has its entity")
    }
}

fn marks<T>(entity: &mut Entity<T>) -> (&mut Fields, &mut bool) {
    (&mut entity.tags, &mut entity.deleted)
}

/// A later value goes before an earlier one; none changes nothing.
fn merge<T>(known: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *known = given;
    }
}

/// The sign of a zero is not kept: databases do not.
fn unsigned_zero(value: f64) -> f64 {
    value + 0.0
}

fn merge_number(known: &mut Option<f64>, given: Option<f64>) {
    merge(known, given.map(unsigned_zero));
}

/// A key takes its place behind all others whenever it is set.
fn set(known: &mut Fields, key: String, value: Option<String>) {
    known.retain(|(name, _)| *name != key);
    if let Some(value) = value {
        known.push((key, value));
    }
}

fn merge_tags(known: &mut Fields, given: Option<&Json>) {
    for (key, value) in given.map(fields).unwrap_or_default() {
        set(known, key, Some(value).filter(|value| value != "null"));
    }
}

/// The fields of an object as they are written, repeated keys included.
fn fields(object: &Json) -> Fields {
    struct Written;
    impl<'de> serde::de::Visitor<'de> for Written {
        type Value = Fields;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
            let mut fields = Fields::new();
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                fields.push((key, value.get().to_owned()));
            }
            Ok(fields)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(object.as_str());
    serde::Deserializer::deserialize_map(&mut reader, Written).expect("a JSON object")
}

fn merge_prediction(known: &mut Prediction, fact: PredictionLogged) {
    merge(&mut known.input, fact.input);
    merge(&mut known.output, fact.output);
    merge(&mut known.predicted_class, fact.predicted_class);
    merge_number(&mut known.predicted_value, fact.predicted_value);
    merge_number(&mut known.confidence, fact.confidence);
    merge_number(&mut known.inference_time_ms, fact.inference_time_ms);
    merge(&mut known.timings, fact.timings);
    merge(&mut known.request_id, fact.request_id);
    merge(&mut known.trace_id, fact.trace_id);
    merge(&mut known.session_id, fact.session_id);
    merge(&mut known.user_id, fact.user_id);
    merge(&mut known.environment, fact.environment);
    merge_number(&mut known.sample_rate, fact.sample_rate);
    merge(&mut known.input_tokens, fact.input_tokens);
    merge(&mut known.output_tokens, fact.output_tokens);
    merge_number(
        &mut known.time_to_first_token_ms,
        fact.time_to_first_token_ms,
    );
    merge(&mut known.error, fact.error);
    merge(&mut known.tags, fact.tags);
}

fn empty_prediction(id: String, fact: &PredictionLogged, place: Place) -> Prediction {
    Prediction {
        prediction_id: id,
        model: fact.model.clone(),
        version: fact.version.clone(),
        time: place.time,
        log_offset: place.offset,
        input: None,
        output: None,
        predicted_class: None,
        predicted_value: None,
        confidence: None,
        inference_time_ms: None,
        timings: None,
        request_id: None,
        trace_id: None,
        session_id: None,
        user_id: None,
        environment: None,
        sample_rate: None,
        input_tokens: None,
        output_tokens: None,
        time_to_first_token_ms: None,
        error: None,
        tags: None,
        feedback: None,
    }
}

fn entity<T>(view: T) -> Entity<T> {
    Entity {
        view,
        deleted: false,
        tags: Fields::new(),
    }
}

fn empty_model(id: EntityId, model: String) -> Model {
    Model {
        id,
        model,
        architecture: None,
        framework: None,
        task_type: None,
        description: None,
        tags: None,
        created_at: None,
        aliases: Vec::new(),
    }
}

fn empty_version(id: EntityId, model_id: EntityId, model: String, version: String) -> ModelVersion {
    ModelVersion {
        id,
        model_id,
        model,
        version,
        checkpoint_path: None,
        config: None,
        signature: None,
        digest: None,
        run: None,
        description: None,
        tags: None,
        aliases: Vec::new(),
        created_at: None,
    }
}

fn empty_dataset(id: EntityId, dataset: String) -> Dataset {
    Dataset {
        id,
        dataset,
        version: None,
        uri: None,
        split_info: None,
        row_count: None,
        digest: None,
        schema: None,
        tags: None,
        created_at: None,
    }
}

fn empty_experiment(id: EntityId, experiment: String) -> Experiment {
    Experiment {
        id,
        experiment,
        description: None,
        tags: None,
        created_at: None,
    }
}

fn empty_run(id: EntityId, run: String) -> Run {
    Run {
        id,
        run,
        name: None,
        parent: None,
        experiment: None,
        model: None,
        version: None,
        dataset: None,
        started_by: None,
        code: None,
        tags: None,
        params: None,
        status: None,
        error: None,
        started_at: None,
        finished_at: None,
        datasets: Vec::new(),
        artifacts: Vec::new(),
    }
}
