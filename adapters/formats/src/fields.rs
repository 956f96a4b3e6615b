//! What the names in an event stand for, found by expecting what came last time.
//!
//! A producer writes the fields of a kind in one order, event after event. So for every field the reader remembers
//! which one came after it, and compares that name first; only where the expectation fails is the name looked up.
//! Remembering successors, not places, lets optional fields come and go at the price of one look-up each.

use std::cell::Cell;

use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self, FieldType};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// `type`: the kind of the event.
    Type,
    Column(u8, Form),
    /// What a log adds to events it gives out. The log that takes an event sets its own.
    OfTheLog,
    Unknown,
}

/// How the values of a column are written: its field's type, without what only the engine checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
    Int,
    Float,
    Bool,
    Time,
    /// The one column that unknown fields share.
    Extra,
    /// None that a producer may give.
    Internal,
}

impl Form {
    pub(crate) fn of(column: usize, ty: FieldType) -> Self {
        match ty {
            _ if column == schema::EXTRA => Self::Extra,
            FieldType::Text | FieldType::Name(_) | FieldType::Word(_) | FieldType::Entity => {
                Self::Text
            }
            FieldType::Json | FieldType::JsonObject => Self::Json,
            FieldType::Int => Self::Int,
            FieldType::Float => Self::Float,
            FieldType::Bool => Self::Bool,
            FieldType::Time => Self::Time,
            FieldType::Bytes | FieldType::Ord => Self::Internal,
        }
    }
}

/// A name that is expected, with what it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) key: Key,
    pub(crate) meaning: Meaning,
    /// Where its own successor is remembered.
    pub(crate) place: Place,
}

/// A field one may have come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(u8);

impl Place {
    /// Before the first field.
    pub(crate) const START: Self = Self(0);
    const TYPE: Self = Self(1);

    /// How many there are besides the columns.
    const COUNT: usize = 2;

    const fn column(column: usize) -> Self {
        Self((column + Self::COUNT) as u8)
    }
}

/// A name as it stands before its value: `name":`.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    name: &'static str,
    /// The key in words, and which of their bits count; all of them where it is longer.
    words: [u64; Self::WORDS],
    masks: [u64; Self::WORDS],
}

impl Key {
    const WORDS: usize = 3;
    const BYTES: usize = Self::WORDS * size_of::<u64>();

    fn new(name: &'static str) -> Self {
        let (mut bytes, mut mask) = ([0; Self::BYTES], [0; Self::BYTES]);
        let key = name.bytes().chain(*b"\":");
        for ((byte, bit), expected) in bytes.iter_mut().zip(&mut mask).zip(key) {
            (*byte, *bit) = (expected, 0xff);
        }
        Self {
            name,
            words: words(&bytes),
            masks: words(&mask),
        }
    }

    /// How many bytes it takes, if a text starts with it.
    #[inline]
    pub(crate) fn starts(&self, text: &[u8]) -> Option<usize> {
        let length = self.name.len() + 2;
        // Names are too short for a comparison of memory to pay.
        let found = match text.first_chunk() {
            Some(chunk) if length <= Self::BYTES => {
                let found = words(chunk);
                let differs = |at: usize| (found[at] ^ self.words[at]) & self.masks[at];
                differs(0) | differs(1) | differs(2) == 0
            }
            _ => text
                .strip_prefix(self.name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"\":")),
        };
        found.then_some(length)
    }
}

#[inline]
fn words(bytes: &[u8; Key::BYTES]) -> [u64; Key::WORDS] {
    let (words, _) = bytes.as_chunks();
    [0, 1, 2].map(|at| u64::from_le_bytes(words[at]))
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
            next: vec![None; schema::column_count(kind) + Place::COUNT],
        }
    }

    /// What came after a field last time.
    #[inline]
    pub(crate) fn expected(&self, after: Place) -> Option<&Expected> {
        self.next[usize::from(after.0)].as_ref()
    }

    /// What a name stands for, and where one is then; expects it after the same field from now on.
    pub(crate) fn look_up(&mut self, name: &str, after: Place) -> (Meaning, Place) {
        let Some(found) = look_up(self.kind, name) else {
            return (Meaning::Unknown, after);
        };
        // What a log adds has no place of its own.
        if found.meaning == Meaning::OfTheLog {
            return (found.meaning, after);
        }
        let known = (found.meaning, found.place);
        self.next[usize::from(after.0)] = Some(found);
        known
    }
}

