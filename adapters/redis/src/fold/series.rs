//! Points of metrics, and each series in short.
//!
//! A point is a member of its series' sorted set; the same point logged twice is the same step, time and value, and only
//! the first is kept. Points leave by step, the lowest first. What a step below the highest that has left brings may repeat a
//! point that is gone: such a series no longer knows how many points it has, and says so.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use modelog_engine::batch::{LoggedBatch, Table};
use modelog_engine::event::schema::{self, column};
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::{EntityId, Versions};
use modelog_engine::read::{MetricPoint, SeriesSummary};
use modelog_engine::{Offset, Timestamp};
use redis::Cmd;
use serde::{Deserialize, Serialize};

use super::{Batches, Writes};
use crate::connection::{Commands, Connection, command, int, list, text};
use crate::error::RedisError;
use crate::keys::{self, Owner};

/// A number in JSON, which may be none: then it is a word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Word(Word),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Word {
    NaN,
    Infinity,
    #[serde(rename = "-Infinity")]
    MinusInfinity,
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Finite(value)
        } else if value.is_nan() {
            Self::Word(Word::NaN)
        } else if value > 0.0 {
            Self::Word(Word::Infinity)
        } else {
            Self::Word(Word::MinusInfinity)
        }
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(value) => value,
            Number::Word(Word::NaN) => Self::NAN,
            Number::Word(Word::Infinity) => Self::INFINITY,
            Number::Word(Word::MinusInfinity) => Self::NEG_INFINITY,
        }
    }
}

/// Step, time and the bits of the value.
type Identity = (i64, i64, u64);

/// A point as it stands in a member, behind its offset.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Point {
    step: i64,
    value: Number,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    epoch: Option<Number>,
    /// Microseconds since 1970.
    time: i64,
}

impl Point {
    fn view(self, offset: u64) -> MetricPoint {
        MetricPoint {
            step: self.step,
            value: self.value.into(),
            epoch: self.epoch.map(Into::into),
            time: Timestamp::from_micros(self.time),
            log_offset: Offset(offset),
        }
    }

    /// What makes it the same point as another.
    fn identity(&self) -> Identity {
        let value = f64::from(self.value);
        // One NaN for all.
        let value = if value.is_nan() { f64::NAN } else { value };
        (self.step, self.time, value.to_bits())
    }
}

/// The point in a member of a series' sorted set.
pub(crate) fn point(member: &str) -> Option<MetricPoint> {
    let (offset, json) = keys::of_member(member)?;
    let point: Point = serde_json::from_str(json).ok()?;
    Some(point.view(offset))
}

/// A series in short, as it stands in the hash of its owner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Short {
    /// The last event it was made from.
    offset: u64,
    points: u64,
    /// How many of them are in the sorted set.
    kept: u64,
    last: Option<(u64, Point)>,
    min: Option<f64>,
    max: Option<f64>,
    /// The highest step of those that have left.
    left: Option<i64>,
    /// How many points there are is not known any more.
    uncertain: bool,
}

impl Short {
    /// The series in short; none if it is not known any more.
    pub(crate) fn summary(&self, name: String, split: Option<String>) -> Option<SeriesSummary> {
        let (offset, last) = self.last.filter(|_| !self.uncertain)?;
        Some(SeriesSummary {
            name,
            split,
            points: self.points,
            last: last.view(offset),
            min: self.min,
            max: self.max,
        })
    }

    /// Whether it has no points: only a bound was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// Whether all points from a step on are there.
    pub(crate) fn has_all_from(&self, step: Option<i64>) -> bool {
        self.left
            .is_none_or(|left| step.is_some_and(|step| step > left))
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("a summary has a JSON form")
    }

    fn add(&mut self, offset: u64, point: Point) {
        self.points += 1;
        self.kept += 1;
        let place = |(offset, point): &(u64, Point)| (point.step, point.time, *offset);
        if self
            .last
            .as_ref()
            .is_none_or(|last| place(last) < place(&(offset, point)))
        {
            self.last = Some((offset, point));
        }
        if let Number::Finite(value) = point.value {
            self.min = Some(self.min.map_or(value, |min| min.min(value)));
            self.max = Some(self.max.map_or(value, |max| max.max(value)));
        }
    }
}

/// New points of a series.
struct Series {
    owner: Owner,
    /// `name:split`, as it is written in keys.
    name: String,
    points: Vec<(u64, Point)>,
    known: Short,
    /// Offsets of points that are there, or come with this batch; of those in Redis only at steps that may come again.
    there: HashMap<Identity, u64>,
}

