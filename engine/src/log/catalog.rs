//! What has been said of entities, as far as admission must know it: whether one was created, and with which values.
//!
//! Values are kept as hashes: enough to tell an identical repeat of a command from a differing one.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::Table;
use crate::event::{EntityKind, Kind, schema};
use crate::names::{EntityId, Names};

/// A value that was stated of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) column: u8,
    pub(crate) hash: u64,
}

/// Entities that a `…Created` event has announced, with the values it gave; placeholders are absent.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    created: HashMap<(EntityKind, EntityId), Vec<Stated>>,
}

/// What a repeated `…Created` event says, compared with what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The entity has not been created.
    First,
    /// Every value is the one known.
    Identical,
    /// Names of the fields that differ or are new.
    Differing(Vec<&'static str>),
}

/// The entity kind whose creation a kind reports, with the columns of its name.
pub(crate) fn created_by(kind: Kind) -> Option<EntityKind> {
    match kind {
        Kind::ModelCreated => Some(EntityKind::Model),
        Kind::ModelVersionCreated => Some(EntityKind::Version),
        Kind::DatasetRegistered => Some(EntityKind::Dataset),
        Kind::ExperimentCreated => Some(EntityKind::Experiment),
        Kind::RunStarted => Some(EntityKind::Run),
        _ => None,
    }
}

/// The entity a row of a `…Created` kind announces, if its name is known.
fn entity(table: &Table, row: usize, names: &Names) -> Option<(EntityKind, EntityId)> {
    let kind = created_by(table.kind())?;
    let first = schema::COMMON.len();
    let name = table.text(first).get(row)?;
    let id = match kind {
        EntityKind::Version => names.version_id(
            names.id(EntityKind::Model, name)?,
            table.text(first + 1).get(row)?,
        )?,
        _ => names.id(kind, name)?,
    };
    Some((kind, id))
}

fn stated(table: &Table, row: usize) -> Vec<Stated> {
    (schema::EXTRA..schema::column_count(table.kind()))
        .filter_map(|column| {
            let hash = table.value_hash(column, row, xxh3_64)?;
            Some(Stated {
                column: column as u8,
                hash,
            })
        })
        .collect()
}

impl Catalog {
    /// Compares a row of a `…Created` kind with what is known.
    pub(crate) fn compare(&self, table: &Table, row: usize, names: &Names) -> Repeat {
        let Some(known) = entity(table, row, names).and_then(|entity| self.created.get(&entity))
        else {
            return Repeat::First;
        };
        let differing: Vec<_> = stated(table, row)
            .iter()
            .filter(|value| !known.contains(value))
            .map(|value| schema::field(table.kind(), value.column.into()).name)
            .collect();
        if differing.is_empty() {
            Repeat::Identical
        } else {
            Repeat::Differing(differing)
        }
    }

    /// Takes in a row of a `…Created` kind; answers what was known before, for [`undo`](Self::undo).
    pub(crate) fn merge(&mut self, table: &Table, row: usize, names: &Names) -> Option<Before> {
        let entity = entity(table, row, names)?;
        let before = self.created.get(&entity).cloned();
        let known = self.created.entry(entity).or_default();
        for value in stated(table, row) {
            match known.iter_mut().find(|known| known.column == value.column) {
                Some(known) => *known = value,
                None => known.push(value),
            }
        }
        Some(Before {
            entity,
            values: before,
        })
    }

    /// Takes a merge back; the latest first.
    pub(crate) fn undo(&mut self, before: Before) {
        match before.values {
            Some(values) => self.created.insert(before.entity, values),
            None => self.created.remove(&before.entity),
        };
    }

    /// What is known of every entity, by kind and number.
    pub(crate) fn in_order(&self) -> Vec<(&(EntityKind, EntityId), &Vec<Stated>)> {
        let mut all: Vec<_> = self.created.iter().collect();
        all.sort_unstable_by_key(|(entity, _)| **entity);
        all
    }

    pub(crate) fn insert(&mut self, entity: (EntityKind, EntityId), values: Vec<Stated>) {
        self.created.insert(entity, values);
    }
}

/// What was known of an entity before a merge.
#[derive(Debug)]
pub(crate) struct Before {
    entity: (EntityKind, EntityId),
    values: Option<Vec<Stated>>,
}
