//! Models, versions, datasets and experiments; what all entities have in common.

use std::collections::HashMap;

use modelog_engine::entity::Entity;
use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{
    Alias, Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, ReadError, VersionKey,
};

use super::{NOT_KEPT, RedisReads, id};
use crate::connection::{Commands, command, int, list, text};
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

impl RedisReads {
    /// Entities that are there, hidden or not.
    pub(super) async fn entities(
        &self,
        kind: EntityKind,
        ids: &[EntityId],
    ) -> Result<Vec<Option<Known>>, RedisError> {
        let keys = ids.iter().map(|id| self.keys.entity(kind, *id)).collect();
        let hashes = self.hashes(keys).await?;
        let read = |hash: Option<Hash>| {
            let found = hash.map(|hash| read_entity(kind, &hash)).transpose()?;
            Ok(found.map(|(named, entity, _)| (named, entity)))
        };
        hashes.into_iter().map(read).collect()
    }

    /// The number behind a key; of a version, that of a model's.
    async fn number(
        &self,
        kind: EntityKind,
        parent: EntityId,
        key: &Key,
    ) -> Result<Option<EntityId>, RedisError> {
        match key {
            Key::Id(id) => Ok(Some(*id)),
            Key::Name(name) => {
                let mut asked = command("HGET", &self.keys.names(kind, parent));
                asked.arg(name);
                Ok(id(&self.one(asked).await?))
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
    async fn shown_by(
        &self,
        key: &Key,
        kind: EntityKind,
        id: EntityId,
    ) -> Result<Option<Known>, ReadError> {
        let found = self.entities(kind, &[id]).await?.pop().flatten();
        match found {
            Some((_, entity)) if entity.deleted => Ok(None),
            // It was evicted, or there never was one of this number.
            None if matches!(key, Key::Name(_)) => Err(NOT_KEPT),
            found => Ok(found),
        }
    }

    /// The number behind a version's key, with its model where that was looked at.
    pub(super) async fn version_number(
        &self,
        key: &VersionKey,
    ) -> Result<Option<(Option<Known>, EntityId)>, ReadError> {
        let model = match key {
            VersionKey::Id(id) => return Ok(Some((None, *id))),
            VersionKey::Name { model, .. } | VersionKey::Alias { model, .. } => model,
        };
        let Some(number) = self.number(EntityKind::Model, 0, model).await? else {
            return Ok(None);
        };
        let named = async {
            match key {
                VersionKey::Name { version, .. } => {
                    let version = Key::Name(version.clone());
                    Ok(self.number(EntityKind::Version, number, &version).await?)
                }
                _ => Ok(None),
            }
        };
        let (model, named) =
            tokio::try_join!(self.shown_by(model, EntityKind::Model, number), named)?;
        let Some(model) = model else {
            return Ok(None);
        };
        let id = match key {
            VersionKey::Alias { alias, .. } => {
                let mut aliases = model.1.aliases();
                let found = aliases.find(|(known, _)| known == alias);
                found.map(|(_, target)| target)
            }
            _ => named,
        };
        Ok(id.map(|id| (Some(model), id)))
    }

    pub(super) async fn shown_version(
        &self,
        key: &VersionKey,
    ) -> Result<Option<ShownVersion>, ReadError> {
        match self.version_number(key).await? {
            Some((model, id)) => self.version_of(model, id).await,
            None => Ok(None),
        }
    }

    /// A version that is not hidden.
    pub(super) async fn version_of(
        &self,
        model: Option<Known>,
        id: EntityId,
    ) -> Result<Option<ShownVersion>, ReadError> {
        let found = self.entities(EntityKind::Version, &[id]).await?.pop();
        let found = found.flatten();
        let Some(known) = found.filter(|(_, version)| !version.deleted) else {
            return Ok(None);
        };
        let model = match model {
            Some(model) => Some(model),
            // A version is hidden with its model.
            None => {
                self.shown(EntityKind::Model, &Key::Id(known.1.parent))
                    .await?
            }
        };
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
        let found = list(self.one(asked).await?);
        Ok(found.iter().filter_map(id).collect())
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
        for (id, reply) in targets.iter().zip(self.run(commands).await?) {
            let fields = list(reply);
            let name = fields.first().and_then(text).ok_or(NOT_KEPT)?;
            let deleted = fields.get(1).and_then(int) == Some(1);
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
