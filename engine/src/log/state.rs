//! What admission knows: a fold of the log, kept in memory and moved ahead by every admitted call.
//!
//! # Invariants
//! S1. Folding the log up to an offset gives the same state as having admitted it.
//! S2. A change that is undone leaves the state as it was, the window's oldest identities aside.

use std::sync::Arc;

use super::catalog::{self, Before, Catalog};
use super::dedupe::Window;
use super::mentions::{Mention, mentions};
pub(crate) use super::sources::SourceState;
use super::sources::{Sources, Undo};
use crate::batch::{Identity, LoggedBatch, Table};
use crate::event::EntityKind;
use crate::names::{NamedEntity, Names};
use crate::origin::Origin;
use crate::{Offset, Timestamp};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) next: Offset,
    pub(crate) names: Arc<Names>,
    pub(crate) window: Window,
    pub(crate) catalog: Catalog,
    pub(crate) sources: Sources,
}

/// What a batch changed, so that it can be undone while none of it has reached the file.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) names: Vec<NamedEntity>,
    catalog: Vec<Before>,
    sources: Vec<Undo>,
}

impl Changes {
    /// Adds later changes.
    pub(crate) fn extend(&mut self, later: Self) {
        self.names.extend(later.names);
        self.catalog.extend(later.catalog);
        self.sources.extend(later.sources);
    }
}

impl State {
    pub(crate) fn new(dedupe_window: usize) -> Self {
        Self {
            next: Offset::ZERO,
            names: Arc::default(),
            window: Window::new(dedupe_window),
            catalog: Catalog::default(),
            sources: Sources::default(),
        }
    }

    /// Takes in a batch that is being admitted at `self.next`.
    pub(crate) fn admit(
        &mut self,
        rows: u32,
        identities: impl IntoIterator<Item = Identity>,
        mentioned: &[Mention],
        creating: &[Table],
        origins: &[Origin],
    ) -> Changes {
        let mut changes = Changes::default();
        let first = self.next;
        for identity in identities {
            self.window
                .insert(&identity, first.advance(identity.ord.into()));
        }
        for mention in mentioned {
            changes.names.extend(self.name(mention));
        }
        changes.catalog = self.merge_created(creating);
        changes.sources = origins
            .iter()
            .map(|origin| self.sources.note(SourceState::new(origin, first)))
            .collect();
        self.next = first.advance(rows.into());
        changes
    }

    pub(super) fn name(&self, mention: &Mention) -> Option<NamedEntity> {
        let parent = match &mention.parent {
            Some(model) => self
                .names
                .id(EntityKind::Model, model)
                .expect("a model is mentioned before its versions"),
            None => 0,
        };
        self.names.assign(mention.kind, parent, &mention.name).1
    }

    fn merge_created(&mut self, tables: &[Table]) -> Vec<Before> {
        let mut before = Vec::new();
        for table in tables
            .iter()
            .filter(|table| catalog::created_by(table.kind()).is_some())
        {
            before.extend(
                (0..table.rows()).filter_map(|row| self.catalog.merge(table, row, &self.names)),
            );
        }
        before
    }

    /// Takes back what the batch that started at `first` changed; the latest batch first.
    pub(crate) fn undo(&mut self, first: Offset, changes: Changes) {
        for undo in changes.sources.into_iter().rev() {
            self.sources.undo(undo);
        }
        for before in changes.catalog.into_iter().rev() {
            self.catalog.undo(before);
        }
        for named in changes.names.iter().rev() {
            self.names.forget(named);
        }
        self.window.forget_from(first);
        self.next = first;
    }

    /// Takes in a batch read from the log. Answers `false` if its names contradict those known, which damage alone can
    /// cause.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn fold(&mut self, batch: &LoggedBatch) -> bool {
        let sound = self.fold_rest(batch);
        if sound {
            self.remember(batch);
        }
        sound
    }

    /// Takes in a batch read from the log, save the identities of its events. Answers `false` if its names contradict those
    /// known, which damage alone can cause.
    pub(crate) fn fold_rest(&mut self, batch: &LoggedBatch) -> bool {
        for named in &batch.names {
            if !self.names.insert(named) {
                return false;
            }
        }
        self.merge_created(&batch.tables);
        for origin in &batch.origins {
            self.sources
                .note(SourceState::new(origin, batch.first_offset));
        }
        self.next = batch.end();
        // Names that older writers did not state would have to be derived; there are none.
        debug_assert!(
            mentions(&batch.tables)
                .iter()
                .all(|mention| self.knows(mention))
        );
        true
    }

    /// Takes in the identities of a batch read from the log.
    pub(crate) fn remember(&mut self, batch: &LoggedBatch) {
        let mut identities: Vec<_> = batch
            .tables
            .iter()
            .flat_map(|table| table.identities(Some(batch.append_time)))
            .collect();
        identities.sort_by_key(|identity| identity.ord);
        self.window.mark(batch.append_time);
        for identity in identities {
            // An identity that left the window may have been used again.
            if self.window.get(identity.key).is_none() {
                self.window
                    .insert(&identity, batch.first_offset.advance(identity.ord.into()));
            }
        }
    }

    pub(super) fn knows(&self, mention: &Mention) -> bool {
        match &mention.parent {
            None => self.names.id(mention.kind, &mention.name).is_some(),
            Some(model) => self
                .names
                .id(EntityKind::Model, model)
                .is_some_and(|model| self.names.version_id(model, &mention.name).is_some()),
        }
    }

    /// Takes in what a segment's first frame says of sources, if the fold has come to that segment's start.
    pub(crate) fn fold_sources(&mut self, segment_first: Offset, sources: Vec<SourceState>) {
        if self.next == segment_first {
            self.sources.replace_lasting(sources);
        }
    }

    /// Notes the time of an append.
    pub(crate) fn mark(&mut self, now: Timestamp) {
        self.window.mark(now);
    }
}
