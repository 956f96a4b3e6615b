//! What the database's numbers stand for: its entities by the names that events use.
//!
//! This is all that is kept in memory of a database. Names come from the entities' hashes, else from `idx:name:…`; a run
//! may go by its number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;

use super::bad::Bad;
use super::fields::{Fields, Taken};
use super::key::Id;

/// An entity, as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// The model of a version.
    pub(super) model: Option<Arc<str>>,
    /// The version of a dataset.
    pub(super) version: Option<Arc<str>>,
    /// When it came to be, if that is known.
    pub(super) time: Option<Timestamp>,
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionName {
    pub(super) model: Arc<str>,
    pub(super) version: Arc<str>,
    /// What it is in the database, if it is there.
    pub(super) id: Option<Id>,
}

/// Which entities a field may name.
pub(super) struct Refers<'a> {
    pub(super) kind: EntityKind,
    /// Fields that hold its number.
    pub(super) ids: &'a [&'a str],
    /// Fields that hold its name.
    pub(super) names: &'a [&'a str],
}

pub(super) const MODEL: Refers<'_> = Refers {
    kind: EntityKind::Model,
    ids: &["model_id"],
    names: &["model", "model_name"],
};
pub(super) const DATASET: Refers<'_> = Refers {
    kind: EntityKind::Dataset,
    ids: &["dataset_id"],
    names: &["dataset", "dataset_name"],
};
pub(super) const EXPERIMENT: Refers<'_> = Refers {
    kind: EntityKind::Experiment,
    ids: &["experiment_id", "exp_id"],
    names: &["experiment", "experiment_name"],
};
pub(super) const RUN: Refers<'_> = Refers {
    kind: EntityKind::Run,
    ids: &["run_id", "training_run_id"],
    names: &["run", "run_name"],
};
const VERSION_IDS: &[&str] = &["version_id", "model_version_id"];
const VERSION_NAMES: &[&str] = &["version", "model_version", "version_name", "version_number"];

/// All entities of a database.
#[derive(Debug, Default)]
pub(super) struct Names {
    prefix: String,
    named: [BTreeMap<Id, Named>; EntityKind::ALL.len()],
    by_name: [HashMap<Arc<str>, Id>; EntityKind::ALL.len()],
    /// Versions by their models.
    versions: HashMap<(Arc<str>, Arc<str>), Id>,
    refused: BTreeSet<(EntityKind, Id)>,
    /// Experiments of runs whose hashes do not say theirs.
    pub(super) experiments: BTreeMap<Id, Arc<str>>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    pub(super) fn key(&self, kind: EntityKind, id: &Id) -> String {
        format!("{}:{kind}:{id}", self.prefix)
    }

    pub(super) fn get(&self, kind: EntityKind, id: &Id) -> Option<&Named> {
        self.named[kind as usize].get(id)
    }

    pub(super) fn ids(&self, kind: EntityKind) -> impl Iterator<Item = &Id> {
        self.named[kind as usize].keys()
    }

    /// Adds an entity.
    ///
    /// # Errors
    /// Another one has that name. Of datasets several may share one, each with a version of its own.
    pub(super) fn add(&mut self, kind: EntityKind, id: Id, named: Named) -> Result<(), Bad> {
        let name = Arc::clone(&named.name);
        let other = match &named.model {
            Some(model) => {
                let versions = &mut self.versions;
                versions.insert((Arc::clone(model), Arc::clone(&name)), id.clone())
            }
            None => self.by_name[kind as usize].insert(Arc::clone(&name), id.clone()),
        };
        let named_by_version = kind == EntityKind::Dataset && named.version.is_some();
        if let Some(other) = other
            && !named_by_version
        {
            match named.model {
                Some(model) => drop(
                    self.versions
                        .insert((model, Arc::clone(&name)), other.clone()),
                ),
                None => drop(self.by_name[kind as usize].insert(Arc::clone(&name), other.clone())),
            }
            let key = self.key(kind, &id);
            return Err(Bad::taken(&key, kind.name(), &name, self.key(kind, &other)));
        }
        self.named[kind as usize].insert(id, named);
        Ok(())
    }

    /// Notes an entity that cannot be taken over: what refers to it need not be complained about too.
    pub(super) fn refuse(&mut self, kind: EntityKind, id: Id) {
        self.named[kind as usize].remove(&id);
        self.refused.insert((kind, id));
    }

