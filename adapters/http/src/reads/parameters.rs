//! What can be asked of the store, and what it means; what can be asked of the log is in `log_parameters`.
//!
//! Each set of query parameters is one struct: its documentation is that of the API, its names are the only ones taken.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use modelog_engine::Timestamp;
use modelog_engine::read::{
    Key, PAGE_DEFAULT, PAGE_MAX, PageRequest, ReadStore, RunFilter, RunOrder, SeriesQuery,
};

use super::fresh::Freshness;
use crate::codes::Code;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::AppState;

/// A set of query parameters.
pub(super) trait Parameters: Sized {
    /// The names of all of them.
    const NAMES: &'static [&'static str];

    /// # Errors
    /// The first value that cannot be.
    fn read(query: &Query) -> Result<Self, Problem>;
}

/// The parameters of a route that reads the log itself.
#[derive(Debug)]
pub(super) struct Asked<P>(pub(super) P);

impl<P: Parameters> FromRequestParts<AppState> for Asked<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let query = Query::parse(parts.uri.query(), P::NAMES)?;
        P::read(&query).map(Self)
    }
}

/// The parameters of a route that answers from a store, and that store, as fresh as was asked for.
pub(super) struct Reading<P>(pub(super) P, pub(super) Arc<dyn ReadStore>);

impl<P: Parameters + Send> FromRequestParts<AppState> for Reading<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let known = [P::NAMES, Freshness::NAMES].concat();
        let query = Query::parse(parts.uri.query(), &known)?;
        let asked = P::read(&query)?;
        let reads = Freshness::read(&query)?.wait(parts, state).await?;
        Ok(Self(asked, reads))
    }
}

/// No parameters.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Nothing {}

impl Parameters for Nothing {
    const NAMES: &'static [&'static str] = &[];

    fn read(_: &Query) -> Result<Self, Problem> {
        Ok(Self {})
    }
}

/// How path parts name entities.
#[derive(Clone, Copy, Debug, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum By {
    Name,
    Id,
}

impl By {
    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(if query.by_id()? { Self::Id } else { Self::Name })
    }

    /// The entity a path part names.
    ///
    /// # Errors
    /// `bad_path` if it should be an id and is none.
    pub(super) fn key(self, part: String) -> Result<Key, Problem> {
        match self {
            Self::Name => Ok(Key::Name(part)),
            Self::Id => part.parse().map(Key::Id).map_err(|_| {
                let shown: String = part.chars().take(100).collect();
                Problem::new(
                    Code::BadPath,
                    format!("with `?by=id` {shown:?} must be a number"),
                )
            }),
        }
    }
}

/// How one entity is asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct One {
    /// Whether entities in the path are given by `name`, the default, or by `id`.
    #[param(inline, required = false)]
    pub(super) by: By,
}

impl Parameters for One {
    const NAMES: &'static [&'static str] = &["by"];

    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            by: By::read(query)?,
        })
    }
}

