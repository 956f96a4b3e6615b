//! Models, versions, datasets and experiments; what all entities have in common.

use std::collections::HashMap;

use modelog_engine::event::{EntityKind, Json, json};
use modelog_engine::names::EntityId;
use modelog_engine::read::cursor::List;
use modelog_engine::read::{
    Alias, Dataset, Experiment, Key, Model, ModelVersion, Page, PageRequest, VersionKey,
};

use super::snapshot::{Failure, Row, Snapshot, Statement, ids as set};

const MODELS: &str = "SELECT t.id, t.name, t.architecture, t.framework, t.task_type, t.description, t.created_at \
     FROM models t WHERE t.deleted_at IS NULL";
const VERSIONS: &str = "SELECT t.id, t.model_id, m.name, t.name, t.checkpoint_path, t.config, t.signature, t.digest, r.name, \
     t.description, t.created_at \
     FROM model_versions t JOIN models m ON m.id = t.model_id LEFT JOIN runs r ON r.id = t.run_id \
     WHERE t.deleted_at IS NULL AND m.deleted_at IS NULL";
const DATASETS: &str = "SELECT t.id, t.name, t.version, t.uri, t.split_info, t.row_count, t.digest, t.data_schema, t.created_at \
     FROM datasets t WHERE t.deleted_at IS NULL";
const EXPERIMENTS: &str = "SELECT t.id, t.name, t.description, t.created_at FROM experiments t WHERE t.deleted_at IS NULL";

const BY_NAME: &str = "AND t.name = ?";
const BY_ID: &str = "AND t.id = ?";
const OF_MODEL: &str = "AND t.model_id = ?";
/// A page of a list that is sorted by number.
const PAGE: &str = "AND t.id > ? ORDER BY t.id LIMIT ?";

const TAGS: &str =
    "SELECT entity_id, tag_key, tag_value FROM tags WHERE entity_kind = ? AND entity_id";
const ALIASES: &str = "SELECT a.model_id, a.version_id, a.alias, v.name \
     FROM model_aliases a JOIN model_versions v ON v.id = a.version_id WHERE v.deleted_at IS NULL AND";
const BY_ALIAS: &str = "SELECT version_id FROM model_aliases WHERE model_id = ? AND alias = ?";

/// One entity, by what a caller calls it.
fn keyed(select: &str, key: &Key) -> Statement {
    match key {
        Key::Name(name) => Statement::new(&[select, BY_NAME]).text(name.clone()),
        Key::Id(id) => Statement::new(&[select, BY_ID]).int(*id),
    }
}

fn listed(select: &str, list: &List) -> Result<Statement, Failure> {
    let after: i64 = list.after()?.unwrap_or(0);
    Ok(Statement::new(&[select, PAGE]).int(after).int(list.rows()))
}

/// The statements behind pages of entities, with arguments of no meaning, and the index each goes by.
#[cfg(test)]
pub(super) fn page_statements() -> Vec<(Statement, &'static str)> {
    [MODELS, DATASETS, EXPERIMENTS]
        .into_iter()
        .map(|select| Statement::new(&[select, PAGE]).int(1).int(100))
        .map(|statement| (statement, "PRIMARY KEY (rowid>?)"))
        .chain([(
            versions_statement(1, 1, 100),
            "model_versions_by_model (model_id=? AND rowid>?)",
        )])
        .collect()
}

pub(super) async fn models(
    snapshot: &mut Snapshot,
    request: PageRequest,
) -> Result<Page<Model>, Failure> {
    let list = List::new("models", "", request);
    let found = snapshot.all(listed(MODELS, &list)?, read_model).await?;
    let mut page = list.page(found, |last| i64::from(last.id));
    complete_models(snapshot, &mut page.items).await?;
    Ok(page)
}

pub(super) async fn model(snapshot: &mut Snapshot, key: &Key) -> Result<Option<Model>, Failure> {
    let found = snapshot.all(keyed(MODELS, key), read_model);
    let mut found = found.await?;
    complete_models(snapshot, &mut found).await?;
    Ok(found.pop())
}

/// The number of a model that is shown.
pub(super) async fn model_id(
    snapshot: &mut Snapshot,
    key: &Key,
) -> Result<Option<EntityId>, Failure> {
    const SHOWN: &str = "SELECT t.id FROM models t WHERE t.deleted_at IS NULL";
    snapshot.one(keyed(SHOWN, key), |row| row.id(0)).await
}

fn read_model(row: &Row<'_>) -> Result<Model, Failure> {
    Ok(Model {
        id: row.id(0)?,
        model: row.text(1)?,
        architecture: row.optional_text(2)?,
        framework: row.optional_text(3)?,
        task_type: row.optional_text(4)?,
        description: row.optional_text(5)?,
        created_at: row.optional_time(6)?,
        tags: None,
        aliases: Vec::new(),
    })
}

