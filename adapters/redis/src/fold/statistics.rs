//! What the engine counted, set absolutely.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use modelog_engine::Offset;
use modelog_engine::event::EntityKind;
use modelog_engine::projection::View;

use super::{Batches, Writes};
use crate::connection::command;
use crate::hash::float;

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
            .map(|(id, found)| {
                (
                    id,
                    found.encode(),
                    found.view(String::new(), String::new(), as_of),
                )
            })
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
    for (id, state, stats) in versions {
        let mut hash = command("HSET", &batches.keys.stats(Some(id)));
        let Some((model, version)) = batches.names.name(EntityKind::Version, id) else {
            continue;
        };
        let model = batches.names.name(EntityKind::Model, model);
        hash.arg("model")
            .arg(model.map(|(_, name)| name.to_string()).unwrap_or_default());
        hash.arg("version").arg(&*version);
        for (name, count) in [
            ("predictions", stats.predictions),
            ("errors", stats.errors),
            ("latency_count", stats.latency_count),
            ("confidence_count", stats.confidence_count),
            ("labelled", stats.labelled),
            ("correct", stats.correct),
            ("valued", stats.valued),
            ("as_of_offset", stats.as_of_offset.0),
        ] {
            hash.arg(name).arg(count);
        }
        for (name, value) in [
            ("rate_per_second", stats.rate_per_second),
            ("latency_ms_mean", stats.latency_ms_mean),
            ("latency_ms_p50", stats.latency_ms_p50),
            ("latency_ms_p95", stats.latency_ms_p95),
            ("latency_ms_p99", stats.latency_ms_p99),
            ("confidence_mean", stats.confidence_mean),
            ("confidence_stddev", stats.confidence_stddev),
            ("accuracy", stats.accuracy),
            ("label_coverage", stats.label_coverage),
            ("mean_absolute_error", stats.mean_absolute_error),
            ("root_mean_square_error", stats.root_mean_square_error),
        ] {
            // Empty where there is none: a label may be taken back.
            hash.arg(name).arg(value.map(float).unwrap_or_default());
        }
        for (name, time) in [
            ("first_time", stats.first_time),
            ("last_time", stats.last_time),
        ] {
            hash.arg(name)
                .arg(time.map(|time| time.to_string()).unwrap_or_default());
        }
        // All of it, for whoever reads it back; as text, since clients that want text read the whole hash.
        hash.arg("state").arg(BASE64.encode(state));
        writes.then.push(hash);
    }
    totals.as_of_offset
}
