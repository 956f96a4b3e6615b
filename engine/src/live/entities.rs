//! Models, versions, datasets, experiments and runs, with what hangs on them.
//!
//! Every entity is there from the moment it is named. What is known of one is its body; once all bodies together take
//! more memory than they may, those leave that have not changed for longest, runs before all others, and a mark stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{LoggedBatch, Row};
use crate::event::json::members;
use crate::event::{
    ArtifactLogged, DatasetRegistered, DatasetUsed, EntityKind, ExperimentCreated, Fact,
    HyperparametersLogged, Json, Kind, ModelCreated, ModelVersionAliased, ModelVersionCreated,
    RunFinished, RunStarted,
};
use crate::names::{EntityId, Names};
use crate::read::{Artifact, UsedDataset};
use crate::{Offset, Timestamp};

/// What a body takes beside its texts: entries in the maps, and the empty fields.
const OVERHEAD_BYTES: usize = 300;

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

type EntityKey = (EntityKind, EntityId);
/// When an entity leaves: runs before all others, which are few and stand behind everything that is served; then by the
/// event that changed it last.
type Leaving = (bool, Offset, EntityKind, EntityId);

fn leaving(touched: Offset, (kind, id): EntityKey) -> Leaving {
    (kind != EntityKind::Run, touched, kind, id)
}

/// All entities.
#[derive(Debug)]
pub(super) struct Entities {
    bytes_max: usize,
    bytes: usize,
    kinds: [OfKind; EntityKind::ALL.len()],
    /// In the order in which they leave.
    leaving: BTreeSet<Leaving>,
}

/// The entities of a kind.
#[derive(Debug, Default)]
pub(super) struct OfKind {
    /// By number; none once the body has left.
    all: BTreeMap<EntityId, Option<Box<Entity>>>,
    /// How many bodies have left.
    left: usize,
}

/// What is known of an entity.
#[derive(Debug, Default)]
pub(super) struct Entity {
    touched: Offset,
    bytes: usize,
    /// The model of a version; 0 otherwise.
    pub(super) parent: EntityId,
    /// The versions of a model.
    pub(super) versions: Vec<EntityId>,
    pub(super) deleted: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) tags: Members,
    pub(super) body: Body,
}

/// Members of an object in the order in which they were set last, with the texts of their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<(Box<str>, Box<str>)>);

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

    pub(super) fn object(&self) -> Option<Json> {
        Json::object(self.0.iter().map(|(key, value)| (&**key, &**value)))
    }
}

/// What differs from kind to kind.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// Named, and nothing more.
    #[default]
    Placeholder,
    Model(ModelBody),
    Version(VersionBody),
    Dataset(DatasetBody),
    Experiment(ExperimentBody),
    Run(Box<RunBody>),
}

#[derive(Debug, Default)]
pub(super) struct ModelBody {
    pub(super) architecture: Option<String>,
    pub(super) framework: Option<String>,
    pub(super) task_type: Option<String>,
    pub(super) description: Option<String>,
    pub(super) aliases: BTreeMap<String, EntityId>,
}

#[derive(Debug, Default)]
pub(super) struct VersionBody {
    pub(super) checkpoint_path: Option<String>,
    pub(super) config: Option<Json>,
    pub(super) signature: Option<Json>,
    pub(super) digest: Option<String>,
    pub(super) run: Option<String>,
    pub(super) description: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct DatasetBody {
    pub(super) version: Option<String>,
    pub(super) uri: Option<String>,
    pub(super) split_info: Option<Json>,
    pub(super) row_count: Option<i64>,
    pub(super) digest: Option<String>,
    pub(super) schema: Option<Json>,
}

#[derive(Debug, Default)]
pub(super) struct ExperimentBody {
    pub(super) description: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct RunBody {
    pub(super) started: bool,
    pub(super) name: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) experiment: Option<String>,
    pub(super) model: Option<String>,
    pub(super) version: Option<String>,
    pub(super) dataset: Option<String>,
    pub(super) started_by: Option<String>,
    pub(super) code: Option<String>,
    pub(super) status: Option<String>,
    pub(super) error: Option<String>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) params: Members,
    pub(super) datasets: Vec<UsedDataset>,
    /// With the version each names beside the run.
    pub(super) artifacts: Vec<(Option<EntityId>, Artifact)>,
}

