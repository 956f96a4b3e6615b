//! What hangs on entities: aliases, tags, parameters, datasets that were used, artifacts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use modelog_engine::Offset;
use modelog_engine::batch::Row;
use modelog_engine::event::schema::column;
use modelog_engine::event::{EntityKind, Kind, json};
use modelog_engine::names::{EntityId, Names};

use super::Batches;
use crate::bulk::{Conflict, Merge, Records, Transaction, stretches};
use crate::connection::Statement;
use crate::error::DatabaseError;
use crate::value::Value;

/// Brings everything up to date that hangs on entities.
pub(super) async fn apply(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    aliases(batches, transaction).await?;
    tags(batches, transaction).await?;
    transaction.load(&params(batches)).await?;
    transaction.load(&datasets(batches)).await?;
    transaction.load(&artifacts(batches)).await?;
    Ok(())
}

async fn aliases(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    const MODEL: usize = column(Kind::ModelVersionAliased, "model");
    const ALIAS: usize = column(Kind::ModelVersionAliased, "alias");
    const VERSION: usize = column(Kind::ModelVersionAliased, "version");
    let mut changes: BTreeMap<(EntityId, &str), (Offset, Option<EntityId>)> = BTreeMap::new();
    for row in batches.rows(&[Kind::ModelVersionAliased]) {
        let model = batches.names.named(row, EntityKind::Model, MODEL);
        if let (Some(model), Some(alias)) = (model, row.text(ALIAS)) {
            let version = batches.names.named_version(row, MODEL, VERSION);
            changes.insert((model, alias), (row.offset(), version));
        }
    }
    let columns = [
        ("model_id", Merge::First),
        ("alias", Merge::First),
        ("version_id", Merge::Last),
        ("log_offset", Merge::Last),
    ];
    let mut set = Records::new("model_aliases", "model_id,alias", Conflict::Merge, columns);
    let mut removed = Vec::new();
    for ((model, alias), (offset, version)) in changes {
        match version {
            Some(version) => {
                set.push(
                    offset,
                    vec![model.into(), alias.into(), version.into(), offset.into()],
                );
            }
            None => removed.push([model.into(), alias.into()]),
        }
    }
    transaction.load(&set).await?;
    delete("model_aliases", "model_id, alias", &removed, transaction).await
}

/// What a key of an object was set to last, and where.
struct Set<'a> {
    offset: Offset,
    /// The key's place in the object it came with.
    place: u32,
    value: &'a str,
}

type Objects<'a, K> = BTreeMap<(K, Cow<'a, str>), Set<'a>>;

/// Merges an object into what is known of its owner's keys.
fn merge<'a, K: Ord + Copy>(
    objects: &mut Objects<'a, K>,
    owner: K,
    offset: Offset,
    object: &'a str,
) {
    // The log holds checked objects only.
    let members = json::members(object).unwrap_or_default();
    for (place, (key, value)) in (0..).zip(members) {
        objects.insert(
            (owner, key),
            Set {
                offset,
                place,
                value,
            },
        );
    }
}

async fn tags(
    batches: &Batches<'_>,
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    let mut objects = Objects::new();
    let kinds = [
        Kind::ModelCreated,
        Kind::ModelVersionCreated,
        Kind::DatasetRegistered,
        Kind::ExperimentCreated,
        Kind::RunStarted,
        Kind::TagsSet,
    ];
    for row in batches.rows(&kinds) {
        let (entity, tags) = tagged(batches.names, row);
        if let (Some(entity), Some(tags)) = (entity, tags) {
            merge(&mut objects, entity, row.offset(), tags);
        }
    }
    let columns = [
        ("entity_kind", Merge::First),
        ("entity_id", Merge::First),
        ("tag_key", Merge::First),
        ("tag_value", Merge::Last),
        ("log_offset", Merge::Last),
        ("place", Merge::Last),
    ];
    let key = "entity_kind,entity_id,tag_key";
    let mut set = Records::new("tags", key, Conflict::Merge, columns);
    let mut removed = Vec::new();
    for (((kind, id), key), tag) in objects {
        let key = [kind.name().into(), id.into(), Value::Text(key)];
        if tag.value == "null" {
            removed.push(key);
        } else {
            let mut values = key.to_vec();
            values.extend([tag.value.into(), tag.offset.into(), tag.place.into()]);
            set.push(tag.offset, values);
        }
    }
    transaction.load(&set).await?;
    delete(
        "tags",
        "entity_kind, entity_id, tag_key",
        &removed,
        transaction,
    )
    .await
}

/// The entity an event sets tags of, and the tags.
fn tagged<'a>(names: &Names, row: Row<'a>) -> (Option<(EntityKind, EntityId)>, Option<&'a str>) {
    macro_rules! tags_of {
        ($kind:ident, $entity:ident, $name:literal) => {{
            const NAME: usize = column(Kind::$kind, $name);
            const TAGS: usize = column(Kind::$kind, "tags");
            let id = names.named(row, EntityKind::$entity, NAME);
            (id.map(|id| (EntityKind::$entity, id)), row.text(TAGS))
        }};
    }
    match row.kind() {
        Kind::ModelCreated => tags_of!(ModelCreated, Model, "model"),
        Kind::DatasetRegistered => tags_of!(DatasetRegistered, Dataset, "dataset"),
        Kind::ExperimentCreated => tags_of!(ExperimentCreated, Experiment, "experiment"),
        Kind::RunStarted => tags_of!(RunStarted, Run, "run"),
        Kind::ModelVersionCreated => {
            const MODEL: usize = column(Kind::ModelVersionCreated, "model");
            const VERSION: usize = column(Kind::ModelVersionCreated, "version");
            const TAGS: usize = column(Kind::ModelVersionCreated, "tags");
            let id = names.named_version(row, MODEL, VERSION);
            (id.map(|id| (EntityKind::Version, id)), row.text(TAGS))
        }
        _ => {
            const ENTITY: usize = column(Kind::TagsSet, "entity");
            const TAGS: usize = column(Kind::TagsSet, "tags");
            let entity = row.text(ENTITY).and_then(|text| names.referred(text));
            (entity, row.text(TAGS))
        }
    }
}

