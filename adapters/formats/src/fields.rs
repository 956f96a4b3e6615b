//! What the names in an event stand for, found by expecting what came last time.
//!
//! A producer writes the fields of a kind in one order, event after event. So for every field the reader remembers
//! which one came after it, and compares that name first; only where the expectation fails is the name looked up.
//! Remembering successors, not places, lets optional fields come and go at the price of one look-up each.

use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self, FieldType};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// `type`: the kind of the event.
    Type,
    Column(usize, FieldType),
    /// What a log adds to events it gives out. The log that takes an event sets its own.
    OfTheLog,
    Unknown,
}

/// A name that is expected, with what it stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) name: &'static str,
    pub(crate) meaning: Meaning,
}

/// A field one may have come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl Place {
    /// Before the first field.
    pub(crate) const START: Self = Self(0);

    /// The place a field is, if it is one that comes in events as a rule.
    #[inline]
    pub(crate) fn of(meaning: Meaning) -> Option<Self> {
        match meaning {
            Meaning::Type => Some(Self(1)),
            Meaning::Column(column, _) => Some(Self(column + 2)),
            Meaning::OfTheLog | Meaning::Unknown => None,
        }
    }
}

/// Which field came after which, for one kind.
#[derive(Debug)]
pub(crate) struct FieldOrder {
    kind: Kind,
    next: Vec<Option<Expected>>,
}

impl FieldOrder {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            next: vec![None; schema::column_count(kind) + 2],
        }
    }

    /// What came after a field last time.
    #[inline]
    pub(crate) fn expected(&self, after: Place) -> Option<Expected> {
        self.next[after.0]
    }

    /// What a name stands for; expects it after the same field from now on.
    pub(crate) fn look_up(&mut self, name: &str, after: Place) -> Meaning {
        let found = look_up(self.kind, name);
        if found.is_some() {
            self.next[after.0] = found;
        }
        found.map_or(Meaning::Unknown, |expected| expected.meaning)
    }
}

/// What a name stands for in events of a kind.
pub(crate) fn look_up(kind: Kind, name: &str) -> Option<Expected> {
    for of_the_log in ["log_offset", "append_time"] {
        if name == of_the_log {
            return Some(Expected {
                name: of_the_log,
                meaning: Meaning::OfTheLog,
            });
        }
    }
    if name == "type" {
        return Some(Expected {
            name: "type",
            meaning: Meaning::Type,
        });
    }
    let column = schema::find_column(kind, name)?;
    let field = schema::field(kind, column);
    let aliases = ["input_data", "output_data"];
    let alias = aliases.into_iter().find(|alias| *alias == name);
    Some(Expected {
        name: alias.unwrap_or(field.name),
        meaning: Meaning::Column(column, field.ty),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_under_the_name_it_is_expected_by() {
        for kind in Kind::ALL {
            for field in schema::fields(kind).skip(1) {
                let found = look_up(kind, field.name).expect("the kind has the field");
                assert_eq!(found.name, field.name);
                assert!(matches!(found.meaning, Meaning::Column(column, _)
                        if schema::field(kind, column).name == field.name));
            }
            assert!(look_up(kind, "ord").is_none());
        }
        let alias = look_up(Kind::PredictionLogged, "input_data").expect("an alias");
        assert_eq!(alias.name, "input_data");
        assert!(
            matches!(alias.meaning, Meaning::Column(column, FieldType::Json)
                if schema::field(Kind::PredictionLogged, column).name == "input")
        );
    }

    #[test]
    fn the_last_successor_is_expected() {
        let mut order = FieldOrder::new(Kind::MetricLogged);
        assert!(order.expected(Place::START).is_none());
        let meaning = order.look_up("run", Place::START);
        let run = Place::of(meaning).expect("a column");
        order.look_up("step", run);
        order.look_up("value", run);
        order.look_up("no such field", run);
        assert_eq!(
            order.expected(Place::START).map(|next| next.name),
            Some("run")
        );
        assert_eq!(order.expected(run).map(|next| next.name), Some("value"));
    }
}
