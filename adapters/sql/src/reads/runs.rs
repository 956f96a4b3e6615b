//! Runs, with what they were given and what they made.
//!
//! A run that was never started, as far as is known, counts as older than all others. In the order of names a run
//! without a name of its own goes by its key.

use std::collections::HashMap;

use modelog_engine::event::EntityKind;
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{
    Artifact, Key, Page, PageRequest, Run, RunFilter, RunOrder, UsedDataset,
};

use super::entities::{objects, tags};
use super::snapshot::{Failure, Row, Snapshot, Statement, after_place, ids as set};
use crate::dialect::Dialect;

const COLUMNS: &str = "SELECT t.id, t.name, t.display_name, p.name, e.name, m.name, v.name, d.name, t.started_by, t.code, \
     t.status, t.error, t.started_at, t.finished_at FROM runs t";
const JOINS: &str = "LEFT JOIN runs p ON p.id = t.parent_id LEFT JOIN experiments e ON e.id = t.experiment_id \
     LEFT JOIN models m ON m.id = t.model_id LEFT JOIN model_versions v ON v.id = t.version_id \
     LEFT JOIN datasets d ON d.id = t.dataset_id WHERE t.deleted_at IS NULL";
const PARAMS: &str = "SELECT run_id, param_key, param_value FROM run_params WHERE run_id";
const DATASETS: &str = "SELECT u.run_id, d.name, u.version, u.role FROM run_datasets u JOIN datasets d ON d.id = u.dataset_id \
     WHERE u.run_id";
const ARTIFACTS: &str = "SELECT run_id, uri, name, media_type, size_bytes, digest, metadata FROM artifacts WHERE run_id";

/// The key of the order of names.
pub(super) const LABEL: &str = "coalesce(t.display_name, t.name)";

/// How many characters of it PostgreSQL has an index on: an entry of one is small.
const LABEL_START: usize = 200;

/// The number of a run that is shown.
pub(super) async fn run_id(
    snapshot: &mut Snapshot,
    key: &Key,
) -> Result<Option<EntityId>, Failure> {
    let shown = "SELECT t.id FROM runs t WHERE t.deleted_at IS NULL";
    snapshot.one(one(&[shown], key), |row| row.id(0)).await
}

fn one(select: &[&str], key: &Key) -> Statement {
    let text = |condition| Statement::new(&[select, &[condition]].concat());
    match key {
        Key::Name(name) => text("AND t.name = ?").text(name.clone()),
        Key::Id(id) => text("AND t.id = ?").int(*id),
    }
}

pub(super) async fn run(snapshot: &mut Snapshot, key: &Key) -> Result<Option<Run>, Failure> {
    let mut found = snapshot.all(one(&[COLUMNS, JOINS], key), read_run).await?;
    complete(snapshot, &mut found).await?;
    Ok(found.pop())
}

pub(super) async fn runs(
    snapshot: &mut Snapshot,
    filter: &RunFilter,
    request: PageRequest,
) -> Result<Page<Run>, Failure> {
    let list = List::new("runs", &format!("{filter:?}"), request);
    let selection = Selection::of(snapshot, filter).await?;
    let mut page = match filter.order {
        RunOrder::Name => {
            let after = list.after::<(i64, String)>()?;
            let found = match &selection {
                Some(selection) => {
                    let statement = selection.by_label(after, list.rows());
                    snapshot.all(statement, read_run).await?
                }
                None => Vec::new(),
            };
            list.page(found, |last| {
                let label = last.name.as_ref().unwrap_or(&last.run);
                (i64::from(last.id), label.clone())
            })
        }
        RunOrder::NewestStarted | RunOrder::OldestStarted => {
            let after = list.after::<(i64, Option<i64>)>()?;
            let mut found = Vec::new();
            for statement in selection
                .iter()
                .flat_map(|selection| selection.by_start(filter.order, after, list.rows()))
            {
                if (found.len() as i64) < list.rows() {
                    found.extend(snapshot.all(statement, read_run).await?);
                }
            }
            list.page(found, |last| {
                let started = last.started_at.map(|time| time.micros());
                (i64::from(last.id), started)
            })
        }
    };
    complete(snapshot, &mut page.items).await?;
    Ok(page)
}

