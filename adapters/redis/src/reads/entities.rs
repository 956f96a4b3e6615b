//! Models, versions, datasets and experiments; what all entities have in common.

use std::collections::HashMap;

use modelog_engine::entity::Entity;
use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{
    Alias, Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, ReadError, VersionKey,
};

use super::replies::Reply;
use super::{NOT_KEPT, RedisReads, id};
use crate::connection::{Commands, command};
use crate::error::RedisError;
use crate::hash::{Hash, Named, read_entity};

/// An entity with its names.
pub(super) type Known = (Named, Entity);

/// A version that is shown, with its model.
pub(super) struct ShownVersion {
    pub(super) known: Known,
    pub(super) model: Known,
}

impl ShownVersion {
    pub(super) fn id(&self) -> EntityId {
        self.known.0.id
    }

    pub(super) fn names(&self) -> (String, String) {
        (self.model.0.name.clone(), self.known.0.name.clone())
    }

    fn view(self) -> ModelVersion {
        let id = self.id();
        let aliases = self.model.1.aliases().filter(|(_, target)| *target == id);
        let aliases = aliases.map(|(alias, _)| alias.to_owned()).collect();
        let (model, version) = self.names();
        self.known.1.version(id, model, version, aliases)
    }
}

/// A version that is looked for, by its number.
pub(super) struct Wanted<'a> {
    pub(super) id: EntityId,
    model: ModelOf<'a>,
    /// The name it was asked by.
    name: Option<&'a str>,
}

/// The model of a version that is looked for.
enum ModelOf<'a> {
    Shown(Box<Known>),
    /// By its number, and what that was found by.
    Numbered(&'a Key, EntityId),
    /// The version says it.
    Unknown,
}

impl Wanted<'_> {
    /// A version of a model that is shown.
    pub(super) fn of(model: Known, id: EntityId) -> Self {
        Self {
            id,
            model: ModelOf::Shown(model.into()),
            name: None,
        }
    }
}

impl RedisReads {
    /// Entities that are there, hidden or not.
    pub(super) async fn entities(
        &self,
        kind: EntityKind,
        ids: &[EntityId],
    ) -> Result<Vec<Option<Known>>, RedisError> {
        let keys = ids.iter().map(|id| self.keys.entity(kind, *id)).collect();
        let read = |hash: Hash<&str>| {
            let (named, entity, _) = read_entity(kind, &hash)?;
            Ok((named, entity))
        };
        self.hashes(keys, read).await
    }

    /// The number behind a key; of a version, that of a model's.
    pub(super) async fn number(
        &self,
        kind: EntityKind,
        parent: EntityId,
        key: &Key,
    ) -> Result<Option<EntityId>, RedisError> {
        match key {
            Key::Id(id) => Ok(Some(*id)),
            Key::Name(name) => {
                let known = self.numbers.get(kind, parent, name);
                if known.is_some() {
                    return Ok(known);
                }
                let mut asked = command("HGET", &self.keys.names(kind, parent));
                asked.arg(name);
                let found = id(self.one(asked).await?.first());
                if let Some(id) = found {
                    self.numbers.learn(kind, parent, name, id);
                }
                Ok(found)
            }
        }
    }

    /// An entity that is not hidden.
    pub(super) async fn shown(
        &self,
        kind: EntityKind,
        key: &Key,
    ) -> Result<Option<Known>, ReadError> {
        match self.number(kind, 0, key).await? {
            Some(id) => self.shown_by(key, kind, id).await,
            None => Ok(None),
        }
    }

    /// An entity that is not hidden, by the number behind a key.
    pub(super) async fn shown_by(
        &self,
        key: &Key,
        kind: EntityKind,
        id: EntityId,
    ) -> Result<Option<Known>, ReadError> {
        let found = self.entities(kind, &[id]).await?.pop().flatten();
        let name = match key {
            Key::Id(_) => None,
            Key::Name(name) => Some(name.as_str()),
        };
        let found = self.of_name(found, name)?;
        Ok(found.filter(|(_, entity)| !entity.deleted))
    }

