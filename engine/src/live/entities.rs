//! Models, versions, datasets, experiments and runs, with what hangs on them.
//!
//! Every entity is there from the moment it is named. What is known of one is its body; once all bodies together take
//! more memory than they may, those leave that have not changed for longest, runs before all others, and a mark stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::Offset;
use crate::batch::LoggedBatch;
use crate::entity::{Change, Entity, EntityKey, changes};
use crate::event::EntityKind;
use crate::names::{EntityId, Names};

/// What a body takes beside itself: entries in the maps.
const OVERHEAD_BYTES: usize = 150;

/// When an entity leaves: runs before all others, which are few and stand behind everything that is served; then by the
/// event that changed it last.
type Leaving = (bool, Offset, EntityKind, EntityId);

fn leaving(touched: Offset, (kind, id): EntityKey) -> Leaving {
    (kind != EntityKind::Run, touched, kind, id)
}

/// All entities.
#[derive(Debug)]
pub(super) struct Entities {
    bytes_max: usize,
    bytes: usize,
    kinds: [OfKind; EntityKind::ALL.len()],
    /// In the order in which they leave.
    leaving: BTreeSet<Leaving>,
}

/// The entities of a kind.
#[derive(Debug, Default)]
struct OfKind {
    /// By number; none once the body has left.
    all: BTreeMap<EntityId, Option<Box<Held>>>,
    /// How many bodies have left.
    left: usize,
}

/// An entity whose body is there.
#[derive(Debug, Default)]
struct Held {
    touched: Offset,
    bytes: usize,
    entity: Entity,
    /// The versions of a model.
    versions: Vec<EntityId>,
}

/// Whether an entity is known.
pub(super) enum Found<'a> {
    Nothing,
    Body(&'a Entity),
    /// It is known, and its body has left.
    Left,
}

impl Entities {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            kinds: Default::default(),
            leaving: BTreeSet::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, kind: EntityKind, id: EntityId) -> Found<'_> {
        match self.kinds[kind as usize].all.get(&id) {
            None => Found::Nothing,
            Some(None) => Found::Left,
            Some(Some(held)) => Found::Body(&held.entity),
        }
    }

    /// The versions of a model whose body is there, by number.
    pub(super) fn versions(&self, model: EntityId) -> &[EntityId] {
        let found = self.kinds[EntityKind::Model as usize].all.get(&model);
        let held = found.and_then(Option::as_deref);
        held.map_or(&[], |held| &held.versions)
    }

    /// All entities of a kind behind a number, by number; none if the bodies of some have left.
    pub(super) fn all_behind(
        &self,
        kind: EntityKind,
        after: EntityId,
    ) -> Option<impl Iterator<Item = (EntityId, &Entity)>> {
        let of_kind = &self.kinds[kind as usize];
        let entities = of_kind.all.range(after.saturating_add(1)..);
        (of_kind.left == 0)
            .then(|| entities.filter_map(|(id, held)| Some((*id, &held.as_deref()?.entity))))
    }

    /// Takes what a batch says of entities, from an offset on.
    pub(super) fn apply(&mut self, batch: &LoggedBatch, done: Offset, names: &Names) {
        for named in &batch.names {
            let all = &mut self.kinds[named.kind as usize].all;
            if all.contains_key(&named.id) {
                continue;
            }
            all.insert(named.id, Some(Box::default()));
            self.change((named.kind, named.id), batch.first_offset, |held| {
                held.entity.parent = named.parent;
            });
            if named.kind == EntityKind::Version {
                let model = (EntityKind::Model, named.parent);
                self.change(model, batch.first_offset, |held| {
                    held.versions.push(named.id)
                });
            }
        }
        for Change {
            key,
            offset,
            time,
            what,
        } in changes(batch, done, names)
        {
            self.change(key, offset, |held| held.entity.apply(time, what));
        }
        self.make_room();
    }

    /// Changes a body, and counts what it takes anew. One that has left stays away: what it was is not known any more.
    fn change(&mut self, (kind, id): EntityKey, offset: Offset, change: impl FnOnce(&mut Held)) {
        let Some(Some(held)) = self.kinds[kind as usize].all.get_mut(&id) else {
            return;
        };
        self.leaving.remove(&leaving(held.touched, (kind, id)));
        self.bytes -= held.bytes;
        change(held);
        held.touched = offset;
        held.bytes = OVERHEAD_BYTES + held.entity.size() + size_of_val(&*held.versions);
        self.bytes += held.bytes;
        self.leaving.insert(leaving(offset, (kind, id)));
    }

    fn make_room(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((.., kind, id)) = self.leaving.pop_first()
        {
            let of_kind = &mut self.kinds[kind as usize];
            if let Some(held) = of_kind.all.get_mut(&id).and_then(Option::take) {
                of_kind.left += 1;
                self.bytes -= held.bytes;
            }
        }
    }
}
