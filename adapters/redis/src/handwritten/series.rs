//! Reading series of points, page by page.

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;
use redis::{Cmd, Value};

use super::bad::Bad;
use super::event::Event;
use super::fetch::{REPLY_BYTES, Reply, ask, pairs, size, types};
use super::key::{Key, Points};
use super::order::Keys;
use super::points::Series;
use super::reading::{Reading, disk};
use crate::connection::{command, list, text};
use crate::error::RedisError;

/// How many series are looked at together: most are short.
const SERIES_TOGETHER: usize = 32;
/// How many members are asked for at once.
const FIRST_MEMBERS: usize = 500;
const MEMBERS: usize = 5000;

/// Where a page of a series begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Ranks,
    List,
    Stream,
}

impl Reading<'_> {
    pub(super) async fn points(&mut self, keys: &mut Keys) -> Result<(), RedisError> {
        while let Some(some) = keys.some(1, SERIES_TOGETHER).map_err(disk)? {
            let first = some
                .iter()
                .map(|key| page(Shape::Ranks, key, 0, "", FIRST_MEMBERS));
            let first = ask(first, &mut self.server).await?;
            let others: Vec<&str> = some
                .iter()
                .zip(&first)
                .filter(|(_, reply)| matches!(reply, Reply::OtherType))
                .map(|(key, _)| &**key)
                .collect();
            let mut types = types(others.into_iter(), &mut self.server)
                .await?
                .into_iter();
            for (key, reply) in some.iter().zip(first) {
                let Key::Points(points) = Key::of(self.rest(key)) else {
                    continue;
                };
                let (shape, reply) = match reply {
                    Reply::Value(value) => (Shape::Ranks, Some(value)),
                    Reply::OtherType => match types.next().as_deref() {
                        Some("list") => (Shape::List, None),
                        Some("stream") => (Shape::Stream, None),
                        Some("none") | None => continue,
                        Some(ty) => {
                            self.bad(&Bad::of_type(key, ty));
                            continue;
                        }
                    },
                };
                self.series(key, &points, shape, reply).await?;
            }
            self.taker.passed(some.len() as u64);
        }
        Ok(())
    }

    /// Reads a series page by page.
    async fn series(
        &mut self,
        key: &str,
        points: &Points,
        shape: Shape,
        first: Option<Value>,
    ) -> Result<(), RedisError> {
        let owner = match self.names.owner(points.kind, &points.owner, key) {
            Ok(owner) => owner.clone(),
            Err(bad) => {
                self.bad(&bad);
                return Ok(());
            }
        };
        let series = Series {
            key,
            points,
            owner: &owner,
        };
        let (mut at, mut last) = (0, String::new());
        let mut members = MEMBERS;
        let mut given = first.map(|value| (value, FIRST_MEMBERS));
        loop {
            let (value, asked) = match given.take() {
                Some(given) => given,
                None => match ask([page(shape, key, at, &last, members)], &mut self.server)
                    .await?
                    .pop()
                {
                    Some(Reply::Value(value)) => (value, members),
                    // It is another key by now.
                    _ => return Ok(()),
                },
            };
            let bytes = size(&value);
            let read = self.page(&series, shape, at, value, &mut last)?;
            at += read as u64;
            if read < asked {
                return Ok(());
            }
            // Long members come in smaller pages.
            members = (read * REPLY_BYTES / bytes.max(1)).clamp(1, MEMBERS);
        }
    }

    /// Makes events of a page; answers how many points it has.
    fn page(
        &mut self,
        series: &Series<'_>,
        shape: Shape,
        at: u64,
        value: Value,
        last: &mut String,
    ) -> Result<usize, RedisError> {
        let mut read = 0;
        let mut take = |reading: &mut Self, event: Result<(Event, Option<Timestamp>), Bad>| {
            read += 1;
            reading.point(series, event)
        };
        match shape {
            Shape::Ranks => {
                for (member, score) in pairs(value) {
                    take(self, series.member(&member, &score))?;
                }
            }
            Shape::List => {
                for (place, element) in (at..).zip(list(value)) {
                    let Value::BulkString(element) = element else {
                        continue;
                    };
                    take(self, series.element(&element, place))?;
                }
            }
            Shape::Stream => {
                for (place, entry) in (at..).zip(list(value)) {
                    let mut parts = list(entry).into_iter();
                    let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
                        continue;
                    };
                    text(&id).unwrap_or_default().clone_into(last);
                    take(self, series.entry(last, pairs(fields), place))?;
                }
            }
        }
        Ok(read)
    }

    fn point(
        &mut self,
        series: &Series<'_>,
        event: Result<(Event, Option<Timestamp>), Bad>,
    ) -> Result<(), RedisError> {
        let (event, time) = match event {
            Ok(found) => found,
            Err(bad) => {
                self.bad(&bad);
                return Ok(());
            }
        };
        self.report.without_time += u64::from(time.is_none());
        let run = &series.points.owner;
        if let Some(time) = time
            && series.points.kind == EntityKind::Run
            && self.open_ends.contains_key(run)
        {
            let last = self.last_points.entry(run.clone()).or_insert(time);
            *last = time.max(*last);
        }
        self.emit(series.key, &event)
    }
}

/// The command for a part of a series.
fn page(shape: Shape, key: &str, at: u64, last: &str, members: usize) -> Cmd {
    let end = at + members as u64 - 1;
    match shape {
        Shape::Ranks => {
            let mut page = command("ZRANGE", key);
            page.arg(at).arg(end).arg("WITHSCORES");
            page
        }
        Shape::List => {
            let mut page = command("LRANGE", key);
            page.arg(at).arg(end);
            page
        }
        Shape::Stream => {
            let mut page = command("XRANGE", key);
            // The next id there can be, which older servers understand as well.
            let after = match last.split_once('-') {
                Some((millis, number)) => {
                    let number = number.parse::<u64>().unwrap_or_default();
                    format!("{millis}-{}", number.saturating_add(1))
                }
                None => "-".into(),
            };
            page.arg(after).arg("+").arg("COUNT").arg(members);
            page
        }
    }
}
