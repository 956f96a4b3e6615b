//! Reading settings out of a tree: one line for each setting, from which everything else follows.
//!
//! A section names its settings with the fields they go to, which hold the defaults. That gives the parsing, the error
//! for a wrong value, the list of known names for the suggestion on an unknown one, and what `config show` prints.
//! Nothing stops at the first problem: a field with a problem keeps its default, and the rest is read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use modelog_engine::Timestamp;
use modelog_kafka::{InstanceId, StartAt};

use super::human;
use super::layers::{Entry, Origin, Tree, Value};
use super::problem::Problem;

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Such as `log.segment_bytes`.
    pub(crate) setting: String,
    /// As it would be written in TOML; `None` if it is not set.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// What reading a configuration brought to light.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// In the order they were read.
    pub(crate) settings: Vec<Shown>,
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// Says that a setting cannot be as it is, unless what it is could not be read: that has been said then.
    pub(crate) fn refuse(&mut self, setting: &str, message: impl Into<String>) {
        if self.problems.iter().any(|known| known.setting == setting) {
            return;
        }
        let known = self.settings.iter().find(|shown| shown.setting == setting);
        let origin = known.map_or(Origin::Default, |shown| shown.origin.clone());
        self.problems.push(Problem {
            setting: setting.to_owned(),
            origin,
            message: message.into(),
        });
    }
}

/// How a setting is read and shown.
struct Form<T> {
    expected: &'static str,
    parse: fn(&Value) -> Option<T>,
    show: fn(&T) -> Option<String>,
}

/// The settings of one section that nobody has asked for yet.
pub(crate) struct Fields<'a> {
    /// Empty outside of sections.
    section: String,
    left: Tree,
    known: Vec<&'static str>,
    report: &'a mut Report,
}

/// Numbers that settings have.
pub(crate) trait Number: Copy + 'static {
    fn from_u64(number: u64) -> Option<Self>;
    fn to_u64(self) -> u64;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn from_u64(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
            fn to_u64(self) -> u64 {
                self as u64
            }
        }
    )*};
}
number!(u16, u32, u64, usize);

