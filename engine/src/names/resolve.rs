//! From names in events to numbers. Every name an event mentions was given its number when the log took it.

use super::{EntityId, Names};
use crate::batch::Row;
use crate::event::{EntityKind, EntityRef};

impl Names {
    /// The entity a reference such as `model/resnet50` means.
    #[must_use]
    pub fn referred(&self, text: &str) -> Option<(EntityKind, EntityId)> {
        let EntityRef { kind, parent, name } = text.parse().ok()?;
        let id = match parent {
            Some(model) => self.version_id(self.id(EntityKind::Model, &model)?, &name),
            None => self.id(kind, &name),
        };
        Some((kind, id?))
    }

    /// The entity named in a column of an event.
    #[must_use]
    pub fn named(&self, row: Row<'_>, kind: EntityKind, column: usize) -> Option<EntityId> {
        self.id(kind, row.text(column)?)
    }

    /// The version named in two columns of an event.
    #[must_use]
    pub fn named_version(&self, row: Row<'_>, model: usize, version: usize) -> Option<EntityId> {
        self.version_id(
            self.named(row, EntityKind::Model, model)?,
            row.text(version)?,
        )
    }
}

/// Versions of bulk facts, remembering the last few: they usually take turns.
#[derive(Debug)]
pub struct Versions<'a> {
    names: &'a Names,
    recent: [Option<Known<'a>>; 4],
}

/// A model and a version of it, by name and number.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    names: (&'a str, Option<&'a str>),
    ids: (Option<EntityId>, Option<EntityId>),
}

impl<'a> Versions<'a> {
    /// With nothing to remember yet.
    #[must_use]
    pub fn new(names: &'a Names) -> Self {
        Self {
            names,
            recent: [None; 4],
        }
    }

    /// The numbers of a model and its version.
    pub fn get(
        &mut self,
        model: &'a str,
        version: Option<&'a str>,
    ) -> (Option<EntityId>, Option<EntityId>) {
        let names = (model, version);
        if let Some(known) = self
            .recent
            .iter()
            .flatten()
            .find(|known| known.names == names)
        {
            return known.ids;
        }
        let model = self.names.id(EntityKind::Model, model);
        let version = model
            .zip(version)
            .and_then(|(model, version)| self.names.version_id(model, version));
        let ids = (model, version);
        self.recent.rotate_right(1);
        self.recent[0] = Some(Known { names, ids });
        ids
    }
}
