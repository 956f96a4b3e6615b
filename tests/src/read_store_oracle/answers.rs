//! Answers from the fold, by scanning everything.

use async_trait::async_trait;
use modelog_engine::event::{EntityKind, Json};
use modelog_engine::names::EntityId;
use modelog_engine::read::{
    Alias, Dataset, Experiment, Feedback, Key, MetricPoint, Model, ModelVersion, PAGE_MAX, Page,
    PageRequest, Prediction, ReadError, ReadStore, Run, RunFilter, RunOrder, Series, SeriesOwner,
    SeriesQuery, SeriesSummary, StatsTotals, VersionKey, VersionStats,
};
use modelog_engine::stats::{LabelFacts, PredictionFacts, VersionStatistics};
use modelog_engine::{Offset, Timestamp};

use super::fold::{Answered, Entity, Fields, Owner, SeriesKey, State};
use super::{Oracle, SortKey};

/// Cuts a page out of a list that is sorted already.
fn page<T>(
    oracle: &Oracle,
    list: String,
    items: impl IntoIterator<Item = (SortKey, T)>,
    request: PageRequest,
) -> Result<Page<T>, ReadError> {
    let after = request
        .cursor
        .map(|cursor| oracle.cursor(&list, &cursor).ok_or(ReadError::Cursor))
        .transpose()?;
    let mut rest = items
        .into_iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
        .peekable();
    let limit = request.limit.min(PAGE_MAX) as usize;
    let mut last = None;
    let items = rest
        .by_ref()
        .take(limit)
        .map(|(key, item)| {
            last = Some(key);
            item
        })
        .collect();
    let more = rest.peek().is_some();
    Ok(Page {
        items,
        next_cursor: last
            .filter(|_| more)
            .map(|key| oracle.new_cursor(list, key)),
    })
}

fn by_id(id: EntityId) -> SortKey {
    (id.into(), String::new(), 0)
}

fn object(fields: &Fields) -> Option<Json> {
    let key = |key: &String| serde_json::to_string(key).expect("a string has a JSON form");
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}:{value}", key(name)))
        .collect();
    let text = format!("{{{}}}", fields.join(","));
    (!fields.is_empty()).then(|| Json::parse(text).expect("values are JSON"))
}

impl State {
    fn key(&self, kind: EntityKind, key: &Key) -> Option<EntityId> {
        match key {
            Key::Name(name) => self.id(kind, 0, name),
            Key::Id(id) => Some(*id),
        }
    }

    fn shown_model(&self, key: &Key) -> Option<&Entity<Model>> {
        let id = self.key(EntityKind::Model, key)?;
        self.models.get(&id).filter(|model| !model.deleted)
    }

    fn shown_version(&self, key: &VersionKey) -> Option<&Entity<ModelVersion>> {
        let id = match key {
            VersionKey::Name { model, version } => {
                let model = self.key(EntityKind::Model, model)?;
                self.id(EntityKind::Version, model, version)?
            }
            VersionKey::Alias { model, alias } => {
                let model = self.key(EntityKind::Model, model)?;
                *self.aliases.get(&(model, alias.clone()))?
            }
            VersionKey::Id(id) => *id,
        };
        let version = self.versions.get(&id).filter(|version| !version.deleted)?;
        self.shown_model(&Key::Id(version.view.model_id))?;
        Some(version)
    }

    fn model(&self, model: &Entity<Model>) -> Model {
        let mut view = model.view.clone();
        view.tags = object(&model.tags);
        view.aliases = self
            .aliases
            .iter()
            .filter(|((owner, _), version)| *owner == view.id && !self.versions[version].deleted)
            .map(|((_, alias), version)| Alias {
                alias: alias.clone(),
                version: self.versions[version].view.version.clone(),
            })
            .collect();
        view
    }

    fn version(&self, version: &Entity<ModelVersion>) -> ModelVersion {
        let mut view = version.view.clone();
        view.tags = object(&version.tags);
        view.aliases = self
            .aliases
            .iter()
            .filter(|(_, target)| **target == view.id)
            .map(|((_, alias), _)| alias.clone())
            .collect();
        view
    }

