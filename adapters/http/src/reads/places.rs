//! What the paths of read routes name.

use modelog_engine::event::EntityKind;
use modelog_engine::read::{Key, SeriesOwner, VersionKey};
use serde::Deserialize;

use super::parameters::By;
use crate::problem::Problem;
use crate::state::AppState;

/// A model.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ModelPlace {
    /// The model's name, or with `?by=id` its id.
    pub(super) model: String,
}

/// A version of a model.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct VersionPlace {
    /// The model's name, or with `?by=id` its id.
    model: String,
    /// The version's name, or with `?by=id` its id; `@` and an alias for the version that points to. A version whose
    /// own name starts with `@` can only be given by its id.
    version: String,
}

impl VersionPlace {
    /// # Errors
    /// As [`version_key`].
    pub(super) fn key(self, state: &AppState, by: By) -> Result<VersionKey, Problem> {
        version_key(state, by, self.model, self.version)
    }
}

/// A dataset.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DatasetPlace {
    /// The dataset's name, or with `?by=id` its id.
    pub(super) dataset: String,
}

/// An experiment.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ExperimentPlace {
    /// The experiment's name, or with `?by=id` its id.
    pub(super) experiment: String,
}

/// A run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RunPlace {
    /// The run's id as its producer gave it, or with `?by=id` its number.
    pub(super) run: String,
}

/// A metric of a run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RunMetricPlace {
    /// The run's id as its producer gave it, or with `?by=id` its number.
    run: String,
    /// The metric's name.
    name: String,
}

impl RunMetricPlace {
    /// Whose metric it is, and its name.
    ///
    /// # Errors
    /// As [`By::key`].
    pub(super) fn metric(self, by: By) -> Result<(SeriesOwner, String), Problem> {
        Ok((SeriesOwner::Run(by.key(self.run)?), self.name))
    }
}

/// A metric of a version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct VersionMetricPlace {
    /// The model's name, or with `?by=id` its id.
    model: String,
    /// The version's name, or with `?by=id` its id; `@` and an alias for the version that points to.
    version: String,
    /// The metric's name.
    name: String,
}

impl VersionMetricPlace {
    /// Whose metric it is, and its name.
    ///
    /// # Errors
    /// As [`version_key`].
    pub(super) fn metric(self, state: &AppState, by: By) -> Result<(SeriesOwner, String), Problem> {
        let version = version_key(state, by, self.model, self.version)?;
        Ok((SeriesOwner::Version(version), self.name))
    }
}

/// A prediction.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PredictionPlace {
    /// The model's name, or with `?by=id` its id.
    pub(super) model: String,
    /// The prediction's id; where the producer gave none, the offset of its event.
    pub(super) prediction_id: String,
}

/// A projection.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ProjectionPlace {
    /// What it is called in `GET /v1/projections`.
    pub(super) name: String,
}

/// The version that two parts of a path name: an alias if the second starts with `@`.
///
/// # Errors
/// `bad_path` for what is no id, `not_found` for the id of another model's version.
fn version_key(
    state: &AppState,
    by: By,
    model: String,
    version: String,
) -> Result<VersionKey, Problem> {
    let model = by.key(model)?;
    if let Some(alias) = version.strip_prefix('@') {
        let alias = alias.to_owned();
        return Ok(VersionKey::Alias { model, alias });
    }
    let id = match by.key(version)? {
        Key::Name(version) => return Ok(VersionKey::Name { model, version }),
        Key::Id(id) => id,
    };
    // Numbers of versions are given across models; the path claims which model it is of.
    match state.engine().names().name(EntityKind::Version, id) {
        Some((parent, _)) if model == Key::Id(parent) => Ok(VersionKey::Id(id)),
        _ => Err(no_version(&VersionKey::Id(id))),
    }
}

/// There is no such entity.
pub(super) fn no(what: &str, key: &Key) -> Problem {
    Problem::not_found(what, shown(key))
}

/// There is no such version, so nothing of it either.
pub(super) fn no_version(key: &VersionKey) -> Problem {
    let (what, name, model) = match key {
        VersionKey::Name { model, version } => ("version", version, model),
        VersionKey::Alias { model, alias } => ("version with the alias", alias, model),
        VersionKey::Id(id) => return Problem::not_found("version with the id", id),
    };
    Problem::not_found(what, format_args!("{name:?} of the model {}", shown(model)))
}

/// There is no such run or version, so no metric of it either.
pub(super) fn no_owner(owner: &SeriesOwner) -> Problem {
    match owner {
        SeriesOwner::Run(run) => no("run", run),
        SeriesOwner::Version(version) => no_version(version),
    }
}

fn shown(key: &Key) -> String {
    match key {
        Key::Name(name) => format!("{name:?}"),
        Key::Id(id) => format!("with the id {id}"),
    }
}
