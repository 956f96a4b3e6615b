//! Metrics: series in short, and their points.

use modelog_engine::Offset;
use modelog_engine::names::EntityId;
use modelog_engine::read::{
    Downsampler, MetricPoint, Series, SeriesOwner, SeriesQuery, SeriesSummary,
};

use super::entities::shown_version;
use super::runs::run_id;
use super::snapshot::{Failure, Row, Snapshot, Statement};

/// The part of a series' key that stands for its split: absent and empty differ.
const SPLIT: &str = "coalesce('=' || split, '')";
const SUMMARIES: &str = "SELECT last_step, last_time, last_log_offset, last_value, last_non_finite, last_epoch, \
     last_epoch_non_finite, name, split, points, min_value, max_value \
     FROM metric_latest WHERE owner_kind = ? AND owner_id = ? ORDER BY name,";
const ONE: &str = "SELECT series_id, points FROM metric_latest WHERE owner_kind = ? AND owner_id = ? AND name = ? AND";
const COUNT: &str = "SELECT count(*) FROM metrics WHERE series_id = ? AND step BETWEEN ? AND ?";
pub(super) const POINTS: &str = "SELECT step, time, log_offset, value, non_finite, epoch, epoch_non_finite \
     FROM metrics WHERE series_id = ? AND step BETWEEN ? AND ? ORDER BY step, time, log_offset";

/// A run or version that is shown.
struct Owner {
    kind: &'static str,
    id: EntityId,
}

async fn shown(snapshot: &mut Snapshot, owner: &SeriesOwner) -> Result<Option<Owner>, Failure> {
    let (kind, id) = match owner {
        SeriesOwner::Run(key) => ("run", run_id(snapshot, key).await?),
        SeriesOwner::Version(key) => {
            let version = shown_version(snapshot, key).await?;
            ("version", version.map(|version| version.id))
        }
    };
    Ok(id.map(|id| Owner { kind, id }))
}

pub(super) async fn summaries(
    snapshot: &mut Snapshot,
    owner: &SeriesOwner,
) -> Result<Option<Vec<SeriesSummary>>, Failure> {
    let Some(owner) = shown(snapshot, owner).await? else {
        return Ok(None);
    };
    let statement = Statement::new(&[SUMMARIES, SPLIT])
        .text(owner.kind)
        .int(owner.id);
    let read = |row: &Row<'_>| {
        Ok(SeriesSummary {
            last: read_point(row)?,
            name: row.text(7)?,
            split: row.optional_text(8)?,
            points: row.count(9)?,
            min: row.real(10)?,
            max: row.real(11)?,
        })
    };
    snapshot.all(statement, read).await.map(Some)
}

pub(super) async fn points(
    snapshot: &mut Snapshot,
    owner: &SeriesOwner,
    name: &str,
    query: &SeriesQuery,
) -> Result<Option<Series>, Failure> {
    let Some(owner) = shown(snapshot, owner).await? else {
        return Ok(None);
    };
    let mut series = Series {
        name: name.to_owned(),
        split: query.split.clone(),
        total_points: 0,
        points: Vec::new(),
    };
    let split = query.split.as_ref();
    let statement = Statement::new(&[ONE, SPLIT, "= ?"])
        .text(owner.kind)
        .int(owner.id)
        .text(name)
        .text(split.map_or(String::new(), |split| format!("={split}")));
    let known = snapshot.one(statement, |row| Ok((row.int(0)?, row.count(1)?)));
    let Some((id, all)) = known.await? else {
        return Ok(Some(series));
    };
    let from = query.from_step.unwrap_or(i64::MIN);
    let to = query.to_step.unwrap_or(i64::MAX);
    let in_range = |text: &str| Statement::new(&[text]).int(id).int(from).int(to);
    let Some(max_points) = query.max_points else {
        series.points = snapshot.all(in_range(POINTS), read_point).await?;
        series.total_points = series.points.len() as u64;
        return Ok(Some(series));
    };
    series.total_points = if query.from_step.is_none() && query.to_step.is_none() {
        all
    } else {
        let count = snapshot.one(in_range(COUNT), |row| row.count(0));
        count.await?.unwrap_or(0)
    };
    let mut sampler = Downsampler::new(series.total_points, max_points);
    snapshot
        .each(in_range(POINTS), |row| {
            sampler.push(read_point(row)?);
            Ok(())
        })
        .await?;
    series.points = sampler.finish();
    Ok(Some(series))
}

fn read_point(row: &Row<'_>) -> Result<MetricPoint, Failure> {
    let value = row.number(3, 4)?;
    Ok(MetricPoint {
        step: row.int(0)?,
        time: row.time(1)?,
        log_offset: Offset(row.count(2)?),
        value: value.ok_or_else(|| Failure::content("a point without a value"))?,
        epoch: row.number(5, 6)?,
    })
}
