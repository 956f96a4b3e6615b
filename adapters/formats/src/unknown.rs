//! Fields the kind does not have: kept in `extra`, counted by name.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::error::{Code, Fault, Faulty, shown};

/// The unknown fields of one event. Its buffers are used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    /// `,"name":value` for each, as they were written.
    members: String,
    /// Names without escapes, one after the other.
    names: String,
    fields: Vec<Field>,
    /// The same names, once there are too many to look through.
    set: HashSet<Box<str>>,
}

/// One unknown field: where its name lies, and where its member ends.
#[derive(Debug)]
struct Field {
    name: Range<usize>,
    members_end: usize,
}

/// More names than this are looked up in a set.
const LOOKED_THROUGH_MAX: usize = 32;

impl Unknown {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Forgets all but the first few.
    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        if self.fields.len() <= len {
            return;
        }
        self.fields.truncate(len);
        let last = self.fields.last();
        self.members
            .truncate(last.map_or(0, |field| field.members_end));
        self.names.truncate(last.map_or(0, |field| field.name.end));
        self.set.clear();
    }

    /// Adds a field. `raw_name` is the name as it was written, without quotes; `at` is where it stands.
    pub(crate) fn add(&mut self, name: &str, raw_name: &str, value: &str, at: usize) -> Faulty<()> {
        if !self.is_new(name) {
            let message = format!("the field {:?} is given twice", shown(name));
            return Err(Fault::new(Code::RepeatedField, at, message).in_field(name));
        }
        let start = self.names.len();
        self.names.push_str(name);
        for part in [",\"", raw_name, "\":", value] {
            self.members.push_str(part);
        }
        self.fields.push(Field {
            name: start..self.names.len(),
            members_end: self.members.len(),
        });
        Ok(())
    }

    fn is_new(&mut self, name: &str) -> bool {
        if self.fields.len() < LOOKED_THROUGH_MAX {
            return self.names().all(|known| known != name);
        }
        if self.set.is_empty() {
            self.set = self.names().map(Box::from).collect();
        }
        self.set.insert(name.into())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .map(|field| &self.names[field.name.clone()])
    }

    /// Writes the object of all of them, after the members of an `extra` the producer gave.
    pub(crate) fn write_object(&self, given: Option<&str>, out: &mut String) {
        let inner = given.map_or("", |object| {
            let object = object.trim();
            object[1..object.len() - 1].trim()
        });
        out.clear();
        out.push('{');
        if inner.is_empty() {
            out.push_str(&self.members[1..]);
        } else {
            out.push_str(inner);
            out.push_str(&self.members);
        }
        out.push('}');
    }

    /// Adds them to the counts; under `…` once there are `names_max` names.
    pub(crate) fn count_in(&self, counts: &mut BTreeMap<String, u64>, names_max: usize) {
        for name in self.names() {
            count(counts, name, 1, names_max);
        }
    }
}

/// Counts a field's name; under `…` once there are `names_max` names.
pub(crate) fn count(counts: &mut BTreeMap<String, u64>, name: &str, count: u64, names_max: usize) {
    if let Some(known) = counts.get_mut(name) {
        *known += count;
        return;
    }
    let name = if counts.len() < names_max {
        shown(name)
    } else {
        "…".to_owned()
    };
    *counts.entry(name).or_default() += count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_however_many_there_are() {
        let mut unknown = Unknown::default();
        for round in 0..2 {
            unknown.truncate(0);
            for number in 0..100 {
                let name = format!("n{number}");
                unknown.add(&name, &name, "1", 0).expect("a new name");
            }
            for number in [0, 31, 32, 33, 99] {
                let name = format!("n{number}");
                let fault = unknown.add(&name, &name, "1", 7).expect_err("known");
                assert_eq!(
                    (fault.code, fault.at),
                    (Code::RepeatedField, 7),
                    "round {round}"
                );
            }
        }
        let mut counts = BTreeMap::new();
        unknown.count_in(&mut counts, 10);
        unknown.count_in(&mut counts, 10);
        assert_eq!(counts.len(), 11);
        assert_eq!((counts["n9"], counts["…"]), (2, 180));
    }

    #[test]
    fn members_follow_those_that_were_given() {
        let mut unknown = Unknown::default();
        unknown.add("a", "a", "[ 1 ]", 0).expect("a new name");
        unknown.add("é", "\\u00e9", "2", 0).expect("a new name");
        let mut out = String::new();
        for (given, expected) in [
            (None, r#"{"a":[ 1 ],"\u00e9":2}"#),
            (Some("{ }"), r#"{"a":[ 1 ],"\u00e9":2}"#),
            (Some(r#"{"b" : 3 }"#), r#"{"b" : 3,"a":[ 1 ],"\u00e9":2}"#),
        ] {
            unknown.write_object(given, &mut out);
            assert_eq!(out, expected);
        }
    }
}
