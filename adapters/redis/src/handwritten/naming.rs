//! Reading entities: first what they are called, then what they say.

use std::collections::HashMap;
use std::sync::Arc;

use modelog_engine::event::EntityKind;

use super::entities::{self, Indexed, Later};
use super::fetch::{Content, Reply, ask, contents, elements, pairs};
use super::fields::Fields;
use super::key::{Id, pattern};
use super::order::Turn;
use super::reading::{Reading, fields};
use crate::connection::command;
use crate::error::RedisError;

impl Reading<'_> {
    /// Reads what every entity is called, for what refers to it.
    pub(super) async fn name_entities(&mut self) -> Result<(), RedisError> {
        use EntityKind::{Dataset, Experiment, Model, Run, Version};
        for kind in [Model, Version, Dataset, Experiment, Run] {
            let indexed = self.indexed(kind).await?;
            let ids: Vec<Id> = self.ids[kind as usize].iter().cloned().collect();
            let mut rest = ids.as_slice();
            while !rest.is_empty() {
                let (some, found) = self.next_of(kind, &mut rest).await?;
                for (id, (key, content)) in some.iter().zip(found) {
                    let indexed = indexed.get(id).cloned().unwrap_or_default();
                    let named = match fields(&key, content) {
                        Ok(None) => continue,
                        Ok(Some(mut fields)) => {
                            let prefix = &self.source.id_prefix;
                            entities::name(kind, id, &mut fields, indexed, prefix, &self.names)
                        }
                        Err(bad) => Err(bad),
                    };
                    let added = named.and_then(|named| self.names.add(kind, id.clone(), named));
                    if let Err(bad) = added {
                        self.names.refuse(kind, id.clone());
                        self.bad(&bad);
                    }
                }
            }
        }
        self.experiments_of_runs().await
    }

    /// The next of some entities of a kind, as many as are asked for together, each with its key and what is there.
    async fn next_of<'i>(
        &mut self,
        kind: EntityKind,
        rest: &mut &'i [Id],
    ) -> Result<(&'i [Id], Vec<(String, Content)>), RedisError> {
        let (some, others) = rest.split_at(self.pace.items.min(rest.len()));
        *rest = others;
        let keys: Vec<String> = some.iter().map(|id| self.names.key(kind, id)).collect();
        let found = contents(&keys, &mut self.pace, &mut self.server).await?;
        Ok((some, keys.into_iter().zip(found).collect()))
    }

    /// What indices say of entities of a kind.
    async fn indexed(&mut self, kind: EntityKind) -> Result<HashMap<Id, Indexed>, RedisError> {
        let mut indexed: HashMap<Id, Indexed> = HashMap::new();
        let names = std::mem::take(&mut self.names_of);
        for (_, model) in names.iter().filter(|(of, _)| *of == kind) {
            let key = match model {
                Some(model) => self.key(&format!("idx:name:version:{model}")),
                None => self.key(&format!("idx:name:{kind}")),
            };
            for reply in ask([command("HGETALL", &key)], &mut self.server).await? {
                let Reply::Value(value) = reply else { continue };
                for (name, id) in pairs(value) {
                    if let (Ok(name), Ok(id)) = (String::from_utf8(name), String::from_utf8(id)) {
                        let entry = indexed.entry(Id::of(&id)).or_default();
                        entry.name = Some(name);
                        entry.model.clone_from(model);
                    }
                }
            }
        }
        self.names_of = names;
        if kind == EntityKind::Version {
            let models = std::mem::take(&mut self.versions_of);
            for model in models {
                let key = self.key(&format!("idx:versions:{model}"));
                for id in elements(&key, &mut self.server).await? {
                    indexed.entry(Id::of(&id)).or_default().model = Some(model.clone());
                }
            }
        }
        Ok(indexed)
    }

    async fn experiments_of_runs(&mut self) -> Result<(), RedisError> {
        for experiment in std::mem::take(&mut self.runs_of) {
            let key = self.key(&format!("exprun:{experiment}:runs"));
            let Ok(named) = self.names.owner(EntityKind::Experiment, &experiment, &key) else {
                self.report.leave_out(
                    pattern(&self.source.prefix, self.rest(&key)),
                    "an index of what is not there".into(),
                );
                continue;
            };
            let name = Arc::clone(&named.name);
            for run in elements(&key, &mut self.server).await? {
                self.names
                    .experiments
                    .insert(Id::of(&run), Arc::clone(&name));
            }
        }
        Ok(())
    }

    /// Makes events of every entity, kind by kind in the order of their ids: a new log gives them the same numbers.
    pub(super) async fn entities(&mut self) -> Result<(), RedisError> {
        use EntityKind::{Dataset, Experiment, Model, Run, Version};
        for kind in [Model, Version, Dataset, Experiment, Run] {
            let ids: Vec<Id> = self.names.ids(kind).cloned().collect();
            let mut rest = ids.as_slice();
            while !rest.is_empty() {
                let (some, found) = self.next_of(kind, &mut rest).await?;
                for (id, (key, content)) in some.iter().zip(found) {
                    let fields = match fields(&key, content) {
                        Ok(Some(fields)) => fields,
                        Ok(None) => continue,
                        Err(bad) => {
                            self.bad(&bad);
                            continue;
                        }
                    };
                    self.entity(kind, id, &key, fields)?;
                }
                self.taker.passed(some.len() as u64);
            }
        }
        Ok(())
    }

    fn entity(
        &mut self,
        kind: EntityKind,
        id: &Id,
        key: &str,
        fields: Fields,
    ) -> Result<(), RedisError> {
        let named = self.names.owner(kind, id, key);
        let said = named.and_then(|named| entities::entity(kind, id, fields, named, &self.names));
        let said = match said {
            Ok(said) => said,
            Err(bad) => {
                self.names.refuse(kind, id.clone());
                self.bad(&bad);
                return Ok(());
            }
        };
        for bad in &said.bad {
            self.bad(bad);
        }
        let time = self.names.get(kind, id).and_then(|named| named.time);
        self.report.without_time += u64::from(time.is_none() && !said.events.is_empty());
        for event in &said.events {
            self.emit(key, event)?;
        }
        for later in said.later {
            match later {
                Later::Alias(event) => self.put_later(Turn::Alias, time, id, key, event)?,
                Later::Deleted(event) => self.put_later(Turn::Deleted, time, id, key, event)?,
                Later::End(end) if end.time.is_none() => {
                    drop(self.open_ends.insert(id.clone(), end))
                }
                Later::End(end) => {
                    let time = end.time;
                    self.put_later(Turn::End, time, id, key, end.finish())?;
                }
            }
        }
        Ok(())
    }
}
