//! Metrics: series in short, and their points.

use modelog_engine::names::EntityId;
use modelog_engine::read::{
    Downsampler, MetricPoint, Series, SeriesOwner, SeriesQuery, SeriesSummary,
};
use modelog_engine::{Offset, Timestamp};

use super::entities::shown_version;
use super::runs::run_id;
use super::snapshot::{Failure, Row, Snapshot, Statement, odd_number};
use crate::dialect::Dialect;

/// The part of a series' key that stands for its split: absent and empty differ.
const SPLIT: &str = "coalesce('=' || split, '')";
const SUMMARIES: &str = "SELECT last_step, last_time, last_log_offset, last_value, last_non_finite, last_epoch, \
     last_epoch_non_finite, name, split, points, min_value, max_value \
     FROM metric_latest WHERE owner_kind = ? AND owner_id = ? ORDER BY name,";
const ONE: &str = "SELECT series_id, points FROM metric_latest WHERE owner_kind = ? AND owner_id = ? AND name = ? AND";
const COUNT: &str = "SELECT count(*) FROM metrics WHERE series_id = ? AND step BETWEEN ? AND ?";
/// Points of a series behind a place in it, up to a step: a stretch.
const STRETCH: &str = "FROM metrics WHERE series_id = ? AND (step, time, log_offset) > (?, ?, ?) AND step <= ? \
     ORDER BY step, time, log_offset LIMIT ?";
/// The same for MySQL, which looks into an index for the first column only, and only if it is told so.
const STRETCH_FROM: &str = "FROM metrics WHERE series_id = ? AND step >= ? AND (step, time, log_offset) > (?, ?, ?) \
     AND step <= ? ORDER BY step, time, log_offset LIMIT ?";
const POINTS: &str = "SELECT step, time, log_offset, value, non_finite, epoch, epoch_non_finite";
/// The points of a stretch in one row, on SQLite: passing a row from SQLite's thread to ours costs more than reading it. The value
/// goes as its bits. A point whose epoch is not whole is null: its digits might not be all it has.
const PACKED: &str = "SELECT count(*), count(point), group_concat(point, ';') FROM (SELECT \
     step || ' ' || time || ' ' || log_offset || ' ' || value_key || ' ' || CASE \
     WHEN epoch IS NULL THEN coalesce(epoch_non_finite, '') \
     WHEN epoch = CAST(epoch AS INTEGER) AND abs(epoch) < 9e15 THEN CAST(epoch AS INTEGER) END AS point";
/// How many points are read at a time.
const STRETCH_POINTS: i64 = 4096;

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
    let range = Range {
        series: id,
        from: query.from_step.unwrap_or(i64::MIN),
        to: query.to_step.unwrap_or(i64::MAX),
    };
    series.total_points = if query.from_step.is_none() && query.to_step.is_none() {
        all
    } else {
        let statement = Statement::new(&[COUNT])
            .int(range.series)
            .int(range.from)
            .int(range.to);
        let count = snapshot.one(statement, |row| row.count(0));
        count.await?.unwrap_or(0)
    };
    let max_points = query.max_points.unwrap_or(u32::MAX);
    let mut sampler = Downsampler::new(series.total_points, max_points);
    each_point(snapshot, range, |point| sampler.push(point)).await?;
    series.points = sampler.finish();
    Ok(Some(series))
}

/// Points of a series by step; bounds are inclusive.
#[derive(Clone, Copy)]
struct Range {
    series: i64,
    from: i64,
    to: i64,
}

/// Where a point stands in its series: step, time, offset.
type Place = (i64, i64, i64);

/// The place before all points from a step on.
fn before(step: i64) -> Place {
    (step, i64::MIN, -1)
}

/// Shows every point of a range to `see`, in order.
async fn each_point(
    snapshot: &mut Snapshot,
    range: Range,
    mut see: impl FnMut(MetricPoint),
) -> Result<(), Failure> {
    let mut after = before(range.from);
    loop {
        let points = next_points(snapshot, range, after).await?;
        let last = points.last().map(place);
        let more = points.len() as i64 == STRETCH_POINTS;
        points.into_iter().for_each(&mut see);
        match last.filter(|_| more) {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

fn place(point: &MetricPoint) -> Place {
    let offset = point.log_offset.0 as i64;
    (point.step, point.time.micros(), offset)
}

/// The next points of a range, in order.
async fn next_points(
    snapshot: &mut Snapshot,
    range: Range,
    after: Place,
) -> Result<Vec<MetricPoint>, Failure> {
    let dialect = snapshot.dialect();
    if dialect != Dialect::Sqlite {
        return snapshot
            .all(plain_statement(dialect, range, after), read_point)
            .await;
    }
    let packed = snapshot.one(packed_statement(range, after), |row| {
        let whole = row.int(0)? == row.int(1)?;
        let points = row.str(2)?.unwrap_or_default();
        let points = points.split(';').filter(|point| !point.is_empty());
        whole.then(|| points.map(unpack).collect()).transpose()
    });
    let packed: Option<Vec<MetricPoint>> = packed.await?.flatten();
    match packed {
        Some(mut points) => {
            // They come in order; SQLite just does not promise it of an aggregate's input.
            points.sort_by_key(place);
            Ok(points)
        }
        None => {
            let statement = plain_statement(dialect, range, after);
            snapshot.all(statement, read_point).await
        }
    }
}

fn packed_statement(range: Range, after: Place) -> Statement {
    let statement = Statement::new(&[PACKED, STRETCH, ")"]).int(range.series);
    placed(statement, range, after)
}

fn plain_statement(dialect: Dialect, range: Range, after: Place) -> Statement {
    let statement = match dialect {
        Dialect::MySql => Statement::new(&[POINTS, STRETCH_FROM])
            .int(range.series)
            .int(after.0),
        _ => Statement::new(&[POINTS, STRETCH]).int(range.series),
    };
    placed(statement, range, after)
}

fn placed(statement: Statement, range: Range, (step, time, offset): Place) -> Statement {
    statement
        .int(step)
        .time(time)
        .int(offset)
        .int(range.to)
        .int(STRETCH_POINTS)
}

/// The statements behind points, with arguments of no meaning, and the index each goes by.
#[cfg(test)]
pub(super) fn point_statements() -> [(Statement, &'static str); 2] {
    let range = Range {
        series: 1,
        from: 0,
        to: 9,
    };
    let index = "PRIMARY KEY (series_id=? AND (step,time)>(?,?) AND step<?)";
    [
        (packed_statement(range, before(0)), index),
        (plain_statement(Dialect::Sqlite, range, before(0)), index),
    ]
}

/// Reads `step time offset value's-bits epoch`.
fn unpack(text: &str) -> Result<MetricPoint, Failure> {
    let broken = || Failure::content(format!("the point {text:?}"));
    let mut fields = text.split(' ');
    let mut number = || fields.next().and_then(|field| field.parse::<i64>().ok());
    let numbers = (number(), number(), number(), number());
    let (Some(step), Some(time), Some(offset), Some(bits)) = numbers else {
        return Err(broken());
    };
    let epoch = match fields.next().ok_or_else(broken)? {
        "" => None,
        field => Some(match field.parse::<i64>() {
            Ok(whole) => whole as f64,
            Err(_) => odd_number(field)?,
        }),
    };
    Ok(MetricPoint {
        step,
        value: f64::from_bits(bits as u64),
        epoch,
        time: Timestamp::from_micros(time),
        log_offset: Offset(offset as u64),
    })
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