/// Reads a whole tree.
pub(super) fn read(tree: Tree, report: &mut Report, settings: impl FnOnce(&mut Fields<'_>)) {
    let mut fields = Fields {
        section: String::new(),
        left: tree,
        known: Vec::new(),
        report,
    };
    settings(&mut fields);
    fields.refuse_unknown();
}

impl Fields<'_> {
    /// Reads a section; one that is not there has nothing set.
    pub(crate) fn section(&mut self, name: &'static str, settings: impl FnOnce(&mut Fields<'_>)) {
        self.known.push(name);
        let left = match self.left.remove(name) {
            None => Tree::new(),
            Some(Entry {
                value: Value::Table(tree),
                ..
            }) => tree,
            Some(Entry { value, origin }) => {
                self.problem(
                    name,
                    origin,
                    format!("is a section, not {}", value.describe()),
                );
                Tree::new()
            }
        };
        let mut fields = Fields {
            section: self.full_name(name),
            left,
            known: Vec::new(),
            report: &mut *self.report,
        };
        settings(&mut fields);
        fields.refuse_unknown();
    }

    /// Reads as many sections of one name as there are.
    pub(crate) fn sections<T: Default>(
        &mut self,
        name: &'static str,
        sections: &mut Vec<T>,
        settings: impl Fn(&mut Fields<'_>, &mut T),
    ) {
        self.known.push(name);
        let Some(Entry { value, origin }) = self.left.remove(name) else {
            return;
        };
        let message = |found: &Value| {
            let found = found.describe();
            format!("is any number of sections, each written [[{name}]] in the file, not {found}")
        };
        let items = match value {
            Value::List(items) => items,
            other => return self.problem(name, origin, message(&other)),
        };
        for (number, item) in items.into_iter().enumerate() {
            let left = match item {
                Value::Table(tree) => tree,
                other => {
                    self.problem(name, origin.clone(), message(&other));
                    continue;
                }
            };
            let mut fields = Fields {
                section: format!("{}[{number}]", self.full_name(name)),
                left,
                known: Vec::new(),
                report: &mut *self.report,
            };
            let mut section = T::default();
            settings(&mut fields, &mut section);
            fields.refuse_unknown();
            sections.push(section);
        }
    }

    /// A size such as `"128MiB"`.
    pub(crate) fn size<N: Number>(&mut self, name: &'static str, field: &mut N) {
        self.read(
            name,
            field,
            Form {
                expected: "a size such as \"128MiB\"",
                parse: |value| N::from_u64(human::parse_size(text(value)?)?),
                show: |bytes| Some(quote(&human::show_size(bytes.to_u64()))),
            },
        );
    }

    /// A whole number.
    pub(crate) fn count<N: Number>(&mut self, name: &'static str, field: &mut N) {
        self.read(
            name,
            field,
            Form {
                expected: "a whole number that is not negative",
                parse: |value| N::from_u64(whole(value)?),
                show: |number| Some(number.to_u64().to_string()),
            },
        );
    }

    /// `true` or `false`.
    pub(crate) fn switch(&mut self, name: &'static str, field: &mut bool) {
        self.read(
            name,
            field,
            Form {
                expected: "true or false",
                parse: |value| match value {
                    Value::Bool(value) => Some(*value),
                    Value::Word(word) => word.parse().ok(),
                    _ => None,
                },
                show: |value| Some(value.to_string()),
            },
        );
    }

    /// A duration such as `"30s"`.
    pub(crate) fn duration(&mut self, name: &'static str, field: &mut Duration) {
        self.read(
            name,
            field,
            Form {
                expected: "a duration such as \"30s\" or \"24h\"",
                parse: |value| human::parse_duration(text(value)?),
                show: |duration| Some(quote(&human::show_duration(*duration))),
            },
        );
    }

    /// A duration, or `"forever"`.
    pub(crate) fn period(&mut self, name: &'static str, field: &mut Option<Duration>) {
        self.read(
            name,
            field,
            Form {
                expected: "a duration such as \"30d\", or \"forever\"",
                parse: |value| match text(value)? {
                    "forever" => Some(None),
                    text => human::parse_duration(text).map(Some),
                },
                show: |period| {
                    let text = period.map_or_else(|| "forever".into(), human::show_duration);
                    Some(quote(&text))
                },
            },
        );
    }

    /// An address with a port.
    pub(crate) fn address(&mut self, name: &'static str, field: &mut SocketAddr) {
        self.read(
            name,
            field,
            Form {
                expected: "an IP address with a port, such as \"127.0.0.1:7070\"",
                parse: |value| {
                    let text = text(value)?;
                    match text.strip_prefix("localhost:") {
                        Some(port) => {
                            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?)))
                        }
                        None => text.parse().ok(),
                    }
                },
                show: |address| Some(quote(&address.to_string())),
            },
        );
    }

    /// Any text.
    pub(crate) fn text(&mut self, name: &'static str, field: &mut String) {
        self.read(
            name,
            field,
            Form {
                expected: "text",
                parse: |value| text(value).map(str::to_owned),
                show: |text| Some(quote(text)),
            },
        );
    }

    /// Text that may be absent.
    pub(crate) fn optional_text(&mut self, name: &'static str, field: &mut Option<String>) {
        self.read(
            name,
            field,
            Form {
                expected: "text",
                parse: |value| text(value).map(|text| Some(text.to_owned())),
                show: |text| text.as_deref().map(quote),
            },
        );
    }

    /// A URL, in which a password may stand: it is not shown.
    pub(crate) fn url(&mut self, name: &'static str, field: &mut String) {
        self.read(
            name,
            field,
            Form {
                expected: "a URL",
                parse: |value| text(value).map(str::to_owned),
                show: |url| Some(quote(&redact(url))),
            },
        );
    }

    /// A path that must be there.
    pub(crate) fn path(&mut self, name: &'static str, field: &mut PathBuf) {
        self.read(
            name,
            field,
            Form {
                expected: "a path",
                parse: to_path,
                show: |path| Some(quote(&path.to_string_lossy())),
            },
        );
    }

    /// A path that may be absent.
    pub(crate) fn optional_path(&mut self, name: &'static str, field: &mut Option<PathBuf>) {
        self.read(
            name,
            field,
            Form {
                expected: "a path",
                parse: |value| to_path(value).map(Some),
                show: |path| path.as_ref().map(|path| quote(&path.to_string_lossy())),
            },
        );
    }

    /// A list of texts; in the environment they are parted by commas.
    pub(crate) fn texts(&mut self, name: &'static str, field: &mut Vec<String>) {
        self.read(
            name,
            field,
            Form {
                expected: "a list of texts such as [\"a\", \"b\"]",
                parse: |value| match value {
                    Value::List(items) => items
                        .iter()
                        .map(|item| match item {
                            Value::Text(text) => Some(text.clone()),
                            _ => None,
                        })
                        .collect(),
                    Value::Word(word) => Some(
                        word.split(',')
                            .map(|item| item.trim().to_owned())
                            .filter(|item| !item.is_empty())
                            .collect(),
                    ),
                    _ => None,
                },
                show: |items| {
                    let quoted: Vec<_> = items.iter().map(|item| quote(item)).collect();
                    Some(format!("[{}]", quoted.join(", ")))
                },
            },
        );
    }

    /// One of the words of a type.
    pub(crate) fn word<T: Word>(&mut self, name: &'static str, field: &mut T) {
        self.read(
            name,
            field,
            Form {
                expected: T::EXPECTED,
                parse: |value| {
                    let text = text(value)?;
                    T::WORDS
                        .iter()
                        .find(|(word, _)| *word == text)
                        .map(|(_, meaning)| *meaning)
                },
                show: |value| {
                    let word = T::WORDS.iter().find(|(_, meaning)| meaning == value);
                    word.map(|(word, _)| quote(word))
                },
            },
        );
    }

    /// Settings of a library, by name; each is shown by itself, secrets are not.
    pub(crate) fn properties(&mut self, name: &'static str, field: &mut BTreeMap<String, String>) {
        self.known.push(name);
        let (entries, origin) = match self.left.remove(name) {
            None => return,
            Some(Entry {
                value: Value::Table(entries),
                origin,
            }) => (entries, origin),
            Some(Entry { value, origin }) => {
                let found = value.describe();
                let message = format!("must be a table such as {{ \"a.b\" = \"c\" }}, not {found}");
                return self.problem(name, origin, message);
            }
        };
        for (property, Entry { value, .. }) in flat(entries) {
            let text = match &value {
                Value::Text(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                other => {
                    let found = other.describe();
                    let message = format!("must be text, a number, true or false, not {found}");
                    self.problem(&format!("{name}.{property}"), origin.clone(), message);
                    continue;
                }
            };
            let shown = if is_secret(&property) { "…" } else { &text };
            self.report.settings.push(Shown {
                setting: self.full_name(&format!("{name}.{property}")),
                value: Some(quote(shown)),
                origin: origin.clone(),
            });
            field.insert(property, text);
        }
    }

    /// Who a member of a group is: `"auto"`, nobody (`""`) or a name.
    pub(crate) fn instance_id(&mut self, name: &'static str, field: &mut InstanceId) {
        self.read(
            name,
            field,
            Form {
                expected: "\"auto\", \"\" or a name",
                parse: |value| {
                    Some(match text(value)? {
                        "auto" => InstanceId::Log,
                        "" => InstanceId::None,
                        name => InstanceId::Named(name.to_owned()),
                    })
                },
                show: |id| {
                    Some(match id {
                        InstanceId::Log => quote("auto"),
                        InstanceId::None => quote(""),
                        InstanceId::Named(name) => quote(name),
                    })
                },
            },
        );
    }

    /// Where a source starts: a word or a point in time.
    pub(crate) fn start_at(&mut self, name: &'static str, field: &mut StartAt) {
        self.read(
            name,
            field,
            Form {
                expected: "\"earliest\", \"latest\" or a time such as \"2026-11-22T17:00:00Z\"",
                parse: |value| {
                    Some(match text(value)? {
                        "earliest" => StartAt::Earliest,
                        "latest" => StartAt::Latest,
                        time => StartAt::Time(Timestamp::parse(time).ok()?),
                    })
                },
                show: |start| {
                    Some(match start {
                        StartAt::Earliest => quote("earliest"),
                        StartAt::Latest => quote("latest"),
                        StartAt::Time(time) => quote(&time.to_string()),
                    })
                },
            },
        );
    }

    /// Says that a setting of this section cannot be as it is.
    pub(crate) fn refuse_here(&mut self, setting: &str, message: impl Into<String>) {
        let setting = self.full_name(setting);
        self.report.refuse(&setting, message);
    }

    /// Says that a setting, named in full, cannot be as it is.
    pub(crate) fn refuse(&mut self, setting: &str, message: impl Into<String>) {
        self.report.refuse(setting, message);
    }

    fn read<T>(&mut self, name: &'static str, field: &mut T, form: Form<T>) {
        self.known.push(name);
        let origin = match self.left.remove(name) {
            None => Origin::Default,
            Some(Entry { value, origin }) => match (form.parse)(&value) {
                Some(value) => {
                    *field = value;
                    origin
                }
                None => {
                    let message = format!("must be {}, not {}", form.expected, value.describe());
                    self.problem(name, origin, message);
                    Origin::Default
                }
            },
        };
        self.report.settings.push(Shown {
            setting: self.full_name(name),
            value: (form.show)(field),
            origin,
        });
    }

    fn full_name(&self, name: &str) -> String {
        if self.section.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.section)
        }
    }

    fn problem(&mut self, name: &str, origin: Origin, message: String) {
        let setting = self.full_name(name);
        self.report.problems.push(Problem {
            setting,
            origin,
            message,
        });
    }

    fn refuse_unknown(&mut self) {
        for (name, entry) in std::mem::take(&mut self.left) {
            // A section from the environment has no line of its own: say which variable it was.
            let origin = match &entry.value {
                Value::Table(inner) if !matches!(entry.origin, Origin::File { .. }) => inner
                    .values()
                    .next()
                    .map_or(entry.origin.clone(), |first| first.origin.clone()),
                _ => entry.origin.clone(),
            };
            let message = match nearest(&name, &self.known) {
                Some(known) => format!(
                    "is not a setting; did you mean `{}`?",
                    self.full_name(known)
                ),
                None => format!("is not a setting; there are {}", self.known.join(", ")),
            };
            self.problem(&name, origin, message);
        }
    }
}

