//! Facts in short, for cases that care about a field or two.

use modelog_engine::event::{
    DatasetRegistered, EntityDeleted, EntityRestored, Event, ExperimentCreated, Fact,
    FeedbackLogged, HyperparametersLogged, Json, MetricLogged, ModelCreated, ModelVersionAliased,
    ModelVersionCreated, PredictionLogged, RunFinished, RunStarted, TagsSet,
};
use modelog_engine::read::{Key, SeriesOwner, VersionKey};

use super::second;

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).expect("valid JSON")
}

pub(super) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A fact at a time, by seconds after the start.
pub(super) fn at(seconds: i64, fact: impl Into<Fact>) -> Event {
    Event::from(fact.into()).at(second(seconds))
}

pub(super) fn model(name: &str) -> ModelCreated {
    ModelCreated {
        model: name.into(),
        ..ModelCreated::default()
    }
}

pub(super) fn version(model: &str, name: &str) -> ModelVersionCreated {
    ModelVersionCreated {
        model: model.into(),
        version: name.into(),
        ..ModelVersionCreated::default()
    }
}

pub(super) fn alias(model: &str, alias: &str, version: Option<&str>) -> ModelVersionAliased {
    ModelVersionAliased {
        model: model.into(),
        alias: alias.into(),
        version: version.map(str::to_owned),
    }
}

pub(super) fn dataset(name: &str) -> DatasetRegistered {
    DatasetRegistered {
        dataset: name.into(),
        ..DatasetRegistered::default()
    }
}

pub(super) fn experiment(name: &str) -> ExperimentCreated {
    ExperimentCreated {
        experiment: name.into(),
        ..ExperimentCreated::default()
    }
}

pub(super) fn run(name: &str) -> RunStarted {
    RunStarted {
        run: name.into(),
        ..RunStarted::default()
    }
}

pub(super) fn finished(run: &str, status: &str) -> RunFinished {
    RunFinished {
        run: run.into(),
        status: status.into(),
        error: None,
    }
}

pub(super) fn params(run: &str, params: &str) -> HyperparametersLogged {
    HyperparametersLogged {
        run: run.into(),
        params: json(params),
    }
}

/// A point of a run's metric.
pub(super) fn metric(run: &str, name: &str, step: i64, value: f64) -> MetricLogged {
    MetricLogged {
        name: name.into(),
        value,
        run: some(run),
        step: Some(step),
        ..MetricLogged::default()
    }
}

/// A prediction of version `v` of model `m`.
pub(super) fn prediction(id: &str) -> PredictionLogged {
    PredictionLogged {
        model: "m".into(),
        version: "v".into(),
        prediction_id: some(id),
        ..PredictionLogged::default()
    }
}

/// Feedback that names no model.
pub(super) fn feedback(id: &str, true_class: &str) -> FeedbackLogged {
    FeedbackLogged {
        prediction_id: id.into(),
        true_class: some(true_class),
        ..FeedbackLogged::default()
    }
}

pub(super) fn tags(entity: &str, tags: &str) -> TagsSet {
    TagsSet {
        entity: entity.into(),
        tags: json(tags),
    }
}

pub(super) fn deleted(entity: &str) -> EntityDeleted {
    EntityDeleted {
        entity: entity.into(),
    }
}

pub(super) fn restored(entity: &str) -> EntityRestored {
    EntityRestored {
        entity: entity.into(),
    }
}

pub(super) fn named(name: &str) -> Key {
    Key::Name(name.into())
}

pub(super) fn version_named(model: &str, version: &str) -> VersionKey {
    VersionKey::Name {
        model: named(model),
        version: version.into(),
    }
}

pub(super) fn version_aliased(model: &str, alias: &str) -> VersionKey {
    VersionKey::Alias {
        model: named(model),
        alias: alias.into(),
    }
}

pub(super) fn of_run(name: &str) -> SeriesOwner {
    SeriesOwner::Run(named(name))
}

pub(super) fn of_version(model: &str, version: &str) -> SeriesOwner {
    SeriesOwner::Version(version_named(model, version))
}
