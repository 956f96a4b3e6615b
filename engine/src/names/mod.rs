//! Names of entities and the small integers that stand for them in stores' keys.
//!
//! A number is given at admission, when a name is first seen, and written in the frame that brought it; it is never
//! derived again, so every store that is rebuilt gets the same keys.
//!
//! # Invariants
//! N1. A name keeps its number for the life of the log, and no number is given twice within an entity kind.
//! N2. Numbers of a kind start at 1 and have no gaps.
//! N3. A version's name is unique within its model; its number is unique among all versions.

mod resolve;

use std::sync::Arc;

pub use resolve::Versions;

use hashbrown::HashMap;

use crate::event::EntityKind;
use crate::threads::{PoisonError, RwLock, RwLockReadGuard};

/// An entity's number, from 1.
pub type EntityId = u32;

/// A name and its number, as written in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEntity {
    pub kind: EntityKind,
    pub id: EntityId,
    /// The model of a version; 0 otherwise.
    pub parent: EntityId,
    pub name: Arc<str>,
}

/// All names of a log. Shared; reading does not wait for appends longer than the insertion of a name takes.
#[derive(Debug, Default)]
pub struct Names {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    kinds: [KindNames; EntityKind::ALL.len()],
}

#[derive(Debug, Default)]
struct KindNames {
    /// By (parent, name).
    ids: HashMap<(EntityId, Arc<str>), EntityId>,
    /// At the index `id - 1`.
    entities: Vec<(EntityId, Arc<str>)>,
}

/// The key a lookup borrows its name for.
#[derive(PartialEq, Eq, Hash)]
struct BorrowedKey<'a>(EntityId, &'a str);

impl hashbrown::Equivalent<(EntityId, Arc<str>)> for BorrowedKey<'_> {
    fn equivalent(&self, key: &(EntityId, Arc<str>)) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

impl Names {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a model, dataset, experiment or run.
    #[must_use]
    pub fn id(&self, kind: EntityKind, name: &str) -> Option<EntityId> {
        self.read().kinds[kind as usize]
            .ids
            .get(&BorrowedKey(0, name))
            .copied()
    }

    /// The number of a version.
    #[must_use]
    pub fn version_id(&self, model: EntityId, version: &str) -> Option<EntityId> {
        self.read().kinds[EntityKind::Version as usize]
            .ids
            .get(&BorrowedKey(model, version))
            .copied()
    }

    /// The parent (0 if none) and name behind a number.
    #[must_use]
    pub fn name(&self, kind: EntityKind, id: EntityId) -> Option<(EntityId, Arc<str>)> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        self.read().kinds[kind as usize].entities.get(at).cloned()
    }

    /// How many names of a kind there are; also the highest number given.
    #[must_use]
    pub fn count(&self, kind: EntityKind) -> u32 {
        self.read().kinds[kind as usize].entities.len() as u32
    }

    /// The number of a name, given now if it has none; tells whether it was.
    pub(crate) fn assign(
        &self,
        kind: EntityKind,
        parent: EntityId,
        name: &str,
    ) -> (EntityId, Option<NamedEntity>) {
        if let Some(id) = self.read().kinds[kind as usize]
            .ids
            .get(&BorrowedKey(parent, name))
        {
            return (*id, None);
        }
        let name: Arc<str> = name.into();
        let id = self.count(kind) + 1;
        let named = NamedEntity {
            kind,
            id,
            parent,
            name,
        };
        self.insert(&named);
        (id, Some(named))
    }

    /// Takes over a name from a frame or snapshot. A name that is known already changes nothing; one whose number is
    /// not the next, or whose model has none, does not belong to this log, and is answered with `false`.
    pub(crate) fn insert(&self, named: &NamedEntity) -> bool {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let models = tables.kinds[EntityKind::Model as usize].entities.len();
        let parents = match named.kind {
            EntityKind::Version => 1..=models,
            _ => 0..=0,
        };
        if !parents.contains(&(named.parent as usize)) {
            return false;
        }
        let names = &mut tables.kinds[named.kind as usize];
        let key = (named.parent, Arc::clone(&named.name));
        if let Some(known) = names.ids.get(&key) {
            return *known == named.id;
        }
        if named.id as usize != names.entities.len() + 1 {
            return false;
        }
        names.entities.push(key.clone());
        names.ids.insert(key, named.id);
        true
    }

    /// Takes back the names given last; the latest first. They are in no frame.
    pub(crate) fn forget(&self, named: &NamedEntity) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let names = &mut tables.kinds[named.kind as usize];
        if names.entities.len() == named.id as usize {
            names.entities.pop();
            names.ids.remove(&BorrowedKey(named.parent, &named.name));
        }
    }

    /// Every name, by kind and number.
    pub(crate) fn all(&self) -> Vec<NamedEntity> {
        let tables = self.read();
        EntityKind::ALL
            .into_iter()
            .flat_map(|kind| {
                tables.kinds[kind as usize].entities.iter().zip(1..).map(
                    move |((parent, name), id)| NamedEntity {
                        kind,
                        id,
                        parent: *parent,
                        name: Arc::clone(name),
                    },
                )
            })
            .collect()
    }
}
