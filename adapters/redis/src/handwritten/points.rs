//! Points of metrics: members of sorted sets, elements of lists, entries of streams.

use modelog_engine::Timestamp;
use modelog_engine::event::{EntityKind, Kind};

use super::bad::Bad;
use super::event::{Draft, Event};
use super::fields::Fields;
use super::key::Points;
use super::names::Named;
use super::values;

const TIMES: &[&str] = &[
    "time",
    "timestamp",
    "created_at",
    "ts",
    "wall_time",
    "logged_at",
];
const STEPS: &[&str] = &["step", "global_step", "iteration", "iter"];
const VALUES: &[&str] = &["value", "val", "metric_value", "v"];
/// Scores and first parts from here on are times of our days rather than steps, where a step stands beside them.
const LEAST_TIME: f64 = 1e9;
/// How many digits of an offset stand in front of JSON, where a program like this one wrote it.
const OFFSET_DIGITS: usize = 20;

/// A series and whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series<'a> {
    pub(super) key: &'a str,
    pub(super) points: &'a Points,
    pub(super) owner: &'a Named,
}

/// A point as it is written.
#[derive(Debug, Default)]
struct Point {
    /// JSON of a number.
    value: Option<String>,
    step: Option<i64>,
    epoch: Option<String>,
    time: Option<Timestamp>,
    rest: Vec<(String, String)>,
}

impl Series<'_> {
    /// A member of a sorted set, with its score.
    ///
    /// # Errors
    /// It is no point.
    pub(super) fn member(
        &self,
        member: &[u8],
        score: &[u8],
    ) -> Result<(Event, Option<Timestamp>), Bad> {
        let text = self.utf8(member)?;
        let number = std::str::from_utf8(score)
            .ok()
            .and_then(|score| score.parse::<f64>().ok());
        let score = number.filter(|score| score.is_finite());
        let score = score.ok_or_else(|| self.bad(text, "has a score that is no number"))?;
        let mut point = self.point(text, Some(score))?;
        match (point.step, values::whole(score)) {
            (None, Some(step)) => point.step = Some(step),
            // What is not whole counts epochs.
            (None, None) => point.epoch = point.epoch.or(Some(score.to_string())),
            (Some(step), _)
                if step as f64 != score && score >= LEAST_TIME && point.time.is_none() =>
            {
                point.time = values::time(&score.to_string());
            }
            (Some(_), _) => {}
        }
        self.event(point, text)
    }

    /// An element of a list, whose place is its step if it has none.
    ///
    /// # Errors
    /// It is no point.
    pub(super) fn element(
        &self,
        element: &[u8],
        place: u64,
    ) -> Result<(Event, Option<Timestamp>), Bad> {
        let text = self.utf8(element)?;
        let mut point = self.point(text, None)?;
        if point.step.is_none() && point.epoch.is_none() {
            point.step = i64::try_from(place).ok();
        }
        self.event(point, text)
    }

    /// An entry of a stream, whose id says when, if nothing else does.
    ///
    /// # Errors
    /// It is no point.
    pub(super) fn entry(
        &self,
        id: &str,
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        place: u64,
    ) -> Result<(Event, Option<Timestamp>), Bad> {
        let mut fields = Fields::of_hash(self.key, pairs)?;
        let mut point = self.of_fields(&mut fields)?;
        if point.step.is_none() && point.epoch.is_none() {
            point.step = i64::try_from(place).ok();
        }
        let millis = id.split_once('-').map_or(id, |(millis, _)| millis);
        point.time = point.time.or_else(|| values::time(millis));
        self.event(point, id)
    }

    fn utf8<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Bad> {
        std::str::from_utf8(bytes).map_err(|_| Bad::of_key(self.key, "a member is not UTF-8"))
    }

    fn bad(&self, member: &str, what: &'static str) -> Bad {
        Bad::of_value(self.key, "member", member, what)
    }

    fn point(&self, text: &str, score: Option<f64>) -> Result<Point, Bad> {
        if let Some(mut fields) = Fields::of_json(self.key, without_offset(text)) {
            return self.of_fields(&mut fields);
        }
        let mut parts = text.split(':').map(str::trim);
        let (first, second, third, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let unknown = || {
            self.bad(
                text,
                "is no point: neither a value, nor step:value, nor a JSON object",
            )
        };
        let number = |text: Option<&str>| text.and_then(values::number).ok_or_else(unknown);
        let mut point = Point::default();
        match (first, second, third, more) {
            (value, None, ..) => point.value = Some(number(value)?),
            (Some(first), value, third, None) => {
                point.value = Some(number(value)?);
                let of_time = first
                    .parse::<f64>()
                    .is_ok_and(|first| first >= LEAST_TIME && score != Some(first));
                match (of_time, values::int(first), values::time(first)) {
                    (true, _, Some(time)) => point.time = Some(time),
                    (false, Some(step), _) => point.step = Some(step),
                    _ => return Err(unknown()),
                }
                if let Some(third) = third {
                    point.time = Some(values::time(third).ok_or_else(unknown)?);
                }
            }
            _ => return Err(unknown()),
        }
        Ok(point)
    }

    fn of_fields(&self, fields: &mut Fields) -> Result<Point, Bad> {
        let value = fields.read(VALUES, "is no number", values::number)?;
        let step = fields.take(STEPS);
        let (step, epoch_of_step) = match step {
            None => (None, None),
            Some(taken) => match (values::int(&taken.text), values::number(&taken.text)) {
                (Some(step), _) => (Some(step), None),
                (None, Some(epoch)) => (None, Some(epoch)),
                (None, None) => return Err(fields.bad(&taken, "is no number")),
            },
        };
        let epoch = fields.read(&["epoch"], "is no number", values::number)?;
        let time = fields.time(TIMES)?;
        // What the key says already.
        let Points {
            name, split, owner, ..
        } = self.points;
        for field in ["name", "metric", "metric_name"] {
            fields.drop_if(field, name);
        }
        fields.drop_if("split", split.as_deref().unwrap_or_default());
        fields.drop_if("run_id", &owner.to_string());
        Ok(Point {
            value,
            step,
            epoch: epoch.or(epoch_of_step),
            time,
            rest: fields.rest(),
        })
    }

    fn event(&self, point: Point, member: &str) -> Result<(Event, Option<Timestamp>), Bad> {
        let value = point
            .value
            .ok_or_else(|| self.bad(member, "has no value"))?;
        let mut draft = Draft::new(Kind::MetricLogged);
        match (&self.owner.model, self.points.kind) {
            (Some(model), EntityKind::Version) => {
                draft.text("model", model);
                draft.text("version", &self.owner.name);
            }
            _ => draft.text("run", &self.owner.name),
        }
        draft.text("name", &self.points.name);
        if let Some(split) = &self.points.split {
            draft.text("split", split);
        }
        draft.json("value", &value);
        if let Some(step) = point.step {
            draft.json("step", &step.to_string());
        }
        if let Some(epoch) = point.epoch {
            draft.json("epoch", &epoch);
        }
        draft.object("extra", &point.rest);
        let time = point.time.or(self.owner.time);
        if let Some(time) = time {
            draft.time(time);
        }
        Ok((draft.finish(), time))
    }
}

/// JSON without the offset that may stand in front of it.
fn without_offset(text: &str) -> &str {
    match text.split_at_checked(OFFSET_DIGITS) {
        Some((digits, rest)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest.strip_prefix(':').unwrap_or(rest)
        }
        _ => text,
    }
}