/// Which stretch of a list is asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Many {
    /// Items at most: 1 to 10,000, 100 unless given.
    #[param(minimum = 1, maximum = 10_000, default = 100, required = false)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Many {
    pub(super) fn page(self) -> PageRequest {
        PageRequest {
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

impl Parameters for Many {
    const NAMES: &'static [&'static str] = &["limit", "cursor"];

    fn read(query: &Query) -> Result<Self, Problem> {
        let expected = format!("a number from 1 to {PAGE_MAX}");
        let limit = query.parsed("limit", &expected)?.unwrap_or(PAGE_DEFAULT);
        if limit == 0 || limit > PAGE_MAX {
            let message = format!("must be {expected}, not {limit}");
            return Err(Problem::bad_parameter("limit", message));
        }
        Ok(Self {
            limit,
            cursor: query.text("cursor").map(str::to_owned),
        })
    }
}

/// Which stretch of a list under an entity is asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ManyOf {
    /// Whether entities in the path are given by `name`, the default, or by `id`.
    #[param(inline, required = false)]
    pub(super) by: By,
    /// Items at most: 1 to 10,000, 100 unless given.
    #[param(minimum = 1, maximum = 10_000, default = 100, required = false)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ManyOf {
    pub(super) fn page(self) -> PageRequest {
        PageRequest {
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

impl Parameters for ManyOf {
    const NAMES: &'static [&'static str] = &["by", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, Problem> {
        let Many { limit, cursor } = Many::read(query)?;
        let by = By::read(query)?;
        Ok(Self { by, limit, cursor })
    }
}

/// How a run ended, or that it has not.
#[derive(Clone, Copy, Debug, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
enum Status {
    Running,
    Finished,
    Failed,
    Killed,
}

impl Status {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("running", Self::Running),
        ("finished", Self::Finished),
        ("failed", Self::Failed),
        ("killed", Self::Killed),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

/// How runs are ordered: by when they started last, or by their ids as producers gave them.
#[derive(Clone, Copy, Debug, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
enum OrderBy {
    Newest,
    Oldest,
    Name,
}

impl OrderBy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("newest", Self::Newest),
        ("oldest", Self::Oldest),
        ("name", Self::Name),
    ];

    fn order(self) -> RunOrder {
        match self {
            Self::Newest => RunOrder::NewestStarted,
            Self::Oldest => RunOrder::OldestStarted,
            Self::Name => RunOrder::Name,
        }
    }
}

/// Which runs are asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Runs {
    /// The experiment's name.
    experiment: Option<String>,
    /// The model's name.
    model: Option<String>,
    /// How the run ended, or that it has not.
    #[param(inline)]
    status: Option<Status>,
    /// The order: newest first unless given.
    #[param(inline, required = false)]
    order_by: OrderBy,
    /// Items at most: 1 to 10,000, 100 unless given.
    #[param(minimum = 1, maximum = 10_000, default = 100, required = false)]
    limit: u32,
    /// The `next_cursor` of the page before; the other parameters must be the same as then.
    cursor: Option<String>,
}

impl Runs {
    pub(super) fn filter(&self) -> RunFilter {
        RunFilter {
            experiment: self.experiment.clone(),
            model: self.model.clone(),
            status: self.status.map(|status| status.name().to_owned()),
            order: self.order_by.order(),
        }
    }

    pub(super) fn page(self) -> PageRequest {
        PageRequest {
            limit: self.limit,
            cursor: self.cursor,
        }
    }
}

impl Parameters for Runs {
    const NAMES: &'static [&'static str] = &[
        "experiment",
        "model",
        "status",
        "order_by",
        "limit",
        "cursor",
    ];

    fn read(query: &Query) -> Result<Self, Problem> {
        let owned = |name| query.text(name).map(str::to_owned);
        let Many { limit, cursor } = Many::read(query)?;
        Ok(Self {
            experiment: owned("experiment"),
            model: owned("model"),
            status: query.word("status", Status::WORDS)?,
            order_by: query
                .word("order_by", OrderBy::WORDS)?
                .unwrap_or(OrderBy::Newest),
            limit,
            cursor,
        })
    }
}

/// Which points of a series are asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Points {
    /// Whether entities in the path are given by `name`, the default, or by `id`.
    #[param(inline, required = false)]
    pub(super) by: By,
    /// The split, such as `train`; without it, points logged without one.
    split: Option<String>,
    /// The first step.
    from_step: Option<i64>,
    /// The last step, inclusive.
    to_step: Option<i64>,
    /// Points at most: beyond, first, last, lowest and highest of every bucket are kept.
    #[param(minimum = 1)]
    max_points: Option<u64>,
}

impl Points {
    pub(super) fn query(self) -> SeriesQuery {
        SeriesQuery {
            split: self.split,
            from_step: self.from_step,
            to_step: self.to_step,
            // More than there can be in an answer: all of them.
            max_points: self
                .max_points
                .map(|points| u32::try_from(points).unwrap_or(u32::MAX)),
        }
    }
}

impl Parameters for Points {
    const NAMES: &'static [&'static str] = &["by", "split", "from_step", "to_step", "max_points"];

    fn read(query: &Query) -> Result<Self, Problem> {
        let max_points = query.parsed("max_points", AT_LEAST_ONE)?;
        if max_points == Some(0) {
            let message = format!("must be {AT_LEAST_ONE}, not 0");
            return Err(Problem::bad_parameter("max_points", message));
        }
        Ok(Self {
            by: By::read(query)?,
            // An empty split is how forms write that there is none.
            split: query
                .text("split")
                .filter(|split| !split.is_empty())
                .map(str::to_owned),
            from_step: query.parsed("from_step", INTEGER)?,
            to_step: query.parsed("to_step", INTEGER)?,
            max_points,
        })
    }
}

const AT_LEAST_ONE: &str = "a number of at least 1";
const INTEGER: &str = "a 64-bit integer";

