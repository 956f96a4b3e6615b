//! What is known of an entity: the fold of the events about it, whoever keeps the result.
//!
//! ```text
//! batch ─▶ changes: which entity, and what becomes of it ─▶ Entity::apply ─▶ a view of the read contract
//! ```
//!
//! An entity is there from the moment it is named, a placeholder until an event fills it in. Later values go before
//! earlier ones, field by field; those of tags and parameters key by key.

use std::collections::BTreeMap;

use crate::batch::{LoggedBatch, Row};
use crate::event::json::members;
use crate::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, EntityKind, ExperimentCreated, Fact, Json,
    Kind, ModelCreated, ModelVersionCreated, RunFinished, RunStarted,
};
use crate::names::{EntityId, Names};
use crate::read::{Alias, Artifact, Dataset, Experiment, Model, ModelVersion, Run, UsedDataset};
use crate::{Offset, Timestamp};

/// Kinds of events that change entities.
const KINDS: [Kind; 13] = [
    Kind::ModelCreated,
    Kind::ModelVersionCreated,
    Kind::ModelVersionAliased,
    Kind::DatasetRegistered,
    Kind::DatasetUsed,
    Kind::ExperimentCreated,
    Kind::RunStarted,
    Kind::HyperparametersLogged,
    Kind::ArtifactLogged,
    Kind::RunFinished,
    Kind::TagsSet,
    Kind::EntityDeleted,
    Kind::EntityRestored,
];

/// An entity by its kind and number.
pub type EntityKey = (EntityKind, EntityId);

/// An event about an entity.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: EntityKey,
    pub offset: Offset,
    pub time: Timestamp,
    pub what: What,
}

/// What an event says of an entity; other entities are named by their numbers.
#[derive(Clone, Debug)]
pub enum What {
    ModelCreated(ModelCreated),
    VersionCreated(ModelVersionCreated),
    /// Of a model; without a version the alias is taken away.
    Aliased {
        alias: String,
        version: Option<EntityId>,
    },
    DatasetRegistered(DatasetRegistered),
    ExperimentCreated(ExperimentCreated),
    RunStarted(RunStarted),
    RunFinished(RunFinished),
    DatasetUsed(DatasetUsed),
    Params(Json),
    /// Of a run, with the version it names beside.
    Artifact {
        version: Option<EntityId>,
        fact: ArtifactLogged,
    },
    Tags(Json),
    Deleted(bool),
}

/// What the events of a batch, from an offset on, say of entities, in the order of the log.
#[must_use]
pub fn changes(batch: &LoggedBatch, from: Offset, names: &Names) -> Vec<Change> {
    let tables = batch.tables.iter();
    let tables = tables.filter(|table| KINDS.contains(&table.kind()));
    let mut rows: Vec<_> = tables.flat_map(|table| batch.rows_of(table)).collect();
    rows.retain(|row| row.offset() >= from);
    rows.sort_by_key(|row| row.offset());
    rows.into_iter()
        .filter_map(|row| change(row, names))
        .collect()
}

