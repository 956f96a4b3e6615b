//! What a key is, by its name.

use std::fmt;

use modelog_engine::event::EntityKind;

use super::values::name_of;

/// What stands for a thing in keys and references: a number, as a rule. Numbers come first, in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Id {
    Number(u64),
    Word(Box<str>),
}

impl Id {
    pub(super) fn of(text: &str) -> Self {
        // Only what is written as we would write it, so that the key can be told from the number.
        match text.parse::<u64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Word(text.into()),
        }
    }

    /// Bytes that sort as ids do.
    pub(super) fn sorts(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9);
        match self {
            Self::Number(number) => {
                bytes.push(0);
                bytes.extend(number.to_be_bytes());
            }
            Self::Word(word) => {
                bytes.push(1);
                bytes.extend(word.bytes());
                bytes.push(0);
            }
        }
        bytes
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// What follows the prefix in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Entity(EntityKind, Id),
    /// Parameters of a run: all of them, or one.
    Params(Id, Option<String>),
    Points(Points),
    Artifact(Id),
    /// By what follows in the key.
    Prediction(Id),
    Feedback(Id),
    /// Runs of an experiment.
    RunsOf(Id),
    /// Names to ids; of versions, those of a model.
    NamesOf(EntityKind, Option<Id>),
    /// Versions of a model.
    VersionsOf(Id),
    /// Nothing that happened: why not.
    Beside(&'static str),
}

/// A series of points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Points {
    /// A run or a version.
    pub(super) kind: EntityKind,
    pub(super) owner: Id,
    pub(super) name: String,
    pub(super) split: Option<String>,
}

const INDEX: &str = "an index, which the log makes itself";
pub(super) const MADE: &str = "made from other keys";
pub(super) const STRANGE: &str = "not in the convention";

impl Key {
    /// Of a key without its prefix and the colon behind that.
    pub(super) fn of(rest: &str) -> Self {
        let (word, id) = match rest.split_once(':') {
            Some((word, id)) if !id.is_empty() => (word, id),
            _ => (rest, ""),
        };
        let plain = !id.is_empty() && !id.contains(':');
        if let Some(kind) = EntityKind::ALL.into_iter().find(|kind| kind.name() == word) {
            return match plain {
                true => Self::Entity(kind, Id::of(id)),
                false => Self::Beside(STRANGE),
            };
        }
        match word {
            "hyperparam" if plain => Self::Params(Id::of(id), None),
            "hyperparam" if !id.is_empty() => {
                let (run, name) = id.split_once(':').unwrap_or((id, ""));
                Self::Params(Id::of(run), Some(name_of(name)))
            }
            "metric" => points(id).map_or(Self::Beside(STRANGE), Self::Points),
            "artifact" if plain => Self::Artifact(Id::of(id)),
            "prediction" if !id.is_empty() => Self::Prediction(Id::of(id)),
            "feedback" if !id.is_empty() => Self::Feedback(Id::of(id)),
            "idx" => index(id),
            "exprun" => match id.strip_suffix(":runs") {
                Some(experiment) => Self::RunsOf(Id::of(experiment)),
                None => Self::Beside(INDEX),
            },
            "counter" => Self::Beside("numbers that the log gives itself"),
            "stream" | "live" => Self::Beside("a feed of what other keys hold"),
            "stats" => Self::Beside("counted again from the events"),
            "checkpoint" | "series" | "left" | "rebuild" => Self::Beside(MADE),
            _ => Self::Beside(STRANGE),
        }
    }

    /// Whether the key holds what becomes an event.
    pub(super) fn is_fact(&self) -> bool {
        !matches!(
            self,
            Self::RunsOf(_) | Self::NamesOf(..) | Self::VersionsOf(_) | Self::Beside(_)
        )
    }
}

/// `5:loss:train`, `5:loss`, `run:5:loss:train`, `version:3:loss:_`. Of more parts, the last is the split, and the others
/// a name with colons in it.
fn points(text: &str) -> Option<Points> {
    let (first, rest) = text.split_once(':')?;
    let (kind, owner, series) = match first {
        "version" | "run" => {
            let (owner, series) = rest.split_once(':')?;
            let kind = match first {
                "run" => EntityKind::Run,
                _ => EntityKind::Version,
            };
            (kind, owner, series)
        }
        owner => (EntityKind::Run, owner, rest),
    };
    let (name, split) = series.rsplit_once(':').unwrap_or((series, ""));
    if name.is_empty() || owner.is_empty() {
        return None;
    }
    Some(Points {
        kind,
        owner: Id::of(owner),
        name: name_of(name),
        split: match split {
            "" | "_" | "None" => None,
            split => Some(name_of(split)),
        },
    })
}