/// Whether an entity is known.
pub(super) enum Found<'a> {
    Nothing,
    Body(&'a Entity),
    /// It is known, and its body has left.
    Left,
}

impl Entities {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            kinds: Default::default(),
            leaving: BTreeSet::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, kind: EntityKind, id: EntityId) -> Found<'_> {
        match self.kinds[kind as usize].all.get(&id) {
            None => Found::Nothing,
            Some(None) => Found::Left,
            Some(Some(entity)) => Found::Body(entity),
        }
    }

    /// All entities of a kind behind a number, by number; none if the bodies of some have left.
    pub(super) fn all_behind(
        &self,
        kind: EntityKind,
        after: EntityId,
    ) -> Option<impl Iterator<Item = (EntityId, &Entity)>> {
        let of_kind = &self.kinds[kind as usize];
        let entities = of_kind.all.range(after.saturating_add(1)..);
        (of_kind.left == 0)
            .then(|| entities.filter_map(|(id, entity)| Some((*id, entity.as_deref()?))))
    }

    /// Takes what a batch says of entities, from an offset on.
    pub(super) fn apply(&mut self, batch: &LoggedBatch, done: Offset, names: &Names) {
        for named in &batch.names {
            let key = (named.kind, named.id);
            if self.kinds[named.kind as usize].all.contains_key(&named.id) {
                continue;
            }
            let entity = Entity {
                parent: named.parent,
                ..Entity::default()
            };
            self.kinds[named.kind as usize]
                .all
                .insert(named.id, Some(Box::default()));
            self.change(key, batch.first_offset, |found| *found = entity);
            if named.kind == EntityKind::Version {
                self.change(
                    (EntityKind::Model, named.parent),
                    batch.first_offset,
                    |model| {
                        model.versions.push(named.id);
                    },
                );
            }
        }
        let tables = batch.tables.iter();
        let tables = tables.filter(|table| KINDS.contains(&table.kind()));
        let mut rows: Vec<_> = tables.flat_map(|table| batch.rows_of(table)).collect();
        rows.retain(|row| row.offset() >= done);
        rows.sort_by_key(|row| row.offset());
        for row in rows {
            self.event(row, names);
        }
        self.make_room();
    }

    fn event(&mut self, row: Row<'_>, names: &Names) {
        let (offset, time) = (row.offset(), row.time());
        let id = |kind, name: &str| names.id(kind, name).map(|id| (kind, id));
        let version = |model: &str, version: &str| {
            let model = names.id(EntityKind::Model, model)?;
            let id = names.version_id(model, version)?;
            Some((EntityKind::Version, id))
        };
        match row.to_event().fact {
            Fact::ModelCreated(fact) => {
                let key = id(EntityKind::Model, &fact.model);
                self.create(key, offset, time, |model| {
                    model.tags(fact.tags.as_ref());
                    model.model().merge(fact);
                });
            }
            Fact::ModelVersionCreated(fact) => {
                let key = version(&fact.model, &fact.version);
                self.create(key, offset, time, |version| {
                    version.tags(fact.tags.as_ref());
                    version.version().merge(fact);
                });
            }
            Fact::ModelVersionAliased(fact) => {
                let ModelVersionAliased {
                    model,
                    alias,
                    version: target,
                } = fact;
                let target = target.and_then(|target| version(&model, &target));
                self.update(id(EntityKind::Model, &model), offset, |model| {
                    let aliases = &mut model.model().aliases;
                    match target {
                        Some((_, target)) => aliases.insert(alias, target),
                        None => aliases.remove(&alias),
                    };
                });
            }
            Fact::DatasetRegistered(fact) => {
                let key = id(EntityKind::Dataset, &fact.dataset);
                self.create(key, offset, time, |dataset| {
                    dataset.tags(fact.tags.as_ref());
                    dataset.dataset().merge(fact);
                });
            }
            Fact::DatasetUsed(fact) => {
                self.update(id(EntityKind::Run, &fact.run), offset, |run| {
                    run.run().used(fact);
                });
            }
            Fact::ExperimentCreated(fact) => {
                let ExperimentCreated {
                    experiment,
                    description,
                    tags,
                } = fact;
                let key = id(EntityKind::Experiment, &experiment);
                self.create(key, offset, time, |experiment| {
                    experiment.tags(tags.as_ref());
                    merge(&mut experiment.experiment().description, description);
                });
            }
            Fact::RunStarted(fact) => {
                let key = id(EntityKind::Run, &fact.run);
                self.create(key, offset, time, |run| {
                    run.tags(fact.tags.as_ref());
                    run.run().start(fact);
                });
            }
            Fact::HyperparametersLogged(HyperparametersLogged { run, params }) => {
                self.update(id(EntityKind::Run, &run), offset, |run| {
                    run.run().params.merge(&params, |_| true);
                });
            }
            Fact::ArtifactLogged(fact) => {
                let named = fact.model.as_deref().zip(fact.version.as_deref());
                let named = named.and_then(|(model, name)| Some(version(model, name)?.1));
                let run = fact.run.as_deref().and_then(|run| id(EntityKind::Run, run));
                self.update(run, offset, |run| run.run().produced(named, fact));
            }
            Fact::RunFinished(fact) => {
                self.update(id(EntityKind::Run, &fact.run), offset, |run| {
                    run.run().finish(fact, time);
                });
            }
            Fact::TagsSet(fact) => {
                self.update(names.referred(&fact.entity), offset, |entity| {
                    entity.tags(Some(&fact.tags));
                });
            }
            Fact::EntityDeleted(fact) => {
                self.update(names.referred(&fact.entity), offset, |entity| {
                    entity.deleted = true;
                });
            }
            Fact::EntityRestored(fact) => {
                self.update(names.referred(&fact.entity), offset, |entity| {
                    entity.deleted = false;
                });
            }
            _ => {}
        }
    }
}

