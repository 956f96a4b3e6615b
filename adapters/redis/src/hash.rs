//! Hashes: what they hold, as fields of text, and back.
//!
//! Times are RFC 3339, numbers that are not finite are words, truth is `1` or `0`, what is absent has no field. Objects and
//! lists are JSON; of an entity's tags, parameters and aliases there is an object even where it is empty.

use modelog_engine::entity::{
    Body, DatasetBody, Entity, ExperimentBody, Members, ModelBody, RunBody, VersionBody,
};
use modelog_engine::event::{EntityKind, Json};
use modelog_engine::names::EntityId;
use modelog_engine::read::{Artifact, UsedDataset};
use modelog_engine::{Offset, Timestamp};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::connection::into_text;
use crate::error::RedisError;

/// A hash as it was read, with text of its own or of the reply.
#[derive(Debug)]
pub(crate) struct Hash<S = String> {
    pub(crate) key: String,
    /// Names and values. They are few, and looked for one by one.
    fields: Vec<(S, S)>,
}

impl Hash {
    /// A hash that is there.
    pub(crate) fn read(key: String, reply: Value) -> Result<Option<Self>, RedisError> {
        let parts = crate::connection::list(reply);
        Self::of(key, parts.into_iter().map(into_text))
    }
}

impl<S: AsRef<str>> Hash<S> {
    /// A hash that is there, of its names and values in turn. None is text that is not UTF-8.
    pub(crate) fn of(
        key: String,
        mut parts: impl Iterator<Item = Option<S>>,
    ) -> Result<Option<Self>, RedisError> {
        let mut fields = Vec::with_capacity(parts.size_hint().1.unwrap_or(0) / 2);
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let Some(field) = name.zip(value) else {
                return Err(RedisError::Content {
                    key,
                    what: "a field that is not UTF-8".into(),
                });
            };
            fields.push(field);
        }
        Ok((!fields.is_empty()).then_some(Self { key, fields }))
    }

    pub(crate) fn content(&self, what: impl Into<String>) -> RedisError {
        RedisError::Content {
            key: self.key.clone(),
            what: what.into(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known.as_ref() == name);
        found.map(|(_, value)| value.as_ref())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A field, read by some function.
    pub(crate) fn read_as<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RedisError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.content(format!("{text:?} in {name}"))),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, RedisError> {
        self.read_as(name, |text| text.parse().ok())
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, RedisError> {
        self.read_as(name, |text| Timestamp::parse(text).ok())
    }

    pub(crate) fn json(&self, name: &str) -> Result<Option<Json>, RedisError> {
        self.read_as(name, |text| Json::parse(text).ok())
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f64>, RedisError> {
        self.read_as(name, parse_float)
    }

    fn members(&self, name: &str) -> Result<Members, RedisError> {
        let object = self.json(name)?;
        Ok(object.as_ref().map(Members::of).unwrap_or_default())
    }

    fn value<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, RedisError> {
        self.read_as(name, |text| serde_json::from_str(text).ok())
    }
}

/// A number as text.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        value.to_string()
    }
}

pub(crate) fn parse_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

/// Fields on their way into a hash.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) set: Vec<(&'static str, String)>,
    /// Those that must not be there.
    pub(crate) gone: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn put(&mut self, name: &'static str, value: impl ToString) {
        self.set.push((name, value.to_string()));
    }

    /// A field that never goes once it is there.
    fn given(&mut self, name: &'static str, value: Option<&impl ToString>) {
        if let Some(value) = value {
            self.put(name, value.to_string());
        }
    }

    fn json(&mut self, name: &'static str, value: Option<&Json>) {
        if let Some(value) = value {
            self.put(name, value.as_str());
        }
    }

    fn may_go(&mut self, name: &'static str, value: Option<&impl ToString>) {
        match value {
            Some(value) => self.put(name, value.to_string()),
            None => self.gone.push(name),
        }
    }

    fn members(&mut self, name: &'static str, members: &Members) {
        let object = members.object();
        self.put(name, object.as_ref().map_or("{}", Json::as_str));
    }
}

/// A dataset that a run used.
#[derive(Serialize, Deserialize)]
struct Used {
    dataset: String,
    version: Option<String>,
    role: Option<String>,
}

