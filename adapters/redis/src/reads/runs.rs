//! Runs. A list looks through all runs, or those of an experiment, if there are not too many.

use std::cmp::Reverse;

use modelog_engine::Timestamp;
use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::{List, SortKey};
use modelog_engine::read::{Key, Page, PageRequest, ReadError, Run, RunFilter, RunOrder};

use super::entities::Known;
use super::{NOT_KEPT, RedisReads, id};
use crate::connection::command;

/// As many runs are looked through for a list; beyond that it is for SQL.
const RUNS_MAX: i64 = 10_000;

fn view((named, run): Known) -> Run {
    run.run(named.id, named.name)
}

impl RedisReads {
    pub(super) async fn one_run(&self, key: &Key) -> Result<Option<Run>, ReadError> {
        Ok(self.shown(EntityKind::Run, key).await?.map(view))
    }

    pub(super) async fn list_runs(
        &self,
        filter: &RunFilter,
        request: PageRequest,
    ) -> Result<Page<Run>, ReadError> {
        let list = List::new("runs", &format!("{filter:?}"), request);
        // A cursor that is not one of this list is refused before anything is read.
        match filter.order {
            RunOrder::Name => {
                let after = list.after::<(i64, String)>()?;
                let after = after.map(|(id, label)| (label, id));
                let key = |run: &Run| {
                    let label = run.name.as_ref().unwrap_or(&run.run);
                    (label.clone(), i64::from(run.id))
                };
                let runs = self.selected(filter).await?;
                Ok(sorted(runs, &list, after, key, |(label, id)| (id, label)))
            }
            RunOrder::NewestStarted => {
                let after = list.after::<(i64, Option<i64>)>()?;
                let after = after.map(|(id, started)| Reverse((started, id)));
                let key =
                    |run: &Run| Reverse((run.started_at.map(Timestamp::micros), i64::from(run.id)));
                let runs = self.selected(filter).await?;
                Ok(sorted(runs, &list, after, key, |key| (key.0.1, key.0.0)))
            }
            RunOrder::OldestStarted => {
                let after = list.after::<(i64, Option<i64>)>()?;
                let after = after.map(|(id, started)| (started, id));
                let key = |run: &Run| (run.started_at.map(Timestamp::micros), i64::from(run.id));
                let runs = self.selected(filter).await?;
                Ok(sorted(runs, &list, after, key, |(started, id)| {
                    (id, started)
                }))
            }
        }
    }

    /// The runs a filter selects, in no particular order.
    async fn selected(&self, filter: &RunFilter) -> Result<Vec<Run>, ReadError> {
        let index = self.keys.index(EntityKind::Run, 0);
        let count = self.one(command("ZCARD", &index)).await?;
        if count.first().int().unwrap_or(0) > RUNS_MAX {
            return Err(NOT_KEPT);
        }
        let mut asked = command("ZRANGE", &index);
        asked.arg(0).arg(-1);
        let ids = self.one(asked).await?;
        let ids: Vec<EntityId> = ids.first().list().filter_map(id).collect();
        let found = self.entities(EntityKind::Run, &ids).await?;
        let found: Option<Vec<Known>> = found.into_iter().collect();
        let fits =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let runs = found.ok_or(NOT_KEPT)?.into_iter().map(view);
        let selected = runs.filter(|run| {
            fits(&filter.experiment, &run.experiment)
                && fits(&filter.model, &run.model)
                && fits(&filter.status, &run.status)
        });
        Ok(selected.collect())
    }
}

/// A page of runs in the order of a key. `cursor` turns the key into what a cursor holds.
fn sorted<K: Ord, C: SortKey>(
    mut runs: Vec<Run>,
    list: &List,
    after: Option<K>,
    key: impl Fn(&Run) -> K,
    cursor: impl FnOnce(K) -> C,
) -> Page<Run> {
    runs.retain(|run| after.as_ref().is_none_or(|after| key(run) > *after));
    runs.sort_by_cached_key(&key);
    runs.truncate(list.rows() as usize);
    list.page(runs, |last| cursor(key(last)))
}
