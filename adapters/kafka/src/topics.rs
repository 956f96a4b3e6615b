//! Which topics are meant by names and patterns.
//!
//! librdkafka does the matching when topics are read, by POSIX's rules for extended expressions, and gives no access to
//! them. What is said here about a pattern agrees with it for everything that both kinds of expressions share.

use regex::bytes::{Regex, RegexBuilder};

/// The topics of a source.
#[derive(Clone, Debug)]
pub struct Topics {
    names: Vec<String>,
    patterns: Vec<Regex>,
}

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?}, which is no regular expression: {source}")]
pub struct BadPattern {
    pattern: String,
    source: regex::Error,
}

impl Topics {
    /// Names, and patterns that start with `^`.
    ///
    /// # Errors
    /// The first pattern that cannot be understood.
    pub fn new(topics: &[String]) -> Result<Self, BadPattern> {
        let (patterns, names): (Vec<_>, Vec<_>) = topics
            .iter()
            .cloned()
            .partition(|topic| topic.starts_with('^'));
        let compile = |pattern: String| {
            // Names of topics are ASCII.
            let built = RegexBuilder::new(&pattern).unicode(false).build();
            built.map_err(|source| BadPattern { pattern, source })
        };
        let patterns = patterns.into_iter().map(compile);
        Ok(Self {
            names,
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a topic is one of them.
    #[must_use]
    pub fn have(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic)
            || self
                .patterns
                .iter()
                .any(|pattern| pattern.is_match(topic.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let topics = ["ml.events", "^ml-[a-z]+$", "^x"].map(str::to_owned);
        let topics = Topics::new(&topics).unwrap();
        for topic in ["ml.events", "ml-events", "x", "xy"] {
            assert!(topics.have(topic), "{topic}");
        }
        for topic in ["ml.events-2", "ml-events-2", "yx", ""] {
            assert!(!topics.have(topic), "{topic}");
        }
        let error = Topics::new(&["^(".to_owned()]).unwrap_err();
        assert!(
            error.to_string().starts_with("\"^(\", which is no"),
            "{error}"
        );
    }
}
