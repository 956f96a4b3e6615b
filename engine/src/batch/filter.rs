//! Which events of the log a reader wants.

use super::{Row, Table};
use crate::Timestamp;
use crate::event::{EntityKind, EntityRef, Kind, schema};

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind.number()) != 0
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .fold(0, |mask, kind| mask | 1 << kind.number()),
        )
    }
}

/// What an event must be to be shown. A condition that is absent holds for every event.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Events of these kinds.
    pub kinds: Option<Kinds>,
    /// Events that name this model, also as part of a reference to it or to one of its versions.
    pub model: Option<String>,
    /// Events that name this run.
    pub run: Option<String>,
    /// Event time, inclusive.
    pub since: Option<Timestamp>,
    /// Event time, exclusive.
    pub to: Option<Timestamp>,
}

/// Where a kind names a model or a run.
#[derive(Clone, Copy, Debug)]
enum Mention {
    Name(usize),
    Reference(usize),
}

impl Mention {
    fn of(kind: Kind, field: &str) -> Option<Self> {
        schema::find_column(kind, field)
            .map(Self::Name)
            .or_else(|| schema::find_column(kind, "entity").map(Self::Reference))
    }

    fn names(self, row: Row<'_>, entity: EntityKind, name: &str) -> bool {
        match self {
            Self::Name(column) => row.text(column) == Some(name),
            Self::Reference(column) => row
                .text(column)
                .and_then(|text| text.parse::<EntityRef>().ok())
                .is_some_and(|reference| {
                    // A version belongs to its model.
                    (reference.kind == entity && reference.name == name)
                        || (entity == EntityKind::Model
                            && reference.parent.as_deref() == Some(name))
                }),
        }
    }
}

/// A filter as it applies to the events of one kind.
#[derive(Clone, Copy, Debug)]
pub struct KindFilter<'a> {
    model: Option<(Mention, &'a str)>,
    run: Option<(Mention, &'a str)>,
    since: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Filter {
    /// Whether an event is wanted. For many, [`on`](Self::on) looks up once what depends on the kind.
    #[must_use]
    pub fn takes(&self, row: Row<'_>) -> bool {
        self.on(row.place().0)
            .is_some_and(|filter| filter.takes(row))
    }

    /// The filter for the rows of a table; none if no row of its kind can be wanted.
    #[must_use]
    pub fn on(&self, table: &Table) -> Option<KindFilter<'_>> {
        let kind = table.kind();
        if self.kinds.is_some_and(|kinds| !kinds.has(kind)) {
            return None;
        }
        Some(KindFilter {
            model: mention(kind, "model", self.model.as_deref())?,
            run: mention(kind, "run", self.run.as_deref())?,
            since: self.since,
            to: self.to,
        })
    }
}

/// Where the wanted name must stand: `Some(None)` if none is wanted, `None` if the kind names no such thing.
fn mention<'a>(
    kind: Kind,
    field: &str,
    wanted: Option<&'a str>,
) -> Option<Option<(Mention, &'a str)>> {
    match wanted {
        None => Some(None),
        Some(name) => Mention::of(kind, field).map(|mention| Some((mention, name))),
    }
}

impl KindFilter<'_> {
    /// Whether the event is wanted.
    #[must_use]
    pub fn takes(&self, row: Row<'_>) -> bool {
        let named = |wanted: Option<(Mention, &str)>, entity| {
            wanted.is_none_or(|(mention, name)| mention.names(row, entity, name))
        };
        // Times are looked at only if they are asked for: most readers want them all.
        self.since.is_none_or(|since| row.time() >= since)
            && self.to.is_none_or(|to| row.time() < to)
            && named(self.model, EntityKind::Model)
            && named(self.run, EntityKind::Run)
    }
}
