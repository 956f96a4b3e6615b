//! Which entities a batch names: found by the caller's thread, so that admission looks each name up once.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::Timestamp;
use crate::batch::Table;
use crate::event::schema::{self, column};
use crate::event::{EntityKind, EntityRef, Kind};

/// A name that must have a number before the batch is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mention {
    pub(crate) kind: EntityKind,
    /// The model, for a version.
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
}

/// Columns that name entities of one kind.
const NAMING: &[(Kind, EntityKind, usize)] = &[
    (
        Kind::ModelCreated,
        EntityKind::Model,
        column(Kind::ModelCreated, "model"),
    ),
    (
        Kind::DatasetRegistered,
        EntityKind::Dataset,
        column(Kind::DatasetRegistered, "dataset"),
    ),
    (
        Kind::DatasetUsed,
        EntityKind::Run,
        column(Kind::DatasetUsed, "run"),
    ),
    (
        Kind::DatasetUsed,
        EntityKind::Dataset,
        column(Kind::DatasetUsed, "dataset"),
    ),
    (
        Kind::ExperimentCreated,
        EntityKind::Experiment,
        column(Kind::ExperimentCreated, "experiment"),
    ),
    (
        Kind::ModelVersionCreated,
        EntityKind::Run,
        column(Kind::ModelVersionCreated, "run"),
    ),
    (
        Kind::RunStarted,
        EntityKind::Run,
        column(Kind::RunStarted, "run"),
    ),
    (
        Kind::RunStarted,
        EntityKind::Run,
        column(Kind::RunStarted, "parent"),
    ),
    (
        Kind::RunStarted,
        EntityKind::Experiment,
        column(Kind::RunStarted, "experiment"),
    ),
    (
        Kind::RunStarted,
        EntityKind::Dataset,
        column(Kind::RunStarted, "dataset"),
    ),
    (
        Kind::HyperparametersLogged,
        EntityKind::Run,
        column(Kind::HyperparametersLogged, "run"),
    ),
    (
        Kind::MetricLogged,
        EntityKind::Run,
        column(Kind::MetricLogged, "run"),
    ),
    (
        Kind::ArtifactLogged,
        EntityKind::Run,
        column(Kind::ArtifactLogged, "run"),
    ),
    (
        Kind::RunFinished,
        EntityKind::Run,
        column(Kind::RunFinished, "run"),
    ),
];

/// Columns that name a model and, where given, a version of it.
const NAMING_VERSIONS: &[(Kind, usize, usize)] = &[
    versions(Kind::ModelVersionCreated),
    versions(Kind::ModelVersionAliased),
    versions(Kind::RunStarted),
    versions(Kind::MetricLogged),
    versions(Kind::ArtifactLogged),
    versions(Kind::PredictionLogged),
    versions(Kind::FeedbackLogged),
];

const fn versions(kind: Kind) -> (Kind, usize, usize) {
    (kind, column(kind, "model"), column(kind, "version"))
}

const ENTITY: &[(Kind, usize)] = &[
    (Kind::TagsSet, column(Kind::TagsSet, "entity")),
    (Kind::EntityDeleted, column(Kind::EntityDeleted, "entity")),
    (Kind::EntityRestored, column(Kind::EntityRestored, "entity")),
];

/// Rows of one kind whose text can be looked at.
pub(crate) trait TextRows {
    fn kind(&self) -> Kind;
    fn rows(&self) -> usize;
    fn text(&self, column: usize, row: usize) -> Option<&str>;
    /// When it happened, where the producer said so.
    fn time(&self, row: usize) -> Option<Timestamp>;
}

impl TextRows for Table {
    fn kind(&self) -> Kind {
        Self::kind(self)
    }

    fn rows(&self) -> usize {
        Self::rows(self)
    }

    fn text(&self, column: usize, row: usize) -> Option<&str> {
        Self::text(self, column).get(row)
    }

    fn time(&self, row: usize) -> Option<Timestamp> {
        self.times(schema::TIME).get(row)
    }
}

