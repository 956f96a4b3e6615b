//! Series in short, and their points.

use modelog_engine::event::EntityKind;
use modelog_engine::read::{
    Downsampler, MetricPoint, ReadError, Series, SeriesOwner, SeriesQuery, SeriesSummary,
};

use super::{NOT_KEPT, RedisReads};
use crate::connection::{command, list, text};
use crate::error::RedisError;
use crate::fold::series::{Short, point};
use crate::keys::{self, Owner, series_names};

impl RedisReads {
    async fn owner(&self, owner: &SeriesOwner) -> Result<Option<Owner>, ReadError> {
        Ok(match owner {
            SeriesOwner::Run(key) => {
                let run = self.shown(EntityKind::Run, key).await?;
                run.map(|(named, _)| (EntityKind::Run, named.id))
            }
            SeriesOwner::Version(key) => {
                let version = self.shown_version(key).await?;
                version.map(|version| (EntityKind::Version, version.id()))
            }
        })
    }

    pub(super) async fn summaries(
        &self,
        owner: &SeriesOwner,
    ) -> Result<Option<Vec<SeriesSummary>>, ReadError> {
        let Some(owner) = self.owner(owner).await? else {
            return Ok(None);
        };
        let key = self.keys.series(owner);
        let reply = self.one(command("HGETALL", &key)).await?;
        let broken = |what: &str| RedisError::Content {
            key: key.clone(),
            what: what.into(),
        };
        let mut summaries = Vec::new();
        let mut parts = list(reply).into_iter();
        while let (Some(name), Some(short)) = (parts.next(), parts.next()) {
            let names = text(&name).and_then(series_names);
            let (name, split) = names.ok_or_else(|| broken("a name of a series"))?;
            let short = text(&short).and_then(|json| serde_json::from_str::<Short>(json).ok());
            let short = short.ok_or_else(|| broken("what is no series in short"))?;
            if short.is_empty() {
                continue;
            }
            summaries.push(short.summary(name, split).ok_or(NOT_KEPT)?);
        }
        summaries.sort_by(|a, b| (&a.name, &a.split).cmp(&(&b.name, &b.split)));
        Ok(Some(summaries))
    }

    pub(super) async fn points_of(
        &self,
        owner: &SeriesOwner,
        name: &str,
        query: &SeriesQuery,
    ) -> Result<Option<Series>, ReadError> {
        let Some(owner) = self.owner(owner).await? else {
            return Ok(None);
        };
        let mut series = Series {
            name: name.to_owned(),
            split: query.split.clone(),
            total_points: 0,
            points: Vec::new(),
        };
        let written = keys::series(name, query.split.as_deref());
        let mut asked = command("HGET", &self.keys.series(owner));
        asked.arg(&written);
        let reply = self.one(asked).await?;
        let Some(json) = text(&reply) else {
            return Ok(Some(series));
        };
        let key = self.keys.points(owner, &written);
        let broken = |what: &str| RedisError::Content {
            key: key.clone(),
            what: what.into(),
        };
        let short: Short = serde_json::from_str(json).map_err(|_| broken("its short form"))?;
        if !short.has_all_from(query.from_step) {
            return Err(NOT_KEPT);
        }
        let mut asked = command("ZRANGEBYSCORE", &key);
        // A score is a number of 53 bits: those that look the same are looked at below.
        asked.arg(
            query
                .from_step
                .map_or_else(|| "-inf".into(), |step| (step as f64).to_string()),
        );
        asked.arg(
            query
                .to_step
                .map_or_else(|| "+inf".into(), |step| (step as f64).to_string()),
        );
        let mut points = Vec::new();
        for member in list(self.one(asked).await?) {
            let point: MetricPoint = text(&member)
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
        Ok(Some(series))
    }
}
