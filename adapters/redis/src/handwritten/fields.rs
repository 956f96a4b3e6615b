//! The fields of a hash, taken by the names they go by; what nobody takes is left for the tags.

use std::collections::BTreeMap;

use modelog_engine::Timestamp;

use super::bad::Bad;
use super::values;

/// A value, as text; and as JSON, if it came as JSON.
#[derive(Clone, Debug)]
struct Value {
    text: String,
    json: Option<String>,
}

impl Value {
    fn into_json(self) -> String {
        self.json.unwrap_or_else(|| values::to_json(&self.text))
    }
}

/// Fields by their names.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) key: String,
    fields: BTreeMap<String, Value>,
}

/// A field that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) text: String,
}

impl Fields {
    /// Of a hash.
    pub(super) fn of_hash(
        key: &str,
        pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, Bad> {
        let mut fields = BTreeMap::new();
        for (name, text) in pairs {
            let name = String::from_utf8(name).map_err(|error| {
                let name = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Bad::of_field(key, &name, "the name of the field is not UTF-8")
            })?;
            let text = String::from_utf8(text)
                .map_err(|_| Bad::of_field(key, &name, "the value is not UTF-8"))?;
            fields.insert(name, Value { text, json: None });
        }
        Ok(Self {
            key: key.into(),
            fields,
        })
    }

    /// Of a JSON object; none if it is no object.
    pub(super) fn of_json(key: &str, text: &str) -> Option<Self> {
        let members = values::members(text)?.into_iter().map(|(name, json)| {
            let text = values::plain(&json);
            let json = Some(json);
            (name, Value { text, json })
        });
        Some(Self {
            key: key.into(),
            fields: members.collect(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All of them, as the members of an object.
    pub(super) fn members(self) -> Vec<(String, String)> {
        let fields = self.fields.into_iter();
        let member = |(name, value): (String, Value)| (name, value.into_json());
        fields.map(member).collect()
    }

    /// A field of any of these names, the first that has a value. Others that say the same, or nothing, go with it.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<Taken> {
        let mut taken: Option<Taken> = None;
        for name in names {
            let Some(Value { text, .. }) = self.fields.get(*name) else {
                continue;
            };
            if values::is_absent(text) {
                self.fields.remove(*name);
            } else if taken.as_ref().is_none_or(|taken| taken.text == *text) {
                let text = text.clone();
                self.fields.remove(*name);
                let name = (*name).into();
                taken.get_or_insert(Taken { name, text });
            }
        }
        taken
    }

    pub(super) fn text(&mut self, names: &[&str]) -> Option<String> {
        self.take(names).map(|taken| taken.text)
    }

    /// A field as it is, without taking it.
    pub(super) fn peek(&self, name: &str) -> Option<Taken> {
        let text = self.fields.get(name)?.text.clone();
        let name = name.into();
        Some(Taken { name, text })
    }

    /// Puts a field back that turned out to be something else.
    pub(super) fn put_back(&mut self, taken: Taken) {
        let Taken { name, text } = taken;
        self.fields.insert(name, Value { text, json: None });
    }

    /// Leaves a field out if it says just this.
    pub(super) fn drop_if(&mut self, name: &str, text: &str) {
        if self
            .fields
            .get(name)
            .is_some_and(|value| value.text == text)
        {
            self.fields.remove(name);
        }
    }

    /// Leaves fields out that only say how the database keeps what it holds.
    pub(super) fn drop_all(&mut self, names: &[&str]) {
        names
            .iter()
            .for_each(|name| drop(self.fields.remove(*name)));
    }

    /// A field that was read by some function.
    pub(super) fn read<T>(
        &mut self,
        names: &[&str],
        what: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Bad> {
        let Some(taken) = self.take(names) else {
            return Ok(None);
        };
        match read(&taken.text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.bad(&taken, what)),
        }
    }

    pub(super) fn time(&mut self, names: &[&str]) -> Result<Option<Timestamp>, Bad> {
        // What is not over, or has not begun, is nought in some programs, and not a time in others.
        let nothing =
            |text: &str| matches!(text.trim(), "0" | "0.0" | "-1" | "nan" | "NaN" | "NaT");
        for name in names {
            if self
                .fields
                .get(*name)
                .is_some_and(|value| nothing(&value.text))
            {
                self.fields.remove(*name);
            }
        }
        self.read(names, "is no time", values::time)
    }

    pub(super) fn bad(&self, taken: &Taken, what: &'static str) -> Bad {
        Bad::of_value(&self.key, &taken.name, &taken.text, what)
    }

    /// What nobody took, as the members of an object: those of `tags` first, then fields by their names. A field whose
    /// name is that of a tag with another value gets an underscore.
    pub(super) fn rest(&mut self) -> Vec<(String, String)> {
        let mut members: Vec<(String, String)> = Vec::new();
        if let Some(taken) = self.take(&["tags"]) {
            match values::members(&taken.text) {
                Some(tags) => members = tags,
                None => members.push(("tags".into(), values::to_json(&taken.text))),
            }
        }
        for (name, value) in std::mem::take(&mut self.fields) {
            let value = value.into_json();
            let name = name.strip_prefix("tag:").unwrap_or(&name);
            let mut name = name.to_owned();
            while members
                .iter()
                .any(|(known, other)| *known == name && *other != value)
            {
                name.push('_');
            }
            if !members.iter().any(|(known, _)| *known == name) {
                members.push((name, value));
            }
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Fields::of_hash("k", pairs).unwrap()
    }

    #[test]
    fn names_are_tried_in_order_and_the_rest_is_kept() {
        let mut all = fields(&[
            ("name", ""),
            ("model_name", "resnet"),
            ("model", "resnet"),
            ("created_at", "0"),
            ("tags", r#"{"stage": "prod", "n": 1}"#),
            ("tag:owner", "alice"),
            ("stage", "dev"),
            ("n", "1"),
            ("old", "None"),
        ]);
        let taken = all.take(&["name", "model_name", "model"]).unwrap();
        assert_eq!((&*taken.name, &*taken.text), ("model_name", "resnet"));
        assert_eq!(all.time(&["created_at"]).unwrap(), None);
        let rest = all.rest();
        let rest: Vec<_> = rest
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let expected = [
            ("stage", "\"prod\""),
            ("n", "1"),
            ("old", "\"None\""),
            ("stage_", "\"dev\""),
            ("owner", "\"alice\""),
        ];
        assert_eq!(rest, expected);
        assert!(all.is_empty());
    }

    #[test]
    fn tags_may_be_a_list() {
        let mut all = fields(&[("tags", r#"["a", "b"]"#)]);
        assert_eq!(
            all.rest(),
            [("tags".to_owned(), r#"["a", "b"]"#.to_owned())]
        );
    }

    #[test]
    fn bad_values_are_named() {
        let error = fields(&[("at", "soon")]).time(&["when", "at"]).unwrap_err();
        assert_eq!(error.to_string(), "k: at: \"soon\" is no time");
        let error = Fields::of_hash("k", [(b"input".to_vec(), vec![0xff])]).unwrap_err();
        assert_eq!(error.to_string(), "k: input: the value is not UTF-8");
        assert!(Fields::of_json("k", "[1]").is_none());
    }
}
