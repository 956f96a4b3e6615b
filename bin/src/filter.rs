//! Which events a command is about, by the rules of `GET /v1/events`.

use std::fmt;
use std::str::FromStr;

use modelog_engine::batch;
use modelog_engine::event::Kind;
use modelog_engine::{Clock, Offset, SystemClock, Timestamp};

use crate::config::parse_duration;

/// Conditions, all of which must hold; those that are absent always do.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Filter {
    /// Only events of this kind, such as PredictionLogged
    #[arg(long)]
    pub(crate) kind: Option<Kind>,
    /// Only events that name this model, or one of its versions
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Only events that name this run
    #[arg(long)]
    pub(crate) run: Option<String>,
}

/// A stretch of event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Span {
    /// Only events that happened at this time or later: 2026-11-22T17:00:00Z, 2026-11-22, or 24h for a day ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Only events that happened before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<Timestamp>,
}

/// The log as it was: at a length, or at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Events before this one.
    Offset(Offset),
    /// Events that the log had taken by then, however old they say they are.
    Time(Timestamp),
}

impl Until {
    /// Whether a batch, or what follows it, can hold no event any more: append times never go back.
    pub(crate) fn is_before(self, first_offset: Offset, append_time: Timestamp) -> bool {
        match self {
            Self::Offset(end) => first_offset >= end,
            Self::Time(moment) => append_time > moment,
        }
    }

    /// The offset after the last event wanted, where that is known.
    pub(crate) fn offset(self) -> Option<Offset> {
        match self {
            Self::Offset(end) => Some(end),
            Self::Time(_) => None,
        }
    }
}

impl FromStr for Until {
    type Err = String;

    /// A number is an offset; anything else a time as people give it.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let offset = text.parse().map_err(|_| "is no offset".to_owned())?;
            return Ok(Self::Offset(Offset(offset)));
        }
        time(text)
            .map(Self::Time)
            .map_err(|error| format!("{error}, or an offset"))
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(end) => end.fmt(f),
            Self::Time(moment) => moment.fmt(f),
        }
    }
}

impl Filter {
    /// The same as the engine has it.
    pub(crate) fn of_rows(&self, span: Span) -> batch::Filter {
        batch::Filter {
            kinds: self.kind.map(|kind| [kind].into_iter().collect()),
            model: self.model.clone(),
            run: self.run.clone(),
            since: span.since,
            to: span.to,
        }
    }

    /// The same as parts of a query.
    pub(crate) fn query(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("kind", self.kind.map(|kind| kind.name().to_owned())),
            ("model", self.model.clone()),
            ("run", self.run.clone()),
        ]
    }
}

impl Span {
    /// The same as parts of a query.
    pub(crate) fn query(self) -> [(&'static str, Option<String>); 2] {
        [
            ("since", self.since.map(|time| time.to_string())),
            ("to", self.to.map(|time| time.to_string())),
        ]
    }
}

/// A time as people give it.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_duration(text) {
        let micros = i64::try_from(ago.as_micros()).map_err(|_| "is too long ago".to_owned())?;
        let now = SystemClock::new().now().micros();
        return Ok(Timestamp::from_micros(now.saturating_sub(micros)).max(Timestamp::MIN));
    }
    Timestamp::parse(text)
        .or_else(|error| Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| error))
        .map_err(|error| format!("{error}; a day such as 2026-11-22 will do, or 24h for a day ago"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_people() {
        let day = Timestamp::parse("2026-11-22T00:00:00Z").unwrap();
        assert_eq!(time("2026-11-22"), Ok(day));
        assert_eq!(time("2026-11-22T00:00:00Z"), Ok(day));
        let before = SystemClock::new().now().micros();
        let ago = time("24h").unwrap().micros() + 86_400_000_000;
        let after = SystemClock::new().now().micros();
        assert!((before..=after).contains(&ago), "{before} {ago} {after}");
        for wrong in ["yesterday", "2026", "22.11.2026", "24", "1700000000"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_log_as_it_was() {
        assert_eq!("2026".parse(), Ok(Until::Offset(Offset(2026))));
        let day = Timestamp::parse("2026-11-22T00:00:00Z").unwrap();
        assert_eq!("2026-11-22".parse(), Ok(Until::Time(day)));
        for wrong in ["", "-1", "yesterday", "18446744073709551616"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
        let until = Until::Offset(Offset(3));
        assert!(!until.is_before(Offset(2), day) && until.is_before(Offset(3), day));
        let until = Until::Time(day);
        let later = Timestamp::from_micros(day.micros() + 1);
        assert!(!until.is_before(Offset(9), day) && until.is_before(Offset(0), later));
    }
}