impl Entities {
    /// Changes an entity by an event that creates it: the first of them says when.
    fn create(
        &mut self,
        key: Option<EntityKey>,
        offset: Offset,
        time: Timestamp,
        change: impl FnOnce(&mut Entity),
    ) {
        self.update(key, offset, |entity| {
            entity.created_at.get_or_insert(time);
            change(entity);
        });
    }

    /// Changes an entity that the log has named.
    fn update(&mut self, key: Option<EntityKey>, offset: Offset, change: impl FnOnce(&mut Entity)) {
        if let Some(key) = key {
            self.change(key, offset, change);
        }
    }

    /// Changes a body, and counts what it takes anew. One that has left stays away: what it was is not known any more.
    fn change(&mut self, (kind, id): EntityKey, offset: Offset, change: impl FnOnce(&mut Entity)) {
        let Some(Some(entity)) = self.kinds[kind as usize].all.get_mut(&id) else {
            return;
        };
        self.leaving.remove(&leaving(entity.touched, (kind, id)));
        self.bytes -= entity.bytes;
        change(entity);
        entity.touched = offset;
        entity.bytes = entity.size();
        self.bytes += entity.bytes;
        self.leaving.insert(leaving(offset, (kind, id)));
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((.., kind, id)) = self.leaving.pop_first()
        {
            let of_kind = &mut self.kinds[kind as usize];
            if let Some(entity) = of_kind.all.get_mut(&id).and_then(Option::take) {
                of_kind.left += 1;
                self.bytes -= entity.bytes;
            }
        }
    }
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
    body!(model, Model, ModelBody);
    body!(version, Version, VersionBody);
    body!(dataset, Dataset, DatasetBody);
    body!(experiment, Experiment, ExperimentBody);
    body!(run, Run, RunBody);

    fn tags(&mut self, given: Option<&Json>) {
        if let Some(given) = given {
            self.tags.merge(given, |value| value != "null");
        }
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
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
        OVERHEAD_BYTES + self.tags.bytes() + 4 * self.versions.len() + body
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

    fn size(&self) -> usize {
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