fn change(row: Row<'_>, names: &Names) -> Option<Change> {
    let id = |kind, name: &str| names.id(kind, name).map(|id| (kind, id));
    let version = |model: &str, version: &str| {
        let model = names.id(EntityKind::Model, model)?;
        names.version_id(model, version)
    };
    let (key, what) = match row.to_event().fact {
        Fact::ModelCreated(fact) => (
            id(EntityKind::Model, &fact.model)?,
            What::ModelCreated(fact),
        ),
        Fact::ModelVersionCreated(fact) => (
            (EntityKind::Version, version(&fact.model, &fact.version)?),
            What::VersionCreated(fact),
        ),
        Fact::ModelVersionAliased(fact) => (
            id(EntityKind::Model, &fact.model)?,
            What::Aliased {
                version: (fact.version.as_deref()).and_then(|name| version(&fact.model, name)),
                alias: fact.alias,
            },
        ),
        Fact::DatasetRegistered(fact) => (
            id(EntityKind::Dataset, &fact.dataset)?,
            What::DatasetRegistered(fact),
        ),
        Fact::ExperimentCreated(fact) => (
            id(EntityKind::Experiment, &fact.experiment)?,
            What::ExperimentCreated(fact),
        ),
        Fact::RunStarted(fact) => (id(EntityKind::Run, &fact.run)?, What::RunStarted(fact)),
        Fact::RunFinished(fact) => (id(EntityKind::Run, &fact.run)?, What::RunFinished(fact)),
        Fact::DatasetUsed(fact) => (id(EntityKind::Run, &fact.run)?, What::DatasetUsed(fact)),
        Fact::HyperparametersLogged(fact) => {
            (id(EntityKind::Run, &fact.run)?, What::Params(fact.params))
        }
        Fact::ArtifactLogged(fact) => {
            let run = id(EntityKind::Run, fact.run.as_deref()?)?;
            let named = fact.model.as_deref().zip(fact.version.as_deref());
            let version = named.and_then(|(model, name)| version(model, name));
            (run, What::Artifact { version, fact })
        }
        Fact::TagsSet(fact) => (names.referred(&fact.entity)?, What::Tags(fact.tags)),
        Fact::EntityDeleted(fact) => (names.referred(&fact.entity)?, What::Deleted(true)),
        Fact::EntityRestored(fact) => (names.referred(&fact.entity)?, What::Deleted(false)),
        _ => return None,
    };
    Some(Change {
        key,
        offset: row.offset(),
        time: row.time(),
        what,
    })
}

/// What is known of an entity.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    /// The model of a version; 0 otherwise.
    pub parent: EntityId,
    pub deleted: bool,
    /// The time of the first event that created it; of a run, that started it.
    pub created_at: Option<Timestamp>,
    pub tags: Members,
    pub body: Body,
}

/// Members of an object in the order in which they were set last, with the texts of their values.
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<(Box<str>, Box<str>)>);

impl Members {
    fn bytes(&self) -> usize {
        let size = |(key, value): &(Box<str>, Box<str>)| key.len() + value.len() + 32;
        self.0.iter().map(size).sum()
    }

    /// Sets members: each takes its place behind all others.
    fn merge(&mut self, object: &Json, keeps: impl Fn(&str) -> bool) {
        for (key, value) in members(object.as_str()).unwrap_or_default() {
            self.0.retain(|(known, _)| **known != *key);
            if keeps(value) {
                self.0.push((key.into(), value.into()));
            }
        }
    }

    /// The members of an object.
    #[must_use]
    pub fn of(object: &Json) -> Self {
        let mut members = Self::default();
        members.merge(object, |_| true);
        members
    }

    /// Keys with the texts of their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// An object of them; none if there are none.
    #[must_use]
    pub fn object(&self) -> Option<Json> {
        Json::object(self.iter())
    }
}

/// What differs from kind to kind.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Named, and nothing more.
    #[default]
    Placeholder,
    Model(ModelBody),
    Version(VersionBody),
    Dataset(DatasetBody),
    Experiment(ExperimentBody),
    Run(Box<RunBody>),
}

/// See the view of the same name.
#[derive(Clone, Debug, Default)]
pub struct ModelBody {
    pub architecture: Option<String>,
    pub framework: Option<String>,
    pub task_type: Option<String>,
    pub description: Option<String>,
    pub aliases: BTreeMap<String, EntityId>,
}

/// See the view of the same name.
#[derive(Clone, Debug, Default)]
pub struct VersionBody {
    pub checkpoint_path: Option<String>,
    pub config: Option<Json>,
    pub signature: Option<Json>,
    pub digest: Option<String>,
    pub run: Option<String>,
    pub description: Option<String>,
}

/// See the view of the same name.
#[derive(Clone, Debug, Default)]
pub struct DatasetBody {
    pub version: Option<String>,
    pub uri: Option<String>,
    pub split_info: Option<Json>,
    pub row_count: Option<i64>,
    pub digest: Option<String>,
    pub schema: Option<Json>,
}

/// See the view of the same name.
#[derive(Clone, Debug, Default)]
pub struct ExperimentBody {
    pub description: Option<String>,
}