fn params<'a>(batches: &Batches<'a>) -> Records<'a> {
    const RUN: usize = column(Kind::HyperparametersLogged, "run");
    const PARAMS: usize = column(Kind::HyperparametersLogged, "params");
    let mut objects = Objects::new();
    for row in batches.rows(&[Kind::HyperparametersLogged]) {
        let run = batches.names.named(row, EntityKind::Run, RUN);
        if let (Some(run), Some(params)) = (run, row.text(PARAMS)) {
            merge(&mut objects, run, row.offset(), params);
        }
    }
    let columns = [
        ("run_id", Merge::First),
        ("param_key", Merge::First),
        ("param_value", Merge::Last),
        ("log_offset", Merge::Last),
        ("place", Merge::Last),
    ];
    let mut records = Records::new("run_params", "run_id,param_key", Conflict::Merge, columns);
    for ((run, key), param) in objects {
        let values = vec![
            run.into(),
            Value::Text(key),
            param.value.into(),
            param.offset.into(),
            param.place.into(),
        ];
        records.push(param.offset, values);
    }
    records
}

fn datasets<'a>(batches: &Batches<'a>) -> Records<'a> {
    const RUN: usize = column(Kind::DatasetUsed, "run");
    const DATASET: usize = column(Kind::DatasetUsed, "dataset");
    const VERSION: usize = column(Kind::DatasetUsed, "version");
    const ROLE: usize = column(Kind::DatasetUsed, "role");
    let columns = ["run_id", "dataset_id", "version", "role", "log_offset"];
    let mut records = Records::new(
        "run_datasets",
        "run_id,dataset_id,coalesce('=' || version, ''),coalesce('=' || role, '')",
        Conflict::Keep,
        columns.map(|name| (name, Merge::First)),
    );
    for row in batches.rows(&[Kind::DatasetUsed]) {
        let run = batches.names.named(row, EntityKind::Run, RUN);
        let dataset = batches.names.named(row, EntityKind::Dataset, DATASET);
        let values = vec![
            run.into(),
            dataset.into(),
            row.text(VERSION).into(),
            row.text(ROLE).into(),
            row.offset().into(),
        ];
        records.push(row.offset(), values);
    }
    records
}

fn artifacts<'a>(batches: &Batches<'a>) -> Records<'a> {
    const fn from(name: &str) -> usize {
        column(Kind::ArtifactLogged, name)
    }
    let columns = [
        ("run_id", Merge::First),
        ("version_id", Merge::First),
        ("uri", Merge::First),
        ("name", Merge::LastGiven),
        ("media_type", Merge::LastGiven),
        ("size_bytes", Merge::LastGiven),
        ("digest", Merge::LastGiven),
        ("metadata", Merge::LastGiven),
        ("time", Merge::First),
        ("log_offset", Merge::First),
    ];
    let mut records = Records::new(
        "artifacts",
        "run_id,version_id,uri",
        Conflict::Merge,
        columns,
    );
    for row in batches.rows(&[Kind::ArtifactLogged]) {
        let run = batches
            .names
            .named(row, EntityKind::Run, const { from("run") });
        let version =
            batches
                .names
                .named_version(row, const { from("model") }, const { from("version") });
        let values = vec![
            run.unwrap_or(0).into(),
            version.unwrap_or(0).into(),
            row.text(const { from("uri") }).into(),
            row.text(const { from("name") }).into(),
            row.text(const { from("media_type") }).into(),
            row.int(const { from("size_bytes") }).into(),
            row.text(const { from("digest") }).into(),
            row.text(const { from("metadata") }).into(),
            row.time().into(),
            row.offset().into(),
        ];
        records.push(row.offset(), values);
    }
    records
}

/// Deletes the rows with these keys.
async fn delete<const N: usize>(
    table: &'static str,
    key: &'static str,
    keys: &[[Value<'_>; N]],
    transaction: &mut Transaction<'_>,
) -> Result<(), DatabaseError> {
    for stretch in stretches(keys.len()) {
        let among = transaction.dialect().rows(stretch.len(), N);
        let text = format!("DELETE FROM {table} WHERE ({key}) IN {among}");
        let values = keys[stretch].iter().flatten();
        let statement = values.fold(Statement::new(&[&text]), |statement, value| {
            statement.with(value.clone().into_owned())
        });
        transaction.run(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_key_counts() {
        let json = r#"{"b": 1.0, "a\n":{"x" : 9007199254740993},"b":null}"#;
        let mut objects = Objects::new();
        merge(&mut objects, 1, Offset(5), json);
        assert_eq!(objects[&(1, "b".into())].value, "null");
        assert_eq!(objects.len(), 2);
    }
}
