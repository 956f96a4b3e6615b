//! A reading under way, step by step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use modelog_engine::Timestamp;
use modelog_engine::event::{EntityKind, Json};

use super::bad::Bad;
use super::entities::End;
use super::event::Event;
use super::fetch::{Content, Pace, contents};
use super::fields::Fields;
use super::key::{Id, Key, MADE, pattern};
use super::names::Names;
use super::order::{Keys, Turn, packed, place, unpacked};
use super::runs;
use super::sort::Sorter;
use super::{Handwritten, Report, SORTS_MAX, Taker, scanned, values};
use crate::connection::{Connection, command};
use crate::error::RedisError;

/// How many keys SCAN looks at in a round.
const SCAN_KEYS: usize = 1000;

/// A reading under way.
pub(super) struct Reading<'a> {
    pub(super) source: &'a Handwritten,
    pub(super) server: Connection,
    pub(super) taker: &'a mut dyn Taker,
    pub(super) report: Report,
    /// A program like this one wrote it.
    live_view: bool,
    /// How many keys there are below the prefix.
    pub(super) seen: u64,
    pub(super) names: Names,
    pub(super) ids: [BTreeSet<Id>; EntityKind::ALL.len()],
    /// Experiments, and models, that have an index.
    pub(super) runs_of: BTreeSet<Id>,
    pub(super) versions_of: BTreeSet<Id>,
    pub(super) names_of: BTreeSet<(EntityKind, Option<Id>)>,
    /// What is sorted by time.
    later: Sorter,
    /// Ends of runs of which nothing says when: they end with their last point.
    pub(super) open_ends: BTreeMap<Id, End>,
    pub(super) last_points: HashMap<Id, Timestamp>,
    pub(super) pace: Pace,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        source: &'a Handwritten,
        server: Connection,
        live_view: bool,
        taker: &'a mut dyn Taker,
    ) -> Self {
        Self {
            names: Names::new(&source.prefix),
            source,
            server,
            taker,
            report: Report::default(),
            live_view,
            seen: 0,
            ids: Default::default(),
            runs_of: BTreeSet::new(),
            versions_of: BTreeSet::new(),
            names_of: BTreeSet::new(),
            later: Sorter::new(),
            open_ends: BTreeMap::new(),
            last_points: HashMap::new(),
            pace: Pace::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), RedisError> {
        let keys = self.scan().await?;
        let mut keys = Keys::new(keys.finish().map_err(disk)?);
        self.name_entities().await?;
        self.entities().await?;
        self.parameters(&mut keys).await?;
        self.points(&mut keys).await?;
        self.artifacts(&mut keys).await?;
        self.ends()?;
        self.predictions(&mut keys).await?;
        self.feedback(&mut keys).await?;
        let later = std::mem::replace(&mut self.later, Sorter::new());
        let mut later = later.finish().map_err(disk)?;
        while let Some((_, value)) = later.next().map_err(disk)? {
            let (key, event) = unpacked(&value);
            self.taker
                .event(key, &event.json, event.digest)
                .map_err(disk)?;
        }
        Ok(())
    }

    pub(super) fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.source.prefix)
    }

    pub(super) fn rest<'k>(&self, key: &'k str) -> &'k str {
        key.get(self.source.prefix.len() + 1..).unwrap_or_default()
    }

    pub(super) fn bad(&mut self, bad: &Bad) {
        let pattern = pattern(&self.source.prefix, self.rest(&bad.key));
        self.report.bad(bad, pattern);
    }

    pub(super) fn emit(&mut self, key: &str, event: &Event) -> Result<(), RedisError> {
        self.taker
            .event(key, &event.json, event.digest)
            .map_err(disk)
    }

    pub(super) fn put_later(
        &mut self,
        turn: Turn,
        time: Option<Timestamp>,
        id: &Id,
        key: &str,
        event: Event,
    ) -> Result<(), RedisError> {
        let mut sorts = vec![turn as u8];
        // Those without a time come last.
        let time = time.map_or(i64::MAX, Timestamp::micros);
        sorts.extend(((time as u64) ^ (1 << 63)).to_be_bytes());
        sorts.extend(id.sorts());
        self.later.push(sorts, packed(key, &event)).map_err(disk)
    }

    /// Finds all keys: those of entities are kept, those of what there may be much of are sorted.
    async fn scan(&mut self) -> Result<Sorter, RedisError> {
        let mut sorter = Sorter::new();
        let mut cursor = "0".to_owned();
        let mut facts = 0;
        let mut beside: BTreeMap<(String, String), u64> = BTreeMap::new();
        loop {
            let mut scan = command("SCAN", &cursor);
            scan.arg("MATCH")
                .arg(self.source.pattern())
                .arg("COUNT")
                .arg(SCAN_KEYS);
            let (next, keys) = scanned(self.server.one(scan).await?);
            for key in keys {
                self.seen += 1;
                let key = match String::from_utf8(key) {
                    Ok(key) => key,
                    Err(error) => {
                        let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
                        self.bad(&Bad::of_key(&shown, "the name of the key is not UTF-8"));
                        continue;
                    }
                };
                let rest = self.rest(&key);
                let found = match Key::of(rest) {
                    // Feedback that waits, and which models share an id.
                    Key::Feedback(_) if self.live_view => Key::Beside(MADE),
                    Key::Prediction(_) if self.live_view && rest.ends_with(":models") => {
                        Key::Beside(MADE)
                    }
                    found => found,
                };
                facts += u64::from(found.is_fact());
                let sorts = match found {
                    Key::Entity(kind, id) => {
                        self.ids[kind as usize].insert(id);
                        continue;
                    }
                    Key::RunsOf(experiment) => {
                        self.runs_of.insert(experiment);
                        continue;
                    }
                    Key::VersionsOf(model) => {
                        self.versions_of.insert(model);
                        continue;
                    }
                    Key::NamesOf(kind, model) => {
                        self.names_of.insert((kind, model));
                        continue;
                    }
                    Key::Beside(reason) => {
                        let counted = (pattern(&self.source.prefix, rest), reason.to_owned());
                        if beside.len() < SORTS_MAX || beside.contains_key(&counted) {
                            *beside.entry(counted).or_default() += 1;
                        } else {
                            *beside.entry(("…".into(), reason.into())).or_default() += 1;
                        }
                        continue;
                    }
                    Key::Params(run, name) => place(0, &run, name.as_deref().unwrap_or_default()),
                    Key::Points(points) => place(1, &points.owner, rest),
                    Key::Artifact(id) => place(2, &id, ""),
                    Key::Prediction(id) => place(3, &id, ""),
                    Key::Feedback(id) => place(4, &id, ""),
                };
                sorter.push(sorts, key.into_bytes()).map_err(disk)?;
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        // A key may have come twice; it is counted twice here, and found out where it matters.
        self.report.left_out.append(&mut beside);
        self.taker.found(facts);
        Ok(sorter)
    }

    async fn parameters(&mut self, keys: &mut Keys) -> Result<(), RedisError> {
        while let Some(some) = keys.some(0, self.pace.items).map_err(disk)? {
            let found = contents(&some, &mut self.pace, &mut self.server).await?;
            for (key, content) in some.iter().zip(found) {
                let Key::Params(run, name) = Key::of(self.rest(key)) else {
                    continue;
                };
                let params = match (content, name) {
                    (Content::Gone, _) => continue,
                    (Content::Bad(bad), _) => Err(bad),
                    (Content::Fields(fields), None) => Ok(fields.members()),
                    (Content::Text(text), Some(name)) => Ok(vec![(name, values::to_json(&text))]),
                    (Content::Fields(fields), Some(name)) => {
                        let members = fields.members();
                        let members = members.iter().map(|(key, value)| (&**key, &**value));
                        let object = Json::object(members).unwrap_or_default();
                        Ok(vec![(name, object.as_str().to_owned())])
                    }
                    (Content::Text(_), None) => {
                        Err(Bad::of_key(key, "is a string that is no JSON object"))
                    }
                };
                let named = self.names.owner(EntityKind::Run, &run, key);
                let event = named.and_then(|named| Ok(runs::parameters(named, &params?)));
                match event {
                    Ok(Some(event)) => self.emit(key, &event)?,
                    Ok(None) => {}
                    Err(bad) => self.bad(&bad),
                }
            }
            self.taker.passed(some.len() as u64);
        }
        Ok(())
    }

    async fn artifacts(&mut self, keys: &mut Keys) -> Result<(), RedisError> {
        while let Some(some) = keys.some(2, self.pace.items).map_err(disk)? {
            let found = contents(&some, &mut self.pace, &mut self.server).await?;
            for (key, content) in some.iter().zip(found) {
                let event = match fields(key, content) {
                    Ok(None) => continue,
                    Ok(Some(fields)) => runs::artifact(fields, None, &self.names),
                    Err(bad) => Err(bad),
                };
                match event {
                    Ok(event) => self.emit(key, &event)?,
                    Err(bad) => self.bad(&bad),
                }
            }
            self.taker.passed(some.len() as u64);
        }
        Ok(())
    }

    /// Runs that ended nobody knows when: with their last point, else where they started.
    fn ends(&mut self) -> Result<(), RedisError> {
        for (id, mut end) in std::mem::take(&mut self.open_ends) {
            let started = self
                .names
                .get(EntityKind::Run, &id)
                .and_then(|named| named.time);
            end.time = self.last_points.get(&id).copied().or(started);
            self.report.without_time += u64::from(end.time.is_none());
            let (key, time) = (self.names.key(EntityKind::Run, &id), end.time);
            self.put_later(Turn::End, time, &id, &key, end.finish())?;
        }
        Ok(())
    }
}

/// The fields of a key; nothing if it is gone.
pub(super) fn fields(key: &str, content: Content) -> Result<Option<Fields>, Bad> {
    match content {
        Content::Fields(fields) => Ok(Some(fields)),
        Content::Gone => Ok(None),
        Content::Text(_) => Err(Bad::of_key(key, "is a string that is no JSON object")),
        Content::Bad(bad) => Err(bad),
    }
}

pub(super) fn disk(source: io::Error) -> RedisError {
    RedisError::Disk { source }
}