/// An artifact of a run. The metadata are JSON as text, so that they stay as they are.
#[derive(Serialize, Deserialize)]
struct Produced {
    version_id: Option<EntityId>,
    uri: String,
    name: Option<String>,
    media_type: Option<String>,
    size_bytes: Option<i64>,
    digest: Option<String>,
    metadata: Option<String>,
}

/// The names an entity goes by.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) kind: EntityKind,
    pub(crate) id: EntityId,
    pub(crate) name: String,
    /// The model of a version, by number and name.
    pub(crate) parent: Option<(EntityId, String)>,
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

/// An entity as a hash. `offset` is that of the last event that changed it; none of a placeholder.
pub(crate) fn entity(named: &Named, entity: &Entity, offset: Option<Offset>) -> Fields {
    let mut fields = Fields::default();
    fields.put("id", named.id);
    if let Some((id, model)) = &named.parent {
        fields.put("model_id", id);
        fields.put("model", model);
    }
    fields.put(named.kind.name(), &named.name);
    let created = match named.kind {
        EntityKind::Run => "started_at",
        _ => "created_at",
    };
    fields.given(created, entity.created_at.as_ref());
    fields.put("deleted", u8::from(entity.deleted));
    fields.members("tags", &entity.tags);
    match &entity.body {
        // What every one of its kind has; read back, it is no placeholder any more.
        Body::Placeholder => match named.kind {
            EntityKind::Model => model(&ModelBody::default(), &mut fields),
            EntityKind::Run => run(&RunBody::default(), &mut fields),
            _ => {}
        },
        Body::Model(body) => model(body, &mut fields),
        Body::Version(body) => version(body, &mut fields),
        Body::Dataset(body) => dataset(body, &mut fields),
        Body::Experiment(body) => fields.given("description", body.description.as_ref()),
        Body::Run(body) => run(body, &mut fields),
    }
    fields.given("log_offset", offset.as_ref());
    fields
}

fn model(body: &ModelBody, fields: &mut Fields) {
    fields.given("architecture", body.architecture.as_ref());
    fields.given("framework", body.framework.as_ref());
    fields.given("task_type", body.task_type.as_ref());
    fields.given("description", body.description.as_ref());
    fields.put("aliases", to_json(&body.aliases));
}

fn version(body: &VersionBody, fields: &mut Fields) {
    fields.given("checkpoint_path", body.checkpoint_path.as_ref());
    fields.json("config", body.config.as_ref());
    fields.json("signature", body.signature.as_ref());
    fields.given("digest", body.digest.as_ref());
    fields.given("run", body.run.as_ref());
    fields.given("description", body.description.as_ref());
}

fn dataset(body: &DatasetBody, fields: &mut Fields) {
    fields.given("version", body.version.as_ref());
    fields.given("uri", body.uri.as_ref());
    fields.json("split_info", body.split_info.as_ref());
    fields.given("row_count", body.row_count.as_ref());
    fields.given("digest", body.digest.as_ref());
    fields.json("schema", body.schema.as_ref());
}

fn run(body: &RunBody, fields: &mut Fields) {
    fields.put("has_started", u8::from(body.started));
    fields.given("name", body.name.as_ref());
    fields.given("parent", body.parent.as_ref());
    fields.given("experiment", body.experiment.as_ref());
    fields.given("model", body.model.as_ref());
    fields.given("version", body.version.as_ref());
    fields.given("dataset", body.dataset.as_ref());
    fields.given("started_by", body.started_by.as_ref());
    fields.given("code", body.code.as_ref());
    fields.given("status", body.status.as_ref());
    // What a run that is reopened no longer has.
    fields.may_go("error", body.error.as_ref());
    fields.may_go("finished_at", body.finished_at.as_ref());
    fields.members("params", &body.params);
    let used = body.datasets.iter().map(|used| Used {
        dataset: used.dataset.clone(),
        version: used.version.clone(),
        role: used.role.clone(),
    });
    fields.put("datasets", to_json(&used.collect::<Vec<_>>()));
    let produced = body
        .artifacts
        .iter()
        .map(|(version_id, artifact)| Produced {
            version_id: *version_id,
            uri: artifact.uri.clone(),
            name: artifact.name.clone(),
            media_type: artifact.media_type.clone(),
            size_bytes: artifact.size_bytes,
            digest: artifact.digest.clone(),
            metadata: artifact
                .metadata
                .as_ref()
                .map(|json| json.as_str().to_owned()),
        });
    fields.put("artifacts", to_json(&produced.collect::<Vec<_>>()));
}