/// The distinct names in some tables, in an order that depends on the tables alone; a model before its versions.
pub(crate) fn mentions<'a, R: TextRows + 'a>(
    tables: impl IntoIterator<Item = &'a R>,
) -> Vec<Mention> {
    let mut found = Found::default();
    for table in tables {
        for (_, entity, column) in NAMING.iter().filter(|(kind, ..)| *kind == table.kind()) {
            found.column(table, *entity, *column);
        }
        for (_, model, version) in NAMING_VERSIONS
            .iter()
            .filter(|(kind, ..)| *kind == table.kind())
        {
            found.versions(table, *model, *version);
        }
        for (_, column) in ENTITY.iter().filter(|(kind, _)| *kind == table.kind()) {
            found.references(table, *column);
        }
    }
    found.mentions
}

#[derive(Default)]
struct Found {
    mentions: Vec<Mention>,
    /// Places in `mentions`, by what stands there.
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl Mention {
    /// What is compared, and hashed.
    fn key(&self) -> (EntityKind, Option<&str>, &str) {
        (self.kind, self.parent.as_deref(), &self.name)
    }
}

impl Found {
    fn add(&mut self, kind: EntityKind, parent: Option<&str>, name: &str) {
        let Self {
            mentions,
            places,
            hasher,
        } = self;
        let key = (kind, parent, name);
        let hash = hasher.hash_one(key);
        if places
            .find(hash, |place| mentions[*place].key() == key)
            .is_some()
        {
            return;
        }
        places.insert_unique(hash, mentions.len(), |place| {
            hasher.hash_one(mentions[*place].key())
        });
        mentions.push(Mention {
            kind,
            parent: parent.map(str::to_owned),
            name: name.to_owned(),
        });
    }

    fn column(&mut self, table: &impl TextRows, kind: EntityKind, column: usize) {
        let mut last = None;
        for row in 0..table.rows() {
            let name = table.text(column, row);
            if name != last
                && let Some(name) = name
            {
                self.add(kind, None, name);
            }
            last = name;
        }
    }

    fn versions(&mut self, table: &impl TextRows, model: usize, version: usize) {
        // A few versions usually take turns: the last ones are compared before anything is hashed or copied.
        let mut recent: [(Option<&str>, Option<&str>); 4] = [(None, None); 4];
        for row in 0..table.rows() {
            let pair = (table.text(model, row), table.text(version, row));
            if recent.contains(&pair) {
                continue;
            }
            recent.rotate_right(1);
            recent[0] = pair;
            let Some(model) = pair.0 else { continue };
            self.add(EntityKind::Model, None, model);
            if let Some(version) = pair.1 {
                self.add(EntityKind::Version, Some(model), version);
            }
        }
    }

    fn references(&mut self, table: &impl TextRows, column: usize) {
        for row in 0..table.rows() {
            let Some(Ok(EntityRef { kind, parent, name })) =
                table.text(column, row).map(str::parse)
            else {
                continue;
            };
            if let Some(model) = &parent {
                self.add(EntityKind::Model, None, model);
            }
            self.add(kind, parent.as_deref(), &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;

    use super::*;
    use crate::batch::EventBatch;
    use crate::event::{Event, PredictionLogged};

    #[test]
    fn names_are_mentioned_once_however_they_take_turns() {
        let events: Vec<Event> = (0..100_usize)
            .map(|at| {
                let prediction = PredictionLogged {
                    model: format!("m{}", at * 7 % 10),
                    version: format!("v{}", at % 3),
                    ..PredictionLogged::default()
                };
                prediction.into()
            })
            .collect();
        let tables = EventBatch::from_events(&events)
            .unwrap()
            .into_parts()
            .tables;
        let found = mentions(&tables);
        let of = |kind| found.iter().filter(move |mention| mention.kind == kind);
        assert_eq!(of(EntityKind::Model).count(), 10);
        assert_eq!(of(EntityKind::Version).count(), 30);
        let distinct: HashSet<_> = found.iter().collect();
        assert_eq!(distinct.len(), found.len());
        assert_eq!(
            (found[0].name.as_str(), found[1].parent.as_deref()),
            ("m0", Some("m0"))
        );
    }
}