/// See the view of the same name.
#[derive(Clone, Debug, Default)]
pub struct RunBody {
    pub started: bool,
    pub name: Option<String>,
    pub parent: Option<String>,
    pub experiment: Option<String>,
    pub model: Option<String>,
    pub version: Option<String>,
    pub dataset: Option<String>,
    pub started_by: Option<String>,
    pub code: Option<String>,
    pub status: Option<String>,
    pub error: Option<String>,
    pub finished_at: Option<Timestamp>,
    pub params: Members,
    pub datasets: Vec<UsedDataset>,
    /// With the version each names beside the run.
    pub artifacts: Vec<(Option<EntityId>, Artifact)>,
}

/// The body of an entity as one of its kind, made if it is a placeholder.
macro_rules! body {
    ($name:ident, $variant:ident, $body:ident) => {
        fn $name(&mut self) -> &mut $body {
            if !matches!(self.body, Body::$variant(_)) {
                self.body = Body::$variant($body::default().into());
            }
            match &mut self.body {
                Body::$variant(body) => body,
                _ => unreachable!("it was just made"),
            }
        }
    };
}

impl Entity {
    body!(model_mut, Model, ModelBody);
    body!(version_mut, Version, VersionBody);
    body!(dataset_mut, Dataset, DatasetBody);
    body!(experiment_mut, Experiment, ExperimentBody);
    body!(run_mut, Run, RunBody);

    /// Takes over what an event says.
    pub fn apply(&mut self, time: Timestamp, what: What) {
        match what {
            What::ModelCreated(fact) => {
                self.create(time, fact.tags.as_ref());
                self.model_mut().merge(fact);
            }
            What::VersionCreated(fact) => {
                self.create(time, fact.tags.as_ref());
                self.version_mut().merge(fact);
            }
            What::DatasetRegistered(fact) => {
                self.create(time, fact.tags.as_ref());
                self.dataset_mut().merge(fact);
            }
            What::ExperimentCreated(ExperimentCreated {
                description, tags, ..
            }) => {
                self.create(time, tags.as_ref());
                merge(&mut self.experiment_mut().description, description);
            }
            What::RunStarted(fact) => {
                self.create(time, fact.tags.as_ref());
                self.run_mut().start(fact);
            }
            What::Aliased { alias, version } => {
                let aliases = &mut self.model_mut().aliases;
                match version {
                    Some(version) => aliases.insert(alias, version),
                    None => aliases.remove(&alias),
                };
            }
            What::RunFinished(fact) => self.run_mut().finish(fact, time),
            What::DatasetUsed(fact) => self.run_mut().used(fact),
            What::Params(params) => self.run_mut().params.merge(&params, |_| true),
            What::Artifact { version, fact } => self.run_mut().produced(version, fact),
            What::Tags(tags) => self.tag(Some(&tags)),
            What::Deleted(deleted) => self.deleted = deleted,
        }
    }

    /// The first event that creates it says when.
    fn create(&mut self, time: Timestamp, tags: Option<&Json>) {
        self.created_at.get_or_insert(time);
        self.tag(tags);
    }

