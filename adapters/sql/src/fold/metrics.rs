//! Metric points, and each series in short.
//!
//! A point is written unless it is there already; only points that were written count for the series, so a repeat
//! changes nothing. Series get their numbers here, in the order in which they first appear in the log.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use modelog_engine::batch::non_finite;
use modelog_engine::event::schema::{self, column};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::{EntityId, Versions};
use modelog_engine::{Offset, Timestamp};

use super::Batches;
use crate::bulk::{Conflict, Merge, Records, Source, Table, Transaction, stretches};
use crate::connection::{Row, Statement};
use crate::error::DatabaseError;
use crate::value::{Sink, Value, count, finite};

/// What a series is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    owner: (EntityKind, EntityId),
    name: &'a str,
    split: Option<&'a str>,
}

/// A point on its way into the table.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Its series' place among those of this transaction.
    series: usize,
    step: i64,
    time: Timestamp,
    value: f64,
    epoch: Option<f64>,
    offset: Offset,
}

impl Point {
    /// The value as a key: its bits, those of one NaN for every NaN, those of zero for a negative zero.
    fn value_key(&self) -> i64 {
        let canonical = if self.value.is_nan() {
            f64::NAN
        } else {
            self.value + 0.0
        };
        canonical.to_bits() as i64
    }
}

/// A series in short.
#[derive(Clone, Debug, PartialEq)]
struct Summary {
    id: i64,
    points: u64,
    last: Option<Last>,
    min: Option<f64>,
    max: Option<f64>,
    changed: bool,
}

/// The point with the highest (step, time, offset).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    step: i64,
    time: Timestamp,
    offset: Offset,
    value: f64,
    epoch: Option<f64>,
}

impl Summary {
    fn new(id: i64) -> Self {
        Self {
            id,
            points: 0,
            last: None,
            min: None,
            max: None,
            changed: false,
        }
    }

    fn add(&mut self, point: &Point) {
        self.points += 1;
        self.changed = true;
        let last = Last {
            step: point.step,
            time: point.time,
            offset: point.offset,
            value: point.value,
            epoch: point.epoch,
        };
        let order = |last: &Last| (last.step, last.time, last.offset);
        if self
            .last
            .as_ref()
            .is_none_or(|known| order(known) <= order(&last))
        {
            self.last = Some(last);
        }
        if point.value.is_finite() {
            self.min = Some(self.min.map_or(point.value, |min| min.min(point.value)));
            self.max = Some(self.max.map_or(point.value, |max| max.max(point.value)));
        }
    }
}

/// Adds the points of the batches.
pub(super) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    let (keys, mut points) = gather(batches);
    if points.is_empty() {
        return Ok(());
    }
    let mut summaries = read(&keys, transaction).await?;
    // Together what lies together in the table; of repeats, the one logged first stays first.
    points.sort_by_key(|point| point.series);
    let points = Points::new(points, &summaries);
    let short = transaction.load(&points).await?;
    let mut short = short.into_iter().peekable();
    let mut at = 0;
    while at < points.all.len() {
        let whole = at..short.peek().map_or(points.all.len(), |rows| rows.start);
        at = whole.end;
        for point in &points.all[whole] {
            summaries[point.series].add(point);
        }
        if let Some(rows) = short.next() {
            at = rows.end;
            let written = written(&points, rows.clone(), transaction).await?;
            for point in &points.all[rows] {
                if written.contains(&(point.offset.0 as i64)) {
                    summaries[point.series].add(point);
                }
            }
        }
    }
    transaction.load(&records(&keys, &summaries)).await?;
    Ok(())
}

/// The points of the batches in log order, and their series in the order of appearance.
fn gather<'a>(batches: &Batches<'a>) -> (Vec<Key<'a>>, Vec<Point>) {
    const NAME: usize = column(Kind::MetricLogged, "name");
    const VALUE: usize = column(Kind::MetricLogged, "value");
    const RUN: usize = column(Kind::MetricLogged, "run");
    const MODEL: usize = column(Kind::MetricLogged, "model");
    const VERSION: usize = column(Kind::MetricLogged, "version");
    const STEP: usize = column(Kind::MetricLogged, "step");
    const EPOCH: usize = column(Kind::MetricLogged, "epoch");
    const SPLIT: usize = column(Kind::MetricLogged, "split");
    let mut keys = Vec::new();
    let mut places: HashMap<Key<'_>, usize> = HashMap::new();
    let mut points = Vec::new();
    for (batch, table, first) in batches.tables(Kind::MetricLogged) {
        let mut versions = Versions::new(batches.names);
        let mut run: (Option<&str>, Option<EntityId>) = (None, None);
        let (names, values, runs) = (table.text(NAME), table.floats(VALUE), table.text(RUN));
        let (steps, epochs, splits) = (table.ints(STEP), table.floats(EPOCH), table.text(SPLIT));
        for row in first..table.rows() {
            let owner = match (runs.get(row), table.text(MODEL).get(row)) {
                (Some(name), _) => {
                    if run.0 != Some(name) {
                        run = (Some(name), batches.names.id(EntityKind::Run, name));
                    }
                    run.1.map(|id| (EntityKind::Run, id))
                }
                (None, Some(model)) => versions
                    .get(model, table.text(VERSION).get(row))
                    .1
                    .map(|id| (EntityKind::Version, id)),
                (None, None) => None,
            };
            let (Some(owner), Some(name), Some(value)) = (owner, names.get(row), values.get(row))
            else {
                continue;
            };
            let key = Key {
                owner,
                name,
                split: splits.get(row),
            };
            let series = *places.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            });
            let epoch = epochs.get(row);
            let time = table
                .times(schema::TIME)
                .get(row)
                .unwrap_or(batch.append_time);
            points.push(Point {
                series,
                step: steps.get(row).unwrap_or_else(|| whole_epoch(epoch)),
                time,
                value,
                epoch,
                offset: batch.first_offset.advance(table.ord(row).into()),
            });
        }
    }
    (keys, points)
}

