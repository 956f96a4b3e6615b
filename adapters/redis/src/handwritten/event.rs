//! Events as flat JSON, each with an id made of what it says.
//!
//! Whatever the order of keys, however often the database is read, whichever of its keys changed since: an event that
//! says the same has the same id, and the log takes it for the repeat it is. One that says something else is another
//! event, and the log merges what both say.

use modelog_engine::Timestamp;
use modelog_engine::event::Kind;
use sha2::{Digest as _, Sha256};

use super::values;

/// An event in the making.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    json: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) json: String,
    /// A hash of it.
    pub(super) digest: u64,
}

impl Draft {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            json: format!("{{\"type\":\"{}\"", kind.name()),
        }
    }

    /// A field whose value is JSON already.
    pub(super) fn json(&mut self, name: &str, value: &str) {
        self.json.push(',');
        self.json.push_str(&values::quoted(name));
        self.json.push(':');
        self.json.push_str(value);
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.json(name, &values::quoted(value));
    }

    pub(super) fn time(&mut self, time: Timestamp) {
        self.text("time", &time.to_string());
    }

    /// An object of members; nothing if there are none.
    pub(super) fn object(&mut self, name: &str, members: &[(String, String)]) {
        let pairs = members.iter().map(|(key, value)| (&**key, &**value));
        if let Some(object) = modelog_engine::event::Json::object(pairs) {
            self.json(name, object.as_str());
        }
    }

    pub(super) fn finish(self) -> Event {
        self.finish_after(0)
    }

    /// The same, for an event that must come again whenever another one does: that one's digest.
    pub(super) fn finish_after(mut self, other: u64) -> Event {
        let mut hash = Sha256::new();
        hash.update(&self.json);
        hash.update(other.to_le_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = String::from("redis-import:");
        for byte in &hash[..16] {
            id.push_str(&format!("{byte:02x}"));
        }
        self.text("id", &id);
        self.json.push('}');
        let digest = hash[..8].try_into().expect("it is 8 bytes long");
        Event {
            json: self.json,
            digest: u64::from_le_bytes(digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_the_same_id() {
        let event = |value: &str, after| {
            let mut draft = Draft::new(Kind::ModelCreated);
            draft.text("model", "a\n\"b\"");
            draft.json("tags", value);
            draft.finish_after(after)
        };
        let one = event("{\"a\":\n 1}", 0);
        // JSON stays as it is, byte for byte.
        assert!(one.json.contains("{\"a\":\n 1}"), "{}", one.json);
        let read: serde_json::Value = serde_json::from_str(&one.json).unwrap();
        assert_eq!(
            (&read["model"], &read["tags"]["a"]),
            (&"a\n\"b\"".into(), &1.into())
        );
        assert_eq!(one, event("{\"a\":\n 1}", 0));
        assert_ne!(one.digest, event("{\"a\": 2}", 0).digest);
        assert_ne!(one.digest, event("{\"a\":\n 1}", 1).digest);
    }
}