/// Adds the points of the batches.
pub(crate) async fn apply(
    batches: Batches<'_>,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let mut all = gather(batches);
    if all.is_empty() {
        return Ok(());
    }
    read(&mut all, batches, server).await?;
    read_again(&mut all, batches, server).await?;
    let mut over = Vec::new();
    for (at, series) in all.iter_mut().enumerate() {
        let before = series.known.clone();
        let added = series.add(batches, writes);
        let window = batches.config.metrics_window as u64;
        // Not for every point: looking for the lowest is a question of its own.
        if series.known.kept > window + window / 10 {
            over.push(Over { at, before, added });
        }
    }
    trim(over, &mut all, batches, server, writes).await?;
    let mut owners: BTreeMap<Owner, Cmd> = BTreeMap::new();
    for series in &all {
        let hash = owners
            .entry(series.owner)
            .or_insert_with(|| command("HSET", &batches.keys.series(series.owner)));
        hash.arg(&series.name).arg(series.known.json());
    }
    owners.into_values().for_each(|hash| writes.then.push(hash));
    Ok(())
}

impl Series {
    /// Folds the new points; answers how many members there are more.
    fn add(&mut self, batches: Batches<'_>, writes: &mut Writes) -> u64 {
        let mut adding = command("ZADD", &batches.keys.points(self.owner, &self.name));
        let (mut adds, mut added) = (false, 0);
        let short = &mut self.known;
        for (offset, point) in std::mem::take(&mut self.points) {
            // It was made from this one before; whether the point is there as well is not known.
            let again = short.points > 0 && offset <= short.offset;
            short.offset = short.offset.max(offset);
            if !short.has_all_from(Some(point.step)) {
                short.uncertain |= !again;
                continue;
            }
            match self.there.entry(point.identity()) {
                Entry::Occupied(twin) if *twin.get() != offset => continue,
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert(offset);
                    added += 1;
                }
            }
            let json = serde_json::to_string(&point).expect("a point has a JSON form");
            adding.arg(point.step).arg(keys::member(offset, &json));
            adds = true;
            if !again {
                short.add(offset, point);
            }
        }
        if adds {
            writes.first.push(adding);
        }
        added
    }
}

/// A series that has more points than its window.
struct Over {
    at: usize,
    /// What was known of it before this batch.
    before: Short,
    /// How many points this batch adds.
    added: u64,
}

/// Lets the lowest points of series go that have more than their window. That they go is written before they do.
async fn trim(
    over: Vec<Over>,
    all: &mut [Series],
    batches: Batches<'_>,
    server: &mut Connection,
    writes: &mut Writes,
) -> Result<(), RedisError> {
    let window = batches.config.metrics_window as u64;
    let key = |series: &Series| batches.keys.points(series.owner, &series.name);
    let mut commands = Commands::default();
    for Over { at, .. } in &over {
        commands.push(command("ZCARD", &key(&all[*at])));
    }
    let there = server.run(commands).await?;
    let mut commands = Commands::default();
    let mut cut = Vec::new();
    for (over, there) in over.into_iter().zip(there) {
        let there = int(&there).unwrap_or(0) as u64;
        let known = &mut all[over.at].known;
        known.kept = there + over.added;
        let excess = known.kept.saturating_sub(window).min(there);
        if excess > 0 {
            known.kept -= excess;
            let mut highest = command("ZRANGE", &key(&all[over.at]));
            highest.arg(excess - 1).arg(excess - 1);
            commands.push(highest);
            cut.push((over, excess));
        }
    }
    let highest = server.run(commands).await?;
    for ((Over { at, mut before, .. }, excess), reply) in cut.into_iter().zip(highest) {
        let series = &mut all[at];
        let highest = list(reply).first().and_then(text).and_then(point);
        let highest = highest.ok_or_else(|| RedisError::Content {
            key: key(series),
            what: "a member that is not a point".into(),
        })?;
        // What comes with this batch can only make those that go lower.
        before.left = before.left.max(Some(highest.step));
        series.known.left = before.left;
        let mut bound = command("HSET", &batches.keys.series(series.owner));
        bound.arg(&series.name).arg(before.json());
        writes.bounds.push(bound);
        let mut remove = command("ZREMRANGEBYRANK", &key(series));
        remove.arg(0).arg(excess - 1);
        writes.first.push(remove);
    }
    Ok(())
}

fn gather(batches: Batches<'_>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    let mut places: HashMap<(Owner, &str, Option<&str>), usize> = HashMap::new();
    for batch in batches.pending() {
        let Some(table) = batch.table(Kind::MetricLogged) else {
            continue;
        };
        let mut owners = Owners::new(batches, table);
        for row in 0..table.rows() {
            let offset = batch.first_offset.advance(table.ord(row).into());
            if offset < batches.done {
                continue;
            }
            const NAME: usize = column(Kind::MetricLogged, "name");
            const SPLIT: usize = column(Kind::MetricLogged, "split");
            let (Some(owner), Some(name)) = (owners.get(row), table.text(NAME).get(row)) else {
                continue;
            };
            let split = table.text(SPLIT).get(row);
            let Some(point) = new_point(batch, table, row) else {
                continue;
            };
            let at = *places.entry((owner, name, split)).or_insert_with(|| {
                all.push(Series {
                    owner,
                    name: keys::series(name, split),
                    points: Vec::new(),
                    known: Short::default(),
                    there: HashMap::new(),
                });
                all.len() - 1
            });
            all[at].points.push((offset.0, point));
        }
    }
    all
}