/// The statements behind pages of runs, with arguments of no meaning, and the index each goes by.
#[cfg(test)]
pub(super) fn page_statements() -> Vec<(Statement, &'static str)> {
    let selection = |experiment, model, status| Selection {
        dialect: Dialect::Sqlite,
        experiment,
        model,
        status,
    };
    let mut statements = Vec::new();
    let selections = [
        (selection(None, None, None), "runs_by_start"),
        (selection(Some(1), None, None), "runs_by_experiment"),
        (
            selection(Some(1), Some(1), Some("running")),
            "runs_by_experiment",
        ),
        (selection(None, Some(1), None), "runs_by_model"),
        (selection(None, None, Some("running")), "runs_by_status"),
    ];
    for (selection, index) in selections {
        for order in [RunOrder::NewestStarted, RunOrder::OldestStarted] {
            for after in [None, Some((1, Some(5))), Some((1, None))] {
                let parts = selection.by_start(order, after, 100);
                statements.extend(parts.into_iter().map(|part| (part, index)));
            }
        }
    }
    let all = selection(None, None, None);
    statements.push((all.by_label(None, 100), "runs_by_label"));
    let after = Some((1, "x".to_owned()));
    statements.push((all.by_label(after, 100), "runs_by_label (<expr>>?)"));
    statements
}

/// A filter whose names have become numbers.
struct Selection<'a> {
    dialect: Dialect,
    experiment: Option<EntityId>,
    model: Option<EntityId>,
    status: Option<&'a str>,
}

impl<'a> Selection<'a> {
    /// None if nothing can be selected, since the filter names what nobody ever named.
    async fn of(snapshot: &mut Snapshot, filter: &'a RunFilter) -> Result<Option<Self>, Failure> {
        const EXPERIMENT: &str = "SELECT id FROM experiments WHERE name = ?";
        const MODEL: &str = "SELECT id FROM models WHERE name = ?";
        let mut ids = [None; 2];
        let wanted = [(EXPERIMENT, &filter.experiment), (MODEL, &filter.model)];
        for (id, (select, name)) in ids.iter_mut().zip(wanted) {
            if let Some(name) = name {
                let statement = Statement::new(&[select]).text(name.clone());
                *id = snapshot.one(statement, |row| row.id(0)).await?;
                if id.is_none() {
                    return Ok(None);
                }
            }
        }
        let [experiment, model] = ids;
        Ok(Some(Self {
            dialect: snapshot.dialect(),
            experiment,
            model,
            status: filter.status.as_deref(),
        }))
    }

    fn statement(&self, parts: &[&str]) -> Statement {
        let mut text = vec![COLUMNS];
        // Without statistics about the rows, SQLite may well walk through all runs in the order asked for.
        if self.dialect == Dialect::Sqlite {
            if self.experiment.is_some() {
                text.push("INDEXED BY runs_by_experiment");
            } else if self.model.is_some() {
                text.push("INDEXED BY runs_by_model");
            }
        }
        text.push(JOINS);
        if self.experiment.is_some() {
            text.push("AND t.experiment_id = ?");
        }
        if self.model.is_some() {
            text.push("AND t.model_id = ?");
        }
        if self.status.is_some() {
            text.push("AND t.status = ?");
        }
        text.extend(parts);
        let mut statement = Statement::new(&text);
        for id in [self.experiment, self.model].into_iter().flatten() {
            statement = statement.int(id);
        }
        match self.status {
            Some(status) => statement.text(status),
            None => statement,
        }
    }

    fn by_label(&self, after: Option<(i64, String)>, rows: i64) -> Statement {
        // What comes first in the order is what there is an index on.
        let first = match self.dialect {
            Dialect::Sqlite | Dialect::MySql => LABEL.to_owned(),
            Dialect::Postgres => format!("left({LABEL}, {LABEL_START})"),
        };
        let order = match self.dialect {
            Dialect::Sqlite | Dialect::MySql => format!("ORDER BY {LABEL}, t.id LIMIT ?"),
            Dialect::Postgres => format!("ORDER BY {first}, {LABEL}, t.id LIMIT ?"),
        };
        match after {
            None => self.statement(&[&order]),
            Some((id, label)) => {
                // The first condition says nothing new, but is one an index can be searched for.
                let behind = format!("AND {first} >= ? AND ({LABEL}, t.id) > (?, ?)");
                let start = match self.dialect {
                    Dialect::Postgres => label.chars().take(LABEL_START).collect(),
                    _ => label.clone(),
                };
                self.statement(&[&behind, &order])
                    .text(start)
                    .text(label)
                    .int(id)
            }
        }
        .int(rows)
    }

