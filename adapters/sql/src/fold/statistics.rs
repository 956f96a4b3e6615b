//! Publishes what the engine's fold has counted.

use modelog_engine::Offset;
use modelog_engine::projection::View;
use modelog_engine::read::StatsTotals;
use modelog_engine::stats::{Statistics, VersionStatistics};

use crate::bulk::{Conflict, Merge, Records, Transaction};
use crate::connection::Statement;
use crate::error::DatabaseError;
use crate::value::{Value, count, finite};

/// What this program has published, since it opened the store.
///
/// Nothing at first: the fold may be behind what was published before (it starts from an older snapshot), so everything
/// is published again then, to be of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    to: Option<Offset>,
}

impl Published {
    /// Whether it is of an offset.
    pub(crate) fn is_of(self, offset: Offset) -> bool {
        self.to == Some(offset)
    }
}

/// Brings statistics to what the fold says now; answers how far that is.
pub(crate) async fn publish(
    view: &View<'_>,
    published: Published,
    transaction: &mut Transaction<'_>,
) -> Result<Published, DatabaseError> {
    // One look, so that all is of one moment, and a short one: the fold waits meanwhile.
    let (totals, versions) = view
        .statistics
        .with(|statistics| (statistics.totals().clone(), versions(statistics, published)));
    if published.to.is_none() {
        transaction
            .run(Statement::new(&["DELETE FROM statistics"]))
            .await?;
    }
    transaction.load(&versions).await?;
    transaction.load(&totals_row(&totals)).await?;
    Ok(Published {
        to: Some(totals.as_of_offset),
    })
}

fn versions<'a>(statistics: &Statistics, published: Published) -> Records<'a> {
    let columns = [
        ("version_id", Merge::First),
        ("predictions", Merge::Last),
        ("errors", Merge::Last),
        ("first_time", Merge::Last),
        ("last_time", Merge::Last),
        ("latency_ms_mean", Merge::Last),
        ("latency_ms_p50", Merge::Last),
        ("latency_ms_p95", Merge::Last),
        ("latency_ms_p99", Merge::Last),
        ("confidence_mean", Merge::Last),
        ("labelled", Merge::Last),
        ("correct", Merge::Last),
        ("state", Merge::Last),
    ];
    let mut records = Records::new("statistics", "version_id", Conflict::Merge, columns);
    let since = published.to.unwrap_or(Offset::ZERO);
    for (id, version) in statistics.versions_changed_since(since) {
        records.push(
            statistics.offset(),
            version_row(id, version, statistics.offset()),
        );
    }
    records
}

fn version_row<'a>(id: u32, version: &VersionStatistics, at: Offset) -> Vec<Value<'a>> {
    let view = version.view("", "", at);
    let float = |value: Option<f64>| value.map_or(Value::Null, finite);
    vec![
        id.into(),
        count(view.predictions),
        count(view.errors),
        view.first_time.into(),
        view.last_time.into(),
        float(view.latency_ms_mean),
        float(view.latency_ms_p50),
        float(view.latency_ms_p95),
        float(view.latency_ms_p99),
        float(view.confidence_mean),
        count(view.labelled),
        count(view.correct),
        Value::Blob(version.encode().into()),
    ]
}

fn totals_row<'a>(totals: &StatsTotals) -> Records<'a> {
    let columns = [
        ("as_of_offset", totals.as_of_offset.0),
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
    ];
    let mut names = vec![("log_no", Merge::First)];
    names.extend(columns.map(|(name, _)| (name, Merge::Last)));
    let mut values = vec![Value::Int(0)];
    values.extend(columns.map(|(_, value)| count(value)));
    let mut records = Records::new("statistics_totals", "log_no", Conflict::Merge, names);
    records.push(totals.as_of_offset, values);
    records
}
