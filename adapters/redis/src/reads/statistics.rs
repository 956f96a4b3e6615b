//! Counts and quantiles as the engine published them; over a stretch of time from the predictions that are kept.

use modelog_engine::names::EntityId;
use modelog_engine::read::{ReadError, StatsTotals, VersionKey, VersionStats};
use modelog_engine::stats::{LabelFacts, PredictionFacts, VersionStatistics};
use modelog_engine::{Offset, Timestamp};

use super::replies::Reply;
use super::{RedisReads, read_hash};
use crate::connection::command;
use crate::error::RedisError;
use crate::fold::statistics::read;

impl RedisReads {
    pub(super) async fn totals(&self) -> Result<StatsTotals, ReadError> {
        let key = self.keys.stats(None);
        let replies = self.one(command("HGETALL", &key)).await?;
        let Some(hash) = read_hash(key, replies.first())? else {
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
            return Ok(found.map(|(shown, (stats, as_of))| {
                let (model, version) = shown.names();
                let mut stats =
                    stats.unwrap_or_else(|| VersionStatistics::default().view("", "", as_of));
                (stats.model, stats.version) = (model, version);
                // They are still the same there.
                stats.as_of_offset = as_of;
                stats
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

    /// What was published of a version, and up to where all statistics are.
    async fn published(&self, id: EntityId) -> Result<(Option<VersionStats>, Offset), ReadError> {
        let key = self.keys.stats(Some(id));
        let found = command("HGETALL", &key);
        let mut as_of = command("HGET", &self.keys.stats(None));
        as_of.arg("as_of_offset");
        let replies = self.run(vec![found, as_of]).await?;
        let mut replies = replies.iter();
        let hash = read_hash(key, replies.next().unwrap_or(Reply::Nil))?;
        let stats = hash.map(|hash| read(&hash)).transpose()?;
        let as_of = replies.next().and_then(Reply::text);
        let as_of = as_of.and_then(|text| text.parse().ok());
        Ok((stats, Offset(as_of.unwrap_or(0))))
    }
}
