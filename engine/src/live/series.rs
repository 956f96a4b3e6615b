//! The newest points of each series, and each series in short.
//!
//! Points leave in their own order (step, time, offset): of a series once it has more than its window. Of all series
//! together, once they take more memory than they may, those of the run or version leave whole that has been silent for
//! longest.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::batch::LoggedBatch;
use crate::event::schema::{self, column};
use crate::event::{EntityKind, Kind};
use crate::names::{EntityId, Names, Versions};
use crate::read::{MetricPoint, SeriesSummary};
use crate::{Offset, Timestamp};

/// Whose series they are: a run's or a version's.
pub(super) type Owner = (EntityKind, EntityId);
/// The name of a series, and its split.
pub(super) type Name = (Box<str>, Option<Box<str>>);
/// A point's place in its series.
type Place = (i64, Timestamp, Offset);

/// What a series takes beside its points and its name.
const OVERHEAD_BYTES: usize = 200;

/// All series that are kept.
#[derive(Debug)]
pub(super) struct AllSeries {
    window: usize,
    bytes_max: usize,
    bytes: usize,
    owners: HashMap<Owner, Owned>,
    /// Owners by the last point that was logged for them.
    silence: BTreeMap<Offset, Owner>,
}

/// The series of a run or version.
#[derive(Debug, Default)]
struct Owned {
    touched: Offset,
    bytes: usize,
    /// None once they have left.
    series: Option<BTreeMap<Name, Tail>>,
}

/// The end of a series.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In order.
    points: VecDeque<MetricPoint>,
    /// The highest place of those that have left.
    left: Option<Place>,
    /// A point lies where others have left: whether it repeats one of them cannot be known, nor how many there are.
    uncertain: bool,
    count: u64,
    min: Option<f64>,
    max: Option<f64>,
}

fn place(point: &MetricPoint) -> Place {
    (point.step, point.time, point.log_offset)
}

impl Tail {
    /// Takes a point, unless it is there already.
    fn add(&mut self, point: MetricPoint, window: usize) {
        let (step, time, _) = place(&point);
        if let Some(left) = self.left.filter(|left| (step, time) <= (left.0, left.1)) {
            self.left = Some(left.max(place(&point)));
            self.uncertain = true;
            return;
        }
        let at = self
            .points
            .partition_point(|known| place(known) < place(&point));
        let same = |known: &MetricPoint| {
            known.value == point.value || known.value.is_nan() && point.value.is_nan()
        };
        // Those of the same step and time lie side by side, on either side of where it would go.
        let before = (0..at).rev().map(|at| &self.points[at]);
        let behind = self.points.range(at..);
        let twins = |known: &&MetricPoint| (known.step, known.time) == (step, time);
        if before.take_while(twins).any(same) || behind.take_while(twins).any(same) {
            return;
        }
        self.count += 1;
        if point.value.is_finite() {
            self.min = Some(self.min.map_or(point.value, |min| min.min(point.value)));
            self.max = Some(self.max.map_or(point.value, |max| max.max(point.value)));
        }
        self.points.insert(at, point);
        if self.points.len() > window
            && let Some(oldest) = self.points.pop_front()
        {
            self.left = self.left.max(Some(place(&oldest)));
        }
    }

    /// The series in short; none if that cannot be known.
    pub(super) fn summary(&self, (name, split): &Name) -> Option<SeriesSummary> {
        if self.uncertain {
            return None;
        }
        Some(SeriesSummary {
            name: name.to_string(),
            split: split.as_deref().map(str::to_owned),
            points: self.count,
            last: self.points.back()?.clone(),
            min: self.min,
            max: self.max,
        })
    }