/// The orders of all kinds. Each thread keeps what it learned from one body to the next: most bodies are small, and come
/// from few producers.
#[derive(Debug)]
pub(crate) struct FieldOrders(Learned);

type Learned = [Option<Box<FieldOrder>>; Kind::ALL.len()];

thread_local! {
    static LEARNED: Cell<Learned> = Cell::default();
}

impl FieldOrders {
    /// What this thread has learned; nothing while another reader on it has that.
    pub(crate) fn of_this_thread() -> Self {
        Self(LEARNED.take())
    }

    /// Takes out the order of a kind; it is to be put back.
    pub(crate) fn take(&mut self, kind: Kind) -> Box<FieldOrder> {
        let order = self.0[usize::from(kind.number())].take();
        order.unwrap_or_else(|| Box::new(FieldOrder::new(kind)))
    }

    pub(crate) fn put_back(&mut self, order: Box<FieldOrder>) {
        let number = usize::from(order.kind.number());
        self.0[number] = Some(order);
    }
}

impl Drop for FieldOrders {
    fn drop(&mut self) {
        let learned = std::mem::take(&mut self.0);
        // A thread that ends has no use for it.
        let _ = LEARNED.try_with(|kept| kept.set(learned));
    }
}

/// What a name stands for in events of a kind.
pub(crate) fn look_up(kind: Kind, name: &str) -> Option<Expected> {
    for of_the_log in ["log_offset", "append_time"] {
        if name == of_the_log {
            return Some(Expected {
                key: Key::new(of_the_log),
                meaning: Meaning::OfTheLog,
                place: Place::START,
            });
        }
    }
    if name == "type" {
        return Some(Expected {
            key: Key::new("type"),
            meaning: Meaning::Type,
            place: Place::TYPE,
        });
    }
    let column = schema::find_column(kind, name)?;
    let field = schema::field(kind, column);
    let aliases = ["input_data", "output_data"];
    let alias = aliases.into_iter().find(|alias| *alias == name);
    Some(Expected {
        key: Key::new(alias.unwrap_or(field.name)),
        meaning: Meaning::Column(column as u8, Form::of(column, field.ty)),
        place: Place::column(column),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_under_the_name_it_is_expected_by() {
        for kind in Kind::ALL {
            for (column, field) in schema::fields(kind).enumerate().skip(1) {
                let found = look_up(kind, field.name).expect("the kind has the field");
                assert_eq!(found.key.name, field.name);
                let form = Form::of(column, field.ty);
                assert_eq!(found.meaning, Meaning::Column(column as u8, form));
            }
            assert!(look_up(kind, "ord").is_none());
        }
        let alias = look_up(Kind::PredictionLogged, "input_data").expect("an alias");
        let input = schema::column(Kind::PredictionLogged, "input") as u8;
        assert_eq!(alias.key.name, "input_data");
        assert_eq!(alias.meaning, Meaning::Column(input, Form::Json));
    }

    #[test]
    fn the_last_successor_is_expected() {
        let mut order = FieldOrder::new(Kind::MetricLogged);
        assert!(order.expected(Place::START).is_none());
        let (_, run) = order.look_up("run", Place::START);
        order.look_up("step", run);
        order.look_up("value", run);
        order.look_up("no such field", run);
        order.look_up("log_offset", run);
        let name = |place| order.expected(place).map(|next| next.key.name);
        assert_eq!(name(Place::START), Some("run"));
        assert_eq!(name(run), Some("value"));
    }

    #[test]
    fn keys_are_told_from_all_others() {
        for kind in Kind::ALL {
            for field in schema::fields(kind) {
                let key = Key::new(field.name);
                let text = format!("{}\":1", field.name);
                for padding in [0, 30] {
                    let text = format!("{text}{}", " ".repeat(padding));
                    assert_eq!(key.starts(text.as_bytes()), Some(field.name.len() + 2));
                    for at in 0..field.name.len() + 2 {
                        let mut other = text.clone().into_bytes();
                        other[at] ^= 1;
                        assert_eq!(key.starts(&other), None);
                        assert_eq!(key.starts(&text.as_bytes()[..at]), None);
                    }
                }
            }
        }
    }
}