/// The step of a point that has none: its epoch cut to a whole number, else 0.
fn whole_epoch(epoch: Option<f64>) -> i64 {
    // Casting keeps within the integers, and makes NaN 0.
    epoch.unwrap_or(0.0) as i64
}

/// Points on their way into the table.
struct Points {
    table: Table,
    all: Vec<Point>,
    /// The numbers of their series.
    series: Vec<i64>,
}

impl Points {
    fn new(all: Vec<Point>, summaries: &[Summary]) -> Self {
        let columns = [
            "series_id",
            "step",
            "time",
            "value_key",
            "value",
            "non_finite",
            "epoch",
            "epoch_non_finite",
            "log_offset",
        ];
        Self {
            table: Table {
                name: "metrics",
                key: "series_id,step,time,value_key",
                conflict: Conflict::Keep,
                expect_new: true,
                columns: columns.map(|name| (name, Merge::First)).to_vec(),
            },
            all,
            series: summaries.iter().map(|summary| summary.id).collect(),
        }
    }

    fn key(&self, point: &Point) -> [Value<'static>; 4] {
        [
            self.series[point.series].into(),
            point.step.into(),
            point.time.into(),
            point.value_key().into(),
        ]
    }
}

impl Source for Points {
    fn table(&self) -> &Table {
        &self.table
    }

    fn rows(&self) -> usize {
        self.all.len()
    }

    fn offset(&self, row: usize) -> Offset {
        self.all[row].offset
    }

    fn mark(&self, row: usize) -> u64 {
        // What is there stays: which rows are the same is the database's affair.
        row as u64
    }

    fn values(&self, row: usize, values: &mut dyn Sink) {
        let point = &self.all[row];
        for key in self.key(point) {
            values.push(&key);
        }
        let [value, word] = number(Some(point.value));
        let [epoch, epoch_word] = number(point.epoch);
        for value in [value, word, epoch, epoch_word, point.offset.into()] {
            values.push(&value);
        }
    }
}

/// A number as two columns: its finite value, or the word for one that is not.
fn number(value: Option<f64>) -> [Value<'static>; 2] {
    match value {
        None => [Value::Null, Value::Null],
        Some(value) if value.is_finite() => [finite(value), Value::Null],
        Some(value) => [Value::Null, non_finite(value).into()],
    }
}

/// The number two columns mean.
fn from_columns(value: Option<f64>, word: Option<&str>) -> Option<f64> {
    value.or_else(|| {
        Some(match word? {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => f64::NAN,
        })
    })
}

/// The offsets of points in the table that have the keys of these; those among them that were written just now are
/// told by their offsets.
async fn written(
    points: &Points,
    rows: Range<usize>,
    transaction: &mut Transaction<'_>,
) -> Result<HashSet<i64>, DatabaseError> {
    let among = transaction.dialect().rows(rows.len(), 4);
    let text = format!(
        "SELECT log_offset FROM metrics WHERE (series_id, step, time, value_key) IN {among}"
    );
    let keys = points.all[rows].iter().flat_map(|point| points.key(point));
    let select = keys.fold(Statement::new(&[&text]), Statement::with);
    let found = transaction.all(select, |row| row.int(0)).await?;
    Ok(found.into_iter().collect())
}

