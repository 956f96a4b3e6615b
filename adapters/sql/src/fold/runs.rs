//! How runs stand: running, or ended in some way.
//!
//! The first `RunStarted` of a run may be logged after its `RunFinished`, since sources have no common order; only a
//! second one reopens it. So what an event means depends on what came before, and the runs concerned are read first.

use std::collections::BTreeMap;

use modelog_engine::batch::Row;
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::EntityId;
use modelog_engine::{Offset, Timestamp};

use super::Batches;
use crate::bulk::{Conflict, Merge, Records, Transaction, stretches};
use crate::connection::Statement;
use crate::error::DatabaseError;
use crate::value::Value;

/// How a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
struct Standing {
    started: bool,
    status: Option<String>,
    error: Option<String>,
    finished_at: Option<Timestamp>,
    /// The last event that changed it.
    offset: Offset,
}

impl Standing {
    fn start(&mut self) {
        if self.started || self.status.is_none() {
            (self.error, self.finished_at) = (None, None);
            self.status = Some("running".into());
        }
        self.started = true;
    }

    fn finish(&mut self, status: &str, error: Option<&str>, time: Timestamp) {
        self.status = Some(status.into());
        self.error = error.map(Into::into);
        self.finished_at = Some(time);
    }
}

/// Says of every run that started or ended how it stands. The rows of the runs are there, but for what starts and ends
/// them.
pub(super) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    const STARTED: usize = column(Kind::RunStarted, "run");
    const FINISHED: usize = column(Kind::RunFinished, "run");
    const STATUS: usize = column(Kind::RunFinished, "status");
    const ERROR: usize = column(Kind::RunFinished, "error");
    let events: Vec<(EntityId, Row<'_>)> = batches
        .rows(&[Kind::RunStarted, Kind::RunFinished])
        .into_iter()
        .filter_map(|row| {
            let run = if row.kind() == Kind::RunStarted {
                STARTED
            } else {
                FINISHED
            };
            Some((batches.names.named(row, EntityKind::Run, run)?, row))
        })
        .collect();
    let mut runs: BTreeMap<EntityId, Standing> = events
        .iter()
        .map(|(run, _)| (*run, Standing::default()))
        .collect();
    read(&mut runs, transaction).await?;
    for (run, row) in events {
        let standing = runs.entry(run).or_default();
        standing.offset = row.offset();
        match row.text(STATUS).filter(|_| row.kind() == Kind::RunFinished) {
            Some(status) => standing.finish(status, row.text(ERROR), row.time()),
            None => standing.start(),
        }
    }
    transaction.load(&records(batches, runs)).await?;
    Ok(())
}

async fn read(
    runs: &mut BTreeMap<EntityId, Standing>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    let ids: Vec<EntityId> = runs.keys().copied().collect();
    for stretch in stretches(ids.len()) {
        let marks = vec!["?"; stretch.len()].join(",");
        let text = format!(
            "SELECT id, has_started, status, error, finished_at FROM runs WHERE id IN ({marks}) AND status IS NOT NULL"
        );
        let select = ids[stretch]
            .iter()
            .fold(Statement::new(&[&text]), |select, id| select.int(*id));
        let found = transaction.all(select, |row| {
            let standing = Standing {
                started: row.boolean(1)?.unwrap_or_default(),
                status: row.str(2)?.map(Into::into),
                error: row.str(3)?.map(Into::into),
                finished_at: row.optional_time(4)?.map(Timestamp::from_micros),
                offset: Offset::ZERO,
            };
            Ok((row.int(0)?, standing))
        });
        for (id, standing) in found.await? {
            if let Ok(id) = EntityId::try_from(id) {
                runs.insert(id, standing);
            }
        }
    }
    Ok(())
}

fn records<'a>(batches: &Batches<'_>, runs: BTreeMap<EntityId, Standing>) -> Records<'a> {
    let columns = [
        ("id", Merge::First),
        ("name", Merge::First),
        ("has_started", Merge::Last),
        ("status", Merge::Last),
        ("error", Merge::Last),
        ("finished_at", Merge::Last),
        ("log_offset", Merge::Greatest),
    ];
    let mut records = Records::new("runs", "id", Conflict::Merge, columns);
    for (id, run) in runs {
        let Some((_, name)) = batches.names.name(EntityKind::Run, id) else {
            continue;
        };
        let owned =
            |text: Option<String>| text.map_or(Value::Null, |text| Value::Text(text.into()));
        let values = vec![
            id.into(),
            Value::Text(name.to_string().into()),
            run.started.into(),
            owned(run.status),
            owned(run.error),
            run.finished_at.into(),
            run.offset.into(),
        ];
        records.push(run.offset, values);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_second_start_reopens() {
        let time = Timestamp::from_micros(7);
        let mut run = Standing::default();
        run.finish("failed", Some("out of memory"), time);
        run.start();
        assert_eq!(run.status.as_deref(), Some("failed"), "the start came late");
        run.start();
        assert_eq!(run.status.as_deref(), Some("running"));
        assert_eq!((run.error.clone(), run.finished_at), (None, None));
        run.finish("finished", None, time);
        assert_eq!(run.status.as_deref(), Some("finished"));
        assert_eq!(run.finished_at, Some(time));
    }
}