    fn run(&self, run: &Entity<Run>) -> Run {
        let mut view = run.view.clone();
        view.tags = object(&run.tags);
        view.params = self.params.get(&view.id).and_then(object);
        let artifacts = self.artifacts.get(&view.id).into_iter().flatten();
        view.artifacts = artifacts.map(|(_, artifact)| artifact.clone()).collect();
        view
    }

    fn owner(&self, owner: &SeriesOwner) -> Option<Owner> {
        match owner {
            SeriesOwner::Run(key) => {
                let id = self.key(EntityKind::Run, key)?;
                let run = self.runs.get(&id).filter(|run| !run.deleted)?;
                Some(Owner::Run(run.view.id))
            }
            SeriesOwner::Version(key) => self
                .shown_version(key)
                .map(|version| Owner::Version(version.view.id)),
        }
    }

    /// The latest feedback on a prediction, as it was given.
    fn feedback_on(&self, model: EntityId, id: &str) -> Option<&Feedback> {
        self.feedback
            .iter()
            .filter(|given| given.prediction_id == id)
            .filter(|given| given.model.is_none_or(|given| given == model))
            .map(|given| &given.view)
            .max_by_key(|feedback| (feedback.time, feedback.log_offset))
    }

    fn label(&self, model: EntityId, prediction: &Prediction) -> Option<(&Feedback, LabelFacts)> {
        let feedback = self.feedback_on(model, &prediction.prediction_id)?;
        let facts = LabelFacts::compare(
            feedback.correct,
            (
                prediction.predicted_class.as_ref(),
                feedback.true_class.as_ref(),
            ),
            (prediction.predicted_value, feedback.true_value),
        );
        Some((feedback, facts))
    }

    fn prediction(&self, model: EntityId, answered: &Answered) -> Prediction {
        let mut view = answered.view.clone();
        view.feedback = self
            .label(model, &answered.view)
            .map(|(feedback, facts)| Feedback {
                correct: facts.correct,
                ..feedback.clone()
            });
        view
    }

    /// Statistics of a version's predictions in a stretch of event time.
    fn stretch(
        &self,
        version: EntityId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> VersionStatistics {
        let mut statistics = VersionStatistics::default();
        let mut counted: Vec<_> = self
            .predictions
            .iter()
            .filter(|(_, answered)| answered.version == version && answered.complete)
            .map(|((model, _), answered)| (*model, &answered.view))
            .filter(|(_, view)| since.is_none_or(|since| view.time >= since))
            .filter(|(_, view)| until.is_none_or(|until| view.time < until))
            .collect();
        // Sums of numbers depend on their order to the bit.
        counted.sort_by_key(|(_, view)| (view.time, view.log_offset));
        for (model, view) in counted {
            statistics.add_prediction(&PredictionFacts {
                time: view.time,
                is_error: view.error.is_some(),
                latency_ms: view.inference_time_ms,
                confidence: view.confidence,
            });
            if let Some((_, facts)) = self.label(model, view) {
                statistics.add_label(&facts);
            }
        }
        statistics
    }
}

/// What is kept of too many points; see the rule of `modelog_engine::read::Downsampler`.
fn few(points: &[MetricPoint], max: usize) -> Vec<MetricPoint> {
    if points.len() <= max {
        return points.to_vec();
    }
    let buckets = (max / 5).max(1);
    let mut kept = Vec::new();
    for number in 0..buckets {
        let bucket: Vec<usize> = (0..points.len())
            .filter(|rank| rank * buckets / points.len() == number)
            .collect();
        let finite = || {
            bucket
                .iter()
                .filter(|rank| points[**rank].value.is_finite())
        };
        let value = |rank: &&usize| points[**rank].value;
        let least = finite().min_by(|a, b| value(a).total_cmp(&value(b)));
        // Of equals `max_by` takes the last, so it looks from behind.
        let greatest = finite().rev().max_by(|a, b| value(a).total_cmp(&value(b)));
        let odd = bucket.iter().find(|rank| !points[**rank].value.is_finite());
        let mut ranks: Vec<usize> = Vec::new();
        for rank in [bucket.last(), bucket.first(), odd, greatest, least] {
            if let Some(rank) = rank
                && !ranks.contains(rank)
            {
                ranks.push(*rank);
            }
        }
        if max < 5 {
            ranks.truncate(max);
        }
        ranks.sort_unstable();
        kept.extend(ranks.into_iter().map(|rank| points[rank].clone()));
    }
    kept
}

fn summary(key: &SeriesKey, points: &[MetricPoint]) -> SeriesSummary {
    let finite = || {
        points
            .iter()
            .map(|point| point.value)
            .filter(|value| value.is_finite())
    };
    SeriesSummary {
        name: key.name.clone(),
        split: key.split.clone(),
        points: points.len() as u64,
        last: points.last().expect("a series has points").clone(),
        min: finite().reduce(f64::min),
        max: finite().reduce(f64::max),
    }
}

#[async_trait]
impl ReadStore for Oracle {
    fn projection(&self) -> &str {
        "oracle"
    }