fn index(id: &str) -> Key {
    let parts: Vec<&str> = id.split(':').collect();
    let named = |name: &str| EntityKind::ALL.into_iter().find(|kind| kind.name() == name);
    match parts[..] {
        ["name", "version", model] => Key::NamesOf(EntityKind::Version, Some(Id::of(model))),
        ["name", kind] => match named(kind) {
            // Names of runs need not be theirs alone: the index has the last one of each.
            Some(kind) if !matches!(kind, EntityKind::Version | EntityKind::Run) => {
                Key::NamesOf(kind, None)
            }
            _ => Key::Beside(INDEX),
        },
        ["versions", model] => Key::VersionsOf(Id::of(model)),
        _ => Key::Beside(INDEX),
    }
}

/// A key as it is counted: what tells one from others of its sort is left out.
pub(super) fn pattern(prefix: &str, rest: &str) -> String {
    let mut parts = rest.split(':');
    let word = parts.next().unwrap_or_default();
    // What is no word is as good as an id.
    let is_word = |part: &str| {
        part.len() <= 24
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'-')
    };
    if !is_word(word) {
        return format!("{prefix}:*");
    }
    match (parts.next(), parts.next_back()) {
        (None, _) => format!("{prefix}:{word}"),
        (Some(_), Some(last))
            if is_word(last) && EntityKind::ALL.iter().any(|kind| kind.name() == word) =>
        {
            format!("{prefix}:{word}:*:{last}")
        }
        (Some(_), _) => format!("{prefix}:{word}:*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: EntityKind, owner: u64, name: &str, split: Option<&str>) -> Key {
        Key::Points(Points {
            kind,
            owner: Id::Number(owner),
            name: name.into(),
            split: split.map(Into::into),
        })
    }

    #[test]
    fn keys_are_told_by_their_names() {
        use EntityKind::{Experiment, Model, Run, Version};
        let number = Id::Number;
        for (rest, key) in [
            ("model:1", Key::Entity(Model, number(1))),
            ("run:a-7", Key::Entity(Run, Id::Word("a-7".into()))),
            ("run:007", Key::Entity(Run, Id::Word("007".into()))),
            ("model:1:tags", Key::Beside(STRANGE)),
            ("model:", Key::Beside(STRANGE)),
            ("model", Key::Beside(STRANGE)),
            ("models", Key::Beside(STRANGE)),
            ("", Key::Beside(STRANGE)),
            ("hyperparam:5", Key::Params(number(5), None)),
            ("hyperparam:5:lr", Key::Params(number(5), Some("lr".into()))),
            (
                "hyperparam:5:a%3Ab:c",
                Key::Params(number(5), Some("a:b:c".into())),
            ),
            ("metric:5:loss:train", series(Run, 5, "loss", Some("train"))),
            ("metric:5:loss:_", series(Run, 5, "loss", None)),
            ("metric:5:loss", series(Run, 5, "loss", None)),
            ("metric:run:5:loss:val", series(Run, 5, "loss", Some("val"))),
            (
                "metric:5:val%3Aloss%25:%5F",
                series(Run, 5, "val:loss%", Some("_")),
            ),
            (
                "metric:5:val:loss:train",
                series(Run, 5, "val:loss", Some("train")),
            ),
            ("metric:version:3:acc:_", series(Version, 3, "acc", None)),
            ("metric:5", Key::Beside(STRANGE)),
            ("metric:5::train", Key::Beside(STRANGE)),
            ("prediction:17", Key::Prediction(number(17))),
            ("prediction:r:1", Key::Prediction(Id::Word("r:1".into()))),
            ("exprun:1:runs", Key::RunsOf(number(1))),
            ("idx:name:model", Key::NamesOf(Model, None)),
            ("idx:name:experiment", Key::NamesOf(Experiment, None)),
            ("idx:name:version:2", Key::NamesOf(Version, Some(number(2)))),
            ("idx:name:run", Key::Beside(INDEX)),
            ("idx:versions:2", Key::VersionsOf(number(2))),
            ("idx:predictions:3", Key::Beside(INDEX)),
            (
                "stats:version:3",
                Key::Beside("counted again from the events"),
            ),
        ] {
            assert_eq!(Key::of(rest), key, "{rest}");
        }
    }

    #[test]
    fn keys_are_counted_by_their_sort() {
        for (rest, counted) in [
            ("checkpoint", "p:checkpoint"),
            ("model:1:tags", "p:model:*:tags"),
            ("idx:name:model", "p:idx:*"),
            ("prediction:a:b", "p:prediction:*"),
            ("550e8400-e29b", "p:*"),
        ] {
            assert_eq!(pattern("p", rest), counted);
        }
    }

    #[test]
    fn ids_sort_as_their_bytes_do() {
        let mut ids = ["10", "9", "a", "ab", "", "18446744073709551615", "01"]
            .map(Id::of)
            .to_vec();
        ids.sort();
        let mut bytes: Vec<_> = ids.iter().map(Id::sorts).collect();
        let sorted = bytes.clone();
        bytes.sort();
        assert_eq!(bytes, sorted);
        assert_eq!(ids[0], Id::Number(9));
    }
}