/// The series as they are in the table; those that are not get the next numbers, in order.
async fn read(
    keys: &[Key<'_>],
    transaction: &mut Transaction<'_>,
) -> Result<Vec<Summary>, DatabaseError> {
    let mut places: HashMap<(&str, i64, &str, Option<&str>), usize> = HashMap::new();
    for (place, key) in keys.iter().enumerate() {
        let (kind, id) = key.owner;
        places.insert((kind.name(), id.into(), key.name, key.split), place);
    }
    let mut found: Vec<Option<Summary>> = vec![None; keys.len()];
    for stretch in stretches(keys.len()) {
        let among = transaction.dialect().rows(stretch.len(), 3);
        let text = format!("{SUMMARIES} WHERE (owner_kind, owner_id, name) IN {among}");
        let select = keys[stretch]
            .iter()
            .fold(Statement::new(&[&text]), |select, key| {
                let (kind, id) = key.owner;
                select.text(kind.name()).int(id).text(key.name)
            });
        // Splits that were not asked for come along.
        let summaries = transaction.all(select, |row| {
            let (kind, name) = (
                row.str(11)?.unwrap_or_default(),
                row.str(13)?.unwrap_or_default(),
            );
            let place = places.get(&(kind, row.int(12)?, name, row.str(14)?));
            Ok((place.copied(), summary(row)?))
        });
        for (place, summary) in summaries.await? {
            if let Some(place) = place {
                found[place] = Some(summary);
            }
        }
    }
    let mut next = if found.iter().all(Option::is_some) {
        0
    } else {
        let next = "SELECT coalesce(max(series_id), 0) + 1 FROM metric_latest";
        let next = transaction.one(Statement::new(&[next]), |row| row.int(0));
        next.await?.unwrap_or(1)
    };
    let known_or_new = |summary: Option<Summary>| {
        summary.unwrap_or_else(|| {
            next += 1;
            Summary::new(next - 1)
        })
    };
    Ok(found.into_iter().map(known_or_new).collect())
}

const SUMMARIES: &str = "SELECT series_id, points, last_step, last_time, last_log_offset, last_value, last_non_finite, \
     last_epoch, last_epoch_non_finite, min_value, max_value, owner_kind, owner_id, name, split FROM metric_latest";

fn summary(row: &Row<'_>) -> Result<Summary, sqlx::Error> {
    let value = from_columns(row.real(5)?, row.str(6)?);
    Ok(Summary {
        id: row.int(0)?,
        points: row.int(1)? as u64,
        last: Some(Last {
            step: row.int(2)?,
            time: Timestamp::from_micros(row.time(3)?),
            offset: Offset(row.int(4)? as u64),
            value: value.unwrap_or(f64::NAN),
            epoch: from_columns(row.real(7)?, row.str(8)?),
        }),
        min: row.real(9)?,
        max: row.real(10)?,
        changed: false,
    })
}

fn records<'a>(keys: &[Key<'a>], summaries: &[Summary]) -> Records<'a> {
    let columns = [
        ("series_id", Merge::First),
        ("owner_kind", Merge::First),
        ("owner_id", Merge::First),
        ("name", Merge::First),
        ("split", Merge::First),
        ("points", Merge::Last),
        ("last_step", Merge::Last),
        ("last_time", Merge::Last),
        ("last_log_offset", Merge::Last),
        ("last_value", Merge::Last),
        ("last_non_finite", Merge::Last),
        ("last_epoch", Merge::Last),
        ("last_epoch_non_finite", Merge::Last),
        ("min_value", Merge::Last),
        ("max_value", Merge::Last),
    ];
    let mut records = Records::new("metric_latest", "series_id", Conflict::Merge, columns);
    for (key, summary) in keys
        .iter()
        .zip(summaries)
        .filter(|(_, summary)| summary.changed)
    {
        let Some(last) = summary.last else { continue };
        let mut values = vec![
            Value::Int(summary.id),
            key.owner.0.name().into(),
            key.owner.1.into(),
            key.name.into(),
            key.split.into(),
            count(summary.points),
            Value::Int(last.step),
            last.time.into(),
            last.offset.into(),
        ];
        values.extend(number(Some(last.value)));
        values.extend(number(last.epoch));
        values.extend([summary.min, summary.max].map(|value| value.map_or(Value::Null, finite)));
        records.push(last.offset, values);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: i64, value: f64, offset: u64) -> Point {
        Point {
            series: 0,
            step,
            time: Timestamp::from_micros(1),
            value,
            epoch: None,
            offset: Offset(offset),
        }
    }

    #[test]
    fn a_summary_goes_by_step_and_leaves_odd_numbers_out_of_extremes() {
        let mut summary = Summary::new(1);
        summary.add(&point(2, 5.0, 0));
        summary.add(&point(1, f64::NEG_INFINITY, 1));
        summary.add(&point(2, 3.0, 2));
        summary.add(&point(1, f64::NAN, 3));
        assert_eq!(summary.points, 4);
        assert_eq!(summary.last.unwrap().value, 3.0);
        assert_eq!((summary.min, summary.max), (Some(3.0), Some(5.0)));
    }

    #[test]
    fn equal_values_have_equal_keys() {
        assert_eq!(point(0, 0.0, 0).value_key(), point(0, -0.0, 0).value_key());
        assert_eq!(
            point(0, f64::NAN, 0).value_key(),
            point(0, -f64::NAN, 0).value_key()
        );
        assert_ne!(point(0, 1.0, 0).value_key(), point(0, -1.0, 0).value_key());
    }

    #[test]
    fn steps_from_epochs() {
        for (epoch, step) in [
            (None, 0),
            (Some(3.9), 3),
            (Some(-1.5), -1),
            (Some(f64::NAN), 0),
        ] {
            assert_eq!(whole_epoch(epoch), step, "{epoch:?}");
        }
        assert_eq!(whole_epoch(Some(f64::INFINITY)), i64::MAX);
    }
}