    /// The points whose steps lie in a range, in order; none if some of them have left.
    pub(super) fn between(
        &self,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Option<impl ExactSizeIterator<Item = &MetricPoint>> {
        if self
            .left
            .is_some_and(|left| from.is_none_or(|from| from <= left.0))
        {
            return None;
        }
        let first = from.map_or(0, |from| {
            self.points.partition_point(|point| point.step < from)
        });
        let end = to.map_or(self.points.len(), |to| {
            self.points.partition_point(|point| point.step <= to)
        });
        Some(self.points.range(first..end.max(first)))
    }
}

/// What is known of the series of a run or version.
pub(super) enum Found<'a> {
    Nothing,
    All(&'a BTreeMap<Name, Tail>),
    /// They have left.
    Left,
}

impl AllSeries {
    pub(super) fn new(window: usize, bytes_max: usize) -> Self {
        Self {
            window: window.max(1),
            bytes_max,
            bytes: 0,
            owners: HashMap::new(),
            silence: BTreeMap::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything about a run or version.
    pub(super) fn of(&self, owner: Owner) -> Found<'_> {
        match self.owners.get(&owner).map(|owned| &owned.series) {
            None => Found::Nothing,
            Some(Some(series)) => Found::All(series),
            Some(None) => Found::Left,
        }
    }

    /// Takes the points of a batch, from an offset on.
    pub(super) fn apply(&mut self, batch: &LoggedBatch, done: Offset, names: &Names) {
        const NAME: usize = column(Kind::MetricLogged, "name");
        const VALUE: usize = column(Kind::MetricLogged, "value");
        const RUN: usize = column(Kind::MetricLogged, "run");
        const MODEL: usize = column(Kind::MetricLogged, "model");
        const VERSION: usize = column(Kind::MetricLogged, "version");
        const STEP: usize = column(Kind::MetricLogged, "step");
        const EPOCH: usize = column(Kind::MetricLogged, "epoch");
        const SPLIT: usize = column(Kind::MetricLogged, "split");
        let Some(table) = batch.table(Kind::MetricLogged) else {
            return;
        };
        let mut versions = Versions::new(names);
        let mut run: (Option<&str>, Option<EntityId>) = (None, None);
        for row in 0..table.rows() {
            let offset = batch.first_offset.advance(table.ord(row).into());
            if offset < done {
                continue;
            }
            // The run owns a point that names both.
            let owner = match (table.text(RUN).get(row), table.text(MODEL).get(row)) {
                (Some(name), _) => {
                    if run.0 != Some(name) {
                        run = (Some(name), names.id(EntityKind::Run, name));
                    }
                    run.1.map(|id| (EntityKind::Run, id))
                }
                (None, Some(model)) => versions
                    .get(model, table.text(VERSION).get(row))
                    .1
                    .map(|id| (EntityKind::Version, id)),
                (None, None) => None,
            };
            let (name, value) = (table.text(NAME).get(row), table.floats(VALUE).get(row));
            let (Some(owner), Some(name), Some(value)) = (owner, name, value) else {
                continue;
            };
            let epoch = table.floats(EPOCH).get(row);
            // A point without a step has its epoch's whole part: casting keeps within the integers, and makes NaN 0.
            let step = table.ints(STEP).get(row);
            let time = table.times(schema::TIME).get(row);
            let point = MetricPoint {
                step: step.unwrap_or(epoch.unwrap_or(0.0) as i64),
                // The sign of a zero is not kept: databases do not either.
                value: value + 0.0,
                epoch: epoch.map(|epoch| epoch + 0.0),
                time: time.unwrap_or(batch.append_time),
                log_offset: offset,
            };
            let split = table.text(SPLIT).get(row);
            self.add(owner, (name.into(), split.map(Into::into)), point);
        }
    }

    fn add(&mut self, owner: Owner, name: Name, point: MetricPoint) {
        let owned = self.owners.entry(owner).or_insert_with(|| Owned {
            series: Some(BTreeMap::new()),
            ..Owned::default()
        });
        // What has left stays away: what came before it is not known any more.
        let Some(series) = &mut owned.series else {
            return;
        };
        self.silence.remove(&owned.touched);
        owned.touched = point.log_offset;
        self.silence.insert(point.log_offset, owner);
        let size = |tail: &Tail| tail.points.len() * size_of::<MetricPoint>();
        let mut change = 0;
        let tail = series.entry(name).or_insert_with_key(|(name, split)| {
            change += OVERHEAD_BYTES + name.len() + split.as_ref().map_or(0, |split| split.len());
            Tail::default()
        });
        let before = size(tail);
        tail.add(point, self.window);
        // A point more, or as many as before.
        change += size(tail) - before;
        owned.bytes += change;
        self.bytes += change;
        while self.bytes > self.bytes_max
            && let Some((_, silent)) = self.silence.pop_first()
        {
            if let Some(owned) = self.owners.get_mut(&silent) {
                self.bytes -= std::mem::take(&mut owned.bytes);
                owned.series = None;
            }
        }
    }
}