    async fn models(&self, request: PageRequest) -> Result<Page<Model>, ReadError> {
        let state = self.state();
        let shown = state.models.iter().filter(|(_, model)| !model.deleted);
        let items = shown.map(|(id, model)| (by_id(*id), state.model(model)));
        page(self, "models".into(), items, request)
    }

    async fn model(&self, key: &Key) -> Result<Option<Model>, ReadError> {
        let state = self.state();
        Ok(state.shown_model(key).map(|model| state.model(model)))
    }

    async fn versions(
        &self,
        model: &Key,
        request: PageRequest,
    ) -> Result<Option<Page<ModelVersion>>, ReadError> {
        let state = self.state();
        let Some(model) = state.shown_model(model).map(|model| model.view.id) else {
            return Ok(None);
        };
        let items = state
            .versions
            .iter()
            .filter(|(_, version)| version.view.model_id == model && !version.deleted)
            .map(|(id, version)| (by_id(*id), state.version(version)));
        page(self, format!("versions of {model}"), items, request).map(Some)
    }

    async fn version(&self, key: &VersionKey) -> Result<Option<ModelVersion>, ReadError> {
        let state = self.state();
        let version = state.shown_version(key);
        Ok(version.map(|version| state.version(version)))
    }

    async fn datasets(&self, request: PageRequest) -> Result<Page<Dataset>, ReadError> {
        let state = self.state();
        let shown = state
            .datasets
            .iter()
            .filter(|(_, dataset)| !dataset.deleted);
        let items = shown.map(|(id, dataset)| (by_id(*id), tagged_dataset(dataset)));
        page(self, "datasets".into(), items, request)
    }

    async fn dataset(&self, key: &Key) -> Result<Option<Dataset>, ReadError> {
        let state = self.state();
        let id = state.key(EntityKind::Dataset, key);
        let found = id.and_then(|id| state.datasets.get(&id));
        Ok(found.filter(|dataset| !dataset.deleted).map(tagged_dataset))
    }

    async fn experiments(&self, request: PageRequest) -> Result<Page<Experiment>, ReadError> {
        let state = self.state();
        let shown = state.experiments.iter().filter(|(_, found)| !found.deleted);
        let items = shown.map(|(id, found)| (by_id(*id), tagged_experiment(found)));
        page(self, "experiments".into(), items, request)
    }

    async fn experiment(&self, key: &Key) -> Result<Option<Experiment>, ReadError> {
        let state = self.state();
        let id = state.key(EntityKind::Experiment, key);
        let found = id.and_then(|id| state.experiments.get(&id));
        Ok(found.filter(|found| !found.deleted).map(tagged_experiment))
    }

    async fn runs(&self, filter: &RunFilter, request: PageRequest) -> Result<Page<Run>, ReadError> {
        let state = self.state();
        let fits =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let mut items: Vec<(SortKey, Run)> = state
            .runs
            .values()
            .filter(|run| !run.deleted)
            .filter(|run| {
                fits(&filter.experiment, &run.view.experiment)
                    && fits(&filter.model, &run.view.model)
                    && fits(&filter.status, &run.view.status)
            })
            .map(|run| {
                let view = &run.view;
                let started = view
                    .started_at
                    .map_or(i128::from(i64::MIN), |time| time.micros().into());
                let id = i128::from(view.id);
                let key = match filter.order {
                    RunOrder::NewestStarted => (-started, String::new(), -id),
                    RunOrder::OldestStarted => (started, String::new(), id),
                    RunOrder::Name => (0, view.name.as_ref().unwrap_or(&view.run).clone(), id),
                };
                (key, state.run(run))
            })
            .collect();
        items.sort_by(|a, b| a.0.cmp(&b.0));
        page(self, format!("runs {filter:?}"), items, request)
    }