/// A time: RFC 3339, or microseconds since 1970.
///
/// # Errors
/// The value is no time that events can have.
pub(super) fn time(query: &Query, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = query.text(name) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(micros) => Timestamp::from_producer_micros(micros),
        Err(_) => Timestamp::parse(text),
    }
    .map(Some)
    .map_err(|error| Problem::bad_parameter(name, error))
}

/// Over which time a version's statistics are asked for.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Window {
    /// Whether entities in the path are given by `name`, the default, or by `id`.
    #[param(inline, required = false)]
    pub(super) by: By,
    /// Predictions from this event time on: RFC 3339, or microseconds since 1970.
    #[param(value_type = Option<String>, example = "2026-11-22T17:00:00Z")]
    pub(super) since: Option<Timestamp>,
    /// Predictions before this event time.
    #[param(value_type = Option<String>, example = "2026-11-23T17:00:00Z")]
    pub(super) until: Option<Timestamp>,
}

impl Parameters for Window {
    const NAMES: &'static [&'static str] = &["by", "since", "until"];

    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            by: By::read(query)?,
            since: time(query, "since")?,
            until: time(query, "until")?,
        })
    }
}

/// Which versions are compared, over which time.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Sides {
    /// One version, as `model@version`; `model@@alias` is the version an alias points to. `%` and `@` within names are
    /// written `%25` and `%40`, on top of the encoding of the URL.
    #[param(example = "digits@softmax-1")]
    pub(super) a: String,
    /// The other version.
    #[param(example = "digits@@production")]
    pub(super) b: String,
    /// Predictions from this event time on: RFC 3339, or microseconds since 1970.
    #[param(value_type = Option<String>, example = "2026-11-22T17:00:00Z")]
    pub(super) since: Option<Timestamp>,
    /// Predictions before this event time.
    #[param(value_type = Option<String>, example = "2026-11-23T17:00:00Z")]
    pub(super) until: Option<Timestamp>,
}

impl Parameters for Sides {
    const NAMES: &'static [&'static str] = &["a", "b", "since", "until"];

    fn read(query: &Query) -> Result<Self, Problem> {
        let side = |name| {
            query
                .text(name)
                .map(str::to_owned)
                .ok_or_else(|| Problem::bad_parameter(name, "is missing; it takes model@version"))
        };
        Ok(Self {
            a: side("a")?,
            b: side("b")?,
            since: time(query, "since")?,
            until: time(query, "until")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use utoipa::IntoParams;

    use super::*;

    /// What is documented is what is taken.
    fn bound<P: Parameters + IntoParams>() {
        let documented: Vec<_> = P::into_params(|| None)
            .into_iter()
            .map(|parameter| parameter.name)
            .collect();
        assert_eq!(documented, P::NAMES);
    }

    #[test]
    fn the_documented_parameters_are_the_ones_taken() {
        bound::<Nothing>();
        bound::<One>();
        bound::<Many>();
        bound::<ManyOf>();
        bound::<Runs>();
        bound::<Points>();
        bound::<Window>();
        bound::<Sides>();
        bound::<super::super::log_parameters::Following>();
        bound::<super::super::log_parameters::Stretch>();
        bound::<Freshness>();
    }

    fn read<P: Parameters>(raw: &str) -> Result<P, Problem> {
        P::read(&Query::parse(Some(raw), P::NAMES).unwrap())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let page = read::<Many>("").unwrap().page();
        assert_eq!((page.limit, page.cursor), (100, None));
        assert_eq!(read::<Runs>("").unwrap().filter(), RunFilter::default());
        assert_eq!(
            read::<Points>("split=").unwrap().query(),
            SeriesQuery::default()
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for raw in ["limit=0", "limit=10001", "limit=-1", "limit=", "limit=1e3"] {
            assert!(read::<Many>(raw).is_err(), "{raw}");
        }
        for raw in ["status=done", "order_by=-id", "status="] {
            assert!(read::<Runs>(raw).is_err(), "{raw}");
        }
        for raw in ["max_points=0", "from_step=1.5", "by=number"] {
            assert!(read::<Points>(raw).is_err(), "{raw}");
        }
        for raw in [
            "since=yesterday",
            "until=1795366800",
            "since=1500-01-01T00:00:00Z",
        ] {
            assert!(read::<Window>(raw).is_err(), "{raw}");
        }
        for raw in ["a=m@1", "b=m@1", ""] {
            assert!(read::<Sides>(raw).is_err(), "{raw}");
        }
    }
}
