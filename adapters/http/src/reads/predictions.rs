//! Predictions, and what is counted of them.

use axum::extract::State;
use axum::response::Response;
use modelog_engine::read::{Key, Prediction, StatsTotals, VersionKey, VersionStats};
use modelog_engine::stats::compare::{Comparison, compare};
use percent_encoding::percent_decode_str;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{ArrowStream, Form, List, NotAcceptable, json};
use super::fresh::Freshness;
use super::parameters::{ManyOf, Nothing, One, Reading, Sides, Window};
use super::places::{PredictionPlace, VersionPlace, no_version};
use crate::path::Path;
use crate::problem::{Missing, Problem, Problems};
use crate::state::AppState;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(predictions))
        .routes(routes!(prediction))
        .routes(routes!(stats))
        .routes(routes!(version_stats))
        .routes(routes!(comparison))
}

/// Predictions of a version with their latest feedback, newest first by time and offset.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions/{version}/predictions",
    tag = "read",
    params(VersionPlace, ManyOf, Freshness),
    responses(
        (status = 200, content(
            (List<Prediction> = "application/json"),
            (ArrowStream = "application/vnd.apache.arrow.stream"),
        )),
        Problems, Missing,
        NotAcceptable,
    )
)]
async fn predictions(
    State(state): State<AppState>,
    Path(place): Path<VersionPlace>,
    form: Form,
    Reading(many, reads): Reading<ManyOf>,
) -> Result<Response, Problem> {
    let key = place.key(&state, many.by)?;
    let page = reads.predictions(&key, many.page()).await?;
    form.list(page.ok_or_else(|| no_version(&key))?).await
}

/// A prediction with its latest feedback, merged from all that was logged under its id.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/predictions/{prediction_id}",
    tag = "read",
    params(PredictionPlace, One, Freshness),
    responses((status = 200, body = Prediction), Problems, Missing)
)]
async fn prediction(
    Path(place): Path<PredictionPlace>,
    Reading(one, reads): Reading<One>,
) -> Result<Response, Problem> {
    let model = one.by.key(place.model)?;
    let found = reads.prediction(&model, &place.prediction_id).await?;
    let missing = || {
        Problem::not_found(
            "prediction",
            format_args!("{:?} of that model", place.prediction_id),
        )
    };
    json(&found.ok_or_else(missing)?)
}

/// Counts over everything in the log.
#[utoipa::path(
    get,
    path = "/v1/stats",
    tag = "read",
    params(Freshness),
    responses((status = 200, body = StatsTotals), Problems)
)]
async fn stats(Reading(Nothing {}, reads): Reading<Nothing>) -> Result<Response, Problem> {
    json(&reads.stats().await?)
}

/// How a version does in service: over all time, or over the predictions of some time.
#[utoipa::path(
    get,
    path = "/v1/models/{model}/versions/{version}/stats",
    tag = "read",
    params(VersionPlace, Window, Freshness),
    responses((status = 200, body = VersionStats), Problems, Missing)
)]
async fn version_stats(
    State(state): State<AppState>,
    Path(place): Path<VersionPlace>,
    Reading(window, reads): Reading<Window>,
) -> Result<Response, Problem> {
    let key = place.key(&state, window.by)?;
    let found = reads
        .version_stats(&key, window.since, window.until)
        .await?;
    json(&found.ok_or_else(|| no_version(&key))?)
}

/// Two versions side by side: how far they are apart, and whether chance alone could explain it.
#[utoipa::path(
    get,
    path = "/v1/compare",
    tag = "read",
    params(Sides, Freshness),
    responses((status = 200, body = Comparison), Problems, Missing)
)]
async fn comparison(Reading(sides, reads): Reading<Sides>) -> Result<Response, Problem> {
    let (a, b) = (side("a", &sides.a)?, side("b", &sides.b)?);
    let stats = async |key: &VersionKey| {
        let found = reads.version_stats(key, sides.since, sides.until).await?;
        found.ok_or_else(|| no_version(key))
    };
    json(&compare(&stats(&a).await?, &stats(&b).await?))
}

/// Takes `model@version` apart, or `model@@alias`.
///
/// The first `@` is the one in between; `%` and `@` within names are percent-encoded, as in references such as
/// `version/team%40x@v1` (which encode `/` too; here it may stand as it is). That is on top of the encoding of the URL,
/// which most clients add by themselves and which cannot tell the two kinds of `@` apart.
///
/// # Errors
/// `bad_parameter`, saying how it is written.
fn side(name: &str, text: &str) -> Result<VersionKey, Problem> {
    let wrong = |message: &str| Problem::bad_parameter(name, message);
    let (model, version) = text.split_once('@').ok_or_else(|| {
        wrong("must be model@version, or model@@alias; within names `@` is written %40 and `%` %25")
    })?;
    let decoded = |part: &str| {
        if !escapes_are_whole(part) {
            return Err(wrong("has a lone `%`; within names it is written %25"));
        }
        let part = percent_decode_str(part).decode_utf8();
        part.map(String::from)
            .map_err(|_| wrong("is not valid UTF-8"))
    };
    let model = Key::Name(decoded(model)?);
    Ok(match version.strip_prefix('@') {
        Some(alias) => VersionKey::Alias {
            model,
            alias: decoded(alias)?,
        },
        None => VersionKey::Name {
            model,
            version: decoded(version)?,
        },
    })
}

/// Whether every `%` is followed by two hexadecimal digits.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(model: &str, version: &str) -> VersionKey {
        VersionKey::Name {
            model: Key::Name(model.to_owned()),
            version: version.to_owned(),
        }
    }

    fn aliased(model: &str, alias: &str) -> VersionKey {
        VersionKey::Alias {
            model: Key::Name(model.to_owned()),
            alias: alias.to_owned(),
        }
    }

    #[test]
    fn versions_are_named_in_one_parameter() {
        for (text, key) in [
            ("resnet50@v1", named("resnet50", "v1")),
            ("team/resnet 50@v1/ü", named("team/resnet 50", "v1/ü")),
            ("team%2Fresnet@v1", named("team/resnet", "v1")),
            ("a%40b@c@d", named("a@b", "c@d")),
            ("50%25@100%25", named("50%", "100%")),
            ("a%2540b@v", named("a%40b", "v")),
            ("m@%40v", named("m", "@v")),
            ("m@@prod", aliased("m", "prod")),
            ("m@@p%40", aliased("m", "p@")),
        ] {
            assert_eq!(side("a", text).unwrap(), key, "{text}");
        }
        for text in ["", "resnet50", "50%@v1", "m@v%4", "m@v%+1", "m%ff@v"] {
            assert!(side("a", text).is_err(), "{text}");
        }
    }
}