    /// What was found behind a number. One that came from a name must be there, and have that name; else the entity was
    /// evicted, or the number is of another log.
    fn of_name(
        &self,
        found: Option<Known>,
        name: Option<&str>,
    ) -> Result<Option<Known>, ReadError> {
        let Some(name) = name else {
            return Ok(found);
        };
        if found.as_ref().is_some_and(|(named, _)| named.name == name) {
            return Ok(found);
        }
        self.numbers.forget();
        Err(NOT_KEPT)
    }

    /// The number behind a version's key. The version and its model may be hidden.
    pub(super) async fn version_number<'a>(
        &self,
        key: &'a VersionKey,
    ) -> Result<Option<Wanted<'a>>, ReadError> {
        let model = match key {
            VersionKey::Id(id) => {
                return Ok(Some(Wanted {
                    id: *id,
                    model: ModelOf::Unknown,
                    name: None,
                }));
            }
            VersionKey::Name { model, .. } | VersionKey::Alias { model, .. } => model,
        };
        let Some(number) = self.number(EntityKind::Model, 0, model).await? else {
            return Ok(None);
        };
        if let VersionKey::Name { version: name, .. } = key {
            let version = Key::Name(name.clone());
            let id = self.number(EntityKind::Version, number, &version).await?;
            return Ok(id.map(|id| Wanted {
                id,
                model: ModelOf::Numbered(model, number),
                name: Some(name),
            }));
        }
        let model = self.shown_by(model, EntityKind::Model, number).await?;
        Ok(model.and_then(|model| {
            let VersionKey::Alias { alias, .. } = key else {
                return None;
            };
            let found = model.1.aliases().find(|(known, _)| known == alias);
            let (_, id) = found?;
            Some(Wanted::of(model, id))
        }))
    }

    pub(super) async fn shown_version(
        &self,
        key: &VersionKey,
    ) -> Result<Option<ShownVersion>, ReadError> {
        match self.version_number(key).await? {
            Some(wanted) => self.version_of(wanted).await,
            None => Ok(None),
        }
    }

    /// A version that is not hidden.
    pub(super) async fn version_of(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<Option<ShownVersion>, ReadError> {
        let is_unknown = matches!(wanted.model, ModelOf::Unknown);
        let found = async {
            let found = self.entities(EntityKind::Version, &[wanted.id]).await?;
            self.of_name(found.into_iter().next().flatten(), wanted.name)
        };
        let model = async {
            match wanted.model {
                ModelOf::Shown(model) => Ok(Some(*model)),
                ModelOf::Numbered(key, id) => self.shown_by(key, EntityKind::Model, id).await,
                ModelOf::Unknown => Ok(None),
            }
        };
        let (found, mut model) = tokio::try_join!(found, model)?;
        let Some(known) = found.filter(|(_, version)| !version.deleted) else {
            return Ok(None);
        };
        if is_unknown {
            // A version is hidden with its model.
            let parent = Key::Id(known.1.parent);
            model = self.shown(EntityKind::Model, &parent).await?;
        }
        Ok(model.map(|model| ShownVersion { known, model }))
    }

    /// Numbers in an index behind one, in order, of which there are as many as asked for or all.
    pub(super) async fn behind(
        &self,
        kind: EntityKind,
        parent: EntityId,
        list_: &List,
    ) -> Result<Vec<EntityId>, ReadError> {
        let after = list_.after::<i64>()?.unwrap_or(0);
        let mut asked = command("ZRANGEBYSCORE", &self.keys.index(kind, parent));
        asked.arg(format!("({after}")).arg("+inf");
        asked.arg("LIMIT").arg(0).arg(list_.rows());
        let found = self.one(asked).await?;
        Ok(found.first().list().filter_map(id).collect())
    }

    /// A page of entities that are listed by number.
    async fn page<T>(
        &self,
        kind: EntityKind,
        list: List,
        id: impl FnOnce(&T) -> EntityId,
        view: impl Fn(Known) -> T,
    ) -> Result<Page<T>, ReadError> {
        let ids = self.behind(kind, 0, &list).await?;
        let found = self.entities(kind, &ids).await?;
        let found: Option<Vec<Known>> = found.into_iter().collect();
        let items = found.ok_or(NOT_KEPT)?.into_iter().map(view).collect();
        Ok(list.page(items, |last| i64::from(id(last))))
    }

    pub(super) async fn list_models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        let list = List::new("models", "", page);
        let ids = self.behind(EntityKind::Model, 0, &list).await?;
        let found = self.entities(EntityKind::Model, &ids).await?;
        let found: Option<Vec<Known>> = found.into_iter().collect();
        let models = self.model_views(found.ok_or(NOT_KEPT)?).await?;
        Ok(list.page(models, |last| i64::from(last.id)))
    }

    pub(super) async fn one_model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        let found = self.shown(EntityKind::Model, key).await?;
        let models = self.model_views(found.into_iter().collect()).await?;
        Ok(models.into_iter().next())
    }

    /// Models with those of their aliases whose versions are shown.
    async fn model_views(&self, models: Vec<Known>) -> Result<Vec<Model>, ReadError> {
        let targets = models.iter().flat_map(|(_, model)| model.aliases());
        let mut targets: Vec<EntityId> = targets.map(|(_, version)| version).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut commands = Commands::default();
        for id in &targets {
            let mut asked = command("HMGET", &self.keys.entity(EntityKind::Version, *id));
            asked.arg(&["version", "deleted"]);
            commands.push(asked);
        }
        let mut versions: HashMap<EntityId, Option<String>> = HashMap::new();
        let replies = self.run(commands).await?;
        for (id, reply) in targets.iter().zip(replies.iter()) {
            let mut fields = reply.list();
            let name = fields.next().and_then(Reply::text).ok_or(NOT_KEPT)?;
            let deleted = fields.next().and_then(Reply::int) == Some(1);
            versions.insert(*id, (!deleted).then(|| name.to_owned()));
        }
        let view = |(named, model): Known| {
            let shown = model.aliases().filter_map(|(alias, version)| {
                Some(Alias {
                    alias: alias.to_owned(),
                    version: versions.get(&version)?.clone()?,
                })
            });
            let aliases = shown.collect();
            model.model(named.id, named.name, aliases)
        };
        Ok(models.into_iter().map(view).collect())
    }

    pub(super) async fn list_versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        let Some(model) = self.shown(EntityKind::Model, model).await? else {
            return Ok(None);
        };
        let list = List::new("versions", &model.0.id.to_string(), page);
        let ids = self.behind(EntityKind::Version, model.0.id, &list).await?;
        let found = self.entities(EntityKind::Version, &ids).await?;
        let found: Option<Vec<Known>> = found.into_iter().collect();
        let view = |known| {
            let model = model.clone();
            ShownVersion { known, model }.view()
        };
        let items = found.ok_or(NOT_KEPT)?.into_iter().map(view).collect();
        Ok(Some(
            list.page(items, |last: &ModelVersion| i64::from(last.id)),
        ))
    }

    pub(super) async fn one_version(
        &self,
        key: &VersionKey,
    ) -> Result<Option<ModelVersion>, ReadError> {
        Ok(self.shown_version(key).await?.map(ShownVersion::view))
    }

    pub(super) async fn list_datasets(
        &self,
        page: PageRequest,
    ) -> Result<Page<Dataset>, ReadError> {
        let list = List::new("datasets", "", page);
        let view = |(named, dataset): Known| dataset.dataset(named.id, named.name);
        self.page(EntityKind::Dataset, list, |last| last.id, view)
            .await
    }

    pub(super) async fn one_dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        let found = self.shown(EntityKind::Dataset, key).await?;
        Ok(found.map(|(named, dataset)| dataset.dataset(named.id, named.name)))
    }

    pub(super) async fn list_experiments(
        &self,
        page: PageRequest,
    ) -> Result<Page<Experiment>, ReadError> {
        let list = List::new("experiments", "", page);
        let view = |(named, found): Known| found.experiment(named.id, named.name);
        self.page(EntityKind::Experiment, list, |last| last.id, view)
            .await
    }

    pub(super) async fn one_experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        let found = self.shown(EntityKind::Experiment, key).await?;
        Ok(found.map(|(named, found)| found.experiment(named.id, named.name)))
    }
}
