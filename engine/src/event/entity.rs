//! References to entities: `model/resnet50`, `version/resnet50@v1`, `dataset/…`, `experiment/…`, `run/…`.

use std::fmt;
use std::str::FromStr;

use super::schema::NAME_BYTES_MAX;
use super::{EntityKind, FieldProblem};

/// An entity by its natural key. In text, `%`, `/` and `@` within names are percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntityRef {
    pub kind: EntityKind,
    /// The model, for a version.
    pub parent: Option<String>,
    pub name: String,
}

impl EntityRef {
    /// A reference to something other than a version.
    pub fn new(kind: EntityKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            parent: None,
            name: name.into(),
        }
    }

    /// A reference to a version of a model.
    pub fn version(model: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind: EntityKind::Version,
            parent: Some(model.into()),
            name: version.into(),
        }
    }
}

impl FromStr for EntityRef {
    type Err = FieldProblem;

    fn from_str(text: &str) -> Result<Self, FieldProblem> {
        let (kind, rest) = text.split_once('/').ok_or(FieldProblem::NotAReference)?;
        let kind = EntityKind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or(FieldProblem::NotAReference)?;
        if kind == EntityKind::Version {
            let (model, version) = rest.split_once('@').ok_or(FieldProblem::NotAReference)?;
            return Ok(Self {
                kind,
                parent: Some(decode(model)?),
                name: decode(version)?,
            });
        }
        Ok(Self {
            kind,
            parent: None,
            name: decode(rest)?,
        })
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind)?;
        if let Some(parent) = &self.parent {
            encode(parent, f)?;
            f.write_str("@")?;
        }
        encode(&self.name, f)
    }
}

fn encode(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in name.split_inclusive(['%', '/', '@']) {
        match part.strip_suffix(['%', '/', '@']) {
            None => f.write_str(part)?,
            Some(plain) => write!(f, "{plain}%{:02X}", part.as_bytes()[part.len() - 1])?,
        }
    }
    Ok(())
}

/// Decodes percent-encoding and checks the name; a lone `%` is refused, a plain `/` or `@` is taken as it is.
fn decode(text: &str) -> Result<String, FieldProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(FieldProblem::NotAReference);
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    let name = String::from_utf8(bytes).map_err(|_| FieldProblem::NotAReference)?;
    let sound =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if sound {
        Ok(name)
    } else {
        Err(FieldProblem::NotAReference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for reference in [
            EntityRef::new(EntityKind::Model, "team/resnet 50%"),
            EntityRef::version("a@b", "v1/ü"),
            EntityRef::new(EntityKind::Run, "0197a1"),
        ] {
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        assert_eq!(
            "version/a%40b@v1".parse(),
            Ok(EntityRef::version("a@b", "v1"))
        );
        for bad in [
            "",
            "model",
            "model/",
            "version/resnet50",
            "cat/x",
            "run/%4",
            "run/%00",
        ] {
            assert_eq!(
                bad.parse::<EntityRef>(),
                Err(FieldProblem::NotAReference),
                "{bad}"
            );
        }
    }
}