/// A closed set of words.
pub(crate) trait Word: Copy + PartialEq + 'static {
    const EXPECTED: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

/// The known name a person most likely meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Below this, names have nothing to do with each other.
    const LIKENESS_MIN: f64 = 0.7;
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), *known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Word(text) => Some(text),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Word(word) => word.replace('_', "").parse().ok(),
        _ => None,
    }
}

fn to_path(value: &Value) -> Option<PathBuf> {
    text(value)
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
}

/// A text as TOML writes it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Entries by their full names: TOML takes `a.b = 1` for a table `a`.
fn flat(entries: Tree) -> Vec<(String, Entry)> {
    let mut all = Vec::new();
    for (name, entry) in entries {
        match entry.value {
            Value::Table(inner) => {
                let inner = flat(inner).into_iter();
                all.extend(inner.map(|(rest, entry)| (format!("{name}.{rest}"), entry)));
            }
            value => all.push((name, Entry { value, ..entry })),
        }
    }
    all
}

/// Whether a setting of a library is nobody's business.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "pem", "sasl.jaas", "token"]
        .iter()
        .any(|word| name.contains(word))
}

/// A URL without its password.
fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?…"),
        None => (rest, ""),
    };
    // A password may hold any letter, unencoded too: the last `@` ends it.
    match rest.rsplit_once('@') {
        Some((account, host)) => {
            let password = if account.contains(':') { ":…" } else { "" };
            let user = account.split_once(':').map_or(account, |(user, _)| user);
            format!("{scheme}://{user}{password}@{host}{query}")
        }
        None => format!("{scheme}://{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("sqlite:sqlite/modelog.db", "sqlite:sqlite/modelog.db"),
            (
                "postgres://ml:p@ss:w/rd@db:5432/ml?sslmode=require",
                "postgres://ml:…@db:5432/ml?…",
            ),
            (
                "postgres://ml:secret@db/ml?password=x",
                "postgres://ml:…@db/ml?…",
            ),
            ("postgres://ml@db/ml", "postgres://ml@db/ml"),
            ("postgres://db/ml", "postgres://db/ml"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
