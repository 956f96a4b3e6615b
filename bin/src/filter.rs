//! Which events a command is about, by the rules of `GET /v1/events`.

use modelog_engine::batch;
use modelog_engine::event::Kind;
use modelog_engine::{Clock, SystemClock, Timestamp};

use crate::client;
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
    pub(crate) until: Option<Timestamp>,
}

impl Filter {
    /// The same as the engine has it.
    pub(crate) fn of_rows(&self, span: Span) -> batch::Filter {
        batch::Filter {
            kinds: self.kind.map(|kind| [kind].into_iter().collect()),
            model: self.model.clone(),
            run: self.run.clone(),
            since: span.since,
            to: span.until,
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
    /// The same as parts of a query; the API's `until` is an offset.
    pub(crate) fn query(self) -> [(&'static str, Option<String>); 2] {
        [
            ("since", self.since.map(|time| time.to_string())),
            ("to", self.until.map(|time| time.to_string())),
        ]
    }
}

/// A path of the API with both as its query.
pub(crate) fn path(route: &str, filter: &Filter, span: Span) -> String {
    let parts = [&filter.query()[..], &span.query()[..]].concat();
    format!("{route}{}", client::query(&parts))
}

/// A time as people give it.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_duration(text) {
        let micros = i64::try_from(ago.as_micros()).map_err(|_| "is too long ago".to_owned())?;
        let now = SystemClock::new().now().micros();
        return Ok(Timestamp::from_micros(now.saturating_sub(micros)).max(Timestamp::MIN));
    }
    Timestamp::parse(text)
        .or_else(|error| Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| error))
        .map_err(|error| format!("{error}, 2026-11-22, or 24h for a day ago"))
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
}
