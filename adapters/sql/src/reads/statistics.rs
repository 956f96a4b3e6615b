//! Counts and quantiles: over all time as the engine's fold published them, over a stretch of time from the rows.
//!
//! Both go through the engine's [`VersionStatistics`], so a quantile has the same error either way. They may differ where
//! they look at different things: the fold sees events as they come and joins feedback within a window, the rows are
//! what the events came to.

use modelog_engine::names::EntityId;
use modelog_engine::read::{StatsTotals, VersionKey, VersionStats};
use modelog_engine::stats::{LabelFacts, PredictionFacts, VersionStatistics};
use modelog_engine::{Offset, Timestamp};

use super::entities::shown_version;
use super::predictions::LATEST_FEEDBACK;
use super::snapshot::{Failure, Row, Snapshot, Statement, after_place};
use crate::dialect::Dialect;

const OFFSET: &str = "SELECT log_offset FROM checkpoint WHERE log_no = 0";
const TOTALS: &str = "SELECT as_of_offset, events, models, versions, datasets, experiments, runs, metric_points, predictions, \
     prediction_errors, feedback, feedback_unmatched, rejected FROM statistics_totals WHERE log_no = 0";
const PUBLISHED: &str = "SELECT state FROM statistics WHERE version_id = ?";
/// What counts of a stretch of predictions, in one row, on SQLite: passing a row from SQLite's thread to ours costs more than reading
/// it. Numbers go with 15 digits, which is far more than statistics tell.
const PACKED: &str = "SELECT group_concat(prediction, ';') FROM (SELECT p.time || ' ' || p.log_offset || ' ' || \
     (p.error IS NOT NULL) || ' ' || coalesce(p.inference_time_ms, '') || ' ' || coalesce(p.confidence, '') || ' ' || \
     coalesce(f.correct, p.predicted_class = f.true_class, '') || ' ' || \
     coalesce(p.predicted_value - f.true_value, '') AS prediction FROM predictions p";
const STRETCH: &str = "WHERE p.version_id = ? AND (p.time, p.log_offset) > (?, ?) AND p.time < ? AND p.complete \
     ORDER BY p.time, p.log_offset LIMIT ?)";
/// What counts of predictions, elsewhere.
const PLAIN: &str = "SELECT p.time, p.log_offset, p.error IS NOT NULL, p.inference_time_ms, p.confidence, \
     coalesce(f.correct, p.predicted_class = f.true_class), p.predicted_value, f.true_value FROM predictions p";
const PLAIN_OF_VERSION: &str = "WHERE p.version_id = ?";
const PLAIN_STRETCH: &str = "AND p.time < ? AND p.complete ORDER BY p.time, p.log_offset LIMIT ?";
/// How many predictions are read at a time.
const STRETCH_PREDICTIONS: usize = 2048;

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
        let as_of = offset(snapshot).await?;
        (stretch(snapshot, shown.id, since, until).await?, as_of)
    };
    Ok(Some(statistics.view(shown.model, shown.version, as_of)))
}

/// Counts a version's predictions of which the output or error is there, in `[since, until)`.
async fn stretch(
    snapshot: &mut Snapshot,
    version: EntityId,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<VersionStatistics, Failure> {
    let mut statistics = VersionStatistics::default();
    let mut after = (since.map_or(i64::MIN, Timestamp::micros), -1);
    let until = until.map_or(i64::MAX, Timestamp::micros);
    loop {
        let found = next(snapshot, version, after, until).await?;
        let counted = found.len();
        for prediction in found {
            statistics.add_prediction(&prediction.facts);
            statistics.add_label(&prediction.label);
            // The greatest, since the order within a stretch is not promised.
            after = after.max((prediction.facts.time.micros(), prediction.offset));
        }
        if counted < STRETCH_PREDICTIONS {
            return Ok(statistics);
        }
    }
}

/// The next predictions behind a place.
async fn next(
    snapshot: &mut Snapshot,
    version: EntityId,
    after: (i64, i64),
    until: i64,
) -> Result<Vec<Counted>, Failure> {
    let dialect = snapshot.dialect();
    if dialect != Dialect::Sqlite {
        let behind = dialect.behind("p.time", "p.log_offset", '>');
        let parts = [
            PLAIN,
            LATEST_FEEDBACK,
            PLAIN_OF_VERSION,
            &behind,
            PLAIN_STRETCH,
        ];
        let statement = Statement::new(&parts).int(version);
        let statement = after_place(dialect, statement, after.0, after.1)
            .time(until)
            .int(STRETCH_PREDICTIONS as i64);
        return snapshot.all(statement, Counted::read).await;
    }
    let statement = stretch_statement(version, after, until);
    let packed = snapshot.one(statement, |row| row.optional_text(0));
    let packed = packed.await?.flatten().unwrap_or_default();
    let counted = packed.split(';').filter(|text| !text.is_empty());
    counted
        .map(|text| {
            Counted::unpack(text)
                .ok_or_else(|| Failure::content(format!("the prediction {text:?}")))
        })
        .collect()
}

/// The next predictions behind a place, time and offset, in one row.
pub(super) fn stretch_statement(
    version: EntityId,
    (time, offset): (i64, i64),
    until: i64,
) -> Statement {
    Statement::new(&[PACKED, LATEST_FEEDBACK, STRETCH])
        .int(version)
        .time(time)
        .int(offset)
        .time(until)
        .int(STRETCH_PREDICTIONS as i64)
}

/// What counts of a prediction.
struct Counted {
    offset: i64,
    facts: PredictionFacts,
    label: LabelFacts,
}

impl Counted {
    fn read(row: &Row<'_>) -> Result<Self, Failure> {
        let values = (row.real(6)?, row.real(7)?);
        let error = match values {
            (Some(predicted), Some(true_value)) => Some(predicted - true_value),
            _ => None,
        };
        Ok(Self {
            offset: row.int(1)?,
            facts: PredictionFacts {
                time: row.time(0)?,
                is_error: row.boolean(2)?.unwrap_or_default(),
                latency_ms: row.real(3)?,
                confidence: row.real(4)?,
            },
            label: LabelFacts {
                correct: row.boolean(5)?,
                value_error: error.filter(|error| error.is_finite()),
            },
        })
    }

    /// Reads `time offset error latency confidence correct value-error`.
    fn unpack(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let time = fields.next()?.parse().ok()?;
        let offset = fields.next()?.parse().ok()?;
        let is_error = fields.next()? == "1";
        // Numbers that are not finite are null in their columns; they do not count anyway.
        let mut number = || match fields.next()? {
            "" => Some(None),
            field => field.parse::<f64>().ok().map(Some),
        };
        let (latency_ms, confidence, correct, error) = (number()?, number()?, number()?, number()?);
        Some(Self {
            offset,
            facts: PredictionFacts {
                time: Timestamp::from_micros(time),
                is_error,
                latency_ms,
                confidence,
            },
            label: LabelFacts {
                correct: correct.map(|correct| correct != 0.0),
                value_error: error.filter(|error| error.is_finite()),
            },
        })
    }
}
