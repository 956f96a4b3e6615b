//! Counts and quantiles: over all time as the engine's fold published them, over a stretch of time from the rows.
//!
//! Both go through the engine's [`VersionStatistics`], so a quantile has the same error either way. They may differ where
//! they look at different things: the fold sees events as they come and joins feedback within a window, the rows are
//! what the events came to.

use modelog_engine::read::{StatsTotals, VersionKey, VersionStats};
use modelog_engine::stats::{LabelFacts, PredictionFacts, VersionStatistics};
use modelog_engine::{Offset, Timestamp};

use super::entities::shown_version;
use super::predictions::LATEST_FEEDBACK;
use super::snapshot::{Failure, Row, Snapshot, Statement};

const OFFSET: &str = "SELECT log_offset FROM checkpoint WHERE log_no = 0";
const TOTALS: &str = "SELECT as_of_offset, events, models, versions, datasets, experiments, runs, metric_points, predictions, \
     prediction_errors, feedback, feedback_unmatched, rejected FROM statistics_totals WHERE log_no = 0";
const PUBLISHED: &str = "SELECT state FROM statistics WHERE version_id = ?";
const ROWS: &str = "SELECT p.time, p.error IS NOT NULL, p.inference_time_ms, p.confidence, \
     coalesce(f.correct, p.predicted_class = f.true_class), p.predicted_value, f.true_value FROM predictions p";
const IN_STRETCH: &str = "WHERE p.version_id = ? AND p.time >= ? AND p.time < ? AND p.complete ORDER BY p.time, p.log_offset";

pub(super) async fn offset(snapshot: &mut Snapshot) -> Result<Offset, Failure> {
    let found = snapshot.one(Statement::new(&[OFFSET]), |row| row.count(0));
    Ok(Offset(found.await?.unwrap_or(0)))
}

pub(super) async fn totals(snapshot: &mut Snapshot) -> Result<StatsTotals, Failure> {
    let read = |row: &Row<'_>| {
        Ok(StatsTotals {
            as_of_offset: Offset(row.count(0)?),
            events: row.count(1)?,
            models: row.count(2)?,
            versions: row.count(3)?,
            datasets: row.count(4)?,
            experiments: row.count(5)?,
            runs: row.count(6)?,
            metric_points: row.count(7)?,
            predictions: row.count(8)?,
            prediction_errors: row.count(9)?,
            feedback: row.count(10)?,
            feedback_unmatched: row.count(11)?,
            rejected: row.count(12)?,
        })
    };
    let found = snapshot.one(Statement::new(&[TOTALS]), read).await?;
    Ok(found.unwrap_or_default())
}

pub(super) async fn version(
    snapshot: &mut Snapshot,
    version: &VersionKey,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Option<VersionStats>, Failure> {
    let Some(shown) = shown_version(snapshot, version).await? else {
        return Ok(None);
    };
    let (statistics, as_of) = if since.is_none() && until.is_none() {
        let as_of = totals(snapshot).await?.as_of_offset;
        let statement = Statement::new(&[PUBLISHED]).int(shown.id);
        let published = snapshot.one(statement, |row| {
            let state = VersionStatistics::decode(row.bytes(0)?);
            state.map_err(|error| Failure::content(error.to_string()))
        });
        (published.await?.unwrap_or_default(), as_of)
    } else {
        let statement = stretch_statement(shown.id, since, until);
        let as_of = offset(snapshot).await?;
        (stretch(snapshot, statement).await?, as_of)
    };
    Ok(Some(statistics.view(shown.model, shown.version, as_of)))
}

/// A version's predictions of which the output or error is there, in `[since, until)`.
pub(super) fn stretch_statement(
    version: u32,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Statement {
    Statement::new(&[ROWS, LATEST_FEEDBACK, IN_STRETCH])
        .int(version)
        .int(since.map_or(i64::MIN, Timestamp::micros))
        .int(until.map_or(i64::MAX, Timestamp::micros))
}

async fn stretch(
    snapshot: &mut Snapshot,
    statement: Statement,
) -> Result<VersionStatistics, Failure> {
    let mut statistics = VersionStatistics::default();
    snapshot
        .each(statement, |row| {
            // Numbers that are not finite are null in their columns; they do not count anyway.
            statistics.add_prediction(&PredictionFacts {
                time: row.time(0)?,
                is_error: row.int(1)? != 0,
                latency_ms: row.real(2)?,
                confidence: row.real(3)?,
            });
            let values = (row.real(5)?, row.real(6)?);
            statistics.add_label(&LabelFacts::compare::<()>(
                row.boolean(4)?,
                (None, None),
                values,
            ));
            Ok(())
        })
        .await?;
    Ok(statistics)
}
