//! What cannot be taken over: where, and why.

use std::fmt;

/// The longest value that is shown.
const SHOWN_MAX: usize = 60;

/// Something that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) key: String,
    field: Option<String>,
    value: Option<String>,
    pub(super) what: Why,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Said(&'static str),
    /// It refers to a key that is not there.
    Dangling(String),
    /// It is the second of its name.
    Taken(String),
    /// The key is of this type.
    Type(String),
    /// It belongs to something that cannot be taken over itself.
    Orphan,
}

impl Bad {
    fn new(key: &str, what: Why) -> Self {
        Self {
            key: key.into(),
            field: None,
            value: None,
            what,
        }
    }

    pub(super) fn of_key(key: &str, what: &'static str) -> Self {
        Self::new(key, Why::Said(what))
    }

    pub(super) fn of_field(key: &str, field: &str, what: &'static str) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::of_key(key, what)
        }
    }

    pub(super) fn of_value(key: &str, field: &str, value: &str, what: &'static str) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::of_field(key, field, what)
        }
    }

    pub(super) fn of_type(key: &str, found: &str) -> Self {
        Self::new(key, Why::Type(found.into()))
    }

    pub(super) fn orphan(key: &str) -> Self {
        Self::new(key, Why::Orphan)
    }

    pub(super) fn taken(key: &str, field: &str, name: &str, other: String) -> Self {
        Self {
            field: Some(field.into()),
            value: Some(name.into()),
            ..Self::new(key, Why::Taken(other))
        }
    }

    /// A reference, in a field or in the key itself, to a key that is not there.
    pub(super) fn dangling(key: &str, field: Option<(&str, &str)>, missing: String) -> Self {
        Self {
            field: field.map(|(name, _)| name.into()),
            value: field.map(|(_, value)| value.into()),
            ..Self::new(key, Why::Dangling(missing))
        }
    }

    /// Why, for counting.
    pub(super) fn reason(&self) -> String {
        match &self.what {
            Why::Said(what) => match &self.field {
                Some(field) => format!("{field} {what}"),
                None => (*what).into(),
            },
            Why::Dangling(_) => "refers to what is not there".into(),
            Why::Taken(_) => "has a name that another one has".into(),
            Why::Type(found) => format!("is a {found}"),
            Why::Orphan => "belongs to what was left out".into(),
        }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys and values come from anybody, and go to a terminal.
        write!(f, "{}: ", self.key.escape_debug())?;
        if let Some(field) = &self.field {
            write!(f, "{}: ", field.escape_debug())?;
        }
        if let Some(value) = &self.value {
            let shown: String = value.chars().take(SHOWN_MAX).collect();
            let more = if shown.len() < value.len() { "…" } else { "" };
            write!(f, "{shown:?}{more} ")?;
        }
        match &self.what {
            Why::Said(what) => f.write_str(what),
            Why::Dangling(missing) => write!(
                f,
                "refers to {}, which is not there",
                missing.escape_debug()
            ),
            Why::Taken(other) => write!(f, "is the name of {} already", other.escape_debug()),
            Why::Type(found) => write!(
                f,
                "is a {found}, which is not what the convention has there"
            ),
            Why::Orphan => f.write_str("belongs to what cannot be taken over"),
        }
    }
}
