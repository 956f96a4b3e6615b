//! The numbers behind names, as they were read before.
//!
//! Within a log a name keeps its number, so most questions need not ask for it again, and all that they need is asked for at
//! once. The hash of an entity has its name: where that is another one, the store is another log's, and what is known here is
//! forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;

/// As many names are known; then all are forgotten.
const NAMES_MAX: usize = 10_000;

/// The numbers behind names of a kind; of versions, behind those of a model.
type OfKind = HashMap<(EntityKind, EntityId), HashMap<String, EntityId>>;

/// Numbers that are known.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<(usize, OfKind)>);

impl Numbers {
    pub(super) fn get(&self, kind: EntityKind, parent: EntityId, name: &str) -> Option<EntityId> {
        let known = self.lock();
        known.1.get(&(kind, parent))?.get(name).copied()
    }

    pub(super) fn learn(&self, kind: EntityKind, parent: EntityId, name: &str, id: EntityId) {
        let mut known = self.lock();
        if known.0 >= NAMES_MAX {
            *known = Default::default();
        }
        let of_kind = known.1.entry((kind, parent)).or_default();
        if of_kind.insert(name.to_owned(), id).is_none() {
            known.0 += 1;
        }
    }

    pub(super) fn forget(&self) {
        *self.lock() = Default::default();
    }

    fn lock(&self) -> MutexGuard<'_, (usize, OfKind)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_up_to_a_bound() {
        let numbers = Numbers::default();
        for id in 0..2 * NAMES_MAX as u32 + 5 {
            numbers.learn(EntityKind::Version, id % 7, &format!("v{id}"), id);
            assert_eq!(
                numbers.get(EntityKind::Version, id % 7, &format!("v{id}")),
                Some(id)
            );
            assert!(numbers.lock().0 <= NAMES_MAX);
        }
        assert_eq!(numbers.get(EntityKind::Version, 0, "v0"), None);
        assert_eq!(numbers.get(EntityKind::Run, 0, "v20002"), None);
        numbers.forget();
        assert_eq!(numbers.get(EntityKind::Version, 20_002 % 7, "v20002"), None);
    }
}