    fn tag(&mut self, given: Option<&Json>) {
        if let Some(given) = given {
            self.tags.merge(given, |value| value != "null");
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let body = match &self.body {
            Body::Placeholder => 0,
            Body::Model(model) => {
                let aliases = model.aliases.keys().map(|alias| alias.len() + 48);
                let ModelBody {
                    architecture,
                    framework,
                    task_type,
                    description,
                    ..
                } = model;
                let texts = [architecture, framework, task_type, description];
                aliases.sum::<usize>() + texts.map(text).iter().sum::<usize>()
            }
            Body::Version(version) => {
                let VersionBody {
                    checkpoint_path,
                    digest,
                    run,
                    description,
                    ..
                } = version;
                let texts = [checkpoint_path, digest, run, description];
                let jsons = [&version.config, &version.signature];
                texts.map(text).iter().sum::<usize>() + jsons.map(json).iter().sum::<usize>()
            }
            Body::Dataset(dataset) => {
                let DatasetBody {
                    version,
                    uri,
                    digest,
                    ..
                } = dataset;
                let jsons = [&dataset.split_info, &dataset.schema];
                [version, uri, digest].map(text).iter().sum::<usize>()
                    + jsons.map(json).iter().sum::<usize>()
            }
            Body::Experiment(experiment) => text(&experiment.description),
            Body::Run(run) => run.size(),
        };
        size_of::<Self>() + self.tags.bytes() + body
    }
}

/// Views. What they name by names is for the caller to say.
impl Entity {
    /// As a model; `aliases` are those of versions that are shown.
    #[must_use]
    pub fn model(&self, id: EntityId, model: String, aliases: Vec<Alias>) -> Model {
        let none = ModelBody::default();
        let body = match &self.body {
            Body::Model(body) => body,
            _ => &none,
        };
        Model {
            id,
            model,
            architecture: body.architecture.clone(),
            framework: body.framework.clone(),
            task_type: body.task_type.clone(),
            description: body.description.clone(),
            tags: self.tags.object(),
            created_at: self.created_at,
            aliases,
        }
    }

    /// The aliases of a model, with the versions they point to.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, EntityId)> {
        let aliases = match &self.body {
            Body::Model(body) => Some(&body.aliases),
            _ => None,
        };
        let aliases = aliases.into_iter().flatten();
        aliases.map(|(alias, version)| (&**alias, *version))
    }

    /// As a version of a model.
    #[must_use]
    pub fn version(
        &self,
        id: EntityId,
        model: String,
        version: String,
        aliases: Vec<String>,
    ) -> ModelVersion {
        let none = VersionBody::default();
        let body = match &self.body {
            Body::Version(body) => body,
            _ => &none,
        };
        ModelVersion {
            id,
            model_id: self.parent,
            model,
            version,
            checkpoint_path: body.checkpoint_path.clone(),
            config: body.config.clone(),
            signature: body.signature.clone(),
            digest: body.digest.clone(),
            run: body.run.clone(),
            description: body.description.clone(),
            tags: self.tags.object(),
            aliases,
            created_at: self.created_at,
        }
    }

    /// As a dataset.
    #[must_use]
    pub fn dataset(&self, id: EntityId, dataset: String) -> Dataset {
        let none = DatasetBody::default();
        let body = match &self.body {
            Body::Dataset(body) => body,
            _ => &none,
        };
        Dataset {
            id,
            dataset,
            version: body.version.clone(),
            uri: body.uri.clone(),
            split_info: body.split_info.clone(),
            row_count: body.row_count,
            digest: body.digest.clone(),
            schema: body.schema.clone(),
            tags: self.tags.object(),
            created_at: self.created_at,
        }
    }

    /// As an experiment.
    #[must_use]
    pub fn experiment(&self, id: EntityId, experiment: String) -> Experiment {
        let description = match &self.body {
            Body::Experiment(body) => body.description.clone(),
            _ => None,
        };
        Experiment {
            id,
            experiment,
            description,
            tags: self.tags.object(),
            created_at: self.created_at,
        }
    }

    /// As a run.
    #[must_use]
    pub fn run(&self, id: EntityId, run: String) -> Run {
        let none = Box::default();
        let body = match &self.body {
            Body::Run(body) => body,
            _ => &none,
        };
        Run {
            id,
            run,
            name: body.name.clone(),
            parent: body.parent.clone(),
            experiment: body.experiment.clone(),
            model: body.model.clone(),
            version: body.version.clone(),
            dataset: body.dataset.clone(),
            started_by: body.started_by.clone(),
            code: body.code.clone(),
            tags: self.tags.object(),
            params: body.params.object(),
            status: body.status.clone(),
            error: body.error.clone(),
            started_at: self.created_at,
            finished_at: body.finished_at,
            datasets: body.datasets.clone(),
            artifacts: body
                .artifacts
                .iter()
                .map(|(_, artifact)| artifact.clone())
                .collect(),
        }
    }

