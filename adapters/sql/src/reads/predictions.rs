//! Predictions, each with the latest feedback on it.

use std::collections::HashMap;

use modelog_engine::Offset;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{Feedback, Key, Page, PageRequest, Prediction, VersionKey};
use modelog_engine::stats::LabelFacts;

use super::entities::{model_id, shown_version};
use super::snapshot::{Failure, Row, Snapshot, Statement, after_place, odd_number};
use crate::dialect::Dialect;

const COLUMNS: &str = "SELECT p.prediction_id, m.name, v.name, p.time, p.log_offset, p.input, p.output, p.predicted_class, \
     p.predicted_value, p.confidence, p.inference_time_ms, p.timings, p.request_id, p.trace_id, p.session_id, p.user_id, \
     p.environment, p.sample_rate, p.input_tokens, p.output_tokens, p.time_to_first_token_ms, p.error, p.tags, \
     p.non_finite, f.log_offset, f.time, f.true_class, f.true_value, f.correct, f.label, f.score, f.score_name, \
     f.feedback_source, f.non_finite \
     FROM predictions p JOIN models m ON m.id = p.model_id JOIN model_versions v ON v.id = p.version_id";

/// The latest feedback, by (time, offset), on a prediction `p`.
pub(super) const LATEST_FEEDBACK: &str = "LEFT JOIN feedback f ON f.log_offset = ( \
     SELECT g.log_offset FROM feedback g \
     WHERE g.prediction_id = p.prediction_id AND (g.model_id = p.model_id OR g.model_id IS NULL) \
     ORDER BY g.time DESC, g.log_offset DESC LIMIT 1)";

const OF_VERSION: &str = "WHERE p.version_id = ?";
const NEWEST: &str = "ORDER BY p.time DESC, p.log_offset DESC LIMIT ?";
const ONE: &str = "WHERE p.prediction_id = ? AND p.model_id = ? AND v.deleted_at IS NULL";

/// A page of a version's predictions.
pub(super) fn page_statement(
    dialect: Dialect,
    version: u32,
    after: Option<(i64, i64)>,
    rows: i64,
) -> Statement {
    match after {
        None => Statement::new(&[COLUMNS, LATEST_FEEDBACK, OF_VERSION, NEWEST]).int(version),
        Some((time, offset)) => {
            let behind = dialect.behind("p.time", "p.log_offset", '<');
            let parts = [COLUMNS, LATEST_FEEDBACK, OF_VERSION, &behind, NEWEST];
            after_place(dialect, Statement::new(&parts).int(version), time, offset)
        }
    }
    .int(rows)
}

/// One prediction of a model.
pub(super) fn one_statement(model: u32, prediction_id: &str) -> Statement {
    Statement::new(&[COLUMNS, LATEST_FEEDBACK, ONE])
        .text(prediction_id)
        .int(model)
}

pub(super) async fn predictions(
    snapshot: &mut Snapshot,
    version: &VersionKey,
    request: PageRequest,
) -> Result<Option<Page<Prediction>>, Failure> {
    let Some(version) = shown_version(snapshot, version).await? else {
        return Ok(None);
    };
    let list = List::new("predictions", &version.id.to_string(), request);
    let statement = page_statement(snapshot.dialect(), version.id, list.after()?, list.rows());
    let found = snapshot.all(statement, read_prediction).await?;
    Ok(Some(list.page(found, |last| {
        (last.time.micros(), last.log_offset.0 as i64)
    })))
}

pub(super) async fn prediction(
    snapshot: &mut Snapshot,
    model: &Key,
    prediction_id: &str,
) -> Result<Option<Prediction>, Failure> {
    let Some(model) = model_id(snapshot, model).await? else {
        return Ok(None);
    };
    let statement = one_statement(model, prediction_id);
    snapshot.one(statement, read_prediction).await
}

/// Which numbers of a row are not finite, and what they are.
#[derive(Default)]
struct Odd(HashMap<String, String>);

impl Odd {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, Failure> {
        let Some(text) = row.str(column)? else {
            return Ok(Self::default());
        };
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| Failure::content(error.to_string()))
    }

    fn number(&self, row: &Row<'_>, column: usize, name: &str) -> Result<Option<f64>, Failure> {
        match row.real(column)? {
            None => self.0.get(name).map(|word| odd_number(word)).transpose(),
            value => Ok(value),
        }
    }
}

fn read_prediction(row: &Row<'_>) -> Result<Prediction, Failure> {
    let odd = Odd::read(row, 23)?;
    let mut prediction = Prediction {
        prediction_id: row.text(0)?,
        model: row.text(1)?,
        version: row.text(2)?,
        time: row.time(3)?,
        log_offset: Offset(row.count(4)?),
        input: row.json(5)?,
        output: row.json(6)?,
        predicted_class: row.optional_text(7)?,
        predicted_value: odd.number(row, 8, "predicted_value")?,
        confidence: odd.number(row, 9, "confidence")?,
        inference_time_ms: odd.number(row, 10, "inference_time_ms")?,
        timings: row.json(11)?,
        request_id: row.optional_text(12)?,
        trace_id: row.optional_text(13)?,
        session_id: row.optional_text(14)?,
        user_id: row.optional_text(15)?,
        environment: row.optional_text(16)?,
        sample_rate: odd.number(row, 17, "sample_rate")?,
        input_tokens: row.optional_int(18)?,
        output_tokens: row.optional_int(19)?,
        time_to_first_token_ms: odd.number(row, 20, "time_to_first_token_ms")?,
        error: row.optional_text(21)?,
        tags: row.json(22)?,
        feedback: None,
    };
    if row.optional_int(24)?.is_some() {
        prediction.feedback = Some(read_feedback(row, &prediction)?);
    }
    Ok(prediction)
}

fn read_feedback(row: &Row<'_>, prediction: &Prediction) -> Result<Feedback, Failure> {
    let odd = Odd::read(row, 33)?;
    let true_class = row.optional_text(26)?;
    let classes = (prediction.predicted_class.as_ref(), true_class.as_ref());
    let facts = LabelFacts::compare(row.boolean(28)?, classes, (None, None));
    Ok(Feedback {
        log_offset: Offset(row.count(24)?),
        time: row.time(25)?,
        true_value: odd.number(row, 27, "true_value")?,
        correct: facts.correct,
        label: row.json(29)?,
        score: odd.number(row, 30, "score")?,
        score_name: row.optional_text(31)?,
        feedback_source: row.optional_text(32)?,
        true_class,
    })
}
