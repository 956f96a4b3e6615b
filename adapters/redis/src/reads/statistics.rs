//! Counts and quantiles as the engine published them; over a stretch of time from the predictions that are kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use modelog_engine::names::EntityId;
use modelog_engine::read::{ReadError, StatsTotals, VersionKey, VersionStats};
use modelog_engine::stats::{LabelFacts, PredictionFacts, VersionStatistics};
use modelog_engine::{Offset, Timestamp};

use super::RedisReads;
use crate::connection::{command, text};
use crate::error::RedisError;
use crate::hash::Hash;

impl RedisReads {
    pub(super) async fn totals(&self) -> Result<StatsTotals, ReadError> {
        let key = self.keys.stats(None);
        let reply = self.one(command("HGETALL", &key)).await?;
        let Some(hash) = Hash::read(key, reply)? else {
            return Ok(StatsTotals::default());
        };
        let count = |name: &str| -> Result<u64, RedisError> {
            let count = hash.number(name)?;
            count.ok_or_else(|| hash.content(format!("no {name}")))
        };
        Ok(StatsTotals {
            events: count("events")?,
            models: count("models")?,
            versions: count("versions")?,
            datasets: count("datasets")?,
            experiments: count("experiments")?,
            runs: count("runs")?,
            metric_points: count("metric_points")?,
            predictions: count("predictions")?,
            prediction_errors: count("prediction_errors")?,
            feedback: count("feedback")?,
            feedback_unmatched: count("feedback_unmatched")?,
            rejected: count("rejected")?,
            as_of_offset: Offset(count("as_of_offset")?),
        })
    }

    pub(super) async fn stats_of(
        &self,
        version: &VersionKey,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<VersionStats>, ReadError> {
        let Some(wanted) = self.version_number(version).await? else {
            return Ok(None);
        };
        if since.is_none() && until.is_none() {
            let published = self.published(wanted.id);
            let found = self.if_shown(self.version_of(wanted), published).await?;
            return Ok(found.map(|(shown, (statistics, as_of))| {
                let (model, version) = shown.names();
                statistics.view(model, version, as_of)
            }));
        }
        let Some(shown) = self.version_of(wanted).await? else {
            return Ok(None);
        };
        let mut statistics = VersionStatistics::default();
        for found in self.stretch(&shown, since, until).await? {
            if !found.complete {
                continue;
            }
            let view = found.view;
            statistics.add_prediction(&PredictionFacts {
                time: view.time,
                is_error: view.error.is_some(),
                latency_ms: view.inference_time_ms,
                confidence: view.confidence,
            });
            if let Some(feedback) = &view.feedback {
                statistics.add_label(&LabelFacts::compare(
                    feedback.correct,
                    (view.predicted_class.as_ref(), feedback.true_class.as_ref()),
                    (view.predicted_value, feedback.true_value),
                ));
            }
        }
        let as_of = modelog_engine::read::ReadStore::offset(self).await?;
        let (model, version) = shown.names();
        Ok(Some(statistics.view(model, version, as_of)))
    }

    /// What was published of a version, and up to where.
    async fn published(&self, id: EntityId) -> Result<(VersionStatistics, Offset), ReadError> {
        let key = self.keys.stats(Some(id));
        let mut state = command("HGET", &key);
        state.arg("state");
        let mut as_of = command("HGET", &self.keys.stats(None));
        as_of.arg("as_of_offset");
        let replies = self.run(vec![state, as_of]).await?;
        let statistics = match text(&replies[0]) {
            Some(state) => {
                let content = |what| RedisError::Content { key, what };
                let decoded = BASE64.decode(state).map_err(|error| error.to_string());
                let decoded = decoded.and_then(|state| {
                    VersionStatistics::decode(&state).map_err(|error| error.to_string())
                });
                decoded.map_err(content)?
            }
            None => VersionStatistics::default(),
        };
        let as_of = text(&replies[1]).and_then(|text| text.parse().ok());
        Ok((statistics, Offset(as_of.unwrap_or(0))))
    }
}