    /// What is known of it as a run, if it is more than a placeholder.
    #[must_use]
    pub fn run_body(&self) -> Option<&RunBody> {
        match &self.body {
            Body::Run(body) => Some(body),
            _ => None,
        }
    }
}

/// A later value goes before an earlier one; none changes nothing.
fn merge<T>(known: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *known = given;
    }
}

impl ModelBody {
    fn merge(&mut self, fact: ModelCreated) {
        merge(&mut self.architecture, fact.architecture);
        merge(&mut self.framework, fact.framework);
        merge(&mut self.task_type, fact.task_type);
        merge(&mut self.description, fact.description);
    }
}

impl VersionBody {
    fn merge(&mut self, fact: ModelVersionCreated) {
        merge(&mut self.checkpoint_path, fact.checkpoint_path);
        merge(&mut self.config, fact.config);
        merge(&mut self.signature, fact.signature);
        merge(&mut self.digest, fact.digest);
        merge(&mut self.run, fact.run);
        merge(&mut self.description, fact.description);
    }
}

impl DatasetBody {
    fn merge(&mut self, fact: DatasetRegistered) {
        merge(&mut self.version, fact.version);
        merge(&mut self.uri, fact.uri);
        merge(&mut self.split_info, fact.split_info);
        merge(&mut self.row_count, fact.row_count);
        merge(&mut self.digest, fact.digest);
        merge(&mut self.schema, fact.schema);
    }
}

impl RunBody {
    /// The first start may come after the end, since sources have no common order; a second one reopens the run.
    fn start(&mut self, fact: RunStarted) {
        merge(&mut self.name, fact.name);
        merge(&mut self.parent, fact.parent);
        merge(&mut self.experiment, fact.experiment);
        merge(&mut self.model, fact.model);
        merge(&mut self.version, fact.version);
        merge(&mut self.dataset, fact.dataset);
        merge(&mut self.started_by, fact.started_by);
        merge(&mut self.code, fact.code);
        if self.started || self.status.is_none() {
            self.status = Some("running".into());
            (self.error, self.finished_at) = (None, None);
        }
        self.started = true;
    }

    fn finish(&mut self, fact: RunFinished, time: Timestamp) {
        self.status = Some(fact.status);
        self.error = fact.error;
        self.finished_at = Some(time);
    }

    fn used(&mut self, fact: DatasetUsed) {
        let used = UsedDataset {
            dataset: fact.dataset,
            version: fact.version,
            role: fact.role,
        };
        if !self.datasets.contains(&used) {
            self.datasets.push(used);
        }
    }

    fn produced(&mut self, version: Option<EntityId>, fact: ArtifactLogged) {
        let known = self
            .artifacts
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
            None => {
                let artifact = Artifact {
                    uri: fact.uri,
                    name: fact.name,
                    media_type: fact.media_type,
                    size_bytes: fact.size_bytes,
                    digest: fact.digest,
                    metadata: fact.metadata,
                };
                self.artifacts.push((version, artifact));
            }
        }
    }

    #[must_use]
    pub fn size(&self) -> usize {
        let texts = [
            &self.name,
            &self.parent,
            &self.experiment,
            &self.model,
            &self.version,
            &self.dataset,
            &self.started_by,
            &self.code,
            &self.error,
        ];
        let texts = texts.into_iter().flatten().map(String::len);
        let datasets = self.datasets.iter().map(|used| {
            let texts = [&used.version, &used.role].into_iter().flatten();
            72 + used.dataset.len() + texts.map(String::len).sum::<usize>()
        });
        let artifacts = self.artifacts.iter().map(|(_, artifact)| {
            let texts = [&artifact.name, &artifact.media_type, &artifact.digest];
            let texts = texts.into_iter().flatten().map(String::len);
            let metadata = artifact.metadata.as_ref();
            size_of::<Artifact>()
                + artifact.uri.len()
                + texts.sum::<usize>()
                + metadata.map_or(0, |json| json.as_str().len())
        });
        texts.sum::<usize>()
            + self.params.bytes()
            + datasets.sum::<usize>()
            + artifacts.sum::<usize>()
    }
}
