//! What the engine counted, set absolutely.

use modelog_engine::event::EntityKind;
use modelog_engine::projection::View;
use modelog_engine::read::VersionStats;
use modelog_engine::{Offset, Timestamp};

use super::{Batches, Writes};
use crate::connection::command;
use crate::error::RedisError;
use crate::hash::{Hash, float};

/// Publishes totals, and the versions whose statistics changed since an offset; answers up to where.
pub(crate) fn publish(
    batches: Batches<'_>,
    view: View<'_>,
    since: Offset,
    writes: &mut Writes,
) -> Offset {
    let (totals, versions) = view.statistics.with(|statistics| {
        let as_of = statistics.totals().as_of_offset;
        let versions: Vec<_> = statistics
            .versions_changed_since(since)
            .map(|(id, found)| (id, found.view("", "", as_of)))
            .collect();
        (statistics.totals().clone(), versions)
    });
    let mut hash = command("HSET", &batches.keys.stats(None));
    for (name, count) in [
        ("events", totals.events),
        ("models", totals.models),
        ("versions", totals.versions),
        ("datasets", totals.datasets),
        ("experiments", totals.experiments),
        ("runs", totals.runs),
        ("metric_points", totals.metric_points),
        ("predictions", totals.predictions),
        ("prediction_errors", totals.prediction_errors),
        ("feedback", totals.feedback),
        ("feedback_unmatched", totals.feedback_unmatched),
        ("rejected", totals.rejected),
        ("as_of_offset", totals.as_of_offset.0),
    ] {
        hash.arg(name).arg(count);
    }
    writes.then.push(hash);
    for (id, stats) in versions {
        let mut hash = command("HSET", &batches.keys.stats(Some(id)));
        let Some((model, version)) = batches.names.name(EntityKind::Version, id) else {
            continue;
        };
        let model = batches.names.name(EntityKind::Model, model);
        hash.arg("model")
            .arg(model.map(|(_, name)| name.to_string()).unwrap_or_default());
        hash.arg("version").arg(&*version);
        for (name, value) in fields(&stats) {
            hash.arg(name).arg(value);
        }
        writes.then.push(hash);
    }
    totals.as_of_offset
}

/// A version's statistics, but for its names. What there is none of is empty: a label may be taken back.
fn fields(stats: &VersionStats) -> [(&'static str, String); 21] {
    let number = |value: Option<f64>| value.map(float).unwrap_or_default();
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    [
        ("predictions", stats.predictions.to_string()),
        ("errors", stats.errors.to_string()),
        ("first_time", time(stats.first_time)),
        ("last_time", time(stats.last_time)),
        ("rate_per_second", number(stats.rate_per_second)),
        ("latency_count", stats.latency_count.to_string()),
        ("latency_ms_mean", number(stats.latency_ms_mean)),
        ("latency_ms_p50", number(stats.latency_ms_p50)),
        ("latency_ms_p95", number(stats.latency_ms_p95)),
        ("latency_ms_p99", number(stats.latency_ms_p99)),
        ("confidence_count", stats.confidence_count.to_string()),
        ("confidence_mean", number(stats.confidence_mean)),
        ("confidence_stddev", number(stats.confidence_stddev)),
        ("labelled", stats.labelled.to_string()),
        ("correct", stats.correct.to_string()),
        ("accuracy", number(stats.accuracy)),
        ("label_coverage", number(stats.label_coverage)),
        ("valued", stats.valued.to_string()),
        ("mean_absolute_error", number(stats.mean_absolute_error)),
        (
            "root_mean_square_error",
            number(stats.root_mean_square_error),
        ),
        ("as_of_offset", stats.as_of_offset.to_string()),
    ]
}

/// The statistics in a version's hash, without its names. `as_of_offset` is when they changed last.
pub(crate) fn read(hash: &Hash<&str>) -> Result<VersionStats, RedisError> {
    let missing = |name: &str| hash.content(format!("no {name}"));
    let count = |name: &str| hash.number(name)?.ok_or_else(|| missing(name));
    let number = |name: &str| match hash.get(name) {
        Some("") => Ok(None),
        _ => hash.float(name),
    };
    let time = |name: &str| match hash.get(name) {
        Some("") => Ok(None),
        _ => hash.time(name),
    };
    Ok(VersionStats {
        model: String::new(),
        version: String::new(),
        predictions: count("predictions")?,
        errors: count("errors")?,
        first_time: time("first_time")?,
        last_time: time("last_time")?,
        rate_per_second: number("rate_per_second")?,
        latency_count: count("latency_count")?,
        latency_ms_mean: number("latency_ms_mean")?,
        latency_ms_p50: number("latency_ms_p50")?,
        latency_ms_p95: number("latency_ms_p95")?,
        latency_ms_p99: number("latency_ms_p99")?,
        confidence_count: count("confidence_count")?,
        confidence_mean: number("confidence_mean")?,
        confidence_stddev: number("confidence_stddev")?,
        labelled: count("labelled")?,
        correct: count("correct")?,
        accuracy: number("accuracy")?,
        label_coverage: number("label_coverage")?,
        valued: count("valued")?,
        mean_absolute_error: number("mean_absolute_error")?,
        root_mean_square_error: number("root_mean_square_error")?,
        as_of_offset: Offset(count("as_of_offset")?),
    })
}