    async fn run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        let state = self.state();
        let id = state.key(EntityKind::Run, key);
        let run = id.and_then(|id| state.runs.get(&id));
        Ok(run.filter(|run| !run.deleted).map(|run| state.run(run)))
    }

    async fn series(&self, owner: &SeriesOwner) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        let state = self.state();
        let owner = state.owner(owner);
        Ok(owner.map(|owner| {
            let of_owner = state.series.iter().filter(|(key, _)| key.owner == owner);
            of_owner.map(|(key, points)| summary(key, points)).collect()
        }))
    }

    async fn points(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        let state = self.state();
        let Some(owner) = state.owner(owner) else {
            return Ok(None);
        };
        let key = SeriesKey {
            owner,
            name: name.to_owned(),
            split: query.split.clone(),
        };
        let points: Vec<MetricPoint> = state
            .series
            .get(&key)
            .into_iter()
            .flatten()
            .filter(|point| query.from_step.is_none_or(|from| point.step >= from))
            .filter(|point| query.to_step.is_none_or(|to| point.step <= to))
            .cloned()
            .collect();
        Ok(Some(Series {
            name: key.name,
            split: key.split,
            total_points: points.len() as u64,
            points: match query.max_points {
                Some(max) => few(&points, max as usize),
                None => points,
            },
        }))
    }

    async fn predictions(
        &self,
        version: &VersionKey,
        request: PageRequest,
    ) -> Result<Option<Page<Prediction>>, ReadError> {
        let state = self.state();
        let Some(version) = state.shown_version(version).map(|found| found.view.id) else {
            return Ok(None);
        };
        let mut items: Vec<(SortKey, Prediction)> = state
            .predictions
            .iter()
            .filter(|(_, answered)| answered.version == version)
            .map(|((model, _), answered)| {
                let view = state.prediction(*model, answered);
                let newest = -i128::from(view.time.micros());
                (
                    (newest, String::new(), -i128::from(view.log_offset.0)),
                    view,
                )
            })
            .collect();
        items.sort_by(|a, b| a.0.cmp(&b.0));
        page(self, format!("predictions of {version}"), items, request).map(Some)
    }

    async fn prediction(
        &self,
        model: &Key,
        prediction_id: &str,
    ) -> Result<Option<Prediction>, ReadError> {
        let state = self.state();
        let Some(model) = state.shown_model(model).map(|model| model.view.id) else {
            return Ok(None);
        };
        let answered = state.predictions.get(&(model, prediction_id.to_owned()));
        Ok(answered
            .filter(|answered| !state.versions[&answered.version].deleted)
            .map(|answered| state.prediction(model, answered)))
    }

    async fn stats(&self) -> Result<StatsTotals, ReadError> {
        Ok(self.state().totals.clone())
    }

    async fn version_stats(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        let state = self.state();
        let Some(version) = state.shown_version(version).map(|found| &found.view) else {
            return Ok(None);
        };
        let (statistics, offset) = if since.is_none() && until.is_none() {
            let published = state.statistics.get(&version.id).cloned();
            (published.unwrap_or_default(), state.totals.as_of_offset)
        } else {
            let stretch = state.stretch(version.id, since, until);
            (
                stretch,
                state.checkpoint.map_or(Offset::ZERO, |at| at.offset),
            )
        };
        Ok(Some(statistics.view(
            version.model.clone(),
            version.version.clone(),
            offset,
        )))
    }

    async fn offset(&self) -> Result<Offset, ReadError> {
        let checkpoint = self.state().checkpoint;
        Ok(checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.offset))
    }
}

fn tagged_dataset(dataset: &Entity<Dataset>) -> Dataset {
    Dataset {
        tags: object(&dataset.tags),
        ..dataset.view.clone()
    }
}

fn tagged_experiment(experiment: &Entity<Experiment>) -> Experiment {
    Experiment {
        tags: object(&experiment.tags),
        ..experiment.view.clone()
    }
}
