//! What can be asked of the log, and what it means.

use modelog_engine::Timestamp;
use modelog_engine::batch::{Filter, Kinds};
use modelog_engine::event::Kind;

use super::moment::Until;
use super::parameters::{Parameters, time};
use super::position::Start;
use crate::problem::Problem;
use crate::query::Query;

/// Which events are followed.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Following {
    /// The offset, or the `id` of an event after which, to start; without it, from now. `Last-Event-ID` goes before it.
    #[param(value_type = Option<String>, example = "0")]
    pub(super) from: Option<Start>,
    /// Kinds of events, separated by commas.
    #[param(value_type = Option<String>, example = "MetricLogged,RunFinished")]
    kind: Option<Vec<Kind>>,
    /// Events that name this model or one of its versions.
    model: Option<String>,
    /// Events that name this run.
    run: Option<String>,
}

impl Following {
    pub(super) fn filter(self) -> Filter {
        Filter {
            kinds: self.kind.map(Kinds::from_iter),
            model: self.model,
            run: self.run,
            since: None,
            to: None,
        }
    }
}

impl Parameters for Following {
    const NAMES: &'static [&'static str] = &["from", "kind", "model", "run"];

    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            from: query.parsed("from", "an offset, or an `id` of the stream")?,
            kind: kinds(query)?,
            model: query.text("model").map(str::to_owned),
            run: query.text("run").map(str::to_owned),
        })
    }
}

/// # Errors
/// A word that is no kind.
fn kinds(query: &Query) -> Result<Option<Vec<Kind>>, Problem> {
    let Some(text) = query.text("kind") else {
        return Ok(None);
    };
    let kind = |text: &str| {
        text.parse().map_err(|error| {
            let nearest = Kind::ALL
                .into_iter()
                .min_by_key(|kind| strsim::osa_distance(kind.name(), text));
            let hint = nearest.map_or_else(String::new, |kind| format!("; did you mean `{kind}`?"));
            Problem::bad_parameter("kind", format!("is wrong: {error}{hint}"))
        })
    };
    text.split(',')
        .map(kind)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Which stretch of the log is asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Stretch {
    /// The first offset, 0 unless given; or the `id` of an event of the tail, to start after it.
    #[param(value_type = Option<String>, example = "0")]
    pub(super) from: Option<Start>,
    /// The log as it was: the offset after the last event, or the time (RFC 3339) at which the log had taken no more. The
    /// end of the log unless given. For the time of events there is `to`.
    #[param(value_type = Option<String>, example = "2026-11-22T17:00:00Z")]
    pub(super) until: Option<Until>,
    /// Kinds of events, separated by commas. As Arrow it must be one.
    #[param(value_type = Option<String>, example = "PredictionLogged")]
    pub(super) kind: Option<Vec<Kind>>,
    /// Events that name this model or one of its versions.
    model: Option<String>,
    /// Events that name this run.
    run: Option<String>,
    /// Events from this time on: RFC 3339, or microseconds since 1970.
    #[param(value_type = Option<String>, example = "2026-11-22T17:00:00Z")]
    since: Option<Timestamp>,
    /// Events before this time.
    #[param(value_type = Option<String>, example = "2026-11-23T17:00:00Z")]
    to: Option<Timestamp>,
}

impl Stretch {
    pub(super) fn filter(self) -> Filter {
        Filter {
            kinds: self.kind.map(Kinds::from_iter),
            model: self.model,
            run: self.run,
            since: self.since,
            to: self.to,
        }
    }
}

impl Parameters for Stretch {
    const NAMES: &'static [&'static str] =
        &["from", "until", "kind", "model", "run", "since", "to"];

    fn read(query: &Query) -> Result<Self, Problem> {
        let Following {
            from,
            kind,
            model,
            run,
        } = Following::read(query)?;
        Ok(Self {
            from,
            until: query.parsed("until", "an offset, or an RFC 3339 time")?,
            kind,
            model,
            run,
            since: time(query, "since")?,
            to: time(query, "to")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<P: Parameters>(raw: &str) -> Result<P, Problem> {
        P::read(&Query::parse(Some(raw), P::NAMES).unwrap())
    }

    #[test]
    fn kinds_are_taken_in_every_spelling() {
        let asked = read::<Following>("kind=metric_logged,RunFinished").unwrap();
        assert_eq!(
            asked.kind,
            Some(vec![Kind::MetricLogged, Kind::RunFinished])
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for raw in [
            "kind=",
            "kind=MetricLogged,",
            "kind=Metric",
            "from=now",
            "until=-1",
            "until=yesterday",
        ] {
            assert!(read::<Stretch>(raw).is_err(), "{raw}");
        }
    }
}
