//! What a committed position says about who committed it.
//!
//! The group's commits are a second copy of what the log knows: useful to whoever watches the group, and needed where a
//! partition moves from one log to another. So each carries the identity of the log that made it, and where that log
//! began to read the partition: a log that was restored from a backup without any trace of the partition reads from there
//! again.
//!
//! The text is `modelog:<log>:<start>`.

use modelog_engine::LogId;

const PREFIX: &str = "modelog:";

/// A committed position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The next to be read.
    pub(crate) position: i64,
    pub(crate) by: Committer,
}

/// Who committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committer {
    /// A log, which began to read at `start`.
    Log { log: LogId, start: i64 },
    /// Another program, or a person.
    Stranger,
}

impl Committer {
    /// Reads the text beside a committed position.
    pub(crate) fn read(metadata: &str) -> Self {
        let parsed = || {
            let (log, start) = metadata.strip_prefix(PREFIX)?.split_once(':')?;
            let log = LogId(log.parse().ok()?);
            let start = start.parse().ok().filter(|start| *start >= 0)?;
            Some(Self::Log { log, start })
        };
        parsed().unwrap_or(Self::Stranger)
    }

    /// The text for a commit.
    pub(crate) fn text(log: LogId, start: i64) -> String {
        format!("{PREFIX}{log}:{start}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_knows_its_commits_again() {
        let log = LogId(uuid::Uuid::from_u128(77));
        let text = Committer::text(log, 12);
        assert_eq!(text, "modelog:00000000-0000-0000-0000-00000000004d:12");
        assert_eq!(Committer::read(&text), Committer::Log { log, start: 12 });
    }

    #[test]
    fn other_texts_are_by_strangers() {
        for text in [
            "",
            "modelog:",
            "modelog:00000000-0000-0000-0000-00000000004d",
            "modelog:00000000-0000-0000-0000-00000000004d:-3",
            "modelog:77:3",
            "0000:1",
        ] {
            assert_eq!(Committer::read(text), Committer::Stranger, "{text}");
        }
    }
}
