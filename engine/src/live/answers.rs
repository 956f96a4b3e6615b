//! Answers from the live view. Each looks at one state throughout.

use async_trait::async_trait;

use super::entities::Found;
use super::predictions::{Kept, Shelf};
use super::series::{self, Owner};
use super::{LiveReads, NAME, State};
use crate::entity::Entity;
use crate::event::EntityKind;
use crate::names::EntityId;
use crate::read::cursor::{List, SortKey};
use crate::read::{
    Alias, Dataset, Downsampler, Experiment, Key, Model, ModelVersion, Page, PageRequest,
    Prediction, ReadError, ReadStore, Run, RunFilter, RunOrder, Series, SeriesOwner, SeriesQuery,
    SeriesSummary, StatsTotals, VersionKey, VersionStats,
};
use crate::stats::{PredictionFacts, VersionStatistics};
use crate::{Offset, Timestamp};

/// The answer needs what has left.
const NOT_KEPT: ReadError = ReadError::NotKept { store: NAME };

/// A version that is shown, with its names.
struct Version<'a> {
    id: EntityId,
    model: String,
    version: String,
    entity: &'a Entity,
}

impl State {
    /// The name of an entity; a number that the log has given always has one.
    fn name(&self, kind: EntityKind, id: EntityId) -> String {
        let names = self.log.as_ref().map(|(names, _)| names);
        let name = names.and_then(|names| names.name(kind, id));
        name.map(|(_, name)| name.to_string()).unwrap_or_default()
    }

    /// The number behind a key; it may be one that is not known.
    fn id(&self, kind: EntityKind, key: &Key) -> Option<EntityId> {
        match key {
            Key::Id(id) => Some(*id),
            Key::Name(name) => self.log.as_ref()?.0.id(kind, name),
        }
    }

    /// An entity that is not hidden, or nothing.
    fn shown_by_id(&self, kind: EntityKind, id: EntityId) -> Result<Option<&Entity>, ReadError> {
        match self.entities.get(kind, id) {
            Found::Nothing => Ok(None),
            Found::Left => Err(NOT_KEPT),
            Found::Body(entity) => Ok(Some(entity).filter(|entity| !entity.deleted)),
        }
    }

    fn shown(&self, kind: EntityKind, key: &Key) -> Result<Option<(EntityId, &Entity)>, ReadError> {
        let Some(id) = self.id(kind, key) else {
            return Ok(None);
        };
        Ok(self.shown_by_id(kind, id)?.map(|entity| (id, entity)))
    }

    fn shown_version(&self, key: &VersionKey) -> Result<Option<Version<'_>>, ReadError> {
        let id = match key {
            VersionKey::Id(id) => Some(*id),
            VersionKey::Name { model, version } => self
                .shown(EntityKind::Model, model)?
                .and_then(|(model, _)| self.log.as_ref()?.0.version_id(model, version)),
            VersionKey::Alias { model, alias } => {
                let model = self.shown(EntityKind::Model, model)?;
                let aliases = model.into_iter().flat_map(|(_, model)| model.aliases());
                let mut found = aliases.filter(|(known, _)| known == alias);
                found.next().map(|(_, version)| version)
            }
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let Some(entity) = self.shown_by_id(EntityKind::Version, id)? else {
            return Ok(None);
        };
        // A version is hidden with its model.
        if self
            .shown_by_id(EntityKind::Model, entity.parent)?
            .is_none()
        {
            return Ok(None);
        }
        Ok(Some(Version {
            id,
            model: self.name(EntityKind::Model, entity.parent),
            version: self.name(EntityKind::Version, id),
            entity,
        }))
    }

    fn model(&self, id: EntityId, entity: &Entity) -> Result<Model, ReadError> {
        let mut aliases = Vec::new();
        for (alias, version) in entity.aliases() {
            if self.shown_by_id(EntityKind::Version, version)?.is_some() {
                aliases.push(Alias {
                    alias: alias.to_owned(),
                    version: self.name(EntityKind::Version, version),
                });
            }
        }
        Ok(entity.model(id, self.name(EntityKind::Model, id), aliases))
    }

    fn version(&self, version: Version<'_>) -> Result<ModelVersion, ReadError> {
        let Version {
            id,
            entity,
            model,
            version,
        } = version;
        let aliases = self.shown_by_id(EntityKind::Model, entity.parent)?;
        let aliases = aliases.into_iter().flat_map(Entity::aliases);
        let of_version = aliases.filter(|(_, target)| *target == id);
        let aliases = of_version.map(|(alias, _)| alias.to_owned()).collect();
        Ok(entity.version(id, model, version, aliases))
    }