async fn complete_models(snapshot: &mut Snapshot, models: &mut [Model]) -> Result<(), Failure> {
    if models.is_empty() {
        return Ok(());
    }
    let ids: Vec<EntityId> = models.iter().map(|model| model.id).collect();
    let mut tags = tags(snapshot, EntityKind::Model, &ids).await?;
    let mut aliases: HashMap<EntityId, Vec<Alias>> = HashMap::new();
    let order = "ORDER BY a.model_id, a.alias";
    let statement =
        Statement::new(&[ALIASES, "a.model_id", snapshot.dialect().among(), order]).text(set(ids));
    snapshot
        .each(statement, |row| {
            aliases.entry(row.id(0)?).or_default().push(Alias {
                alias: row.text(2)?,
                version: row.text(3)?,
            });
            Ok(())
        })
        .await?;
    for model in models {
        model.tags = tags.remove(&model.id);
        model.aliases = aliases.remove(&model.id).unwrap_or_default();
    }
    Ok(())
}

pub(super) async fn versions(
    snapshot: &mut Snapshot,
    model: &Key,
    request: PageRequest,
) -> Result<Option<Page<ModelVersion>>, Failure> {
    let Some(model) = model_id(snapshot, model).await? else {
        return Ok(None);
    };
    let list = List::new("versions", &model.to_string(), request);
    let after: i64 = list.after()?.unwrap_or(0);
    let statement = versions_statement(model, after, list.rows());
    let found = snapshot.all(statement, read_version).await?;
    let mut page = list.page(found, |last| i64::from(last.id));
    complete_versions(snapshot, &mut page.items).await?;
    Ok(Some(page))
}

fn versions_statement(model: EntityId, after: i64, rows: i64) -> Statement {
    Statement::new(&[VERSIONS, OF_MODEL, PAGE])
        .int(model)
        .int(after)
        .int(rows)
}

pub(super) async fn version(
    snapshot: &mut Snapshot,
    key: &VersionKey,
) -> Result<Option<ModelVersion>, Failure> {
    let Some(statement) = version_statement(snapshot, VERSIONS, key).await? else {
        return Ok(None);
    };
    let mut found = snapshot.all(statement, read_version).await?;
    complete_versions(snapshot, &mut found).await?;
    Ok(found.pop())
}

/// A version that is shown, with what it is called.
#[derive(Debug)]
pub(super) struct ShownVersion {
    pub(super) id: EntityId,
    pub(super) model: String,
    pub(super) version: String,
}

/// A version in short, if it is shown.
pub(super) async fn shown_version(
    snapshot: &mut Snapshot,
    key: &VersionKey,
) -> Result<Option<ShownVersion>, Failure> {
    const SHOWN: &str = "SELECT t.id, m.name, t.name FROM model_versions t JOIN models m ON m.id = t.model_id \
         WHERE t.deleted_at IS NULL AND m.deleted_at IS NULL";
    let Some(statement) = version_statement(snapshot, SHOWN, key).await? else {
        return Ok(None);
    };
    let read = |row: &Row<'_>| {
        Ok(ShownVersion {
            id: row.id(0)?,
            model: row.text(1)?,
            version: row.text(2)?,
        })
    };
    snapshot.one(statement, read).await
}

/// Selects one version; none if what it is named by is not known.
async fn version_statement(
    snapshot: &mut Snapshot,
    select: &str,
    key: &VersionKey,
) -> Result<Option<Statement>, Failure> {
    let by_id = |id: EntityId| Statement::new(&[select, BY_ID]).int(id);
    Ok(match key {
        VersionKey::Id(id) => Some(by_id(*id)),
        VersionKey::Name { model, version } => model_id(snapshot, model).await?.map(|model| {
            Statement::new(&[select, OF_MODEL, BY_NAME])
                .int(model)
                .text(version.clone())
        }),
        VersionKey::Alias { model, alias } => match model_id(snapshot, model).await? {
            None => None,
            Some(model) => {
                let statement = Statement::new(&[BY_ALIAS]).int(model).text(alias.clone());
                snapshot.one(statement, |row| row.id(0)).await?.map(by_id)
            }
        },
    })
}

fn read_version(row: &Row<'_>) -> Result<ModelVersion, Failure> {
    Ok(ModelVersion {
        id: row.id(0)?,
        model_id: row.id(1)?,
        model: row.text(2)?,
        version: row.text(3)?,
        checkpoint_path: row.optional_text(4)?,
        config: row.json(5)?,
        signature: row.json(6)?,
        digest: row.optional_text(7)?,
        run: row.optional_text(8)?,
        description: row.optional_text(9)?,
        created_at: row.optional_time(10)?,
        tags: None,
        aliases: Vec::new(),
    })
}

async fn complete_versions(
    snapshot: &mut Snapshot,
    versions: &mut [ModelVersion],
) -> Result<(), Failure> {
    if versions.is_empty() {
        return Ok(());
    }
    let ids: Vec<EntityId> = versions.iter().map(|version| version.id).collect();
    let mut tags = tags(snapshot, EntityKind::Version, &ids).await?;
    let mut aliases: HashMap<EntityId, Vec<String>> = HashMap::new();
    let order = "ORDER BY a.version_id, a.alias";
    let statement = Statement::new(&[ALIASES, "a.version_id", snapshot.dialect().among(), order])
        .text(set(ids));
    snapshot
        .each(statement, |row| {
            let alias = row.text(2)?;
            aliases.entry(row.id(1)?).or_default().push(alias);
            Ok(())
        })
        .await?;
    for version in versions {
        version.tags = tags.remove(&version.id);
        version.aliases = aliases.remove(&version.id).unwrap_or_default();
    }
    Ok(())
}

