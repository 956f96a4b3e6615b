//! How the models of KServe's inference logger are named.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::cloud::{Envelope, Extension};
use crate::error::Faulty;
use crate::json::push_inside;

/// The name of a model as text with attributes in braces, such as `{namespace}/{inferenceservicename}`.
///
/// Attributes that may be named are `namespace`, `inferenceservicename`, `component` and `endpoint`. An event that lacks one
/// of those that are named is rejected; one that is there and empty stands for nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Text, as it stands between the quotes of a JSON string.
    Text(String),
    Attribute(Extension),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "names the attribute {0:?}; namespace, inferenceservicename, component and endpoint may be named"
    )]
    UnknownAttribute(String),
    #[error("has a brace without its other half; attributes stand in braces, as in {{namespace}}")]
    UnpairedBrace,
    #[error("is empty, or longer than a model's name may be")]
    BadLength,
}

impl ModelTemplate {
    /// `{namespace}/{inferenceservicename}`, the default.
    #[must_use]
    pub fn standard() -> &'static Self {
        static STANDARD: LazyLock<ModelTemplate> = LazyLock::new(|| ModelTemplate {
            text: "{namespace}/{inferenceservicename}".to_owned(),
            parts: vec![
                Part::Attribute(Extension::Namespace),
                Part::Text("/".to_owned()),
                Part::Attribute(Extension::InferenceServiceName),
            ],
        });
        &STANDARD
    }

    /// Appends the name for an event, as JSON.
    pub(super) fn write(&self, envelope: &Envelope<'_>, out: &mut String) -> Faulty<()> {
        out.push('"');
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Attribute(name) => {
                    let value = envelope.extension(*name);
                    out.push_str(value.ok_or_else(|| envelope.missing(name.name()))?.inside());
                }
            }
        }
        out.push('"');
        Ok(())
    }
}

impl Default for ModelTemplate {
    fn default() -> Self {
        Self::standard().clone()
    }
}

impl FromStr for ModelTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() || text.len() > modelog_engine::event::schema::NAME_BYTES_MAX {
            return Err(TemplateError::BadLength);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, more) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if plain.contains('}') {
                return Err(TemplateError::UnpairedBrace);
            }
            if !plain.is_empty() {
                let mut json = String::new();
                push_inside(plain, &mut json);
                parts.push(Part::Text(json));
            }
            let Some(more) = more.strip_prefix('{') else {
                break;
            };
            let (name, after) = more.split_once('}').ok_or(TemplateError::UnpairedBrace)?;
            parts.push(Part::Attribute(attribute(name)?));
            rest = after;
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

fn attribute(name: &str) -> Result<Extension, TemplateError> {
    Extension::of(name)
        .filter(|extension| *extension != Extension::RecordedTime)
        .ok_or_else(|| TemplateError::UnknownAttribute(name.to_owned()))
}

impl fmt::Display for ModelTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ModelTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_parsed_once_and_shown_as_written() {
        assert_eq!(
            ModelTemplate::default().to_string().parse(),
            Ok(ModelTemplate::default())
        );
        for text in ["{namespace}", "team-a/{component}:{endpoint}", "é\"one\""] {
            let template: ModelTemplate = text.parse().expect("a template");
            assert_eq!(template.to_string(), text);
        }
        for (text, error) in [
            ("", TemplateError::BadLength),
            ("{namespace", TemplateError::UnpairedBrace),
            ("namespace}", TemplateError::UnpairedBrace),
            ("{a}}", TemplateError::UnknownAttribute("a".into())),
            ("{endpoint}}", TemplateError::UnpairedBrace),
            (
                "{Namespace}",
                TemplateError::UnknownAttribute("Namespace".into()),
            ),
            (
                "{recordedtime}",
                TemplateError::UnknownAttribute("recordedtime".into()),
            ),
        ] {
            assert_eq!(text.parse::<ModelTemplate>(), Err(error), "{text}");
        }
    }
}