    fn dataset(&self, id: EntityId, entity: &Entity) -> Dataset {
        entity.dataset(id, self.name(EntityKind::Dataset, id))
    }

    fn experiment(&self, id: EntityId, entity: &Entity) -> Experiment {
        entity.experiment(id, self.name(EntityKind::Experiment, id))
    }

    fn run(&self, id: EntityId, entity: &Entity) -> Run {
        entity.run(id, self.name(EntityKind::Run, id))
    }

    /// A page of a list of entities of a kind, by number.
    fn page<T>(
        &self,
        kind: EntityKind,
        list: &List,
        view: impl Fn(EntityId, &Entity) -> Result<T, ReadError>,
        id: impl FnOnce(&T) -> EntityId,
    ) -> Result<Page<T>, ReadError> {
        let after = list.after::<i64>()?.unwrap_or(0);
        let after = EntityId::try_from(after).map_err(|_| ReadError::Cursor)?;
        let all = self.entities.all_behind(kind, after).ok_or(NOT_KEPT)?;
        let items = all
            .filter(|(_, entity)| !entity.deleted)
            .take(list.rows() as usize)
            .map(|(id, entity)| view(id, entity))
            .collect::<Result<_, _>>()?;
        Ok(list.page(items, |last| i64::from(id(last))))
    }

    fn runs(&self, filter: &RunFilter, request: PageRequest) -> Result<Page<Run>, ReadError> {
        let list = List::new("runs", &format!("{filter:?}"), request);
        match filter.order {
            RunOrder::Name => {
                let after = list.after::<(i64, String)>()?;
                let after = after.map(|(id, label)| (label, id));
                let key = |id: i64, entity: &Entity| {
                    let name = entity.run_body().and_then(|body| body.name.clone());
                    let label = name.unwrap_or_else(|| self.name(EntityKind::Run, id as EntityId));
                    (label, id)
                };
                self.sorted_runs(filter, &list, after, key, |(label, id)| (id, label))
            }
            RunOrder::NewestStarted => {
                let after = list.after::<(i64, Option<i64>)>()?;
                let after = after.map(|(id, started)| std::cmp::Reverse((started, id)));
                let key = |id: i64, entity: &Entity| {
                    std::cmp::Reverse((entity.created_at.map(Timestamp::micros), id))
                };
                self.sorted_runs(filter, &list, after, key, |key| (key.0.1, key.0.0))
            }
            RunOrder::OldestStarted => {
                let after = list.after::<(i64, Option<i64>)>()?;
                let after = after.map(|(id, started)| (started, id));
                let key = |id: i64, entity: &Entity| (entity.created_at.map(Timestamp::micros), id);
                self.sorted_runs(filter, &list, after, key, |(started, id)| (id, started))
            }
        }
    }

    /// A page of runs in the order of a key. `cursor` turns the key into what a cursor holds.
    fn sorted_runs<K: Ord, C: SortKey>(
        &self,
        filter: &RunFilter,
        list: &List,
        after: Option<K>,
        key: impl Fn(i64, &Entity) -> K,
        cursor: impl FnOnce(K) -> C,
    ) -> Result<Page<Run>, ReadError> {
        let all = self.entities.all_behind(EntityKind::Run, 0);
        let fits =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let selected = |entity: &Entity| match entity.run_body() {
            Some(body) => {
                fits(&filter.experiment, &body.experiment)
                    && fits(&filter.model, &body.model)
                    && fits(&filter.status, &body.status)
            }
            None => {
                filter.experiment.is_none() && filter.model.is_none() && filter.status.is_none()
            }
        };
        let mut found: Vec<(K, EntityId, &Entity)> = all
            .ok_or(NOT_KEPT)?
            .filter(|(_, entity)| !entity.deleted && selected(entity))
            .map(|(id, entity)| (key(i64::from(id), entity), id, entity))
            .filter(|(key, ..)| after.as_ref().is_none_or(|after| key > after))
            .collect();
        let wanted = list.rows() as usize;
        if found.len() > wanted {
            found.select_nth_unstable_by(wanted, |a, b| a.0.cmp(&b.0));
            found.truncate(wanted);
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let page = list.page(found, |(_, id, entity)| cursor(key(i64::from(*id), entity)));
        let items = page.items.into_iter();
        Ok(Page {
            items: items.map(|(_, id, entity)| self.run(id, entity)).collect(),
            next_cursor: page.next_cursor,
        })
    }

    fn owner(&self, owner: &SeriesOwner) -> Result<Option<Owner>, ReadError> {
        Ok(match owner {
            SeriesOwner::Run(key) => {
                let run = self.shown(EntityKind::Run, key)?;
                run.map(|(id, _)| (EntityKind::Run, id))
            }
            SeriesOwner::Version(key) => {
                let version = self.shown_version(key)?;
                version.map(|version| (EntityKind::Version, version.id))
            }
        })
    }

    fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        let Some(owner) = self.owner(owner)? else {
            return Ok(None);
        };
        match self.series.of(owner) {
            series::Found::Nothing => Ok(Some(Vec::new())),
            series::Found::Left => Err(NOT_KEPT),
            series::Found::All(series) => {
                let summaries = series.iter().map(|(name, tail)| tail.summary(name));
                let summaries: Option<Vec<_>> = summaries.collect();
                summaries.map(Some).ok_or(NOT_KEPT)
            }
        }
    }

    fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        let Some(owner) = self.owner(owner)? else {
            return Ok(None);
        };
        let mut series = Series {
            name: name.to_owned(),
            split: query.split.clone(),
            total_points: 0,
            points: Vec::new(),
        };
        let all = match self.series.of(owner) {
            series::Found::Nothing => return Ok(Some(series)),
            series::Found::Left => return Err(NOT_KEPT),
            series::Found::All(all) => all,
        };
        let key = (name.into(), query.split.as_deref().map(Into::into));
        let Some(tail) = all.get(&key) else {
            return Ok(Some(series));
        };
        let points = tail
            .between(query.from_step, query.to_step)
            .ok_or(NOT_KEPT)?;
        series.total_points = points.len() as u64;
        let max_points = query.max_points.unwrap_or(u32::MAX);
        let mut sampler = Downsampler::new(series.total_points, max_points);
        points.for_each(|point| sampler.push(point.clone()));
        series.points = sampler.finish();
        Ok(Some(series))
    }

    fn predictions(
        &self,
        version: &VersionKey,
        request: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        let Some(version) = self.shown_version(version)? else {
            return Ok(None);
        };
        let list = List::new("predictions", &version.id.to_string(), request);
        let after = list.after::<(i64, i64)>()?;
        let after =
            after.map(|(time, offset)| (Timestamp::from_micros(time), Offset(offset as u64)));
        let none = Shelf::default();
        let shelf = self.predictions.shelf(version.id).unwrap_or(&none);
        let rows = list.rows() as usize;
        let mut items: Vec<(Offset, &Kept)> = Vec::new();
        for (_, offset) in shelf.newest(after).take(rows) {
            if let Some(kept) = self.predictions.at(offset) {
                items.push((offset, kept));
            }
        }
        // Behind these come those that have left, of which there is one at least.
        if shelf.is_cut() && items.len() + 1 < rows {
            return Err(NOT_KEPT);
        }
        let more = shelf.is_cut() && items.len() + 1 == rows;
        let mut page = list.page(items, |(offset, kept)| {
            (kept.time.micros(), offset.0 as i64)
        });
        if more && let Some((offset, kept)) = page.items.last() {
            let key = (kept.time.micros(), offset.0 as i64);
            page.next_cursor = Some(list.cursor(&key));
        }
        let view =
            |(offset, kept): (Offset, &Kept)| kept.view(offset, &version.model, &version.version);
        Ok(Some(Page {
            items: page.items.into_iter().map(view).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    fn prediction(&self, model: &Key, id: &str) -> Result<Option<Prediction>, ReadError> {
        let Some((model, _)) = self.shown(EntityKind::Model, model)? else {
            return Ok(None);
        };
        let Some((offset, kept)) = self.predictions.get(model, id) else {
            return if self.predictions.has_lost(model) {
                Err(NOT_KEPT)
            } else {
                Ok(None)
            };
        };
        let version = self.shown_by_id(EntityKind::Version, kept.version)?;
        Ok(version.map(|_| {
            let model = self.name(EntityKind::Model, model);
            let version = self.name(EntityKind::Version, kept.version);
            kept.view(offset, &model, &version)
        }))
    }

    fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        let Some(version) = self.shown_version(version)? else {
            return Ok(None);
        };
        if since.is_none() && until.is_none() {
            let published = self.log.as_ref().map(|(_, statistics)| {
                statistics.with(|all| {
                    let found = all.version(version.id).cloned();
                    (found.unwrap_or_default(), all.totals().as_of_offset)
                })
            });
            let (statistics, as_of) = published.unwrap_or_default();
            return Ok(Some(statistics.view(version.model, version.version, as_of)));
        }
        let mut statistics = VersionStatistics::default();
        if let Some(shelf) = self.predictions.shelf(version.id) {
            if !shelf.has_all_from(since) {
                return Err(NOT_KEPT);
            }
            let places = shelf.from(since);
            for (time, offset) in
                places.take_while(|(time, _)| until.is_none_or(|until| *time < until))
            {
                let kept = self.predictions.at(offset);
                let Some(kept) = kept.filter(|kept| kept.complete) else {
                    continue;
                };
                statistics.add_prediction(&PredictionFacts {
                    time,
                    is_error: kept.fields.is_error(),
                    latency_ms: kept.fields.inference_time_ms(),
                    confidence: kept.fields.confidence(),
                });
                if let Some((_, facts)) = kept.label() {
                    statistics.add_label(&facts);
                }
            }
        }
        Ok(Some(statistics.view(
            version.model,
            version.version,
            self.offset(),
        )))
    }
}

#[async_trait]
impl ReadStore for LiveReads {
    fn projection(&self) -> &str {
        NAME
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>, ReadError> {
        let list = List::new("models", "", page);
        self.view.with(|state| {
            let view = |id, entity: &Entity| state.model(id, entity);
            state.page(EntityKind::Model, &list, view, |last| last.id)
        })
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        self.view.with(|state| {
            let found = state.shown(EntityKind::Model, key)?;
            found.map(|(id, model)| state.model(id, model)).transpose()
        })
    }

    async fn versions(
        &self,
        model: &Key,
        page: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        self.view.with(|state| {
            let Some((model, _)) = state.shown(EntityKind::Model, model)? else {
                return Ok(None);
            };
            let versions = state.entities.versions(model);
            let list = List::new("versions", &model.to_string(), page);
            let after = list.after::<i64>()?.unwrap_or(0);
            let mut items = Vec::new();
            let behind = versions.partition_point(|id| i64::from(*id) <= after);
            for id in &versions[behind..] {
                if items.len() == list.rows() as usize {
                    break;
                }
                if let Some(version) = state.shown_version(&VersionKey::Id(*id))? {
                    items.push(state.version(version)?);
                }
            }
            Ok(Some(list.page(items, |last| i64::from(last.id))))
        })
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        self.view.with(|state| {
            let found = state.shown_version(key)?;
            found.map(|version| state.version(version)).transpose()
        })
    }

    async fn datasets(&self, page: PageRequest) -> Result<Page<Dataset>, ReadError> {
        let list = List::new("datasets", "", page);
        self.view.with(|state| {
            let view = |id, entity: &Entity| Ok(state.dataset(id, entity));
            state.page(EntityKind::Dataset, &list, view, |last| last.id)
        })
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        self.view.with(|state| {
            let found = state.shown(EntityKind::Dataset, key)?;
            Ok(found.map(|(id, dataset)| state.dataset(id, dataset)))
        })
    }

    async fn experiments(&self, page: PageRequest) -> Result<Page<Experiment>, ReadError> {
        let list = List::new("experiments", "", page);
        self.view.with(|state| {
            let view = |id, entity: &Entity| Ok(state.experiment(id, entity));
            state.page(EntityKind::Experiment, &list, view, |last| last.id)
        })
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        self.view.with(|state| {
            let found = state.shown(EntityKind::Experiment, key)?;
            Ok(found.map(|(id, experiment)| state.experiment(id, experiment)))
        })
    }

    async fn runs(&self, filter: &RunFilter, page: PageRequest) -> Result<Page<Run>, ReadError> {
        self.view.with(|state| state.runs(filter, page))
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        self.view.with(|state| {
            let found = state.shown(EntityKind::Run, key)?;
            Ok(found.map(|(id, run)| state.run(id, run)))
        })
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        self.view.with(|state| state.series(owner))
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        self.view.with(|state| state.points(owner, name, query))
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        page: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        self.view.with(|state| state.predictions(version, page))
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        self.view
            .with(|state| state.prediction(model, prediction_id))
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        Ok(self.view.with(|state| {
            let statistics = state.log.as_ref().map(|(_, statistics)| statistics);
            statistics
                .map(|statistics| statistics.with(|all| all.totals().clone()))
                .unwrap_or_default()
        }))
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        self.view
            .with(|state| state.version_stats(version, since, until))
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        Ok(self.view.with(State::offset))
    }
}
