//! The names of keys.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;

use crate::fold::feed::Feed;

/// Whose series they are: a run's or a version's.
pub(crate) type Owner = (EntityKind, EntityId);

/// Makes keys below a prefix: those that everybody reads, or those aside, where the store is built again.
///
/// Aside, a key is `aidb:rebuild:{aidb:model:1}`: as a hash tag, what stands in the braces puts both into one slot, wherever
/// slots matter. No rest has a brace in it.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Arc<str>,
    aside: bool,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            aside: false,
        }
    }

    /// The same store, aside.
    pub(crate) fn aside(&self) -> Self {
        Self {
            prefix: Arc::clone(&self.prefix),
            aside: true,
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key with this rest.
    pub(crate) fn key(&self, rest: impl fmt::Display) -> String {
        let place = format!("{}:{rest}", self.prefix);
        if self.aside {
            self.of_place(&place)
        } else {
            place
        }
    }

    /// What finds every key: those aside, or all there are.
    pub(crate) fn pattern(&self) -> String {
        let all = if self.aside { ":rebuild:*" } else { ":*" };
        format!("{}{all}", self.prefix)
    }

    /// What the keys of streams begin with. They are the feed of the log, not of a store, and never aside.
    pub(crate) fn streams(&self) -> String {
        format!("{}:stream:", self.prefix)
    }

    pub(crate) fn stream(&self, feed: Feed) -> String {
        format!("{}:stream:{feed}", self.prefix)
    }

    pub(crate) fn channel(&self, feed: Feed) -> String {
        format!("{}:live:{feed}", self.prefix)
    }

    /// The key aside for a place.
    pub(crate) fn of_place(&self, place: &str) -> String {
        format!("{}:rebuild:{{{place}}}", self.prefix)
    }

    /// Where a key aside belongs; none if it is not aside.
    pub(crate) fn place_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(&*self.prefix)?;
        rest.strip_prefix(":rebuild:{")?.strip_suffix('}')
    }

    pub(crate) fn entity(&self, kind: EntityKind, id: EntityId) -> String {
        self.key(format_args!("{}:{id}", kind.name()))
    }

    /// The index of entities; of versions, that of their model.
    pub(crate) fn index(&self, kind: EntityKind, parent: EntityId) -> String {
        match kind {
            EntityKind::Version => self.key(format_args!("idx:versions:{parent}")),
            _ => self.key(format_args!("idx:{}s", kind.name())),
        }
    }

    /// Names to numbers; of versions, those of their model.
    pub(crate) fn names(&self, kind: EntityKind, parent: EntityId) -> String {
        match kind {
            EntityKind::Version => self.key(format_args!("idx:name:version:{parent}")),
            _ => self.key(format_args!("idx:name:{}", kind.name())),
        }
    }

    pub(crate) fn series(&self, owner: Owner) -> String {
        self.key(format_args!("series:{}", Owned(owner)))
    }

    pub(crate) fn points(&self, owner: Owner, series: &str) -> String {
        self.key(format_args!("metric:{}:{series}", Owned(owner)))
    }

    pub(crate) fn predictions(&self, version: EntityId) -> String {
        self.key(format_args!("idx:predictions:{version}"))
    }

    /// A prediction, by what follows in its key.
    pub(crate) fn prediction(&self, rest: &str) -> String {
        self.key(format_args!("prediction:{rest}"))
    }

    pub(crate) fn checkpoint(&self) -> String {
        self.key("checkpoint")
    }

    pub(crate) fn left(&self) -> String {
        self.key("left")
    }

    pub(crate) fn stats(&self, version: Option<EntityId>) -> String {
        match version {
            None => self.key("stats"),
            Some(version) => self.key(format_args!("stats:version:{version}")),
        }
    }
}

/// The owner of a series as it is written in keys.
struct Owned(Owner);

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (EntityKind::Version, id) => write!(f, "version:{id}"),
            (_, id) => id.fmt(f),
        }
    }
}

/// Appends a name as it is written in keys.
fn encode(name: &str, out: &mut String) {
    for letter in name.chars() {
        match letter {
            '%' | ':' | '{' | '}' => write!(out, "%{:02X}", letter as u32).expect("it is a string"),
            letter => out.push(letter),
        }
    }
}

/// A name as it is written in keys.
pub(crate) fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    encode(name, &mut out);
    out
}

/// A series as it is written in keys: `name:split`.
pub(crate) fn series(name: &str, split: Option<&str>) -> String {
    let mut out = encoded(name);
    out.push(':');
    match split {
        None => out.push('_'),
        // The one split that would look like none.
        Some("_") => out.push_str("%5F"),
        Some(split) => encode(split, &mut out),
    }
    out
}

/// The name and split of a series; none if it is not written so.
pub(crate) fn series_names(text: &str) -> Option<(String, Option<String>)> {
    let (name, split) = text.split_once(':')?;
    let split = match split {
        "_" => None,
        split => Some(decoded(split)?),
    };
    Some((decoded(name)?, split))
}

/// What a name in a key was; none if it is not written so.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        out.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        out.push_str(rest);
    }
    Some(out)
}

/// A member of a sorted set that is in the order of offsets where scores are equal.
pub(crate) fn member(offset: u64, rest: &str) -> String {
    format!("{offset:020}{rest}")
}

/// An offset and the rest of such a member.
pub(crate) fn of_member(member: &str) -> Option<(u64, &str)> {
    let (offset, rest) = member.split_at_checked(20)?;
    Some((offset.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_never_meet() {
        let names = ["loss", "a:b", "a%3Ab", "{x}", "é", "_", "", "%"];
        let mut all = std::collections::HashSet::new();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            for split in names.into_iter().map(Some).chain([None]) {
                let text = series(name, split);
                let found = series_names(&text).unwrap();
                assert_eq!((found.0.as_str(), found.1.as_deref()), (name, split));
                assert!(all.insert(text));
            }
        }
        assert_eq!(series("val:loss", Some("train")), "val%3Aloss:train");
        assert_eq!(series("loss", None), "loss:_");
    }

    #[test]
    fn keys_aside_name_their_places() {
        let keys = Keys::new("aidb");
        let (place, aside) = (keys.key("model:1"), keys.aside().key("model:1"));
        assert_eq!(aside, "aidb:rebuild:{aidb:model:1}");
        assert_eq!(keys.place_of(&aside), Some(place.as_str()));
        assert_eq!(keys.place_of(&place), None);
        assert_eq!(keys.aside().stream(Feed::Events), "aidb:stream:events");
    }

    #[test]
    fn members_are_in_the_order_of_offsets() {
        assert!(member(9, ":p") < member(10, ":a"));
        assert_eq!(
            of_member(&member(u64::MAX, ":p:2")),
            Some((u64::MAX, ":p:2"))
        );
        assert_eq!(of_member("12:p"), None);
    }
}