    /// What an id stands for.
    ///
    /// # Errors
    /// Nothing, and where that was said.
    pub(super) fn owner(&self, kind: EntityKind, id: &Id, key: &str) -> Result<&Named, Bad> {
        self.get(kind, id)
            .ok_or_else(|| self.missing(kind, id, key, None))
    }

    fn missing(&self, kind: EntityKind, id: &Id, key: &str, field: Option<&Taken>) -> Bad {
        if self.refused.contains(&(kind, id.clone())) {
            return Bad::orphan(key);
        }
        let field = field.map(|taken| (&*taken.name, &*taken.text));
        Bad::dangling(key, field, self.key(kind, id))
    }

    /// The entity that the fields refer to, if they do.
    ///
    /// # Errors
    /// By a number that is none of the database's. A name may be new: the log makes a placeholder of it.
    pub(super) fn of(
        &self,
        refers: &Refers<'_>,
        fields: &mut Fields,
    ) -> Result<Option<Named>, Bad> {
        let kind = refers.kind;
        let by_name = |text: &str| {
            let id = self.by_name[kind as usize].get(text)?;
            self.get(kind, id)
        };
        if let Some(taken) = fields.take(refers.ids) {
            let id = Id::of(&taken.text);
            let found = self.get(kind, &id).or_else(|| by_name(&taken.text));
            let Some(found) = found else {
                return Err(self.missing(kind, &id, &fields.key, Some(&taken)));
            };
            refers
                .names
                .iter()
                .for_each(|name| fields.drop_if(name, &found.name));
            return Ok(Some(found.clone()));
        }
        let Some(taken) = fields.take(refers.names) else {
            return Ok(None);
        };
        let id = Id::of(&taken.text);
        if let Some(found) = by_name(&taken.text).or_else(|| self.get(kind, &id)) {
            return Ok(Some(found.clone()));
        }
        if matches!(id, Id::Number(_)) || self.refused.contains(&(kind, id.clone())) {
            return Err(self.missing(kind, &id, &fields.key, Some(&taken)));
        }
        Ok(Some(Named {
            name: taken.text.into(),
            model: None,
            version: None,
            time: None,
        }))
    }

    /// The version that the fields refer to, if they do: by its number, or by model and version.
    ///
    /// # Errors
    /// As [`of`](Self::of), or a version without a model.
    pub(super) fn version(&self, fields: &mut Fields) -> Result<Option<VersionName>, Bad> {
        let kind = EntityKind::Version;
        if let Some(taken) = fields.take(VERSION_IDS) {
            let id = Id::of(&taken.text);
            let Some(found) = self.get(kind, &id) else {
                return Err(self.missing(kind, &id, &fields.key, Some(&taken)));
            };
            let model = found.model.clone().unwrap_or_default();
            VERSION_NAMES
                .iter()
                .for_each(|name| fields.drop_if(name, &found.name));
            MODEL
                .names
                .iter()
                .for_each(|name| fields.drop_if(name, &model));
            // Whatever it says of the model beside must not say something else.
            if let Some(other) = self.of(&MODEL, fields)?
                && other.name != model
            {
                let what = "is of another model than the one beside it";
                return Err(fields.bad(&taken, what));
            }
            return Ok(Some(VersionName {
                model,
                version: Arc::clone(&found.name),
                id: Some(id),
            }));
        }
        let Some(taken) = fields.take(VERSION_NAMES) else {
            return Ok(None);
        };
        let id = Id::of(&taken.text);
        match self.of(&MODEL, fields)? {
            Some(model) => {
                let key = (Arc::clone(&model.name), Arc::from(&*taken.text));
                let known = self.versions.get(&key).cloned();
                // A number that is no version's name may be a version's number.
                let by_number = || {
                    let found = self.get(kind, &id)?;
                    (found.model.as_ref() == Some(&model.name)).then(|| Arc::clone(&found.name))
                };
                let version = match known.is_none().then(by_number).flatten() {
                    Some(name) => {
                        return Ok(Some(VersionName {
                            model: model.name,
                            version: name,
                            id: Some(id),
                        }));
                    }
                    None => key.1,
                };
                Ok(Some(VersionName {
                    model: model.name,
                    version,
                    id: known,
                }))
            }
            None => match self.get(kind, &id) {
                Some(found) => Ok(Some(VersionName {
                    model: found.model.clone().unwrap_or_default(),
                    version: Arc::clone(&found.name),
                    id: Some(id),
                })),
                None if self.refused.contains(&(kind, id.clone())) => Err(Bad::orphan(&fields.key)),
                None => Err(fields.bad(&taken, "is a version, and no field says of which model")),
            },
        }
    }
}