    /// The statements whose rows, one after the other, are the list: runs that were started, and those that were not.
    /// Each is in the order of an index; together they would not be.
    fn by_start(
        &self,
        order: RunOrder,
        after: Option<(i64, Option<i64>)>,
        rows: i64,
    ) -> Vec<Statement> {
        let newest = order == RunOrder::NewestStarted;
        let (behind, direction) = if newest { ('<', "DESC") } else { ('>', "ASC") };
        let page = format!("ORDER BY t.started_at {direction}, t.id {direction} LIMIT ?");
        let started = match after {
            None => Some(self.statement(&["AND t.started_at IS NOT NULL", &page])),
            Some((id, Some(time))) => {
                let behind = self.dialect.behind("t.started_at", "t.id", behind);
                let statement = self.statement(&[&behind, &page]);
                Some(after_place(self.dialect, statement, time, id))
            }
            Some((_, None)) if newest => None,
            Some((_, None)) => Some(self.statement(&["AND t.started_at IS NOT NULL", &page])),
        };
        let waiting = match after {
            Some((id, None)) => {
                let behind = format!("AND t.started_at IS NULL AND t.id {behind} ?");
                Some(self.statement(&[&behind, &page]).int(id))
            }
            Some((_, Some(_))) if !newest => None,
            _ => Some(self.statement(&["AND t.started_at IS NULL", &page])),
        };
        let parts = if newest {
            [started, waiting]
        } else {
            [waiting, started]
        };
        parts
            .into_iter()
            .flatten()
            .map(|statement| statement.int(rows))
            .collect()
    }
}

fn read_run(row: &Row<'_>) -> Result<Run, Failure> {
    Ok(Run {
        id: row.id(0)?,
        run: row.text(1)?,
        name: row.optional_text(2)?,
        parent: row.optional_text(3)?,
        experiment: row.optional_text(4)?,
        model: row.optional_text(5)?,
        version: row.optional_text(6)?,
        dataset: row.optional_text(7)?,
        started_by: row.optional_text(8)?,
        code: row.optional_text(9)?,
        status: row.optional_text(10)?,
        error: row.optional_text(11)?,
        started_at: row.optional_time(12)?,
        finished_at: row.optional_time(13)?,
        tags: None,
        params: None,
        datasets: Vec::new(),
        artifacts: Vec::new(),
    })
}

/// Reads what belongs to runs and lies in other tables, for all of them at once.
async fn complete(snapshot: &mut Snapshot, runs: &mut [Run]) -> Result<(), Failure> {
    if runs.is_empty() {
        return Ok(());
    }
    let ids: Vec<EntityId> = runs.iter().map(|run| run.id).collect();
    let mut tags = tags(snapshot, EntityKind::Run, &ids).await?;
    let order = "ORDER BY run_id, log_offset, place";
    let statement =
        Statement::new(&[PARAMS, snapshot.dialect().among(), order]).text(set(ids.iter().copied()));
    let mut params = objects(snapshot, statement).await?;
    let mut datasets = used_datasets(snapshot, &ids).await?;
    let mut artifacts = artifacts(snapshot, &ids).await?;
    for run in runs {
        run.tags = tags.remove(&run.id);
        run.params = params.remove(&run.id);
        run.datasets = datasets.remove(&run.id).unwrap_or_default();
        run.artifacts = artifacts.remove(&run.id).unwrap_or_default();
    }
    Ok(())
}

async fn used_datasets(
    snapshot: &mut Snapshot,
    runs: &[EntityId],
) -> Result<HashMap<EntityId, Vec<UsedDataset>>, Failure> {
    let order = "ORDER BY u.run_id, u.log_offset";
    let statement = Statement::new(&[DATASETS, snapshot.dialect().among(), order])
        .text(set(runs.iter().copied()));
    let mut found: HashMap<EntityId, Vec<UsedDataset>> = HashMap::new();
    snapshot
        .each(statement, |row| {
            found.entry(row.id(0)?).or_default().push(UsedDataset {
                dataset: row.text(1)?,
                version: row.optional_text(2)?,
                role: row.optional_text(3)?,
            });
            Ok(())
        })
        .await?;
    Ok(found)
}

async fn artifacts(
    snapshot: &mut Snapshot,
    runs: &[EntityId],
) -> Result<HashMap<EntityId, Vec<Artifact>>, Failure> {
    let order = "ORDER BY run_id, log_offset";
    let statement = Statement::new(&[ARTIFACTS, snapshot.dialect().among(), order])
        .text(set(runs.iter().copied()));
    let mut found: HashMap<EntityId, Vec<Artifact>> = HashMap::new();
    snapshot
        .each(statement, |row| {
            found.entry(row.id(0)?).or_default().push(Artifact {
                uri: row.text(1)?,
                name: row.optional_text(2)?,
                media_type: row.optional_text(3)?,
                size_bytes: row.optional_int(4)?,
                digest: row.optional_text(5)?,
                metadata: row.json(6)?,
            });
            Ok(())
        })
        .await?;
    Ok(found)
}
