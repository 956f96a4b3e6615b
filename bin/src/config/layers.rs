//! Where settings come from: a TOML file, the environment, flags. Each layer is a tree; the later one wins, setting by
//! setting.
//!
//! The file is parsed once, with the line of every value. What comes from the environment or a flag is text without a
//! type ([`Value::Word`]): the setting it is for says how to read it.
//!
//! A variable counts as a setting if it names a section (`MODELOG_LOG__SEGMENT_BYTES`) or one of the settings outside
//! of sections. Others that start alike are not ours: Kubernetes sets `MODELOG_PORT` for a service called `modelog`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// What every variable of ours starts with.
const PREFIX: &str = "MODELOG_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: Arc<Path>, line: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<Value>),
    Table(Tree),
    /// Text without a type, from the environment or a flag.
    Word(String),
    /// Something no setting takes: a date, a fraction.
    Other(&'static str),
}

impl Value {
    /// What it is, for a person who wrote something else than was expected.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) | Self::Word(value) => format!("{value:?}"),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a section".into(),
            Self::Other(what) => (*what).into(),
        }
    }
}

/// Settings of a section by name.
pub(crate) type Tree = BTreeMap<String, Entry>;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Lays a layer over another.
pub(super) fn overlay(below: &mut Tree, above: Tree) {
    for (name, entry) in above {
        match (below.get_mut(&name), entry) {
            (
                Some(Entry {
                    value: Value::Table(below),
                    ..
                }),
                Entry {
                    value: Value::Table(above),
                    ..
                },
            ) => overlay(below, above),
            (_, entry) => drop(below.insert(name, entry)),
        }
    }
}

/// Sets one value in a tree, making the sections it lies in.
fn place(tree: &mut Tree, path: &[String], entry: Entry) {
    let [section, rest @ ..] = path else { return };
    if rest.is_empty() {
        tree.insert(section.clone(), entry);
        return;
    }
    let inner = tree.entry(section.clone()).or_insert_with(|| Entry {
        value: Value::Table(Tree::new()),
        origin: entry.origin.clone(),
    });
    if let Value::Table(inner) = &mut inner.value {
        place(inner, rest, entry);
    }
}

/// The settings of a TOML text.
pub(super) fn file(path: &Path, text: &str) -> Result<Tree, Vec<Problem>> {
    let path: Arc<Path> = path.into();
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(tree(table.get_ref(), &path, &lines));
    }
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| (lines.of(error.span().map_or(0, |span| span.start)), error))
        .collect();
    errors.sort_by_key(|(line, _)| *line);
    let problems = errors.into_iter().map(|(line, error)| Problem {
        setting: String::new(),
        origin: Origin::File {
            path: Arc::clone(&path),
            line,
        },
        message: error.message().trim().replace('\n', ", "),
    });
    Err(problems.collect())
}

fn tree(table: &DeTable<'_>, path: &Arc<Path>, lines: &Lines) -> Tree {
    let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        let origin = Origin::File {
            path: Arc::clone(path),
            line: lines.of(value.span().start),
        };
        let value = toml_value(value.get_ref(), path, lines);
        (name.to_string(), Entry { value, origin })
    };
    table.iter().map(entry).collect()
}

fn toml_value(value: &DeValue<'_>, path: &Arc<Path>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or(Value::Other("an integer beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| toml_value(item.get_ref(), path, lines))
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(tree(inner, path, lines)),
    }
}

/// Finds the line of a byte.
struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { ends }
    }

    fn of(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| *end < byte) + 1
    }
}

/// The settings among variables; `outside` are the names of those in no section.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    outside: &[&str],
) -> Result<Tree, Vec<Problem>> {
    let mut tree = Tree::new();
    let mut problems = Vec::new();
    // Sorted, so that what is said about them does not depend on the environment's order.
    let mut ours: Vec<(String, OsString)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect();
    ours.sort();
    for (variable, value) in ours {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
        if path.len() < 2 && !outside.contains(&path[0].as_str()) {
            continue;
        }
        let setting = path.join(".");
        let origin = Origin::Environment(variable);
        match value.into_string() {
            Ok(text) => {
                let value = Value::Word(text);
                place(&mut tree, &path, Entry { value, origin });
            }
            Err(_) => problems.push(Problem {
                setting,
                origin,
                message: "is not UTF-8".into(),
            }),
        }
    }
    if problems.is_empty() {
        Ok(tree)
    } else {
        Err(problems)
    }
}

/// A flag that stands for a setting.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// Such as `http.listen`.
    pub(crate) setting: &'static str,
    pub(crate) flag: &'static str,
    pub(crate) value: String,
}

/// The settings among flags.
pub(super) fn flags(flags: Vec<Flag>) -> Tree {
    let mut tree = Tree::new();
    for Flag {
        setting,
        flag,
        value,
    } in flags
    {
        let path: Vec<String> = setting.split('.').map(str::to_owned).collect();
        let entry = Entry {
            value: Value::Word(value),
            origin: Origin::Flag(flag),
        };
        place(&mut tree, &path, entry);
    }
    tree
}
