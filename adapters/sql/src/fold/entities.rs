//! Entities: placeholders from the moment they are named, filled field by field, hidden and shown again.

use std::collections::BTreeMap;

use modelog_engine::batch::Row;
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind};
use modelog_engine::names::{EntityId, Names};
use modelog_engine::{Offset, Timestamp};

use super::Batches;
use crate::bulk::{Conflict, Merge, Records, Transaction};
use crate::error::DatabaseError;
use crate::value::Value;

/// The table of a kind of entities, and the event that fills it.
struct Entities {
    kind: EntityKind,
    table: &'static str,
    filled_by: Kind,
    /// The column of the event that names the entity.
    name: usize,
    /// The column of the event that names its model, for versions.
    model: Option<usize>,
    fields: &'static [Field],
    /// The column that takes the time of the first event that filled it.
    created_at: &'static str,
}

/// Where a field comes from and goes to.
struct Field {
    column: &'static str,
    from: From,
}

/// What a column of the event holds.
#[derive(Clone, Copy)]
enum From {
    Text(usize),
    Int(usize),
    /// The name of an entity, for its number.
    Named(EntityKind, usize),
    /// The names of a model and a version of it, for the version's number.
    Version(usize, usize),
}

const fn text(kind: Kind, name: &'static str) -> Field {
    Field {
        column: name,
        from: From::Text(column(kind, name)),
    }
}

const fn named(column: &'static str, entity: EntityKind, from: usize) -> Field {
    Field {
        column,
        from: From::Named(entity, from),
    }
}

const MODELS: Entities = {
    const BY: Kind = Kind::ModelCreated;
    Entities {
        kind: EntityKind::Model,
        table: "models",
        filled_by: BY,
        name: column(BY, "model"),
        model: None,
        fields: &[
            text(BY, "architecture"),
            text(BY, "framework"),
            text(BY, "task_type"),
            text(BY, "description"),
        ],
        created_at: "created_at",
    }
};

const VERSIONS: Entities = {
    const BY: Kind = Kind::ModelVersionCreated;
    Entities {
        kind: EntityKind::Version,
        table: "model_versions",
        filled_by: BY,
        name: column(BY, "version"),
        model: Some(column(BY, "model")),
        fields: &[
            text(BY, "checkpoint_path"),
            text(BY, "config"),
            text(BY, "signature"),
            text(BY, "digest"),
            named("run_id", EntityKind::Run, column(BY, "run")),
            text(BY, "description"),
        ],
        created_at: "created_at",
    }
};

const DATASETS: Entities = {
    const BY: Kind = Kind::DatasetRegistered;
    Entities {
        kind: EntityKind::Dataset,
        table: "datasets",
        filled_by: BY,
        name: column(BY, "dataset"),
        model: None,
        fields: &[
            text(BY, "version"),
            text(BY, "uri"),
            text(BY, "split_info"),
            Field {
                column: "row_count",
                from: From::Int(column(BY, "row_count")),
            },
            text(BY, "digest"),
            Field {
                column: "data_schema",
                from: From::Text(column(BY, "schema")),
            },
        ],
        created_at: "created_at",
    }
};

const EXPERIMENTS: Entities = {
    const BY: Kind = Kind::ExperimentCreated;
    Entities {
        kind: EntityKind::Experiment,
        table: "experiments",
        filled_by: BY,
        name: column(BY, "experiment"),
        model: None,
        fields: &[text(BY, "description")],
        created_at: "created_at",
    }
};

const RUNS: Entities = {
    const BY: Kind = Kind::RunStarted;
    Entities {
        kind: EntityKind::Run,
        table: "runs",
        filled_by: BY,
        name: column(BY, "run"),
        model: None,
        fields: &[
            Field {
                column: "display_name",
                from: From::Text(column(BY, "name")),
            },
            named("parent_id", EntityKind::Run, column(BY, "parent")),
            named(
                "experiment_id",
                EntityKind::Experiment,
                column(BY, "experiment"),
            ),
            named("model_id", EntityKind::Model, column(BY, "model")),
            Field {
                column: "version_id",
                from: From::Version(column(BY, "model"), column(BY, "version")),
            },
            named("dataset_id", EntityKind::Dataset, column(BY, "dataset")),
            text(BY, "started_by"),
            text(BY, "code"),
        ],
        created_at: "started_at",
    }
};

/// By kind.
const ALL: [Entities; 5] = [MODELS, VERSIONS, DATASETS, EXPERIMENTS, RUNS];

/// What becomes of an entity.
struct Change<'a> {
    /// The last event that changed it.
    offset: Offset,
    fields: Vec<Value<'a>>,
    created_at: Option<Timestamp>,
}