/// An entity out of its hash, with its name and the last event that changed it.
pub(crate) fn read_entity<S: AsRef<str>>(
    kind: EntityKind,
    hash: &Hash<S>,
) -> Result<(Named, Entity, Option<Offset>), RedisError> {
    let missing = |name: &str| hash.content(format!("no {name}"));
    let parent = match kind {
        EntityKind::Version => {
            let id = hash
                .number("model_id")?
                .ok_or_else(|| missing("model_id"))?;
            Some((id, hash.text("model").ok_or_else(|| missing("model"))?))
        }
        _ => None,
    };
    let named = Named {
        kind,
        id: hash.number("id")?.ok_or_else(|| missing("id"))?,
        name: hash.text(kind.name()).ok_or_else(|| missing(kind.name()))?,
        parent,
    };
    let created = match kind {
        EntityKind::Run => "started_at",
        _ => "created_at",
    };
    let entity = Entity {
        parent: named.parent.as_ref().map_or(0, |(id, _)| *id),
        deleted: hash.get("deleted") == Some("1"),
        created_at: hash.time(created)?,
        tags: hash.members("tags")?,
        body: read_body(kind, hash)?,
    };
    Ok((named, entity, hash.number("log_offset")?.map(Offset)))
}

fn read_body<S: AsRef<str>>(kind: EntityKind, hash: &Hash<S>) -> Result<Body, RedisError> {
    Ok(match kind {
        EntityKind::Model => Body::Model(ModelBody {
            architecture: hash.text("architecture"),
            framework: hash.text("framework"),
            task_type: hash.text("task_type"),
            description: hash.text("description"),
            aliases: hash.value("aliases")?.unwrap_or_default(),
        }),
        EntityKind::Version => Body::Version(VersionBody {
            checkpoint_path: hash.text("checkpoint_path"),
            config: hash.json("config")?,
            signature: hash.json("signature")?,
            digest: hash.text("digest"),
            run: hash.text("run"),
            description: hash.text("description"),
        }),
        EntityKind::Dataset => Body::Dataset(DatasetBody {
            version: hash.text("version"),
            uri: hash.text("uri"),
            split_info: hash.json("split_info")?,
            row_count: hash.number("row_count")?,
            digest: hash.text("digest"),
            schema: hash.json("schema")?,
        }),
        EntityKind::Experiment => Body::Experiment(ExperimentBody {
            description: hash.text("description"),
        }),
        EntityKind::Run => Body::Run(Box::new(read_run(hash)?)),
    })
}

fn read_run<S: AsRef<str>>(hash: &Hash<S>) -> Result<RunBody, RedisError> {
    let used: Vec<Used> = hash.value("datasets")?.unwrap_or_default();
    let produced: Vec<Produced> = hash.value("artifacts")?.unwrap_or_default();
    let mut artifacts = Vec::with_capacity(produced.len());
    for found in produced {
        let metadata = found.metadata.map(Json::parse).transpose();
        let artifact = Artifact {
            uri: found.uri,
            name: found.name,
            media_type: found.media_type,
            size_bytes: found.size_bytes,
            digest: found.digest,
            metadata: metadata.map_err(|problem| hash.content(problem.to_string()))?,
        };
        artifacts.push((found.version_id, artifact));
    }
    let used = used.into_iter().map(|used| UsedDataset {
        dataset: used.dataset,
        version: used.version,
        role: used.role,
    });
    Ok(RunBody {
        started: hash.get("has_started") == Some("1"),
        name: hash.text("name"),
        parent: hash.text("parent"),
        experiment: hash.text("experiment"),
        model: hash.text("model"),
        version: hash.text("version"),
        dataset: hash.text("dataset"),
        started_by: hash.text("started_by"),
        code: hash.text("code"),
        status: hash.text("status"),
        error: hash.text("error"),
        finished_at: hash.time("finished_at")?,
        params: hash.members("params")?,
        datasets: used.collect(),
        artifacts,
    })
}