pub(super) async fn datasets(
    snapshot: &mut Snapshot,
    request: PageRequest,
) -> Result<Page<Dataset>, Failure> {
    let list = List::new("datasets", "", request);
    let found = snapshot.all(listed(DATASETS, &list)?, read_dataset).await?;
    let mut page = list.page(found, |last| i64::from(last.id));
    complete_datasets(snapshot, &mut page.items).await?;
    Ok(page)
}

pub(super) async fn dataset(
    snapshot: &mut Snapshot,
    key: &Key,
) -> Result<Option<Dataset>, Failure> {
    let found = snapshot.all(keyed(DATASETS, key), read_dataset);
    let mut found = found.await?;
    complete_datasets(snapshot, &mut found).await?;
    Ok(found.pop())
}

fn read_dataset(row: &Row<'_>) -> Result<Dataset, Failure> {
    Ok(Dataset {
        id: row.id(0)?,
        dataset: row.text(1)?,
        version: row.optional_text(2)?,
        uri: row.optional_text(3)?,
        split_info: row.json(4)?,
        row_count: row.optional_int(5)?,
        digest: row.optional_text(6)?,
        schema: row.json(7)?,
        created_at: row.optional_time(8)?,
        tags: None,
    })
}

async fn complete_datasets(
    snapshot: &mut Snapshot,
    datasets: &mut [Dataset],
) -> Result<(), Failure> {
    let ids: Vec<EntityId> = datasets.iter().map(|dataset| dataset.id).collect();
    let mut tags = tags(snapshot, EntityKind::Dataset, &ids).await?;
    for dataset in datasets {
        dataset.tags = tags.remove(&dataset.id);
    }
    Ok(())
}

pub(super) async fn experiments(
    snapshot: &mut Snapshot,
    request: PageRequest,
) -> Result<Page<Experiment>, Failure> {
    let list = List::new("experiments", "", request);
    let statement = listed(EXPERIMENTS, &list)?;
    let found = snapshot.all(statement, read_experiment).await?;
    let mut page = list.page(found, |last| i64::from(last.id));
    complete_experiments(snapshot, &mut page.items).await?;
    Ok(page)
}

pub(super) async fn experiment(
    snapshot: &mut Snapshot,
    key: &Key,
) -> Result<Option<Experiment>, Failure> {
    let found = snapshot.all(keyed(EXPERIMENTS, key), read_experiment);
    let mut found = found.await?;
    complete_experiments(snapshot, &mut found).await?;
    Ok(found.pop())
}

fn read_experiment(row: &Row<'_>) -> Result<Experiment, Failure> {
    Ok(Experiment {
        id: row.id(0)?,
        experiment: row.text(1)?,
        description: row.optional_text(2)?,
        created_at: row.optional_time(3)?,
        tags: None,
    })
}

async fn complete_experiments(
    snapshot: &mut Snapshot,
    experiments: &mut [Experiment],
) -> Result<(), Failure> {
    let ids: Vec<EntityId> = experiments.iter().map(|found| found.id).collect();
    let mut tags = tags(snapshot, EntityKind::Experiment, &ids).await?;
    for experiment in experiments {
        experiment.tags = tags.remove(&experiment.id);
    }
    Ok(())
}

/// The tags of some entities, each as one object; nothing for an entity without tags.
pub(super) async fn tags(
    snapshot: &mut Snapshot,
    kind: EntityKind,
    ids: &[EntityId],
) -> Result<HashMap<EntityId, Json>, Failure> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let order = "ORDER BY entity_id, log_offset, place";
    let statement = Statement::new(&[TAGS, snapshot.dialect().among(), order])
        .text(kind.name())
        .text(set(ids.iter().copied()));
    objects(snapshot, statement).await
}

/// JSON objects put together from rows of (entity, key, text of the value).
pub(super) async fn objects(
    snapshot: &mut Snapshot,
    statement: Statement,
) -> Result<HashMap<EntityId, Json>, Failure> {
    let mut found: HashMap<EntityId, Vec<(String, String)>> = HashMap::new();
    snapshot
        .each(statement, |row| {
            let key = row.text(1)?;
            let value = row.optional_text(2)?.unwrap_or_else(|| "null".into());
            found.entry(row.id(0)?).or_default().push((key, value));
            Ok(())
        })
        .await?;
    let objects = found.into_iter().filter_map(|(id, members)| {
        let members = members.iter().map(|(key, value)| (&**key, &**value));
        Some((id, Json::object(members)?))
    });
    objects
        .map(|(id, object)| match json::check(object.as_str()) {
            Ok(()) => Ok((id, object)),
            Err(problem) => Err(Failure::content(problem.to_string())),
        })
        .collect()
}