/// Adds the entities that were named, fills those that were created, hides those that were deleted.
pub(super) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    for entities in &ALL {
        transaction.load(&placeholders(entities, batches)).await?;
        transaction.load(&filled(entities, batches)).await?;
    }
    for deleted in deleted(batches) {
        transaction.load(&deleted).await?;
    }
    Ok(())
}

/// The columns that say which entity a row is: its number, its model's if it is a version, and its name.
fn identity(entities: &Entities) -> Vec<(&'static str, Merge)> {
    let mut columns = vec![("id", Merge::First)];
    if entities.model.is_some() {
        columns.push(("model_id", Merge::First));
    }
    columns.push(("name", Merge::First));
    columns
}

fn identify<'a>(entities: &Entities, names: &Names, id: EntityId) -> Option<Vec<Value<'a>>> {
    let (parent, name) = names.name(entities.kind, id)?;
    let mut values = vec![id.into()];
    if entities.model.is_some() {
        values.push(parent.into());
    }
    values.push(Value::Text(name.to_string().into()));
    Some(values)
}

fn placeholders<'a>(entities: &Entities, batches: &Batches<'_>) -> Records<'a> {
    let mut records = Records::new(entities.table, "id", Conflict::Keep, identity(entities));
    for batch in batches.pending() {
        for named in batch
            .names
            .iter()
            .filter(|named| named.kind == entities.kind)
        {
            if let Some(values) = identify(entities, batches.names, named.id) {
                records.push(batch.first_offset, values);
            }
        }
    }
    records
}

fn filled<'a>(entities: &Entities, batches: &Batches<'a>) -> Records<'a> {
    let names = batches.names;
    let mut changes: BTreeMap<EntityId, Change<'a>> = BTreeMap::new();
    for row in batches.rows(&[entities.filled_by]) {
        let id = match entities.model {
            Some(model) => names.named_version(row, model, entities.name),
            None => names.named(row, entities.kind, entities.name),
        };
        let Some(id) = id else { continue };
        let change = changes.entry(id).or_insert_with(|| Change {
            offset: row.offset(),
            fields: vec![Value::Null; entities.fields.len()],
            created_at: None,
        });
        change.offset = row.offset();
        change.created_at = change.created_at.or(Some(row.time()));
        for (field, value) in entities.fields.iter().zip(&mut change.fields) {
            match field_value(names, row, field.from) {
                Value::Null => {}
                given => *value = given,
            }
        }
    }
    let mut columns = identity(entities);
    columns.extend(
        entities
            .fields
            .iter()
            .map(|field| (field.column, Merge::LastGiven)),
    );
    columns.push((entities.created_at, Merge::FirstGiven));
    columns.push(("log_offset", Merge::Greatest));
    let mut records = Records::new(entities.table, "id", Conflict::Merge, columns);
    for (id, change) in changes {
        let Some(mut values) = identify(entities, names, id) else {
            continue;
        };
        values.extend(change.fields);
        values.push(change.created_at.into());
        values.push(change.offset.into());
        records.push(change.offset, values);
    }
    records
}

fn field_value<'a>(names: &Names, row: Row<'a>, from: From) -> Value<'a> {
    match from {
        From::Text(column) => row.text(column).into(),
        From::Int(column) => row.int(column).into(),
        From::Named(kind, column) => names.named(row, kind, column).into(),
        From::Version(model, version) => names.named_version(row, model, version).into(),
    }
}

/// Entities that were deleted or restored, as it was said last.
fn deleted<'a>(batches: &Batches<'a>) -> Vec<Records<'a>> {
    const DELETED: usize = column(Kind::EntityDeleted, "entity");
    const RESTORED: usize = column(Kind::EntityRestored, "entity");
    let mut changes: BTreeMap<(EntityKind, EntityId), (Offset, Option<Timestamp>)> =
        BTreeMap::new();
    for row in batches.rows(&[Kind::EntityDeleted, Kind::EntityRestored]) {
        let deleted = row.kind() == Kind::EntityDeleted;
        let reference = row.text(if deleted { DELETED } else { RESTORED });
        if let Some(entity) = reference.and_then(|text| batches.names.referred(text)) {
            changes.insert(entity, (row.offset(), deleted.then(|| row.time())));
        }
    }
    let records = |entities: &Entities| {
        let mut columns = identity(entities);
        columns.push(("deleted_at", Merge::Last));
        columns.push(("log_offset", Merge::Greatest));
        let mut records = Records::new(entities.table, "id", Conflict::Merge, columns);
        for ((_, id), (offset, deleted_at)) in changes
            .iter()
            .filter(|((kind, _), _)| *kind == entities.kind)
        {
            if let Some(mut values) = identify(entities, batches.names, *id) {
                values.push((*deleted_at).into());
                values.push((*offset).into());
                records.push(*offset, values);
            }
        }
        records
    };
    ALL.iter().map(records).collect()
}
