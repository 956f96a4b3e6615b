//! Series in short, and their points.

use modelog_engine::event::EntityKind;
use modelog_engine::read::{
    Downsampler, MetricPoint, ReadError, Series, SeriesOwner, SeriesQuery, SeriesSummary,
};

use super::replies::Reply;
use super::{NOT_KEPT, RedisReads};
use crate::connection::command;
use crate::error::RedisError;
use crate::fold::series::{Short, point};
use crate::keys::{self, Owner, series_names};

impl RedisReads {
    /// An answer about the series of a run or a version, if it is not hidden.
    async fn of_owner<T, F>(
        &self,
        owner: &SeriesOwner,
        answer: impl FnOnce(Owner) -> F,
    ) -> Result<Option<T>, ReadError>
    where
        F: Future<Output = Result<T, ReadError>>,
    {
        let found = match owner {
            SeriesOwner::Run(key) => {
                let Some(id) = self.number(EntityKind::Run, 0, key).await? else {
                    return Ok(None);
                };
                let run = self.shown_by(key, EntityKind::Run, id);
                let found = self.if_shown(run, answer((EntityKind::Run, id))).await?;
                found.map(|(_, answer)| answer)
            }
            SeriesOwner::Version(key) => {
                let Some(wanted) = self.version_number(key).await? else {
                    return Ok(None);
                };
                let answer = answer((EntityKind::Version, wanted.id));
                let found = self.if_shown(self.version_of(wanted), answer).await?;
                found.map(|(_, answer)| answer)
            }
        };
        Ok(found)
    }

    pub(super) async fn summaries(
        &self,
        owner: &SeriesOwner,
    ) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        self.of_owner(owner, |owner| self.summaries_at(owner)).await
    }

    pub(super) async fn points_of(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        self.of_owner(owner, |owner| self.points_at(owner, name, query))
            .await
    }

    async fn summaries_at(&self, owner: Owner) -> Result<Vec<SeriesSummary>, ReadError> {
        let key = self.keys.series(owner);
        let replies = self.one(command("HGETALL", &key)).await?;
        let broken = |what: &str| RedisError::Content {
            key: key.clone(),
            what: what.into(),
        };
        let mut summaries = Vec::new();
        let mut parts = replies.first().list();
        while let (Some(name), Some(short)) = (parts.next(), parts.next()) {
            let names = name.text().and_then(series_names);
            let (name, split) = names.ok_or_else(|| broken("a name of a series"))?;
            let short = short.text();
            let short = short.and_then(|json| serde_json::from_str::<Short>(json).ok());
            let short = short.ok_or_else(|| broken("what is no series in short"))?;
            if short.is_empty() {
                continue;
            }
            summaries.push(short.summary(name, split).ok_or(NOT_KEPT)?);
        }
        summaries.sort_by(|a, b| (&a.name, &a.split).cmp(&(&b.name, &b.split)));
        Ok(summaries)
    }

    async fn points_at(
        &self,
        owner: Owner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Series, ReadError> {
        let mut series = Series {
            name: name.to_owned(),
            split: query.split.clone(),
            total_points: 0,
            points: Vec::new(),
        };
        let written = keys::series(name, query.split.as_deref());
        let key = self.keys.points(owner, &written);
        let broken = |what: &str| RedisError::Content {
            key: key.clone(),
            what: what.into(),
        };
        let mut members = command("ZRANGEBYSCORE", &key);
        // A score is a number of 53 bits: those that look the same are looked at below.
        members.arg(
            query
                .from_step
                .map_or_else(|| "-inf".into(), |step| (step as f64).to_string()),
        );
        members.arg(
            query
                .to_step
                .map_or_else(|| "+inf".into(), |step| (step as f64).to_string()),
        );
        // Behind the points, since what is no longer kept is told before it goes.
        let mut short = command("HGET", &self.keys.series(owner));
        short.arg(&written);
        let replies = self.run(vec![members, short]).await?;
        let mut replies = replies.iter();
        let members = replies.next().unwrap_or(Reply::Nil).list();
        let Some(json) = replies.next().and_then(Reply::text) else {
            return Ok(series);
        };
        let short: Short = serde_json::from_str(json).map_err(|_| broken("its short form"))?;
        if !short.has_all_from(query.from_step) {
            return Err(NOT_KEPT);
        }
        let mut points = Vec::new();
        for member in members {
            let point: MetricPoint = member
                .text()
                .and_then(point)
                .ok_or_else(|| broken("what is no point"))?;
            let from = query.from_step.is_none_or(|from| point.step >= from);
            if from && query.to_step.is_none_or(|to| point.step <= to) {
                points.push(point);
            }
        }
        // Evicted, all of it, while what is said of it is still there.
        let whole = query.from_step.is_none() && query.to_step.is_none();
        if whole && points.is_empty() && !short.is_empty() {
            return Err(NOT_KEPT);
        }
        points.sort_by_key(|point| (point.step, point.time, point.log_offset));
        series.total_points = points.len() as u64;
        let mut sampler =
            Downsampler::new(series.total_points, query.max_points.unwrap_or(u32::MAX));
        points.into_iter().for_each(|point| sampler.push(point));
        series.points = sampler.finish();
        Ok(series)
    }
}