fn new_point(batch: &LoggedBatch, table: &Table, row: usize) -> Option<Point> {
    const VALUE: usize = column(Kind::MetricLogged, "value");
    const STEP: usize = column(Kind::MetricLogged, "step");
    const EPOCH: usize = column(Kind::MetricLogged, "epoch");
    // The sign of a zero is not kept: databases do not either.
    let value = table.floats(VALUE).get(row)? + 0.0;
    let epoch = table.floats(EPOCH).get(row).map(|epoch| epoch + 0.0);
    // A point without a step has its epoch's whole part: casting keeps within the integers, and makes NaN 0.
    let step = table.ints(STEP).get(row);
    let time = table.times(schema::TIME).get(row);
    Some(Point {
        step: step.unwrap_or(epoch.unwrap_or(0.0) as i64),
        value: value.into(),
        epoch: epoch.map(Into::into),
        time: time.unwrap_or(batch.append_time).micros(),
    })
}

/// Whose points the rows of a table are. The run owns a point that names both.
struct Owners<'a> {
    batches: Batches<'a>,
    table: &'a Table,
    versions: Versions<'a>,
    run: (Option<&'a str>, Option<EntityId>),
}

impl<'a> Owners<'a> {
    fn new(batches: Batches<'a>, table: &'a Table) -> Self {
        Self {
            versions: Versions::new(batches.names),
            batches,
            table,
            run: (None, None),
        }
    }

    fn get(&mut self, row: usize) -> Option<Owner> {
        const RUN: usize = column(Kind::MetricLogged, "run");
        const MODEL: usize = column(Kind::MetricLogged, "model");
        const VERSION: usize = column(Kind::MetricLogged, "version");
        if let Some(name) = self.table.text(RUN).get(row) {
            if self.run.0 != Some(name) {
                self.run = (Some(name), self.batches.names.id(EntityKind::Run, name));
            }
            return Some((EntityKind::Run, self.run.1?));
        }
        let model = self.table.text(MODEL).get(row)?;
        let (_, version) = self.versions.get(model, self.table.text(VERSION).get(row));
        Some((EntityKind::Version, version?))
    }
}

/// What is known of the series.
async fn read(
    all: &mut [Series],
    batches: Batches<'_>,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    for series in &*all {
        let mut command = command("HGET", &batches.keys.series(series.owner));
        command.arg(&series.name);
        commands.push(command);
    }
    let replies = server.run(commands).await?;
    for (series, reply) in all.iter_mut().zip(replies) {
        if let Some(json) = text(&reply) {
            series.known = serde_json::from_str(json).map_err(|error| RedisError::Content {
                key: batches.keys.series(series.owner),
                what: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// The points in Redis at steps that may come again: those not above the last one.
async fn read_again(
    all: &mut [Series],
    batches: Batches<'_>,
    server: &mut Connection,
) -> Result<(), RedisError> {
    let mut commands = Commands::default();
    let mut asked = Vec::new();
    for (at, series) in all.iter().enumerate() {
        let Some((_, last)) = series.known.last else {
            continue;
        };
        let steps = series.points.iter().map(|(_, point)| point.step);
        let (low, high) = steps
            .filter(|step| *step <= last.step)
            .fold((i64::MAX, i64::MIN), |(low, high), step| {
                (low.min(step), high.max(step))
            });
        if low <= high {
            let mut range = command(
                "ZRANGEBYSCORE",
                &batches.keys.points(series.owner, &series.name),
            );
            range.arg(low).arg(high);
            commands.push(range);
            asked.push(at);
        }
    }
    let replies = server.run(commands).await?;
    for (at, reply) in asked.into_iter().zip(replies) {
        for member in list(reply) {
            let read = text(&member).and_then(|member| {
                let (offset, json) = keys::of_member(member)?;
                let point: Point = serde_json::from_str(json).ok()?;
                Some((point.identity(), offset))
            });
            let key = || batches.keys.points(all[at].owner, &all[at].name);
            let (identity, offset) = read.ok_or_else(|| RedisError::Content {
                key: key(),
                what: "a member that is not a point".into(),
            })?;
            all[at].there.insert(identity, offset);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back() {
        for value in [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            let point = Point {
                step: i64::MIN,
                value: value.into(),
                epoch: Some(2.5.into()),
                time: -1,
            };
            let member = keys::member(7, &serde_json::to_string(&point).unwrap());
            let found = super::point(&member).unwrap();
            assert_eq!(found.value.to_bits(), value.to_bits());
            assert_eq!(
                (found.step, found.epoch, found.log_offset.0),
                (i64::MIN, Some(2.5), 7)
            );
        }
    }
}
