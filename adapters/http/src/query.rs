//! Query parameters: every one is known, given once, and has a value it can have.

use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::codes::Code;
use crate::problem::{ErrorPlace, Problem};

/// The parameters of a request. Made by each handler with the names it knows.
#[derive(Debug, Default)]
pub(crate) struct Query {
    given: Vec<(&'static str, String)>,
}

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// A parameter that is not among `known`, given twice, or not UTF-8.
    pub(crate) fn parse(raw: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).map_err(|name| unknown(&name, known))?;
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(unknown(&name, known));
            };
            let value =
                decode(value).map_err(|_| Problem::bad_parameter(name, "is not valid UTF-8"))?;
            if query.text(name).is_some() {
                return Err(Problem::bad_parameter(name, "is given twice"));
            }
            query.given.push((name, value));
        }
        Ok(query)
    }

    /// The value of a parameter.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, as something else than text. `expected` goes on after "must be".
    ///
    /// # Errors
    /// The value is not what is expected.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        name: &str,
        expected: impl Display,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            Problem::bad_parameter(name, format!("must be {expected}, not {:?}", short(value)))
        })
    }

    /// The value of a parameter, as one of several words and what they stand for.
    ///
    /// # Errors
    /// The value is none of the words.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let message = format!("must be {}, not {:?}", words.join(" or "), short(value));
                Err(Problem::bad_parameter(name, message))
            }
        }
    }

    /// Whether a parameter is `true`; `false` where it is absent.
    ///
    /// # Errors
    /// Any other value than `true` and `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self
            .word(name, &[("true", true), ("false", false)])?
            .unwrap_or(false))
    }

    /// Whether path parts are ids: `?by=id`.
    ///
    /// # Errors
    /// Any other value than `id` and `name`.
    pub(crate) fn by_id(&self) -> Result<bool, Problem> {
        Ok(self
            .word("by", &[("id", true), ("name", false)])?
            .unwrap_or(false))
    }
}

/// Percent-decodes once; `+` is a blank, as browsers and most clients write it.
fn decode(text: &str) -> Result<String, String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text);
    match decoded.clone().decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(decoded.decode_utf8_lossy().into_owned()),
    }
}

fn unknown(name: &str, known: &[&'static str]) -> Problem {
    let shown = short(name);
    let nearest = known
        .iter()
        .map(|known| (strsim::osa_distance(known, shown), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(2));
    let message = match nearest {
        Some((_, nearest)) => {
            format!("there is no parameter {shown:?} here; did you mean `{nearest}`?")
        }
        None if known.is_empty() => {
            format!("there is no parameter {shown:?} here; the route takes none")
        }
        None => format!(
            "there is no parameter {shown:?} here; there are {}",
            known.join(", ")
        ),
    };
    let code = Code::UnknownParameter;
    Problem::new(code, message.clone()).at(ErrorPlace {
        parameter: Some(shown.to_owned()),
        code: code.entry().code,
        message,
        ..ErrorPlace::default()
    })
}

/// Enough of a value to recognise it.
fn short(value: &str) -> &str {
    let end = value
        .char_indices()
        .nth(100)
        .map_or(value.len(), |(at, _)| at);
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "cursor", "by"];

    fn refused(raw: &str) -> String {
        let problem = Query::parse(Some(raw), KNOWN).unwrap_err();
        format!("{problem:?}")
    }

    #[test]
    fn values_are_decoded_once() {
        let query = Query::parse(Some("limit=5&cursor=a%252Fb+c&&by="), KNOWN).unwrap();
        assert_eq!(query.text("cursor"), Some("a%2Fb c"));
        assert_eq!(query.parsed::<u32>("limit", "a number").unwrap(), Some(5));
        assert_eq!(query.text("by"), Some(""));
        assert!(query.by_id().is_err());
        assert!(Query::parse(None, KNOWN).unwrap().text("limit").is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("limti=5").contains("did you mean `limit`"));
        assert!(refused("zzzzzzzz=5").contains("there are limit, cursor, by"));
        assert!(refused("limit=1&limit=2").contains("given twice"));
        assert!(refused("cursor=%ff").contains("not valid UTF-8"));
        let query = Query::parse(Some("limit=-1"), KNOWN).unwrap();
        let problem = query.parsed::<u32>("limit", "a number").unwrap_err();
        assert!(format!("{problem:?}").contains("`limit` must be a number, not \\\"-1\\\""));
    }
}
